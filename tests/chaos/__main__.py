# ruff: noqa: T201 - a program that prints
"""``python -m tests.chaos``: see the package."""

import argparse
import logging
import os
import sys
import time
from collections import Counter

from gridbot.core.arguments import whole
from tests.chaos import sabotage
from tests.chaos.family import Plan, run_family
from tests.chaos.faults import FAULTS
from tests.chaos.matrix import AWAY, STRATEGIES, run_cell

MANY = 1_000_000


def main(arguments: list[str]) -> int:
    """Print the matrix; 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill the bot everywhere.")
    parser.add_argument("--quick", action="store_true", help="every 60th kill point")
    parser.add_argument("--every", type=whole(1, MANY), default=1, metavar="N", help="only every N-th kill point")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="M/N", help="the M-th of N parts of the whole")
    parser.add_argument("--strategy", choices=STRATEGIES, action="append")
    parser.add_argument("--fault", choices=sorted(FAULTS), action="append")
    parser.add_argument("--kill", type=whole(1, MANY), metavar="K", help="one kill point: prints what happened there")
    parser.add_argument("--away", type=float, action="append", metavar="S", help="seconds between death and restart")
    parser.add_argument("--sabotage", choices=sorted(sabotage.SABOTAGES), help="break the bot on purpose")
    parser.add_argument("--jobs", type=whole(1, MANY), default=os.cpu_count() or 1, help="forked worlds at once")
    parser.add_argument("--invent", type=whole(1, MANY), metavar="N", help="N stories that nobody wrote, by hypothesis")
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
        every = 60 if options.quick else options.every
        return _matrix(strategies, faults, Plan(options.away or AWAY, every, options.part, options.jobs))


def _part(text: str) -> tuple[int, int]:
    """Of "3/7": 3 and 7."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text}: write M/N, the M-th of N parts, for example 1/7")
    return int(part), int(parts)


def _matrix(strategies: list[str], faults: list[str], plan: Plan) -> int:
    started, cells, deaths, red = time.monotonic(), 0, 0, Counter[str]()
    for strategy in strategies:
        for fault in faults:
            family = run_family(strategy, fault, plan)
            bad = [cell for cell in family if cell.violations]
            cells += len(family)
            deaths += sum(bool(cell.killed_at) for cell in family)
            red[strategy] += len(bad)
            print(
                f"{strategy:9} {fault:22} {family[0].points:5} points {len(family):5} cells {len(bad):5} red"
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
