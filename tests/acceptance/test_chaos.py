"""
A part of the matrix kill point x fault x strategy that fits into every test run, and the proof that it
would see a broken protocol. ``python -m tests.chaos`` runs all of it.
"""

import logging
from collections.abc import Iterator

import pytest

from tests.chaos import sabotage
from tests.chaos.faults import FAULTS
from tests.chaos.matrix import STRATEGIES, run_cell

TAKEN = "after AddOrder, its reply unread"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_whole_story_holds_without_faults_and_without_deaths(strategy: str) -> None:
    cell = run_cell(strategy)
    assert cell.violations == []
    assert cell.points > 600
    assert cell.calls < 20  # once the grid is whole, nothing is asked but the regular look


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_every_fault_with_one_death(number: int) -> None:
    fault = list(FAULTS)[number]
    cell = run_cell(STRATEGIES[number % 3], fault, kill=1 + number * 41 % 350, away=(1.0, 40.0)[number % 2])
    assert cell.violations == [], cell


@pytest.mark.parametrize("kill", range(3, 680, 29))
def test_killed_everywhere(kill: int) -> None:
    cell = run_cell(STRATEGIES[kill % 3], kill=kill, away=(1.0, 40.0)[kill % 2])
    assert cell.killed_at
    assert cell.violations == [], cell


def test_a_cell_is_the_same_story_every_time() -> None:
    first, second = (run_cell("SWING", "gap", kill=200) for _ in range(2))
    assert first.points == second.points
    assert first.killed_at == second.killed_at


# ---- a broken protocol turns the matrix red --------------------------------------------------------------------------


def small_matrix(sabotaged: str | None, fault: str) -> list[str]:
    """What is violated when the process lives, and when it dies with the fifth to eighth order on the wire."""
    with sabotage.of(sabotaged):
        alive = run_cell("GridSell", fault)
        taken = [number for number, name in enumerate(alive.names, start=1) if name == TAKEN]
        dead = [run_cell("GridSell", fault, kill) for kill in taken[4:8]]
        assert len(dead) == 4 or fault == "reply_lost"
        return [text for cell in (alive, *dead) for text in cell.violations]


@pytest.mark.parametrize(
    ("sabotaged", "fault", "seen"),
    [
        ("write_after_send", "none", "has 2 sells"),
        ("retry_after_timeout", "reply_lost", "two buys on one level"),
        ("count_fills_by_message", "gap", "is booked that never was"),
    ],
)
def test_breaking_one_step_of_the_protocol_turns_it_red(sabotaged: str, fault: str, seen: str) -> None:
    assert small_matrix(None, fault) == []
    assert any(seen in text for text in small_matrix(sabotaged, fault))
