"""The accounts, computed by hand: lots, cycles, FIFO, and profit lines that always add up."""

from collections import deque
from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridbot.infrastructure.audits import AuditMark
from gridbot.infrastructure.database import Trade
from gridbot.models.exchange import TradeInfoSchema
from gridbot.models.grid import EXTRA, SURPLUS
from gridbot.services.ledger import (
    Holding,
    Ledger,
    Profit,
    by_cycle,
    cycles,
    fifo,
    held_by_kind,
    holding,
    profit,
    reconciled,
)
from gridbot.services.lots import Lot, _first


def trade(
    txid: str, side: str, volume: str, price: str, fee: str, time: float, sells: str = "", exec_id: str = ""
) -> Trade:
    info = TradeInfoSchema(
        exec_id=exec_id or f"T-{txid}-{time:.0f}",
        txid=txid,
        side=side,
        price=D(price),
        volume=D(volume),
        cost=D(price) * D(volume),
        fee=D(fee),
        time=time,
    )
    return Trade(info, sells)


def buy(txid: str, volume: str, price: str, fee: str, time: float) -> Trade:
    return trade(txid, "buy", volume, price, fee, time)


def sell(txid: str, volume: str, price: str, fee: str, time: float, sells: str) -> Trade:
    return trade(txid, "sell", volume, price, fee, time, sells)


def check_sums(found: Profit) -> None:
    """grid + price move + base from before = change: before fees, in fees, after fees."""
    parts = (found.grid, found.price_move, found.before)
    assert sum(line.gross for line in parts) == found.change.gross
    assert sum(line.fees for line in parts) == found.change.fees
    assert sum(line.net for line in parts) == found.change.net


# A buy of 0.01 for 1.00 (fee 0.01), and 0.008 of it sold for 1.00 (fee 0.02): the rest is kept.
HODL = [buy("B1", "0.010", "100", "0.01", 1.0), sell("S1", "0.008", "125", "0.02", 2.0, "B1")]


def test_a_cycle_that_sells_all_it_bought_earns_the_difference_less_both_fees() -> None:
    rows = [buy("B1", "0.002", "50000", "0.25", 1.0), sell("S1", "0.002", "50500", "0.2525", 2.0, "B1")]
    found = profit(by_cycle(rows), D(60000))
    assert (found.grid.gross, found.grid.fees, found.grid.net) == (D(1), D("0.5025"), D("0.4975"))
    assert (found.price_move.gross, found.price_move.fees) == (D(0), D(0))
    assert found.change.net == D("0.4975")


def test_what_a_cycle_keeps_stays_at_its_share_of_the_cost_and_moves_with_the_price() -> None:
    ledger = by_cycle(HODL)
    found = profit(ledger, D(150))
    # sold: 1.00 - 0.80, fees 0.02 + 0.008; kept: 0.002 for 0.20 and 0.002 of fee, worth 0.30
    assert (found.grid.gross, found.grid.fees, found.grid.net) == (D("0.20"), D("0.028"), D("0.172"))
    assert (found.price_move.gross, found.price_move.fees, found.price_move.net) == (D("0.10"), D("0.002"), D("0.098"))
    # the account: no quote lost or won but 0.03 of fees, and 0.002 x 150 of base
    assert (found.change.gross, found.change.fees, found.change.net) == (D("0.30"), D("0.03"), D("0.27"))
    check_sums(found)
    assert held_by_kind(ledger) == (Holding(), Holding(D("0.002"), D("0.2"), D("0.002")), Holding())


def test_fees_are_taken_off_once() -> None:
    found = profit(by_cycle(HODL), D(150))
    assert found.grid.fees + found.price_move.fees == sum(row.info.fee for row in HODL)


def test_a_falling_price_shows_as_price_move_and_leaves_the_grid_profit_alone() -> None:
    high, low = profit(by_cycle(HODL), D(150)), profit(by_cycle(HODL), D(50))
    assert high.grid == low.grid
    assert low.price_move.net == D("-0.102")


