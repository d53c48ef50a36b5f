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
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class KrakenTransport(HTTPAdapter):
    """The network. ``seconds``: how long an answer may take from its first byte to its last."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        super().__init__(1, 1, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """As requests does, with connections of ours."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools()

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """The same for a proxy."""
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = self._pools()
        return manager

    def _pools(self) -> dict[str, type[HTTPConnectionPool]]:
        seconds = self._seconds

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                self.sock = _Hurried(self.sock, seconds)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                self.sock = _Hurried(self.sock, seconds)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


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
