"""Paper trade: Kraken's prices from outside, everything else from the simulated exchange."""

from decimal import Decimal
from pathlib import Path

import pytest

from gridbot.adapters.exchanges.paper import PaperExchange
from gridbot.adapters.exchanges.simulated_feed import Frame
from gridbot.exceptions import PlacementPaused, TemporaryFailure
from gridbot.interfaces.exchange import Exchange, ExchangeSetup
from gridbot.models.configuration import PaperConfigDTO, Settings
from gridbot.models.exchange import OnMessageSchema, TickerUpdateSchema
from tests.unit.test_demo_market import USERREF, FixedClock, settings_for
from tests.unit.test_simulated import PAIR

PUBLIC = {
    "check_exchange_status",
    "get_system_status",
    "get_server_time",
    "get_asset_pair_info",
    "get_last_price",
    "rest_symbol",
    "rest_altname",
    "ws_symbol",
    "close",
}


class PublicRest:
    """Kraken without a key: what is not public is not even there."""

    rest_symbol = "BTC/USD"
    rest_altname = "XBTUSD"
    ws_symbol = "BTC/USD"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.last = Decimal("50000.0")
        self.server_time = 1_800_000_000.0
        self.pair = PAIR

    def __getattr__(self, name: str):
        raise AssertionError(f"paper must not ask Kraken for {name}")

    def check_exchange_status(self, tries: int = 0) -> None:
        self.asked.append("status")

    def get_system_status(self) -> str:
        return "maintenance"

    def get_server_time(self) -> float:
        return self.server_time

    def get_asset_pair_info(self):
        self.asked.append("pair")
        return self.pair

    def get_last_price(self) -> Decimal:
        return self.last

    def close(self) -> None:
        self.asked.append("closed")


class PublicFeed:
    """A feed whose frames are prices."""

    def __init__(self) -> None:
        self.subscribed: list[dict] = []
        self.started = self.closed = 0

    def get_required_subscriptions(self, rest_api) -> list[dict]:
        return [{"channel": "ticker"}]

    def subscribe(self, params) -> None:
        self.subscribed.append(params)

    def start(self, put) -> None:
        self.started += 1

    def on_message(self, frame) -> list[OnMessageSchema]:
        if frame == "heartbeat":
            return []
        symbol, price, time = frame
        ticker = TickerUpdateSchema(symbol=symbol, last=Decimal(price), time=time)
        return [OnMessageSchema(channel="ticker", type="update", ticker_data=ticker)]

    def close(self) -> None:
        self.closed += 1


class Paper:
    """One paper exchange with its two public halves at hand."""

    def __init__(self, path: Path, **changes) -> None:
        self.public, self.public_feed, self.clock = PublicRest(), PublicFeed(), FixedClock()
        settings = settings_for(path, **{"exchange": "Kraken", **changes})
        settings = Settings(
            bot=settings.bot, db=settings.db, paper=PaperConfigDTO(base_balance="0.5", quote_balance="1000")
        )
        factory = PaperExchange(lambda setup: Exchange(self.public, self.public_feed))
        built = factory.create(ExchangeSetup(settings, self.clock))
        self.simulated, self.rest, self.feed = built.simulated, built.rest, built.feed

    def price(self, price: str, time: float = 1_800_000_100.0, symbol: str = "BTC/USD") -> list[OnMessageSchema]:
        return self.feed.on_message((symbol, price, time))

    def buy(self, price: str) -> str:
        return self.rest.create_order(
            ordertype="limit",
            side="buy",
            price=Decimal(price),
            volume=Decimal("0.002"),
            userref=USERREF,
            oflags="post,fciq",
        ).txid


@pytest.fixture
def paper(tmp_path):
    paper = Paper(tmp_path)
    yield paper
    paper.rest.close()


def test_building_it_asks_nobody_anything(tmp_path):
    paper = Paper(tmp_path)
    assert paper.public.asked == []
    assert list(tmp_path.iterdir()) == []
    assert paper.simulated


def test_public_questions_go_to_kraken_and_money_is_play_money(paper):
    assert paper.rest.get_system_status() == "maintenance"
    assert paper.rest.get_server_time() == 1_800_000_000.0
    assert paper.rest.get_asset_pair_info() == PAIR
    assert (paper.rest.rest_symbol, paper.rest.rest_altname) == ("BTC/USD", "XBTUSD")
    assert paper.rest.get_account_balance() == {"XXBT": Decimal("0.5"), "ZUSD": Decimal("1000")}
    assert paper.public.asked == ["pair"]


def test_a_pair_that_takes_no_orders_takes_none_on_paper_either_until_kraken_says_otherwise(paper):
    paper.public.pair = PAIR.model_copy(update={"status": "cancel_only"})
    paper.price("50000.0")
    with pytest.raises(PlacementPaused, match="'cancel_only' now"):
        paper.buy("49000.0")
    paper.public.pair = PAIR.model_copy(update={"status": "limit_only"})
    assert paper.rest.get_asset_pair_info().status == "limit_only"
    assert paper.buy("49000.0") in paper.rest.exchange.open_orders


