"""The engine: what it waits for, what it calls an error, and how it ends."""

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from gridbot.core import single_instance
from gridbot.core.engine import BotEngine
from gridbot.core.state_machine import States
from gridbot.exceptions import (
    AccessDenied,
    BotStateError,
    ConfigurationError,
    DatabaseError,
    GridBotError,
    PostOnlyWouldCross,
    TemporaryFailure,
)
from gridbot.infrastructure.database import Configuration, DBConnect, Orderbook, open_or_rebuild
from gridbot.infrastructure.migrations import Database
from gridbot.interfaces.exchange import Exchange
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models.configuration import DBConfigDTO, MetricsConfigDTO, NotificationConfigDTO, Settings
from gridbot.models.events import BotStarted, BotStopped, Event, Trouble
from gridbot.models.exchange import CreateOrderResponseSchema, OnMessageSchema
from tests.settings import USERREF, config
from tests.world import ManualClock, World


class Stopping(ManualClock):
    """A clock that asks the bot to stop at a given time."""

    stop_at = float("inf")

    def stopping(self) -> bool:
        return self.now >= self.stop_at


class House:
    """An engine on the simulated exchange; its queue is empty unless a test fills it."""

    def __init__(self, path: Path, channels: tuple[str, ...] = (), **changes: object) -> None:
        self.world = World(changes=changes)
        self.clock = Stopping()
        self.world.rest.now = self.clock.time
        self.settings = Settings(
            bot=config(**changes),
            db=DBConfigDTO(path=path / "bot.db"),
            notification=NotificationConfigDTO(channels=channels),
            config_path=path / "config.ini",
        )
        self.db = DBConnect(path / "bot.db")
        self.exchange = Exchange(self.world.rest, self.world.feed, simulated=True)
        self.engine = BotEngine(self.settings, self.clock, self.exchange, self.db)
        self.events: list[Event] = []
        self.engine.event_bus.subscribe(Event, self.events.append)

    def price(self, text: str) -> None:
        for told in self.world.feed._traded(Decimal(text), self.clock.now):
            self.engine.handle(told)

    def turn(self, seconds: float = 1.0) -> None:
        """A turn of the loop, with nothing new on the queue or what the bot's own calls put there."""
        self.clock.now += seconds
        self.engine.step(0.0)

    def start(self) -> "House":
        self.engine._connect()
        self.price("50000")
        for _ in range(20):
            self.turn(0.1)
        return self

    def run(self, seconds: float) -> int:
        self.clock.stop_at = self.clock.now + seconds
        step = self.engine.step

        def turn(_timeout: float) -> None:
            self.clock.now += 1
            step(0.0)

        self.engine.step = turn  # type: ignore[method-assign]
        return self.engine.run()


