"""The audit: every difference is named with its amounts, and what nothing explains is the rest."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from gridbot.infrastructure.database import Trade
from gridbot.models.exchange import OrderInfoSchema, PairBalanceSchema, TradeInfoSchema
from gridbot.models.grid import BookOrder, Placement
from gridbot.services.audit import Audit, OurBooks, Start, TheirBooks, audit
from gridbot.services.bookkeeping import flow
from tests.unit.test_ledger import buy, sell

B1 = buy("B1", "0.002", "50000", "0.25", 1.0)
S1 = sell("S1", "0.001", "50500", "0.12625", 2.0, "B1")
OPEN = BookOrder("B2", "buy", D(49000), D("0.002"), 3.0)
PAPER = Start((D(0), D(1000)))
# 1000 - 100 - 0.25 + 50.5 - 0.12625
BALANCE = (D("0.001"), D("950.12375"))


def order(txid: str, *rows: Trade, side: str = "buy", price: str = "50000", status: str = "closed") -> OrderInfoSchema:
    infos = [row.info for row in rows]
    executed = sum((i.volume for i in infos), D(0))
    return OrderInfoSchema(
        pair="XBTUSD",
        price=D(price),
        side=infos[0].side if infos else side,
        status=status,
        txid=txid,
        userref=7,
        vol=executed or D("0.002"),
        vol_exec=executed,
        trades=tuple(i.exec_id for i in infos),
    )


ORDERS = (order("B1", B1), order("S1", S1), order("B2", price="49000", status="open"))


def theirs(
    orders: tuple[OrderInfoSchema, ...] = ORDERS,
    trades: tuple[TradeInfoSchema, ...] = (B1.info, S1.info),
    balance: tuple[D, D] = BALANCE,
    cost_step: D = D(0),
) -> TheirBooks:
    base, quote = balance
    pair = PairBalanceSchema(base_balance=base, quote_balance=quote, base_available=base, quote_available=quote)
    return TheirBooks({o.txid: o for o in orders}, {t.exec_id: t for t in trades}, pair, cost_step)


def compare(
    rows: tuple[Trade, ...] = (B1, S1),
    orders: tuple[BookOrder, ...] = (OPEN,),
    pending: tuple[Placement, ...] = (),
    other: TheirBooks | None = None,
    start: Start = PAPER,
) -> Audit:
    return audit(OurBooks(rows, orders, pending), other or theirs(), start, "BTC", "USD")


def changed(row: Trade, **changes: D | str | float) -> TradeInfoSchema:
    return row.info.model_copy(update=changes)


@pytest.mark.parametrize(("off_by", "reconciled"), [("0.000002", True), ("0.00001", False)])
def test_digits_of_a_cost_that_the_exchange_cuts_in_its_books_are_no_difference(off_by: str, reconciled: bool) -> None:
    cut = changed(B1, cost=B1.info.cost + D(off_by), fee=B1.info.fee + D(off_by))
    other = theirs(trades=(cut, S1.info), cost_step=D("0.00001"))
    assert compare(other=other, start=Start()).is_reconciled is reconciled


def test_books_that_agree_are_reconciled_and_say_how() -> None:
    found = compare()
    assert found.text().splitlines() == [
        "compared 2 executions and 1 open order",
        "note: BTC: 0 at the start, +0.001 by executions: 0.001 in the account",
        "note: USD: 1000 at the start, -49.87625 by executions: 950.12375 in the account",
        "reconciled",
    ]
    assert (found.is_reconciled, found.difference) == (True, "")
    assert found.document() == {
        "reconciled": True,
        "differences": [],
        "notes": found.notes,
        "unexplained": {},
        "executions": 2,
        "open_orders": 1,
    }


def test_executions_change_the_account_by_volume_cost_and_fee() -> None:
    assert flow([B1.info, S1.info]) == (D("0.001"), D("-49.87625"))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("fee", "0.26", "fee 0.25 in the bot's books, 0.26 at the exchange"),
        ("cost", "100.00001", "cost 100.000 in the bot's books, 100.00001 at the exchange"),
        ("price", "50000.1", "price 50000 in the bot's books, 50000.1 at the exchange"),
    ],
)
def test_an_execution_that_differs_in_one_digit_is_named(field: str, value: str, text: str) -> None:
    found = compare(other=theirs(trades=(changed(B1, **{field: D(value)}), S1.info)))
    assert found.differences[0] == f"execution T-B1-1 of order B1: {text}"
    assert not found.is_reconciled


def test_an_execution_of_another_order_or_another_day_is_named() -> None:
    found = compare(other=theirs(trades=(changed(B1, time=B1.info.time + 86400), changed(S1, txid="S2"))))
    assert f"time {B1.info.time} in the bot's books, {B1.info.time + 86400} at the exchange" in found.differences[0]
    assert "txid S1 in the bot's books, S2 at the exchange" in found.differences[1]
    assert compare(other=theirs(trades=(changed(B1, time=B1.info.time + 0.4), S1.info))).is_reconciled


def test_a_difference_of_a_fee_explains_the_same_difference_of_the_account() -> None:
    other = theirs(trades=(changed(B1, fee=D("0.26")), S1.info), balance=(D("0.001"), D("950.11375")))
    found = compare(other=other)
    assert len(found.differences) == 1
    assert found.rests == {}
    assert found.difference == "1 difference"


def test_an_execution_the_bot_never_heard_of_is_named_and_explains_the_balance() -> None:
    found = compare(rows=(B1,))
    assert found.differences == [
        "execution T-S1-2 of order S1 (sell 0.001 @ 50500, fee 0.12625): not in the bot's books"
    ]
    assert found.rests == {}


def test_an_execution_the_exchange_does_not_know_is_named_and_explains_the_balance() -> None:
    other = theirs(orders=(ORDERS[0], order("S1", side="sell"), ORDERS[2]), trades=(B1.info,))
    found = compare(other=replace(other, balance=theirs(balance=(D("0.002"), D("899.75"))).balance))
    assert found.differences == ["execution T-S1-2 of order S1: the exchange does not know it"]
    assert found.rests == {}


def test_an_order_of_which_the_exchange_itemises_less_than_it_executed_is_no_proof_yet() -> None:
    more = ORDERS[0].model_copy(update={"vol": D("0.003"), "vol_exec": D("0.003")})
    assert compare(other=theirs(orders=(more, *ORDERS[1:]))).differences == [
        "order B1: the exchange says 0.003 was executed and itemises 0.002; try later"
    ]


def test_money_that_vanished_without_a_trade_is_the_unexplained_rest() -> None:
    found = compare(other=theirs(balance=(D("0.001"), D("950.02375"))))
    assert found.rests == {"USD": D("-0.1")}
    assert found.differences == [
        "USD: 1000 at the start, -49.87625 by executions make 950.12375; the account holds 950.02375"
    ]
    assert found.text().splitlines()[-2:] == [
        "unexplained rest: -0.1 USD in the account",
        "not reconciled by -0.1 USD (1 difference)",
    ]


def test_executions_the_exchange_no_longer_tells_are_proven_by_equal_balances_only() -> None:
    short = theirs(orders=ORDERS[1:], trades=(S1.info,))
    found = compare(other=short)
    assert found.is_reconciled
    assert "1 execution of orders that the exchange no longer reports" in found.notes[-1]
    shared = compare(other=short, start=Start())
    unequal = compare(other=replace(short, balance=theirs(balance=(D("0.001"), D("950.12374"))).balance))
    for unproven in (shared, unequal):
        assert [line for line in unproven.differences if "nothing proves them (the first: T-B1-1)" in line]


def test_fills_booked_in_sum_are_a_difference_until_they_are_itemised() -> None:
    in_sum = Trade(changed(B1, exec_id="?B1:0.002", fee=D("0.26")))  # an estimate, which the balance does not follow
    found = compare(rows=(in_sum, S1))
    assert found.differences == ["order B1: 0.002 is booked in sum; the bot itemises its fills at the next comparison"]
    assert found.rests == {}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"price": D(49001)}, "price 49000 in the bot's books, 49001 at the exchange"),
        ({"side": "sell"}, "side buy in the bot's books, sell at the exchange"),
        ({"vol": D("0.003")}, "volume 0.002 in the bot's books, 0.003 at the exchange"),
        ({"status": "canceled"}, "open in the bot's books, canceled at the exchange"),
    ],
)
def test_open_orders_are_compared(change: dict[str, object], text: str) -> None:
    found = compare(other=theirs(orders=(*ORDERS[:2], ORDERS[2].model_copy(update=change))))
    assert found.differences == [f"buy B2 @ 49000: {text}"]


def test_an_order_executed_further_on_one_side_is_named_and_one_not_yet_open_agrees() -> None:
    assert compare(orders=(OPEN._replace(executed=D("0.001")),)).differences == [
        "buy B2 @ 49000: executed 0.001 in the bot's books, 0 at the exchange"
    ]
    assert compare(other=theirs(orders=(*ORDERS[:2], ORDERS[2].model_copy(update={"status": "pending"})))).is_reconciled


def test_an_order_on_one_side_only_is_named() -> None:
    assert compare(other=theirs(orders=ORDERS[:2])).differences == [
        "buy B2 @ 49000: open in the bot's books, and the exchange does not mention it"
    ]
    assert compare(orders=()).differences == ["buy B2 @ 49000: open at the exchange, not in the bot's books"]


def test_an_order_that_was_not_answered_leaves_the_books_open() -> None:
    sent = Placement(1, "buy", D(48000), D("0.002"), "", "", 1.0, 11.0)
    assert compare(pending=(sent,)).differences == [
        "buy of 0.002 @ 48000: sent, and not answered yet; the bot finds out before it places anything else"
    ]


def test_a_shared_account_is_explained_and_no_difference() -> None:
    found = compare(other=theirs(balance=(D("0.501"), D(5000))), start=Start())
    assert found.is_reconciled
    assert found.notes == [
        "BTC: the account holds 0.501, 0.5 more than the bot's executions explain (+0.001); "
        "the bot was not told what is its own, see [funds]",
        "USD: the account holds 5000, 5049.87625 more than the bot's executions explain (-49.87625); "
        "the bot was not told what is its own, see [funds]",
    ]


def test_in_a_shared_account_missing_coins_are_a_difference() -> None:
    found = compare(other=theirs(balance=(D("0.0009"), D(5000))), start=Start())
    assert found.rests == {"BTC": D("-0.0001")}
    assert found.differences == ["BTC: executions brought 0.001, and the account holds only 0.0009"]
    assert not [note for note in found.notes if note.startswith("BTC")]
    assert "the missing BTC may have been withdrawn, staked, or sold by hand" in found.notes


def test_only_what_the_bot_lacks_and_will_book_is_news_for_it() -> None:
    amended = theirs(orders=(*ORDERS[:2], ORDERS[2].model_copy(update={"vol_exec": D("0.001")})))
    closed = theirs(orders=(*ORDERS[:2], ORDERS[2].model_copy(update={"status": "closed"})))
    for news in (compare(rows=(B1,)), compare(orders=()), compare(other=amended), compare(other=closed)):
        assert news.has_news
    short = compare(other=theirs(balance=(D("0.0009"), D(5000))), start=Start())
    unmentioned = compare(other=theirs(orders=ORDERS[:2]))
    for other in (compare(), short, unmentioned, compare(other=theirs(trades=(changed(B1, fee=D(1)), S1.info)))):
        assert not other.has_news


def test_the_ring_fence_is_shown_and_the_rest_left_alone() -> None:
    fence = Start(own=(D("0.1"), D(400)))
    found = compare(other=theirs(balance=(D("0.501"), D(5000))), start=fence)
    assert found.is_reconciled
    assert found.notes == [
        "BTC: the bot's own were 0.1, +0.001 by executions: 0.101; 0.4 in the account are not the bot's "
        "and are not touched",
        "USD: the bot's own were 400, -49.87625 by executions: 350.12375; 4649.87625 in the account are not the bot's "
        "and are not touched",
    ]
    short = compare(other=theirs(balance=(D("0.501"), D(350))), start=fence)
    assert short.rests == {"USD": D("-0.12375")}
    assert short.differences == [
        "USD: the bot's own were 400, -49.87625 by executions: 350.12375; the account holds only 350: some was taken "
        "out, or [funds] grants more than there was"
    ]
    assert compare(other=theirs(balance=(D("0.101"), D("350.12375"))), start=fence).is_reconciled  # all is the bot's


@pytest.mark.parametrize(("own_sell", "reconciled"), [("0.4", True), ("0.3", False)])
def test_coins_that_the_orders_of_another_bot_bind_cover_nothing(own_sell: str, reconciled: bool) -> None:
    held = PairBalanceSchema(
        base_balance=D("0.501"), quote_balance=D(5000), base_available=D("0.001"), quote_available=D("4901")
    )
    sell = BookOrder("S2", "sell", D(51000), D(own_sell), 0.0)
    told = OrderInfoSchema(
        pair="XBTUSD", price=D(51000), side="sell", status="open", txid="S2", userref=7, vol=sell.volume, vol_exec=D(0)
    )
    other = replace(theirs((*ORDERS, told)), balance=held)
    found = compare(orders=(OPEN, sell), other=other, start=Start(own=(D("0.4"), D(400))))
    assert found.is_reconciled is reconciled
    if not reconciled:
        assert found.rests == {"BTC": D("-0.1")}
        assert found.differences == [
            "BTC: the bot's own were 0.4, +0.001 by executions: 0.401; the account holds only 0.301 beside the 0.2 "
            "that other orders bind: some was taken out, or [funds] grants more than there was"
        ]


def test_a_bot_that_has_used_more_than_its_own_is_not_reconciled() -> None:
    found = compare(other=theirs(balance=(D("0.501"), D(5000))), start=Start(own=(D(0), D(40))))
    assert found.differences == [
        "USD: the bot's own were 40, -49.87625 by executions: -9.87625: 9.87625 more than its own were used, by an "
        "order made by hand, or because [funds] now grants it less than it had used already"
    ]
    assert found.rests == {}, "the account itself holds what it should"


def test_only_the_first_of_many_differences_are_listed() -> None:
    many = tuple(OPEN._replace(txid=f"X{n}") for n in range(30))
    text = compare(orders=many, other=theirs(orders=ORDERS[:2])).text()
    assert text.count("difference: ") == 21
    assert "... and 10 more" in text
