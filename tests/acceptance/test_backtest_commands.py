"""The commands about the past, as their owner types them."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from gridbot.core.cli import main
from gridbot.core.journal import records, unpacked
from tests.past import ROOT, diced_candles, write_candles
from tests.unit.test_replay import Session, prices
from tests.world import USERREF

CONFIG = """
[bot]
name = past
exchange = Demo
userref = 7
strategy = GridHODL
base_currency = BTC
quote_currency = USD
[grid]
amount_per_grid = 100
interval = 1%
n_open_buy_orders = 5
max_investment = 10000
fee = 0.25%
[database]
path = none.db
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.ini").write_text(CONFIG)
    write_candles(tmp_path / "a.csv", diced_candles(1200, 7))
    return tmp_path


def told(folder: Path, capsys, *words: str, code: int = 0) -> str:
    command = [word if word != "a.csv" else str(folder / "a.csv") for word in words]
    assert main(["--config", str(folder / "config.ini"), *command]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_backtest_tells_wealth_against_holding_and_fixed_times(folder, capsys):
    out = told(folder, capsys, "backtest", "--data", "a.csv")
    for word in ("wealth", "holding", "fixed times", "cycles", "fees", "in market", "verdict", "assumed"):
        assert f"\n{word}" in out, out


def test_backtest_as_json_holds_amounts_as_text(folder, capsys):
    document = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json", "--quote", "5000"))
    assert document["start_quote"] == "5000"
    assert document["candles"] == 1200
    assert isinstance(document["profit"], str)


def test_the_options_change_the_settings_for_once(folder, capsys):
    usual = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json"))
    wide = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json", "--interval", "4%"))
    assert wide["buys"] < usual["buys"]


def test_what_cannot_work_is_refused_with_the_smallest_that_would(folder, capsys):
    err = told(folder, capsys, "backtest", "--data", "a.csv", "--interval", "0.3%", code=2)
    assert "The smallest interval that pays is 0.00503" in err


def test_a_foreign_file_is_refused_with_file_and_line(folder, capsys):
    (folder / "x.csv").write_text("Date;Close\n2018;1\n")
    err = told(folder, capsys, "backtest", "--data", str(folder / "x.csv"), code=2)
    assert "x.csv, line 1: 1 columns; expected are Kraken's candles" in err


def test_a_chart_is_one_file_that_needs_no_network(folder, capsys):
    pytest.importorskip("plotly")
    told(folder, capsys, "backtest", "--data", "a.csv", "--chart", str(folder / "out.html"))
    page = (folder / "out.html").read_text(encoding="utf-8")
    for name in ("price (USD)", "bought", "sold", "open buys", "wealth", "holding"):
        assert name in page
    assert 'src="http' not in page


def test_without_plotly_the_message_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setattr("gridbot.core.chart.find_spec", lambda name: None)
    err = told(folder, capsys, "backtest", "--data", "a.csv", "--chart", str(folder / "o.html"), code=2)
    assert 'pip install "plotly>=5"' in err


def test_sweep_ends_with_a_verdict(folder, capsys):
    out = told(folder, capsys, "sweep", "--data", "a.csv", "--intervals", "1%,2%", "--jobs", "1")
    assert out.startswith("2 settings tried")
    assert out.splitlines()[-1].startswith("verdict: ")


def test_plan_shows_the_ladder_and_sends_nothing(folder, capsys):
    out = told(folder, capsys, "plan", "--price", "50000")
    assert "place   buy  0.00202000 BTC @ 49504.9 USD" in out
    assert out.endswith("nothing was sent\n")
    assert not (folder / "none.db").exists()


def test_a_backtest_imports_nothing_of_the_network(folder):
    code = (
        "import sys; from gridbot.core.cli import main; "
        f"main(['--config', {str(folder / 'config.ini')!r}, 'backtest', '--data', {str(folder / 'a.csv')!r}]); "
        "print([m for m in ('requests', 'websocket', 'tenacity', 'urllib3', 'plotly', 'distributed') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_replay_says_that_every_decision_was_the_same(folder, capsys):
    session = Session(folder).live(prices(60))
    out = told(folder, capsys, "replay", str(session.path))
    assert "all the same, byte for byte" in out


def test_replay_of_another_decision_ends_with_1(folder, capsys, monkeypatch):
    session = Session(folder).live(prices(220))
    monkeypatch.setattr("gridbot.strategies.grid_rules.SHIFT_UP_MARGIN", Decimal("1.01"))
    assert main(["--config", str(folder / "config.ini"), "replay", str(session.path)]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out


def test_backtest_against_live_takes_the_bots_own_period(folder, capsys):
    session = Session(folder).live(prices(220))
    with (folder / "t.csv").open("w") as file:
        for _, record in records(session.path):
            for message in unpacked(record["m"]) if record["k"] == "frame" else ():
                if message.ticker_data is not None:
                    file.write(f"{message.ticker_data.time:.6f},{message.ticker_data.last},1\n")
    text = CONFIG.replace("none.db", "bot.db").replace("userref = 7", f"userref = {USERREF}")
    (folder / "config.ini").write_text(text)
    out = told(
        folder, capsys, "backtest", "--data", str(folder / "t.csv"), "--against-live", "--json", "--quote", "100000"
    )
    live = json.loads(out)["live"]
    assert live["pairs"] > 10
    assert (live["only_live"], live["only_backtest"]) == (0, 0)
    assert live["difference"] == "0" or Decimal(live["difference"]) == 0
