"""Kraken: the two halves of the adapter, and the factory that ``exchange = Kraken`` names."""

from pathlib import Path

from gridbot.adapters.exchanges.kraken_feed import KrakenWebSocketService
from gridbot.adapters.exchanges.kraken_service import KrakenRESTService
from gridbot.exceptions import ConfigurationError
from gridbot.interfaces.exchange import Exchange, ExchangeSetup, IExchangeFactory

__all__ = ["KrakenExchange", "KrakenRESTService", "KrakenWebSocketService", "public_kraken"]


class KrakenExchange(IExchangeFactory):
    """
    ``exchange = Kraken``: the real exchange, with the key and the addresses of [kraken]. The nonce is kept
    in the setup's ``key_state``.
    """

    def create(self, setup: ExchangeSetup) -> Exchange:
        kraken = setup.settings.kraken
        if not kraken.has_key:
            raise ConfigurationError(
                "[kraken] api_public_key, api_secret_key: real orders need both halves of an API key. Set "
                "them here, or GRIDBOT_API_PUBLIC_KEY and GRIDBOT_API_SECRET_KEY in the environment; a dry "
                "run needs none."
            )
        return _kraken(setup, kraken.api_public_key, kraken.api_secret_key.get_secret_value(), setup.key_state)


def public_kraken(setup: ExchangeSetup) -> Exchange:
    """Kraken's live prices and pair rules without a key: no private call is ever made."""
    return _kraken(setup, "", "", None)


def _kraken(setup: ExchangeSetup, key: str, secret: str, nonce_path: Path | None) -> Exchange:
    clock, kraken, bot = setup.clock, setup.settings.kraken, setup.settings.bot
    pair = bot.base_currency, bot.quote_currency
    rest = KrakenRESTService(key, secret, *pair, clock=clock, rest_url=kraken.rest_url, nonce_path=nonce_path)
    feed = KrakenWebSocketService(
        rest, clock=clock, ws_url=kraken.ws_url, ws_auth_url=kraken.ws_auth_url, private=bool(key)
    )
    return Exchange(rest, feed)
