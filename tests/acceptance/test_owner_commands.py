"""What the owner's commands promise: check, backup, restore, watch, doctor, selftest."""

import argparse
import errno
import os
import re
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Self
from unittest.mock import Mock
from zlib import crc32

import pytest

from gridbot.adapters.exchanges.demo import demo_pair
from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.core import heartbeat, single_instance
from gridbot.core.cli import main
from gridbot.core.commands_books import read_books
from gridbot.core.commands_owner import backup, check, restore
from gridbot.core.database_check import problems_in
from gridbot.core.heartbeat import Heartbeat
from gridbot.exceptions import ConfigurationError, DatabaseError
from gridbot.infrastructure.audits import AuditMark, Audits, Snapshots
from gridbot.infrastructure.connection import open_or_rebuild
from gridbot.infrastructure.database import Configuration, DBConnect, ForgottenOrders, Orderbook, Trades
from gridbot.infrastructure.migrations import Database, migrations
from gridbot.interfaces.exchange import Exchange, ExchangeSetup, IExchangeFactory
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models.configuration import DBConfigDTO, NotificationConfigDTO, Settings
from gridbot.models.grid import BookOrder, Placement
from gridbot.models.money import shown
from gridbot.services.funds import bound_by
from gridbot.services.ledger import reconciled
from gridbot.services.order_desk import OrderDesk
from tests.fake_kraken import TEST_KEY, TEST_SECRET
from tests.settings import USERREF, config, config_ini
from tests.sigkill.ground import Ground
from tests.world import World


def settings_for(path: Path) -> Settings:
    return Settings(bot=config(), db=DBConfigDTO(path=path), config_path=path.with_name("config.ini"))


def file(path: Path) -> argparse.Namespace:
    return argparse.Namespace(file=str(path))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World("GridHODL", path=tmp_path / "bot.db", base=Decimal(1)).start("50000")


def bring_back(world: World, copy: Path) -> None:
    """The machine breaks; the copy takes the place of the database, and the bot starts again."""
    world.db.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{world.path}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, world.path)
    world.clock.now += 3600
    world.restart()


def copied(world: World, tmp_path: Path) -> Path:
    backup(settings_for(Path(world.path)), file(tmp_path / "copy.db"))
    return tmp_path / "copy.db"


def sells_on_exchange(world: World) -> list[str]:
    return [o.txid for o in world.exchange.open_orders.values() if o.side == "sell"]


def test_a_sell_placed_after_the_copy_was_made_is_not_placed_again(world: World, tmp_path: Path) -> None:
    copy = copied(world, tmp_path)
    world.price("49400").wait(10)
    assert world.sell_prices() == ["49999.9"]
    bring_back(world, copy)
    world.price("49400").wait(30)
    assert len(sells_on_exchange(world)) == 1
    assert [order.sells[:1] for order in world.sells] == ["S"]
    assert not world.desk.unsold.all()


def test_a_whole_cycle_after_the_copy_was_made_is_not_sold_again(world: World, tmp_path: Path) -> None:
    copy = copied(world, tmp_path)
    world.price("49400").wait(10).price("50100").wait(10)
    assert world.exchange.money.trades_made == 2
    bring_back(world, copy)
    world.price("50100").wait(30)
    assert sells_on_exchange(world) == []
    assert not world.desk.unsold.all()
    assert [t.info.exec_id for t in world.desk.trades.all()] == list(world.exchange.trades)


def test_a_buy_placed_and_filled_after_the_copy_was_made_has_its_one_sell(world: World, tmp_path: Path) -> None:
    copy = copied(world, tmp_path)
    world.price("49400").wait(10).price("49300").wait(10).price("47000").wait(10)
    before = sorted(sells_on_exchange(world))
    assert len(before) == 6
    bring_back(world, copy)
    world.price("47000").wait(30)
    assert sorted(sells_on_exchange(world)) == before
    filled = {o.txid for o in world.exchange.finished.values() if o.side == "buy" and o.status == "closed"}
    assert {order.sells for order in world.sells} == filled
    assert not world.desk.unsold.all()


def test_a_copy_can_be_made_while_the_bot_writes(world: World, tmp_path: Path) -> None:
    with world.db.atomic():
        world.desk.configuration.update(highest_buy_price=Decimal(1))
        copy = copied(world, tmp_path)
    with sqlite3.connect(copy) as db:
        assert db.execute("SELECT count(*) FROM orderbook").fetchone() == (5,)
        assert db.execute("SELECT highest_buy_price FROM configuration").fetchone() == ("0",)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("copy.db*")) == [copy], "one file, without companions"


def test_a_copy_on_a_read_only_disk_is_refused_in_words(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DatabaseError, match=r"copy\.db: the copy cannot be made \(.*Read-only file system"):
        copied(world, tmp_path)


def test_a_copy_does_not_replace_the_database_itself(world: World) -> None:
    with pytest.raises(ConfigurationError, match="is the bot's own file"):
        backup(settings_for(Path(world.path)), file(Path(world.path)))


@pytest.fixture
def unlocked() -> Iterator[None]:
    yield
    single_instance.release_all()


@pytest.mark.parametrize("name", ["config.ini", "bot.exchange.db", "other.db", "holiday.jpg"])
def test_a_copy_replaces_nothing_but_an_older_copy(world: World, tmp_path: Path, name: str) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    shutil.copy(copied(world, tmp_path), tmp_path / "older.db")
    (tmp_path / "config.ini").write_text(CONFIG)
    (tmp_path / "holiday.jpg").write_bytes(b"")
    _sql(tmp_path / "bot.exchange.db", "CREATE TABLE account (base TEXT, quote TEXT)")
    shutil.copy(tmp_path / "older.db", tmp_path / "other.db")
    _sql(tmp_path / "other.db", "PRAGMA journal_mode=WAL")  # the database of another bot
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ConfigurationError, match="exists, and is no copy made by backup, so it is not replaced"):
        backup(settings_for(Path(world.path)), file(tmp_path / name))
    assert (tmp_path / name).read_bytes() == before
    world.price("49400").wait(10)
    assert backup(settings_for(Path(world.path)), file(tmp_path / "older.db")) == 0
    with sqlite3.connect(tmp_path / "older.db") as copy:
        assert copy.execute("SELECT count(*) FROM trades").fetchone() == (1,)


