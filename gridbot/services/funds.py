"""
What the account has free, as told by the exchange and carried on by our own orders and executions.

An estimate that saves a question before every order: the exchange has the last word, and
``EOrder:Insufficient funds`` makes us ask again.
"""

from decimal import Decimal

from gridbot.models.exchange import BUY, PairBalanceSchema
from gridbot.models.money import ONE, ZERO


class Funds:
    """Free base and quote of the pair. ``fee``: what a buy's hold includes, a fraction."""

    def __init__(self, fee: Decimal) -> None:
        self.fee = fee
        self.base_balance = ZERO
        self.quote_balance = ZERO
        self._base = ZERO
        self._quote = ZERO
        self.is_told = False  # True: as the exchange told it, nothing carried on since

    @property
    def base_available(self) -> Decimal:
        """Free base, never below 0."""
        return max(self._base, ZERO)

    @property
    def quote_available(self) -> Decimal:
        """Free quote, never below 0."""
        return max(self._quote, ZERO)

    def told(self, balance: PairBalanceSchema) -> None:
        """The exchange's own figures."""
        self.base_balance, self.quote_balance = balance.base_balance, balance.quote_balance
        self._base, self._quote = balance.base_available, balance.quote_available
        self.is_told = True

    def hold(self, side: str, price: Decimal, volume: Decimal) -> None:
        """An order of ours now binds money."""
        self._change(side, price, -volume)

    def release(self, side: str, price: Decimal, volume: Decimal) -> None:
        """So much of an order binds money no longer."""
        self._change(side, price, volume)

    def executed(self, side: str, price: Decimal, volume: Decimal, cost: Decimal, fee: Decimal) -> None:
        """``volume`` of an order with limit ``price`` was executed for ``cost`` and ``fee``."""
        self.release(side, price, volume)
        base, quote = (volume, -cost - fee) if side == BUY else (-volume, cost - fee)
        self._base += base
        self._quote += quote
        self.base_balance += base
        self.quote_balance += quote

    def _change(self, side: str, price: Decimal, volume: Decimal) -> None:
        self.is_told = False
        if side == BUY:
            self._quote += price * volume * (ONE + self.fee)
        else:
            self._base += volume
