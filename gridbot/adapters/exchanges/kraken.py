"""
Kraken as gridbot knows it: the two halves of the adapter, and the factory that ``exchange = Kraken`` names.
"""

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
        kraken, bot = setup.settings.kraken, setup.settings.bot
        if not kraken.has_key:
            raise ConfigurationError(
                "[kraken] api_public_key, api_secret_key: real orders need both halves of an API key. Set "
                "them here, or GRIDBOT_API_PUBLIC_KEY and GRIDBOT_API_SECRET_KEY in the environment; a dry "
                "run needs none."
            )
        rest = KrakenRESTService(
            kraken.api_public_key,
            kraken.api_secret_key.get_secret_value(),
            bot.base_currency,
            bot.quote_currency,
            clock=setup.clock,
            rest_url=kraken.rest_url,
            nonce_path=setup.key_state,
        )
        return Exchange(rest, _feed(rest, setup, private=True))


def public_kraken(setup: ExchangeSetup) -> Exchange:
    """Kraken's live prices and pair rules without a key: nothing private is ever called."""
    kraken, bot = setup.settings.kraken, setup.settings.bot
    rest = KrakenRESTService("", "", bot.base_currency, bot.quote_currency, clock=setup.clock, rest_url=kraken.rest_url)
    return Exchange(rest, _feed(rest, setup, private=False))


def _feed(rest: KrakenRESTService, setup: ExchangeSetup, private: bool) -> KrakenWebSocketService:
    kraken = setup.settings.kraken
    return KrakenWebSocketService(
        rest, clock=setup.clock, ws_url=kraken.ws_url, ws_auth_url=kraken.ws_auth_url, private=private
    )
