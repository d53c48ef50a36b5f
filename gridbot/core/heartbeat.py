"""
A sign of life that another process can look at, and what it means when it is old.

It lies in memory (/dev/shm), so that a sign every few seconds does not wear an SD card, and its age is
counted on the clock since boot, so that a wall clock that steps means nothing. /dev/shm goes before
$XDG_RUNTIME_DIR because cron and a login shell must look in the same place, and cron has no
$XDG_RUNTIME_DIR.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable

SPACING = 10.0  # seconds between two signs
# The longest a healthy bot is silent: one question to an exchange that does not answer, all attempts.
GOOD_FOR = 300.0
STOPPED = "stopped"


class Heartbeat:
    """The bot's side: tells that it lives, and for how long nobody need worry."""

    def __init__(self, database: str | os.PathLike[str], now: Callable[[], float] = time.monotonic) -> None:
        """``database``: names the bot. ``now``: seconds since boot. A place that cannot be written is left alone."""
        self._now = now
        self._next = 0.0
        self._path = next((path for path in _paths(database) if _writable(os.path.dirname(path))), None)

    def beat(self, state: str, good_for: float = GOOD_FOR) -> None:
        """Alive; the next sign comes within ``good_for`` seconds. Costs a comparison most of the time."""
        now = self._now()
        if now >= self._next or good_for > GOOD_FOR:
            self._next = now + SPACING
            self._write(state, now, good_for)

    def end(self, why: str) -> None:
        """The bot ends by itself; ``why`` for people."""
        self._write(f"{STOPPED}: {why.splitlines()[0] if why else 'no reason told'}", self._now(), 0.0)

    def _write(self, state: str, now: float, good_for: float) -> None:
        if self._path is None:
            return
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            self._path = None  # somebody else's file is there: trading does not need this one
            return
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {now:.1f} {good_for:.1f} {state}\n")


class Life:
    """What the last sign of life says. ``is_alive``, and ``text``: one sentence for people."""

    def __init__(self, is_alive: bool, text: str) -> None:
        self.is_alive = is_alive
        self.text = text


def look(database: str | os.PathLike[str], now: float | None = None) -> Life:
    """Is the bot on this database alive? ``now``: seconds since boot."""
    now = time.monotonic() if now is None else now
    signs = [sign for path in _paths(database) if (sign := _read(path)) is not None and sign[1] <= now + 1]
    if not signs:
        return Life(False, "the bot has not run since this machine started")
    pid, at, good_for, state = max(signs, key=lambda sign: sign[1])
    age = max(0.0, now - at)
    if state.startswith(STOPPED):
        return Life(False, f"the bot ended {_span(age)} ago ({state.removeprefix(f'{STOPPED}: ')})")
    if not _exists(pid):
        return Life(False, f"the bot (pid {pid}) is dead; its last sign of life is {_span(age)} old")
    if age > good_for:
        return Life(
            False,
            f"the bot (pid {pid}, {state}) is stuck: no sign of life for {_span(age)}.\n"
            f"  End it with: kill -9 {pid} (nothing is lost by that); cron starts it again.",
        )
    return Life(True, f"the bot (pid {pid}) is alive: {state}, seen {_span(age)} ago")


def beside_the_heartbeat(database: str | os.PathLike[str], suffix: str) -> str | None:
    """A path on the same memory for what else need not outlive a reboot; None where nothing can be written."""
    return next((path + suffix for path in _paths(database) if _writable(os.path.dirname(path))), None)


def _paths(database: str | os.PathLike[str]) -> list[str]:
    name = os.path.realpath(database)
    digest = hashlib.sha256(f"{os.getuid()} {name}".encode()).hexdigest()[:24]
    places = ["/dev/shm", os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()]
    return [os.path.join(place, f"gridbot-{digest}.alive") for place in places if os.path.isabs(place)]


def _writable(directory: str) -> bool:
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def _read(path: str) -> tuple[int, float, float, str] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            pid, at, good_for, state = file.read(500).rstrip("\n").split(" ", 3)
        return int(pid), float(at), float(good_for), state
    except (OSError, ValueError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
