"""The search: every combination, ranked on one part of the data, judged on a later one."""

import argparse
import os
import re
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from gridbot.core.backtest_result import Result
from gridbot.core.backtest_result import verdict as backtest_verdict
from gridbot.core.candles import MarketData, Period
from gridbot.core.commands_past import add_market, paying_fee
from gridbot.core.sweep import Job, Outcome, combinations, cut, run_job, search, text, verdict, workers
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.models.configuration import PaperConfigDTO, Settings
from tests.past import BEGIN, bot, diced_candles, played, write_candles


class AtOnce:
    """An executor that works in this process, and remembers what it was given."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def submit(self, run, job):
        self.jobs.append(job)
        future: Future = Future()
        try:
            future.set_result(run(job))
        except ConfigurationError as exc:
            future.set_exception(exc)
        return future


def job(file: Path, period: Period = Period(), **changes: object) -> Job:  # noqa: B008 - frozen
    parser = argparse.ArgumentParser()
    add_market(parser)
    paper = PaperConfigDTO(base_balance="0", quote_balance="10000")
    return Job(Settings(bot=bot(**changes), paper=paper), parser.parse_args(["--data", str(file)]), period)


@pytest.fixture
def file(tmp_path):
    return write_candles(tmp_path / "a.csv", diced_candles(500, 31))


def test_a_job_is_a_backtest(file):
    assert run_job(job(file)).result == played([file]).outcome


def test_the_held_out_part_is_later_and_nothing_of_it_chooses(file):
    data = MarketData([file])
    earlier, later = cut(Period(), data, Decimal("0.3"))
    assert (earlier.start, earlier.end) == (BEGIN, later.start)
    assert later.end == BEGIN + 500 * 60
    assert later.start == BEGIN + 500 * 60 * 0.7
    executor = AtOnce()
    jobs = [job(file, earlier, interval=interval) for interval in ("1%", "2%", "4%")]
    ranked, judged, _ = search(executor, jobs, later, top=2)
    assert [j.period for j in executor.jobs] == [earlier] * 3 + [later] * 2
    assert [o.result.gain for o in ranked] == sorted((o.result.gain for o in ranked), reverse=True)
    assert [o.job.name for o in judged] == [o.job.name for o in ranked[:2]]
    assert all(o.result.begin >= later.start for o in judged)


def test_the_first_minute_of_trades_counts_although_its_first_trade_comes_later(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("".join(f"{BEGIN + 35 + 7 * n},{50000 - n}.0,1\n" for n in range(60)))
    earlier, _ = cut(Period(), MarketData([file]), Decimal("0.5"))
    assert run_job(job(file, earlier)).result == played([file], period=Period(0, earlier.end)).outcome
    assert run_job(job(file, earlier)).result.first_price == 50000


def test_what_the_prices_of_the_file_rule_out_is_left_out_with_its_reason(file):
    jobs = [job(file), job(file, amount_per_grid="2", max_investment="10000")]
    ranked, judged, refused = search(AtOnce(), jobs, Period(), top=2)
    assert [o.job.name for o in ranked] == [o.job.name for o in judged] == [jobs[0].name]
    [reason] = refused
    assert reason.startswith(jobs[1].name)
    assert "Raise amount_per_grid" in reason
    with pytest.raises(ConfigurationError, match="Raise amount_per_grid"):
        search(AtOnce(), jobs[1:], Period(), top=1)


def test_what_was_tried_is_shown_although_the_best_are_impossible_in_the_held_out_part(tmp_path):
    candles = diced_candles(700, 31) + diced_candles(300, 32, start=500000.0)
    file = write_candles(tmp_path / "r.csv", candles)
    earlier, later = cut(Period(), MarketData([file]), Decimal("0.3"))
    ranked, judged, refused = search(AtOnce(), [job(file, earlier, amount_per_grid="6")], later, top=1)
    shown = text(ranked, judged, refused)
    assert shown.startswith("1 setting tried on ")
    assert f"left out: {ranked[0].job.name}, in the held-out part: [grid] amount_per_grid = 6: too little" in shown
    assert shown.splitlines()[-1].startswith("verdict: none: the held-out part cannot be played")


def test_every_combination_is_tried_and_hopeless_ones_are_named():
    args = argparse.Namespace(
        strategies=("GridHODL", "GridSell"),
        intervals=("0.4%", "1%", "2%"),
        amounts=("50", "100"),
        ns=(None,),
        fee=None,
        fee_tiers=(),
    )
    bots, refused = combinations(bot(), args)
    assert len(bots) == 8
    assert len(refused) == 4
    assert refused[0].startswith("GridHODL 0.4% 50: interval: this grid loses on every round")


def test_a_combination_that_loses_at_the_dearest_tier_is_left_out_with_its_reason():
    args = argparse.Namespace(
        strategies=(None,),
        intervals=("0.6%", "1%"),
        amounts=(None,),
        ns=(None,),
        fee=None,
        fee_tiers=((Decimal(0), Decimal("0.004")), (Decimal(10000), Decimal("0.001"))),
    )
    bots, refused = combinations(bot(), args)
    assert [b.interval for b in bots] == [Decimal("0.01")]
    assert "0.6%" in refused[0]
    assert "two fees of 0.4 % cost more than a step of 0.6 %" in refused[0]


def test_the_first_orders_pay_the_first_tier_whatever_the_settings_say():
    assert paying_fee(bot(fee="0.1%"), ((Decimal(0), Decimal("0.004")), (Decimal(10), Decimal("0.001")))) == Decimal(
        "0.004"
    )


def test_nothing_but_hopeless_settings_is_an_error():
    args = argparse.Namespace(
        strategies=(None,), intervals=("0.4%",), amounts=(None,), ns=(None,), fee=None, fee_tiers=()
    )
    with pytest.raises(ConfigurationError, match="none of these settings can work"):
        combinations(bot(), args)


def test_a_value_that_is_named_twice_is_tried_once():
    args = argparse.Namespace(
        strategies=(None,),
        intervals=("1%", "0.01", "0.4%", "0.4%"),
        amounts=(None,),
        ns=(None,),
        fee=None,
        fee_tiers=(),
    )
    bots, refused = combinations(bot(), args)
    assert [b.interval for b in bots] == [Decimal("0.01")]
    assert len(refused) == 1


def outcome(file: Path, gain: str, holding: str, regular: str = "-1") -> Outcome:
    result: Result = played([file], period=Period(BEGIN, BEGIN + 6000)).outcome
    changed = replace(
        result,
        wealth=result.start_wealth * (1 + Decimal(gain)),
        holding=result.start_wealth * (1 + Decimal(holding)),
        regular=result.start_wealth * (1 + Decimal(regular)),
    )
    return Outcome(job(file), changed)


@pytest.mark.parametrize(
    ("chosen", "judged", "holding", "said"),
    [
        ("0.50", "0.05", "0.20", "holding was better: +20.00 % against +5.00 % of the best settings"),
        ("0.50", "0.40", "0.20", "did better than holding: +40.00 % against +20.00 %"),
        ("0.50", "0.10", "0.05", "but far less than the +50.00 % it was chosen for"),
        ("0.50", "-0.10", "-0.40", "it lost money all the same"),
    ],
)
def test_the_verdict_is_plain(file, chosen, judged, holding, said):
    assert said in verdict([outcome(file, chosen, "0")], [outcome(file, judged, holding)])


def test_settings_that_filled_no_order_are_not_called_better(file):
    idle = outcome(file, "0", "-0.10")
    idle = replace(idle, result=replace(idle.result, buys=0, sells=0))
    said = "GridHODL interval 1 % amount 100 n 5 filled no order; holding came to -10.00 %"
    assert verdict([idle], [idle]) == said


def test_the_verdict_compares_settings_with_their_own_first_part_also_behind_impossible_ones(file):
    impossible_later = replace(outcome(file, "0.90", "0"), job=job(file, interval="2%"))
    chosen, judged = outcome(file, "0.30", "0"), outcome(file, "0.20", "0.10")
    said = verdict([impossible_later, chosen], [judged])
    assert said.endswith("did better than holding: +20.00 % against +10.00 %")


@pytest.mark.parametrize(
    ("regular", "said"),
    [
        ("0.30", "buying at fixed times was better: +30.00 % against +25.00 % of the best settings"),
        ("0.25", "buying at fixed times would have come to the same as GridHODL interval 1 % amount 100 n 5: +25.00 %"),
        ("0.10", "GridHODL interval 1 % amount 100 n 5 did better than holding: +25.00 % against +20.00 %"),
    ],
)
def test_the_verdict_is_that_of_backtest_and_knows_buying_at_fixed_times(file, regular, said):
    run = outcome(file, "0.25", "0.20", regular)
    assert verdict([run], [run]).startswith(said)
    rival = "holding" if "holding" in said else "buying at fixed times"
    assert rival in backtest_verdict(run.result)


def test_the_text_says_when_with_what_and_at_what_cost(file):
    tried, judged = (run_job(job(file, Period(BEGIN + a, BEGIN + b))) for a, b in ((0, 15000), (15000, 30000)))
    shown = text([tried], [judged], [])
    assert "1 setting tried on 2020-09-13 12:27 to 2020-09-13 16:37, the best first" in shown
    assert "the best on 2020-09-13 16:37 to 2020-09-13 20:47, which had no say in choosing them" in shown
    assert "\nassumed     0 BTC and 10000 USD at the start; " in shown
    assert "high-first within a candle (another --path may give less); fee 0.25 % a side; " in shown


def test_the_text_names_settings_and_verdict(file):
    one = outcome(file, "0.1", "0.2")
    shown = text([one], [one], ["0.4%: no"])
    assert "GridHODL interval 1 % amount 100 n 5" in shown
    assert "left out: 0.4%: no" in shown
    assert re.search(r"^holding +\+20\.00 % ", shown, re.MULTILINE)
    assert re.search(r"^buying at fixed times +-100\.00 % ", shown, re.MULTILINE)
    assert shown.splitlines()[-1].startswith("verdict: holding was better")


@pytest.mark.parametrize(("judged", "said"), [(5, "... and 12 worse"), (30, "... and 2 worse"), (32, "")])
def test_the_settings_that_are_not_shown_are_counted(file, judged, said):
    one = outcome(file, "0.01", "0.02")
    shown = text([one] * 32, [one] * judged, [])
    assert [line for line in shown.splitlines() if "worse" in line] == ([f"{said} (--json shows all)"] if said else [])


def test_processes_of_this_machine_do_the_same_work(file):
    with workers(2, None) as executor:
        ranked, judged, _ = search(executor, [job(file), job(file, interval="2%")], Period(), top=1)
    assert {o.job.name: o.result for o in ranked} == {
        o.job.name: o.result for o in (run_job(job(file)), run_job(job(file, interval="2%")))
    }
    assert judged[0].result == ranked[0].result


def test_a_dask_cluster_does_the_same_work(file):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
        ) as cluster,
        workers(None, cluster.scheduler_address) as executor,
    ):
        ranked, _, _ = search(executor, [job(file)], Period(), top=1)
    assert ranked[0].result == run_job(job(file)).result


def test_a_worker_that_is_killed_ends_the_sweep_with_a_sentence():
    with pytest.raises(GridBotError, match="a worker process of the sweep was killed"), workers(1, None) as pool:
        pool.submit(os._exit, 1).result()


@pytest.mark.parametrize("gone", [CancelledError, KeyError])
def test_a_dask_cluster_that_goes_away_ends_the_sweep_with_a_sentence(monkeypatch, gone):
    class Client(nullcontext):
        def __init__(self, address, timeout):
            super().__init__()

        def get_executor(self):
            return nullcontext()

    distributed = SimpleNamespace(Client=Client, KilledWorker=KeyError)
    monkeypatch.setattr("gridbot.core.sweep.import_module", lambda _name: distributed)
    with pytest.raises(GridBotError, match="--dask tcp://x:1: the cluster, or too many"), workers(None, "tcp://x:1"):
        raise gone


def test_without_dask_the_message_says_what_to_install(monkeypatch):
    def without(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("gridbot.core.sweep.import_module", without)
    with pytest.raises(ConfigurationError, match=r'pip install "dask\[distributed\]"'), workers(None, "tcp://x:1"):
        pass