def test_a_sell_that_a_clock_set_back_tells_before_its_buy_closes_it_all_the_same() -> None:
    rows = [buy("B1", "1", "100", "0", 3600.0), sell("S", "1", "110", "0", 20.0, "B1")]
    for ledger in (by_cycle(rows), fifo(rows)):
        assert (profit(ledger, D(60)).grid.net, profit(ledger, D(60)).before.net) == (D(10), D(0))


def test_by_cycle_a_sell_closes_its_own_buy_and_fifo_the_oldest() -> None:
    rows = [
        buy("DEAR", "1", "100", "0", 1.0),
        buy("CHEAP", "1", "50", "0", 2.0),
        sell("S", "1", "55", "0", 3.0, "CHEAP"),
    ]
    assert profit(by_cycle(rows), D(60)).grid.net == D(5)
    assert profit(fifo(rows), D(60)).grid.net == D(-45)
    assert [lot.txid for lot in by_cycle(rows).lots] == ["DEAR"]
    assert [lot.txid for lot in fifo(rows).lots] == ["CHEAP"]
    # one account, two views of it
    assert profit(by_cycle(rows), D(60)).change == profit(fifo(rows), D(60)).change


def test_partial_fills_are_lots_of_their_own_and_close_one_after_the_other() -> None:
    rows = [
        buy("B", "0.3", "10", "0.03", 1.0),
        buy("B", "0.7", "11", "0.07", 2.0),
        sell("S", "0.5", "12", "0.05", 3.0, "B"),
    ]
    ledger = by_cycle(rows)
    assert [(c.volume, c.cost, c.buy_fee) for c in ledger.closings] == [
        (D("0.3"), D("3.0"), D("0.03")),
        (D("0.2"), D("2.2"), D("0.02")),
    ]
    # 6.00 are divided 3 : 2, the fee of 0.05 too
    assert [(c.proceeds, c.sell_fee) for c in ledger.closings] == [(D("3.6"), D("0.03")), (D("2.4"), D("0.02"))]
    assert [c.gain for c in ledger.closings] == [D("0.54"), D("0.16")]
    assert ledger.lots == (Lot("B", 2.0, D("0.5"), D("5.5"), D("0.05")),)


def test_parts_of_a_cost_that_does_not_divide_add_up_to_it_to_the_last_digit() -> None:
    rows = [buy("B", "0.3", "33.37", "0.0100001", 1.0)]
    rows += [sell(f"S{n}", "0.1", "40", "0.01", 2.0 + n, "B") for n in range(3)]
    ledger = by_cycle(rows)
    assert sum(c.cost for c in ledger.closings) == D("10.011")
    assert sum(c.buy_fee for c in ledger.closings) == D("0.0100001")
    assert ledger.lots == ()


def test_the_surplus_of_cancelled_buys_is_sold_from_lots_without_a_sell() -> None:
    rows = [
        buy("B1", "1", "100", "0", 1.0),
        buy("CANCELLED", "1", "90", "0", 2.0),
        sell("S", "0.4", "101", "0", 3.0, SURPLUS),
    ]
    ledger = by_cycle(rows, spoken_for={"B1"})
    assert [(c.buy_txid, c.gain) for c in ledger.closings] == [("CANCELLED", D("4.4"))]
    waiting, kept, surplus = held_by_kind(ledger)
    assert (waiting.volume, kept.volume, surplus.volume) == (D(1), D(0), D("0.6"))


def test_dust_of_a_sell_one_lot_smaller_than_its_buy_is_named() -> None:
    rows = [buy("B", "0.00202000", "50000", "0.25", 1.0), sell("S", "0.00201999", "50500", "0.25", 2.0, "B")]
    _, dust, _ = held_by_kind(by_cycle(rows))
    assert dust.volume == D("0.00000001")
    assert dust.cost == D("0.0005")


