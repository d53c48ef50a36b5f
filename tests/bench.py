"""
Benchmarks: figures and ratios, never a pass or fail. What is compared runs side by side in one round.

    python -m tests.bench [--live | --past] [--data FILE] [--rounds N]

--live measures a bot against the fake Kraken, --past the backtest; without either both run. FILE is a year of
one-minute candles; GRIDBOT_DATA names it as well.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests import bench_live
from tests.settings import config_ini

ROOT = Path(__file__).resolve().parent.parent
STRATEGIES = ("GridHODL", "GridSell", "SWING", "cDCA")
# Compiled modules are kept as in every installation, whatever the shell says.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
BACKTESTING_PY = 57.6  # seconds for such a year elsewhere; measured here when it is installed

CONFIG = config_ini("[paper]\nquote_balance = 10000\n", interval="2%", max_investment=1000000, fee="0.25%")

FLOOR = """
import gzip, sys
low = high = 0.0
with (gzip.open if sys.argv[1].endswith(".gz") else open)(sys.argv[1], "rt") as file:
    for line in file:
        cells = line.split(",", 5)
        if float(cells[3]) < low or float(cells[2]) > high:
            low, high = float(cells[4]) * 0.99, float(cells[4]) * 1.01
"""

PEER = """
import sys
import pandas as pd
from backtesting import Backtest, Strategy
names = ["Time", "Open", "High", "Low", "Close", "Volume", "Trades"]
data = pd.read_csv(sys.argv[1], names=names, index_col=0)
data.index = pd.to_datetime(data.index, unit="s")
class Grid(Strategy):
    def init(self): pass
    def next(self):
        price = self.data.Close[-1]
        buys = [order for order in self.orders if order.is_long and not order.is_contingent]
        if buys and price > max(order.limit for order in buys) * 1.02**2 * 1.001:
            for order in buys:
                order.cancel()
            buys = []
        level = min((order.limit for order in buys), default=price)
        for _ in range(5 - len(buys)):
            self.buy(size=1, limit=level / 1.02, tp=level)
            level /= 1.02
Backtest(data, Grid, cash=1e9, commission=0.0025).run()
"""


@dataclass(frozen=True)
class Cost:
    """One process: processor and wall seconds, resident memory at its highest."""

    cpu: float
    wall: float
    rss_mb: float


def cost_of(*command: str) -> Cost:
    """Run a process of this Python and measure it from start to end."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    probe = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", probe, sys.executable, *command],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.perf_counter() - began, float(done.stdout))


def backtest_speed(data: Path, count: int) -> Iterator[str]:
    """Whole processes: start, imports, reading, every decision, result; against a loop that only compares."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.ini"
        config.write_text(CONFIG)
        command = ["gridbot.py", "--config", str(config), "backtest", "--data", str(data), "--json"]
        document = json.loads(subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True).stdout)
        rounds = []
        for _ in range(count):
            floor = cost_of("-c", FLOOR, str(data))
            rounds.append((floor, {name: cost_of(*command, "--strategy", name) for name in STRATEGIES}))
        floors = [floor for floor, _ in rounds]
        yield f"{document['candles']} candles; {document['buys']} buys, {document['shifts']} shift-ups (GridHODL, 2 %)"
        yield _line("floor: a loop that compares", floors, document["candles"], floors)
        for name in STRATEGIES:
            yield _line(f"backtest {name}", [costs[name] for _, costs in rounds], document["candles"], floors)
        peer = BACKTESTING_PY
        if importlib.util.find_spec("backtesting") is not None:
            peer = cost_of("-c", PEER, str(data)).wall
        slowest = max(statistics.median(costs[name].wall for _, costs in rounds) for name in STRATEGIES)
        yield f"backtesting.py {peer:.1f} s: {peer / slowest:.0f} times the slowest of these (aim: 50)"


def _line(name: str, costs: list[Cost], candles: int, floors: list[Cost]) -> str:
    cpu = statistics.median(cost.cpu for cost in costs)
    ratio = statistics.median(cost.cpu / floor.cpu for cost, floor in zip(costs, floors, strict=True))
    wall = statistics.median(cost.wall for cost in costs)
    rss = max(cost.rss_mb for cost in costs)
    return (
        f"{name:<28} {wall:6.2f} s wall {cpu:6.2f} s cpu {candles / cpu / 1000:7.0f} k candles/cpu-s "
        f"{ratio:5.2f} x floor (aim: 2) {rss:5.0f} MB"
    )


def backtest_memory(data: Path) -> Iterator[str]:
    """The same file for a tenth of the year and for all of it: memory must not follow the length."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.ini"
        config.write_text(CONFIG)
        command = ["gridbot.py", "--config", str(config), "backtest", "--data", str(data), "--strategy", "cDCA"]
        part, whole = cost_of(*command, "--to", "2018-02-06"), cost_of(*command)
        yield f"memory: {part.rss_mb:.1f} MB for a tenth of the year, {whole.rss_mb:.1f} MB for all of it"


def candles(named: Path | None) -> Path | None:
    """The file to measure with, if there is one."""
    beside = ROOT.parent / "shared" / "data" / "XBTUSD_1_2018.csv.gz"
    choices = [named, Path(os.environ["GRIDBOT_DATA"]) if "GRIDBOT_DATA" in os.environ else None, beside]
    return next((path.resolve() for path in choices if path is not None and path.exists()), None)


def past(data: Path | None, rounds: int) -> Iterator[str]:
    """The backtest's speed and memory."""
    if data is None:
        yield "no candles: give --data FILE or GRIDBOT_DATA"
        return
    yield from backtest_speed(data, rounds)
    yield from backtest_memory(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--live", action="store_true")
    which.add_argument("--past", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    parts = [] if args.past else [bench_live.measured()]
    parts += [] if args.live else [past(candles(args.data), args.rounds)]
    for line in chain.from_iterable(parts):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
