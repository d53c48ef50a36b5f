"""
Compares the bot's own trades with a backtest of the same time: what differs, and where the difference comes from.

Only the time that the data cover is compared. A filled order is valued at the last price of the data: the base it
moved at that price, the quote it moved, less its fee. Live orders and orders of the backtest are paired by side,
price level and nearness in time. The difference of the two sums is then exactly: fees of pairs + prices and volumes
of pairs + orders only live - orders only in the backtest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from gridbot.core.backtest_result import Fill, Result
from gridbot.core.commands_books import read_books
from gridbot.exceptions import ConfigurationError
from gridbot.models.configuration import Settings
from gridbot.models.exchange import BUY
from gridbot.models.money import ZERO, as_text, step_of, truncate
from gridbot.services.ledger import reconciled
from gridbot.services.messages import Units, counted

SAME_LEVEL = Decimal("0.001")  # prices nearer than this fraction are one level
SAME_TIME = 86400.0  # seconds


@dataclass(frozen=True)
class Comparison:
    """The orders that both have, as (live, backtest), and those only one has; valued at ``last``, in quote."""

    pairs: list[tuple[Fill, Fill]]
    only_live: list[Fill]
    only_past: list[Fill]
    last: Decimal
    span: str  # the time compared, in words
    outside: int  # orders filled live before or after that
    books: str  # of the live bot: "reconciled", or "not reconciled ..." with the reason

    def worth(self, fills: Iterable[Fill]) -> Decimal:
        """The value of these orders at ``last``, after their fees."""
        changes = ((self.last * f.volume - f.cost) * (1 if f.side == BUY else -1) - f.fee for f in fills)
        return sum(changes, ZERO)

    def parts(self) -> dict[str, Decimal]:
        """``difference`` is ``live - backtest``, and the sum of the four values after it."""
        pairs = self.pairs
        live, past = self.worth(a for a, _ in pairs), self.worth(b for _, b in pairs)
        fees = sum((b.fee - a.fee for a, b in pairs), ZERO)
        only_live, only_past = self.worth(self.only_live), self.worth(self.only_past)
        return {
            "live": live + only_live,
            "backtest": past + only_past,
            "difference": live + only_live - past - only_past,
            "from_fees": fees,
            "from_prices": live - past - fees,
            "only_live_value": only_live,
            "only_backtest_value": -only_past,
        }

    def document(self) -> dict[str, object]:
        counts = {"pairs": len(self.pairs), "only_live": len(self.only_live), "only_backtest": len(self.only_past)}
        counts["live_outside_data"] = self.outside
        return {**{name: as_text(amount) for name, amount in self.parts().items()}, **counts, "books": self.books}

    def shown(self, decimals: int) -> dict[str, Decimal]:
        """``parts`` cut to ``decimals``, and two of them calculated from the others after that: they add up, too."""
        cut = {name: truncate(amount, step_of(decimals)) for name, amount in self.parts().items()}
        cut["difference"] = cut["live"] - cut["backtest"]
        others = cut["from_fees"] + cut["only_live_value"] + cut["only_backtest_value"]
        return cut | {"from_prices": cut["difference"] - others}

    def text(self, units: Units) -> str:
        money = {name: units.money(amount) for name, amount in self.shown(units.quote_decimals).items()}
        lines = [
            f"live        compared from {self.span}; {counted(self.outside, 'order')} filled live outside the data",
            f"            trades were worth {money['live']} at the last price, in the backtest {money['backtest']}: a "
            f"difference of {money['difference']}, of which",
            f"            {money['from_fees']} from other fees and {money['from_prices']} from other prices and "
            f"volumes of the {counted(len(self.pairs), 'order')} both have",
            f"            {money['only_live_value']} from {counted(len(self.only_live), 'order')} filled only live",
            f"            {money['only_backtest_value']} from {counted(len(self.only_past), 'order')} filled only in "
            "the backtest",
            f"            live books: {self.books}",
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
    books: str  # "reconciled", or "not reconciled ..." with the reason

    @classmethod
    def read(cls, settings: Settings) -> "LiveTrades":
        """From the bot's books. Raises ConfigurationError, DatabaseError."""
        books = read_books(settings)
        if not books.rows:
            raise ConfigurationError(f"--against-live: {settings.db.path} holds no trades of this bot yet")
        orders: dict[str, Fill] = {}
        for t in (row.info for row in books.rows):
            before = orders.get(t.txid, Fill(t.time, t.side, t.price, ZERO, ZERO, ZERO, None))
            volume, cost = before.volume + t.volume, before.cost + t.cost
            orders[t.txid] = Fill(t.time, t.side, cost / volume, volume, cost, before.fee + t.fee, None)
        end = max(books.rows[-1].info.time, books.stored.synced_at)
        word = reconciled(books.rows, books.last_audit)
        return cls(tuple(orders.values()), books.stored.created_at, end, word)

    def compare(self, past: list[Fill], result: Result) -> Comparison:
        """Compare with ``past``, the fills of the backtest that gave ``result``."""
        left = sorted(past, key=lambda fill: fill.time)
        covered = [fill for fill in self.fills if result.begin <= fill.time <= result.end]
        found = Comparison([], [], left, result.last_price, result.span, len(self.fills) - len(covered), self.books)
        for fill in covered:
            same = [other for other in left if _same_level(fill, other)]
            if same:
                match = min(same, key=lambda other: abs(other.time - fill.time))
                left.remove(match)
                found.pairs.append((fill, match))
            else:
                found.only_live.append(fill)
        return found


def _same_level(one: Fill, other: Fill) -> bool:
    return (
        one.side == other.side
        and abs(one.price - other.price) <= one.price * SAME_LEVEL
        and abs(one.time - other.time) <= SAME_TIME
    )
