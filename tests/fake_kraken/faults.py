"""
Faults: what can go wrong between a client and Kraken, one call at a time.

``fake.faults.add("AddOrder", "drop_reply", nth=2)`` spoils the second AddOrder from now.
What the client should meet is returned by ``handle_http`` as one of the outcomes below, so
that a socket server and an in-process transport can both act on it.

=================== ======= ======================================================================
kind                taken   what happens (options)
=================== ======= ======================================================================
drop_reply          yes     the connection ends without an answer (reset=True: with a reset)
drop_request        no      the same, but Kraken never acted
connect_timeout     no      no connection within the timeout (sockets: as drop_request)
refused             no      connection refused (sockets: as drop_request)
delay_reply         yes     acted on at once, answered after ``seconds``
delay_request       yes     acted on after ``seconds``, then answered; also when the client has gone.
                            The key and nonce are checked on arrival; gate="after": with the rest
http                option  ``status`` (502) and an HTML page; a 3xx brings a Location
empty, cut, garbage option  HTTP 200 and a body that is empty, half the JSON, or an HTML page
cut_body            option  the connection breaks in the middle of the body
error               option  ``error``, any string of Kraken's, in a good envelope
no_txid             yes     AddOrder: ``error: []`` and no txid
cancel_ignored      no      CancelOrder: count 1, and nothing happens
cancel_pending      later   CancelOrder: ``pending: true``, done after ``seconds``
stale               yes     answered from the state ``seconds`` ago
=================== ======= ======================================================================

"option": ``taken=True`` lets Kraken act before the answer is spoiled; the default is False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

KINDS = frozenset(
    [
        "drop_reply",
        "drop_request",
        "connect_timeout",
        "refused",
        "delay_reply",
        "delay_request",
        "http",
        "empty",
        "cut",
        "garbage",
        "cut_body",
        "error",
        "no_txid",
        "cancel_ignored",
        "cancel_pending",
        "stale",
    ]
)
TAKEN_BY_NATURE = frozenset({"drop_reply", "delay_reply", "delay_request", "no_txid", "stale"})
Params = dict[str, str]


class Reply(NamedTuple):
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class CutReply:
    """The headers of ``reply`` and the first ``sent`` bytes of its body; then the connection breaks."""

    reply: Reply
    sent: int


@dataclass(frozen=True)
class Drop:
    """No answer. ``how``: "close", "reset", "connect_timeout" or "refused"."""

    taken: bool
    how: str = "close"


@dataclass(frozen=True)
class Delay:
    """``finish()`` after ``seconds`` gives the outcome; it must be called even if the client has gone."""

    seconds: float
    finish: Callable[[], Outcome]


Outcome = Reply | CutReply | Drop | Delay


@dataclass
class Fault:
    """One line of the script. ``hits``: how often it struck. A call takes one fault, the others wait for the next."""

    method: str
    kind: str
    nth: int = 1
    times: int = 1
    taken: bool = False
    seconds: float = 0.0
    status: int = 502
    error: str = "EService:Busy"
    reset: bool = False
    gate: str = "before"
    when: Callable[[Params], bool] | None = None
    seen: int = 0
    hits: int = 0

    def strikes(self, method: str, params: Params) -> bool:
        if self.method not in ("*", method) or (self.when is not None and not self.when(params)):
            return False
        self.seen += 1
        return self.seen >= self.nth and self.hits < self.times


class Faults:
    """
    The script. Websocket faults work on the connections that are open now, or on the next messages:

    ``lose(k)`` the next k executions messages never arrive, the sequence shows the gap (``gap=False``: it does not);
    ``double(k)`` each comes twice; ``swap(k)`` the next k come in reverse order; ``refuse_token(k)`` the next k
    private subscriptions get ESession:Invalid session; ``refuse_connections(k)``; see the exchange for
    ``drop_sockets``, ``silence``, ``half_open``, ``send_garbage``.
    """

    def __init__(self) -> None:
        self.script: list[Fault] = []
        self.struck: list[tuple[str, str]] = []
        self.token_refusals = 0
        self.connection_refusals = 0
        self.executions_delay = 0.0
        self._messages: list[str] = []

    def add(self, method: str, kind: str, nth: int = 1, times: int = 1, **options: object) -> Fault:
        """
        Strike the ``nth`` matching call from now, and ``times`` calls in a row; ``method`` "*" is any.

        Options: taken, seconds, status, error, reset, gate, when (a function of the call's parameters).
        """
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(sorted(KINDS))}")
        fault = Fault(method, kind, nth, times, **options)  # type: ignore[arg-type]
        if kind in TAKEN_BY_NATURE:
            fault.taken = True
        self.script.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong from now on."""
        self.script.clear()
        self._messages.clear()
        self.executions_delay = 0.0

    def take(self, method: str, params: Params) -> Fault | None:
        """The fault of this call; every line of the script counts it."""
        hit: Fault | None = None
        for fault in self.script:
            if fault.strikes(method, params) and hit is None:
                hit = fault
        if hit is not None:
            hit.hits += 1
            self.struck.append((method, hit.kind))
        return hit

    def pending(self) -> Iterator[Fault]:
        """Lines that can still strike."""
        return (fault for fault in self.script if fault.hits < fault.times)

    def lose(self, count: int = 1, gap: bool = True) -> None:
        self._messages += ["lose" if gap else "lose_unseen"] * count

    def double(self, count: int = 1) -> None:
        self._messages += ["double"] * count

    def swap(self, count: int = 2) -> None:
        self._messages += ["hold"] * (count - 1) + ["release"]

    def refuse_token(self, count: int = 1) -> None:
        self.token_refusals += count

    def refuse_connections(self, count: int = 1) -> None:
        self.connection_refusals += count

    def take_message(self) -> str:
        """What becomes of the next executions message: "", lose, lose_unseen, double, hold, release."""
        return self._messages.pop(0) if self._messages else ""


def html_page(status: int) -> bytes:
    return (
        f"<!DOCTYPE html>\n<html><head><title>api.kraken.com | {status}</title></head>"
        f"<body><h1>Error {status}</h1><p>cloudflare</p></body></html>\n"
    ).encode()


def spoiled(kind: str, status: int, good: Reply | None) -> Reply | CutReply:
    """The unreadable answer of ``kind``; ``good`` is what would have been said, if Kraken acted."""
    page = {"Content-Type": "text/html; charset=UTF-8", "Server": "cloudflare"}
    body = good.body if good is not None else b'{"error":[],"result":{"descr":{"order":"buy'
    json_headers = {"Content-Type": "application/json; charset=utf-8"}
    if kind == "http":
        if 300 <= status < 400:
            page["Location"] = "/cdn-cgi/elsewhere"
        return Reply(status, page, html_page(status))
    if kind == "empty":
        return Reply(200, json_headers, b"")
    if kind == "cut":
        return Reply(200, json_headers, body[: len(body) // 2])
    if kind == "garbage":
        return Reply(200, page, html_page(200))
    assert kind == "cut_body", kind
    return CutReply(Reply(200, json_headers, body + b" " * 64), len(body) // 2)