def test_a_copy_of_another_bot_is_not_replaced(world: World, tmp_path: Path) -> None:
    copy = copied(world, tmp_path)
    _sql(copy, "UPDATE configuration SET userref = 8")
    before = copy.read_bytes()
    with pytest.raises(ConfigurationError, match=r"copy\.db: is a copy of another bot \(userref 8\), so"):
        copied(world, tmp_path)
    assert copy.read_bytes() == before
    _sql(copy, "DELETE FROM configuration")  # made before the bot saw its first price
    copied(world, tmp_path)


@pytest.mark.usefixtures("unlocked")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE configuration SET userref = 8", rf"userref = {USERREF}: .*copy\.db holds no bot .*; it holds 8"),
        (
            "UPDATE configuration SET market = 'Kraken ETH/EUR'",
            r"copy\.db: holds the books of Kraken ETH/EUR, and the settings ask for Demo BTC/USD",
        ),
    ],
)
def test_the_database_of_another_bot_is_not_brought_back(world: World, tmp_path: Path, change: str, says: str) -> None:
    copy = copied(world, tmp_path)
    _sql(copy, change)
    world.db.close()
    before = Path(world.path).read_bytes()
    with pytest.raises(ConfigurationError, match=says):
        restore(settings_for(Path(world.path)), file(copy))
    assert Path(world.path).read_bytes() == before


def test_a_copy_that_is_not_there_is_missed_as_a_copy(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nofile\.db: there is no such file\. Name a copy"):
        restore(settings_for(Path(world.path)), file(tmp_path / "nofile.db"))


@pytest.mark.usefixtures("unlocked")
def test_a_copy_from_before_the_settings_were_lowered_is_sound_and_is_brought_back(
    world: World, tmp_path: Path
) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    copy = copied(world, tmp_path)
    world.db.close()
    bot = config(n_open_buy_orders=3, max_investment="150")
    lowered = settings_for(Path(world.path)).model_copy(update={"bot": bot})
    assert (check(lowered, file(copy)), restore(lowered, file(copy))) == (0, 0)


@pytest.mark.usefixtures("unlocked")
def test_what_was_there_is_kept_when_a_copy_is_brought_back(world: World, tmp_path: Path) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    copy = copied(world, tmp_path)
    world.price("49400").wait(10)
    world.db.close()
    assert restore(settings_for(Path(world.path)), file(copy)) == 0
    [aside] = tmp_path.glob("bot.db.before-????????-??????")
    count = "SELECT count(*) FROM trades"
    with sqlite3.connect(world.path) as now, sqlite3.connect(aside) as before:
        assert (now.execute(count).fetchone(), before.execute(count).fetchone()) == ((0,), (1,))


def as_killed(world: World, directory: Path) -> Settings:
    """The files of a bot that was ended by kill -9: the last fill is in the log only."""
    world.price("49400").wait(10)
    directory.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{world.path}{suffix}", directory)
    return settings_for(directory / "bot.db")


def trades_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM trades").fetchone()[0])


@pytest.mark.usefixtures("unlocked")
def test_a_restore_that_is_killed_leaves_the_database_where_it_was(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    copy = copied(world, tmp_path)
    settings = as_killed(world, tmp_path / "killed")
    replace = os.replace

    def killed(old: Path, new: Path) -> None:
        if new == settings.db.path:
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        restore(settings, file(copy))
    assert trades_in(settings.db.path) == 1


@pytest.mark.usefixtures("unlocked")
def test_a_log_that_a_killed_restore_has_left_does_not_spoil_the_copy(world: World, tmp_path: Path) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    copy = copied(world, tmp_path)
    settings = as_killed(world, tmp_path / "killed")
    shutil.copy(f"{world.path}-wal", f"{settings.db.path}.restoring-wal")
    assert restore(settings, file(copy)) == 0
    assert trades_in(settings.db.path) == 0


@pytest.mark.usefixtures("unlocked")
def test_two_restores_in_one_second_keep_what_each_has_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    copy = copied(world, tmp_path)
    settings = as_killed(world, tmp_path / "killed")
    monkeypatch.setattr(time, "strftime", lambda _form: "now")
    assert (restore(settings, file(copy)), restore(settings, file(copy))) == (0, 0)
    asides = [settings.db.path.with_name(f"bot.db.before-now{number}") for number in ("", "-1")]
    assert [trades_in(aside) for aside in asides] == [1, 0]


@pytest.mark.usefixtures("unlocked")
def test_a_copy_takes_the_place_of_the_file_behind_a_link(world: World, tmp_path: Path) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    copy = copied(world, tmp_path)
    settings = as_killed(world, tmp_path / "disk")
    (tmp_path / "link.db").symlink_to(settings.db.path)
    assert restore(settings_for(tmp_path / "link.db"), file(copy)) == 0
    assert (tmp_path / "link.db").is_symlink()
    assert trades_in(settings.db.path) == 0


@pytest.mark.usefixtures("unlocked")
def test_what_the_simulated_exchange_has_is_kept_on_its_own_disk_where_the_database_is_a_link(
    world: World, tmp_path: Path
) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    _sql(tmp_path / "bot.exchange.db", "CREATE TABLE account (base TEXT, quote TEXT)")
    copy = copied(world, tmp_path)
    settings = as_killed(world, tmp_path / "disk")
    here = tmp_path / "here"
    here.mkdir()
    (here / "link.db").symlink_to(settings.db.path)
    _sql(here / "link.exchange.db", "CREATE TABLE account (mine TEXT)")
    assert restore(settings_for(here / "link.db"), file(copy)) == 0
    [aside] = here.glob("*.before-*")  # a file can be renamed on its own disk only
    with closing(sqlite3.connect(aside)) as db:
        assert [column[1] for column in db.execute("PRAGMA table_info(account)")] == ["mine"]


@pytest.mark.usefixtures("unlocked")
def test_a_restore_waits_for_a_reader_of_the_database(world: World, tmp_path: Path) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    copy = copied(world, tmp_path)
    settings = as_killed(world, tmp_path / "killed")
    reader = sqlite3.connect(settings.db.path, check_same_thread=False)
    reader.execute("SELECT count(*) FROM trades").fetchone()
    ends = threading.Timer(0.3, reader.close)
    ends.start()
    assert restore(settings, file(copy)) == 0
    ends.join()
    [aside] = settings.db.path.parent.glob("*.before-*")  # one file, its log folded into it
    assert trades_in(aside) == 1


@pytest.mark.usefixtures("unlocked")
def test_a_copy_brought_back_is_not_reconciled_by_the_audit_in_it(world: World, tmp_path: Path) -> None:
    _sql(world.path, "UPDATE configuration SET market = 'Demo BTC/USD'")
    Audits(world.db, USERREF).put(AuditMark(1.0, 0, ""))
    copy = copied(world, tmp_path)
    world.db.close()
    settings = settings_for(Path(world.path))
    assert read_books(settings).last_audit == AuditMark(1.0, 0, "")
    assert restore(settings, file(copy)) == 0
    books = read_books(settings)
    assert reconciled(books.rows, books.last_audit).startswith("not reconciled by what happened between the copy")
    assert not list(tmp_path.glob("*.restoring*"))


def test_nothing_is_restored_under_a_running_bot(world: World, tmp_path: Path) -> None:
    copy = copied(world, tmp_path)
    inode = os.stat(world.path).st_ino
    lock = single_instance.lock_file(f"{os.path.realpath(world.path)}.lock")
    assert lock is not None
    try:
        with pytest.raises(DatabaseError, match=r"gridbot is already running \(pid \d+\)(.|\n)*nothing was changed"):
            restore(settings_for(Path(world.path)), file(copy))
    finally:
        os.close(lock)
    assert os.stat(world.path).st_ino == inode


@pytest.mark.usefixtures("unlocked")
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"not a database at all"), "cannot be read as a database"),
        (lambda path: path.write_bytes(b""), "this is no database of gridbot"),
        (lambda path: _sql(path, "UPDATE orderbook SET price = 'NaN'"), "orderbook.price = 'NaN' is not possible"),
    ],
)
def test_a_copy_that_is_not_sound_is_not_brought_back(
    world: World, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    copy = copied(world, tmp_path)
    spoil(copy)
    world.db.close()
    with pytest.raises(ConfigurationError, match=says):
        restore(settings_for(Path(world.path)), file(copy))
    assert len(list(tmp_path.glob("bot.db.before*"))) == 0


def _sql(path: Path | str, *statements: str) -> None:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)


