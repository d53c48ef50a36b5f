"""The four strategies as stories with numbers; the first grid is the worked example of the rules."""

import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from gridbot.models.events import CaughtUp, ExtraSellPlaced, FundsShort, GridShifted, OrderExecuted, OrderRefused
from gridbot.models.exchange import BUY, SELL
from gridbot.models.grid import PlaceSell, UnsoldBuy
from gridbot.services.ledger import by_cycle, cycles, held_by_kind, spoken_for
from gridbot.strategies.grid_base import GridStrategyBase
from tests.world import World

ALL = ["GridHODL", "GridSell", "SWING", "cDCA"]
SELLING = ["GridHODL", "GridSell", "SWING"]

FIRST_GRID = ["49504.9", "49014.7", "48529.4", "48048.9", "47573.1"]


@pytest.mark.parametrize("strategy", ALL)
def test_the_first_grid_is_the_worked_example(strategy: str) -> None:
    world = World(strategy).start("50000")
    assert world.buy_prices() == FIRST_GRID
    assert [f"{o.volume:f}" for o in world.buys] == [
        "0.00202000",
        "0.00204020",
        "0.00206060",
        "0.00208121",
        "0.00210202",
    ]
    assert world.on_exchange(BUY) == FIRST_GRID
    assert world.sells == ()


@pytest.mark.parametrize("strategy", ALL)
def test_the_grid_follows_a_rising_price(strategy: str) -> None:
    world = World(strategy).start("50000")
    world.price("50549.9")  # 49504.9 · 1.01² · 1.001 = 50550.4...
    assert world.buy_prices() == FIRST_GRID
    world.price("60000")
    assert world.buy_prices() == ["59405.9", "58817.7", "58235.3", "57658.7", "57087.8"]
    assert world.on_exchange(BUY) == world.buy_prices()
    assert [e.cancelled for e in world.told(GridShifted)] == [5]


@pytest.mark.parametrize(
    ("strategy", "volume"), [("GridHODL", "0.00201005"), ("SWING", "0.00201005"), ("GridSell", "0.00202000")]
)
def test_a_filled_buy_is_followed_by_a_sell_one_interval_higher(strategy: str, volume: str) -> None:
    world = World(strategy).start("50000").price("49500")
    [sell] = world.sells
    assert (f"{sell.price:f}", f"{sell.volume:f}") == ("49999.9", volume)
    assert world.on_exchange(SELL) == ["49999.9"]
    assert len(world.desk.unsold) == 0
    # the level that is now missing is added below
    assert world.buy_prices() == ["49014.7", "48529.4", "48048.9", "47573.1", "47102.0"]


def test_the_fee_of_the_settings_counts_and_not_the_one_of_the_account() -> None:
    world = World(changes={"fee": Decimal("0.001")})
    world.rest.get_maker_fee = lambda: Decimal("0.004")
    world.start("50000").price("49500")
    assert [f"{sell.volume:f}" for sell in world.sells] == ["0.00200401"]  # 100 / (49999.9 · 0.998)


def test_cdca_keeps_what_it_bought() -> None:
    world = World("cDCA").start("50000").price("49500")
    assert world.sells == ()
    assert len(world.desk.unsold) == 0
    assert world.exchange.base_available == Decimal("0.00202")
    assert len(world.buys) == 5


def test_a_strategy_of_ones_own_that_keeps_a_buy_waits_for_no_sell_of_it() -> None:
    world = World("tests.world:Keeper").start("50000").price("48500")
    assert [f"{sell.price:f}" for sell in world.sells] == ["49504.8", "49999.9"]  # none of the buy at 48529.4
    assert len(world.desk.unsold) == 0


@pytest.mark.parametrize("strategy", SELLING)
def test_a_sell_filled_while_others_are_open_is_followed_by_a_buy_one_interval_below(strategy: str) -> None:
    # the limit leaves four buys beside two sells, so that a level is free
    world = World(strategy, changes={"max_investment": Decimal(700)}).start("50000").price("49500", "49000")
    assert world.sell_prices() == ["49504.8", "49999.9"]
    assert world.buy_prices() == ["48529.4", "48048.9", "47573.1", "47102.0"]
    world.price("49505")
    assert world.sell_prices() == ["49999.9"]
    # 49504.8 / 1.01 = 49014.65...
    assert world.buy_prices() == ["49014.6", "48529.4", "48048.9", "47573.1", "47102.0"]
    assert world.on_exchange(BUY) == world.buy_prices()


def test_a_sell_filled_while_n_buys_are_open_places_no_sixth() -> None:
    world = World().start("50000").price("49500", "49000")
    before = world.buy_prices()
    world.price("49505")
    assert world.sell_prices() == ["49999.9"]
    assert world.buy_prices() == before


