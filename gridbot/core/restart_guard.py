"""
Starts that do not last are followed by a growing pause, remembered across restarts.

cron starts the bot every minute. A bot that fails at once would ask Kraken the same wrong question
every minute, and Kraken locks a key out for that. So every start is noted beside the database and
struck off once the bot has traded for a while, or was asked to stop; the next start reads the note
before anything heavy is imported and leaves when its time has not come.

A power cut is no failure: a note of an earlier boot, without an end, does not count. Nor does a bot that is
killed while it trades. Killed again and again before it trades, perhaps for want of memory, counts in the end.
A stop on request is noted, too: it outlasts the sign of life, which goes with the owner's last logout.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from gridbot.core import ini_file
from gridbot.exceptions import ConfigurationError

TYPE_CHECKING = False  # as typing has it, without the milliseconds that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Callable

LASTED = 600.0  # seconds of trading after which a start was a good one
# Seconds of pause after so many starts in a row that did not last; the last one for all further ones.
PAUSES = (0.0, 0.0, 60.0, 120.0, 240.0, 480.0, 900.0)
UNCOUNTED_KILLS = (0.0,) * 5
# What a restart cannot mend; a quarter of an hour is how long Kraken locks a key.
FATAL_PAUSES = (60.0, 300.0, 900.0, 3600.0)
MUST_BE_MENDED = 2  # exit code
NO_END, TRADING = -1, -2  # in place of an exit code: of a start, of a bot that trades

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class RestartGuard:
    """The note about the last starts of one bot. Whoever writes it holds the lock on the database."""

    def __init__(self, config_path: str, database: str, now: Callable[[], float] = time.time) -> None:
        """``now``: unix seconds; a clock that steps ends a pause at the most."""
        self._path = f"{os.path.realpath(database)}.restarts"
        self._config_path = config_path
        self._now = now
        self._running_since: float | None = None
        self._saved = _saved_at(config_path)
        self._failures, self._at, self._code, self._why = self._read()

    def waiting(self) -> tuple[int, str] | None:
        """
        None: start. Otherwise the exit code to leave with and what to say: what went wrong, until when
        nothing is tried, and how to try at once.
        """
        pauses = {MUST_BE_MENDED: FATAL_PAUSES, NO_END: UNCOUNTED_KILLS + PAUSES}.get(self._code, PAUSES)
        pause = pauses[min(self._failures, len(pauses)) - 1] if self._failures else 0.0
        if not 0 < self._at + pause - self._now() <= pause:  # more than the whole pause: the clock stepped back
            return None
        until = time.strftime("%H:%M:%S", time.localtime(self._at + pause))
        what = self._why or "it ended without a word (killed, or out of memory)"
        times = "once" if self._failures == 1 else f"{self._failures} times in a row"
        return MUST_BE_MENDED if self._code == MUST_BE_MENDED else 1, (
            f"gridbot waits until {until}: the last start failed ({times}): {what}\n"
            f"  To try at once, after mending it: touch {self._config_path}"
        )

    def begun(self) -> None:
        """This start counts as failed until the bot trades."""
        self._write(self._failures + 1, NO_END, "")

    def alive(self, running: bool) -> None:
        """To be called now and then; strikes off what went before once the bot has been ``running`` for a while."""
        if not running:
            self._running_since = None
        elif self._running_since is None:
            self._running_since = time.monotonic()
            self._write(self._failures, TRADING, "")
        elif self._failures and time.monotonic() - self._running_since >= LASTED:
            self._failures = 0
            with suppress(OSError):  # it cannot be changed: then nothing could be noted either
                os.unlink(self._path)

    def ended(self, code: int, why: str) -> None:
        """The bot ends with this exit code; 0 is no failure."""
        self._failures = self._failures + 1 if code else 0
        self._write(self._failures, code, why)

    def _read(self) -> tuple[int, float, int, str]:
        """Failures, when, exit code, why. A note that cannot be read, or is of other settings, holds nobody up."""
        try:
            failures, at, code, boot, saved, why = _note(self._path)
            note = int(failures), float(at), int(code), why
        except (OSError, ValueError):
            return 0, 0.0, 0, ""
        if saved != self._saved:
            return 0, 0.0, 0, ""
        powered_off = note[2] == NO_END and boot != _boot_id()
        return (note[0] - 1, *note[1:]) if powered_off else note

    def _write(self, failures: int, code: int, why: str) -> None:
        words = " ".join(why.split())[:1000]
        note = f"{failures} {int(self._now())} {code} {_boot_id()} {self._saved} {words}\n"
        # A disk that is full or read-only is told by the database, with advice.
        with suppress(OSError), open(self._path, "w", encoding="utf-8") as file:
            file.write(note)


def _note(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(4000).rstrip("\n").split(" ", 5)


def stopped_at(database: str | os.PathLike[str]) -> float | None:
    """
    Unix seconds of the stop on request that the last start ended with; None when it ended otherwise, or not yet, or
    with the machine: that one asks every process to stop.
    """
    try:
        _, at, code, boot, *_ = _note(f"{os.path.realpath(database)}.restarts")
        return float(at) if code == "0" and boot == _boot_id() else None
    except (OSError, ValueError):
        return None


def waiting(config_path: str) -> tuple[int, str] | None:
    """``RestartGuard.waiting`` with nothing but a glance at config.ini; what is wrong with it is said later."""
    with suppress(ConfigurationError):
        return RestartGuard(config_path, ini_file.database_path(config_path, ini_file.read_ini(config_path))).waiting()
    return None


def _saved_at(config_path: str) -> str:
    """Changes when config.ini is saved or touched."""
    try:
        return str(os.stat(config_path).st_mtime_ns)
    except OSError:
        return "-"


def _boot_id() -> str:
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "-"
