"""The accounts as the running bot and the commands share them: the base given at the start, and the stored view."""

from dataclasses import replace
from decimal import Decimal

from gridbot.infrastructure.audits import Audits, Snapshots
from gridbot.infrastructure.database import DBConnect
from gridbot.models.configuration import Settings
from gridbot.models.grid import SURPLUS, Waiting
from gridbot.models.money import step_of
from gridbot.services.funds import bound_by
from gridbot.services.ledger import reconciled, spoken_for, surplus_of
from gridbot.services.messages import Units
from gridbot.services.order_desk import BUYING, CROSSING, CROWDED, PLACING, OrderDesk
from gridbot.services.report import profit_lines, summary_of
from gridbot.services.settled import RunningLedger
from gridbot.services.status_report import Status, missing
from gridbot.strategies.grid_notices import UNPAID

KEEP_SPACING = 10.0  # seconds; the least time between two views stored because something changed


def base_told(settings: Settings) -> Decimal | None:
    """The base that is the bot's own at its first start: [funds], else the play money; None if neither says it."""
    if settings.funds.own_base is not None:
        return settings.funds.own_base
    return settings.paper.base_balance if settings.bot.simulated else None


class AccountView:
    """The accounts of a running bot: profit lines for its status message, and the view it stores for ``status``."""

    def __init__(self, settings: Settings, db: DBConnect, desk: OrderDesk) -> None:
        self._settings = settings
        self._desk = desk
        self._audits = Audits(db, settings.bot.userref)
        self._snapshots = Snapshots(db, settings.bot.userref)
        self._ledger = RunningLedger(desk.trades)
        self._kept: list[str] | None = None
        self._kept_at = -KEEP_SPACING

    def add_up(self, units: Units) -> None:
        """Add some of the new executions to the sums, so that ``with_profit`` never keeps the loop waiting for all."""
        if self._desk.trades.news:
            self._ledger.go_on(self._spoken_for(), step_of(units.lot_decimals))

    def with_profit(self, status: Status) -> Status:
        """``status`` with its profit lines. Slow: call it once an hour, not for every price."""
        desk, stored = self._desk, self._desk.configuration.get()
        given, lot = stored.base_given(base_told(self._settings)), step_of(status.units.lot_decimals)
        waiting = self._spoken_for(status.keeps)
        found, rows = self._ledger.totals(self._spoken_for(), lot, waiting, given)
        books = reconciled(rows, self._audits.last(), found.executions - len(rows))
        surplus = surplus_of(stored.vol_of_unfilled_remaining, desk.book, status.keeps)
        summary = summary_of(found, status.grid.ticker, books, surplus)
        return replace(status, profit_lines=profit_lines(summary, status.units))

    def _spoken_for(self, keeps: bool = False) -> frozenset[str]:
        return spoken_for(self._desk.book, self._desk.pending.all(), self._desk.unsold.all(), keeps)

    def is_news(self, waiting: tuple[Waiting, ...]) -> bool:
        """
        True if the reasons for missing levels, the pauses or the refusals differ from the stored view, which is at
        least KEEP_SPACING old. A simulated fill counts as well: it is booked at the price of its order, so only the
        view knows the price of the market.
        """
        return self._kept != self._gist(waiting) and self._desk.now() - self._kept_at >= KEEP_SPACING

    def keep(self, status: Status) -> None:
        """Store the view that ``status`` reads while or after the bot runs. Raises DatabaseError."""
        self._kept, self._kept_at = self._gist(status.waiting), self._desk.now()
        grid, units = status.grid, status.units
        # Stored is free + bound - traded, which the bot's own orders and executions do not change. Whoever reads it
        # later adds what was traded by then and subtracts what is bound then: the result is what is free then.
        bound = bound_by(self._desk.book, self._desk.pending.all(), grid.settings.fee)
        free = grid.base_available, grid.quote_available
        base, quote = (sum(part) - traded for *part, traded in zip(free, bound, self._desk.traded, strict=True))
        document = {
            "price": grid.ticker,
            "fee": grid.settings.fee,
            "base_free": grid.base_available,
            "quote_free": grid.quote_available,
            "base_untraded": base,
            "quote_untraded": quote,
            "price_decimals": units.price_decimals,
            "lot_decimals": units.lot_decimals,
            "quote_decimals": units.quote_decimals,
            "keeper": status.strategy if status.keeps else "",
            "missing": missing(status),
            "pauses": self._pauses(),
            "refused": self._refused(),
        }
        self._snapshots.put(self._kept_at, document)

    def _pauses(self) -> list[str]:
        pauses = self._desk.pauses
        lasting = [UNPAID] if UNPAID in self._desk.notices else []
        return [what for what in (PLACING, BUYING, CROSSING, CROWDED) if not pauses.over(what)] + lasting

    def _refused(self) -> dict[str, str]:
        """What was refused and has not succeeded since, with the exchange's reason."""
        wanted = (PLACING, BUYING, SURPLUS, *(buy.txid for buy in self._desk.unsold.all()))
        return {what: why for what in wanted if (why := self._desk.pauses.why(what))}

    def _gist(self, waiting: tuple[Waiting, ...]) -> list[str]:
        """What a new view is stored for. Not prices and amounts: they change all the time, and writing wears a disk."""
        fills = [str(self._desk.traded)] if self._settings.bot.simulated else []
        return sorted({w.cause.value for w in waiting}) + self._pauses() + list(self._refused()) + fills
