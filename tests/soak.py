"""
Thirty simulated days in one process, with accidents but without deaths: memory, database and every list
of the bot must stay as large as they were.

``python -m tests.soak --days 30 [--strategy GridHODL]``
"""

from __future__ import annotations

import argparse
import gc
import logging
import sqlite3
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridbot.core import trial as trials
from gridbot.core.selftest import judge, trial_settings
from gridbot.core.trial import TICK, Trial
from gridbot.models.configuration import Settings
from tests.settings import config

WARM_UP = 1 / 3  # of the days: caches fill, the first week of finished orders is kept
MOST_MEMORY = 256 * 1024  # bytes that may be added after the warm-up, on Python's own account
MOST_PER_TRADE = 600  # bytes of database
MOST_GROWTH = 1.5
KEPT_BY_THE_MARKET = 100


@dataclass
class Day:
    """What was measured at the end of one day."""

    number: int
    memory: int  # bytes, tracemalloc
    resident: int  # bytes, of the process
    database: int  # bytes
    rows: dict[str, int] = field(default_factory=dict)
    lists: dict[str, int] = field(default_factory=dict)


def soak(days: float, strategy: str, directory: Path, seed: int = 1) -> tuple[list[Day], Trial, list[str]]:
    """Measured days, the trial, and what grew that must not."""
    trials.STOPS = 0.0
    bot = config(strategy=strategy, amount_per_grid=Decimal(100), max_investment=Decimal(3000))
    trial = Trial(trial_settings(Settings(bot=bot), directory), directory, seed)
    trial.fate.death = lambda where, chance: None  # type: ignore[method-assign]
    trial.exchange._keep = KEPT_BY_THE_MARKET
    measured: list[Day] = []
    ticks, next_price = 0, trial._next_price
    step = max(1, int(86400 / TICK * min(1.0, days / 6)))

    def counted() -> Decimal | None:
        nonlocal ticks
        ticks += 1
        if ticks % step == 0:
            measured.append(measure(trial, len(measured) + 1))
        return next_price()

    trial._next_price = counted  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        trial.run_days(days)
    finally:
        tracemalloc.stop()
        trial._next_price = next_price  # type: ignore[method-assign]
    broken = [*(what for kind in trial.broken.values() for what in kind), *growth(measured)]
    if trial.seen["starts"] != 1:
        broken.append(f"it did not live through: {trial.seen['starts']} starts")
    return measured, trial, broken


def measure(trial: Trial, number: int) -> Day:
    """Sizes now."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * 4096
    with closing(sqlite3.connect(f"file:{trial.path}?mode=ro", uri=True)) as db:
        pages, size, free = (db.execute(f"PRAGMA {what}").fetchone()[0] for what in PRAGMAS)
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    assert trial.engine is not None
    lists = census(trial.engine, {id(trial.exchange), id(trial)})
    return Day(number, tracemalloc.get_traced_memory()[0], resident, (pages - free) * size, rows, lists)


PRAGMAS = ("page_count", "page_size", "freelist_count")


def census(root: object, leave_out: set[int]) -> dict[str, int]:
    """Where each container that can be reached from ``root`` hangs, and how much is in it."""
    found: dict[str, int] = {}
    todo: list[tuple[str, Any]] = [(type(root).__name__, root)]
    seen = set(leave_out)
    while todo:
        path, thing = todo.pop()
        if id(thing) in seen or path.count(".") > 8:
            continue
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | frozenset | deque | tuple):
            found[path] = len(thing)
            items = thing.values() if isinstance(thing, dict) else thing
            todo += [(f"{path}[]", item) for item in list(items)[:50]]
        elif type(thing).__module__.startswith("gridbot"):
            names = [*getattr(thing, "__dict__", {}), *getattr(type(thing), "__slots__", ())]
            todo += [(f"{path}.{name}", getattr(thing, name, None)) for name in names]
    return found


def growth(measured: list[Day]) -> list[str]:
    """What was larger at the end than after the warm-up, beyond what may be."""
    after, end = measured[int(len(measured) * WARM_UP)], measured[-1]
    problems = []
    if end.memory - after.memory > MOST_MEMORY:
        problems.append(f"memory grew from {after.memory} to {end.memory} bytes")
    trades = end.rows["trades"] - after.rows["trades"]
    if end.database - after.database > trades * MOST_PER_TRADE + 32 * 1024:
        problems.append(f"the database grew from {after.database} to {end.database} bytes with {trades} trades")
    # The most of the days before: some lists breathe with the market.
    half = measured[: len(measured) // 2 + 1]
    for what in ("rows", "lists"):
        for name, size in getattr(end, what).items():
            before = max(getattr(day, what).get(name, 0) for day in half)
            if name != "trades" and size > 40 and size > before * MOST_GROWTH:
                problems.append(f"{name} grew from {before} to {size}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--strategy", action="append", choices=("GridHODL", "GridSell", "SWING", "cDCA"))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = 0
    for strategy in options.strategy or ("GridHODL", "GridSell", "SWING", "cDCA"):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            days, trial, broken = soak(options.days, strategy, Path(directory), options.seed)
            trial.settle()
            broken += [
                str(promise) for promise in judge(trial) if not promise.holds and "last digit" not in promise.text
            ]
        sys.stdout.write(f"{strategy}: {len(days)} measurements, {time.monotonic() - began:.0f} s\n")
        for day in [*days[:: max(1, len(days) // 6)], days[-1]]:
            sys.stdout.write(
                f"  {day.number:4}  traced {day.memory / 1024:8.0f} KiB  resident {day.resident / 2**20:6.1f} MiB"
                f"  database {day.database / 1024:6.0f} KiB  trades {day.rows['trades']:5}"
                f"  other rows {sum(day.rows.values()) - day.rows['trades']:4}  lists {sum(day.lists.values()):5}\n"
            )
        sys.stdout.write("".join(f"  GROWING {line}\n" for line in broken))
        failed += len(broken)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