def test_the_last_sell_filled_places_no_buy() -> None:
    world = World("GridHODL").start("50000").price("49500")
    before = world.buy_prices()
    world.price("50000")
    assert world.sells == ()
    assert world.buy_prices() == before


@pytest.mark.parametrize("strategy", SELLING)
def test_a_fall_through_the_whole_grid_sells_every_level_once(strategy: str) -> None:
    world = World(strategy).start("50000").price("47000")
    assert len(world.sells) == 5
    # the executions are newer than the ticker, so every sell stands one interval over its own buy
    assert world.sell_prices() == ["48048.8", "48529.3", "49014.6", "49504.8", "49999.9"]
    assert len(world.buys) == 5
    assert world.buy_prices()[0] == "46534.6"


def test_a_sell_is_never_placed_below_the_ticker() -> None:
    world = World("GridHODL").start("50000")
    world.exchange.on_price(Decimal("49500"), world.clock.now)  # filled while nobody was told
    world.restart()
    world.price("51000")
    [sell] = world.sells
    assert f"{sell.price:f}" == "51510.0"


@pytest.mark.parametrize("strategy", ALL)
def test_the_limit_stops_buying(strategy: str) -> None:
    world = World(strategy, changes={"max_investment": Decimal(400)}).start("50000")
    # 3 · 100 invested: the fourth buy would need 300 + 100.25 > 400
    assert world.buy_prices() == FIRST_GRID[:3]
    [waiting] = world.strategy.waiting
    assert (waiting.cause.value, f"{waiting.price:f}") == ("limit", "48048.9")
    assert "max_investment 400.00 reached: 299.99 invested, one more buy needs 100.25" in waiting.reason
    assert world.told(FundsShort) == world.told(OrderRefused) == []  # it is what its owner asked for


def test_that_the_limit_is_reached_is_said_once_until_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="gridbot.strategies")
    world = World("GridSell", changes={"max_investment": Decimal(510)}).start("50000").price("49500", "49400", "49300")
    said = [record.getMessage() for record in caplog.records if "max_investment" in record.getMessage()]
    assert len(said) == 1
    assert "max_investment 510.00 reached: " in said[0]
    world.price("50000", "49000")
    assert len([record for record in caplog.records if "max_investment" in record.getMessage()]) == 2


@pytest.mark.parametrize("strategy", ALL)
def test_short_of_funds_is_said_once_and_asked_again_after_ten_seconds(strategy: str) -> None:
    world = World(strategy, quote=Decimal(250)).start("50000")
    assert world.buy_prices() == FIRST_GRID[:2]
    [short] = world.told(FundsShort)
    assert (f"{short.needed:.2f}", f"{short.available:.2f}", short.currency) == ("100.25", "49.50", "USD")
    world.price(*["50000"] * 5)
    assert len(world.told(FundsShort)) == 1
    assert world.strategy.waiting[0].reason == "49.50 free, 100.25 needed"
    world.rest.calls.clear()
    world.wait(4)  # five seconds have passed with the prices
    assert world.rest.calls == []
    world.wait(2)
    assert world.rest.calls == ["get_pair_balance"]
    world.wait(1200)
    assert 18 <= world.rest.calls.count("get_pair_balance") <= 24  # once a minute, at last


def test_short_of_funds_is_said_again_when_there_was_enough_meanwhile() -> None:
    world = World(quote=Decimal(550)).start("50000").price("49500")
    assert len(world.told(FundsShort)) == 1
    world.price("50000").wait(60).price("50000")  # the sell has brought its quote
    assert len(world.buys) == 5
    world.price("49000").wait(60).price("49000")
    assert len(world.told(FundsShort)) == 2


@pytest.mark.parametrize("strategy", ALL)
def test_without_money_for_one_buy_the_bot_waits_for_it_at_no_cost(strategy: str) -> None:
    world = World(strategy)
    told = world.rest.get_pair_balance
    world.rest.get_pair_balance = lambda: told().model_copy(update={"quote_available": Decimal(50)})
    world.start("50000")
    world.rest.calls.clear()
    world.price("50000", "60000", "40000", "50000")
    assert (world.buys, world.rest.calls) == ((), [])
    assert len(world.told(FundsShort)) == 1
    world.rest.get_pair_balance = told
    world.wait(12).price("50000")
    assert world.buy_prices() == FIRST_GRID


@pytest.mark.parametrize("strategy", ALL)
def test_a_restart_finds_the_same_grid(strategy: str) -> None:
    world = World(strategy).start("50000").price("49500")
    buys, sells = world.buy_prices(), world.sell_prices()
    added = len(world.exchange.orders) if hasattr(world.exchange, "orders") else None
    world.restart().price("49500")
    assert (world.buy_prices(), world.sell_prices()) == (buys, sells)
    assert world.on_exchange(BUY) == buys
    assert added is None or len(world.exchange.orders) == added
    assert world.told(CaughtUp) == []


