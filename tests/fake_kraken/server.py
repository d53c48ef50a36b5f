"""
FakeKraken over real sockets, on 127.0.0.1 only: REST and both websockets on one port.

::

    with FakeKrakenServer(FakeKraken()) as server:
        server.rest_url, server.ws_url, server.ws_auth_url

Threads: one per connection, one writer per websocket, one ticking clock for heartbeats and
whatever is due. Faults are acted on here: sockets are closed or reset without an answer.
Delays are real seconds, whatever the exchange's clock says.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fake_kraken import websocket_codec as codec
from tests.fake_kraken.control import control
from tests.fake_kraken.exchange import FakeKraken
from tests.fake_kraken.faults import CutReply, Delay, Drop, Outcome, Reply
from tests.fake_kraken.ws import CLOSED, FakeConnection, Frame

HEARTBEAT_SECONDS = 1.0
TICK_SECONDS = 0.02
FRAMES_PER_SEND = 256
PUBLIC_PATHS = frozenset({"/v2"})
PRIVATE_PATHS = frozenset({"/v2-auth", "/auth/v2"})  # some clients put the /v2 at the end themselves


class FakeKrakenServer:
    """Context manager around the sockets. ``port`` 0 lets the system choose."""

    def __init__(self, fake: FakeKraken, port: int = 0) -> None:
        self.fake = fake
        self.stopping = threading.Event()
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self.port: int = self._http.server_address[1]
        self.rest_url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}/v2"
        self.ws_auth_url = f"ws://127.0.0.1:{self.port}/v2-auth"
        self._sockets: set[socket.socket] = set()
        self._sockets_lock = threading.Lock()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True),
            threading.Thread(target=self._tick, daemon=True),
        ]

    def __enter__(self) -> FakeKrakenServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close everything; safe to call twice."""
        with self._sockets_lock:
            if self._stopped:
                return
            self._stopped = True
        self.stopping.set()
        self.fake.drop_sockets()
        self._http.shutdown()
        self._http.server_close()
        self.cut_connections()
        for thread in self._threads:
            thread.join(timeout=2)

    def cut_connections(self) -> None:
        """Close every socket now, kept-alive HTTP ones as well, as Kraken does to long sessions."""
        with self._sockets_lock:
            sockets = list(self._sockets)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def wait(self, seconds: float) -> None:
        self.stopping.wait(seconds)

    def track(self, sock: socket.socket, alive: bool) -> None:
        with self._sockets_lock:
            (self._sockets.add if alive else self._sockets.discard)(sock)

    def _tick(self) -> None:
        beat = time.monotonic()
        while not self.stopping.wait(TICK_SECONDS):
            with contextlib.suppress(AssertionError):  # kept in fake.broken
                self.fake.run_due()
                if time.monotonic() - beat >= HEARTBEAT_SECONDS:
                    beat = time.monotonic()
                    self.fake.heartbeat()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    owner: FakeKrakenServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is what these tests are about: no traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.owner.track(self.connection, True)

    def finish(self) -> None:
        self.server.owner.track(self.connection, False)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: ``fake.calls`` is the log."""

    def do_GET(self) -> None:
        if "websocket" in self.headers.get("Upgrade", "").lower():
            self._websocket()
        else:
            self._rest()

    def do_POST(self) -> None:
        self._rest()

    do_PUT = do_DELETE = do_POST

    def _rest(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/control/"):
            status, answer = control(self.server.owner, self.path.removeprefix("/control/"), body)
            self._act(Reply(status, {"Content-Type": "application/json"}, answer))
            return
        headers = dict(self.headers.items())
        self._act(self.server.owner.fake.handle_http(self.command, self.path, headers, body))

    def _act(self, outcome: Outcome) -> None:
        while isinstance(outcome, Delay):
            self.server.owner.wait(outcome.seconds)
            outcome = outcome.finish()
        if isinstance(outcome, Drop):
            self._hang_up(reset=outcome.how == "reset")
            return
        if isinstance(outcome, CutReply):
            self._send(outcome.reply, outcome.sent)
            self._hang_up(reset=False)
            return
        self._send(outcome, len(outcome.body))

    def _send(self, reply: Reply, count: int) -> None:
        reason = self.responses.get(reply.status, ("Unknown",))[0]
        lines = [f"HTTP/1.1 {reply.status} {reason}", f"Content-Length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        try:
            self.connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body[:count])
        except OSError:
            self.close_connection = True

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

    def _websocket(self) -> None:
        self.close_connection = True
        fake = self.server.owner.fake
        outbox: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        path = self.path.partition("?")[0].rstrip("/")
        if path not in PUBLIC_PATHS | PRIVATE_PATHS:
            self._send(Reply(404, {}, b""), 0)
            return
        try:
            # The status message waits in the outbox until the handshake is out.
            link = fake.connect(path in PRIVATE_PATHS, outbox.put)
        except ConnectionRefusedError:
            self._send(Reply(503, {}, b""), 0)
            return
        writer = threading.Thread(target=self._write, args=(outbox,), daemon=True)
        try:
            self.connection.sendall(codec.handshake(self.headers.get("Sec-WebSocket-Key", "")))
            writer.start()
            self._read(link, outbox)
        except (OSError, EOFError, codec.ProtocolError, ValueError):
            pass
        finally:
            fake.forget(link)
            outbox.put(CLOSED)
            if writer.ident is not None:
                writer.join(timeout=1)

    def _read(self, link: FakeConnection, outbox: queue.SimpleQueue[Frame]) -> None:
        while True:
            opcode, payload = codec.read_message(self.rfile)  # type: ignore[arg-type]
            if opcode == codec.TEXT:
                link.receive(payload.decode())
            elif link.half_open:
                continue
            elif opcode == codec.PING:
                outbox.put(codec.frame(payload, codec.PONG))
            elif opcode == codec.CLOSE:
                self.connection.sendall(codec.frame(payload[:2], codec.CLOSE))
                return

    def _write(self, outbox: queue.SimpleQueue[Frame]) -> None:
        """Text is framed here; bytes are frames already. Whatever has piled up goes out in one piece."""
        hang_up = False
        try:
            while not hang_up:
                frames = [outbox.get()]
                while len(frames) < FRAMES_PER_SEND and not outbox.empty():
                    frames.append(outbox.get())
                hang_up = CLOSED in frames
                ready = frames[: frames.index(CLOSED)] if hang_up else frames
                data = b"".join(codec.frame(f.encode()) if isinstance(f, str) else f for f in ready if f is not None)
                if data:
                    self.connection.sendall(data)
        except OSError:
            pass
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
