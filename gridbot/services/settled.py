"""
The sums of a running bot's executions, without reading or keeping all of them every time.

A cycle is a buy and the sells that were placed for it. It is settled if no further sell is to come and its sells sold
no more than was bought. As long as every sell closes lots of its own buy, the figures of a settled cycle never change
and do not affect other cycles. So its sums are kept in memory, and its executions are not.
"""

from collections.abc import Sequence, Set
from decimal import Decimal

from gridbot.infrastructure.database import Row, Trade, Trades
from gridbot.models.exchange import BUY
from gridbot.models.grid import EXTRA, NO_BUY
from gridbot.models.money import ZERO
from gridbot.services.ledger import PROVISIONAL, Ledger, Totals, by_cycle, totals

PIECE = 100  # cycles read in one step; takes some milliseconds
# Which lots may be closed by a sell that was not placed for their buy: none; those of buys without a sell; any.
OWN_LOTS, FREE_LOTS, ANY_LOTS = range(3)


class RunningLedger:
    """``totals`` of ``by_cycle`` of all executions, to the last digit."""

    def __init__(self, trades: Trades) -> None:
        self._trades = trades
        self._start_over(OWN_LOTS)

    def _start_over(self, taken: int) -> None:
        self._settled = Totals()
        self._open: dict[str, list[Trade]] = {}
        self._trades.news = news = self._trades.cycles()
        self._taken = max(taken, FREE_LOTS if news & (NO_BUY - {EXTRA}) else OWN_LOTS)

    def go_on(self, busy: Set[str], lot: Decimal, most: int = PIECE) -> None:
        """
        Read at most ``most`` cycles that have new executions, and settle those that are over. ``busy``: buys that are
        open, or whose sell is still to come.
        """
        news = self._trades.news
        for _ in range(min(most, len(news))):
            buy = news.pop()
            if rows := self._trades.of_cycle(buy):
                self._open[buy] = rows
                self._settle(buy, busy, lot)

    def _settle(self, buy: str, busy: Set[str], lot: Decimal) -> None:
        rows = self._open[buy]
        bought = sum((row.info.volume for row in rows if row.info.side == BUY), ZERO)
        sold = sum((row.info.volume for row in rows if row.info.side != BUY), ZERO)
        is_over = sold <= bought if sold else self._taken == OWN_LOTS
        is_sure = not any(row.info.exec_id.startswith(PROVISIONAL) for row in rows)
        if is_over and is_sure and buy not in busy:
            self._settled = self._settled.plus(totals(by_cycle(rows), lot))
            del self._open[buy]

    def totals(
        self, busy: Set[str], lot: Decimal, spoken_for: Set[str], base_before: Decimal | None
    ) -> tuple[Totals, Sequence[Row]]:
        """
        The sums, and the executions that are not settled. ``busy`` as for ``go_on``; ``spoken_for`` and
        ``base_before`` as for ``by_cycle``.
        """
        for _ in range(4):  # more rounds than are ever needed
            if self._taken == ANY_LOTS:
                break
            # A cycle that was settled and is reopened here is counted twice; the check of the count below detects it.
            self._trades.news |= busy - self._open.keys()
            self.go_on(busy, lot, len(self._trades.news))
            for buy in list(self._open):
                self._settle(buy, busy, lot)
            rows = [row for cycle in self._open.values() for row in cycle]
            rows.sort(key=lambda row: (row.info.time, row.info.exec_id))
            view = by_cycle(rows, spoken_for, base_before)
            # SWING's extra sells take no lot while the base from before the bot is enough for them.
            extra = sum((row.info.volume for row in self._open.get(EXTRA, ())), ZERO)
            takes_any = extra > (base_before or ZERO)
            strays = takes_any or _lots_taken(view) > self._taken
            if not strays and self._settled.executions + len(rows) == self._trades.count():
                return self._settled.plus(totals(view, lot)), rows
            self._start_over(ANY_LOTS if takes_any else self._taken + strays)
        self._open, self._trades.news = {}, set()
        everything = self._trades.all_slim()
        return totals(by_cycle(everything, spoken_for, base_before), lot), everything


def _lots_taken(view: Ledger) -> int:
    """Which lots the sells took besides those of their own buys. Extra sells are left out: ``totals`` checks them."""
    placed_for: dict[str, set[str]] = {}
    for row in view.rows:
        if row.info.side != BUY:
            placed_for.setdefault(row.info.txid, set()).add(row.sells)
    others = [
        c
        for c in view.closings
        if placed_for[c.sell_txid] != {EXTRA} and not (c.is_covered and placed_for[c.sell_txid] == {c.buy_txid})
    ]
    if all(c.is_covered and c.buy_txid not in view.named for c in others):
        return FREE_LOTS if others else OWN_LOTS
    return ANY_LOTS
