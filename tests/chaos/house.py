"""
A bot and its Kraken in one process: the real engine over the fake exchange, which dies and starts again.

``House`` owns what survives a process: the exchange, the database file, the file of the nonce. A
``BotEngine`` and everything it built is thrown away at a kill: the open transaction is rolled back,
frames not yet read are lost, sockets are closed.
"""

import logging
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from gridbot.adapters.exchanges import kraken_feed
from gridbot.adapters.exchanges.kraken import KrakenRESTService, KrakenWebSocketService
from gridbot.core.engine import BotEngine
from gridbot.exceptions import AccessDenied, BotStateError, ConfigurationError, GridBotError
from gridbot.infrastructure.database import open_or_rebuild
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange
from gridbot.models.configuration import BotConfigDTO, DBConfigDTO, KrakenConfigDTO, Settings
from gridbot.models.exchange import OnMessageSchema
from gridbot.models.grid import BookOrder, Placement
from tests.chaos import invariants
from tests.chaos.effects import Killed, ShakyDB, SideEffects, Wire
from tests.chaos.sockets import InProcessSocket
from tests.fake_kraken import TEST_KEY, TEST_SECRET, FakeKraken, VirtualClock
from tests.fake_kraken.faults import Outcome
from tests.fake_kraken.orders import Order, Trade
from tests.fake_kraken.ws import FakeConnection, Frame

LOG = logging.getLogger(__name__)

USERREF = 1680953421
PAIR = "XXBTZUSD"
CRON = 60.0  # seconds until a process that ended by itself is started again


class Watched(FakeKraken):
    """The exchange, telling the house of every event at the moment it happens."""

    house: "House"
    touched = 0  # how often a process reached it

    def handle_http(self, method: str, path: str, headers: dict[str, str], body: bytes | str) -> Outcome:
        """As the exchange does."""
        self.touched += 1
        if path.endswith("/AddOrder"):
            self.house.note_sent()
        return super().handle_http(method, path, headers, body)

    def connect(self, private: bool, send: Callable[[Frame], object] | None = None) -> FakeConnection:
        """As the exchange does."""
        self.touched += 1
        return super().connect(private, send)

    def on_execution(self, kind: str, order: Order, trade: Trade | None = None) -> None:
        """As the exchange does."""
        super().on_execution(kind, order, trade)
        self.house.on_event(kind, order)


class HouseClock(IClock):
    """One process's idea of time. ``house.clock_error`` is how far the machine's wall clock is off."""

    def __init__(self, house: "House") -> None:
        self._house = house
        self._boot = house.fake.clock.time() - 1000.0

    def time(self) -> float:
        return self._house.fake.clock.time() + self._house.clock_error

    def monotonic(self) -> float:
        return self._house.fake.clock.time() - self._boot

    def wait(self, seconds: float) -> bool:
        self._house.fake.advance(max(0.0, seconds))
        return False

    def stopping(self) -> bool:
        return False


class Remains(NamedTuple):
    """
    What outlives a process that dies now, as far as anything changes it between two kill points of one story.

    A bot can write its files, call the exchange, let time pass and throw dice; and the story tells what it does.

    seen  marks of the calls, the time and the story: equal only when there was nothing of the kind in between
    """

    files: dict[str, bytes]
    seen: tuple[object, ...]
    dice: tuple[Any, ...]


