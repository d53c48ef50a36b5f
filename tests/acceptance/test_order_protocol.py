"""Nothing lost, nothing twice: each step of the order protocol, with the reply that never came."""

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gridbot.exceptions import (
    AccessDenied,
    InsufficientFunds,
    OrderFateUnknown,
    OrderRejected,
    PlacementPaused,
    PostOnlyWouldCross,
    TemporaryFailure,
    TooManyOrders,
)
from gridbot.models.events import CaughtUp, FundsShort, GridShifted, OrderExecuted, OrderPlaced, OrderRefused, Trouble
from gridbot.models.exchange import (
    BUY,
    SELL,
    CreateOrderResponseSchema,
    ExecutionsUpdateSchema,
    OnMessageSchema,
    OrderInfoSchema,
    TickerUpdateSchema,
)
from gridbot.models.grid import Cause, PlaceBuy
from gridbot.models.money import ZERO
from gridbot.services.order_desk import PLACING
from tests.settings import USERREF
from tests.world import World

FIRST_GRID = ["49504.9", "49014.7", "48529.4", "48048.9", "47573.1"]


class Dead(BaseException):
    """kill -9."""


def test_a_placement_is_on_disk_before_it_is_on_the_wire() -> None:
    world = World()
    seen = []
    place = world.rest.create_order

    def look(**order: object) -> object:
        [row] = world.db.execute("SELECT side, price, volume, userref, deadline FROM pending_txids").fetchall()
        seen.append(row)
        assert not world.db.db.conn.in_transaction  # committed, not only written
        assert (order["deadline"], order["oflags"]) == (row[4], "post,fciq" if row[0] == BUY else "fciq")
        return place(**order)

    world.rest.create_order = look  # type: ignore[method-assign]
    world.start("50000")
    assert [(side, price) for side, price, *_ in seen] == [("buy", price) for price in FIRST_GRID]
    assert seen[0][2:4] == ("0.00202000", USERREF)
    assert seen[0][4] == world.clock.now + 10
    assert len(world.desk.pending) == 0
    world.price("49500")
    assert ("sell", "49999.9") in [(side, price) for side, price, *_ in seen]


def test_after_a_lost_answer_nothing_is_placed_until_it_is_found() -> None:
    world = World()
    world.rest.faults = ["lost after"]
    world.start("50000")
    assert world.rest.calls.count("create_order") == 1
    assert len(world.desk.pending) == 1
    world.price("50000", "49999", "50001")
    assert world.rest.calls.count("create_order") == 1
    world.wait(8).price("50000")
    assert world.buy_prices() == FIRST_GRID
    assert world.on_exchange(BUY) == FIRST_GRID
    assert world.rest.calls.count("create_order") == 5


def test_an_order_that_never_arrived_is_given_up_after_deadline_lag_and_two_looks() -> None:
    world = World()
    world.rest.answers_lag = 60.0
    world.rest.faults = ["lost before"]
    world.start("50000")
    world.wait(69)
    assert len(world.desk.pending) == 1
    assert world.rest.calls.count("create_order") == 1
    world.wait(25).price("50000")
    assert world.on_exchange(BUY) == FIRST_GRID
    assert len(world.desk.pending) == 0


@pytest.mark.parametrize("told_by", ["message", "report"])
@pytest.mark.parametrize(
    "unlike",
    [{}, {"side": SELL}, {"price": Decimal("49504.8")}, {"volume": Decimal("0.00202001")}, {"after": -6.0}],
)
def test_only_an_order_that_fits_in_everything_is_the_one_without_an_answer(
    unlike: dict[str, object], told_by: str
) -> None:
    world = World()
    world.rest.faults = ["lost before"]
    world.start("50000")
    [sent] = world.desk.pending.all()
    fits = {"side": BUY, "price": sent.price, "volume": sent.volume, "after": -4.0}  # clocks may differ
    side, price, volume, after = (fits | unlike).values()
    if told_by == "message":
        update = ExecutionsUpdateSchema(
            order_id="OTHER",
            exec_type="new",
            order_status="new",
            userref=USERREF,
            side=side,
            limit_price=price,
            order_qty=volume,
            time=sent.written_at + after,
        )
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[update])])
    else:
        info = OrderInfoSchema(
            pair="BTCUSD",
            price=price,
            side=side,
            status="open",
            txid="OTHER",
            userref=USERREF,
            vol=volume,
            vol_exec=ZERO,
            opened_at=sent.written_at + after,
        )
        world.desk.settle([info])
    assert (sent in world.desk.pending.all()) is bool(unlike)
    if told_by == "message" and not unlike:
        assert len(world.buys) == 5  # the grid check that waited for the answer goes on


