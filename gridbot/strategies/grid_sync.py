"""
Catching up: compares the bot's book with the exchange at the start, and again after every doubt.

Nothing here waits. What cannot be done now gets a pause, and grid_retry tries it again later.
"""

import logging
from abc import abstractmethod
from decimal import Decimal

from gridbot.exceptions import TemporaryFailure
from gridbot.models.events import CaughtUp
from gridbot.models.exchange import BUY, SELL, ExecutionsUpdateSchema, News, OrderInfoSchema, TradeInfoSchema
from gridbot.services.order_desk import DEADLINE, Finished
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.adoption import Adoption
from gridbot.strategies.grid_notices import DAY, FAILING
from gridbot.strategies.grid_orders import GridOrders, Surroundings

LOG = logging.getLogger(__name__)

SYNC = "synchronisation"  # the name of a pause
SYNC_PAUSE = 1.0  # seconds between two synchronisations, whatever asks for them; doubled for each in a row
LONGEST_SYNC_PAUSE = 8.0
FAILURE_PAUSE, LONGEST_FAILURE_PAUSE = 5.0, 60.0
CALM = 2 * LONGEST_FAILURE_PAUSE  # seconds without a synchronisation after which the next pause is short again
SETTLE_PAUSE = 3.0
REGULAR_SPACING = 600.0  # seconds between two comparisons of the whole book while nothing is in doubt
SYNCED_AGE = 3600.0  # seconds: an older ``synced_at`` is renewed, so that a restart need not look back far
MEMORY = 7 * DAY  # seconds: how far back a new database asks for orders, because an older one may be lost
SECOND_LOOK = 70.0  # seconds: after a doubt compare once more, because REST may answer with data a minute old
LONGEST_BLINDNESS = 300.0  # seconds without executions, or without a successful comparison, until the owner is told
PHANTOM_AGE = 300.0  # seconds: REST may answer with data a minute old, so a younger order may still be missing from it


