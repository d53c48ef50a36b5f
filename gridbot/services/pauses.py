"""Growing pauses: what was refused is tried again when it can succeed, not on every ticker; and what was told once."""

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
    >>> pauses.begin("buys", why="EOrder:Insufficient funds"), pauses.why("buys"), pauses.why("sells")
    (20.0, 'EOrder:Insufficient funds', '')
    """

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._length: dict[str, float] = {}
        self._why: dict[str, str] = {}

    def begin(
        self,
        what: str,
        at_least: float = 0.0,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
        why: str = "",
    ) -> float:
        """
        Pause ``what``; returns for how many seconds. ``at_least``: seconds the exchange asked for; ``why``: the words
        of the refusal, for the owner.
        """
        length = max(min(self._length.get(what, 0.0) * 2 or first, longest), at_least)
        self._length[what] = min(length, longest)
        self._until[what] = self._clock.monotonic() + length
        self._why[what] = why
        return length

    def over(self, what: str) -> bool:
        """True when ``what`` may be tried."""
        return what not in self._until or self._clock.monotonic() >= self._until[what]

    def known(self, what: str) -> bool:
        """True while ``what`` has been refused and has not succeeded since."""
        return what in self._until

    def why(self, what: str) -> str:
        """Why ``what`` was last refused; "" if it has succeeded since, or if no reason was given."""
        return self._why.get(what, "")

    def end(self, what: str) -> None:
        """``what`` succeeded: the next pause is a short one again."""
        if what in self._until:
            del self._until[what], self._length[what], self._why[what]

    def cut_short(self, whats: Iterable[str]) -> None:
        """Something changed that may let these succeed: each may be tried once more now."""
        now = self._clock.monotonic()
        for what in whats:
            if what in self._until:
                self._until[what] = min(self._until[what], now)


class Notices:
    """
    What the owner was told and is not over yet: told once.

    >>> notices = Notices()
    >>> notices.is_new("limit"), notices.is_new("limit"), "limit" in notices
    (True, False, True)
    >>> notices.over("limit"); notices.is_new("limit")
    True
    """

    def __init__(self) -> None:
        self._open: set[str] = set()

    def __contains__(self, what: str) -> bool:
        return what in self._open

    def is_new(self, what: str) -> bool:
        """True when it must be told now; it then counts as told."""
        is_new = what not in self._open
        self._open.add(what)
        return is_new

    def over(self, what: str) -> None:
        """The next time it is new again."""
        self._open.discard(what)
