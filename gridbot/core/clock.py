"""The machine's clock, and waiting that a request to stop ends at once."""

import threading
import time

from gridbot.interfaces.clock import IClock


class SystemClock(IClock):
    """Real time. ``stopping`` is set by whoever wants the bot to end (a signal, the engine)."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def time(self) -> float:
        """Unix seconds of this machine's wall clock: may be wrong and may step."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that only ever go forward."""
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Wait, at most so long. True: a stop was requested."""
        return self._stopping.wait(max(0.0, seconds))

    def stopping(self) -> bool:
        """True once a stop was requested."""
        return self._stopping.is_set()
