"""
The names of a pair. They come from Kraken's own tables, never from rules about letters: XXBT is XBT and BTC, but XION
is XION. Only two names are built in: those of BTC and DOGE, which REST calls XBT and XDG.
"""

from dataclasses import dataclass
from typing import Any

from gridbot.adapters.exchanges import kraken_parse as parse
from gridbot.adapters.exchanges.kraken_rest import KrakenClient
from gridbot.exceptions import ConfigurationError, TemporaryFailure
from gridbot.models.configuration import SAME_CURRENCY
from gridbot.models.exchange import AssetPairInfoSchema

# REST says XBT and XDG, the feed and most people say BTC and DOGE.
REST_NAMES = {common: rest for rest, common in SAME_CURRENCY.items()}
TOKENIZED = "tokenized_asset"


@dataclass(frozen=True)
class KrakenPair:
    """
    One pair under all its names.

    altname      in orders and requests: XBTUSD
    ws_symbol    on the feed: BTC/USD
    *_wallets    the balance keys that belong to a currency
    asset_class  what requests must say about xStocks; None for everything else
    """

    altname: str
    ws_symbol: str
    info: AssetPairInfoSchema
    base_wallets: frozenset[str]
    quote_wallets: frozenset[str]

    @property
    def asset_class(self) -> str | None:
        return TOKENIZED if self.info.aclass_base == TOKENIZED else None


def find_pair(client: KrakenClient, base: str, quote: str) -> KrakenPair:
    """
    The pair of two configured currencies, by two or three public calls.

    Raises ConfigurationError when Kraken has no such pair, TemporaryFailure when Kraken cannot answer now.
    """
    row = _pair_row(client, base, quote)
    try:
        info = parse.asset_pair(row)
        altname = str(row["altname"])
        if not altname or not altname.isascii():
            raise ValueError("a name that no request can carry")
        base_name, quote_name = _altnames(client, info)
    except parse.UNREADABLE as exc:
        raise TemporaryFailure(f"Kraken's description of {base}/{quote} cannot be read") from exc
    if (base_name, quote_name) != (_rest_name(base), _rest_name(quote)):
        raise ConfigurationError(
            f"[bot] base_currency = {base}, quote_currency = {quote}: Kraken understands this as "
            f"{_common(base_name)}/{_common(quote_name)}. Write the two currencies of one pair, "
            f"for example BTC and USD."
        )
    return KrakenPair(
        altname=altname,
        ws_symbol=f"{_common(base_name)}/{_common(quote_name)}",
        info=info,
        base_wallets=parse.wallet_names(info.base, base_name, info.aclass_base),
        quote_wallets=parse.wallet_names(info.quote, quote_name, info.aclass_quote),
    )


def _pair_row(client: KrakenClient, base: str, quote: str) -> dict[str, Any]:
    name = _rest_name(base) + _rest_name(quote)
    # xStocks are unknown without their class; their names end in a small x.
    classes = (TOKENIZED, None) if base.endswith("x") else (None, TOKENIZED)
    for asset_class in classes:
        try:
            result = client.ask("AssetPairs", {"pair": name, "aclass_base": asset_class})
        except ConfigurationError:
            continue
        if not isinstance(result, dict) or not all(isinstance(row, dict) for row in result.values()):
            raise TemporaryFailure(f"Kraken's answer to AssetPairs for {name} cannot be read")
        if len(result) == 1:
            [row] = result.values()
            return dict(row)
    raise ConfigurationError(
        f"[bot] base_currency = {base}, quote_currency = {quote}: Kraken does not know the pair {name}. "
        f"Write the names as Kraken's markets page does: BTC and USD, ETH and EUR, AAPLx and USD."
    )


def _altnames(client: KrakenClient, info: AssetPairInfoSchema) -> tuple[str, str]:
    if info.aclass_base == info.aclass_quote:
        table = _assets(client, f"{info.base},{info.quote}", info.aclass_base)
    else:
        table = _assets(client, info.base, info.aclass_base) | _assets(client, info.quote, info.aclass_quote)
    return str(table[info.base]["altname"]), str(table[info.quote]["altname"])


def _assets(client: KrakenClient, ids: str, asset_class: str) -> Any:
    return client.ask("Assets", {"asset": ids, "aclass": asset_class})


def _rest_name(name: str) -> str:
    return REST_NAMES.get(name, name)


def _common(name: str) -> str:
    return SAME_CURRENCY.get(name, name)
