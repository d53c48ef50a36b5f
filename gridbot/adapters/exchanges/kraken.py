"""
Kraken as gridbot knows it: the two halves of the adapter, and the factory that ``exchange = Kraken`` names.
"""

import hashlib
from pathlib import Path

from gridbot.adapters.exchanges.kraken_feed import KrakenWebSocketService
from gridbot.adapters.exchanges.kraken_service import KrakenRESTService
from gridbot.exceptions import ConfigurationError
from gridbot.interfaces.exchange import Exchange, ExchangeSetup, IExchangeFactory

__all__ = ["KrakenExchange", "KrakenRESTService", "KrakenWebSocketService", "public_kraken"]


class KrakenExchange(IExchangeFactory):
    """
    ``exchange = Kraken``: the real exchange, with the key and the addresses of [kraken]. The nonce is kept
    in the setup's ``key_state``; without one beside the database, in a file named by a hash of the key.
    """

    def create(self, setup: ExchangeSetup) -> Exchange:
        """See the interface."""
        kraken, bot = setup.settings.kraken, setup.settings.bot
        secret = kraken.api_secret_key.get_secret_value()
        if not kraken.api_public_key or not secret:
            raise ConfigurationError(
                "[kraken] api_public_key, api_secret_key: real orders need both halves of an API key. Set "
                "them here, or GRIDBOT_API_PUBLIC_KEY and GRIDBOT_API_SECRET_KEY in the environment; a dry "
                "run needs none."
            )
        rest = KrakenRESTService(
            kraken.api_public_key,
            secret,
            bot.base_currency,
            bot.quote_currency,
            clock=setup.clock,
            rest_url=kraken.rest_url,
            nonce_path=setup.key_state or default_nonce_path(setup.settings.db.path, kraken.api_public_key),
        )
        return Exchange(rest, _feed(rest, setup, private=True))


def public_kraken(setup: ExchangeSetup) -> Exchange:
    """Kraken's live prices and pair rules without a key: nothing private is ever called."""
    kraken, bot = setup.settings.kraken, setup.settings.bot
    rest = KrakenRESTService("", "", bot.base_currency, bot.quote_currency, clock=setup.clock, rest_url=kraken.rest_url)
    return Exchange(rest, _feed(rest, setup, private=False))


def default_nonce_path(database: Path, api_public_key: str) -> Path:
    """Beside the database; the name tells keys apart without telling the key."""
    mark = hashlib.sha256(api_public_key.encode()).hexdigest()[:12]
    return database.parent / f"kraken-{mark}.nonce"


def _feed(rest: KrakenRESTService, setup: ExchangeSetup, private: bool) -> KrakenWebSocketService:
    kraken = setup.settings.kraken
    return KrakenWebSocketService(
        rest, clock=setup.clock, ws_url=kraken.ws_url, ws_auth_url=kraken.ws_auth_url, private=private
    )
