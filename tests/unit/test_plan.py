"""The plan: what would be placed and cancelled, and what a fall would leave."""

import json
from dataclasses import asdict, replace
from decimal import Decimal

import pytest

from gridbot.core.backtest import Play, pair_from_file
from gridbot.core.plan import Standing, make_plan, text
from gridbot.core.registry import resolve
from gridbot.exceptions import ConfigurationError
from gridbot.infrastructure.database import StoredConfiguration
from gridbot.models.grid import BookOrder, UnsoldBuy
from gridbot.services.messages import Units
from gridbot.services.tables import as_json
from gridbot.strategies.grid_rules import grid_settings, smallest_amount
from tests.past import FEE, bot

PRICE = Decimal("50000.0")
UNITS = Units("BTC", "USD", 1)
LADDER = ["49504.9", "49014.7", "48529.4", "48048.9", "47573.1"]


def play(**changes: object) -> Play:
    settings = bot(**changes)
    return Play(
        settings, resolve("strategy", settings.strategy), pair_from_file(settings, 1), FEE, Decimal(0), Decimal(0)
    )


def standing(**changes: object) -> Standing:
    return replace(Standing(PRICE, Decimal(0), Decimal(10000)), **changes)


def order(price: str, side: str = "buy", volume: str = "0.002") -> BookOrder:
    return BookOrder(f"O{price}", side, Decimal(price), Decimal(volume), 0.0)


def stored(interval: str = "0.01", amount: str = "100") -> StoredConfiguration:
    return StoredConfiguration("Kraken BTC/USD", Decimal(amount), Decimal(interval), 0.0, 0.0)


def test_a_new_bot_places_the_worked_example():
    plan = make_plan(play(), standing())
    assert [str(e.price) for e in plan.places] == LADDER
    assert plan.cancels == ()
    assert plan.bound == sum(e.price * e.volume for e in plan.places) * (1 + FEE)


def test_a_grid_in_order_is_left_alone():
    orders = tuple(order(price) for price in LADDER)
    plan = make_plan(play(), standing(orders=orders, stored=stored()))
    assert (plan.places, plan.cancels) == ((), ())


def test_another_interval_cancels_every_buy_and_builds_a_new_ladder():
    orders = tuple(order(price) for price in LADDER)
    plan = make_plan(play(interval="2%"), standing(orders=orders, stored=stored()))
    assert [str(e.price) for e in plan.cancels] == LADDER
    assert [str(e.price) for e in plan.places][:2] == ["49019.6", "48058.4"]


def test_sells_stay_and_count_as_money_that_is_there():
    plan = make_plan(play(), standing(orders=(order("52000.0", "sell"),), stored=stored()))
    assert plan.cancels == ()
    assert plan.wealth == Decimal("10000") + Decimal("0.002") * PRICE


def test_buys_the_price_has_passed_get_their_sells_beside_older_ones():
    older = (order("51000.0", "sell"), order("50490.0", "sell"))
    orders = (order("49504.9"), order("49014.7"), *older)
    plan = make_plan(play(n_open_buy_orders=2), standing(price=Decimal("49400.0"), orders=orders, stored=stored()))
    assert [(e.side, str(e.price)) for e in plan.fills] == [("buy", "49504.9")]
    assert [(e.side, str(e.price)) for e in plan.places] == [("sell", "49999.9"), ("buy", "48529.4")]


def test_a_buy_without_a_sell_gets_one():
    unsold = (UnsoldBuy("OLD", Decimal("50000.0"), Decimal("0.002"), 0.0),)
    plan = make_plan(play(), standing(unsold=unsold, stored=stored(), free_base=Decimal("0.002")))
    assert [(e.side, str(e.price)) for e in plan.places if e.side == "sell"] == [("sell", "50500.0")]


def partly(price: str, executed: str) -> BookOrder:
    return order(price)._replace(executed=Decimal(executed))


def test_an_order_of_which_less_is_left_than_the_smallest_one_stays_as_it_lies():
    orders = (partly(LADDER[0], "0.00199"), *(order(price) for price in LADDER[1:]))
    money = {"free_base": Decimal("0.00199"), "free_quote": Decimal(1000)}
    plan = make_plan(play(), standing(orders=orders, stored=stored(), **money))
    assert (plan.places, plan.cancels) == ((), ())
    bound = sum(o.price * (o.volume - o.executed) for o in orders) * (1 + FEE)
    assert plan.bound == bound
    assert plan.wealth == 1000 + bound + Decimal("0.00199") * PRICE