def test_an_order_that_was_filled_at_once_while_its_answer_was_lost_and_the_feed_silent_is_sold() -> None:
    world = World("GridSell", changes={"n_open_buy_orders": 1}).start("50000").wait(700)
    place = world.rest.create_order

    def unheard(**order: object) -> object:
        reply = place(**order)
        if order["side"] == SELL:
            return reply
        world.exchange.on_price(Decimal(49000), world.clock.now)
        world.exchange.take_events()
        world.frames.clear()
        raise OrderFateUnknown("the connection broke")

    world.rest.create_order = unheard  # type: ignore[method-assign]
    world.price("49500")  # a buy is filled and sold, and of the next one nothing is heard
    [lost] = world.desk.pending.all()
    world.rest.create_order = place  # type: ignore[method-assign]
    world.wait(30).price("49000")
    assert [row.info.price for row in world.desk.trades.all()] == [Decimal("49504.9"), lost.price]
    assert len(world.sells) == 2


@pytest.mark.parametrize("became", ["given up", "found"])
def test_each_order_without_an_answer_is_looked_for_twice_whatever_became_of_the_one_before(became: str) -> None:
    world = World()
    world.rest.faults = ["lost before", "lost before"]
    world.start("50000")
    for looks in (1, 2):
        [placement] = world.desk.pending.all()
        world.clock.now = placement.deadline + world.rest.answers_lag + 1
        world.desk.settle([])
        assert world.desk.pending.all() == (placement,)
        if became == "given up" or looks == 2:
            world.desk.settle([])
        else:
            world.desk.accepted(placement, "OFOUND")
        assert len(world.desk.pending) == 0
        world.desk.place(PlaceBuy(placement.price, placement.volume, "again"))


def test_an_order_without_an_answer_is_asked_for_at_growing_pauses_that_begin_anew_with_the_next_one() -> None:
    world = World("GridSell").start("50000").wait(80)
    world.rest.answers_lag = 60.0

    def looks(seconds: int) -> int:
        before = world.rest.calls.count("get_open_orders")
        return world.wait(seconds).rest.calls.count("get_open_orders") - before

    for price, fault in (("49500", "lost after and hidden"), ("49000", "lost before")):
        world.rest.faults = [fault]
        world.price(price)
        assert looks(20) == 3  # after 1, 5 and 13 s
        assert looks(45) <= 3  # after 22, 42 and 62 s
        world.rest.hidden.clear()
        world.wait(300)
        assert len(world.desk.pending) == 0


def test_a_cancellation_that_cannot_be_looked_up_is_asked_for_at_growing_pauses() -> None:
    world = World().start("50000").wait(80)
    asked = []

    def unanswered(txids: list[str]) -> dict[str, OrderInfoSchema]:
        asked.append(txids)
        raise TemporaryFailure("no answer")

    world.rest.get_orders_info = unanswered  # type: ignore[method-assign]
    world.exchange.on_price(Decimal(60000), world.clock.now)
    update = TickerUpdateSchema(symbol="BTC/USD", last=Decimal(60000), time=world.clock.now)
    world.deliver([OnMessageSchema(channel="ticker", ticker_data=update)])
    world.exchange.take_events()
    world.frames.clear()
    world.wait(60)
    assert 3 <= len(asked) <= 6  # after 3, 6, 12, 20, 20 s


def test_an_order_that_rest_shows_late_is_not_placed_again() -> None:
    world = World()
    world.rest.answers_lag = 60.0
    world.rest.faults = ["lost after and hidden"]
    world.start("50000")
    world.wait(50)
    world.rest.hidden.clear()
    world.wait(25).price("50000")
    assert world.on_exchange(BUY) == FIRST_GRID


def told_once(world: World, **wrong: object) -> None:
    """The next answer about open orders tells every sell wrong, the ones after it do not."""
    ask = world.rest.get_open_orders

    def bent(*args: Any, **kwargs: Any) -> list[OrderInfoSchema]:
        world.rest.get_open_orders = ask  # type: ignore[method-assign]
        return [o.model_copy(update=wrong) if o.side == SELL else o for o in ask(*args, **kwargs)]

    world.rest.get_open_orders = bent  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "wrong",
    [
        {"opened_at": 0.0},
        {"opened_at": 1.0},
        {"vol": Decimal("0.00402")},
        {"price": Decimal(99999)},
        {"vol": Decimal("0.00402"), "opened_at": 0.0},
    ],
)
@pytest.mark.parametrize("surplus", [False, True])
def test_an_order_without_an_answer_that_is_told_wrong_once_is_not_placed_again(
    wrong: dict[str, object], surplus: bool
) -> None:
    world = World().start("50000")
    world.rest.answers_lag = 60.0
    if surplus:
        world.desk.add_to_surplus(Decimal("0.0001"), Decimal(40000))
    left = world.desk.configuration.get().vol_of_unfilled_remaining
    place = world.rest.create_order

    def unheard(**order: object) -> object:
        place(**order)
        world.rest.create_order = place  # type: ignore[method-assign]
        world.exchange.take_events()
        raise OrderFateUnknown("the connection broke")

    world.rest.create_order = unheard  # type: ignore[method-assign]
    world.price("49500")
    assert len(world.desk.pending) == 1
    told_once(world, **wrong)
    world.wait(200).price("49500")
    assert world.on_exchange(SELL) == ["49999.9"]
    assert [(f"{sell.price:f}", sell.sells) for sell in world.sells] == [("49999.9", "S00001-SIM00-BUY")]
    assert (len(world.desk.pending), len(world.desk.unsold)) == (0, 0)
    assert world.desk.configuration.get().vol_of_unfilled_remaining == left
    world.money()


