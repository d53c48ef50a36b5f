"""
A Kraken to test against: spot REST, websocket v2 and an account whose money adds up, on the loopback only.

Start with exchange.py; faults.py lists what can be made to go wrong, in_process.py and
server.py are the two ways to reach it.
"""

from tests.fake_kraken.clock import SystemClock, VirtualClock
from tests.fake_kraken.exchange import TEST_KEY, TEST_SECRET, TRADING_PERMISSIONS, ApiKey, FakeKraken
from tests.fake_kraken.faults import CutReply, Delay, Drop, Fault, Reply
from tests.fake_kraken.rest import signature

__all__ = [
    "TEST_KEY",
    "TEST_SECRET",
    "TRADING_PERMISSIONS",
    "ApiKey",
    "CutReply",
    "Delay",
    "Drop",
    "FakeKraken",
    "Fault",
    "Reply",
    "SystemClock",
    "VirtualClock",
    "signature",
]
