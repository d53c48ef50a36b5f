"""
Live against backtest over the bot's own time: what differs, and where the difference comes from.

Every filled order is worth, at the last price, what it moved: base at that price, quote, and its fee. Orders
of the two sides are paired by side, level and nearness in time. The difference of the two sums is then
exactly: fees of pairs + prices and volumes of pairs + orders only live - orders only in the backtest.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from gridbot.core.backtest_result import Fill
from gridbot.exceptions import ConfigurationError
from gridbot.infrastructure.database import Configuration, DBConnect, Trades
from gridbot.models.exchange import BUY
from gridbot.models.money import ZERO, as_text
from gridbot.services.messages import Units

SAME_LEVEL = Decimal("0.001")  # prices nearer than this fraction are one level
SAME_TIME = 86400.0  # seconds


@dataclass(frozen=True)
class Comparison:
    """Amounts in quote; the parts add up to ``live - past``."""

    live: Decimal
    past: Decimal
    pairs: int
    fees: Decimal
    prices: Decimal
    only_live: tuple[Fill, ...]
    only_past: tuple[Fill, ...]
    only_live_value: Decimal
    only_past_value: Decimal

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "live": as_text(self.live),
            "backtest": as_text(self.past),
            "difference": as_text(self.live - self.past),
            "pairs": self.pairs,
            "from_fees": as_text(self.fees),
            "from_prices": as_text(self.prices),
            "only_live": len(self.only_live),
            "only_live_value": as_text(self.only_live_value),
            "only_backtest": len(self.only_past),
            "only_backtest_value": as_text(self.only_past_value),
        }

    def text(self, units: Units) -> str:
        """For people."""
        money = units.money
        lines = [
            f"live        trades were worth {money(self.live)} at the last price, in the backtest {money(self.past)}: "
            f"a difference of {money(self.live - self.past)}, of which",
            f"            {money(self.fees)} from other fees and {money(self.prices)} from other prices and volumes of "
            f"the {self.pairs} orders both have",
            f"            {money(self.only_live_value)} from {len(self.only_live)} orders filled only live",
            f"            {money(-self.only_past_value)} from {len(self.only_past)} orders filled only in the backtest",
        ]
        for name, fills in (("only live", self.only_live), ("only backtest", self.only_past)):
            lines += [f"            {name}: {f.side} {units.order(f.price, f.volume)}" for f in fills[:5]]
        return "\n".join(lines)


@dataclass(frozen=True)
class LiveTrades:
    """The bot's own executions, order by order, in the time from ``begin`` to ``end`` (unix seconds)."""

    fills: tuple[Fill, ...]
    begin: float
    end: float

    @classmethod
    def read(cls, path: Path, userref: int) -> "LiveTrades":
        """From the bot's database, without changing it. Raises ConfigurationError, DatabaseError."""
        if not path.exists():
            raise ConfigurationError(f"--against-live: there is no database {path}; the bot has not run yet")
        db = DBConnect(path, read_only=True)
        try:
            configuration = Configuration(db, userref)
            rows = Trades(db, userref).all()
        finally:
            db.close()
        if not configuration.exists or not rows:
            raise ConfigurationError(f"--against-live: {path} holds no trades of userref {userref} yet")
        orders: dict[str, Fill] = {}
        for row in rows:
            t, before = row.info, orders.get(row.info.txid)
            volume = t.volume + (before.volume if before else ZERO)
            cost = t.cost + (before.price * before.volume if before else ZERO)
            fee = t.fee + (before.fee if before else ZERO)
            orders[t.txid] = Fill(t.time, t.side, cost / volume, volume, fee, None)
        stored = configuration.get()
        return cls(tuple(orders.values()), stored.created_at, max(rows[-1].info.time, stored.synced_at))

    def compare(self, past: list[Fill]) -> Comparison:
        """Against the fills of the backtest."""
        last = max([*self.fills, *past], key=lambda fill: fill.time).price
        left = sorted(past, key=lambda fill: fill.time)
        pairs: list[tuple[Fill, Fill]] = []
        only_live = []
        for fill in self.fills:
            match = min(
                (other for other in left if _same_level(fill, other)),
                key=lambda other: abs(other.time - fill.time),
                default=None,
            )
            if match is None:
                only_live.append(fill)
            else:
                left.remove(match)
                pairs.append((fill, match))
        fees = sum((b.fee - a.fee for a, b in pairs), ZERO)
        both = sum((_worth(a, last) - _worth(b, last) for a, b in pairs), ZERO)
        return Comparison(
            live=sum((_worth(fill, last) for fill in self.fills), ZERO),
            past=sum((_worth(fill, last) for fill in past), ZERO),
            pairs=len(pairs),
            fees=fees,
            prices=both - fees,
            only_live=tuple(only_live),
            only_past=tuple(left),
            only_live_value=sum((_worth(fill, last) for fill in only_live), ZERO),
            only_past_value=sum((_worth(fill, last) for fill in left), ZERO),
        )


def _same_level(one: Fill, other: Fill) -> bool:
    return (
        one.side == other.side
        and abs(one.price - other.price) <= one.price * SAME_LEVEL
        and abs(one.time - other.time) <= SAME_TIME
    )


def _worth(fill: Fill, last: Decimal) -> Decimal:
    moved = fill.volume * (last - fill.price)
    return (moved if fill.side == BUY else -moved) - fill.fee
