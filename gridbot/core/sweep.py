"""
The command ``sweep``: tries many settings on one period, and judges the best of them on a later period.

The best of many backtests is partly just the luckiest. So the data are cut in time: settings are ranked on the
first part, and only the best few of them are then run on the rest, once. The verdict is about that rest.

Each run is one call of ``run_job`` with plain values: on the cores of this machine through
``concurrent.futures``, or on a Dask cluster through the same interface.
"""

import argparse
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from importlib import import_module
from itertools import product

from gridbot.core import arguments
from gridbot.core.backtest import Backtest
from gridbot.core.backtest_result import Result
from gridbot.core.candles import MarketData, Period
from gridbot.core.commands_past import add_market, assumptions, changed_bot, one_fee, paying_fee, play_of
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.models import configuration
from gridbot.models.configuration import BotConfigDTO, Settings
from gridbot.models.money import digits, percent, signed_percent
from gridbot.services.messages import counted
from gridbot.services.tables import Cell, Column, Table

MOST_JOBS = 10_000
MOST_PROCESSES = 256
MOST_SHOWN = 20  # settings; more only where more are judged


@dataclass(frozen=True)
class Job:
    """One backtest, in plain values that can be sent to another process or machine."""

    settings: Settings  # the bot to try, its money, and the folder of config.ini; no keys
    market: argparse.Namespace  # the options of ``add_market``
    period: Period

    @property
    def name(self) -> str:
        """The settings that differ between the jobs, in words; no two jobs of a sweep share a name."""
        bot = self.settings.bot
        interval, amount = digits(bot.interval * 100), digits(bot.amount_per_grid)
        return f"{bot.strategy} interval {interval} % amount {amount} n {bot.n_open_buy_orders}"


@dataclass(frozen=True)
class Outcome:
    """The result of one job."""

    job: Job
    result: Result

    def document(self) -> dict[str, object]:
        return {"settings": self.job.name, **self.result.document()}


def run_job(job: Job) -> Outcome:
    """One backtest. Raises ConfigurationError."""
    data = MarketData(job.market.data, job.market.path)
    play = play_of(job.settings, job.settings.bot, job.market, data)
    return Outcome(job, Backtest(play, data.step).run(data, job.period))


def sweep_arguments(parser: argparse.ArgumentParser) -> None:
    add_market(parser)
    group = parser.add_argument_group("what is tried: every combination; what is left out stays as in config.ini")
    strategy = partial(configuration.read_name, known=configuration.STRATEGIES, what="strategy")
    buys = configuration.read_within(1, configuration.MAX_OPEN_ORDERS)
    for option, metavar, read, what, example in (
        ("--intervals", "I,I,...", configuration.read_interval, "", "0.5%,1%,2%"),
        ("--amounts", "A,A,...", configuration.read_positive, "quote per buy: ", "50,100,200"),
        ("--strategies", "S,S,...", strategy, "", "GridHODL,GridSell"),
        ("--ns", "N,N,...", buys, "open buys: ", "3,5,10"),
    ):
        values, words = arguments.texts(read, example), what + example.replace("%", "%%")
        group.add_argument(option, type=values, default=(None,), metavar=metavar, help=words)
    parser.add_argument("--fee", metavar="FEE", help="maker fee per side: 0.25%% or 0.0025")
    parser.add_argument(
        "--held-out",
        type=arguments.share,
        default=Decimal("0.3"),
        metavar="SHARE",
        help="the last part of the period, on which nothing is chosen and the best are judged. Default 30%%",
    )
    jobs, processes = arguments.whole(1, MOST_JOBS), arguments.whole(1, MOST_PROCESSES)
    parser.add_argument("--top", type=jobs, default=5, metavar="N", help="how many of the best are judged; default 5")
    parser.add_argument("--jobs", type=processes, metavar="N", help="processes here; default: one for each core")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="let a Dask cluster do the work, tcp://host:8786. Its workers need this version of gridbot and the "
        "files under the same path",
    )
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")