def problems(world: World) -> list[str]:
    return problems_in(Path(world.path), USERREF)


def test_a_sound_database_has_no_problems(world: World) -> None:
    world.price("49400").wait(10).price("50100").wait(10)
    assert problems(world) == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE orderbook SET price = '49504.9' WHERE side = 'buy'", "two open buys at 49504.9"),
        ("UPDATE orderbook SET executed = '0.001' WHERE price = '49014.7'", "0.001 executed, but its trades say 0"),
        ("UPDATE orderbook SET executed = volume WHERE price = '49014.7'", "completely executed"),
        ("UPDATE orderbook SET volume = '-1' WHERE price = '49014.7'", "orderbook.volume = '-1' is not possible"),
        ("UPDATE trades SET cost = '1e'", "trades.cost = '1e' is not possible"),
        ("UPDATE trades SET cost = '0'", "cost 0 where price x volume is 99.9998"),
        ("UPDATE trades SET cost = '102'", "cost 102 where price x volume is 99.9998"),
        ("UPDATE trades SET side = 'abc'", "trades.side = 'abc' is not possible"),
        ("UPDATE trades SET time = 9e999", "trades.time = inf is not possible"),
        ("DELETE FROM trades", "none of its executions is booked: bring a copy back (restore FILE)"),
        ("UPDATE configuration SET interval = 'abc'", "configuration.interval = 'abc' is not possible"),
        ("UPDATE configuration SET synced_at = 9e999", "configuration.synced_at = inf is not possible"),
        ("UPDATE configuration SET base_before = 'abc'", "configuration.base_before = 'abc' is not possible"),
        ("DROP TABLE forgotten_orders", "forgotten_orders is missing: bring a copy back (restore FILE)"),
        ("DROP INDEX trades_by_order", "trades_by_order is missing: bring a copy back (restore FILE)"),
        (
            "DELETE FROM _sqlite_migrations WHERE name = 'm014_forgotten_orders'",
            "forgotten_orders is there, and the record of m014_forgotten_orders, which makes it, is lost",
        ),
        ("INSERT INTO finished_orders SELECT userref, txid, 'closed', 1.0 FROM orderbook", "both open and over"),
        (
            "INSERT INTO unsold_buy_order_txids SELECT userref, sells, '1', '1', 1.0 FROM orderbook WHERE sells <> ''",
            "is noted as unsold and has an open sell",
        ),
        (
            "INSERT INTO orderbook SELECT userref, 'twin', side, price, volume, executed, placed_at, sells"
            " FROM orderbook WHERE side = 'sell'",
            "2 open sells for the buy",
        ),
    ],
)
def test_what_cannot_be_is_found(world: World, statement: str, says: str) -> None:
    world.price("49400").wait(10)
    _sql(world.path, statement)
    assert any(says in problem for problem in problems(world)), problems(world)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE configuration SET amount_per_grid = 'abc'", "configuration.amount_per_grid = 'abc' (row of userref "),
        ("UPDATE configuration SET base_before = 'abc'", "configuration.base_before = 'abc' (row of userref "),
        (
            "UPDATE configuration SET vol_of_unfilled_remaining = '1e999'",
            "unfilled_remaining = '1e999' (row of userref",
        ),
        ("UPDATE configuration SET synced_at = 9e999", "configuration.synced_at = inf (row of userref "),
        ("UPDATE orderbook SET placed_at = 9e999", "orderbook.placed_at = inf (row S00"),
        ("UPDATE orderbook SET executed = 'NaN'", "orderbook.executed = 'NaN' (row S00"),
        ("UPDATE trades SET fee = 'abc'", "trades.fee = 'abc' (row T00"),
        ("UPDATE trades SET volume = '-5'", "trades.volume = '-5' (row T00"),
        ("UPDATE trades SET time = -1e18", "trades.time = -1e+18 (row T00"),
        ("ALTER TABLE configuration DROP COLUMN synced_at", "no such column: synced_at"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_place_and_what_to_do(world: World, statement: str, says: str) -> None:
    world.price("49400").wait(10)
    _sql(world.path, statement)
    with closing(DBConnect(world.path)) as db, pytest.raises(DatabaseError) as caught:
        assert [Configuration(db, USERREF), Orderbook(db, USERREF), Trades(db, USERREF).all()] == []
    assert f"database {world.path}: " in caught.value.message
    assert says in caught.value.message
    assert "back (restore FILE)" in caught.value.message


def test_a_start_with_a_value_that_cannot_be_is_refused_in_words(world: World) -> None:
    _sql(world.path, "UPDATE configuration SET amount_per_grid = 'abc'")
    with pytest.raises(DatabaseError, match=r"configuration\.amount_per_grid = 'abc' .* or move the file aside"):
        world.restart()


def test_adopted_sells_that_fit_no_buy_are_no_problem(world: World) -> None:
    for price in ("60000", "61000"):
        world.exchange.create_order(
            side="sell",
            price=Decimal(price),
            volume=Decimal("0.001"),
            userref=USERREF,
            post_only=False,
            time=world.clock.now,
        )
    world.wait(700)
    assert [sell.sells for sell in world.sells] == ["unknown", "unknown"]
    assert problems(world) == []


def test_a_sell_without_a_mark_in_an_older_database_was_looked_at(world: World) -> None:
    world.price("49400").wait(10)
    world.db.close()
    _sql(
        world.path,
        "UPDATE orderbook SET sells = '' WHERE side = 'sell'",
        "DELETE FROM _sqlite_migrations WHERE name = 'm011_unknown_sells'",
    )
    with closing(DBConnect(world.path)) as db:
        book = Orderbook(db, USERREF)
        assert [order.sells for order in (*book.buys(), *book.sells())] == ["", "", "", "", "", "unknown"]


def test_a_file_of_a_newer_gridbot_is_not_touched(world: World) -> None:
    _sql(world.path, "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('gridbot', 'm999', 'x')")
    assert problems(world) == ["this file was written by a newer gridbot (m999); use that version"]
    with pytest.raises(ConfigurationError, match=r"newer gridbot \(m999\); use that version"):
        DBConnect(world.path)


def test_a_file_from_before_the_first_step_is_called_older_and_not_newer(world: World) -> None:
    _sql(world.path, "UPDATE _sqlite_migrations SET name = 'm001_book_and_trades' WHERE name = 'm001_configuration'")
    [problem] = problems(world)
    assert "from before this one's first step (m001_book_and_trades); use that version, or move the file" in problem
    with pytest.raises(ConfigurationError, match=r"from before this one's first step"):
        DBConnect(world.path)


def test_a_step_that_was_changed_after_its_release_is_caught_up_with(world: World) -> None:
    _sql(
        world.path,
        "ALTER TABLE forgotten_orders DROP COLUMN volume",
        "INSERT INTO forgotten_orders VALUES (1, 'B1', 1.0)",
        "DELETE FROM _sqlite_migrations WHERE name = 'm015_volume_of_forgotten_orders'",
    )
    assert problems(world) == []  # the next start mends it
    with closing(DBConnect(world.path)) as db:
        assert ForgottenOrders(db, 1).volume == 0
    assert problems(world) == []


# The schema after each step that was released, as a sum. m011 changes rows only.
RELEASED = {
    "m001_configuration": "5fc2879e",
    "m002_orders": "7dc6420f",
    "m003_trades": "40ee4bc4",
    "m010_audits": "97daa019",
    "m011_unknown_sells": "97daa019",
    "m012_trades_by_sale": "5f7b7680",
    "m013_base_at_the_first_start": "fd4397e1",
    "m014_forgotten_orders": "cfb7a961",
    "m015_volume_of_forgotten_orders": "cfb7a961",
}


def test_a_released_step_does_for_ever_what_it_did() -> None:
    """It is never changed: files that have taken it do not take it again. A new one follows, with its line here."""
    db, done = Database(memory=True), {}
    steps = [step.name for step in migrations.pending(db)]
    for name, following in zip(steps, (*steps[1:], ""), strict=True):
        migrations.apply(db, stop_before=following)
        made = db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE '%sqlite%' ORDER BY name")
        words = " ".join(sql for (sql,) in made).split()
        done[name] = f"{crc32(' '.join(words).encode()):08x}"
    assert done == RELEASED


def test_the_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    _sql(tmp_path / "photos.db", "CREATE TABLE albums (name TEXT)")
    before = (tmp_path / "photos.db").read_bytes()
    with pytest.raises(ConfigurationError, match=r"photos.db: is the database of another program"):
        open_or_rebuild(tmp_path / "photos.db", 0.0)
    assert (tmp_path / "photos.db").read_bytes() == before


def test_the_books_of_an_older_gridbot_are_read_after_its_next_start(world: World) -> None:
    _sql(world.path, "DROP TABLE audits")
    with (
        closing(DBConnect(world.path, read_only=True)) as db,
        pytest.raises(DatabaseError, match=r"no such table: audits\. .* brought up to date by the bot's next start"),
    ):
        Audits(db, USERREF).last()


PHONE = "[notification]\nchannels = tests.acceptance.test_owner_commands:Phone\n"
CONFIG = config_ini(PHONE, max_investment=2000)


class Phone(INotificationChannel):
    """The owner's phone."""

    heard: ClassVar[list[str]] = []

    @classmethod
    def from_settings(cls, settings: NotificationConfigDTO) -> Self:
        return cls()

    def send(self, message: str) -> bool:
        self.heard.append(message)
        return True


def test_a_dead_bot_is_told_once_and_its_return_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "sign_path", lambda database: f"{database}.alive")
    (tmp_path / "config.ini").write_text(CONFIG)
    words = ["--config", str(tmp_path / "config.ini"), "watch", "--notify"]
    Phone.heard.clear()
    assert single_instance.claim(str(tmp_path / "gridbot.db")) is None
    alive = Heartbeat(tmp_path / "gridbot.db")
    alive.beat("RUNNING")
    assert main(words) == 0
    assert Phone.heard == []
    alive.end("the database is full")
    assert [main(words), main(words)] == [1, 1]
    assert Phone.heard == [
        "mine: the bot ended 0 s ago (the database is full)\n  Start it, unless cron does: it goes on where it was."
    ]
    Heartbeat(tmp_path / "gridbot.db").beat("RUNNING")
    assert [main(words), main(words)] == [0, 0]
    assert len(Phone.heard) == 2
    assert "is alive: RUNNING" in Phone.heard[1]
    alive.end("again")
    os.utime(tmp_path / "config.ini")
    assert main(words) == 1
    told = tmp_path / "gridbot.db.alive.7.told"
    os.utime(told, (time.time() - 6 * 3600 - 1,) * 2)
    assert main(words) == 1
    assert len(Phone.heard) == 4, "a bot that stays dead is told again after six hours"
    single_instance.release_all()


def test_a_channel_of_ones_own_that_fails_is_named_by_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Phone, "send", Mock(side_effect=RuntimeError("token")))
    (tmp_path / "config.ini").write_text(CONFIG)
    assert main(["--config", str(tmp_path / "config.ini"), "watch", "--notify"]) == 1
    assert capsys.readouterr().out.endswith("\nPhone: message not sent: RuntimeError\n")


