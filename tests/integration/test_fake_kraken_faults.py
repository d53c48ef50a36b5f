"""
What goes wrong on purpose, over real sockets and in process: the client must meet the same thing both ways.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from tests.fake_kraken import FakeKraken, VirtualClock
from tests.fake_kraken.client import KrakenRefused, TinyClient
from tests.fake_kraken.in_process import session_for
from tests.fake_kraken.server import FakeKrakenServer

ROOT = Path(__file__).parents[2]
BUY = ("buy", "0.001", "49000.0")


@pytest.fixture(params=["sockets", "in process"])
def client(request: pytest.FixtureRequest) -> Iterator[TinyClient]:
    """With ``client.fake`` the exchange it talks to."""
    if request.param == "in process":
        yield _client(FakeKraken(VirtualClock()), session_for, "https://api.kraken.com")
        return
    fake = FakeKraken()
    with FakeKrakenServer(fake) as server:
        yield _client(fake, lambda _: requests.Session(), server.rest_url)


def _client(fake: FakeKraken, session: Any, url: str) -> TinyClient:
    fake.limits.off()
    client = TinyClient(session(fake), url)
    client.fake = fake  # type: ignore[attr-defined]
    client.timeout = 0.25
    return client


def exchange(client: TinyClient) -> FakeKraken:
    fake = client.fake  # type: ignore[attr-defined]
    assert isinstance(fake, FakeKraken)
    return fake


def wait(client: TinyClient, seconds: float) -> None:
    """Let the exchange's time pass, whichever clock it has."""
    fake = exchange(client)
    if isinstance(fake.clock, VirtualClock):
        fake.clock.advance(seconds)
        fake.run_due()
    else:
        time.sleep(seconds)


@pytest.mark.parametrize(
    ("kind", "options", "taken", "error"),
    [
        ("drop_reply", {}, True, requests.ConnectionError),
        ("drop_reply", {"reset": True}, True, requests.ConnectionError),
        ("drop_request", {}, False, requests.ConnectionError),
        ("http", {"status": 502}, False, ValueError),
        ("http", {"status": 502, "taken": True}, True, ValueError),
        ("http", {"status": 520, "taken": True}, True, ValueError),
        ("empty", {}, False, ValueError),
        ("empty", {"taken": True}, True, ValueError),
        ("cut", {"taken": True}, True, ValueError),
        ("garbage", {}, False, ValueError),
        ("garbage", {"taken": True}, True, ValueError),
        ("cut_body", {"taken": True}, True, requests.exceptions.ChunkedEncodingError),
        ("error", {"error": "EService:Busy"}, False, KrakenRefused),
        ("error", {"error": "EService:Unavailable", "taken": True}, True, KrakenRefused),
        ("delay_reply", {"seconds": 0.4}, True, requests.ReadTimeout),
    ],
)
def test_an_order_whose_answer_is_spoiled(
    client: TinyClient, kind: str, options: dict[str, Any], taken: bool, error: type[Exception]
) -> None:
    fake = exchange(client)
    fault = fake.faults.add("AddOrder", kind, nth=2, **options)
    client.add(*BUY)
    with pytest.raises(error):
        client.add(*BUY)
    assert (fault.hits, len(fake.open_orders())) == (1, 1 + taken)
    client.add(*BUY)
    assert len(fake.open_orders()) == 2 + taken
    fake.audit()


@pytest.mark.parametrize(
    ("reset", "cause"), [(False, "RemoteDisconnected"), (True, "ConnectionResetError")], ids=["close", "reset"]
)
def test_a_closed_connection_and_a_reset_one_differ(client: TinyClient, reset: bool, cause: str) -> None:
    exchange(client).faults.add("AddOrder", "drop_reply", reset=reset)
    with pytest.raises(requests.ConnectionError) as info:
        client.add(*BUY)
    assert type(info.value.args[0].args[1]).__name__ == cause


def test_the_http_status_and_the_page(client: TinyClient) -> None:
    exchange(client).faults.add("Time", "http", status=504)
    exchange(client).faults.add("Time", "http", status=307)
    reply = client.session.get(f"{client.url}/0/public/Time", timeout=2)
    assert (reply.status_code, reply.headers["Content-Type"]) == (504, "text/html; charset=UTF-8")
    reply = client.session.get(f"{client.url}/0/public/Time", timeout=2, allow_redirects=False)
    assert (reply.status_code, reply.is_redirect) == (307, True)