class GridSync(GridOrders):
    """How a strategy catches up with the exchange after a start or a gap."""

    # Seconds. A backtest sets it to infinity: its exchange reports everything at once.
    regular_spacing = REGULAR_SPACING

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._sync = surroundings.sync
        self._adoption = Adoption(self._config.userref, self._rest_api, self._desk, self._terms)
        self._ticker_time = 0.0  # by the exchange's clock
        self.band: rules.Band = rules.NO_BAND  # a ticker from low to high changes nothing; low > high: every ticker may
        self._waiting_for = {"ticker", "executions"}  # what is missing before anything may be decided
        self._started_at: float | None = None  # when the first synchronisation was done
        self._looked_back_at = 0.0  # when closed orders were last asked for; unix seconds, exchange's clock
        self._last_sync = self._clock.monotonic()
        self.next_look = self._clock.monotonic() + self.regular_spacing  # when to compare the whole book again
        self._early: list[ExecutionsUpdateSchema] = []  # reported before the first synchronisation
        self._blind_since: float | None = None  # since when the feed of executions is down, monotonic
        self._failing_since: float | None = None  # since when no comparison has succeeded, monotonic

    @abstractmethod
    def _check_price_range(self) -> None:
        """The grid check, which follows every comparison."""

    @abstractmethod
    def _on_execution(self, update: ExecutionsUpdateSchema) -> None:
        """Book one event of one order, and do what follows from it."""

    @property
    def is_ready(self) -> bool:
        """True once the first synchronisation is done."""
        return self._started_at is not None

    def _prepare_for_trading(self) -> None:
        """
        Compare the book with the exchange and catch up: at the start, and again after every lost connection or doubt.
        Raises TemporaryFailure; the caller tries again later.
        """
        if self._clock.monotonic() - self._last_sync > CALM:
            self._desk.pauses.end(SYNC)
        self._last_sync = self._clock.monotonic()
        self._check_amount()
        if self.is_ready:
            self._terms.refresh()
        doubt = bool(self._desk.sync_reason)
        self._adoption.adopt_unknown(self._early)  # REST may not list them yet; their levels must not be bought twice
        since = self._look_back_to()
        self._sync_order_book(since)
        now, stored = self._desk.now(), self._desk.configuration
        if since is not None:
            self._looked_back_at = now
        if since is not None or (stored.is_synced and now - stored.get().synced_at > SYNCED_AGE):
            stored.update(synced_at=now)
        if self._started_at is None:
            self._started_at = now
        self._desk.pauses.begin(SYNC, first=SYNC_PAUSE, longest=LONGEST_SYNC_PAUSE)
        spacing = SECOND_LOOK if doubt or not stored.is_synced else self.regular_spacing
        self.next_look = self._clock.monotonic() + spacing
        early, self._early = self._early, []
        for update in early:
            self._answer(update)
        self._check_price_range()

    def _may_buy(self) -> bool:
        return not self._waiting_for and super()._may_buy()

    def _check_amount(self) -> None:
        """
        Raises ConfigurationError when the orders of a bot that never traded would be too small, or would earn nothing.
        A bot with a history starts all the same: what it holds must be sold.
        """
        if not self._desk.configuration.exists and not len(self._desk.book):
            rules.check_first_cycle(self.ticker, self.settings, self._asked_for_a_sell)

    def remember_the_time(self) -> None:
        """Called at a requested stop: the bot heard everything so far, so the next start need not look further back."""
        is_certain = not self._waiting_for and not self._desk.sync_reason
        if is_certain and self._desk.configuration.is_synced:
            self._desk.configuration.update(synced_at=self._desk.now())

    def _hear(self, updates: list[ExecutionsUpdateSchema]) -> None:
        """Handle reports about our orders; before the first synchronisation there is no book yet, and they wait."""
        for update in updates:
            order = self._desk.book.get(update.order_id)
            price = update.last_price
            if price is None and order is not None and update.exec_type == "filled":
                price = order.price  # a "filled" event does not name the price of its execution
            if price and (order is not None or update.symbol == self._terms.symbol):
                self._note_price(price, update.time or self._desk.now())
            if self.is_ready:
                self._answer(update)
            else:
                self._early.append(update)

    def _answer(self, update: ExecutionsUpdateSchema) -> None:
        try:
            self._on_execution(update)
        except TemporaryFailure as exc:
            # What had to follow this report failed; the reports after it must be booked all the same.
            self._desk.request_sync(f"{exc}; an order's news was answered only in part")

    def _note_price(self, price: Decimal, time: float) -> None:
        """An execution newer than the last ticker is the last traded price; at equal times the later report counts."""
        if time >= self._ticker_time:
            self.ticker = price
            self._ticker_time = time

    def _look_back_to(self) -> float | None:
        """
        From when on to ask for closed orders (unix seconds); None if the feed already reported every closed order.

        A new database may follow one that was lost at an unknown time. Then look back 7 days, so that each buy ends
        with one sell: right away if orders of ours are open, else with the second look a minute later, so that the grid
        comes first.

        The first look of every start is repeated once the lag of REST is over: the answer may date from before the
        start, and the database may be an older copy.
        """
        stored = self._desk.configuration
        if not stored.exists:
            return self._desk.now() - MEMORY if len(self._desk.book) else None
        if self._started_at is None or not stored.is_synced:
            return stored.get().synced_at
        lag_is_over = self._started_at + self._rest_api.answers_lag
        return stored.get().synced_at if self._looked_back_at <= lag_is_over < self._desk.now() else None

    def _sync_order_book(self, since: float | None) -> None:
        """Book what happened meanwhile, then place what follows from it."""
        news = self._sync(since)
        stored, now = self._desk.configuration, self._desk.now()
        is_new = not stored.exists
        away = None if self._blind_since is None else self._clock.monotonic() - self._blind_since
        if is_new:
            if since is None and len(self._desk.book):  # REST lists open orders that the feed did not report
                news = self._sync(now - MEMORY)
            amount, interval = self.settings.amount_per_grid, self.settings.interval
            stored.create(self.market, amount, interval, now, synced_at=now - MEMORY)
            self._tell.others()
        elif since is not None and not self.is_ready:
            away = max(0.0, now - max(since, stored.get().created_at))
        is_lost = is_new and len(self._desk.book) > 0
        executions = [trade for trades in news.trades.values() for trade in trades]
        newest = max(executions, key=lambda trade: trade.time, default=None)
        if self.is_ready and newest is not None and newest.time > self._ticker_time:
            self._note_price(newest.price, newest.time)
        finished = []
        for info in sorted(news.reports, key=lambda info: (info.side == SELL, info.opened_at)):  # buys before sells
            if info.side == SELL:
                self._adoption.find_its_buy(info.txid)
            done = self._update_order_book_handle_closed_order(info, news.trades.get(info.txid, []))
            if done is not None and self._is_of_this_life(done):
                finished.append(done)
            elif done is not None:
                is_lost = True
        self._desk.funds_are(news.balance)  # only now: booking the executions has changed the estimate
        if is_lost:
            self._tell.database_lost(MEMORY / DAY)
        for txid in news.strangers:
            self._tell.stranger(txid)
        self._look_for_phantoms(news)
        self._tell_what_happened(away, finished, news)
        if "executions" not in self._waiting_for:
            self._blind_since = None
        for sell in self._desk.book.sells():
            self._adoption.find_its_buy(sell.txid)  # the feed reported it, and REST may not list it yet
        self._add_missed_sell_orders()
        for done in sorted(finished, key=lambda done: done.at):
            if done.is_filled and done.order.side == SELL:
                self._send(self._next_buy(done))

    def _find_unknown_orders(self, opened: list[ExecutionsUpdateSchema]) -> None:
        """
        Adopt open orders of ours that only the snapshot of the feed shows: it lists every open order and is never
        behind, as REST may be.

        At a start such orders mean that the database was lost, or replaced by an older copy. A new database after a
        sudden end (``left_suddenly``) means the same. The bot with the lost database may have sent an order that is
        still on its way. So the first comparison waits until the exchange must refuse that order; it waits longer if
        REST lists other open orders than the feed, because REST is then behind.
        """
        adopted = self._adoption.adopt_unknown(opened)
        lost = not self._desk.configuration.exists and (len(self._desk.book) or self._rest_api.left_suddenly)
        if not self.is_ready and (adopted or lost):
            ours = {update.order_id for update in opened if update.userref == self._config.userref}
            seconds = self._rest_api.answers_lag if self._rest_is_behind(ours) else DEADLINE + SETTLE_PAUSE
            self._desk.pauses.begin(SYNC, at_least=seconds)
            LOG.warning(
                "the database is new or old (open orders of ours that it does not know: %d), and an order may still "
                "be on its way; comparing with the exchange in %.0f s",
                len(adopted),
                seconds,
            )

    def _rest_is_behind(self, reported: set[str]) -> bool:
        """True when REST lists other open orders than the feed has just ``reported``, or does not answer."""
        try:
            shown = self._rest_api.get_open_orders(self._config.userref)
        except TemporaryFailure:
            return True
        return {order.txid for order in shown if order.pair == self._rest_api.rest_altname} != reported

    def _look_for_phantoms(self, news: News) -> None:
        """Orders of the book that the exchange does not know; the youngest may still be on their way to REST."""
        reported = {info.txid for info in news.reports}
        old = self._desk.now() - PHANTOM_AGE
        self._tell.phantoms([o.txid for o in self._desk.book if o.txid not in reported and o.placed_at < old])

    def _update_order_book_handle_closed_order(
        self, info: OrderInfoSchema, trades: list[TradeInfoSchema]
    ) -> Finished | None:
        """Book the exchange's report of one order; the caller places what follows."""
        with self._desk.atomic():
            finished = self._desk.book_report(info, trades)
            if finished is not None:
                self._record(finished)
        if finished is not None and self._is_of_this_life(finished):
            self._announce(finished)
            self._terms.compare_fee(finished)
        return finished

    def _is_of_this_life(self, finished: Finished) -> bool:
        """False for an order that ended before this database was created: the earlier bot has dealt with it."""
        return finished.at >= self._desk.configuration.get().created_at - SECOND_LOOK

    def _tell_what_happened(self, away: float | None, finished: list[Finished], news: News) -> None:
        if away is None or not (finished or news.adopted):
            return
        filled = [done.order.side for done in finished if done.is_filled]
        self._publish(
            CaughtUp(
                away_seconds=away,
                buys_filled=filled.count(BUY),
                sells_filled=filled.count(SELL),
                cancelled=len(finished) - len(filled),
                adopted=len(news.adopted),
            )
        )

    def _handle_closed_meanwhile(self, info: OrderInfoSchema) -> None:
        """Book an order that a look-up, not a message, reported; if it is over, place what follows."""
        trades = self._rest_api.get_trades_info(list(info.trades)) if info.trades else {}
        finished = self._update_order_book_handle_closed_order(info, list(trades.values()))
        if finished is not None:
            self._send(self._handle_arbitrage(finished))

    def _synchronise_if_due(self) -> None:
        """Synchronise, unless something it needs is still missing."""
        if not self._waiting_for:
            self._try_to_prepare()

    def _try_to_prepare(self) -> None:
        """
        Synchronise, but not too often, and not before the exchange's request limit has room for it. Until then the bot
        books and answers what the feed reports.
        """
        if not self._desk.pauses.over(SYNC) or self._rest_api.comparison_wait:
            return
        try:
            self._prepare_for_trading()
        except TemporaryFailure as exc:
            seconds = self._desk.pauses.begin(
                SYNC, at_least=exc.retry_after, first=FAILURE_PAUSE, longest=LONGEST_FAILURE_PAUSE
            )
            self._desk.sync_reason = "the last comparison was not answered"
            LOG.warning("%s; comparing with the exchange again in %.0f s", exc, seconds)
            self._failing_since = self._failing_since or self._clock.monotonic()
            failing = self._clock.monotonic() - self._failing_since
            if failing >= LONGEST_BLINDNESS and "executions" not in self._waiting_for:
                self._tell.failing(failing, exc)
        else:
            self._failing_since = None
            self._tell.over(FAILING)
