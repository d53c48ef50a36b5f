"""
The life of the bot as a table: which state may follow which. Nothing else.

There are no booleans beside it, and only the engine changes the state; the other parts raise errors, and the engine
decides what these mean.
"""

from collections.abc import Callable
from enum import Enum

from gridbot.exceptions import BotStateError


class States(Enum):
    """Where the bot stands."""

    INITIALIZING = 1  # starting: asking, comparing, nothing decided yet
    RUNNING = 2  # trading
    SHUTDOWN_REQUESTED = 3  # a stop was requested; the message in hand is finished
    ERROR = 4  # something is broken: no order is placed any more


# A bot that failed may still be asked to stop; it never runs again without a new start.
TRANSITIONS: dict[States, frozenset[States]] = {
    States.INITIALIZING: frozenset({States.RUNNING, States.SHUTDOWN_REQUESTED, States.ERROR}),
    States.RUNNING: frozenset({States.SHUTDOWN_REQUESTED, States.ERROR}),
    States.SHUTDOWN_REQUESTED: frozenset({States.ERROR}),
    States.ERROR: frozenset({States.SHUTDOWN_REQUESTED}),
}


class StateMachine:
    """Holds the present state and refuses what the table does not allow."""

    def __init__(self) -> None:
        self._state = States.INITIALIZING
        self._callbacks: dict[States, list[Callable[[], None]]] = {state: [] for state in States}

    @property
    def state(self) -> States:
        return self._state

    def transition_to(self, new_state: States) -> None:
        """
        Enter ``new_state`` and run its callbacks in the order of their registration. Entering the
        present state does nothing.

        Raises BotStateError when the table does not allow it; the state is then unchanged and no
        callback has run.
        """
        if new_state is self._state:
            return
        if new_state not in TRANSITIONS[self._state]:
            raise BotStateError(f"a bot that is {self._state.name} cannot become {new_state.name}")
        self._state = new_state
        for callback in self._callbacks[new_state]:
            callback()

    def register_callback(self, state: States, callback: Callable[[], None]) -> None:
        """Have ``callback`` run each time ``state`` is entered; ``transition_to`` raises what it raises."""
        self._callbacks[state].append(callback)