def test_a_request_that_arrives_after_the_client_gave_up(client: TinyClient) -> None:
    fake = exchange(client)
    fake.faults.add("AddOrder", "delay_request", seconds=0.5)
    with pytest.raises(requests.ReadTimeout):
        client.add(*BUY)
    assert fake.open_orders() == []
    wait(client, 0.5)
    assert len(fake.open_orders()) == 1


def test_a_later_nonce_fences_a_request_that_has_not_passed_the_gateway(client: TinyClient) -> None:
    fake = exchange(client)
    fake.faults.add("AddOrder", "delay_request", seconds=0.5, gate="after")
    with pytest.raises(requests.ReadTimeout):
        client.add(*BUY)
    client.private("Balance")
    wait(client, 0.5)
    assert fake.open_orders() == []
    assert fake.calls_of("AddOrder")[0].outcome == "EAPI:Invalid nonce"


def test_a_patient_client_gets_the_late_answer(client: TinyClient) -> None:
    client.timeout = 5
    exchange(client).faults.add("AddOrder", "delay_reply", seconds=0.3)
    assert len(client.add(*BUY)["txid"]) == 1


def test_connections_that_never_were() -> None:
    fake = FakeKraken(VirtualClock())
    client = TinyClient(session_for(fake))
    for kind, inner in (("connect_timeout", "ConnectTimeoutError"), ("refused", "NewConnectionError")):
        fake.faults.add("AddOrder", kind)
        with pytest.raises(requests.ConnectionError) as info:
            client.add(*BUY)
        assert type(info.value.args[0].reason).__name__ == inner
    assert not fake.orders


def test_cancels_that_are_not(client: TinyClient) -> None:
    fake = exchange(client)
    [txid] = client.add(*BUY)["txid"]
    fake.faults.add("CancelOrder", "cancel_ignored")
    assert client.private("CancelOrder", txid=txid) == {"count": 1}
    assert fake.orders[txid].is_open
    fake.faults.add("CancelOrder", "cancel_pending", seconds=0.2)
    assert client.private("CancelOrder", txid=txid) == {"count": 1, "pending": True}
    with pytest.raises(KrakenRefused, match="Cancel pending"):
        client.private("CancelOrder", txid=txid)
    wait(client, 0.4)
    assert fake.orders[txid].status == "canceled"


def test_a_fill_may_win_the_race_against_a_pending_cancel(client: TinyClient) -> None:
    fake = exchange(client)
    [txid] = client.add(*BUY)["txid"]
    fake.faults.add("CancelOrder", "cancel_pending", seconds=0.1)
    client.private("CancelOrder", txid=txid)
    fake.set_price("BTC/USD", "49000.0")
    wait(client, 0.3)
    assert fake.orders[txid].status == "closed"
    fake.audit()


def test_an_envelope_without_a_txid_and_one_stale_answer(client: TinyClient) -> None:
    fake = exchange(client)
    wait(client, 0.05)
    fake.faults.add("AddOrder", "no_txid")
    assert "txid" not in client.add(*BUY)
    assert len(fake.orders) == 1
    fake.faults.add("OpenOrders", "stale", seconds=30)
    assert client.private("OpenOrders")["open"] == {}
    assert len(client.private("OpenOrders")["open"]) == 1


def test_the_script_counts_from_now_and_by_parameters(client: TinyClient) -> None:
    fake = exchange(client)
    sells = fake.faults.add("AddOrder", "error", times=2, when=lambda params: params["type"] == "sell")
    client.add(*BUY)
    for _ in range(2):
        with pytest.raises(KrakenRefused):
            client.add("sell", "0.001", "51000.0")
    client.add("sell", "0.001", "51000.0")
    assert (sells.hits, list(fake.faults.pending())) == (2, [])
    with pytest.raises(ValueError, match="drop_reply"):
        fake.faults.add("AddOrder", "explode")


