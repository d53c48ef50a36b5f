"""What happened, for those who listen: notifications, screen, log. Listening never changes a trade."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Event:
    """Base of all events; amounts in base (volume) and quote (price, cost, fee)."""


@dataclass(frozen=True)
class BotStarted(Event):
    """The bot is synchronised and begins to trade. ``summary``: settings in force, a few lines."""

    name: str
    summary: str


@dataclass(frozen=True)
class BotStopped(Event):
    """The bot ends. ``reason`` for people; ``summary`` says what stays open on the exchange."""

    name: str
    reason: str
    summary: str


@dataclass(frozen=True)
class OrderPlaced(Event):
    """An order is on the exchange. ``why`` is the rule that wanted it."""

    side: str
    price: Decimal
    volume: Decimal
    txid: str
    why: str


@dataclass(frozen=True)
class OrderExecuted(Event):
    """
    An order was completely filled. For a sell that closed a cycle: ``profit`` is the quote it brought minus the cost of
    the part of the buy that was sold, fees included; ``base_kept`` is what was bought and not sold.
    """

    side: str
    price: Decimal
    volume: Decimal
    cost: Decimal
    fee: Decimal
    txid: str
    profit: Decimal | None = None
    base_kept: Decimal | None = None


@dataclass(frozen=True)
class OrderCancelled(Event):
    """An order left the book before it was completely filled. ``executed``: what had been filled of it, in base."""

    side: str
    price: Decimal
    volume: Decimal
    executed: Decimal
    txid: str
    reason: str


@dataclass(frozen=True)
class GridShifted(Event):
    """The price rose above the grid: all buys were cancelled to be placed again below it."""

    ticker: Decimal
    cancelled: int


@dataclass(frozen=True)
class FundsShort(Event):
    """Not enough free money for an order; published once, and again only after there was enough."""

    side: str
    currency: str
    needed: Decimal
    available: Decimal
    consequence: str


@dataclass(frozen=True)
class OrderRefused(Event):
    """The exchange will not take an order; ``consequence`` says what the bot does about it."""

    side: str
    price: Decimal
    volume: Decimal
    reason: str
    consequence: str


@dataclass(frozen=True)
class ExtraSellPlaced(Event):
    """SWING sells base that no buy of the grid brought in."""

    price: Decimal
    volume: Decimal
    txid: str


@dataclass(frozen=True)
class CaughtUp(Event):
    """After an absence: how long, and what had happened meanwhile."""

    away_seconds: float
    buys_filled: int
    sells_filled: int
    cancelled: int
    adopted: int


@dataclass(frozen=True)
class StatusUpdate(Event):
    """The hourly status message, ready to read."""

    text: str


@dataclass(frozen=True)
class Trouble(Event):
    """Something the owner should know: what, and what the bot does about it."""

    text: str