def test_what_an_adopted_sell_sells_is_settled_before_anything_is_placed_after_the_fate_of_another_is_known() -> None:
    world = World().start("50000")
    world.rest.faults = ["lost before"]
    world.price("49500")
    [sent] = world.desk.pending.all()
    ours = {"userref": USERREF, "side": SELL, "exec_type": "new", "order_status": "new", "symbol": "BTC/USD"}
    ours |= {"time": world.clock.now, "order_qty": sent.volume}
    for txid, price in (("OTHER", sent.price * 2), ("SENT", sent.price)):
        update = ExecutionsUpdateSchema(order_id=txid, limit_price=price, **ours)
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[update])])
        world.desk.sync_reason = "" if txid == "OTHER" else world.desk.sync_reason
    assert [sell.sells for sell in world.sells] == ["S00001-SIM00-BUY", ""]
    assert "adopted sell" in world.desk.sync_reason
    world.wait(5)
    assert [sell.sells for sell in world.sells] == ["S00001-SIM00-BUY", "unknown"]


def test_a_placement_from_a_clock_that_ran_ahead_is_given_up_and_found_like_any_other() -> None:
    for fault, arrives in (("lost before", False), ("lost after and hidden", True)):
        world = World()
        world.rest.answers_lag = 60.0
        world.rest.faults = [fault]
        world.strategy.run(world.frames.append)
        ahead = 86400.0 * 365
        world.desk.time._offset += ahead  # as one wrong answer of the exchange left it
        create = world.desk.write_down(PlaceBuy(Decimal("49504.9"), Decimal("0.00202000"), "first"))
        world.desk.time._offset -= ahead
        world.desk.send(create)
        world.frames.clear()
        world.rest.hidden.clear()
        world.restart().price("50000").wait(68)
        assert len(world.desk.pending) == (not arrives)
        world.wait(20).price("50000")
        assert len(world.desk.pending) == 0
        assert world.on_exchange(BUY) == FIRST_GRID


def test_an_order_filled_before_its_answer_was_missed_is_sold() -> None:
    world = World()
    world.rest.faults = ["lost after"]
    world.start("50000")
    world.price("49500")  # filled; the message names an order the book does not know
    world.wait(8).price("49500")
    assert world.sell_prices() == ["49999.9"]
    assert world.on_exchange(SELL) == ["49999.9"]
    assert len(world.desk.trades.all()) == 1


def test_a_process_killed_after_sending_finds_its_order_at_the_next_start() -> None:
    world = World()
    world.strategy.run(world.frames.append)
    place = world.rest.create_order

    def die(**order: object) -> object:
        place(**order)
        raise Dead

    world.rest.create_order = die  # type: ignore[method-assign]
    with pytest.raises(Dead):
        world.price("50000")
    world.rest.create_order = place  # type: ignore[method-assign]
    world.frames.clear()
    world.restart().price("50000")
    assert world.on_exchange(BUY) == FIRST_GRID
    assert world.buy_prices() == FIRST_GRID


def test_a_process_killed_between_fill_and_sell_places_the_sell_once() -> None:
    world = World().start("50000")

    def die(**order: object) -> object:
        raise Dead

    place = world.rest.create_order
    world.rest.create_order = die  # type: ignore[method-assign]
    with pytest.raises(Dead):
        world.price("49500")
    world.rest.create_order = place  # type: ignore[method-assign]
    assert len(world.desk.unsold) == 1  # recorded in the transaction that took the buy out of the book
    world.restart().price("49500")
    world.wait(25).price("49500")
    assert world.on_exchange(SELL) == ["49999.9"]
    assert len(world.desk.unsold) == 0


def test_the_same_execution_told_again_changes_nothing() -> None:
    world = World().start("50000").price("49500")
    trade = world.desk.trades.all()[0].info
    again = ExecutionsUpdateSchema(
        order_id=trade.txid,
        exec_type="trade",
        order_status="filled",
        userref=USERREF,
        symbol="BTC/USD",
        side=BUY,
        exec_id=trade.exec_id,
        last_qty=trade.volume,
        last_price=trade.price,
        cost=trade.cost,
        fee=trade.fee,
        cum_qty=trade.volume,
        time=trade.time,
    )
    for _ in range(3):
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[again])])
    world.restart().price("49500")
    assert len(world.desk.trades.all()) == 1
    assert world.on_exchange(SELL) == ["49999.9"]