def test_a_bot_that_was_stopped_on_request_is_not_alive_and_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heartbeat, "sign_path", lambda database: f"{database}.alive")
    (tmp_path / "config.ini").write_text(CONFIG)
    Phone.heard.clear()
    Heartbeat(tmp_path / "gridbot.db").end("asked to stop", on_request=True)
    assert main(["--config", str(tmp_path / "config.ini"), "watch", "--notify"]) == 1
    assert capsys.readouterr().out.startswith("the bot was stopped on request at 20")
    assert Phone.heard == []


def test_the_life_of_another_bot_on_the_database_is_not_one_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heartbeat, "sign_path", lambda database: f"{database}.alive")
    (tmp_path / "config.ini").write_text(config_ini(PHONE, userref="07"))
    assert single_instance.claim(str(tmp_path / "gridbot.db")) is None
    Heartbeat(tmp_path / "gridbot.db", userref=7).beat("RUNNING")
    words = ["--config", str(tmp_path / "config.ini"), "watch"]
    assert main(words) == 0
    Heartbeat(tmp_path / "gridbot.db", userref=101).beat("RUNNING")
    assert main(words) == 1
    said = (
        "another bot (userref 101) uses this database; this one does not run.\n  Every bot needs a database of its own"
    )
    assert said in capsys.readouterr().out
    single_instance.release_all()