def test_the_whole_of_an_order_that_is_partly_executed_counts_as_invested():
    orders = (partly(LADDER[0], "0.001"), *(order(price) for price in LADDER[1:4]))
    plan = make_plan(play(max_investment="485"), standing(orders=orders, stored=stored(), free_base=Decimal("0.001")))
    assert plan.places == ()
    assert plan.missing == (f"{LADDER[4]}: max_investment 485.00 reached: 390.19 invested, one more buy needs 100.25",)


def test_what_cancelled_buys_have_executed_is_sold_beside_the_surplus_that_there_is():
    """And an open sell that takes nothing of it still takes nothing of it."""
    orders = (partly(LADDER[0], "0.001"), order(LADDER[1]), order("52000.0", "sell")._replace(sells="B"))
    before = replace(stored(), vol_of_unfilled_remaining=Decimal("0.0005"))
    plan = make_plan(play(amount_per_grid="60"), standing(orders=orders, stored=before, free_base=Decimal("0.0015")))
    assert len(plan.cancels) == 2
    assert [(str(e.price), str(e.volume)) for e in plan.places if e.side == "sell"] == [("50500.0", "0.00119408")]


def test_one_cycle_is_told_after_both_fees():
    cycle = make_plan(play(), standing()).cycle
    assert (cycle.sell_price, cycle.sold, cycle.base_kept) == (
        Decimal("49999.9"),
        Decimal("0.00201005"),
        Decimal("0.00000995"),
    )
    # as the ledger counts: what is sold, against what that part of the buy has cost; the base kept stands beside it
    assert cycle.gain == Decimal("0.00201005") * (Decimal("49999.9") * (1 - FEE) - Decimal("49504.9") * (1 + FEE))
    sell = make_plan(play(strategy="GridSell"), standing()).cycle
    assert sell.base_kept == 0
    assert sell.gain == Decimal("100.999798") * (1 - FEE) - Decimal("99.999898") * (1 + FEE)
    assert make_plan(play(strategy="cDCA"), standing()).cycle.sell_price == 0


def test_a_fall_leaves_what_the_levels_have_bought():
    plan = make_plan(play(strategy="cDCA", max_investment="1000"), standing(free_quote=Decimal("301")))
    assert [str(fall.fraction) for fall in plan.falls] == ["0.10", "0.30", "0.50"]
    # Money for three buys only: 301 / 100.25; they cost 300 and a little, and are worth half at -50 %.
    deepest = plan.falls[-1]
    bought = Decimal("0.00202000") + Decimal("0.00204020") + Decimal("0.00206060")
    assert deepest.price == Decimal("25000.0")
    assert deepest.base == bought
    assert deepest.wealth == deepest.quote + bought * 25000
    assert plan.falls[0].wealth > plan.falls[1].wealth > deepest.wealth


def test_the_falls_are_a_table_that_fits_80_columns():
    plan = make_plan(play(), standing(free_base=Decimal(9), free_quote=Decimal(900000)))
    lines = text(plan, UNITS, "").partition("without a rise in between:\n")[2].splitlines()
    assert max(map(len, lines[:5])) <= 80
    assert lines[0].split() == ["fall", "price", "BTC", "USD", "worth", "USD", "change", "open", "buys"]
    assert lines[4].split()[:4] == ["-50", "%", "25000.0", f"{plan.falls[-1].base:f}"]


def test_levels_without_money_are_named():
    plan = make_plan(play(), standing(free_quote=Decimal("250")))
    assert len(plan.places) == 2
    assert plan.missing == tuple(f"{price}: 49.50 free, 100.25 needed" for price in LADDER[2:])


