"""
A requests transport straight into FakeKraken: no sockets, no threads, virtual time.

::

    session = session_for(fake)                       # any URL goes to the fake
    session.post("https://api.kraken.com/0/private/Balance", data=body, headers=..., timeout=10)

Failures are the exceptions that requests raises over a real socket, with the same causes
inside. Delays advance the exchange's VirtualClock.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from http.client import RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ProtocolError
from urllib3.response import HTTPResponse

from tests.fake_kraken.clock import VirtualClock
from tests.fake_kraken.exchange import FakeKraken
from tests.fake_kraken.faults import CutReply, Delay, Drop, Outcome, Reply

NEVER = float("inf")
BUILDER = HTTPAdapter()  # makes responses as a real transport does; costly to make, and holds nothing


class FakeKrakenAdapter(BaseAdapter):
    """Mount it on a Session. ``latency``: virtual seconds that every call takes."""

    def __init__(self, fake: FakeKraken, latency: float = 0.0) -> None:
        super().__init__()
        if not isinstance(fake.clock, VirtualClock):
            raise TypeError("the in-process transport needs a FakeKraken with a VirtualClock")
        self.fake = fake
        self.clock = fake.clock
        self.latency = latency

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        parts = urlsplit(request.url or "")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        self.clock.advance(self.latency)
        headers = {str(name): str(value) for name, value in request.headers.items()}
        outcome = self.fake.handle_http(request.method or "GET", path, headers, request.body or b"")
        outcome = self._wait(request, outcome, NEVER if read is None else read)
        if isinstance(outcome, Drop):
            self._fail(request, outcome, connect or 0.0)
        assert isinstance(outcome, (Reply, CutReply)), outcome
        return self._response(request, outcome)

    def close(self) -> None:
        """Nothing is open."""

    def _wait(self, request: requests.PreparedRequest, outcome: Outcome, patience: float) -> Outcome:
        """Let the time of a delay pass, or as much of it as the client has patience for."""
        while isinstance(outcome, Delay):
            if outcome.seconds > patience:
                # The request goes on without us: Kraken will have acted when the clock gets there.
                self.fake.at(self.clock.time() + outcome.seconds, outcome.finish)
                self.clock.advance(patience)
                self.fake.run_due()
                raise requests.ReadTimeout(f"Read timed out. (read timeout={patience})", request=request)
            self.clock.advance(outcome.seconds)
            patience -= outcome.seconds
            self.fake.run_due()
            outcome = outcome.finish()
        return outcome

    def _fail(self, request: requests.PreparedRequest, drop: Drop, connect: float) -> None:
        pool = HTTPSConnectionPool("fake.invalid", 443)
        if drop.how == "connect_timeout":
            self.clock.advance(connect)
            timed_out = ConnectTimeoutError(None, f"Connection timed out. (connect timeout={connect})")
            raise requests.ConnectTimeout(MaxRetryError(pool, "/", timed_out), request=request)
        if drop.how == "refused":
            refused = NewConnectionError(None, "Failed to establish a new connection: [Errno 111]")  # type: ignore[arg-type]
            raise requests.ConnectionError(MaxRetryError(pool, "/", refused), request=request)
        if drop.how == "reset":
            cause: Exception = ConnectionResetError(104, "Connection reset by peer")
        else:
            cause = RemoteDisconnected("Remote end closed connection without response")
        raise requests.ConnectionError(ProtocolError("Connection aborted.", cause), request=request)

    def _response(self, request: requests.PreparedRequest, outcome: Reply | CutReply) -> requests.Response:
        reply, sent = (outcome, None) if isinstance(outcome, Reply) else (outcome.reply, outcome.sent)
        raw = HTTPResponse(
            body=io.BytesIO(reply.body[:sent]),
            headers=reply.headers | {"Content-Length": str(len(reply.body))},
            status=reply.status,
            preload_content=False,
            request_method=request.method,
        )
        return BUILDER.build_response(request, raw)


def session_for(fake: FakeKraken, latency: float = 0.0) -> requests.Session:
    """A requests Session whose every call ends in ``fake``, whatever the host."""
    session = requests.Session()
    adapter = FakeKrakenAdapter(fake, latency)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.trust_env = False
    return session
