"""
The matching engine and the account: orders in, fills out, money conserved. No wire, no threads.

There is one price per pair, the last one; it stands for best bid and ask. An order crosses
when its limit is at the last price or beyond it. ``set_price`` moves the market: every
resting buy at or above the new price and every sell at or below it is filled as maker at
its own limit, best first. Costs and fees are cut (not rounded up) to the pair's cost
precision and taken in quote, holds are cut up to it, so that a hold always suffices.

After every event ``check_money`` runs; a broken promise raises AssertionError there and is
kept in ``broken`` as well, because it may happen in a thread of the server.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from tests.fake_kraken.ledger import Ledger
from tests.fake_kraken.limits import Limits
from tests.fake_kraken.orders import ZERO, IdMaker, Order, Trade
from tests.fake_kraken.tables import DEFAULT_PRICES, SHARES, Pair, default_assets, default_pairs, find_pair
from tests.fake_kraken.wire import KrakenError, cut, cut_up

MARKET_STATES = ("online", "maintenance", "cancel_only", "post_only")
POST_ONLY_REASON = "Post only order"
BY_USER = "User requested"


class Clock(Protocol):
    def time(self) -> float: ...


class Engine:
    """One account on a small market. Public methods may be called from any thread."""

    def __init__(self, clock: Clock, balances: dict[str, Decimal], seed: int, tier: str) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.assets = default_assets()
        self.pairs = default_pairs(self.assets)
        self.last: dict[str, Decimal] = dict(DEFAULT_PRICES)
        self.ids = IdMaker(seed)
        self.ledger = Ledger(balances)
        self.limits = Limits(tier)
        self.orders: dict[str, Order] = {}
        self.trades: dict[str, Trade] = {}
        self.status = "online"
        self.maker_percent = Decimal("0.25")
        self.taker_percent = Decimal("0.40")
        self.post_only_mode = "cancel"  # or "error": both are reported of Kraken
        self.post_only_cancel_cost = True  # the cancel of case "cancel" counts on the engine counter
        self.duplicate_error = "EOrder:cl_ord_id already in use"
        self.cancel_unknown_error = "EOrder:Unknown order"
        self.broken: list[AssertionError] = []
        self._open: dict[str, dict[str, Order]] = defaultdict(dict)
        self._held: dict[str, tuple[str, Decimal]] = {}
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._timer_number = 0
        self.ledger.remember(self.clock.time())

    # What the wire wants to hear; the exchange overrides them.
    def on_execution(self, kind: str, order: Order, trade: Trade | None = None) -> None:
        """An event of one order: pending_new, new, trade, filled, canceled, expired."""

    def on_price(self, pair: Pair) -> None:
        """The last price of a pair was told."""

    def on_status(self) -> None:
        """The mode of the market changed."""

    # The market and the people in it.
    def set_price(self, pair: str, price: Decimal | str, ticker: str = "after") -> list[Trade]:
        """Move the last price and fill what it reaches. ``ticker``: told "before" or "after" the fills, or "never"."""
        with self.lock:
            self.run_due()
            row = self.pair(pair)
            self.last[row.id] = Decimal(price)
            if ticker == "before":
                self.on_price(row)
            trades = self._match(row)
            if ticker == "after":
                self.on_price(row)
            return trades

    def fill(self, txid: str, volume: Decimal | str | None = None) -> Trade:
        """Fill a part or all of one open order at its limit, as maker. The last price stays."""
        with self.lock:
            self.run_due()
            order = self.orders[txid]
            assert order.is_open, f"{txid} is {order.status}"
            part = order.remaining if volume is None else Decimal(volume)
            assert ZERO < part <= order.remaining, f"{txid} has {order.remaining} left, not {part}"
            return self._fill(order, part, order.price, maker=True)

    def cancel(self, txid: str, reason: str = BY_USER) -> Order:
        """Cancel one open order, as its owner does in Kraken's own screens, or Kraken itself."""
        with self.lock:
            self.run_due()
            order = self.orders[txid]
            assert order.is_open, f"{txid} is {order.status}"
            self._close(order, "canceled", reason)
            return order

    def place_by_hand(
        self,
        pair: str,
        side: str,
        volume: Decimal | str,
        price: Decimal | str | None = None,
        userref: int | None = None,
        cl_ord_id: str | None = None,
        flags: tuple[str, ...] = ("fciq",),
    ) -> Order:
        """An order that does not come through the API; a market order without ``price``."""
        with self.lock:
            self.run_due()
            order = self.new_order(
                self.pair(pair), side, "market" if price is None else "limit", Decimal(volume), Decimal(price or 0)
            )
            order.userref, order.cl_ord_id, order.flags, order.by_hand = userref, cl_ord_id, flags, True
            self.submit(order)
            return order

    def deposit(self, asset: str, amount: Decimal | str) -> None:
        """Money comes in; goes out when negative. It stays out of reach of open orders."""
        with self.lock:
            self.ledger.deposit(asset, Decimal(amount))
            self._booked()

    def set_status(self, status: str) -> None:
        """online, maintenance, cancel_only, post_only. Trades happen in the first only, and again after it."""
        with self.lock:
            assert status in MARKET_STATES, status
            self.status = status
            self.on_status()
            for pair in self.pairs.values():
                self._match(pair)

    def set_fees(self, maker: Decimal | str, taker: Decimal | str) -> None:
        """In percent, for orders placed from now on. A maker fee may be negative."""
        self.maker_percent, self.taker_percent = Decimal(maker), Decimal(taker)

    # Time.
    def at(self, time: float, action: Callable[[], object]) -> None:
        """Do something when the clock has reached ``time``: at the next call or ``run_due``."""
        with self.lock:
            self._timer_number += 1
            heapq.heappush(self._timers, (time, self._timer_number, action))

    def run_due(self) -> None:
        """Everything whose time has come: pending cancels, expiries, requests that were on their way."""
        with self.lock:
            while self._timers and self._timers[0][0] <= self.clock.time():
                heapq.heappop(self._timers)[2]()

    # Questions.
    def pair(self, name: str) -> Pair:
        """By id, altname or v2 symbol, tokenised ones as well."""
        return self.pairs.get(name) or find_pair(
            self.pairs, name, "tokenized_asset" if name.startswith(SHARES) else None
        )

    def open_orders(self, userref: int | None = None, side: str | None = None, pair: str | None = None) -> list[Order]:
        """Oldest first."""
        with self.lock:
            return [
                order
                for order in self.orders.values()
                if order.is_open
                and (userref is None or order.userref == userref)
                and (side is None or order.side == side)
                and (pair is None or order.pair is self.pair(pair))
            ]

    @property
    def balances(self) -> dict[str, Decimal]:
        return self.ledger.balances

    def available(self, asset: str) -> Decimal:
        return self.ledger.available(asset)

    def check_money(self) -> None:
        """AssertionError unless every unit is where the books say: cheap enough for every event."""
        with self.lock:
            self.ledger.check()
            holds: dict[str, Decimal] = defaultdict(lambda: ZERO)
            for orders in self._open.values():
                for order in orders.values():
                    asset, amount = order.hold()
                    holds[asset] += amount
            for asset in {*holds, *self.ledger.holds}:
                told = self.ledger.holds[asset]
                assert told == holds[asset], f"{asset}: hold {told}, but the open orders need {holds[asset]}"

    def audit(self) -> None:
        """Derive balances and fills once more from the list of trades; AssertionError if they differ."""
        with self.lock:
            self.check_money()
            wanted: dict[str, Decimal] = defaultdict(lambda: ZERO, self.ledger.initial)
            for asset, amount in self.ledger.deposits.items():
                wanted[asset] += amount
            done: dict[str, Decimal] = defaultdict(lambda: ZERO)
            for trade in self.trades.values():
                sign = 1 if trade.side == "buy" else -1
                wanted[trade.pair.base.id] += sign * trade.volume
                wanted[trade.pair.quote.id] -= sign * trade.cost + trade.fee
                done[trade.order] += trade.volume
            for asset in {*wanted, *self.balances}:
                assert self.balances[asset] == wanted[asset], f"{asset}: {self.balances[asset]} != {wanted[asset]}"
            for order in self.orders.values():
                assert order.vol_exec == done[order.txid], f"{order.txid}: {order.vol_exec} != {done[order.txid]}"
                assert (order.status == "closed") == (order.remaining == 0), f"{order.txid} is {order.status}"
                assert order.is_open == (order.txid in self._open[order.pair.id]), order.txid

    # Orders, from wherever they come.
    def new_order(self, pair: Pair, side: str, ordertype: str, volume: Decimal, price: Decimal) -> Order:
        """An order with a fresh txid, not yet submitted."""
        rates = (self.maker_percent / 100, self.taker_percent / 100)
        return Order(self.ids.order(), pair, side, ordertype, price, volume, rates, self.clock.time())

    def submit(self, order: Order) -> None:
        """
        Take an order whose numbers are in order, or raise KrakenError and leave nothing behind.

        With ``post_only_mode`` "cancel" a post-only order that would cross is taken and cancelled at once.
        """
        now, pair, last = self.clock.time(), order.pair, self.last[order.pair.id]
        order.opentm = now
        self._check_modes(order)
        if not order.by_hand:
            self.limits.charge_add(pair.id, now)
        if order.deadline is not None and now > order.deadline:
            raise KrakenError("EService:Deadline elapsed")
        if len(self._open[pair.id]) >= self.limits.numbers.open_orders and self.limits.engine:
            raise KrakenError("EOrder:Orders limit exceeded")
        if order.cl_ord_id is not None and any(o.cl_ord_id == order.cl_ord_id for o in self.open_orders()):
            raise KrakenError(self.duplicate_error)
        crossing = order.crosses(last)
        if order.post_only and crossing and self.post_only_mode == "error":
            raise KrakenError(f"EOrder:{POST_ONLY_REASON}")
        if not (order.post_only and crossing):
            self._check_funds(order, crossing)

        self.orders[order.txid] = order
        self._changed(order)
        self.on_execution("pending_new", order)
        if order.post_only and crossing:
            if self.post_only_cancel_cost and not order.by_hand:
                self.limits.charge_cancel(pair.id, 0.0, now)
            self._close(order, "canceled", POST_ONLY_REASON)
            return
        order.status = "open"
        self._open[pair.id][order.txid] = order
        self._changed(order)
        self.on_execution("new", order)
        if crossing and self.status == "online":
            self._fill(order, order.remaining, last, maker=False)
        elif order.timeinforce in ("IOC", "FOK"):
            self._close(order, "expired", "Order could not be filled")
        elif order.timeinforce == "GTD":
            self.at(order.expiretm, lambda: self._expire(order))

    def cancel_for_client(self, order: Order) -> None:
        """A cancel through the API: it costs by the order's age, and needs a market that takes cancels."""
        now = self.clock.time()
        if self.status == "maintenance":
            raise KrakenError("EService:Unavailable")
        self.limits.check_cancel(order.pair.id, now)
        self.limits.charge_cancel(order.pair.id, now - order.opentm, now)
        self._close(order, "canceled", BY_USER)

    def _check_modes(self, order: Order) -> None:
        if self.status == "maintenance":
            raise KrakenError("EService:Unavailable")
        for mode in (self.status, order.pair.status):
            if mode in ("cancel_only", "reduce_only"):
                raise KrakenError(f"EService:Market in {mode} mode")
            if mode == "post_only" and not order.post_only:
                raise KrakenError("EService:Market in post_only mode")
            if mode == "limit_only" and order.ordertype != "limit":
                raise KrakenError("EService:Market in limit_only mode")
            if mode in ("delisted", "maintenance"):
                raise KrakenError("EService:Unavailable")

    def _check_funds(self, order: Order, crossing: bool) -> None:
        if order.side == "sell":
            asset, needed = order.pair.base.id, order.volume
        else:
            asset = order.pair.quote.id
            price = order.price or self.last[order.pair.id]
            rate = max(ZERO, order.rates[1] if crossing else order.rates[0])
            places = order.pair.cost_decimals
            needed = cut_up(order.volume * price, places) + cut_up(order.volume * price * rate, places)
        if needed > self.available(asset):
            raise KrakenError("EOrder:Insufficient funds")

    def _match(self, pair: Pair) -> list[Trade]:
        if self.status != "online":
            return []
        last = self.last[pair.id]
        reached = [order for order in self._open[pair.id].values() if order.crosses(last)]
        reached.sort(key=lambda o: (-o.price if o.side == "buy" else o.price, o.opentm))
        return [self._fill(order, order.remaining, order.price, maker=True) for order in reached]

    def _fill(self, order: Order, volume: Decimal, price: Decimal, maker: bool) -> Trade:
        pair, now = order.pair, self.clock.time()
        cost = cut(volume * price, pair.cost_decimals)
        fee = cut(volume * price * order.rates[0 if maker else 1], pair.cost_decimals)
        number = self.ids.trade_number(pair.id)
        trade = Trade(
            self.ids.trade(),
            number,
            order.txid,
            pair,
            order.side,
            order.ordertype,
            price,
            volume,
            cost,
            fee,
            maker,
            now,
        )
        sign = 1 if order.side == "buy" else -1
        self.trades[trade.id] = trade
        order.vol_exec += volume
        order.cost += cost
        order.fee += fee
        order.trades.append(trade.id)
        if not order.remaining:
            order.status, order.closetm = "closed", now
        self._release(order)
        self.ledger.trade(pair.base.id, pair.quote.id, sign * volume, -sign * cost, fee)
        self._changed(order)
        self.on_execution("trade", order, trade)
        return trade

    def _close(self, order: Order, status: str, reason: str) -> None:
        order.status, order.reason, order.closetm = status, reason, self.clock.time()
        self._release(order)
        self._changed(order)
        self.on_execution(status, order)

    def _expire(self, order: Order) -> None:
        if order.is_open:
            self._close(order, "expired", "Order expired")

    def _release(self, order: Order) -> None:
        """Let go of what the order held, before the ledger moves."""
        if not order.is_open:
            self._open[order.pair.id].pop(order.txid, None)
        if (held := self._held.pop(order.txid, None)) is not None:
            self.ledger.holds[held[0]] -= held[1]

    def _changed(self, order: Order) -> None:
        self._release(order)
        if order.txid in self._open[order.pair.id]:
            self._held[order.txid] = asset, amount = order.hold()
            self.ledger.holds[asset] += amount
        order.remember(self.clock.time())
        self._booked()

    def _booked(self) -> None:
        self.ledger.remember(self.clock.time())
        try:
            self.check_money()
        except AssertionError as error:
            self.broken.append(error)
            raise
