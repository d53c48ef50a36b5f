"""A REST answer over a bad line: it comes in time, or it is none."""

import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from requests.adapters import HTTPAdapter

from gridbot.adapters.exchanges import kraken_rest
from gridbot.adapters.exchanges.kraken_rest import KrakenClient
from gridbot.adapters.exchanges.kraken_transport import KrakenTransport
from gridbot.core.clock import SystemClock
from gridbot.exceptions import OrderFateUnknown, TemporaryFailure

ANSWER = b'{"error":[],"result":{"unixtime":1,"rfc1123":"x"}}'
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER


class Trickling:
    """A server that answers byte by byte, ``pause`` seconds apart; after ``slow`` bytes the rest at once."""

    def __init__(self, pause: float, slow: int) -> None:
        self.pause, self.slow = pause, slow
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(65536):
                    self.asked += 1
                    for byte in REPLY[: self.slow]:
                        connection.sendall(bytes([byte]))
                        time.sleep(self.pause)
                    connection.sendall(REPLY[self.slow :])
            except OSError:
                return  # nobody listens any more

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def trickling(request: pytest.FixtureRequest) -> Iterator[Trickling]:
    server = Trickling(*request.param)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kraken_rest, "TIMEOUTS", (3.0, 0.4))


def client_of(server: Trickling) -> KrakenClient:
    return KrakenClient("key", "c2VjcmV0", clock=SystemClock(threading.Event()), rest_url=server.address)


@pytest.mark.parametrize(
    "trickling", [(0.1, len(REPLY)), (0.1, 20)], ids=["all of it", "its first line"], indirect=True
)
def test_an_answer_that_trickles_is_none_and_the_bot_goes_on(trickling: Trickling) -> None:
    client = client_of(trickling)
    began = time.monotonic()
    with pytest.raises(OrderFateUnknown, match=r"no answer in time|the connection broke"):
        client.send_once("AddOrder", {"pair": "XBTUSD"})
    with pytest.raises(TemporaryFailure):
        client.ask_once("Time")
    assert time.monotonic() - began < 2.0
    assert trickling.asked == 2  # the order went out once
    client.close()


@pytest.mark.parametrize("trickling", [(0.005, 40)], indirect=True)
def test_a_slow_answer_that_comes_in_time_counts_and_its_connection_is_kept(trickling: Trickling) -> None:
    client = client_of(trickling)
    assert [client.ask_once("Time")["unixtime"] for _ in range(3)] == [1, 1, 1]
    assert trickling.asked == 3
    client.close()


def test_a_socks_proxy_is_reached_with_its_own_kind_of_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What connects past the proxy would show Kraken, and the network, what the proxy is there to hide."""

    class SocksPool:
        ConnectionCls = object

    def manager_for(self: HTTPAdapter, proxy: str, **_options: object) -> object:
        self.proxy_manager[proxy] = SimpleNamespace(pool_classes_by_scheme={"https": SocksPool})
        return self.proxy_manager[proxy]

    monkeypatch.setattr(HTTPAdapter, "proxy_manager_for", manager_for)
    transport = KrakenTransport()
    pools = [transport.proxy_manager_for("socks5h://127.0.0.1:9050").pool_classes_by_scheme["https"] for _ in range(2)]
    assert issubclass(pools[0], SocksPool)
    assert pools[1] is pools[0]  # asked for again for every request, and not wrapped once more
