"""
The sign of life that the bot leaves for other processes, what its age means, and the command ``watch``.

The sign is a file in memory (/dev/shm), so that writing it every few seconds does not wear an SD card. Its age is
counted in seconds since boot, so that a change of the wall clock has no effect. Nothing heavy is imported unless a
notification must be sent, because cron calls ``watch`` often.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress

from gridbot.core import ini_file
from gridbot.core.restart_guard import stopped_at, waiting
from gridbot.core.single_instance import holder_if_running, lock_path

TYPE_CHECKING = False  # in place of typing.TYPE_CHECKING: importing typing takes milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

MEMORY = "/dev/shm"
SPACING = 10.0  # seconds between two signs
# Seconds; the longest silence of a healthy bot: one question to an exchange that does not answer, all attempts.
GOOD_FOR = 300.0
ENDED, STOPPED = "ended", "stopped"
REMIND_AFTER = 6 * 3600.0  # seconds until a dead bot is reported to the owner's phone once more


class Heartbeat:
    """The bot's side: writes that the bot is alive, and when its next sign is due at the latest."""

    def __init__(
        self, database: str | os.PathLike[str], now: Callable[[], float] = time.monotonic, userref: int | str = ""
    ) -> None:
        """``database`` and ``userref``: name the bot. ``now``: seconds since boot."""
        self._now = now
        self._userref = userref
        self._next = 0.0
        self._state = ""
        self._path = sign_path(database)

    def beat(self, state: str, good_for: float = GOOD_FOR) -> None:
        """Note that the bot is alive and gives its next sign within ``good_for`` seconds. Mostly just a comparison."""
        now = self._now()
        if now >= self._next or good_for > GOOD_FOR or state != self._state:
            self._next, self._state = now + SPACING, state
            self._write(state, now, good_for)

    def end(self, why: str, on_request: bool = False) -> None:
        """Note that the bot ends: on request, or else for the reason ``why``."""
        first_line = why.partition("\n")[0] or "no reason given"
        self._write(STOPPED if on_request else f"{ENDED} {first_line}", self._now(), 0.0)

    def _write(self, state: str, now: float, good_for: float) -> None:
        with suppress(OSError):  # another user's file is in the way, or no space: the bot can trade without a sign
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{os.getpid()}:{self._userref} {now:.1f} {good_for:.1f} {state}\n")


class Life:
    """
    What the last sign of life means. ``text``: the same in words. ``was_stopped``: on request. ``is_foreign``: the
    sign is from another bot, which uses this database.
    """

    def __init__(self, text: str, is_alive: bool = False, was_stopped: bool = False, is_foreign: bool = False) -> None:
        self.text = text
        self.is_alive = is_alive
        self.was_stopped = was_stopped
        self.is_foreign = is_foreign


def look(database: str | os.PathLike[str], now: float | None = None, userref: str = "") -> Life:
    """Is the bot on this database alive? ``userref``: of the bot that is meant, "" for any. ``now``: since boot."""
    now = time.monotonic() if now is None else now
    sign = _read(sign_path(database))
    if sign is None or sign[1] > now + 1:
        # The owner's last logout deletes the sign, too (RemoveIPC of systemd-logind), but not the lock and the note.
        if holder := holder_if_running(database):
            return Life(f"the bot ({holder}) is alive; what it does is not known just now", is_alive=True)
        if (stopped := stopped_at(database)) is not None:
            return Life(_stopped(stopped), was_stopped=True)
        return Life("the bot has not run since this machine started")
    pid, at, good_for, state, its_userref = sign
    if userref and its_userref not in ("", userref):
        if not holder_if_running(database):
            return Life(f"the bot has not run yet; another one (userref {its_userref}) had used this database")
        return Life(
            f"another bot (userref {its_userref}) uses this database; this one does not run.\n"
            "  Every bot needs a database of its own: [database] path",
            is_foreign=True,
        )
    age = max(0.0, now - at)
    if state == STOPPED:
        return Life(_stopped(time.time() - age), was_stopped=True)
    if state.startswith(f"{ENDED} "):
        return Life(f"the bot ended {_span(age)} ago ({state.removeprefix(f'{ENDED} ')})")
    # The pid may belong to another process by now, or to a zombie; but the lock ends with the process.
    if not _exists(pid) or (os.path.exists(lock_path(database)) and not holder_if_running(database)):
        return Life(f"the bot (pid {pid}) is dead; its last sign of life is {_span(age)} old")
    if age > good_for:
        return Life(
            f"the bot (pid {pid}, {state}) is stuck: no sign of life for {_span(age)}.\n"
            f"  End it with: kill -9 {pid} (nothing is lost by that); cron starts it again."
        )
    return Life(f"the bot (pid {pid}) is alive: {state}, seen {_span(age)} ago", is_alive=True)


