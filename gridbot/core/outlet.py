"""
stdout and stderr, written to without waiting for their reader.

A write to a pipe that no program reads, or to a terminal after Ctrl-S, waits for ever, and no signal ends it. Output
must neither stop the trading nor keep a bot that has ended, with its lock, alive. So what cannot be written soon is
left out.
"""

from __future__ import annotations

import os
import select
import stat
import time

TYPE_CHECKING = False  # in place of typing.TYPE_CHECKING: importing typing takes milliseconds
if TYPE_CHECKING:
    from typing import TextIO

PATIENCE_MS = 200  # how long to wait for a slow reader; not at all while older output is unread
LATELY = 4096  # bytes at the end of a file


class Outlet:
    """A stream on which a write never waits for long. With None (a closed stdout) writes do nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._handle = _own_handle(stream)
        self._ready = select.poll()
        if self._handle is not None:
            self._ready.register(self._handle, select.POLLOUT)
        self._rest, self._missing = b"", 0

    def write(self, text: str) -> None:
        """
        Write ``text`` if that is possible in time, else leave it out; the next text that is written says how many are
        missing. The rest of a text that was written in part goes before the next one.
        """
        if self._stream is None:
            return
        if self._handle is None:
            self._stream.write(text)
            self._stream.flush()
            return
        if self._missing:
            text = f"[{self._missing} messages are missing here: nobody read this output]\n{text}"
        data = text.encode(self._stream.encoding, "backslashreplace")
        left = self._send(self._rest + data)
        if len(left) < len(data):
            self._rest, self._missing = left, 0
        else:
            self._rest, self._missing = left[: len(left) - len(data)], self._missing + 1

    def _send(self, data: bytes) -> bytes:
        """Write as much as possible; returns what is left of ``data``."""
        end = time.monotonic() + (0.0 if self._rest or self._missing else PATIENCE_MS / 1000)
        while data and self._ready.poll(max(0.0, end - time.monotonic()) * 1000):
            try:
                data = data[os.write(self._handle or 0, data[: select.PIPE_BUF]) :]
            except BlockingIOError:
                break
        return data

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


def said_lately(stream: TextIO, text: str) -> bool:
    """
    True if ``stream`` is a file, such as cron's errors.log, that holds ``text`` near its end. Not just as its last
    line, because two bots may write to it in turn. False for a terminal or a pipe.
    """
    try:
        data, handle = text.encode(stream.encoding, stream.errors or "strict"), stream.fileno()
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        with open(f"/proc/self/fd/{handle}", "rb") as file:
            file.seek(max(os.fstat(handle).st_size - LATELY - len(data), 0))
            return data in file.read()
    except (OSError, ValueError):
        return False


def _own_handle(stream: TextIO | None) -> int | None:
    """
    A handle of our own for the target of ``stream``; None if that is no file. A terminal or pipe is opened anew as
    non-blocking: poll calls it ready even if it has room for one letter only, and a longer write would then wait. The
    handle of other programs that have it open stays as it is.
    """
    try:
        handle = stream.fileno() if stream is not None else -1
        mode = os.fstat(handle).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        try:
            return os.open(f"/proc/self/fd/{handle}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            pass  # another user's terminal: a copy of the blocking handle is nearly as good
    return os.dup(handle)
