"""A recorded session, again: every decision the same, and the first that is not is shown."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from queue import Empty

import pytest

from gridbot.adapters.exchanges.kraken_wire import NoReadableAnswer
from gridbot.adapters.exchanges.simulated_feed import SimulatedFeed
from gridbot.core.engine import BotEngine
from gridbot.core.journal import Journal, as_json, from_json, record_session, records
from gridbot.core.replay import Diverged, engine_of, play
from gridbot.exceptions import ConfigurationError, OrderFateUnknown, PlacementPaused, TemporaryFailure
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.exchange import Exchange
from gridbot.models.configuration import DBConfigDTO, KrakenConfigDTO, Settings
from gridbot.models.exchange import OnMessageSchema, OrderInfoSchema
from tests.past import diced_candles
from tests.settings import config
from tests.world import ManualClock, World

SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQ="


class TickFeed(SimulatedFeed):
    """A frame is a price as text; "secret" stands for an exchange that talks too much."""

    def __init__(self, world: World, clock: ManualClock) -> None:
        super().__init__(world.rest)
        self._clock = clock

    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        return self._traded(Decimal(str(frame).split()[0]), self._clock.now)

    def close(self) -> None:
        """Nothing to close."""


class Session:
    """A bot on the simulated exchange, recorded."""

    def __init__(self, folder: Path, name: str = "journal.gz", world: World | None = None, **changes: object) -> None:
        self.path = folder / name
        self.clock = ManualClock()
        self.world = world or World()
        self.world.rest.now = self.clock.time
        settings = Settings(
            bot=config(**changes),
            db=DBConfigDTO(path=folder / "bot.db"),
            kraken=KrakenConfigDTO(api_public_key="PUBLICKEY123", api_secret_key=SECRET),
        )
        exchange = Exchange(self.world.rest, TickFeed(self.world, self.clock), simulated=True)
        self.engine: BotEngine = record_session(self.path, settings, self.clock, exchange, DBConnect(folder / "bot.db"))

    def live(self, prices: list[str], seconds: float = 0.7) -> "Session":
        """Hear these prices, one in ``seconds``."""
        self.engine._connect()
        for price in prices:
            self.clock.now += seconds
            self.engine._queue.put(price)
            for _ in range(3):
                try:
                    self.engine.step(0.0)
                except Empty:
                    break
        self.engine._end(0, "asked to stop")
        return self


def prices(count: int = 220, seed: int = 3) -> list[str]:
    return [closed for _, _, _, closed in diced_candles(count, seed, volatility=0.004)]


def replayed(path: Path):
    engine, script, _ = engine_of(records(path), Path("."))
    return engine, script, play(engine)


def changed_journal(path: Path, change) -> Path:
    """A copy in which ``change`` has edited one record at a time."""
    lines = [as_json(change(record)) + "\n" for _, record in records(path)]
    copy = path.with_name("changed.gz")
    copy.write_bytes(gzip.compress("".join(lines).encode()))
    return copy


@pytest.mark.parametrize("strategy", ["GridHODL", "GridSell", "SWING", "cDCA"])
def test_every_decision_of_a_session_is_reached_again(tmp_path, strategy):
    session = Session(tmp_path, strategy=strategy).live(prices())
    calls = [r for _, r in records(session.path) if r["n"].endswith(("create_order", "cancel_order"))]
    engine, script, ending = replayed(session.path)
    assert ending == "the journal is at its end"
    assert script.decisions == len(calls) > 20
    assert [o.price for o in engine.desk.book] == [o.price for o in session.engine.desk.book]
    assert engine.desk.funds.quote_available == session.engine.desk.funds.quote_available


def test_a_rule_that_decides_otherwise_is_shown_with_its_frame(tmp_path, monkeypatch):
    session = Session(tmp_path).live(prices())
    monkeypatch.setattr("gridbot.strategies.grid_rules.SHIFT_UP_MARGIN", Decimal("1.01"))
    with pytest.raises(Diverged) as caught:
        replayed(session.path)
    assert "the replay parts from the journal at frame" in caught.value.message
    assert "recorded  rest.cancel_order(" in caught.value.message


def test_one_other_digit_in_an_order_is_a_divergence(tmp_path):
    session = Session(tmp_path).live(prices(40))
    done = []

    def dearer(record):
        if record["n"] == "rest.create_order" and not done:
            done.append(record)
            order = record["a"][1]
            order["volume"] = Decimal(f"{order['volume']}0")  # the same number in other bytes
        return record

    with pytest.raises(Diverged, match=r"after 0 equal decisions:\n  recorded  rest\.create_order\("):
        replayed(changed_journal(session.path, dearer))


def test_a_second_life_begins_with_the_books_of_the_first(tmp_path):
    first = Session(tmp_path).live(prices(100))
    second = Session(tmp_path, "second.gz", first.world)
    second.clock.now = first.clock.now + 60
    second.live(prices(100, seed=4))
    assert len(next(records(second.path))[1]["tables"]["orderbook"]["rows"]) >= 5
    engine, script, ending = replayed(second.path)
    assert ending == "the journal is at its end"
    assert script.decisions > 0
    assert {order.txid for order in engine.desk.book} == {order.txid for order in second.engine.desk.book}


def test_keys_and_tokens_are_not_in_the_journal(tmp_path):
    session = Session(tmp_path).live([*prices(20), f"50000.0 {SECRET} PUBLICKEY123"])
    text = gzip.decompress(session.path.read_bytes()).decode()
    assert SECRET not in text
    assert "PUBLICKEY123" not in text
    assert "50000.0 (removed) (removed)" in text
    assert "kraken" not in json.loads(text.splitlines()[0])["settings"]


def test_a_journal_that_was_cut_off_is_replayed_as_far_as_it_goes(tmp_path):
    session = Session(tmp_path).live(prices(1000))
    whole = session.path.read_bytes()
    half = tmp_path / "half.gz"
    half.write_bytes(whole[: len(whole) // 2])
    _, script, ending = replayed(half)
    assert ending == "the journal is cut off here: the process that wrote it did not end properly"
    assert script.frames > 100


def test_what_was_recorded_is_on_the_disk_a_few_seconds_later(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    journal = Journal(tmp_path / "j.gz", [])

    def on_disk() -> list[object]:
        return [record.get("r") for _, record in records(tmp_path / "j.gz")][:-1]

    for second in range(12):
        now = 1000.0 + second
        journal.write({"n": "clock", "r": second})
    assert on_disk() == list(range(11))
    journal.close()
    assert [record["r"] for _, record in records(tmp_path / "j.gz")] == list(range(12))


def test_what_led_to_a_question_is_on_the_disk_while_it_is_asked(tmp_path):
    journal = Journal(tmp_path / "j.gz", [])
    for second in range(3):
        journal.write({"n": "clock", "r": second})
    asked = journal.called("rest.get_server_time", lambda: [record for _, record in records(tmp_path / "j.gz")])
    journal.close()
    assert [record["r"] for record in asked[:-1]] == [0, 1, 2]


@pytest.mark.parametrize(
    "content", [b"", gzip.compress(b"")[:10], gzip.compress(b"")], ids=["nothing", "head", "no line"]
)
def test_an_empty_journal_is_told_as_such(tmp_path, content):
    (tmp_path / "j.gz").write_bytes(content)
    with pytest.raises(ConfigurationError, match="the journal is empty: the process that wrote it ended before"):
        engine_of(records(tmp_path / "j.gz"), tmp_path)


def test_a_journal_that_ends_before_the_bot_was_up_is_told_as_such(tmp_path):
    start = gzip.decompress(Session(tmp_path).live([]).path.read_bytes()).splitlines(keepends=True)[0]
    (tmp_path / "j.gz").write_bytes(gzip.compress(start))
    with pytest.raises(ConfigurationError, match="ends before the bot was up, there is nothing to replay"):
        engine_of(records(tmp_path / "j.gz"), tmp_path)


@pytest.mark.parametrize("tables", [[], {"orderbook": {"columns": None, "rows": []}}])
def test_a_beginning_that_cannot_be_read_is_told_as_such(tmp_path, tables):
    def changed(record):
        return record | {"tables": tables} if record["n"] == "start" else record

    path = changed_journal(Session(tmp_path).live([]).path, changed)
    with pytest.raises(ConfigurationError, match="the beginning of the journal cannot be read"):
        engine_of(records(path), tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        None,
        Decimal("1.10"),
        [1, "a", 2.5],
        {"a": Decimal(1)},
        OrderInfoSchema(
            pair="XBTUSD",
            price=Decimal(1),
            side="buy",
            status="open",
            txid="O",
            userref=1,
            vol=Decimal(2),
            vol_exec=Decimal(0),
            trades=("T1",),
        ),
    ],
)
def test_values_come_back_as_they_were(value):
    back = from_json(as_json(value))
    assert back == value
    assert str(back) == str(value)


def test_errors_come_back_with_what_they_know():
    paused = from_json(as_json(PlacementPaused("slow down", retry_after=7.5)))
    assert (type(paused), paused.message, paused.retry_after) == (PlacementPaused, "slow down", 7.5)
    assert type(from_json(as_json(OrderFateUnknown("no answer")))) is OrderFateUnknown


def test_a_journal_never_overwrites_a_file(tmp_path):
    (tmp_path / "j.gz").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        Journal(tmp_path / "j.gz", [])
    assert (tmp_path / "j.gz").read_text() == "mine"


def test_what_is_no_journal_is_told_as_such(tmp_path):
    (tmp_path / "j.gz").write_text("not gzip")
    with pytest.raises(ConfigurationError, match="this is not a journal of gridbot"):
        engine_of(records(tmp_path / "j.gz"), tmp_path)
    damaged = bytearray(Session(tmp_path, "whole.gz").live(prices(20)).path.read_bytes())
    damaged[200:220] = b"x" * 20
    (tmp_path / "damaged.gz").write_bytes(damaged)
    with pytest.raises(ConfigurationError, match="this is not a journal of gridbot"):
        list(records(tmp_path / "damaged.gz"))
    with pytest.raises(ConfigurationError, match="there is no such file"):
        engine_of(records(tmp_path / "none.gz"), tmp_path)


def test_an_adapters_own_error_comes_back_as_the_kind_that_the_bot_knows() -> None:
    said = from_json(as_json({"r": NoReadableAnswer("Kraken's answer was cut off", 5.0)}))["r"]
    assert type(said) is TemporaryFailure
    assert (said.message, said.retry_after) == ("Kraken's answer was cut off", 5.0)


def test_a_full_disk_ends_the_journal_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(gzip.GzipFile):
        def write(self, _data: object) -> int:
            raise OSError(28, "No space left on device")

    journal = Journal(tmp_path / "j.gz", [])
    journal._file = Full(tmp_path / "full.gz", "wb")
    for _ in range(3):
        journal.write({"n": "clock", "r": 1.0})
    journal.close()
    told = "the journal ends here: it cannot be written (No space left on device); trading goes on"
    assert [record.getMessage() for record in caplog.records] == [told]
