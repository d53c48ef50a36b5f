"""
Kraken's request counters, kept on our side so that Kraken never has to refuse: too many refusals lock the key. Counters
rise with every request and fall with time; nothing waits here, and nothing uses the network.
"""

from collections.abc import Callable

from gridbot.interfaces.clock import IClock

# REST calls that do not cost 1. Older pages of Kraken say 2 where this says 4; the higher cost is the safe reading.
# Placing and cancelling are counted by the matching engine instead.
REST_COSTS = {"ClosedOrders": 4, "TradesHistory": 4, "Ledgers": 4, "AddOrder": 0, "CancelOrder": 0}
COMPARISON_COST = 8  # OpenOrders, ClosedOrders, QueryOrders, QueryTrades, BalanceEx

ADD_COST = 1  # points; also for an order that is refused
# What cancelling costs by the age of the order: (below this age in seconds, cost in points).
CANCEL_COSTS = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))
MARGIN = 3.0  # kept free after a refusal, so that the next request is not the next refusal
OLD = 300.0  # seconds after which a cancellation is free


# (maximum, decay per second) of the REST counter and of the engine's counter, for each trading tier.
STARTER = (15.0, 0.33), (60.0, 1.0)
# Kraken shows the tier only in ``maxratecount`` of the executions channel, which is the engine's maximum.
TIERS = (STARTER, ((20.0, 0.5), (125.0, 2.34)), ((20.0, 1.0), (180.0, 3.75)))


def cancel_cost(age: float) -> int:
    """
    What cancelling an order of ``age`` seconds adds to the engine counter.

    >>> cancel_cost(4.9), cancel_cost(5), cancel_cost(300)
    (8, 6, 0)
    """
    return next((cost for seconds, cost in CANCEL_COSTS if age < seconds), 0)


class Counter:
    """Rises by the cost of each request, falls by ``decay`` per second, must stay at or below ``maximum``."""

    def __init__(self, now: Callable[[], float], maximum: float, decay: float) -> None:
        self._now = now
        self.maximum = maximum
        self._decay = decay
        self._value = 0.0
        self._at = now()

    @property
    def value(self) -> float:
        """The present value of the counter."""
        now = self._now()
        self._value = max(0.0, self._value - (now - self._at) * self._decay)
        self._at = now
        return self._value

    def seconds_until(self, cost: float) -> float:
        """Seconds until a request of ``cost`` fits; 0 when it fits now."""
        missing = self.value + cost - self.maximum
        return max(0.0, missing / self._decay)

    def take(self, cost: float) -> None:
        """Count a request that is being sent."""
        self._value = self.value + cost

    def fill(self) -> None:
        """
        Kraken says that the limit is reached: our count was too low, by an unknown amount. Set it above the maximum.
        """
        self._value = max(self.value, self.maximum + MARGIN)

    def set_limits(self, maximum: float, decay: float) -> None:
        """Another tier applies from now on."""
        self._value = self.value
        self.maximum = maximum
        self._decay = decay


class KrakenLimits:
    """The REST counter of the key, the engine counter of the pair, and the ages of young orders."""

    def __init__(self, clock: IClock) -> None:
        self._now = clock.monotonic
        self.rest, self.engine = (Counter(self._now, maximum, decay) for maximum, decay in STARTER)
        self._placed: dict[str, float] = {}  # txid -> when, steady clock; orders younger than 300 s only

    def raise_to(self, maxratecount: int) -> None:
        """Switch to the tier with this ``maxratecount``, but never to a lower tier than the present one."""
        for rest, engine in TIERS:
            if self.engine.maximum < engine[0] <= maxratecount:
                self.rest.set_limits(*rest)
                self.engine.set_limits(*engine)

    def order_seen(self, txid: str, age: float) -> None:
        """Remember an order that is ``age`` seconds old, for the cost of cancelling it."""
        now = self._now()
        if age < OLD:
            self._placed.setdefault(txid, now - age)
        if len(self._placed) > 100:
            self._placed = {t: at for t, at in self._placed.items() if now - at < OLD}

    def order_gone(self, txid: str) -> None:
        """Forget an order that was cancelled: cancelling it again costs nothing."""
        self._placed.pop(txid, None)

    def cost_of_cancelling(self, txid: str) -> int:
        """Points for cancelling ``txid`` now; an order never seen counts as old, so 0."""
        placed = self._placed.get(txid)
        return 0 if placed is None else cancel_cost(self._now() - placed)
