"""
The accounts as lines and tables: profit, periods, cycles, gains of a tax year. Data in, data and text out.

Amounts of the profit are cut to the decimals of the pair in such a way that the figures shown add up. A profit is
never shown without saying whether the books are reconciled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from gridbot.infrastructure.audits import AuditMark
from gridbot.infrastructure.database import Trade
from gridbot.models.exchange import BUY
from gridbot.models.money import ZERO, digits, step_of, truncate
from gridbot.services import ledger
from gridbot.services.ledger import EXACT, Cycle, Holding, Ledger, Line, Profit, Totals
from gridbot.services.lots import Closing
from gridbot.services.messages import Units
from gridbot.services.tables import Cell, Column, Table, moment

DAY = 86400.0
LOT = Decimal("1E-8")  # the lot unit of nearly every pair, in base
UNCOVERED = "base from before the bot: when it was acquired and what it cost is not known here"


@dataclass(frozen=True)
class Summary:
    """What the bot's trades have brought, at one price."""

    profit: Profit
    held: Holding  # every lot that is not sold yet
    waiting: Holding  # of it: lots whose sell is still to come
    kept: Holding  # of it: base accumulated
    dust: Holding  # of it: single lot units that sells left over
    surplus: Holding  # of it: executed parts of cancelled buys
    executions: int
    books: str  # "reconciled", or "not reconciled by ..."


def summarise(
    rows: Sequence[Trade],
    price: Decimal,
    spoken_for: Iterable[str] = (),
    base_before: Decimal | None = None,
    last_audit: AuditMark | None = None,
    surplus: Decimal | None = None,
    lot: Decimal = LOT,
) -> Summary:
    """The sums over all ``rows`` at ``price``; for the other parameters see ``summary_of`` and ``ledger``."""
    view = ledger.by_cycle(rows, spoken_for, base_before)
    return summary_of(ledger.totals(view, lot), price, ledger.reconciled(rows, last_audit), surplus)


def summary_of(found: Totals, price: Decimal, books: str, surplus: Decimal | None = None) -> Summary:
    """
    The sums of a ledger by cycle, at one price.

    surplus  base of cancelled orders that is still to be sold; lots without a sell may be more than that, if the
             strategy, or one before it, kept them. None: all lots without a sell are surplus
    """
    left_over = found.unassigned.volume if surplus is None else surplus
    of_buys, others = ledger.split(found.unassigned, left_over)
    of_sells, kept = ledger.split(ledger.add(found.rests, found.dust, -1), left_over - of_buys.volume)
    return Summary(
        profit=ledger.profit(found, price),
        held=found.held,
        waiting=found.waiting,
        kept=ledger.add(kept, others),
        dust=found.dust,
        surplus=ledger.add(of_buys, of_sells),
        executions=found.executions,
        books=books,
    )


def shown_profit(found: Profit, decimals: int) -> dict[str, Line]:
    """
    grid profit, price move, (base from before,) change: cut to ``decimals``. The price move is calculated from the
    other figures after they are cut, so that the figures shown add up.
    """

    def cut(value: Decimal) -> Decimal:
        return truncate(value, step_of(decimals)) + ZERO  # + ZERO: no "-0.00"

    net = {name: cut(line.net) for name, line in _lines(found).items()}
    fees = {name: cut(line.fees) for name, line in _lines(found).items()}
    for table in (net, fees):
        table["price move"] = table["change"] - table["grid profit"] - table["base from before"]
    shown = {name: Line(net[name] + fees[name], fees[name]) for name in net}
    if not (found.before.gross or net["base from before"]):
        del shown["base from before"]
    return shown


def _lines(found: Profit) -> dict[str, Line]:
    return {
        "grid profit": found.grid,
        "price move": found.price_move,
        "base from before": found.before,
        "change": found.change,
    }


def signed(value: Decimal) -> str:
    """ "+12.34", "-3.21", "0.00"."""
    return f"{value:+f}" if value else f"{abs(value):f}"


