# ruff: noqa: T201 - a program that prints
"""``python -m tests.chaos``: see the package."""

import argparse
import logging
import os
import sys
import time
from collections import Counter

from tests.chaos import sabotage
from tests.chaos.faults import FAULTS
from tests.chaos.matrix import AWAY, STRATEGIES, Cell, run_cell, run_cells


def main(arguments: list[str]) -> int:
    """Print the matrix; 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill the bot everywhere.")
    parser.add_argument("--quick", action="store_true", help="every 60th kill point")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th kill point")
    parser.add_argument("--strategy", choices=STRATEGIES, action="append")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append")
    parser.add_argument("--kill", type=int, metavar="K", help="one kill point: prints what happened in that cell")
    parser.add_argument("--away", type=float, action="append", metavar="S", help="seconds between death and restart")
    parser.add_argument("--sabotage", choices=sorted(sabotage.SABOTAGES), help="break the bot on purpose")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--invent", type=int, metavar="N", help="N stories that nobody wrote, by hypothesis")
    options = parser.parse_args(arguments)
    logging.disable(logging.DEBUG if options.kill is not None else logging.CRITICAL)
    if options.kill is not None:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    strategies, faults = options.strategy or list(STRATEGIES), options.fault or list(FAULTS)
    with sabotage.of(options.sabotage):
        if options.invent is not None:
            from tests.acceptance.test_stateful import invent

            invent(options.invent, by_chance=True)
            print(f"{options.invent} stories, all held")
            return 0
        if options.kill is not None:
            cell = run_cell(strategies[0], faults[0], options.kill, (options.away or AWAY)[0])
            print("\n".join(cell.told), f"\nkilled at: {cell.killed_at or 'nothing'}\n{cell}", sep="\n")
            return bool(cell.violations)
        return _matrix(strategies, faults, 60 if options.quick else options.every, options.away or list(AWAY), options)


def _matrix(
    strategies: list[str], faults: list[str], every: int, away: list[float], options: argparse.Namespace
) -> int:
    started, cells, deaths, red = time.monotonic(), 0, 0, Counter[str]()
    for strategy in strategies:
        for fault in faults:
            whole = run_cell(strategy, fault)
            wanted = [(strategy, fault, k, a) for a in away for k in range(1, whole.points + 1, every)]
            bad: list[Cell] = [whole] if whole.violations else []
            for cell in run_cells(wanted, options.jobs):
                deaths += bool(cell.killed_at)
                if cell.violations:
                    bad.append(cell)
            cells += len(wanted) + 1
            red[strategy] += len(bad)
            print(
                f"{strategy:9} {fault:22} {whole.points:5} points {len(wanted) + 1:5} cells {len(bad):5} red"
                f" {time.monotonic() - started:8.0f} s",
                flush=True,
            )
            for cell in bad[:3]:
                print(f"    --strategy {strategy} --fault {fault} --kill {cell.kill} --away {cell.away:.0f}")
                print("        " + "\n        ".join(text[:300] for text in cell.violations[:4]), flush=True)
    total = sum(red.values())
    print(f"{cells} cells, {deaths} deaths, {total} red ({dict(red)}) in {time.monotonic() - started:.0f} s")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
