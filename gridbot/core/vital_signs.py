"""
How one run of the bot is seen from outside: the heartbeat while it lives, the note of the restart
guard about how it ended.
"""

from types import TracebackType
from typing import Self

from gridbot.core.cli import MUST_BE_MENDED, STOPPED_BY_ERROR
from gridbot.core.heartbeat import GOOD_FOR, Heartbeat
from gridbot.core.restart_guard import RestartGuard
from gridbot.core.state_machine import StateMachine, States
from gridbot.exceptions import AccessDenied, ConfigurationError, GridBotError
from gridbot.models.configuration import Settings
from gridbot.models.events import BotStopped


class VitalSigns:
    """Around one run; ``with VitalSigns(settings) as vital: ...``. Never changes what the bot does."""

    def __init__(self, settings: Settings) -> None:
        self._heartbeat = Heartbeat(settings.db.path)
        self._guard = RestartGuard(str(settings.config_path), str(settings.db.path))
        self._why = ""

    def __enter__(self) -> Self:
        self._guard.begun()
        self._heartbeat.beat("starting")
        return self

    def alive(self, state_machine: StateMachine, good_for: float = GOOD_FOR) -> None:
        """Called from the main loop, and before a long wait with ``good_for`` seconds."""
        self._heartbeat.beat(state_machine.state.name, max(good_for, GOOD_FOR))
        self._guard.alive(state_machine.state is States.RUNNING)

    def stopped(self, event: BotStopped) -> None:
        """Why the bot stops, in its own words."""
        self._why = event.reason

    def ended(self, code: int) -> int:
        """The run is over with this exit code, which is returned."""
        self._guard.ended(code, self._why)
        self._heartbeat.end(self._why, on_request=code == 0)
        return code

    def __exit__(self, _type: type[BaseException] | None, exc: BaseException | None, _tb: TracebackType | None) -> None:
        if exc is None:
            return
        if isinstance(exc, GridBotError):
            self._why = exc.message
        fatal = isinstance(exc, ConfigurationError | AccessDenied)
        self._why = self._why or f"a mistake in gridbot itself ({type(exc).__name__})"
        self.ended(MUST_BE_MENDED if fatal else STOPPED_BY_ERROR)
