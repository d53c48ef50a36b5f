"""
All cells of one story: it is told once, and wherever the process could die the world is forked.

In the forked world the bot dies there, is started again, and the rest is told and judged as in a cell of its own; in
this one it lives on to the next kill point. So a death costs what comes after it, and not what came before.

Often nothing that outlives the process has changed since the kill point before: not the disk, not the exchange, not
the time, not the dice. Death at both is one story under two numbers, and it is told once for both: that is so for
three deaths in five. Every cell counts, and ``--kill`` tells each of them from its beginning.
"""

import gc
import os
import pickle
import random
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from tests.chaos.effects import ON_ITS_WAY, SideEffects
from tests.chaos.house import House, Remains
from tests.chaos.matrix import AWAY, Cell, folder, tell

PATIENCE = 120  # seconds that a forked world may take; it needs a twentieth of one


@dataclass(frozen=True)
class Plan:
    """
    Which cells of a family are told, and how.

    every    only every so-manieth kill point, beginning with the first
    part     (m, n): the m-th of n parts, which together are the whole; kill points of one world stay together
    jobs     so many processes at once tell what follows a death
    stories  keep what happened, and not only how it ended
    """

    away: Sequence[float] = AWAY
    every: int = 1
    part: tuple[int, int] = (1, 1)
    jobs: int = 2
    stories: bool = False


def run_family(strategy: str, fault: str, plan: Plan) -> list[Cell]:
    """The story in which nobody dies, and after it those with a death: as ``run_cell`` would tell each of them."""
    whole = Cell(strategy, fault, 0, plan.away[0])
    gc.collect()
    gc.freeze()  # what was there before shall not be looked through again and again, and so copied for every world
    try:
        with folder() as base, Family(base, whole, plan) as family:
            (base / "alive").mkdir()
            family.house = House(base / "alive", strategy, family)
            try:
                tell(whole, family.house)
            finally:
                if family.is_forked:
                    family.leave(whole)
            return [whole, *family.cells()]
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class Child:
    """A process that tells one cell; it writes it to ``pipe``, which ends with the process."""

    pid: int
    cell: Cell
    place: Path
    pipe: int
    report: bytearray


class Family(SideEffects):
    """Numbers the side effects of the one that lives on, and forks the worlds in which it does not."""

    house: House

    def __init__(self, base: Path, cell: Cell, plan: Plan) -> None:
        super().__init__()
        self._base = base
        self._cell = cell
        self._plan = plan
        self._world: Remains | None = None
        self._worlds = 0
        self._same: dict[int, list[int]] = {}  # the first kill point of a world, and all of them
        self._told: dict[tuple[int, float], Cell] = {}
        self._children: dict[int, Child] = {}
        self._way_home = -1  # in a forked world: the pipe to the one that lives on

    def __enter__(self) -> "Family":
        return self

    def __exit__(self, *_: object) -> None:
        """Whoever was forked and is still there need not go on."""
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pipe)

    @property
    def is_forked(self) -> bool:
        return self._way_home >= 0

    def cells(self) -> list[Cell]:
        """All that were told, once they have been."""
        while self._children:
            self._listen()
        kills = [(first, kill) for first, same in self._same.items() for kill in same]
        return [
            self._under_another_number(self._told[first, away], kill)
            for away in self._plan.away
            for first, kill in kills
        ]

    # ---- in the world in which it lives --------------------------------------------------------------------------

    def split(self) -> None:
        """See SideEffects: a kill point was reached."""
        if self.is_forked or self._cell.points or (self.count - 1) % self._plan.every:
            return  # dead once already, or the story is over, or nobody asks
        part, parts = self._plan.part
        world = self.house.what_stays()
        if world != self._world or self.names[-1].endswith(ON_ITS_WAY):
            # What is on its way arrives after the death at that very number, and after no other.
            self._world = None if self.names[-1].endswith(ON_ITS_WAY) else world
            self._worlds += 1
            if self._worlds % parts == part % parts:
                self._same[self.count] = []
                for away in self._plan.away:
                    self._fork(replace(self._cell, kill=self.count, away=away), world)
                    if self.is_forked:
                        return
        if self._worlds % parts == part % parts:
            self._same[next(reversed(self._same))].append(self.count)

    def _fork(self, cell: Cell, world: Remains) -> None:
        while len(self._children) >= self._plan.jobs:
            self._listen()
        place = self._base / f"{cell.kill}-{cell.away:g}"
        coming, going = os.pipe()
        pid = os.fork()
        if pid:
            os.close(going)
            self._children[coming] = Child(pid, cell, place, coming, bytearray())
            return
        self._way_home = going
        try:
            signal.alarm(PATIENCE)  # nobody catches it: the process ends, and its pipe
            gc.disable()  # it is over before it would matter
            self.kill_at = self._cell.kill = cell.kill
            self.house.away = self._cell.away = cell.away
            random.setstate(world.dice)  # which Python throws anew in every forked process
            self.house.moves_to(place, world.files)
        except BaseException:  # noqa: BLE001 - nothing of the bot may catch it and trade on
            self.leave(cell)

    def _listen(self) -> None:
        """Wait until somebody says something, or ends."""
        ready, _, _ = select.select(list(self._children), [], [])
        for pipe in ready:
            child = self._children[pipe]
            part = os.read(pipe, 1 << 16)
            child.report.extend(part)
            if not part:
                del self._children[pipe]
                os.close(pipe)
                self._told[child.cell.kill, child.cell.away] = self._ended(child)

    def _ended(self, child: Child) -> Cell:
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        shutil.rmtree(child.place, ignore_errors=True)
        if code == 0:
            cell: Cell = pickle.loads(child.report)
            return cell
        how = f"ended with {code}" if code > 0 else signal.strsignal(-code)
        lost = f"the process that told this cell did not come to its end: {how}; see it with --kill {child.cell.kill}"
        return replace(child.cell, killed_at=self.names[child.cell.kill - 1], violations=[lost])

    def _under_another_number(self, cell: Cell, kill: int) -> Cell:
        """The same death at another kill point of the same world."""
        later, number = kill - cell.kill, cell.kill
        if not later:
            return cell
        name = self.names[kill - 1]
        death = f"killed at {number}: {cell.killed_at}"
        return replace(
            cell,
            kill=kill,
            killed_at=name,
            points=cell.points + later if cell.points else 0,
            names=[*self.names[:kill], *cell.names[number:]] if cell.names else [],
            told=[line.replace(death, f"killed at {kill}: {name}") for line in cell.told],
        )

    # ---- in a world in which it died -----------------------------------------------------------------------------

    def leave(self, cell: Cell) -> NoReturn:
        """
        Report, and go no further: what belongs to the one that lives on must not be cleared away here, nor its
        database be closed.
        """
        code = 1
        try:
            if sys.exc_info()[0] is None:
                if not self._plan.stories:
                    cell.told, cell.names = [], []
                with open(self._way_home, "wb") as pipe:
                    pickle.dump(cell, pipe)
                code = 0
            else:
                traceback.print_exc()
                sys.stderr.flush()
        finally:
            os._exit(code)
