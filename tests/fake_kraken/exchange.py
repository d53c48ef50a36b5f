"""
FakeKraken: a Kraken in memory to test a bot against. The engine, plus what its clients see.

::

    clock = VirtualClock()
    fake = FakeKraken(clock, balances={"ZUSD": "10000", "XXBT": "0"})
    connection = fake.connect(private=False)          # frames in connection.out
    outcome = fake.handle_http("POST", "/0/private/Balance", headers, body)
    fake.set_price("BTC/USD", "49500.0")              # fills what it reaches
    fake.faults.add("AddOrder", "drop_reply")         # see faults.py
    assert fake.count("AddOrder") == 5 and len(fake.open_orders(userref=7, side="buy")) == 5

No sockets and no threads: see in_process.py for a requests transport and server.py for a
server on the loopback. Where Kraken's behaviour is not known for sure, an attribute chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from tests.fake_kraken import executions, ws
from tests.fake_kraken.clock import SystemClock, VirtualClock
from tests.fake_kraken.engine import Clock, Engine
from tests.fake_kraken.faults import Faults, Outcome
from tests.fake_kraken.orders import Order, Trade
from tests.fake_kraken.rest import Call, Gateway
from tests.fake_kraken.tables import Pair
from tests.fake_kraken.wire import to_json
from tests.fake_kraken.ws import FakeConnection, Frame

# Kraken publishes this secret beside its example signature; it opens nothing.
TEST_SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
TEST_KEY = "fake-public-key"
TRADING_PERMISSIONS = (
    "query-funds",
    "query-open-trades",
    "query-closed-trades",
    "modify-trades",
    "close-trades",
    "create-ws-token",
)
TOKEN_SECONDS = 900.0


@dataclass
class ApiKey:
    """A key with its permissions (``withdraw-funds`` is what a bot must not have) and the last nonce it used."""

    public: str = TEST_KEY
    secret: str = TEST_SECRET
    permissions: frozenset[str] = field(default=frozenset(TRADING_PERMISSIONS))
    nonce: int = 0


class FakeKraken(Engine):
    """One account on a small exchange, reachable by REST calls and websocket frames."""

    def __init__(
        self,
        clock: Clock | None = None,
        balances: dict[str, Decimal | str] | None = None,
        prices: dict[str, Decimal | str] | None = None,
        keys: Iterable[ApiKey] = (),
        tier: str = "intermediate",
        seed: int = 1,
    ) -> None:
        """``balances`` by asset id (default 10000 ZUSD and 1 XXBT), ``prices`` by any name of the pair."""
        money = {"ZUSD": "10000", "XXBT": "1"} if balances is None else balances
        super().__init__(clock or SystemClock(), {k: Decimal(v) for k, v in money.items()}, seed, tier)
        for name, price in (prices or {}).items():
            self.last[self.pair(name).id] = Decimal(price)
        self.keys: dict[str, ApiKey] = {key.public: key for key in (list(keys) or [ApiKey()])}
        self.faults = Faults()
        self.connections: list[FakeConnection] = []
        self.calls: list[Call] = []
        self.ws_calls: list[tuple[float, str, dict[str, object]]] = []
        self.tokens: dict[str, float] = {}
        self.optional_fields = True  # websocket fields that were only sometimes seen
        self.separate_filled = False  # the last fill says partially_filled, then "filled" follows
        self.rest_lag = 0.0  # seconds by which REST answers are behind the websocket
        self.auto_earn: set[str] = set()  # asset ids whose balance shows under ALTNAME.F
        self.tokenized_suffix = True  # AAPLx.T instead of AAPLx in Balance
        self.numeric_balances = False  # BalanceEx with JSON numbers instead of strings
        self.query_unknown_error: str | None = None  # QueryOrders of an unknown txid; None: it is absent
        self.camel_case_key_info = False
        self.strict_booleans = True  # a form's "True" is refused; False: as lenient as old clients need
        self.unknown_methods: set[str] = set()  # answered with EGeneral:Unknown method
        self.candles: dict[str, list[list[object]]] = {}  # OHLC rows by pair id, oldest first
        self._gateway = Gateway(self)

    # The wire.
    def handle_http(self, method: str, path: str, headers: dict[str, str], body: bytes | str) -> Outcome:
        """One REST call; ``path`` with the query. A Reply (status, headers, body), or a fault's outcome."""
        return self._gateway.handle(method, path, headers, body)

    def connect(self, private: bool, send: Callable[[Frame], object] | None = None) -> FakeConnection:
        """A new websocket. Raises ConnectionRefusedError when the script of faults says so."""
        with self.lock:
            self.run_due()
            if self.faults.connection_refusals:
                self.faults.connection_refusals -= 1
                raise ConnectionRefusedError("the fake exchange refuses this websocket")
            connection = FakeConnection(self, private, send)
            self.connections.append(connection)
            return connection

    def forget(self, connection: FakeConnection) -> None:
        """The connection has ended, from whichever side."""
        with self.lock:
            connection.closed = True
            if connection in self.connections:
                self.connections.remove(connection)

    def heartbeat(self) -> None:
        """To be called about once a second: heartbeats, and everything that is due."""
        with self.lock:
            self.run_due()
            for connection in list(self.connections):
                connection.heartbeat()

    # Websocket faults on what is open now; ``private`` None means both sides.
    def drop_sockets(self, private: bool | None = None) -> int:
        """Hang up."""
        with self.lock:
            chosen = self._connections(private)
            for connection in chosen:
                connection.close()
            return len(chosen)

    def silence(self, private: bool | None = None, silent: bool = True) -> None:
        """The sockets stay open and say nothing, no heartbeat either."""
        with self.lock:
            for connection in self._connections(private):
                connection.silent = silent

    def half_open(self, private: bool | None = None) -> None:
        """Nothing goes either way any more, and nobody says so."""
        with self.lock:
            for connection in self._connections(private):
                connection.half_open = True

    def send_garbage(
        self, frame: str | bytes = '{"channel":"executions","data":[{', private: bool | None = None
    ) -> None:
        with self.lock:
            for connection in self._connections(private):
                connection.raw(frame)

    def void_tokens(self) -> None:
        """As after a restart of Kraken: tokens not yet used are good for nothing."""
        self.tokens.clear()

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, and happen what was due in it."""
        if not isinstance(self.clock, VirtualClock):
            raise TypeError("only a VirtualClock can be advanced")
        self.clock.advance(seconds)
        self.run_due()

    # For assertions.
    def count(self, method: str | None = None) -> int:
        """How many REST calls came in, of one method or of all."""
        return sum(1 for call in list(self.calls) if method in (None, call.method))

    def calls_of(self, method: str) -> list[Call]:
        return [call for call in list(self.calls) if call.method == method]

    def added_orders(self) -> list[Order]:
        """Every order that was taken through the API, oldest first, whatever became of it."""
        with self.lock:
            return [order for order in self.orders.values() if not order.by_hand]

    # Used by the connections and the gateway.
    def token_is_good(self, token: object, connection: FakeConnection) -> bool:
        """Issued within 15 minutes, or in use by a living subscription."""
        if not isinstance(token, str):
            return False
        issued = self.tokens.get(token)
        if issued is not None and self.clock.time() - issued <= TOKEN_SECONDS:
            return True
        return any(c.executions is not None and c.executions["token"] == token for c in self.connections)

    def usd(self, pair: Pair) -> Decimal:
        """USD for one unit of the pair's quote, for the estimates of the websocket."""
        return Decimal(1) if pair.quote.id == "ZUSD" else self.last["XXBTZUSD"]

    def ticker_row(self, pair: Pair) -> dict[str, object]:
        return ws.ticker_row(pair, self.last[pair.id], len(self.trades), self.clock.time())

    def on_execution(self, kind: str, order: Order, trade: Trade | None = None) -> None:
        now, usd = self.clock.time(), self.usd(order.pair)
        row = executions.update(kind, order, trade, now, usd, self.optional_fields)
        last_fill = self.separate_filled and kind == "trade" and not order.is_open
        if last_fill:
            row["order_status"] = "partially_filled"
        rows = [row]
        if last_fill:
            rows.append(executions.update("filled", order, None, now, usd, self.optional_fields))
        for connection in list(self.connections):
            for told in rows:
                connection.push_execution(told)

    def on_price(self, pair: Pair) -> None:
        for connection in list(self.connections):
            connection.push_ticker(pair)

    def on_status(self) -> None:
        for connection in list(self.connections):
            connection.send_status()

    def _connections(self, private: bool | None) -> list[FakeConnection]:
        return [c for c in self.connections if private is None or c.private == private]


def describe(fake: FakeKraken) -> str:
    """The account as JSON, for the control interface and for failure messages."""
    with fake.lock:
        return to_json(
            {
                "status": fake.status,
                "last": {pair: f"{price:f}" for pair, price in fake.last.items()},
                "balances": {asset: f"{amount:f}" for asset, amount in fake.balances.items()},
                "holds": {asset: f"{amount:f}" for asset, amount in fake.ledger.holds.items()},
                "fees": {asset: f"{amount:f}" for asset, amount in fake.ledger.fees.items()},
                "orders": {
                    txid: order.row(with_trades=True) | {"side": order.side, "limit": f"{order.price:f}"}
                    for txid, order in fake.orders.items()
                },
                "trades": {txid: trade.row() for txid, trade in fake.trades.items()},
                "broken": [str(error) for error in fake.broken],
                "struck": [f"{method} {kind}" for method, kind in fake.faults.struck],
            }
        )
