"""The status server, over real sockets on this machine."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

import pytest

from gridbot.exceptions import MetricsServerError
from gridbot.services import metrics_server
from gridbot.services.metrics_server import MetricsServer

HOST = "127.0.0.1"


SNAPSHOT = MappingProxyType(
    {
        "state": "RUNNING",
        "free_quote": Decimal("1E-8"),
        "buys": ({"price": Decimal("49504.9"), "txid": "OQ4C"},),
        "by_level": {"1": Decimal("100.00")},
    }
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsServer]:
    monkeypatch.setattr(metrics_server, "POLL_SECONDS", 0.01)
    it = MetricsServer(HOST, 0, lambda: SNAPSHOT)
    it.start()
    yield it
    it.stop()


def ask(server: MetricsServer, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, dict, str]:
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=5)) as connection:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, dict(answer.getheaders()), text


def raw(server: MetricsServer, request: bytes) -> bytes:
    with socket.create_connection((HOST, server.port), timeout=5) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize("path", ["/", "/status", "/status?refresh=1"])
def test_the_status_is_json_with_money_as_text(server: MetricsServer, path: str) -> None:
    status, headers, text = ask(server, path)
    assert status == 200
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    document = json.loads(text)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(document.pop("time"))) < timedelta(seconds=5)
    assert document == {
        "state": "RUNNING",
        "free_quote": "0.00000001",
        "buys": [{"price": "49504.9", "txid": "OQ4C"}],
        "by_level": {"1": "100.00"},
    }


def test_other_paths_are_told_what_there_is(server: MetricsServer) -> None:
    status, _, text = ask(server, "/metrics")
    assert status == 404
    assert json.loads(text) == {"error": "nothing at /metrics", "paths": ["/", "/status"]}


def test_head_has_the_headers_and_no_body(server: MetricsServer) -> None:
    answer = raw(server, b"HEAD / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"])
def test_nothing_but_reading_is_allowed(server: MetricsServer, method: str) -> None:
    status, headers, text = ask(server, "/status", method, body=b"x" * 2000)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert "only GET and HEAD" in json.loads(text)["error"]


def test_the_banner_names_no_version(server: MetricsServer) -> None:
    for path in ("/", "/nothing"):
        assert ask(server, path)[1]["Server"] == "gridbot"


def test_a_request_that_is_none_gets_a_400_as_json(server: MetricsServer) -> None:
    head, _, body = raw(server, b"what is this thing\r\n\r\n").partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert "error" in json.loads(body)


def test_a_client_that_falls_silent_is_sent_away_in_time(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.2)
    with socket.create_connection((HOST, server.port), timeout=3) as slow:
        slow.sendall(b"GET / HT")
        assert slow.recv(100) == b""


def test_hanging_clients_block_neither_another_nor_the_stop(server: MetricsServer) -> None:
    before = set(threading.enumerate())
    hanging = [socket.create_connection((HOST, server.port)) for _ in range(5)]
    try:
        assert ask(server, "/")[0] == 200
        waiting = set(threading.enumerate()) - before
        assert len(waiting) >= len(hanging)
        assert all(thread.daemon for thread in waiting)  # none holds up the end of the program
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 1.0
    finally:
        for connection in hanging:
            connection.close()


def test_there_is_a_limit_to_the_clients_and_room_again_when_they_leave(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.3)
    monkeypatch.setattr(metrics_server, "MOST_THREADS", threading.active_count() + 4)
    hanging = [socket.create_connection((HOST, server.port)) for _ in range(4)]
    with socket.create_connection((HOST, server.port), timeout=3) as one_too_many:
        assert one_too_many.recv(100) == b""
    for connection in hanging:
        assert connection.recv(100) == b""
        connection.close()
    assert answers_before_long(server)


def answers_before_long(server: MetricsServer) -> bool:
    """The last thread may still be on its way out when its client has heard the end."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            return ask(server, "/")[0] == 200
        except (ConnectionError, http.client.HTTPException):
            threading.Event().wait(0.01)
    return False


def test_the_snapshot_is_read_by_the_servers_threads_and_only_when_asked() -> None:
    readers: list[str] = []

    def snapshot() -> dict[str, object]:
        readers.append(threading.current_thread().name)
        return {}

    server = MetricsServer(HOST, 0, snapshot)
    server.start()
    try:
        assert readers == []
        ask(server, "/")
        assert len(readers) == 1
        assert readers[0] != threading.current_thread().name
    finally:
        server.stop()


@pytest.mark.parametrize("bad", [object(), float("nan")])
def test_a_snapshot_that_cannot_be_shown_is_a_500_and_the_server_lives(
    bad: object, caplog: pytest.LogCaptureFixture
) -> None:
    answers: Iterator[dict[str, object]] = iter([{"what": bad}, {"state": "RUNNING"}])
    server = MetricsServer(HOST, 0, lambda: next(answers))
    server.start()
    try:
        assert ask(server, "/")[0] == 500
        assert ask(server, "/")[0] == 200
    finally:
        server.stop()
    assert "the status page could not be made" in caplog.text


def test_it_starts_again_on_the_same_port(server: MetricsServer) -> None:
    again = MetricsServer(HOST, server.port, lambda: SNAPSHOT)
    ask(server, "/")
    server.stop()
    for _ in range(2):
        again.start()
        assert ask(again, "/")[0] == 200
        again.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, again.port))


def test_a_port_in_use_is_an_error_with_help(server: MetricsServer) -> None:
    with pytest.raises(MetricsServerError) as error:
        MetricsServer(HOST, server.port, dict).start()
    assert str(error.value) == (
        f"[metrics] port = {server.port}: the status page cannot be served, "
        "another program on this machine uses this port already.\n"
        "  Choose another port, or set [metrics] enabled = no. Trading works without the status page."
    )


def test_an_address_that_is_none_is_an_error_with_help() -> None:
    with pytest.raises(MetricsServerError, match=r"0\.0\.0\.0 for the whole network"):
        MetricsServer("192.0.2.1", 0, dict).start()


def test_starting_twice_is_an_error_and_stopping_twice_is_not(server: MetricsServer) -> None:
    with pytest.raises(MetricsServerError, match="already running"):
        server.start()
    server.stop()
    server.stop()


def test_a_server_that_does_not_stop_is_an_error(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server._running is not None
    monkeypatch.setattr(metrics_server, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(server._running[0], "shutdown", lambda: None)
    with pytest.raises(MetricsServerError, match="did not stop"):
        server.stop()
    monkeypatch.undo()
