"""A running bot and its executions: what they add up to, without keeping or reading all of them."""

import tracemalloc
from collections.abc import Callable
from decimal import Decimal as D

from gridbot.services.bookkeeping import flow
from tests.unit.test_ledger import HODL, buy, sell
from tests.world import World


def peak_of(ask: Callable[[], object]) -> int:
    """The most bytes it took to ask."""
    tracemalloc.start()
    try:
        ask()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def world_with(cycles: int) -> World:
    """A bot that has gone through so many cycles."""
    world = World("GridHODL")
    with world.db.atomic():
        for n in range(cycles):
            world.desk.trades.add(buy(f"B{n}", "0.010", "100", "0.01", 2.0 * n).info)
            world.desk.trades.add(sell(f"S{n}", "0.008", "125", "0.02", 2.0 * n + 1, f"B{n}").info, f"B{n}")
    return world


def test_what_all_executions_changed_is_summed_up_one_by_one() -> None:
    world = world_with(1000)
    assert peak_of(lambda: world.desk.traded) < 100_000
    assert world.desk.traded == (D("2"), D("-30"))


def test_no_digit_of_a_sum_is_lost() -> None:
    rows = [buy("B", "1", "123456789012345678901", "0.00000000001", 1.0), *HODL]
    assert flow(row.info for row in rows)[1] == D("-123456789012345678901.03000000001")
