"""
The engine: puts the bot together, owns the queue and the blocking loop, the timers and the state. It decides
what an error means; it knows no trading rule.

    frame from the queue -> feed.on_message -> strategy.on_message -> order desk
"""

import logging
import math
from collections.abc import Callable
from queue import Empty, SimpleQueue

from gridbot.core import single_instance
from gridbot.core.account import AccountView, base_told
from gridbot.core.endings import MUST_BE_MENDED, STOPPED_BY_ERROR, STOPPED_BY_REQUEST, whose_mistake
from gridbot.core.event_bus import EventBus
from gridbot.core.registry import channels_of, resolve
from gridbot.core.state_machine import StateMachine, States
from gridbot.exceptions import (
    AccessDenied,
    BotStateError,
    ConfigurationError,
    DatabaseError,
    GridBotError,
    MetricsServerError,
    TemporaryFailure,
)
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange
from gridbot.models import events
from gridbot.models.configuration import Settings
from gridbot.models.exchange import OnMessageSchema, TickerUpdateSchema
from gridbot.models.money import as_text
from gridbot.services.book_sync import BookSync
from gridbot.services.messages import Units, counted, message_for
from gridbot.services.metrics_server import MetricsServer
from gridbot.services.notification_service import NotificationService
from gridbot.services.order_desk import PLACING, OrderDesk
from gridbot.services.status_report import Status, ladder, status_document, status_message
from gridbot.strategies.grid_base import GridStrategyBase
from gridbot.strategies.grid_orders import Surroundings

LOG = logging.getLogger(__name__)
STORY = logging.getLogger("gridbot.story")

TIMER_PATIENCE = 5.0  # seconds
TIMER_SPACING = 1.0  # seconds
STATUS_SPACING = 3600.0
# Seconds without a ticker after which the price is asked for over REST: while the bot needs one (at its start, or
# after a refused buy), and otherwise.
QUIET_START, QUIET_PAIR = 15.0, 300.0
PRICE_QUESTION_SPACING = 30.0
PRICE_TIMEOUT = 600.0  # seconds without any price: an error
START_PAUSE, LONGEST_START_PAUSE = 5.0, 60.0  # seconds
LONGEST_SILENCE = 300.0  # seconds; if the start takes longer, the owner is told

WARNINGS = (events.FundsShort, events.OrderRefused, events.Trouble)