class TestSockets:
    @pytest.fixture
    def server(self) -> Iterator[FakeKrakenServer]:
        fake = FakeKraken()
        fake.limits.off()
        with FakeKrakenServer(fake) as server:
            yield server

    @pytest.fixture(autouse=True)
    def links(self) -> Iterator[None]:
        self.opened: list[websocket.WebSocket] = []
        yield
        for link in self.opened:
            link.shutdown()  # type: ignore[no-untyped-call]

    def connect(self, url: str, timeout: float = 2) -> websocket.WebSocket:
        link = websocket.create_connection(url, timeout=timeout)
        self.opened.append(link)
        return link

    def test_only_the_loopback_is_served(self, server: FakeKrakenServer) -> None:
        assert server.rest_url.startswith("http://127.0.0.1:")

    def test_a_kept_alive_connection_can_be_cut(self, server: FakeKrakenServer) -> None:
        with requests.Session() as session:
            session.get(f"{server.rest_url}/0/public/Time", timeout=2)
            server.cut_connections()
            time.sleep(0.05)
            assert session.get(f"{server.rest_url}/0/public/Time", timeout=2).status_code == 200

    def test_websocket_frames_pings_and_hang_up(self, server: FakeKrakenServer) -> None:
        link = self.connect(server.ws_url)
        assert json.loads(link.recv())["channel"] == "status"
        link.send(json.dumps({"method": "subscribe", "params": {"channel": "ticker", "symbol": ["BTC/USD"]}}))
        assert [json.loads(link.recv()).get("success"), json.loads(link.recv())["type"]] == [True, "snapshot"]
        link.ping("x" * 100)
        assert link.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"x" * 100)
        server.fake.set_price("BTC/USD", "49999.9")
        assert json.loads(link.recv(), parse_float=Decimal)["data"][0]["last"] == Decimal("49999.9")
        assert json.loads(link.recv()) == {"channel": "heartbeat"}
        server.fake.drop_sockets()
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            link.recv()

    def test_a_half_open_socket_says_nothing_not_even_pong(self, server: FakeKrakenServer) -> None:
        link = self.connect(server.ws_url, timeout=0.2)
        link.recv()
        server.fake.half_open()
        link.ping()
        link.send('{"method":"ping"}')
        with pytest.raises(websocket.WebSocketTimeoutException):
            link.recv_data(control_frame=True)

    def test_refused_and_unknown_websockets(self, server: FakeKrakenServer) -> None:
        server.fake.faults.refuse_connections()
        with pytest.raises(websocket.WebSocketBadStatusException):
            websocket.create_connection(server.ws_url, timeout=2)
        with pytest.raises(websocket.WebSocketBadStatusException):
            websocket.create_connection(f"ws://127.0.0.1:{server.port}/v1", timeout=2)
        assert json.loads(self.connect(server.ws_auth_url).recv())["channel"] == "status"

    def test_long_and_split_frames(self, server: FakeKrakenServer) -> None:
        link = self.connect(server.ws_url)
        link.recv()
        text = json.dumps({"method": "ping", "req_id": 3, "params": {"filler": "x" * 70_000}})
        for part, (opcode, final) in zip((text[:10], text[10:]), ((1, 0), (0, 1)), strict=True):
            link.send_frame(websocket.ABNF.create_frame(part, opcode, final))
        assert json.loads(link.recv())["req_id"] == 3

    def test_an_unmasked_frame_ends_the_connection(self, server: FakeKrakenServer) -> None:
        link = self.connect(server.ws_url)
        link.recv()
        assert isinstance(link.sock, socket.socket)
        link.sock.sendall(b"\x81\x02{}")
        with pytest.raises((websocket.WebSocketConnectionClosedException, OSError)):
            link.recv()


def test_the_exchange_as_a_process_with_its_control_interface() -> None:
    command = [sys.executable, "-m", "tests.fake_kraken", "--price", "BTC/USD=50000.0", "--no-limits"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline())

        def control(name: str, **arguments: Any) -> Any:
            answer = requests.post(f"{urls['rest_url']}/control/{name}", json=arguments, timeout=5).json()
            return answer["result"] if answer["ok"] else answer["error"]

        client = TinyClient(requests.Session(), urls["rest_url"], urls["api_key"], urls["api_secret"])
        [txid] = client.add(*BUY, userref=7)["txid"]
        assert list(control("open_orders", userref=7)) == [txid]
        control("fill", txid=txid, volume="0.0004")
        assert len(control("set_price", pair="BTC/USD", price="48000.0")) == 1
        assert control("fill", txid=txid) == f"AssertionError: {txid} is closed"
        control("fault", method="AddOrder", kind="error", error="EService:Busy")
        with pytest.raises(KrakenRefused, match="EService:Busy"):
            client.add(*BUY)
        assert [call["outcome"] for call in control("calls")] == ["ok", "fault error"]
        assert control("state")["orders"][txid]["status"] == "closed"
        control("audit")
        control("stop")
        assert process.wait(timeout=5) == 0