def test_a_part_of_an_open_order_told_again_counts_once() -> None:
    world = World().start("50000")
    top = world.buys[0]
    world.exchange.fill(top.txid, Decimal("0.0005"))
    part = world.exchange.take_events()
    for _ in range(3):
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=part)])
    assert world.buys[0].executed == Decimal("0.0005")
    assert len(world.desk.trades.all()) == 1
    world.money()


def test_late_news_does_not_revive_an_order() -> None:
    world = World().start("50000")
    top = world.buys[0]
    world.price("49500")
    stale = [
        ExecutionsUpdateSchema(order_id=top.txid, exec_type=kind, order_status=kind, userref=USERREF)
        for kind in ("pending_new", "new", "canceled")
    ]
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=stale)])
    assert world.desk.book.get(top.txid) is None
    assert world.sell_prices() == ["49999.9"]


def test_late_news_does_not_revive_a_cancelled_order_after_comparisons_and_a_restart(tmp_path: Path) -> None:
    world = World(path=tmp_path / "bot.db").start("50000")
    top = world.buys[0]
    world.exchange.cancel_order(top.txid, world.clock.now)
    world.settle()
    world.wait(1300)
    late = ExecutionsUpdateSchema(
        order_id=top.txid,
        exec_type="new",
        order_status="new",
        userref=USERREF,
        side=BUY,
        limit_price=top.price,
        order_qty=top.volume,
        time=top.placed_at,
    )
    for _ in range(2):
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[late])])
        assert world.desk.book.get(top.txid) is None
        world.restart().price("50000")
    world.clock.now += 8 * 86400
    low = world.buys[-1]
    world.exchange.cancel_order(low.txid, world.clock.now)
    world.price("50000").wait(700)  # after a week nobody mentions an order any more, and it is forgotten
    assert world.db.execute("SELECT txid FROM finished_orders").fetchall() == [(low.txid,)]
    assert top.txid not in world.desk.finished


def test_a_fill_that_wins_the_race_against_a_cancellation_is_a_fill() -> None:
    world = World().start("50000")
    top = world.buys[0]
    cancel = world.rest.cancel_order

    def late(txid: str) -> None:
        if txid == top.txid:
            world.exchange.fill(txid)
        cancel(txid)

    world.rest.cancel_order = late  # type: ignore[method-assign]
    world.price("60000")
    world.wait(5)
    assert [e.txid for e in world.told(OrderExecuted) if e.side == BUY] == [top.txid]
    assert len(world.sells) == 1
    assert world.sells[0].price == Decimal("60600.0")


def test_a_cancellation_that_did_nothing_is_noticed_and_asked_for_again() -> None:
    world = World().start("50000")
    cancel = world.rest.cancel_order
    ignored: list[str] = []

    def deaf(txid: str) -> None:
        if not ignored:
            ignored.append(txid)
            return
        cancel(txid)

    world.rest.cancel_order = deaf  # type: ignore[method-assign]
    world.price("60000")
    assert len(world.buys) == 1  # nothing is placed while one buy may still be open
    world.wait(8).price("60000")
    assert world.buy_prices() == ["59405.9", "58817.7", "58235.3", "57658.7", "57087.8"]
    assert world.on_exchange(BUY) == world.buy_prices()


@pytest.mark.parametrize("error", [InsufficientFunds("EOrder:Insufficient funds"), OrderRejected("EOrder:Whatever")])
def test_a_refused_sell_leaves_the_buy_unsold_and_is_tried_again(error: Exception) -> None:
    world = World().start("50000")
    world.rest.faults = [error]
    world.price("49500")
    assert len(world.desk.unsold) == 1
    [refused] = world.told(OrderRefused)
    assert refused.side == SELL
    world.price("49500", "49500", "49500")
    assert world.rest.calls.count("create_order") <= 5 + 1 + 1 + 1
    world.wait(20)
    assert world.on_exchange(SELL) == ["49999.9"]
    assert len(world.told(OrderRefused)) == 1


@pytest.mark.parametrize(("strategy", "is_named"), [("GridSell", True), ("SWING", False)])
def test_a_sell_that_lacks_coins_names_the_command_for_coins_that_were_taken_where_there_is_one(
    strategy: str, is_named: bool
) -> None:
    world = World(strategy, base=Decimal(1))
    if strategy == "SWING":  # the first sell is an extra one, of coins from before
        world.rest.faults = ["taken"] * 5 + [InsufficientFunds("EOrder:Insufficient funds")]
        world.start("50000")
    else:
        world.start("50000").rest.faults = [InsufficientFunds("EOrder:Insufficient funds")]
        world.price("49500")
    [refused] = world.told(OrderRefused)
    assert refused.side == SELL
    assert ("and say: forget " in refused.consequence) is is_named


