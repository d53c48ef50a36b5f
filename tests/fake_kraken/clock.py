"""
Clocks for the fake exchange. Seconds since 1970 as float: time is not money.
"""

from __future__ import annotations

import threading
import time


class SystemClock:
    """The clock of the machine; for the socket server."""

    def time(self) -> float:
        return time.time()


class VirtualClock:
    """A clock that stands still until it is told to go on; for tests in process."""

    def __init__(self, start: float = 1_790_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move forward; a negative step is how a test sets the clock back."""
        with self._lock:
            self._now += seconds
            return self._now

    def sleep(self, seconds: float) -> None:
        """Drop-in for ``time.sleep``: nobody waits."""
        self.advance(max(0.0, seconds))