class House:
    """
    folder         where the database lies; a memory file system makes it quick
    away           seconds between a kill and the next start
    base, quote    what the account holds at the beginning
    grid           settings of [grid] that differ from the worked example of the rules
    """

    def __init__(
        self,
        folder: Path,
        strategy: str,
        effects: SideEffects,
        away: float = 1.0,
        *,
        base: str = "1",
        quote: str = "5000",
        **grid: Any,
    ) -> None:
        self.folder = folder
        self.strategy_name = strategy
        self.effects = effects
        self.away = away
        self.grid = {
            "amount_per_grid": Decimal(100),
            "interval": Decimal("0.01"),
            "n_open_buy_orders": 5,
            "max_investment": Decimal(2000),
        } | grid
        self.clock_error = 0.0
        self.ticker = "after"  # when the market tells its price: "before" or "after" the fills it causes, or "never"
        self.fake = Watched(VirtualClock(), balances={"ZUSD": quote, "XXBT": base, "XETH": "10"}, seed=7)
        self.fake.house = self
        self.engine: BotEngine | None = None
        self.sockets: list[InProcessSocket] = []
        self.start_at: float | None = None  # when cron, or its owner, starts the bot (again)
        self.violations: list[str] = []
        self.disaster: Callable[[Path], None] | None = None  # what happens to the database at the next death
        self.mending = 0.0  # seconds that it takes, and the bot is away for at least so long
        self.forgot = False  # the bot no longer knows all it did
        self.links: dict[str, str] = {}  # sell order -> what it was sent to sell, as the wire saw it
        self.told: list[str] = []  # what happened, for whoever looks at one cell
        self.starts = self.kills = 0
        self._at_hand: Placement | None = None  # what the desk is about to send
        self._on_the_wire: list[Placement] = []  # what was sent
        self._seen_orders = 0

    # ---- life and death --------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.fake.clock.time()

    @property
    def path(self) -> Path:
        return self.folder / "gridbot.db"

    def start(self, **grid: Any) -> None:
        """Start the process; it may die on the way."""
        self.grid |= grid
        self.start_at = None
        self.starts += 1
        if self.starts > 60:
            raise AssertionError("the bot starts again and again")
        with self._mortal():
            self._build()
            assert self.engine is not None
            with patch.object(kraken_feed, "KrakenSocket", self._socket):
                self.engine._connect()

    def _build(self) -> None:
        bot = BotConfigDTO(
            name="chaos",
            exchange="Kraken",
            dry_run=False,
            userref=USERREF,
            strategy=self.strategy_name,
            base_currency="BTC",
            quote_currency="USD",
            **self.grid,
        )
        settings = Settings(
            bot=bot,
            kraken=KrakenConfigDTO(api_public_key=TEST_KEY, api_secret_key=TEST_SECRET),
            db=DBConfigDTO(path=self.path),
        )
        clock = HouseClock(self)
        wire = Wire(self.fake, self.effects)
        rest = KrakenRESTService(
            TEST_KEY, TEST_SECRET, "BTC", "USD", clock=clock, nonce_path=self.folder / "nonce", transport=wire
        )
        feed = KrakenWebSocketService(rest, clock=clock)
        opened, problem = open_or_rebuild(self.path, clock.time())
        opened.close()
        if problem:
            self.say(problem)
        db = ShakyDB(str(self.path), self.effects)
        self._db, self._feed = db, feed
        self.engine = BotEngine(settings, clock, Exchange(rest, feed), db)
        self._wrap(rest, self.engine)

    def _wrap(self, rest: KrakenRESTService, engine: BotEngine) -> None:
        """Seams that no transport has: a reply that was read, a message that was not handled yet."""
        create, cancel = rest.create_order, rest.cancel_order
        send, on_message = engine.desk.send, engine.strategy.on_message

        def create_order(**order: Any) -> Any:
            reply = create(**order)
            self.effects.reached("AddOrder answered")
            return reply

        def cancel_order(txid: str) -> None:
            cancel(txid)
            self.effects.reached("CancelOrder answered")

        def sending(placement: Placement) -> BookOrder | None:
            self._at_hand = placement
            return send(placement)

        def hearing(message: OnMessageSchema) -> None:
            if message.channel == "executions":
                self.effects.reached("an execution was told")
            on_message(message)

        rest.create_order = create_order  # type: ignore[method-assign]
        rest.cancel_order = cancel_order  # type: ignore[method-assign]
        engine.desk.send = sending  # type: ignore[method-assign]
        engine.strategy.on_message = hearing  # type: ignore[method-assign]

    def _socket(self, name: str, _url: str, hello: Any, put: Any, **_options: Any) -> InProcessSocket:
        socket = InProcessSocket(self.fake, name, hello, put)
        self.sockets.append(socket)
        return socket

    @contextmanager
    def _mortal(self) -> Iterator[None]:
        """What ends a process, and what follows."""
        try:
            yield
        except Killed as exc:
            self.kills += 1
            self._gone(str(exc), self.away)
        except (AccessDenied, ConfigurationError, BotStateError) as exc:
            self.violations.append(self.plain(f"the bot gave up: {exc}"))
            self._gone(f"gave up: {exc}", CRON)
        except GridBotError as exc:
            self._gone(f"ended: {exc}", CRON)

    def _gone(self, why: str, away: float) -> None:
        self.say(why)
        for socket in self.sockets:
            socket.close()
        self.sockets.clear()
        self.engine = None
        self._db.db.conn.close()  # an open transaction is rolled back
        if self.disaster is not None:
            self.disaster(self.path)
            self.forgot, self.disaster = True, None
            away = max(away, self.mending)
            self.say("the database is not what it was")
        self.start_at = self.now + away

    def stop(self) -> None:
        """SIGTERM: the message in hand is finished, and nothing more. Somebody else starts it again."""
        if self.engine is not None:
            with self._mortal():
                self.engine._end(0, "asked to stop")
                self._gone("stopped", 0.0)
        self.start_at = None

    # ---- two worlds in place of one ---------------------------------------------------------------

    def what_stays(self) -> Remains:
        """Should the process die now. The same twice in one story is the same story from there on."""
        files = {part.name: part.read_bytes() for part in self.folder.iterdir() if not part.name.endswith("-shm")}
        seen = (self.now, self.starts, self.kills, len(self.told), len(self.violations), len(self._on_the_wire))
        done = (self.fake.touched, len(self.fake.calls), len(self.fake.ws_calls), self.effects.disk_says)
        return Remains(files, seen + done, random.getstate())

    def moves_to(self, folder: Path, files: dict[str, bytes]) -> None:
        """
        In a forked process, which is about to die: go on with ``files`` in a folder of its own. The connection
        to the database belongs to the other process: it is kept as it is, since to close it would change its file.
        """
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        self.folder = folder
        database = self._db.db
        self._not_ours = database.conn
        database.conn = sqlite3.connect(self.path, isolation_level=None)
        database.execute("PRAGMA synchronous=OFF")
        database.execute("SELECT 1 FROM sqlite_master").fetchall()  # reads the log, to be folded in when it is closed
        if self._not_ours.in_transaction:
            database.execute("BEGIN")

    # ---- time ------------------------------------------------------------------------------------

    def run(self, seconds: float, turn: float = 1.0) -> None:
        """Time passes; the process takes a turn every ``turn`` seconds, or is started when that is due."""
        until = self.now + seconds
        while self.now < until:
            self.fake.advance(turn)
            self.fake.heartbeat()
            self._turn()

    def _turn(self) -> None:
        if self.engine is None:
            if self.start_at is not None and self.now >= self.start_at:
                self.start()
            return
        with self._mortal():
            for socket in list(self.sockets):
                socket.turn()
            engine = self.engine
            while engine._queue.qsize():
                engine.step(0.0)
            if engine._clock.monotonic() >= engine._next_timer:  # else there is nothing to do for it
                engine.step(0.0)

    def price(self, price: str | Decimal) -> None:
        """The market trades there."""
        self.say(f"price {price}")
        self.fake.set_price(PAIR, Decimal(price), self.ticker)

    def say(self, text: str) -> None:
        """One line of what happened."""
        self.told.append(f"{self.now - 1_790_000_000:8.1f}  {self.plain(text)}")

    def plain(self, text: str) -> str:
        """Without the folder, which has another name every time."""
        return text.replace(f"{self.folder}/", "")

    # ---- what there is ---------------------------------------------------------------------------

    def own(self) -> list[Order]:
        """Every order the bot ever had on the exchange."""
        return [o for o in self.fake.orders.values() if is_own(o)]

    def invested(self) -> Decimal:
        """Sum of price x volume over everything the bot has open, known to it or not."""
        return sum((o.price * o.volume for o in self.own() if o.is_open), Decimal(0))

    def own_open(self, side: str) -> list[Order]:
        """Best first."""
        orders = [o for o in self.own() if o.is_open and o.side == side]
        return sorted(orders, key=lambda o: o.price, reverse=side == "buy")

    def note_sent(self) -> None:
        """What was at hand is on the wire, whatever becomes of it."""
        assert self._at_hand is not None
        self._on_the_wire.append(self._at_hand)

    def note_links(self) -> None:
        """Which sell was sent for which buy, as the wire saw it, and not as the bot's books say."""
        orders = list(self.fake.orders.values())
        for order in orders[self._seen_orders :]:
            if order.side == "sell" and is_own(order):
                asked = (p for p in reversed(self._on_the_wire) if (p.price, p.volume) == (order.price, order.volume))
                found = next((p for p in asked if p.side == "sell"), None)
                self.links[order.txid] = found.sells if found else "?"
        self._seen_orders = len(orders)

    def on_event(self, kind: str, order: Order) -> None:
        """The exchange tells of an order; what must always hold is looked at."""
        self.note_links()
        if is_own(order):
            self.violations += invariants.at_once(self, kind, order)
            self.say(f"{kind:12} {order.side} {order.volume} @ {order.price} {order.txid}")


def is_own(order: Order) -> bool:
    """An order of the bot, and not of people or of other bots."""
    return order.userref == USERREF and order.pair.id == PAIR and not order.by_hand
