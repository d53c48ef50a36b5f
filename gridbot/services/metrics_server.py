"""
The status of the bot as JSON over HTTP, for a browser, a monitor or a script. It only shows.

The server has threads of its own and sees nothing but a snapshot: an immutable mapping that the
trading thread replaces as a whole. There is no lock, and no request can delay or change a trade.
"""

import errno
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from gridbot.exceptions import MetricsServerError
from gridbot.models.money import as_text

LOG = logging.getLogger(__name__)

PATHS = ("/", "/status")
STOP_SECONDS = 1.0
POLL_SECONDS = 0.1  # how soon the accepting thread notices a stop
CLIENT_SECONDS = 5.0  # for the whole request, however slowly it trickles in
MOST_CLIENTS = 16  # at the same time; further connections are closed at once
MOST_BYTES = 8192  # of a request's head; nobody needs more to ask for /status

Snapshot = Callable[[], Mapping[str, object]]


class MetricsServer:
    """
    Serves ``snapshot()`` under / and /status.

    host, port  where to listen; port 0 takes any free one
    snapshot    called on the server's threads for every request: returns an immutable mapping and
                touches nothing else. Decimals become text. It should hold at least "state"; "uptime"
                (seconds) and "time" (ISO 8601, UTC) are added where it does not hold them
    now, steady the wall clock and the steady clock, in seconds
    """

    def __init__(
        self,
        host: str,
        port: int,
        snapshot: Snapshot,
        *,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._snapshot = snapshot
        self._now = now
        self._steady = steady
        self._born = steady()
        self._running: tuple[_Server, threading.Thread] | None = None

    @property
    def port(self) -> int:
        """The port in use while running, otherwise the configured one."""
        return int(self._running[0].server_address[1]) if self._running else self._wanted_port

    def start(self) -> None:
        """Listen and answer on own threads. Raises MetricsServerError, with help, when that cannot be."""
        if self._running:
            raise MetricsServerError(f"the status server is already running on port {self.port}")
        try:
            server = _Server(self._host, self._wanted_port, self._document)
        except (OSError, OverflowError, UnicodeError) as exc:
            raise MetricsServerError(_why_not(exc, self._host, self._wanted_port)) from exc
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="gridbot-status", daemon=True)
        thread.start()
        self._running = server, thread
        LOG.info("status page at http://%s/status", _address(self._host, self.port))

    def stop(self) -> None:
        """Stop listening, within a second; a no-op when not running. Raises MetricsServerError."""
        if not self._running:
            return
        server, thread = self._running
        # shutdown() waits without a limit, so somebody else waits for it.
        threading.Thread(target=server.shutdown, name="gridbot-status-stop", daemon=True).start()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            raise MetricsServerError(
                f"the status server on port {self.port} did not stop within {STOP_SECONDS:.0f} s. "
                "Trading is not affected; the port is free once the bot has ended."
            )
        server.server_close()
        self._running = None

    def _document(self) -> bytes:
        """What is served, as JSON. Whatever the snapshot or the encoding raises is the caller's to report."""
        document = {
            "state": "UNKNOWN",
            "uptime": round(self._steady() - self._born, 1),
            "time": datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds"),
            **self._snapshot(),
        }
        return _json(document)


class _Server(ThreadingHTTPServer):
    """A thread for each connection, of which there are never more than MOST_CLIENTS."""

    daemon_threads = True
    request_queue_size = 2 * MOST_CLIENTS  # a shorter one lets a burst wait a second for its next try
    block_on_close = False  # a hanging client must not hold up the stop

    def __init__(self, host: str, port: int, document: Callable[[], bytes]) -> None:
        self.document = document
        self._room = threading.BoundedSemaphore(MOST_CLIENTS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the full name of this machine, which takes seconds without a DNS.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._room.acquire(blocking=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started: nobody else will make room again
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.debug("a status request was not answered; mostly the client has left")


class _Handler(BaseHTTPRequestHandler):
    """One request per connection: GET or HEAD, answered in JSON, errors too."""

    server: _Server

    def setup(self) -> None:
        super().setup()
        # What the methods of the base class expect when a request cannot even be read.
        self.command, self.requestline, self.request_version = "GET", "", "HTTP/1.0"

    def handle(self) -> None:
        try:
            head = self._read_head()
        except TimeoutError:
            self.send_error(HTTPStatus.REQUEST_TIMEOUT)
            return
        if head is None:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self.rfile = io.BufferedReader(io.BytesIO(head))
        self.handle_one_request()

    def _read_head(self) -> bytes | None:
        """
        The request up to its blank line, None when it is too long. The base class would take up to
        6.5 MB, and start its timeout afresh with every byte. Raises TimeoutError.
        """
        deadline = time.monotonic() + CLIENT_SECONDS
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            if len(head) > MOST_BYTES:
                return None
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            if not (piece := self.connection.recv(MOST_BYTES)):
                break
            head += piece
        self.connection.settimeout(CLIENT_SECONDS)  # for the answer
        return head

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path not in PATHS:
            self._answer(HTTPStatus.NOT_FOUND, _json({"error": f"nothing at {path}", "paths": PATHS}))
            return
        try:
            body = self.server.document()
        except Exception as exc:  # noqa: BLE001
            # Its text may hold anything; its class is enough to find it.
            LOG.warning("the status page could not be made: %s", type(exc).__name__)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the status could not be read; see the log")
            return
        self._answer(HTTPStatus.OK, body)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # The base class says 501 when there is no do_<METHOD>. We have GET and HEAD, and that is meant.
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = (
                HTTPStatus.METHOD_NOT_ALLOWED,
                "only GET and HEAD: this page shows, it changes nothing",
            )
        self._answer(HTTPStatus(code), _json({"error": message or HTTPStatus(code).phrase}))

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.close_connection = True
        self.request_version = "HTTP/1.0"  # what is not HTTP counts as 0.9, which has no status line
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "gridbot"  # no version of anything, to nobody

    def log_message(self, format: str, *args: Any) -> None:
        LOG.debug("status page: " + format, *args)


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, default=_plain, allow_nan=False, indent=2).encode() + b"\n"


def _plain(value: object) -> object:
    """What JSON has no word for. An unknown type is refused: its text might say more than it should."""
    if isinstance(value, Decimal):
        return as_text(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"a {type(value).__name__} has no place in the status")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _why_not(exc: Exception, host: str, port: int) -> str:
    number = exc.errno if isinstance(exc, OSError) else None
    if number == errno.EADDRINUSE:
        where, why = f"port = {port}", "another program on this machine uses this port already"
        cure = "Choose another port"
    elif number == errno.EACCES:
        where, why = f"port = {port}", "the system does not let the bot use this port"
        cure = "Choose a port above 1023"
    elif isinstance(exc, OverflowError):
        where, why, cure = f"port = {port}", "there is no such port", "Choose a port between 1024 and 65535"
    else:
        where, why = f"host = {host}", f"this machine cannot listen there ({exc})"
        cure = "Use 127.0.0.1 for this machine only, 0.0.0.0 for the whole network"
    return (
        f"config.ini, [metrics] {where}: the status page cannot be served, {why}.\n"
        f"  {cure}, or set [metrics] enabled = no. Trading works without the status page."
    )
