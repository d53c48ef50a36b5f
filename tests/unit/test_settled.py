"""A running bot and its executions: what they add up to, without keeping or reading all of them."""

import tracemalloc
from collections.abc import Callable
from decimal import Decimal as D
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridbot.infrastructure.database import DBConnect, Trade, Trades
from gridbot.models.events import StatusUpdate
from gridbot.models.grid import EXTRA, SURPLUS
from gridbot.services.bookkeeping import flow
from gridbot.services.ledger import by_cycle, reconciled, totals
from gridbot.services.order_desk import OrderDesk
from gridbot.services.report import profit_lines, summarise
from gridbot.services.settled import PIECE, RunningLedger
from tests.unit.test_engine import House
from tests.unit.test_ledger import HODL, amounts, buy, histories, sell, trade
from tests.world import World

LOT = D("0.00000001")


def peak_of(ask: Callable[[], object]) -> int:
    """The most bytes it took to ask."""
    tracemalloc.start()
    try:
        ask()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def go_through(cycles: int, desk: OrderDesk) -> None:
    with desk.atomic():
        for n in range(cycles):
            desk.trades.add(buy(f"B{n}", "0.010", "100", "0.01", 2.0 * n).info)
            desk.trades.add(sell(f"S{n}", "0.008", "125", "0.02", 2.0 * n + 1, f"B{n}").info, f"B{n}")


def test_what_all_executions_changed_is_summed_up_one_by_one() -> None:
    desk = World("GridHODL").desk
    go_through(1000, desk)
    assert peak_of(lambda: desk.traded) < 100_000
    assert desk.traded == (D("2"), D("-30"))


def test_what_is_held_is_summed_up_in_little_room() -> None:
    """SWING asks at its start, and at every status where nobody told what was there before: of 30,000 executions."""
    desk = World("SWING").desk
    go_through(1000, desk)
    assert peak_of(desk.held) / 2000 < 1800  # bytes an execution; with a model for each it was 2700
    assert desk.held() == D("2")


def test_no_digit_of_a_sum_is_lost() -> None:
    rows = [buy("B", "1", "123456789012345678901", "0.00000000001", 1.0), *HODL]
    assert flow(row.info for row in rows)[1] == D("-123456789012345678901.03000000001")


def test_the_hourly_profit_lines_neither_read_nor_keep_every_execution(tmp_path: Path) -> None:
    house = House(tmp_path)
    go_through(500, house.engine.desk)
    house.start()
    for _ in range(500 // PIECE):
        house.turn()
    assert peak_of(house.engine.strategy.send_status_update) < 100_000
    [told] = [event.text for event in house.events if isinstance(event, StatusUpdate)]
    rows, units = house.engine.desk.trades.all(), house.engine.status().units
    assert "\n".join(profit_lines(summarise(rows, D(50000), surplus=D(0)), units)) in told


class Books:
    """A running ledger, and all executions to compare it with."""

    db = DBConnect(":memory:")
    numbers = count(1)

    def __init__(self, *rows: Trade) -> None:
        self.trades = Trades(self.db, next(self.numbers))
        self.ledger = RunningLedger(self.trades)
        self.add(*rows)

    def add(self, *rows: Trade) -> None:
        for row in rows:
            self.trades.add(row.info, row.sells)

    def check(self, waiting: set[str], before: D | None = None, open_buys: set[str] | None = None) -> int:
        """The sums are those of all executions; returns how many executions are kept."""
        rows = self.trades.all()
        found, kept = self.ledger.totals(waiting | (open_buys or set()), LOT, waiting, before)
        assert found == totals(by_cycle(rows, waiting, before), LOT)
        assert reconciled(kept, None, found.executions - len(kept)) == reconciled(rows, None)
        return len(kept)


@settings(max_examples=60, deadline=None)
@given(histories(), st.sets(st.sampled_from(["O0", "O1", "O3", "O5"])), st.none() | amounts)
def test_the_sums_are_those_of_all_executions_after_each(
    rows: list[Trade], waiting: set[str], before: D | None
) -> None:
    books = Books()
    for n, row in enumerate(rows):
        books.add(row)
        books.check(waiting if n % 3 else set(), before)


STEPS = st.tuples(
    st.sampled_from(["buy", "buy", "fill", "part", "part", "most", "most", "all", "all", "surplus"]), st.integers(0, 9)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25), st.booleans())
