"""
Clients that nobody here wrote, against the fake over real sockets: ccxt and python-kraken-sdk.

Skipped only where the packages are not installed; they are no dependency of the bot.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.fake_kraken import TEST_KEY, TEST_SECRET, FakeKraken
from tests.fake_kraken.server import FakeKrakenServer

PATIENCE = 8.0


@pytest.fixture
def server() -> Iterator[FakeKrakenServer]:
    fake = FakeKraken(balances={"ZUSD": "10000", "XXBT": "1"}, prices={"BTC/USD": "50000.0"})
    fake.strict_booleans = False  # both clients write Python's True and False into some forms
    with FakeKrakenServer(fake) as server:
        yield server


def installed(name: str) -> Any:
    """The module; a skip only when the package is absent, not when it is broken."""
    pytest.importorskip(name.partition(".")[0])
    return importlib.import_module(name)


class TestCcxt:
    @pytest.fixture
    def kraken(self, server: FakeKrakenServer) -> Any:
        ccxt = installed("ccxt")
        kraken = ccxt.kraken({"apiKey": TEST_KEY, "secret": TEST_SECRET, "enableRateLimit": False, "timeout": 5000})
        kraken.urls["api"] = {name: server.rest_url for name in kraken.urls["api"]}
        kraken.session.trust_env = False
        return kraken

    def test_markets(self, kraken: Any) -> None:
        market = kraken.load_markets()["BTC/USD"]
        assert (market["id"], market["base"], market["quote"], market["spot"]) == ("XXBTZUSD", "BTC", "USD", True)
        assert (market["precision"]["price"], market["limits"]["amount"]["min"]) == (0.1, 0.00005)
        assert kraken.market("ETH/BTC")["id"] == "XETHXXBT"
        assert kraken.market("DOGE/USD")["id"] == "XDGUSD"

    def test_status_time_and_prices(self, kraken: Any, server: FakeKrakenServer) -> None:
        assert kraken.fetch_status()["status"] == "ok"
        assert abs(kraken.fetch_time() / 1000 - server.fake.clock.time()) < 2
        assert kraken.fetch_ticker("BTC/USD")["last"] == 50000.0
        assert len(kraken.fetch_ohlcv("BTC/USD", "1h", limit=10)) > 0
        assert kraken.fetch_trades("BTC/USD")[0]["price"] == 50000.0

    def test_balances(self, kraken: Any) -> None:
        kraken.create_order("BTC/USD", "limit", "sell", 0.25, 51000)
        balance = kraken.fetch_balance()
        assert balance["USD"]["total"] == 10000.0
        assert (balance["BTC"]["total"], balance["BTC"]["used"], balance["BTC"]["free"]) == (1.0, 0.25, 0.75)

    def test_an_order_from_placing_to_its_trades(self, kraken: Any, server: FakeKrakenServer) -> None:
        placed = kraken.create_order("BTC/USD", "limit", "buy", 0.002, 49000, {"userref": 7, "postOnly": True})
        order = server.fake.orders[placed["id"]]
        assert (order.userref, order.post_only, order.price) == (7, True, Decimal(49000))
        [shown] = kraken.fetch_open_orders("BTC/USD")
        assert (shown["id"], shown["status"], shown["remaining"], shown["price"]) == (
            placed["id"],
            "open",
            0.002,
            49000.0,
        )
        server.fake.fill(order.txid, "0.0005")
        assert kraken.fetch_order(placed["id"], "BTC/USD")["filled"] == 0.0005
        server.fake.set_price("BTC/USD", "49000.0")
        [closed] = kraken.fetch_closed_orders("BTC/USD")
        assert (closed["status"], closed["filled"], closed["average"], closed["cost"]) == (
            "closed",
            0.002,
            49000.0,
            98.0,
        )
        assert (Decimal(closed["fee"]["cost"]), closed["fee"]["currency"]) == (Decimal("0.245"), "USD")
        trades = kraken.fetch_my_trades("BTC/USD")
        assert sorted(trade["amount"] for trade in trades) == [0.0005, 0.0015]  # in one millisecond they have no order
        assert {trade["order"] for trade in trades} == {placed["id"]}
        assert trades[0]["takerOrMaker"] == "maker"
        server.fake.audit()

    def test_cancelling(self, kraken: Any, server: FakeKrakenServer) -> None:
        ccxt = installed("ccxt")
        placed = kraken.create_order("BTC/USD", "limit", "buy", 0.002, 49000)
        kraken.cancel_order(placed["id"])
        assert server.fake.orders[placed["id"]].status == "canceled"
        with pytest.raises(ccxt.OrderNotFound):
            kraken.cancel_order(placed["id"])
        [closed] = kraken.fetch_closed_orders("BTC/USD")
        assert closed["status"] == "canceled"

    def test_fees(self, kraken: Any) -> None:
        fee = kraken.fetch_trading_fee("BTC/USD")
        assert (fee["maker"], fee["taker"]) == (0.0025, 0.004)

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("InsufficientFunds", "EOrder:Insufficient funds"),
            ("DDoSProtection", "EAPI:Rate limit exceeded"),
            ("ExchangeNotAvailable", "EService:Unavailable"),
            ("InvalidNonce", "EAPI:Invalid nonce"),
            ("PermissionDenied", "EGeneral:Permission denied"),
        ],
    )
    def test_it_knows_our_errors(self, kraken: Any, server: FakeKrakenServer, name: str, error: str) -> None:
        kraken.load_markets()
        server.fake.faults.add("AddOrder", "error", error=error)
        with pytest.raises(getattr(installed("ccxt"), name)):
            kraken.create_order("BTC/USD", "limit", "buy", 0.002, 49000)

    def test_refused_for_real(self, kraken: Any, server: FakeKrakenServer) -> None:
        ccxt = installed("ccxt")
        with pytest.raises(ccxt.InsufficientFunds):
            kraken.create_order("BTC/USD", "limit", "buy", 1, 49000)
        server.fake.faults.add("AddOrder", "drop_reply")
        with pytest.raises(ccxt.NetworkError):
            kraken.create_order("BTC/USD", "limit", "buy", 0.002, 49000)
        assert len(server.fake.open_orders()) == 1


class TestKrakenSdk:
    def client(self, server: FakeKrakenServer, name: str) -> Any:
        spot = installed("kraken.spot")
        return getattr(spot, name)(key=TEST_KEY, secret=TEST_SECRET, url=server.rest_url)

    def test_market(self, server: FakeKrakenServer) -> None:
        market = installed("kraken.spot").Market(url=server.rest_url)
        assert market.get_system_status()["status"] == "online"
        assert market.get_asset_pairs(pair="BTC/USD")["XXBTZUSD"]["fees_maker"] == []
        assert market.get_ticker(pair="XBTUSD")["XXBTZUSD"]["c"][0] == "50000.00000"
        assert len(market.get_ohlc(pair="XBTUSD", interval=60)["XXBTZUSD"]) == 720
        assert market.get_assets(assets=["XBT"])["XXBT"]["altname"] == "XBT"

    def test_an_order_from_placing_to_its_trades(self, server: FakeKrakenServer) -> None:
        user, trade = self.client(server, "User"), self.client(server, "Trade")
        # The two share a key: one nonce must be larger than the other's last, and both count in time.
        answer = trade.create_order(
            ordertype="limit",
            side="buy",
            pair="XBTUSD",
            volume="0.002",
            price="49000",
            userref=7,
            oflags=["post", "fciq"],
        )
        [txid] = answer["txid"]
        assert answer["descr"]["order"] == "buy 0.00200000 XBTUSD @ limit 49000.0"
        assert user.get_open_orders(userref=7)["open"][txid]["oflags"] == "post,fciq"
        server.fake.set_price("BTC/USD", "48000.0")
        assert user.get_closed_orders(userref=7)["closed"][txid]["status"] == "closed"
        assert user.get_orders_info(txid=txid, trades=True)[txid]["vol_exec"] == "0.00200000"
        [row] = user.get_trades_history()["trades"].values()
        assert (row["ordertxid"], row["cost"], row["fee"]) == (txid, "98.00000", "0.24500")
        assert user.get_account_balance() == {"XXBT": "1.0020000000", "ZUSD": "9901.75500"}
        assert user.get_trade_volume(pair="XBTUSD")["fees_maker"]["XBTUSD"]["fee"] == "0.2500"

    def test_cancelling_and_its_errors(self, server: FakeKrakenServer) -> None:
        exceptions = installed("kraken.exceptions")
        trade = self.client(server, "Trade")
        order = {"ordertype": "limit", "side": "buy", "pair": "XBTUSD", "volume": "0.002", "price": "49000"}
        [txid] = trade.create_order(**order)["txid"]
        assert trade.cancel_order(txid=txid) == {"count": 1}
        with pytest.raises(exceptions.KrakenUnknownOrderError):
            trade.cancel_order(txid=txid)
        with pytest.raises(exceptions.KrakenInsufficientFundsError):
            trade.create_order(**order | {"volume": "5"})
        server.fake.faults.add("AddOrder", "error", error="EAPI:Invalid nonce")
        with pytest.raises(exceptions.KrakenInvalidNonceError):
            trade.create_order(**order)
        assert "txid" not in trade.create_order(**order, validate=True)

    def test_feed(self, server: FakeKrakenServer) -> None:
        spot = installed("kraken.spot")
        seen: list[dict[str, Any]] = []

        async def heard(found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            for _ in range(int(PATIENCE / 0.02)):
                for message in seen:
                    if found(message):
                        return message
                await asyncio.sleep(0.02)
            raise AssertionError(f"not heard; there were {seen}")

        async def remember(message: dict[str, Any]) -> None:
            seen.append(message)

        async def story() -> None:
            client = spot.SpotWSClient(
                key=TEST_KEY,
                secret=TEST_SECRET,
                callback=remember,
                rest_url=server.rest_url,
                ws_url=f"ws://127.0.0.1:{server.port}",
                auth_ws_url=f"ws://127.0.0.1:{server.port}/auth",
            )
            await client.start()
            await client.subscribe(params={"channel": "ticker", "symbol": ["BTC/USD"]})
            await client.subscribe(params={"channel": "executions", "snap_orders": True})
            await heard(lambda m: m.get("channel") == "ticker" and m["type"] == "snapshot")
            await heard(lambda m: m.get("channel") == "executions" and m["type"] == "snapshot")
            order = server.fake.place_by_hand("BTC/USD", "buy", "0.002", "49000", userref=7)
            server.fake.set_price("BTC/USD", "48500.0")
            trade = await heard(
                lambda m: m.get("channel") == "executions" and m["data"][-1:] != [] and "exec_id" in m["data"][0]
            )
            assert (trade["data"][0]["order_id"], trade["sequence"]) == (order.txid, 4)
            ticker = await heard(lambda m: m.get("channel") == "ticker" and m["type"] == "update")
            assert ticker["data"][0]["last"] == 48500.0
            assert any(m.get("method") == "pong" for m in seen)
            await client.close()

        asyncio.run(story())
