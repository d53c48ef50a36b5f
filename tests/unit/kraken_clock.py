"""A clock for the Kraken tests: it stands still, waiting moves it, and every wait is written down."""

from gridbot.interfaces.clock import IClock


class StillClock(IClock):
    """Nobody sleeps. ``stop_after`` waits a stop is requested (None: never)."""

    def __init__(self, start: float = 1_790_000_000.0, stop_after: int | None = None) -> None:
        self.now = start
        self.steady = 1000.0
        self.waits: list[float] = []
        self.stop_after = stop_after

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.steady

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.advance(seconds)
        return self.stopping()

    def stopping(self) -> bool:
        return self.stop_after is not None and len(self.waits) >= self.stop_after

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.steady += seconds