def test_so_they_are_for_a_grid_that_sells_what_it_bought(steps: list[tuple[str, int]], has_surplus: bool) -> None:
    books, held, waiting = Books(), dict[str, D](), set[str]()
    for n, (what, which) in enumerate(steps):
        at, txid = float(n), f"B{n}"
        if waiting and what != "buy":
            txid = sorted(waiting)[which % len(waiting)]
        if what == "buy" or what == "fill" or not waiting:
            books.add(trade(txid, "buy", "0.7", "101.13", "0.013", at))
            held[txid] = held.get(txid, D(0)) + D("0.7")
            waiting.add(txid)
        elif what == "surplus":
            waiting.discard(txid)
            if has_surplus:
                books.add(sell(f"X{n}", "0.1", "103.7", "0.017", at, SURPLUS))
        else:
            volume = {"part": held[txid] / 3, "most": held[txid] - LOT, "all": held[txid]}[what].quantize(LOT)
            books.add(sell(f"S-{txid}", str(volume), "102.77", "0.019", at, txid))
            held[txid] -= volume
            if what != "part":
                waiting.discard(txid)
        books.ledger.go_on(waiting, LOT, which)
        if which < 5:
            books.check(waiting)


def test_a_cycle_that_is_over_is_forgotten_and_a_buy_without_a_sell_too() -> None:
    books = Books(*HODL, buy("B2", "1", "90", "0", 3.0), buy("B3", "1", "80", "0", 4.0))
    assert books.check({"B2"}) == 1
    assert books.check({"B2"}, open_buys={"B3"}) == 2  # it goes on after all


@pytest.mark.parametrize(
    ("news", "kept"),
    [
        (buy("B1", "0.1", "90", "0.01", 1.5), 0),
        (sell("S2", "0.002", "130", "0.01", 9.0, "B1"), 0),
        (sell("S2", "0.004", "130", "0.01", 9.0, "B1"), 4),
        (sell("X", "0.1", "130", "0.01", 9.0, SURPLUS), 2),
        (sell("X", "0.1", "130", "0.01", 9.0, ""), 2),
        (sell("X", "9", "130", "0.01", 9.0, ""), 4),
        (sell("X", "0.1", "130", "0.01", 1.5, EXTRA), 4),
    ],
    ids=["its buy goes on", "its rest is sold", "more than it had is sold", "surplus", "unknown", "all", "extra"],
)
def test_news_that_reach_into_what_was_settled_are_heard(news: Trade, kept: int) -> None:
    books = Books(*HODL, buy("B2", "1", "90", "0", 3.0))
    assert books.check(set()) == 0
    books.add(news)
    assert books.check(set()) == kept


def test_an_extra_sell_takes_the_rests_of_settled_cycles_before_a_surplus() -> None:
    books = Books(*HODL, buy("B2", "1", "90", "0", 3.0), sell("X", "0.1", "130", "0.01", 4.0, SURPLUS))
    assert books.check(set(), D(0)) == 2
    books.add(sell("Y", "0.1", "130", "0.01", 5.0, EXTRA))
    assert books.check(set(), D(0)) == 5


def test_extra_sells_of_base_from_before_leave_settled_what_is() -> None:
    books = Books(*HODL, buy("B2", "1", "90", "0", 3.0), sell("Y", "0.1", "130", "0.01", 5.0, EXTRA))
    assert books.check(set(), D("0.1")) == 1
    books.add(sell("Z", "0.1", "130", "0.01", 6.0, EXTRA))
    assert books.check(set(), D("0.1")) == 5


def test_buys_of_one_moment_are_sold_in_the_order_of_all_executions() -> None:
    books = Books(sell("X", "0.5", "130", "0.01", 4.0, SURPLUS))
    books.add(*(buy(f"B{n}", "1", f"{90 + n}", "0", 3.0) for n in range(9)))
    assert books.check(set()) == 10


def test_a_cycle_is_kept_while_fills_of_it_are_not_itemised() -> None:
    loose = trade("S2", "sell", "0.5", "100", "0.1", 5.0, "B2", exec_id="?S2:0.5")
    books = Books(*HODL, buy("B2", "1", "90", "0", 3.0), loose)
    assert books.check(set()) == 2
    books.add(sell("S2", "0.5", "101", "0.1", 4.0, "B2"))
    books.trades.remove("?S2:0.5")
    assert books.check(set()) == 0
