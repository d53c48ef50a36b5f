"""Orders that their owner amends or cancels at the exchange, while the bot looks on."""

from decimal import Decimal
from pathlib import Path

import pytest

from gridbot.adapters.exchanges.simulated_state import SimulatedOrder
from gridbot.exceptions import InsufficientFunds
from gridbot.models.events import OrderCancelled, OrderExecuted, Trouble
from gridbot.models.exchange import SELL, ExecutionsUpdateSchema, OnMessageSchema, OrderInfoSchema, TradeInfoSchema
from gridbot.models.grid import BookOrder
from tests.settings import USERREF
from tests.world import World


def amend(world: World, order: SimulatedOrder, volume: str) -> None:
    """The owner gives an order another volume; the exchange binds the money."""
    order.volume = Decimal(volume)
    held = order.volume if order.side == SELL else order.price * order.volume * Decimal("1.0025")
    money = world.exchange.money
    if order.side == SELL:
        money.base_held += held - order.held
    else:
        money.quote_held += held - order.held
    order.held = held


def told(world: World, order: SimulatedOrder, exec_type: str, status: str, **more: object) -> None:
    """An event of the feed."""
    world.clock.now += 1
    update = ExecutionsUpdateSchema(
        order_id=order.txid, exec_type=exec_type, order_status=status, userref=USERREF, time=world.clock.now, **more
    )
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=[update])])


def told_amended(world: World, order: SimulatedOrder) -> None:
    told(world, order, "amended", "new", limit_price=order.price, order_qty=order.volume, cum_qty=Decimal(0))


def booked(world: World, txid: str) -> Decimal:
    return sum((row.info.volume for row in world.desk.trades.of_order(txid)), Decimal(0))


def sell_amended_up() -> tuple[World, BookOrder, SimulatedOrder]:
    """A bought coin's sell that its owner has made far larger: the bot, its order as placed, the exchange's."""
    world = World("GridSell", base=Decimal(1)).start("50000").price("49500")
    [sell] = world.sells
    order = world.exchange.open_orders[sell.txid]
    amend(world, order, "0.05")
    told_amended(world, order)
    return world, sell, order


@pytest.mark.parametrize("lag", [60.0, 0.0])
def test_of_an_order_amended_up_every_fill_is_booked_though_rest_still_tells_the_old_volume(lag: float) -> None:
    world = World("GridSell").start("50000").price("49600")
    world.rest.answers_lag = lag  # 0: the amendment is undone, as it is by a restart, and the fills must do
    order = world.exchange.open_orders[world.buys[0].txid]
    old, ask = world.rest.get_open_orders(USERREF), world.rest.get_open_orders
    amend(world, order, "0.004")
    told_amended(world, order)
    world.rest.get_open_orders = lambda userref, trades=False: old
    world.desk.request_sync("a doubt")
    world.wait(20)
    world.rest.get_open_orders = ask
    believed = world.desk.book.get(order.txid)
    assert believed is not None
    assert believed.volume == Decimal("0.004" if lag else "0.00202")
    world.exchange.fill(order.txid, Decimal("0.0025"))
    world.settle()
    world.exchange.fill(order.txid)
    world.settle()
    world.wait(20)
    assert booked(world, order.txid) == Decimal("0.004")
    assert [sell.volume for sell in world.sells] == [Decimal("0.004")]


@pytest.mark.parametrize("to", ["0.001", "0.004"])
def test_an_order_amended_by_hand_binds_as_much_money_as_at_the_exchange(to: str) -> None:
    world = World("GridSell", base=Decimal(1)).start("50000").price("49500")
    for mine in (world.buys[0], world.sells[0]):
        order = world.exchange.open_orders[mine.txid]
        world.exchange.fill(mine.txid, Decimal("0.0004"))
        world.settle()
        order.volume, left = Decimal(to), Decimal(to) - order.executed
        amend(world, order, str(left))
        order.volume = Decimal(to)
        told_amended(world, order)
        world.money()


