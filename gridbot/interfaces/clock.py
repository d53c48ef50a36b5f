"""The clock: the only way to the time, passed in so that tests, backtest and replay control it."""

from abc import ABC, abstractmethod


class IClock(ABC):
    """Wall clock, steady clock, and waiting that a stop ends early."""

    @abstractmethod
    def time(self) -> float:
        """Unix seconds of this machine's wall clock: may be wrong and may step."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds that only ever go forward; the start is arbitrary."""

    @abstractmethod
    def wait(self, seconds: float) -> bool:
        """Wait for so many seconds at most. True if a stop was requested: do not go on waiting."""

    @abstractmethod
    def stopping(self) -> bool:
        """True once a stop was requested."""
