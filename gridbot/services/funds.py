"""
What the account has free: the exchange's figures, updated by our own orders and executions.

An estimate that saves a question before every order: the exchange has the last word, and ``EOrder:Insufficient funds``
makes the bot ask again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from gridbot.models.exchange import BUY, PairBalanceSchema
from gridbot.models.grid import BookOrder, Placement
from gridbot.models.money import ONE, ZERO


@dataclass(frozen=True)
class OwnShare:
    """The bot's share of the account: total, and not bound by its orders. None: no limit."""

    base: Decimal | None = None
    quote: Decimal | None = None
    base_free: Decimal = ZERO  # ignored if ``base`` is None; ``quote_free`` likewise
    quote_free: Decimal = ZERO


EVERYTHING = OwnShare()


class Funds:
    """Balances of the pair, and what of them is free."""

    def __init__(self) -> None:
        self.fee = ZERO  # a fraction; a buy binds its fee, too
        self.base_balance = ZERO
        self.quote_balance = ZERO
        self._base = ZERO
        self._quote = ZERO
        self.is_told = False  # True while the free amounts are the exchange's figures, not yet changed by our orders

    @property
    def base_available(self) -> Decimal:
        """Free base, never below 0."""
        return max(self._base, ZERO)

    @property
    def quote_available(self) -> Decimal:
        """Free quote, never below 0."""
        return max(self._quote, ZERO)

    def take_over(self, balance: PairBalanceSchema, own: OwnShare) -> None:
        """
        Take over the exchange's figures, limited to the bot's ``own`` share. Both change by the same amounts from now
        on, so the lesser of the two stays the lesser.
        """
        self.base_balance, self.quote_balance = balance.base_balance, balance.quote_balance
        self._base, self._quote = balance.base_available, balance.quote_available
        if own.base is not None:
            self.base_balance = min(self.base_balance, max(own.base, ZERO))
            self._base = min(self._base, own.base_free)
        if own.quote is not None:
            self.quote_balance = min(self.quote_balance, max(own.quote, ZERO))
            self._quote = min(self._quote, own.quote_free)
        self.is_told = True

    def hold(self, side: str, price: Decimal, volume: Decimal) -> None:
        """An order of ours now binds money."""
        self.release(side, price, -volume)

    def release(self, side: str, price: Decimal, volume: Decimal) -> None:
        """This much of an order no longer binds money."""
        self.is_told = False
        if side == BUY:
            self._quote += price * volume * (ONE + self.fee)
        else:
            self._base += volume

    def executed(self, side: str, price: Decimal, volume: Decimal, cost: Decimal, fee: Decimal) -> None:
        """``volume`` of an order with limit ``price`` was executed for ``cost`` and ``fee``."""
        self.release(side, price, volume)
        base, quote = (volume, -cost - fee) if side == BUY else (-volume, cost - fee)
        self._base += base
        self._quote += quote
        self.base_balance += base
        self.quote_balance += quote


def bound_by(orders: Iterable[BookOrder], pending: Iterable[Placement], fee: Decimal) -> tuple[Decimal, Decimal]:
    """What orders bind: (base, quote including the fee)."""
    held = [(o.side, o.price, o.rest) for o in orders]
    held += [(p.side, p.price, p.volume) for p in pending]
    base = sum((volume for side, _, volume in held if side != BUY), ZERO)
    return base, sum((price * volume for side, price, volume in held if side == BUY), ZERO) * (ONE + fee)
