"""
Frames nobody has seen before: valid, mutated and random ones through the feed's parser and on to a
strategy whose every order is recorded. Nothing may raise, and nothing may be placed because of them.

``python -m tests.fuzz --frames 2000000 [--seed 1]``. Two houses take turns. In the *silent* one no frame
can be a reason to place an order: the limit is reached, and the strategy keeps what it buys. In the
*lively* one orders are wanted, taken and refused; there only a crash is a failure.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any

from gridbot.adapters.exchanges import kraken_parse
from gridbot.adapters.exchanges.kraken_feed import PRIVATE, PUBLIC, KrakenWebSocketService
from gridbot.adapters.exchanges.kraken_limits import KrakenLimits
from gridbot.adapters.exchanges.kraken_socket import Happening
from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.core.registry import resolve
from gridbot.exceptions import InsufficientFunds, OrderFateUnknown, PlacementPaused, TemporaryFailure
from gridbot.infrastructure.database import DBConnect
from gridbot.models.exchange import CreateOrderResponseSchema, OrderInfoSchema, PairBalanceSchema
from gridbot.services.book_sync import BookSync
from gridbot.services.order_desk import OrderDesk
from gridbot.strategies.grid_orders import Surroundings
from tests.fake_kraken import FakeKraken, VirtualClock
from tests.fake_kraken.wire import from_json, to_json
from tests.settings import USERREF, config
from tests.world import BTC_USD, ManualClock

A_HOUSE = 2_000  # frames until a house is built anew
NASTY: tuple[Any, ...] = (
    None, True, False, "", "x", 0, -1, 1, -0.0, 0.1, 1e308, 10**30, "NaN", "Infinity", "-1", "1e999999", "1E-400",
    "0x10", "٣", "\u0000", [], {}, [None], [[]], {"a": {}}, "A" * 5000, 2**63, 2**64, "BTC/USD", "buy", "sell",
    "filled", "trade", "canceled", "snapshot", "2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z",
)  # fmt: skip
RAW_NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"1e999999", b"-1e-999999", b"1e-30", b"9" * 400, b"0.1e5", b"-0")


class DeafFeed(KrakenWebSocketService):
    """The feed without its sockets: frames come from the fuzzer."""

    def start(self, put: Callable[[object], None]) -> None:
        """Nothing is connected."""


class Rest(SimulatedRESTService):
    """Knows the orders of the corpus; records every order that is wanted."""

    rest_altname = "XBTUSD"

    def __init__(self, clock: ManualClock, orders: list[OrderInfoSchema], lively: random.Random | None) -> None:
        exchange = SimulatedExchange(
            BTC_USD, symbol="BTC/USD", fee=Decimal("0.0025"), base_balance=Decimal(0), quote_balance=Decimal(0)
        )
        super().__init__(exchange, name="Fuzz", now=clock.time)
        self.orders = orders
        self.lively = lively
        self.limits = KrakenLimits(clock)
        self.wanted: list[dict[str, Any]] = []
        self.cancelled = 0

    def get_websocket_token(self) -> str:
        return "token"

    def create_order(self, **order: Any) -> CreateOrderResponseSchema:
        self.wanted.append(order)
        fate = self.lively.random() if self.lively else 0.0
        if fate < 0.02:
            raise PlacementPaused("fuzz: not now", 1.0)
        if fate < 0.1:
            raise OrderFateUnknown("fuzz: no answer")
        if fate < 0.2:
            raise InsufficientFunds("fuzz: no money")
        return CreateOrderResponseSchema(txid=f"OFUZZ-{len(self.wanted)}")

    def cancel_order(self, txid: str) -> None:
        self.cancelled += 1

    def get_open_orders(self, userref: int, trades: bool | None = None) -> list[OrderInfoSchema]:
        return self.orders

    def get_pair_balance(self) -> PairBalanceSchema:
        free = Decimal(0) if self.lively is None else Decimal(1000)
        return PairBalanceSchema(base_balance=free, quote_balance=free, base_available=free, quote_available=free)


class Corpus:
    """Frames of a fake Kraken in action, and the orders they are about."""

    def __init__(self) -> None:
        fake = FakeKraken(VirtualClock(), balances={"ZUSD": "100000", "XXBT": "5"}, prices={"BTC/USD": "50000.0"})
        public, private = fake.connect(private=False), fake.connect(private=True)
        fake.tokens["token"] = fake.clock.time()
        public.receive(_subscribe({"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "trades"}))
        orders = [
            fake.place_by_hand("BTC/USD", side, "0.002", price, userref=ref)
            for ref in (USERREF, 7)
            for side, price in (("buy", "49500.0"), ("buy", "49000.0"), ("buy", "48500.0"), ("sell", "50500.0"))
        ]
        self.open = [
            kraken_parse.order_info(o.txid, from_json(to_json(o.row()))) for o in orders if o.userref == USERREF
        ]
        private.receive(_subscribe({"channel": "executions", "snap_orders": True, "token": "token"}))
        self.snapshot = [frame for frame in _texts(private.out) if '"snapshot"' in frame][-1]
        fake.fill(orders[0].txid, "0.001")
        fake.set_price("BTC/USD", "49400.0")
        fake.cancel(orders[1].txid)
        fake.set_price("BTC/USD", "50600.0")
        fake.place_by_hand("BTC/USD", "buy", "0.002", "40000.0", userref=USERREF)
        fake.heartbeat()
        self.ticker = next(frame for frame in _texts(public.out) if '"ticker"' in frame and '"last"' in frame)
        self.frames = {PUBLIC: _texts(public.out), PRIVATE: _texts(private.out)}


def _subscribe(params: dict[str, Any]) -> str:
    return json.dumps({"method": "subscribe", "params": params, "req_id": 1})


def _texts(frames: Any) -> list[str]:
    return [frame for frame in frames if isinstance(frame, str)]


class House:
    """One feed and one strategy; ``hear`` is what the main loop does with a frame."""

    def __init__(self, corpus: Corpus, chance: random.Random, lively: bool) -> None:
        self.corpus = corpus
        self.clock = ManualClock()
        self.rest = Rest(self.clock, corpus.open, chance if lively else None)
        self.feed = DeafFeed(self.rest, clock=self.clock)
        desk = OrderDesk(DBConnect(":memory:"), self.rest, self.clock, USERREF, lambda _event: None)
        name = chance.choice(("GridHODL", "GridSell", "SWING", "cDCA")) if lively else "cDCA"
        self.strategy = resolve("strategy", name)(
            Surroundings(
                config=config(strategy=name),
                rest_api=self.rest,
                websocket=self.feed,
                desk=desk,
                sync=BookSync(desk, self.rest, USERREF).run,
                clock=self.clock,
                publish=lambda _event: None,
                report=lambda: "",
            )
        )
        self.strategy.run(lambda _frame: None)
        if not lively:
            self.strategy._terms.settings = replace(self.strategy.settings, max_investment=Decimal(1))
        self.numbers = {PUBLIC: 0, PRIVATE: 0}
        for name in self.numbers:
            self.connect(name)

    def connect(self, name: str) -> None:
        """A new connection with a good beginning."""
        self.numbers[name] += 1
        self.hear(name, Happening.CONNECTED)
        first = self.corpus.snapshot if name == PRIVATE else self.corpus.ticker
        self.hear(name, first.encode())

    def hear(self, name: str, payload: bytes | Happening) -> bool:
        """True when the frame said something."""
        messages = self.feed.on_message((name, self.numbers[name], payload))
        for message in messages:
            try:
                self.strategy.on_message(message)
            except TemporaryFailure:
                continue
        return bool(messages)

    def is_dead(self, name: str) -> bool:
        line = self.feed._lines[name]
        return line.dead and line.number == self.numbers[name]

    def pass_time(self, seconds: float = 1) -> None:
        self.clock.now += seconds
        self.strategy.on_timer()

    def in_sequence(self, frame: str) -> str:
        """A valid frame of the private channel with the number that comes next."""
        head, found, tail = frame.rpartition('"sequence":')
        if not found:
            return frame
        rest = tail.lstrip("0123456789 ")
        return f"{head}{found}{self.feed._lines[PRIVATE].expected}{rest}"


class Mutator:
    """Makes one frame out of another."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def mutated(self, frame: str) -> bytes:
        chance = self.chance
        if chance.random() < 0.5:
            return self._in_json(frame)
        data = bytearray(frame.encode())
        for _ in range(chance.choice((1, 1, 1, 2, 5, 20))):
            self._in_bytes(data)
        return bytes(data)

    def noise(self) -> bytes:
        chance = self.chance
        kind = chance.randrange(4)
        if kind == 0:
            return chance.randbytes(chance.randrange(200))
        if kind == 1:
            return b"[" * chance.randrange(1, 3000)
        if kind == 2:
            return json.dumps(self._anything(4)).encode()
        return chance.choice((b"", b"null", b"0", b'"x"', b"{}", b"[]", b"\xff\xfe", b"true", *RAW_NUMBERS))

    def _in_bytes(self, data: bytearray) -> None:
        chance = self.chance
        if not data:
            return
        at = chance.randrange(len(data))
        match chance.randrange(6):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randrange(1, 30)]
            case 2:
                data[at:at] = chance.randbytes(chance.randrange(1, 8))
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : at + chance.randrange(1, 60)]
            case _:
                digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
                if digits:
                    i = chance.choice(digits)
                    data[i : i + 1] = chance.choice((*RAW_NUMBERS, b"%d" % chance.randrange(10)))

    def _in_json(self, frame: str) -> bytes:
        tree = json.loads(frame)
        for _ in range(self.chance.choice((1, 1, 2, 4))):
            self._in_tree(tree)
        return json.dumps(tree).encode()

    def _in_tree(self, node: Any) -> None:
        """Walk down by chance and change what is found there."""
        chance = self.chance
        while isinstance(node, dict | list) and node:
            key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
            child = node[key]
            if isinstance(child, dict | list) and child and chance.random() < 0.8:
                node = child
                continue
            match chance.randrange(5):
                case 0:
                    del node[key]
                case 1 if isinstance(node, dict):
                    node[chance.choice(("channel", "type", "data", "symbol", "x", "error", "method"))] = child
                case 2 if isinstance(node, list):
                    node.append(child)
                case 3 if isinstance(child, int | float):
                    node[key] = child * chance.choice((-1, 0, 1000, 1e-9, 1.0001))
                case _:
                    node[key] = deepcopy(chance.choice(NASTY))
            return

    def _anything(self, depth: int) -> Any:
        chance = self.chance
        if depth == 0 or chance.random() < 0.4:
            return deepcopy(chance.choice(NASTY))
        names = ("channel", "type", "data", "method", "sequence", "symbol", "last", "order_id", "exec_type")
        if chance.random() < 0.7:
            return {chance.choice(names): self._anything(depth - 1) for _ in range(chance.randrange(4))}
        return [self._anything(depth - 1) for _ in range(chance.randrange(3))]


