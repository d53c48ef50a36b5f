"""Accidents that need two things to go wrong at once, each found by reading the money path with suspicion."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.exceptions import (
    AccessDenied,
    ConfigurationError,
    ExchangeError,
    InsufficientFunds,
    OrderRejected,
    PostOnlyWouldCross,
    TemporaryFailure,
    TooManyOrders,
)
from gridbot.infrastructure.database import DBConnect
from gridbot.models.events import CaughtUp, GridShifted, OrderExecuted, OrderPlaced, OrderRefused, Trouble
from gridbot.models.exchange import (
    BUY,
    SELL,
    CreateOrderResponseSchema,
    ExecutionsUpdateSchema,
    OnMessageSchema,
    TakerTradeSchema,
    TickerUpdateSchema,
    TradeInfoSchema,
)
from gridbot.models.grid import BookOrder, Cause, UnsoldBuy
from gridbot.strategies.grid_rules import buy_behind
from tests.settings import USERREF
from tests.world import BTC_USD, World

LOST = OnMessageSchema(channel="executions", type="lost")
PRICE_LOST = OnMessageSchema(channel="ticker", type="lost")


def unheard(world: World, *prices: str) -> None:
    """The market trades while nobody tells the bot."""
    for price in prices:
        world.exchange.on_price(Decimal(price), world.clock.now)
    world.exchange.take_events()
    world.frames.clear()


def unanswered(*_args: object) -> Any:
    raise TemporaryFailure("no answer")


def snapshot(world: World) -> OnMessageSchema:
    """What the feed tells of open orders after a reconnect."""
    rows = [
        ExecutionsUpdateSchema(
            order_id=order.txid,
            exec_type="new",
            order_status="new",
            userref=USERREF,
            symbol="BTC/USD",
            side=order.side,
            limit_price=order.price,
            order_qty=order.vol,
            time=order.opened_at,
        )
        for order in world.rest.get_open_orders(USERREF)
    ]
    return OnMessageSchema(channel="executions", type="snapshot", executions=rows)


def ticker(world: World, price: str) -> OnMessageSchema:
    update = TickerUpdateSchema(symbol="BTC/USD", last=Decimal(price), time=world.clock.now)
    return OnMessageSchema(channel="ticker", ticker_data=update)


def test_of_two_sells_alike_the_known_one_is_not_taken_for_the_lost_one() -> None:
    world = World()
    world.rest.answers_lag = 60.0
    world.start("50000")
    world.deliver([LOST])
    world.clock.now += 5
    unheard(world, "49000", "52000")  # two buys filled, and both sells stand one interval over 52000
    world.deliver([ticker(world, "52000")])
    world.rest.faults = [None, "lost before"]
    world.deliver([snapshot(world)])
    world.clock.now += 3
    world.deliver([LOST, snapshot(world)])
    world.wait(200)
    assert world.on_exchange(SELL) == ["52520.0", "52520.0"]
    assert sorted(order.sells for order in world.sells) == ["S00001-SIM00-BUY", "S00002-SIM00-BUY"]


@pytest.mark.parametrize("filled_while_away", [False, True])
def test_an_order_amended_by_its_owner_is_booked_and_sold_as_amended(tmp_path: Path, filled_while_away: bool) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000")
    order = world.exchange.open_orders[world.buys[0].txid]
    order.volume = Decimal("0.00101")
    held = order.price * order.volume * Decimal("1.0025")
    world.exchange.money.quote_held += held - order.held
    order.held = held
    if filled_while_away:
        unheard(world, "49400")
    world.restart().price("49450")
    world.price("49400")
    [trade] = world.desk.trades.of_order(order.txid)
    assert trade.info.volume == Decimal("0.00101")
    assert [sell.volume for sell in world.sells] == [Decimal("0.00101")]
    assert world.desk.configuration.get().vol_of_unfilled_remaining == 0


def test_an_old_adopted_sell_does_not_swallow_a_later_surplus() -> None:
    world = World(base=Decimal("0.01"))
    unheard(world, "50000")
    world.rest.create_order(
        ordertype="limit", side=SELL, volume=Decimal("0.005"), price=Decimal("60000"), userref=USERREF
    )
    world.start("50000")
    top = world.buys[0]
    world.exchange.fill(top.txid, Decimal("0.001"))
    world.exchange.cancel_order(top.txid, world.clock.now)
    world.price("50000")
    world.wait(1300)  # two regular comparisons
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.001")


def test_after_an_absence_nothing_is_decided_on_the_price_from_before_it() -> None:
    world = World().start("50000")
    world.deliver([LOST, PRICE_LOST])
    world.clock.now += 700
    unheard(world, "49300", "53000")
    world.deliver([snapshot(world)])
    world.settle()
    assert world.sells == ()
    world.deliver([ticker(world, "53000")])
    world.settle()
    assert world.sell_prices() == ["53530.0"]


def test_losing_only_the_prices_costs_no_comparison() -> None:
    world = World().start("50000")
    world.rest.calls.clear()
    world.deliver([PRICE_LOST, ticker(world, "50001")])
    assert world.rest.calls == []
    world.price("60000")
    assert world.buy_prices()[0] == "59405.9"


def test_news_behind_a_question_that_failed_is_heard_all_the_same() -> None:
    world = World().start("50000").restart(n_open_buy_orders=4)
    world.settle()
    world.clock.now += 1
    top = world.buys[0]
    world.deliver([ticker(world, "50000")])  # the fifth buy is asked to be cancelled
    confirmation = world.exchange.take_events()
    fill = world.exchange.on_price(Decimal("49400"), world.clock.now)
    world.frames.clear()
    world.strategy.ticker, world.strategy._ticker_time = Decimal(53000), world.clock.now + 1

    def busy(txid: str) -> None:
        raise TemporaryFailure("too many cancellations", 3.0)

    world.rest.cancel_order = busy  # type: ignore[method-assign]
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=[*confirmation, *fill])])
    assert world.desk.book.get(top.txid) is None
    assert world.on_exchange(SELL) == ["53530.0"]
    assert "answered only in part" in world.desk.sync_reason


@pytest.mark.parametrize("reason", ["Post only order", "Self trade prevention", "User requested"])
def test_buys_that_the_exchange_takes_and_cancels_are_not_placed_in_a_loop(reason: str) -> None:
    world = World()
    place = world.rest.create_order

    def taken_and_cancelled(**order: object) -> object:
        reply = place(**order)
        world.exchange.cancel_order(reply.txid, world.clock.now)
        world.exchange.pending_events[-1] = world.exchange.pending_events[-1].model_copy(update={"reason": reason})
        return reply

    world.rest.create_order = taken_and_cancelled  # type: ignore[method-assign]
    world.start("50000")
    world.price(*["50000"] * 300)
    placed = len(world.told(OrderPlaced))
    assert placed < 5 * 12  # pauses of 1, 2, 4, ... 60 s instead of once per ticker
    world.rest.create_order = place  # type: ignore[method-assign]
    world.wait(60).price("50000")
    assert len(world.buys) == 5


def test_a_sell_that_the_exchange_takes_and_cancels_is_not_placed_in_a_loop() -> None:
    world = World().start("50000")
    place = world.rest.create_order

    def taken_and_cancelled(**order: object) -> object:
        reply = place(**order)
        if order["side"] == SELL:
            world.exchange.cancel_order(reply.txid, world.clock.now)
        return reply

    world.rest.create_order = taken_and_cancelled  # type: ignore[method-assign]
    world.price("49500")
    world.wait(600)
    assert len([e for e in world.told(OrderPlaced) if e.side == SELL]) < 15
    assert len(world.desk.unsold) == 1
    world.rest.create_order = place  # type: ignore[method-assign]
    world.wait(1300)
    assert world.on_exchange(SELL) == ["49999.9"]


def test_executions_booked_in_sum_and_told_later_one_by_one_count_once() -> None:
    world = World().start("50000")
    top = world.buys[0]
    told = world.rest.get_trades_info
    world.rest.get_trades_info = lambda exec_ids: {}  # type: ignore[method-assign]  # REST is behind
    world.exchange.fill(top.txid, Decimal("0.0005"))
    unheard(world)
    world.desk.request_sync("a test")
    world.wait(10)
    assert world.desk.provisional == {top.txid}
    world.rest.get_trades_info = told  # type: ignore[method-assign]
    world.exchange.fill(top.txid, Decimal("0.0010"))
    unheard(world)
    world.desk.request_sync("a test")
    world.wait(100)
    rows = [row.info for row in world.desk.trades.of_order(top.txid)]
    assert [row.volume for row in rows] == [Decimal("0.0005"), Decimal("0.0010")]
    assert world.desk.provisional == frozenset()
    order = world.desk.book.get(top.txid)
    assert order is not None
    assert order.executed == Decimal("0.0015")
    world.rest.get_trades_info = lambda exec_ids: {}  # type: ignore[method-assign]
    world.exchange.fill(top.txid, Decimal("0.0001"))
    unheard(world)
    for answer, provisional in ((world.rest.get_trades_info, {top.txid}), (told, set())):
        world.rest.get_trades_info = answer  # type: ignore[method-assign]
        world.desk.request_sync("a test")
        world.wait(10)
        assert world.desk.provisional == provisional  # itemised though nothing new was executed


@pytest.mark.parametrize("cum_cost", [None, Decimal("99")])
def test_a_fill_told_without_its_executions_is_booked_at_what_is_known_and_itemised_soon(
    cum_cost: Decimal | None,
) -> None:
    world = World("GridSell").start("50000")
    top = world.buys[0]
    world.exchange.fill(top.txid, Decimal("0.0005"))
    [part] = world.exchange.take_events()
    world.deliver([OnMessageSchema(channel="executions", executions=[part.model_copy(update={"cost": None})])])
    world.exchange.fill(top.txid)
    [last] = world.exchange.take_events()
    world.frames.clear()
    nothing = dict.fromkeys(("exec_id", "last_qty", "last_price", "cost", "fee"))
    sums = {"cum_qty": top.volume if cum_cost else None, "cum_cost": cum_cost}
    over = last.model_copy(update={"exec_type": "filled", "time": world.clock.now - 3, **nothing, **sums})
    world.deliver([OnMessageSchema(channel="executions", executions=[over])])
    known, rest = (row.info for row in sorted(world.desk.trades.of_order(top.txid), key=lambda row: row.info.volume))
    assert (known.volume, known.cost) == (Decimal("0.0005"), Decimal("0.0005") * top.price)
    cost = (cum_cost or top.volume * top.price) - known.cost
    assert (rest.volume, rest.cost, rest.fee) == (Decimal("0.00152"), cost, cost * Decimal("0.0025"))
    assert rest.time == world.clock.now - 3
    world.wait(5)
    there = world.exchange.finished[top.txid]
    rows = [row.info for row in world.desk.trades.of_order(top.txid)]
    assert (sum(row.cost for row in rows), sum(row.fee for row in rows)) == (there.cost, there.fee)


def test_a_fill_told_before_the_one_that_was_booked_in_sum_counts_once_too() -> None:
    world = World("GridSell").start("50000")
    top = world.buys[0]
    world.exchange.fill(top.txid, Decimal("0.0005"))
    [first] = world.exchange.take_events()
    told = world.rest.get_trades_info
    world.rest.get_trades_info = lambda exec_ids: {}  # type: ignore[method-assign]  # REST is behind
    world.desk.request_sync("a test")
    world.wait(5)
    assert world.desk.provisional == {top.txid}
    assert world.desk.traded[0] == Decimal("0.0005")
    world.exchange.fill(top.txid, Decimal("0.0010"))
    world.settle()  # the second fill: it takes the place of the first, and half of it is new
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=[first])])
    assert world.desk.provisional == frozenset()
    rows = [row.info for row in world.desk.trades.of_order(top.txid)]
    assert [row.volume for row in rows] == [Decimal("0.0005"), Decimal("0.0010")]
    world.money()
    world.rest.get_trades_info = told  # type: ignore[method-assign]
    world.exchange.fill(top.txid)
    world.settle()
    done, there = world.told(OrderExecuted)[0], world.exchange.finished[top.txid]
    assert (done.volume, done.cost, done.fee) == (there.executed, there.cost, there.fee)
    assert world.desk.traded == (world.exchange.money.base, world.exchange.money.quote - world.quote)


def test_what_is_left_of_a_sum_keeps_its_share_of_cost_and_fee_and_what_it_sold() -> None:
    world = World("GridSell").start("50000").price("49500")
    [sell] = world.sells
    for part in ("0.0005", "0.0010", "0.00052"):
        world.exchange.fill(sell.txid, Decimal(part))
    told, there = world.exchange.take_events(), world.exchange.finished[sell.txid]
    world.rest.get_trades_info = lambda exec_ids: {}  # type: ignore[method-assign]  # REST is behind
    world.desk.request_sync("a test")
    world.wait(5)
    over = told[-1].model_copy(update={"exec_type": "filled", "exec_id": None})
    for known, update in enumerate(told, start=1):
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[over, update, update])])
        rows = world.desk.trades.of_order(sell.txid)
        assert len(rows) == min(known + 1, 3)
        assert {row.sells for row in rows} == {sell.sells}
        sums = [sum(getattr(row.info, name) for row in rows) for name in ("volume", "cost", "fee")]
        assert sums == pytest.approx([there.executed, there.cost, there.fee], rel=Decimal("1E-4"))
    assert world.desk.provisional == frozenset()
    assert sum(row.info.fee for row in rows) == there.fee


def test_while_the_feed_of_executions_stays_away_fills_are_asked_for_and_the_owner_is_told() -> None:
    world = World().start("50000")
    world.deliver([LOST])
    unheard(world, "49400")
    world.rest.calls.clear()
    world.wait(320)
    assert world.rest.calls.count("get_open_orders") == 5  # once a minute
    assert world.on_exchange(SELL) == ["50500.0"]  # over the last price known
    assert len(world.on_exchange(BUY)) == 4  # nothing is bought blindly
    world.wait(3600)
    assert len(world.told(Trouble)) == 1


def test_after_weeks_of_health_a_restart_looks_back_hours_only(tmp_path: Path) -> None:
    world = World(path=tmp_path / "bot.db").start("50000")
    for _ in range(3 * 24):
        world.clock.now += 3600 - 2
        world.price("50000")
        world.wait(1)
    stored = world.desk.configuration.get()
    assert world.clock.now - stored.synced_at < 8 * 3600


@pytest.mark.parametrize(
    ("state", "remembered"), [("well", True), ("deaf", False), ("in doubt", False), ("new", False)]
)
def test_a_bot_that_stops_while_it_cannot_hear_does_not_claim_to_have_heard(state: str, remembered: bool) -> None:
    world = World().start("50000").wait(2 if state == "new" else 800)
    world.clock.now += 100
    if state == "deaf":
        world.deliver([LOST])
    elif state == "in doubt":
        world.desk.request_sync("a doubt")
    world.strategy.remember_the_time()
    assert (world.desk.configuration.get().synced_at == world.clock.now) == remembered


def test_what_is_told_before_the_first_comparison_is_not_lost_where_rest_is_behind(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000").wait(100)
    before = world.rest.get_open_orders(USERREF)
    world.restart().settle()  # the feed of executions is there, and no price yet
    world.clock.now += 1
    fill = world.exchange.on_price(Decimal(49500), world.clock.now)
    world.rest.get_open_orders = lambda userref, trades=None: before
    world.rest.get_closed_orders = lambda *args, **kwargs: []
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=fill)])
    assert world.sells == (), "nothing is placed before the comparison"
    world.deliver([ticker(world, "49500")])
    assert world.sell_prices() == ["49999.9"]
    assert len(world.buys) == 5


def test_a_sell_that_only_the_feed_tells_of_before_the_first_comparison_is_not_placed_again(tmp_path: Path) -> None:
    world = World("GridSell", base=Decimal(1), path=tmp_path / "bot.db").start("50000")
    world.rest.faults = [InsufficientFunds("EOrder:Insufficient funds")]
    world.price("49500")
    [buy] = world.desk.unsold.all()
    world.restart().settle()  # from an older copy of the database; the feed of executions is there, and no price yet
    order = {"side": SELL, "price": Decimal("49999.9"), "volume": buy.volume, "userref": USERREF}
    txid = world.exchange.create_order(**order, post_only=False, time=world.clock.now)
    world.exchange.take_events()
    told = [update for update in snapshot(world).executions or [] if update.order_id == txid]
    world.rest.hidden = {txid}
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=told), ticker(world, "49500")])
    world.wait(100)
    assert [order.txid for order in world.exchange.open_orders.values() if order.side == SELL] == [txid]


def test_an_order_of_ours_that_nobody_knew_is_found_once_it_is_told() -> None:
    world = World("GridSell").start("50000")
    txid = world.exchange.create_order(
        side=BUY,
        price=Decimal("47000"),
        volume=Decimal("0.002"),
        userref=USERREF,
        post_only=True,
        time=world.clock.now,
    )
    unheard(world)
    world.exchange.fill(txid)
    world.settle()
    world.wait(10)
    sold = [row.info.txid for row in world.desk.trades.all()]
    assert txid in sold
    assert [order.sells for order in world.sells] == [txid] or world.exchange.base_available == 0


def test_swing_leaves_the_surplus_to_its_own_sell() -> None:
    world = World("SWING", base=Decimal("0.0005")).start("50000")
    top = world.buys[0]
    world.exchange.fill(top.txid, Decimal("0.0019"))
    world.exchange.cancel_order(top.txid, world.clock.now)
    world.price("50000", "50001")
    assert world.sells == ()  # 0.0005 of its own are worth 25, not 100


def test_a_buy_made_with_a_larger_amount_gets_its_own_quote_back() -> None:
    world = World().start("50000")
    unheard(world, "49500")
    world.restart(amount_per_grid=Decimal(50)).price("49500")
    [sell] = world.sells
    assert (f"{sell.price:f}", f"{sell.volume:f}") == ("49999.9", "0.00201005")


def test_a_cancellation_the_exchange_refuses_for_an_unknown_reason_is_looked_up() -> None:
    world = World().start("50000")
    cancel = world.rest.cancel_order
    refused: list[str] = []

    def odd(txid: str) -> None:
        if not refused:
            refused.append(txid)
            raise ExchangeError("EOrder:Something new")
        cancel(txid)

    world.rest.cancel_order = odd  # type: ignore[method-assign]
    world.price("60000")
    world.wait(10).price("60000")
    assert world.on_exchange(BUY)[0] == "59405.9"
    assert len(world.on_exchange(BUY)) == 5


@pytest.mark.parametrize("how", ["restart", "reconnect"])
def test_what_was_filled_unheard_changes_the_balances_once(how: str) -> None:
    world = World("GridSell", quote=Decimal(420)).start("50000").price("48900")
    if how == "reconnect":
        world.deliver([LOST])
    unheard(world, "49510", "48000")
    if how == "restart":
        world.restart()
    else:
        world.deliver([snapshot(world)])
    world.price("48000")
    assert world.money()[0] > 0
    assert not world.desk.pauses.known("buys")  # nothing was sent that could not be paid for


def test_swing_leaves_what_an_open_buy_has_brought_to_the_sell_of_that_buy() -> None:
    world = World("SWING", base=Decimal("0.0012")).start("50000")
    world.exchange.fill(world.buys[0].txid, Decimal("0.0015"))
    world.settle()
    world.price("49505", "49600")
    assert world.sells == ()  # 0.0027 are free, and worth a sell, but 0.0015 of them have one
    world.price("49400")
    assert [(f"{sell.price:f}", sell.sells) for sell in world.sells] == [("49999.9", "S00001-SIM00-BUY")]


def test_the_buy_after_a_sell_comes_once_the_fate_of_another_order_is_known() -> None:
    world = World("GridSell", changes={"max_investment": Decimal(700)}).start("50000").price("49500", "49000")
    world.clock.now += 100
    world.exchange.cancel_order(world.buys[-1].txid, world.clock.now)
    world.settle()
    world.rest.faults = ["lost before"]
    world.price("49000")
    assert len(world.desk.pending) == 1
    world.price("49505")  # a sell is filled, and nothing may be placed now
    assert "49014.6" not in world.buy_prices()
    world.wait(100).price("49505")
    assert world.buy_prices() == ["49014.6", "48529.4", "48048.9", "47573.1", "47102.0"]


def test_the_buy_after_a_sell_comes_once_the_price_no_longer_outruns_the_buys() -> None:
    world = World("GridSell", changes={"max_investment": Decimal(700)}).start("50000").price("49500", "49000")
    world.clock.now += 100
    world.exchange.cancel_order(world.buys[-1].txid, world.clock.now)
    world.settle()
    world.rest.faults = [PostOnlyWouldCross("EOrder:Post only order")] * 3
    world.price("49000", "49000", "49000", "49000")  # tried after 1 and 2 s, and not again for 4
    assert world.rest.faults == []
    world.price("49505")  # a sell is filled, and no buy may be placed now
    assert "49014.6" not in world.buy_prices()
    world.wait(10).price("49505")
    assert world.buy_prices() == ["49014.6", "48529.4", "48048.9", "47573.1", "47102.0"]


def test_sells_filled_in_one_absence_are_followed_by_buys_in_the_order_of_the_fills() -> None:
    world = World("GridSell", changes={"n_open_buy_orders": 1}).start("50000")
    world.price("49500", "49000", "48500")
    assert world.sell_prices() == ["48999.9", "49499.9", "49999.9"]  # the last opened is the first to be filled
    for price in ("49100", "49600"):
        world.clock.now += 60
        unheard(world, price)
    world.exchange.cancel_order(world.buys[0].txid, world.clock.now)
    world.exchange.take_events()
    world.frames.clear()
    world.restart().price("49600")
    [placed] = [event for event in world.events if isinstance(event, OrderPlaced) and "after the sell" in event.why]
    assert f"{placed.price:f}" == "48514.7"


def test_a_level_that_is_too_small_for_an_order_is_told_once() -> None:
    world = World("GridSell", changes={"amount_per_grid": Decimal("2.6")}).start("50000")
    world.price("53000", "53001", "53002").wait(100).price("53003")
    assert world.buys == ()
    [told] = world.told(OrderRefused)
    assert "below the pair's smallest volume" in told.reason
    assert (f"{told.price:f}", f"{told.volume:f}") == ("52475.2", "0.00004954")
    world.price("51000")  # and is placed at once where it is large enough
    assert world.buy_prices()[0] == "50495.0"


@pytest.mark.parametrize(
    ("strategy", "amount", "starts"),
    [("GridHODL", "0.3", False), ("GridHODL", "2.49", False), ("GridSell", "2.49", True), ("GridHODL", "2.53", True)],
)
def test_an_amount_of_which_no_sell_could_be_placed_is_refused_at_the_first_start(
    strategy: str, amount: str, starts: bool
) -> None:
    world = World(strategy, changes={"amount_per_grid": Decimal(amount)})
    with nullcontext() if starts else pytest.raises(ConfigurationError, match=r"Raise amount_per_grid to 2\.53"):
        world.start("50000")


def test_an_interval_that_the_tick_eats_up_is_refused_at_the_first_start() -> None:
    world = World(changes={"interval": Decimal("0.0055"), "max_investment": Decimal(1000)})
    world.exchange.pair = BTC_USD.model_copy(update={"tick_size": Decimal("0.01"), "pair_decimals": 2})
    with pytest.raises(ConfigurationError, match=r"a buy @ 5\.00 would be sold @ 5\.02"):
        world.start("5.03")


def test_what_a_cancelled_sell_had_not_sold_is_sold_whole_so_that_the_quote_comes_back() -> None:
    world = World("GridHODL").start("50000").price("49500")
    [sell] = world.sells
    world.exchange.fill(sell.txid, Decimal("0.00100502"))
    world.settle()
    world.exchange.cancel_order(sell.txid, world.clock.now)
    unheard(world, "55000")
    world.settle()
    world.restart(amount_per_grid=Decimal(200)).price("55000")
    [rest] = world.sells
    assert f"{rest.price:f}" == "55550.0"
    assert rest.volume == Decimal("0.00100503")
    for _ in range(3):
        world.clock.now += 100
        world.exchange.cancel_order(world.sells[0].txid, world.clock.now)
        world.settle()
        world.wait(60).price("55000")
    assert [sell.volume for sell in world.sells] == [Decimal("0.00100503")]  # and not less each time


@pytest.mark.parametrize(("late_by", "believed"), [(5.0, False), (3600.0, True)])
def test_a_price_from_just_before_our_own_trade_is_old_and_one_of_another_clock_is_not(
    late_by: float, believed: bool
) -> None:
    world = World().start("50000").price("49500")
    update = TickerUpdateSchema(symbol="BTC/USD", last=Decimal(49800), time=world.clock.now - late_by)
    world.deliver([OnMessageSchema(channel="ticker", ticker_data=update)])
    assert world.strategy.ticker == (49800 if believed else 49500)


def test_after_an_outage_a_price_from_before_our_own_trade_ends_the_waiting() -> None:
    world = World().start("50000").price("49500")
    world.deliver([LOST, PRICE_LOST, snapshot(world)])
    update = TickerUpdateSchema(symbol="BTC/USD", last=Decimal(49501), time=world.clock.now - 0.5)
    world.deliver([OnMessageSchema(channel="ticker", ticker_data=update)])
    assert not world.strategy.is_busy
    assert world.strategy.ticker == 49500


@pytest.mark.parametrize(("rest", "waits"), [("is up to date", 13), ("is behind", 60), ("does not answer", 60)])
def test_the_loss_of_a_database_is_told_and_its_orders_are_waited_for_and_taken_over(rest: str, waits: int) -> None:
    world = World("GridSell").start("50000").price("49500")
    world.rest.answers_lag = 60.0
    there = (world.on_exchange(BUY), world.on_exchange(SELL))
    told = snapshot(world)
    if rest == "is behind":
        world.rest.hidden = {world.sells[0].txid}
    world.db = DBConnect(":memory:")
    world.restart()
    world.frames.clear()
    world.rest.calls.clear()
    asked = world.rest.get_open_orders
    if rest == "does not answer":
        world.rest.get_open_orders = unanswered  # type: ignore[method-assign]
    world.deliver([told, ticker(world, "49500")])
    world.rest.get_open_orders = asked  # type: ignore[method-assign]
    world.wait(waits - 1)  # an order that was sent just before the loss may still arrive
    assert not world.strategy.is_ready
    world.rest.hidden.clear()
    world.wait(2)
    assert world.strategy.is_ready
    world.price("49500").wait(100)
    assert (world.buy_prices(), world.sell_prices()) == there
    assert "create_order" not in world.rest.calls
    [trouble] = world.told(Trouble)
    assert "an older database was lost" in trouble.text
    assert "another bot uses this number: then stop one of the two" in trouble.text


def test_a_sell_of_a_lost_database_that_is_cancelled_is_still_to_be_sold() -> None:
    world = World("GridSell").start("50000").price("49500").wait(100)
    [old] = world.sells
    world.clock.now += 8 * 86400  # so long ago that its buy is not found again
    world.db = DBConnect(":memory:")
    world.restart().price("49500").wait(100).price("49500")
    assert [order.txid for order in world.sells] == [old.txid]
    world.exchange.cancel_order(old.txid, world.clock.now)
    world.settle()
    assert world.desk.configuration.get().vol_of_unfilled_remaining == old.volume


def test_orders_of_another_userref_are_not_taken_over_when_the_feed_comes_back() -> None:
    world = World().start("50000").wait(80)
    again = snapshot(world)
    [first, *_] = again.executions or []
    another = first.model_copy(update={"order_id": "OTHER", "userref": USERREF + 1})
    world.deliver([LOST, again.model_copy(update={"executions": [another]})])
    assert world.desk.book.get("OTHER") is None


def test_an_absence_is_told_with_its_own_length() -> None:
    world = World("GridSell").start("50000").wait(100)
    for price, seconds in (("49400", 50), ("48900", 10)):
        world.deliver([LOST])
        world.clock.now += seconds
        unheard(world, price)
        world.deliver([snapshot(world)])
        world.settle()
        world.wait(1000)
    assert [round(told.away_seconds) for told in world.told(CaughtUp)] == [50, 10]


def test_comparisons_keep_a_pace_in_a_storm_of_doubts_and_are_prompt_after_it() -> None:
    world = World().start("50000").wait(100)

    def doubts(seconds: int) -> int:
        world.rest.calls.clear()
        for _ in range(seconds):
            world.desk.request_sync("a doubt")
            world.wait(1)
        return world.rest.calls.count("get_open_orders")

    assert 8 <= doubts(64) <= 11  # after 1, 2, 4, 8, 8, ... s
    world.wait(200)
    assert doubts(4) == 3


def test_a_cancellation_whose_confirmation_is_lost_is_looked_up_with_what_was_executed() -> None:
    world = World().start("50000").wait(100)
    top = world.buys[0]
    world.exchange.fill(top.txid, Decimal("0.001"))
    unheard(world, "60000")
    world.deliver([ticker(world, "60000")])
    world.exchange.take_events()
    world.frames.clear()
    asked, ask = [], world.rest.get_orders_info
    world.rest.get_orders_info = lambda txids: asked.append(world.clock.now) or ask(txids)
    assert len(world.buys) == 5
    world.wait(2)
    assert asked == []  # the confirmation may be on its way
    world.wait(3)
    assert len(asked) == 1, "five orders, one question"
    assert world.buy_prices() == ["59405.9", "58817.7", "58235.3", "57658.7", "57087.8"]
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.001")
    assert [row.info.volume for row in world.desk.trades.of_order(top.txid)] == [Decimal("0.001")]
    assert world.desk.provisional == frozenset()


def test_orders_that_the_exchange_has_never_heard_of_are_told_once() -> None:
    world = World().start("50000")
    world.exchange.open_orders.clear()  # as with the key of another account
    world.exchange.money.quote_held = Decimal(0)
    world.wait(1500)
    [told] = [event for event in world.told(Trouble) if "does not know 5 orders" in event.text]
    assert "the key of another account" in told.text
    assert len(world.buys) == 5


def test_a_database_with_orders_of_another_simulated_exchange_is_refused_at_the_start() -> None:
    world = World().start("50000")
    world.exchange._tag = "NEW00"  # its file was removed, and the database was not
    with pytest.raises(ConfigurationError, match=r"never seen 5 of the open orders (.|\n)*remove both to begin anew"):
        world.restart()


def test_orders_that_the_simulated_exchange_has_forgotten_are_no_reason_to_refuse_the_database() -> None:
    world = World().start("50000")
    world.exchange.open_orders.clear()  # a copy of the database from a thousand orders ago was brought back
    world.exchange.money.quote_held = Decimal(0)
    world.restart().price("50000")
    assert world.strategy.is_ready


def test_what_a_price_after_an_absence_has_filled_is_not_the_newer_price() -> None:
    world = World().start("50000").price("48900")
    assert len(world.sells) == 2
    world.restart().price("60000")
    assert world.strategy.ticker == 60000
    assert world.buy_prices()[0] == "59405.9"
    assert [event.ticker for event in world.told(GridShifted)] == [60000]


def test_a_buy_refused_for_crossing_is_tried_again_at_the_next_price_and_not_before() -> None:
    world = World().start("50000")
    world.rest.faults = [PostOnlyWouldCross("the price is already there")]
    world.price("52000")
    assert len(world.buys) < 5
    assert not world.strategy.wants_price
    world.wait(30)
    assert len(world.buys) < 5, "the price known may be an older one"
    assert world.strategy.wants_price
    world.price("52001")
    assert world.buy_prices()[0] == "51486.1"
    assert not world.strategy.wants_price


def test_a_sell_of_unknown_origin_goes_to_the_buy_that_it_stands_one_interval_above() -> None:
    settings = World().start("50000").strategy.settings
    buys = tuple(UnsoldBuy(f"B{price}", Decimal(price), Decimal("0.002"), 0.0) for price in ("48000", "49000", "50000"))
    sell = BookOrder("S", SELL, Decimal("49490.0"), Decimal("0.002"), 1.0)
    assert buy_behind(sell, buys, settings) == buys[1]
    assert buy_behind(sell._replace(price=Decimal("50600.0")), buys, settings) == buys[2]
    cheaper = (*buys[:2], UnsoldBuy("near", Decimal("49100"), Decimal("0.002"), 0.0))
    assert buy_behind(sell, cheaper, settings) == buys[1]
    sold = tuple(replace(buy, filled_at=100.0) for buy in buys)
    assert buy_behind(sell._replace(placed_at=0.0), sold, settings) == sold[1]  # nobody said when it was placed


@pytest.mark.parametrize(
    "sell",
    [
        pytest.param({"price": Decimal("48999.9")}, id="cheaper than the buy"),
        pytest.param({"volume": Decimal("0.00200001")}, id="more than was bought"),
        pytest.param({"volume": Decimal("0.001965")}, id="less than returns the quote spent and both fees"),
        pytest.param({"placed_at": 93.0}, id="placed before the buy was filled"),
    ],
)
def test_a_sell_of_unknown_origin_is_not_the_one_of_a_buy_when_it_is(sell: dict[str, Any]) -> None:
    settings = World().start("50000").strategy.settings
    buys = (UnsoldBuy("B", Decimal(49000), Decimal("0.002"), 100.0),)
    fitting = BookOrder("S", SELL, Decimal("49490.0"), Decimal("0.002"), 96.0)  # two clocks may differ by seconds
    assert buy_behind(fitting, buys, settings) == buys[0]
    assert buy_behind(fitting._replace(**sell), buys, settings) is None


def refuse(world: World, when: Callable[[dict[str, Any]], bool]) -> None:
    """The exchange allows no more open orders; ``when`` looks at the order."""
    take = world.rest.create_order

    def create_order(**order: Any) -> CreateOrderResponseSchema:
        if when(order):
            raise TooManyOrders("EOrder:Orders limit exceeded")
        return take(**order)

    world.rest.create_order = create_order  # type: ignore[method-assign]


def test_when_the_exchange_allows_no_more_orders_the_lowest_buy_gives_its_place_to_a_sell() -> None:
    world = World("GridSell").start("50000")
    refuse(world, lambda order: len(world.exchange.open_orders) >= 8)
    world.price("49500", "49000", "48500")  # three sells and five buys
    fills = world.exchange.on_price(Decimal(47550), world.clock.now)
    assert len(fills) == 2
    for fill in fills:  # between the two an older price comes, and with it a buy into the place of the one not heard of
        world.deliver([OnMessageSchema(channel="executions", executions=[fill]), ticker(world, "48000")])
    assert len(world.desk.unsold.all()) == 1
    world.wait(5)
    assert world.desk.unsold.all() == ()
    assert (len(world.sells), len(world.buys)) == (5, 3)
    world.price("47550").wait(300).price("47550")
    assert (len(world.sells), len(world.buys)) == (5, 3)


def untold_fall(told_first: int) -> World:
    """A price below all buys, heard when only some of their fills were told."""
    world = World("GridSell").start("50000")
    fills = world.exchange.on_price(Decimal("47500"), world.clock.now)
    assert len(fills) == 5
    told = [OnMessageSchema(channel="executions", executions=[fill]) for fill in fills]
    world.clock.now += 1
    world.deliver([*told[:told_first], ticker(world, "47500")])
    assert len(world.buys) == 5 - told_first, "no level is counted from a buy that is there no more"
    world.deliver(told[told_first:])
    world.settle()
    return world


@pytest.mark.parametrize("told_first", [0, 2, 4])
def test_a_price_that_overtakes_the_fills_it_caused_makes_the_same_grid(told_first: int) -> None:
    world = untold_fall(told_first)
    world.price("47500")
    assert world.buy_prices() == ["47029.7", "46564.0", "46102.9", "45646.4", "45194.4"]
    assert len(world.on_exchange(SELL)) == 5


def fall_told_backward(price: str) -> World:
    """A fill, and then the price of a fall before the fills that it has caused, which have the later time."""
    world = World("GridSell").start("50000")
    first = world.exchange.on_price(Decimal("49500"), world.clock.now)
    world.deliver([OnMessageSchema(channel="executions", executions=first)])
    world.settle()
    world.clock.now += 1
    world.deliver([ticker(world, price)])
    for fill in world.exchange.on_price(Decimal(price), world.clock.now + 0.5):
        world.deliver([OnMessageSchema(channel="executions", executions=[fill])])
    return world


def test_no_buy_follows_a_fill_above_the_price_of_the_fall_that_caused_it() -> None:
    world = fall_told_backward("40000")
    assert world.buy_prices() == []
    assert len(world.on_exchange(SELL)) == 5
    assert world.rest.calls.count("create_order") == 10, "no buy was tried"
    world.price("40000")
    assert world.buy_prices()[0] == "39603.9"


def test_where_no_other_price_comes_the_grid_is_completed_a_moment_later() -> None:
    world = fall_told_backward("49000")
    assert len(world.buys) == 3
    world.wait(3)
    assert len(world.buys) == 5


@pytest.mark.parametrize("is_timed", [True, False])
def test_a_fill_told_without_its_execution_is_a_price_too(is_timed: bool) -> None:
    world = World("GridSell").start("50000")
    world.clock.now += 1
    buys = world.buys
    world.exchange.on_price(Decimal("47500"), world.clock.now)
    world.exchange.take_events()
    at = world.clock.now if is_timed else 0.0
    for buy in buys:
        told = ExecutionsUpdateSchema(order_id=buy.txid, exec_type="filled", userref=USERREF, time=at)
        world.deliver([OnMessageSchema(channel="executions", executions=[told])])
    world.wait(20).price("47500")
    assert world.sell_prices() == ["48048.8", "48529.3", "49014.6", "49504.8", "49999.9"]
    assert sum(row.info.cost for row in world.desk.trades.all() if row.info.side == BUY) == sum(b.value for b in buys)


def test_an_execution_told_without_its_fee_is_booked_with_the_fee_that_is_paid() -> None:
    world = World("GridSell").start("50000")
    [fill] = world.exchange.on_price(Decimal("49500"), world.clock.now)
    told = fill.model_copy(update={"fee": None})
    world.deliver([OnMessageSchema(channel="executions", executions=[told])])
    [trade] = world.desk.trades.all()
    assert trade.info.fee == trade.info.cost * Decimal("0.0025")


@pytest.mark.parametrize("told_first", [2, 4])
def test_a_grid_that_waits_for_fills_is_completed_once_the_last_one_is_told(told_first: int) -> None:
    assert len(untold_fall(told_first).buys) == 5


def test_a_fill_that_is_not_told_delays_the_grid_for_a_moment_only() -> None:
    world = World("GridSell").start("50000")
    [first, *_] = world.exchange.on_price(Decimal("48900"), world.clock.now)  # two fills, of which one is never told
    world.exchange.take_events()
    world.clock.now += 1
    world.deliver([OnMessageSchema(channel="executions", executions=[first]), ticker(world, "48900")])
    assert len(world.buys) == 4
    world.wait(4)
    assert len(world.buys) == 5


def test_a_grid_is_not_moved_where_the_tick_would_put_it_back() -> None:
    world = World("cDCA", changes={"interval": Decimal("0.01")})
    world.exchange.pair = BTC_USD.model_copy(update={"tick_size": Decimal("0.1"), "costmin": Decimal("0.01")})
    world.start("0.9")
    world.price("0.9", "0.9", "0.9").wait(10)
    assert world.rest.calls.count("cancel_order") == 0


@pytest.mark.parametrize("lifted_after", [120, 1200])
def test_where_giving_way_does_not_help_the_grid_is_not_given_up_in_a_burst(lifted_after: int) -> None:
    world = World("GridSell").start("50000")
    full = True
    refuse(world, lambda order: full and order["side"] == SELL)
    world.price("49500").wait(5)
    assert len(world.buys) >= 3
    world.rest.calls.clear()
    world.wait(lifted_after)
    assert world.rest.calls.count("cancel_order") <= 4
    full = False
    world.wait(130).price("49500")
    assert (len(world.sells), len(world.buys)) == (1, 5)


def test_an_extra_sell_that_finds_no_place_costs_no_buy_its_own() -> None:
    world = World("SWING", base=Decimal(1))
    refuse(world, lambda order: len(world.exchange.open_orders) >= 5)
    world.start("50000")
    world.price("50000", "50001").wait(600).price("50000")
    assert len(world.buys) == 5
    assert "cancel_order" not in world.rest.calls


def test_before_an_extra_sell_the_exchange_is_asked_what_is_free() -> None:
    world = World("SWING", base=Decimal("0.01"))
    told = world.rest.get_pair_balance
    balances = [told, lambda: told().model_copy(update={"base_available": Decimal(0)})]  # the owner sends coins away
    world.rest.get_pair_balance = lambda: (balances.pop(0) if len(balances) > 1 else balances[0])()
    world.start("50000").price("50001")
    assert world.sells == ()
    assert world.rest.calls.count("create_order") == 5


def test_an_extra_sell_that_is_refused_is_not_tried_at_every_price() -> None:
    world = World("SWING", base=Decimal("0.01"))
    take, refused = world.rest.create_order, []

    def refuse_sells(**order: Any) -> CreateOrderResponseSchema:
        if order["side"] == SELL and len(refused) < 5:
            refused.append(world.clock.now)
            raise OrderRejected("EOrder:Whatever")
        return take(**order)

    world.rest.create_order = refuse_sells
    world.start("50000").price(*["50001"] * 100)
    assert len(refused) <= 4
    world.price(*["50001"] * 300)
    assert len(world.sells) == 1
    assert len(world.told(OrderRefused)) == 1
    refused.clear()
    world.price("51100")
    assert len(world.told(OrderRefused)) == 2, "one was placed meanwhile: that is told anew"


def test_the_surplus_of_a_lost_life_is_not_sold_again_where_the_feed_tells_of_no_order() -> None:
    world = World("GridSell", base=Decimal("0.01")).start("50000")
    for _ in range(2):
        world.exchange.fill(world.buys[0].txid, Decimal("0.0015"))
        world.settle()
        world.exchange.cancel_order(world.buys[0].txid, world.clock.now)
        world.settle()
        world.clock.now += 100
        world.price("49510")
    world.wait(10)
    before = world.on_exchange(SELL)
    assert len(before) == 1
    world.db = DBConnect(":memory:")
    world.restart().price("49510")
    world.wait(200).price("49510")
    assert world.on_exchange(SELL) == before


def test_a_sell_that_is_refused_for_another_reason_needs_no_place() -> None:
    world = World("GridSell").start("50000")
    take, reasons = world.rest.create_order, [TooManyOrders("limit exceeded"), *[InsufficientFunds("no funds")] * 9]

    def refused(**order: Any) -> CreateOrderResponseSchema:
        if order["side"] == SELL and reasons:
            raise reasons.pop(0)
        return take(**order)

    world.rest.create_order = refused  # type: ignore[method-assign]
    world.price("49500").wait(100)
    assert world.rest.calls.count("cancel_order") == 1
    world.price("49500")
    assert len(world.buys) == 5


def test_a_fill_that_nobody_told_is_asked_for_once_the_price_has_passed_its_order() -> None:
    world = World().start("50000")
    world.wait(80)  # the second look of a new database is over
    unheard(world, "49400")
    world.deliver([ticker(world, "49400")])
    assert [order.price for order in world.sells] == []
    world.wait(9)
    assert world.sells == ()
    world.wait(4)
    assert world.sell_prices() == ["49999.9"]


def test_a_fill_that_nobody_told_is_asked_for_even_when_the_price_bounces() -> None:
    world = World().start("50000")
    world.wait(80)
    unheard(world, "49400")
    for price in ("49400", "49510", "49400", "49510"):
        world.deliver([ticker(world, price)])
        world.wait(5)
    assert world.sell_prices() == ["49999.9"]


def test_fills_told_soon_after_the_price_has_passed_their_orders_are_no_reason_to_ask() -> None:
    world = World("GridSell").start("50000").wait(80)
    before = world.rest.calls.count("get_open_orders")
    for price in ("49400", "48900"):
        fill = world.exchange.on_price(Decimal(price), world.clock.now)
        world.exchange.take_events()
        world.frames.clear()
        world.deliver([ticker(world, price)])
        world.wait(1)
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=fill)])
        world.wait(60)
    assert len(world.sells) == 2
    assert world.rest.calls.count("get_open_orders") == before


def test_an_order_that_the_price_has_passed_for_long_is_asked_for_less_and_less_often() -> None:
    world = World().start("50000")
    world.wait(80)
    world.deliver([ticker(world, "49400")])  # another market's price: nothing was filled
    before = world.rest.calls.count("get_open_orders")
    world.wait(600)
    assert 4 <= world.rest.calls.count("get_open_orders") - before <= 16


def test_an_order_of_another_pair_is_asked_for_once() -> None:
    world = World().start("50000")
    world.wait(80)
    asked: list[list[str]] = []
    report = world.rest.get_open_orders(USERREF)[0].model_copy(update={"txid": "OTHER", "pair": "ETHUSD"})
    known = world.rest.get_orders_info

    def get_orders_info(txids: list[str]) -> dict[str, Any]:
        asked.append(txids)
        return known(txids) | {txid: report for txid in txids if txid == "OTHER"}

    world.rest.get_orders_info = get_orders_info  # type: ignore[method-assign]
    news = ExecutionsUpdateSchema(order_id="OTHER", exec_type="new", userref=USERREF)
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=[news])])
    world.wait(200)
    assert asked.count(["OTHER"]) == 1


@pytest.mark.parametrize("foreign", [{"pair": "ETHUSD"}, {"userref": 7}])
def test_orders_of_another_pair_or_userref_are_not_ours_whatever_list_they_stand_in(foreign: dict[str, Any]) -> None:
    world = World("GridSell").start("50000")
    mine = world.rest.get_open_orders(USERREF)[-1]
    listed, closed = world.rest.get_open_orders, world.rest.get_closed_orders
    world.rest.get_open_orders = lambda *args, **kwargs: [  # type: ignore[method-assign]
        *listed(*args, **kwargs),
        mine.model_copy(update={"txid": "OTHER", **foreign}),
    ]
    over = {"txid": "OVER", "status": "closed", "vol_exec": mine.vol, "cost": mine.vol * mine.price, **foreign}
    world.rest.get_closed_orders = lambda *args, **kwargs: [  # type: ignore[method-assign]
        *closed(*args, **kwargs),
        mine.model_copy(update=over),
    ]
    world.restart().price("50000").wait(1300).price("50000")
    assert world.on_exchange(BUY) == [f"{order.price:f}" for order in world.buys] + [f"{mine.price:f}"]
    assert (world.sells, world.desk.trades.all(), world.told(CaughtUp)) == ((), [], [])


def test_a_start_looks_back_over_the_lag_for_what_nobody_knew_also_while_an_answer_is_missing(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db", changes={"n_open_buy_orders": 1})
    world.rest.answers_lag = 60.0
    world.start("50000").wait(700).price("50000")
    unknown = world.exchange.create_order(
        side=BUY, price=Decimal(47000), volume=Decimal("0.002"), userref=USERREF, post_only=True, time=world.clock.now
    )
    world.exchange.fill(unknown)
    unheard(world)
    world.clock.now += 30
    world.strategy.remember_the_time()
    world.clock.now += 600
    world.rest.faults = ["lost before"]
    world.price("51500")
    assert len(world.desk.pending) == 1
    world.exchange.create_order(
        side=BUY, price=Decimal(46000), volume=Decimal("0.002"), userref=USERREF, post_only=True, time=world.clock.now
    )
    unheard(world)
    starts, ask = [], world.rest.get_closed_orders
    world.rest.get_closed_orders = lambda *args, **kw: starts.append(kw["start"]) or ask(*args, **kw)
    world.restart().price("51500").wait(10)
    assert [row.info.txid for row in world.desk.trades.all()][:1] == [unknown]
    assert min(starts) > world.clock.now - 800  # and not at everything there ever was
    [news] = world.told(CaughtUp)
    assert (news.buys_filled, news.adopted) == (1, 1)


def test_an_order_that_the_feed_told_of_binds_its_money_at_once() -> None:
    world = World("GridSell", base=Decimal("0.005")).start("50000")
    told = world.exchange.create_order(
        side=SELL, price=Decimal(60000), volume=Decimal("0.002"), userref=USERREF, post_only=True, time=world.clock.now
    )
    [update] = world.exchange.take_events()
    more = {"side": SELL, "limit_price": Decimal(60000), "order_qty": Decimal("0.002")}
    world.frames.clear()
    world.deliver([OnMessageSchema(channel="executions", executions=[update.model_copy(update=more)])])
    assert world.desk.book.get(told) is not None
    world.money()


def test_two_orders_of_ours_told_by_their_fills_alone_are_both_booked() -> None:
    world = World("GridSell").start("50000").price("49500")
    world.wait(200)
    unknown = [
        SimulatedRESTService.create_order(
            world.rest, ordertype="limit", side=BUY, volume=Decimal("0.002"), price=Decimal(price), userref=USERREF
        ).txid
        for price in ("49300", "49200")
    ]
    world.frames.clear()
    world.exchange.take_events()
    world.clock.now += 1
    events = world.exchange.on_price(Decimal("49100"), world.clock.now)
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=[event]) for event in events])
    world.settle()
    world.wait(100)
    assert [len(world.desk.trades.of_order(txid)) for txid in unknown] == [1, 1]
    assert world.desk.strangers == set()  # they are not asked for again
    [trouble] = world.told(Trouble)
    assert f"carries this bot's userref {USERREF} and was not placed by it" in trouble.text
    assert {sell.sells for sell in world.sells} >= set(unknown)


def test_what_an_older_database_does_not_know_is_looked_for_once_more_after_the_lag(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db")
    world.rest.answers_lag = 60.0
    world.start("50000").wait(100)
    asked, ask = [], world.rest.get_closed_orders
    world.rest.get_closed_orders = lambda *args, **kwargs: asked.append(world.clock.now) or ask(*args, **kwargs)
    world.restart().price("50000")
    assert len(asked) == 1
    for _ in range(5):
        world.desk.request_sync("a doubt")
        world.wait(10)
    assert len(asked) == 1  # what is asked for within the lag tells nothing new
    world.wait(700)  # the first look of a life may have been answered from before it
    assert len(asked) == 2
    world.wait(1300)
    assert len(asked) == 2


def test_an_old_fill_is_no_price_for_a_bot_that_starts(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db")
    world.clock.monotonic = lambda: world.clock.now - 1_789_999_000.0
    world.start("50000").wait(100)
    unheard(world, "49400")
    world.clock.now += 10_000
    unheard(world, "50400")
    untold = ticker(world, "50400").ticker_data
    assert untold is not None
    world.restart().settle()
    world.deliver([OnMessageSchema(channel="ticker", ticker_data=untold.model_copy(update={"time": 0.0}))])
    world.settle()
    assert world.sell_prices() == ["50904.0"]


def test_a_last_fill_told_as_partial_and_then_as_filled_asks_nothing() -> None:
    world = World("GridSell").start("50000").wait(100)
    [event] = world.exchange.on_price(Decimal("49500"), world.clock.now)
    filled = {"exec_type": "filled", "exec_id": None, "last_qty": None, "last_price": None, "cum_qty": None}
    world.rest.calls.clear()
    for update in ({"order_status": "partially_filled"}, filled):
        row = event.model_copy(update=update)
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[row])])
        world.settle()
        assert world.sell_prices() == ["49999.9"]  # all of it is executed, whatever the status says
    world.wait(20)
    assert world.sell_prices() == ["49999.9"]
    assert world.rest.calls == ["create_order"]


def test_a_comparison_waits_as_long_as_the_exchange_asks_for() -> None:
    world = World().start("50000")
    asked: list[float] = []

    def away() -> float:
        asked.append(world.clock.now)
        raise TemporaryFailure("locked", 900.0)

    world.rest.get_server_time = away
    world.desk.request_sync("a doubt")
    world.wait(850)
    assert len(asked) == 1


def test_a_slow_answer_does_not_set_the_clock_back() -> None:
    world = World().start("50000")
    told_at, ask = world.desk.now(), world.rest.get_server_time

    def slow() -> float:
        time = ask()
        world.clock.now += 9
        return time

    world.rest.get_server_time = slow
    world.desk.time.read()
    assert world.desk.now() == told_at + 9
    world.desk.time._offset = 50.0
    with pytest.raises(TemporaryFailure, match="took 9 s to tell the time"):
        world.desk.time.read()


def test_a_time_that_leaps_is_believed_when_it_is_told_twice_alike() -> None:
    world = World().start("50000")
    before, ask = world.desk.now(), world.rest.get_server_time
    answers = [86400.0, 0.0]
    world.rest.get_server_time = lambda: ask() + answers.pop(0)
    with pytest.raises(TemporaryFailure, match="time leapt by 86400 s"):
        world.desk.time.read()
    assert world.desk.now() == before
    answers = [59.0]
    world.desk.time.read()
    assert world.desk.now() == before + 59
    answers = [-3600.0, -3600.0]  # the machine slept, or had been told wrong
    world.desk.time.read()
    assert world.desk.now() == before - 3600


def test_a_fee_that_rises_above_the_interval_holds_back_buys_and_not_sells_until_it_falls(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db", changes={"interval": Decimal("0.006"), "fee": None})
    world.start("50000").price("49650")
    assert len(world.sells) == 1
    world.rest.get_maker_fee = lambda: Decimal("0.004")
    world.restart().price("49400")
    assert len(world.sells) == 2
    assert len(world.buys) == 4
    world.price("49450", "51000")
    assert world.told(GridShifted) == []  # and nothing is cancelled in whose stead nothing would be placed
    assert len(world.buys) == 4
    [trouble] = world.told(Trouble)
    assert "this grid loses on every round" in trouble.text
    assert [w.cause for w in world.strategy.waiting] == [Cause.FEE]
    world.rest.get_maker_fee = lambda: Decimal("0.0025")
    world.wait(1300).price("51001")
    assert len(world.buys) == 5
    world.rest.get_maker_fee = lambda: Decimal("0.004")
    world.wait(87000)
    assert len(world.told(Trouble)) == 2


def real(fee: str | None, interval: str, taken: str) -> World:
    """Real orders under settings that name this fee, or none, at an exchange that takes another."""
    changes = {"exchange": "Kraken", "dry_run": False, "interval": Decimal(interval)}
    world = World("GridSell", changes=changes | {"fee": None if fee is None else Decimal(fee)})
    world.exchange.fee = Decimal(taken)
    return world


def test_where_the_fee_that_is_taken_makes_cycles_lose_no_buy_follows_and_the_owner_is_told_once() -> None:
    world = real("0.0016", "0.006", taken="0.004").start("50000").price("49650", "49350", "49450", "51000")
    told, held_back = (trouble.text for trouble in world.told(Trouble))
    assert told.startswith("[grid] fee = 0.16 %: the exchange took 0.40 % for the buy ")
    assert "this grid loses on every round: two fees of 0.4 % cost more than a step of 0.6 % earns" in held_back
    assert (len(world.buys), len(world.sells)) == (3, 0)
    assert [w.cause for w in world.strategy.waiting] == [Cause.FEE]
    world.exchange.charge(Decimal("0.0016"))
    world.price("49000").wait(2).price("49000")
    assert len(world.buys) == 5, "the fee has fallen again"


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_buy_that_its_owner_has_made_take_proves_nothing_of_the_fee(is_heard: bool) -> None:
    world = real("0.0016", "0.006", taken="0.004").start("50000")
    deliver, trades_info = world.deliver, world.rest.get_trades_info

    def told(messages: list[OnMessageSchema]) -> None:
        for message in messages:
            taken = [event.model_copy(update={"maker": False}) for event in message.executions or []]
            deliver([message.model_copy(update={"executions": taken})])

    def asked(exec_ids: list[str]) -> dict[str, TradeInfoSchema]:
        return {key: TakerTradeSchema(**vars(trade)) for key, trade in trades_info(exec_ids).items()}

    world.deliver, world.rest.get_trades_info = told, asked
    if not is_heard:
        unheard(world, "49690")
        world.desk.request_sync("a doubt")
    world.price("49690").wait(20)
    assert (len(world.sells), world.told(Trouble), world.strategy.waiting) == (1, [], ())


def test_nor_does_one_that_took_before_a_restart_and_is_filled_after_it() -> None:
    world = real("0.0016", "0.006", taken="0.004").start("50000")
    deliver, top = world.deliver, world.buys[0]

    def told(messages: list[OnMessageSchema]) -> None:
        for message in messages:
            taken = [event.model_copy(update={"maker": False}) for event in message.executions or []]
            deliver([message.model_copy(update={"executions": taken})])

    world.deliver = told
    world.exchange.fill(top.txid, Decimal("0.001"))
    world.price("50000")
    assert world.buys[0].executed == Decimal("0.001")
    world.deliver = deliver
    world.restart().price("50000", "49690").wait(20)
    assert (len(world.sells), world.told(Trouble), world.strategy.waiting) == (1, [], ())


def test_a_fee_below_the_one_taken_is_told_once_and_trade_goes_on_where_it_pays() -> None:
    world = real("0.0016", "0.01", taken="0.004").start("50000").price("49500", "49000", "48000").wait(100)
    [trouble] = world.told(Trouble)
    assert "Take the line out, or set what you really pay" in trouble.text
    assert len(world.buys) == 5


@pytest.mark.parametrize(("fee", "taken"), [("0.0025", "0.0025"), ("0.0025", "0.0016"), ("0.0025", "0.0026")])
def test_a_fee_that_is_about_the_one_taken_or_above_it_is_nothing_to_tell(fee: str, taken: str) -> None:
    world = real(fee, "0.01", taken).start("50000").price("49500", "49000")
    assert world.told(Trouble) == []


def test_a_fee_that_the_exchange_had_told_is_asked_for_again_when_more_is_taken() -> None:
    world = real(None, "0.01", taken="0.0025").start("50000")
    world.exchange.fee = Decimal("0.004")
    world.price("51500").wait(5).price("51500", "50900")
    assert world.strategy.settings.fee == Decimal("0.0025")
    world.wait(700)
    assert world.strategy.settings.fee == Decimal("0.004")
    assert world.told(Trouble) == []


def test_new_settings_under_which_no_buy_fits_leave_the_open_buys_where_they_are(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db", changes={"fee": None}).start("50000")
    before = world.on_exchange(BUY)
    world.restart(amount_per_grid=Decimal(9990)).price("50000", "50100").wait(60)
    assert world.on_exchange(BUY) == before
    assert all("Until then" in trouble.text for trouble in world.told(Trouble))


def test_a_new_amount_at_a_price_of_one_tick_ends_no_bot(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000")
    world.restart(amount_per_grid=Decimal(50)).price("0.1")
    assert world.strategy.is_ready


def test_a_new_amount_that_no_exchange_would_take_leaves_the_open_buys_where_they_are(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000").price("49500")
    before = world.on_exchange(BUY)
    world.restart(amount_per_grid=Decimal(2)).price("49500", "49600").wait(60)
    assert world.on_exchange(BUY) == before
    assert world.on_exchange(SELL) == ["49999.9"]
    [trouble] = world.told(Trouble)
    assert "[grid] amount_per_grid = 2: too little for a buy @" in trouble.text
    assert "Until then open buys stay" in trouble.text
    assert [w.cause for w in world.strategy.waiting] == [Cause.MINIMUM]
    world.price("50001")
    assert world.on_exchange(SELL) == []
    world.restart(amount_per_grid=Decimal(50)).price("50000")
    assert len(world.buys) == 5
    assert all(order.price * order.volume < 51 for order in world.buys)


def test_a_price_step_that_changes_while_the_bot_runs_is_learnt_from_a_refusal() -> None:
    world = World("GridSell").start("50000")
    world.exchange.pair = BTC_USD.model_copy(update={"pair_decimals": 0, "tick_size": Decimal(1)})
    world.price("49500")
    assert world.sells == ()
    world.wait(1900)
    assert world.sell_prices() == ["49999"]


def test_a_smallest_order_that_was_told_wrong_once_holds_back_buys_for_minutes_and_not_for_a_day() -> None:
    world = World("GridSell").start("50000")
    world.exchange.pair = BTC_USD.model_copy(update={"ordermin": Decimal("0.05")})
    world.strategy._terms.read_at = -math.inf
    world.wait(700)
    world.exchange.pair = BTC_USD
    world.price("52000")
    assert world.buys == ()
    world.wait(1300).price("52000")
    assert len(world.buys) == 5


@pytest.mark.parametrize("failure", [TemporaryFailure("busy"), AccessDenied("no"), ConfigurationError("delisted")])
def test_rules_that_cannot_be_read_again_leave_the_old_ones(failure: Exception) -> None:
    world = World("GridSell").start("50000")
    asked: list[float] = []

    def refuse() -> None:
        asked.append(world.clock.now)
        raise failure

    world.rest.get_asset_pair_info = refuse
    world.clock.now += 86_000
    world.wait(3000)
    world.price("49500")
    assert world.sell_prices() == ["49999.9"]
    assert len(asked) == 1  # a day later, and not again at every comparison


def test_a_changed_userref_is_told_of_the_grid_it_leaves_behind(tmp_path: Path) -> None:
    World(path=tmp_path / "bot.db").start("50000")
    world = World(path=tmp_path / "bot.db", changes={"userref": 7}).start("50000")
    [trouble] = world.told(Trouble)
    assert f"5 open orders of userref {USERREF}" in trouble.text


def test_a_feed_that_is_lost_before_the_first_comparison_makes_no_absence_longer(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db")
    world.clock.monotonic = lambda: world.clock.now - 1_789_999_000.0  # seconds since the machine was started
    world.start("50000")
    unheard(world, "49400")
    world.clock.now += 30
    world.restart().deliver([LOST, snapshot(world)])
    world.price("49450")
    [caught_up] = world.told(CaughtUp)
    assert (caught_up.buys_filled, caught_up.away_seconds) == (1, pytest.approx(31))


def test_a_clock_that_is_ahead_makes_nobody_wait_for_the_feed_of_executions() -> None:
    world = World("GridSell").start("50000")
    unheard(world, "49400")
    world.clock.time = lambda: world.clock.now + 3600  # type: ignore[method-assign]
    world.restart().frames.clear()  # the feed of executions does not open
    world.desk.time.read()
    world.price("49450").wait(95)
    assert world.on_exchange(SELL) == ["49999.9"]


def test_comparisons_that_fail_for_minutes_are_told_once_with_their_cause() -> None:
    world = World("GridSell").start("50000").wait(80)
    ask = world.rest.get_open_orders

    def fail(*_: Any, **__: Any) -> Any:
        raise TemporaryFailure("Kraken refused OpenOrders: EGeneral:Invalid arguments")

    world.rest.get_open_orders = fail  # type: ignore[method-assign]
    world.desk.request_sync("a doubt")
    world.wait(290)
    assert world.told(Trouble) == []
    world.wait(700)
    [trouble] = world.told(Trouble)
    assert "could not be compared with the exchange for 5 minutes: Kraken refused OpenOrders" in trouble.text
    world.rest.get_open_orders = ask  # type: ignore[method-assign]
    world.wait(70)
    world.rest.get_open_orders = fail  # type: ignore[method-assign]
    world.desk.request_sync("another doubt")
    world.wait(400)
    assert len(world.told(Trouble)) == 2, "told anew after a success"


@pytest.mark.parametrize(("lag", "waits"), [(0.0, 60), (60.0, 73)])
def test_a_start_without_the_feed_of_executions_sells_what_was_bought_meanwhile_and_says_so(
    lag: float, waits: int
) -> None:
    world = World("GridSell").start("50000")
    unheard(world, "49400")
    world.rest.answers_lag = lag
    world.restart().frames.clear()  # the feed of executions does not open
    world.price("49450")
    world.wait(waits - 5)
    assert (world.sells, world.told(Trouble)) == ((), [])
    world.wait(35)
    assert world.on_exchange(SELL) == ["49999.9"]
    assert len(world.on_exchange(BUY)) == 4, "nothing is bought blindly"
    world.wait(300)
    [trouble] = world.told(Trouble)
    assert "no connection to the feed of our orders for 5 minutes" in trouble.text
    world.deliver([snapshot(world)])
    world.price("49450").wait(5)
    assert (len(world.on_exchange(BUY)), world.on_exchange(SELL)) == (5, ["49999.9"])


def test_without_any_feed_a_running_bot_still_sells_what_it_has_bought() -> None:
    world = World("GridSell").start("50000").wait(80)
    world.deliver([LOST, PRICE_LOST])
    unheard(world, "49400")
    world.wait(130)
    assert world.on_exchange(SELL) == ["49999.9"]


def test_a_feed_that_is_lost_before_the_first_comparison_is_a_silence_too() -> None:
    world = World("GridSell").start("50000")
    unheard(world, "49400")
    world.restart().deliver([snapshot(world), LOST])  # and no price yet
    world.frames.clear()
    world.price("49450").wait(100)
    assert world.on_exchange(SELL) == ["49999.9"]
    world.wait(300)
    assert len(world.told(Trouble)) == 1


def test_no_buy_is_placed_while_the_feed_of_executions_is_away() -> None:
    world = World("GridSell", changes={"n_open_buy_orders": 2}).start("50000")
    world.price("49400", "48900")  # two sells
    world.deliver([LOST])
    unheard(world, "48400", "49600")  # a buy and the lower sell
    placed = world.rest.calls.count("create_order")
    world.wait(200)
    buys = world.on_exchange(BUY)
    assert len(buys) == 1
    world.deliver([snapshot(world)])
    world.price("49600").wait(5)
    assert len(world.on_exchange(BUY)) == 2
    assert world.rest.calls.count("create_order") > placed


def test_a_first_start_without_any_feed_waits_and_says_so() -> None:
    world = World("GridSell").restart()
    world.frames.clear()
    world.wait(400)
    assert world.on_exchange(BUY) == []
    assert len(world.told(Trouble)) == 1


def test_a_fill_learnt_by_asking_is_the_last_traded_price_where_the_ticker_is_older() -> None:
    world = World("GridSell").start("50000")
    world.deliver([LOST])
    world.clock.now += 5
    unheard(world, "49500")  # and no ticker tells it
    world.deliver([snapshot(world)])
    assert world.sell_prices() == ["49999.9"]


def test_a_fetched_fee_that_leaves_no_room_for_one_buy_is_refused_at_the_first_start() -> None:
    world = World(changes={"fee": None, "max_investment": Decimal("100.2")})
    world.rest.get_maker_fee = lambda: Decimal("0.0025")
    with pytest.raises(ConfigurationError, match=r"max_investment: not one buy fits, it must be more than 100.25 "):
        world.start("50000")


def test_without_room_for_a_comparison_fills_are_booked_and_sold_meanwhile() -> None:
    world = World("GridSell").start("50000").wait(100)
    world.rest.comparison_wait = 17.0
    told = [LOST, snapshot(world)]
    world.rest.calls.clear()
    world.deliver(told)
    world.price("49500")
    world.wait(10)
    assert world.sell_prices() == ["49999.9"]
    assert world.rest.calls == ["create_order"]
    world.rest.comparison_wait = 0.0
    world.wait(2)
    assert "get_open_orders" in world.rest.calls
