"""``report``, ``status`` and ``audit`` as a user meets them, on the books of a real demo run with a fixed seed."""

import argparse
import csv
import io
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal as D
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from gridbot.adapters.exchanges.demo import TICK
from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.core import single_instance
from gridbot.core.cli import main
from gridbot.core.commands_audit import run_audit
from gridbot.core.commands_books import Books, known_price, read_books
from gridbot.core.config_file import describe, load_settings
from gridbot.core.process import build
from gridbot.exceptions import ConfigurationError, GridBotError, InsufficientFunds, OrderRejected
from gridbot.infrastructure.database import DBConnect, Trades
from gridbot.models.configuration import FundsConfigDTO, Settings
from gridbot.models.events import BotStarted, Event, FundsShort, StatusUpdate
from gridbot.models.exchange import BUY
from gridbot.models.grid import EXTRA, SURPLUS
from tests.fake_kraken import FakeKraken
from tests.fake_kraken.server import FakeKrakenServer
from tests.integration.test_bot_over_sockets import bot, soon
from tests.settings import config_ini
from tests.world import ManualClock, World

USERREF = 7
REPOSITORY = Path(__file__).parents[2]

MORE = """\
[paper]
base_balance = {base}
quote_balance = {quote}
[demo]
seed = 42
volatility = 0.3%
[database]
path = demo.db
"""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    single_instance.release_all()


def configure(*, base: str = "0", quote: str = "10000", more: str = "", **changes: str) -> Path:
    path = Path("config.ini")
    sections = MORE.format(base=base, quote=quote) + more
    path.write_text(config_ini(sections, **({"interval": "0.5%", "fee": "0.1%"} | changes)))
    return path


# Runs that several tests begin with: made once, copied for each of them.
_runs: dict[tuple[object, ...], tuple[dict[str, bytes], list[Event]]] = {}


def trade_for_a_while(ticks: int = 150, **changes: str) -> list[Event]:
    """Run the demo bot for so many prices, or go on with it, and stop it as a user would."""
    if Path("demo.db").exists():
        return _trade(ticks, **changes)
    key = (ticks, *sorted(changes.items()))
    if key not in _runs:
        told = _trade(ticks, **changes)
        _runs[key] = {path.name: path.read_bytes() for path in Path().glob("*.db")}, told
    configure(**changes)
    for name, content in _runs[key][0].items():
        Path(name).write_bytes(content)
    return _runs[key][1]