def send_away(world: World, coins: Decimal) -> None:
    """The owner sends coins to another place, or back."""
    world.exchange.money.base -= coins
    world.exchange.money.bought -= coins


def test_a_sell_without_base_waits_is_said_once_and_comes_when_there_is_base() -> None:
    world = World("GridSell").start("50000")
    send_away(world, Decimal("0.001"))  # half of the coins, as soon as they are there
    world.price("49500")
    world.wait(60)
    assert world.sells == ()
    assert len(world.told(FundsShort)) + len(world.told(OrderRefused)) == 1
    placed = world.rest.calls.count("create_order")
    world.price(*["49500"] * 5)
    assert world.rest.calls.count("create_order") == placed
    send_away(world, -Decimal("0.001"))
    world.wait(120)
    assert world.on_exchange(SELL) == ["49999.9"]


def test_base_known_to_be_missing_is_said_once_and_asked_for_at_growing_pauses() -> None:
    world = World("GridSell").start("50000")
    world.exchange.on_price(Decimal("49000"), world.clock.now)  # two are filled while nobody was told
    coins = world.exchange.money.base
    send_away(world, coins)
    world.restart().price("49000")
    world.rest.calls.clear()
    world.wait(590)
    short = world.told(FundsShort)
    assert [(said.side, said.currency, said.available) for said in short] == [(SELL, "BTC", 0)] * 2
    assert {said.needed for said in short} == {Decimal("0.00202"), Decimal("0.0020402")}
    assert world.told(OrderRefused) == []
    assert 4 <= world.rest.calls.count("create_order") <= 12, "six pauses for each of the two"
    assert world.rest.calls.count("get_pair_balance") <= 20
    send_away(world, -coins)
    world.wait(700)
    assert world.on_exchange(SELL) == ["49504.8", "49999.9"]


def test_coins_that_were_bought_are_sold_although_the_exchange_s_balances_do_not_show_them() -> None:
    """They may lie under a name that is not known here. Whether they can be sold, only an order finds out."""
    world = World("GridSell").start("50000")
    world.exchange.on_price(Decimal("49000"), world.clock.now)  # two are filled while nobody was told
    told = world.rest.get_pair_balance
    world.rest.get_pair_balance = lambda: told().model_copy(update={"base_available": ZERO})  # type: ignore[method-assign]
    world.restart().price("49000")
    assert world.on_exchange(SELL) == [], "asked once more before"
    world.wait(60)
    assert world.on_exchange(SELL) == ["49504.8", "49999.9"]
    assert len(world.told(FundsShort)) == 2


def test_what_became_too_small_to_be_sold_is_said_once_and_sold_when_the_exchange_takes_less_again() -> None:
    world = World("GridHODL").start("50000")
    for share, price in (("0.45", "50000"), ("0.45", "49500"), ("0.9", None)):  # the surplus, too, is worth a sell
        top = world.buys[0]
        world.exchange.fill(top.txid, top.volume * Decimal(share))
        world.exchange.cancel_order(top.txid, world.clock.now)
        if price is not None:
            world.price(price)
    world.exchange.on_price(Decimal("48000"), world.clock.now)
    pair = world.exchange.pair
    world.exchange.pair = pair.model_copy(update={"ordermin": Decimal("0.005")})
    world.restart().price("48000").wait(100)
    refused = [event for event in world.told(OrderRefused) if event.side == SELL]
    assert len(refused) == 2
    assert all("below the pair's smallest volume of 0.005" in told.reason for told in refused)
    assert world.sells == ()
    world.exchange.pair = pair
    world.wait(1300)
    assert len(world.sells) == 2


def test_a_refused_sell_of_the_surplus_is_tried_again_at_growing_pauses() -> None:
    world = World().start("50000")
    place = world.rest.create_order
    tried: list[float] = []

    def refused(**order: Any) -> object:
        if order["side"] == SELL:
            tried.append(world.clock.now)
            if len(tried) < 4:
                raise OrderRejected("EOrder:Whatever")
        return place(**order)

    world.rest.create_order = refused  # type: ignore[method-assign]
    for price in ("50000", "49500"):
        top = world.buys[0]
        world.exchange.fill(top.txid, top.volume * Decimal("0.6"))
        world.exchange.cancel_order(top.txid, world.clock.now)
        world.price(price, price)
    world.wait(90).price("49500")
    assert [later - at for at, later in pairwise(tried)][-2:] == [20, 40]
    assert len(tried) == 4
    assert world.sell_prices() == ["49999.9"]
    assert len(world.told(OrderRefused)) == 1


