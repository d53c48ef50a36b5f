"""
What the bot asks of an exchange: questions and orders over REST, prices and executions over a feed.

Synchronous throughout. Amounts are ``Decimal``: volumes in base, prices, costs and fees in quote.
Every method may raise ``TemporaryFailure`` (ask again later) and ``AccessDenied`` (stop); what else
it raises stands in its docstring. The names are those of the reference documentation; where a
signature differs, the docstring says why.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridbot.interfaces.clock import IClock
from gridbot.models.configuration import Settings
from gridbot.models.exchange import (
    AssetBalanceSchema,
    AssetPairInfoSchema,
    CreateOrderResponseSchema,
    ExchangeDomain,
    OnMessageSchema,
    OrderInfoSchema,
    PairBalanceSchema,
    TradeInfoSchema,
)


class IExchangeRESTService(ABC):
    """
    Questions and orders. One call at a time, from the main thread.

    ``answers_lag``: seconds by which answers about orders may be out of date; an order of unknown fate is not given up
    before that.
    """

    answers_lag = 60.0

    @property
    def left_suddenly(self) -> bool:
        """True if an earlier process ended suddenly, minutes ago at most: an order it sent may still arrive."""
        return False

    def is_foreign(self, txid: str) -> bool:
        """True for an order that was certainly placed elsewhere, as a simulated exchange recognises by the id."""
        return False

    @property
    def comparison_wait(self) -> float:
        """Seconds until the exchange's request limit has room for a comparison of the whole book."""
        return 0.0

    @abstractmethod
    def check_exchange_status(self, tries: int = 0) -> None:
        """
        Return once the exchange is online; ask ``tries`` more times with growing pauses before
        giving up with TemporaryFailure.
        """

    @abstractmethod
    def get_system_status(self) -> str:
        """The exchange's state: "online" when everything works; any other word means: do not trade."""

    @abstractmethod
    def check_api_key_permissions(self) -> None:
        """Raise AccessDenied, naming the ticks to set, unless the key may do what the bot needs and no more."""

    @abstractmethod
    def get_server_time(self) -> float:
        """
        Unix seconds on the exchange's clock. Not in the reference: deadlines and look-ups need the
        exchange's time, and a Raspberry Pi may wake up in 1970.
        """

    @abstractmethod
    def get_asset_pair_info(self) -> AssetPairInfoSchema:
        """Names, precision and minimums of the pair. Raises ConfigurationError for an unknown pair."""

    @abstractmethod
    def get_maker_fee(self) -> Decimal | None:
        """
        The account's present maker fee for the pair, as a fraction; None when the exchange does not report it. Not in
        the reference, which read a fee ladder that Kraken no longer sends.
        """

    @abstractmethod
    def get_last_price(self) -> Decimal:
        """The last traded price, asked for when a quiet pair's feed reports none."""

    @property
    @abstractmethod
    def rest_symbol(self) -> str:
        """The pair with a slash, as configured: "BTC/USD"."""

    @property
    @abstractmethod
    def rest_altname(self) -> str:
        """The pair as order reports name it: equals ``OrderInfoSchema.pair``."""

    @property
    @abstractmethod
    def ws_symbol(self) -> str:
        """The pair as the feed names it: equals ``TickerUpdateSchema.symbol``."""

    @abstractmethod
    def truncate(self, amount: Decimal | str, amount_type: str) -> str:
        """
        ``amount`` cut toward zero to the exchange's precision, as fixed-point text.

        amount_type  "price" or "volume". Raises ValueError for another word, and for a float.
        """

    @abstractmethod
    def get_account_balance(self) -> dict[str, Decimal]:
        """Total per asset id; assets with nothing may be absent."""

    @abstractmethod
    def get_balances(self) -> list[AssetBalanceSchema]:
        """Total and held amount of every asset."""

    @abstractmethod
    def get_pair_balance(self) -> PairBalanceSchema:
        """Total and free amounts in base and quote, all wallets of an asset summed."""

    @abstractmethod
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
        Send one order, once. ``volume`` and ``price`` must already be cut to the pair's precision.

        validate  check only, place nothing; the reply's txid is then "validated"
        oflags    the exchange's flags: "post,fciq" is post-only with the fee in quote
        deadline  unix seconds on the exchange's clock after which it must refuse the order. Not in
                  the reference: it bounds how long an order of unknown fate may still appear

        Raises OrderRejected or a subclass: certainly not placed. Raises OrderFateUnknown: it may be
        placed; the caller must find out and never send it again.
        """

    @abstractmethod
    def cancel_order(self, txid: str) -> None:
        """
        Ask for the cancellation of one order. Returning means the exchange took the request, not that the order is
        gone: the feed or ``get_orders_info`` reports that.

        Raises UnknownOrderError when there is no such open order (it may be filled: look it up).
        """

    @abstractmethod
    def get_open_orders(self, userref: int, trades: bool | None = None) -> list[OrderInfoSchema]:
        """All open orders with this ``userref`` on any pair; ``trades``: with the ids of executions."""

    @abstractmethod
    def get_closed_orders(
        self, userref: int, trades: bool = False, start: float | None = None
    ) -> list[OrderInfoSchema]:
        """
        Orders with this ``userref`` that are closed, cancelled or expired, opened or closed after
        ``start`` (unix seconds), every page. Returns models where the reference returned a dict.
        """

    @abstractmethod
    def get_orders_info(self, txids: list[str]) -> dict[str, OrderInfoSchema]:
        """
        The orders the exchange knows among ``txids``; an absent one is no proof that it does not
        exist. Takes a list where the reference took one id: after an absence one call answers all.
        """

    @abstractmethod
    def get_order_with_retry(
        self, txid: str, tries: int = 0, max_tries: int = 5, exit_on_fail: bool = True
    ) -> OrderInfoSchema:
        """
        One order, asked for up to ``max_tries - tries`` times with growing pauses.

        If the exchange does not report it: raises BotStateError, or UnknownOrderError if ``exit_on_fail`` is False.
        These errors replace the reference's ``None``.
        """

    @abstractmethod
    def get_trades_info(self, exec_ids: list[str]) -> dict[str, TradeInfoSchema]:
        """
        The executions known among ``exec_ids``. Not in the reference: what was executed while the
        feed was down is booked fill by fill, with its own price and fee.
        """

    @abstractmethod
    def get_exchange_domain(self) -> ExchangeDomain:
        """The exchange's name, and its words for the states of an order."""

    def close(self) -> None:  # noqa: B027 - an adapter without anything to release need not answer
        """Release connections."""


