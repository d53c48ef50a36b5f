"""One cell: the story with one fault and one death. All that differ only in the death: family.py."""

import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator
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
    with folder() as path:
        tell(cell, House(path, strategy, SideEffects(kill), away))
    return cell


def tell(cell: Cell, house: House) -> None:
    """Tell the story of this cell in ``house``, and note in it what became of it."""
    effects, spoil = house.effects, FAULTS[cell.fault]
    random.seed(1)  # the jitter of pauses: the same cell must be the same story again
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
        house.violations.append(house.plain(f"{type(exc).__name__}: {exc}"))
    cell.killed_at = effects.names[cell.kill - 1] if 0 < cell.kill <= len(effects.names) else ""
    cell.violations = list(dict.fromkeys(house.violations))
    cell.told, cell.names = house.told, effects.names
    if house.engine is not None:
        house.stop()
