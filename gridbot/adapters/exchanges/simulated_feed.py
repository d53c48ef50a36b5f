"""
The feed of a simulated exchange: every price is matched first, then told, fills before the price that
caused them. What calls have caused (an order taken, a cancellation) is told without waiting for a price.
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
    """What paper and demo have in common; where prices come from is theirs."""

    def __init__(self, rest: SimulatedRESTService) -> None:
        """``rest``: the face whose exchange is matched against the prices."""
        self._rest = rest

    def get_required_subscriptions(self, rest_api: IExchangeRESTService) -> list[dict[str, Any]]:
        """None: nobody has to be asked for simulated executions."""
        return []

    def subscribe(self, params: dict[str, Any]) -> None:
        """There is nothing to subscribe to."""

    def start(self, put: Callable[[object], None]) -> None:
        """
        Open the executions channel with an empty snapshot: the bot synchronises over REST.

        Opens the exchange when nobody has asked it anything yet; raises what that raises.
        """
        self._rest.exchange.wake = lambda: put(Frame.WAKE)
        put(Frame.SNAPSHOT)

    def on_message(self, message: object) -> list[OnMessageSchema]:
        """What one frame says: executions, and the price behind them."""
        if message is Frame.SNAPSHOT:
            return [OnMessageSchema(channel="executions", type="snapshot", executions=[])]
        if message is Frame.WAKE:
            return executions(self._rest.exchange.take_events())
        return self._market_said(message)

    @abstractmethod
    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        """What a frame of the market says."""

    def _traded(self, price: Decimal, now: float) -> list[OnMessageSchema]:
        """What a made-up price says that was traded ``now``: the executions it causes, and then itself."""
        ticker = TickerUpdateSchema(symbol=self._rest.ws_symbol, last=price, time=now)
        return self._matched(OnMessageSchema(channel="ticker", type="update", ticker_data=ticker), ticker, now)

    def _matched(self, message: OnMessageSchema, ticker: TickerUpdateSchema, now: float) -> list[OnMessageSchema]:
        """Match a price; the executions so far, those it causes, and then the price itself."""
        exchange = self._rest.exchange
        events = exchange.take_events()
        events += exchange.on_price(ticker.last, ticker.time or now)
        return [*executions(events), message]


def executions(events: list[ExecutionsUpdateSchema]) -> list[OnMessageSchema]:
    """The message that tells them; none for none."""
    return [OnMessageSchema(channel="executions", type="update", executions=events)] if events else []
