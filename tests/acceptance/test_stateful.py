"""Stories, faults and deaths that nobody wrote down: hypothesis invents them, the invariants must hold."""

import logging
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.chaos import invariants, matrix
from tests.chaos.effects import SideEffects
from tests.chaos.faults import FAULTS, FORGETTING, Fault
from tests.chaos.house import PAIR, House
from tests.chaos.story import calm_down

TENTH = Decimal("0.1")
SATOSHI = Decimal("0.00000001")


class AnyStory(RuleBasedStateMachine):
    """One bot, one market, and everything that can happen to them in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = matrix.folder()
        self.effects = SideEffects()
        self.faults: list[Fault] = []
        self.house: House | None = None

    @initialize(
        strategy=st.sampled_from(matrix.STRATEGIES),
        limit=st.sampled_from([450, 700, 2000]),
        base=st.sampled_from(["1", "0"]),
        quote=st.sampled_from(["5000", "420"]),
    )
    def begin(self, strategy: str, limit: int, base: str, quote: str) -> None:
        random.seed(1)
        path: Path = self.folder.__enter__()
        self.house = House(path, strategy, self.effects, base=base, quote=quote, max_investment=Decimal(limit))
        self.house.start()
        self.house.run(3)

    def _house(self) -> House:
        assert self.house is not None
        return self.house

    @rule(permille=st.integers(-60, 60), seconds=st.integers(0, 20))
    def the_price_moves(self, permille: int, seconds: int) -> None:
        house = self._house()
        price = house.fake.last[PAIR] * (1000 + permille) / 1000
        house.price(price.quantize(TENTH))
        house.run(seconds)

    @rule(side=st.sampled_from(["buy", "sell"]), tenths=st.integers(1, 10), which=st.integers(0, 4))
    def a_part_is_filled(self, side: str, tenths: int, which: int) -> None:
        house = self._house()
        for order in house.own_open(side)[which : which + 1]:
            house.fake.fill(order.txid, max((order.remaining * tenths / 10).quantize(SATOSHI), SATOSHI))
        house.run(1)

    @rule(side=st.sampled_from(["buy", "sell"]), which=st.integers(0, 4))
    def somebody_cancels(self, side: str, which: int) -> None:
        house = self._house()
        for order in house.own_open(side)[which : which + 1]:
            house.fake.cancel(order.txid)
        house.run(1)

    @rule(seconds=st.sampled_from([1, 5, 15, 80, 200]))
    def time_passes(self, seconds: int) -> None:
        self._house().run(seconds)

    @rule(name=st.sampled_from(sorted(FAULTS.keys() - FORGETTING)))
    def something_goes_wrong(self, name: str) -> None:
        self.faults.append(FAULTS[name])
        FAULTS[name].begin(self._house())

    @rule()
    def it_gets_better(self) -> None:
        for fault in self.faults:
            fault.end(self._house())

    @rule(after=st.integers(1, 60), away=st.sampled_from([0.0, 1.0, 20.0, 90.0]))
    def it_will_be_killed(self, after: int, away: float) -> None:
        self.effects.kill_at = self.effects.count + after
        self._house().away = away

    @rule(
        amount=st.sampled_from([60, 100]),
        interval=st.sampled_from(["0.01", "0.02"]),
        levels=st.integers(1, 6),
    )
    def other_settings(self, amount: int, interval: str, levels: int) -> None:
        house = self._house()
        house.stop()
        house.start(amount_per_grid=Decimal(amount), interval=Decimal(interval), n_open_buy_orders=levels)
        house.run(2)

    @invariant()
    def nothing_is_violated(self) -> None:
        if self.house is not None:
            assert not self.house.violations, self._story()

    def teardown(self) -> None:
        if self.house is None:
            return
        try:
            house = self.house
            for fault in self.faults:
                fault.end(house)
            self.effects.kill_at = 0
            house.violations += invariants.when_calm(house, calm_down(house))
            assert not house.violations, self._story()
        finally:
            self.house.stop()
            self.folder.__exit__(None, None, None)

    def _story(self) -> str:
        house = self._house()
        return "\n".join([*house.violations[:5], *house.told[-80:]])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def invent(stories: int, by_chance: bool = False) -> None:
    """Tell so many stories of up to 25 events each; ``by_chance``: others every time."""
    run_state_machine_as_test(
        AnyStory,
        settings=settings(
            max_examples=stories,
            stateful_step_count=25,
            deadline=None,
            derandomize=not by_chance,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens_nothing_is_lost_and_nothing_is_there_twice() -> None:
    invent(15)
