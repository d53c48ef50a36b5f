"""
Kraken's REST interface as two ways to call it: ``ask`` for questions, which are repeated when no answer comes, and
``send_once`` for orders, which are not. kraken_service knows what the answers mean.

One call at a time per key: a lock is held around "take nonce, send, read reply", because Kraken refuses requests that
overtake each other. Retries of the HTTP library and redirects are off: a copy of an order must not be sent without the
bot's knowledge.
"""

import logging
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.utils import get_environ_proxies
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from gridbot.adapters.exchanges import kraken_wire as wire
from gridbot.adapters.exchanges.kraken_errors import UnlistedRefusal, order_failed, question_failed, row_of
from gridbot.adapters.exchanges.kraken_limits import ADD_COST, REST_COSTS, KrakenLimits
from gridbot.adapters.exchanges.kraken_nonce import NonceSource
from gridbot.adapters.exchanges.kraken_parse import Envelope
from gridbot.adapters.exchanges.kraken_transport import KrakenTransport
from gridbot.exceptions import (
    AccessDenied,
    ConfigurationError,
    ExchangeError,
    OrderFateUnknown,
    PlacementPaused,
    TemporaryFailure,
    UnknownOrderError,
)
from gridbot.interfaces.clock import IClock

LOG = logging.getLogger(__name__)

TOKEN = "GetWebSocketsToken"
UNSHOWN = (TOKEN, "GetApiKeyInfo")  # the answer is a secret, or holds data of the key's owner, such as the IBAN
STOPPING = "The bot is stopping; the question to Kraken was given up"
SHOWN = 2000  # characters of an answer that DEBUG shows

USER_AGENT = "gridbot"

TIMEOUTS = 3.0, 10.0  # seconds to connect, and from the end of the request to the last byte of the answer
SESSION_AGE = 240.0  # seconds; Kraken cuts long sessions, and an order that was cut off must be looked for
# Seconds. An order is never sent on a connection that was silent for so long: it may be dead.
SESSION_IDLE = 60.0

# Questions of a running bot. Once they were answered, a later refusal counts as temporary.
PERIODIC = {"Time", "OpenOrders", "ClosedOrders", "QueryOrders", "QueryTrades", "BalanceEx"}
ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
# Seconds. A longer wait is left to the caller, which may have something better to do.
LONGEST_WAIT_INSIDE = 30.0
# Seconds that an order may wait for its turn, and for a connection; its price grows old meanwhile.
ORDER_PATIENCE = 3.0
NONCES_REFUSED_IN_A_ROW = 4
LOCKED = "EGeneral:Temporary lockout"