def test_while_the_fate_of_one_sell_is_unknown_no_other_is_placed() -> None:
    world = World("GridSell").start("50000").wait(100)
    world.rest.answers_lag = 60.0
    world.rest.faults = ["lost before"]
    world.price("49000")  # two buys are filled at one stroke
    world.wait(60).price("49000")
    assert world.rest.calls.count("create_order") == 5 + 1
    world.wait(60).price("49000")
    assert world.sell_prices() == ["49504.8", "49999.9"]


def test_a_crossing_buy_is_computed_anew_and_not_in_a_loop() -> None:
    world = World()
    world.rest.faults = [PostOnlyWouldCross("EOrder:Post only order")]
    world.start("50000")
    assert world.buys == ()
    assert world.rest.calls.count("create_order") == 1
    world.wait(2).price("50000")
    assert world.on_exchange(BUY) == FIRST_GRID


def test_when_the_exchange_wants_a_pause_it_gets_one() -> None:
    world = World()
    world.rest.faults = [PlacementPaused("EOrder:Rate limit exceeded", retry_after=30.0)]
    world.start("50000")
    world.price(*["50000"] * 10)
    assert world.rest.calls.count("create_order") == 1
    world.wait(30).price("50000")
    assert world.on_exchange(BUY) == FIRST_GRID
    assert world.told(OrderRefused) == []
    assert world.told(Trouble) == []


def test_an_exchange_that_wants_no_orders_for_long_is_told_once() -> None:
    world = World()
    world.rest.faults = [PlacementPaused("EGeneral:Temporary lockout", retry_after=900.0)] * 2
    world.start("50000").price(*["50000"] * 10)
    assert world.desk.pauses.why(PLACING) == "EGeneral:Temporary lockout"
    world.wait(900).price("50000").wait(900).price("50000")
    assert world.on_exchange(BUY) == FIRST_GRID
    [trouble] = world.told(Trouble)
    assert trouble.text == "no order can be placed for 900 s, and perhaps longer: EGeneral:Temporary lockout"
    world.rest.faults = [PlacementPaused("EService:Busy", retry_after=0.0)] * 7
    world.price("52000").wait(30).price(*["52000"] * 200)
    assert len(world.told(Trouble)) == 2, "a minute of short pauses is long, too"


def placed(world: World) -> str:
    return "".join(order.side[0] for order in world.told(OrderPlaced))


def test_after_a_pause_of_all_orders_the_sells_of_filled_buys_come_before_new_buys() -> None:
    world = World("GridSell").start("50000")
    world.rest.faults = [PlacementPaused("EOrder:Rate limit exceeded", retry_after=5.0)]
    world.events.clear()
    world.price("47000", *["47000"] * 9)
    assert placed(world) == "sssssbbbbb"


@pytest.mark.parametrize("refusals", [2, 4, 8])
def test_a_place_that_came_free_is_for_every_sell_that_found_none_before_it_is_for_buys(refusals: int) -> None:
    world = World("GridSell").start("50000")
    full = TooManyOrders("EOrder:Orders limit exceeded")
    world.rest.faults = [full] * refusals + ["taken"] + [full] * 2
    world.events.clear()
    world.price("48200")
    for _ in range(60):
        world.wait(1).price("48200")
    assert placed(world) == "sssbbbbb"


def test_a_buy_whose_coins_are_gone_keeps_no_place_from_the_others() -> None:
    world = World("GridSell").start("50000").price("49500")
    [sell] = world.sells
    take = world.rest.create_order

    def without_coins(**order: Any) -> CreateOrderResponseSchema:
        if order["side"] == SELL and order["volume"] == sell.volume:
            raise InsufficientFunds("EOrder:Insufficient funds")
        return take(**order)

    world.rest.create_order = without_coins  # type: ignore[method-assign]
    world.exchange.cancel_order(sell.txid, world.clock.now)
    world.settle()
    world.wait(60).price("49500")
    world.rest.faults = [TooManyOrders("EOrder:Orders limit exceeded")] * 5
    world.price("49000")
    for _ in range(100):
        if not world.sells:
            world.wait(1).price("49000")
    assert len(world.sells) == 1
    world.wait(1).price("49000")
    assert len(world.buys) == 5


def test_filled_buys_that_wait_for_their_sell_count_as_invested() -> None:
    world = World("GridSell", changes={"max_investment": Decimal(560)}).start("50000")
    world.rest.faults = [InsufficientFunds("EOrder:Insufficient funds")] * 50
    world.events.clear()
    world.price("47000").wait(5).price("47000")
    assert placed(world) == ""
    assert [waiting.cause for waiting in world.strategy.waiting] == [Cause.LIMIT]
    world.rest.faults.clear()
    world.wait(100).price("47000")
    assert placed(world) == "sssss"


class Slow(World):
    """An exchange that takes its time over every placement."""

    seconds = 2.0

    def _build(self) -> None:
        super()._build()
        place = self.rest.create_order

        def slowly(**order: Any) -> CreateOrderResponseSchema:
            self.clock.now += self.seconds
            return place(**order)

        self.rest.create_order = slowly  # type: ignore[method-assign]


