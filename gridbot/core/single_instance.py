"""
One bot per database and per API key.

Two bots on one database would place every order twice; two on one key spoil each other's nonces.
The locks are flock: the kernel releases them however the process ends, kill -9 included. cron may
start the bot every minute, so the lock is tried before any heavy import: nothing here needs one.
"""

from __future__ import annotations

import fcntl
import os
import time

from gridbot.core import ini_file
from gridbot.exceptions import GridBotError, not_written

TYPE_CHECKING = False  # in place of typing.TYPE_CHECKING: importing typing takes milliseconds
if TYPE_CHECKING:
    from pathlib import Path

LOOKS, BETWEEN_LOOKS = 100, 0.01  # how often a lock that others only look at is tried, and seconds in between

# Open for as long as the process lives: closing a file would release its lock.
_held: dict[str, int] = {}


def lock_file(path: str) -> int | None:
    """
    Lock ``path``, creating it if need be, and write our pid into it. The handle must stay open for
    as long as the lock is wanted. None: another process holds it. Raises OSError.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        is_ours = _lock(handle)
    except OSError:
        os.close(handle)
        raise
    if not is_ours:
        os.close(handle)
        return None
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        return handle  # the lock holds without the pid, which is only for people; others report a full disk
    return handle


def _lock(handle: int) -> bool:
    """
    True once the lock is ours, False if another process holds it. ``holder_if_running`` shares a free lock for a
    moment. That is no bot: a start that took it for one would leave, and the bot be away until cron's next try.
    """
    for _ in range(LOOKS):
        if _got(handle, fcntl.LOCK_EX):
            return True
        if not _got(handle, fcntl.LOCK_SH):
            return False
        fcntl.flock(handle, fcntl.LOCK_UN)
        time.sleep(BETWEEN_LOOKS)
    return False


def _got(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_path(database: str | os.PathLike[str]) -> str:
    """The path of a database's lock file; links are resolved, so that all paths to one database share it."""
    return f"{os.path.realpath(database)}.lock"


def holder_of(path: str) -> str:
    """``pid 123``: the process that wrote its pid into the lock file; for people only."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return f"pid {int(file.read(20))}"
    except (OSError, ValueError):
        return "pid unknown"


def holder_if_running(database: str | os.PathLike[str]) -> str:
    """``pid 123`` of the bot that holds the database's lock, "" when none does."""
    path = lock_path(database)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return "" if _got(handle, fcntl.LOCK_SH) else holder_of(path)
    finally:
        os.close(handle)


def claim(database: str, public_key: str = "", *, key_only: bool = False) -> str | None:
    """
    Lock ``database``, unless ``key_only``, and the API key, unless it is "", for this process. Locks that it holds
    already stay.

    Returns None on success, else a sentence that names the process that holds the lock. Raises ConfigurationError if
    a lock file cannot be written, or GridBotError if that is no mistake in the settings.
    """
    wanted = {} if key_only else {lock_path(database): f"on this database: {os.path.realpath(database)}"}
    if public_key:
        path = str(key_state_path(public_key, os.path.dirname(os.path.realpath(database)))) + ".lock"
        wanted[path] = "with this API key; a second bot needs a key of its own"
    for path, what in wanted.items():
        if path in _held:
            continue
        try:
            handle = lock_file(path)
        except OSError as exc:
            where = f"[database] path = {database}: " if path == lock_path(database) else ""
            advice = "The directory must exist and be writable for the user who starts the bot"
            raise not_written(f"{where}the lock file {path}", exc, advice) from exc
        if handle is None:
            return f"gridbot is already running ({holder_of(path)}) {what}"
        _held[path] = handle
    return None


def keep() -> str | None:
    """
    Lock again what was claimed and whose lock file was deleted since: a lock on a deleted file keeps no other process
    away. Returns None, or a sentence that names the process that took the lock meanwhile.
    """
    for path, handle in list(_held.items()):
        try:
            if _is_at(path, handle):
                continue
            fresh = lock_file(path)
        except OSError:
            continue  # a disk error does not mean that the lock file is gone
        if fresh is None:
            return (
                f"another gridbot ({holder_of(path)}) has started: the lock file {path} was deleted while this one ran"
            )
        os.close(handle)
        _held[path] = fresh
    return None


def _is_at(path: str, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def claim_early(config_path: str) -> str | None:
    """
    ``claim`` without checking config.ini. Errors in the file, or of the lock file, are reported by the full start,
    which claims again.
    """
    try:
        raw = ini_file.read_ini(config_path)
        return claim(ini_file.database_path(config_path, raw), ini_file.key_in_use(raw))
    except GridBotError:
        return None


def release_all() -> None:
    while _held:
        _, handle = _held.popitem()
        os.close(handle)


def key_state_path(public_key: str, fallback_dir: str | Path) -> Path:
    """
    The file in which everything on this machine that uses the API key keeps its nonce mark; its lock is
    the same name with ``.lock``. Named by a hash, which does not give the key away.

    In $XDG_STATE_HOME/gridbot or ~/.local/state/gridbot, and in ``fallback_dir`` when that cannot be
    written.
    """
    import hashlib
    from pathlib import Path

    digest = hashlib.sha256(b"gridbot api key " + public_key.encode()).hexdigest()[:24]
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    directory = os.path.join(home, "gridbot")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        usable = os.path.isabs(directory) and os.access(directory, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    return Path(directory if usable else fallback_dir) / f"key-{digest}"
