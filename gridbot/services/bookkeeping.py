"""
The books: open orders, executions, unsold buys, surplus and funds of one bot, on disk and in memory.

Only what the exchange reported, by feed or by REST, is booked. Fills are identified by execution id, orders by txid; an
order that is over never comes back. The same reports in any order and any number of times end in the same books.
"""

import logging
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from decimal import Decimal, localcontext
from typing import NamedTuple

from gridbot.exceptions import BotStateError
from gridbot.infrastructure.database import (
    Amounts,
    Configuration,
    DBConnect,
    FinishedOrders,
    ForgottenOrders,
    Orderbook,
    PendingTXIDs,
    Trades,
    UnsoldBuyOrderTXIDs,
)
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.models.events import Event
from gridbot.models.exchange import (
    BUY,
    ExecutionsUpdateSchema,
    OrderInfoSchema,
    PairBalanceSchema,
    TakerTradeSchema,
    TradeInfoSchema,
)
from gridbot.models.grid import EXTRA, SURPLUS, UNKNOWN, BookOrder, UnsoldBuy
from gridbot.models.money import ZERO, as_text
from gridbot.services.exchange_time import ExchangeTime
from gridbot.services.funds import EVERYTHING, Funds, OwnShare, bound_by
from gridbot.services.ledger import EXACT, PROVISIONAL, by_cycle, holding, spoken_for

LOG = logging.getLogger(__name__)


class Finished(NamedTuple):
    """
    An order that has just left the book. ``status`` in the exchange's words; amounts as booked; ``is_filled``: all of
    its volume was executed, amendments included; ``has_taken``: at least one fill paid the taker fee.
    """

    order: BookOrder
    status: str
    executed: Decimal
    cost: Decimal
    fee: Decimal
    at: float
    is_filled: bool
    reason: str = ""
    has_taken: bool = False


