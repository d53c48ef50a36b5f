"""
What an exchange reports to the bot, as frozen and strict models: a float where money belongs is refused.

Times are unix seconds on the exchange's clock (float: they are not money).
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gridbot.models.money import ZERO, as_text, step_of, to_decimal, truncate

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[Decimal, Field(gt=0)]
NotNegative = Annotated[Decimal, Field(ge=0)]

BUY = "buy"
SELL = "sell"
Side = Annotated[str, Field(pattern="^(buy|sell)$")]
Decimals = Annotated[int, Field(ge=0, le=18)]  # of real pairs: 0 to 10
# Kraken counts costs with 10 decimals where the quote is one of these, else mostly with 5.
COINS = ("BTC", "XBT", "ETH")


class ExchangeModel(BaseModel):
    """Frozen and strict: what arrives as text or JSON number stays what it was."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ExchangeDomain(ExchangeModel):
    """
    How an exchange names itself and the states of an order; the defaults are Kraken's words. Inside the bot sides are
    always "buy" and "sell", whatever stands here: an adapter translates its own.
    """

    EXCHANGE: str
    BUY: str = "buy"
    SELL: str = "sell"
    OPEN: str = "open"
    CLOSED: str = "closed"
    CANCELED: str = "canceled"
    EXPIRED: str = "expired"
    PENDING: str = "pending"


class AssetPairInfoSchema(ExchangeModel):
    """The rules of one pair: names, precision, minimums."""

    base: Text  # asset id, e.g. XXBT: the key of the balances
    quote: Text  # asset id, e.g. ZUSD
    aclass_base: Text = "currency"  # or "tokenized_asset"
    aclass_quote: Text = "currency"
    lot_decimals: Decimals  # decimals of a volume
    cost_decimals: Decimals  # decimals of a cost or fee
    pair_decimals: Decimals  # decimals of a price
    tick_size: Positive  # smallest step of a price, in quote
    ordermin: NotNegative  # smallest volume, in base
    costmin: NotNegative  # smallest price x volume, in quote
    status: Text = "online"
    fees_maker: list[list[Decimal]] = []  # [[volume, percent]]; empty at Kraken since September 2026

    @cached_property
    def lot(self) -> Decimal:
        """Smallest step of a volume, in base."""
        return step_of(self.lot_decimals)

    @property
    def money_decimals(self) -> int:
        """With how many decimals amounts of quote are shown: 2, and 8 for a quote such as BTC, alias XXBT."""
        return 8 if self.quote in COINS or self.quote[1:] in COINS else 2

    def truncate(self, amount: Decimal | str, amount_type: str) -> str:
        """``amount`` cut as a "price" or as a "volume", as text. Raises ValueError (another word, a float)."""
        cut = {"price": self.truncate_price, "volume": self.truncate_volume}.get(amount_type)
        if cut is None:
            raise ValueError(f"{amount_type!r} cannot be truncated; right are 'price' and 'volume'")
        return as_text(cut(to_decimal(amount)))

    @property
    def takes_orders(self) -> bool:
        """True when the exchange now takes the limit orders of a grid."""
        return self.status in ("online", "limit_only")

    def truncate_price(self, price: Decimal) -> Decimal:
        """``price`` cut toward zero to the tick."""
        return truncate(price, self.tick_size)

    def truncate_volume(self, volume: Decimal) -> Decimal:
        """``volume`` cut toward zero to the lot."""
        return truncate(volume, self.lot)


class AssetBalanceSchema(ExchangeModel):
    """One asset of the account. ``hold_trade`` may exceed ``balance`` (auto-earn at Kraken)."""

    asset: Text
    balance: NotNegative
    hold_trade: NotNegative


class PairBalanceSchema(ExchangeModel):
    """The account in the two currencies of the pair: total, and free of open orders (never below 0)."""

    base_balance: NotNegative
    quote_balance: NotNegative
    base_available: NotNegative
    quote_available: NotNegative


class CreateOrderResponseSchema(ExchangeModel):
    """An order was accepted under this id."""

    txid: Text


class OrderInfoSchema(ExchangeModel):
    """
    One order as the exchange reports it.

    ``pair`` is the altname without a slash; ``price`` the limit price; ``cost`` and ``fee`` (in quote)
    and ``vol_exec`` say what was executed so far; ``trades`` are the ids of its executions.
    """

    pair: Text
    price: Positive
    side: Side
    status: Text
    txid: Text
    userref: Annotated[int, Field(ge=0)]
    vol: Positive
    vol_exec: NotNegative
    cost: NotNegative = ZERO
    fee: Decimal = ZERO  # negative: a rebate
    opened_at: float = 0.0
    closed_at: float = 0.0
    trades: tuple[str, ...] = ()
    reason: str = ""

    @field_validator("pair", mode="after")
    @classmethod
    def clean_pair(cls, v: str) -> str:
        """Drop slashes, so that "XBT/USD" and "XBTUSD" are one pair."""
        return v.replace("/", "")

    @model_validator(mode="after")
    def validate_volume_relationship(self) -> Self:
        """An order cannot have executed more than its volume."""
        if self.vol_exec > self.vol:
            raise ValueError(f"order {self.txid}: executed {self.vol_exec} of only {self.vol}")
        return self


class TradeInfoSchema(ExchangeModel):
    """One execution (a fill): ``cost`` and ``fee`` in quote, a negative fee is a rebate."""

    exec_id: Text
    txid: Text  # the order it belongs to
    side: Side
    price: Positive
    volume: Positive
    cost: NotNegative
    fee: Decimal
    time: float


class TakerTradeSchema(TradeInfoSchema):
    """An execution that the exchange reports as a taker's, perhaps with another fee. Booked like any other."""


class TickerUpdateSchema(ExchangeModel):
    """The last traded price; ``time`` is 0 when the exchange did not report it."""

    symbol: Text
    last: Positive
    time: float = 0.0


class ExecutionsUpdateSchema(ExchangeModel):
    """
    One event of one order. Only ``order_id`` and ``exec_type`` are always there: Kraken's ``new``
    and ``canceled`` carry neither symbol nor side nor volume, and ``filled`` has no ``exec_id``.
    """

    order_id: Text
    exec_type: str
    order_status: str = ""
    userref: int | None = None
    symbol: str | None = None
    side: Side | None = None
    limit_price: NotNegative | None = None
    order_qty: NotNegative | None = None
    exec_id: str | None = None
    last_qty: NotNegative | None = None
    last_price: NotNegative | None = None
    cost: NotNegative | None = None
    fee: Decimal | None = None  # in quote
    cum_qty: NotNegative | None = None
    cum_cost: NotNegative | None = None
    maker: bool = True  # False: the exchange reports this execution as a taker's
    time: float = 0.0
    reason: str = ""


class OnMessageSchema(ExchangeModel):
    """
    One message of the feed: ``channel`` "ticker" or "executions", or one of the feed's own.

    type      "snapshot" or "update" as the exchange sends them; "lost" when the connection is gone. Of "executions":
              after the next snapshot the bot must ask what happened meanwhile. Of "ticker": the known price is old.
    """

    channel: Text
    type: str | None = None
    ticker_data: TickerUpdateSchema | None = None
    executions: list[ExecutionsUpdateSchema] | None = None


@dataclass(frozen=True)
class News:
    """What an exchange reports of our orders after a look at all of them; executions by order id."""

    reports: list[OrderInfoSchema]
    trades: dict[str, list[TradeInfoSchema]]
    adopted: list[OrderInfoSchema]
    balance: PairBalanceSchema  # what the account has now, all of this news included
    strangers: list[str]  # orders that the feed reported and the bot did not know; the book has them now