def search(
    executor: Executor, jobs: list[Job], later: Period, top: int, progress: arguments.Progress | None = None
) -> tuple[list[Outcome], list[Outcome], list[str]]:
    """
    Run every job on its own period, then the best ``top`` of them on the ``later`` one. Returns the first outcomes
    from the best gain to the worst, the later ones in the same order, and why some jobs could not be run. Raises
    ConfigurationError if none could be run on its own period.
    """
    outcomes, refused = _all(executor, jobs, progress)
    if not outcomes:
        raise next(iter(refused.values()))
    ranked = sorted(outcomes.values(), key=lambda o: (-o.result.gain, o.job.name))
    judged, refused_later = _all(executor, [replace(outcome.job, period=later) for outcome in ranked[:top]])
    reasons = sorted(f"{name}: {exc.message}" for name, exc in refused.items())
    reasons += sorted(f"{name}, in the held-out part: {exc.message}" for name, exc in refused_later.items())
    return ranked, [judged[o.job.name] for o in ranked[:top] if o.job.name in judged], reasons


def _all(
    executor: Executor, jobs: list[Job], progress: arguments.Progress | None = None
) -> tuple[dict[str, Outcome], dict[str, ConfigurationError]]:
    """Run the jobs; outcomes and refusals by the names of the jobs."""
    futures: dict[Future[Outcome], Job] = {executor.submit(run_job, job): job for job in jobs}
    outcomes, refused = {}, {}
    for number, future in enumerate(as_completed(futures), 1):
        try:
            outcomes[futures[future].name] = future.result()
        except ConfigurationError as exc:  # an amount may be too small for the prices of the file
            refused[futures[future].name] = exc
        if progress is not None:
            progress(number / len(jobs))
    return outcomes, refused


@contextmanager
def workers(jobs: int | None, dask: str | None) -> Iterator[Executor]:
    """The cores of this machine, or a Dask cluster. Raises ConfigurationError; GridBotError when they go away."""
    if dask is None:
        with ProcessPoolExecutor(jobs or os.cpu_count(), initializer=_begin_work) as pool:
            try:
                yield pool
            except BrokenExecutor as exc:
                raise GridBotError(
                    "a worker process of the sweep was killed, perhaps for want of memory. Try fewer at once: --jobs 1"
                ) from exc
            except BaseException:
                # Leaving the block would wait for every job, although their results are no longer wanted.
                for worker in multiprocessing.active_children():
                    worker.terminate()
                raise
        return
    try:
        distributed = import_module("distributed")
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f'--dask: the Python package {exc.name!r} is missing: python -m pip install "dask[distributed]"'
        ) from exc
    try:
        client = distributed.Client(dask, timeout=10)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"--dask {dask}: no Dask scheduler answers there ({exc}). Start one with: dask scheduler"
        ) from exc
    with client, client.get_executor() as executor:
        try:
            yield executor
        except (CancelledError, distributed.KilledWorker) as exc:
            raise GridBotError(
                f"--dask {dask}: the cluster, or too many workers, went away; no result. See their logs, start again"
            ) from exc


