"""
The live budgets, measured: a real bot process against the fake Kraken in a process of its own.

Called by ``python -m tests.bench --live``. Machines differ and are noisy: the figures to trust are the counts,
the ratios, and the p50 of many.
"""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from tests.settings import config_ini

ROOT = Path(__file__).resolve().parent.parent
TICKER = (
    '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":49999.9,"bid_qty":1.20540000,'
    '"ask":50000.1,"ask_qty":2.31000000,"last":50000.%d,"volume":1520.20551211,"vwap":49901.7,"low":48010.0,'
    '"high":50660.3,"change":512.4,"change_pct":0.62,"trades":40112,"timestamp":"2099-09-25T09:04:31.742599Z"}]}'
)


class FakeProcess:
    """``python -m tests.fake_kraken`` and its control door."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.fake_kraken", "--no-limits", "--price", "BTC/USD=50000"]
        self.process = subprocess.Popen(
            [*command, "--balance", "ZUSD=1000000"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.urls: dict[str, str] = json.loads(self.process.stdout.readline())

    def do(self, command: str, **arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{self.urls['rest_url']}/control/{command}", json.dumps(arguments).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.load(reply)["result"]

    def calls(self) -> list[dict[str, Any]]:
        found = self.do("calls")
        return found["calls"] if isinstance(found, dict) else found

    def count(self, method: str) -> int:
        return sum(call["method"] == method for call in self.calls())


@contextmanager
def fake_kraken() -> Iterator[FakeProcess]:
    fake = FakeProcess()
    try:
        yield fake
    finally:
        fake.process.kill()
        fake.process.communicate()


class BotProcess:
    """A real bot on a database of its own."""

    def __init__(self, fake: FakeProcess, directory: Path, n: int = 5) -> None:
        self.directory = directory
        self.config = directory / "config.ini"
        more = f"""\
[kraken]
api_public_key = {fake.urls["api_key"]}
api_secret_key = {fake.urls["api_secret"]}
rest_url = {fake.urls["rest_url"]}
ws_url = {fake.urls["ws_url"]}
ws_auth_url = {fake.urls["ws_auth_url"]}
"""
        live = {"exchange": "Kraken", "dry_run": "no", "n_open_buy_orders": n, "max_investment": 100000}
        self.config.write_text(config_ini(more, **live, fee="0.25%"))
        self.config.chmod(0o600)
        self.environment = os.environ | {"XDG_STATE_HOME": str(directory / "state")}
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "gridbot.py", "--config", str(self.config)],
            cwd=ROOT,
            env=self.environment,
            stdout=(self.directory / "bot.log").open("ab"),
            stderr=subprocess.STDOUT,
        )

    def written(self) -> int:
        """Bytes handed to the disk so far."""
        lines = Path(f"/proc/{self.process.pid}/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["wchar"])

    def resident(self) -> float:
        """Megabytes in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    def stop(self) -> float:
        """Seconds from SIGTERM to the end."""
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.perf_counter() - began


def until(condition: Any, seconds: float = 30.0) -> None:
    end = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > end:
            raise RuntimeError("the bot did not do what is measured here; see its log")
        time.sleep(0.005)


def tickers_in_process() -> list[str]:
    """Raw frame to decision, in one process."""
    from gridbot.adapters.exchanges.kraken import KrakenWebSocketService
    from tests.world import World

    world = World().start("50000")
    feed = KrakenWebSocketService(None, clock=world.clock, private=False)  # type: ignore[arg-type]
    feed._symbols = {"BTC/USD"}
    frames = [("public", 1, TICKER % n) for n in range(10)]
    number = 100_000
    began = time.perf_counter()
    for n in range(number):
        for message in feed.on_message(frames[n % 10]):
            world.strategy.on_message(message)
    return [f"ticker, raw frame to decision, in process     {number / (time.perf_counter() - began):>10,.0f} /s"]


def live() -> list[str]:
    """Start, fills, shift up, memory, stop: one bot process, one fake process."""
    lines = []
    with fake_kraken() as fake, tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        bot = BotProcess(fake, Path(name))
        until(lambda: fake.count("AddOrder") >= 5)
        lines.append(f"start to grid of 5                            {time.perf_counter() - began:>10.2f} s")
        lines.append(f"REST calls for it                             {len(fake.calls()):>10}")
        bot.stop()
    with fake_kraken() as fake, tempfile.TemporaryDirectory() as name:
        cycles = 30
        bot = BotProcess(fake, Path(name), n=cycles)
        until(lambda: fake.count("AddOrder") >= cycles)
        time.sleep(1.5)
        waits, written = [], bot.written()
        for _ in range(cycles):
            top = highest_buy(fake)
            before = len(fake.calls())
            trade = fake.do("fill", txid=top)
            until(lambda before=before: len(fake.calls()) > before)
            waits.append(fake.calls()[before]["time"] - float(fake.do("state")["trades"][trade]["time"]))
        lines.append(f"fill to its sell at the exchange, p50         {statistics.median(waits) * 1000:>10.2f} ms")
        lines.append(f"the same, best                                {min(waits) * 1000:>10.2f} ms")
        lines.append(f"floor: one signed POST on a kept connection   {floor(fake) * 1000:>10.2f} ms")
        lines.append(f"bytes written per fill cycle, log included    {(bot.written() - written) // cycles:>10,}")
        lines.append(f"resident memory                               {bot.resident():>10.1f} MB")
        lines.append(f"SIGTERM to exit                               {bot.stop():>10.3f} s")
    return lines + ten_at_once() + second_start()


