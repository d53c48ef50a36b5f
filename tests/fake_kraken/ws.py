"""
Websocket v2 as frames of text: one FakeConnection per socket (Kraken's API, websocket v2).

No sockets here. Frames for the client go to ``send``, or to the deque ``out`` without one;
``CLOSED`` in their place means that the server hung up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.fake_kraken import executions
from tests.fake_kraken.tables import Pair, find_symbol
from tests.fake_kraken.wire import cut, from_json, iso_time, to_json

if TYPE_CHECKING:
    from tests.fake_kraken.exchange import FakeKraken

CLOSED: Final = None
Frame = str | bytes | None
WRONG_SIDE = {
    True: "Public market data subscriptions are unavailable on this endpoint. Try ws.kraken.com",
    False: "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com",
}
PUBLIC_CHANNELS = frozenset({"ticker", "trade", "book", "ohlc", "instrument"})
PRIVATE_CHANNELS = frozenset({"executions", "balances"})
IDLE_SECONDS = 60.0
HEARTBEAT = to_json({"channel": "heartbeat"})


class FakeConnection:
    """One socket, seen from Kraken. Everything runs under the exchange's lock."""

    def __init__(self, exchange: FakeKraken, private: bool, send: Callable[[Frame], object] | None) -> None:
        self.exchange = exchange
        self.private = private
        self.out: deque[Frame] = deque()
        self._send = send or self.out.append
        self.closed = False
        self.silent = False  # the server says nothing any more; the socket lives
        self.half_open = False  # nor does it hear anything
        self.symbols: dict[str, str] = {}
        self.executions: dict[str, Any] | None = None
        self.sequence = 0
        self.sent_at = self.heard_at = exchange.clock.time()
        self._kept: list[dict[str, Any]] = []
        self.send_status()

    @property
    def subscribed(self) -> bool:
        return bool(self.symbols) or self.executions is not None

    def frames(self) -> list[Any]:
        """Take what has come so far, decoded; for tests in process. A hang-up comes as None."""
        taken: list[Any] = []
        while self.out:
            frame = self.out.popleft()
            taken.append(frame if frame is CLOSED else from_json(frame))
        return taken

    def receive(self, text: str) -> None:
        """Handle one frame of the client."""
        with self.exchange.lock:
            self.exchange.run_due()
            if self.closed or self.half_open:
                return
            self.heard_at = self.exchange.clock.time()
            try:
                message = from_json(text)
                method, params = message["method"], message.get("params") or {}
            except (ValueError, KeyError, TypeError, AttributeError):
                self.tell({"error": "EGeneral:Invalid arguments", "success": False} | self._times())
                return
            self.exchange.ws_calls.append((self.heard_at, method, params))
            if method == "ping":
                self.tell({"method": "pong"} | self._req_id(message) | self._times())
            elif method in ("subscribe", "unsubscribe"):
                self._subscribe(message, method, params)
            else:
                self._nack(message, method, "EGeneral:Unknown method")

    def tell(self, message: dict[str, Any]) -> None:
        self.raw(to_json(message))

    def raw(self, frame: Frame) -> None:
        if not (self.closed or self.silent or self.half_open):
            self.sent_at = self.exchange.clock.time()
            self._send(frame)

    def close(self) -> None:
        """Hang up."""
        if not self.closed:
            self.closed = True
            self._send(CLOSED)
            self.exchange.forget(self)

    def heartbeat(self) -> None:
        if self.subscribed and self.exchange.clock.time() - self.sent_at >= 0.9:
            self.raw(HEARTBEAT)
        elif not self.subscribed and self.exchange.clock.time() - self.heard_at > IDLE_SECONDS:
            self.close()

    def send_status(self) -> None:
        state = {
            "version": "2.0.10",
            "system": self.exchange.status,
            "api_version": "v2",
            "connection_id": self.exchange.ids.connection(),
            "upcoming_maintenance": [],
            "emergency": [],
        }
        self.tell({"channel": "status", "type": "update", "data": [state]})

    def push_ticker(self, pair: Pair) -> None:
        if pair.symbol in self.symbols:
            self.tell({"channel": "ticker", "type": "update", "data": [self.exchange.ticker_row(pair)]})

    def push_execution(self, row: dict[str, Any]) -> None:
        """One row in one message; the script of faults decides what becomes of it."""
        if self.executions is None:
            return
        if not self.executions["order_status"] and row["exec_type"] != "trade":
            return
        fate = self.exchange.faults.take_message()
        if fate == "lose_unseen":
            return
        message = self._numbered("update", [row])
        if fate == "lose":
            return
        if fate == "hold":
            self._kept.append(message)
            return
        self._deliver(message)
        if fate == "double":
            self._deliver(message)
        while fate == "release" and self._kept:
            self._deliver(self._kept.pop())

    def _deliver(self, message: dict[str, Any]) -> None:
        delay = self.exchange.faults.executions_delay
        if delay:
            self.exchange.at(self.exchange.clock.time() + delay, lambda: self.tell(message))
        else:
            self.tell(message)

    def _numbered(self, kind: str, data: list[dict[str, Any]]) -> dict[str, Any]:
        self.sequence += 1
        return {"channel": "executions", "type": kind, "data": data, "sequence": self.sequence}

    def _subscribe(self, message: dict[str, Any], method: str, params: dict[str, Any]) -> None:
        channel = params.get("channel")
        if channel in (PUBLIC_CHANNELS if self.private else PRIVATE_CHANNELS):
            self._nack(message, method, WRONG_SIDE[self.private])
        elif channel == "ticker":
            self._ticker(message, method, params)
        elif channel == "executions":
            self._executions(message, method, params)
        else:
            self._nack(message, method, "Channel is not supported")

    def _ticker(self, message: dict[str, Any], method: str, params: dict[str, Any]) -> None:
        trigger = params.get("event_trigger", "trades")
        if trigger not in ("trades", "bbo") or not isinstance(params.get("symbol"), list):
            self._nack(message, method, "EGeneral:Invalid arguments")
            return
        for symbol in params["symbol"]:
            pair = find_symbol(self.exchange.pairs, symbol)
            if pair is None:
                self._nack(message, method, f"Currency pair not supported {symbol}", symbol=symbol)
                continue
            wants_snapshot = params.get("snapshot", True)
            result = {"channel": "ticker", "event_trigger": trigger, "snapshot": wants_snapshot, "symbol": symbol}
            if method == "unsubscribe":
                self.symbols.pop(symbol, None)
                self._ack(message, method, result)
                continue
            self.symbols[symbol] = trigger
            self._ack(message, method, result)
            if wants_snapshot:
                self.tell({"channel": "ticker", "type": "snapshot", "data": [self.exchange.ticker_row(pair)]})

    def _executions(self, message: dict[str, Any], method: str, params: dict[str, Any]) -> None:
        faults = self.exchange.faults
        if faults.token_refusals or not self.exchange.token_is_good(params.get("token"), self):
            faults.token_refusals = max(0, faults.token_refusals - 1)
            refusal: dict[str, Any] = {"channel": "executions", "error": "ESession:Invalid session", "method": method}
            refusal |= {"status": "error", "success": False}
            self.tell(refusal | self._req_id(message) | self._times())
            return
        if method == "unsubscribe":
            self.executions = None
            self._ack(message, method, {"channel": "executions"})
            return
        orders, trades = params.get("snap_orders", True), params.get("snap_trades", False)
        self.executions = {"order_status": params.get("order_status", True), "token": params["token"]}
        self._kept.clear()
        result = {
            "channel": "executions",
            "maxratecount": self.exchange.limits.numbers.engine_maximum,
            "snapshot": orders or trades,
            "snap_orders": orders,
            "snap_trades": trades,
        }
        self._ack(message, method, result)
        self.sequence = 0
        if orders or trades:
            self.tell(self._numbered("snapshot", self._snapshot(orders, trades)))

    def _snapshot(self, orders: bool, trades: bool) -> list[dict[str, Any]]:
        exchange, rows = self.exchange, []
        if orders:
            for order in exchange.open_orders():
                rows.append(executions.snapshot_order(order, exchange.usd(order.pair), exchange.optional_fields))
        if trades:
            for trade in list(exchange.trades.values())[:-51:-1]:
                order = exchange.orders[trade.order]
                rows.append(executions.snapshot_trade(trade, order, exchange.usd(trade.pair)))
        return rows

    def _ack(self, message: dict[str, Any], method: str, result: dict[str, Any]) -> None:
        self.tell({"method": method} | self._req_id(message) | {"success": True, "result": result} | self._times())

    def _nack(self, message: dict[str, Any], method: str, error: str, **more: str) -> None:
        self.tell(
            {"method": method} | self._req_id(message) | {"success": False, "error": error} | more | self._times()
        )

    @staticmethod
    def _req_id(message: dict[str, Any]) -> dict[str, Any]:
        return {"req_id": message["req_id"]} if "req_id" in message else {}

    def _times(self) -> dict[str, str]:
        now = self.exchange.clock.time()
        return {"time_in": iso_time(now), "time_out": iso_time(now + 0.00005)}


def ticker_row(pair: Pair, last: Any, trades: int, now: float) -> dict[str, Any]:
    """All fields, in snapshots and in updates alike."""
    price, tick = cut(last, pair.pair_decimals), pair.tick_size
    quantity = cut(pair.ordermin * 1000, pair.lot_decimals)
    return {
        "symbol": pair.symbol,
        "bid": price,
        "bid_qty": quantity,
        "ask": price + tick,
        "ask_qty": quantity,
        "last": price,
        "volume": quantity,
        "vwap": price,
        "low": price,
        "high": price,
        "change": price - price,
        "change_pct": 0,
        "trades": trades,
        "timestamp": iso_time(now),
    }
