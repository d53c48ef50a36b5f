"""``python -m tests.sigkill --points 200 [--strategy GridHODL] [--seed 1]``"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.sigkill.shooting import shoot

STRATEGIES = ("GridHODL", "GridSell", "SWING", "cDCA")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sigkill", description=__doc__)
    parser.add_argument("--points", type=int, default=200, help="shots, shared among the strategies")
    parser.add_argument("--strategy", choices=STRATEGIES, action="append", help="default: all four")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    strategies = options.strategy or STRATEGIES
    broken = 0
    for strategy in strategies:
        directory = Path(tempfile.mkdtemp(prefix=f"gridbot-sigkill-{strategy}-"))
        shooting = shoot(directory, strategy, -(-options.points // len(strategies)), options.seed)
        sys.stdout.write(f"{shooting.report()}\n")
        if shooting.broken:
            sys.stdout.write(f"  database and log are kept in {directory}\n")
        sys.stdout.flush()
        broken += len(shooting.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
