"""Lots on hand, and what a sell takes of them. If a part of a lot is sold, the parts of its cost add up exactly."""

from collections import deque
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from gridbot.infrastructure.database import Row
from gridbot.models.money import ZERO

INFINITE = Decimal("Infinity")
SPLIT_STEP = Decimal("1E-15")  # where a part of a cost is cut; the rest of the lot takes what is left


@dataclass(slots=True)
class Lot:
    """What is left of one buy execution."""

    txid: str  # of the buy
    bought_at: float
    volume: Decimal
    cost: Decimal  # before the fee
    fee: Decimal

    def take(self, volume: Decimal) -> tuple[Decimal, Decimal]:
        """Take ``volume`` out of the lot; returns its share of cost and fee."""
        cost, fee = part(self.cost, volume, self.volume), part(self.fee, volume, self.volume)
        self.volume -= volume
        self.cost -= cost
        self.fee -= fee
        return cost, fee


@dataclass(frozen=True, slots=True)
class Closing:
    """A part of a sell, and the part of a lot it sold. Without a lot: base from before the bot, cost unknown."""

    sell_txid: str
    sold_at: float
    volume: Decimal
    proceeds: Decimal  # before the fee
    sell_fee: Decimal
    buy_txid: str = ""
    bought_at: float = 0.0
    cost: Decimal = ZERO  # before the fee
    buy_fee: Decimal = ZERO

    @property
    def is_covered(self) -> bool:
        """False for base from before the bot."""
        return bool(self.buy_txid)

    @property
    def gain(self) -> Decimal:
        """Proceeds less cost and both fees. Without meaning if not ``is_covered``."""
        return self.proceeds - self.sell_fee - self.cost - self.buy_fee


@dataclass
class Shelf:
    """
    Lots on hand. Empty ones are removed when they are found.

    pledged  by buy: the base that its own sells will still take; infinite while a sell is still to come
    """

    pledged: dict[str, Decimal]
    lots: deque[Lot] = field(default_factory=deque)
    free: deque[Lot] = field(default_factory=deque)  # no sell was ever placed for their buys
    of_buy: dict[str, list[Lot]] = field(default_factory=dict)  # few per buy: a deque would take ten times the memory
    leaving: dict[str, list[Lot]] = field(default_factory=dict)  # of buys whose sells may leave a part unsold

    def put(self, lot: Lot, is_named: bool) -> None:
        self.lots.append(lot)
        of_buy = self.of_buy.setdefault(lot.txid, [])
        of_buy.append(lot)
        if self.pledged.get(lot.txid, INFINITE) < INFINITE:
            self.leaving.setdefault(lot.txid, of_buy)
        if not is_named:
            self.free.append(lot)

    def next_of(self, sells: str) -> Lot | None:
        """The lot a sell for ``sells`` takes from next: its buy's, else one without a sell, else the oldest."""
        own = self.of_buy.get(sells)
        return (_first(own) if own else None) or _first(self.free) or _first(self.lots)

    def sell_what_is_kept(self, sale: "Sale") -> None:
        """Close ``sale`` with leftovers: what the sells of a lot's own buy do not take. The oldest first."""
        empty = []
        for txid, lots in self.leaving.items():
            if not sale.volume:
                break
            if _first(lots) is None:
                empty.append(txid)
                continue
            promised = self.pledged[txid]
            for lot in lots:
                kept, promised = max(lot.volume - promised, ZERO), max(promised - lot.volume, ZERO)
                sale.close(lot, kept)
        for txid in empty:
            del self.leaving[txid]

    def oldest(self, _sells: str) -> Lot | None:
        return _first(self.lots)


def _first(lots: deque[Lot] | list[Lot]) -> Lot | None:
    while lots and not lots[0].volume:
        del lots[0]
    return lots[0] if lots else None


class Sale:
    """One sell execution while it is divided among lots."""

    def __init__(self, row: Row) -> None:
        info = row.info
        self._rest = Lot(info.txid, info.time, info.volume, info.cost, info.fee)  # of the proceeds, not of a cost
        self.closings: list[Closing] = []

    @property
    def volume(self) -> Decimal:
        """The base that is not yet divided among lots."""
        return self._rest.volume

    def close(self, lot: Lot | None, most: Decimal = INFINITE) -> None:
        """Sell at most ``most`` from this lot; None: from base that the bot had before its first buy."""
        volume = min(self.volume, most if lot is None else min(lot.volume, most))
        if volume:
            rest = self._rest
            bought = () if lot is None else (lot.txid, lot.bought_at, *lot.take(volume))
            self.closings.append(Closing(rest.txid, rest.bought_at, volume, *rest.take(volume), *bought))


def part(amount: Decimal, volume: Decimal, of: Decimal) -> Decimal:
    """The share of ``amount`` that belongs to ``volume`` out of ``of``, cut at SPLIT_STEP; all if both are equal."""
    if volume == of:
        return amount
    return (amount * volume / of).quantize(SPLIT_STEP, ROUND_DOWN)
