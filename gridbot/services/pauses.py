"""Growing pauses: what was refused is tried again when it can succeed, not on every ticker."""

from collections.abc import Iterable

from gridbot.interfaces.clock import IClock

FIRST_PAUSE = 10.0  # seconds
LONGEST_PAUSE = 3600.0


class Pauses:
    """
    One pause per thing that was refused, each twice as long as the one before.

    >>> class Clock:
    ...     now = 0.0
    ...     def monotonic(self): return self.now
    >>> clock = Clock(); pauses = Pauses(clock)
    >>> pauses.begin("buys"), pauses.over("buys")
    (10.0, False)
    >>> clock.now = 10.0; pauses.over("buys")
    True
    >>> pauses.begin("buys")
    20.0
    """

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._length: dict[str, float] = {}

    def begin(
        self, what: str, at_least: float = 0.0, first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE
    ) -> float:
        """Pause ``what``; returns for how many seconds. ``at_least``: what the exchange asked for."""
        length = max(min(self._length.get(what, 0.0) * 2 or first, longest), at_least)
        self._length[what] = min(length, longest)
        self._until[what] = self._clock.monotonic() + length
        return length

    def over(self, what: str) -> bool:
        """True when ``what`` may be tried."""
        return what not in self._until or self._clock.monotonic() >= self._until[what]

    def known(self, what: str) -> bool:
        """True while ``what`` has been refused and has not succeeded since."""
        return what in self._until

    def end(self, what: str) -> None:
        """``what`` succeeded: the next pause is a short one again."""
        self._until.pop(what, None)
        self._length.pop(what, None)

    def cut_short(self, whats: Iterable[str]) -> None:
        """Something changed that may let these succeed: each may be tried once more now."""
        now = self._clock.monotonic()
        for what in whats:
            if what in self._until:
                self._until[what] = min(self._until[what], now)
