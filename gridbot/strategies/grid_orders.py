"""
What follows an order that is over: a sell after a buy, a buy after a sell, and what is kept for later.

Whatever must not be forgotten is recorded in the transaction that takes the order out of the book,
and the order that follows is written down in the same transaction; it is sent right after.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from gridbot.exceptions import ConfigurationError, OrderTooSmall
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import IExchangeRESTService, IExchangeWebSocketService
from gridbot.models.configuration import BotConfigDTO
from gridbot.models.events import Event, FundsShort, OrderCancelled, OrderExecuted, OrderRefused
from gridbot.models.exchange import BUY, SELL, News
from gridbot.models.grid import (
    EXTRA,
    NO_BUY,
    SURPLUS,
    UNKNOWN,
    BookOrder,
    GridSettings,
    GridView,
    PlaceBuy,
    Placement,
    PlaceSell,
    UnsoldBuy,
)
from gridbot.models.money import ONE, ZERO
from gridbot.services.order_desk import BUYING, CROSSING, CROWDED, Finished, OrderDesk
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_notices import GridNotices
from gridbot.strategies.grid_terms import GridTerms


@dataclass(frozen=True)
class Surroundings:
    """What a strategy is given to work with. ``sync``: ``BookSync.run``; ``report`` makes the status message."""

    config: BotConfigDTO
    rest_api: IExchangeRESTService
    websocket: IExchangeWebSocketService
    desk: OrderDesk
    sync: Callable[[float | None], News]
    clock: IClock
    publish: Callable[[Event], None]
    report: Callable[[], str]


class GridOrders(ABC):
    """Fills, cancellations and what is placed because of them."""

    # True: ``sell_after`` always returns None. Reports then count all that was bought as kept, and announce no sell.
    keeps_all = False

    def __init__(self, surroundings: Surroundings) -> None:
        self._config = surroundings.config
        self._rest_api = surroundings.rest_api
        self._desk = surroundings.desk
        self._publish = surroundings.publish
        self._clock = surroundings.clock
        self._tell = GridNotices(self._config, self._desk, self._publish)
        self._terms = GridTerms(self._config, self._rest_api, self._desk, self._clock, self._tell)
        self.ticker = ZERO
        self._without_buy: deque[Finished] = deque()  # filled sells whose buy could not be placed yet

    @property
    def settings(self) -> GridSettings:
        """The settings with what the exchange demands; there once it has described the pair."""
        return self._terms.settings

    @property
    def market(self) -> str:
        """The exchange and its name of the pair, as the database knows it."""
        return self._terms.market

    @abstractmethod
    def sell_after(self, buy: UnsoldBuy) -> PlaceSell | None:
        """
        The sell that follows a filled buy; None to keep the base. Raises OrderTooSmall. Called when the fill is booked
        and again when the sell is placed, so it must only compute and ask nothing of the exchange.
        """

    def _get_buy_order_price(self, last_price: Decimal) -> Decimal:
        """One interval below ``last_price``, bounded by the ticker."""
        return rules.buy_price(last_price, self.ticker, self.settings)

    def _get_sell_order_price(self, last_price: Decimal) -> Decimal:
        """One interval above ``last_price``, bounded by the ticker."""
        return rules.sell_price(last_price, self.ticker, self.settings)

    def _record(self, finished: Finished) -> None:
        """Store what must not be forgotten of an order that is over; part of the transaction that ends it."""
        order = finished.order
        if order.side == SELL:
            if not finished.is_filled and order.sells != EXTRA:
                self._keep_for_sale(order, finished.at)
        elif finished.is_filled:
            if order.price > self._desk.configuration.get().highest_buy_price:
                self._desk.configuration.update(highest_buy_price=order.price)
            buy = UnsoldBuy(order.txid, order.price, finished.executed, finished.at)
            if not self._keeps(buy):
                self._desk.unsold.add(buy)
        elif finished.executed:
            self._desk.add_to_surplus(finished.executed, order.price)

    def _keeps(self, buy: UnsoldBuy) -> bool:
        """True when the strategy never sells what was bought; False when a sell is only too small for now."""
        try:
            return self._asked_for_a_sell(buy) is None
        except OrderTooSmall:
            return False

    def _keep_for_sale(self, order: BookOrder, at: float) -> None:
        """
        A sell was cancelled. What it did not sell waits for another sell: under its buy, or as surplus if it has no buy
        or is too small. It is left to the owner after a ``forget``, and if the bot knows no buy that brought it in.
        """
        rest = order.rest
        for txid in (order.sells, order.txid):
            if txid in self._desk.forgotten:
                self._desk.forgotten.leave(txid, rest)
                return
        if order.sells in ("", UNKNOWN) and order.placed_at > self._desk.configuration.get().created_at:
            # The owner, or another bot with our userref, may have offered coins that this bot never bought.
            self._tell.strange_sell(order.txid, rest)
            return
        price = bought_at = order.price / (ONE + self.settings.interval)
        if rows := self._desk.trades.of_order(order.sells):
            price = rows[0].info.price
            sold = sum((row.info.volume for row in self._desk.trades.sales_of(order.sells)), ZERO)
            # A sell amended by hand may have sold more coins than the bot had bought.
            rest = min(rest, sum((row.info.volume for row in rows), ZERO) - sold)
        buy = UnsoldBuy(order.sells, price, rest, at)
        if rest <= 0 or self._keeps(buy):
            return
        if order.sells in NO_BUY or rest < self.settings.pair.ordermin:
            self._desk.add_to_surplus(rest, bought_at)
        else:
            self._desk.unsold.add(buy)

    def _handle_arbitrage(self, finished: Finished) -> Placement | None:
        """Write down what follows an order that is over; if a message reported its end, in the same transaction."""
        if finished.is_filled:
            return self.handle_filled_order_event(finished)
        return self._handle_cancel_order(finished)

    def handle_filled_order_event(self, finished: Finished) -> Placement | None:
        """A buy is followed by its sell, a sell by a buy one interval below it."""
        if finished.order.side == SELL:
            return self._next_buy(finished)
        buy = self._desk.unsold.get(finished.order.txid)
        return self._new_sell_order(buy) if buy is not None else None

    def _handle_cancel_order(self, finished: Finished) -> Placement | None:
        """What a cancelled buy had executed is sold once it is worth one amount_per_grid."""
        if finished.order.side == BUY and finished.executed:
            return self._sell_surplus()
        return None

    def _announce(self, finished: Finished) -> None:
        """Publish the end of an order; for a sell that closed a cycle, with its profit and the base that was kept."""
        order = finished.order
        if not finished.is_filled:
            # Kraken calls our own cancellations "User requested", which would worry the user.
            reason = "" if order.cancel_requested else finished.reason
            self._publish(OrderCancelled(order.side, order.price, order.volume, finished.executed, order.txid, reason))
            return
        profit, base_kept = None, None
        bought = self._desk.trades.of_order(order.sells) if order.sells else []
        volume = sum((row.info.volume for row in bought), ZERO)
        if volume:
            spent = sum((row.info.cost + row.info.fee for row in bought), ZERO)
            sales = [row.info for row in self._desk.trades.sales_of(order.sells)]  # more than one after a cancellation
            sold = sum((sale.volume for sale in sales), ZERO)
            profit = sum((sale.cost - sale.fee for sale in sales), ZERO) - spent * sold / volume
            base_kept = max(volume - sold, ZERO)
        self._publish(
            OrderExecuted(
                order.side, order.price, finished.executed, finished.cost, finished.fee, order.txid, profit, base_kept
            )
        )

    def _next_buy(self, sold: Finished) -> Placement | None:
        """
        Write down the buy one interval below a filled sell; if it must wait, it comes before the grid is completed.
        """
        if not self._may_buy():
            self._without_buy.append(sold)
            return None
        decision = rules.buy_after_sell(sold.order.price, self.view())
        for intent in decision.intents:
            if isinstance(intent, PlaceBuy):
                return self._desk.write_down(replace(intent, why=f"after the sell {sold.order.txid}"))
        return None

    def _add_missed_buy_orders(self) -> None:
        """Place the buys after sells that were filled while nothing could be placed, in the order of those sells."""
        while self._without_buy and self._may_buy():
            self._send(self._next_buy(self._without_buy.popleft()))

    def _new_sell_order(self, buy: UnsoldBuy) -> Placement | None:
        """Write down the sell for a filled buy; None if it must wait: the buy then stays unsold."""
        if not self._may_sell(buy.txid):
            return None
        try:
            intent = self._asked_for_a_sell(buy)
        except OrderTooSmall as exc:
            self._too_small(buy.txid, buy.price, buy.volume, str(exc))
            return None
        return self._write_down_sell(intent) if intent is not None else None

    def _asked_for_a_sell(self, buy: UnsoldBuy) -> PlaceSell | None:
        """
        What ``sell_after`` returns. Raises OrderTooSmall; ConfigurationError if it is neither None nor a PlaceSell.
        """
        intent = self.sell_after(buy)
        is_sell = (
            isinstance(intent, PlaceSell) and isinstance(intent.price, Decimal) and isinstance(intent.volume, Decimal)
        )
        if intent is None or is_sell:
            return intent
        raise ConfigurationError(
            f"[bot] strategy = {self._config.strategy}: sell_after returned {intent!r}; it must be None or a PlaceSell "
            "with price and volume as Decimal"
        )

    def _sell_surplus(self) -> Placement | None:
        """
        The sell for the executed parts of cancelled buys; None until they are worth one, or if the strategy keeps base.
        """
        stored = self._desk.configuration.get()
        remaining = stored.vol_of_unfilled_remaining
        max_price = stored.vol_of_unfilled_remaining_max_price
        if not rules.surplus_is_worth_a_sell(remaining, max_price, self.settings) or not self._may_sell(SURPLUS):
            return None
        if self._keeps(UnsoldBuy(SURPLUS, max_price, remaining, 0.0)):
            return None
        try:
            intent = rules.surplus_sell(remaining, max_price, self.ticker, self.settings)
        except OrderTooSmall as exc:
            self._too_small(SURPLUS, max_price, remaining, str(exc))
            return None
        return self._write_down_sell(intent)

    def _write_down_sell(self, intent: PlaceSell) -> Placement | None:
        """
        Write down a sell, one lot smaller if only rounding dust is missing from the free base. If more is missing, it
        is put off. If at the next try the exchange still reports too little, the bot sends it anyway: balances are only
        a hint.
        """
        free = self._desk.funds.base_available
        volume = rules.sellable_volume(intent.volume, free, self.settings.pair.lot)
        if volume is None and self._desk.funds.is_told and self._desk.pauses.known(intent.sells):
            volume = intent.volume
        if volume is not None:
            return self._desk.write_down(replace(intent, volume=volume))
        consequence = (
            "what it sells stays noted and is sold when there is enough; if you have taken these coins, stop the "
            f"bot and say: forget {intent.sells}"
        )
        self._put_off(intent.sells, FundsShort(SELL, self._config.base_currency, intent.volume, free, consequence))
        return None

    def _too_small(self, what: str, price: Decimal, volume: Decimal, reason: str) -> None:
        self._put_off(what, OrderRefused(SELL, price, volume, reason, "it is kept and sold when it can be"), reason)

    def _put_off(self, what: str, event: Event, why: str = "") -> None:
        """Begin a growing pause for ``what``; the event is published the first time only."""
        said_before = self._desk.pauses.known(what)
        self._desk.pauses.begin(what, why=why)
        if not said_before:
            self._publish(event)

    def _may_sell(self, sells: str) -> bool:
        pauses = self._desk.pauses
        return self._desk.may_place() and pauses.over(sells) and pauses.over(short_lived(SELL, sells))

    def _may_buy(self) -> bool:
        pauses = self._desk.pauses
        return self._desk.may_place() and all(map(pauses.over, (BUYING, CROSSING, CROWDED)))

    def new_buy_order(self, order_price: Decimal) -> BookOrder | None:
        """Place a buy at ``order_price``, cut to the tick. None if it was not placed, or if its fate is unknown."""
        price = self.settings.pair.truncate_price(order_price)
        return self._desk.place(PlaceBuy(price, rules.buy_volume(price, self.settings), "by request"))

    def _send(self, placement: Placement | None) -> None:
        if placement is not None:
            self._desk.send(placement)

    def _add_missed_sell_orders(self) -> None:
        """Place the sells that filled buys still lack, as far as that is possible now."""
        asked = False
        for buy in self._desk.unsold.all():
            if self._desk.pauses.known(buy.txid) and self._desk.pauses.over(buy.txid) and not asked:
                self._desk.refresh_funds()
                asked = True
            self._send(self._new_sell_order(buy))
        self._send(self._sell_surplus())

    def view(self) -> GridView:
        """The present grid, as the rules see it."""
        desk = self._desk
        return GridView(
            settings=self.settings,
            ticker=self.ticker,
            buys=desk.book.buys(),
            sells=desk.book.sells(),
            quote_available=desk.funds.quote_available,
            base_available=desk.funds.base_available,
            unsold=desk.unsold.all(),
            pending=desk.pending.all(),
            highest_buy_price=desk.configuration.get().highest_buy_price,
            surplus=desk.configuration.get().vol_of_unfilled_remaining,
            left_to_owner=desk.left_to_owner,
        )


def short_lived(side: str, sells: str) -> str:
    """Name of the pause after an order that was cancelled soon after the exchange took it."""
    return CROSSING if side == BUY else f"short-lived {sells}"
