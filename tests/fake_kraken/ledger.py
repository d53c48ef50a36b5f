"""
The money of the account: balances, holds, fees, by double entry. Decimal only.

Every fill books base and quote against the market's side and the fee against Kraken's
side, so that per asset at any time::

    initial + deposits == balance + market + fees
"""

from __future__ import annotations

from collections import defaultdict, deque
from decimal import Decimal

ZERO = Decimal(0)
Amounts = dict[str, Decimal]


class Ledger:
    """Amounts per asset id. Knows no orders: holds are told to it."""

    def __init__(self, initial: Amounts) -> None:
        self.initial: Amounts = dict(initial)
        self.deposits: Amounts = defaultdict(lambda: ZERO)
        self.balances: Amounts = defaultdict(lambda: ZERO, initial)
        self.market: Amounts = defaultdict(lambda: ZERO)
        self.fees: Amounts = defaultdict(lambda: ZERO)
        self.holds: Amounts = defaultdict(lambda: ZERO)
        self._versions: deque[tuple[float, Amounts, Amounts]] = deque(maxlen=20_000)

    def deposit(self, asset: str, amount: Decimal) -> None:
        """A negative amount is a withdrawal."""
        self.deposits[asset] += amount
        self.balances[asset] += amount

    def available(self, asset: str) -> Decimal:
        return self.balances.get(asset, ZERO) - self.holds.get(asset, ZERO)

    def trade(self, base: str, quote: str, volume: Decimal, cost: Decimal, fee: Decimal) -> None:
        """``volume`` and ``cost`` are signed from the account's side: a buy is +volume, -cost. Fee in quote."""
        self.balances[base] += volume
        self.market[base] -= volume
        self.balances[quote] += cost - fee
        self.market[quote] -= cost
        self.fees[quote] += fee

    def remember(self, time: float) -> None:
        """Keep this moment, for REST replies that lag behind."""
        self._versions.append((time, dict(self.balances), dict(self.holds)))

    def as_of(self, time: float) -> tuple[Amounts, Amounts]:
        """Balances and holds as they stood at ``time``."""
        for at, balances, holds in reversed(self._versions):
            if at <= time:
                return balances, holds
        return dict(self.initial), {}

    def check(self) -> None:
        """AssertionError when money appeared, vanished, or went below zero."""
        for asset in {*self.balances, *self.market, *self.fees, *self.deposits}:
            put_in = self.initial.get(asset, ZERO) + self.deposits[asset]
            there = self.balances[asset] + self.market[asset] + self.fees[asset]
            assert put_in == there, (
                f"{asset}: put in {put_in}, but balance {self.balances[asset]} + market "
                f"{self.market[asset]} + fees {self.fees[asset]} = {there}"
            )
            assert self.balances[asset] >= 0, f"{asset}: negative balance {self.balances[asset]}"
            assert self.holds[asset] >= 0, f"{asset}: negative hold {self.holds[asset]}"
            assert self.available(asset) >= 0, (
                f"{asset}: holds {self.holds[asset]} are more than the balance {self.balances[asset]}"
            )