def test_a_grid_with_missing_levels_is_not_called_in_order():
    orders = tuple(order(price) for price in LADDER[:2])
    poor = make_plan(play(), standing(orders=orders, stored=stored(), free_quote=Decimal(20)))
    assert (poor.places, poor.cancels) == ((), ())
    said = text(poor, UNITS, "")
    assert "missing buy  48529.4: 20.00 free, 100.25 needed\nmissing buy  48048.9: 20.00 free" in said
    assert "nothing to place, nothing to cancel\n" in said
    assert "in order" not in said
    orders = tuple(order(price) for price in LADDER)
    assert "the grid is in order" in text(make_plan(play(), standing(orders=orders, stored=stored())), UNITS, "")


def test_a_price_that_has_left_the_grid_moves_it_also_when_it_fills_the_last_sell():
    orders = (*(order(price) for price in LADDER), order("50500.0", "sell"))
    plan = make_plan(play(), standing(price=Decimal("53000.0"), orders=orders, stored=stored()))
    assert [(e.side, e.txid) for e in plan.fills] == [("sell", "O50500.0")]
    assert [e.txid for e in plan.cancels] == [f"O{price}" for price in LADDER]
    assert [str(e.price) for e in plan.places][:2] == ["52475.2", "51955.6"]
    assert "filled at this price  sell 0.00200000 BTC @ 50500.0" in text(plan, UNITS, "")


def test_what_is_placed_on_the_way_and_taken_back_again_is_not_told():
    orders = (*(order(price) for price in LADDER[1:]), order("50500.0", "sell"), order("51000.0", "sell"))
    plan = make_plan(play(), standing(price=Decimal("53000.0"), orders=orders, stored=stored()))
    assert len(plan.fills) == 2
    assert [e.txid for e in plan.cancels] == [f"O{price}" for price in LADDER[1:]]
    assert [str(e.price) for e in plan.places] == ["52475.2", "51955.6", "51441.1", "50931.7", "50427.4"]


@pytest.mark.parametrize("strategy", ["GridHODL", "GridSell", "SWING", "cDCA"])
def test_the_smallest_amount_works_and_half_of_it_does_not(strategy):
    settings = make_plan(play(strategy=strategy), standing())
    amount = settings.smallest_amount
    assert make_plan(play(strategy=strategy, amount_per_grid=str(amount)), standing()).places != ()
    with pytest.raises(ConfigurationError, match=f"Raise amount_per_grid to {amount} or more"):
        make_plan(play(strategy=strategy, amount_per_grid=str(amount / 2)), standing())


def test_the_smallest_interval_is_the_one_that_pays():
    assert make_plan(play(), standing()).smallest_interval == Decimal("0.00503")


def test_the_smallest_amount_follows_price_and_minimums():
    settings = grid_settings(bot(), pair_from_file(bot(), 1), FEE)
    assert smallest_amount(Decimal(50000), settings) == Decimal("2.53")  # 0.00005 x 50500, up to the cent
    assert smallest_amount(Decimal(100), settings) == Decimal("0.51")  # 0.5 is the smallest cost


def test_a_bot_that_has_traded_plans_on_where_a_step_of_the_price_is_wider_than_the_interval():
    """As it would go on live; only a first start is refused there."""
    plan = make_plan(play(strategy="GridSell"), standing(price=Decimal("3.0"), stored=stored()))
    assert [str(e.price) for e in plan.places] == ["2.9", "2.8", "2.7", "2.6", "2.5"]
    assert (plan.cycle.buy_price, plan.cycle.sell_price) == (Decimal("2.9"), Decimal("3.0"))
    assert plan.cycle.gain > 0


def test_the_interval_that_is_told_to_be_right_works():
    with pytest.raises(ConfigurationError, match=r"Raise interval to 1\.137 % or more"):
        make_plan(play(), standing(price=Decimal("9.0")))
    assert make_plan(play(interval="1.137%"), standing(price=Decimal("9.0"))).cycle.gain > 0


def test_the_document_holds_every_digit_as_text():
    found = json.loads(as_json(asdict(make_plan(play(), standing()))))
    assert found["places"][0]["price"] == "49504.9"
    assert found["falls"][2]["fraction"] == "0.50"


def test_cancellations_carry_the_ids_of_the_real_orders():
    orders = tuple(order(price) for price in LADDER)
    plan = make_plan(play(interval="2%"), standing(orders=orders, stored=stored()))
    assert [e.txid for e in plan.cancels] == [f"O{price}" for price in LADDER]
