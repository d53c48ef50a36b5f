"""
Kraken's websocket feed: prices on the public socket, our executions on the private one.

Two threads put raw frames on the main loop's queue (kraken_socket); ``on_message`` reads them on the main thread. It
checks the private channel: a gap in the sequence numbers, a frame that cannot be read or a lost connection is reported
as "lost", and a new connection brings a fresh snapshot.
"""

import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gridbot.adapters.exchanges import kraken_parse as parse
from gridbot.adapters.exchanges.kraken_service import KrakenRESTService
from gridbot.adapters.exchanges.kraken_socket import MAINTENANCE_PAUSE, ConnectLimiter, Happening, KrakenSocket
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import IExchangeRESTService, IExchangeWebSocketService
from gridbot.models.exchange import OnMessageSchema
from gridbot.models.money import from_json

LOG = logging.getLogger(__name__)

WS_URL = "wss://ws.kraken.com/v2"
WS_AUTH_URL = "wss://ws-auth.kraken.com/v2"
PUBLIC, PRIVATE = "public", "private"
PRIVATE_CHANNELS = frozenset({"executions", "balances"})
# Seconds. A connection whose subscriptions bring nothing for so long is closed, even if heartbeats arrive.
PATIENCE = 20.0
CLOSING = 0.4  # seconds that close() waits for each thread
SHOWN = 120  # characters of an unreadable frame that are logged
FRAMES_KEPT, OTHERS_KEPT = 20, 500

LOST = OnMessageSchema(channel="executions", type="lost")
PRICE_LOST = OnMessageSchema(channel="ticker", type="lost")


@dataclass
class _Line:
    """
    What the main thread knows of one connection.

    number    of this connection; frames of older connections are dropped
    dead      given up: later frames are ignored
    since     monotonic time of its first frame
    answered  its subscription brought something (executions: the snapshot)
    expected  the next ``sequence``
    heard     the last frames about our orders
    others    orders of other pairs: their later events name no pair
    """

    name: str
    number: int = 0
    since: float = 0.0
    dead: bool = False
    answered: bool = False
    expected: int = 1
    heard: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=FRAMES_KEPT))
    others: deque[str] = field(default_factory=lambda: deque(maxlen=OTHERS_KEPT))


