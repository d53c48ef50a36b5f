"""
The order desk: the only place that sends, cancels and books orders.

Kraken has no idempotent placement, so safety lies in the order of the steps. They are numbered in ``write_down`` and
``send``. If the process dies between two of them, the next start finds the placement in ``pending_txids`` and asks the
exchange before it places anything else (``settle``).
"""

import logging
from collections.abc import Callable
from decimal import Decimal

from gridbot.exceptions import (
    AccessDenied,
    ExchangeError,
    InsufficientFunds,
    OrderFateUnknown,
    OrderRejected,
    PlacementPaused,
    PostOnlyWouldCross,
    TemporaryFailure,
    TooManyOrders,
    UnknownOrderError,
)
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.models.events import Event, OrderPlaced, OrderRefused, Trouble
from gridbot.models.exchange import BUY, SELL, ExecutionsUpdateSchema, OrderInfoSchema
from gridbot.models.grid import EXTRA, SURPLUS, UNKNOWN, BookOrder, PlaceBuy, Placement, PlaceSell
from gridbot.models.money import ONE, shown
from gridbot.services.bookkeeping import Bookkeeping
from gridbot.services.bookkeeping import Finished as Finished
from gridbot.services.pauses import LONGEST_PAUSE as LONGEST_PAUSE
from gridbot.services.pauses import Notices, Pauses

LOG = logging.getLogger(__name__)

# Seconds. The exchange must refuse an order that reaches its engine later than this after it was
# written down. Kraken allows 2 to 60 s and reports its time in whole seconds.
DEADLINE = 10.0
# Seconds. An order is looked for from this long before it was written down: clocks differ and are rounded.
CLOCK_TOLERANCE = 5.0
# Seconds. No answer that is still on its way mentions an order that ended longer ago than this.
FORGET_AFTER = 7 * 86400.0
# A placement is given up after this many look-ups that did not find it, all of them after the lag of REST.
CLEAN_SWEEPS = 2
# Buys must never take (post), and both sides pay their fee in quote (fciq), so that a buy of V brings V.
FLAGS = {BUY: "post,fciq", SELL: "fciq"}

# Pauses, by name, and the longest of them in seconds.
PLACING = "placing"  # any order at all: the exchange wants none for now
HALTED = "halted"  # no pause, but told once: PLACING has lasted for long
BUYING = "buys"
CROSSING = "crossing"  # post-only buys that would have crossed: the price moves faster than we place
CROWDED = "crowded"  # a sell found no place among the open orders that the exchange allows
GIVING_WAY = "giving way"  # a buy was cancelled to make that place; the next one not before this pause is over
LONGEST_HALT = 60.0  # unless the exchange itself asks for longer
LONGEST_CROSSING_PAUSE = 60.0
LONGEST_CROWDED_PAUSE = 60.0

MOST_DECIMALS = 8  # of amounts in messages