def profit_lines(summary: Summary, units: Units) -> tuple[str, ...]:
    """The lines for the status message, labels twelve letters wide; the last says if the books are reconciled."""
    shown = shown_profit(summary.profit, units.quote_decimals)
    grid, move, change = shown["grid profit"], shown["price move"], shown["change"]
    lines = [
        f"grid profit {signed(grid.net)} {units.quote} by what was sold, after {grid.fees:f} of fees",
        f"price move  {signed(move.net)} {units.quote} on {units.volume(summary.held.volume)} held at what they cost, "
        f"after {move.fees:f} of fees",
        f"change      {signed(change.net)} {units.quote} in all; the {change.fees:f} of fees are taken off above",
    ]
    if before := shown.get("base from before"):
        lines.insert(
            2, f"before      {signed(before.net)} {units.quote} by selling base from before the bot, not keeping it"
        )
    lines += [f"{label:<12}{text}" for label, text in _kept_lines(summary, units)]
    return (*lines, f"books       {summary.books}")


def _kept_lines(summary: Summary, units: Units) -> list[tuple[str, str]]:
    lines = []
    if summary.kept.volume:
        value = truncate(summary.kept.volume * summary.profit.price, step_of(units.quote_decimals))
        lines.append(("accumulated", f"{units.volume(summary.kept.volume)}, worth {value:f} {units.quote}"))
    if summary.dust.volume:
        lines.append(("dust", f"{units.volume(summary.dust.volume)} left over by sells that sold a lot unit less"))
    if summary.surplus.volume:
        lines.append(("surplus", f"{units.volume(summary.surplus.volume)} of cancelled buys, not sold yet"))
    return lines


def summary_text(summary: Summary, units: Units) -> str:
    """The profit as a table whose rows and columns add up, what is held, and whether the books are reconciled."""
    shown = shown_profit(summary.profit, units.quote_decimals)
    rows = [("", "before fees", "fees", "after fees")]
    rows += [(label, signed(line.gross), signed(-line.fees), signed(line.net)) for label, line in shown.items()]
    text = [f"profit in {units.quote}, coins held at {summary.profit.price:f} {units.quote}"]
    text += [f"  {label:<18}{gross:>16}{fees:>14}{net:>16}" for label, gross, fees, net in rows]
    text.append(f"  books: {summary.books}")
    text.append(
        f"held: {units.volume(summary.held.volume)} that cost {units.money(summary.held.cost)} "
        f"and {shown['price move'].fees:f} {units.quote} of fees"
    )
    if summary.waiting.volume:
        text.append(f"  for sale    {units.volume(summary.waiting.volume)}, their sells are still to come")
    return "\n".join([*text, *(f"  {label:<12}{line}" for label, line in _kept_lines(summary, units))])


def summary_document(summary: Summary) -> dict[str, Any]:
    """The summary for JSON: amounts as text, with every digit."""
    lines = {
        name.replace(" ", "_"): {"gross": digits(x.gross), "fees": digits(x.fees), "net": digits(x.net)}
        for name, x in _lines(summary.profit).items()
    }
    holdings = {
        name: {"volume": digits(h.volume), "cost": digits(h.cost), "fees": digits(h.fee)}
        for name, h in (
            ("held", summary.held),
            ("for_sale", summary.waiting),
            ("accumulated", summary.kept),
            ("dust", summary.dust),
            ("surplus", summary.surplus),
        )
    }
    head = {"books": summary.books, "price": digits(summary.profit.price), "executions": summary.executions}
    return {**head, "profit": lines, **holdings}


PERIODS: dict[str, int] = {"day": 10, "month": 7, "year": 4}  # letters of 2026-11-22


def by_period(view: Ledger, period: str, units: Units) -> Table:
    """One row for each day, month or year (UTC) in which something was executed; buys and sells count executions."""
    letters = PERIODS[period]
    found: dict[str, list[Any]] = {}

    def row_of(at: float) -> list[Any]:
        return found.setdefault(moment(at)[:letters], [0, 0, ZERO, ZERO, ZERO, ZERO])

    with localcontext(EXACT):
        for trade in view.rows:
            info, row = trade.info, row_of(trade.info.time)
            is_buy = info.side == BUY
            row[0 if is_buy else 1] += 1
            row[2] += info.volume if is_buy else -info.volume
            row[3] += -info.cost - info.fee if is_buy else info.cost - info.fee
            row[4] += info.fee
        for closing in view.closings:
            if closing.is_covered:
                row_of(closing.sold_at)[5] += closing.gain
    columns = (
        Column(period, period),
        Column("buys", "buys", "count"),
        Column("sells", "sells", "count"),
        Column("base_change", f"{units.base} +/-", "amount", units.lot_decimals),
        Column("quote_change", f"{units.quote} +/-", "amount", units.quote_decimals),
        Column("fees", "fees in it", "amount", units.quote_decimals),
        Column("grid_profit", "grid profit", "amount", units.quote_decimals),
    )
    return _with_totals(columns, tuple((name, *found[name]) for name in sorted(found)))