class Fuzz:
    """Runs frames; ``failures`` holds what went wrong with the frame that did it."""

    def __init__(self, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        self.corpus = Corpus()
        self.mutator = Mutator(self.chance)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self, frames: int, most_failures: int = 5) -> None:
        done = 0
        while done < frames and len(self.failures) < most_failures:
            house = House(self.corpus, self.chance, lively=bool(done // A_HOUSE % 2))
            done += self._one_house(house, min(A_HOUSE, frames - done))

    def _one_house(self, house: House, frames: int) -> int:
        for number in range(1, frames + 1):
            name = PRIVATE if self.chance.random() < 0.7 else PUBLIC
            if house.is_dead(name):
                house.connect(name)
                if self.chance.random() < 0.3:
                    house.pass_time(120)  # the book is compared again
            kind, payload = self._frame(house, name)
            self.counts[kind] += 1
            try:
                self.counts["understood"] += house.hear(name, payload)
                if number % 50 == 0:
                    house.pass_time()
            except Exception:  # noqa: BLE001 - whatever it is, it is the finding
                self._failed(payload, traceback.format_exc(limit=-6))
                return number
            if house.rest.lively is None and house.rest.wanted:
                self._failed(payload, f"placed because of it: {house.rest.wanted}")
                return number
        self.counts["orders wanted in the lively house"] += len(house.rest.wanted)
        self.counts["cancellations"] += house.rest.cancelled
        return frames

    def _frame(self, house: House, name: str) -> tuple[str, bytes]:
        roll = self.chance.random()
        if roll < 0.1:
            return "random", self.mutator.noise()
        frame = self.chance.choice(self.corpus.frames[name])
        if name == PRIVATE and self.chance.random() < 0.9:
            frame = house.in_sequence(frame)
        if roll < 0.3:
            return "valid", frame.encode()
        return "mutated", self.mutator.mutated(frame)

    def _failed(self, payload: bytes, what: str) -> None:
        self.failures.append(f"{payload[:2000]!r}\n{what}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    fuzz, began = Fuzz(options.seed), time.monotonic()
    fuzz.run(options.frames)
    spent = time.monotonic() - began
    counts = ", ".join(f"{what} {count}" for what, count in sorted(fuzz.counts.items()))
    sys.stdout.write(f"{counts}\n{len(fuzz.failures)} failures in {spent:.0f} s\n")
    sys.stdout.write("\n".join(fuzz.failures))
    return 1 if fuzz.failures else 0


if __name__ == "__main__":
    sys.exit(main())
