"""
The REST gateway: paths, signature, nonce, permissions, counters, envelope, faults
(Kraken's API, envelope and conventions, authentication, nonce).

``Gateway.handle`` answers one call. The methods themselves are in rest_public.py and
rest_private.py: plain functions from (exchange, call) to the result, raising KrakenError.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.fake_kraken.faults import CutReply, Delay, Drop, Fault, Outcome, Reply, html_page, spoiled
from tests.fake_kraken.wire import KrakenError, from_json, to_json

if TYPE_CHECKING:
    from tests.fake_kraken.exchange import FakeKraken

JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
Handler = Callable[["FakeKraken", "Call"], Any]


@dataclass
class Call:
    """One REST call as it was recorded. ``outcome``: "ok", Kraken's error, or "fault <kind>: ..." ."""

    time: float
    method: str
    params: dict[str, str]
    private: bool
    key: str = ""
    outcome: str = ""
    fault: Fault | None = None
    lag: float = 0.0
    arrived: float = 0.0
    path: str = ""
    headers: dict[str, str] | None = None
    body: str = ""


class Gateway:
    """Stands before the exchange, as Kraken's does before the engine."""

    def __init__(self, fake: FakeKraken) -> None:
        from tests.fake_kraken.rest_private import PRIVATE
        from tests.fake_kraken.rest_public import PUBLIC

        self._fake = fake
        self._public: Mapping[str, Handler] = PUBLIC
        self._private: Mapping[str, tuple[tuple[str, ...], Handler]] = PRIVATE

    def handle(self, method: str, path: str, headers: dict[str, str], body: bytes | str) -> Outcome:
        fake = self._fake
        with fake.lock:
            fake.run_due()
            parts = urlsplit(path)
            pieces = parts.path.strip("/").split("/")
            if len(pieces) != 3 or pieces[0] != "0" or pieces[1] not in ("public", "private"):
                return Reply(404, {"Content-Type": "text/html"}, html_page(404))
            text = body.decode() if isinstance(body, bytes) else (body or "")
            call = Call(fake.clock.time(), pieces[2], {}, pieces[1] == "private", path=parts.path, body=text)
            call.headers = {name.lower(): value for name, value in headers.items()}
            call.params = _params(parts.query, text, call.headers.get("content-type", ""))
            if not fake.strict_booleans:
                call.params = {k: v.lower() if _loose(k, v) else v for k, v in call.params.items()}
            call.key = call.headers.get("api-key", "")
            fake.calls.append(call)
            fault = call.fault = fake.faults.take(call.method, call.params)
            return self._answer(call) if fault is None else self._with_fault(call, fault, method)

    def _with_fault(self, call: Call, fault: Fault, method: str) -> Outcome:
        kind = fault.kind
        if kind in ("stale", "cancel_ignored", "cancel_pending", "no_txid"):
            call.lag = fault.seconds if kind == "stale" else 0.0
            return self._answer(call)
        if kind == "delay_reply":
            reply = self._answer(call)
            return Delay(fault.seconds, lambda: reply)
        if kind == "delay_request":
            return self._late(call, fault)
        good = self._answer(call) if fault.taken else None
        call.outcome = f"fault {kind}" + (f": {call.outcome}" if good else "")
        if kind in ("drop_reply", "drop_request"):
            return Drop(fault.taken, "reset" if fault.reset else "close")
        if kind in ("connect_timeout", "refused"):
            return Drop(False, kind)
        if kind == "error":
            return _envelope([fault.error], None)
        spoilt = spoiled(kind, fault.status, good)
        assert isinstance(spoilt, (Reply, CutReply))
        return spoilt

    def _late(self, call: Call, fault: Fault) -> Outcome:
        """The request is on its way inside Kraken; the client may give up before it arrives."""
        call.outcome = "fault delay_request: on its way"
        refused = self._refuse(call) if fault.gate == "before" else None
        if refused is not None:
            return Delay(fault.seconds, lambda: refused)

        def finish() -> Outcome:
            with self._fake.lock:
                return self._work(call) if fault.gate == "before" else self._answer(call)

        return Delay(fault.seconds, finish)

    def _answer(self, call: Call) -> Reply:
        return self._refuse(call) or self._work(call)

    def _refuse(self, call: Call) -> Reply | None:
        """The gateway: what can be said without looking at the account."""
        call.arrived = self._fake.clock.time()
        try:
            self._check(call)
        except KrakenError as error:
            call.outcome = str(error)
            return _envelope([str(error)], None)
        return None

    def _work(self, call: Call) -> Reply:
        handler = self._private[call.method][1] if call.private else self._public[call.method]
        try:
            result = handler(self._fake, call)
        except KrakenError as error:
            call.outcome = str(error)
            return _envelope([str(error)], None)
        call.outcome = "ok"
        return _envelope([], result)

    def _check(self, call: Call) -> None:
        fake, now = self._fake, self._fake.clock.time()
        known = self._private if call.private else self._public
        if call.method not in known or call.method in fake.unknown_methods:
            raise KrakenError("EGeneral:Unknown method")
        if not call.private:
            fake.limits.charge_public(now)
            return
        key = fake.keys.get(call.key)
        if key is None:
            raise KrakenError("EAPI:Invalid key")
        fake.limits.check_lockout(call.key, now)
        try:
            nonce_text = call.params.get("nonce", "")
            assert call.headers is not None
            if not _signed(call, nonce_text, key.secret):
                raise KrakenError("EAPI:Invalid signature")
            if not nonce_text.isdecimal() or not key.nonce < int(nonce_text) < 2**64:
                raise KrakenError("EAPI:Invalid nonce")
        except KrakenError:
            fake.limits.offence(call.key, now)
            raise
        key.nonce = int(nonce_text)
        wanted = self._private[call.method][0]
        if wanted and not key.permissions.intersection(wanted):
            raise KrakenError("EGeneral:Permission denied")
        fake.limits.charge_rest(call.key, call.method, now)
        fake.limits.good_call(call.key)


def signature(path: str, nonce: str, body: str, secret: str) -> str:
    """API-Sign: HMAC-SHA512 over path and SHA-256 of nonce and body, base64 in and out."""
    digest = hashlib.sha256((nonce + body).encode()).digest()
    mac = hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512)
    return base64.b64encode(mac.digest()).decode()


def _signed(call: Call, nonce: str, secret: str) -> bool:
    assert call.headers is not None
    try:
        return hmac.compare_digest(signature(call.path, nonce, call.body, secret), call.headers.get("api-sign", ""))
    except (binascii.Error, TypeError):
        return False


def _params(query: str, body: str, content_type: str) -> dict[str, str]:
    params = dict(parse_qsl(query, keep_blank_values=True))
    if "json" in content_type:
        try:
            decoded = from_json(body) if body else {}
        except ValueError:
            decoded = {}
        if isinstance(decoded, dict):
            params |= {name: _as_form(value) for name, value in decoded.items() if value is not None}
    else:
        params |= dict(parse_qsl(body, keep_blank_values=True))
    return params


def _loose(name: str, value: str) -> bool:
    """``True`` and ``False`` in a form: refused for certain in ``fee_schedule`` only."""
    return value in ("True", "False") and name != "fee_schedule"


def _as_form(value: Any) -> str:
    """A JSON value as the form body would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list):
        return ",".join(map(_as_form, value))
    return str(value)


def _envelope(errors: list[str], result: Any) -> Reply:
    content = {"error": errors} if errors else {"error": [], "result": result}
    return Reply(200, dict(JSON_HEADERS), to_json(content).encode())
