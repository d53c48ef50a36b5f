"""
How requests travel to Kraken: one connection, no automatic retries, and a time limit for the complete answer.

The time-out of ``requests`` counts from one byte to the next. An answer that trickles byte by byte over a bad line
would hold the bot for as long as it lasts.
"""

import io
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter


class KrakenTransport(HTTPAdapter):
    """An HTTPAdapter whose read time-out is the limit for the complete answer."""

    def __init__(self) -> None:
        super().__init__(1, 1, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """As in requests, but with connections that limit the time of an answer."""
        super().init_poolmanager(*args, **options)
        _hurry(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """The same for a proxy; the time until the proxy has connected us is not limited."""
        if proxy not in self.proxy_manager:
            _hurry(super().proxy_manager_for(proxy, **options))
        return self.proxy_manager[proxy]


def _hurry(manager: Any) -> None:
    """Let the manager's pools (a SOCKS proxy has its own kind) make connections that limit the time of an answer."""
    manager.pool_classes_by_scheme = {name: _in_time(pool) for name, pool in manager.pool_classes_by_scheme.items()}


def _in_time(pool: Any) -> Any:
    """The same kind of pool, with connections that limit the time of an answer."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            self.sock: Any = _Hurried(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


class _Hurried:
    """A socket whose time-out limits the complete answer, not one byte of it."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_how: Any, **_options: Any) -> io.BufferedReader:
        """Called once for every answer, after the request was sent and the time-out set."""
        return io.BufferedReader(_Answer(self._sock, time.monotonic() + self._sock.gettimeout()))


class _Answer(io.RawIOBase):
    """What the socket receives until ``end``, seconds on the monotonic clock."""

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
