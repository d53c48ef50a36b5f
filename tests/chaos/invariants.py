"""
What must hold, judged by the exchange's truth: at every event, and once everything is calm again.

Links between a buy and its sell are those the wire saw (``house.links``), not those of the bot's books.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from gridbot.models.grid import EXTRA, SURPLUS
from tests.fake_kraken.orders import Order

if TYPE_CHECKING:
    from tests.chaos.house import House

ONE, TWO, ZERO = Decimal(1), Decimal(2), Decimal(0)
FEE = Decimal("0.0025")
CENT = Decimal("0.01")
NEARLY = Decimal("0.99")  # a sell returns the quote of its buy but for cuts
MOST_CALLS = 150  # REST calls from the end of the faults until the grid is whole and calm


def at_once(house: House, kind: str, order: Order) -> list[str]:
    """What an event of the exchange must never bring about."""
    if kind != "new":
        return []
    wrong = []
    if order.side == "buy":
        wrong += buys_are_bounded(house, order)
    elif (bought := house.links.get(order.txid, "?")) not in (EXTRA, SURPLUS):
        sells = [txid for txid, what in house.links.items() if what == bought and lives(house.fake.orders[txid])]
        if len(sells) > 1 and not (house.forgot and taken_for_another(house, bought, sells)):
            wrong.append(f"buy {bought} has {len(sells)} sells: {sells}")
        if bought not in house.fake.orders or house.fake.orders[bought].status != "closed":
            wrong.append(f"sell {order.txid} sells {bought!r}, which was never bought")
    elif bought == EXTRA and sum(house.links[o.txid] == EXTRA for o in house.own_open("sell")) > 1:
        wrong.append("two extra sells are open")
    return [f"{line} (at {house.now - 1_790_000_000:.1f})" for line in wrong]


def taken_for_another(house: House, bought: str, sells: list[str]) -> bool:
    """
    A bot that forgot cannot know which of two buys an order sells when it could sell either, nor whether it is an
    extra sell. One of ``sells`` then counts for another buy that has none, or as the extra sell that was taken for
    the sell of this buy, as the bot must have counted it: in the end each has one.
    """
    have = {what for txid, what in house.links.items() if lives(house.fake.orders[txid])}
    waiting = [o for o in house.own() if o.side == "buy" and o.status == "closed" and o.txid not in have]
    extra = [house.fake.orders[txid] for txid, what in house.links.items() if what == EXTRA]
    for sell in (house.fake.orders[txid] for txid in sells[:-1]):
        for buy in waiting:
            if could_sell(sell, buy):
                house.links[sell.txid] = buy.txid
                return True
        for other in extra:
            if could_sell(other, house.fake.orders[bought]):
                house.links[sell.txid], house.links[other.txid] = EXTRA, bought
                return True
    return False


def could_sell(sell: Order, buy: Order) -> bool:
    """Nothing in the two orders says that the one is not the sell of the other."""
    quote_back = sell.volume * sell.price * (ONE - TWO * FEE)
    return buy.price < sell.price and sell.volume <= buy.volume and quote_back >= buy.price * buy.volume * NEARLY


def buys_are_bounded(house: House, order: Order) -> list[str]:
    """One buy a level, no more than n, and all within max_investment."""
    wrong = []
    buys = house.own_open("buy")
    if len(buys) > house.grid["n_open_buy_orders"]:
        wrong.append(f"{len(buys)} buys are open")
    for high, low in pairwise(buys):
        if high.price / low.price - ONE < house.grid["interval"] / TWO:
            wrong.append(f"two buys on one level: {high.price} and {low.price}")
    if house.invested() > house.grid["max_investment"]:
        wrong.append(f"{house.invested()} invested after the buy @ {order.price}")
    return wrong


def lives(order: Order) -> bool:
    """Open or filled; a cancelled sell has given its rest back."""
    return order.is_open or order.status == "closed"


def when_calm(house: House, calls: int) -> list[str]:
    """What must hold once the faults are over and the market has moved on; ``calls``: made since then."""
    engine = house.engine
    if engine is None:
        return ["the bot is not running"]
    if not engine.strategy.is_ready:
        return ["the bot never became ready"]
    wrong = [*nobody_else_was_touched(house)]
    if calls > MOST_CALLS:
        wrong.append(f"{calls} REST calls until it was calm")
    if engine.strategy.is_busy:
        wrong.append(f"still busy: {[*engine.desk.pending.all()]} {engine.desk.sync_reason!r}")
    wrong += the_books_are_right(house)
    if house.strategy_name != "cDCA":
        wrong += every_buy_leads_to_a_sell(house)
    wrong += the_grid_is_whole(house)
    try:
        house.fake.audit()
    except AssertionError as exc:
        wrong.append(f"the exchange's own books: {exc}")
    return wrong


def nobody_else_was_touched(house: House) -> list[str]:
    """Only orders of this bot were cancelled, and only orders of this bot were placed."""
    own = {order.txid for order in house.own()}
    cancelled = {call.params.get("txid", "") for call in house.fake.calls_of("CancelOrder")}
    wrong = [f"asked to cancel {txid}, an order of others" for txid in cancelled - own]
    placed = [order.txid for order in house.fake.added_orders() if order.txid not in own]
    return wrong + [f"placed {txid} without its userref, or on another pair" for txid in placed]


def the_books_are_right(house: House) -> list[str]:
    """Orders, executions and balances equal the exchange's to the last digit."""
    assert house.engine is not None
    desk, wrong = house.engine.desk, []
    there = {(o.txid, o.side, o.price, o.volume, o.vol_exec) for o in house.own() if o.is_open}
    here = {(o.txid, o.side, o.price, o.volume, o.executed) for o in desk.book}
    wrong += [f"the bot does not know the open order {row}" for row in there - here]
    wrong += [f"the bot believes in the order {row}" for row in here - there]
    own = {order.txid for order in house.own()}
    done = {
        (t.id, t.order, t.side, t.price, t.volume, t.cost, t.fee) for t in house.fake.trades.values() if t.order in own
    }
    booked_rows = [
        (t.exec_id, t.txid, t.side, t.price, t.volume, t.cost, t.fee) for t in (row.info for row in desk.trades.all())
    ]
    booked = set(booked_rows)
    if not house.forgot:
        wrong += [f"an execution is not booked: {row}" for row in done - booked]
    wrong += [f"an execution is booked that never was: {row}" for row in booked - done]
    for name, mine, theirs in (
        ("base", desk.funds.base_balance, house.fake.balances["XXBT"]),
        ("quote", desk.funds.quote_balance, house.fake.balances["ZUSD"]),
    ):
        if mine != theirs:
            wrong.append(f"{name} balance {mine}, at the exchange {theirs}")
    return wrong


