"""One cell: the story with one fault and one death; and all cells."""

import contextlib
import multiprocessing
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import invariants
from tests.chaos.effects import SideEffects
from tests.chaos.faults import FAULTS
from tests.chaos.house import House
from tests.chaos.story import STORY, calm_down

STRATEGIES = ("GridHODL", "GridSell", "SWING", "cDCA")
AWAY = (1.0, 40.0)  # seconds between a death and the next start
MEMORY = Path("/dev/shm")


@dataclass
class Cell:
    """What became of one story. ``points``: how many side effects it had, ``names``: which."""

    strategy: str
    fault: str
    kill: int
    away: float
    points: int = 0
    killed_at: str = ""
    calls: int = 0
    names: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        dies = f"killed at {self.kill}" if self.kill else "not killed"
        return f"{self.strategy:9} {self.fault:20} {dies}, {self.away:.0f} s away: " + (
            "; ".join(self.violations) or "held"
        )


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """For one database, in memory where the machine has such a place."""
    path = Path(tempfile.mkdtemp(prefix="chaos-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run_cell(strategy: str, fault: str = "none", kill: int = 0, away: float = 1.0) -> Cell:
    """Tell the story once."""
    cell = Cell(strategy, fault, kill, away)
    effects = SideEffects(kill)
    spoil = FAULTS[fault]
    random.seed(1)  # the jitter of pauses: the same cell must be the same story again
    with folder() as path:
        house = House(path, strategy, effects, away)
        try:
            for number, step in enumerate(STORY):
                house.say(f"-- {step.name}")
                spoil.arm(house, number)
                step.act(house)
                house.run(step.seconds + spoil.longer(number))
                spoil.relieve(house)
            spoil.end(house)
            cell.points = effects.count
            cell.calls = calm_down(house)
            house.violations += invariants.when_calm(house, cell.calls)
        except Exception as exc:  # noqa: BLE001 - whatever the bot does not survive is a finding
            house.violations.append(f"{type(exc).__name__}: {exc}")
        cell.killed_at = effects.names[kill - 1] if 0 < kill <= len(effects.names) else ""
        cell.violations = list(dict.fromkeys(house.violations))
        cell.told, cell.names = house.told, effects.names
        if house.engine is not None:
            house.stop()
    return cell


def run_cells(cells: Iterable[tuple[str, str, int, float]], jobs: int) -> Iterator[Cell]:
    """Many cells, on ``jobs`` processors; in the order in which they were asked for."""
    if jobs == 1:
        yield from (run_cell(*cell) for cell in cells)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(_run, cells, chunksize=4)


def _run(cell: tuple[str, str, int, float]) -> Cell:
    done = run_cell(*cell)
    done.told, done.names = [], []  # only for who looks at one cell
    return done
