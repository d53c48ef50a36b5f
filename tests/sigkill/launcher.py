"""
gridbot.py with a short memory for lost orders: an order of unknown fate is given up after seconds
instead of a minute, and a killed bot may start again at once. Everything else is the real thing.

GRIDBOT_TEST_GUARD       set: failures are followed by the pauses of the product
GRIDBOT_TEST_HASTE       set: questions are asked once, and a start is tried again after half a second
GRIDBOT_TEST_WALL_CLOCK  unix seconds at which this machine's wall clock shall stand at the start; no order of an
                         earlier process is waited for
"""

import os
import sys
import time
from functools import partialmethod

from gridbot.adapters.exchanges import kraken_rest, kraken_service
from gridbot.core import clock, engine, restart_guard
from gridbot.core.cli import main
from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.services import order_desk, pauses
from gridbot.strategies import grid_sync


def hasten() -> None:
    """Shorten the product's patience, as the environment asks."""
    IExchangeRESTService.answers_lag = 2.0
    order_desk.DEADLINE = grid_sync.DEADLINE = 5.0  # Kraken tells whole seconds, and wants two at least
    if "GRIDBOT_TEST_GUARD" not in os.environ:
        restart_guard.PAUSES = (0.0,)
    if "GRIDBOT_TEST_HASTE" in os.environ:
        engine.START_PAUSE = engine.LONGEST_START_PAUSE = 0.5
        kraken_rest.ATTEMPTS = 1
        kraken_service.LONGEST_PAUSE = 0.5
    if starts_at := os.environ.get("GRIDBOT_TEST_WALL_CLOCK"):
        offset = float(starts_at) - time.time()
        grid_sync.DEADLINE = grid_sync.SETTLE_PAUSE = 0.5
        pauses.Pauses.begin = partialmethod(pauses.Pauses.begin, first=0.5)  # type: ignore[assignment]
        clock.SystemClock.time = lambda _self: time.time() + offset  # type: ignore[method-assign]


if __name__ == "__main__":
    hasten()
    sys.exit(main())
