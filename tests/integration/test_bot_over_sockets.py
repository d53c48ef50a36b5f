"""The whole bot against a fake Kraken over real sockets: engine, adapters, feed, desk, database."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue

import pytest
from pydantic import SecretStr

from gridbot.core.clock import SystemClock
from gridbot.core.engine import BotEngine
from gridbot.core.process import build
from gridbot.core.state_machine import States
from gridbot.models.configuration import DBConfigDTO, KrakenConfigDTO, Settings
from gridbot.models.events import BotStopped, CaughtUp, Event
from gridbot.models.exchange import BUY, SELL
from tests.fake_kraken import TEST_KEY, TEST_SECRET, FakeKraken
from tests.fake_kraken.server import FakeKrakenServer
from tests.settings import USERREF, config

FIRST_GRID = ["49504.9", "49014.7", "48529.4", "48048.9", "47573.1"]


class Running:
    """A bot running in a thread, and what it said."""

    def __init__(self, server: FakeKrakenServer, fake: FakeKraken, directory: Path, **changes: object) -> None:
        self.fake = fake
        self.events: list[Event] = []
        self.stopping = threading.Event()
        self.outcome: SimpleQueue[int] = SimpleQueue()
        settings = Settings(
            bot=config(exchange="Kraken", dry_run=False, **changes),
            kraken=KrakenConfigDTO(
                api_public_key=TEST_KEY,
                api_secret_key=SecretStr(TEST_SECRET),
                rest_url=server.rest_url,
                ws_url=server.ws_url,
                ws_auth_url=server.ws_auth_url,
            ),
            db=DBConfigDTO(path=directory / "gridbot.db"),
            config_path=directory / "config.ini",
        )
        self.engine: BotEngine
        built = threading.Event()

        def live() -> None:
            # SQLite wants to be used where it was opened.
            self.engine = build(settings, SystemClock(self.stopping))
            self.engine.event_bus.subscribe(Event, self.events.append)
            built.set()
            self.outcome.put(self.engine.run())

        self.thread = threading.Thread(target=live, daemon=True)
        self.thread.start()
        assert built.wait(10)

    def stop(self) -> int:
        self.stopping.set()
        self.engine.wake_up()
        code = self.outcome.get(timeout=10)
        self.thread.join(10)  # or it may look alive for a moment more
        return code

    def prices(self, side: str) -> list[str]:
        orders = sorted(self.fake.open_orders(USERREF, side), key=lambda o: o.price, reverse=side == BUY)
        return [f"{order.price:f}" for order in orders]

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what the other threads bring about; fail when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def fake() -> Iterator[FakeKraken]:
    fake = FakeKraken(balances={"ZUSD": "10000"}, prices={"BTC/USD": "50000.0"}, tier="pro")
    fake.limits.off()
    yield fake
    assert not fake.broken
    fake.check_money()


@pytest.fixture
def server(fake: FakeKraken) -> Iterator[FakeKrakenServer]:
    with FakeKrakenServer(fake) as server:
        yield server


@contextmanager
def bot(server: FakeKrakenServer, fake: FakeKraken, directory: Path, **changes: object) -> Iterator[Running]:
    running = Running(server, fake, directory, **changes)
    try:
        yield running
    finally:
        if running.thread.is_alive():
            running.stop()


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_start_trade_shift_up_and_stop(server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path) -> None:
    with bot(server, fake, tmp_path) as running:
        soon(lambda: running.prices(BUY) == FIRST_GRID)
        calls = Counter(call.method for call in fake.calls)
        assert sum(calls.values()) <= 14, calls
        fake.set_price("BTC/USD", "49500")
        soon(lambda: running.prices(SELL) == ["49999.9"])
        fake.set_price(
            "BTC/USD", "49501"
        )  # buys are refilled on a ticker, and only the next one is surely behind the fill
        soon(lambda: len(running.prices(BUY)) == 5)
        before = len(fake.calls)
        fake.set_price("BTC/USD", "60000")
        soon(lambda: len(running.prices(BUY)) == 5 and running.prices(BUY)[0] == "59405.9")
        assert running.prices(BUY) == ["59405.9", "58817.7", "58235.3", "57658.7", "57087.8"]
        assert len(fake.calls) - before <= 11
        soon(lambda: running.engine.state_machine.state is States.RUNNING)
        assert running.stop() == 0
        [stopped] = running.told(BotStopped)
        assert stopped.summary == "5 buys and 0 sells stay open on the exchange"
    assert all("fciq" in order.flags for order in fake.added_orders())
    assert all("post" in order.flags for order in fake.added_orders() if order.side == BUY)


def test_a_second_start_finds_the_same_grid_and_what_happened_meanwhile(
    server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path
) -> None:
    with bot(server, fake, tmp_path) as running:
        soon(lambda: running.prices(BUY) == FIRST_GRID)
    fake.set_price("BTC/USD", "49000")
    with bot(server, fake, tmp_path) as running:
        soon(lambda: len(running.prices(SELL)) == 2)
        soon(lambda: len(running.prices(BUY)) == 5)
        [news] = running.told(CaughtUp)
        assert news.buys_filled == 2
        engine = running.engine
        running.stop()
        assert {t.info.exec_id for t in trades_of(tmp_path)} == set(fake.trades)
    assert engine.desk.provisional == frozenset()


def test_a_broken_connection_is_made_up_for(server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path) -> None:
    with bot(server, fake, tmp_path) as running:
        soon(lambda: running.prices(BUY) == FIRST_GRID)
        soon(lambda: running.engine.state_machine.state is States.RUNNING)
        fake.drop_sockets()
        fake.set_price("BTC/USD", "49000")
        soon(lambda: len(running.prices(SELL)) == 2, seconds=20)
        fake.set_price("BTC/USD", "49001")
        soon(lambda: len(running.prices(BUY)) == 5, seconds=20)


def test_a_lost_message_is_noticed_by_the_gap_it_leaves(
    server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path
) -> None:
    with bot(server, fake, tmp_path) as running:
        soon(lambda: running.prices(BUY) == FIRST_GRID)
        soon(lambda: running.engine.state_machine.state is States.RUNNING)
        fake.faults.lose(1)
        fake.set_price("BTC/USD", "49500")  # the fill is lost
        fake.set_price("BTC/USD", "49000")  # the next one shows the gap
        soon(lambda: len(running.prices(SELL)) == 2, seconds=20)


def test_a_reply_that_never_comes_places_nothing_twice(
    server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path
) -> None:
    fake.faults.add("AddOrder", "drop_reply", nth=2)
    with bot(server, fake, tmp_path) as running:
        soon(lambda: running.prices(BUY) == FIRST_GRID, seconds=30)
        assert len(fake.added_orders()) == 5
        soon(lambda: len(running.engine.desk.pending) == 0)


def test_a_fill_is_answered_without_asking_first(server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path) -> None:
    with bot(server, fake, tmp_path, max_investment=Decimal(510)) as running:
        soon(lambda: running.prices(BUY) == FIRST_GRID)
        soon(lambda: running.engine.state_machine.state is States.RUNNING)
        before = len(fake.calls)
        fake.set_price("BTC/USD", "49500")
        soon(lambda: running.prices(SELL) == ["49999.9"])
        time.sleep(0.2)
        assert [call.method for call in fake.calls[before:]] == ["AddOrder"]


def test_the_fee_of_the_account_is_asked_for_when_none_is_configured(
    server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path
) -> None:
    fake.set_fees("0.16", "0.26")
    with bot(server, fake, tmp_path, fee=None) as running:
        soon(lambda: running.prices(BUY) == FIRST_GRID)
        assert running.engine.strategy.settings.fee == Decimal("0.0016")
        assert sum(Counter(call.method for call in fake.calls).values()) <= 14


@pytest.mark.parametrize(("base", "bought", "sold"), [("T", "0.01980", "0.01999"), ("BRK.Bx", "485.14", "489.99")])
def test_a_name_of_one_letter_or_with_a_dot_is_a_name(
    server: FakeKrakenServer, fake: FakeKraken, tmp_path: Path, base: str, bought: str, sold: str
) -> None:
    fake.deposit(base, "7")
    fake.auto_earn.add(base)  # the balances say T.F, and BRK.Bx.T
    with bot(server, fake, tmp_path, base_currency=base) as running:
        soon(lambda: len(running.prices(BUY)) == 5)
        assert running.prices(BUY)[0] == bought
        assert running.engine.desk.funds.base_available == 7
        fake.set_price(f"{base}/USD", bought)
        soon(lambda: running.prices(SELL) == [sold])


def trades_of(directory: Path) -> list[object]:
    from gridbot.infrastructure.database import DBConnect, Trades

    db = DBConnect(directory / "gridbot.db", read_only=True)
    try:
        return list(Trades(db, USERREF).all())
    finally:
        db.close()