def _begin_work() -> None:
    """
    Runs in each worker. The worker ends silently on Ctrl-C (the terminal sends it to workers, too), on SIGTERM (with
    which the command ends its workers), and when the command itself dies.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Forked workers inherit the pipes on which those before them wait, so they end one after the other.
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def combinations(bot: BotConfigDTO, args: argparse.Namespace) -> tuple[list[BotConfigDTO], list[str]]:
    """Every combination that can work, and why others cannot. Raises ConfigurationError when none can."""
    bots: dict[BotConfigDTO, None] = {}  # 1% and 0.01 are one interval
    refused: dict[str, None] = {}
    keys = ("strategy", "interval", "amount_per_grid", "n_open_buy_orders")
    for values in product(args.strategies, args.intervals, args.amounts, args.ns):
        try:
            changed = changed_bot(bot, {**dict(zip(keys, values, strict=True)), "fee": args.fee})
            paying_fee(changed, args.fee_tiers)
            bots[changed] = None
        except ConfigurationError as exc:
            words = " ".join(str(value) for value in values if value is not None)
            refused[f"{words}: {exc.message.splitlines()[-1].strip()}"] = None
    if not bots:
        raise ConfigurationError("none of these settings can work:\n  " + "\n  ".join(refused))
    if len(bots) > MOST_JOBS:
        raise ConfigurationError(f"{len(bots)} combinations are too many, at most {MOST_JOBS}; try fewer values")
    return list(bots), list(refused)


def cut(period: Period, data: MarketData, held_out: Decimal) -> tuple[Period, Period]:
    """The part on which the settings are ranked, and the later part on which the best are judged."""
    begin, end = max(period.start, data.first_time), min(period.end, data.last_time() + data.step)
    if end <= begin:
        raise data.nothing_in(period)
    middle = end - (end - begin) * float(held_out)
    return Period(begin, middle), Period(middle, end)


def sweep(settings: Settings, args: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: else the workers would continue
    one_fee(args)
    data = MarketData(args.data, args.path)
    bots, refused = combinations(settings.bot, args)
    earlier, later = cut(Period(args.start, args.end), data, args.held_out)
    # Dask workers on other machines use the same paths. The settings sent to them hold no key.
    market = argparse.Namespace(**{**vars(args), "data": [file.resolve() for file in args.data]})
    folder = settings.config_path.resolve()
    tried = [Settings(bot=bot, paper=settings.paper, funds=settings.funds, config_path=folder) for bot in bots]
    jobs = [Job(each, market, earlier) for each in tried]
    progress = arguments.Progress()
    with workers(args.jobs, args.dask) as executor:
        progress(0)
        ranked, judged, unplayed = search(executor, jobs, later, args.top, progress)
    refused += unplayed
    if args.json:
        document = {
            "tried": [outcome.document() for outcome in ranked],
            "held_out": [outcome.document() for outcome in judged],
            "refused": refused,
            "verdict": verdict(ranked, judged),
        }
        return arguments.write(document)
    return arguments.write(text(ranked, judged, refused))


def verdict(ranked: list[Outcome], judged: list[Outcome]) -> str:
    """One plain sentence about the best settings on the part that did not choose them."""
    if not judged:
        return "none: the held-out part cannot be played with any of the best settings; try others, or a higher --top"
    best, name = judged[0].result, judged[0].job.name
    # Not always the first: those before it may be impossible on the later part.
    chosen_for = next(outcome.result.gain for outcome in ranked if outcome.job.name == name)
    other, gain = best.rival
    gained, others = signed_percent(best.gain), signed_percent(gain)
    if not best.buys + best.sells:
        return f"{name} filled no order; {other} came to {others}"
    if best.gain == gain:
        return f"{other} would have come to the same as {name}: {gained}"
    if best.gain < gain:
        return f"{other} was better: {others} against {gained} of the best settings ({name})"
    sentence = f"{name} did better than {other}: {gained} against {others}"
    if best.gain < 0:
        sentence += "; it lost money all the same"
    elif best.gain < chosen_for / 2:
        sentence += f"; but far less than the {signed_percent(chosen_for)} it was chosen for"
    return sentence


def text(ranked: list[Outcome], judged: list[Outcome], refused: list[str]) -> str:
    job = ranked[0].job
    lines = [f"{counted(len(ranked), 'setting')} tried on {ranked[0].result.span}, the best first"]
    most = max(MOST_SHOWN, len(judged))
    lines.append(_table(ranked[:most]))
    if len(ranked) > most:
        lines.append(f"... and {len(ranked) - most} worse (--json shows all)")
    if judged:
        lines += ["", f"the best on {judged[0].result.span}, which had no say in choosing them"]
        lines.append(_table(judged))
    lines += [f"left out: {reason}" for reason in refused]
    lines += ["", assumptions(job.settings, job.settings.bot, job.market)]
    return "\n".join([*lines, f"verdict: {verdict(ranked, judged)}"])


def _table(outcomes: list[Outcome]) -> str:
    """A row for each outcome, and one for each of the simple alternatives, which no setting changes."""
    result = outcomes[0].result
    rows: list[tuple[Cell, ...]] = [
        (o.job.name, signed_percent(o.result.gain), percent(o.result.drawdown), o.result.cycles) for o in outcomes
    ]
    rows.append(("holding", signed_percent(result.holding_gain), percent(result.holding_drawdown), None))
    rows.append(("buying at fixed times", signed_percent(result.regular_gain), None, None))
    titles = ("settings", "gain", "largest fall", "cycles")
    columns = [Column(title, title, "count" if n else "text") for n, title in enumerate(titles)]
    return Table(tuple(columns), tuple(rows)).text()
