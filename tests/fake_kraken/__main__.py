"""
The fake exchange as a process: ``python -m tests.fake_kraken --price BTC/USD=50000``.

Prints one JSON line with its URLs and the example key, then serves until ``POST
/control/stop``, SIGINT or SIGTERM. See control.py for the commands.
"""

from __future__ import annotations

import argparse
import signal
import sys

from tests.fake_kraken.exchange import TEST_KEY, TEST_SECRET, FakeKraken
from tests.fake_kraken.limits import TIERS
from tests.fake_kraken.server import FakeKrakenServer
from tests.fake_kraken.wire import to_json


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_kraken", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--price", action="append", default=[], metavar="PAIR=PRICE", help="default BTC/USD=50000.0")
    parser.add_argument(
        "--balance", action="append", default=[], metavar="ASSET=AMOUNT", help="default ZUSD=10000, XXBT=1"
    )
    parser.add_argument("--tier", choices=sorted(TIERS), default="intermediate")
    parser.add_argument("--no-limits", action="store_true", help="no rate limits at all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    prices = dict(item.rsplit("=", 1) if "=" in item else ("BTC/USD", item) for item in options.price)
    balances = dict(item.split("=", 1) for item in options.balance) or None
    fake = FakeKraken(balances=balances, prices=prices, tier=options.tier, seed=options.seed)
    if options.no_limits:
        fake.limits.off()
    with FakeKrakenServer(fake, options.port) as server:
        urls = {"rest_url": server.rest_url, "ws_url": server.ws_url, "ws_auth_url": server.ws_auth_url}
        sys.stdout.write(to_json(urls | {"api_key": TEST_KEY, "api_secret": TEST_SECRET}) + "\n")
        sys.stdout.flush()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.stopping.set())
        while not server.stopping.wait(0.2):
            pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
