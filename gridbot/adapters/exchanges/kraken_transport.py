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
    """The network: an answer must be complete in the time that its first byte may take."""

    def __init__(self) -> None:
        super().__init__(1, 1, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """As requests does, with connections of ours."""
        super().init_poolmanager(*args, **options)
        _hurry(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """The same for a proxy; what it answers before it connects us is not counted."""
        if proxy not in self.proxy_manager:
            _hurry(super().proxy_manager_for(proxy, **options))
        return self.proxy_manager[proxy]


def _hurry(manager: Any) -> None:
    """Have the manager's own kinds of pools, a SOCKS proxy has others, make connections that answer in time."""
    manager.pool_classes_by_scheme = {name: _in_time(pool) for name, pool in manager.pool_classes_by_scheme.items()}


def _in_time(pool: Any) -> Any:
    """The same kind of pool, with connections whose answers must be complete in time."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            self.sock: Any = _Hurried(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


class _Hurried:
    """A socket whose answers must be complete in the time that it has for one byte."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_how: Any, **_options: Any) -> io.BufferedReader:
        """Called once for every answer, after the request was sent and the time-out set."""
        return io.BufferedReader(_Answer(self._sock, time.monotonic() + self._sock.gettimeout()))


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
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
