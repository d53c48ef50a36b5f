"""The machine's clock, and waits that end at once when the bot is asked to stop."""

import threading
import time
from collections.abc import Callable

from gridbot.interfaces.clock import IClock


class SystemClock(IClock):
    """Real time. ``stopping``: set to ask the bot to stop; a signal handler does it."""

    def __init__(self, stopping: threading.Event | None = None) -> None:
        self._stopping = stopping or threading.Event()
        self._maker = threading.get_ident()
        # Called with the seconds before each wait of the thread that made the clock, for the heartbeat. The waits of
        # other threads do not show that this one is alive.
        self.before_wait: Callable[[float], None] = lambda _seconds: None

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        if threading.get_ident() == self._maker:
            self.before_wait(seconds)
        return self._stopping.wait(max(0.0, seconds))

    def stopping(self) -> bool:
        return self._stopping.is_set()
