"""
A fake Kraken on the loopback, a market that moves, and a bot process that can be shot at a chosen moment.

The moments are those of the exchange: "the order has arrived", "it is taken", "the answer is out", "a
fill was told". What is promised for every single moment is checked there too, when an order is taken.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridbot.core import heartbeat
from tests.fake_kraken import TEST_KEY, TEST_SECRET, FakeKraken
from tests.fake_kraken.faults import Drop, Outcome
from tests.fake_kraken.orders import Order, Trade
from tests.fake_kraken.server import FakeKrakenServer
from tests.settings import USERREF, config_ini

ROOT = Path(__file__).parents[2]
FOREIGN = 7

MORE = """\
[kraken]
api_public_key = {key}
api_secret_key = {secret}
rest_url = {rest}
ws_url = {ws}
ws_auth_url = {ws_auth}
[database]
path = bot.db
[logging]
level = INFO
"""

LOST, TAKEN, ANSWERED = "arrived, then lost", "taken, not answered", "answered"


@dataclass
class Aim:
    """Where to shoot: the ``nth`` call of ``method`` at ``moment``; method "fill": the nth fill that is told."""

    method: str
    moment: str = TAKEN
    nth: int = 1
    delay: float = 0.0  # seconds between the moment and the shot
    hit: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return f"{self.method} {self.moment}" if self.method != "fill" else "a fill was told"


class Ground:
    """One exchange, one bot, one directory. Context manager."""

    def __init__(
        self, directory: Path, strategy: str = "GridHODL", n: int = 5, max_investment: int = 2000, seed: int = 1
    ) -> None:
        self.directory = directory
        self.strategy, self.n, self.max_investment = strategy, n, Decimal(max_investment)
        self.random = random.Random(seed)
        self.fake = FakeKraken(balances={"ZUSD": "100000", "XXBT": "1"}, prices={"BTC/USD": "50000.0"}, seed=seed)
        self.fake.limits.off()
        self.server = FakeKrakenServer(self.fake)
        self.aim: Aim | None = None
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()
        self.process: subprocess.Popen[bytes] | None = None
        self._level = 50000.0
        self._ended = threading.Event()
        self.market_moves = threading.Event()
        self._watch_the_exchange()

    # ---- the exchange ----------------------------------------------------------------------------

    def __enter__(self) -> Ground:
        self.server.__enter__()
        self.write_config(self.server)
        self.foreign = [
            self.fake.place_by_hand("BTC/USD", "buy", "0.01", "30000.0", userref=FOREIGN),
            self.fake.place_by_hand("BTC/USD", "sell", "0.01", "90000.0"),
        ]
        threading.Thread(target=self._move_market, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self.kill()
        self.server.stop()
        Path(heartbeat.sign_path(self.database)).unlink(missing_ok=True)

    def write_config(self, server: FakeKrakenServer, key: str = TEST_KEY) -> None:
        """config.ini for a bot on ``server``."""
        path = self.directory / "config.ini"
        more = MORE.format(
            key=key, secret=TEST_SECRET, rest=server.rest_url, ws=server.ws_url, ws_auth=server.ws_auth_url
        )
        path.write_text(
            config_ini(
                more,
                exchange="Kraken",
                dry_run="no",
                userref=USERREF,
                strategy=self.strategy,
                n_open_buy_orders=self.n,
                max_investment=self.max_investment,
            )
        )
        path.chmod(0o600)

    def _watch_the_exchange(self) -> None:
        fake, handle, submit, told = self.fake, self.fake.handle_http, self.fake.submit, self.fake.on_execution

        def watched_handle(method: str, path: str, headers: dict[str, str], body: bytes | str) -> Outcome:
            call = path.partition("?")[0].rsplit("/", 1)[-1]
            aim = self._takes_aim_at(call)
            if aim is not None and aim.moment == LOST:
                self._shoot(aim)
                return Drop(False)
            outcome = handle(method, path, headers, body)
            if aim is not None and aim.moment == TAKEN:
                self._shoot(aim)
            elif aim is not None:
                threading.Timer(aim.delay, self._shoot, [aim]).start()
            return outcome

        def watched_submit(order: Order) -> None:
            submit(order)
            if order.userref == USERREF and order.is_open:
                self._check_order(order)

        def watched_told(kind: str, order: Order, trade: Trade | None = None) -> None:
            told(kind, order, trade)
            if kind == "trade" and order.userref == USERREF:
                self.counts["fills"] += 1
                if (aim := self._takes_aim_at("fill")) is not None:
                    threading.Timer(aim.delay, self._shoot, [aim]).start()

        fake.handle_http = watched_handle  # type: ignore[method-assign]
        fake.submit = watched_submit  # type: ignore[method-assign]
        fake.on_execution = watched_told  # type: ignore[method-assign]

    def _takes_aim_at(self, method: str) -> Aim | None:
        aim = self.aim
        if aim is None or aim.method != method or aim.nth <= 0:
            return None
        aim.nth -= 1
        return aim if aim.nth == 0 else None

    def _shoot(self, aim: Aim) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        aim.hit.set()

    def _check_order(self, order: Order) -> None:
        """What must hold whenever the exchange takes an order of ours; under the exchange's lock."""
        self.counts[f"{order.side}s taken"] += 1
        if order.side != "buy":
            return
        ours = self.fake.open_orders(USERREF)
        buys = [o for o in ours if o.side == "buy"]
        if len(buys) > self.n:
            self.broken.append(f"{len(buys)} buys open, {self.n} are allowed")
        for other in buys:
            high, low = max(order.price, other.price), min(order.price, other.price)
            if other is not order and high / low - 1 < Decimal("0.005"):
                self.broken.append(f"level twice: a buy @ {order.price} beside the one @ {other.price}")
        invested = sum((o.price * o.volume for o in ours), Decimal(0))
        if invested > self.max_investment:
            self.broken.append(f"{invested} invested, {self.max_investment} are allowed")

    # ---- the market ------------------------------------------------------------------------------

    def _move_market(self) -> None:
        while not self._ended.wait(0.02):
            if not self.market_moves.is_set():
                continue
            self._level *= 1 + self.random.gauss((50000 - self._level) / 50000 * 0.01, 0.0025)
            with self.fake.lock:
                self.fake.set_price("BTC/USD", f"{self._level:.1f}", self.random.choice(("before", "after")))
                if self.random.random() < 0.02:
                    self._fill_a_part()

    def _fill_a_part(self) -> None:
        candidates = [o for o in self.fake.open_orders(USERREF) if o.remaining > Decimal("0.0005")]
        if candidates:
            order = self.random.choice(candidates)
            self.fake.fill(order.txid, (order.remaining * Decimal("0.4")).quantize(Decimal("1E-8")))
            self.counts["partial fills"] += 1

    # ---- the bot ---------------------------------------------------------------------------------

    @property
    def database(self) -> Path:
        return self.directory / "bot.db"

    @property
    def log(self) -> str:
        path = self.directory / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        with open(self.directory / "log.txt", "ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.sigkill.launcher",
                    "--config",
                    str(self.directory / "config.ini"),
                    *words,
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=os.environ | {"XDG_STATE_HOME": str(self.directory), "PYTHONUNBUFFERED": "1"} | environment,
            )
        return self.process

    def call(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run a command to its end beside the bot; exit code and everything it said."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.sigkill.launcher", "--config", str(self.directory / "config.ini"), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            timeout=60,
            check=False,
            env=os.environ | {"XDG_STATE_HOME": str(self.directory)} | environment,
        )
        return done.returncode, done.stdout.decode()

    def grid_stands(self) -> bool:
        """n buys are open on the exchange, and in the book."""
        return len(self.fake.open_orders(USERREF, "buy")) == self.n

    def terminate(self, by: signal.Signals = signal.SIGTERM, patience: float = 15.0) -> tuple[int, float]:
        """Ask the bot to stop; exit code and seconds until the end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(by)
        code = self.process.wait(patience)
        return code, time.monotonic() - began

    def kill(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_until(self, condition: Any, seconds: float) -> bool:
        """True as soon as ``condition()`` holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.02)
        return bool(condition())