class OrderDesk(Bookkeeping):
    """The books of one bot, and everything that it sends to the exchange because of them."""

    def __init__(
        self,
        db: DBConnect,
        rest_api: IExchangeRESTService,
        clock: IClock,
        userref: int,
        publish: Callable[[Event], None],
    ) -> None:
        super().__init__(db, rest_api, clock, userref, publish)
        self.pauses, self.notices = Pauses(clock), Notices()
        self._clean_sweeps: dict[int, int] = {}

    def may_place(self) -> bool:
        """False while the fate of a placement is unknown, or the exchange wants no orders for now."""
        return not len(self.pending) and self.pauses.over(PLACING)

    def try_again_soon(self) -> None:
        """Something changed that may let refused orders succeed."""
        self.pauses.cut_short([BUYING, SURPLUS, EXTRA, *(buy.txid for buy in self.unsold.all())])

    def place(self, intent: PlaceBuy | PlaceSell) -> BookOrder | None:
        """Write down, then send. None if the order is not on the exchange, or if its fate is unknown."""
        return self.send(self.write_down(intent))

    def write_down(self, intent: PlaceBuy | PlaceSell) -> Placement:
        """Step 1: store the placement on disk before it is sent. May be part of the transaction that books a fill."""
        now = self.now()
        placement = self.pending.add(intent, written_at=now, deadline=now + DEADLINE)
        self.funds.hold(intent.side, intent.price, intent.volume)
        return placement

    def send(self, placement: Placement) -> BookOrder | None:
        """
        Step 2: send once. Step 3: book the outcome; an unknown one leaves the placement where it is.

        Raises AccessDenied when the key may not place orders.
        """
        try:
            reply = self._rest.create_order(
                ordertype="limit",
                side=placement.side,
                volume=placement.volume,
                price=placement.price,
                userref=self._userref,
                oflags=FLAGS[placement.side],
                deadline=placement.deadline,
            )
        except OrderFateUnknown as exc:
            LOG.warning("no answer to the %s; asking the exchange whether it exists (%s)", placement, exc)
            return None
        except OrderRejected as exc:
            self._rejected(placement, exc)
            return None
        except AccessDenied:
            self._give_up(placement)
            raise
        return self.accepted(placement, reply.txid)

    def accepted(self, placement: Placement, txid: str) -> BookOrder:
        """
        The placement is on the exchange: move it from pending into the book (where it may already be, as an order of
        unknown origin); its buy is no longer unsold.
        """
        known = self.book.get(txid)
        order = BookOrder(
            txid=txid,
            side=placement.side,
            price=placement.price,
            volume=placement.volume,
            placed_at=placement.written_at,
            sells=placement.sells,
        )
        with self._db.atomic():
            self.pending.remove(placement)
            if known is None:
                self.book.add(order)
            else:
                self.book.set_sells(txid, placement.sells)
                self.funds.release(placement.side, placement.price, placement.volume)  # bound twice
            if placement.sells == SURPLUS:
                self._take_from_surplus(placement.volume)
            elif placement.sells:
                self.unsold.remove(placement.sells)
        self._clean_sweeps.pop(placement.id, None)
        self.pauses.end(placement.sells or BUYING)
        self.pauses.end(PLACING)
        self.notices.over(HALTED)
        crowd = self.pauses.why(CROWDED)
        others_wait = crowd and any(self.pauses.why(buy.txid) == crowd for buy in self.unsold.all())
        if placement.sells_what_was_bought and not others_wait:
            self.pauses.end(CROWDED)
            self.pauses.end(GIVING_WAY)
        self._publish(OrderPlaced(order.side, order.price, order.volume, txid, placement.why))
        return order

    def _rejected(self, placement: Placement, exc: OrderRejected) -> None:
        """Certainly not on the exchange: remove it from pending, and begin a pause that fits the reason."""
        self._give_up(placement)
        why = str(exc).rstrip(".")
        if isinstance(exc, PlacementPaused):
            seconds = self.pauses.begin(PLACING, at_least=exc.retry_after, first=1.0, longest=LONGEST_HALT, why=why)
            LOG.warning("%s not placed: %s; no orders for %.0f s", placement, exc, seconds)
            if seconds >= LONGEST_HALT and self.notices.is_new(HALTED):
                self._publish(Trouble(f"no order can be placed for {seconds:.0f} s, and perhaps longer: {exc}"))
        elif isinstance(exc, PostOnlyWouldCross):
            self.pauses.begin(CROSSING, first=1.0, longest=LONGEST_CROSSING_PAUSE)
            LOG.info("%s not placed: the price is already there; the level is computed anew", placement)
        else:
            self._refused(placement, exc, why)

    def _refused(self, placement: Placement, exc: OrderRejected, why: str) -> None:
        """The exchange refused this order, not every order: begin a pause for it. The owner is told the first time."""
        what = placement.sells or BUYING
        said_before = self.pauses.known(what)
        is_crowded = isinstance(exc, TooManyOrders) and placement.sells_what_was_bought
        is_short = isinstance(exc, InsufficientFunds)
        if is_short:
            why += self._in_figures(placement)
        longest = LONGEST_CROWDED_PAUSE if is_crowded else LONGEST_PAUSE
        seconds = self.pauses.begin(what, longest=longest, why=why)
        if is_crowded:
            # The next free place is for this sell: no buy before the sell was tried again.
            self.pauses.begin(CROWDED, at_least=2 * seconds, why=why)
        elif placement.sells:
            self.pauses.end(CROWDED)  # there was a place; something else is missing
        if said_before:
            return
        consequence = f"it stays wanted; next try in {seconds:.0f} s, then at growing intervals"
        if is_short:
            self.request_sync(f"the exchange finds too little money for the {placement}")
            if placement.sells_what_was_bought:
                consequence += f". If you have taken these coins, stop the bot and say: forget {placement.sells}"
        self._publish(OrderRefused(placement.side, placement.price, placement.volume, why, consequence))

    def _in_figures(self, placement: Placement) -> str:
        """What an order needs, and what is free as far as the bot knows: in quote for a buy, in base for a sell."""
        need, have = placement.volume, self.funds.base_available
        if placement.side == BUY:
            need, have = need * placement.price * (ONE + self.funds.fee), self.funds.quote_available
        return f". It needs {shown(need, MOST_DECIMALS)}, and the bot knows of {shown(have, MOST_DECIMALS)} free"

    def _give_up(self, placement: Placement) -> None:
        """The placement is certainly not on the exchange: forget it."""
        self.pending.remove(placement)
        self.funds.release(placement.side, placement.price, placement.volume)
        self._clean_sweeps.pop(placement.id, None)

    def settle(self, reported: list[OrderInfoSchema]) -> None:
        """
        Find the placements of unknown fate among the orders that the exchange ``reported`` (open *and* closed). One
        that is not there is given up after its deadline, the lag of REST, and CLEAN_SWEEPS look-ups.
        """
        for placement in self._on_their_way():
            fitting = [i for i in reported if _fits(placement, i.side, i.price, i.vol, i.opened_at)]
            match = next((info for info in fitting if not self.knows(info.txid)), None)
            if match is None and self.now() > placement.deadline + self._rest.answers_lag:
                self._clean_sweeps[placement.id] = self._clean_sweeps.get(placement.id, 0) + 1
                if self._clean_sweeps[placement.id] >= CLEAN_SWEEPS:
                    # An earlier answer may have named wrong figures, so that it was adopted as of unknown origin.
                    match = next((info for info in fitting if self._is_of_unknown_origin(info.txid)), None)
                    if match is None:
                        LOG.warning("the %s did not reach the exchange", placement)
                        self._give_up(placement)
            if match is not None:
                LOG.info("found it: the %s is %s (%s)", placement, match.status, match.txid)
                self.accepted(placement, match.txid)

    def _is_of_unknown_origin(self, txid: str) -> bool:
        order = self.book.get(txid)
        return order is not None and order.sells in ("", UNKNOWN)

    def until_absence_counts(self) -> float:
        """Seconds until a look-up that finds none of the placements of unknown fate proves that they are not there."""
        return max(p.deadline for p in self._on_their_way()) + self._rest.answers_lag - self.now()

    def written_since(self) -> float:
        """From when on (unix seconds) closed orders may be placements of unknown fate."""
        return min(p.written_at for p in self._on_their_way()) - CLOCK_TOLERANCE

    def _on_their_way(self) -> tuple[Placement, ...]:
        """
        The placements of unknown fate. A deadline too far ahead means that our clock was wrong when the placement was
        written down: treat it as sent at any time in the last 7 days, with the deadline of an order sent now.
        """
        now = self.now()
        for placement in self.pending.all():
            if placement.deadline > now + DEADLINE + CLOCK_TOLERANCE:
                self.pending.redate(placement, written_at=now - FORGET_AFTER, deadline=now + DEADLINE)
        return self.pending.all()

    def settle_by_message(self, update: ExecutionsUpdateSchema) -> bool:
        """
        If ``update``, of an order of ours, matches a placement of unknown fate, accept the placement and return True.
        """
        if self.knows(update.order_id):
            return False  # two sells may look alike; one that is in the book is not the one that is missing
        for placement in self.pending.all():
            if _fits(placement, update.side, update.limit_price, update.order_qty, update.time):
                LOG.info("found it: the %s was accepted (%s)", placement, update.order_id)
                self.accepted(placement, update.order_id)
                if any(not sell.sells for sell in self.book.sells()):
                    self.request_sync("an adopted sell is not the one that was on its way")
                return True
        return False

    def cancel(self, txid: str, why: str) -> OrderInfoSchema | None:
        """
        Ask for a cancellation. The order stays in the book until the exchange reports how it ended. If it is no longer
        open, the exchange's report of it is returned for booking.

        Raises TemporaryFailure if the request failed. It counts as made all the same: ``book.unconfirmed_cancels``
        names the order until its end is known. Raises AccessDenied.
        """
        LOG.debug("cancelling %s: %s", txid, why)
        self.book.mark_cancel_requested(txid)
        try:
            self._rest.cancel_order(txid)
        except UnknownOrderError:
            return self._rest.get_orders_info([txid]).get(txid)
        except (AccessDenied, TemporaryFailure):
            raise
        except ExchangeError as exc:
            LOG.warning("the cancellation of %s was refused (%s); looking it up", txid, exc)
        return None


def _fits(placement: Placement, side: str | None, price: Decimal | None, volume: Decimal | None, at: float) -> bool:
    """
    True if an order of ours with these figures, opened ``at`` (0: not reported), may be the placement. All our orders
    carry the same userref, so only the figures can tell.
    """
    is_alike = (side, price, volume) == (placement.side, placement.price, placement.volume)
    return is_alike and (not at or at >= placement.written_at - CLOCK_TOLERANCE)
