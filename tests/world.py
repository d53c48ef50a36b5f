"""
A bot in a small world: real strategy, desk and database against the simulated exchange, on a clock
that only the test moves. No thread, no network, no waiting.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.adapters.exchanges.simulated_feed import SimulatedFeed
from gridbot.core.registry import resolve
from gridbot.exceptions import OrderFateUnknown
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.clock import IClock
from gridbot.models.events import Event
from gridbot.models.exchange import (
    AssetPairInfoSchema,
    CreateOrderResponseSchema,
    OnMessageSchema,
    OrderInfoSchema,
    PairBalanceSchema,
)
from gridbot.models.grid import BookOrder, PlaceSell, UnsoldBuy
from gridbot.services.book_sync import BookSync
from gridbot.services.order_desk import OrderDesk
from gridbot.strategies.grid_base import GridStrategyBase
from gridbot.strategies.grid_hodl import GridHODLStrategy
from gridbot.strategies.grid_orders import Surroundings
from tests.settings import USERREF, config

BTC_USD = AssetPairInfoSchema(
    base="XXBT",
    quote="ZUSD",
    aclass_base="currency",
    aclass_quote="currency",
    lot_decimals=8,
    cost_decimals=5,
    pair_decimals=1,
    tick_size=Decimal("0.1"),
    ordermin=Decimal("0.00005"),
    costmin=Decimal("0.5"),
)


class ManualClock(IClock):
    """Time that stands still until a test moves it; waiting moves it too."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False

    def stopping(self) -> bool:
        return False


class Flaky(SimulatedRESTService):
    """The simulated exchange behind a bad line: ``faults`` are used up one per placement, oldest first."""

    comparison_wait = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.faults: list[str | Exception] = []
        self.hidden: set[str] = set()  # orders that REST does not show yet
        self.calls: list[str] = []

    def create_order(self, **order: Any) -> CreateOrderResponseSchema:
        self.calls.append("create_order")
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        if fault == "lost before":
            raise OrderFateUnknown("the connection broke")
        reply = super().create_order(**order)
        if fault in ("lost after", "lost after and hidden"):
            if fault.endswith("hidden"):
                self.hidden.add(reply.txid)
            raise OrderFateUnknown("the connection broke")
        return reply

    def cancel_order(self, txid: str) -> None:
        self.calls.append("cancel_order")
        super().cancel_order(txid)

    def get_pair_balance(self) -> PairBalanceSchema:
        self.calls.append("get_pair_balance")
        return super().get_pair_balance()

    def get_open_orders(self, userref: int, trades: bool | None = None) -> list[OrderInfoSchema]:
        self.calls.append("get_open_orders")
        return [o for o in super().get_open_orders(userref, trades) if o.txid not in self.hidden]


class Feed(SimulatedFeed):
    """Prices come from the test."""

    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        return []

    def close(self) -> None:
        return


class Keeper(GridHODLStrategy):
    """A strategy of one's own that keeps about half of what it buys."""

    def sell_after(self, buy: UnsoldBuy) -> PlaceSell | None:
        return None if int(buy.price) % 2 else super().sell_after(buy)


@dataclass
class World:
    """One bot and its exchange. ``restart`` keeps the exchange and the database, nothing else."""

    strategy_name: str = "GridHODL"
    quote: Decimal = Decimal(100000)
    base: Decimal = Decimal(0)
    path: Path | str = ":memory:"
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.exchange = SimulatedExchange(
            BTC_USD, symbol="BTC/USD", fee=Decimal("0.0025"), base_balance=self.base, quote_balance=self.quote
        )
        self.rest = Flaky(self.exchange, now=self.clock.time)
        self.events: list[Event] = []
        self.db = DBConnect(self.path)
        self._build()

    def _build(self) -> None:
        self.config = config(strategy=self.strategy_name, **self.changes)
        self.feed = Feed(self.rest)
        self.desk = OrderDesk(self.db, self.rest, self.clock, self.config.userref, self.events.append)
        self.frames: list[object] = []
        self.strategy: GridStrategyBase = resolve("strategy", self.strategy_name)(
            Surroundings(
                config=self.config,
                rest_api=self.rest,
                websocket=self.feed,
                desk=self.desk,
                sync=BookSync(self.desk, self.rest, self.config.userref).run,
                clock=self.clock,
                publish=self.events.append,
                report=lambda: "",
            )
        )

    def start(self, price: str) -> "World":
        """Run the bot up to its first complete grid."""
        self.strategy.run(self.frames.append)
        return self.price(price)

    def restart(self, **changes: Any) -> "World":
        """End the process without a word and start it again; ``start`` or ``price`` goes on."""
        self.changes |= changes
        if self.path != ":memory:":
            self.db.close()
            self.db = DBConnect(self.path)
        self._build()
        self.strategy.run(self.frames.append)
        return self

    def price(self, *prices: str) -> "World":
        """The market trades at these prices, a second apart."""
        for text in prices:
            self.clock.now += 1
            self.deliver(self.feed._traded(Decimal(text), self.clock.now))
            self.settle()
            self.exchange.check_money()
        return self

    def deliver(self, messages: list[OnMessageSchema]) -> None:
        for message in messages:
            self.strategy.on_message(message)

    def settle(self) -> None:
        """Handle what the bot's own calls caused, until nothing is left."""
        for _ in range(100):
            if not self.frames:
                return
            self.deliver(self.feed.on_message(self.frames.pop(0)))
        raise AssertionError("the world does not come to rest")

    def wait(self, seconds: float) -> "World":
        """Time passes without a price; the timers run each second."""
        for _ in range(int(seconds)):
            self.clock.now += 1
            self.strategy.on_timer()
            self.settle()
        return self

    # ---- what there is ---------------------------------------------------------------------------

    @property
    def buys(self) -> tuple[BookOrder, ...]:
        return self.desk.book.buys()

    @property
    def sells(self) -> tuple[BookOrder, ...]:
        return self.desk.book.sells()

    def buy_prices(self) -> list[str]:
        return [f"{order.price:f}" for order in self.buys]

    def sell_prices(self) -> list[str]:
        return [f"{order.price:f}" for order in self.sells]

    def on_exchange(self, side: str) -> list[str]:
        """Prices of the exchange's own open orders, best first."""
        orders = [o for o in self.rest.get_open_orders(USERREF) if o.side == side]
        return [f"{o.price:f}" for o in sorted(orders, key=lambda o: o.price, reverse=side == "buy")]

    def money(self) -> tuple[Decimal, ...]:
        """Balance and free amount of base and quote: as the bot has them, which is as the exchange has them."""
        funds, there = self.desk.funds, self.exchange
        here = (funds.base_balance, funds.base_available, funds.quote_balance, funds.quote_available)
        assert here == (there.money.base, there.base_available, there.money.quote, there.quote_available)
        return here

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
