"""
The REST interface of the simulated exchange, for strategies and desk the same as Kraken's adapter.

No call waits or fails by itself. Times come from ``now`` (unix seconds on the exchange's clock), so that a backtest
runs in its own past.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import cached_property

from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.adapters.exchanges.simulated_state import SimulatedOrder
from gridbot.exceptions import BotStateError, OrderRejected, TemporaryFailure, UnknownOrderError
from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.models.exchange import (
    AssetBalanceSchema,
    AssetPairInfoSchema,
    CreateOrderResponseSchema,
    ExchangeDomain,
    OrderInfoSchema,
    PairBalanceSchema,
    TradeInfoSchema,
)
from gridbot.models.money import ZERO

# Per side, when [grid] fee is not set. Kraken reports its fees only to an account; 0.40 % is the highest
# maker fee in its documentation: play money should not earn what real money might not.
ASSUMED_FEE = Decimal("0.0040")


class SimulatedRESTService(IExchangeRESTService):
    """Every method of the interface over one ``SimulatedExchange``; same errors as a real exchange."""

    answers_lag = 0.0

    def __init__(
        self,
        exchange: SimulatedExchange | Callable[[], SimulatedExchange],
        *,
        name: str = "Simulated",
        now: Callable[[], float],
    ) -> None:
        """
        exchange  the exchange, or a function that opens it at first use: paper must ask Kraken for the pair first
        name      of the exchange, for people
        now       returns unix seconds on the exchange's clock, without a network call
        """
        if isinstance(exchange, SimulatedExchange):
            self.exchange = exchange
        else:
            self._open = exchange
        self._name = name
        self.now = now

    @cached_property
    def exchange(self) -> SimulatedExchange:
        """The simulated exchange behind this interface; opened at first use."""
        return self._open()

    def close(self) -> None:
        """Close the exchange's file; it must not be used afterwards."""
        if "exchange" in vars(self):  # it was opened
            self.exchange.close()

    def check_exchange_status(self, tries: int = 0) -> None:
        """A simulation is always online."""

    def get_system_status(self) -> str:
        return "online"

    def check_api_key_permissions(self) -> None:
        """There is no key."""

    def get_server_time(self) -> float:
        return self.now()

    def get_asset_pair_info(self) -> AssetPairInfoSchema:
        return self.exchange.pair

    def get_maker_fee(self) -> Decimal | None:
        return self.exchange.fee

    def get_last_price(self) -> Decimal:
        """The newest price. Raises TemporaryFailure before the first one."""
        if self.exchange.last_price is None:
            raise TemporaryFailure(f"{self._name}: no price of {self.rest_symbol} is known yet")
        return self.exchange.last_price

    @property
    def rest_symbol(self) -> str:
        return self.exchange.symbol

    @property
    def rest_altname(self) -> str:
        return self.rest_symbol.replace("/", "")

    @property
    def ws_symbol(self) -> str:
        return self.exchange.symbol

    def truncate(self, amount: Decimal | str, amount_type: str) -> str:
        return self.exchange.pair.truncate(amount, amount_type)

    def get_account_balance(self) -> dict[str, Decimal]:
        money = self.exchange.money
        return {self.exchange.pair.base: money.base, self.exchange.pair.quote: money.quote}

    def get_balances(self) -> list[AssetBalanceSchema]:
        pair, money = self.exchange.pair, self.exchange.money
        return [
            AssetBalanceSchema(asset=pair.base, balance=money.base, hold_trade=money.base_held),
            AssetBalanceSchema(asset=pair.quote, balance=money.quote, hold_trade=money.quote_held),
        ]

    def get_pair_balance(self) -> PairBalanceSchema:
        exchange, money = self.exchange, self.exchange.money
        return PairBalanceSchema(
            base_balance=money.base,
            quote_balance=money.quote,
            base_available=max(exchange.base_available, ZERO),
            quote_available=max(exchange.quote_available, ZERO),
        )

    def create_order(
        self,
        *,
        ordertype: str,
        side: str,
        volume: Decimal,
        price: Decimal,
        userref: int,
        validate: bool = False,
        oflags: str | None = None,
        deadline: float | None = None,
    ) -> CreateOrderResponseSchema:
        """
        Place a limit order; it is stored before this returns.

        Raises OrderRejected or a subclass; never OrderFateUnknown.
        """
        if ordertype != "limit":
            raise OrderRejected(f"{self._name}: order type {ordertype!r} is not simulated, only 'limit' is")
        now = self.now()
        if deadline is not None and now > deadline:
            raise OrderRejected(f"{self._name}: the order came {now - deadline:.1f} s after its deadline")
        post_only = oflags is not None and "post" in oflags.split(",")
        if validate:
            self.exchange.check_order(side=side, price=price, volume=volume, post_only=post_only)
            return CreateOrderResponseSchema(txid="validated")
        txid = self.exchange.create_order(
            side=side, price=price, volume=volume, userref=userref, post_only=post_only, time=now
        )
        return CreateOrderResponseSchema(txid=txid)

    def cancel_order(self, txid: str) -> None:
        """Cancel one order; its event follows. Raises UnknownOrderError when it is not open."""
        self.exchange.cancel_order(txid, self.now())

    def get_open_orders(self, userref: int, trades: bool | None = None) -> list[OrderInfoSchema]:
        """All open orders with this ``userref``, the oldest first."""
        orders = [o for o in self.exchange.open_orders.values() if o.userref == userref]
        return [self._reported(o, bool(trades)) for o in orders]

    def get_closed_orders(
        self, userref: int, trades: bool = False, start: float | None = None
    ) -> list[OrderInfoSchema]:
        """Orders that ended at or after ``start``, newest first; only those still kept in memory."""
        since = 0.0 if start is None else start
        orders = [o for o in self.exchange.finished.values() if o.userref == userref and o.closed_at >= since]
        return [self._reported(o, trades) for o in reversed(orders)]

    def get_orders_info(self, txids: list[str]) -> dict[str, OrderInfoSchema]:
        """The known orders among ``txids``, with their executions."""
        return {txid: self._reported(order, True) for txid in txids if (order := self._known(txid))}

    def get_order_with_retry(
        self, txid: str, tries: int = 0, max_tries: int = 5, exit_on_fail: bool = True
    ) -> OrderInfoSchema:
        """One order; asking again would not help here. Raises UnknownOrderError or BotStateError."""
        if order := self._known(txid):
            return self._reported(order, True)
        message = f"{self._name} does not know the order {txid}"
        raise BotStateError(message) if exit_on_fail else UnknownOrderError(message)

    def get_trades_info(self, exec_ids: list[str]) -> dict[str, TradeInfoSchema]:
        trades = self.exchange.trades
        return {exec_id: trades[exec_id] for exec_id in exec_ids if exec_id in trades}

    def get_exchange_domain(self) -> ExchangeDomain:
        """Kraken's words, so that reports of both can be compared."""
        return ExchangeDomain(EXCHANGE=self._name)

    def is_foreign(self, txid: str) -> bool:
        """True for an order of another simulated book: its id carries another tag."""
        return self.exchange.is_foreign(txid)

    def _known(self, txid: str) -> SimulatedOrder | None:
        return self.exchange.open_orders.get(txid) or self.exchange.finished.get(txid)

    def _reported(self, order: SimulatedOrder, trades: bool) -> OrderInfoSchema:
        return OrderInfoSchema(
            pair=self.rest_altname,
            price=order.price,
            side=order.side,
            status=order.status,
            txid=order.txid,
            userref=order.userref,
            vol=order.volume,
            vol_exec=order.executed,
            cost=order.cost,
            fee=order.fee,
            opened_at=order.opened_at,
            closed_at=order.closed_at,
            trades=order.trades if trades else (),
            reason=order.reason,
        )
