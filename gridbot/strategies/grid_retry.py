"""What the bot tries once a second because it could not be done at once, or was not reported: nothing here waits."""

import logging

from gridbot.exceptions import TemporaryFailure
from gridbot.models.exchange import BUY
from gridbot.services.order_desk import (
    BUYING,
    CROSSING,
    CROWDED,
    DEADLINE,
    LONGEST_CROSSING_PAUSE,
    LONGEST_PAUSE,
    PLACING,
    Finished,
)
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.adoption import EDITING
from gridbot.strategies.expected_fills import ExpectedFills
from gridbot.strategies.grid_notices import BLIND
from gridbot.strategies.grid_orders import Surroundings, short_lived
from gridbot.strategies.grid_sync import LONGEST_BLINDNESS, SETTLE_PAUSE, GridSync

LOG = logging.getLogger(__name__)

# Pauses, by name.
FUNDS = "funds"  # before the exchange is asked for balances again
CANCELS = "cancels"  # before it is asked how cancellations ended
SETTLING = "settling"  # before it is asked what became of orders of unknown fate
UNFINISHED = "unfinished"  # a grid that takes long to build or to move
# Seconds.
FUNDS_PAUSE, LONGEST_FUNDS_PAUSE = 10.0, 60.0
LONGEST_SETTLE_PAUSE = 20.0  # one look-up costs 5 of Kraken's counter of 15, which loses 1 in 3 s
BLIND_SPACING = 60.0  # between two comparisons over REST while the feed of executions is down
LONGEST_ABSENCE = 3.0  # of placing and cancelling in a row, before the bot reads the feed again
LISTENING = 0.2  # without placing anything: enough to read thousands of messages
YOUNG = 60.0  # an order that the exchange cancels before this age is replaced only after a pause

BY_HAND = "User requested"  # Kraken's words for a cancellation by its owner: the first one costs no pause


class GridRetry(GridSync):
    """Tries again, at growing pauses: unknown fates, unconfirmed cancellations, unreported fills, delayed sells."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._expected = ExpectedFills(self._desk, self._clock)

    @property
    def wants_price(self) -> bool:
        """
        True when the engine should ask for the price, because a quiet pair's feed may not report one for long: refused
        buys may be tried again, or after a lost connection only the price is missing.
        """
        if self._waiting_for == {"ticker"}:
            return True
        pauses = self._desk.pauses
        refused = [what for what in (PLACING, BUYING, CROSSING) if pauses.known(what)]
        return self.band == rules.NO_BAND and bool(refused) and all(map(pauses.over, refused))

    def on_timer(self) -> None:
        """Called about once a second: what was put off and may be tried now."""
        if not self.is_ready or self._waiting_for or self._desk.sync_reason:
            self._synchronise_if_due()
            self._look_while_blind()
            return
        if self._clock.monotonic() >= self.next_look:
            self._synchronise_if_due()
            return
        try:
            self._retry_what_waits()
        except TemporaryFailure as exc:
            LOG.warning("%s; trying again later", exc)

    def _retry_what_waits(self) -> None:
        if self._expected.seem_lost(self.ticker, self.regular_spacing):
            self._desk.request_sync("the price has passed an order whose fill was not reported")
        if self._expected.stop_waiting():
            self._check_price_range()
        pauses = self._desk.pauses
        if len(self._desk.pending):
            self._assign_all_pending_transactions()
        elif self._desk.may_place():
            self._add_missed_sell_orders()
            if not pauses.over(CROWDED) or pauses.known(UNFINISHED):
                self._check_price_range()
        if self._desk.book.unconfirmed_cancels() and pauses.over(CANCELS):
            pauses.begin(CANCELS, first=SETTLE_PAUSE, longest=LONGEST_SETTLE_PAUSE)
            self._look_up_cancels()
        if pauses.known(FUNDS) and pauses.over(FUNDS):
            pauses.begin(FUNDS, first=FUNDS_PAUSE, longest=LONGEST_FUNDS_PAUSE)
            self._desk.refresh_funds()
            self.band = rules.NO_BAND

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
        """Look up the cancellations that the feed has not confirmed."""
        self._assign_order_by_txid(*self._desk.book.unconfirmed_cancels())
        if not self._desk.book.unconfirmed_cancels():
            self._desk.pauses.end(CANCELS)
            self._check_price_range()

    def _assign_order_by_txid(self, *txids: str) -> None:
        """Ask the exchange for these orders of the book, all in one call, and book its answer."""
        for info in self._rest_api.get_orders_info(list(txids)).values():
            if info.status == self._rest_api.get_exchange_domain().OPEN:
                self._desk.book.forget_cancel_request(info.txid)
            self._handle_closed_meanwhile(info)

    def _look_while_blind(self) -> None:
        """
        While the feed of executions is down: tell the owner, and ask over REST, so that filled buys get their sells. At
        the start, too, once a price is known; but only after REST must show every order that an earlier process sent.
        """
        if self._blind_since is None or not self._desk.pauses.over(BLIND):
            return
        blind = self._clock.monotonic() - self._blind_since
        lag = 0.0 if self.is_ready else self._rest_api.answers_lag + DEADLINE + SETTLE_PAUSE
        if blind < max(BLIND_SPACING, lag):
            return
        if blind >= LONGEST_BLINDNESS and "executions" in self._waiting_for:
            self._tell.blind(blind)
        self._desk.pauses.begin(BLIND, first=BLIND_SPACING, longest=BLIND_SPACING)
        if self.is_ready or "ticker" not in self._waiting_for:
            self._try_to_prepare()

    def _sell_first(self) -> None:
        """Place the sells that waited because no order could be placed at all: they come before any new buy."""
        for buy in self._desk.unsold.all():
            if not self._desk.pauses.known(buy.txid):
                self._send(self._new_sell_order(buy))

    def _wait_before_another(self, finished: Finished) -> None:
        """
        Begin a growing pause when an order is cancelled soon after it was placed. The first cancellation by the owner
        costs a short pause (sell) or none (buy).
        """
        order, pauses = finished.order, self._desk.pauses
        what = short_lived(order.side, order.sells)
        by_its_owner = finished.reason == BY_HAND and not pauses.known(what)
        first, longest = (0.0, LONGEST_CROSSING_PAUSE) if order.side == BUY else (EDITING, LONGEST_PAUSE)
        if finished.at - order.placed_at < YOUNG and not by_its_owner:
            first = 1.0
        if pauses.over(what):  # several orders cancelled together count once
            pauses.begin(what, first=first, longest=longest)
