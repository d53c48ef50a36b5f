"""
The life of a grid: messages come in, the rules decide, the order desk acts.

What a strategy *is* stands in its own file: it answers questions ("what follows this buy?"). This
base hears what happened, asks the rules, and hands what they want to the desk. It runs on one
thread, reads no clock but the exchange's through the desk, and never waits.
"""

import logging
from collections.abc import Callable
from decimal import Decimal

from gridbot.exceptions import BotStateError, ConfigurationError, TemporaryFailure
from gridbot.models.configuration import BotConfigDTO, check_interval_pays
from gridbot.models.events import (
    CaughtUp,
    ExtraSellPlaced,
    FundsShort,
    StatusUpdate,
)
from gridbot.models.exchange import (
    BUY,
    SELL,
    AssetPairInfoSchema,
    ExecutionsUpdateSchema,
    News,
    OnMessageSchema,
    OrderInfoSchema,
    TickerUpdateSchema,
    TradeInfoSchema,
)
from gridbot.models.grid import (
    EXTRA,
    CancelOrder,
    Cause,
    Decision,
    GridSettings,
    GridView,
    Intent,
    PlaceBuy,
    PlaceSell,
    Waiting,
)
from gridbot.services.order_desk import CROSSING, LONGEST_CROSSING_PAUSE, PLACING, Finished
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_orders import GridOrders, Surroundings

LOG = logging.getLogger(__name__)

MAX_STEPS = 50  # a grid check settles in three or four; more means two rules undo each other

FUNDS = "funds"  # pauses: asking the exchange for balances
SYNC = "synchronisation"
CANCELS = "cancels"
SETTLING = "settling"
SYNC_SPACING = 5.0  # seconds between two synchronisations, whatever asks for them
FUNDS_PAUSE = 10.0
LONGEST_FUNDS_PAUSE = 60.0
SETTLE_PAUSE = 3.0
LONGEST_SETTLE_PAUSE = 20.0  # one look-up costs 5 of Kraken's counter of 15, which loses 1 in 3 s


