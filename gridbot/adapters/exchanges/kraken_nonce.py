"""
The nonce of an API key: a number that only ever grows, also across restarts and wrong clocks.

Kraken refuses a private call whose nonce is not larger than the last one of that key. The clock of a Raspberry Pi may
wake up in 1970, so a mark on disk says that all numbers below it may be used already. The mark runs ten minutes ahead
of the numbers in use: it is written a few times an hour, not per call. Not safe for several threads: the caller holds a
lock around "take nonce, send, read reply".
"""

import errno
import logging
import os
from pathlib import Path

from gridbot.exceptions import ConfigurationError, TemporaryFailure
from gridbot.interfaces.clock import IClock

LOG = logging.getLogger(__name__)

NANOSECONDS = 1_000_000_000
SKIP = 60 * NANOSECONDS
RESERVED_AHEAD = 10 * 60 * NANOSECONDS
# Kraken reads an unsigned 64 bit integer; what lies beyond this cannot be a time in nanoseconds.
LARGEST = 2**63
MOST_DIGITS = 40  # Python refuses to read thousands of digits, and a damaged file may hold them


class NonceSource:
    """
    Nanoseconds since 1970, or the last number plus one while the clock is behind it.

    path  file of the mark; it holds one number and nothing of the key. None: no memory across restarts
    """

    def __init__(self, clock: IClock, path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._last = 0
        self.left_reserved = False  # the last process ended without ``close``, at most ten minutes ago
        self._mark: int | None = None  # None: the file was not read yet

    def next(self) -> int:
        """
        A nonce larger than all before. Raises ConfigurationError when the file cannot be read or written at the start,
        TemporaryFailure when the disk is full then. Later a failed write is only logged, because a number from memory
        still works.
        """
        first = self._mark is None
        if self._mark is None:
            self._mark = self._last = max(self._read(), self._last)
            self.left_reserved = self._mark > self._clock.time() * NANOSECONDS
        self._last = max(int(self._clock.time() * NANOSECONDS), self._last + 1)
        if self._last >= self._mark:
            self._reserve(self._last + RESERVED_AHEAD, first)
        return self._last

    def skip_ahead(self, exchange_time: float) -> None:
        """
        A nonce was refused: go on one minute above the last one, and above Kraken's own clock (``exchange_time``, unix
        seconds; 0 when unknown), in case our clock and the mark are both wrong.
        """
        self._last = min(max(self._last, int(exchange_time * NANOSECONDS)) + SKIP, LARGEST)

    def close(self) -> None:
        """Give back what was reserved and not used, so that frequent restarts do not run ahead of the clock."""
        if self._mark is not None:
            self._reserve(self._last, first=False)

    def _reserve(self, mark: int, first: bool) -> None:
        self._mark = mark
        if self._path is None:
            return
        try:
            _write_atomically(self._path, f"{mark}\n")
        except OSError as exc:
            if first and exc.errno in (errno.ENOSPC, errno.EDQUOT):
                self._mark = None  # the next attempt is a first one again
                raise TemporaryFailure(f"{self._path}: cannot be written: the disk is full. Free some space") from exc
            if first:
                raise ConfigurationError(_cannot(self._path, "written", exc)) from exc
            LOG.warning(_cannot(self._path, "written", exc))

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            text = self._path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return 0
        except OSError as exc:
            raise ConfigurationError(_cannot(self._path, "read", exc)) from exc
        if text.isascii() and text.isdigit() and len(text) < MOST_DIGITS and int(text) < LARGEST:
            return int(text)
        LOG.warning("%s does not hold a number any more; the nonce starts again from the clock", self._path)
        return 0


def _cannot(path: Path, verb: str, exc: OSError) -> str:
    return (
        f"{path}: cannot be {verb} ({exc.strerror}). The bot keeps the nonce of its API key there, because "
        f"Kraken refuses numbers that go back. Make the directory writable for the user who runs the bot."
    )


def _write_atomically(path: Path, text: str) -> None:
    """After a power cut the file holds the old number or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    with open(draft, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