def test_base_from_before_is_never_profit() -> None:
    rows = [sell("X", "0.5", "50000", "62.5", 1.0, EXTRA)]
    ledger = by_cycle(rows)
    found = profit(ledger, D(51000))
    assert (found.grid.net, found.price_move.net) == (D(0), D(0))
    # sold for 25000, now worth 25500: 500 and the fee less than by keeping it
    assert (found.before.gross, found.before.fees) == (D(-500), D("62.5"))
    check_sums(found)
    assert [c.is_covered for c in ledger.closings] == [False]


@pytest.mark.parametrize(
    ("before", "uncovered", "covered"),
    [
        (None, ["0.3"], ["0.2"]),  # nobody told: lots first, the rest was there before
        (D("0.4"), ["0.4"], ["0.1"]),  # told: these go first
        (D("0"), ["0.3"], ["0.2"]),
    ],
)
def test_an_extra_sell_takes_what_was_there_before_as_far_as_it_is_known(
    before: D | None, uncovered: list[str], covered: list[str]
) -> None:
    rows = [
        buy("B", "0.5", "10", "0", 1.0),
        sell("S", "0.3", "15", "0", 1.5, "B"),
        sell("X", "0.5", "20", "0", 2.0, EXTRA),
    ]
    for ledger in (by_cycle(rows, base_before=before), fifo(rows, before)):
        extra = [c for c in ledger.closings if c.sell_txid == "X"]
        assert [c.volume for c in extra if not c.is_covered] == [D(v) for v in uncovered]
        assert [c.volume for c in extra if c.is_covered] == [D(v) for v in covered]
        check_sums(profit(ledger, D(30)))


@pytest.mark.parametrize("waiting", [set(), {"B"}], ids=["sold later", "its sell is open"])
def test_an_extra_sell_takes_neither_surplus_nor_what_another_sell_will_take(waiting: set[str]) -> None:
    rows = [
        buy("C", "0.1", "10", "0", 0.5),  # cancelled half-way: the surplus
        buy("B", "0.5", "10", "0", 1.0),
        sell("X", "0.3", "20", "0", 2.0, EXTRA),
        *([] if waiting else [sell("S", "0.4", "15", "0", 3.0, "B")]),
    ]
    ledger = by_cycle(rows, waiting)
    sold = [(c.sell_txid, c.buy_txid, c.volume) for c in ledger.closings]
    if waiting:
        assert sold == [("X", "", D("0.3"))]
    else:
        assert sold == [("X", "B", D("0.1")), ("X", "", D("0.2")), ("S", "B", D("0.4"))]
    assert held_by_kind(ledger)[2].volume == D("0.1")
    check_sums(profit(ledger, D(30)))


def test_an_extra_sell_does_not_look_at_all_buys_that_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[object] = []

    def look(lots: deque[Lot]) -> Lot | None:
        looked_at.append(lots)
        return _first(lots)

    monkeypatch.setattr("gridbot.services.lots._first", look)
    rows = [buy(f"B{n}", "1", "100", "0", float(n)) for n in range(100)]
    rows += [sell(f"X{n}", "0.1", "130", "0", 200.0 + n, EXTRA) for n in range(100)]
    by_cycle([*HODL, *rows], {"B7"})
    assert len(looked_at) < 1000


def test_a_sell_stamped_at_the_moment_of_its_buy_still_follows_it() -> None:
    rows = [sell("S", "1", "11", "0", 5.0, "B"), buy("B", "1", "10", "0", 5.0)]
    assert [c.gain for c in by_cycle(rows).closings] == [D(1)]


def test_a_rebate_is_a_fee_with_the_other_sign() -> None:
    rows = [buy("B", "1", "10", "-0.01", 1.0), sell("S", "1", "11", "-0.02", 2.0, "B")]
    assert profit(by_cycle(rows), D(11)).grid.net == D("1.03")


