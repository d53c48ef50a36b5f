"""
stdout and stderr, written to without waiting for their reader.

A write into a pipe that nobody reads, or to a terminal after Ctrl-S, waits for ever, and no signal ends it. What is
told must not stop a trade, nor keep the lock of a bot that has ended: what cannot be written soon is left out.
"""

from __future__ import annotations

import os
import select
import stat
import time

TYPE_CHECKING = False  # as typing has it, without the milliseconds that importing typing takes
if TYPE_CHECKING:
    from typing import TextIO

PATIENCE_MS = 200  # for a reader that is only slow; nothing while it owes us more
LATELY = 4096


class Outlet:
    """A stream with a patience. None, a closed stdout, takes everything and shows nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._handle = _own_handle(stream)
        self._ready = select.poll()
        if self._handle is not None:
            self._ready.register(self._handle, select.POLLOUT)
        self._rest, self._missing = b"", 0

    def write(self, text: str) -> None:
        """All of ``text`` in time, or none of it; the next one that gets through says how many did not."""
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
        """What is left of ``data``."""
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
    Is ``text`` among the last LATELY bytes of a file, such as the errors.log of cron? Two bots may write to it in
    turn. A terminal or a pipe remembers nothing.
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
    To where ``stream`` goes. A terminal with room for a single letter counts as ready, and a longer write waits: it is
    opened anew, so that only we do not wait, and not everybody else who has it open. None: it goes to no file.
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
            pass  # another user's: nearly as good without
    return os.dup(handle)