class BotEngine:
    """One bot: its parts, and the loop that drives them."""

    def __init__(self, settings: Settings, clock: IClock, exchange: Exchange, db: DBConnect) -> None:
        self._settings = settings
        self._clock = clock
        self._exchange = exchange
        self._db = db
        self._queue: SimpleQueue[object] = SimpleQueue()
        self._started = clock.monotonic()
        self._next_timer = 0.0
        self._next_status = clock.monotonic() + STATUS_SPACING
        self._last_price_at = clock.monotonic()
        self._next_price_question = 0.0
        self._ladder_due = False
        self.state_machine = StateMachine()
        self.event_bus = EventBus()
        self.event_bus.subscribe(events.Event, self._tell_story)
        bot = settings.bot
        self.desk = OrderDesk(db, exchange.rest, clock, bot.userref, self.event_bus.publish)
        self.desk.own_at_start = settings.funds.own_base, settings.funds.own_quote
        base = base_told(settings)
        self.desk.configuration.base_before = "" if base is None else as_text(base)
        strategy = resolve("strategy", bot.strategy, settings.config_path.parent)
        self.strategy: GridStrategyBase = strategy(
            Surroundings(
                config=bot,
                rest_api=exchange.rest,
                websocket=exchange.feed,
                desk=self.desk,
                sync=BookSync(self.desk, exchange.rest, bot.userref).run,
                clock=clock,
                publish=self.event_bus.publish,
                report=lambda: status_message(self._account.with_profit(self.status())),
            )
        )
        self._account = AccountView(settings, db, self.desk)
        self._asked_price: OnMessageSchema | None = None
        self._document: dict[str, object] = {}
        self._listeners: list[Callable[[], object]] = []  # closed at the end
        self.alive: Callable[[], None] = lambda: None  # called once a second; the clock reports longer waits

    def run(self) -> int:
        """Trade until asked to stop or until something breaks; returns the exit code."""
        self._start_listeners()
        code, reason = STOPPED_BY_REQUEST, "asked to stop"
        try:
            self._connect()
            while not self._clock.stopping():
                self.step(TIMER_SPACING)
        except (ConfigurationError, AccessDenied) as exc:
            code, reason = MUST_BE_MENDED, exc.message
        except GridBotError as exc:
            code, reason = STOPPED_BY_ERROR, exc.message
        except Exception as exc:
            self._end(STOPPED_BY_ERROR, whose_mistake(exc))
            raise
        self._end(code, reason)
        return code

    def _connect(self) -> None:
        """Start the strategy. Without a network try again until it works: a Pi may be up before its router."""
        pause, told_at = START_PAUSE, self._clock.monotonic() + LONGEST_SILENCE
        while not self._clock.stopping():
            try:
                self.strategy.run(self._queue.put)
                return
            except TemporaryFailure as exc:
                if self._clock.stopping():
                    return
                wait = max(pause, exc.retry_after)
                LOG.warning("cannot start yet: %s; trying again in %.0f s", exc, wait)
                if self._clock.monotonic() >= told_at:
                    told_at = math.inf
                    self.event_bus.publish(events.Trouble(f"cannot start yet, and keeps trying: {exc}"))
                self._clock.wait(wait)
                pause = min(pause * 2, LONGEST_START_PAUSE)

    def step(self, timeout: float) -> None:
        """One turn of the loop: at most one frame, then what the time calls for."""
        try:
            frame = self._queue.get(timeout=timeout)
        except Empty:
            frame = None
        if frame is not None:
            for message in self._exchange.feed.on_message(frame):
                self.handle(message)
        now = self._clock.monotonic()
        # Frames that wait are handled first: they may answer what the timers would ask.
        is_due = now >= self._next_timer and (self._queue.empty() or now >= self._next_timer + TIMER_PATIENCE)
        if is_due and not self._clock.stopping():  # a stop must not wait for a question to the exchange
            self._next_timer = now + TIMER_SPACING
            self._timers(now)

    def wake_up(self) -> None:
        """End the wait for a frame; safe in a signal handler (SimpleQueue.put is re-entrant)."""
        self._queue.put(None)

    def handle(self, message: OnMessageSchema) -> None:
        """Pass one message to the strategy. If a question to the exchange fails, the strategy asks it again later."""
        if message.ticker_data is not None:
            self._last_price_at = self._clock.monotonic()
            self._asked_price = None  # the feed's price is newer
        try:
            self.strategy.on_message(message)
        except TemporaryFailure as exc:
            LOG.warning("%s; trying again later", exc)
        self._begin_when_ready()

    def _end(self, code: int, reason: str) -> None:
        if code != STOPPED_BY_REQUEST:
            LOG.error("%s", reason)
            self.state_machine.transition_to(States.ERROR)
        else:
            self.state_machine.transition_to(States.SHUTDOWN_REQUESTED)
        self.strategy.stop()
        self._keep_account(code)
        stopped = events.BotStopped(self._settings.bot.name, reason, self._what_stays())
        self.event_bus.publish(stopped)
        for close in self._listeners:
            try:
                close()
            except MetricsServerError as exc:
                LOG.warning("%s", exc)
        STORY.info("%s", self._in_words(stopped))
        self._exchange.rest.close()
        self._db.close()

    def _what_stays(self) -> str:
        """What this bot leaves on the exchange, as far as it knows."""
        book, sent = self.desk.book, len(self.desk.pending)
        leaving = len(book.unconfirmed_cancels())
        buys = counted(sum(not order.cancel_requested for order in book.buys()), "buy")
        sells = counted(sum(not order.cancel_requested for order in book.sells()), "sell")
        text = f"{buys} and {sells} stay open on the exchange"
        if not self.strategy.is_ready:
            text = f"the exchange was not asked for its orders; the books know of {buys} and {sells}"
        if leaving:
            are, ended = ("is", "it ended") if leaving == 1 else ("are", "they ended")
            text += f"; {counted(leaving, 'cancellation')} {are} not confirmed yet, the next start asks how {ended}"
        if sent:
            them = "it" if sent == 1 else "them"
            text += f"; {counted(sent, 'order')} not answered yet, the next start looks for {them}"
        return text

    def _keep_account(self, code: int) -> None:
        """The last view for ``status``; after an error nothing more is written."""
        if code == STOPPED_BY_REQUEST and self.strategy.is_ready:
            try:
                self.strategy.remember_the_time()
                self._account.keep(self.status())
            except DatabaseError as exc:
                LOG.warning("%s", exc)

    def _timers(self, now: float) -> None:
        self.alive()
        if other := single_instance.keep():
            raise BotStateError(f"{other}. Only one of the two may run, so this one stops")
        if problem := self._db.put_back():
            self.event_bus.publish(events.Trouble(problem))
        self.strategy.on_timer()
        self._begin_when_ready()
        if now >= self._next_status and self.strategy.is_ready:
            self._next_status = now + STATUS_SPACING
            self.strategy.send_status_update()
            self._account.keep(self.status())
        if self._ladder_due and not self.strategy.is_busy:
            self._ladder_due = False
            grid = self.strategy.view()
            STORY.info("the grid now:\n%s", ladder(grid.sells, grid.buys, grid.ticker, self._units()))
        if self.strategy.is_ready:
            self._account.add_up(self._units())
            if self._account.is_news(self.strategy.waiting):
                self._account.keep(self.status())
        self._watch_price(now)
        if self._settings.metrics.enabled:
            self._document = self._status_document()

    def _begin_when_ready(self) -> None:
        if self.state_machine.state is not States.INITIALIZING or not self.strategy.is_ready:
            return
        self.state_machine.transition_to(States.RUNNING)
        summary = f"{self._settings.bot.strategy}: {self.strategy.describe()}"
        self.event_bus.publish(events.BotStarted(self._settings.bot.name, summary))

    def _watch_price(self, now: float) -> None:
        """A quiet pair is not a dead one: ask for its price before calling the silence an error."""
        if self._asked_price is not None:
            # One turn later, because in a simulation the fills that this price caused must be handled first.
            self.handle(self._asked_price)
        silent = now - self._last_price_at
        is_patient = self.strategy.is_ready and not self.strategy.wants_price
        if silent < (QUIET_PAIR if is_patient else QUIET_START) or now < self._next_price_question:
            return
        self._next_price_question = now + PRICE_QUESTION_SPACING
        try:
            price = self._exchange.rest.get_last_price()
        except TemporaryFailure as exc:
            if silent >= PRICE_TIMEOUT and not self._settings.bot.skip_price_timeout:
                raise GridBotError(
                    f"no price for {silent / 60:.0f} minutes, and asking for it failed: {exc}.\n"
                    "  The bot stops; cron starts it again. Set skip_price_timeout = yes to wait on instead."
                ) from exc
            LOG.warning("no price for %.0f minutes, and asking for it failed: %s", silent / 60, exc)
            return
        symbol = self._exchange.rest.ws_symbol
        ticker = TickerUpdateSchema(symbol=symbol, last=price, time=self.desk.now())
        self._asked_price = OnMessageSchema(channel="ticker", ticker_data=ticker)

    def _start_listeners(self) -> None:
        """Start notification and status server; if one of them fails, trading goes on."""
        settings = self._settings
        channels = channels_of(settings)
        if channels:
            service = NotificationService(channels, self._in_words, settings.bot.name)
            self.event_bus.subscribe(events.Event, service.on_event)
            self._listeners.append(service.close)
        if settings.metrics.enabled:
            server = MetricsServer(settings.metrics.host, settings.metrics.port, lambda: self._document)
            self._document = self._status_document()
            try:
                server.start()
            except MetricsServerError as exc:
                self.event_bus.publish(events.Trouble(exc.message))
            else:
                self._listeners.append(server.stop)

    def _units(self) -> Units:
        names = self._settings.bot.base_currency, self._settings.bot.quote_currency
        if not hasattr(self.strategy, "settings"):  # before the exchange was asked for the pair
            return Units(*names, 2)
        return Units.of(*names, self.strategy.settings.pair)

    def _in_words(self, event: events.Event) -> str | None:
        return message_for(event, self._units())

    def _tell_story(self, event: events.Event) -> None:
        self._ladder_due |= isinstance(event, events.BotStarted | events.GridShifted)
        if isinstance(event, events.ExtraSellPlaced | events.BotStopped):
            return  # the placement is logged already; ``_end`` logs the stop, as the last line
        level = logging.WARNING if isinstance(event, WARNINGS) else logging.INFO
        text = self._in_words(event)
        if text:
            STORY.log(level, "%s", f"status\n{text}" if isinstance(event, events.StatusUpdate) else text)

    def status(self) -> Status:
        """The data of the status message. Call it only once the strategy knows its pair."""
        bot, desk = self._settings.bot, self.desk
        return Status(
            name=bot.name,
            strategy=bot.strategy,
            simulated=self._exchange.simulated,
            units=self._units(),
            grid=self.strategy.view(),
            waiting=self.strategy.waiting,
            base_balance=desk.funds.base_balance,
            quote_balance=desk.funds.quote_balance,
            halted="" if desk.pauses.over(PLACING) else desk.pauses.why(PLACING),
            keeps=self.strategy.keeps_all,
        )

    def _status_document(self) -> dict[str, object]:
        state: dict[str, object] = {
            "state": self.state_machine.state.name,
            "uptime": round(self._clock.monotonic() - self._started, 1),
        }
        return state | (status_document(self.status()) if self.strategy.is_ready else {})
