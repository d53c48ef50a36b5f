"""
The fake exchange's own rules: a fake that is wrong makes every test above it worthless.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.fake_kraken import TEST_SECRET, ApiKey, FakeKraken, Reply, VirtualClock, signature
from tests.fake_kraken.client import KrakenRefused, TinyClient
from tests.fake_kraken.in_process import session_for
from tests.fake_kraken.wire import from_json, iso_time

USERREF = 1680953421


@pytest.fixture
def fake() -> FakeKraken:
    fake = FakeKraken(VirtualClock(), balances={"ZUSD": "10000", "XXBT": "1"}, prices={"BTC/USD": "50000.0"})
    fake.limits.off()
    return fake


@pytest.fixture
def client(fake: FakeKraken) -> TinyClient:
    return TinyClient(session_for(fake))


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(KrakenRefused) as info:
        action()
    return str(info.value)


class TestAuthentication:
    def test_the_published_signature_is_reproduced(self) -> None:
        body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
        assert signature("/0/private/AddOrder", "1616492376594", body, TEST_SECRET) == (
            "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
        )

    def test_a_json_body_is_signed_by_the_same_formula(self, fake: FakeKraken) -> None:
        body = (
            '{"nonce": "1616492376594", "ordertype": "limit", "pair": "XBTUSD", "price": 37500, '
            '"type": "buy", "volume": 1.25}'
        )
        sign = "xojekerxRL59CSvi3027oZ1+nMQF0TgqD5QE569qR8tgSJ4tAhoVYVGhSEciXkufsn6foHHVi0N3Utiarvg74w=="
        headers = {"API-Key": "fake-public-key", "API-Sign": sign, "Content-Type": "application/json"}
        fake.deposit("ZUSD", "90000")
        fake.set_price("BTC/USD", "40000.0")
        reply = fake.handle_http("POST", "/0/private/AddOrder", headers, body)
        assert isinstance(reply, Reply)
        assert reply.status == 200
        assert from_json(reply.body)["result"]["descr"] == {"order": "buy 1.25000000 XBTUSD @ limit 37500.0"}

    def test_wrong_secret_and_unknown_key(self, fake: FakeKraken) -> None:
        session = session_for(fake)
        assert refusal(lambda: TinyClient(session, key="x").private("Balance")) == "EAPI:Invalid key"
        assert refusal(lambda: TinyClient(session, secret="AAAA").private("Balance")) == "EAPI:Invalid signature"

    def test_a_nonce_must_rise_and_a_refused_one_is_not_used_up(self, client: TinyClient) -> None:
        client.private("Balance", nonce=100)
        assert refusal(lambda: client.private("Balance", nonce=100)) == "EAPI:Invalid nonce"
        assert refusal(lambda: client.private("Balance", nonce=99)) == "EAPI:Invalid nonce"
        client.private("Balance", nonce=101)
        assert refusal(lambda: client.private("Balance", nonce=2**64)) == "EAPI:Invalid nonce"

    def test_nonces_are_per_key(self) -> None:
        fake = FakeKraken(VirtualClock(), keys=[ApiKey("a"), ApiKey("b")])
        one, other = TinyClient(session_for(fake), key="a"), TinyClient(session_for(fake), key="b")
        one.private("Balance", nonce=500)
        other.private("Balance", nonce=3)

    def test_permissions(self) -> None:
        fake = FakeKraken(VirtualClock(), keys=[ApiKey("a", permissions=frozenset({"query-funds"}))])
        client = TinyClient(session_for(fake), key="a")
        client.private("BalanceEx")
        for method in (
            "OpenOrders",
            "ClosedOrders",
            "AddOrder",
            "CancelOrder",
            "GetWebSocketsToken",
            "WithdrawMethods",
        ):
            assert refusal(functools.partial(client.private, method)) == "EGeneral:Permission denied"
        assert client.private("GetApiKeyInfo")["permissions"] == ["query-funds"]
        assert refusal(lambda: client.private("Nonsense")) == "EGeneral:Unknown method"

    def test_ten_bad_calls_lock_the_key_for_a_quarter_of_an_hour(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.limits.lockouts = True
        client.private("Balance", nonce=100)
        for _ in range(10):
            refusal(lambda: client.private("Balance", nonce=1))
        assert refusal(lambda: client.private("Balance", nonce=200)) == "EGeneral:Temporary lockout"
        fake.advance(901)
        client.private("Balance", nonce=300)


class TestOrders:
    def test_a_resting_buy_holds_cost_and_fee_and_a_fill_pays_them(self, fake: FakeKraken, client: TinyClient) -> None:
        [txid] = client.add("buy", "0.00202", "49504.9", userref=USERREF, oflags="post,fciq")["txid"]
        # 0.00202 x 49504.9 = 99.999898, x 0.0025 = 0.249999745; held up to the next 0.00001
        assert fake.ledger.holds["ZUSD"] == Decimal("99.99990") + Decimal("0.25000")
        assert client.private("BalanceEx")["ZUSD"] == {"balance": "10000.0000", "hold_trade": "100.24990"}
        row = client.private("OpenOrders", userref=USERREF)["open"][txid]
        assert (row["vol"], row["descr"]["price"], row["descr"]["pair"]) == ("0.00202000", "49504.9", "XBTUSD")
        fake.fill(txid, "0.001")
        assert client.private("OpenOrders", trades="true")["open"][txid]["vol_exec"] == "0.00100000"
        fake.set_price("BTC/USD", "49504.9")
        closed = client.private("ClosedOrders", userref=USERREF, trades="true")
        assert (closed["count"], closed["closed"][txid]["status"], len(closed["closed"][txid]["trades"])) == (
            1,
            "closed",
            2,
        )
        assert fake.balances["XXBT"] == Decimal("1.00202")
        assert fake.balances["ZUSD"] == Decimal(10000) - fake.orders[txid].cost - fake.orders[txid].fee
        assert fake.ledger.holds["ZUSD"] == 0
        fake.audit()

    def test_a_resting_sell_holds_its_volume(self, fake: FakeKraken, client: TinyClient) -> None:
        client.add("sell", "0.6", "51000")
        assert fake.available("XXBT") == Decimal("0.4")
        assert refusal(lambda: client.add("sell", "0.40000001", "51000")) == "EOrder:Insufficient funds"
        client.add("sell", "0.4", "51000")

    def test_a_move_fills_what_it_reaches_best_price_first(self, fake: FakeKraken, client: TinyClient) -> None:
        for price in ("48000", "49000", "49500", "47000"):
            client.add("buy", "0.001", price)
        trades = fake.set_price("BTC/USD", "48000.0")
        assert [trade.price for trade in trades] == [Decimal(49500), Decimal(49000), Decimal(48000)]
        assert all(trade.maker for trade in trades)
        assert [order.price for order in fake.open_orders()] == [Decimal(47000)]

    def test_a_crossing_order_takes_at_the_last_price_and_pays_the_taker_fee(
        self, fake: FakeKraken, client: TinyClient
    ) -> None:
        [txid] = client.add("buy", "0.01", "50100")["txid"]
        order = fake.orders[txid]
        assert (order.status, order.cost, order.fee) == ("closed", Decimal(500), Decimal("2"))
        [txid] = client.add("sell", "0.01")["txid"]
        assert client.private("QueryOrders", txid=txid)[txid]["price"] == "50000.0"

    @pytest.mark.parametrize(("side", "price"), [("buy", "50000.0"), ("sell", "50000.0"), ("buy", "50000.1")])
    def test_post_only_that_would_cross_in_both_variants(
        self, fake: FakeKraken, client: TinyClient, side: str, price: str
    ) -> None:
        [txid] = client.add(side, "0.001", price, oflags="post")["txid"]
        row = client.private("QueryOrders", txid=txid)[txid]
        assert (row["status"], row["reason"], row["vol_exec"]) == ("canceled", "Post only order", "0.00000000")
        fake.post_only_mode = "error"
        assert refusal(lambda: client.add(side, "0.001", price, oflags="post")) == "EOrder:Post only order"
        assert len(fake.orders) == 1
        assert not fake.trades

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"volume": "0.00004"}, "EOrder:Order minimum not met"),
            ({"pair": "XDGUSD", "volume": "13", "price": "0.0300000"}, "EOrder:Cost minimum not met"),
            (
                {"price": "49000.01"},
                "EOrder:Invalid price:XXBTZUSD price can only be specified up to 1 decimals.",
            ),
            ({"volume": "0.001000001"}, "EGeneral:Invalid arguments:volume"),
            ({"volume": "1E-3"}, "EGeneral:Invalid arguments:volume"),
            ({"pair": "XBT/USD"}, "EQuery:Unknown asset pair"),
            ({"pair": "AAPLxUSD"}, "EQuery:Unknown asset pair"),
            ({"type": "hold"}, "EGeneral:Invalid arguments:type"),
            ({"validate": "True"}, "EGeneral:Invalid arguments"),
            ({"userref": 2**31}, "EGeneral:Invalid arguments:userref"),
            ({"cl_ord_id": "x" * 19}, "EGeneral:Invalid arguments:cl_ord_id"),
            ({"userref": 1, "cl_ord_id": "x"}, "EGeneral:Invalid arguments:userref and cl_ord_id exclude each other"),
            ({"oflags": "fciq,fcib"}, "EGeneral:Invalid arguments:oflags"),
            ({"volume": "1"}, "EOrder:Insufficient funds"),
        ],
    )
    def test_refusals(self, fake: FakeKraken, client: TinyClient, change: dict[str, Any], error: str) -> None:
        order = {"ordertype": "limit", "type": "buy", "pair": "XBTUSD", "volume": "0.001", "price": "49000"} | change
        assert refusal(lambda: client.private("AddOrder", **order)) == error
        assert not fake.orders

    def test_a_coarser_tick_than_the_decimals(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.pair("BTC/USD").tick_size = Decimal("0.5")
        assert refusal(lambda: client.add("buy", "0.001", "49000.1")) == "EOrder:Tick size check failed"

    def test_validate_looks_at_everything_but_the_funds(self, fake: FakeKraken, client: TinyClient) -> None:
        answer = client.add("buy", "10", "49000", validate="true")
        assert answer == {"descr": {"order": "buy 10.00000000 XBTUSD @ limit 49000.0"}}
        assert not fake.orders

    def test_deadline(self, fake: FakeKraken, client: TinyClient) -> None:
        def add(seconds: float) -> Any:
            return client.add("buy", "0.001", "49000", deadline=iso_time(fake.clock.time() + seconds))

        assert refusal(lambda: add(61)) == "EGeneral:Invalid arguments:deadline"
        assert refusal(lambda: add(1)) == "EGeneral:Invalid arguments:deadline"
        assert refusal(lambda: add(-1)) == "EService:Deadline elapsed"
        add(5)
        fake.faults.add("AddOrder", "delay_request", seconds=6)
        client.timeout = 60
        assert refusal(lambda: add(5)) == "EService:Deadline elapsed"
        assert len(fake.orders) == 1

    def test_a_client_id_is_unique_among_open_orders_only(self, fake: FakeKraken, client: TinyClient) -> None:
        [txid] = client.add("buy", "0.001", "49000", cl_ord_id="grid-1")["txid"]
        assert refusal(lambda: client.add("buy", "0.001", "49000", cl_ord_id="grid-1")) == fake.duplicate_error
        fake.fill(txid)
        client.add("buy", "0.001", "49000", cl_ord_id="grid-1")
        client.add("buy", "0.001", "49000", userref=7)
        client.add("buy", "0.001", "49000", userref=7)
        assert len(client.private("OpenOrders", userref=7)["open"]) == 2

    def test_cancel_by_txid_userref_and_client_id(self, fake: FakeKraken, client: TinyClient) -> None:
        [txid] = client.add("buy", "0.001", "49000", userref=7)["txid"]
        client.add("buy", "0.001", "48000", userref=7)
        client.add("buy", "0.001", "47000", cl_ord_id="mine")
        assert client.private("CancelOrder", txid=txid) == {"count": 1}
        assert refusal(lambda: client.private("CancelOrder", txid=txid)) == "EOrder:Unknown order"
        assert client.private("CancelOrder", txid=7) == {"count": 1}
        assert client.private("CancelOrder", cl_ord_id="mine") == {"count": 1}
        assert fake.open_orders() == []
        assert fake.ledger.holds["ZUSD"] == 0

    def test_market_modes(self, fake: FakeKraken, client: TinyClient) -> None:
        [txid] = client.add("buy", "0.001", "49000")["txid"]
        fake.set_status("post_only")
        fake.set_price("BTC/USD", "48000.0")
        assert refusal(lambda: client.add("sell", "0.001", "51000")) == "EService:Market in post_only mode"
        client.add("sell", "0.001", "51000", oflags="post")
        fake.set_status("cancel_only")
        assert client.public("SystemStatus")["status"] == "cancel_only"
        assert refusal(lambda: client.add("buy", "0.001", "45000")) == "EService:Market in cancel_only mode"
        fake.set_status("maintenance")
        assert refusal(lambda: client.private("CancelOrder", txid=txid)) == "EService:Unavailable"
        assert fake.orders[txid].is_open
        fake.set_status("online")
        assert fake.orders[txid].status == "closed"

    def test_immediate_or_cancel_and_good_till_date(self, fake: FakeKraken, client: TinyClient) -> None:
        [never] = client.add("buy", "0.001", "49000", timeinforce="IOC")["txid"]
        [today] = client.add("buy", "0.001", "49000", timeinforce="GTD", expiretm="+60")["txid"]
        assert (fake.orders[never].status, fake.orders[today].status) == ("expired", "open")
        fake.advance(61)
        assert fake.orders[today].status == "expired"
        fake.audit()


class TestQuestions:
    def test_names_of_pairs(self, client: TinyClient) -> None:
        for name in ("XBTUSD", "BTCUSD", "XXBTZUSD", "BTC/USD"):
            row = client.public("AssetPairs", pair=name)["XXBTZUSD"]
            assert (row["fees"], row["fees_maker"], row["ordermin"], row["tick_size"]) == ([], [], "0.00005", "0.1")
        assert refusal(lambda: client.public("AssetPairs", pair="XBT/USD")) == "EQuery:Unknown asset pair"
        assert refusal(lambda: client.public("AssetPairs", pair="AAPLxUSD")) == "EQuery:Unknown asset pair"
        assert "AAPLxUSD" in client.public("AssetPairs", pair="AAPLxUSD", aclass_base="tokenized_asset")
        assert client.public("Ticker", pair="XBTUSD")["XXBTZUSD"]["c"][0] == "50000.00000"
        assert set(client.public("Assets", asset="XBT,ZUSD")) == {"XXBT", "ZUSD"}

    def test_closed_orders_come_newest_first_fifty_a_page(self, fake: FakeKraken, client: TinyClient) -> None:
        txids = []
        for _ in range(60):
            [txid] = client.add("buy", "0.0001", "49000", userref=7)["txid"]
            fake.advance(1)
            fake.cancel(txid)
            txids.append(txid)
        page = client.private("ClosedOrders", userref=7)
        assert (list(page["closed"]), page["count"]) == (txids[:9:-1], 60)
        assert list(client.private("ClosedOrders", ofs=50, userref=7)["closed"]) == txids[9::-1]
        start = fake.orders[txids[40]].opentm
        later = client.private("ClosedOrders", start=start, closetime="open")
        assert list(later["closed"]) == txids[:40:-1]
        assert "count" not in client.private("ClosedOrders", without_count="true")

    def test_the_fee_is_told_by_trade_volume_alone(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.set_fees("0.16", "0.26")
        answer = client.private("TradeVolume", pair="XBTUSD", fee_schedule="true")
        assert answer["fees_maker"]["XBTUSD"]["fee"] == "0.1600"
        assert answer["schedules"][0]["tiers"][0] == {"maker_fee": "0.1600", "taker_fee": "0.2600", "active": True}
        assert refusal(lambda: client.private("TradeVolume", fee_schedule="True")) == "EGeneral:Invalid arguments"

    def test_auto_earn_shows_the_hold_without_the_balance(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.auto_earn = {"XXBT"}
        client.add("sell", "0.25", "51000")
        rows = client.private("BalanceEx")
        assert rows["XXBT"] == {"balance": "0.0000000000", "hold_trade": "0.2500000000"}
        assert rows["XBT.F"] == {"balance": "1.0000000000", "hold_trade": "0.0000000000"}

    def test_rest_behind_the_websocket(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.advance(100)
        fake.rest_lag = 30
        [txid] = client.add("buy", "0.001", "49000")["txid"]
        assert client.private("OpenOrders") == {"open": {}}
        assert client.private("QueryOrders", txid=txid) == {}
        assert client.private("BalanceEx")["ZUSD"]["hold_trade"] == "0.0000"
        fake.advance(31)
        fake.fill(txid)
        assert list(client.private("OpenOrders")["open"]) == [txid]
        assert client.private("ClosedOrders")["count"] == 0
        fake.advance(31)
        assert client.private("ClosedOrders")["count"] == 1

    def test_trades(self, fake: FakeKraken, client: TinyClient) -> None:
        [txid] = client.add("buy", "0.001", "49000")["txid"]
        trade = fake.fill(txid)
        row = client.private("TradesHistory")["trades"][trade.id]
        assert (row["ordertxid"], row["pair"], row["maker"], row["fee"]) == (txid, "XXBTZUSD", True, "0.12250")
        assert client.private("QueryTrades", txid=trade.id) == {trade.id: row}


class TestLimits:
    def test_the_rest_counter_and_its_decay(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.limits.rest = True
        for _ in range(5):
            client.private("ClosedOrders")
        assert refusal(lambda: client.private("Balance")) == "EAPI:Rate limit exceeded"
        client.add("buy", "0.001", "49000")
        fake.advance(2)
        client.private("Balance")

    def test_young_cancels_are_dear(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.limits.engine, fake.limits.tier = True, "starter"
        for _ in range(7):  # each round costs 1 + 8 of 60
            [txid] = client.add("buy", "0.001", "49000")["txid"]
            client.private("CancelOrder", txid=txid)
        assert fake.limits.engine_level("XXBTZUSD", fake.clock.time()) == 63
        assert refusal(lambda: client.add("buy", "0.001", "49000")) == "EOrder:Rate limit exceeded"
        fake.advance(4)
        [txid] = client.add("buy", "0.001", "49000")["txid"]
        fake.advance(300)
        client.private("CancelOrder", txid=txid)
        assert fake.limits.engine_level("XXBTZUSD", fake.clock.time()) == 0

    def test_open_orders_per_pair(self, fake: FakeKraken, client: TinyClient) -> None:
        fake.limits.engine, fake.limits.tier = True, "starter"
        for _ in range(60):
            client.add("buy", "0.0001", "49000")
            fake.advance(1)
        assert refusal(lambda: client.add("buy", "0.0001", "49000")) == "EOrder:Orders limit exceeded"