def test_a_shift_that_a_slow_exchange_takes_in_portions_is_told_once_with_all_buys() -> None:
    world = Slow("GridSell", changes={"n_open_buy_orders": 10}).start("50000").wait(60)
    cancel = world.rest.cancel_order

    def slowly(txid: str) -> None:
        world.clock.now += 2
        cancel(txid)

    world.rest.cancel_order = slowly  # type: ignore[method-assign]
    world.price("52000").wait(200)
    assert [event.cancelled for event in world.told(GridShifted)] == [10]
    assert len(world.buys) == 10


def test_while_a_slow_exchange_takes_a_grid_fills_are_heard() -> None:
    world = Slow("GridSell", changes={"n_open_buy_orders": 20}).start("50000")
    assert len(world.buys) == 2, "after some seconds the feed is listened to"
    first = world.buys[0].txid
    world.exchange.fill(first)
    world.settle()
    assert placed(world) == "bbs"
    world.wait(60)
    assert len(world.buys) == 20, "without any price"


@pytest.mark.parametrize(
    "error", [PlacementPaused("EService:Busy", retry_after=0.0), PostOnlyWouldCross("EOrder:Post only order")]
)
def test_pauses_begin_with_a_second_and_grow_to_a_minute(error: Exception) -> None:
    world = World(changes={"n_open_buy_orders": 1})
    world.rest.faults = [error] * 12
    world.start("50000")
    for _ in range(2000):
        world.price("50000")
        if not world.rest.faults:
            break
    assert 300 < world.clock.now - 1_790_000_000 < 600  # 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60
    world.wait(60).price("50000")
    assert len(world.buys) == 1


def test_after_a_success_the_exchange_gets_a_short_pause_again() -> None:
    busy = PlacementPaused("EService:Busy", retry_after=0.0)
    world = World(changes={"n_open_buy_orders": 1})
    world.rest.faults = [busy] * 4
    world.start("50000").price(*["50000"] * 20)
    world.rest.faults = [busy]
    world.price("51500")
    assert world.on_exchange(BUY) == []
    world.price("51500")
    assert world.on_exchange(BUY) == ["50990.0"]


def test_refused_buys_are_told_once_wait_and_are_told_again_when_it_happens_again() -> None:
    world = World()
    world.rest.faults = [InsufficientFunds("EOrder:Insufficient funds")]
    world.start("50000").rest.calls.clear()
    world.price(*["50000"] * 5).wait(3)
    assert "create_order" not in world.rest.calls
    assert "get_open_orders" in world.rest.calls  # money is missing where there should be some
    world.wait(10).price("50000")
    assert world.on_exchange(BUY) == FIRST_GRID
    world.rest.faults = [OrderRejected("EOrder:Whatever")]
    world.price("51500")
    assert [event.side for event in world.told(OrderRefused)] == [BUY, BUY]
    missing = "EOrder:Insufficient funds. It needs 100.24989774, and the bot knows of 100000.00000000 free"
    assert [event.reason for event in world.told(OrderRefused)] == [missing, "EOrder:Whatever"]


def test_money_that_stays_missing_is_compared_with_the_exchange_once() -> None:
    world = World("GridSell", changes={"max_investment": Decimal(510)}).start("50000").wait(80)  # no further buy
    world.rest.faults = [InsufficientFunds("EOrder:Insufficient funds")] * 4
    before = world.rest.calls.count("get_open_orders")
    world.price("49500").wait(120)
    [refused] = world.told(OrderRefused)
    assert refused.reason.endswith(". It needs 0.00202000, and the bot knows of 0.00202000 free")
    assert world.rest.faults == []
    assert world.rest.calls.count("get_open_orders") - before == 2  # at once, and a minute later


def test_a_key_that_may_not_cancel_ends_the_bot() -> None:
    world = World().start("50000")

    def denied(txid: str) -> None:
        raise AccessDenied("EGeneral:Permission denied")

    world.rest.cancel_order = denied  # type: ignore[method-assign]
    with pytest.raises(AccessDenied):
        world.price("60000")


def test_a_key_without_permission_ends_the_bot_and_leaves_nothing_open() -> None:
    world = World()
    world.rest.faults = [AccessDenied("EGeneral:Permission denied")]
    with pytest.raises(AccessDenied):
        world.start("50000")
    assert len(world.desk.pending) == 0


def test_orders_of_other_bots_and_people_are_left_alone() -> None:
    world = World()
    world.exchange.on_price(Decimal(50000), world.clock.now)
    other = world.rest.create_order(
        ordertype="limit", side=BUY, volume=Decimal("0.01"), price=Decimal("49000"), userref=7
    )
    world.rest.calls.clear()
    world.start("50000").price("49500", "60000", "48000")
    assert world.desk.book.get(other.txid) is None
    # the stranger's order was filled by the market at 49000, and nobody sold what it bought
    assert all(order.sells != other.txid for order in world.sells)


