"""
The feed of a simulated exchange: every price is matched first and then reported, fills before the price that caused
them. What calls have caused (an order taken, a cancellation) is reported without waiting for a price.
"""

from abc import abstractmethod
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any

from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.interfaces.exchange import IExchangeRESTService, IExchangeWebSocketService
from gridbot.models.exchange import ExecutionsUpdateSchema, OnMessageSchema, TickerUpdateSchema


class Frame(Enum):
    """What this feed itself puts on the queue."""

    SNAPSHOT = "the executions channel begins"
    WAKE = "events of calls are waiting"


class SimulatedFeed(IExchangeWebSocketService):
    """What paper and demo have in common; each has its own source of prices."""

    def __init__(self, rest: SimulatedRESTService) -> None:
        """``rest``: the service whose exchange is matched against the prices."""
        self._rest = rest

    def get_required_subscriptions(self, rest_api: IExchangeRESTService) -> list[dict[str, Any]]:
        """None: simulated executions need no subscription."""
        return []

    def subscribe(self, params: dict[str, Any]) -> None:
        """There is nothing to subscribe to."""

    def start(self, put: Callable[[object], None]) -> None:
        """
        Open the executions channel with an empty snapshot: the bot synchronises over REST.

        Opens the exchange if it is not open yet; raises what opening it raises.
        """
        self._rest.exchange.wake = lambda: put(Frame.WAKE)
        put(Frame.SNAPSHOT)

    def on_message(self, message: object) -> list[OnMessageSchema]:
        """What one frame means: executions, and the price that caused them."""
        if message is Frame.SNAPSHOT:
            return [OnMessageSchema(channel="executions", type="snapshot", executions=[])]
        if message is Frame.WAKE:
            return executions(self._rest.exchange.take_events())
        return self._market_said(message)

    @abstractmethod
    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        """What a frame of the market means."""

    def _traded(self, price: Decimal, now: float) -> list[OnMessageSchema]:
        """A made-up trade at ``price``, ``now`` in unix seconds: the executions it causes, then the price itself."""
        ticker = TickerUpdateSchema(symbol=self._rest.ws_symbol, last=price, time=now)
        return self._matched(OnMessageSchema(channel="ticker", type="update", ticker_data=ticker), ticker, now)

    def _matched(self, message: OnMessageSchema, ticker: TickerUpdateSchema, now: float) -> list[OnMessageSchema]:
        """Match a price; the executions so far, those it causes, and then the price itself."""
        exchange = self._rest.exchange
        events = exchange.take_events()
        events += exchange.on_price(ticker.last, ticker.time or now)
        return [*executions(events), message]


def executions(events: list[ExecutionsUpdateSchema]) -> list[OnMessageSchema]:
    """One message with these events; none if there are none."""
    return [OnMessageSchema(channel="executions", type="update", executions=events)] if events else []
