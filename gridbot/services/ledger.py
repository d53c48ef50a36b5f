"""
The accounts: what the executions mean in lots, gains and cycles. Pure: rows in, figures out.

Every buy execution is a lot at its cost and fee. A sell closes lots, and which ones depends on what is asked:

    by_cycle   the lots of the buy it was placed for: what the grid earned
    fifo       the oldest lots, whichever buy they are from: what a tax office asks for

In both views, at any price:   gains of what was sold + price move of what is held
                               + what selling base from before the bot brought = change of the account's value
Amounts in base (volume) and quote (the rest), times in unix seconds. Nothing is rounded: when a part of a lot
is sold, its cost is split so that the parts add up to the whole again, digit by digit.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from gridbot.infrastructure.audits import AuditMark
from gridbot.infrastructure.database import Row
from gridbot.models.exchange import BUY
from gridbot.models.grid import EXTRA, NO_BUY, SURPLUS, BookOrder, Placement, UnsoldBuy
from gridbot.models.money import ZERO, as_text
from gridbot.services.lots import INFINITE, Closing, Lot, Sale, Shelf, part
from gridbot.services.messages import counted

PROVISIONAL = "?"  # begins the exec id of a row that stands for fills the exchange has not itemised yet
# Sums of prices x volumes need more digits than the default 28 of decimal; with these none is ever lost.
EXACT = Context(prec=80)


@dataclass(frozen=True)
class Holding:
    """The sum of some lots: base, cost in quote before fees, fees in quote."""

    volume: Decimal = ZERO
    cost: Decimal = ZERO
    fee: Decimal = ZERO


@dataclass(frozen=True)
class Line:
    """One line of the profit, before its fees."""

    gross: Decimal
    fees: Decimal

    @property
    def net(self) -> Decimal:
        return EXACT.subtract(self.gross, self.fees)


@dataclass(frozen=True)
class Profit:
    """
    The change of the account's value by the bot's trades, taken apart. ``grid + price_move + before = change``
    holds before fees, in fees and after fees.
    """

    price: Decimal
    grid: Line  # sold lots: proceeds less cost
    price_move: Line  # held lots: value at ``price`` less cost
    before: Line  # base from before the bot: its proceeds less its value at ``price``; no profit, a comparison
    change: Line  # quote earned less quote spent, and base gained at ``price``


class Cycle:
    """One buy and what was sold of it; ``state``: closed, open (its sell is still to come) or held."""

    def __init__(self, txid: str, rows: Sequence[Row], sales: Sequence[Closing], is_open: bool) -> None:
        self.buy_txid = txid
        self.bought_at = rows[0].info.time
        self.bought = sum((row.info.volume for row in rows), ZERO)
        self.cost = sum((row.info.cost + row.info.fee for row in rows), ZERO)  # of all that was bought
        self.sold = sum((c.volume for c in sales), ZERO)
        self.sold_at = max((c.sold_at for c in sales), default=0.0)  # the last sale
        self.proceeds = sum((c.proceeds - c.sell_fee for c in sales), ZERO)
        self.gain = sum((c.gain for c in sales), ZERO)  # of what was sold, both fees taken off
        self.held = self.bought - self.sold
        self.state = "open" if is_open else "closed" if self.sold else "held"


@dataclass(frozen=True)
class Ledger:
    """The executions in one of the two views."""

    rows: tuple[Row, ...]
    closings: tuple[Closing, ...]
    lots: tuple[Lot, ...]  # still held, the oldest first
    spoken_for: frozenset[str] = frozenset()  # buys whose sell is still to come
    named: frozenset[str] = frozenset()  # buys that some sell was placed for


@dataclass(frozen=True)
class Totals:
    """All sums that the profit lines need. Totals of disjoint sets of lots can be added."""

    executions: int = 0
    change: Holding = Holding()  # base bought less sold; quote spent less earned; all fees
    sold: Holding = Holding()  # of lots: cost less proceeds, both fees
    before: Holding = Holding()  # base from before that was sold; its proceeds; fees
    waiting: Holding = Holding()  # this one and the next two: see ``held_by_kind``
    rests: Holding = Holding()
    unassigned: Holding = Holding()
    dust: Holding = Holding()  # of the rests, see ``dust_in``

    @property
    def held(self) -> Holding:
        """What is left of all lots."""
        return add(add(self.waiting, self.rests), self.unassigned)

    def plus(self, other: "Totals") -> "Totals":
        (executions, *mine), (more, *others) = vars(self).values(), vars(other).values()
        return Totals(executions + more, *map(add, mine, others))


def spoken_for(
    orders: Iterable[BookOrder], pending: Iterable[Placement], unsold: Iterable[UnsoldBuy], keeps: bool = False
) -> frozenset[str]:
    """
    The buys whose sell is open, on its way, or still to be placed. Open buys are among them, because what they have
    executed will be sold, unless the strategy ``keeps`` what it buys.
    """
    named = {placement.sells for placement in pending} | {buy.txid for buy in unsold}
    for order in orders:
        if order.side != BUY:
            named.add(order.sells)
        elif not keeps:
            named.add(order.txid)
    return frozenset(named) - NO_BUY


def surplus_of(remaining: Decimal, orders: Iterable[BookOrder], keeps: bool) -> Decimal:
    """
    Base of cancelled orders that is to be sold: what open sells offer of it, plus the stored ``remaining``, unless the
    strategy ``keeps`` what it buys.
    """
    return (ZERO if keeps else remaining) + sum((order.rest for order in orders if order.sells == SURPLUS), ZERO)


def by_cycle(rows: Sequence[Row], spoken_for: Iterable[str] = (), base_before: Decimal | None = None) -> Ledger:
    """
    Every sell closes the lots of the buy it was placed for. Sells of the surplus, and sells of unknown origin, close
    lots of buys that no sell was placed for; if these are not enough, the oldest lots. SWING's extra sells close what
    the sells of other buys left over before they touch lots that still have a sell to come.

    spoken_for   buys whose sell is open, on its way or still to be placed
    base_before  base the bot was given: SWING's extra sells take from it first. None: not known; then they first take
                 what other sells left over, and the rest of the sell counts as base from before
    """
    waiting = frozenset(spoken_for)
    named = frozenset(row.sells for row in rows if row.sells not in NO_BUY) | waiting
    return _account(rows, named, waiting, base_before, is_fifo=False)


def fifo(rows: Sequence[Row], base_before: Decimal | None = None) -> Ledger:
    """
    Every sell closes the oldest lots. Only SWING's extra sells first take from ``base_before``, the base the bot was
    given; None: not known, then they close lots as other sells do.
    """
    return _account(rows, frozenset(), frozenset(), base_before, is_fifo=True)


def _account(
    rows: Sequence[Row], named: frozenset[str], waiting: frozenset[str], base_before: Decimal | None, is_fifo: bool
) -> Ledger:
    shelf = Shelf(_pledged(rows, waiting))
    choose = shelf.oldest if is_fifo else shelf.next_of
    before = base_before or ZERO
    closings: list[Closing] = []
    # A sell must come after its buy, even if the times of the two messages say otherwise.
    bought = {row.info.txid: row.info.time for row in sorted(rows, key=lambda row: row.info.time)}
    ordered = sorted(rows, key=lambda row: (max(row.info.time, bought.get(row.sells, 0.0)), row.info.side != BUY))
    with localcontext(EXACT):
        for row in ordered:
            info = row.info
            if info.side == BUY:
                shelf.put(Lot(info.txid, info.time, info.volume, info.cost, info.fee), info.txid in named)
                continue
            sale = Sale(row)
            if row.sells == EXTRA and before:
                from_before = min(before, sale.volume)
                sale.close(None, from_before)
                before -= from_before
            if row.sells == EXTRA and not is_fifo:
                shelf.sell_what_is_kept(sale)
                if base_before is None:
                    sale.close(None)
            elif row.sells in shelf.pledged:
                shelf.pledged[row.sells] -= info.volume
            while sale.volume and (lot := choose(row.sells)) is not None:
                sale.close(lot)
            sale.close(None)
            closings += sale.closings
    left = tuple(lot for lot in shelf.lots if lot.volume)
    return Ledger(tuple(ordered), tuple(closings), left, waiting, named)


def _pledged(rows: Sequence[Row], waiting: Iterable[str]) -> dict[str, Decimal]:
    """By buy: the base that its own sells take of it; infinite while one of them is still to come."""
    pledged: dict[str, Decimal] = {}
    for row in rows:
        if row.sells not in NO_BUY:
            pledged[row.sells] = pledged.get(row.sells, ZERO) + row.info.volume
    return pledged | dict.fromkeys(waiting, INFINITE)


def totals(ledger: Ledger, lot: Decimal = ZERO) -> Totals:
    """The sums of a view; ``lot``: one unit of base, below which nothing can be sold."""
    infos, closings = [row.info for row in ledger.rows], ledger.closings
    with localcontext(EXACT):
        return Totals(
            len(infos),
            holding(
                Holding(i.volume, i.cost, i.fee) if i.side == BUY else Holding(-i.volume, -i.cost, i.fee) for i in infos
            ),
            holding(Holding(c.volume, c.cost - c.proceeds, c.sell_fee + c.buy_fee) for c in closings if c.is_covered),
            holding(Holding(c.volume, c.proceeds, c.sell_fee) for c in closings if not c.is_covered),
            *held_by_kind(ledger),
            dust_in(ledger, lot),
        )


def profit(books: Ledger | Totals, price: Decimal) -> Profit:
    """The profit lines at ``price``, in quote."""
    found = books if isinstance(books, Totals) else totals(books)
    held, before, change = found.held, found.before, found.change
    with localcontext(EXACT):
        return Profit(
            price=price,
            grid=Line(-found.sold.cost, found.sold.fee),
            price_move=Line(held.volume * price - held.cost, held.fee),
            before=Line(before.cost - before.volume * price, before.fee),
            change=Line(change.volume * price - change.cost, change.fee),
        )


def holding(lots: Iterable[Lot | Holding]) -> Holding:
    """Volume, cost and fees of some lots."""
    volume = cost = fee = ZERO
    with localcontext(EXACT):
        for lot in lots:
            volume += lot.volume
            cost += lot.cost
            fee += lot.fee
    return Holding(volume, cost, fee)


def held_by_kind(ledger: Ledger) -> tuple[Holding, Holding, Holding]:
    """
    What is held, as (waiting, rests, unassigned): lots whose sell is still to come; rests of buys that were sold;
    lots of buys that no sell was placed for. Only for a ledger from ``by_cycle``.
    """
    lots, rests = ledger.lots, ledger.named - ledger.spoken_for
    return (
        holding(lot for lot in lots if lot.txid in ledger.spoken_for),
        holding(lot for lot in lots if lot.txid in rests),
        holding(lot for lot in lots if lot.txid not in ledger.named),
    )


def split(held: Holding, volume: Decimal) -> tuple[Holding, Holding]:
    """Two parts of ``held``: ``volume`` of it (or all, if it is less) with its share of the costs, and the rest."""
    if volume >= held.volume:
        return held, Holding()
    with localcontext(EXACT):
        taken = Holding(volume, part(held.cost, volume, held.volume), part(held.fee, volume, held.volume))
    return taken, add(held, taken, -1)


def add(one: Holding, other: Holding, sign: int = 1) -> Holding:
    """The sum of both; with ``sign`` -1 ``one`` less ``other``."""
    with localcontext(EXACT):
        return Holding(one.volume + sign * other.volume, one.cost + sign * other.cost, one.fee + sign * other.fee)


def dust_in(ledger: Ledger, lot: Decimal) -> Holding:
    """The sum of the rests that are dust: at most one lot unit for each sell that was placed for the buy."""
    sells = Counter(buy for buy, _ in {(row.sells, row.info.txid) for row in ledger.rows if row.info.side != BUY})
    rests = {txid: Holding() for txid in ledger.named - ledger.spoken_for}
    for left in ledger.lots:
        if left.txid in rests:
            rests[left.txid] = holding((rests[left.txid], left))
    return holding(rest for txid, rest in rests.items() if rest.volume <= lot * sells[txid])


def cycles(ledger: Ledger) -> list[Cycle]:
    """The buys of a ledger from ``by_cycle``, the oldest first. Their gains add up to the grid profit."""
    bought: dict[str, list[Row]] = {}
    sold: dict[str, list[Closing]] = {}
    for row in ledger.rows:
        if row.info.side == BUY:
            bought.setdefault(row.info.txid, []).append(row)
    for closing in ledger.closings:
        sold.setdefault(closing.buy_txid, []).append(closing)
    with localcontext(EXACT):
        return [Cycle(txid, rows, sold.get(txid, []), txid in ledger.spoken_for) for txid, rows in bought.items()]


def reconciled(rows: Sequence[Row], last: AuditMark | None, settled: int = 0) -> str:
    """
    "reconciled", or "not reconciled ..." with the reason; shown with every profit. ``settled``: the number of
    executions that are not in ``rows``.
    """
    executions = settled + len(rows)
    loose = [row.info for row in rows if row.info.exec_id.startswith(PROVISIONAL)]
    if loose:
        volume = sum((info.volume for info in loose), ZERO)
        orders = counted(len({info.txid for info in loose}), "order")
        return f"not reconciled by {as_text(volume)} base in {orders} whose fills are not itemised yet"
    if last is None:
        return "not reconciled: there was no audit yet"
    if last.difference:
        return f"not reconciled by {last.difference}"
    if last.trades != executions:
        return f"not reconciled by {counted(abs(executions - last.trades), 'execution')} since the last audit"
    return "reconciled"
