"""
How Kraken's REST requests are written and its replies opened: encoding, signature, and the meaning of each network
failure. No state, and nothing is sent here.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from ssl import SSLCertVerificationError
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ProxyError, SSLError

from gridbot.adapters.exchanges.kraken_parse import Envelope, read_envelope
from gridbot.exceptions import ConfigurationError, TemporaryFailure
from gridbot.models.money import as_text

REST_URL = "https://api.kraken.com"
BLOCKED_PAUSE = 60.0  # after HTTP 403 or 429: Cloudflare blocks for minutes


class NeverSent(TemporaryFailure):
    """No connection was made, so Kraken received nothing."""


class NoReadableAnswer(TemporaryFailure):
    """The request was sent, but the answer is missing or cannot be read: Kraken may have acted on it."""


class TurnedAway(TemporaryFailure):
    """Refused in front of Kraken (HTTP 403 or 429): Kraken received nothing."""


def sign(path: str, nonce: str, body: str, secret: bytes) -> str:
    """
    The API-Sign header.

    path    "/0/private/AddOrder", without host and query
    body    byte for byte what is sent; contains the nonce again
    secret  the decoded secret
    """
    digest = hashlib.sha256((nonce + body).encode()).digest()
    return base64.b64encode(hmac.digest(secret, path.encode() + digest, "sha512")).decode()


def encode(params: Mapping[str, Any]) -> str:
    """
    Form encoding as Kraken reads it; None is left out.

    >>> encode({"volume": Decimal("1E-8"), "trades": True, "oflags": "post,fciq", "start": None})
    'volume=0.00000001&trades=true&oflags=post%2Cfciq'
    """
    return urlencode({name: _text(value) for name, value in params.items() if value is not None})


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return as_text(value)
    if isinstance(value, int | str):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent to Kraken")


def was_never_sent(exc: requests.RequestException) -> bool:
    """True only if the request certainly failed before its first byte was sent: an order may then be sent again."""
    if isinstance(exc, requests.exceptions.ConnectTimeout):
        return True
    inner = exc.args[0] if exc.args else None
    reason = inner.reason if isinstance(inner, MaxRetryError) else inner
    if isinstance(reason, ProxyError):
        reason = reason.original_error
    if isinstance(reason, SSLError) and reason.args:
        reason = reason.args[0]
    # A name that does not resolve is a NewConnectionError too. A certificate is checked before
    # anything is sent, while other TLS errors can come in the middle of an answer.
    return isinstance(reason, NewConnectionError | ConnectTimeoutError | SSLCertVerificationError)


def reason_of(exc: requests.RequestException) -> str:
    """The failure in plain words; the library's own texts hold addresses and object names."""
    names = {
        requests.exceptions.ReadTimeout: "no answer in time",
        requests.exceptions.ConnectTimeout: "no connection in time",
        requests.exceptions.SSLError: "the secure connection failed; is the clock of this machine right?",
        requests.exceptions.ProxyError: "the proxy failed",
        requests.exceptions.ChunkedEncodingError: "the answer was cut off",
        requests.exceptions.ContentDecodingError: "the answer is damaged",
    }
    for kind, words in names.items():
        if isinstance(exc, kind):
            return words
    return "no connection; is the network up?" if was_never_sent(exc) else "the connection broke"


def open_reply(method: str, response: requests.Response) -> Envelope:
    """The envelope of a reply. Raises TurnedAway, or NoReadableAnswer if the reply cannot be trusted."""
    status = response.status_code
    if status >= 500 or 300 <= status < 400:
        raise NoReadableAnswer(f"Kraken answered {method} with HTTP {status}")
    try:
        return read_envelope(response.content)
    except ValueError as exc:
        if status in (403, 429):
            raise TurnedAway(
                f"The network in front of Kraken refuses us (HTTP {status}): too many connections from this "
                f"address, or a blocked one. The bot waits.",
                BLOCKED_PAUSE,
            ) from exc
        raise NoReadableAnswer(f"Kraken answered {method} with HTTP {status}: {exc}") from exc


def time_of(response: requests.Response) -> float:
    """Unix seconds of the Date header, 0 without a readable one."""
    try:
        return parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return 0.0


def checked_address(rest_url: str) -> str:
    """The address without a slash or "/0" at its end. Raises ConfigurationError."""
    url = rest_url.strip().rstrip("/").removesuffix("/0").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"[kraken] rest_url = {rest_url}: this is no web address. Right would be {REST_URL}")
    return url


def decoded_secret(api_secret_key: str) -> bytes:
    """The secret as bytes; empty for none. Raises ConfigurationError, without showing it."""
    try:
        return base64.b64decode(api_secret_key.strip(), validate=True)
    except ValueError:  # binascii.Error is one
        raise ConfigurationError(
            "[kraken] api_secret_key: this is not a secret as Kraken shows it (88 letters, digits, + / and "
            "=). Copy the private key once more, completely and without blanks."
        ) from None
