"""
Paper trade, the dry run: Kraken's live prices and pair rules, simulated fills, play money.

No private call is made: the Kraken adapter in here has no key. Orders never leave this machine; they live in a file
beside the bot's database and survive a restart. After an absence the first price is matched against the open orders: an
order that this price has passed is filled, at its own limit price. simulated_core says how fills are decided.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gridbot.adapters.exchanges.kraken import public_kraken
from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.adapters.exchanges.simulated_feed import SimulatedFeed
from gridbot.adapters.exchanges.simulated_store import SimulatedStore, open_exchange, store_path
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange, ExchangeSetup, IExchangeFactory, IExchangeRESTService
from gridbot.models.configuration import Settings
from gridbot.models.exchange import AssetPairInfoSchema, OnMessageSchema

SILENT_SECONDS = 60.0  # without a price from the feed: one asked for over REST is then certainly newer


class PaperExchange(IExchangeFactory):
    """
    What ``dry_run = yes`` uses in place of Kraken.

    public  builds the keyless exchange to wrap; tests pass another one
    """

    def __init__(self, public: Callable[[ExchangeSetup], Exchange] = public_kraken) -> None:
        self._public = public

    def create(self, setup: ExchangeSetup) -> Exchange:
        """Build both halves; Kraken and the file are opened at the first use."""
        public = self._public(setup)
        rest = PaperRESTService(public.rest, setup.settings, setup.clock)
        return Exchange(rest, PaperFeed(public, rest), simulated=True)


class PaperRESTService(SimulatedRESTService):
    """Public questions go to Kraken, everything about money and orders to the simulated exchange."""

    def __init__(self, public: IExchangeRESTService, settings: Settings, clock: IClock) -> None:
        """``public``: Kraken without a key."""
        super().__init__(self._open_paper, name="Paper", now=self._kraken_time)
        self._public = public
        self._settings = settings
        self._clock = clock
        self._ahead: float | None = None  # Kraken's clock minus our steady clock, in seconds

    def _open_paper(self) -> SimulatedExchange:
        pair = self._public.get_asset_pair_info()
        store = SimulatedStore(store_path(self._settings.db.path), f"Paper {self.rest_symbol}")
        return open_exchange(store, pair, self._settings, self._public.ws_symbol)

    def get_asset_pair_info(self) -> AssetPairInfoSchema:
        """The pair as Kraken lists it now."""
        if "exchange" in vars(self):  # opening it asks for the pair, too
            self.exchange.pair = self._public.get_asset_pair_info()
        return self.exchange.pair

    def check_exchange_status(self, tries: int = 0) -> None:
        """Whether Kraken is online: without it there are no prices."""
        self._public.check_exchange_status(tries)

    def get_system_status(self) -> str:
        return self._public.get_system_status()

    def get_server_time(self) -> float:
        """Unix seconds on Kraken's clock; from now on orders carry times by this clock."""
        server = self._public.get_server_time()
        self._ahead = server - self._clock.monotonic()
        return server

    def _kraken_time(self) -> float:
        """Kraken's time by the last answer, without asking again: an order must not fail because a question fails."""
        if self._ahead is None:
            return self._clock.time()
        return max(self._clock.monotonic() + self._ahead, self.exchange.time)

    def get_last_price(self) -> Decimal:
        """
        Kraken's last price. If the feed has reported none for a minute, open orders are matched with it too; their
        executions come over the feed.
        """
        price = self._public.get_last_price()
        now = self._kraken_time()
        exchange = self.exchange
        if exchange.last_price is None or now - exchange.time > SILENT_SECONDS:
            exchange.announce(exchange.on_price(price, now))
        return price

    @property
    def rest_symbol(self) -> str:
        return self._public.rest_symbol

    @property
    def rest_altname(self) -> str:
        return self._public.rest_altname

    @property
    def ws_symbol(self) -> str:
        return self._public.ws_symbol

    def close(self) -> None:
        """Close the file and the connection to Kraken."""
        super().close()
        self._public.close()


class PaperFeed(SimulatedFeed):
    """Kraken's public feed; its prices are matched in the simulated exchange before they are passed on."""

    def __init__(self, public: Exchange, rest: PaperRESTService) -> None:
        """``public``: Kraken without a key, both halves."""
        super().__init__(rest)
        self._public = public

    def get_required_subscriptions(self, rest_api: IExchangeRESTService) -> list[dict[str, Any]]:
        return self._public.feed.get_required_subscriptions(self._public.rest)

    def subscribe(self, params: dict[str, Any]) -> None:
        self._public.feed.subscribe(params)

    def start(self, put: Callable[[object], None]) -> None:
        """Open the executions channel and connect the public feed."""
        super().start(put)
        self._public.feed.start(put)

    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        messages: list[OnMessageSchema] = []
        for message in self._public.feed.on_message(frame):
            ticker = message.ticker_data
            if ticker is not None and ticker.symbol == self._rest.ws_symbol:
                messages += self._matched(message, ticker, self._rest.now())
            else:
                messages.append(message)
        return messages

    def close(self) -> None:
        self._public.feed.close()
