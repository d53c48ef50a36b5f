"""
What the grid rules read (a frozen view of the bot's world) and what they want (intents).

What is made for every order is a NamedTuple: frozen as well, and made in a quarter of the time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from gridbot.models.events import GridShifted
from gridbot.models.exchange import BUY, SELL, AssetPairInfoSchema
from gridbot.models.money import ZERO, as_text

SURPLUS = "surplus"  # in place of a buy's txid: the sell takes from vol_of_unfilled_remaining
EXTRA = "extra"  # in place of a buy's txid: SWING's extra sell, covered by the free balance
UNKNOWN = "unknown"  # in place of a buy's txid: an adopted sell that fits no buy we know
NO_BUY = frozenset(("", SURPLUS, EXTRA, UNKNOWN))


class BookOrder(NamedTuple):
    """An order of ours on the exchange, as far as known. ``executed`` in base."""

    txid: str
    side: str
    price: Decimal
    volume: Decimal
    placed_at: float  # unix seconds on the exchange's clock
    executed: Decimal = ZERO
    sells: str = ""  # a sell: the txid of the buy it sells, SURPLUS, EXTRA or UNKNOWN; "": just adopted
    cancel_requested: bool = False  # its cancellation was requested and is not confirmed yet

    @property
    def rest(self) -> Decimal:
        """What is not executed yet, in base."""
        return self.volume - self.executed

    @property
    def value(self) -> Decimal:
        """price x volume, in quote."""
        return self.price * self.volume


class Placement(NamedTuple):
    """An order on its way: written down before it is sent. ``deadline`` on the exchange's clock."""

    id: int
    side: str
    price: Decimal
    volume: Decimal
    sells: str
    why: str
    written_at: float
    deadline: float

    def __str__(self) -> str:
        return f"{self.side} of {as_text(self.volume)} @ {as_text(self.price)}"

    @property
    def sells_what_was_bought(self) -> bool:
        """False for a buy, and for SWING's extra sell."""
        return self.sells not in ("", EXTRA)


@dataclass(frozen=True)
class UnsoldBuy:
    """A filled buy whose sell is not yet on the exchange; ``volume`` is what was executed."""

    txid: str
    price: Decimal
    volume: Decimal
    filled_at: float


@dataclass(frozen=True)
class GridSettings:
    """The numbers of the rules; symbols as in the documentation: A, i, f, n, M."""

    amount_per_grid: Decimal  # A, in quote
    interval: Decimal  # i, a fraction
    fee: Decimal  # f, a fraction per side
    n_open_buy_orders: int  # n
    max_investment: Decimal  # M, in quote
    pair: AssetPairInfoSchema
    held_back: str = ""  # why no buy may be placed for now; "": buys are allowed

    @property
    def amount_with_fee(self) -> Decimal:
        """A·(1+f): what one buy binds, in quote."""
        return self.amount_per_grid * (1 + self.fee)


@dataclass(frozen=True)
class GridView:
    """Everything a decision depends on. Buys are sorted from the highest price, sells from the lowest."""

    settings: GridSettings
    ticker: Decimal
    buys: tuple[BookOrder, ...] = ()
    sells: tuple[BookOrder, ...] = ()
    quote_available: Decimal = ZERO
    base_available: Decimal = ZERO
    unsold: tuple[UnsoldBuy, ...] = ()
    pending: tuple[Placement, ...] = ()
    highest_buy_price: Decimal = ZERO  # h
    surplus: Decimal = ZERO  # base of cancelled buys, kept to be sold as such
    left_to_owner: Decimal = ZERO  # bought base that is not the bot's to sell

    @property
    def investment(self) -> Decimal:
        """See ``invested``."""
        return invested((*self.buys, *self.sells), self.pending, self.unsold)


def invested(orders: Iterable[BookOrder], pending: Iterable[Placement], unsold: Iterable[UnsoldBuy]) -> Decimal:
    """
    Sum of price x volume, in quote, over open orders, placements on their way, and filled buys whose sell is neither
    open nor on its way. Without the last, every sell that has to wait would make room for one more buy.
    """
    on_the_way = {placement.sells for placement in pending}
    waiting = (buy for buy in unsold if buy.txid not in on_the_way)
    counted: list[BookOrder | Placement | UnsoldBuy] = [*orders, *pending, *waiting]
    return sum((each.price * each.volume for each in counted), ZERO)


@dataclass(frozen=True)
class PlaceBuy:
    """A buy the rules want: post-only, limit."""

    price: Decimal
    volume: Decimal
    why: str
    side: str = field(default=BUY, init=False)
    sells: str = field(default="", init=False)


@dataclass(frozen=True)
class PlaceSell:
    """A sell the rules want. ``sells``: the txid of the buy it sells, SURPLUS or EXTRA."""

    price: Decimal
    volume: Decimal
    sells: str
    why: str
    side: str = field(default=SELL, init=False)


class CancelOrder(NamedTuple):
    """An order the rules want gone."""

    txid: str
    why: str


Intent = PlaceBuy | PlaceSell | CancelOrder


class Cause(Enum):
    """Why a wanted order is not there."""

    FUNDS = "funds"
    LIMIT = "limit"
    MINIMUM = "minimum"
    FEE = "fee"


@dataclass(frozen=True)
class Waiting:
    """A wanted order that is not there, and why: (FUNDS, 49014.7, "12.30 free, 100.25 needed")."""

    cause: Cause
    price: Decimal
    reason: str


class Decision(NamedTuple):
    """What to do now (nothing, when the grid is in order), and why something wanted is not done."""

    intents: tuple[Intent, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    event: GridShifted | None = None  # to be published once the intents are carried out