def test_an_order_of_this_userref_found_on_the_exchange_is_adopted() -> None:
    world = World()
    world.exchange.on_price(Decimal(50000), world.clock.now)
    by_hand = world.rest.create_order(
        ordertype="limit", side=BUY, volume=Decimal("0.002"), price=Decimal("49500"), userref=USERREF
    )
    world.start("50000")
    assert by_hand.txid in {order.txid for order in world.buys}
    assert len(world.buys) == 5
    assert not world.told(CaughtUp)


def test_the_feed_tells_which_buy_a_sell_belongs_to_whose_answer_was_lost() -> None:
    world = World("GridSell").start("50000").wait(100)
    [buy] = world.buys[:1]
    world.rest.faults = ["lost after and hidden"]
    world.price("49500")
    [placement] = world.desk.pending.all()
    [txid] = world.rest.hidden
    told = ExecutionsUpdateSchema(
        order_id=txid,
        exec_type="new",
        order_status="new",
        userref=USERREF,
        symbol="BTC/USD",
        side=SELL,
        limit_price=placement.price,
        order_qty=placement.volume,
        time=world.clock.now,
    )
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=[told])])
    assert world.desk.pending.all() == ()
    assert [(sell.txid, sell.sells) for sell in world.sells] == [(txid, buy.txid)]
    world.wait(300)
    assert len(world.sells) == 1


def test_what_is_told_of_another_bot_or_another_pair_changes_nothing() -> None:
    world = World("GridSell").start("50000").wait(100)
    world.rest.calls.clear()
    order = {
        "exec_type": "new",
        "side": BUY,
        "limit_price": Decimal(49800),
        "order_qty": Decimal(1),
        "time": world.clock.now,
    }
    fill = {"exec_type": "trade", "last_price": Decimal(3000), "last_qty": Decimal(1), "time": world.clock.now + 1}
    told = [
        ExecutionsUpdateSchema(order_id="O1", symbol="BTC/USD", userref=7, **order),
        ExecutionsUpdateSchema(order_id="O2", symbol="ETH/USD", userref=USERREF, **order),
        ExecutionsUpdateSchema(order_id="O2", symbol="ETH/USD", userref=USERREF, **fill),
    ]
    price = TickerUpdateSchema(symbol="ETH/USD", last=Decimal(3000), time=world.clock.now + 1)
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=told)])
    world.deliver([OnMessageSchema(channel="ticker", type="update", ticker_data=price)])
    world.wait(30)
    assert (world.strategy.ticker, world.rest.calls, world.buy_prices()) == (50000, [], FIRST_GRID)


def test_of_executions_told_in_the_wrong_order_the_newest_is_the_price() -> None:
    world = World("GridSell").start("50000")
    world.clock.now += 5
    first, second = world.exchange.on_price(Decimal(49000), world.clock.now)
    first = first.model_copy(update={"time": world.clock.now - 2})
    for row in (second, first):
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[row])])
    assert f"{world.strategy.ticker:f}" == "49014.7"
    assert world.sell_prices() == ["49504.8", "49999.9"]


def test_while_the_feed_of_executions_is_lost_nothing_is_decided() -> None:
    world = World().start("50000")
    world.deliver([OnMessageSchema(channel="executions", type="lost")])
    before = len(world.told(OrderPlaced))
    world.exchange.on_price(Decimal("49000"), world.clock.now)
    world.exchange.take_events()
    world.frames.clear()
    world.price("60000")
    assert len(world.told(OrderPlaced)) == before
    world.clock.now += 30
    world.deliver([OnMessageSchema(channel="executions", type="snapshot", executions=[])])
    world.settle()
    world.wait(6).price("60000")
    assert len(world.sells) == 2
    assert world.buy_prices()[0] == "59405.9"
    [news] = world.told(CaughtUp)
    assert news.buys_filled == 2


def test_a_fill_costs_one_call_and_two_commits() -> None:
    # the limit keeps the missing buy from being placed on the ticker behind the fill
    world = World(changes={"max_investment": Decimal(510)}).start("50000")
    world.rest.calls.clear()
    commits: list[str] = []
    world.db.db.conn.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    world.price("49500")
    assert world.rest.calls == ["create_order"]
    assert len(commits) == 2


def test_a_ticker_inside_the_band_touches_neither_database_nor_exchange() -> None:
    world = World().start("50000").price("50001")
    world.rest.calls.clear()
    touched: list[str] = []
    world.db.db.conn.set_trace_callback(touched.append)
    world.strategy.view = lambda: touched.append("the grid was looked at")  # type: ignore[assignment, func-returns-value]
    world.price(*(f"{50000 + n % 300}" for n in range(500)))
    assert touched == []
    assert world.rest.calls == []
