"""
How requests travel to Kraken: one connection, nothing repeated by itself, and an answer that is complete in time.

The time-out of ``requests`` counts from one byte to the next: an answer that trickles, byte by byte over a bad
line, would hold the bot for as long as it lasts.
"""

import io
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter


class KrakenTransport(HTTPAdapter):
    """The network. ``seconds``: how long an answer may take, from the end of the request to its own last byte."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        super().__init__(1, 1, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """As requests does, with connections of ours."""
        super().init_poolmanager(*args, **options)
        self._hurry(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """The same for a proxy; what it answers before it connects us is not counted."""
        manager = super().proxy_manager_for(*args, **options)
        self._hurry(manager)
        return manager

    def _hurry(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme
        if not any(issubclass(pool.ConnectionCls, _InTime) for pool in pools.values()):
            manager.pool_classes_by_scheme = {scheme: _in_time(pool, self._seconds) for scheme, pool in pools.items()}


class _InTime:
    """Marks connections whose answers must be complete in time."""


def _in_time(pool: Any, seconds: float) -> Any:
    """The same kind of pool, with such connections."""
    original = pool.ConnectionCls

    def connect(self: Any) -> None:
        original.connect(self)
        self.sock = _Hurried(self.sock, seconds)

    connection = type(original.__name__, (_InTime, original), {"connect": connect})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class _Hurried:
    """A socket whose answers must be complete in time."""

    def __init__(self, sock: Any, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_how: Any, **_options: Any) -> io.BufferedReader:
        """Called once for every answer, after the request was sent."""
        return io.BufferedReader(_Answer(self._sock, time.monotonic() + self._seconds))


class _Answer(io.RawIOBase):
    """What the socket brings until ``end``, on the steady clock."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._end = end
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Raises TimeoutError when the time is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer trickles")
        patience = self._sock.gettimeout()
        self._sock.settimeout(left if patience is None else min(left, patience))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