def every_buy_leads_to_a_sell(house: House) -> list[str]:
    """Each filled buy has exactly one sell or one unsold record, and what was bought is accounted for."""
    assert house.engine is not None
    desk, wrong = house.engine.desk, []
    live = Counter(what for txid, what in house.links.items() if lives(house.fake.orders[txid]))
    unsold = {buy.txid: buy for buy in desk.unsold.all()}
    for buy in house.own():
        if buy.side == "buy" and buy.status == "closed":
            sells, notes = live[buy.txid], buy.txid in unsold
            partly = any(w == buy.txid and house.fake.orders[t].vol_exec for t, w in house.links.items())
            if sells + notes != 1 and not (partly and sells + notes == 0):
                wrong.append(f"buy {buy.txid} @ {buy.price} has {sells} sells and {int(notes)} unsold records")
    for txid in unsold:
        if txid not in house.fake.orders or house.fake.orders[txid].status != "closed":
            wrong.append(f"unsold record of {txid}, which was never bought")
    return wrong + (nothing_is_sold_twice(house) if house.forgot else the_volumes_add_up(house))


def nothing_is_sold_twice(house: House) -> list[str]:
    """Whatever was forgotten: no more is sold and offered than was bought, but for SWING's extra sells."""
    bought = sum((o.vol_exec for o in house.own() if o.side == "buy"), ZERO)
    sells = [o for o in house.own() if o.side == "sell" and house.links[o.txid] != EXTRA]
    sold = sum((o.volume if o.is_open else o.vol_exec for o in sells), ZERO)
    return [f"bought {bought}, sold or on sale {sold}"] if sold > bought else []


def the_volumes_add_up(house: House) -> list[str]:
    """
    What was bought is sold, on sale, or noted as unsold or surplus. GridSell sells every bit of it;
    the others keep a little of every filled buy, never more than the interval and two fees explain.
    """
    assert house.engine is not None
    desk = house.engine.desk
    bought = sum((o.vol_exec for o in house.own() if o.side == "buy"), ZERO)
    sells = [o for o in house.own() if o.side == "sell" and house.links[o.txid] != EXTRA]
    sold = sum((o.volume if o.is_open else o.vol_exec for o in sells), ZERO)
    noted = sum((buy.volume for buy in desk.unsold.all()), ZERO)
    noted += desk.configuration.get().vol_of_unfilled_remaining
    noted += sum((o.vol_exec for o in house.own_open("buy")), ZERO)  # nothing follows a buy before its end
    kept = bought - sold - noted
    if house.strategy_name == "GridSell":
        return [f"bought {bought}, sold or on sale {sold}, noted {noted}: {kept} is lost"] if kept else []
    most = ZERO
    for sell in sells:
        buy = house.fake.orders.get(house.links[sell.txid])
        if buy is not None and lives(sell):
            most += max(buy.vol_exec - sell.volume, ZERO)
    cancelled = [s for s in sells if not lives(s)]
    if cancelled:
        return [] if kept >= 0 else [f"sold {-kept} more than was bought"]
    return [] if kept == most else [f"{kept} of {bought} is kept, and the sells explain {most}"]


def the_grid_is_whole(house: House) -> list[str]:
    """n buys, or as many as limit and funds allow; and the rules want nothing more."""
    assert house.engine is not None
    strategy, desk = house.engine.strategy, house.engine.desk
    buys = len(house.own_open("buy"))
    wrong = []
    one_more = house.grid["amount_per_grid"] * (ONE + FEE)
    room = min(house.grid["max_investment"] - house.invested(), house.fake.available("ZUSD")) - one_more
    if buys < house.grid["n_open_buy_orders"] and room > CENT:
        wrong.append(f"{buys} buys are open and there is room for {room}; waiting for {strategy.waiting}")
    decision = strategy._next_step(strategy.view())
    if decision.intents:
        wrong.append(f"the rules still want {decision.intents}")
    if len(desk.unsold):
        wrong.append(f"there is base enough, and yet unsold: {desk.unsold.all()}")
    return wrong