@pytest.mark.parametrize("strategy", SELLING)
def test_what_was_filled_while_the_bot_was_away_is_sold(strategy: str) -> None:
    world = World(strategy).start("50000")
    world.exchange.on_price(Decimal("49000"), world.clock.now)
    world.exchange.take_events()
    world.clock.now += 11_520
    world.restart().price("49000")
    assert len(world.sells) == 2
    assert len(world.buys) == 5
    [news] = world.told(CaughtUp)
    assert (news.buys_filled, news.sells_filled, news.cancelled) == (2, 0, 0)
    assert news.away_seconds >= 11_520


@pytest.mark.parametrize("strategy", ["GridHODL", "GridSell", "SWING"])
def test_the_executed_part_of_a_cancelled_buy_is_sold_once_it_is_worth_a_grid_amount(strategy: str) -> None:
    world = World(strategy).start("50000")
    for price in ("50000", "49500"):
        top = world.buys[0]
        world.exchange.fill(top.txid, top.volume * Decimal("0.6"))
        world.exchange.cancel_order(top.txid, world.clock.now)
        world.price(price, price)
    # 0.001212 of 0.00202 @ 49504.9 and 0.00122412 of 0.0020402 @ 49014.7: worth 120 > 100
    stored = world.desk.configuration.get()
    [sell] = world.sells
    assert (f"{sell.price:f}", f"{sell.volume:f}", sell.sells) == ("49999.9", "0.00201005", "surplus")
    assert stored.vol_of_unfilled_remaining == Decimal("0.00243612") - sell.volume
    assert stored.vol_of_unfilled_remaining_max_price == Decimal("49504.9")
    assert len(world.buys) == 5


def test_a_sell_of_another_strategy_that_is_cancelled_under_cdca_leaves_nothing_to_sell(tmp_path: Path) -> None:
    world = World("GridHODL", path=tmp_path / "bot.db").start("50000").price("49500")
    [sell] = world.sells
    world.strategy_name = "cDCA"
    world.restart().price("49500")
    world.exchange.cancel_order(sell.txid, world.clock.now)
    world.settle()
    world.wait(10).price("49500")
    assert (world.sells, len(world.desk.unsold), world.desk.configuration.get().vol_of_unfilled_remaining) == ((), 0, 0)


def test_the_executed_part_of_a_cancelled_buy_stays_with_cdca() -> None:
    world = World("cDCA").start("50000")
    for _ in range(2):
        top = world.buys[0]
        world.exchange.fill(top.txid, top.volume * Decimal("0.6"))
        world.exchange.cancel_order(top.txid, world.clock.now)
        world.price("50000")
    assert world.sells == ()
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.00243612")


def half_sold_and_cancelled(strategy: str) -> World:
    """A sell is cancelled by hand after 0.00102 of it were executed; the rest is on sale again."""
    world = World(strategy).start("50000").price("49500")
    [sell] = world.sells
    world.exchange.fill(sell.txid, Decimal("0.00102000"))
    world.exchange.cancel_order(sell.txid, world.clock.now)
    return world.price("49500").wait(4)


def test_what_a_cancelled_sell_had_executed_is_accounted_and_the_rest_sold_again() -> None:
    world = half_sold_and_cancelled("GridSell")
    [again] = world.sells
    assert again.volume == Decimal("0.00100000")
    assert sum(t.info.volume for t in world.desk.trades.all() if t.info.side == SELL) == Decimal("0.00102000")


@pytest.mark.parametrize("strategy", ALL)
def test_another_amount_rebuilds_the_buys_and_leaves_the_sells(strategy: str) -> None:
    world = World(strategy).start("50000").price("49500")
    sells = world.sell_prices()
    world.restart(amount_per_grid=Decimal(200)).price("49500")
    assert {f"{o.price * o.volume:.0f}" for o in world.buys} == {"200"}
    assert world.buy_prices()[0] == "49009.9"
    assert world.sell_prices() == sells
    assert world.on_exchange(BUY) == world.buy_prices()
    world.rest.calls.clear()
    world.restart().price("49500")
    assert len(world.buys) == 5
    assert "cancel_order" not in world.rest.calls  # once is enough


def test_another_amount_outlives_a_stop_before_the_buys_of_the_old_one_are_gone(tmp_path: Path) -> None:
    world = World(path=tmp_path / "bot.db").start("50000")
    cancel = world.rest.cancel_order
    world.rest.cancel_order = lambda txid: None  # it gets lost
    world.restart(amount_per_grid=Decimal(200)).price("50000")
    assert {f"{order.value:.0f}" for order in world.buys} == {"100"}
    world.rest.cancel_order = cancel
    world.restart().price("50000").wait(30).price("50000")
    assert world.buy_prices() == FIRST_GRID
    assert {f"{order.value:.0f}" for order in world.buys} == {"200"}


