"""
The smallest client that can speak to FakeKraken: for its own tests, and for looking at an account beside a bot.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import requests

from tests.fake_kraken.exchange import TEST_KEY, TEST_SECRET
from tests.fake_kraken.rest import signature
from tests.fake_kraken.wire import from_json


class TinyClient:
    """Signs, counts nonces, decodes with Decimal. ``session`` of in_process.session_for, or a real one."""

    def __init__(
        self,
        session: requests.Session,
        url: str = "https://api.kraken.com",
        key: str = TEST_KEY,
        secret: str = TEST_SECRET,
    ) -> None:
        self.session, self.url, self.key, self.secret = session, url, key, secret
        self.nonce = 0
        self.timeout: float = 5.0

    def public(self, method: str, **params: object) -> Any:
        reply = self.session.get(f"{self.url}/0/public/{method}", params=params, timeout=self.timeout)  # type: ignore[arg-type]
        return _result(reply)

    def private(self, method: str, nonce: int | None = None, **params: object) -> Any:
        """The result, or KrakenRefused with the errors of the envelope."""
        self.nonce = self.nonce + 1 if nonce is None else nonce
        path, body = f"/0/private/{method}", urlencode({"nonce": self.nonce} | params)
        headers = {
            "API-Key": self.key,
            "API-Sign": signature(path, str(self.nonce), body, self.secret),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return _result(self.session.post(self.url + path, data=body, headers=headers, timeout=self.timeout))

    def add(self, side: str, volume: str, price: str | None = None, pair: str = "XBTUSD", **params: object) -> Any:
        """AddOrder; a market order without ``price``."""
        order: dict[str, Any] = {"ordertype": "market" if price is None else "limit", "type": side, "pair": pair}
        if price is not None:
            order["price"] = price
        return self.private("AddOrder", None, **order, volume=volume, **params)


class KrakenRefused(Exception):
    """The envelope held an error."""


def _result(reply: requests.Response) -> Any:
    content = from_json(reply.content)
    if content["error"]:
        raise KrakenRefused(*content["error"])
    return content["result"]