class KrakenWebSocketService(IExchangeWebSocketService):
    """
    The feed of one pair. The documented constructor took keys, an event bus and the state machine; this one asks
    ``rest`` for tokens (one key, one nonce) and reports through the queue given to ``start``.

    private  False: prices only; no call needs a key
    """

    def __init__(
        self,
        rest: KrakenRESTService,
        *,
        clock: IClock,
        ws_url: str = WS_URL,
        ws_auth_url: str = WS_AUTH_URL,
        private: bool = True,
    ) -> None:
        self._rest = rest
        self._clock = clock
        self._urls = {PUBLIC: ws_url, PRIVATE: ws_auth_url} if private else {PUBLIC: ws_url}
        self._subscriptions: dict[str, list[dict[str, Any]]] = {PUBLIC: [], PRIVATE: []}
        self._lines = {PUBLIC: _Line(PUBLIC), PRIVATE: _Line(PRIVATE)}
        self._sockets: dict[str, KrakenSocket] = {}
        self._limiter = ConnectLimiter(clock.monotonic)
        self._put: Callable[[object], None] | None = None
        self._symbols: set[str] = set()
        self._token = ""
        self._system = "online"
        self.unreadable = 0  # frames that could not be read, since the start

    def get_required_subscriptions(self, rest_api: IExchangeRESTService) -> list[dict[str, Any]]:
        """Ticker of the pair (one update per trade) and, if the feed is private too, our executions."""
        ticker = {"channel": "ticker", "symbol": [rest_api.ws_symbol], "event_trigger": "trades", "snapshot": True}
        executions = {
            "channel": "executions",
            "snap_orders": True,
            "snap_trades": False,
            "order_status": True,
            "ratecounter": False,
        }
        return [ticker, executions] if PRIVATE in self._urls else [ticker]

    def start(self, put: Callable[[object], None]) -> None:
        """See the interface. A socket is opened once something is subscribed on it."""
        self._put = put
        for name in self._urls:
            self._open(name)

    def subscribe(self, params: dict[str, Any]) -> None:
        """See the interface. Raises ValueError for a private channel of a public feed."""
        name = PRIVATE if params["channel"] in PRIVATE_CHANNELS else PUBLIC
        if name not in self._urls:
            raise ValueError(f"{params['channel']} needs a key, and this feed is public")
        self._subscriptions[name].append(dict(params))
        if params["channel"] == "ticker":
            self._symbols.update(params["symbol"])
        if socket := self._sockets.get(name):
            socket.drop()  # the next connection subscribes to everything
        else:
            self._open(name)

    def close(self) -> None:
        """See the interface. A thread that is still connecting ends a little later."""
        for socket in self._sockets.values():
            socket.close()
        for socket in self._sockets.values():
            socket.join(CLOSING)

    def on_message(self, message: object) -> list[OnMessageSchema]:
        if not isinstance(message, tuple) or len(message) != 3 or message[0] not in self._lines:
            LOG.warning("something that is not a frame of this feed was ignored: %.80r", message)
            return []
        name, number, payload = message
        line = self._lines[name]
        if number > line.number:
            line = self._lines[name] = _Line(name, number, self._clock.monotonic(), others=line.others)
        if number < line.number or line.dead:
            return []
        if isinstance(payload, Happening):
            return self._happened(line, payload)
        try:
            frame = from_json(payload if isinstance(payload, str) else payload.decode())
            return self._read(line, frame)
        except parse.UNREADABLE as exc:
            return self._cannot_read(line, payload, exc)

    def _open(self, name: str) -> None:
        if self._put is None or not self._subscriptions[name]:
            return
        hello = partial(self._hello, name)
        socket = KrakenSocket(name, self._urls[name], hello, self._put, clock=self._clock, limiter=self._limiter)
        self._sockets[name] = socket
        socket.start()

    def _hello(self, name: str) -> list[str]:
        """The subscriptions as text. Runs on the socket's thread; the token is fresh each time."""
        secret = {}
        if name == PRIVATE:
            self._token = self._rest.get_websocket_token()
            secret = {"token": self._token}
        return [
            json.dumps({"method": "subscribe", "params": {**params, **secret}, "req_id": n})
            for n, params in enumerate(self._subscriptions[name], start=1)
        ]

    def _happened(self, line: _Line, happening: Happening) -> list[OnMessageSchema]:
        if happening is Happening.CONNECTED:
            if line.number > 1:
                LOG.info("Kraken's %s feed is connected again", line.name)
            return []
        line.dead = True
        # Before the snapshot of this connection the loss of the one before still stands: it was reported then.
        return self._loss(line) if line.answered else []

    def _give_up(self, line: _Line, why: str) -> list[OnMessageSchema]:
        """Close the present connection; what it may still bring is ignored."""
        LOG.warning("Kraken's %s feed: %s; connecting anew", line.name, why)
        line.dead = True
        if socket := self._sockets.get(line.name):
            socket.drop(line.number)
        return self._loss(line)

    def _loss(self, line: _Line) -> list[OnMessageSchema]:
        return [LOST if line.name == PRIVATE else PRICE_LOST]

    def _cannot_read(self, line: _Line, payload: object, exc: Exception) -> list[OnMessageSchema]:
        self.unreadable += 1
        shown = payload.decode(errors="replace") if isinstance(payload, bytes) else str(payload)
        if self._token:
            shown = shown.replace(self._token, "***")
        if line.name == PRIVATE:
            LOG.debug("unreadable frame (%s): %.*s", type(exc).__name__, SHOWN, shown)
            return self._give_up(line, "a message about our orders cannot be read")
        # The 1st, 10th, 100th ...: prices come back with the next trade, and the disk is small.
        if str(self.unreadable).strip("0") == "1":
            LOG.warning("frame %d that cannot be read (%s): %.*s", self.unreadable, type(exc).__name__, SHOWN, shown)
        return []

    def _read(self, line: _Line, frame: dict[str, Any]) -> list[OnMessageSchema]:
        channel = frame.get("channel")
        if "method" in frame:
            return self._answer(line, frame)
        if channel == "ticker":
            line.answered = True
            return [
                OnMessageSchema(channel="ticker", type=frame.get("type"), ticker_data=parse.ticker(row))
                for row in frame["data"]
                if row["symbol"] in self._symbols
            ]
        if channel == "executions":
            return self._executions(line, frame)
        if channel == "status":
            for row in frame.get("data") or ():
                self._note_system(row["system"])
        elif problem := frame.get("error") or frame.get("Error"):
            LOG.warning("Kraken says on the %s feed: %.*s", line.name, SHOWN, problem)
        if not line.answered and self._clock.monotonic() - line.since > PATIENCE:
            return self._give_up(line, f"nothing came of the subscription in {PATIENCE:g} s")
        return []

    def _executions(self, line: _Line, frame: dict[str, Any]) -> list[OnMessageSchema]:
        LOG.debug("executions: %s", frame)
        kind, sequence = frame["type"], frame.get("sequence")
        if sequence is not None and type(sequence) is not int:
            raise ValueError("the sequence number is not an integer")  # after a NaN every gap would go unnoticed
        is_last = sequence == line.expected - 1  # an older snapshot may look the same as a new one
        if sequence is not None and frame in line.heard and (is_last or kind != "snapshot"):
            return []  # sent twice
        # Counting begins with a snapshot, at whatever number.
        if sequence not in (None, line.expected) and kind != "snapshot":
            return self._give_up(line, f"message {line.expected} about our orders was due, and {sequence} came")
        if not line.answered and kind != "snapshot":
            return self._give_up(line, "news about our orders came before the snapshot")
        rows = [parse.execution(row) for row in frame["data"] if self._is_of_our_pair(line, row)]
        line.heard.append(frame)
        line.answered = True
        if sequence is not None:
            line.expected = sequence + 1
        return [OnMessageSchema(channel="executions", type=kind, executions=rows)]

    def _is_of_our_pair(self, line: _Line, row: dict[str, Any]) -> bool:
        symbol, order = row.get("symbol"), row.get("order_id")
        if symbol is None:
            return order not in line.others
        if not self._symbols or symbol in self._symbols:
            return True
        if order and order not in line.others:
            line.others.append(order)
        return False

    def _answer(self, line: _Line, frame: dict[str, Any]) -> list[OnMessageSchema]:
        """Acknowledgements. A refused subscription ends the connection; the next one has a new token."""
        if frame["method"] != "subscribe":
            return []
        if not frame.get("success"):
            return self._give_up(line, f"Kraken refused a subscription: {str(frame.get('error'))[:SHOWN]}")
        result = frame.get("result") or {}
        if maxratecount := result.get("maxratecount"):
            self._rest.limits.raise_to(int(parse.number(maxratecount)))
        if line.name == PUBLIC:
            line.answered = True
        return []

    def _note_system(self, system: str) -> None:
        if system != self._system:
            level = logging.INFO if system == "online" else logging.WARNING
            LOG.log(level, "Kraken's status is now %r (it was %r)", system, self._system)
        self._system = system
        for socket in self._sockets.values():
            socket.at_least = 0.0 if system == "online" else MAINTENANCE_PAUSE