@pytest.fixture
def kraken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with Ground(tmp_path) as ground:
        yield ground
    single_instance.release_all()


def doctor(ground: Ground, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["--config", str(ground.directory / "config.ini"), "doctor"])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_doctor_finds_everything_ready_and_places_nothing(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = doctor(kraken, capsys)
    assert (code, text.splitlines()[-1]) == (0, "everything is ready"), text
    for line in (
        "ok      network: the exchange answers and is open for trading",
        "ok      clock: agrees with the exchange's",
        "ok      key: may do what the bot needs, and cannot withdraw money",
        "ok      fee: 0.25 % a side; an interval of 1.00 % pays",
        "ok      minimum: every order is large enough; buys from 49504.9 down to 47573.1",
    ):
        assert line in text
    assert kraken.fake.count("AddOrder") == kraken.fake.count("CancelOrder") == 0
    assert TEST_SECRET not in text


def test_the_doctor_sends_a_test_message_only_when_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.ini").write_text(CONFIG)
    words = ["--config", str(tmp_path / "config.ini"), "doctor"]
    Phone.heard.clear()
    assert (main(words), Phone.heard) == (0, [])
    assert "hint    message: Phone not tried: doctor --notify sends a test message\n" in capsys.readouterr().out
    assert (main([*words, "--notify"]), Phone.heard) == (0, ["mine: a test message of doctor"])
    assert "ok      message: Phone: test message sent\n" in capsys.readouterr().out
    monkeypatch.setattr(Phone, "send", Mock(return_value=False))
    assert main([*words, "--notify"]) == 1
    assert "PROBLEM message: Phone: the message was not accepted\n" in capsys.readouterr().out
    (tmp_path / "config.ini").write_text(config_ini())
    assert main([*words, "--notify"]) == 0
    assert "hint    message: no channel is configured; see [telegram]\n" in capsys.readouterr().out
    single_instance.release_all()


@pytest.mark.parametrize(
    ("free", "code", "says"),
    [
        (0, 2, "PROBLEM disk: 0.0 MB are free for the database"),
        (30_000_000, 0, "hint    disk: 30.0 MB are free for the database"),
        (60_000_000, 0, None),
    ],
)
def test_the_doctor_sees_a_disk_that_is_or_will_soon_be_full(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int,
    code: int,
    says: str | None,
) -> None:
    (tmp_path / "config.ini").write_text(CONFIG)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Mock(free=free))
    assert main(["--config", str(tmp_path / "config.ini"), "doctor"]) == code
    text = capsys.readouterr().out
    assert (says in text) if says else ("MB are free" not in text)


