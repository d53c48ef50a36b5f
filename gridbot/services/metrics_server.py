"""
The status of the bot as JSON over HTTP, for a browser, a monitor or a script. Requests can only read.

The server has threads of its own. All they can read is a snapshot: a mapping that the trading thread replaces as a
whole. So there is no lock, and no request can delay or change a trade.
"""

import errno
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
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
CLIENT_SECONDS = 5.0  # a client that sends nothing for so long is disconnected
MOST_THREADS = 32  # of the whole bot; with more, connections are closed at once

Snapshot = Callable[[], Mapping[str, object]]


class MetricsServer:
    """
    Serves ``snapshot()`` and the "time" (ISO 8601, UTC) under / and /status.

    host, port  where to listen; port 0 takes any free one
    snapshot    called on the server's threads for every request; Decimals become text
    """

    def __init__(self, host: str, port: int, snapshot: Snapshot) -> None:
        self._host = host
        self._wanted_port = port
        self._snapshot = snapshot
        self._running: tuple[_Server, threading.Thread] | None = None

    @property
    def port(self) -> int:
        """The port in use while running, otherwise the configured one."""
        return int(self._running[0].server_address[1]) if self._running else self._wanted_port

    def start(self) -> None:
        """Listen and answer on threads of its own. Raises MetricsServerError, with advice, if that fails."""
        if self._running:
            raise MetricsServerError(f"the status page is already running on port {self.port}")
        try:
            server = _Server(self._host, self._wanted_port, self._snapshot)
        except (OSError, UnicodeError) as exc:
            raise MetricsServerError(_why_not(exc, self._host, self._wanted_port)) from exc
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="gridbot-status", daemon=True)
        thread.start()
        self._running = server, thread
        host = f"[{self._host}]" if ":" in self._host else self._host
        LOG.info("status page at http://%s:%s/status", host, self.port)

    def stop(self) -> None:
        """Stop listening; does nothing if not running. Raises MetricsServerError if it takes more than a second."""
        if not self._running:
            return
        server, thread = self._running
        # shutdown() waits without a limit, so another thread calls it.
        threading.Thread(target=server.shutdown, name="gridbot-status-stop", daemon=True).start()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            raise MetricsServerError(
                f"the status page did not stop within {STOP_SECONDS:.0f} s; its port is free once the bot has ended"
            )
        server.server_close()
        self._running = None


class _Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    block_on_close = False  # a hanging client must not hold up the stop

    def __init__(self, host: str, port: int, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the full name of this machine, which takes seconds without a DNS.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return threading.active_count() < MOST_THREADS

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.debug("a status request was not answered; mostly the client has left")


class _Handler(BaseHTTPRequestHandler):
    """One request per connection: GET or HEAD, answered in JSON, errors too."""

    server: _Server
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path not in PATHS:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"nothing at {path}", "paths": PATHS})
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._answer(HTTPStatus.OK, {"time": now, **self.server.snapshot()})
        except (TypeError, ValueError) as exc:
            # Only the class of the error: its text may hold anything.
            LOG.warning("the status page could not be made: %s", type(exc).__name__)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the status could not be read; see the log")

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # For a method other than GET and HEAD the base class says 501; 405 is right, as that is on purpose.
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD: this page shows, it changes nothing"
        self._answer(HTTPStatus(code), {"error": message or HTTPStatus(code).phrase})

    def _answer(self, status: HTTPStatus, document: dict[str, object]) -> None:
        body = json.dumps(document, default=_plain, allow_nan=False, indent=2).encode() + b"\n"
        self.request_version = "HTTP/1.0"  # a request that is not HTTP counts as 0.9: its answer has no status line
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "gridbot"  # versions are not shown

    def log_message(self, format: str, *args: Any) -> None:
        LOG.debug("status page: " + format, *args)


def _plain(value: object) -> str:
    """Money as text. Any other type is refused: its text might say more than it should."""
    if isinstance(value, Decimal):
        return as_text(value)
    raise TypeError(f"a {type(value).__name__} has no place in the status")


def _why_not(exc: Exception, host: str, port: int) -> str:
    where, number = f"port = {port}", exc.errno if isinstance(exc, OSError) else None
    if number == errno.EADDRINUSE:
        why, cure = "another program on this machine uses this port already", "Choose another port"
    elif number == errno.EACCES:
        why, cure = "the system does not let the bot use this port", "Choose a port above 1023"
    else:
        where, why = f"host = {host}", f"this machine cannot listen there ({exc})"
        cure = "Use 127.0.0.1 for this machine only, 0.0.0.0 for the whole network"
    return (
        f"[metrics] {where}: the status page cannot be served, {why}.\n"
        f"  {cure}, or set [metrics] enabled = no. Trading works without the status page."
    )