def ten_at_once() -> list[str]:
    """A fall through ten buys, and the rise above the grid."""
    with fake_kraken() as fake, tempfile.TemporaryDirectory() as name:
        bot = BotProcess(fake, Path(name), n=10)
        until(lambda: fake.count("AddOrder") >= 10)
        time.sleep(1.5)
        began = time.time()
        fake.do("set_price", pair="BTC/USD", price="45000", ticker="never")
        until(lambda: fake.count("AddOrder") >= 20)
        took = fake.calls()[-1]["time"] - began
        fake.do("set_price", pair="BTC/USD", price="45001")
        until(lambda: fake.count("AddOrder") >= 30)
        before = Counter(call["method"] for call in fake.calls())
        fake.do("set_price", pair="BTC/USD", price="49000", ticker="after")
        bot.stop()
        assert before["AddOrder"] == 30
    return [f"ten buys filled at once, ten sells placed     {took:>10.3f} s"]


def second_start() -> list[str]:
    """What cron costs while the bot runs."""
    with fake_kraken() as fake, tempfile.TemporaryDirectory() as name:
        bot = BotProcess(fake, Path(name))
        until(lambda: fake.count("AddOrder") >= 5)
        cpu = []
        for command in ([sys.executable, "-c", "pass"], [sys.executable, "gridbot.py", "--config", str(bot.config)]):
            taken = []
            for _ in range(5):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                done = subprocess.run(command, cwd=ROOT, env=bot.environment, stdout=subprocess.DEVNULL, check=False)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                assert done.returncode == 0
                taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            cpu.append(statistics.median(taken) * 1000)
        bot.stop()
    return [f"second start while running, cpu               {cpu[1]:>10.0f} ms ({cpu[0]:.0f} ms for an empty Python)"]


def tickers_through_a_socket() -> list[str]:
    """A server that sends as fast as it can; the time until the bot has decided on the last frame."""
    from queue import SimpleQueue

    from gridbot.adapters.exchanges.kraken import KrakenWebSocketService
    from gridbot.core.clock import SystemClock
    from tests.world import World

    number = 100_000
    sender = subprocess.Popen([sys.executable, "-c", BLASTER, str(number)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert sender.stdout is not None
    port = int(sender.stdout.readline())
    world = World().start("50000")
    queue: SimpleQueue[object] = SimpleQueue()
    feed = KrakenWebSocketService(
        None,  # type: ignore[arg-type]
        clock=SystemClock(threading.Event()),
        ws_url=f"ws://127.0.0.1:{port}/v2",
        private=False,
    )
    feed.subscribe({"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "trades", "snapshot": True})
    feed.start(queue.put)
    seen, began = 0, 0.0
    while seen < number:
        for message in feed.on_message(queue.get(timeout=20)):
            world.strategy.on_message(message)
            seen += 1
            began = began or time.perf_counter()
    took = time.perf_counter() - began
    feed.close()
    sender.kill()
    sender.communicate()
    return [f"the same through a real socket                {number / took:>10,.0f} /s"]


BLASTER = f"""
import base64, hashlib, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
request = connection.recv(65536).decode()
key = next(l.split(": ")[1] for l in request.split("\\r\\n") if l.lower().startswith("sec-websocket-key"))
accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
connection.sendall(("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                    f"Sec-WebSocket-Accept: {{accept}}\\r\\n\\r\\n").encode())
connection.recv(65536)
frames = []
for n in range(10):
    text = ({TICKER!r} % n).encode()
    frames.append(bytes([0x81, 126]) + len(text).to_bytes(2, "big") + text)
block = b"".join(frames)
for _ in range(int(sys.argv[1]) // 10):
    connection.sendall(block)
connection.recv(65536)
"""


def highest_buy(fake: FakeProcess) -> str:
    """The txid of the buy nearest to the price."""
    buys = fake.do("open_orders", side="buy")
    return max(buys, key=lambda txid: Decimal(buys[txid]["descr"]["price"]))


def floor(fake: FakeProcess) -> float:
    """Median seconds of a small request on one kept connection, the library's own cost included."""
    session = requests.Session()
    session.trust_env = False
    taken = []
    for _ in range(100):
        began = time.perf_counter()
        session.post(f"{fake.urls['rest_url']}/0/public/Time", data="nonce=1", timeout=5)
        taken.append(time.perf_counter() - began)
    session.close()
    return statistics.median(taken)


def measured() -> Iterator[str]:
    """All of it, line by line."""
    for benchmark in (tickers_in_process, tickers_through_a_socket, live):
        yield from benchmark()
