"""The simulated exchange: how orders fill, what is held, what is refused, where the money goes."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_core import NEVER_ABOVE, NEVER_BELOW, SimulatedExchange
from gridbot.exceptions import (
    BotStateError,
    InsufficientFunds,
    OrderRejected,
    OrderTooSmall,
    PlacementPaused,
    PostOnlyWouldCross,
    TemporaryFailure,
    UnknownOrderError,
)
from tests.world import BTC_USD

FEE = Decimal("0.0025")
USERREF = 7
PAIR = BTC_USD


def make(base: str = "1", quote: str = "10000", price: str | None = "50000.0", **options) -> SimulatedRESTService:
    exchange = SimulatedExchange(
        PAIR, base_balance=Decimal(base), quote_balance=Decimal(quote), fee=FEE, symbol="BTC/USD", **options
    )
    if price is not None:
        exchange.on_price(Decimal(price), 1000.0)
    return SimulatedRESTService(exchange, now=lambda: exchange.time)


def buy(rest: SimulatedRESTService, price: str, volume: str = "0.002", **more) -> str:
    return place(rest, "buy", price, volume, **{"oflags": "post,fciq", **more})


def sell(rest: SimulatedRESTService, price: str, volume: str = "0.002", **more) -> str:
    return place(rest, "sell", price, volume, **{"oflags": "fciq", **more})


def place(rest: SimulatedRESTService, side: str, price: str, volume: str, **more) -> str:
    reply = rest.create_order(
        ordertype="limit",
        side=side,
        price=Decimal(price),
        volume=Decimal(volume),
        userref=more.pop("userref", USERREF),
        **more,
    )
    return reply.txid


def at(rest: SimulatedRESTService, price: str, time: float = 1001.0):
    return rest.exchange.on_price(Decimal(price), time)


def test_a_price_that_only_touches_a_buy_does_not_fill_it():
    rest = make()
    txid = buy(rest, "49500.0")
    assert at(rest, "49500.0") == []
    [event] = at(rest, "49499.9")
    assert (event.order_id, event.last_price, event.last_qty) == (txid, Decimal("49500.0"), Decimal("0.002"))


def test_a_price_that_only_touches_a_sell_does_not_fill_it():
    rest = make()
    sell(rest, "50500.0")
    assert at(rest, "50500.0") == []
    assert len(at(rest, "50500.1")) == 1


def test_a_fill_is_told_with_everything_the_real_feed_tells():
    rest = make()
    txid = buy(rest, "49504.9", "0.00202000")
    [event] = at(rest, "49000.0", 1234.5)
    assert event.model_dump(exclude_none=True) == {
        "order_id": txid,
        "exec_type": "trade",
        "order_status": "filled",
        "userref": USERREF,
        "symbol": "BTC/USD",
        "side": "buy",
        "maker": True,
        "exec_id": "T00001-SIM00-BUY",
        "last_qty": Decimal("0.00202000"),
        "last_price": Decimal("49504.9"),
        "cost": Decimal("99.999898"),
        "fee": Decimal("0.24999"),  # 0.249999745, cut to five decimals
        "cum_qty": Decimal("0.00202000"),
        "cum_cost": Decimal("99.999898"),
        "time": 1234.5,
        "reason": "",
    }


def test_a_fall_fills_buys_from_the_highest_and_a_rise_sells_from_the_lowest():
    rest = make()
    for price in ("48000.0", "49000.0", "47000.0"):
        buy(rest, price)
    for price in ("53000.0", "51000.0", "52000.0"):
        sell(rest, price)
    assert [e.last_price for e in at(rest, "47500.0")] == [Decimal("49000.0"), Decimal("48000.0")]
    assert [e.last_price for e in at(rest, "52500.0")] == [Decimal("51000.0"), Decimal("52000.0")]


def test_of_two_orders_at_one_price_the_older_is_filled_first():
    rest = make()
    first, second = buy(rest, "49000.0"), buy(rest, "49000.0")
    assert [e.order_id for e in at(rest, "48999.9")] == [first, second]


def test_the_band_names_the_nearest_orders_and_opens_with_them():
    rest = make()
    exchange = rest.exchange
    assert (exchange.next_fill_below, exchange.next_fill_above) == (NEVER_BELOW, NEVER_ABOVE)
    buy(rest, "48000.0")
    near = buy(rest, "49000.0")
    sell(rest, "52000.0")
    sell(rest, "51000.0")
    assert (exchange.next_fill_below, exchange.next_fill_above) == (Decimal("49000.0"), Decimal("51000.0"))
    rest.cancel_order(near)
    at(rest, "51500.0")
    assert (exchange.next_fill_below, exchange.next_fill_above) == (Decimal("48000.0"), Decimal("52000.0"))


def test_a_plain_sell_that_crosses_is_executed_at_once_at_the_last_price():
    rest = make()
    txid = sell(rest, "49000.0")
    new, trade = rest.exchange.take_events()
    assert (new.exec_type, trade.exec_type, trade.order_status) == ("new", "trade", "filled")
    assert (trade.order_id, trade.last_price, trade.fee) == (txid, Decimal("50000.0"), Decimal("0.25000"))
    assert rest.get_open_orders(USERREF) == []


def test_a_partial_fill_leaves_the_rest_open_and_the_next_price_fills_it():
    rest = make()
    txid = buy(rest, "49000.0", "0.002")
    rest.exchange.fill(txid, Decimal("0.0005"))
    [_, part] = rest.exchange.take_events()
    assert (part.order_status, part.cum_qty) == ("partially_filled", Decimal("0.0005"))
    [order] = rest.get_open_orders(USERREF, trades=True)
    assert (order.vol_exec, order.cost, order.fee) == (
        Decimal("0.0005"),
        Decimal("24.50000"),
        Decimal("0.06125"),
    )
    [rest_of_it] = at(rest, "48000.0")
    assert (rest_of_it.order_status, rest_of_it.last_qty) == ("filled", Decimal("0.0015"))
    assert (rest_of_it.cum_qty, rest_of_it.cum_cost) == (Decimal("0.002"), Decimal("98.00000"))
    rest.exchange.check_money()


@pytest.mark.parametrize(
    ("side", "price"), [("buy", "50000.0"), ("buy", "50000.1"), ("sell", "50000.0"), ("sell", "49999.9")]
)
def test_post_only_that_would_cross_is_refused_and_nothing_is_placed(side, price):
    rest = make()
    with pytest.raises(PostOnlyWouldCross):
        place(rest, side, price, "0.002", oflags="post,fciq")
    assert rest.get_open_orders(USERREF) == []
    assert rest.exchange.take_events() == []


@pytest.mark.parametrize(("price", "volume"), [("49000.0", "0.00004999"), ("5000.0", "0.00009999")])
def test_an_order_below_the_smallest_volume_or_cost_is_too_small(price, volume):
    with pytest.raises(OrderTooSmall):
        buy(make(), price, volume)


@pytest.mark.parametrize(("price", "volume"), [("49000.05", "0.002"), ("49000.0", "0.002000001"), ("0", "1")])
def test_too_many_decimals_are_refused(price, volume):
    with pytest.raises(OrderRejected, match="is not a multiple of"):
        buy(make(), price, volume)


def test_a_buy_needs_its_fee_too_to_the_last_digit():
    needed = Decimal("49000.0") * Decimal("0.002") * Decimal("1.0025")  # 98.245
    with pytest.raises(InsufficientFunds):
        buy(make(quote=str(needed - Decimal("0.0000001"))), "49000.0")
    rest = make(quote=str(needed))
    buy(rest, "49000.0")
    assert rest.get_pair_balance().quote_available == 0
    at(rest, "48999.9")
    rest.exchange.check_money()
    assert rest.get_pair_balance().quote_balance == 0


def test_a_sell_cannot_sell_what_another_sell_holds():
    rest = make(base="0.003")
    sell(rest, "51000.0", "0.002")
    with pytest.raises(InsufficientFunds):
        sell(rest, "52000.0", "0.00100001")
    sell(rest, "52000.0", "0.001")
    assert rest.get_pair_balance().base_available == 0


def test_before_the_first_price_orders_wait_and_nobody_guesses_a_price():
    rest = make(price=None)
    with pytest.raises(PlacementPaused):
        buy(rest, "49000.0")
    with pytest.raises(TemporaryFailure):
        rest.get_last_price()


def test_an_order_after_its_deadline_is_refused():
    rest = make()
    at(rest, "50000.0", 2000.0)
    with pytest.raises(OrderRejected, match="deadline"):
        buy(rest, "49000.0", deadline=1999.0)
    assert buy(rest, "49000.0", deadline=2000.0)


def test_validate_checks_and_places_nothing():
    rest = make()
    assert buy(rest, "49000.0", validate=True) == "validated"
    assert rest.get_open_orders(USERREF) == []
    with pytest.raises(InsufficientFunds):
        buy(rest, "49000.0", "1", validate=True)


def test_only_limit_orders_on_two_sides_are_known():
    rest = make()
    with pytest.raises(OrderRejected):
        rest.create_order(ordertype="market", side="buy", price=Decimal(1), volume=Decimal(1), userref=1)
    with pytest.raises(OrderRejected):
        place(rest, "short", "49000.0", "0.002")


def test_a_cancelled_order_frees_its_money_and_is_told_with_what_was_executed():
    rest = make()
    txid = buy(rest, "49000.0", "0.002")
    rest.exchange.fill(txid, Decimal("0.0005"))
    rest.exchange.take_events()
    rest.cancel_order(txid)
    [event] = rest.exchange.take_events()
    assert (event.exec_type, event.order_id, event.cum_qty) == ("canceled", txid, Decimal("0.0005"))
    assert event.symbol is event.side is event.order_qty is None  # Kraken tells none of them either
    balance = rest.get_pair_balance()
    assert balance.quote_available == balance.quote_balance == Decimal("10000") - Decimal("24.56125")
    order = rest.get_order_with_retry(txid)
    assert (order.status, order.vol_exec, order.reason) == ("canceled", Decimal("0.0005"), "User requested")


def test_cancelling_what_is_not_open_is_an_unknown_order():
    rest = make()
    txid = buy(rest, "49000.0")
    at(rest, "48000.0")
    for unknown in (txid, "S99999-SIM00-BUY"):
        with pytest.raises(UnknownOrderError):
            rest.cancel_order(unknown)


def test_open_and_closed_orders_are_told_by_userref_and_time():
    rest = make()
    early, late, still = buy(rest, "49000.0"), buy(rest, "48000.0"), buy(rest, "47000.0")
    other = buy(rest, "46000.0", userref=8)
    at(rest, "48500.0", 2000.0)
    at(rest, "47500.0", 3000.0)
    assert [o.txid for o in rest.get_open_orders(USERREF)] == [still]
    assert [o.txid for o in rest.get_open_orders(8)] == [other]
    assert [o.txid for o in rest.get_closed_orders(USERREF)] == [late, early]
    assert [o.txid for o in rest.get_closed_orders(USERREF, start=2000.5)] == [late]
    assert rest.get_closed_orders(8) == []
    assert set(rest.get_orders_info([early, still, "nobody"])) == {early, still}


def test_an_order_report_names_its_executions_and_they_can_be_asked_for():
    rest = make()
    txid = buy(rest, "49000.0")
    at(rest, "48000.0", 2000.0)
    [closed] = rest.get_closed_orders(USERREF, trades=True)
    assert (closed.pair, closed.status, closed.vol_exec, closed.closed_at) == (
        "BTCUSD",
        "closed",
        closed.vol,
        2000.0,
    )
    [exec_id] = closed.trades
    [trade] = rest.get_trades_info([exec_id, "nothing"]).values()
    assert (trade.txid, trade.cost, trade.fee, trade.time) == (
        txid,
        Decimal("98.0000"),
        Decimal("0.24500"),
        2000.0,
    )


def test_an_order_nobody_knows_is_a_named_error():
    rest = make()
    with pytest.raises(UnknownOrderError):
        rest.get_order_with_retry("nobody", exit_on_fail=False)
    with pytest.raises(BotStateError):
        rest.get_order_with_retry("nobody")


def test_events_of_calls_are_handed_out_once_and_somebody_is_woken_once():
    rest = make()
    woken = []
    rest.exchange.wake = lambda: woken.append(1)
    buy(rest, "49000.0")
    buy(rest, "48000.0")
    assert len(woken) == 1
    assert [e.exec_type for e in rest.exchange.take_events()] == ["new", "new"]
    assert rest.exchange.take_events() == []
    buy(rest, "47000.0")
    assert len(woken) == 2


def test_only_so_many_finished_orders_and_executions_are_kept():
    rest = make(keep_finished=3)
    txids = []
    for _ in range(5):
        txids.append(buy(rest, "49000.0"))
        at(rest, "48000.0")
        at(rest, "50000.0")
    assert [o.txid for o in rest.get_closed_orders(USERREF)] == txids[:1:-1]
    assert list(rest.exchange.trades) == ["T00003-SIM00-BUY", "T00004-SIM00-BUY", "T00005-SIM00-BUY"]


def test_amounts_are_cut_to_the_pair_and_a_float_is_refused():
    rest = make()
    assert rest.truncate(Decimal("49504.9504"), "price") == "49504.9"
    assert rest.truncate("0.002020009", "volume") == "0.00202000"
    for amount, word in ((Decimal(1), "cost"), (0.1, "price")):
        with pytest.raises(ValueError, match=r"cannot be truncated|float"):
            rest.truncate(amount, word)


steps = st.one_of(
    st.tuples(st.just("price"), st.integers(450_000, 550_000)),
    st.tuples(st.sampled_from(["buy", "sell"]), st.integers(450_000, 550_000), st.integers(5_000, 5_000_000)),
    st.tuples(st.just("cancel"), st.integers(0, 50)),
    st.tuples(st.just("fill"), st.integers(0, 50), st.integers(1, 9)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=60), st.sampled_from(["0", "0.0016", "0.0025", "0.004"]))
def test_no_story_makes_or_loses_a_cent(story, fee):
    exchange = SimulatedExchange(
        PAIR,
        base_balance=Decimal("0.05"),
        quote_balance=Decimal("2000"),
        fee=Decimal(fee),
        symbol="BTC/USD",
    )
    exchange.on_price(Decimal("50000.0"), 0.0)
    told = []
    for time, step in enumerate(story):
        told += _take_step(exchange, step, float(time))
        exchange.check_money()
    base = sum((e.last_qty if e.side == "buy" else -e.last_qty for e in told), Decimal("0.05"))
    quote = sum((-e.cost - e.fee if e.side == "buy" else e.cost - e.fee for e in told), Decimal("2000"))
    assert (exchange.money.base, exchange.money.quote) == (base, quote)
    assert len({e.exec_id for e in told}) == len(told)


def _take_step(exchange, step, time):
    events = []
    open_orders = list(exchange.open_orders.values())
    try:
        match step:
            case ("price", tenths):
                events += exchange.on_price(Decimal(tenths) / 10, time)
            case (("buy" | "sell") as side, tenths, units):
                exchange.create_order(
                    side=side,
                    price=Decimal(tenths) / 10,
                    volume=Decimal(units) * PAIR.lot,
                    userref=1,
                    post_only=False,
                    time=time,
                )
            case ("cancel", index) if open_orders:
                exchange.cancel_order(open_orders[index % len(open_orders)].txid, time)
            case ("fill", index, tenth) if open_orders:
                order = open_orders[index % len(open_orders)]
                part = PAIR.truncate_volume((order.volume - order.executed) * tenth / 10)
                exchange.fill(order.txid, part or None)
    except OrderRejected:
        pass  # the story wanted more than there is: that must change nothing either
    return [e for e in (*events, *exchange.take_events()) if e.exec_type == "trade"]


def test_check_money_notices_a_lost_cent_and_a_forgotten_hold():
    rest = make()
    rest.exchange.check_money()
    rest.exchange.money.quote -= Decimal("0.01")
    with pytest.raises(BotStateError, match="quote = start"):
        rest.exchange.check_money()
    rest = make()
    rest.exchange.money.base_held += Decimal("0.00000001")
    with pytest.raises(BotStateError, match="held base"):
        rest.exchange.check_money()