def _trade(ticks: int, is_killed: bool = False, **changes: str) -> list[Event]:
    engine = build(load_settings(configure(**changes)), ManualClock())
    told: list[Event] = []
    engine.event_bus.subscribe(Event, told.append)
    engine.strategy.run(engine._queue.put)
    for _ in range(ticks):
        engine._queue.put(TICK)
        while not engine._queue.empty():
            engine.step(0.01)
        engine._clock.now += 1.0  # type: ignore[attr-defined]
    if is_killed:
        engine.strategy.stop()  # the thread of the market dies with the process
        return told
    engine.strategy.send_status_update()
    engine._end(0, "asked to stop")
    return told


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main(list(words))
    except SystemExit as exc:  # argparse
        code = int(str(exc.code))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_killed_demo_is_valued_at_the_market_s_price_and_not_at_that_of_its_last_simulated_fill(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _trade(150, is_killed=True)
    with closing(sqlite3.connect("demo.db")) as db:
        [(filled_at,)] = db.execute("SELECT max(time) FROM trades").fetchall()
        [(seen_at, document)] = db.execute("SELECT at, document FROM snapshots").fetchall()
        book = [(side, D(price)) for side, price in db.execute("SELECT side, price FROM orderbook")]
    assert seen_at > filled_at - 20  # seconds: ten between two views, and a loaded machine
    # The grid may have moved since: an open buy above the price seen then tells that it rose.
    highest_buy = max((price for side, price in book if side == "buy"), default=D(0))
    lowest_sell = min((price for side, price in book if side == "sell"), default=D("Infinity"))
    code, out, _ = run(capsys, "status", "--json")
    assert code == 0
    seen, told = D(json.loads(document)["price"]), json.loads(out)
    assert D(told["price"]) == min(max(seen, highest_buy), lowest_sell)
    assert D(told["price"]) != seen or told["price_origin"].startswith("from what the bot saw")


@pytest.mark.parametrize(
    ("buys", "sells", "price", "origin"),
    [
        ((), (), 49000, "from what the bot saw, 1 s ago"),
        ((48000,), (50000,), 49000, "from what the bot saw, 1 s ago"),
        ((49500,), (), 49500, "at least, from the highest open buy"),
        ((), (48500,), 48500, "at most, from the lowest open sell"),
        ((49100,), (49200,), 49100, "at least, from the highest open buy"),
    ],
)
def test_coins_are_not_valued_at_a_price_that_would_have_filled_an_open_order(
    buys: tuple[int, ...], sells: tuple[int, ...], price: int, origin: str
) -> None:
    orders = {"buys": buys, "sells": sells}
    book = {name: [SimpleNamespace(price=D(price)) for price in prices] for name, prices in orders.items()}
    books = SimpleNamespace(rows=[], snapshot={"at": 1.0, "price": "49000"}, simulated=True, **book)
    assert known_price(books, None, 2.0) == (price, f"{origin}; --price sets another")  # type: ignore[arg-type]


def test_a_demo_run_is_reconciled_to_the_last_digit(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    code, out, _ = run(capsys, "audit")
    assert code == 0
    assert out.splitlines()[-1] == "reconciled"
    with closing(DBConnect("demo.db", read_only=True)) as db:
        rows = Trades(db, USERREF).all()
    assert len(rows) > 20
    assert out.startswith(f"compared {len(rows)} executions and ")
    assert "books       reconciled" in run(capsys, "status")[1]
    assert "books: reconciled" in run(capsys, "report")[1]


def test_an_audit_leaves_the_simulated_exchange_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    before = Path("demo.exchange.db").read_bytes()
    run(capsys, "audit")
    assert Path("demo.exchange.db").read_bytes() == before
    assert not list(Path().glob("gridbot-audit-*"))


def test_a_fee_changed_by_one_digit_is_found_and_shown_wherever_a_profit_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trade_for_a_while()
    with closing(sqlite3.connect("demo.db")) as db, db:
        exec_id, fee = db.execute("SELECT exec_id, fee FROM trades LIMIT 1").fetchone()
        wrong = f"{D(fee) + D('0.00001'):f}"
        db.execute("UPDATE trades SET fee = ? WHERE exec_id = ?", (wrong, exec_id))
    code, out, _ = run(capsys, "audit")
    assert code == 1
    assert f"fee {wrong} in the bot's books, {fee} at the exchange" in out
    assert out.splitlines()[-1] == "not reconciled by 1 difference"
    assert "not reconciled by 1 difference" in run(capsys, "status")[1]
    assert "not reconciled by 1 difference" in run(capsys, "report", "--csv")[1]


def test_an_execution_lost_from_the_books_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    with closing(sqlite3.connect("demo.db")) as db, db:
        [exec_id] = db.execute("SELECT exec_id FROM trades LIMIT 1").fetchone()
        db.execute("DELETE FROM trades WHERE exec_id = ?", (exec_id,))
    code, out, _ = run(capsys, "audit", "--json")
    document = json.loads(out)
    assert (code, document["reconciled"], document["unexplained"]) == (1, False, {})
    assert any(exec_id in line and "not in the bot's books" in line for line in document["differences"])


def test_play_money_that_vanished_is_the_unexplained_rest(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    with closing(sqlite3.connect("demo.exchange.db")) as db, db:
        [quote] = db.execute("SELECT quote FROM account").fetchone()
        db.execute("UPDATE account SET quote = ?", (f"{D(quote) - D('0.07'):f}",))
    code, out, _ = run(capsys, "audit")
    assert code == 1
    assert "unexplained rest: -0.07" in out


def test_new_executions_make_an_old_audit_worthless(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    run(capsys, "audit")
    trade_for_a_while(ticks=60)
    assert "since the last audit" in run(capsys, "status")[1]
    assert run(capsys, "audit")[0] == 0
    assert "books       reconciled" in run(capsys, "status")[1]


def test_an_audit_of_books_that_never_stand_still_compares_nothing_and_leaves_the_last_outcome(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trade_for_a_while()
    run(capsys, "audit")
    looks = count(1)

    def busy(settings: Settings) -> Books:
        books = read_books(settings)
        books.rows = books.rows[next(looks) :]
        return books

    monkeypatch.setattr("gridbot.core.commands_audit.read_books", busy)
    monkeypatch.setattr("gridbot.core.commands_audit.MOST_TRIES", 2)
    says = "not compared: the bot traded during each of 2 tries. Ask again, or stop the bot\n"
    assert run(capsys, "audit") == (1, "", says)
    assert "books       reconciled" in run(capsys, "status")[1]


def test_a_copy_of_play_money_brings_back_its_exchange_too(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    assert "b.db and b.exchange.db: a copy of " in run(capsys, "backup", "b.db")[1]
    copied = _trades_made()
    trade_for_a_while(ticks=30)
    since = _trades_made()
    assert run(capsys, "restore", "b.db")[0] == 0
    assert _trades_made() == copied < since
    assert run(capsys, "audit")[1].endswith("\nreconciled\n")
    [aside] = Path().glob("demo.db.before-????????-??????")
    assert run(capsys, "restore", aside.name)[0] == 0, "what was there is a copy like any other"
    assert _trades_made() == since


@pytest.mark.parametrize(("name", "exchange"), [("bot", "bot.exchange.db"), ("b.sqlite", "b.exchange.db")])
def test_a_copy_is_brought_back_whatever_the_database_is_called(
    capsys: pytest.CaptureFixture[str], name: str, exchange: str
) -> None:
    """The second is the older name of the exchange's file of such a database."""
    trade_for_a_while()
    text = Path("config.ini").read_text()
    assert text.count("path = demo.db") == 1
    Path("config.ini").write_text(text.replace("path = demo.db", f"path = {name}"))
    for old, new in (("demo.db", name), ("demo.exchange.db", exchange)):
        Path(old).rename(new)
    assert run(capsys, "backup", f"{name}.bak")[0] == 0
    copied = _trades_made(exchange)
    with closing(sqlite3.connect(exchange)) as db, db:
        db.execute("UPDATE account SET trades_made = trades_made + 7")
    assert run(capsys, "restore", f"{name}.bak")[0] == 0
    assert _trades_made(exchange) == copied
    [aside] = Path().glob(f"{name}.before-*.exchange.db")
    assert _trades_made(aside) == copied + 7


def test_a_database_from_before_anything_could_be_forgotten_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(ticks=1)
    with closing(sqlite3.connect("demo.db")) as db, db:
        db.execute("DROP TABLE forgotten_orders")
    for command in ("status", "report", "plan", "audit"):
        assert run(capsys, command)[0] == 0


def _trades_made(exchange: str | Path = "demo.exchange.db") -> int:
    with closing(sqlite3.connect(exchange)) as db:
        return int(db.execute("SELECT trades_made FROM account").fetchone()[0])


def test_a_copy_of_play_money_replaces_nothing_but_an_older_copy_of_its_exchange(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trade_for_a_while(ticks=1)
    Path("b.exchange.db").write_text("precious")
    assert run(capsys, "backup", "b.db")[2].startswith("b.exchange.db: exists, and is no copy made by backup")
    assert run(capsys, "backup", "demo")[2].startswith("demo.exchange.db: is the bot's own file")
    assert not any(Path(name).exists() for name in ("b.db", "demo"))
    run(capsys, "backup", "a.db")
    Path("a.db").unlink()
    assert run(capsys, "backup", "a.db")[2].startswith("a.exchange.db: exists"), "it may be that of another bot"
    assert (run(capsys, "backup", "c.db")[0], run(capsys, "backup", "c.db")[0]) == (0, 0)


def test_the_report_adds_up_to_the_account(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    _, out, _ = run(capsys, "report", "--json", "--by", "day", "--price", "50000")
    document = json.loads(out)
    with closing(sqlite3.connect("demo.exchange.db")) as db:
        base, quote = map(D, db.execute("SELECT base, quote FROM account").fetchone())
    change = D(document["profit"]["change"]["net"])
    assert change == base * 50000 + quote - 10000
    parts = ("grid_profit", "price_move", "base_from_before")
    assert sum(D(document["profit"][name]["net"]) for name in parts) == change
    assert sum(D(row["grid_profit"]) for row in document["by_day"]) == D(document["profit"]["grid_profit"]["net"])
    assert D(document["held"]["volume"]) == base
    # the part that was kept on purpose is shown as such: what is held and not for sale
    waiting = D(document["for_sale"]["volume"]) + D(document["surplus"]["volume"])
    assert D(document["accumulated"]["volume"]) == base - waiting > 0


def test_tables_for_the_terminal_are_narrow_and_end_with_totals(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    for by in ("day", "month", "year", "cycle"):
        code, out, _ = run(capsys, "report", "--by", by)
        assert code == 0
        assert max(len(line) for line in out.splitlines()) <= 100
        [(after_sums, sums)] = [(n, x) for n, x in enumerate(out.splitlines(), 1) if x.startswith("all ")]
        said = "rows and sums are cut to what is shown, each by itself; --csv has every digit"
        assert out.splitlines()[after_sums] == said, sums


def test_cycles_as_csv_add_up_to_the_grid_profit(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    cycles = list(csv.DictReader(io.StringIO(run(capsys, "report", "--by", "cycle", "--csv")[1])))
    month = list(csv.DictReader(io.StringIO(run(capsys, "report", "--csv")[1])))
    gains = sum((D(row["gain"]) for row in cycles if row["gain"]), D(0))
    assert gains == sum(D(row["grid_profit"]) for row in month)
    assert {row["books"] for row in cycles} == {"not reconciled: there was no audit yet"}


def test_the_gains_of_a_tax_year_go_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while()
    code, out, _ = run(capsys, "report", "--tax", "2026", "--file", "gains.csv")
    assert (code, out) == (0, "written to gains.csv\n")
    with open("gains.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with closing(DBConnect("demo.db", read_only=True)) as db:
        sold = [row.info for row in Trades(db, USERREF).all() if row.info.side != BUY]
    assert sum(D(row["volume_BTC"]) for row in rows) == sum(info.volume for info in sold)
    proceeds = sum(D(row["proceeds_less_fees_USD"]) for row in rows)
    assert proceeds == sum(info.cost - info.fee for info in sold)
    for row in rows:
        gain = D(row["proceeds_less_fees_USD"]) - D(row["cost_with_fees_USD"])
        assert D(row["gain_USD"]) == gain


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["report", "--tax", "26"], "26: must be from 1970 to 9999"),
        (["report", "--price", "-3"], "-3: must be more than 0; for example 50123.4"),
        (["report", "--price", "1e30"], "must be a number of ordinary size"),
        (["report", "--price", "much"], "'much' is not a number"),
        (["report", "--by", "week"], "invalid choice: 'week'"),
        (["report", "--csv", "--json"], "not allowed with"),
        (["report", "--tax", "2026", "--by", "month"], "argument --by: not allowed with argument --tax"),
        (["report", "--file", "nowhere/x.txt"], "--file nowhere/x.txt: cannot be written"),
        (["status", "--price", "0"], "must be more than 0"),
        (["plan", "--n", "0"], "  --n must be from 1 to 225\n"),
        (["backup", "."], "is a directory. Name a file in it"),
        (["backup", "demo.db"], "demo.db: is the bot's own file. Name another file"),
        (["backup", "nowhere/copy.db"], "nowhere/copy.db: there is no such directory. Name a file in one that exists"),
        (["restore", "nofile.db"], "nofile.db: there is no such file. Name a copy that backup has made"),
        (["restore", "demo.db"], "is the database in use. Name the copy"),
        (["restore", "config.ini"], "cannot be read as a database"),
    ],
)
def test_wrong_words_are_explained(capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    trade_for_a_while(ticks=1)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert text in err


@pytest.mark.parametrize("name", ["config.ini", "demo.db", "demo.exchange.db", "notes", "log.txt"])
def test_a_report_replaces_nothing_but_an_older_report(capsys: pytest.CaptureFixture[str], name: str) -> None:
    trade_for_a_while(ticks=1, more="[logging]\nfile = log.txt")
    for file in (Path("notes"), Path("log.txt"), Path("older.csv")):
        file.write_text("precious")
    before = Path(name).read_bytes()
    code, _, err = run(capsys, "report", "--file", name)
    assert (code, Path(name).read_bytes()) == (2, before)
    assert err.startswith(f"--file {name}: ")
    assert run(capsys, "report", "--csv", "--file", "older.csv")[0] == 0
    assert Path("older.csv").read_text().startswith("month,")


@pytest.mark.parametrize("command", ["status", "report", "audit"])
def test_before_the_first_start_there_are_no_books(capsys: pytest.CaptureFixture[str], command: str) -> None:
    configure()
    code, out, err = run(capsys, command)
    assert (code, out) == (2, "")
    assert "there is no such file. Before its first start the bot has no books" in err
    assert not list(Path().glob("*.db*"))


def test_a_start_that_never_saw_a_price_does_not_keep_anybody_from_planning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure()
    before = run(capsys, "plan")
    assert before[0] == 0
    DBConnect("demo.db").close()  # what a first start without a network leaves
    assert run(capsys, "plan") == before
    assert "it holds none yet: the bot has not seen its first price" in run(capsys, "status")[2]


def test_another_userref_is_told_which_ones_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(ticks=1)
    config = Path("config.ini")
    config.write_text(config.read_text().replace("userref = 7", "userref = 8"))
    code, _, err = run(capsys, "status")
    assert code == 2
    assert "holds no bot with this number; it holds 7" in err


@pytest.mark.parametrize("command", ["status", "report", "audit"])
def test_books_of_another_market_are_not_told_in_its_currency(capsys: pytest.CaptureFixture[str], command: str) -> None:
    trade_for_a_while(ticks=1)
    config = Path("config.ini")
    config.write_text(config.read_text().replace("quote_currency = USD", "quote_currency = EUR"))
    code, _, err = run(capsys, command)
    assert code == 2
    assert "holds the books of Demo BTC/USD, and the settings ask for Demo BTC/EUR" in err


@pytest.fixture
def closed_directory() -> Iterator[Path]:
    """A stopped demo bot in a directory that the reader of its books may not write to."""
    directory = Path(tempfile.mkdtemp())
    trade_for_a_while()
    for name in ("config.ini", "demo.db", "demo.exchange.db"):
        shutil.copy(name, directory)
        (directory / name).chmod(0o644)
    directory.chmod(0o555)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


READER = """\
import sys
from gridbot.core.cli import main
for command in sys.argv[1:]:
    print(f"{command} ended with {main([command])}", flush=True)
"""


def as_a_reader(directory: Path, *commands: str) -> str:
    """What the commands of somebody without rights on the directory say, and their exit codes."""
    start = [sys.executable, "-c", READER, *commands]
    if os.geteuid() == 0:  # for whom rights mean nothing
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv to do without that")
        start = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *start]
    where = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(start, cwd=directory, env=where, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_books_in_a_directory_that_cannot_be_written_are_read(closed_directory: Path) -> None:
    commands = ("status", "report", "plan", "check", "audit")
    text = as_a_reader(closed_directory, *commands)
    assert re.findall(r"^(\w+) ended with 0$", text, re.MULTILINE) == [*commands], text
    assert "PROBLEM" not in text


def test_a_log_that_cannot_be_read_without_writing_is_said(closed_directory: Path) -> None:
    closed_directory.chmod(0o755)
    with closing(sqlite3.connect("demo.db")) as db:
        db.execute("CREATE TABLE news (x)")
        db.commit()
        shutil.copy("demo.db-wal", closed_directory)  # as a power cut leaves it
    (closed_directory / "demo.db-wal").chmod(0o644)
    closed_directory.chmod(0o555)
    text = as_a_reader(closed_directory, "status", "check")
    assert re.findall(r"^(\w+) ended with 1$", text, re.MULTILINE) == ["status", "check"], text
    assert text.count("demo.db-wal holds what was written last, and only a user who may write to") == 2
    assert "PROBLEM" not in text


@pytest.mark.parametrize("command", ["status", "report", "forget"])
def test_a_value_that_cannot_be_is_said_in_words(capsys: pytest.CaptureFixture[str], command: str) -> None:
    trade_for_a_while()
    _change("UPDATE configuration SET interval = 'abc'")
    code, out, err = run(capsys, command)
    assert (code, out) == (1, "")
    assert "demo.db: configuration.interval = 'abc' (row of userref 7) is not possible. Bring a copy back" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("document", ["abc", "[]"])
@pytest.mark.parametrize("command", ["status", "report"])
def test_a_view_that_cannot_be_read_is_said_and_done_without(
    capsys: pytest.CaptureFixture[str], command: str, document: str
) -> None:
    trade_for_a_while()
    _change(f"UPDATE snapshots SET document = '{document}'")
    code, out, err = run(capsys, command)
    assert code == 0
    assert "change" in out
    assert "snapshots.document = " in err
    assert "is left out" in err


def _change(statement: str) -> None:
    with closing(sqlite3.connect("demo.db")) as db, db:
        assert db.execute(statement).rowcount == 1


def test_a_file_that_is_no_database_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    Path("demo.db").write_text("not a database, but long enough to be read as one " * 30)
    code, _, err = run(capsys, "status")
    assert code == 1
    assert "file is not a database" in err


def test_status_shows_the_ladder_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(ticks=1)
    code, out, _ = run(capsys, "status")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "mine: GridHODL on BTC/USD, play money, NOT RUNNING"
    assert len([line for line in lines if line.startswith("buy  ")]) == 5
    assert [line for line in lines if line.lstrip().startswith(">")]
    assert "next     a start of the bot; nothing is filled until then" in lines


def test_status_knows_a_running_bot(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(ticks=1)
    assert single_instance.claim(str(Path("demo.db").absolute())) is None
    _, out, _ = run(capsys, "status")
    assert "running (pid " in out.splitlines()[0]
    assert "fills a buy" in out
    assert "moves the grid up" in out


def test_status_promises_no_move_of_a_grid_whose_buys_are_held_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trade_for_a_while(ticks=1)
    loses = Mock(side_effect=ConfigurationError("[grid] interval: this grid loses"))
    monkeypatch.setattr("gridbot.strategies.grid_terms.check_interval_pays", loses)
    trade_for_a_while(ticks=1)
    assert single_instance.claim(str(Path("demo.db").absolute())) is None
    _, out, _ = run(capsys, "status")
    assert "fills a buy" in out
    assert "moves the grid up" not in out


def test_status_says_that_funds_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(ticks=1, quote="350")
    _, out, _ = run(capsys, "status")
    missing = [line for line in out.splitlines() if line.startswith("missing")]
    assert len(missing) == 2
    assert all("funds: " in line and "100.10 needed" in line for line in missing)


def test_status_of_a_bot_without_an_order_names_what_it_lacks_and_not_the_next_price(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trade_for_a_while(ticks=1, quote="50")
    assert single_instance.claim(str(Path("demo.db").absolute())) is None
    assert "\nnext     no order is open, and the next price opens none: funds: 50.00 free" in run(capsys, "status")[1]
    with closing(sqlite3.connect("demo.db")) as db, db:
        db.execute("UPDATE snapshots SET document = json_set(document, '$.missing', json('[]'))")
    assert "\nnext     the next price; no order is open\n" in run(capsys, "status")[1]


def test_status_names_the_missing_levels_at_the_prices_that_the_bot_would_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trade_for_a_while(ticks=1)
    whole = re.findall(r"^buy +([\d.]+)", run(capsys, "status")[1], re.MULTILINE)
    assert len(whole) == 5
    for path in Path().glob("*.db*"):
        path.unlink()
    trade_for_a_while(ticks=1, quote="350")
    levels = sorted(whole, reverse=True)
    out = run(capsys, "status")[1]
    assert re.findall(r"^missing +buy @ ([\d.]+)", out, re.MULTILINE) == levels[3:]
    just_below = str(D(levels[2]) * D("0.999"))  # and above the level that comes next
    out = run(capsys, "status", "--price", just_below)[1]
    assert re.findall(r"^missing +buy @ ([\d.]+)", out, re.MULTILINE) == levels[3:]


def test_status_says_that_the_limit_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(ticks=1, max_investment="250")
    _, out, _ = run(capsys, "status")
    missing = [line for line in out.splitlines() if line.startswith("missing")]
    assert len(missing) == 3
    assert all("limit: max_investment 250.00 USD would be reached" in line for line in missing)


@pytest.mark.parametrize(
    ("pause", "says"),
    [
        ("buys", "refused: the exchange refused the last buy"),
        ("unpaid", "fee: with the fee you pay now the grid would not pay"),
        ("crossing", "spike: the price moves faster than buys are placed"),
        ("crowded", "refused: the exchange allows no more open orders, and a sell waits for a place"),
    ],
)
def test_status_says_why_no_buy_is_placed_for_a_while(
    capsys: pytest.CaptureFixture[str], pause: str, says: str
) -> None:
    trade_for_a_while(ticks=1)
    with closing(sqlite3.connect("demo.db")) as db, db:
        db.execute("DELETE FROM orderbook WHERE txid = (SELECT txid FROM orderbook ORDER BY price LIMIT 1)")
        db.execute("UPDATE snapshots SET document = json_set(document, '$.pauses', json(?))", (f'["{pause}"]',))
    assert single_instance.claim(str(Path("demo.db").absolute())) is None
    _, out, _ = run(capsys, "status")
    assert says in out


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            InsufficientFunds("EOrder:Insufficient funds"),
            "refused: EOrder:Insufficient funds. It needs 100.09974903, and the bot knows of 10000.00000000 free;",
        ),
        (OrderRejected("EOrder:Whatever."), "refused: EOrder:Whatever; tried again at growing intervals ("),
    ],
)
def test_status_tells_a_refused_buy_in_the_words_of_the_exchange(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, says: str
) -> None:
    monkeypatch.setattr(SimulatedRESTService, "create_order", Mock(side_effect=error))
    _trade(ticks=2)
    assert single_instance.claim(str(Path("demo.db").absolute())) is None
    assert says in run(capsys, "status")[1]


def test_status_tells_a_refused_sell_in_the_words_of_the_exchange(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = SimulatedRESTService.create_order

    def only_buys(self: SimulatedRESTService, **order: object) -> object:
        if order["side"] == "sell":
            raise OrderRejected("EOrder:Whatever")
        return place(self, **order)  # type: ignore[arg-type]

    monkeypatch.setattr(SimulatedRESTService, "create_order", only_buys)
    _trade(ticks=150)
    assert single_instance.claim(str(Path("demo.db").absolute())) is None
    [*lines] = [line for line in run(capsys, "status")[1].splitlines() if line.startswith("missing  sell of ")]
    assert lines
    assert all(line.endswith(": refused: EOrder:Whatever; tried again at growing intervals") for line in lines)


@pytest.mark.parametrize(
    ("free", "is_running", "refused", "says"),
    [
        ("0.001", True, {}, "funds: 0.00100000 BTC free"),
        ("1", False, {}, "the bot does not run; its next start places it"),
        ("1", True, {SURPLUS: "EOrder:Whatever"}, "refused: EOrder:Whatever; tried again at growing intervals"),
    ],
)
def test_status_says_why_a_surplus_worth_a_sell_is_not_sold(
    capsys: pytest.CaptureFixture[str], free: str, is_running: bool, refused: dict[str, str], says: str
) -> None:
    trade_for_a_while(ticks=1)
    view = json.dumps({"base_free": free, "refused": refused})
    with closing(sqlite3.connect("demo.db")) as db, db:
        db.execute(
            "UPDATE configuration SET vol_of_unfilled_remaining = '0.5', vol_of_unfilled_remaining_max_price = '50000'"
        )
        db.execute("UPDATE snapshots SET document = json_patch(document, ?)", (view,))
    if is_running:
        assert single_instance.claim(str(Path("demo.db").absolute())) is None
    [line] = [line for line in run(capsys, "status")[1].splitlines() if line.startswith("missing")]
    assert f"cancelled orders: worth 25000.00 USD; {says}" in line


def test_status_names_an_order_that_was_not_answered(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(ticks=1)
    with closing(sqlite3.connect("demo.db")) as db, db:
        db.execute(
            "INSERT INTO pending_txids (userref, side, price, volume, sells, why, written_at, deadline)"
            " VALUES (7, 'sell', '60000.0', '0.001', '', '', 1790000000.0, 1790000010.0)"
        )
    _, out, _ = run(capsys, "status")
    assert "missing  sell 0.00100000 BTC @ 60000.0 USD: sent " in out
    assert "next     the exchange's word on the order sent" in out
    assert run(capsys, "audit")[0] == 1


def test_the_hourly_status_message_has_the_profit_lines() -> None:
    [status] = [event for event in trade_for_a_while() if isinstance(event, StatusUpdate)]
    assert "\ngrid profit +" in status.text
    assert "\nprice move  " in status.text
    assert "\nbooks       not reconciled: there was no audit yet\n" in status.text


def swing_books() -> None:
    """Books with extra sells of coins from before, and with buys of the bot's own."""
    trade_for_a_while(ticks=600, strategy="SWING", base="0.02")
    with closing(DBConnect("demo.db", read_only=True)) as db:
        assert {row.info.side for row in Trades(db, USERREF).all()} == {"buy", "sell"}
        assert EXTRA in {row.sells for row in Trades(db, USERREF).all()}


@pytest.mark.parametrize("words", [("report", "--json"), ("report", "--tax", "2026"), ("status", "--json")])
@pytest.mark.parametrize("change", [{"base": "0"}, {"more": "[funds]\nown_base = 0"}])
def test_what_was_there_at_the_first_start_is_not_changed_by_later_settings(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], change: dict[str, str]
) -> None:
    swing_books()
    price = () if "--tax" in words else ("--price", "50000")
    before = run(capsys, *words, *price)
    configure(**{"strategy": "SWING", "base": "0.02", **change})
    assert run(capsys, *words, *price) == before


def test_the_money_of_a_plan_is_of_the_same_moment_as_its_orders(capsys: pytest.CaptureFixture[str]) -> None:
    def free() -> str:
        code, out, _ = run(capsys, "plan", "--price", "50000")
        assert code == 0
        assert "what the bot saw" in out
        return re.findall(r"; free (.*) \(", out)[0]

    trade_for_a_while()
    with closing(sqlite3.connect("demo.db")) as db:
        [(seen,)] = db.execute("SELECT document FROM snapshots").fetchall()
    earlier = free()
    _trade(100)
    now = free()
    assert now != earlier
    with closing(sqlite3.connect("demo.db")) as db:  # as while the bot runs: the view is of an hour ago
        db.execute("UPDATE snapshots SET document = ?", (seen,))
        db.commit()
    assert free() == now


def test_books_of_an_older_gridbot_are_read_with_what_the_settings_say(capsys: pytest.CaptureFixture[str]) -> None:
    swing_books()
    newer = run(capsys, "report", "--json", "--price", "50000")
    with closing(sqlite3.connect("demo.db")) as db:
        db.execute("ALTER TABLE configuration DROP COLUMN base_before")
        db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm013%'")
        db.commit()
    assert run(capsys, "report", "--json", "--price", "50000") == newer
    configure(strategy="SWING", base="0")
    assert run(capsys, "report", "--json", "--price", "50000") != newer
    _trade(1, strategy="SWING", base="0.02")  # a start brings the database up to date, and cannot know more
    with closing(sqlite3.connect("demo.db")) as db:
        assert db.execute("SELECT base_before FROM configuration").fetchall() == [(None,)]


def test_the_base_of_cdca_is_accumulated_also_under_the_next_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(strategy="cDCA")
    before = json.loads(run(capsys, "report", "--json")[1])
    assert D(before["accumulated"]["volume"]) > 0
    configure(strategy="GridHODL")
    after = json.loads(run(capsys, "report", "--json")[1])
    assert (after["accumulated"], after["surplus"]) == (before["accumulated"], before["surplus"])
    assert "surplus" not in run(capsys, "status")[1]


def test_a_cdca_bot_that_an_older_version_ran_sells_nothing_in_the_books_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _trade(150, strategy="cDCA")
    with closing(sqlite3.connect("demo.db")) as db, db:
        db.execute("UPDATE snapshots SET document = json_remove(document, '$.keeper')")
        db.execute("UPDATE configuration SET vol_of_unfilled_remaining = 0.001")
        db.execute("UPDATE configuration SET vol_of_unfilled_remaining_max_price = 50000")
    assert "not sold yet" not in run(capsys, "status")[1]


KEEPER = """\
from gridbot.strategies.grid_base import GridStrategyBase


class Keeper(GridStrategyBase):
    keeps_all = True

    def sell_after(self, buy):
        return None
"""


def test_what_a_strategy_of_ones_own_keeps_is_accumulated_and_not_announced_for_sale(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("own_keeper.py").write_text(KEEPER)
    [hourly] = [e for e in _trade(150, strategy="own_keeper:Keeper") if isinstance(e, StatusUpdate)]
    assert "of cancelled buys, not sold yet" not in hourly.text
    with closing(sqlite3.connect("demo.db")) as db, db:
        db.execute("UPDATE configuration SET vol_of_unfilled_remaining = 0.001")
        db.execute("UPDATE configuration SET vol_of_unfilled_remaining_max_price = 50000")
        db.execute("INSERT INTO unsold_buy_order_txids VALUES (7, 'OLD', '50000.0', '0.002', 1790000000.0)")
    _, text, _ = run(capsys, "status")
    [missing] = [line for line in text.splitlines() if line.startswith("missing  sell")]  # and none of the surplus
    assert missing.endswith(": own_keeper:Keeper keeps it; another strategy would sell it")
    document = json.loads(run(capsys, "report", "--json")[1])
    assert D(document["surplus"]["volume"]) == 0
    assert document["accumulated"] == document["held"]
    configure(strategy="GridHODL")
    assert "sold once it is worth 100.00 USD" in run(capsys, "status")[1]


def test_told_what_is_its_own_the_bot_never_spends_more(capsys: pytest.CaptureFixture[str]) -> None:
    trade_for_a_while(base="0.5", more="[funds]\nown_base = 0\nown_quote = 250")
    with closing(DBConnect("demo.db", read_only=True)) as db:
        rows = Trades(db, USERREF).all()
    quote, least = D(250), D(250)
    for row in rows:
        info = row.info
        quote += info.cost * (1 if info.side != BUY else -1) - info.fee
        least = min(least, quote)
    assert least >= 0
    assert least < 100  # it did use what it was given
    code, out, _ = run(capsys, "audit")
    assert code == 0
    assert "BTC: the bot's own were 0, " in out
    assert "; 0.5 in the account are not the bot's and are not touched" in out
    assert "; 9750 in the account are not the bot's and are not touched" in out


@pytest.mark.parametrize(("base", "quote", "buys"), [(None, D(250), 2), (None, None, 5), (None, D(100000000), 5)])
def test_the_fence_bounds_the_grid(base: D | None, quote: D | None, buys: int) -> None:
    world = World()
    world.desk.own_at_start = base, quote
    world.start("50000")
    assert len(world.buys) == buys


def test_the_fence_moves_with_what_the_bot_trades() -> None:
    world = World("GridSell")
    world.desk.own_at_start = None, D(250)
    world.start("50000").price("49500")  # the buy @ 49504.9 is filled: 99.999898 and 0.24999 of fee
    world.desk.refresh_funds()
    assert world.desk.funds.quote_balance == D(250) - D("99.999898") - D("0.24999")
    # the second buy binds 0.00204020 x 49014.7 x 1.0025 of it
    bound = D("0.00204020") * D("49014.7") * D("1.0025")
    assert world.desk.funds.quote_available == world.desk.funds.quote_balance - bound
    world.price("50000")  # the sell @ 49999.9 brings the quote back, with the gain
    world.desk.refresh_funds()
    assert world.desk.funds.quote_balance > D(250)


def test_swing_says_how_many_coins_it_found_and_will_sell() -> None:
    world = World("SWING", base=D("0.5")).start("50000")
    assert "found 0.50000000 BTC free that no buy of this bot brought in; SWING will sell them" in (
        world.strategy.describe()
    )
    world.price("49500")  # a buy of its own changes nothing of that
    assert "found 0.50000000 BTC" in world.strategy.describe()


def test_swing_counts_what_is_left_of_the_coins_after_an_extra_sell() -> None:
    world = World("SWING", base=D("0.5")).start("50000")
    [extra] = world.sells
    assert (f"{extra.price:f}", f"{extra.volume:f}") == ("51005.0", "0.00197044")
    world.price("51006")  # sold
    assert f"found {D('0.5') - extra.volume:f} BTC free" in world.strategy.describe()
    world.price("60000")
    world.price("59000", "60100")  # bought and sold again: what that left over is the bot's own, not found
    left = D("0.5") - sum(t.info.volume for t in world.desk.trades.all() if t.sells == EXTRA)
    assert world.desk.held() > 0
    assert f"found {left:f} BTC free" in world.strategy.describe()


def test_swing_with_a_fence_of_no_base_leaves_the_coins_alone() -> None:
    world = World("SWING", base=D("0.5"))
    world.desk.own_at_start = D(0), None
    world.start("50000").price("60000", "70000")
    assert world.sells == ()
    assert "found" not in world.strategy.describe()
    assert world.exchange.money.base == D("0.5")


def swing_that_sold_some_of_the_coins() -> World:
    """Two extra sells of coins from before; a grid below the price; then the owner sets own_base = 0."""
    world = World("SWING", base=D("0.5")).start("50000").price("51006", "53000")
    assert sum(t.info.volume for t in world.desk.trades.all() if t.sells == EXTRA) > D("0.0038")
    world.restart()
    world.desk.own_at_start = D(0), None
    return world


def test_a_fence_of_no_base_set_after_an_extra_sell_leaves_the_grid_what_it_buys() -> None:
    world = swing_that_sold_some_of_the_coins().price("53000")
    assert "found" not in world.strategy.describe()
    bought = world.buys[0]
    world.price("52400")  # a buy is filled: its sell is placed, of what it has brought
    assert (world.buys[0] != bought, len(world.desk.unsold)) == (True, 0)
    assert [order.sells for order in world.sells if order.sells != EXTRA] == [bought.txid]
    assert world.told(FundsShort) == []
    world.desk.refresh_funds()
    assert world.desk.funds.base_available == 0


@pytest.mark.parametrize("waits", ["refused", "partly filled", "cancelled"])
def test_behind_a_fence_of_no_base_what_the_grid_has_bought_is_sold_whatever_it_waits_for(waits: str) -> None:
    world = swing_that_sold_some_of_the_coins().price("53000", "52480")
    [extra] = world.sells
    top, low = world.buys[:2]
    if waits == "refused":
        bought = top.volume
        world.rest.faults = [OrderRejected("EOrder:Whatever")] * 2
        world.price("52400")
    elif waits == "partly filled":
        bought = D("0.0015")
        world.exchange.fill(top.txid, bought)
    else:
        bought = D("0.0011")
        for buy in (top, low):
            world.exchange.fill(buy.txid, bought / 2)
            world.exchange.cancel_order(buy.txid, world.clock.now)
    world.settle()
    world.desk.refresh_funds()
    assert world.desk.funds.base_available == bought
    assert world.desk.funds.base_balance == bought
    if waits == "cancelled":  # too little for a sell until now
        world.exchange.fill(world.buys[0].txid, D("0.0011"))
        world.exchange.cancel_order(world.buys[0].txid, world.clock.now)
        world.settle()
    world.wait(200).price("52400")
    [sell] = [sell for sell in world.sells if sell != extra]
    assert sell.sells == (SURPLUS if waits == "cancelled" else top.txid)
    assert world.told(FundsShort) == []
    world.desk.refresh_funds()
    left = world.desk.configuration.get().vol_of_unfilled_remaining
    assert world.desk.funds.base_balance == sell.volume + left


def test_behind_a_fence_of_no_base_a_surplus_is_sold_beside_the_open_sell_of_the_one_before() -> None:
    world = swing_that_sold_some_of_the_coins().price("53000", "52480")
    for buy in world.buys[:4]:
        world.exchange.fill(buy.txid, D("0.0011"))
        world.exchange.cancel_order(buy.txid, world.clock.now)
        world.settle()
        world.desk.refresh_funds()
    assert [sell.sells for sell in world.sells if sell.sells != EXTRA] == [SURPLUS, SURPLUS]
    assert world.told(FundsShort) == []


def test_a_fence_of_no_base_keeps_the_coins_however_often_the_grid_is_left_upward() -> None:
    world = swing_that_sold_some_of_the_coins().price("53000")
    [extra] = world.sells
    assert (
        f"an extra sell of {extra.volume:f} BTC from before is open still: cancel it on the exchange to keep them"
        in world.strategy.describe()
    )
    least = world.exchange.money.base - extra.volume
    for price in range(54000, 120000, 2000):
        world.price(f"{price}", f"{price * 0.985:.0f}", f"{price * 1.01:.0f}")
        assert world.exchange.money.base >= least


def test_the_start_message_carries_the_sentence() -> None:
    started = [e for e in trade_for_a_while(ticks=3, strategy="SWING", base="0.3") if isinstance(e, BotStarted)]
    assert "found 0.30000000 BTC free that no buy of this bot brought in" in started[0].summary


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("[funds]\nown_quote = -5", "[funds] own_quote = -5: must not be negative"),
        ("[funds]\nown_base = 1,5", "write numbers with a point"),
        ("[funds]\nown_coins = 5", "[funds] own_coins: unknown key"),
    ],
)
def test_a_fence_that_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], more: str, text: str) -> None:
    configure(more=more)
    code, _, err = run(capsys, "status")
    assert code == 2
    assert text in err


def test_an_empty_fence_is_none_and_the_settings_name_a_fence() -> None:
    assert load_settings(configure(more="[funds]\nown_base =")).funds.own_base is None
    lines = describe(load_settings(configure(more="[funds]\nown_base = 0\nown_quote = 250.50")))
    assert "the bot's own at its first start: 0 BTC and 250.5 USD; the rest is not touched" in lines


@pytest.fixture
def kraken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[FakeKraken, Settings]]:
    """A fake Kraken on which a bot has bought twice and sold once; and the bot's settings."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    fake = FakeKraken(balances={"ZUSD": "10000", "XXBT": "0.25"}, prices={"BTC/USD": "50000.0"}, tier="pro")
    fake.limits.off()
    with FakeKrakenServer(fake) as server, bot(server, fake, tmp_path) as running:
        soon(lambda: len(running.prices(BUY)) == 5)
        fake.set_price("BTC/USD", "49000")
        soon(lambda: len(running.engine.desk.book.sells()) == 2)
        fake.set_price("BTC/USD", "49550")
        desk = running.engine.desk
        soon(lambda: (len(desk.book.buys()), len(desk.book.sells()), len(desk.pending)) == (5, 1, 0))
        settings = running.engine._settings
        running.stop()
        yield fake, settings


def audited(capsys: pytest.CaptureFixture[str], settings: Settings) -> tuple[int, str]:
    capsys.readouterr()
    code = run_audit(settings, argparse.Namespace(json=False))
    return code, capsys.readouterr().out


def test_an_audit_of_a_shared_account_at_kraken(
    kraken: tuple[FakeKraken, Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    fake, settings = kraken
    calls_before = len(fake.calls)
    code, out = audited(capsys, settings)
    assert (code, out.splitlines()[-1]) == (0, "reconciled")
    assert out.startswith("compared 3 executions and ")
    assert "more than the bot's executions explain" in out
    assert "the bot was not told what is its own" in out
    asked = {call.method for call in fake.calls[calls_before:]}
    assert "QueryTrades" in asked
    assert not asked & {"AddOrder", "CancelOrder", "CancelAll"}
    fenced = settings.model_copy(update={"funds": FundsConfigDTO(own_base=D(0), own_quote=D(1000))})
    code, out = audited(capsys, fenced)
    assert code == 0
    assert "BTC: the bot's own were 0, " in out
    assert "USD: the bot's own were 1000, " in out
    assert "; 9000 in the account are not the bot's" in out


def test_an_audit_keeps_its_hands_off_the_key_of_a_running_bot(
    kraken: tuple[FakeKraken, Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    _, settings = kraken
    path = single_instance.key_state_path(settings.kraken.api_public_key, settings.db.path.parent)
    held = single_instance.lock_file(f"{path}.lock")
    assert held is not None
    try:
        with pytest.raises(GridBotError, match="Stop the bot for the audit, or give the audit a key of its own"):
            audited(capsys, settings)
    finally:
        os.close(held)


def test_what_was_filled_behind_the_back_of_a_stopped_bot_is_a_difference_and_explained(
    kraken: tuple[FakeKraken, Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    fake, settings = kraken
    fake.set_price("BTC/USD", "48500")  # fills a buy while the bot is away
    code, out = audited(capsys, settings)
    assert code == 1
    assert "open in the bot's books, closed at the exchange" in out
    assert "not in the bot's books" in out
    assert "Start the bot once, then audit again" in out
    assert "unexplained" not in out


def test_coins_that_are_gone_are_no_matter_for_a_start_of_the_bot(
    kraken: tuple[FakeKraken, Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    fake, settings = kraken
    fake.deposit("XXBT", "-0.25")
    code, out = audited(capsys, settings.model_copy(update={"funds": FundsConfigDTO(own_base=D("0.1"))}))
    assert code == 1
    assert "unexplained rest: -0.1" in out
    assert "note: the missing BTC may have been withdrawn, staked, or sold by hand" in out
    assert "Start the bot once" not in out
