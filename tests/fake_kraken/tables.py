"""
The assets and pairs the fake exchange lists (Kraken's API, Assets, AssetPairs, asset names).

Prices and volumes Decimal, precisions in places after the point. One row per name that
makes trouble: BTC (XXBT, XBT), DOGE (XXDG, XDG), a tokenised share, a pair quoted in BTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.fake_kraken.wire import KrakenError, step

_DISPLAY = {"XBT": "BTC", "XDG": "DOGE"}
SHARES = ("AAPLx", "BRK.Bx")


@dataclass(frozen=True)
class Asset:
    id: str
    altname: str
    decimals: int
    display_decimals: int
    aclass: str = "currency"

    @property
    def display(self) -> str:
        """The name on the websocket: BTC, DOGE, otherwise the altname."""
        return _DISPLAY.get(self.altname, self.altname)

    def row(self) -> dict[str, Any]:
        return {
            "aclass": self.aclass,
            "altname": self.altname,
            "decimals": self.decimals,
            "display_decimals": self.display_decimals,
            "status": "enabled",
        }


@dataclass
class Pair:
    id: str
    altname: str
    base: Asset
    quote: Asset
    pair_decimals: int
    cost_decimals: int
    ordermin: Decimal
    costmin: Decimal
    lot_decimals: int = 8
    status: str = "online"
    tick_size: Decimal = field(default=Decimal(0))

    def __post_init__(self) -> None:
        self.tick_size = self.tick_size or step(self.pair_decimals)

    @property
    def symbol(self) -> str:
        """The name on websocket v2: BTC/USD."""
        return f"{self.base.display}/{self.quote.display}"

    @property
    def wsname(self) -> str:
        """The published name of websocket v1: XBT/USD. REST and v2 refuse it."""
        return f"{self.base.altname}/{self.quote.altname}"

    @property
    def names(self) -> set[str]:
        """What a request may call it."""
        return {self.id, self.altname, self.symbol, self.symbol.replace("/", "")}

    def row(self) -> dict[str, Any]:
        """As listed since September 2026: the fee ladders are empty."""
        return {
            "altname": self.altname,
            "wsname": self.wsname,
            "aclass_base": self.base.aclass,
            "base": self.base.id,
            "aclass_quote": self.quote.aclass,
            "quote": self.quote.id,
            "lot": "unit",
            "cost_decimals": self.cost_decimals,
            "pair_decimals": self.pair_decimals,
            "lot_decimals": self.lot_decimals,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [],
            "fees_maker": [],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": f"{self.ordermin:f}",
            "costmin": f"{self.costmin:f}",
            "tick_size": f"{self.tick_size:f}",
            "status": self.status,
            "execution_venue": "international",
        }


def default_assets() -> dict[str, Asset]:
    rows = (
        Asset("XXBT", "XBT", 10, 5),
        Asset("XETH", "ETH", 10, 5),
        Asset("XXDG", "XDG", 8, 2),
        Asset("SOL", "SOL", 10, 5),
        Asset("T", "T", 10, 5),
        Asset("AAPLx", "AAPLx", 10, 5, "tokenized_asset"),
        Asset("BRK.Bx", "BRK.Bx", 10, 5, "tokenized_asset"),
        Asset("ZUSD", "USD", 4, 2),
        Asset("ZEUR", "EUR", 4, 2),
    )
    return {asset.id: asset for asset in rows}


def default_pairs(assets: dict[str, Asset]) -> dict[str, Pair]:
    usd = assets["ZUSD"]
    rows = (
        Pair("XXBTZUSD", "XBTUSD", assets["XXBT"], usd, 1, 5, Decimal("0.00005"), Decimal("0.5")),
        Pair("XETHZUSD", "ETHUSD", assets["XETH"], usd, 2, 5, Decimal("0.001"), Decimal("0.5")),
        Pair("XDGUSD", "XDGUSD", assets["XXDG"], usd, 7, 8, Decimal("13"), Decimal("0.5")),
        Pair("SOLUSD", "SOLUSD", assets["SOL"], usd, 2, 5, Decimal("0.02"), Decimal("0.5")),
        Pair("TUSD", "TUSD", assets["T"], usd, 5, 5, Decimal("100"), Decimal("0.5")),
        Pair("AAPLxUSD", "AAPLxUSD", assets["AAPLx"], usd, 2, 5, Decimal("0.00000001"), Decimal("0.5")),
        Pair("BRK.BxUSD", "BRK.BxUSD", assets["BRK.Bx"], usd, 2, 5, Decimal("0.00000001"), Decimal("0.5")),
        Pair("XETHXXBT", "ETHXBT", assets["XETH"], assets["XXBT"], 5, 10, Decimal("0.001"), Decimal("0.00002")),
    )
    return {pair.id: pair for pair in rows}


DEFAULT_PRICES = {
    "XXBTZUSD": Decimal("50000.0"),
    "XETHZUSD": Decimal("2500.00"),
    "XDGUSD": Decimal("0.1000000"),
    "SOLUSD": Decimal("150.00"),
    "TUSD": Decimal("0.02000"),
    "AAPLxUSD": Decimal("210.00"),
    "BRK.BxUSD": Decimal("490.00"),
    "XETHXXBT": Decimal("0.05000"),
}


def find_pair(pairs: dict[str, Pair], name: str, asset_class: str | None = None) -> Pair:
    """
    The pair a REST request means. A tokenised one is unknown without its asset class.

    Raises ``EQuery:Unknown asset pair``, for the published ``XBT/USD`` as well.
    """
    for pair in pairs.values():
        if name in pair.names:
            wanted = asset_class or "currency"
            tokenised = pair.base.aclass == "tokenized_asset"
            if tokenised == (wanted == "tokenized_asset"):
                return pair
    raise KrakenError("EQuery:Unknown asset pair")


def find_symbol(pairs: dict[str, Pair], symbol: str) -> Pair | None:
    """The pair of a websocket v2 symbol."""
    return next((pair for pair in pairs.values() if pair.symbol == symbol), None)
