"""The file of the simulated exchange: what was answered survives a restart and a power cut."""

import os
import signal
import sqlite3
from contextlib import closing
from decimal import Decimal
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_store import SimulatedStore, open_exchange, store_path
from gridbot.exceptions import DatabaseError
from gridbot.models.configuration import PaperConfigDTO, Settings
from tests.settings import config
from tests.unit.test_simulated import FEE, PAIR, USERREF, at, buy, make, sell


def stored(path: Path, quote: str = "10000", fee: Decimal = FEE, book: str = "Demo BTC/USD") -> SimulatedRESTService:
    paper = PaperConfigDTO(base_balance=Decimal(1), quote_balance=Decimal(quote))
    settings = Settings(bot=config(fee=fee, interval=Decimal("0.05")), paper=paper)
    exchange = open_exchange(SimulatedStore(path, book), PAIR, settings, "BTC/USD")
    exchange.on_price(Decimal("50000.0"), 1000.0)
    return SimulatedRESTService(exchange, now=lambda: exchange.time)


def everything(rest: SimulatedRESTService):
    exchange = rest.exchange
    return (
        exchange.money,
        dict(exchange.open_orders),
        list(exchange.finished.items()),
        dict(exchange.trades),
        (exchange.next_fill_below, exchange.next_fill_above),
    )


def test_the_exchange_is_the_same_after_it_was_opened_again(tmp_path):
    rest = stored(tmp_path / "x.db")
    cancelled, part = buy(rest, "49000.0"), buy(rest, "48000.0")
    sell(rest, "51000.0")
    sell(rest, "52000.0")
    rest.cancel_order(cancelled)
    rest.exchange.fill(part, Decimal("0.0007"))
    at(rest, "51500.0", 2000.0)
    at(rest, "50000.0", 2001.0)
    before = everything(rest)
    rest.close()
    again = stored(tmp_path / "x.db")
    assert everything(again) == before
    again.exchange.check_money()
    at(again, "47000.0")
    assert again.get_order_with_retry(part).status == "closed"
    again.close()


def test_ids_never_repeat_across_restarts_and_new_books(tmp_path):
    ids = set()
    for path in (tmp_path / "x.db", tmp_path / "x.db", tmp_path / "moved_away.db"):
        rest = stored(path)
        ids.add(buy(rest, "49000.0"))
        rest.close()
    assert len(ids) == 3


def test_a_changed_start_balance_does_not_touch_stored_play_money_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    stored(tmp_path / "x.db").close()
    assert caplog.messages == []
    rest = stored(tmp_path / "x.db", quote="5000")
    assert rest.get_pair_balance().quote_balance == 10000
    [line] = caplog.messages
    assert "goes on with the play money of its first start (1 base, 10000 quote)" in line
    rest.close()


def test_two_books_in_one_file_know_nothing_of_each_other(tmp_path):
    demo, paper = stored(tmp_path / "x.db"), stored(tmp_path / "x.db", quote="77", book="Paper BTC/USD")
    buy(demo, "49000.0")
    assert paper.get_pair_balance().quote_balance == 77
    demo.close()
    paper.close()
    again = stored(tmp_path / "x.db", quote="77", book="Paper BTC/USD")
    assert again.get_open_orders(USERREF) == []
    again.close()


def test_an_order_keeps_the_fee_it_was_placed_with(tmp_path):
    rest = stored(tmp_path / "x.db", quote="98.245")
    buy(rest, "49000.0")  # holds everything: 98 and a fee of 0.245
    rest.close()
    dearer = stored(tmp_path / "x.db", quote="98.245", fee=Decimal("0.01"))
    [event] = at(dearer, "48000.0")
    assert event.fee == Decimal("0.24500")
    dearer.exchange.check_money()
    dearer.close()


def test_prices_that_fill_nothing_write_nothing(tmp_path):
    rest = stored(tmp_path / "x.db")
    buy(rest, "49000.0")
    wal = tmp_path / "x.db-wal"
    before = wal.stat().st_size
    for k in range(1000):
        at(rest, f"{49001 + k}.0")
    assert wal.stat().st_size == before
    rest.close()


def test_a_file_that_cannot_be_used_says_what_to_do(tmp_path):
    (tmp_path / "x.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DatabaseError, match="can be removed together with the database"):
        stored(tmp_path / "x.db")


@pytest.mark.parametrize(
    "change",
    [
        "account SET base = 'abc'",
        "orders SET volume = 'abc'",
        "executions SET price = '0'",
        "market SET seed = 'abc'",
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_to_do(tmp_path, change):
    rest = stored(tmp_path / "x.db")
    buy(rest, "49000.0")
    at(rest, "48000.0")
    rest.close()
    with closing(sqlite3.connect(tmp_path / "x.db")) as db, db:
        db.execute("INSERT INTO market VALUES ('Demo BTC/USD', '1', 2, 3.0)")
        db.execute(f"UPDATE {change}")
    says = r"x\.db: holds a value that is not possible\. .*A damaged file can be removed together with the database"
    store = SimulatedStore(tmp_path / "x.db", "Demo BTC/USD")
    with pytest.raises(DatabaseError, match=says):
        assert [store.open_account(Decimal(1), Decimal(1)), store.market_position()] == []


def test_the_file_lies_beside_the_bots_database():
    assert store_path(Path("/home/me/gridbot.db")) == Path("/home/me/gridbot.exchange.db")
    assert store_path(Path("/home/me/gridbot.sqlite")) == Path("/home/me/gridbot.sqlite.exchange.db")


def test_a_file_under_its_former_name_is_still_found_and_not_shared(tmp_path):
    (tmp_path / "bot.exchange.db").touch()
    assert store_path(tmp_path / "bot.sqlite") == tmp_path / "bot.exchange.db"
    (tmp_path / "bot.db").touch()
    assert store_path(tmp_path / "bot.sqlite") == tmp_path / "bot.sqlite.exchange.db"


def trade_and_die(path: Path, told: Connection) -> None:
    rest = stored(path)
    told.send((buy(rest, "49000.0"), buy(rest, "48000.0"), at(rest, "48500.0")[0].exec_id))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_answered_survives_kill_9(tmp_path):
    here, there = Pipe()
    process = get_context("fork").Process(target=trade_and_die, args=(tmp_path / "x.db", there))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    filled, still_open, exec_id = here.recv()
    rest = stored(tmp_path / "x.db")
    assert [o.txid for o in rest.get_open_orders(USERREF)] == [still_open]
    assert rest.get_order_with_retry(filled).status == "closed"
    assert rest.get_trades_info([exec_id])[exec_id].txid == filled
    rest.exchange.check_money()
    rest.close()


def test_nothing_is_told_that_could_not_be_stored():
    class FullDisk:
        def save(self, *_):
            raise DatabaseError("the disk is full")

        def close(self):
            pass

    rest = make(store=FullDisk())
    with pytest.raises(DatabaseError):
        buy(rest, "49000.0")
    assert rest.exchange.take_events() == []