def test_cycles_tell_what_was_bought_sold_kept_and_gained() -> None:
    rows = [*HODL, buy("B2", "0.01", "90", "0.009", 3.0), buy("B3", "0.01", "80", "0.008", 4.0)]
    first, second, third = cycles(by_cycle(rows, spoken_for={"B2"}))
    assert (first.bought, first.cost, first.sold, first.sold_at) == (D("0.010"), D("1.01"), D("0.008"), 2.0)
    assert (first.proceeds, first.gain, first.held, first.state) == (D("0.98"), D("0.172"), D("0.002"), "closed")
    assert (second.state, second.gain, second.held) == ("open", D(0), D("0.01"))
    assert third.state == "held"


def test_nothing_was_traded() -> None:
    found = profit(by_cycle([]), D(50000))
    assert found.change.net == D(0)
    check_sums(found)


amounts = st.decimals(D("0.00000001"), D(1000), places=8)
prices = st.decimals(D("0.0001"), D(100000), places=4)
fees = st.decimals(D("-1"), D(10), places=5)


@st.composite
def histories(draw: st.DrawFn) -> list[Trade]:
    """Buys, and sells for a buy, for the surplus, extra or of unknown origin, of any size."""
    rows: list[Trade] = []
    bought: list[str] = []
    for n in range(draw(st.integers(0, 14))):
        volume, price, fee = draw(amounts), draw(prices), draw(fees)
        side = draw(st.sampled_from(["buy", "sell"]))
        txid = f"O{n}"
        sells = ""
        if side == "buy":
            txid = draw(st.sampled_from([txid, *bought]))
            bought.append(txid)
        else:
            sells = draw(st.sampled_from([SURPLUS, EXTRA, "", *bought]))
        rows.append(trade(txid, side, f"{volume:f}", f"{price:f}", f"{fee:f}", float(n), sells))
    return rows


def check_volumes(ledger: Ledger, rows: list[Trade]) -> None:
    bought = sum((r.info.volume for r in rows if r.info.side == "buy"), D(0))
    covered = sum((c.volume for c in ledger.closings if c.is_covered), D(0))
    assert bought == covered + holding(ledger.lots).volume
    sold = sum((r.info.volume for r in rows if r.info.side == "sell"), D(0))
    assert sold == sum((c.volume for c in ledger.closings), D(0))


@settings(max_examples=150, deadline=None)
@given(histories(), prices, st.none() | amounts)
def test_the_profit_lines_always_add_up_to_the_change_in_value(rows: list[Trade], price: D, before: D | None) -> None:
    views = by_cycle(rows, {"O1", "O3"}, before), fifo(rows, before)
    for view in views:
        found = profit(view, price)
        check_sums(found)
        check_volumes(view, rows)
    # the change of the account depends on no view: quote earned less spent, base at the price
    assert profit(views[0], price).change == profit(views[1], price).change
    gains = sum((cycle.gain for cycle in cycles(views[0])), D(0))
    assert gains == profit(views[0], price).grid.net


def test_figures_are_called_reconciled_only_after_an_audit_of_these_very_executions() -> None:
    assert reconciled(HODL, None) == "not reconciled: there was no audit yet"
    assert reconciled(HODL, AuditMark(9.0, 2, "")) == "reconciled"
    assert reconciled(HODL, AuditMark(9.0, 1, "")) == "not reconciled by 1 execution since the last audit"
    assert reconciled(HODL, AuditMark(9.0, 2, "0.10 USD")) == "not reconciled by 0.10 USD"


def test_a_row_that_stands_for_fills_not_told_yet_counts_and_is_said() -> None:
    rows = [trade("B", "buy", "0.5", "100", "0.1", 1.0, exec_id="?B:0.5")]
    assert profit(by_cycle(rows), D(100)).change.net == D("-0.1")
    told = "not reconciled by 0.5 base in 1 order whose fills are not itemised yet"
    assert reconciled(rows, AuditMark(9.0, 1, "")) == told