@pytest.mark.parametrize(("host", "is_possible"), [("127.0.0.1", True), ("999.1.1.1", False)])
def test_the_doctor_tries_the_address_of_the_status_page_unless_the_bot_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, is_possible: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (tmp_path / "config.ini").write_text(f"{CONFIG}[metrics]\nenabled = yes\nhost = {host}\nport = {port}\n")
    words = ["--config", str(tmp_path / "config.ini"), "doctor"]
    assert main(words) == 0  # trading works without it
    good, bad = (
        f"ok      status page: can be served on port {port} of {host}\n",
        f"hint    status page: [metrics] host = {host}",
    )
    assert (good if is_possible else bad) in capsys.readouterr().out
    single_instance.release_all()
    with held(f"{tmp_path / 'gridbot.db'}.lock"):
        assert main(words) == 0
    assert "status page: " not in capsys.readouterr().out


def test_the_doctor_names_the_missing_ticks(kraken: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    kraken.fake.keys[TEST_KEY].permissions -= {"modify-trades"}
    code, text = doctor(kraken, capsys)
    assert code == 2
    assert "PROBLEM key: " in text
    assert "Create & modify orders" in text


@contextmanager
def held(path: str) -> Iterator[None]:
    """The lock file of somebody who runs."""
    lock = single_instance.lock_file(path)
    assert lock is not None
    try:
        yield
    finally:
        os.close(lock)


def test_the_doctor_leaves_the_key_alone_while_the_bot_uses_it(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(f"{kraken.database}.lock"):
        code, text = doctor(kraken, capsys)
    assert code == 0
    assert "hint    key: not tried: gridbot is already running" in text
    assert not [call.method for call in kraken.fake.calls if call.private]


def test_the_doctor_says_that_another_bot_has_the_database(
    kraken: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    World("GridHODL", path=tmp_path / "bot.db").start("50000").db.close()
    _sql(tmp_path / "bot.db", "UPDATE configuration SET userref = 101")
    code, text = doctor(kraken, capsys)
    assert code == 0
    assert (
        f"hint    database: {tmp_path}/bot.db holds the books of userref 101, and none of this bot's {USERREF}. "
        in text
    )
    Heartbeat(kraken.database, userref=101).beat("RUNNING")
    with held(f"{kraken.database}.lock"):
        code, text = doctor(kraken, capsys)
    assert code == 2
    assert f"PROBLEM database: {tmp_path}/bot.db: another bot (userref 101) uses this database; this one does" in text


@pytest.mark.parametrize(
    ("dry_run", "code", "verdict", "advice"),
    [
        ("no", 2, "PROBLEM key: gridbot is already running", "This bot cannot start beside it"),
        ("yes", 0, "hint    key: not tried: gridbot is already running", "Play money needs none"),
    ],
)
def test_the_doctor_says_that_another_bot_has_the_key(
    kraken: Ground, capsys: pytest.CaptureFixture[str], dry_run: str, code: int, verdict: str, advice: str
) -> None:
    config = kraken.directory / "config.ini"
    config.write_text(config.read_text().replace("dry_run = no", f"dry_run = {dry_run}"))
    with held(f"{single_instance.key_state_path(TEST_KEY, kraken.directory)}.lock"):
        found, text = doctor(kraken, capsys)
    assert found == code
    assert verdict in text
    assert f"with this API key; a second bot needs a key of its own. {advice}" in text


def test_the_doctor_finds_orders_of_its_userref_that_the_database_does_not_know(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "hint    userref" not in doctor(kraken, capsys)[1]
    for price in ("49000.0", "48000.0"):
        kraken.fake.place_by_hand("BTC/USD", "buy", "0.01", price, userref=USERREF)
    code, text = doctor(kraken, capsys)
    assert code == 0
    assert (
        f"hint    userref: the exchange has 2 orders of userref {USERREF} open already, and the database knows" in text
    )
    assert "Or another bot uses this number: then choose another one" in text


def test_the_doctor_finds_auto_earn_of_a_coin_that_is_the_quote(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kraken.directory / "config.ini"
    text = path.read_text().replace("quote_currency = USD", "quote_currency = BTC")
    path.write_text(text.replace("base_currency = BTC", "base_currency = ETH"))
    kraken.fake.auto_earn.add("XXBT")
    assert "hint    auto-earn: is on for XBT.F" in doctor(kraken, capsys)[1]


def test_the_doctor_says_what_to_do_about_funds_clock_and_auto_earn(
    kraken: Ground, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kraken.fake.deposit("ZUSD", "-99500")
    kraken.fake.auto_earn.add("XXBT")
    monkeypatch.setattr("gridbot.core.clock.SystemClock.time", lambda _self: time.time() - 3600)
    code, text = doctor(kraken, capsys)
    assert code == 0
    assert "but the 5 buys to be placed need 501.25 USD with fees: some will wait" in text
    assert "behind. The bot goes by the exchange's clock" in text
    assert "hint    auto-earn: is on for XBT.F" in text


def test_the_doctor_finds_that_buys_will_wait_where_only_their_fees_are_missing(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    kraken.fake.deposit("ZUSD", "-99198.75")  # 300.75 are in an order made by hand
    _, text = doctor(kraken, capsys)
    assert "hint    funds: 500.50 USD and " in text
    assert " free, but the 5 buys to be placed need 501.25 USD with fees: some will wait" in text


def test_the_doctor_counts_no_more_money_than_is_the_bots_own(
    kraken: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text() + "[funds]\nown_quote = 300\n")
    said = " free and the bot's own by [funds], but the 5 buys to be placed need 501.25 USD with fees: some will wait"
    _, text = doctor(kraken, capsys)
    assert f"hint    funds: 300.00 USD and 0.99000000 BTC{said}" in text
    bot = World("GridHODL", path=tmp_path / "bot.db").start("50000").price("49500")
    traded, bound = bot.desk.traded[1], bound_by(bot.desk.book, (), bot.desk.funds.fee)[1]
    bot.db.close()
    _sql(tmp_path / "bot.db", "UPDATE configuration SET market = 'Kraken BTC/USD'")
    path.write_text(
        path.read_text().replace("own_quote = 300", "own_quote = 700").replace("buy_orders = 5", "buy_orders = 9")
    )
    assert f"hint    funds: {shown(700 + traded - bound)} USD and " in doctor(kraken, capsys)[1]


def test_the_doctor_tells_of_shares_that_the_account_does_not_hold(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text() + "[funds]\nown_base = 3\nown_quote = 200000\n")
    _, text = doctor(kraken, capsys)
    assert "hint    funds: [funds] own_base = 3, and the account holds 1.00000000 BTC. The bot uses what there" in text
    assert "hint    funds: [funds] own_quote = 200000, and the account holds 100000.00 USD. The bot uses" in text


@pytest.mark.parametrize(
    ("strategy", "own_base", "hinted"),
    [
        ("SWING", "", True),
        ("SWING", "own_base = 3", True),
        ("SWING", "own_base = 0", False),
        ("own_swing:OwnSwing", "", True),
        ("GridHODL", "", False),
    ],
)
def test_the_doctor_tells_the_owner_of_coins_that_swing_will_sell_them(
    kraken: Ground, capsys: pytest.CaptureFixture[str], strategy: str, own_base: str, hinted: bool
) -> None:
    own = "from gridbot.strategies.swing import SwingStrategy\n\n\nclass OwnSwing(SwingStrategy):\n    pass\n"
    (kraken.directory / "own_swing.py").write_text(own)
    kraken.fake.deposit("XXBT", "0.3")  # there is 1 already
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text().replace("GridHODL", strategy) + f"[funds]\n{own_base}\n")
    _, text = doctor(kraken, capsys)
    hint = f"hint    coins: {strategy} will sell the 1.29000000 BTC that are free. To keep them: [funds] own_base = 0"
    assert (hint in text) is hinted, text


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        ("0.5%", "two fees of 0.4 % cost more than a step of 0.5 % earns"),
        ("0.81%", "0.40 % a side; an interval of 0.81 % pays"),
    ],
)
def test_the_doctor_knows_the_fee_that_a_dry_run_assumes(
    kraken: Ground, capsys: pytest.CaptureFixture[str], interval: str, says: str
) -> None:
    path = kraken.directory / "config.ini"
    text = path.read_text().replace("dry_run = no", "dry_run = yes").replace("interval = 1%", f"interval = {interval}")
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("api_")))
    assert says in doctor(kraken, capsys)[1]


def test_the_doctor_goes_by_the_fee_that_the_account_pays_where_the_settings_say_less(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text().replace("interval = 1%", "interval = 0.4%\nfee = 0.1%"))
    code, text = doctor(kraken, capsys)
    assert code == 2
    assert "[grid] fee is 0.10 % a side, your account pays 0.25 %" in text
    assert "two fees of 0.25 % cost more than a step of 0.4 % earns" in text


def test_the_doctor_tells_a_tick_that_takes_all_of_an_interval(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    kraken.fake.pair("XXBTZUSD").tick_size = Decimal(500)
    code, text = doctor(kraken, capsys)
    assert code == 2
    assert "steps of 500, so that a buy @ 49500 would be sold @ 49500, and two fees of 0.25 % take all of it" in text
    assert "Raise interval to 1.021 % or more" in text


@pytest.mark.parametrize(
    ("amount", "needed"),
    [("2", "10.02"), ("0.3", "1.50")],  # below the smallest volume; below the smallest cost, too
)
def test_the_doctor_tells_an_amount_that_is_too_small_and_at_once_one_that_is_not(
    kraken: Ground, capsys: pytest.CaptureFixture[str], amount: str, needed: str
) -> None:
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text().replace("amount_per_grid = 100", f"amount_per_grid = {amount}"))
    code, text = doctor(kraken, capsys)
    assert code == 2
    assert f"PROBLEM settings: [grid] amount_per_grid = {amount}: too little for a buy @ 49504.9 and its sell: " in text
    assert "Raise amount_per_grid to 2.53 or more" in text
    assert f" free; the 5 buys to be placed need {needed} USD with fees" in text, "and looks on"


@pytest.mark.parametrize(("strategy", "is_enough"), [("GridHODL", False), ("GridSell", True), ("cDCA", True)])
def test_the_doctor_asks_the_strategy_itself_what_it_sells(
    kraken: Ground, capsys: pytest.CaptureFixture[str], strategy: str, is_enough: bool
) -> None:
    """2.7 USD buy 0.0000594 BTC at 45454.5: GridSell sells all of it, GridHODL less than the smallest order."""
    path = kraken.directory / "config.ini"
    text = path.read_text().replace("amount_per_grid = 100", "amount_per_grid = 2.7")
    path.write_text(text.replace("interval = 1%", "interval = 10%").replace("GridHODL", strategy))
    code, text = doctor(kraken, capsys)
    assert ("ok      minimum: every order is large enough" in text, code == 0) == (is_enough, is_enough), text


def test_the_doctor_tells_a_limit_that_leaves_no_room_for_one_buy_and_its_fee(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text().replace("max_investment = 2000", "max_investment = 100.2"))
    code, text = doctor(kraken, capsys)
    assert code == 2
    assert "max_investment: not one buy fits, it must be more than 100.25" in text


def test_the_doctor_says_that_the_database_is_another_market_s_as_run_will(
    kraken: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    World("GridHODL", path=tmp_path / "bot.db").start("50000").db.close()
    _sql(tmp_path / "bot.db", "UPDATE configuration SET market = 'Demo BTC/USD'")
    code, text = doctor(kraken, capsys)
    assert code == 2
    found = "bot.db: holds the books of Demo BTC/USD, and the settings ask for Kraken BTC/USD. "
    assert [found in line for line in text.splitlines() if line.startswith("PROBLEM database: ")] == [True]
    assert "is sound" not in text


def test_the_doctor_says_how_many_buys_the_limit_has_room_for(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text().replace("max_investment = 2000", "max_investment = 250"))
    code, text = doctor(kraken, capsys)
    assert code == 0
    assert (
        "hint    limit: max_investment = 250 has room for 2 of the 5 buys, less while sells are open. For all" in text
    )
    assert "For all of them: more than 500\n" in text


class Quiet(IExchangeFactory):
    """An exchange of one's own, without a price and without a smallest volume."""

    def create(self, setup: ExchangeSetup) -> Exchange:
        pair = demo_pair("BTC", "USD", Decimal(50000)).model_copy(update={"ordermin": Decimal("0.00")})
        rest = SimulatedRESTService(
            SimulatedExchange(
                pair, base_balance=Decimal(0), quote_balance=Decimal(9999), fee=Decimal("0.0025"), symbol="BTC/USD"
            ),
            now=time.time,
        )
        return Exchange(rest, Mock(), simulated=True)


def test_an_exchange_that_has_no_price_yet_is_no_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "tests.acceptance.test_owner_commands:Quiet"
    (tmp_path / "config.ini").write_text(config_ini(exchange=name))
    code = main(["--config", str(tmp_path / "config.ini"), "doctor"])
    text = capsys.readouterr().out
    assert (code, text.splitlines()[-1]) == (0, "everything is ready"), text
    assert "BTC/USD can be traded; smallest order 0.5 USD\n" in text
    assert "hint    price: Simulated: no price of BTC/USD is known yet; the minimums cannot be looked at" in text
    assert f"dry run: {name}, play money" in text


def test_without_the_key_real_orders_are_refused_and_the_books_are_not(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text().replace(f"api_secret_key = {TEST_SECRET}", "api_secret_key ="))
    code, text = doctor(kraken, capsys)
    assert (code, text.count("real orders need both")) == (2, 1)
    assert text.splitlines()[1].startswith("PROBLEM settings: "), "what stops the start comes first"
    for command, refused in (("run", True), ("audit", True), ("watch", False), ("check", False), ("status", False)):
        main(["--config", str(path), command])
        assert ("real orders need both" in capsys.readouterr().err) is refused, command
    assert not [call for call in kraken.fake.calls if call.private]


def plan(ground: Ground, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["--config", str(ground.directory / "config.ini"), "plan", *options]) == 0
    return capsys.readouterr().out


def test_a_plan_of_real_orders_counts_with_the_fee_that_the_account_pays(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    text = plan(kraken, capsys, "--interval", "0.7%")
    assert "\nfee 0.25 % a side (what the account pays)\n" in text
    assert "interval = 0.503 %\n" in text
    assert "\nfee 0.16 % a side (as asked)\n" in plan(kraken, capsys, "--fee", "0.16%")


def test_a_plan_counts_with_the_fee_of_the_bot_and_leaves_the_key_to_it(
    kraken: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bot = World("GridHODL", path=tmp_path / "bot.db").start("50000")
    Snapshots(bot.db, USERREF).put(time.time() - 120, {"fee": "0.003"})
    bot.db.close()
    _sql(tmp_path / "bot.db", "UPDATE configuration SET market = 'Kraken BTC/USD'")
    assert "\nfee 0.30 % a side (what the bot saw 2 min ago; --fee sets another)\n" in plan(kraken, capsys)
    assert not [call.method for call in kraken.fake.calls if call.private]


def test_a_plan_whose_fee_nobody_tells_assumes_one_and_says_so_and_why(
    kraken: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "\nfee 0.40 % a side (assumed, and perhaps not yours; --fee sets another. "
    kraken.fake.keys[TEST_KEY].permissions -= {"query-funds"}
    assert f"{said}Kraken does not tell it to this key: see doctor)\n" in plan(kraken, capsys)
    path = kraken.directory / "config.ini"
    path.write_text(path.read_text().replace(f"api_secret_key = {TEST_SECRET}", "api_secret_key ="))
    assert f"{said}[kraken] api_public_key, api_secret_key: real orders need both" in plan(kraken, capsys)
    path.write_text(path.read_text().replace("dry_run = no", "dry_run = yes"))
    assert "\nfee 0.40 % a side (assumed; --fee sets another)\n" in plan(kraken, capsys)


def test_the_selftest_keeps_every_promise_and_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.ini").write_text(CONFIG)
    code = main(["--config", str(tmp_path / "config.ini"), "selftest", "--days", "3", "--seed", "4"])
    text = capsys.readouterr().out
    assert code == 0, text
    assert "BROKEN" not in text
    assert text.count("\nok     ") == 8
    assert "every promise held" in text
    assert list(tmp_path.iterdir()) == [tmp_path / "config.ini"], "nothing is left behind"


def test_the_selftest_expects_no_sell_of_a_buy_that_the_strategy_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.ini").write_text(config_ini(strategy="tests.world:Keeper"))
    code = main(["--config", str(tmp_path / "config.ini"), "selftest", "--days", "1", "--seed", "4"])
    text = capsys.readouterr().out
    assert code == 0, text
    assert " USD, 1 day of a made-up market, seed 4\n" in text
    assert re.search(r"one unsold record: \d+ filled buys, of which the strategy keeps \d+", text), text


def test_the_selftest_notices_a_bot_that_sends_an_order_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = OrderDesk.send

    def stubborn(desk: OrderDesk, placement: Placement) -> BookOrder | None:
        order = send(desk, placement)
        lost = order is None and placement in desk.pending.all()
        return send(desk, placement) if lost else order

    monkeypatch.setattr(OrderDesk, "send", stubborn)
    (tmp_path / "config.ini").write_text(CONFIG)
    code = main(["--config", str(tmp_path / "config.ini"), "selftest", "--days", "10", "--seed", "4"])
    text = capsys.readouterr().out
    assert code == 1, text
    assert "BROKEN no level is bought twice" in text
    assert "please report this, with: selftest --seed 4 --days 10" in text