class GridStrategyBase(GridOrders):
    """
    Base of all grid strategies. Override ``sell_after`` and, where needed, one of the checks.

    Built from ``Surroundings`` in place of the reference's (config, event_bus, state_machine, db):
    a strategy raises, and only the engine changes the state; the database is the desk's.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._websocket = surroundings.websocket
        self._sync = surroundings.sync
        self._clock = surroundings.clock
        self._report = surroundings.report
        self._symbol = surroundings.rest_api.ws_symbol
        self._ticker_time = 0.0
        self._band: rules.Band = rules.NO_BAND
        self._waiting_for = {"ticker", "executions"}
        self._started_at: float | None = None  # when the first synchronisation was done
        self._last_sync = -SYNC_SPACING
        self.waiting: tuple[Waiting, ...] = ()

    # ---- the checks: each a question about the present grid ----------------------------------------------------------

    def _check_near_buy_orders(self, grid: GridView) -> Decision:
        """Buys too near each other: the higher is cancelled."""
        return rules.check_near_buy_orders(grid)

    def _check_n_open_buy_orders(self, grid: GridView) -> Decision:
        """Buys are placed until n are open."""
        return rules.check_n_open_buy_orders(grid)

    def _check_lowest_cancel_of_more_than_n_buy_orders(self, grid: GridView) -> Decision:
        """More than n buys: the lowest are cancelled."""
        return rules.check_lowest_cancel_of_more_than_n_buy_orders(grid)

    def _shift_buy_orders_up(self, grid: GridView) -> Decision:
        """The price left the grid upward: all buys are cancelled, and placed anew below it."""
        return rules.shift_buy_orders_up(grid)

    def _check_extra_sell_order(self, grid: GridView) -> Decision:
        """An extra sell; only SWING has one."""
        return Decision()

    def _quiet_band(self, grid: GridView, decision: Decision) -> rules.Band:
        """The prices between which the grid check has nothing new to say."""
        return rules.quiet_band(grid, decision)

    # ---- starting and stopping -----------------------------------------------------------------

    def run(self, put: Callable[[object], None]) -> None:
        """
        Check the exchange and the key, fetch the pair, open the feed; frames go to ``put``. The main
        loop is the engine's, so this returns. Raises TemporaryFailure, AccessDenied, ConfigurationError.
        """
        self._rest_api.check_exchange_status()
        if not self._config.skip_permission_check:
            self._rest_api.check_api_key_permissions()
        self._retrieve_asset_information()
        for subscription in self._websocket.get_required_subscriptions(self._rest_api):
            self._websocket.subscribe(subscription)
        self._websocket.start(put)

    def stop(self) -> None:
        """Close the feed. Open orders stay on the exchange."""
        self._websocket.close()

    def _retrieve_asset_information(self) -> None:
        """Precision and minimums of the pair, and the fee. Raises ConfigurationError."""
        pair = self._rest_api.get_asset_pair_info()
        fee = self._config.fee if self._config.fee is not None else self._rest_api.get_maker_fee()
        self.settings = grid_settings(self._config, pair, fee)
        self._desk.funds.fee = self.settings.fee

    @property
    def is_ready(self) -> bool:
        """True once the first synchronisation is done."""
        return self._started_at is not None

    def _prepare_for_trading(self) -> None:
        """
        Compare the book with the exchange and catch up: at the start, and again after every lost
        connection or doubt. Raises TemporaryFailure; it is then tried again later.
        """
        self._last_sync = self._clock.monotonic()
        since = self._synced_before() if not self.is_ready else None
        caught_up = self._sync_order_book(since)
        if not self._desk.configuration.exists:
            self._create_configuration()
        elif caught_up or not self.is_ready:
            self._desk.configuration.update(synced_at=self._desk.now())
        if self._started_at is None:
            self._started_at = self._desk.now()
        self._desk.pauses.end(SYNC)
        self._check_price_range()

    def _synced_before(self) -> float | None:
        """When the book was last compared in an earlier life; None in the first one."""
        configuration = self._desk.configuration
        return configuration.get().synced_at if configuration.exists else None

    def _create_configuration(self) -> None:
        self._desk.configuration.create(self.settings.amount_per_grid, self.settings.interval, self._desk.now())

    def _sync_order_book(self, since: float | None) -> bool:
        """Book what happened meanwhile, then place what follows from it. True when there was news."""
        news = self._sync(since)
        if not self._desk.configuration.exists:
            self._create_configuration()
        finished = []
        for info in news.reports:
            done = self._update_order_book_handle_closed_order(info, news.trades.get(info.txid, []))
            if done is not None:
                finished.append(done)
        self._tell_what_happened(since, finished, news)
        self._add_missed_sell_orders()
        for done in finished:
            if done.is_filled and done.order.side == SELL:
                self._send(self._next_buy(done))
        return bool(finished or news.adopted)

    def _update_order_book_handle_closed_order(
        self, info: OrderInfoSchema, trades: list[TradeInfoSchema]
    ) -> Finished | None:
        """Book the exchange's report of one order; what follows is placed by the caller."""
        with self._desk.atomic():
            finished = self._desk.book_report(info, trades)
            if finished is not None:
                self._record(finished)
        if finished is not None:
            self._announce(finished)
        return finished

    def _tell_what_happened(self, since: float | None, finished: list[Finished], news: News) -> None:
        if not finished and not news.adopted:
            return
        filled = [done.order.side for done in finished if done.is_filled]
        self._publish(
            CaughtUp(
                away_seconds=max(0.0, self._desk.now() - since) if since is not None else 0.0,
                buys_filled=filled.count(BUY),
                sells_filled=filled.count(SELL),
                cancelled=len(finished) - len(filled),
                adopted=len(news.adopted),
            )
        )

    # ---- messages ------------------------------------------------------------------------------

    def on_message(self, message: OnMessageSchema) -> None:
        """One message of the feed. A ticker inside the quiet band costs a comparison."""
        if message.ticker_data is not None:
            self._on_ticker(message.ticker_data)
        elif message.channel == "executions":
            if message.type == "lost":
                self._waiting_for.add("executions")
            elif message.type == "snapshot":
                self._waiting_for.discard("executions")
                self._desk.sync_reason = "the feed of executions is there"
                self._synchronise_if_due()
            else:
                for update in message.executions or ():
                    self._on_execution(update)

    def _on_ticker(self, update: TickerUpdateSchema) -> None:
        if update.symbol != self._symbol or 0.0 < update.time < self._ticker_time:
            return
        self.ticker = update.last
        self._ticker_time = update.time or self._desk.now()
        low, high = self._band
        if low <= update.last <= high:
            return
        if self._waiting_for:
            self._waiting_for.discard("ticker")
            self._synchronise_if_due()
        else:
            self._check_price_range()

    def _on_execution(self, update: ExecutionsUpdateSchema) -> None:
        if update.symbol is not None and update.symbol != self._symbol:
            return
        self._note_price(update)
        if self._desk.book.get(update.order_id) is None and not self._is_ours_after_all(update):
            return
        with self._desk.atomic():
            finished = self._desk.book_message(update)
            placement = None
            if finished is not None:
                self._record(finished)
                placement = self._handle_arbitrage(finished)
        self._band = rules.NO_BAND
        self._send(placement)
        if finished is None:
            return
        self._announce(finished)
        self._desk.pauses.cut_short(except_for=(PLACING, FUNDS, SYNC))
        self._after_the_end_of(finished)

    def _note_price(self, update: ExecutionsUpdateSchema) -> None:
        """An execution newer than the last ticker is the last traded price; of one moment, the later told."""
        if update.last_price and update.symbol == self._symbol and update.time >= self._ticker_time:
            self.ticker = update.last_price
            self._ticker_time = update.time

    def _is_ours_after_all(self, update: ExecutionsUpdateSchema) -> bool:
        """An order id the book does not know: a placement whose answer was lost, or not ours."""
        if update.userref != self._config.userref:
            return False
        if self._desk.settle_by_message(update):
            return True
        if not self._desk.knows(update.order_id) and not self._desk.sync_reason:
            self._desk.request_sync(f"order {update.order_id} carries our userref and is not in the book")
        return False

    def _after_the_end_of(self, finished: Finished) -> None:
        """A check that waited for its own cancellations goes on; a crossing buy is not repeated at once."""
        if finished.order.cancel_requested:
            if not self._desk.unconfirmed_cancels():
                self._check_price_range()
        elif not finished.is_filled and "post" in finished.reason.lower():
            self._desk.pauses.begin(CROSSING, first=1.0, longest=LONGEST_CROSSING_PAUSE)

    # ---- the grid check ------------------------------------------------------------------------

    def _check_price_range(self) -> None:
        """Bring the grid into the order the rules want; ends with the band in which it stays so."""
        self._band = rules.NO_BAND
        if self._check_configuration_changes():
            return
        for _ in range(MAX_STEPS):
            if self._check_pending_txids():
                return
            grid = self.view()
            decision = self._next_step(grid)
            self._tell_shortage(grid, decision)
            if not decision.intents:
                self._desk.pauses.end(CROSSING)
                self._band = self._quiet_band(grid, decision)
                return
            if not self._carry_out(decision.intents):
                return
            if decision.event is not None:
                self._publish(decision.event)
        raise BotStateError(f"the grid did not settle in {MAX_STEPS} steps; last wanted: {decision.intents}")

    def _check_pending_txids(self) -> bool:
        """True when nothing may be decided: an order's fate is unknown, or the book is in doubt."""
        return bool(
            self._waiting_for
            or self._desk.sync_reason
            or not self._desk.may_place()
            or self._desk.unconfirmed_cancels()
        )

    def _next_step(self, grid: GridView) -> Decision:
        """What the first check with something to do wants; with nothing to do, why a level is missing."""
        complete = self._check_n_open_buy_orders(grid)
        decisions = (
            self._check_near_buy_orders(grid),
            complete,
            self._check_lowest_cancel_of_more_than_n_buy_orders(grid),
            self._shift_buy_orders_up(grid),
            self._check_extra_sell_order(grid),
        )
        return next((decision for decision in decisions if decision.intents), complete)

    def _carry_out(self, intents: tuple[Intent, ...]) -> bool:
        """True when all was done and the next step may be looked for."""
        for intent in intents:
            if isinstance(intent, CancelOrder):
                self._cancel(intent)
            elif isinstance(intent, PlaceBuy):
                if not self._may_buy() or self._desk.place(intent) is None:
                    return False
            elif not self._place_extra_sell(intent):
                return False
        return True

    def _place_extra_sell(self, intent: PlaceSell) -> bool:
        """The extra sell rests on free base alone, so the exchange is asked for it first."""
        if not self._desk.pauses.over(EXTRA):
            return False
        if not self._desk.funds.is_told:
            self._desk.refresh_funds()
            return True  # decide again, on the exchange's own figures
        order = self._desk.place(intent)
        if order is not None:
            self._publish(ExtraSellPlaced(order.price, order.volume, order.txid))
        return order is not None

    def _cancel(self, intent: CancelOrder) -> None:
        self._desk.pauses.begin(CANCELS, first=SETTLE_PAUSE, longest=LONGEST_SETTLE_PAUSE)
        info = self._desk.cancel(intent.txid, intent.why)
        if info is not None:
            self._handle_closed_meanwhile(info)

    def _handle_closed_meanwhile(self, info: OrderInfoSchema) -> None:
        """An order turned out to be over, by a look-up instead of a message."""
        exec_ids = list(info.trades) if info.vol_exec else []
        trades = list(self._rest_api.get_trades_info(exec_ids).values()) if exec_ids else []
        finished = self._update_order_book_handle_closed_order(info, trades)
        if finished is not None and finished.is_filled and finished.order.side == SELL:
            self._send(self._next_buy(finished))
        elif finished is not None:
            self._add_missed_sell_orders()

    def _cancel_all_open_buy_orders(self, why: str) -> None:
        """Ask for the cancellation of every open buy that is not being cancelled yet."""
        for order in self._desk.book.buys():
            if not order.cancel_requested:
                self._cancel(CancelOrder(order.txid, why))

    def _check_configuration_changes(self) -> bool:
        """
        Another amount_per_grid or interval than the stored one: all open buys are cancelled, and only
        when they are gone the new settings count as stored. True while that is under way.
        """
        stored = self._desk.configuration.get()
        wanted = (self.settings.amount_per_grid, self.settings.interval)
        if (stored.amount_per_grid, stored.interval) == wanted:
            return False
        if self._desk.book.buys():
            self._cancel_all_open_buy_orders("amount_per_grid or interval changed")
        if self._desk.book.buys():
            return True
        self._desk.configuration.update(amount_per_grid=wanted[0], interval=wanted[1])
        return False

    def _tell_shortage(self, grid: GridView, decision: Decision) -> None:
        """Why levels are missing; too little money is said once, until there was enough again."""
        self.waiting = decision.waiting
        short = any(waiting.cause is Cause.FUNDS for waiting in decision.waiting)
        if not short:
            self._desk.pauses.end(FUNDS)
        elif not self._desk.pauses.known(FUNDS):
            self._desk.pauses.begin(FUNDS, first=FUNDS_PAUSE, longest=LONGEST_FUNDS_PAUSE)
            self._publish(
                FundsShort(
                    BUY,
                    self._config.quote_currency,
                    grid.settings.amount_with_fee,
                    grid.quote_available,
                    "the missing buys are placed when there is enough",
                )
            )

    # ---- what can only be done later -----------------------------------------------------------

    def on_timer(self) -> None:
        """Called about once a second: what was put off and may be tried now."""
        if not self.is_ready or self._waiting_for or self._desk.sync_reason:
            self._synchronise_if_due()
            return
        try:
            self._retry_what_waits()
        except TemporaryFailure as exc:
            LOG.warning("%s; trying again later", exc)

    def _retry_what_waits(self) -> None:
        pauses = self._desk.pauses
        if len(self._desk.pending):
            self._assign_all_pending_transactions()
        elif self._desk.may_place():
            self._add_missed_sell_orders()
        if self._desk.unconfirmed_cancels() and pauses.over(CANCELS):
            pauses.begin(CANCELS, first=SETTLE_PAUSE, longest=LONGEST_SETTLE_PAUSE)
            self._look_up_cancels()
        if pauses.known(FUNDS) and pauses.over(FUNDS):
            pauses.begin(FUNDS, first=FUNDS_PAUSE, longest=LONGEST_FUNDS_PAUSE)
            self._desk.refresh_funds()
            self._band = rules.NO_BAND

    def _assign_all_pending_transactions(self) -> None:
        """Placements of unknown fate: ask the exchange, at growing intervals."""
        pauses = self._desk.pauses
        if not pauses.over(SETTLING):
            return
        longest = min(LONGEST_SETTLE_PAUSE, max(SETTLE_PAUSE, self._desk.until_absence_counts()))
        pauses.begin(SETTLING, first=SETTLE_PAUSE, longest=longest)
        self._desk.sync_reason = "an order's fate is unknown"
        self._synchronise_if_due()
        if not len(self._desk.pending):
            pauses.end(SETTLING)

    def _look_up_cancels(self) -> None:
        """Cancellations the feed has not confirmed."""
        for txid in self._desk.unconfirmed_cancels():
            self._assign_order_by_txid(txid)
        if not self._desk.unconfirmed_cancels():
            self._desk.pauses.end(CANCELS)
            self._check_price_range()

    def _assign_order_by_txid(self, txid: str) -> None:
        """Ask the exchange for one order of the book and book its answer."""
        info = self._rest_api.get_orders_info([txid]).get(txid)
        if info is None:
            return
        if info.status == self._rest_api.get_exchange_domain().OPEN:
            self._desk.book.forget_cancel_request(txid)
        self._handle_closed_meanwhile(info)

    def _synchronise_if_due(self) -> None:
        """The synchronisation, once everything it needs is there and not too often."""
        if self._waiting_for or not self._desk.pauses.over(SYNC):
            return
        if self._clock.monotonic() - self._last_sync < SYNC_SPACING:
            return
        try:
            self._prepare_for_trading()
        except TemporaryFailure as exc:
            seconds = self._desk.pauses.begin(SYNC, first=SYNC_SPACING, longest=LONGEST_FUNDS_PAUSE)
            self._desk.sync_reason = "the last comparison was not answered"
            LOG.warning("%s; comparing with the exchange again in %.0f s", exc, seconds)

    # ---- what others may ask -------------------------------------------------------------------

    @property
    def _investment(self) -> Decimal:
        """Sum of price x volume over every open order and every placement on its way, in quote."""
        return self.view().investment

    @property
    def _max_investment_reached(self) -> bool:
        """True when one more buy would reach max_investment."""
        return self.settings.max_investment <= self._investment + self.settings.amount_with_fee

    @property
    def is_busy(self) -> bool:
        """True while a grid check is under way: cancellations or placements are not answered yet."""
        return self._check_pending_txids()

    def describe(self) -> str:
        """The grid in one sentence."""
        return rules.explain_settings(self.settings)

    def send_status_update(self) -> None:
        """Publish the status message."""
        self._publish(StatusUpdate(self._report(self)))


def grid_settings(config: BotConfigDTO, pair: AssetPairInfoSchema, fee: Decimal | None) -> GridSettings:
    """
    The numbers of the rules, checked against the pair and the fee. Raises ConfigurationError for what
    cannot pay or cannot be placed: no fee known, an interval that fees eat up, an amount below the minimums.
    """
    if fee is None:
        raise ConfigurationError(
            "[grid] fee: the exchange does not tell the fee of this account.\n"
            "  Set it to your maker fee per side, for example fee = 0.25%"
        )
    check_interval_pays(config.interval, fee)
    if config.amount_per_grid < pair.costmin:
        raise ConfigurationError(
            f"[grid] amount_per_grid = {config.amount_per_grid:f}: the exchange takes no order on "
            f"{config.base_currency}/{config.quote_currency} below {pair.costmin:f} {config.quote_currency}.\n"
            f"  Raise amount_per_grid to {pair.costmin * 2:f} or more."
        )
    return GridSettings(
        amount_per_grid=config.amount_per_grid,
        interval=config.interval,
        fee=fee,
        n_open_buy_orders=config.n_open_buy_orders,
        max_investment=config.max_investment,
        pair=pair,
    )
