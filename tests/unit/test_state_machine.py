"""The life of the bot: which state may follow which."""

import pytest

from gridbot.core.state_machine import TRANSITIONS, StateMachine, States
from gridbot.exceptions import BotStateError

PATHS = {
    States.INITIALIZING: [],
    States.RUNNING: [States.RUNNING],
    States.SHUTDOWN_REQUESTED: [States.SHUTDOWN_REQUESTED],
    States.ERROR: [States.ERROR],
}
ALLOWED = {
    (1, 2), (1, 3), (1, 4),
    (2, 3), (2, 4),
    (3, 4),
    (4, 3),
}  # fmt: skip


def machine_in(state: States) -> StateMachine:
    machine = StateMachine()
    for step in PATHS[state]:
        machine.transition_to(step)
    return machine


def test_the_numbers_of_the_states_are_those_of_the_documentation() -> None:
    assert {s.name: s.value for s in States} == {
        "INITIALIZING": 1,
        "RUNNING": 2,
        "SHUTDOWN_REQUESTED": 3,
        "ERROR": 4,
    }


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(States)


def test_a_new_bot_is_initializing() -> None:
    assert StateMachine().state is States.INITIALIZING


@pytest.mark.parametrize("new", States)
@pytest.mark.parametrize("old", States)
def test_only_the_transitions_of_the_table_happen(old: States, new: States) -> None:
    machine, entered = machine_in(old), []
    machine.register_callback(new, lambda: entered.append(new))
    if old is new:
        machine.transition_to(new)
        assert (machine.state, entered) == (old, [])
    elif (old.value, new.value) in ALLOWED:
        machine.transition_to(new)
        assert (machine.state, entered) == (new, [new])
    else:
        with pytest.raises(BotStateError, match=f"{old.name} cannot become {new.name}"):
            machine.transition_to(new)
        assert (machine.state, entered) == (old, [])


def test_callbacks_run_in_the_order_they_came_and_see_the_new_state() -> None:
    machine, seen = StateMachine(), []
    machine.register_callback(States.RUNNING, lambda: seen.append(("first", machine.state)))
    machine.register_callback(States.RUNNING, lambda: seen.append(("second", machine.state)))
    machine.register_callback(States.ERROR, lambda: seen.append(("never", machine.state)))
    machine.transition_to(States.RUNNING)
    assert seen == [("first", States.RUNNING), ("second", States.RUNNING)]
