"""The clock: the only way to time, handed in from outside, so that tests, backtest and replay own it."""

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
        """Wait, at most so long. True: a stop was requested, do not go on waiting."""

    @abstractmethod
    def stopping(self) -> bool:
        """True once a stop was requested."""
