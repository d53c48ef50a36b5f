"""The rules of the grid, line by line: the worked example, and properties for every formula."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gridbot.exceptions import ConfigurationError, OrderTooSmall
from gridbot.models.exchange import BUY, SELL
from gridbot.models.grid import (
    EXTRA,
    BookOrder,
    CancelOrder,
    Cause,
    Decision,
    GridSettings,
    GridView,
    PlaceBuy,
    Placement,
    UnsoldBuy,
)
from gridbot.strategies import grid_rules as rules
from tests.world import BTC_USD

EXAMPLE = GridSettings(
    amount_per_grid=Decimal(100),
    interval=Decimal("0.01"),
    fee=Decimal("0.0025"),
    n_open_buy_orders=5,
    max_investment=Decimal(10000),
    pair=BTC_USD,
)
TICK, LOT = Decimal("0.1"), Decimal("1E-8")

prices = st.decimals("10", "200000", places=1, allow_nan=False)
amounts = st.decimals("20", "10000", places=2)
intervals = st.decimals("0.008", "0.2", places=4)
fees = st.decimals("0", "0.003", places=4)


def order(price: str | Decimal, side: str = BUY, volume: str = "0.002") -> BookOrder:
    return BookOrder(f"O{price}", side, Decimal(price), Decimal(volume), placed_at=0.0)


def grid(*buys: str, ticker: str = "50000", sells: tuple[str, ...] = (), **changes: object) -> GridView:
    view = GridView(
        settings=EXAMPLE,
        ticker=Decimal(ticker),
        buys=tuple(sorted((order(p) for p in buys), key=lambda o: -o.price)),
        sells=tuple(sorted((order(p, SELL) for p in sells), key=lambda o: o.price)),
        quote_available=Decimal(100000),
    )
    return replace(view, **changes)


FULL = ("49504.9", "49014.7", "48529.4", "48048.9", "47573.1")


def test_the_first_grid_is_the_worked_example() -> None:
    decision = rules.check_n_open_buy_orders(grid())
    assert [(f"{b.price:f}", f"{b.volume:f}") for b in decision.intents if isinstance(b, PlaceBuy)] == [
        ("49504.9", "0.00202000"),
        ("49014.7", "0.00204020"),
        ("48529.4", "0.00206060"),
        ("48048.9", "0.00208121"),
        ("47573.1", "0.00210202"),
    ]
    assert decision.waiting == ()


@given(reference=prices, ticker=prices, interval=intervals)
def test_a_buy_stands_at_most_one_interval_below_and_never_above_the_ticker(
    reference: Decimal, ticker: Decimal, interval: Decimal
) -> None:
    settings = replace(EXAMPLE, interval=interval)
    price = rules.buy_price(reference, ticker, settings)
    one_below = reference / (1 + interval)
    assert price <= ticker
    expected = one_below if one_below <= ticker else ticker / (1 + interval)
    assert expected - TICK < price <= expected
    assert price % TICK == 0


@given(bought=prices, ticker=prices, interval=intervals)
def test_a_sell_stands_one_interval_above_its_buy_and_never_below_the_ticker(
    bought: Decimal, ticker: Decimal, interval: Decimal
) -> None:
    settings = replace(EXAMPLE, interval=interval)
    price = rules.sell_price(bought, ticker, settings)
    expected = bought * (1 + interval)
    if expected < ticker:
        expected = ticker * (1 + interval)
    cut = expected - expected % TICK
    even = bought * (1 + EXAMPLE.fee) / (1 - EXAMPLE.fee)  # where two fees take all of the gain
    assert price == (cut if cut > even else even - even % TICK + TICK)


@pytest.mark.parametrize(("bought", "sold"), [("0.60", "0.61"), ("0.49", "0.50"), ("2.00", "2.03"), ("1.99", "2.01")])
def test_a_price_fallen_to_where_a_tick_is_wider_than_the_gain_sells_nothing_at_a_loss(bought: str, sold: str) -> None:
    pair = EXAMPLE.pair.model_copy(update={"pair_decimals": 2, "tick_size": Decimal("0.01")})
    settings = replace(EXAMPLE, interval=Decimal("0.015"), pair=pair)
    assert rules.sell_price(Decimal(bought), Decimal(bought), settings) == Decimal(sold)


@given(ticker=prices, tick=st.sampled_from(["0.1", "0.5", "1", "10", "0.00001"]), fee=st.sampled_from(["0", "0.0025"]))
def test_the_smallest_interval_leaves_something_of_the_gain_whatever_the_tick(
    ticker: Decimal, tick: str, fee: str
) -> None:
    pair = EXAMPLE.pair.model_copy(update={"tick_size": Decimal(tick)})
    settings = replace(EXAMPLE, pair=pair, fee=Decimal(fee))
    smallest = rules.smallest_interval(ticker, settings)
    price = rules.buy_price(ticker, ticker, replace(settings, interval=smallest))
    assume(smallest < 1 and price > 0)
    rules.check_tick_leaves_gain(ticker, replace(settings, interval=smallest))
    assert smallest <= max(Decimal(tick) * 2 / price, Decimal("0.00001")) + 3 * Decimal(fee)


@given(ticker=prices, highest=prices, interval=intervals)
def test_an_extra_sell_stands_two_intervals_above_market_and_dearest_buy(
    ticker: Decimal, highest: Decimal, interval: Decimal
) -> None:
    settings = replace(EXAMPLE, interval=interval)
    price = rules.extra_sell_price(ticker, highest, settings)
    two = (1 + interval) ** 2
    expected = ticker * two if ticker * two >= highest else highest * two
    assert expected - TICK < price <= expected


@given(amount=amounts, price=prices)
def test_a_buy_costs_at_most_the_amount_and_less_than_a_lot_below_it(amount: Decimal, price: Decimal) -> None:
    settings = replace(EXAMPLE, amount_per_grid=amount)
    volume = rules.buy_volume(price, settings)
    assert volume * price <= amount < (volume + LOT) * price


@given(amount=amounts, price=prices, fee=fees)
def test_a_gridhodl_sale_returns_the_quote_spent_with_both_fees(amount: Decimal, price: Decimal, fee: Decimal) -> None:
    settings = replace(EXAMPLE, amount_per_grid=amount, fee=fee)
    volume = rules.volume_returning_quote(price, settings)
    wanted = amount / (price * (1 - 2 * fee))
    assert wanted - LOT < volume <= wanted
    # the rule's 1/(1-2f) pays both fees up to a term of f²
    assert (volume + LOT) * price * (1 - fee) >= amount * (1 + fee)


@given(amount=amounts, price=prices, fee=fees, interval=intervals)
def test_a_gridhodl_sale_never_sells_more_than_its_buy_brought(
    amount: Decimal, price: Decimal, fee: Decimal, interval: Decimal
) -> None:
    assume((1 + interval) * (1 - 2 * fee) > Decimal("1.001"))
    assume(price > 100)
    settings = replace(EXAMPLE, amount_per_grid=amount, fee=fee, interval=interval)
    bought = rules.buy_volume(price, settings)
    assert rules.volume_returning_quote(rules.sell_price(price, price, settings), settings) <= bought


@pytest.mark.parametrize(("amount", "what"), [("0.4", "below the pair's minimum of 0.5"), ("2", "smallest volume")])
def test_an_order_below_the_minimums_is_named_before_it_is_sent(amount: str, what: str) -> None:
    with pytest.raises(OrderTooSmall, match=what):
        rules.buy_volume(
            Decimal("4000" if amount == "0.4" else "50000"), replace(EXAMPLE, amount_per_grid=Decimal(amount))
        )


def test_an_order_of_exactly_the_minimums_is_placed() -> None:
    assert rules.buy_volume(Decimal(50000), replace(EXAMPLE, amount_per_grid=Decimal("2.5"))) == BTC_USD.ordermin
    assert rules.buy_volume(Decimal(4000), replace(EXAMPLE, amount_per_grid=Decimal("0.5"))) * 4000 == BTC_USD.costmin


def test_amounts_of_a_quote_such_as_btc_keep_their_decimals() -> None:
    rules_of_pair = {"quote": "XXBT", "pair_decimals": 8, "tick_size": Decimal("1E-8"), "costmin": Decimal("0.00002")}
    pair = BTC_USD.model_copy(update=rules_of_pair)
    small = replace(EXAMPLE, pair=pair, amount_per_grid=Decimal("0.00123"), max_investment=Decimal("0.002"))
    assert "5 buys of 0.00123000, 1.00 % apart" in rules.explain_settings(small)
    assert rules.smallest_amount(Decimal("0.05"), small) == Decimal("0.00002001")
    [waiting] = rules.check_n_open_buy_orders(grid(ticker="0.05", settings=small)).waiting
    assert waiting.reason == "max_investment 0.00200000 reached: 0.00122999 invested, one more buy needs 0.00123307"


def test_amounts_of_money_have_two_decimals_however_finely_the_exchange_counts() -> None:
    fine = replace(EXAMPLE, pair=BTC_USD.model_copy(update={"cost_decimals": 8}))
    assert "5 buys of 100.00, 1.00 % apart" in rules.explain_settings(fine)


def test_rounding_dust_costs_one_lot_and_more_than_dust_waits() -> None:
    wanted, lot = Decimal("0.00202000"), Decimal("0.00000001")
    assert rules.sellable_volume(wanted, wanted, lot) == wanted
    assert rules.sellable_volume(wanted, wanted - lot, lot) == wanted - lot
    assert rules.sellable_volume(wanted, wanted - lot * 2, lot) is None


def test_of_two_near_buys_the_higher_is_cancelled() -> None:
    # 49504.9 / 49300 − 1 = 0.42 % < 0.5 %;  49504.9 / 49258.6 − 1 = 0.50003 %
    assert [c.txid for c in rules.check_near_buy_orders(grid("49504.9", "49300")).intents] == ["O49504.9"]
    assert rules.check_near_buy_orders(grid("49504.9", "49258.6")).intents == ()
    assert len(rules.check_near_buy_orders(grid("49504.9", "49504.9")).intents) == 1


def test_of_three_near_buys_only_the_lowest_stays() -> None:
    cancelled = {c.txid for c in rules.check_near_buy_orders(grid("49300", "49200", "49100")).intents}
    assert cancelled == {"O49300", "O49200"}


def test_more_than_n_buys_cancel_the_lowest() -> None:
    view = grid(*FULL, "47102.0", "46635.6")
    decision = rules.check_lowest_cancel_of_more_than_n_buy_orders(view)
    assert [c.txid for c in decision.intents] == ["O47102.0", "O46635.6"]


def test_the_grid_follows_only_above_two_intervals_and_a_little() -> None:
    threshold = Decimal("49504.9") * Decimal("1.01") ** 2 * Decimal("1.001")
    assert rules.shift_buy_orders_up(grid(*FULL, ticker=str(threshold))).intents == ()
    decision = rules.shift_buy_orders_up(grid(*FULL, ticker=str(threshold + 1)))
    assert len(decision.intents) == 5
    assert all(isinstance(c, CancelOrder) for c in decision.intents)


def test_the_limit_counts_buys_sells_and_placements_on_their_way() -> None:
    settings = replace(EXAMPLE, max_investment=Decimal("400.25"))
    view = grid("49500", "49000", sells=("50000",), settings=settings)  # 99 + 98 + 100
    assert view.investment == Decimal("297.000")
    assert len(rules.check_n_open_buy_orders(view).intents) == 1
    full = replace(view, settings=replace(EXAMPLE, max_investment=Decimal("397.25")))
    decision = rules.check_n_open_buy_orders(full)
    assert decision.intents == ()
    assert decision.waiting[0].cause is Cause.LIMIT


def test_exactly_enough_is_not_enough() -> None:
    assert rules.check_n_open_buy_orders(grid(quote_available=Decimal("100.25"))).intents == ()
    assert len(rules.check_n_open_buy_orders(grid(quote_available=Decimal("100.26"))).intents) == 1
    # after one buy with its fee 100.15 are left
    assert len(rules.check_n_open_buy_orders(grid(quote_available=Decimal("200.4"))).intents) == 1
    assert len(rules.check_n_open_buy_orders(grid(quote_available=Decimal("200.6"))).intents) == 2


def test_no_level_is_wanted_at_a_price_of_nothing() -> None:
    decision = rules.check_n_open_buy_orders(grid(ticker="0.3"))  # 0.29..., 0.19..., 0.09..., cut to the tick of 0.1
    assert [f"{b.price:f}" for b in decision.intents if isinstance(b, PlaceBuy)] == ["0.2", "0.1"]
    assert decision.waiting == ()
    assert rules.buy_after_sell(TICK, grid(ticker="0.1", sells=("50500",))) == Decision()


def test_a_price_of_one_tick_is_refused_in_words_before_anything_is_bought() -> None:
    with pytest.raises(ConfigurationError, match=r"the price 0\.1 is so near the pair's smallest step of 0\.1 that no"):
        rules.check_first_cycle(TICK, EXAMPLE, lambda buy: None)


def test_a_sold_level_is_bought_again_one_interval_below() -> None:
    view = grid(*FULL[1:], ticker="49999.9", sells=("50500",))
    [buy] = rules.buy_after_sell(Decimal("49999.9"), view).intents
    assert f"{buy.price:f}" == "49504.8"


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(grid(*FULL[1:], ticker="49999.9"), id="no other sell open"),
        pytest.param(grid(*FULL, ticker="49999.9", sells=("50500",)), id="n buys open"),
        pytest.param(grid(*FULL[:4], ticker="49999.9", sells=("50500",)), id="a buy stands there already"),
        pytest.param(
            grid(*FULL[1:], ticker="49999.9", sells=("50500",), quote_available=Decimal(50)), id="funds short"
        ),
    ],
)
def test_a_sold_level_is_not_bought_again_when(view: GridView) -> None:
    assert rules.buy_after_sell(Decimal("49999.9"), view).intents == ()


def test_an_extra_sell_needs_a_complete_and_quiet_grid() -> None:
    view = grid(*FULL, base_available=Decimal("0.01"))
    [sell] = rules.check_extra_sell_order(view).intents
    assert (f"{sell.price:f}", f"{sell.volume:f}", sell.sells) == ("51005.0", "0.00197044", EXTRA)
    unsold = (UnsoldBuy("O1", Decimal(1), Decimal(1), 0.0),)
    pending = (Placement(1, BUY, Decimal(1), Decimal(1), "", "", 0.0, 10.0),)
    for refusal in (
        grid(*FULL, base_available=Decimal("0.01"), sells=("52000",)),
        grid(*FULL[1:], base_available=Decimal("0.01")),
        grid(*FULL, base_available=Decimal("0.002")),
        grid(*FULL, base_available=Decimal("0.01"), unsold=unsold),
        grid(*FULL, base_available=Decimal("0.01"), pending=pending),
    ):
        assert rules.check_extra_sell_order(refusal).intents == ()


@given(ticker=st.decimals("30000", "80000", places=1), base=st.decimals("0", "0.02", places=8))
def test_inside_the_quiet_band_no_check_has_anything_to_do(ticker: Decimal, base: Decimal) -> None:
    view = grid(*FULL, base_available=base)
    decision = rules.check_n_open_buy_orders(view)
    band = rules.extra_sell_band(view, rules.quiet_band(view, decision))
    moved = replace(view, ticker=ticker)
    if band[0] <= ticker <= band[1]:
        for check in (
            rules.check_near_buy_orders,
            rules.check_n_open_buy_orders,
            rules.check_lowest_cancel_of_more_than_n_buy_orders,
            rules.shift_buy_orders_up,
            rules.check_extra_sell_order,
        ):
            assert check(moved).intents == ()


def test_swing_thinks_again_from_the_price_on_at_which_its_free_base_is_worth_a_sell() -> None:
    view = grid(*FULL, base_available=Decimal("0.00199"))
    band = rules.extra_sell_band(view, rules.quiet_band(view, rules.check_n_open_buy_orders(view)))
    assert band == (0, Decimal("100.25") / Decimal("0.00199"))  # 50376.8..., and the grid follows from 50550.4... on


def test_above_the_band_the_grid_follows() -> None:
    view = grid(*FULL)
    low, high = rules.quiet_band(view, rules.check_n_open_buy_orders(view))
    assert low == 0
    assert rules.shift_buy_orders_up(replace(view, ticker=high + TICK)).intents != ()


def test_there_is_no_band_while_there_is_something_to_do() -> None:
    view = grid(*FULL[:3])
    low, high = rules.quiet_band(view, rules.check_n_open_buy_orders(view))
    assert low > high


def test_the_surplus_is_sold_from_one_grid_amount_on() -> None:
    price = Decimal("49504.9")
    assert not rules.surplus_is_worth_a_sell(Decimal("0.00202000"), price, EXAMPLE)  # 99.999898
    assert rules.surplus_is_worth_a_sell(Decimal("0.00202001"), price, EXAMPLE)
    assert rules.surplus_is_worth_a_sell(Decimal("0.002"), Decimal(50000), EXAMPLE)  # 100
    sell = rules.surplus_sell(Decimal("0.00202001"), price, Decimal("49000"), EXAMPLE)
    assert (f"{sell.price:f}", f"{sell.volume:f}") == ("49999.9", "0.00201005")


def test_one_buy_is_no_buys():
    assert rules.explain_settings(replace(EXAMPLE, n_open_buy_orders=1)).startswith("1 buy of 100.00, ")
