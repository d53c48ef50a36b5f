"""Short rounds of the long runs: frames nobody has seen, weeks in one process, starts that fail at first."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridbot.exceptions import TemporaryFailure
from gridbot.models.exchange import OrderInfoSchema
from tests.fuzz import PRIVATE, Corpus, Fuzz, House
from tests.soak import Day, growth, soak
from tests.world import World


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_frame_makes_the_bot_crash_or_place_an_order() -> None:
    fuzz = Fuzz(seed=7)
    fuzz.run(20_000)
    assert fuzz.failures == []
    assert fuzz.counts["mutated"] > 13_000
    assert fuzz.counts["understood"] > 8_000, "most frames must get as far as the strategy"


def test_an_order_placed_because_of_a_frame_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridbot.strategies.grid_rules.sellable_volume", lambda wanted, free, lot: wanted)
    from gridbot.strategies.grid_hodl import GridHODLStrategy

    monkeypatch.setattr("gridbot.strategies.c_dca.CDCAStrategy.sell_after", GridHODLStrategy.sell_after)
    fuzz = Fuzz(seed=7)
    fuzz.run(20_000, most_failures=1)
    assert "placed because of it" in fuzz.failures[0]


@pytest.mark.parametrize("number", ["NaN", "1.5", '"7"', "true", "1e999999"])
def test_a_message_whose_number_is_none_counts_as_a_gap(number: str) -> None:
    house = House(Corpus(), Fuzz().chance, lively=False)
    frame = f'{{"channel":"executions","type":"update","data":[],"sequence":{number}}}'
    assert house.hear(PRIVATE, frame.encode())
    assert house.is_dead(PRIVATE)


def test_a_number_of_impossible_size_does_not_stop_the_clock() -> None:
    house = House(Corpus(), Fuzz().chance, lively=False)
    frame = '{"method":"subscribe","success":true,"result":{"channel":"executions","maxratecount":121e999999}}'
    assert house.hear(PRIVATE, frame.encode())
    assert house.is_dead(PRIVATE)


@pytest.mark.parametrize("field", ["last_qty", "last_price", "cost", "cum_qty", "cum_cost"])
def test_an_execution_below_zero_counts_as_unreadable_and_is_asked_for(field: str) -> None:
    corpus = Corpus()
    house = House(corpus, Fuzz().chance, lively=False)
    fill = next(json.loads(frame) for frame in corpus.frames[PRIVATE] if '"exec_type":"trade"' in frame)
    fill["data"][0][field] = -1
    fill["sequence"] = house.feed._lines[PRIVATE].expected
    assert house.hear(PRIVATE, json.dumps(fill).encode())
    assert house.is_dead(PRIVATE)


def test_three_days_leave_nothing_behind_but_trades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridbot.services.book_sync.FORGET_AFTER", 64800.0)  # a week, in thirty days
    measured, trial, broken = soak(3, "GridHODL", tmp_path)
    assert broken == []
    assert len(measured) >= 5
    assert trial.seen["starts"] == 1
    assert measured[-1].rows["trades"] > 50


def test_a_list_that_grows_is_noticed() -> None:
    days = [Day(n, 0, 0, 0, {"trades": 0}, {"BotEngine._listeners": 30 * n}) for n in range(1, 10)]
    assert growth(days) == ["BotEngine._listeners grew from 150 to 270"]


def test_a_new_database_outlives_a_first_comparison_that_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("GridHODL")
    answers = iter([False, True])

    def unanswered(userref: int, trades: bool | None = None) -> list[OrderInfoSchema]:
        if next(answers, True):
            return []
        raise TemporaryFailure("no answer")

    monkeypatch.setattr(world.rest, "get_open_orders", unanswered)
    world.start("50000").price("50001", "50002", "50000")
    assert world.buys == ()
    world.wait(60).price("50000")
    assert world.buy_prices() == ["49504.9", "49014.7", "48529.4", "48048.9", "47573.1"]