def by_cycle_table(view: Ledger, units: Units) -> Table:
    """One row for each buy, the oldest first."""

    def row(cycle: Cycle) -> tuple[Cell, ...]:
        bought = cycle.bought_at, cycle.bought, cycle.cost
        sold = cycle.sold, cycle.sold_at or None, cycle.proceeds, cycle.gain if cycle.sold else None
        return (*bought, *sold, cycle.held, cycle.state, cycle.buy_txid)

    base, quote = units.base, units.quote
    columns = (
        Column("bought_at", "bought", "day"),
        Column("bought", f"{base}", "amount", units.lot_decimals),
        Column("cost_with_fee", f"cost {quote}", "amount", units.quote_decimals),
        Column("sold", f"sold {base}", "amount", units.lot_decimals),
        Column("sold_at", "sold", "day", on_terminal=False),
        Column("proceeds_less_fee", f"proceeds {quote}", "amount", units.quote_decimals, on_terminal=False),
        Column("gain", "gain", "amount", units.quote_decimals),
        Column("held", f"held {base}", "amount", units.lot_decimals, on_terminal=False),
        Column("state", "state"),
        Column("buy", "buy order"),
    )
    return _with_totals(columns, tuple(row(c) for c in ledger.cycles(view)))


def _with_totals(columns: tuple[Column, ...], rows: tuple[tuple[Any, ...], ...]) -> Table:
    """A table with a last line of totals, for counts and amounts."""
    nothing: dict[str, Any] = {"count": 0, "amount": ZERO}
    with localcontext(EXACT):
        sums = [
            sum((row[n] for row in rows if row[n] is not None), nothing[column.kind]) if column.kind in nothing else ""
            for n, column in enumerate(columns)
        ]
    return Table(columns, rows, ("all", *sums[1:]))


def tax_table(view: Ledger, year: int, units: Units) -> Table:
    """
    The gains of a year (UTC) out of a ledger from ``fifo``: one row for each part of a lot that was sold. For base
    from before the bot date and cost are not known, and therefore no gain is shown.
    """

    def row(sale: Closing) -> tuple[Cell, ...]:
        sold, volume, ids = sale.sold_at, sale.volume, (sale.buy_txid, sale.sell_txid)
        proceeds = sale.proceeds - sale.sell_fee
        if not sale.is_covered:
            return (None, sold, volume, None, proceeds, None, None, *ids, UNCOVERED)
        days = int((sold - sale.bought_at) // DAY)
        return (sale.bought_at, sold, volume, sale.cost + sale.buy_fee, proceeds, sale.gain, days, *ids, "")

    columns = (
        Column("acquired", "acquired", "time"),
        Column("sold", "sold", "time"),
        Column(f"volume_{units.base}", f"volume {units.base}", "amount", units.lot_decimals),
        Column(f"cost_with_fees_{units.quote}", f"cost {units.quote}", "amount", units.quote_decimals),
        Column(f"proceeds_less_fees_{units.quote}", "proceeds", "amount", units.quote_decimals),
        Column(f"gain_{units.quote}", "gain", "amount", units.quote_decimals),
        Column("holding_days", "days", "count"),
        Column("buy", "buy", on_terminal=False),
        Column("sell", "sell", on_terminal=False),
        Column("note", "note", on_terminal=False),
    )
    sales = [sale for sale in view.closings if moment(sale.sold_at)[:4] == f"{year:04d}"]
    with localcontext(EXACT):
        return Table(columns, tuple(row(sale) for sale in sales))