class Bookkeeping:
    """Everything a bot knows of its orders, and how reports about them change it."""

    def __init__(
        self,
        db: DBConnect,
        rest_api: IExchangeRESTService,
        clock: IClock,
        userref: int,
        publish: Callable[[Event], None],
    ) -> None:
        self._db = db
        self._rest = rest_api
        self._userref = userref
        self._publish = publish
        self._domain = rest_api.get_exchange_domain()
        self.configuration = Configuration(db, userref)
        self.book = Orderbook(db, userref)
        self.pending = PendingTXIDs(db, userref)
        self.unsold = UnsoldBuyOrderTXIDs(db, userref)
        self.forgotten = ForgottenOrders(db, userref)
        self.trades = Trades(db, userref)
        self.finished = FinishedOrders(db, userref)
        self.funds = Funds()
        self.own_at_start: tuple[Decimal | None, Decimal | None] = (None, None)  # own_base, own_quote; None: not set
        self._traded: tuple[Decimal, Decimal] | None = None  # (base, quote); None: add up when it is needed
        self.strangers: set[str] = set()  # orders with our userref that the feed reported and the bot does not know
        self.sync_reason = ""  # why the whole book should be compared with the exchange soon; "" for no reason
        self.provisional = {row.info.txid for row in self.trades.provisional()}  # orders booked as a sum
        self._totals = {order.txid: self._stored_totals(order.txid) for order in self.book if order.executed}
        self._takers = set(self._totals)  # orders with a fill that paid the taker fee, or may have, before this start
        self._amended_at: dict[str, float] = {}  # when the feed reported it; REST may not know it yet
        self.time = ExchangeTime(rest_api, clock)

    def _stored_totals(self, txid: str) -> tuple[Decimal, Decimal]:
        """(cost, fee) booked for an order."""
        rows = self.trades.of_order(txid)
        return sum((r.info.cost for r in rows), ZERO), sum((r.info.fee for r in rows), ZERO)

    def now(self) -> float:
        """Unix seconds on the exchange's clock."""
        return self.time.now()

    def refresh_funds(self) -> None:
        """Ask the exchange what is free. Raises TemporaryFailure."""
        self.funds_are(self._rest.get_pair_balance())

    def funds_are(self, balance: PairBalanceSchema) -> None:
        """Take over the exchange's figures; everything that led to them must be booked already."""
        self.funds.take_over(balance, self._own_share())

    @property
    def traded(self) -> tuple[Decimal, Decimal]:
        """What all executions changed, fees included: (base, quote)."""
        if self._traded is None:
            self._traded = flow(self.trades.amounts())
        return self._traded

    def held(self) -> Decimal:
        """Base of the bot's own buys that is not sold yet. Slow: reads all trades; do not call per tick."""
        waiting = spoken_for(self.book, self.pending.all(), self.unsold.all())
        before = self.own_at_start[0]
        if self.configuration.exists:
            before = self.configuration.get().base_given(before)
        return holding(by_cycle(self.trades.all_slim(), waiting, before).lots).volume

    @property
    def left_to_owner(self) -> Decimal:
        """Base that the bot bought and must not sell; 0 if own_base is set: ``funds`` has subtracted it already."""
        return self.forgotten.volume if self.own_at_start[0] is None else ZERO

    def _own_share(self) -> OwnShare:
        """own_base and own_quote, changed by the bot's trades, and the part of them that its orders do not bind."""
        own_base, own_quote = self.own_at_start
        if own_base is None and own_quote is None:
            return EVERYTHING
        base, quote = self.traded
        base += (own_base or ZERO) - self.forgotten.volume
        quote += own_quote or ZERO
        pending = self.pending.all()
        bound_base, bound_quote = bound_by(self.book, pending, self.funds.fee)
        # After own_base was lowered, extra sells of coins that were the bot's own before must not use up what the
        # grid has bought: what still waits for its sell belongs to the bot, whatever own_base says. Not more than
        # that, or extra sells would never end.
        on_its_way = {placement.sells for placement in pending}  # bound already; the buy is still listed as unsold
        to_sell = ZERO
        if self.configuration.exists and SURPLUS not in on_its_way:
            to_sell = self.configuration.get().vol_of_unfilled_remaining
        to_sell += sum((buy.volume for buy in self.unsold.all() if buy.txid not in on_its_way), ZERO)
        to_sell += sum((order.executed for order in self.book.buys()), ZERO)
        orders, placements = [o for o in self.book if o.sells != EXTRA], [p for p in pending if p.sells != EXTRA]
        bound_by_grid, _ = bound_by(orders, placements, self.funds.fee)
        return OwnShare(
            base=None if own_base is None else max(base, to_sell + bound_by_grid),
            quote=None if own_quote is None else quote,
            base_free=max(base - bound_base, to_sell),
            quote_free=quote - bound_quote,
        )

    def atomic(self) -> AbstractContextManager[None]:
        """Everything booked inside the block is stored as one step, or not at all."""
        return self._db.atomic()

    def request_sync(self, why: str) -> None:
        """Something does not fit: have the whole book compared with the exchange soon; how often is limited."""
        LOG.info("%s; comparing with the exchange", why)
        self.sync_reason = why

    def knows(self, txid: str) -> bool:
        """True for an order that is in the book, or was in it and is over."""
        return self.book.get(txid) is not None or txid in self.finished or bool(self.trades.of_order(txid))

    def adopt(self, info: OrderInfoSchema) -> None:
        """Add an order with our userref that the book does not know. Booking its report removes it if it is over."""
        order = BookOrder(info.txid, info.side, info.price, info.vol, placed_at=info.opened_at)
        self.book.add(order)
        self.funds.hold(order.side, order.price, order.volume)

    def is_sold_by(self, buy: UnsoldBuy, sell: BookOrder) -> None:
        """An adopted sell turned out to be the one of this buy, which is no longer unsold."""
        LOG.info("the adopted sell %s is the one of the buy %s", sell.txid, buy.txid)
        with self._db.atomic():
            self.book.set_sells(sell.txid, buy.txid)
            self.unsold.remove(buy.txid)

    def is_sold_without_a_buy(self, sell: BookOrder) -> None:
        """
        An adopted sell fits no buy: it sells the surplus of cancelled buys, if there is any now. This is decided once;
        what later buys leave over is not sold by it.
        """
        surplus = bool(self.configuration.get().vol_of_unfilled_remaining)
        LOG.info("the adopted sell %s fits no buy%s", sell.txid, ", and is taken off the surplus" if surplus else "")
        with self._db.atomic():
            self.book.set_sells(sell.txid, SURPLUS if surplus else UNKNOWN)
            self._take_from_surplus(sell.volume)

    def book_message(self, update: ExecutionsUpdateSchema) -> Finished | None:
        """
        Book one event of the feed, inside ``atomic``. Returns the order if the event ended it. None for everything
        else: an order that goes on, one that is not ours, one that is over already.
        """
        order = self.book.get(update.order_id)
        trade = self._execution(update, order)
        if order is None:
            if trade is not None and trade.txid in self.provisional:
                self.itemise(trade)
            return None
        if trade is not None:
            self._book_trade(order, trade)
        if update.exec_type == "amended" and update.order_qty and update.limit_price:
            self._amended(order, update.limit_price, update.order_qty)
            self._amended_at[order.txid] = self.now()
        order = self._order(order.txid)
        executed = max(update.cum_qty or ZERO, order.executed)
        is_filled = "filled" in (update.order_status, update.exec_type)
        if is_filled and update.cum_qty is None:
            executed = order.volume
        ended = update.exec_type in (self._domain.CANCELED, self._domain.EXPIRED)
        goes_on = update.order_status == "partially_filled" and executed > order.volume
        if goes_on:
            self.request_sync(f"order {order.txid} goes on beyond its volume: it was amended")
        filled = is_filled or (executed >= order.volume and not goes_on)
        if not ended and not filled:
            return None
        at = update.time or self.now()
        self._book_missing(order, executed, update.cum_cost, None, at)
        return self._finish(order.txid, update.exec_type if ended else self._domain.CLOSED, at, update.reason)

    def _execution(self, update: ExecutionsUpdateSchema, order: BookOrder | None) -> TradeInfoSchema | None:
        """The execution that an event reports; None if it reports none, or not everything that must be booked."""
        if not (update.exec_type == "trade" and update.exec_id and update.last_qty and update.last_price):
            return None
        cost = update.last_price * update.last_qty if update.cost is None else update.cost
        schema = TradeInfoSchema if update.maker else TakerTradeSchema
        return schema(
            exec_id=update.exec_id,
            txid=update.order_id,
            side=order.side if order is not None else update.side or BUY,
            price=update.last_price,
            volume=update.last_qty,
            cost=cost,
            fee=cost * self.funds.fee if update.fee is None else update.fee,  # so far always reported
            time=update.time or self.now(),
        )

    def book_report(self, info: OrderInfoSchema, trades: list[TradeInfoSchema]) -> Finished | None:
        """Book what REST reports of an order in the book, with its known executions. Returns it if it is over."""
        order = self.book.get(info.txid)
        if order is None:
            return None
        is_news = self.now() - self._amended_at.get(info.txid, -math.inf) > self._rest.answers_lag
        if is_news and (info.price, info.vol) != (order.price, order.volume):
            self._amended(order, info.price, info.vol)
            order = self._order(info.txid)
        if self.fit(trades, max(info.vol_exec, order.executed)):
            for trade in trades:
                self._book_trade(order, trade)
        order = self._order(order.txid)
        over = info.status in (self._domain.CLOSED, self._domain.CANCELED, self._domain.EXPIRED)
        at = info.closed_at or self.now()
        self._book_missing(order, info.vol_exec, info.cost, info.fee, at)
        return self._finish(order.txid, info.status, at, info.reason) if over else None

    def fit(self, trades: list[TradeInfoSchema], executed: Decimal) -> bool:
        """
        False if these trades, with those already booked one by one, would book more than was ``executed``: the exchange
        has then reported some fills twice, one by one and as a sum.
        """
        booked = [row.info for row in self.trades.of_order(trades[0].txid)] if trades else []
        by_id = {t.exec_id: t.volume for t in (*booked, *trades) if not t.exec_id.startswith(PROVISIONAL)}
        return sum(by_id.values(), ZERO) <= executed

    def _order(self, txid: str) -> BookOrder:
        order = self.book.get(txid)
        if order is None:
            raise BotStateError(f"order {txid} vanished from the book while it was being booked")
        return order

    def _book_trade(self, order: BookOrder, trade: TradeInfoSchema) -> None:
        """Book a reported execution; if its order is booked as a sum, it replaces that part of the sum."""
        if isinstance(trade, TakerTradeSchema):
            self._takers.add(order.txid)
        if order.txid in self.provisional:
            self.itemise(trade)
        else:
            self._book_execution(order, trade)

    def _book_execution(self, order: BookOrder, trade: TradeInfoSchema) -> None:
        """Add an execution to the trades, the order, the totals and the funds. One already booked changes nothing."""
        with self._db.atomic():
            if not self.trades.add(trade, order.sells):
                return
            present = self._order(order.txid)
            self.book.set_executed(order.txid, present.executed + trade.volume)
        cost, fee = self._totals.get(order.txid, (ZERO, ZERO))
        self._totals[order.txid] = (cost + trade.cost, fee + trade.fee)
        if self._traded is not None:
            self._traded = flow([trade], *self._traded)
        self.funds.executed(order.side, order.price, trade.volume, trade.cost, trade.fee)

    def _book_missing(
        self, order: BookOrder, executed: Decimal, cost: Decimal | None, fee: Decimal | None, at: float
    ) -> None:
        """If the exchange reports more executed than the fills reported one by one, book the difference as a sum."""
        missing = executed - order.executed
        if missing <= 0:
            return
        known_cost, known_fee = self._totals.get(order.txid, (ZERO, ZERO))
        missing_cost = order.price * missing if cost is None else max(cost - known_cost, ZERO)
        missing_fee = missing_cost * self.funds.fee if fee is None else fee - known_fee
        self._book_execution(
            order,
            TradeInfoSchema(
                exec_id=f"{PROVISIONAL}{order.txid}:{as_text(executed)}",
                txid=order.txid,
                side=order.side,
                price=order.price,
                volume=missing,
                cost=missing_cost,
                fee=missing_fee,
                time=at,
            ),
        )
        self.provisional.add(order.txid)
        self.request_sync(f"order {order.txid} was executed, but not every fill was reported")

    def itemise(self, trade: TradeInfoSchema) -> None:
        """Replace a part of what was booked as a sum by one of its executions. One already booked changes nothing."""
        rows = self.trades.of_order(trade.txid)
        if trade.exec_id in {row.info.exec_id for row in rows}:
            return
        to_place = trade.volume
        with self._db.atomic():
            self.trades.add(trade, rows[0].sells if rows else "")
            for row in (row for row in rows if row.info.exec_id.startswith(PROVISIONAL)):
                taken = min(to_place, row.info.volume)
                self.trades.remove(row.info.exec_id)
                if taken < row.info.volume:
                    self.trades.add(_without(row.info, taken), row.sells)
                to_place -= taken
            order = self.book.get(trade.txid)
            if order is not None and to_place > 0:  # more than the sum held: this part is new
                self.book.set_executed(order.txid, order.executed + to_place)
                share = to_place / trade.volume
                self.funds.executed(order.side, order.price, to_place, trade.cost * share, trade.fee * share)
        if order is not None:
            self._totals[trade.txid] = self._stored_totals(trade.txid)
        if not any(row.info.exec_id.startswith(PROVISIONAL) for row in self.trades.of_order(trade.txid)):
            self.provisional.discard(trade.txid)
        self._traded = None  # add up again: what was booked as a sum was an estimate

    def _finish(self, txid: str, status: str, at: float, reason: str) -> Finished:
        """Take an order out of the book, for good."""
        order = self._order(txid)
        if order.executed >= order.volume > ZERO:
            status = self._domain.CLOSED
        with self._db.atomic():
            self.book.remove(txid)
            self.finished.add(txid, status, at)
        self._amended_at.pop(txid, None)
        self.funds.release(order.side, order.price, order.rest)
        cost, fee = self._totals.pop(txid, (ZERO, ZERO))
        has_taken = txid in self._takers
        self._takers.discard(txid)
        return Finished(order, status, order.executed, cost, fee, at, status == self._domain.CLOSED, reason, has_taken)

    def _amended(self, order: BookOrder, price: Decimal, volume: Decimal) -> None:
        """The owner changed the price or volume of an open order by hand."""
        self.funds.release(order.side, order.price, order.rest)
        self.book.amend(order.txid, price, volume)
        self.funds.hold(order.side, price, volume - order.executed)

    def add_to_surplus(self, volume: Decimal, price: Decimal) -> None:
        """Remember base of a cancelled order that is still to be sold."""
        stored = self.configuration.get()
        self.configuration.update(
            vol_of_unfilled_remaining=stored.vol_of_unfilled_remaining + volume,
            vol_of_unfilled_remaining_max_price=max(stored.vol_of_unfilled_remaining_max_price, price),
        )

    def _take_from_surplus(self, volume: Decimal) -> None:
        stored = self.configuration.get()
        left = max(stored.vol_of_unfilled_remaining - volume, ZERO)
        self.configuration.update(
            vol_of_unfilled_remaining=left,
            vol_of_unfilled_remaining_max_price=stored.vol_of_unfilled_remaining_max_price if left else ZERO,
        )


def flow(
    trades: Iterable[TradeInfoSchema | Amounts], base: Decimal = ZERO, quote: Decimal = ZERO
) -> tuple[Decimal, Decimal]:
    """(base, quote) after these executions, fees included, starting from the given amounts."""
    with localcontext(EXACT):
        for trade in trades:
            sign = 1 if trade.side == BUY else -1
            base += sign * trade.volume
            quote -= sign * trade.cost + trade.fee
    return base, quote


def _without(row: TradeInfoSchema, volume: Decimal) -> TradeInfoSchema:
    """What is left of a sum when ``volume`` of it has been reported fill by fill."""
    share = (row.volume - volume) / row.volume
    return row.model_copy(update={"volume": row.volume - volume, "cost": row.cost * share, "fee": row.fee * share})
