"""Open orders of ours that the bot has not placed, or does not remember: they become its own."""

import logging
import math

from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.models.exchange import SELL, ExecutionsUpdateSchema, OrderInfoSchema
from gridbot.models.grid import SURPLUS, UNKNOWN, BookOrder, UnsoldBuy
from gridbot.models.money import ZERO
from gridbot.services.order_desk import OrderDesk
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_orders import short_lived
from gridbot.strategies.grid_terms import GridTerms

LOG = logging.getLogger(__name__)

ACCEPTED = ("pending_new", "new")  # events of an order that is open and has nothing executed yet
EDITING = 3.0  # seconds between the cancellation of an order that the owner edits and its return under a new txid


class Adoption:
    """
    A lost or older database does not know an order, or the owner has edited one, so that it has another id now. Such an
    order is taken into the book, and a sell is matched with the buy that it sells.
    """

    def __init__(self, userref: int, rest_api: IExchangeRESTService, desk: OrderDesk, terms: GridTerms) -> None:
        self._userref = userref
        self._rest_api = rest_api
        self._desk = desk
        self._terms = terms

    def adopt_unknown(self, reported: list[ExecutionsUpdateSchema]) -> list[ExecutionsUpdateSchema]:
        """
        Adopt and return the ``reported`` open orders of ours that neither the book nor a pending placement explains.
        """
        ours = [update for update in reported if update.userref == self._userref]
        return [update for update in ours if not self._desk.settle_by_message(update) and self.adopt(update)]

    def adopt(self, update: ExecutionsUpdateSchema) -> bool:
        """Adopt an open order with our userref that the feed reported and the bot did not know; True if it was one."""
        price, volume, side = update.limit_price, update.order_qty, update.side
        over = update.exec_type not in ACCEPTED
        if over or not (price and volume and side) or self._desk.knows(update.order_id):
            return False
        LOG.warning("order %s carries our userref and is not in the book; adopted", update.order_id)
        self._desk.adopt(
            OrderInfoSchema(
                pair=self._rest_api.rest_altname,
                price=price,
                side=side,
                status=self._rest_api.get_exchange_domain().OPEN,
                txid=update.order_id,
                userref=self._userref,
                vol=volume,
                vol_exec=ZERO,
                opened_at=update.time,
            )
        )
        return True

    def find_its_buy(self, txid: str, is_live: bool = False) -> None:
        """
        Find the unsold buy of an adopted sell, so that this buy is not sold twice: an older copy of the database does
        not know that its sell was placed.

        is_live  the feed reported the sell while the bot was running. Then the owner may have edited another sell into
                 this one. If it fits no buy, the report of its buy may follow in a moment: nothing is decided yet,
                 unless a sell of the surplus, which has no buy, has just ended
        """
        sell = self._desk.book.get(txid)
        if sell is None or sell.sells not in ("", UNKNOWN):
            return
        on_their_way = {placement.sells for placement in self._desk.pending.all()}
        waiting = tuple(buy for buy in self._desk.unsold.all() if buy.txid not in on_their_way)
        buy = rules.buy_behind(sell, waiting, self._terms.settings)
        if buy is not None:
            self._desk.is_sold_by(buy, sell)
        elif is_live and (buy := self._buy_of_an_edited(sell)) is not None:
            with self._desk.atomic():
                self._desk.is_sold_by(buy, sell)
                if buy.volume > sell.volume:
                    self._desk.add_to_surplus(buy.volume - sell.volume, buy.price)
        elif (
            not sell.sells
            and not on_their_way  # this sell may be one of them, reported with wrong figures
            and (not is_live or not self._desk.pauses.over(short_lived(SELL, SURPLUS)))
        ):
            self._desk.is_sold_without_a_buy(sell)

    def _buy_of_an_edited(self, sell: BookOrder) -> UnsoldBuy | None:
        """
        The buy whose own sell was cancelled within 3 s of this sell: the owner edited one into the other, so that any
        price and volume are possible.
        """
        for buy in self._desk.unsold.all():
            bought_at = max((row.info.time for row in self._desk.trades.of_order(buy.txid)), default=math.inf)
            if buy.filled_at > bought_at + EDITING and abs(buy.filled_at - sell.placed_at) <= EDITING:
                return buy
        return None
