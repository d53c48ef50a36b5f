"""
A part of the matrix kill point x fault x strategy that fits into every test run, and the proof that it
would see a broken protocol. ``python -m tests.chaos`` runs all of it.
"""

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from tests.chaos import family, invariants, sabotage
from tests.chaos.effects import SideEffects
from tests.chaos.family import Plan, run_family
from tests.chaos.faults import FAULTS
from tests.chaos.house import House
from tests.chaos.matrix import STRATEGIES, Cell, folder, run_cell

ON_ITS_WAY = "AddOrder on its way"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="the whole matrix needs POSIX")


@cache
def killed_here_and_there(strategy: str) -> list[Cell]:
    """The story in which nobody dies, and some with a death; those of neighbours are away for different times."""
    away = (1.0, 40.0)[STRATEGIES.index(strategy) % 2]
    return run_family(strategy, "none", Plan((away,), every=140))


@forking
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_whole_story_holds_without_faults_and_without_deaths(strategy: str) -> None:
    cell = killed_here_and_there(strategy)[0]
    assert cell.violations == []
    assert cell.points > 400
    assert cell.calls < 20  # once the grid is whole, nothing is asked but the regular look


@forking
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_everywhere(strategy: str) -> None:
    _, *dead = killed_here_and_there(strategy)
    assert len(dead) > 4
    for cell in dead:
        assert cell.killed_at
        assert cell.violations == [], cell