def test_a_buy_amended_to_another_price_stands_there_in_the_book_and_on_disk(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000")
    order = world.exchange.open_orders[world.buys[-1].txid]
    told(world, order, "amended", "new", limit_price=Decimal(46000), order_qty=order.volume)
    world.settle()
    assert world.buy_prices()[-1] == "46000"
    [stored] = world.db.execute("SELECT price FROM orderbook WHERE txid = ?", (order.txid,)).fetchall()
    assert stored == ("46000",)


def test_an_order_that_is_filled_with_less_than_its_volume_was_amended_unheard_and_is_over() -> None:
    world = World("GridSell").start("50000").price("49600")
    order = world.exchange.open_orders[world.buys[0].txid]
    amend(world, order, "0.001")
    world.exchange.fill(order.txid)
    world.settle()
    assert world.desk.book.get(order.txid) is None
    assert [sell.volume for sell in world.sells] == [Decimal("0.001")]


def test_of_a_sell_amended_up_and_cancelled_only_what_the_bot_bought_is_sold_again() -> None:
    world, sell, order = sell_amended_up()
    world.clock.now += 100
    world.exchange.cancel_order(order.txid, world.clock.now)
    world.settle()
    world.wait(100)
    assert [again.volume for again in world.sells] == [sell.volume]


def test_a_row_that_sums_up_fills_already_told_is_not_booked_beside_them() -> None:
    world = World("GridSell", base=Decimal(1)).start("50000").price("49500")
    [sell] = world.sells
    order = world.exchange.open_orders[sell.txid]
    part = {"last_qty": Decimal("0.001"), "last_price": sell.price, "cum_qty": Decimal("0.001"), "exec_id": "T1"}
    told(world, order, "trade", "partially_filled", fee=Decimal("0.1"), **part)
    of_all = {"side": SELL, "price": sell.price, "cost": sell.value, "fee": Decimal("0.2"), "txid": sell.txid}
    report = OrderInfoSchema(
        pair="BTCUSD", status="closed", userref=USERREF, vol=sell.volume, vol_exec=sell.volume, trades=("T",), **of_all
    )
    row = TradeInfoSchema(exec_id="T", volume=sell.volume, time=world.clock.now, **of_all)
    with world.desk.atomic():
        finished = world.desk.book_report(report, [row])
    assert finished is not None
    assert (finished.executed, finished.fee) == (sell.volume, Decimal("0.2"))
    assert booked(world, sell.txid) == sell.volume


def test_a_sell_amended_to_another_price_and_cancelled_is_placed_again_one_interval_above_its_buy() -> None:
    world = World("GridSell").start("50000").price("49500")
    order = world.exchange.open_orders[world.sells[0].txid]
    order.price = Decimal(60000)
    told_amended(world, order)
    world.exchange.cancel_order(order.txid, world.clock.now)
    world.settle()
    world.price("49500").wait(20)
    assert world.on_exchange(SELL) == ["49999.9"]


def test_a_buy_cancelled_before_it_had_bought_anything_does_not_raise_the_price_of_the_surplus() -> None:
    world = World("GridSell").start("50000")
    world.desk.add_to_surplus(Decimal("0.0001"), Decimal(40000))
    world.exchange.cancel_order(world.buys[0].txid, world.clock.now)
    world.settle()
    assert world.desk.configuration.get().vol_of_unfilled_remaining_max_price == 40000


def test_dust_of_a_cancelled_sell_goes_to_the_surplus() -> None:
    world, sell, order = sell_amended_up()
    world.exchange.fill(order.txid, sell.volume - Decimal("0.00002"))
    world.settle()
    world.clock.now += 100
    world.exchange.cancel_order(order.txid, world.clock.now)
    world.settle()
    assert world.desk.unsold.all() == ()
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.00002")


@pytest.mark.parametrize("sold", ["0.00202", "0.01", "0.05"])
def test_of_a_sell_amended_up_and_sold_beyond_its_buy_nothing_is_left_to_sell(sold: str) -> None:
    world, _, order = sell_amended_up()
    world.exchange.fill(order.txid, Decimal(sold))
    world.settle()
    if order.txid in world.exchange.open_orders:
        world.exchange.cancel_order(order.txid, world.clock.now)
    world.settle()
    world.wait(100)
    stored = world.desk.configuration.get()
    assert world.desk.unsold.all() == ()
    assert (stored.vol_of_unfilled_remaining, stored.vol_of_unfilled_remaining_max_price) == (0, 0)
    assert [told.base_kept for told in world.told(OrderExecuted) if told.side == SELL] in ([], [0])


def test_the_surplus_whose_sell_its_owner_cancels_is_surplus_again_and_sold_at_the_same_price() -> None:
    world = World().start("50000")
    for price in ("50000", "49500"):
        top = world.buys[0]
        world.exchange.fill(top.txid, top.volume * Decimal("0.6"))
        world.exchange.cancel_order(top.txid, world.clock.now)
        world.price(price, price)
    for _ in range(3):
        [sell] = world.sells
        world.clock.now += 100
        world.exchange.cancel_order(sell.txid, world.clock.now)
        world.settle()
        stored = world.desk.configuration.get()
        assert stored.vol_of_unfilled_remaining == Decimal("0.00243612")
        assert stored.vol_of_unfilled_remaining_max_price == Decimal("49504.9")
        world.wait(30)
        assert world.sell_prices() == ["49999.9"]


def test_a_buy_cancelled_by_its_owner_is_told_with_what_it_had_bought_and_who_cancelled_it() -> None:
    world = World().start("50000")
    top = world.buys[0]
    world.exchange.fill(top.txid, Decimal("0.001"))
    world.exchange.cancel_order(top.txid, world.clock.now)
    world.price("50000", "60000")
    by_hand, *own = world.told(OrderCancelled)
    assert (by_hand.txid, by_hand.executed, by_hand.reason) == (top.txid, Decimal("0.001"), "User requested")
    assert [told.reason for told in own] == [""] * 5  # the bot's own: the grid follows the price


def test_an_extra_sell_cancelled_by_its_owner_leaves_nothing_that_the_bot_must_sell() -> None:
    world = World("SWING", base=Decimal("0.01")).start("50000")
    world.clock.now += 100
    world.exchange.cancel_order(world.sells[0].txid, world.clock.now)
    world.settle()
    assert world.desk.unsold.all() == ()
    assert world.desk.configuration.get().vol_of_unfilled_remaining == 0


def placed_by_hand(world: World, side: str, price: str, volume: str) -> str:
    """The owner, or another bot, places an order that carries this bot's userref; its id."""
    order = {"side": side, "price": Decimal(price), "volume": Decimal(volume), "userref": USERREF}
    txid = world.exchange.create_order(**order, post_only=False, time=world.clock.now)
    world.exchange.take_events()  # which do not tell what Kraken tells: see ``told_new``
    world.frames.clear()
    return txid


def told_new(world: World, txid: str) -> None:
    """As Kraken tells of an order it has accepted: with side, price and volume."""
    order = world.exchange.open_orders[txid]
    update = ExecutionsUpdateSchema(
        order_id=txid,
        exec_type="new",
        order_status="new",
        userref=USERREF,
        symbol="BTC/USD",
        side=order.side,
        limit_price=order.price,
        order_qty=order.volume,
        time=world.clock.now,
    )
    world.deliver([OnMessageSchema(channel="executions", type="update", executions=[update])])


@pytest.mark.parametrize("new_is_told_first", [True, False])
@pytest.mark.parametrize("strategy", ["GridSell", "GridHODL"])
def test_a_sell_that_its_owner_edits_is_still_the_sell_of_its_buy(strategy: str, new_is_told_first: bool) -> None:
    world = World(strategy, base=Decimal(1)).start("50000").price("49500")
    [old] = world.sells
    world.clock.now += 3600
    if new_is_told_first:
        edited = placed_by_hand(world, SELL, "50500", f"{old.volume:f}")
        told_new(world, edited)
        world.exchange.cancel_order(old.txid, world.clock.now)
        world.settle()
    else:
        world.exchange.cancel_order(old.txid, world.clock.now)
        world.settle()
        world.price("49500").wait(1)
        edited = placed_by_hand(world, SELL, "50500", f"{old.volume:f}")
        told_new(world, edited)
        world.settle()
    world.price("49500", "49600").wait(120)
    assert [(o.txid, o.sells) for o in world.sells] == [(edited, old.sells)]
    assert world.on_exchange(SELL) == ["50500"]
    assert len(world.desk.unsold) == 0


@pytest.mark.parametrize("surplus", ["0", "0.0001"])
def test_an_edited_sell_takes_nothing_of_the_surplus(surplus: str) -> None:
    world = World("GridSell", base=Decimal(1)).start("50000").price("49500")
    [old] = world.sells
    world.desk.add_to_surplus(Decimal(surplus), Decimal(49000))
    world.clock.now += 3600
    edited = placed_by_hand(world, SELL, "50500", f"{old.volume:f}")
    told_new(world, edited)
    world.exchange.cancel_order(old.txid, world.clock.now)
    world.settle()
    world.price("49500", "49600").wait(120)
    assert [(o.txid, o.sells) for o in world.sells] == [(edited, old.sells)]
    assert world.on_exchange(SELL) == ["50500"]
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal(surplus)


@pytest.mark.parametrize("new_is_told_first", [True, False])
@pytest.mark.parametrize(("price", "volume", "surplus"), [("49400", "0.00202", "0"), ("50500", "0.001", "0.00102")])
def test_a_sell_may_be_edited_to_any_price_and_volume(
    price: str, volume: str, surplus: str, new_is_told_first: bool
) -> None:
    world = World("GridSell", base=Decimal(1)).start("50000").price("49450")
    [old] = world.sells
    world.clock.now += 3600
    world.price("49300")

    def cancelled() -> None:
        world.exchange.cancel_order(old.txid, world.clock.now)
        world.settle()

    if not new_is_told_first:
        cancelled()
        world.price("49300").wait(1)
    edited = placed_by_hand(world, SELL, price, volume)
    told_new(world, edited)
    if new_is_told_first:
        cancelled()
    world.price("49300").wait(120)
    assert [(o.txid, o.sells) for o in world.sells] == [(edited, old.sells)]
    assert len(world.on_exchange(SELL)) == 1
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal(surplus)
    assert len(world.desk.unsold) == 0


def test_what_an_edited_sell_leaves_over_is_booked_in_the_step_that_finds_its_buy() -> None:
    world = World("GridSell", base=Decimal(1)).start("50000").price("49450")
    [old] = world.sells
    world.clock.now += 3600
    world.price("49300")
    world.exchange.cancel_order(old.txid, world.clock.now)
    world.settle()
    steps: list[str] = []
    world.db.db.conn.set_trace_callback(lambda sql: steps.append(sql.split()[0]))
    edited = placed_by_hand(world, SELL, "50500", "0.001")
    told_new(world, edited)
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.00102")
    assert len(world.desk.unsold) == 0
    # the sell's buy, that buy no longer unsold, the surplus
    assert steps[steps.index("BEGIN") : steps.index("COMMIT")] == ["BEGIN", "UPDATE", "DELETE", "INSERT"]


@pytest.mark.parametrize("new_is_told_first", [True, False])
def test_a_sell_of_the_surplus_that_is_edited_is_still_one(new_is_told_first: bool) -> None:
    world = World("GridSell", base=Decimal(1)).start("50000")
    world.desk.add_to_surplus(Decimal("0.0025"), Decimal(49000))
    world.wait(2)
    [old] = world.sells
    world.clock.now += 3600
    world.price("50000").wait(700).price("50000")

    def cancelled() -> None:
        world.exchange.cancel_order(old.txid, world.clock.now)
        world.settle()

    if not new_is_told_first:
        cancelled()
    edited = placed_by_hand(world, SELL, "52000", f"{old.volume:f}")
    told_new(world, edited)
    if new_is_told_first:
        cancelled()
    world.price("50000").wait(700).price("50000")
    assert world.on_exchange(SELL) == ["52000"]
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.0025") - old.volume


@pytest.mark.parametrize("has_lost_its_sell", [True, False])
def test_a_sell_by_hand_is_an_edited_one_only_in_the_moment_in_which_another_was_cancelled(
    has_lost_its_sell: bool,
) -> None:
    world = World("GridSell", base=Decimal(1)).start("50000")
    no_coins = InsufficientFunds("EOrder:Insufficient funds")
    if has_lost_its_sell:
        world.price("49500").clock.now += 3600
        world.exchange.cancel_order(world.sells[0].txid, world.clock.now)
        world.settle()
        world.rest.faults = [no_coins]
        world.price("49500").wait(8)
    else:
        world.rest.faults = [no_coins]
        world.price("49500")
    unsold = world.desk.unsold.all()
    assert len(unsold) == 1
    told_new(world, placed_by_hand(world, SELL, "60000", "0.5"))
    assert world.desk.unsold.all() == unsold


def test_a_forgotten_sell_that_is_edited_and_cancelled_stays_with_its_owner(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000").price("49500")
    [old] = world.sells
    world.desk.forgotten.add(old.sells, world.clock.now, Decimal(0))
    world.clock.now += 3600
    world.exchange.cancel_order(old.txid, world.clock.now)
    world.settle()
    edited = placed_by_hand(world, SELL, "50500", f"{old.volume:f}")
    told_new(world, edited)
    world.price("49500").wait(100)
    world.exchange.cancel_order(edited, world.clock.now)
    world.settle()
    world.price("49500").wait(100)
    assert world.on_exchange(SELL) == []
    assert world.desk.configuration.get().vol_of_unfilled_remaining == 0
    assert world.desk.left_to_owner == old.volume


def test_an_edited_extra_sell_is_not_placed_a_second_time() -> None:
    world = World("SWING", base=Decimal(1)).start("50000")
    [extra] = world.sells
    world.clock.now += 3600
    world.exchange.cancel_order(extra.txid, world.clock.now)
    world.settle()
    world.price("50000")
    told_new(world, placed_by_hand(world, SELL, "52500", f"{extra.volume:f}"))
    world.price("50000", "50001").wait(60)
    assert world.on_exchange(SELL) == ["52500"]


@pytest.mark.parametrize("restarted", [True, False])
def test_coins_offered_under_the_bot_s_userref_by_somebody_else_do_not_become_the_bot_s(
    tmp_path: Path, restarted: bool
) -> None:
    world = World("GridSell", base=Decimal(1), path=tmp_path / "bot.db").start("50000").price("49600")
    world.clock.now += 60
    txid = placed_by_hand(world, SELL, "60000", "0.5")
    told_new(world, txid)
    world.exchange.cancel_order(txid, world.clock.now)
    world.settle()
    world.price("49600").wait(10)
    if restarted:
        world.restart().price("49600").wait(100)
    assert world.desk.configuration.get().vol_of_unfilled_remaining == 0
    assert world.on_exchange(SELL) == []
    assert [t.text for t in world.told(Trouble) if f"the sell {txid} carried this bot's userref" in t.text]


def test_a_sell_of_somebody_else_that_is_filled_is_not_told_as_cancelled() -> None:
    world = World("GridSell", base=Decimal(1)).start("50000").price("49600")
    world.clock.now += 60
    told_new(world, placed_by_hand(world, SELL, "49700", "0.5"))
    world.price("49800")
    assert world.sells == ()
    assert [t.text for t in world.told(Trouble) if "It was cancelled" in t.text] == []


def test_orders_under_the_bot_s_userref_that_it_has_not_placed_are_told_once_a_day() -> None:
    world = World("GridSell", base=Decimal(1)).start("50000").price("49600")
    for price in ("60000", "61000"):
        told_new(world, placed_by_hand(world, SELL, price, "0.01"))
    [trouble] = world.told(Trouble)
    assert f"carries this bot's userref {USERREF} and was not placed by it" in trouble.text
    world.wait(86400)
    told_new(world, placed_by_hand(world, SELL, "62000", "0.01"))
    assert len(world.told(Trouble)) == 2
