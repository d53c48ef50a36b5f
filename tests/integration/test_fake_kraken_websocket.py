"""
The fake exchange's websocket v2, frame by frame: acks, snapshots, field sets, sequence, faults.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.fake_kraken import FakeKraken, VirtualClock
from tests.fake_kraken.client import TinyClient
from tests.fake_kraken.in_process import session_for
from tests.fake_kraken.wire import from_json
from tests.fake_kraken.ws import FakeConnection

# The table of Kraken's API, executions messages: what captures always show.
STATE = {"order_id", "exec_type", "order_status", "timestamp"}
FULL = STATE | {
    *("symbol", "side", "order_type", "order_qty", "limit_price", "limit_price_type", "stop_price"),
    *("time_in_force", "fee_ccy_pref", "cum_cost", "fee_usd_equiv"),
}
FILL = STATE | {
    *("symbol", "side", "order_type", "exec_id", "trade_id", "last_qty", "last_price", "cost"),
    *("liquidity_ind", "fees", "fee_usd_equiv"),
}
SO_FAR = {"cum_qty", "cum_cost", "avg_price"}
ENDED = STATE | SO_FAR | {"fee_usd_equiv", "reason"}


@pytest.fixture
def fake() -> FakeKraken:
    fake = FakeKraken(VirtualClock(), prices={"BTC/USD": "50000.0"})
    fake.limits.off()
    return fake


@pytest.fixture
def client(fake: FakeKraken) -> TinyClient:
    return TinyClient(session_for(fake))


def say(connection: FakeConnection, method: str, **params: Any) -> list[Any]:
    connection.receive(json.dumps({"method": method, "params": params, "req_id": 7}))
    return connection.frames()


def executions(fake: FakeKraken, client: TinyClient, **params: Any) -> FakeConnection:
    """A private connection with its subscription, and the first frames read."""
    connection = fake.connect(private=True)
    token = client.private("GetWebSocketsToken")["token"]
    say(connection, "subscribe", channel="executions", token=token, **params)
    return connection


def rows(connection: FakeConnection) -> list[dict[str, Any]]:
    return [row for message in connection.frames() for row in message["data"]]


def test_status_comes_first_and_on_every_change(fake: FakeKraken) -> None:
    connection = fake.connect(private=False)
    [status] = connection.frames()
    assert (status["channel"], status["data"][0]["system"]) == ("status", "online")
    assert status["data"][0]["connection_id"] > 2**53
    fake.set_status("cancel_only")
    assert connection.frames()[0]["data"][0]["system"] == "cancel_only"


def test_ticker_acks_one_by_one(fake: FakeKraken) -> None:
    connection = fake.connect(private=False)
    _, ack, snapshot, nack = say(connection, "subscribe", channel="ticker", symbol=["BTC/USD", "XBT/USD"])
    assert (ack["success"], ack["req_id"], ack["result"]["symbol"]) == (True, 7, "BTC/USD")
    assert (nack["success"], nack["error"]) == (False, "Currency pair not supported XBT/USD")
    fake.set_price("ETH/USD", "2000.00")
    fake.set_price("BTC/USD", "49999.9")
    [update] = connection.frames()
    assert set(update["data"][0]) == set(snapshot["data"][0])
    assert (update["type"], update["data"][0]["last"]) == ("update", Decimal("49999.9"))


def test_the_wrong_side_is_refused(fake: FakeKraken, client: TinyClient) -> None:
    public, private = fake.connect(private=False), fake.connect(private=True)
    assert "ws-auth.kraken.com" in say(public, "subscribe", channel="executions", token="x")[-1]["error"]
    assert "ws.kraken.com" in say(private, "subscribe", channel="ticker", symbol=["BTC/USD"])[-1]["error"]


def test_ping_and_heartbeat(fake: FakeKraken) -> None:
    connection = fake.connect(private=False)
    connection.frames()
    [pong] = say(connection, "ping")
    assert (pong["method"], pong["req_id"]) == ("pong", 7)
    fake.advance(1)
    fake.heartbeat()
    assert connection.frames() == []  # nothing is subscribed
    say(connection, "subscribe", channel="ticker", symbol=["BTC/USD"])
    fake.heartbeat()
    assert connection.frames() == []  # it has just spoken
    fake.advance(1)
    fake.heartbeat()
    assert connection.frames() == [{"channel": "heartbeat"}]


def test_an_idle_connection_is_closed_after_a_minute(fake: FakeKraken) -> None:
    connection = fake.connect(private=True)
    fake.advance(61)
    fake.heartbeat()
    assert connection.closed
    assert connection.frames()[-1] is None


def test_tokens(fake: FakeKraken, client: TinyClient) -> None:
    connection = fake.connect(private=True)
    connection.frames()
    [refused] = say(connection, "subscribe", channel="executions", token="invented")
    assert (refused["success"], refused["error"], refused["status"]) == (False, "ESession:Invalid session", "error")
    token = client.private("GetWebSocketsToken")["token"]
    fake.advance(901)
    assert say(connection, "subscribe", channel="executions", token=token)[0]["success"] is False
    token = client.private("GetWebSocketsToken")["token"]
    ack, snapshot = say(connection, "subscribe", channel="executions", token=token, snap_orders=True)
    assert (ack["success"], ack["result"]["maxratecount"]) == (True, 125)
    assert snapshot == {"channel": "executions", "type": "snapshot", "data": [], "sequence": 1}
    fake.advance(901)  # in use, so it stays good
    assert say(fake.connect(private=True), "subscribe", channel="executions", token=token)[1]["success"] is True


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("reference", ["order_userref", "cl_ord_id"])
def test_the_field_sets_are_those_of_captures(
    fake: FakeKraken, client: TinyClient, reference: str, optional: bool
) -> None:
    fake.optional_fields = optional
    connection = executions(fake, client)
    known = {"userref": 7} if reference == "order_userref" else {"cl_ord_id": "grid-1"}
    [txid] = client.add("buy", "0.00202", "49504.9", oflags="post,fciq", **known)["txid"]
    pending, new = rows(connection)
    fake.fill(txid, "0.001")
    [trade] = rows(connection)
    other = fake.connect(private=True)
    token = client.private("GetWebSocketsToken")["token"]
    [order] = say(other, "subscribe", channel="executions", token=token)[-1]["data"]
    client.private("CancelOrder", txid=txid)
    [canceled] = rows(connection)
    flags = {"post_only"} if optional else set()
    in_trade = {reference} if optional or reference == "order_userref" else set()

    assert set(pending) == FULL | {reference} | flags
    assert set(new) == STATE | {reference} | flags
    assert set(trade) == FILL | SO_FAR | in_trade
    assert set(order) == FULL | {reference} | flags | ({"cum_qty", "avg_price"} if optional else set())
    assert set(canceled) == ENDED | {reference} | flags | ({"cancel_reason"} if optional else set())
    assert (canceled["reason"], canceled["cum_qty"]) == ("User requested", Decimal("0.001"))
    assert (trade["order_status"], order["order_status"]) == ("partially_filled", "partially_filled")
    assert trade["fees"] == [{"asset": "USD", "qty": Decimal("0.12376")}]


def test_numbers_carry_every_digit_of_the_pair(fake: FakeKraken, client: TinyClient) -> None:
    frames: list[Any] = []
    connection = fake.connect(private=True, send=frames.append)
    token = client.private("GetWebSocketsToken")["token"]
    connection.receive(json.dumps({"method": "subscribe", "params": {"channel": "executions", "token": token}}))
    client.add("buy", "0.00202", "49500", userref=7)
    assert '"order_qty":0.00202000' in frames[-2]
    assert '"limit_price":49500.0' in frames[-2]


def test_trades_of_the_snapshot_are_filled_and_uncumulated(fake: FakeKraken, client: TinyClient) -> None:
    [txid] = client.add("buy", "0.002", "49000", userref=7)["txid"]
    fake.fill(txid, "0.001")
    connection = fake.connect(private=True)
    token = client.private("GetWebSocketsToken")["token"]
    frames = say(connection, "subscribe", channel="executions", token=token, snap_orders=False, snap_trades=True)
    [row] = frames[-1]["data"]
    assert set(row) == FILL | {"order_userref"}
    assert row["order_status"] == "filled"
    assert fake.orders[txid].is_open


def test_the_last_fill_in_both_variants(fake: FakeKraken, client: TinyClient) -> None:
    connection = executions(fake, client)
    [one] = client.add("buy", "0.001", "49000")["txid"]
    [two] = client.add("buy", "0.001", "49000")["txid"]
    connection.frames()
    fake.fill(one)
    assert [(row["exec_type"], row["order_status"]) for row in rows(connection)] == [("trade", "filled")]
    fake.separate_filled = True
    fake.fill(two)
    trade, filled = rows(connection)
    assert (trade["order_status"], filled["exec_type"], "exec_id" in filled) == ("partially_filled", "filled", False)


def test_post_only_that_crossed_is_told_as_canceled(fake: FakeKraken, client: TinyClient) -> None:
    connection = executions(fake, client)
    client.add("buy", "0.001", "50000.0", oflags="post")
    assert [row["exec_type"] for row in rows(connection)] == ["pending_new", "canceled"]


def test_orders_of_others_are_told_too_and_the_sequence_counts(fake: FakeKraken, client: TinyClient) -> None:
    connection = executions(fake, client)
    order = fake.place_by_hand("ETH/USD", "buy", "1", "2000", userref=99)
    fake.cancel(order.txid)
    messages = connection.frames()
    assert [m["sequence"] for m in messages] == [2, 3, 4]
    assert messages[0]["data"][0]["order_userref"] == 99


def test_order_status_false_leaves_only_trades(fake: FakeKraken, client: TinyClient) -> None:
    connection = executions(fake, client, order_status=False)
    order = fake.place_by_hand("BTC/USD", "buy", "0.001", "49000")
    fake.fill(order.txid)
    assert [row["exec_type"] for row in rows(connection)] == ["trade"]


class TestFaults:
    def sequence(self, fake: FakeKraken, connection: FakeConnection) -> list[int]:
        """Three events: numbers 2, 3 and 4."""
        order = fake.place_by_hand("BTC/USD", "buy", "0.001", "49000")
        fake.fill(order.txid)
        return [message["sequence"] for message in connection.frames()]

    @pytest.mark.parametrize(
        ("fault", "arguments", "seen"),
        [
            ("lose", (1,), [3, 4]),
            ("lose", (1, False), [2, 3]),
            ("double", (1,), [2, 2, 3, 4]),
            ("swap", (2,), [3, 2, 4]),
            ("swap", (3,), [4, 3, 2]),
        ],
    )
    def test_lost_doubled_and_swapped_messages(
        self, fake: FakeKraken, client: TinyClient, fault: str, arguments: tuple[Any, ...], seen: list[int]
    ) -> None:
        connection = executions(fake, client)
        getattr(fake.faults, fault)(*arguments)
        assert self.sequence(fake, connection) == seen

    def test_a_message_may_come_later_than_the_reply(self, fake: FakeKraken, client: TinyClient) -> None:
        connection = executions(fake, client)
        fake.faults.executions_delay = 2
        assert self.sequence(fake, connection) == []
        fake.advance(2)
        assert [message["sequence"] for message in connection.frames()] == [2, 3, 4]

    def test_silence_half_open_drop_garbage(self, fake: FakeKraken, client: TinyClient) -> None:
        connection = executions(fake, client)
        fake.send_garbage("{nonsense", private=True)
        assert connection.out.popleft() == "{nonsense"
        fake.silence(private=True)
        assert self.sequence(fake, connection) == []
        fake.silence(private=True, silent=False)
        fake.half_open(private=True)
        assert say(connection, "ping") == []
        assert fake.drop_sockets(private=True) == 1
        assert connection.frames() == [None]
        assert connection not in fake.connections

    def test_refused_tokens_and_connections(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.faults.refuse_token()
        fake.faults.refuse_connections()
        with pytest.raises(ConnectionRefusedError):
            fake.connect(private=True)
        connection = fake.connect(private=True)
        token = client.private("GetWebSocketsToken")["token"]
        assert say(connection, "subscribe", channel="executions", token=token)[-1]["success"] is False
        assert say(connection, "subscribe", channel="executions", token=token)[0]["success"] is True


def test_nonsense_from_the_client_is_answered(fake: FakeKraken) -> None:
    connection = fake.connect(private=False)
    for text in ("{", "[]", "1", '{"method":"subscribe","params":{"channel":"ticker"}}', '{"method":"buy_all"}'):
        connection.receive(text)
        assert connection.frames()[-1]["success"] is False
    assert from_json('{"a":0.1}')["a"] == Decimal("0.1")
