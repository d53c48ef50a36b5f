"""
The life of a grid: messages come in, the rules decide, the order desk acts.

What makes a strategy stands in its own file: it answers questions ("what follows this buy?"). This base hears what
happened, asks the rules, and hands what they want to the desk. It runs on one thread, takes the time of day from the
exchange (through the desk) only, and never waits.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from gridbot.exceptions import BotStateError, ConfigurationError
from gridbot.models.events import ExtraSellPlaced, FundsShort, StatusUpdate
from gridbot.models.exchange import BUY, SELL, ExecutionsUpdateSchema, OnMessageSchema, TickerUpdateSchema
from gridbot.models.grid import (
    EXTRA,
    SURPLUS,
    CancelOrder,
    Cause,
    Decision,
    GridView,
    Intent,
    PlaceBuy,
    PlaceSell,
    Waiting,
)
from gridbot.models.money import ONE, ZERO
from gridbot.services.order_desk import CROSSING, CROWDED, GIVING_WAY, Finished
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.adoption import ACCEPTED
from gridbot.strategies.grid_notices import BLIND, UNPLACEABLE
from gridbot.strategies.grid_orders import Surroundings, short_lived
from gridbot.strategies.grid_retry import (
    CANCELS,
    FUNDS,
    FUNDS_PAUSE,
    LISTENING,
    LONGEST_ABSENCE,
    LONGEST_FUNDS_PAUSE,
    LONGEST_SETTLE_PAUSE,
    UNFINISHED,
    YOUNG,
    GridRetry,
)
from gridbot.strategies.grid_sync import SETTLE_PAUSE

LOG = logging.getLogger(__name__)

# Seconds. A price up to this much older than the last is late and ignored; more than 60 s apart means that the
# clocks disagree: accept the price.
OUT_OF_ORDER = 60.0
MAX_STEPS = 50  # a grid check settles in three or four; more means two rules undo each other


class GridStrategyBase(GridRetry):
    """Base of all grid strategies. Override ``sell_after`` and, where needed, one of the checks."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._websocket = surroundings.websocket
        self._report = surroundings.report
        self.waiting: tuple[Waiting, ...] = ()
        self._cancelled = 0  # buys cancelled so far by this shift of the grid; a slow exchange needs several rounds

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
        """The prices between which the grid check would decide nothing new."""
        return rules.quiet_band(grid, decision)

    def run(self, put: Callable[[object], None]) -> None:
        """
        Check the exchange and the key, fetch the pair, open the feed; frames go to ``put``. The main
        loop is the engine's, so this returns. Raises TemporaryFailure, AccessDenied, ConfigurationError.
        """
        steps: list[Callable[[], None]] = [self._rest_api.check_exchange_status]
        if not self._config.skip_permission_check:
            steps.append(self._rest_api.check_api_key_permissions)
        for step in (*steps, self._terms.retrieve_asset_information):
            step()
            if self._clock.stopping():
                return
        for subscription in self._websocket.get_required_subscriptions(self._rest_api):
            self._websocket.subscribe(subscription)
        self._websocket.start(put)
        self._blind_since = self._clock.monotonic()

    def stop(self) -> None:
        """Close the feed. Open orders stay on the exchange."""
        self._websocket.close()

    def on_message(self, message: OnMessageSchema) -> None:
        """Handle one message of the feed. A ticker inside the quiet band costs one comparison."""
        if message.ticker_data is not None:
            self._on_ticker(message.ticker_data)
        elif message.channel == "ticker" and message.type == "lost":
            self._waiting_for.add("ticker")  # the price known now may be an hour old when executions come back
            self.band = rules.NO_BAND
        elif message.channel == "executions":
            if message.type == "lost":
                self._waiting_for.add("executions")
                self._blind_since = self._blind_since or self._clock.monotonic()
            elif message.type == "snapshot":
                self._waiting_for.discard("executions")
                if not self.is_ready:
                    self._blind_since = None
                self._desk.pauses.end(BLIND)
                self._tell.over(BLIND)
                self._find_unknown_orders(message.executions or [])
                self._desk.sync_reason = "the feed of executions is there"
                self._synchronise_if_due()
            else:
                self._hear(message.executions or [])

    def _on_ticker(self, update: TickerUpdateSchema) -> None:
        if update.symbol != self._terms.symbol:
            return
        is_late = bool(update.time) and 0.0 < self._ticker_time - update.time < OUT_OF_ORDER
        if not is_late:
            self.ticker = update.last
            self._ticker_time = update.time or self._desk.now()
        elif "ticker" not in self._waiting_for:
            return
        low, high = self.band
        if low <= update.last <= high:
            return
        if self._waiting_for:
            self._waiting_for.discard("ticker")
            if not self.is_ready or self._desk.sync_reason:
                self._synchronise_if_due()
                return
        self._check_price_range()

    def _on_execution(self, update: ExecutionsUpdateSchema) -> None:
        if update.symbol is not None and update.symbol != self._terms.symbol:
            return
        unknown = self._desk.book.get(update.order_id) is None
        if unknown and not self._is_ours_after_all(update):
            return
        if update.exec_type in ACCEPTED:
            if unknown:
                self._check_price_range()  # the check that waited for this answer goes on
            return
        self.band = rules.NO_BAND
        with self._desk.atomic():
            finished = self._desk.book_message(update)
            if finished is None:
                return
            self._record(finished)
            placement = self._handle_arbitrage(finished)
        self._announce(finished)
        self._terms.compare_fee(finished)
        self._desk.try_again_soon()
        self._send(placement)
        self._after_the_end_of(finished)

    def _is_ours_after_all(self, update: ExecutionsUpdateSchema) -> bool:
        """Whether an order unknown to the book is ours: its placement got no answer, or it carries our userref."""
        if update.order_id in self._desk.provisional:
            return True  # over, but booked as a sum: this may be one of its fills
        if update.userref != self._config.userref:
            return False
        if self._desk.settle_by_message(update):
            return True
        if self._adoption.adopt(update):
            self._adoption.find_its_buy(update.order_id, is_live=True)  # an order that the owner edits gets another id
            self._tell.stranger(update.order_id)
            return True
        if not self._desk.knows(update.order_id):
            self._desk.strangers.add(update.order_id)
            self._desk.request_sync(f"order {update.order_id} carries our userref and is not in the book")
        return False

    def _after_the_end_of(self, finished: Finished) -> None:
        """
        Go on with a grid check that waited for the bot's own cancellations. Do not replace at once an order that the
        exchange cancelled.
        """
        order = finished.order
        if order.side == SELL and not finished.is_filled:
            # Perhaps the owner edited it: then it comes back under another id, reported before or after this end.
            for sell in self._desk.book.sells():
                self._adoption.find_its_buy(sell.txid, is_live=order.sells != SURPLUS)
        if order.cancel_requested:
            if not self._desk.book.unconfirmed_cancels():
                self._desk.pauses.end(CANCELS)
                if not self._desk.pauses.over(CROWDED):
                    self._add_missed_sell_orders()
                self._check_price_range()
        elif finished.is_filled:
            self._desk.pauses.end(short_lived(order.side, order.sells))
            # Go on with the check that waited for this fill; if the price has changed since, the next check decides.
            if self._expected.has_come(order.txid, self.ticker):
                self._check_price_range()
        elif order.side == SELL or finished.at - order.placed_at < YOUNG:
            self._wait_before_another(finished)

    def _check_price_range(self) -> None:
        """
        Carry out what the rules want until they want nothing more; then note the price band in which that stays so.
        """
        self.band = rules.NO_BAND
        pauses = self._desk.pauses
        if not self.is_ready or not pauses.over(UNFINISHED):
            return
        pauses.end(UNFINISHED)
        if self._check_pending_txids() or self._check_configuration_changes():
            return
        self._sell_first()
        if self._check_pending_txids():
            return
        self._add_missed_buy_orders()
        if self._expected.is_due(self.ticker):
            return
        for _ in range(MAX_STEPS):
            if self._check_pending_txids():
                return
            grid = self.view()
            decision = self._next_step(grid)
            self.waiting = decision.waiting
            self._tell_shortage(grid, decision)
            if not decision.intents:
                if all(self._desk.now() - order.placed_at > YOUNG for order in grid.buys):
                    self._desk.pauses.end(CROSSING)
                self.band = self._quiet_band(grid, decision)
                return
            done, shifted = self._carry_out(decision.intents), decision.event
            self._cancelled = 0 if shifted is None else self._cancelled + done
            if done < len(decision.intents):
                return
            if shifted is not None:
                self._publish(replace(shifted, cancelled=self._cancelled))
        raise BotStateError(f"the grid did not settle in {MAX_STEPS} steps; last wanted: {decision.intents}")

    def _check_pending_txids(self) -> bool:
        """True when nothing may be decided: an order's fate is unknown, or the book is in doubt."""
        return bool(
            self._waiting_for
            or self._desk.sync_reason
            or not self._desk.may_place()
            or self._desk.book.unconfirmed_cancels()
        )

    def _next_step(self, grid: GridView) -> Decision:
        """
        What the first check with something to do wants; if none has, why levels are missing. A grid that the price has
        left is moved before it is completed: otherwise a level added now would only be cancelled again, endlessly while
        the exchange slows cancellations down.
        """
        waiting: tuple[Waiting, ...] = ()
        for check in (
            self._make_room,
            self._shift_buy_orders_up,
            self._check_near_buy_orders,
            self._check_n_open_buy_orders,
            self._check_lowest_cancel_of_more_than_n_buy_orders,
            self._check_extra_sell_order,
        ):
            decision = check(grid)
            if decision.intents:
                return decision
            waiting += decision.waiting
        return Decision(waiting=waiting)

    def _make_room(self, grid: GridView) -> Decision:
        """Cancel the lowest buy while a sell finds no place on the exchange; the next one after growing pauses."""
        pauses = self._desk.pauses
        if pauses.over(CROWDED) or not pauses.over(GIVING_WAY) or not grid.buys:
            return Decision()
        pauses.begin(GIVING_WAY)
        return rules.make_room(grid)

    def _carry_out(self, intents: tuple[Intent, ...]) -> int:
        """
        Carry out the intents one by one, and return how many were done; the grid check goes on only if all were. Breaks
        off when the bot is asked to stop, when an order cannot be placed, and on a slow exchange after LONGEST_ABSENCE,
        so that fills reported meanwhile get their sells first.
        """
        until = self._clock.monotonic() + LONGEST_ABSENCE
        for done, intent in enumerate(intents):
            if self._clock.stopping():
                return done
            if self._clock.monotonic() > until:
                self._desk.pauses.begin(UNFINISHED, first=LISTENING, longest=LISTENING)
                return done
            if isinstance(intent, CancelOrder):
                self._cancel(intent)
            elif isinstance(intent, PlaceBuy):
                if not self._may_buy() or self._desk.place(intent) is None:
                    return done
            elif not self._place_extra_sell(intent):
                return done
        return len(intents)

    def _place_extra_sell(self, intent: PlaceSell) -> bool:
        """The extra sell uses free base only, so the exchange is asked for the balance first."""
        if not self._may_sell(EXTRA):
            return False
        if not self._desk.funds.is_told:
            self._desk.refresh_funds()
            return True  # decide again, on the exchange's own figures
        order = self._desk.place(intent)
        if order is not None:
            self._publish(ExtraSellPlaced(order.price, order.volume, order.txid))
        return order is not None

    def _cancel(self, intent: CancelOrder) -> None:
        if not self._desk.pauses.known(CANCELS):
            self._desk.pauses.begin(CANCELS, first=SETTLE_PAUSE, longest=LONGEST_SETTLE_PAUSE)
        info = self._desk.cancel(intent.txid, intent.why)
        if info is not None:
            self._handle_closed_meanwhile(info)

    def _cancel_all_open_buy_orders(self, why: str) -> None:
        """Ask for the cancellation of every open buy that is not being cancelled yet."""
        for order in self._desk.book.buys():
            if not order.cancel_requested:
                self._cancel(CancelOrder(order.txid, why))

    def _check_configuration_changes(self) -> bool:
        """
        If amount_per_grid or interval differ from the stored ones: cancel all open buys, and store the new values once
        they are gone. True while that is under way. If an order of the new size could not be placed, or would not pay,
        the buys stay, no others are placed, and the owner is told.
        """
        stored = self._desk.configuration.get()
        wanted = (self.settings.amount_per_grid, self.settings.interval)
        if (stored.amount_per_grid, stored.interval) == wanted:
            return False
        try:
            if self.settings.held_back:
                raise ConfigurationError(f"[grid] {self.settings.held_back}")
            rules.check_first_cycle(self.ticker, self.settings, self._asked_for_a_sell)
        except ConfigurationError as exc:
            self._tell.unplaceable(exc)
            wanted_at = rules.buy_price(self.ticker, self.ticker, self.settings)
            self.waiting = (Waiting(Cause.MINIMUM, wanted_at, exc.message.removeprefix("[grid] ")),)
            return True
        self._tell.over(UNPLACEABLE)
        self._cancel_all_open_buy_orders("amount_per_grid or interval changed")
        if self._desk.book.buys():
            return True
        self._desk.configuration.update(amount_per_grid=wanted[0], interval=wanted[1])
        return False

    def _tell_shortage(self, grid: GridView, decision: Decision) -> None:
        """Tell the owner, once, that levels are missing: an order would be too small, or money is short."""
        self._tell.missing(grid, decision)
        pauses = self._desk.pauses
        if not any(waiting.cause is Cause.FUNDS for waiting in decision.waiting):
            if not decision.intents:
                pauses.end(FUNDS)
            return
        if pauses.known(FUNDS):
            return
        pauses.begin(FUNDS, first=FUNDS_PAUSE, longest=LONGEST_FUNDS_PAUSE)
        bound = sum((i.price * i.volume for i in decision.intents if isinstance(i, PlaceBuy)), ZERO)
        self._publish(
            FundsShort(
                BUY,
                self._config.quote_currency,
                grid.settings.amount_with_fee,
                max(grid.quote_available - bound * (ONE + grid.settings.fee), ZERO),
                "the missing buys are placed when there is enough",
            )
        )

    @property
    def _investment(self) -> Decimal:
        """See ``GridView.investment``; in quote."""
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
        self._publish(StatusUpdate(self._report()))
