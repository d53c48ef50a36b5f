"""
Starts that do not last are followed by a growing pause, remembered across restarts.

cron starts the bot every minute. A bot that fails at once would ask Kraken the same wrong question
every minute, and Kraken locks a key out for that. So every start is noted in a file beside the database, and counts as
failed until the bot trades. Earlier failures are forgotten once it has traded for a while, or was asked to stop. The
next start reads the note before anything heavy is imported, and exits if the pause is not over.

A power cut is no failure: a start that was noted during an earlier boot and has no end does not count. Nor does a
bot that is killed while it trades. A bot that is killed before it trades counts after some times: perhaps the memory
is too small. A stop on request is noted, too, because the sign of life is deleted at the owner's last logout.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from gridbot.core import ini_file
from gridbot.exceptions import ConfigurationError

TYPE_CHECKING = False  # in place of typing.TYPE_CHECKING: importing typing takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

LASTED = 600.0  # seconds of trading after which a start was a good one
# Seconds of pause after the first, second, ... failed start in a row; the last value for all further ones.
PAUSES = (0.0, 0.0, 60.0, 120.0, 240.0, 480.0, 900.0)
UNCOUNTED_KILLS = (0.0,) * 5  # come first if the bot was killed before it traded
# The same for what a restart cannot mend; 900, because Kraken locks a key for a quarter of an hour.
FATAL_PAUSES = (60.0, 300.0, 900.0, 3600.0)
MUST_BE_MENDED = 2  # exit code
NO_END, TRADING = -1, -2  # noted in place of an exit code while the bot starts, and while it trades

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class RestartGuard:
    """The note about the last starts of one bot. Only the process that holds the database's lock writes it."""

    def __init__(self, config_path: str, database: str, now: Callable[[], float] = time.time) -> None:
        """``now``: unix seconds; a change of the clock can end a pause, but not make it longer."""
        self._path = f"{os.path.realpath(database)}.restarts"
        self._config_path = config_path
        self._now = now
        self._running_since: float | None = None
        self._saved = _saved_at(config_path)
        self._failures, self._at, self._code, self._why = self._read()

    def waiting(self) -> tuple[int, str] | None:
        """
        None if the bot may start. Otherwise the exit code, and a text: what went wrong, how long the pause lasts, and
        how to try at once.
        """
        # A kill while it traded is no failure: the pause after those before it is over.
        others = {MUST_BE_MENDED: FATAL_PAUSES, NO_END: UNCOUNTED_KILLS + PAUSES, TRADING: (0.0,)}
        pauses = others.get(self._code, PAUSES)
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
        """Call it regularly. Forgets earlier failures once the bot has been ``running`` for LASTED seconds."""
        if not running:
            self._running_since = None
        elif self._running_since is None:
            self._running_since = time.monotonic()
            self._write(self._failures, TRADING, "")
        elif self._failures and time.monotonic() - self._running_since >= LASTED:
            self._failures = 0
            with suppress(OSError):
                os.unlink(self._path)

    def ended(self, code: int, why: str) -> None:
        """Note that the bot ends with this exit code; 0 is no failure."""
        self._failures = self._failures + 1 if code else 0
        self._write(self._failures, code, why)

    def _read(self) -> tuple[int, float, int, str]:
        """Failures, when, exit code, why. No failures if the note is unreadable, or config.ini was saved after it."""
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
        # The database reports a disk that is full or read-only, with advice.
        with suppress(OSError), open(self._path, "w", encoding="utf-8") as file:
            file.write(note)


def _note(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(4000).rstrip("\n").split(" ", 5)


def stopped_at(database: str | os.PathLike[str]) -> float | None:
    """
    The unix time of the stop on request that ended the last run. None if it ended otherwise, still goes on, or ended
    before the last boot: a shutdown asks every process to stop.
    """
    try:
        _, at, code, boot, *_ = _note(f"{os.path.realpath(database)}.restarts")
        return float(at) if code == "0" and boot == _boot_id() else None
    except (OSError, ValueError):
        return None


def waiting(config_path: str) -> tuple[int, str] | None:
    """``RestartGuard.waiting`` without checking config.ini: the full start reports what is wrong with it."""
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