class IExchangeWebSocketService(ABC):
    """
    The feed. Its threads put raw frames on the queue given to ``start`` and do nothing else;
    ``on_message`` turns one frame into messages on the main thread.
    """

    @abstractmethod
    def get_required_subscriptions(self, rest_api: IExchangeRESTService) -> list[dict[str, Any]]:
        """The subscriptions for ticker and executions, in the exchange's own form."""

    @abstractmethod
    def start(self, put: Callable[[object], None]) -> None:
        """
        Connect in the background and stay connected; every frame goes to ``put`` as it came.
        ``put`` is new against the reference: the queue belongs to the main loop.
        """

    @abstractmethod
    def subscribe(self, params: dict[str, Any]) -> None:
        """Add one subscription, now and after every reconnect."""

    @abstractmethod
    def on_message(self, message: object) -> list[OnMessageSchema]:
        """
        What one frame from the queue says; [] for one that says nothing to the bot. Called on the
        main thread. Returns messages where the reference awaited a handler. Raises nothing: a
        frame that cannot be read is logged and leaves the feed to reconnect if need be.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections and end the threads; returns within a second."""


@dataclass(frozen=True)
class ExchangeSetup:
    """
    What an exchange adapter is built from.

    key_state  file for what must outlive the process and belongs to the API key (its nonce); None: no key
    """

    settings: Settings
    clock: IClock
    key_state: Path | None = None


@dataclass(frozen=True)
class Exchange:
    """The two halves of an exchange, ready for use. ``simulated``: no real money is at stake."""

    rest: IExchangeRESTService
    feed: IExchangeWebSocketService
    simulated: bool = False


class IExchangeFactory(ABC):
    """What ``exchange = `` in config.ini names: one class that builds both halves."""

    @abstractmethod
    def create(self, setup: ExchangeSetup) -> Exchange:
        """Build the adapters; connect nothing yet. Raises ConfigurationError."""
