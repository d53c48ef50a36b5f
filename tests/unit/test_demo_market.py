"""The demo: a made-up market that is the same for the same seed and goes on where it was."""

import math
import os
import signal
import statistics
import threading
from decimal import Decimal
from itertools import pairwise
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gridbot.adapters.exchanges.demo import TICK, DemoExchange, DemoFeed, demo_pair
from gridbot.adapters.exchanges.demo_market import TICK_SECONDS, DemoMarket, activity_at
from gridbot.adapters.exchanges.simulated_feed import Frame
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange, ExchangeSetup
from gridbot.models.configuration import BotConfigDTO, DBConfigDTO, DemoConfigDTO, Settings
from gridbot.models.exchange import OnMessageSchema

USERREF = 7
TICKS_A_DAY = 86_400 // TICK_SECONDS


class FixedClock(IClock):
    """Nobody waits here; it is always the same moment unless a test moves it."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now
        self.steady = 0.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.steady

    def wait(self, seconds: float) -> bool:
        return False

    def stopping(self) -> bool:
        return False


def market(seed: int = 1, volatility: str = "0.001", position=None) -> DemoMarket:
    return DemoMarket(
        start_price=Decimal(50000),
        tick_size=Decimal("0.1"),
        volatility=Decimal(volatility),
        seed=seed,
        position=position,
    )


def settings_for(path: Path, **changes) -> Settings:
    demo = {"seed": 3, **changes.pop("demo", {})}
    return Settings(
        bot=BotConfigDTO(
            name="test",
            userref=USERREF,
            strategy="GridHODL",
            amount_per_grid="100",
            interval="1%",
            n_open_buy_orders=3,
            max_investment="1000",
            **{"exchange": "Demo", "base_currency": "BTC", "quote_currency": "USD", **changes},
        ),
        demo=DemoConfigDTO(**demo),
        db=DBConfigDTO(path=path / "gridbot.db"),
    )


def demo(path: Path, **changes) -> Exchange:
    return DemoExchange().create(ExchangeSetup(settings_for(path, **changes), FixedClock()))


def heard(exchange: Exchange, ticks: int) -> list[OnMessageSchema]:
    return [message for _ in range(ticks) for message in exchange.feed.on_message(TICK)]


def prices(exchange: Exchange, ticks: int) -> list[Decimal]:
    exchange.feed.on_message(Frame.WAKE)  # what calls have caused is heard first
    return [m.ticker_data.last for m in heard(exchange, ticks) if m.channel == "ticker"]


def place_near(exchange: Exchange, factor: str) -> str:
    price = Decimal(exchange.rest.truncate(exchange.rest.get_last_price() * Decimal(factor), "price"))
    return exchange.rest.create_order(
        ordertype="limit",
        side="buy",
        price=price,
        volume=Decimal("0.002"),
        userref=USERREF,
        oflags="post,fciq",
    ).txid


def test_the_same_seed_walks_the_same_path_and_another_seed_another():
    one, same, other = market(1), market(1), market(2)
    path = [one.advance() for _ in range(500)]
    assert path == [same.advance() for _ in range(500)]
    assert path != [other.advance() for _ in range(500)]


def test_a_market_goes_on_from_its_position_as_if_it_had_never_stopped():
    whole, first = market(), market()
    path = [whole.advance() for _ in range(300)]
    head = [first.advance() for _ in range(123)]
    second = market(position=first.position)
    assert second.price == first.price
    assert head + [second.advance() for _ in range(177)] == path


def test_the_market_begins_at_the_start_price_and_every_price_is_on_the_tick():
    m = market()
    assert m.price == Decimal("50000.0")
    seen = [p for p in (m.advance() for _ in range(2000)) if p is not None]
    assert all(p > 0 and p.as_tuple().exponent == -1 for p in seen)


def test_quiet_hours_trade_less_and_move_less():
    m = market()
    moves: dict[str, list[float]] = {"quiet": [], "busy": []}
    silent = {"quiet": 0, "busy": 0}
    last = m.price
    for _ in range(5 * TICKS_A_DAY):
        price = m.advance()
        part = "quiet" if 0 <= m.hour < 6 else "busy" if 12 <= m.hour < 18 else ""
        if part and price is None:
            silent[part] += 1
        elif part and price is not None:
            moves[part].append(math.log(price / last))
        last = price or last
    assert statistics.pstdev(moves["quiet"]) < 0.6 * statistics.pstdev(moves["busy"])
    assert silent["quiet"] > 5 * silent["busy"]


def test_volatility_is_the_typical_move_of_a_tick_over_a_day():
    assert statistics.mean(activity_at(h / 10) ** 2 for h in range(240)) == pytest.approx(1, rel=0.01)


def test_jumps_happen_and_the_price_stays_near_its_start_for_weeks():
    m = market(seed=5)
    seen = [p for p in (m.advance() for _ in range(20 * TICKS_A_DAY)) if p is not None]
    moves = [abs(math.log(b / a)) for a, b in pairwise(seen)]
    assert max(moves) > 0.004  # four typical moves and more
    assert Decimal(25000) < min(seen) < max(seen) < Decimal(100000)


def test_the_pair_bears_the_configured_names_and_its_decimals_follow_the_price(tmp_path):
    pair = demo(tmp_path, base_currency="ETH", quote_currency="EUR").rest.get_asset_pair_info()
    assert (pair.base, pair.quote, pair.pair_decimals, pair.lot_decimals) == ("ETH", "EUR", 1, 8)
    assert (pair.ordermin, pair.costmin) == (Decimal("0.00005"), Decimal("0.5"))
    assert demo_pair("DOGE", "USD", Decimal("0.25")).tick_size == Decimal("0.000001")


def test_a_pair_of_two_coins_counts_and_shows_money_finely_enough_for_a_coin() -> None:
    pair = demo_pair("ETH", "BTC", Decimal("0.05"))
    assert (pair.cost_decimals, pair.money_decimals, pair.costmin) == (10, 8, Decimal("0.00002"))
    assert demo_pair("BTC", "USD", Decimal(50000)).cost_decimals == 5
    assert demo_pair("SHIB", "USD", Decimal("0.00001")).cost_decimals == 5


def test_a_clock_that_is_set_does_not_move_the_demo_s(tmp_path: Path) -> None:
    clock = FixedClock()
    rest = DemoExchange().create(ExchangeSetup(settings_for(tmp_path), clock)).rest
    before = rest.get_server_time()
    clock.now += 86400
    clock.steady += 5
    assert rest.get_server_time() == before + 5


def test_a_machine_that_starts_with_its_clock_behind_does_not_take_the_demo_back(tmp_path: Path) -> None:
    clock = FixedClock()
    first = DemoExchange().create(ExchangeSetup(settings_for(tmp_path), clock)).rest
    first.create_order(
        ordertype="limit", side="buy", volume=Decimal("0.01"), price=Decimal(40000), userref=1
    )  # its time is stored
    before = first.get_server_time()
    first.close()
    clock.now -= 3600
    assert DemoExchange().create(ExchangeSetup(settings_for(tmp_path), clock)).rest.get_server_time() >= before


def test_the_feed_opens_with_an_empty_snapshot_and_tells_prices_at_the_real_time(tmp_path):
    exchange = demo(tmp_path)
    assert exchange.simulated
    [snapshot] = exchange.feed.on_message(Frame.SNAPSHOT)
    assert (snapshot.channel, snapshot.type, snapshot.executions) == ("executions", "snapshot", [])
    [*_, last] = heard(exchange, 20)
    assert last.ticker_data.symbol == exchange.rest.ws_symbol == "BTC/USD"
    assert last.ticker_data.time == exchange.rest.get_server_time() == 1_790_000_000.0
    assert last.ticker_data.last == exchange.rest.get_last_price()


def test_a_fill_is_told_before_the_price_that_caused_it(tmp_path):
    exchange = demo(tmp_path)
    txid = place_near(exchange, "0.998")
    messages = [*exchange.feed.on_message(Frame.WAKE), *heard(exchange, 2000)]
    executions = [m for m in messages if m.channel == "executions"]
    assert [e.exec_type for m in executions for e in m.executions] == ["new", "trade"]
    fill = messages.index(executions[-1])
    [event] = messages[fill].executions
    assert event.order_id == txid
    assert messages[fill + 1].ticker_data.last < event.last_price


def test_no_price_is_made_before_the_bot_has_heard_what_its_own_calls_have_caused(tmp_path):
    exchange = demo(tmp_path, demo={"speed": "0.01"})
    frames: list[object] = []
    exchange.feed.start(frames.append)
    place_near(exchange, "0.99")
    [message] = exchange.feed.on_message(TICK)
    assert [e.exec_type for e in message.executions] == ["new"]
    assert frames == [Frame.SNAPSHOT, Frame.WAKE, TICK], "the tick comes once more"
    exchange.feed.close()
    exchange.rest.close()


def test_an_order_is_told_without_waiting_for_a_price(tmp_path):
    exchange = demo(tmp_path, demo={"speed": "0.01"})
    frames: list[object] = []
    exchange.feed.start(frames.append)
    place_near(exchange, "0.99")
    exchange.feed.close()
    assert frames == [Frame.SNAPSHOT, Frame.WAKE]
    [message] = exchange.feed.on_message(Frame.WAKE)
    assert [e.exec_type for e in message.executions] == ["new"]
    assert exchange.feed.on_message(Frame.WAKE) == []


def test_a_second_start_goes_on_with_the_same_market_book_and_money(tmp_path):
    first = demo(tmp_path)
    place_near(first, "0.998")
    prices(first, 1500)
    money, last = first.rest.get_pair_balance(), first.rest.get_last_price()
    assert money.base_balance == Decimal("0.002")
    deep = place_near(first, "0.5")
    first.rest.close()
    second = demo(tmp_path)
    assert second.rest.get_last_price() == last
    assert second.rest.get_pair_balance().base_balance == money.base_balance
    assert [o.txid for o in second.rest.get_open_orders(USERREF)] == [deep]
    whole = market(seed=3)
    path = [p for p in (whole.advance() for _ in range(1700)) if p is not None]
    tail = prices(second, 200)
    assert tail == path[-len(tail) :]
    second.rest.close()


def test_without_a_seed_the_market_is_a_new_one_but_the_same_after_a_restart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = demo(tmp_path / "a", demo={"seed": None}), demo(tmp_path / "b", demo={"seed": None})
    assert prices(a, 50) != prices(b, 50)
    a.rest.close()
    again = demo(tmp_path / "a", demo={"seed": None})
    assert again.rest.get_last_price() == a.rest.get_last_price()
    again.rest.close()
    b.rest.close()


def trade_and_die(folder: Path, told: Connection) -> None:
    exchange = demo(folder)
    prices(exchange, 100)
    told.send((place_near(exchange, "0.9"), exchange.rest.get_last_price()))
    prices(exchange, 50)
    os.kill(os.getpid(), signal.SIGKILL)


def test_after_kill_9_the_market_goes_on_from_the_last_stored_order(tmp_path):
    here, there = Pipe()
    process = get_context("fork").Process(target=trade_and_die, args=(tmp_path, there))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    txid, price = here.recv()
    exchange = demo(tmp_path)
    assert exchange.rest.get_last_price() == price
    assert [o.txid for o in exchange.rest.get_open_orders(USERREF)] == [txid]
    exchange.rest.close()


class TickingClock(FixedClock):
    """Every look at it is 0.25 s later."""

    def monotonic(self) -> float:
        self.steady += 0.25
        return self.steady


def test_the_thread_counts_ticks_at_the_configured_speed_and_ends_when_closed(tmp_path):
    exchange = demo(tmp_path)
    feed = DemoFeed(exchange.rest, market(), TickingClock(), speed=10.0)
    frames: list[object] = []
    enough = threading.Event()

    def put(frame: object) -> None:
        frames.append(frame)
        if len(frames) == 8:
            enough.set()

    feed.start(put)
    assert enough.wait(5)
    feed.close()
    assert frames[:8] == [Frame.SNAPSHOT, *[TICK] * 7]  # 2, 3 and 2 at a time
    assert not any(t.name == "demo-market" for t in threading.enumerate())
    exchange.rest.close()


def test_an_unknown_frame_is_ignored(tmp_path, caplog):
    exchange = demo(tmp_path)
    assert exchange.feed.on_message("{}") == []
    assert "an unknown frame was ignored" in caplog.text
    exchange.rest.close()
