"""
A made-up market: a geometric random walk with jumps and quiet hours. No clock, no network, no disk.

Price number k follows only from the seed, k and the price before it: a market created again at a stored
``MarketPosition`` continues the very same path. The walk is gently pulled back to the start price, so that a demo left
alone for weeks still shows a price of that size. It says nothing about real markets, and what a grid earns here is no
promise.

A tick is ``TICK_SECONDS`` of market time, so that a market day passes in 2880 ticks: about ten minutes at five ticks a
second. By night the market is calm and many ticks bring no trade at all.

Floats are right here and only here: they make up a price. What leaves is a Decimal on the pair's tick.
"""

import math
import random
from decimal import Decimal

from gridbot.adapters.exchanges.simulated_state import MarketPosition
from gridbot.models.money import truncate

TICK_SECONDS = 30
DAY_SECONDS = 86_400
# How lively the quietest and the busiest hour are. Over a day the squares average 1, so that
# ``volatility`` is the typical move of a tick that trades.
QUIET = 0.4
BUSY = 1.46
QUIETEST_HOUR = 3
FIRST_HOUR = 11  # tick 0 is in the late morning, so that something happens soon after the demo starts
JUMP_CHANCE = 0.002  # about six a market day
JUMP_SIZE = (4.0, 8.0)  # times the typical move
PULL = 0.0005  # of the distance to the start price, per tick: half of it is gone after 1400 ticks
NO_TRADE_IN_QUIET = 0.5  # chance that a tick of the quietest hour brings no trade


class DemoMarket:
    """The prices of one made-up market, one tick after the other."""

    def __init__(
        self,
        *,
        start_price: Decimal,
        tick_size: Decimal,
        volatility: Decimal,
        seed: int,
        position: MarketPosition | None = None,
    ) -> None:
        """
        start_price  quote per base at tick 0, and what the walk is pulled back to
        tick_size    smallest step of a price
        volatility   typical move per tick, a fraction (0.001 is 0.1 %)
        seed         the same seed gives the same path
        position     go on from here; None: begin at the start price
        """
        self._start = float(start_price)
        self._tick_size = tick_size
        self._volatility = float(volatility)
        self._seed = seed
        self._tick = position.tick if position else 0
        self._level = position.level if position else self._start
        self._random = random.Random()

    @property
    def position(self) -> MarketPosition:
        """Where the market stands; enough to continue it."""
        return MarketPosition(self._seed, self._tick, self._level)

    @property
    def price(self) -> Decimal:
        """The present price, on the pair's tick and never below one tick."""
        return max(truncate(Decimal(repr(self._level)), self._tick_size), self._tick_size)

    @property
    def hour(self) -> float:
        """Hour of the market's day, 0 to 24."""
        return (FIRST_HOUR * 3600 + self._tick * TICK_SECONDS) % DAY_SECONDS / 3600

    def advance(self) -> Decimal | None:
        """Go one tick on: the price it traded at, or None when nothing traded."""
        self._tick += 1
        # Seeded anew for every tick, so that the path does not depend on earlier draws.
        chance = self._random
        chance.seed(self._seed * 1_000_003 + self._tick)
        activity = activity_at(self.hour)
        if chance.random() < NO_TRADE_IN_QUIET * (BUSY - activity) / (BUSY - QUIET):
            return None
        move = chance.gauss(0.0, self._volatility * activity)
        if chance.random() < JUMP_CHANCE:
            move += math.copysign(chance.uniform(*JUMP_SIZE) * self._volatility, chance.random() - 0.5)
        pull = PULL * math.log(self._start / self._level)
        self._level *= math.exp(move + pull)
        return self.price


def activity_at(hour: float) -> float:
    """How lively the market is at this hour: the factor on the volatility, QUIET to BUSY."""
    wave = (1 - math.cos((hour - QUIETEST_HOUR) / 24 * math.tau)) / 2
    return QUIET + (BUSY - QUIET) * wave