def _stopped(at: float) -> str:
    return f"the bot was stopped on request at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}"


def sign_path(database: str | os.PathLike[str]) -> str:
    """Where the sign of life of the bot on this database lies."""
    digest = hashlib.sha256(f"{os.getuid()} {os.path.realpath(database)}".encode()).hexdigest()[:24]
    return f"{MEMORY if os.access(MEMORY, os.W_OK) else '/tmp'}/gridbot-{digest}.alive"


def _read(path: str) -> tuple[int, float, float, str, str] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            who, at, good_for, state = file.read(500).rstrip("\n").split(" ", 3)
        pid, _, userref = who.partition(":")
        return int(pid), float(at), float(good_for), state, userref
    except (OSError, ValueError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:  # there is no such process, or it is another user's, so not the bot
        return False
    return True


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def watch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--notify",
        action="store_true",
        help="also tell the configured channels: once when the bot is found dead, every six hours while it stays "
        "so, and once when it is back; not when it was stopped on request",
    )


def watch(args: argparse.Namespace) -> int:
    """Is the bot alive? 0 when it is; 1 when it is not, with what to do. Reads config.ini only in part."""
    raw = ini_file.read_ini(args.config)
    database, userref = ini_file.database_path(args.config, raw), raw.get("bot", {}).get("userref", "").lstrip("+0")
    life = look(database, userref=userref)
    if not (life.is_alive or life.was_stopped) and (found := waiting(args.config)):
        life.text += f"\n{found[1]}"
    elif not life.is_alive and "\n" not in life.text:
        life.text += "\n  Start it, unless cron does: it goes on where it was."
    _say(life.text)
    if args.notify and not life.was_stopped:
        _notify_once(args.config, f"{sign_path(database)}.{userref}.told", life)
    return 0 if life.is_alive else 1


def _notify_once(config_path: str, mark: str, life: Life) -> None:
    """
    Notify once that the bot is dead, again after REMIND_AFTER, and once when it is back. ``mark``: a file in memory
    whose time is that of the last notification; it is gone after a reboot.
    """
    notified_at = os.stat(mark).st_mtime if os.path.exists(mark) else None
    is_known = notified_at is not None and 0 <= time.time() - notified_at < REMIND_AFTER
    if (notified_at is None if life.is_alive else is_known) or not _send(config_path, life.text):
        return
    if life.is_alive:
        os.unlink(mark)
    else:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        os.utime(mark)


def _send(config_path: str, text: str) -> bool:
    """Send to every channel; True if at least one accepted the text."""
    from pathlib import Path

    from gridbot.core.config_file import load_settings
    from gridbot.core.registry import channels_of
    from gridbot.services.notification_service import name_of, send

    settings = load_settings(Path(config_path))
    channels = channels_of(settings)
    if not channels:
        _say(f"no channel is configured, so nobody was told; see [telegram] in {config_path}")
    problems = [(name_of(channel), send(channel, f"{settings.bot.name}: {text}")[0]) for channel in channels]
    for name, problem in problems:
        if problem:
            _say(f"{name}: message not sent: {problem}")
    return not all(problem for _, problem in problems)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