def test_it_runs_once_price_and_executions_are_there(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.engine._connect()
    house.turn()
    assert house.engine.state_machine.state is States.INITIALIZING
    house.price("50000")
    house.turn()
    house.turn()
    assert house.engine.state_machine.state is States.RUNNING
    [started] = [e for e in house.events if isinstance(e, BotStarted)]
    assert "5 buys of 100.00, 1.00 % apart, fee 0.25 % a side" in started.summary
    assert len(house.engine.desk.book.buys()) == 5


def test_a_status_page_that_cannot_be_served_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    metrics = MetricsConfigDTO(enabled=True, host="999.1.1.1")
    house.engine._settings = house.settings.model_copy(update={"metrics": metrics})
    assert house.run(5) == 0
    [trouble] = [event for event in house.events if isinstance(event, Trouble)]
    assert trouble.text.endswith("enabled = no. Trading works without the status page.")


def test_without_a_network_it_waits_says_so_and_starts_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = House(tmp_path)
    answers = [TemporaryFailure("no route to Kraken"), TemporaryFailure("no route to Kraken")]

    def check(tries: int = 0) -> None:
        if answers:
            raise answers.pop()

    house.world.rest.check_exchange_status = check  # type: ignore[method-assign]
    began = house.clock.now
    house.start()
    assert len(house.engine.desk.book.buys()) == 5
    assert house.clock.now - began >= 15  # 5 and 10 seconds
    assert caplog.text.count("cannot start yet: no route to Kraken") == 2


def test_a_start_that_is_put_off_for_long_is_told_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    answers = [TemporaryFailure("no route to Kraken")] * 20

    def check(tries: int = 0) -> None:
        if answers:
            raise answers.pop()

    house.world.rest.check_exchange_status = check  # type: ignore[method-assign]
    house.start()
    [trouble] = [event for event in house.events if isinstance(event, Trouble)]
    assert trouble.text == "cannot start yet, and keeps trying: no route to Kraken"


def test_a_stop_by_request_leaves_the_orders_and_ends_with_0(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.run(5) == 0
    [stopped] = [e for e in house.events if isinstance(e, BotStopped)]
    assert (stopped.reason, stopped.summary) == (
        "asked to stop",
        "the exchange was not asked for its orders; the books know of 0 buys and 0 sells",
    )
    assert house.engine.state_machine.state is States.SHUTDOWN_REQUESTED


class DeafChannel(INotificationChannel):
    @classmethod
    def from_settings(cls, settings: NotificationConfigDTO) -> Self:
        return cls()

    def send(self, message: str) -> bool:
        return False


def test_what_stays_open_is_the_last_word_also_when_nobody_hears_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    house = House(tmp_path, channels=(f"{__name__}:DeafChannel",))
    assert house.run(5) == 0
    *_, sad, last = [record.getMessage() for record in caplog.records]
    assert sad == "the last notifications could not be sent"
    assert last.endswith(
        "stopped: asked to stop\nthe exchange was not asked for its orders; the books know of 0 buys and 0 sells"
    )


def test_the_farewell_counts_no_order_whose_cancellation_was_asked_for(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    book = house.engine.desk.book
    for order in book.buys()[1:]:
        book.mark_cancel_requested(order.txid)
    house.engine._end(0, "asked to stop")
    [stopped] = [e for e in house.events if isinstance(e, BotStopped)]
    assert stopped.summary == (
        "1 buy and 0 sells stay open on the exchange; 4 cancellations are not confirmed yet, the next start asks how "
        "they ended"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [(AccessDenied("the key may not trade"), 2), (GridBotError("broken"), 1)],
)
def test_what_an_error_means_shows_in_the_exit_code(tmp_path: Path, error: Exception, code: int) -> None:
    house = House(tmp_path)

    def refuse() -> None:
        raise error

    house.world.rest.check_api_key_permissions = refuse  # type: ignore[method-assign]
    assert house.run(5) == code
    assert house.engine.state_machine.state is States.ERROR


def silent(house: House, price: Callable[[], Decimal]) -> None:
    house.world.rest.get_last_price = price  # type: ignore[method-assign]


def unreachable() -> Decimal:
    raise TemporaryFailure("no answer")


def test_a_quiet_pair_is_asked_for_its_price_before_the_silence_is_an_error(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    asked = []

    def answer() -> Decimal:
        asked.append(house.clock.now)
        return Decimal("50010")

    silent(house, answer)
    for _ in range(1300):
        house.turn(1.0)
    assert len(asked) == 4
    assert house.engine.strategy.ticker == Decimal("50010")


def test_a_price_that_was_asked_for_does_not_replace_the_newer_one_of_the_feed(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    asked = []
    silent(house, lambda: asked.append(1) or Decimal("50000"))  # type: ignore[func-returns-value]
    while not asked:
        house.turn(1.0)
    house.price("49800")
    house.turn(1.0)
    assert house.engine.strategy.ticker == Decimal(49800)


def test_a_refused_buy_of_a_quiet_pair_does_not_wait_five_minutes_for_a_price(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    house.world.rest.faults = [PostOnlyWouldCross("the price is already there")]
    house.price("52000")
    silent(house, lambda: Decimal("52000.0"))
    for _ in range(20):
        house.turn(1.0)
    assert len(house.engine.desk.book.buys()) == 5


def test_a_connection_that_comes_back_without_a_price_does_not_wait_five_minutes_for_one(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    for channel in ("ticker", "executions"):
        house.engine.handle(OnMessageSchema(channel=channel, type="lost"))
    house.world.exchange.on_price(Decimal(49400), house.clock.now)
    house.world.exchange.take_events()
    house.engine.handle(OnMessageSchema(channel="executions", type="snapshot", executions=[]))
    silent(house, lambda: Decimal("49400.0"))
    for _ in range(20):
        house.turn(1.0)
    assert (len(house.engine.desk.book.buys()), len(house.engine.desk.book.sells())) == (5, 1)


def test_what_a_price_that_was_asked_for_fills_on_paper_is_told_before_it(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    exchange = house.world.exchange

    def answer() -> Decimal:  # as the dry run's: orders are matched with it
        price = Decimal("49400.0")
        exchange.announce(exchange.on_price(price, house.clock.now))
        return price

    silent(house, answer)
    for _ in range(310):
        house.turn(1.0)
    assert [f"{sell.price:f}" for sell in house.engine.desk.book.sells()] == ["49999.9"]
    assert len(house.engine.desk.book.buys()) == 5, "the ladder is completed by the price behind the fill"


def test_no_price_for_ten_minutes_is_an_error(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    silent(house, unreachable)
    for _ in range(590):
        house.turn(1.0)
    with pytest.raises(GridBotError, match=r"no price for 1[01] minutes"):
        house.turn(60.0)


def test_unless_it_is_told_to_wait_on(tmp_path: Path) -> None:
    house = House(tmp_path, skip_price_timeout=True).start()
    silent(house, unreachable)
    for _ in range(2000):
        house.turn(1.0)
    house.price("49500")
    house.turn()
    assert len(house.engine.desk.book.sells()) == 1


def test_an_amount_too_small_for_the_exchange_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    house = House(tmp_path, amount_per_grid=Decimal(2))
    house.engine._connect()
    with pytest.raises(ConfigurationError, match=r"smallest volume of 0\.00005\. Raise .* to 2\.53 or more"):
        house.start()
    assert house.world.rest.calls == []


def test_one_status_message_an_hour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house = House(tmp_path).start()
    for _ in range(3 * 60):
        house.price("50000")
        house.turn(60.0)
    texts = [r.getMessage() for r in caplog.records if r.getMessage().startswith("status")]
    assert len(texts) == 3
    assert "orders      5 of 5 buys, 0 sells" in texts[0]


def test_a_damaged_database_is_kept_aside_and_the_orders_are_adopted(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    DBConnect(path).close()
    content = bytearray(path.read_bytes())
    content[1024:3072] = b"\xff" * 2048
    path.write_bytes(content)
    db, problem = open_or_rebuild(path, 1_790_000_000.0)
    assert "was damaged; it is kept as bot.db.damaged-1790000000" in problem
    assert db.is_intact()
    assert (tmp_path / "bot.db.damaged-1790000000").exists()
    db.close()


def test_a_file_that_is_no_database_is_kept_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    path.write_text("this is not a database, and it is longer than a hundred characters" * 30)
    db, problem = open_or_rebuild(path, 1.0)
    assert problem
    db.close()


def test_a_damaged_file_behind_a_link_is_kept_aside_and_the_link_and_its_lock_stay(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    path, file = tmp_path / "bot.db", tmp_path / "disk" / "real.db"
    path.symlink_to(file)
    for number, name in enumerate(("", "-1")):  # a clock that starts in 1970 at every boot shows a second again
        file.write_text(f"this is not a database, but number {number}" * 99)
        db, problem = open_or_rebuild(path, 1.0)
        db.close()
        assert f"it is kept as real.db.damaged-1{name}. " in problem
        assert f"number {number}" in file.with_name(f"real.db.damaged-1{name}").read_text()
        assert single_instance.lock_path(path) == f"{file}.lock"


def test_a_database_in_a_format_that_never_was_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    DBConnect(path).close()
    content = bytearray(path.read_bytes())
    content[44:48] = b"\xff" * 4  # the number of the format
    path.write_bytes(content)
    db, problem = open_or_rebuild(path, 1.0)
    assert "was damaged" in problem
    db.close()


def test_a_database_of_a_later_gridbot_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    World(path=path).start("50000").db.close()
    with closing(DBConnect(path)) as db:
        db.execute("ALTER TABLE configuration ADD COLUMN of_tomorrow TEXT")
    with closing(DBConnect(path, read_only=True)) as db:
        assert Configuration(db, USERREF).get().interval == Decimal("0.01")


def test_a_disk_that_cannot_be_read_just_now_does_not_put_a_sound_database_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable(Database):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if "quick_check" in sql:
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *args)

    monkeypatch.setattr("gridbot.infrastructure.connection.Database", Unreadable)
    with pytest.raises(DatabaseError, match="disk I/O error"):
        open_or_rebuild(tmp_path / "bot.db", 1.0)
    assert [path.name for path in tmp_path.glob("*damaged*")] == []


@pytest.mark.parametrize("words", ["disk I/O error", "unable to open database file"])
@pytest.mark.parametrize("what_is_left", [{"f_bavail": 20}, {"f_favail": 0}], ids=["blocks", "files"])
def test_a_full_disk_is_called_full_also_where_sqlite_does_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, what_is_left: dict[str, int]
) -> None:
    disk = {"f_frsize": 1024, "f_bavail": 9000, "f_files": 64, "f_favail": 9}
    with closing(DBConnect(tmp_path / "bot.db")) as db:
        monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**disk))
        assert "The disk is full" not in db.explained(sqlite3.OperationalError(words)).message
        disk |= what_is_left
        said = db.explained(sqlite3.OperationalError(words)).message
        assert said.endswith("The disk is full: free some space and start the bot again; it goes on where it was.")


def test_a_bot_that_lost_its_lock_to_another_one_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path).start()
    monkeypatch.setattr(single_instance, "keep", lambda: "another gridbot (pid 7) has started")
    with pytest.raises(BotStateError, match=r"another gridbot \(pid 7\) has started. Only one of the two may run"):
        house.turn(1.0)


def test_a_database_deleted_under_the_running_bot_is_written_anew(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    path = Path(house.engine._db.path)
    for part in tmp_path.glob(f"{path.name}*"):
        part.unlink()
    house.price("50000")
    house.turn(1.0)
    house.price("49400")  # a buy is filled, and its sell placed, into the new file
    with closing(DBConnect(path, read_only=True)) as there:
        assert there.is_intact()
        assert len(Orderbook(there, USERREF).buys()) == 5
        assert len(Orderbook(there, USERREF).sells()) == 1
    assert [event.text for event in house.events if isinstance(event, Trouble)] == [
        f"the database {path} was deleted while the bot runs; it was written anew, nothing is lost"
    ]


def test_another_file_in_the_place_of_the_database_is_told_once(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    path = Path(house.engine._db.path)
    DBConnect(tmp_path / "other.db").close()
    (tmp_path / "other.db").replace(path)
    for _ in range(3):
        house.turn(1.0)
    [told] = [event for event in house.events if isinstance(event, Trouble)]
    assert "another file has taken the place of the database" in told.text


def test_a_stop_by_request_does_not_wait_for_the_rest_of_a_grid(tmp_path: Path) -> None:
    house = House(tmp_path)
    take = house.world.rest.create_order

    def asked_to_stop_meanwhile(**order: Any) -> CreateOrderResponseSchema:
        house.clock.stop_at = house.clock.now
        return take(**order)

    house.world.rest.create_order = asked_to_stop_meanwhile  # type: ignore[method-assign]
    house.start()
    assert len(house.world.exchange.open_orders) == 1
    assert len(house.engine.desk.book.buys()) == 1
    assert house.engine.desk.pending.all() == ()


def test_a_stop_by_request_does_not_wait_for_what_the_timers_would_ask(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    asked: list[float] = []
    house.engine.strategy.on_timer = lambda: asked.append(house.clock.now)  # type: ignore[method-assign]
    house.clock.stop_at = house.clock.now
    house.turn(5.0)
    assert asked == []


def test_news_that_waits_is_read_before_the_timers_ask_the_exchange(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    asked: list[float] = []
    house.engine.strategy.on_timer = lambda: asked.append(house.clock.now)  # type: ignore[method-assign]
    for _ in range(3):
        house.engine._queue.put(None)
    house.turn(2.0)
    house.turn(0.0)
    assert asked == []
    house.turn(0.0)
    assert len(asked) == 1
    for _ in range(9):  # but not for ever
        house.engine._queue.put(None)
    for _ in range(4):
        house.turn(2.0)
    assert len(asked) == 2


def test_without_the_feed_of_executions_fills_are_asked_for_every_minute(tmp_path: Path) -> None:
    house = House(tmp_path).start()
    house.engine.handle(OnMessageSchema(channel="executions", type="lost"))
    house.world.exchange.on_price(Decimal(49400), house.clock.now)
    house.world.exchange.take_events()
    for _ in range(65):
        house.turn(1.0)
    assert len(house.engine.desk.book.sells()) == 1
    assert [event for event in house.events if isinstance(event, Trouble)] == []
    for _ in range(300):
        house.turn(1.0)
    [told] = [event for event in house.events if isinstance(event, Trouble)]
    assert "no connection to the feed of our orders for 5 minutes" in told.text
