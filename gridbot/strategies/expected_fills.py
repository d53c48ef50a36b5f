"""Fills that the price says must have happened, and that no report has told yet."""

from decimal import Decimal

from gridbot.interfaces.clock import IClock
from gridbot.models.money import ZERO
from gridbot.services.order_desk import OrderDesk

PASSED = "passed"  # pause: the price has passed an order, and its fill was not reported
PASSED_PATIENCE = 10.0  # seconds: a fill should be reported this long after the price has passed its order
DUE_PATIENCE = 2.0  # seconds: the grid check waits this long for such a fill


class ExpectedFills:
    """
    The price arrives on another connection than the fills, and perhaps earlier. So a grid check waits a moment for the
    fill of a buy above the price; and when a fill fails to appear, the exchange is asked: its report may be lost.
    """

    def __init__(self, desk: OrderDesk, clock: IClock) -> None:
        self._desk = desk
        self._clock = clock
        self._passed: set[str] = set()  # txids of open orders that the price has passed
        self._due = ""  # txid of the buy whose fill a grid check waits for
        self._due_at = ZERO  # the price at that check
        self._due_until = 0.0  # monotonic; 0.0: the check has waited long enough

    def is_due(self, ticker: Decimal) -> bool:
        """
        True for up to 2 s while the price is below an open buy: without waiting, levels would be computed from a buy
        that is already filled.
        """
        top = next(iter(self._desk.book.buys()), None)
        if top is None or ticker >= top.price:
            self._due = ""
            return False
        if top.txid != self._due:
            self._due, self._due_until = top.txid, self._clock.monotonic() + DUE_PATIENCE
        self._due_at = ticker
        return self._clock.monotonic() < self._due_until

    def has_come(self, txid: str, ticker: Decimal) -> bool:
        """True when a grid check waits for this fill and may go on; not if the price has changed since."""
        has_come = txid == self._due and bool(self._due_until) and ticker == self._due_at
        if has_come:
            self._due = ""
        return has_come

    def stop_waiting(self) -> bool:
        """True once, when the grid check that waits for a fill may go on without it."""
        if not (self._due and 0 < self._due_until <= self._clock.monotonic()):
            return False
        self._due_until = 0.0
        return True

    def seem_lost(self, ticker: Decimal, spacing: float) -> bool:
        """
        True when the price has passed an order of ours for 10 s and no fill was reported; then not again for growing
        times up to ``spacing`` seconds.
        """
        book, pauses = self._desk.book, self._desk.pauses
        self._passed |= {highest.txid for highest in book.buys()[:1] if ticker < highest.price}
        self._passed |= {lowest.txid for lowest in book.sells()[:1] if ticker > lowest.price}
        if self._passed and all(book.get(txid) is None for txid in self._passed):
            self._passed.clear()
            pauses.end(PASSED)
        if not self._passed:
            return False
        if not pauses.known(PASSED):
            pauses.begin(PASSED, first=PASSED_PATIENCE)
            return False
        if not pauses.over(PASSED):
            return False
        pauses.begin(PASSED, longest=spacing)
        self._passed.clear()
        return True
