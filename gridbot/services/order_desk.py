"""
The order desk: the only place that sends, cancels and books orders.

Kraken has no idempotent placement, so the safety lies in the order of the steps. They are numbered
in ``write_down`` and ``send``; a process that dies between any two of them finds the placement in
``pending_txids`` at its next start, and asks the exchange before anything else is placed (``settle``).
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
from gridbot.models.grid import SURPLUS, UNKNOWN, BookOrder, PlaceBuy, Placement, PlaceSell
from gridbot.models.money import ONE, shown
from gridbot.services.bookkeeping import Bookkeeping
from gridbot.services.bookkeeping import Finished as Finished
from gridbot.services.pauses import LONGEST_PAUSE as LONGEST_PAUSE
from gridbot.services.pauses import Pauses

LOG = logging.getLogger(__name__)

# The exchange must refuse an order that reaches its engine later than this after it was written
# down. Kraken allows 2 to 60 s and tells its time in whole seconds.
DEADLINE = 10.0
# An order is looked for from this long before it was written down: clocks and their rounding.
CLOCK_TOLERANCE = 5.0
# Orders that ended longer ago than this are mentioned by no reply that is still on its way.
FORGET_AFTER = 7 * 86400.0
# "It is not there" is believed after this many look-ups that found nothing, all after the lag.
CLEAN_SWEEPS = 2
# Buys must not take (post), and both sides pay their fee in quote (fciq), so that a buy of V brings V.
FLAGS = {BUY: "post,fciq", SELL: "fciq"}

# Pauses, by name, and the longest of them in seconds.
PLACING = "placing"  # any order at all: the exchange wants none for now
HALTED = "halted"  # that has lasted for long: told once
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
        self.pauses = Pauses(clock)
        self._clean_sweeps: dict[int, int] = {}

    def may_place(self) -> bool:
        """False while the fate of a placement is unknown, or the exchange wants no orders for now."""
        return not len(self.pending) and self.pauses.over(PLACING)

    def place(self, intent: PlaceBuy | PlaceSell) -> BookOrder | None:
        """Write down, then send. None when the order is not on the exchange, or not known to be."""
        return self.send(self.write_down(intent))

    def write_down(self, intent: PlaceBuy | PlaceSell) -> Placement:
        """Step 1: on disk before on the wire. May be part of the transaction that books a fill."""
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
        The placement is on the exchange: out of pending, into the book (or in it already, as an order of unknown
        origin), the buy no longer unsold.
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
                self.funds.release(placement.side, placement.price, placement.volume)  # it was bound twice
            if placement.sells == SURPLUS:
                self._take_from_surplus(placement.volume)
            elif placement.sells:
                self.unsold.remove(placement.sells)
        self._clean_sweeps.pop(placement.id, None)
        self.pauses.end(placement.sells or BUYING)
        self.pauses.end(PLACING)
        self.pauses.end(HALTED)
        crowd = self.pauses.why(CROWDED)
        others_wait = crowd and any(self.pauses.why(buy.txid) == crowd for buy in self.unsold.all())
        if placement.sells_what_was_bought and not others_wait:
            self.pauses.end(CROWDED)
            self.pauses.end(GIVING_WAY)
        self._publish(OrderPlaced(order.side, order.price, order.volume, txid, placement.why))
        return order

    def _rejected(self, placement: Placement, exc: OrderRejected) -> None:
        """Certainly not on the exchange: out of pending, and a pause that fits the reason."""
        self._give_up(placement)
        why = str(exc).rstrip(".")
        if isinstance(exc, PlacementPaused):
            seconds = self.pauses.begin(PLACING, at_least=exc.retry_after, first=1.0, longest=LONGEST_HALT, why=why)
            LOG.warning("%s not placed: %s; no orders for %.0f s", placement, exc, seconds)
            if seconds >= LONGEST_HALT and not self.pauses.known(HALTED):
                self.pauses.begin(HALTED)
                self._publish(Trouble(f"no order can be placed for {seconds:.0f} s, and perhaps longer: {exc}"))
        elif isinstance(exc, PostOnlyWouldCross):
            self.pauses.begin(CROSSING, first=1.0, longest=LONGEST_CROSSING_PAUSE)
            LOG.info("%s not placed: the price is already there; the level is computed anew", placement)
        else:
            self._refused(placement, exc, why)

    def _refused(self, placement: Placement, exc: OrderRejected, why: str) -> None:
        """This order and no other: a pause of its own; a further refusal tells nothing new, and is not told."""
        what = placement.sells or BUYING
        said_before = self.pauses.known(what)
        is_crowded = isinstance(exc, TooManyOrders) and placement.sells_what_was_bought
        is_short = isinstance(exc, InsufficientFunds)
        if is_short:
            why += self._in_figures(placement)
        longest = LONGEST_CROWDED_PAUSE if is_crowded else LONGEST_PAUSE
        seconds = self.pauses.begin(what, longest=longest, why=why)
        if is_crowded:
            # The place that comes free is the sell's: no buy before it was tried again.
            self.pauses.begin(CROWDED, at_least=2 * seconds, why=why)
        elif placement.sells:
            self.pauses.end(CROWDED)  # the place is there, and something else is missing
        if said_before:
            return
        consequence = f"it stays wanted; next try in {seconds:.0f} s, then at growing intervals"
        if is_short:
            self.request_sync(f"the exchange finds too little money for the {placement}")
            if placement.sells_what_was_bought:
                consequence += f". If you have taken these coins, stop the bot and say: forget {placement.sells}"
        self._publish(OrderRefused(placement.side, placement.price, placement.volume, why, consequence))

    def _in_figures(self, placement: Placement) -> str:
        """What an order needs, and what there is as far as the bot knows: in quote for a buy, in base for a sell."""
        need, have = placement.volume, self.funds.base_available
        if placement.side == BUY:
            need, have = need * placement.price * (ONE + self.funds.fee), self.funds.quote_available
        return f". It needs {shown(need, MOST_DECIMALS)}, and the bot knows of {shown(have, MOST_DECIMALS)} free"

    def _give_up(self, placement: Placement) -> None:
        """The placement is certainly not on the exchange."""
        self.pending.remove(placement)
        self.funds.release(placement.side, placement.price, placement.volume)
        self._clean_sweeps.pop(placement.id, None)

    def settle(self, reported: list[OrderInfoSchema]) -> None:
        """
        Find the placements on their way among the orders that the exchange ``reported`` (open *and*
        closed). A placement that is not among them is given up after its deadline, the lag of REST, and
        CLEAN_SWEEPS look-ups.
        """
        for placement in self._on_their_way():
            fitting = [i for i in reported if _fits(placement, i.side, i.price, i.vol, i.opened_at)]
            match = next((info for info in fitting if not self.knows(info.txid)), None)
            if match is None and self.now() > placement.deadline + self._rest.answers_lag:
                self._clean_sweeps[placement.id] = self._clean_sweeps.get(placement.id, 0) + 1
                if self._clean_sweeps[placement.id] >= CLEAN_SWEEPS:
                    # An earlier answer may have told it wrong, so that it was adopted as an order nobody knows.
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
        """Seconds until a look-up that finds none of the placements on their way proves something."""
        return max(p.deadline for p in self._on_their_way()) + self._rest.answers_lag - self.now()

    def written_since(self) -> float:
        """Since when, in unix seconds, closed orders may be placements that are still on their way."""
        return min(p.written_at for p in self._on_their_way()) - CLOCK_TOLERANCE

    def _on_their_way(self) -> tuple[Placement, ...]:
        """
        The placements of unknown fate. One whose deadline lies too far ahead was written down by a clock that was
        wrong, nobody knows when: it was sent by now, if at all, so that its deadline is not later than one made now.
        """
        now = self.now()
        for placement in self.pending.all():
            if placement.deadline > now + DEADLINE + CLOCK_TOLERANCE:
                self.pending.redate(placement, written_at=now - FORGET_AFTER, deadline=now + DEADLINE)
        return self.pending.all()

    def settle_by_message(self, update: ExecutionsUpdateSchema) -> bool:
        """True when ``update``, of an order of ours, is about a placement on its way, which is thereby accepted."""
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
        Ask for a cancellation. The order stays in the book until the exchange says how it ended;
        when the exchange no longer has it open, its report is returned for booking.
        Raises TemporaryFailure when it could not be asked; the order then counts as asked all the same,
        and ``book.unconfirmed_cancels`` names it until its end is known.
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
    May an order of ours with these figures, opened ``at`` (0: not told), be the placement? Kraken takes no id that
    would tell.
    """
    is_alike = (side, price, volume) == (placement.side, placement.price, placement.volume)
    return is_alike and (not at or at >= placement.written_at - CLOCK_TOLERANCE)
