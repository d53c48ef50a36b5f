"""
A simulated exchange for one pair: play money, an order book of our own orders, fills by a stated rule.

The paper trade, the demo, the backtest and most tests run the real strategies against it. No clock,
no network and no disk in here: prices and times are passed in, and a ``SimulatedStore`` (when given)
stores every change before it is reported.

When an order fills, pessimistically:

- A resting limit order fills when a *later* price trades **through** it: a buy when price < limit, a
  sell when price > limit. A price that only touches the limit fills nothing, because at a real exchange
  other orders stand before ours in the queue.
- It fills completely and at its own limit price, never better.
- One price may fill many orders: buys from the highest, sells from the lowest, older ones first.
- A limit order that crosses at placement (a buy at or above the last price, a sell at or below it) is
  executed at once at the last price; a post-only order is refused instead.
- Every fill pays ``fee``, a fraction of its cost, in quote, cut to the pair's cost decimals.
- Held for a buy: price * volume * (1 + fee) in quote; for a sell: its volume in base.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gridbot.adapters.exchanges.simulated_state import CANCELED, CLOSED, OPEN, Money, SimulatedOrder
from gridbot.exceptions import (
    BotStateError,
    InsufficientFunds,
    OrderRejected,
    OrderTooSmall,
    PlacementPaused,
    PostOnlyWouldCross,
    UnknownOrderError,
)
from gridbot.models.exchange import BUY, SELL, AssetPairInfoSchema, ExecutionsUpdateSchema, TradeInfoSchema
from gridbot.models.money import ZERO, step_of, truncate

if TYPE_CHECKING:
    from gridbot.adapters.exchanges.simulated_store import SimulatedStore

NEVER_BELOW = ZERO  # no buy is open: no price is below this
NEVER_ABOVE = Decimal("Infinity")  # no sell is open
KEEP_FINISHED = 1000  # finished orders, and executions, held in memory
MODE_PAUSE = 30.0  # seconds until a pair that takes no orders is worth another try
CANCEL_REASON = "User requested"  # Kraken's words


class SimulatedExchange:
    """
    The matching core. ``next_fill_below`` and ``next_fill_above`` are the prices of the highest buy and the lowest
    sell: no price between them can fill anything (0 and Infinity when a side is empty).
    """

    def __init__(
        self,
        pair: AssetPairInfoSchema,
        *,
        base_balance: Decimal,
        quote_balance: Decimal,
        fee: Decimal,
        symbol: str,
        keep_finished: int = KEEP_FINISHED,
        tag: str = "SIM00",
        store: "SimulatedStore | None" = None,
    ) -> None:
        """
        base_balance, quote_balance  the play money
        fee     fraction of the cost, the same for both sides, at least 0 and below 1
        symbol  the pair's name in events, e.g. "BTC/USD"
        tag     part of every order and execution id: different for every new book
        store   stores every change before it is answered or reported; None: memory only
        """
        if not ZERO <= fee < 1:
            raise BotStateError(f"simulated exchange: a fee of {fee} is not a fraction between 0 and 1")
        self.pair = pair
        self.fee = fee
        self.symbol = symbol
        self.money = Money.starting(base_balance, quote_balance)
        self.last_price: Decimal | None = None
        self.time = 0.0  # unix seconds of the newest price: market time
        self.next_fill_below = NEVER_BELOW
        self.next_fill_above = NEVER_ABOVE
        self.pending_events: list[ExecutionsUpdateSchema] = []
        self.wake: Callable[[], None] = lambda: None
        self.open_orders: dict[str, SimulatedOrder] = {}
        self.finished: OrderedDict[str, SimulatedOrder] = OrderedDict()
        self.trades: OrderedDict[str, TradeInfoSchema] = OrderedDict()
        self._keep = keep_finished
        self._tag = tag
        self._store = store
        self._cost_step = step_of(pair.cost_decimals)
        # Sorted so that the order to fill first stands last.
        self._buys: list[tuple[Decimal, int, SimulatedOrder]] = []
        self._sells: list[tuple[Decimal, int, SimulatedOrder]] = []

    def restore(self, money: Money, orders: list[SimulatedOrder], trades: list[TradeInfoSchema]) -> None:
        """Go on from stored data: the open orders, the finished ones in the order they ended, the newest executions."""
        self.money = money
        for order in orders:
            if order.status == OPEN:
                self._rest(order)
            else:
                self.finished[order.txid] = order
            self.time = max(self.time, order.opened_at, order.closed_at)
        for trade in trades:
            self.trades[trade.exec_id] = trade
            self.time = max(self.time, trade.time)

    def on_price(self, price: Decimal, time: float) -> list[ExecutionsUpdateSchema]:
        """
        The pair was traded at ``price`` at ``time`` (unix seconds): fill what that fills.

        Returns the executions in the order they happened, already stored; [] costs one comparison.
        """
        self.last_price = price
        self.time = time
        if self.next_fill_below <= price <= self.next_fill_above:
            return []
        filled: list[SimulatedOrder] = []
        while self._buys and price < self._buys[-1][2].price:
            filled.append(self._buys.pop()[2])
        while self._sells and price > self._sells[-1][2].price:
            filled.append(self._sells.pop()[2])
        self._new_band()
        trades = [self._execute(o, o.price, o.volume - o.executed, time) for o in filled]
        self._save(filled, trades)
        return [self._fill_event(o, t) for o, t in zip(filled, trades, strict=True)]

    def create_order(
        self, *, side: str, price: Decimal, volume: Decimal, userref: int, post_only: bool, time: float
    ) -> str:
        """
        Place a limit order at ``time`` (unix seconds); returns its txid. Its events wait in ``pending_events``.

        Raises what ``check_order`` raises.
        """
        last = self.check_order(side=side, price=price, volume=volume, post_only=post_only)
        self.money.orders_taken += 1
        number = self.money.orders_taken
        txid = f"S{number:05d}-{self._tag}-{side.upper()}"
        held = _hold(side, price, volume, self.fee)
        order = SimulatedOrder(txid, number, side, price, volume, userref, time, self.fee, held)
        self._bind(order, order.held)
        events = [_event(order, "new", "new", time)]
        if _crosses(side, price, last):
            self.open_orders[txid] = order
            trade = self._execute(order, last, volume, time)
            self._save([order], [trade])
            events.append(self._fill_event(order, trade))
        else:
            self._rest(order)
            self._save([order], [])
        self.announce(events)
        return txid

    def check_order(self, *, side: str, price: Decimal, volume: Decimal, post_only: bool) -> Decimal:
        """
        Check whether such an order would be taken now; returns the last price.

        Raises OrderRejected (side, precision), OrderTooSmall, PostOnlyWouldCross, InsufficientFunds, and
        PlacementPaused before the first price is known and while the pair takes no orders.
        """
        pair = self.pair
        if side not in (BUY, SELL):
            raise OrderRejected(f"simulated exchange: {side!r} is not a side; right are {BUY!r} and {SELL!r}")
        if not pair.takes_orders:
            raise PlacementPaused(f"the market of {self.symbol} is {pair.status!r} now", retry_after=MODE_PAUSE)
        if price <= 0 or price % pair.tick_size:
            raise OrderRejected(f"price {price:f} {pair.quote} is not a multiple of {pair.tick_size:f}")
        if volume <= 0 or volume % pair.lot:
            raise OrderRejected(f"volume {volume:f} {pair.base} is not a multiple of {pair.lot:f}")
        if volume < pair.ordermin:
            raise OrderTooSmall(f"volume {volume:f} {pair.base}: at least {pair.ordermin:f} is needed")
        if price * volume < pair.costmin:
            raise OrderTooSmall(f"cost {price * volume:f} {pair.quote}: at least {pair.costmin:f} is needed")
        last = self.last_price
        if last is None:
            raise PlacementPaused("simulated exchange: no price is known yet", retry_after=1.0)
        if post_only and _crosses(side, price, last):
            raise PostOnlyWouldCross(f"post-only {side} @ {price:f}: the last price is already {last:f}")
        needed = _hold(side, price, volume, self.fee)
        free = self.quote_available if side == BUY else self.base_available
        if needed > free:
            currency = pair.quote if side == BUY else pair.base
            raise InsufficientFunds(f"{needed:f} {currency} needed, {free:f} free")
        return last

    def charge(self, fee: Decimal) -> None:
        """
        Set the fee per side from now on, as a fraction; open orders pay it too, as an exchange charges the fee of the
        moment of the fill. An open buy keeps its old fee while there is no free money for a larger one.
        """
        if fee == self.fee:
            return
        self.fee = fee
        for order in self.open_orders.values():
            more = _hold(order.side, order.price, order.volume - order.executed, fee) - order.held
            if more <= (self.quote_available if order.side == BUY else self.base_available):
                self._bind(order, more)
                order.held += more
                order.fee_rate = fee

    def cancel_order(self, txid: str, time: float) -> None:
        """Take an open order off the book. Raises UnknownOrderError when it is not open."""
        order = self._open(txid)
        self._unrest(order)
        self._bind(order, -order.held)
        order.held = ZERO
        order.reason = CANCEL_REASON
        self._finish(order, CANCELED, time)
        self._save([order], [])
        more = {"cum_qty": order.executed, "cum_cost": order.cost, "reason": CANCEL_REASON}
        self.announce([_event(order, CANCELED, CANCELED, time, **more)])

    def fill(self, txid: str, volume: Decimal | None = None) -> None:
        """
        For selftest and tests: execute ``volume`` (None: all the rest) of an open order at its limit price, now.

        Raises UnknownOrderError when it is not open, OrderRejected when less than ``volume`` is left.
        """
        order = self._open(txid)
        rest = order.volume - order.executed
        volume = rest if volume is None else volume
        if not 0 < volume <= rest:
            raise OrderRejected(f"order {txid}: cannot execute {volume:f} of the {rest:f} that are left")
        if volume == rest:
            self._unrest(order)
        trade = self._execute(order, order.price, volume, self.time)
        self._save([order], [trade])
        self.announce([self._fill_event(order, trade)])

    def is_foreign(self, txid: str) -> bool:
        """True for an id of the form that simulated exchanges give, with the tag of another book."""
        number, tag, side = [*txid.split("-"), "", ""][:3]
        return side in (BUY.upper(), SELL.upper()) and number.startswith("S") and tag != self._tag

    def take_events(self) -> list[ExecutionsUpdateSchema]:
        """The events that calls have caused since the last time, oldest first; they are handed out once."""
        events, self.pending_events = self.pending_events, []
        return events

    def announce(self, events: list[ExecutionsUpdateSchema]) -> None:
        """Queue events for ``take_events``, and wake the feed if the queue was empty."""
        first = bool(events) and not self.pending_events
        self.pending_events += events
        if first:
            self.wake()

    @property
    def base_available(self) -> Decimal:
        """Base that no sell holds."""
        return self.money.base - self.money.base_held

    @property
    def quote_available(self) -> Decimal:
        """Quote that no buy holds."""
        return self.money.quote - self.money.quote_held

    def check_money(self) -> None:
        """Raise BotStateError when money appeared, vanished, fell below zero, or is held without an open order."""
        m = self.money
        held = {BUY: ZERO, SELL: ZERO}
        for order in self.open_orders.values():
            left = order.volume - order.executed
            held[order.side] += _hold(order.side, order.price, left, order.fee_rate)
        claims = {
            "base = start + bought - sold": m.base == m.start_base + m.bought - m.sold,
            "quote = start - paid + received - fees": m.quote == m.start_quote - m.paid + m.received - m.fees,
            "held quote belongs to open buys": m.quote_held == held[BUY],
            "held base belongs to open sells": m.base_held == held[SELL],
            "nothing is negative": min(m.base, m.quote, self.base_available, self.quote_available) >= 0,
        }
        broken = [claim for claim, true in claims.items() if not true]
        if broken:
            raise BotStateError(f"simulated exchange: this no longer holds: {'; '.join(broken)}; {m}")

    def close(self) -> None:
        """Close the store, if there is one; twice does no harm."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _bind(self, order: SimulatedOrder, amount: Decimal) -> None:
        if order.side == BUY:
            self.money.quote_held += amount
        else:
            self.money.base_held += amount

    def _open(self, txid: str) -> SimulatedOrder:
        try:
            return self.open_orders[txid]
        except KeyError:
            raise UnknownOrderError(f"order {txid} is not open at the simulated exchange") from None

    def _entry(self, order: SimulatedOrder) -> tuple[Decimal, int, SimulatedOrder]:
        return (order.price if order.side == BUY else -order.price, -order.number, order)

    def _rest(self, order: SimulatedOrder) -> None:
        self.open_orders[order.txid] = order
        insort(self._buys if order.side == BUY else self._sells, self._entry(order))
        self._new_band()

    def _unrest(self, order: SimulatedOrder) -> None:
        book = self._buys if order.side == BUY else self._sells
        del book[bisect_left(book, self._entry(order))]
        self._new_band()

    def _new_band(self) -> None:
        self.next_fill_below = self._buys[-1][2].price if self._buys else NEVER_BELOW
        self.next_fill_above = self._sells[-1][2].price if self._sells else NEVER_ABOVE

    def _execute(self, order: SimulatedOrder, price: Decimal, volume: Decimal, time: float) -> TradeInfoSchema:
        """Move the money of one execution; the order is finished when nothing of it is left."""
        m = self.money
        cost = price * volume
        fee = truncate(cost * order.fee_rate, self._cost_step)
        m.trades_made += 1
        exec_id = f"T{m.trades_made:05d}-{self._tag}-{order.side.upper()}"
        order.executed += volume
        order.cost += cost
        order.fee += fee
        order.trades += (exec_id,)
        held = _hold(order.side, order.price, order.volume - order.executed, order.fee_rate)
        self._bind(order, held - order.held)
        order.held = held
        m.fees += fee
        if order.side == BUY:
            m.base += volume
            m.bought += volume
            m.quote -= cost + fee
            m.paid += cost
        else:
            m.base -= volume
            m.sold += volume
            m.quote += cost - fee
            m.received += cost
        trade = TradeInfoSchema(
            exec_id=exec_id, txid=order.txid, side=order.side, price=price, volume=volume, cost=cost, fee=fee, time=time
        )
        self.trades[exec_id] = trade
        if len(self.trades) > self._keep:
            self.trades.popitem(last=False)
        if order.executed == order.volume:
            self._finish(order, CLOSED, time)
        return trade

    def _finish(self, order: SimulatedOrder, status: str, time: float) -> None:
        del self.open_orders[order.txid]
        order.status = status
        order.closed_at = time
        self.finished[order.txid] = order

    def _save(self, orders: list[SimulatedOrder], trades: list[TradeInfoSchema]) -> None:
        """Store the change before it is reported, and forget finished orders that are too old to keep."""
        forgotten = []
        while len(self.finished) > self._keep:
            forgotten.append(self.finished.popitem(last=False)[1].number)
        if self._store is not None:
            self._store.save(self.money, orders, trades, forgotten)

    def _fill_event(self, order: SimulatedOrder, trade: TradeInfoSchema) -> ExecutionsUpdateSchema:
        return _event(
            order,
            "trade",
            "filled" if order.status == CLOSED else "partially_filled",
            trade.time,
            symbol=self.symbol,
            side=order.side,
            exec_id=trade.exec_id,
            last_qty=trade.volume,
            last_price=trade.price,
            cost=trade.cost,
            fee=trade.fee,
            cum_qty=order.executed,
            cum_cost=order.cost,
        )


def _event(order: SimulatedOrder, exec_type: str, status: str, time: float, **more: Any) -> ExecutionsUpdateSchema:
    return ExecutionsUpdateSchema(
        order_id=order.txid, exec_type=exec_type, order_status=status, userref=order.userref, time=time, **more
    )


def _hold(side: str, price: Decimal, volume: Decimal, fee: Decimal) -> Decimal:
    return price * volume * (1 + fee) if side == BUY else volume


def _crosses(side: str, price: Decimal, last: Decimal) -> bool:
    return price >= last if side == BUY else price <= last
