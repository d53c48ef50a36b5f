"""Kraken's counters, kept on our side."""

import pytest

from gridbot.adapters.exchanges.kraken_limits import MARGIN, Counter, KrakenLimits, cancel_cost
from tests.unit.kraken_clock import StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def limits(clock: StillClock) -> KrakenLimits:
    return KrakenLimits(clock)


def test_fifteen_questions_fit_at_once_and_the_sixteenth_waits_three_seconds(limits: KrakenLimits):
    for _ in range(15):
        assert limits.rest.seconds_until(1) == 0
        limits.rest.take(1)
    assert limits.rest.seconds_until(1) == pytest.approx(1 / 0.33)


def test_the_counter_falls_with_time_and_not_below_zero(limits: KrakenLimits, clock: StillClock):
    limits.rest.take(4)
    clock.advance(10)
    for _ in range(3):  # looking at it does not make it fall
        assert limits.rest.value == pytest.approx(0.7)
    clock.advance(1000)
    assert limits.rest.value == 0


def test_sixty_orders_fit_at_once(limits: KrakenLimits):
    limits.engine.take(59)
    assert limits.engine.seconds_until(1) == 0
    limits.engine.take(1)
    assert limits.engine.seconds_until(1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("age", "cost"),
    [(0, 8), (4.9, 8), (5, 6), (9.9, 6), (10, 5), (15, 4), (44, 4), (45, 2), (90, 1), (299, 1), (300, 0)],
)
def test_cancelling_a_young_order_is_dear(age: float, cost: int):
    assert cancel_cost(age) == cost


def test_the_age_of_an_order_counts_from_when_it_was_placed(limits: KrakenLimits, clock: StillClock):
    limits.order_seen("OYOUNG", 0.0)
    limits.order_seen("OOLDER", 50.0)
    assert (limits.cost_of_cancelling("OYOUNG"), limits.cost_of_cancelling("OOLDER")) == (8, 2)
    clock.advance(46)
    limits.order_seen("OYOUNG", 0.0)  # seen again: still as old as it is
    assert (limits.cost_of_cancelling("OYOUNG"), limits.cost_of_cancelling("OOLDER")) == (2, 1)
    assert limits.cost_of_cancelling("ONEVERSEEN") == 0
    limits.order_gone("OYOUNG")
    assert limits.cost_of_cancelling("OYOUNG") == 0


def test_the_list_of_young_orders_does_not_grow_for_ever(limits: KrakenLimits, clock: StillClock):
    for n in range(1000):
        limits.order_seen(f"O{n}", 0.0)
        assert limits.cost_of_cancelling(f"O{n}") == 8
        clock.advance(10)
    assert len(limits._placed) <= 101


@pytest.mark.parametrize(
    ("maxratecount", "engine", "rest", "engine_after", "rest_after"),
    [(60, 60, 15, 1, 0.33), (125, 125, 20, 2.34, 0.5), (180, 180, 20, 3.75, 1), (1000, 180, 20, 3.75, 1)],
)
def test_the_tier_is_taken_from_the_executions_channel(
    limits: KrakenLimits, maxratecount: int, engine: int, rest: int, engine_after: float, rest_after: float
):
    limits.raise_to(maxratecount)
    limits.engine.take(engine)
    limits.rest.take(rest)
    assert limits.engine.seconds_until(1) == pytest.approx(1 / engine_after)
    assert limits.rest.seconds_until(1) == pytest.approx(1 / rest_after)


def test_a_higher_tier_counts_from_when_it_is_told(limits: KrakenLimits, clock: StillClock):
    limits.rest.take(15)
    clock.advance(10)
    limits.raise_to(180)
    assert limits.rest.value == pytest.approx(15 - 3.3)


def test_a_tier_is_never_lowered(limits: KrakenLimits):
    limits.raise_to(180)
    limits.raise_to(60)
    assert limits.engine.seconds_until(180) == 0


def test_when_kraken_says_full_our_counter_is_full(clock: StillClock):
    counter = Counter(clock.monotonic, 15, 0.5)
    counter.fill()
    assert counter.seconds_until(1) == (MARGIN + 1) / 0.5
