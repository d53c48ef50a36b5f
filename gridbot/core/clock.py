"""The machine's clock, and waiting that a request to stop ends at once."""

import threading
import time
from collections.abc import Callable

from gridbot.interfaces.clock import IClock


class SystemClock(IClock):
    """Real time. ``stopping`` is set by whoever wants the bot to end (a signal, the engine)."""

    def __init__(self, stopping: threading.Event | None = None) -> None:
        self._stopping = stopping or threading.Event()
        self._maker = threading.get_ident()
        # Told how long, when the thread that made the clock is about to wait. The others say nothing of its life.
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
