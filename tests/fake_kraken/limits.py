"""
Rate limits: the REST counter of a key and the engine counter of a pair (Kraken's API, rate limits).

Counters are floats that decay with the clock. ON by default with the intermediate tier;
``limits.rest``, ``limits.engine``, ``limits.public`` switch each one off.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.fake_kraken.wire import KrakenError


@dataclass(frozen=True)
class Tier:
    rest_maximum: float
    rest_decay: float
    engine_maximum: float
    engine_decay: float
    open_orders: int


TIERS = {
    "starter": Tier(15, 0.33, 60, 1, 60),
    "intermediate": Tier(20, 0.5, 125, 2.34, 80),
    "pro": Tier(20, 1, 180, 3.75, 225),
}
PUBLIC_BURST, PUBLIC_DECAY = 30, 1.0
FREE_OF_REST_COUNTER = frozenset({"AddOrder", "CancelOrder", "AmendOrder", "EditOrder"})
HISTORY = frozenset({"ClosedOrders", "TradesHistory", "Ledgers"})
# Up to this age in seconds a cancel costs this much.
CANCEL_COST = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))
LOCKOUT_AFTER = 10
LOCKOUT_SECONDS = 900.0


def cancel_cost(age: float) -> int:
    """What the engine counts for a cancel of an order ``age`` seconds old."""
    return next((cost for limit, cost in CANCEL_COST if age < limit), 0)


class Counter:
    """A count that runs down by itself."""

    def __init__(self) -> None:
        self.value = 0.0
        self._at = 0.0

    def now(self, time: float, decay: float) -> float:
        self.value = max(0.0, self.value - max(0.0, time - self._at) * decay)
        self._at = time
        return self.value

    def add(self, time: float, decay: float, cost: float) -> None:
        self.now(time, decay)
        self.value += cost


class Limits:
    """All counters of the account. ``history_cost`` is 4 (the newer pages) or 2 (the older ones)."""

    def __init__(self, tier: str = "intermediate") -> None:
        self.tier = tier
        self.rest = True
        self.engine = True
        self.public = True
        self.lockouts = True
        self.history_cost = 4
        self.refuse_cancels = True
        self._rest: dict[str, Counter] = {}
        self._engine: dict[str, Counter] = {}
        self._public = Counter()
        self._offences: dict[str, int] = {}
        self._locked_until: dict[str, float] = {}

    def off(self) -> None:
        """No limits at all."""
        self.rest = self.engine = self.public = self.lockouts = False

    @property
    def numbers(self) -> Tier:
        return TIERS[self.tier]

    def rest_level(self, key: str, time: float) -> float:
        return self._rest.setdefault(key, Counter()).now(time, self.numbers.rest_decay)

    def engine_level(self, pair: str, time: float) -> float:
        return self._engine.setdefault(pair, Counter()).now(time, self.numbers.engine_decay)

    def check_lockout(self, key: str, time: float) -> None:
        if self._locked_until.get(key, 0.0) > time:
            raise KrakenError("EGeneral:Temporary lockout")

    def offence(self, key: str, time: float) -> None:
        """A bad nonce, a bad signature, a call over the limit: too many in a row lock the key out."""
        self._offences[key] = self._offences.get(key, 0) + 1
        if self.lockouts and self._offences[key] >= LOCKOUT_AFTER:
            self._locked_until[key] = time + LOCKOUT_SECONDS
            self._offences[key] = 0

    def good_call(self, key: str) -> None:
        self._offences[key] = 0

    def charge_public(self, time: float) -> None:
        if not self.public:
            return
        if self._public.now(time, PUBLIC_DECAY) + 1 > PUBLIC_BURST:
            raise KrakenError("EGeneral:Too many requests")
        self._public.add(time, PUBLIC_DECAY, 1)

    def charge_rest(self, key: str, method: str, time: float) -> None:
        if not self.rest or method in FREE_OF_REST_COUNTER:
            return
        cost = self.history_cost if method in HISTORY else 1
        if self.rest_level(key, time) + cost > self.numbers.rest_maximum:
            self.offence(key, time)
            raise KrakenError("EAPI:Rate limit exceeded")
        self._rest[key].add(time, self.numbers.rest_decay, cost)

    def charge_add(self, pair: str, time: float) -> None:
        """+1, also when the order is refused afterwards."""
        if not self.engine:
            return
        if self.engine_level(pair, time) + 1 > self.numbers.engine_maximum:
            raise KrakenError("EOrder:Rate limit exceeded")
        self._engine[pair].add(time, self.numbers.engine_decay, 1)

    def check_cancel(self, pair: str, time: float) -> None:
        if self.engine and self.refuse_cancels and self.engine_level(pair, time) > self.numbers.engine_maximum:
            raise KrakenError("EOrder:Rate limit exceeded")

    def charge_cancel(self, pair: str, age: float, time: float) -> None:
        if self.engine:
            self.engine_level(pair, time)
            self._engine[pair].add(time, self.numbers.engine_decay, cancel_cost(age))
