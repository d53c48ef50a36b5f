"""The commands about the past, as their owner types them."""

import gzip
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from gridbot.core.chart import draw
from gridbot.core.cli import main
from gridbot.core.journal import records
from gridbot.infrastructure.audits import Snapshots
from gridbot.models.money import shown
from gridbot.services.funds import bound_by
from gridbot.services.messages import Units
from tests.past import BEGIN, ROOT, diced_candles, played, write_candles
from tests.settings import USERREF, config_ini
from tests.unit.test_replay import Session, prices

DATABASE = "[database]\npath = {}.db\n"
CONFIG = config_ini(DATABASE.format("none"), fee="0.25%")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.ini").write_text(CONFIG)
    write_candles(tmp_path / "a.csv", diced_candles(400, 7))
    return tmp_path


def told(folder: Path, capsys, *words: str, code: int = 0) -> str:
    command = [word if word != "a.csv" else str(folder / "a.csv") for word in words]
    assert main(["--config", str(folder / "config.ini"), *command]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_backtest_tells_wealth_against_holding_and_fixed_times(folder, capsys):
    out = told(folder, capsys, "backtest", "--data", "a.csv")
    for word in (
        *("cycles", "grid profit", "price move", "change", "accumulated", "fees", "held coins", "wealth", "holding"),
        *("fixed times", "verdict", "assumed"),
    ):
        assert f"\n{word}" in out, out


def test_backtest_as_json_holds_amounts_as_text(folder, capsys):
    document = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json", "--quote", "5000"))
    assert document["start_quote"] == "5000"
    assert document["candles"] == 400
    assert isinstance(document["profit"]["grid_profit"]["net"], str)


def keep_as_demo(past, folder: Path, strategy: str = "GridHODL", base: str = "0") -> None:
    """The backtest's database as that of a demo, with its config.ini."""
    past.desk._db.execute("UPDATE configuration SET market = 'Demo BTC/USD'")
    past.desk._db.execute("COMMIT")
    with closing(sqlite3.connect(folder / "past.db")) as file:
        past.desk._db.db.conn.backup(file)
    more = f"{DATABASE.format('past')}[paper]\nbase_balance = {base}\nquote_balance = 10000\n"
    (folder / "config.ini").write_text(config_ini(more, strategy=strategy, fee="0.25%"))


@pytest.mark.parametrize(("strategy", "base"), [("GridHODL", "0"), ("SWING", "0.05"), ("cDCA", "0")])
def test_the_lines_are_those_of_report_on_the_same_database(folder, capsys, strategy, base):
    past = played([folder / "a.csv"], base=base, changes={"strategy": strategy})
    keep_as_demo(past, folder, strategy=strategy, base=base)
    last = str(past.outcome.last_price)
    reported = json.loads(told(folder, capsys, "report", "--json", "--price", last))
    document = past.outcome.document()
    for key in ("profit", "held", "for_sale", "accumulated", "surplus", "price", "executions"):
        assert reported[key] == document[key], key
    moved = Decimal(base) * (past.outcome.last_price - past.outcome.first_price)
    gained = past.outcome.wealth - past.outcome.start_wealth
    assert Decimal(reported["profit"]["change"]["net"]) + moved == gained


def test_money_has_two_decimals_and_prices_no_padding_whatever_the_file_has(folder, capsys):
    padded = [tuple(f"{price}0000" for price in candle) for candle in diced_candles(200, 7)]
    write_candles(folder / "a.csv", padded)
    out = told(folder, capsys, "backtest", "--data", "a.csv")
    assert "price 50000 to " in out
    assert not re.search(r"\.\d{3,} USD", out), out


def test_prices_with_the_noise_of_floats_are_no_finer_than_money_can_be_counted(folder, capsys):
    noisy = [tuple(f"{price}000000000000000001" for price in candle) for candle in diced_candles(300, 7)]
    write_candles(folder / "a.csv", noisy)
    document = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json"))
    assert document["buys"] > 0


def test_the_options_change_the_settings_for_once(folder, capsys):
    usual = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json"))
    wide = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json", "--interval", "4%"))
    assert wide["buys"] < usual["buys"]


def test_what_cannot_work_is_refused_with_the_smallest_that_would(folder, capsys):
    err = told(folder, capsys, "backtest", "--data", "a.csv", "--interval", "0.3%", code=2)
    assert "The smallest interval that pays is 0.00503" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("backtest --data a.csv --price-decimals -3", "--price-decimals: -3: must be from 0 to 12"),
        ("backtest --data a.csv --price-decimals 40", "must be from 0 to 12"),
        ("backtest --data a.csv --quote -1", "--quote: -1: must not be negative"),
        ("backtest --data a.csv --quote 1e30", "must be a number of ordinary size"),
        ("backtest --data a.csv --fee-tiers 0:", "write VOLUME:FEE"),
        ("backtest --data a.csv --fee-tiers 0:-1%", "a rebate cannot be promised"),
        ("backtest --data a.csv --fee-tiers 100:0.1%", "the first tier begins at volume 0"),
        ("backtest --data a.csv --fee-tiers 0:0.4%,0:0.2%", "a volume stands there twice"),
        ("sweep --data a.csv --jobs -3", "--jobs: -3: must be from 1 to 256"),
        ("sweep --data a.csv --jobs 0", "must be from 1 to 256"),
        ("sweep --data a.csv --top 0", "--top: 0: must be from 1 to 10000"),
        ("sweep --data a.csv --top x", "must be a whole number"),
        ("sweep --data a.csv --intervals ,", "--intervals: ,: names nothing to try"),
        ("sweep --data a.csv --intervals 1%,150%", "--intervals: 1%,150%: must be more than 0 % and less than 100 %"),
        ("sweep --data a.csv --amounts 50,0", "--amounts: 50,0: must be more than 0; for example 50,100,200"),
        ("sweep --data a.csv --strategies SWING,Swong", "--strategies: SWING,Swong: there is no such strategy: did"),
        ("sweep --data a.csv --ns 5,x", "--ns: 5,x: must be a whole number; for example 3,5,10"),
        ("plan --price -1", "--price: -1: must be more than 0"),
        ("plan --price 0", "--price: 0: must be more than 0"),
        ("plan --quote much", "--quote: much: 'much' is not a number"),
        ("selftest --days 0", "--days: 0: must be from 1 to 3650"),
        ("selftest --days -1", "must be from 1 to 3650"),
        ("selftest --seed abc", "--seed: abc: must be a whole number; for example 0"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_before_anything_calculates_with_it(folder, capsys, words, says):
    with pytest.raises(SystemExit) as caught:
        main(["--config", str(folder / "config.ini"), *words.replace("a.csv", str(folder / "a.csv")).split()])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_backtest_without_any_money_is_refused(folder, capsys):
    err = told(folder, capsys, "backtest", "--data", "a.csv", "--quote", "0", code=2)
    assert err == "nothing to begin with: give --base or --quote more than 0\n"


def own(folder: Path, **amounts: str) -> None:
    with (folder / "config.ini").open("a") as file:
        file.write("".join(["[funds]\n", *(f"own_{name} = {amount}\n" for name, amount in amounts.items())]))


def test_a_backtest_plays_with_the_bots_own_money_only_and_says_so(folder, capsys):
    own(folder, quote="250")
    document = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--json"))
    assert (document["start_base"], document["start_quote"], document["start_wealth"]) == ("0", "250", "250.0")
    assert document["shortages"] > 0
    out = told(folder, capsys, "backtest", "--data", "a.csv")
    assert "assumed     0 BTC and 250 USD at the start, of [paper] only what is the bot's own by [funds]; " in out


def test_a_backtest_of_swing_leaves_coins_alone_that_are_not_its_own(folder, capsys):
    (folder / "config.ini").write_text(CONFIG + "[paper]\nbase_balance = 1\nquote_balance = 10000\n")
    words = ("backtest", "--data", "a.csv", "--json", "--strategy", "SWING")
    assert json.loads(told(folder, capsys, *words))["start_base"] == "1"
    own(folder, base="0")
    document = json.loads(told(folder, capsys, *words))
    assert (document["start_base"], document["start_quote"]) == ("0", "10000")


def test_a_backtest_of_swing_names_the_coins_it_begins_with_and_not_those_it_ends_with(folder, capsys):
    write_candles(folder / "a.csv", [("50000.0",) * 4, *[("52000.0",) * 4] * 3])
    out = told(folder, capsys, "backtest", "--data", "a.csv", "--strategy", "SWING", "--base", "0.5")
    assert "orders      0 buys and 1 sell filled" in out
    assert "found 0.50000000 BTC free that no buy of this bot brought in; SWING will sell them" in out


def test_money_named_on_the_command_line_is_played_whatever_the_bots_own_is(folder, capsys):
    own(folder, quote="250")
    words = ("backtest", "--data", "a.csv", "--quote", "5000")
    assert json.loads(told(folder, capsys, *words, "--json"))["start_quote"] == "5000"
    assert "assumed     0 BTC and 5000 USD at the start; " in told(folder, capsys, *words)


def test_a_sweep_plays_with_the_bots_own_money_only(folder, capsys):
    own(folder, quote="250")
    document = json.loads(told(folder, capsys, "sweep", "--data", "a.csv", "--jobs", "1", "--json"))
    assert [run["start_quote"] for run in (*document["tried"], *document["held_out"])] == ["250", "250"]


def test_an_interval_is_held_against_the_dearest_tier_whatever_the_fee_of_the_settings_is(folder, capsys):
    words = ("backtest", "--data", "a.csv", "--interval", "0.6%")
    err = told(folder, capsys, *words, "--fee-tiers", "0:0.40%,10000:0.20%", code=2)
    assert "two fees of 0.4 % cost more than a step of 0.6 % earns. The smallest interval that pays is 0.00807" in err
    told(folder, capsys, *words, "--fee-tiers", "0:0.20%")


@pytest.mark.parametrize("command", ["backtest", "sweep"])
def test_a_fee_that_is_named_in_two_ways_is_refused(folder, capsys, command):
    words = (command, "--data", "a.csv", "--fee", "0.1%", "--fee-tiers", "0:0.40%")
    assert told(folder, capsys, *words, code=2) == (
        "--fee and --fee-tiers both say what an order costs; give one of them\n"
    )


def test_a_price_of_which_the_interval_is_no_step_is_refused_as_it_is_live(folder, capsys):
    write_candles(folder / "a.csv", [("0.00000150", "0.00000151", "0.00000149", "0.00000150")] * 9)
    words = ("backtest", "--data", "a.csv", "--interval", "0.3%", "--fee", "0.1%", "--costmin", "0")
    err = told(folder, capsys, *words, code=2)
    assert err.startswith(
        "[grid] interval = 0.30 %: prices move in steps of 0.00000001, so that a buy @ 0.00000149 would"
    )
    told(folder, capsys, *words, "--strategy", "cDCA")  # which never sells


def test_a_price_that_falls_so_low_that_the_interval_is_no_step_does_not_end_it_as_it_would_not_live(folder, capsys):
    prices = [f"{price / 10:.1f}" for price in (*range(500, 20, -1), *range(20, 60))]
    write_candles(folder / "a.csv", [(price,) * 4 for price in prices])
    words = ("backtest", "--data", "a.csv", "--interval", "2%", "--amount", "10", "--strategy", "GridSell", "--json")
    document = json.loads(told(folder, capsys, *words))
    assert document["cycles"] > 5
    assert Decimal(document["profit"]["grid_profit"]["net"]) > 0, "no sell at a loss"


def test_a_foreign_file_is_refused_with_file_and_line(folder, capsys):
    (folder / "x.csv").write_text("Date;Close\n2018;1\n")
    err = told(folder, capsys, "backtest", "--data", str(folder / "x.csv"), code=2)
    assert "x.csv, line 1: 1 columns; expected are Kraken's candles" in err


def test_data_given_twice_is_all_of_it(folder, capsys):
    more = str(write_candles(folder / "b.csv", diced_candles(300, 8), begin=BEGIN + 60 * 400))
    document = json.loads(told(folder, capsys, "backtest", "--data", "a.csv", "--data", more, "--json"))
    assert document["candles"] == 700


def test_a_chart_is_one_file_that_needs_no_network(folder, capsys):
    pytest.importorskip("plotly")
    told(folder, capsys, "backtest", "--data", "a.csv", "--chart", str(folder / "out.html"))
    page = (folder / "out.html").read_text(encoding="utf-8")
    for name in ("price (USD)", "bought", "sold", "open buys", "wealth", "holding"):
        assert name in page
    assert 'src="http' not in page


@pytest.mark.parametrize(("interval", "size", "opacity"), [("1%", 7, 1), ("0.51%", 4, 0.35)])
def test_many_fills_do_not_hide_the_price_and_the_legend_shows_the_ladder(folder, monkeypatch, interval, size, opacity):
    pytest.importorskip("plotly")
    monkeypatch.setattr("gridbot.core.chart.MANY_FILLS", 100)
    past = played([folder / "a.csv"], changes={"interval": interval})
    figure = draw("title", past.tally, Units.of("BTC", "USD", past.strategy.settings.pair))
    marks = {trace.name: trace.marker for trace in figure.data}
    for name in ("bought", "sold"):
        assert (marks[name].size, marks[name].opacity) == (size, opacity)
    names = [trace.name for trace in figure.data]
    assert names.index("price (USD)") > max(names.index("sold"), names.index("open sells"))
    assert figure.layout.legend.itemsizing == "constant"


def test_a_chart_of_less_than_an_hour_has_lines_too(folder):
    pytest.importorskip("plotly")
    past = played([write_candles(folder / "a.csv", [("100.0", "103.0", "99.0", "101.0")])])
    figure = draw("title", past.tally, Units.of("BTC", "USD", past.strategy.settings.pair))
    lines = {trace.name: list(trace.y) for trace in figure.data if trace.mode == "lines"}
    assert lines["price (USD)"] == [100.0, 101.0]
    assert lines["wealth"] == [10000.0, float(past.outcome.wealth)]
    assert len(lines["holding"]) == 2


def test_the_title_of_a_chart_is_one_line(folder, capsys, monkeypatch):
    titles = []
    monkeypatch.setattr("gridbot.core.chart.find_spec", lambda name: "it is there")
    monkeypatch.setattr("gridbot.core.chart.write", lambda path, title, *rest: titles.append(title))
    words = ("backtest", "--data", "a.csv", "--strategy", "SWING", "--base", "1", "--chart", str(folder / "out.html"))
    assert "SWING will sell them" in told(folder, capsys, *words)
    [title] = titles
    assert title.startswith("SWING on BTC/USD: 5 buys of 100.00")
    assert title.endswith(" invested")


def test_a_chart_does_not_take_the_place_of_the_database_before_the_first_start(folder, capsys, monkeypatch):
    monkeypatch.setattr("gridbot.core.chart.find_spec", lambda name: "it is there")
    err = told(folder, capsys, "backtest", "--data", "a.csv", "--chart", str(folder / "none.db"), code=2)
    assert "none.db: is the bot's own file, and is not replaced" in err


@pytest.mark.parametrize("name", ["config.ini", "a.csv"])
def test_a_chart_replaces_nothing_but_an_older_chart(folder, capsys, monkeypatch, name):
    monkeypatch.setattr("gridbot.core.chart.find_spec", lambda name: "it is there")
    before = (folder / name).read_bytes()
    err = told(folder, capsys, "backtest", "--data", "a.csv", "--chart", str(folder / name), code=2)
    assert err.startswith("--chart ")
    assert (folder / name).read_bytes() == before


def test_a_chart_in_a_folder_that_is_not_there_is_refused_before_the_work(folder, capsys, monkeypatch):
    monkeypatch.setattr("gridbot.core.chart.find_spec", lambda name: "it is there")
    monkeypatch.setattr("gridbot.core.commands_past.Backtest", None)
    for target in (folder / "nowhere" / "x.html", folder):
        err = told(folder, capsys, "backtest", "--data", "a.csv", "--chart", str(target), code=2)
        assert err == f"--chart {target}: cannot be written. Name a file in a folder you may write to\n"


def test_without_plotly_the_message_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setattr("gridbot.core.chart.find_spec", lambda name: None)
    err = told(folder, capsys, "backtest", "--data", "a.csv", "--chart", str(folder / "o.html"), code=2)
    assert 'pip install "plotly>=5"' in err


def test_sweep_shows_how_far_it_is_and_ends_with_a_verdict(folder, capsys, monkeypatch):
    steps = []
    monkeypatch.setattr("gridbot.core.arguments.Progress", lambda: steps.append)
    out = told(folder, capsys, "sweep", "--data", "a.csv", "--intervals", "1%,2%", "--jobs", "1")
    assert steps == [0, 0.5, 1]
    assert out.startswith("2 settings tried")
    assert out.splitlines()[-1].startswith("verdict: ")


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted, no result\n"),
        (signal.SIGTERM, 130, "interrupted, no result\n"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_an_interrupted_sweep_ends_at_once_with_its_workers_whatever_they_do(folder, sent, code, said):
    (folder / "slow_strategy.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(60)\n")
    text = (folder / "config.ini").read_text().replace("GridHODL", "slow_strategy:Slow")
    (folder / "config.ini").write_text(text)
    words = ("sweep", "--data", "a.csv", "--intervals", "1%,2%,3%", "--jobs", "2")
    command = [sys.executable, ROOT / "gridbot.py", *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    while not (folder / "begun").exists():
        assert time.monotonic() < began + 20
        time.sleep(0.02)
    process.send_signal(sent)
    assert process.communicate(timeout=20) == ("", said)  # which waits for all who hold the pipes, workers, too
    assert process.returncode == code


def test_plan_shows_the_ladder_and_sends_nothing(folder, capsys):
    out = told(folder, capsys, "plan", "--price", "50000")
    assert "place   buy  0.00202000 BTC @ 49504.9 USD" in out
    assert out.endswith("nothing was sent\n")
    assert not (folder / "none.db").exists()


def test_plan_goes_on_from_the_price_and_the_funds_the_bot_has_seen(folder, capsys):
    past = played([folder / "a.csv"])
    funds, bound = past.desk.funds, bound_by(past.desk.book, (), past.desk.funds.fee)
    seen = {
        "price": str(past.outcome.last_price),
        "fee": str(funds.fee),
        "base_untraded": str(funds.base_available + bound[0] - past.desk.traded[0]),
        "quote_untraded": str(funds.quote_available + bound[1] - past.desk.traded[1]),
        "price_decimals": 1,
    }
    Snapshots(past.desk._db, 7).put(time.time() - 7200, seen)
    keep_as_demo(past, folder)
    out = told(folder, capsys, "plan")
    assert f"price {past.outcome.last_price} (from what the bot saw, 2 h ago; --price sets another)" in out
    free = shown(funds.quote_available)
    assert f"and {free} USD (what the bot saw 2 h ago and its orders since; --base and --quote set others)" in out
    assert "nothing to place, nothing to cancel: the grid is in order" in out
    asked = told(folder, capsys, "plan", "--price", "50000", "--base", "0", "--quote", "300")
    assert "price 50000.0 (as asked)" in asked
    assert "free 0.00000000 BTC and 300.00 USD (as asked)" in asked


def test_plan_without_books_says_whose_money_it_counts(folder, capsys):
    out = told(folder, capsys, "plan")
    assert "price 50000.0 ([demo] start_price; --price sets another)" in out
    assert "and 10000.00 USD ([paper] and [funds], not your account: give --base and --quote)" in out


def test_plan_without_books_counts_no_more_than_the_funds_that_are_the_bots_own(folder, capsys):
    with (folder / "config.ini").open("a") as file:
        file.write("[funds]\nown_base = 0\nown_quote = 250\n")
    out = told(folder, capsys, "plan")
    assert "free 0.00000000 BTC and 250.00 USD" in out
    assert out.count("place   buy") == 2
    out = told(folder, capsys, "plan", "--base", "1.5", "--quote", "20000")
    assert "free 0.00000000 BTC and 250.00 USD (of what is asked for so much is the bot's own by [funds])" in out
    assert out.count("place   buy") == 2


def test_a_backtest_imports_nothing_of_the_network(folder):
    code = (
        "import sys; from gridbot.core.cli import main; "
        f"main(['--config', {str(folder / 'config.ini')!r}, 'backtest', '--data', {str(folder / 'a.csv')!r}]); "
        "print([m for m in ('requests', 'websocket', 'tenacity', 'urllib3', 'plotly', 'distributed') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_replay_says_that_every_decision_was_the_same_and_needs_no_settings(folder, capsys, monkeypatch):
    session = Session(folder).live(prices(60))
    monkeypatch.chdir(folder)
    (folder / "config.ini").unlink()
    assert main(["replay", str(session.path)]) == 0
    assert "all the same, byte for byte" in capsys.readouterr().out


def test_replay_of_another_decision_ends_with_1(folder, capsys, monkeypatch):
    session = Session(folder).live(prices(220))
    monkeypatch.setattr("gridbot.strategies.grid_rules.SHIFT_UP_MARGIN", Decimal("1.01"))
    assert main(["--config", str(folder / "config.ini"), "replay", str(session.path)]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out


def test_replay_of_a_damaged_journal_ends_with_1_and_says_where(folder, capsys):
    whole = Session(folder).live(prices(60)).path.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    damaged = {
        f"line {number} ": gzip.compress(b"".join([*lines[: number - 1], line, *lines[number:]]))
        for number, line in (
            (150, b"[]\n"),
            (151, b'{"n":1}\n'),
            (152, b'{"n":"feed.on_'),
            (153, b'{"n":"queue.get","r":{"$decimal":"1x"}}\n'),
        )
    }
    # A bit that has left records, and no other trace than this.
    damaged[f"line {len(lines) + 1} "] = whole[:-8] + b"crc " + whole[-4:]
    for where, content in damaged.items():
        (folder / "j.gz").write_bytes(content)
        assert main(["replay", str(folder / "j.gz")]) == 1
        out = capsys.readouterr().out
        assert f"j.gz is damaged at {where}or before it (" in out
        assert "all the same so far, BUT THE JOURNAL IS DAMAGED" in out
        assert "byte for byte" not in out


@pytest.fixture
def lived(folder: Path) -> Path:
    """A bot that has traded, and t.csv: the prices it heard."""
    session = Session(folder).live(prices(220))
    with (folder / "t.csv").open("w") as file:
        for _, record in records(session.path):
            for message in record["r"] if record["n"] == "feed.on_message" else ():
                if message.ticker_data is not None:
                    file.write(f"{message.ticker_data.time:.6f},{message.ticker_data.last},1\n")
    with closing(sqlite3.connect(folder / "bot.db")) as db:
        db.execute("UPDATE configuration SET market = 'Demo BTC/USD'")
        db.commit()
    text = config_ini(DATABASE.format("bot"), userref=USERREF, fee="0.25%")
    (folder / "config.ini").write_text(text)
    return folder


def against_live(folder: Path) -> tuple[str, ...]:
    return ("backtest", "--data", str(folder / "t.csv"), "--against-live", "--quote", "100000")


def test_backtest_against_live_takes_the_bots_own_period(lived, capsys):
    live = json.loads(told(lived, capsys, *against_live(lived), "--json"))["live"]
    assert live["pairs"] > 10
    assert (live["only_live"], live["only_backtest"], live["live_outside_data"]) == (0, 0, 0)
    assert live["difference"] == "0" or Decimal(live["difference"]) == 0
    assert live["books"] == "not reconciled: there was no audit yet"


def test_backtest_against_live_compares_as_much_as_the_data_cover(lived, capsys):
    lines = (lived / "t.csv").read_text().splitlines(keepends=True)
    last_minute = float(lines[-1].split(",")[0]) // 60 * 60
    (lived / "t.csv").write_text("".join(line for line in lines if float(line.split(",")[0]) < last_minute))
    live = json.loads(told(lived, capsys, *against_live(lived), "--json"))["live"]
    assert (live["only_live"], live["only_backtest"]) == (0, 0)
    assert min(live["pairs"], live["live_outside_data"]) > 2


def test_the_parts_of_the_difference_to_live_add_up_to_the_last_digit_and_as_shown(lived, capsys):
    with closing(sqlite3.connect(lived / "bot.db")) as db:  # costs that are not price x volume, as when fills are cut
        costs = db.execute("SELECT cost, exec_id FROM trades").fetchall()
        less = [(f"{Decimal(cost) * Decimal('0.99991'):f}", exec_id) for cost, exec_id in costs]
        db.executemany("UPDATE trades SET cost = ? WHERE exec_id = ?", less)
        db.commit()
    asked = *against_live(lived), "--fee", "0.31%", "--max-investment", "450"
    live = json.loads(told(lived, capsys, *asked, "--json"))["live"]
    names = ("from_fees", "from_prices", "only_live_value", "only_backtest_value")
    parts = [Decimal(live[name]) for name in names]
    assert all(parts[:3])
    assert sum(parts) == Decimal(live["difference"]) == Decimal(live["live"]) - Decimal(live["backtest"])
    text = re.sub(r"\s+", " ", told(lived, capsys, *asked).partition("\nlive ")[2].partition("live books")[0])
    of_live, past, difference, *parts = map(Decimal, re.findall(r"(-?\d+\.\d\d) USD", text))
    assert difference == of_live - past == sum(parts)


def test_backtest_against_live_takes_no_books_of_another_pair(lived, capsys):
    text = (lived / "config.ini").read_text()
    (lived / "config.ini").write_text(text.replace("base_currency = BTC", "base_currency = ETH"))
    err = told(lived, capsys, *against_live(lived), code=2)
    assert "bot.db: holds the books of Demo BTC/USD, and the settings ask for Demo ETH/USD" in err
