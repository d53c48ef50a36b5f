"""
Orders and trades as the exchange keeps them, and how REST prints them
(Kraken's API, OpenOrders, ClosedOrders, TradesHistory).
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tests.fake_kraken.tables import Pair
from tests.fake_kraken.wire import cut, cut_up, rest_time

ZERO = Decimal(0)
OPEN_STATES = ("pending", "open")
_ID_LETTERS = string.ascii_uppercase + string.digits


class IdMaker:
    """Order, trade and token ids in Kraken's form, the same again for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._trade_numbers: dict[str, int] = {}

    def _text(self, length: int) -> str:
        return "".join(self._random.choices(_ID_LETTERS, k=length))

    def order(self) -> str:
        return f"O{self._text(5)}-{self._text(5)}-{self._text(6)}"

    def trade(self) -> str:
        return f"T{self._text(5)}-{self._text(5)}-{self._text(6)}"

    def trade_number(self, pair: str) -> int:
        self._trade_numbers[pair] = self._trade_numbers.get(pair, 40_274_858) + 1
        return self._trade_numbers[pair]

    def token(self) -> str:
        return "WW91ciBhdXRo" + self._text(32)

    def connection(self) -> int:
        return 18_000_000_000_000_000_000 + self._random.randrange(10**17)


@dataclass(frozen=True)
class Trade:
    id: str
    number: int
    order: str
    pair: Pair
    side: str
    ordertype: str
    price: Decimal
    volume: Decimal
    cost: Decimal
    fee: Decimal
    maker: bool
    time: float

    def row(self) -> dict[str, Any]:
        places = self.pair.cost_decimals
        return {
            "ordertxid": self.order,
            "postxid": "TKH2SE-M7IF5-CFI7LT",
            "pair": self.pair.id,
            "time": rest_time(self.time),
            "type": self.side,
            "ordertype": self.ordertype,
            "price": f"{self.price:.5f}" if self.pair.pair_decimals < 5 else f"{self.price:f}",
            "cost": f"{cut(self.cost, places):f}",
            "fee": f"{cut(self.fee, places):f}",
            "vol": f"{cut(self.volume, self.pair.lot_decimals):f}",
            "margin": "0.00000",
            "misc": "",
            "trade_id": self.number,
            "maker": self.maker,
        }


@dataclass
class Order:
    """One order. ``price`` is the limit (0 for a market order), ``rates`` the (maker, taker) fee of its birth."""

    txid: str
    pair: Pair
    side: str
    ordertype: str
    price: Decimal
    volume: Decimal
    rates: tuple[Decimal, Decimal]
    opentm: float
    userref: int | None = None
    cl_ord_id: str | None = None
    flags: tuple[str, ...] = ()
    timeinforce: str = "GTC"
    expiretm: float = 0
    deadline: float | None = None
    status: str = "pending"
    vol_exec: Decimal = ZERO
    cost: Decimal = ZERO
    fee: Decimal = ZERO
    closetm: float = 0
    reason: str | None = None
    by_hand: bool = False
    cancel_pending: bool = False
    trades: list[str] = field(default_factory=list)
    versions: list[tuple[float, Order]] = field(default_factory=list, repr=False)

    @property
    def post_only(self) -> bool:
        return "post" in self.flags

    @property
    def fee_flag(self) -> str:
        """Where the fee is wanted: asked for, or Kraken's default (quote for a buy, base for a sell)."""
        if "fciq" in self.flags or "fcib" in self.flags:
            return "fcib" if "fcib" in self.flags else "fciq"
        return "fciq" if self.side == "buy" else "fcib"

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATES

    @property
    def remaining(self) -> Decimal:
        return self.volume - self.vol_exec

    @property
    def average(self) -> Decimal:
        return cut(self.cost / self.vol_exec, self.pair.pair_decimals) if self.vol_exec else ZERO

    def crosses(self, last: Decimal) -> bool:
        if self.ordertype == "market":
            return True
        return self.price >= last if self.side == "buy" else self.price <= last

    def hold(self) -> tuple[str, Decimal]:
        """The asset and amount this order keeps from being spent: a buy its cost and maker fee, a sell its volume."""
        if self.side == "sell":
            return self.pair.base.id, self.remaining
        cost = cut_up(self.remaining * self.price, self.pair.cost_decimals)
        fee = cut_up(self.remaining * self.price * max(ZERO, self.rates[0]), self.pair.cost_decimals)
        return self.pair.quote.id, cost + fee

    def remember(self, time: float) -> None:
        """Keep this state, for REST replies that lag behind."""
        self.versions.append((time, replace(self, trades=list(self.trades), versions=[])))

    def as_of(self, time: float) -> Order | None:
        """The order as it stood at ``time``; None when it was not there yet."""
        return next((state for at, state in reversed(self.versions) if at <= time), None)

    def description(self) -> str:
        what = "market" if self.ordertype == "market" else f"limit {cut(self.price, self.pair.pair_decimals):f}"
        return f"{self.side} {cut(self.volume, self.pair.lot_decimals):f} {self.pair.altname} @ {what}"

    def row(self, with_trades: bool = False) -> dict[str, Any]:
        """The order in OpenOrders, or in ClosedOrders once it is closed."""
        pair, money = self.pair, self.pair.cost_decimals
        row: dict[str, Any] = {"refid": None, "userref": self.userref}
        if self.cl_ord_id is not None:
            row["cl_ord_id"] = self.cl_ord_id
        row["status"] = self.status
        if not self.is_open:
            row["reason"] = self.reason
        row["opentm"] = rest_time(self.opentm)
        if not self.is_open:
            row["closetm"] = rest_time(self.closetm)
        flags = list(self.flags) if self.fee_flag in self.flags else [self.fee_flag, *self.flags]
        row |= {
            "starttm": 0,
            "expiretm": rest_time(self.expiretm) if self.expiretm else 0,
            "descr": {
                "pair": pair.altname,
                "aclass": "forex" if pair.base.aclass == "currency" else pair.base.aclass,
                "type": self.side,
                "ordertype": self.ordertype,
                "price": f"{cut(self.price, pair.pair_decimals):f}" if self.price else "0",
                "price2": "0",
                "leverage": "none",
                "order": self.description(),
                "close": "",
            },
            "vol": f"{cut(self.volume, pair.lot_decimals):f}",
            "vol_exec": f"{cut(self.vol_exec, pair.lot_decimals):f}",
            "cost": f"{cut(self.cost, money):f}",
            "fee": f"{cut(self.fee, money):f}",
            "price": f"{cut(self.average, pair.pair_decimals):f}",
            "stopprice": "0.00000",
            "limitprice": "0.00000",
            "misc": "partial" if self.status in ("canceled", "expired") and self.vol_exec else "",
            "oflags": ",".join(flags),
        }
        if with_trades and self.trades:
            row["trades"] = list(self.trades)
        return row