def test_the_fee_is_the_configured_one_or_a_dear_guess(tmp_path):
    assert Paper(tmp_path).rest.get_maker_fee() == Decimal("0.0040")
    assert Paper(tmp_path, fee="0.25%").rest.get_maker_fee() == Decimal("0.0025")


def test_nothing_private_is_ever_asked(paper):
    rest = paper.rest
    rest.check_exchange_status()
    rest.check_api_key_permissions()
    rest.get_server_time()
    rest.get_last_price()
    rest.get_maker_fee()
    rest.get_balances()
    rest.get_pair_balance()
    txid = paper.buy("49000.0")
    assert [o.pair for o in rest.get_open_orders(USERREF)] == ["XBTUSD"]
    rest.get_closed_orders(USERREF, start=0.0)
    rest.get_orders_info([txid])
    rest.get_order_with_retry(txid)
    rest.get_trades_info(["nothing"])
    rest.cancel_order(txid)
    rest.truncate(Decimal(1), "price")
    rest.get_exchange_domain()
    used = {name for name in PUBLIC if hasattr(paper.public, name)}
    assert used == PUBLIC  # and any other name would have raised above


def test_a_live_price_that_goes_through_an_order_fills_it_at_the_time_of_the_price(paper):
    paper.price("50000.0")
    txid = paper.buy("49500.0")
    placed, ticker = paper.price("49500.0", 1_800_000_200.0)
    assert [e.exec_type for e in placed.executions] == ["new"]
    assert ticker.ticker_data.last == Decimal("49500.0")
    executions, ticker = paper.price("49499.9", 1_800_000_300.0)
    [event] = executions.executions
    assert (event.order_id, event.last_price, event.time) == (txid, Decimal("49500.0"), 1_800_000_300.0)
    assert ticker.ticker_data.last == Decimal("49499.9")


def test_other_symbols_and_heartbeats_fill_nothing(paper):
    paper.price("50000.0")
    paper.buy("49500.0")
    paper.feed.on_message(Frame.WAKE)
    assert paper.feed.on_message("heartbeat") == []
    [message] = paper.price("1.0", symbol="ETH/USD")
    assert message.channel == "ticker"
    assert len(paper.rest.get_open_orders(USERREF)) == 1


def test_the_executions_channel_opens_with_an_empty_snapshot_before_the_public_feed_connects(paper):
    frames: list[object] = []
    paper.feed.start(frames.append)
    assert frames == [Frame.SNAPSHOT]
    assert paper.public_feed.started == 1
    paper.price("50000.0")
    paper.buy("49500.0")
    assert frames == [Frame.SNAPSHOT, Frame.WAKE]
    [snapshot] = paper.feed.on_message(frames[0])
    assert (snapshot.type, snapshot.executions) == ("snapshot", [])


def test_subscriptions_are_those_of_the_public_feed(paper):
    for params in paper.feed.get_required_subscriptions(paper.rest):
        paper.feed.subscribe(params)
    assert paper.public_feed.subscribed == [{"channel": "ticker"}]
    paper.feed.close()
    assert paper.public_feed.closed == 1


def test_orders_are_dated_by_krakens_clock_and_refused_after_their_deadline_on_it(paper):
    paper.price("50000.0", 1_799_999_999.0)
    paper.clock.now = 0.0  # a machine that woke up in 1970
    paper.rest.get_server_time()
    paper.clock.steady += 5.0
    paper.buy("49000.0")
    [order] = paper.rest.get_open_orders(USERREF)
    assert order.opened_at == 1_800_000_005.0


def test_for_a_silent_feed_the_price_asked_for_is_matched_too(paper):
    paper.rest.get_server_time()
    assert paper.rest.get_last_price() == Decimal("50000.0")
    txid = paper.buy("49500.0")
    paper.feed.on_message(Frame.WAKE)
    paper.public.last = Decimal("49000.0")
    paper.clock.steady += 59.0
    paper.rest.get_last_price()
    assert paper.feed.on_message(Frame.WAKE) == []  # may be older than the last ticker
    paper.clock.steady += 2.0
    paper.rest.get_last_price()
    [message] = paper.feed.on_message(Frame.WAKE)
    assert [e.order_id for e in message.executions] == [txid]


def test_what_the_price_did_while_the_bot_was_away_is_matched_at_the_next_price(tmp_path):
    first = Paper(tmp_path)
    first.price("50000.0")
    txid = first.buy("49500.0")
    first.rest.close()
    assert first.public.asked[-1] == "closed"
    second = Paper(tmp_path)
    [executions, _] = second.price("48000.0")
    [event] = executions.executions
    assert (event.order_id, event.last_price) == (txid, Decimal("49500.0"))
    assert second.rest.get_pair_balance().base_balance == Decimal("0.502")
    second.rest.close()


def test_kraken_being_away_is_a_temporary_failure_and_opens_nothing(tmp_path):
    paper = Paper(tmp_path)

    def away():
        raise TemporaryFailure("Kraken does not answer")

    paper.public.get_asset_pair_info = away
    with pytest.raises(TemporaryFailure):
        paper.rest.get_pair_balance()
    assert list(tmp_path.iterdir()) == []
    del paper.public.get_asset_pair_info
    assert paper.rest.get_pair_balance().quote_balance == 1000
    paper.rest.close()
