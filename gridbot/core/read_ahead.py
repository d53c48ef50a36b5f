"""Reads the files in a second process while the first runs the backtest: reading is a third of a backtest's time."""

import os
import pickle
import signal
from collections.abc import Iterator

from gridbot.core.candles import Block, MarketData
from gridbot.exceptions import GridBotError


class ReadAhead(MarketData):
    """MarketData whose blocks are read and checked by a second process, ahead by as much as a pipe holds."""

    _progress = 0.0

    def blocks(self) -> Iterator[Block]:
        """As MarketData. Raises GridBotError if the second process was killed."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)  # else the second process would not notice that the first reads no more
            self._read_for(writer)
        os.close(writer)
        try:
            with open(reader, "rb") as pipe:
                while (found := pickle.load(pipe)) is not None:
                    if isinstance(found, Exception):
                        raise found
                    self._progress, block = found
                    yield block
        except EOFError:
            raise GridBotError("--data: the process that reads the files was ended; start again") from None
        finally:
            os.waitpid(child, 0)  # ends with the pipe

    def _read_for(self, writer: int) -> None:
        """The work of the second process: send all blocks, then exit. Never returns."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process handles Ctrl-C
        try:
            with open(writer, "wb") as pipe:
                try:
                    for block in super().blocks():
                        pickle.dump((super().progress, block), pipe, pickle.HIGHEST_PROTOCOL)
                    pickle.dump(None, pipe)
                except BrokenPipeError:
                    raise
                except Exception as exc:  # noqa: BLE001 - the first process raises it
                    pickle.dump(exc, pipe)
        finally:
            os._exit(0)  # without clean-up: what the fork inherited must not be written or closed twice

    @property
    def progress(self) -> float:
        return self._progress


def can_read_ahead() -> bool:
    """True if there is a second processor, and the system has fork."""
    return hasattr(os, "fork") and (os.cpu_count() or 1) > 1