class OneAhead:
    """Cells that are told two at a time: the one that is asked for, and the next."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._told = cache(lambda number: pool.submit(one_death, number))

    def __getitem__(self, number: int) -> Cell:
        asked, _ = self._told(number), self._told((number + 1) % len(FAULTS))
        return asked.result()


def one_death(number: int) -> Cell:
    """The story with this fault."""
    fault = list(FAULTS)[number]
    return run_cell(STRATEGIES[number % 4], fault, kill=1 + number * 41 % 350, away=(1.0, 40.0)[number % 2])


@pytest.fixture(scope="module")
def faulty() -> Iterator[OneAhead]:
    with ProcessPoolExecutor(2, initializer=logging.disable) as pool:
        yield OneAhead(pool)


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_every_fault_with_one_death(faulty: OneAhead, number: int) -> None:
    cell = faulty[number]
    assert cell.fault == list(FAULTS)[number]
    assert cell.violations == [], cell


def test_a_cell_is_the_same_story_every_time() -> None:
    first, second = (run_cell("SWING", "gap", kill=200) for _ in range(2))
    assert first.points == second.points
    assert first.killed_at == second.killed_at


@forking
@pytest.mark.parametrize(
    ("strategy", "fault", "away", "part"),
    [
        ("GridSell", "any_502", 40.0, 14),  # pauses with jitter
        ("SWING", "database_restored", 1.0, 22),
        ("GridHODL", "disk_full", 40.0, 30),
    ],
)
def test_a_forked_cell_is_the_same_as_one_told_from_its_beginning(
    strategy: str, fault: str, away: float, part: int
) -> None:
    whole, *dead = run_family(strategy, fault, Plan((away,), part=(part, 300), stories=True))
    assert len(dead) > 3
    for cell in (whole, *dead):
        assert cell == run_cell(strategy, fault, cell.kill, away)


@forking
def test_all_parts_together_are_the_whole() -> None:
    def kills(part: int, parts: int) -> list[int]:
        _, *dead = run_family("cDCA", "none", Plan((1.0,), every=300, part=(part, parts)))
        return [cell.kill for cell in dead]

    everywhere = kills(1, 1)
    assert everywhere == list(range(1, max(everywhere) + 1, 300))
    assert sorted(kills(1, 2) + kills(2, 2)) == everywhere


@forking
@pytest.mark.parametrize(("mishap", "told"), [("fails", "ended with 1"), ("hangs", "Alarm clock")])
def test_a_forked_cell_that_does_not_come_to_its_end_is_red(
    mishap: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moves_to(_house: House, _folder: Path, _files: dict[str, bytes]) -> None:
        if mishap == "hangs":
            time.sleep(60)
        raise OSError("no place")

    monkeypatch.setattr(House, "moves_to", moves_to)
    monkeypatch.setattr(family, "PATIENCE", 1)
    whole, dead = run_family("cDCA", "none", Plan((1.0,), every=10_000, stories=True))
    assert whole.violations == []
    assert (dead.kill, dead.killed_at) == (1, whole.names[0])
    assert told in dead.violations[0]


@pytest.fixture
def path() -> Iterator[Path]:
    with folder() as place:
        yield place


def test_a_grid_whose_cancellations_are_slowed_down_follows_the_price_and_does_not_march_away(path: Path) -> None:
    # ten young orders cost 80 points to cancel, and Kraken's counter allows 60 to 125
    house = House(path, "GridHODL", SideEffects(), n_open_buy_orders=10)
    house.start()
    house.run(3)
    for price in ("51200", "52500", "53800"):
        house.price(price)
        house.run(4)
    house.run(300)
    assert [f"{o.price:f}" for o in house.own_open("buy")][:2] == ["53267.3", "52739.9"]
    assert min(o.price for o in house.own()) > 45000  # fifty, and at last all there is: 114.1
    assert len(house.own()) <= 50
    assert invariants.when_calm(house, 0) == []


def lose(path: Path) -> None:
    for part in path.glob("gridbot.db*"):
        part.unlink()


@pytest.mark.parametrize("rest_behind", [0.0, 59.0])
def test_a_lost_database_costs_no_buy_its_sell_and_gives_none_two(path: Path, rest_behind: float) -> None:
    house = House(path, "GridSell", SideEffects())
    house.start()
    house.run(3)
    house.price("49500")
    house.run(3)
    house.stop()
    lose(path)
    house.fake.rest_lag = rest_behind
    house.price("49000")
    house.start()
    house.run(90)
    assert [f"{o.price:f}" for o in house.own_open("sell")] == ["49504.8", "49999.9"]
    assert len(house.own_open("buy")) == 5
    assert house.violations == []


@pytest.mark.parametrize("dies_after", [0, *range(3, 28, 3)])
def test_a_surplus_that_was_sold_is_not_sold_again_after_the_loss_of_the_database(path: Path, dies_after: int) -> None:
    effects = SideEffects()
    house = House(path, "GridSell", effects)
    house.start()
    house.run(3)
    for _ in range(2):  # 0.6 of two buys is filled before somebody cancels them
        buy = house.own_open("buy")[0]
        house.fake.fill(buy.txid, buy.volume * 6 / 10)
        house.run(3)
        house.fake.cancel(buy.txid)
        house.run(3)
    [surplus] = [order for order in house.own() if order.side == "sell"]
    assert surplus.status == "closed"  # its price was below the market
    house.stop()
    lose(path)
    effects.kill_at = effects.count + dies_after if dies_after else 0
    house.forgot = True
    house.start()
    house.run(100)
    assert house.kills == bool(dies_after)
    assert house.violations == []
    assert invariants.nothing_is_sold_twice(house) == []
    assert len(house.own_open("buy")) == 5


@pytest.mark.parametrize("rest_behind", [0.0, 59.0])
@pytest.mark.parametrize(
    ("price", "number", "sells"),
    [("49500", 6, ["49999.9"]), ("49500", 7, ["49999.9"]), ("53000", 6, [])],  # a sell, a buy after it, a new grid
)
def test_an_order_on_its_way_when_bot_and_database_die_is_not_placed_again(
    path: Path, price: str, number: int, sells: list[str], rest_behind: float
) -> None:
    def begin(effects: SideEffects, place: Path) -> House:
        house = House(place, "GridSell", effects)
        house.start()
        house.run(60)
        house.disaster = lambda database: lose(database.parent)
        house.fake.rest_lag = rest_behind
        house.price(price)
        house.run(3)
        return house

    effects = SideEffects()
    begin(effects, path)
    on_their_way = [k for k, name in enumerate(effects.names, start=1) if name == ON_ITS_WAY]
    with folder() as place:
        house = begin(SideEffects(on_their_way[number - 1]), place)
        house.run(150)
        assert house.kills == 1
        assert house.violations == []
        assert [f"{o.price:f}" for o in house.own_open("sell")] == sells
        assert len(house.own_open("buy")) == 5


@pytest.mark.parametrize("dies_again_after", [0, 40])
def test_buys_that_filled_get_their_sells_when_the_database_is_lost_and_nothing_is_open(
    path: Path, dies_again_after: int
) -> None:
    house = House(path, "GridSell", SideEffects())
    house.start()
    house.run(3)
    house.stop()
    house.price("47000")  # all five, while nobody looks
    lose(path)
    house.start()
    if dies_again_after:
        house.run(dies_again_after)
        house.stop()
        house.start()
    house.run(100)
    assert house.violations == []
    assert len(house.own_open("sell")) == 5
    assert len(house.own_open("buy")) == 5
    assert invariants.every_buy_leads_to_a_sell(house) == []


def test_orders_of_a_lost_database_are_seen_before_rest_tells_of_them(path: Path) -> None:
    house = House(path, "GridHODL", SideEffects())
    house.start()
    house.run(3)
    house.stop()
    lose(path)
    house.fake.rest_lag = 59.0
    house.start()
    house.run(200)
    assert len(house.fake.added_orders()) == 5


def test_a_sell_that_fills_before_the_first_comparison_is_not_placed_again(path: Path) -> None:
    house = House(path, "GridSell", SideEffects())
    house.start()
    house.run(3)
    house.stop()
    older = (path / "gridbot.db").read_bytes()
    house.start()
    house.run(3)
    house.price("49500")
    house.run(3)
    house.stop()
    lose(path)
    (path / "gridbot.db").write_bytes(older)  # somebody brings back a copy from before the fill
    house.start()
    house.run(20)
    house.price("50000")
    house.run(100)
    sold = [o for o in house.own() if o.side == "sell"]
    assert [f"{o.price:f} {o.status}" for o in sold] == ["49999.9 closed"]
    assert house.violations == []


def seen_in(sabotaged: str, fault: str, seen: str) -> int:
    """
    Where this is violated: 0 when the process lives, or its death at the sixth to eighth order on the wire; -1 nowhere.
    """
    with sabotage.of(sabotaged):
        alive = run_cell("GridSell", fault)
        sent = [number for number, name in enumerate(alive.names, start=1) if name == ON_ITS_WAY]
        for kill in (0, *sent[5:8]):
            cell = run_cell("GridSell", fault, kill) if kill else alive
            if any(seen in text for text in cell.violations):
                return kill
    return -1


@pytest.mark.parametrize(
    ("sabotaged", "fault", "seen"),
    [
        ("write_after_send", "none", "has 2 sells"),
        ("retry_after_timeout", "reply_lost", "two buys on one level"),
        ("count_fills_by_message", "gap", "is booked that never was"),
    ],
)
def test_breaking_one_step_of_the_protocol_turns_it_red(sabotaged: str, fault: str, seen: str) -> None:
    kill = seen_in(sabotaged, fault, seen)
    assert kill >= 0
    assert run_cell("GridSell", fault, kill).violations == []
