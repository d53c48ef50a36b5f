"""
One websocket to Kraken, kept open by a thread that only moves bytes: it puts frames on a queue, and the main thread
reads them. Silence counts as a loss, because dead connections look open.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum

import websocket

from gridbot.exceptions import AccessDenied, GridBotError
from gridbot.interfaces.clock import IClock

LOG = logging.getLogger(__name__)

PING = '{"method":"ping"}'  # Kraken's own; whether it counts protocol pings as activity is not known
CONNECT_TIMEOUT = 10.0
# Seconds without a frame after which a connection counts as dead; a subscription brings a heartbeat every second.
SILENCE = 15.0
# Seconds. After a connection that lived longer the pauses begin with FIRST_PAUSE again.
GOOD_LIFE = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
MAINTENANCE_PAUSE = 5.0
DENIED_PAUSE = 300.0  # a refused key must not be used again and again: Kraken would lock it
# Kraken allows 150 attempts in ten minutes for all programs behind one IP address.
MOST_ATTEMPTS, WINDOW = 100, 600.0


class Happening(Enum):
    """What the thread reports in addition to frames."""

    CONNECTED = "connected"
    LOST = "lost"


class _Ended(Exception):
    """Why a connection ended, in words for the log."""


class ConnectLimiter:
    """At most MOST_ATTEMPTS in WINDOW seconds, for all sockets together."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._attempts: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Count an attempt that is about to be made, and return 0. If none is allowed yet: the seconds until one is."""
        with self._lock:
            now = self._now()
            while self._attempts and self._attempts[0] + WINDOW <= now:
                self._attempts.popleft()
            if len(self._attempts) >= MOST_ATTEMPTS:
                return self._attempts[0] + WINDOW - now
            self._attempts.append(now)
            return 0.0


def pause_before(failures: int, at_least: float = 0.0, jitter: Callable[[], float] = random.random) -> float:
    """
    Seconds before the next attempt after this many failures in a row: none, then doubling up to a minute, less a random
    part of up to half.

    >>> [pause_before(n, jitter=lambda: 1.0) for n in (0, 1, 2, 3, 7, 8, 99)]
    [0.0, 0.5, 1.0, 2.0, 32.0, 60.0, 60.0]
    """
    growing = 0.0 if failures == 0 else min(FIRST_PAUSE * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE)
    return max(growing * (0.5 + jitter() / 2), at_least)


class KrakenSocket(threading.Thread):
    """
    Keeps one connection to ``url`` and gives ``put`` tuples: (name of the socket, number of the connection, frame or
    Happening).

    hello  texts to send on every new connection; called on this thread and may raise GridBotError
    """

    def __init__(
        self,
        name: str,
        url: str,
        hello: Callable[[], list[str]],
        put: Callable[[object], None],
        *,
        clock: IClock,
        limiter: ConnectLimiter,
    ) -> None:
        super().__init__(name=f"kraken-{name}", daemon=True)
        self.at_least = 0.0  # seconds before a reconnect; set by the feed during maintenance
        self._socket_name = name
        self._url = url
        self._hello = hello
        self._put = put
        self._now = clock.monotonic
        self._limiter = limiter
        self._closing = threading.Event()
        self._number = 0
        self._websocket: websocket.WebSocket | None = None

    def run(self) -> None:
        """Connect, read, lose, pause, again; until closed."""
        failures, asked = 0, 0.0
        while not self._closing.wait(pause_before(failures, max(asked, self.at_least if failures else 0.0))):
            if asked := self._limiter.take():
                continue
            self._number += 1
            began = self._now()
            try:
                self._live()
            except Exception as exc:  # noqa: BLE001 - a dead thread would look like a quiet market
                if self._closing.is_set():
                    return
                failures = 1 if self._now() - began > GOOD_LIFE else failures + 1
                asked = DENIED_PAUSE if isinstance(exc, AccessDenied) else getattr(exc, "retry_after", 0.0)
                self._tell(exc, failures)

    def drop(self, number: int | None = None) -> None:
        """
        End the present connection if it still has this ``number`` (None: any). The thread makes a new one, and says
        hello again.
        """
        if (socket := self._websocket) is not None and number in (None, self._number):
            socket.abort()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ask the thread to end; it does so at once unless it is still connecting."""
        self._closing.set()
        self.drop()

    def _live(self) -> None:
        """One connection from its start to its end; always ends with an exception."""
        # The main thread decodes the text strictly; checking it here would make each frame cost seven times as much.
        socket = websocket.WebSocket(skip_utf8_validation=True, enable_multithread=False)
        socket.settimeout(CONNECT_TIMEOUT)
        socket.connect(  # type: ignore[no-untyped-call]
            self._url, header=["User-Agent: gridbot"], suppress_origin=True, redirect_limit=0
        )
        self._websocket = socket
        self._put((self._socket_name, self._number, Happening.CONNECTED))
        try:
            for text in self._hello():
                socket.send(text)
            self._read(socket)
        finally:
            self._websocket = None
            socket.shutdown()  # type: ignore[no-untyped-call]
            self._put((self._socket_name, self._number, Happening.LOST))

    def _read(self, socket: websocket.WebSocket) -> None:
        name, number, put, now = self._socket_name, self._number, self._put, self._now
        socket.settimeout(SILENCE / 3)
        last = now()
        while not self._closing.is_set():
            try:
                opcode, frame = socket.recv_data(control_frame=True)
            except websocket.WebSocketTimeoutException:
                opcode = None
            if opcode == websocket.ABNF.OPCODE_TEXT:
                last = now()
                put((name, number, frame))
            elif opcode == websocket.ABNF.OPCODE_CLOSE:
                raise _Ended("Kraken closed the connection")
            elif now() - last >= SILENCE:
                raise _Ended(f"nothing heard for {SILENCE:g} s")
            elif opcode is None:
                socket.send(PING)
        raise _Ended("the feed is being closed")

    def _tell(self, exc: Exception, failures: int) -> None:
        """Log the first loss and every tenth: a night without network must not fill the disk."""
        level = logging.WARNING if failures % 10 == 1 or isinstance(exc, AccessDenied) else logging.DEBUG
        LOG.log(level, "Kraken's %s feed is not connected (%s); trying again", self._socket_name, _words(exc))


def _words(exc: Exception) -> str:
    if isinstance(exc, GridBotError | _Ended):
        return str(exc)
    if isinstance(exc, websocket.WebSocketBadStatusException):
        return f"refused with HTTP {exc.status_code}"
    if isinstance(exc, websocket.WebSocketConnectionClosedException | ConnectionError):
        return "the connection broke, or was refused"
    if isinstance(exc, OSError | websocket.WebSocketException):
        return f"no connection: {type(exc).__name__}"
    return f"an error of the bot, please report it: {type(exc).__name__}"