def test_swing_sells_base_that_no_buy_brought_in() -> None:
    world = World("SWING", base=Decimal("0.01")).start("50000")
    [extra] = world.told(ExtraSellPlaced)
    # 50000 · 1.01² = 51005, volume 100 / (51005 · 0.995)
    assert (f"{extra.price:f}", f"{extra.volume:f}") == ("51005.0", "0.00197044")
    assert len(world.sells) == 1
    world.price("50000", "50001", "50002")
    assert len(world.sells) == 1


def test_swing_never_sells_extra_below_two_intervals_over_its_dearest_buy() -> None:
    world = World("SWING", base=Decimal("0.01")).start("50000").price("49500")
    world.price("51100")  # both sells are filled, the grid follows
    world.wait(1)
    assert world.desk.configuration.get().highest_buy_price == Decimal("49504.9")
    assert world.sells[0].price >= Decimal("49504.9") * Decimal("1.01") ** 2


def test_swing_remembers_its_dearest_buy_after_cheaper_ones() -> None:
    world = World("SWING").start("50000").price("49500", "49000", "48500")
    assert world.desk.configuration.get().highest_buy_price == Decimal("49504.9")


@pytest.mark.parametrize("strategy", SELLING)
def test_a_cycle_tells_its_profit(strategy: str) -> None:
    world = World(strategy).start("50000").price("49500", "50000")
    sold = world.told(OrderExecuted)[-1]
    assert sold.side == SELL
    if strategy == "GridSell":
        # 0.00202 · 49999.9 · 0.9975 − 0.00202 · 49504.9 · 1.0025
        assert sold.profit == Decimal("0.49742")
        assert sold.base_kept == 0
    else:
        # 0.00201005 · 49999.9 − 0.25125 − (99.999898 + 0.24999) · 0.00201005 / 0.00202
        assert f"{sold.profit:.6f}" == "0.494966"
        assert sold.base_kept == Decimal("0.00000995")


def test_a_cycle_sold_by_two_orders_tells_the_profit_of_both() -> None:
    world = half_sold_and_cancelled("GridHODL").price("50000")
    sold = world.told(OrderExecuted)[-1]
    whole = cycles(by_cycle(world.desk.trades.all()))[0]
    assert (whole.state, whole.held) == ("closed", sold.base_kept)
    assert abs(sold.profit - whole.gain) < Decimal("1E-12")


def test_what_an_open_buy_has_executed_is_for_sale_and_no_surplus() -> None:
    world = World("GridHODL").start("50000")
    world.exchange.fill(world.buys[0].txid, Decimal("0.00100000"))
    world.price("50000")
    desk = world.desk
    view = by_cycle(desk.trades.all(), spoken_for(desk.book, desk.pending.all(), desk.unsold.all()))
    assert [kind.volume for kind in held_by_kind(view)] == [Decimal("0.00100000"), 0, 0]


@pytest.mark.parametrize("strategy", SELLING)
def test_a_sell_never_has_more_decimals_than_a_lot(strategy: str) -> None:
    world = World(strategy).start("50000")
    buy = UnsoldBuy("B", Decimal("49504.9"), Decimal("0.0020200099"), 0.0)  # a report may tell more digits
    sell = world.strategy.sell_after(buy)
    assert sell.volume == sell.volume.quantize(Decimal("1E-8"))
    assert sell.volume <= buy.volume


@pytest.mark.parametrize("strategy", ALL)
def test_two_buys_on_one_level_become_one(strategy: str) -> None:
    world = World(strategy).start("50000")
    near = world.rest.create_order(
        ordertype="limit", side=BUY, volume=Decimal("0.002"), price=Decimal("49500.0"), userref=1680953421
    )
    world.restart().price("50000")
    assert "49504.9" not in world.buy_prices()  # the higher of the two goes
    assert near.txid in {order.txid for order in world.buys}
    assert len(world.buys) == 5


def test_a_strategy_that_keeps_what_it_buys_keeps_the_executed_parts_of_cancelled_buys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Keeper(GridStrategyBase):
        def sell_after(self, buy: UnsoldBuy) -> PlaceSell | None:
            return None

    own = ModuleType("own")
    own.Keeper = Keeper  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own", own)
    for strategy in ("own:Keeper", "cDCA"):
        world = World(strategy, base=Decimal(1)).start("50000")
        world.desk.add_to_surplus(Decimal("0.0045"), Decimal(49504))
        world.price("50000").wait(120).price("50001")
        assert world.sells == ()
        assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.0045")