class KrakenClient:
    """
    Signed and unsigned calls to one Kraken address with one key (or none: public calls only).

    api_secret_key  base64, as Kraken shows it
    rest_url        with or without a slash or "/0" at its end
    nonce_path      file for the nonce of this key; None: not remembered across restarts
    transport       what carries the requests in place of the network; for tests

    Raises ConfigurationError for an address or a secret that cannot be right.
    """

    def __init__(
        self,
        api_public_key: str,
        api_secret_key: str,
        *,
        clock: IClock,
        rest_url: str = wire.REST_URL,
        nonce_path: Path | None = None,
        transport: BaseAdapter | None = None,
    ) -> None:
        self.limits = KrakenLimits(clock)
        self._clock = clock
        self._key = api_public_key.strip()
        self._secret = wire.decoded_secret(api_secret_key)
        self._base = wire.checked_address(rest_url)
        self.nonce = NonceSource(clock, nonce_path)
        self._answered: set[str] = set()
        self._refused_nonces = 0
        self._locked_until = 0.0  # monotonic: until then the key is not used
        # Read once: each look-up costs half a millisecond.
        self._proxies = get_environ_proxies(self._base)
        self._turn = threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, transport or KrakenTransport())
        self._connected = self._used = 0.0  # monotonic: when the connection was made, and when it was last used

    def ask(self, method: str, params: Mapping[str, Any] | None = None, *, private: bool = False) -> Any:
        """
        The ``result`` of a question. Asked up to five times with growing pauses while the failure may pass; ends early
        when a stop is requested.

        Raises TemporaryFailure after the last attempt, AccessDenied, ConfigurationError (unknown names),
        UnknownOrderError, and ExchangeError for what Kraken refuses to answer. For a PERIODIC question that was
        answered before, TemporaryFailure replaces the last three, unless Kraken does not know an order or trade that
        was asked for.
        """
        if self._clock.stopping():
            raise TemporaryFailure(STOPPING)
        patient = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=_pause,
            stop=lambda state: self._clock.stopping() or stop_after_attempt(ATTEMPTS)(state),
            sleep=self._wait,
            before_sleep=_tell,
            reraise=True,
        )
        try:
            result = patient(self.ask_once, method, params, private=private)
        except (ConfigurationError, ExchangeError) as exc:
            is_about_an_id = isinstance(exc, UnknownOrderError | UnlistedRefusal) and "txid" in (params or {})
            if method not in self._answered or is_about_an_id or isinstance(exc, TemporaryFailure | AccessDenied):
                raise
            raise TemporaryFailure(exc.message) from exc
        if method in PERIODIC:
            self._answered.add(method)
        return result

    def ask_once(self, method: str, params: Mapping[str, Any] | None = None, *, private: bool = False) -> Any:
        """As ``ask``, with a single attempt. Waits until the request counter has room."""
        cost = REST_COSTS.get(method, 1) if private else 0
        while True:
            with self._turn:
                wait = self.limits.rest.seconds_until(cost)
                if wait <= 0:
                    self.limits.rest.take(cost)
                    envelope = self._call(method, params or {}, private)
                    break
            self._wait(wait + 0.01)
        if envelope.errors:
            raise question_failed(method, envelope.errors, self._clock.time())
        return envelope.result

    def send_once(self, method: str, params: Mapping[str, Any]) -> Any:
        """
        The ``result`` of AddOrder, sent once. It is tried again, for three seconds at most, only while no connection
        can be made.

        Raises PlacementPaused (nothing was placed), OrderRejected and its other subclasses, AccessDenied, and
        OrderFateUnknown when the order may exist.
        """
        give_up = self._clock.monotonic() + ORDER_PATIENCE
        while True:
            try:
                envelope = self._send_in_turn(method, params)
                break
            except wire.NeverSent as exc:
                if self._clock.monotonic() >= give_up or self._clock.wait(FIRST_PAUSE):
                    raise PlacementPaused(f"The order was not sent: {exc.message}", ORDER_PATIENCE) from exc
            except wire.TurnedAway as exc:
                raise PlacementPaused(exc.message, exc.retry_after) from exc
            except wire.NoReadableAnswer as exc:
                raise OrderFateUnknown(exc.message) from exc
        if envelope.errors:
            raise order_failed(envelope.errors, self._clock.time())
        return envelope.result

    def _send_in_turn(self, method: str, params: Mapping[str, Any]) -> Envelope:
        if wait := self.limits.engine.seconds_until(ADD_COST):
            raise PlacementPaused("Too many orders in a short time; the order was not sent", wait)
        if not self._turn.acquire(timeout=ORDER_PATIENCE):
            raise PlacementPaused("Another request to Kraken takes long; the order was not sent", 1.0)
        cost = ADD_COST
        try:
            return self._call(method, params, private=True, order=True)
        except wire.NeverSent:
            cost = 0
            raise
        finally:
            self.limits.engine.take(cost)
            self._turn.release()

    def close(self) -> None:
        """Close the connection and store the last nonce."""
        with_turn = self._turn.acquire(timeout=0.2)
        try:
            self.nonce.close()
            self._session.close()
        finally:
            if with_turn:
                self._turn.release()

    def _call(self, method: str, params: Mapping[str, Any], private: bool, order: bool = False) -> Envelope:
        """Sign, send, read. Raises NeverSent, TurnedAway or NoReadableAnswer."""
        if private and (locked := self._locked_until - self._clock.monotonic()) > 0:
            raise wire.TurnedAway(f"{method} was not sent: {row_of(LOCKED).advice}", locked)
        request = self._signed(method, params) if private else self._unsigned(method, params)
        try:
            self._renew_connection(order)
            response = self._session.send(request, timeout=TIMEOUTS, proxies=self._proxies, allow_redirects=False)
        except requests.RequestException as exc:
            if wire.was_never_sent(exc):
                raise wire.NeverSent(f"Kraken cannot be reached ({wire.reason_of(exc)})") from exc
            raise wire.NoReadableAnswer(f"Kraken did not answer {method} ({wire.reason_of(exc)})") from exc
        finally:
            self._used = self._clock.monotonic()
        if LOG.isEnabledFor(logging.DEBUG) and method not in UNSHOWN:
            LOG.debug("%s %s: HTTP %d %.*s", method, dict(params), response.status_code, SHOWN, response.text)
        envelope = wire.open_reply(method, response)
        for warning in envelope.warnings:
            LOG.warning("Kraken warns about %s: %s", method, warning)
        self._note_errors(envelope, response)
        if private and not envelope.errors:
            self._refused_nonces = 0
        return envelope

    def _signed(self, method: str, params: Mapping[str, Any]) -> requests.PreparedRequest:
        if not self._key or not self._secret:
            raise AccessDenied(
                f"{method} needs an API key, and none is configured. Set api_public_key and api_secret_key "
                f"in [kraken], or GRIDBOT_API_PUBLIC_KEY and GRIDBOT_API_SECRET_KEY in the environment."
            )
        path = f"/0/private/{method}"
        nonce = str(self.nonce.next())
        body = wire.encode({"nonce": nonce, **params})
        headers = {
            "User-Agent": USER_AGENT,
            "Content-Type": "application/x-www-form-urlencoded",
            "API-Key": self._key,
            "API-Sign": wire.sign(path, nonce, body, self._secret),
        }
        return requests.Request("POST", self._base + path, headers, data=body.encode()).prepare()

    def _unsigned(self, method: str, params: Mapping[str, Any]) -> requests.PreparedRequest:
        query = wire.encode(params)
        url = f"{self._base}/0/public/{method}" + (f"?{query}" if query else "")
        return requests.Request("GET", url, {"User-Agent": USER_AGENT}).prepare()

    def _renew_connection(self, order: bool) -> None:
        """
        Close a connection that is too old, or too long silent to carry an order; the next request makes a new one.
        """
        now = self._clock.monotonic()
        if now - self._connected > SESSION_AGE or (order and now - self._used > SESSION_IDLE):
            self._session.close()
            self._connected = now

    def _note_errors(self, envelope: Envelope, response: requests.Response) -> None:
        for error in envelope.errors:
            if error.startswith(LOCKED):
                self._locked_until = self._clock.monotonic() + row_of(LOCKED).pause
            elif error.startswith("EAPI:Rate limit"):
                self.limits.rest.fill()
            elif error.startswith(("EOrder:Rate limit", "EOrder:Domain rate limit")):
                self.limits.engine.fill()
            elif error.startswith("EAPI:Invalid nonce"):
                self._refused_nonces += 1
                self.nonce.skip_ahead(wire.time_of(response))
                if self._refused_nonces >= NONCES_REFUSED_IN_A_ROW:
                    raise AccessDenied(
                        f"Kraken answered: {error}. {row_of(error).advice} Kraken refused {self._refused_nonces} "
                        "nonces in a row. If no other program uses the key, it was used with larger nonces before: "
                        "make a new key for the bot."
                    )

    def _wait(self, seconds: float) -> None:
        if self._clock.wait(seconds):
            raise TemporaryFailure(STOPPING)


def _may_pass(exc: BaseException) -> bool:
    return isinstance(exc, TemporaryFailure) and exc.retry_after <= LONGEST_WAIT_INSIDE


def _tell(state: RetryCallState) -> None:
    """Log one line per question that fails, not one per attempt."""
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, TemporaryFailure):
        LOG.log(logging.WARNING if state.attempt_number == 2 else logging.DEBUG, "%s", failure.message)


def _pause(state: RetryCallState) -> float:
    """0.5, 1, 2, 4 s plus a random part of up to 0.5 s (8 s at most), or as long as Kraken asked for."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.retry_after if isinstance(failure, TemporaryFailure) else 0.0
    growing = FIRST_PAUSE * 2.0 ** (state.attempt_number - 1) + random.uniform(0, FIRST_PAUSE)
    return max(asked, min(growing, LONGEST_PAUSE))
