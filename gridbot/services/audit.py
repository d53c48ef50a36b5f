"""
The audit: compares the bot's books with the exchange's own, to the last digit. Pure: all data are passed in.

A *difference* is something on which the two sides do not agree, or agree only in sum; a single one means that the
books are not reconciled. A *note* is for information only. The *unexplained rest* is the part of the balances that
the executions do not explain.
"""

from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

from gridbot.infrastructure.database import Trade
from gridbot.models.configuration import MAX_FEE
from gridbot.models.exchange import OrderInfoSchema, PairBalanceSchema, TradeInfoSchema
from gridbot.models.grid import BookOrder, Placement
from gridbot.models.money import ZERO, as_text, digits
from gridbot.services.bookkeeping import flow
from gridbot.services.funds import bound_by
from gridbot.services.ledger import EXACT, PROVISIONAL
from gridbot.services.messages import counted

SAME_TIME = 1.0  # seconds by which the feed and a report may differ about one execution
MOST_SHOWN = 20  # differences; further ones are only counted


@dataclass(frozen=True)
class OurBooks:
    """What the bot has booked."""

    rows: tuple[Trade, ...]
    orders: tuple[BookOrder, ...]
    pending: tuple[Placement, ...]


@dataclass(frozen=True)
class TheirBooks:
    """What the exchange reported: orders of the bot's userref and pair, executions by id, the account."""

    orders: dict[str, OrderInfoSchema]
    trades: dict[str, TradeInfoSchema]
    balance: PairBalanceSchema
    cost_step: Decimal = ZERO  # one unit of the last digit of its costs and fees; its feed may report more digits


@dataclass(frozen=True)
class Start:
    """
    What there was before the first execution, in base and quote; None: not known.

    account  the whole account, if only the bot uses it (a simulated one): the balances must be equal
    own      the bot's own by [funds]: the account must hold at least that and what the executions changed
    """

    account: tuple[Decimal | None, Decimal | None] = (None, None)
    own: tuple[Decimal | None, Decimal | None] = (None, None)


@dataclass
class Audit:
    """The outcome. ``rests``: what the account holds more than is explained, below 0 what it lacks."""

    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rests: dict[str, Decimal] = field(default_factory=dict)  # by currency, those that are not 0
    executions: int = 0
    orders: int = 0
    has_news: bool = False  # True: among the differences are some that the bot's next comparison will book

    def news(self, difference: str) -> None:
        """Add a difference that the bot's next comparison will book."""
        self.differences.append(difference)
        self.has_news = True

    @property
    def is_reconciled(self) -> bool:
        return not self.differences

    @property
    def difference(self) -> str:
        """The differences in a few words, to follow "not reconciled by"; "" if there are none."""
        if self.is_reconciled:
            return ""
        amounts = " and ".join(f"{digits(rest)} {currency}" for currency, rest in self.rests.items())
        found = counted(len(self.differences), "difference")
        return f"{amounts} ({found})" if amounts else found

    def text(self) -> str:
        lines = [f"compared {counted(self.executions, 'execution')} and {counted(self.orders, 'open order')}"]
        lines += [f"difference: {line}" for line in _shortened(self.differences)]
        lines += [f"note: {line}" for line in self.notes]
        lines += [f"unexplained rest: {_signed(rest)} {name} in the account" for name, rest in self.rests.items()]
        lines.append("reconciled" if self.is_reconciled else f"not reconciled by {self.difference}")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """The outcome for JSON; amounts as text."""
        return {
            "reconciled": self.is_reconciled,
            "differences": self.differences,
            "notes": self.notes,
            "unexplained": {currency: digits(rest) for currency, rest in self.rests.items()},
            "executions": self.executions,
            "open_orders": self.orders,
        }


def _shortened(lines: list[str]) -> list[str]:
    left_out = len(lines) - MOST_SHOWN
    return lines if left_out <= 0 else [*lines[:MOST_SHOWN], f"... and {left_out} more"]


def audit(ours: OurBooks, theirs: TheirBooks, start: Start, base: str, quote: str) -> Audit:
    """Compare the two books. ``base``, ``quote``: the currencies' names for people."""
    found = Audit(executions=len(ours.rows), orders=len(ours.orders))
    with localcontext(EXACT):
        forgotten, believed = _executions(ours, theirs, found)
        _open_orders(ours, theirs, found)
        _balances(ours, believed, theirs, start, (base, quote), found)
        # If the whole account is the bot's, equal balances prove the sum of all executions.
        _forgotten(forgotten, None not in start.account and not found.rests, found)
    return found


def _executions(ours: OurBooks, theirs: TheirBooks, found: Audit) -> tuple[list[Trade], list[TradeInfoSchema]]:
    """
    Note the differences of executions. Returns (forgotten, believed). Forgotten: our executions whose order the
    exchange no longer reports. Believed: the executions that should explain the balances: ours, but the exchange's
    where the two differ.
    """
    known = {row.info.exec_id for row in ours.rows}
    reported = {exec_id for order in theirs.orders.values() for exec_id in order.trades}
    in_sum = {row.info.txid for row in ours.rows if row.info.exec_id.startswith(PROVISIONAL)}
    forgotten, believed = [], _in_sum_only(ours, theirs, in_sum, found)
    for row in ours.rows:
        info = row.info
        if info.txid in in_sum:
            continue
        other = theirs.trades.get(info.exec_id)
        if other is not None:
            if wrong := _unequal(info, other, theirs.cost_step):
                found.differences.append(f"execution {info.exec_id} of order {info.txid}: {wrong}")
            believed.append(other if wrong else info)
        elif info.txid not in theirs.orders:
            forgotten.append(row)
            believed.append(info)
        else:
            found.differences.append(f"execution {info.exec_id} of order {info.txid}: the exchange does not know it")
    for exec_id, trade in theirs.trades.items():
        if exec_id in reported and exec_id not in known and trade.txid not in in_sum:
            what = f"{trade.side} {trade.volume:f} @ {trade.price:f}, fee {trade.fee:f}"
            found.news(f"execution {exec_id} of order {trade.txid} ({what}): not in the bot's books")
            believed.append(trade)
    for txid, order in theirs.orders.items():
        itemised = sum((theirs.trades[i].volume for i in order.trades if i in theirs.trades), ZERO)
        if itemised != order.vol_exec:
            says = f"the exchange says {order.vol_exec:f} was executed and itemises {itemised:f}; try later"
            found.differences.append(f"order {txid}: {says}")
    return forgotten, believed


def _in_sum_only(ours: OurBooks, theirs: TheirBooks, txids: set[str], found: Audit) -> list[TradeInfoSchema]:
    """Orders whose fills the bot has booked as one sum. Returns the exchange's fills, or our sum if it has none."""
    believed = []
    for txid in sorted(txids):
        mine = [row.info for row in ours.rows if row.info.txid == txid]
        volume = sum((trade.volume for trade in mine), ZERO)
        found.news(f"order {txid}: {volume:f} is booked in sum; the bot itemises its fills at the next comparison")
        believed += [trade for trade in theirs.trades.values() if trade.txid == txid] or mine
    return believed


def _unequal(mine: TradeInfoSchema, other: TradeInfoSchema, step: Decimal) -> str:
    tolerated = {"cost": step, "fee": step, "time": SAME_TIME}
    found = []
    for name in ("txid", "side", "price", "volume", "cost", "fee", "time"):
        here, there = getattr(mine, name), getattr(other, name)
        if here != there and (name not in tolerated or abs(here - there) >= tolerated[name]):
            found.append(_both(name, here, there))
    return ", ".join(found)


def _both(what: str, here: object, there: object) -> str:
    ours, theirs = (as_text(x) if isinstance(x, Decimal) else x for x in (here, there))
    return f"{what} {ours} in the bot's books, {theirs} at the exchange"


def _forgotten(rows: list[Trade], proven: bool, found: Audit) -> None:
    if not rows:
        return
    what = f"{counted(len(rows), 'execution')} of orders that the exchange no longer reports"
    if proven:
        found.notes.append(f"{what}: not compared one by one; the balances, equal to the last digit, hold their sum")
    else:
        first = ", ".join(row.info.exec_id for row in rows[:3])
        found.differences.append(f"{what}: nothing proves them (the first: {first})")


def _open_orders(ours: OurBooks, theirs: TheirBooks, found: Audit) -> None:
    book = {order.txid: order for order in ours.orders}
    for order in ours.orders:
        name = f"{order.side} {order.txid} @ {order.price:f}"
        other = theirs.orders.get(order.txid)
        if other is None:
            found.differences.append(f"{name}: open in the bot's books, and the exchange does not mention it")
        elif other.status not in ("open", "pending"):
            found.news(f"{name}: open in the bot's books, {other.status} at the exchange")
        else:
            reported = {"side": other.side, "price": other.price, "volume": other.vol, "executed": other.vol_exec}
            for what, there in reported.items():
                if (here := getattr(order, what)) != there:
                    found.news(f"{name}: {_both(what, here, there)}")
    for txid, info in theirs.orders.items():
        if info.status == "open" and txid not in book:
            found.news(f"{info.side} {txid} @ {info.price:f}: open at the exchange, not in the bot's books")
    for placement in ours.pending:
        found.news(f"{placement}: sent, and not answered yet; the bot finds out before it places anything else")


def _bound_by_others(ours: OurBooks, account: PairBalanceSchema) -> tuple[Decimal, Decimal]:
    """
    Base and quote of the account that are bound by orders of others, and so cannot be the bot's own. It may be more:
    the exchange also holds a fee for the bot's buys, which is not known, so the highest is assumed.
    """
    base, quote = bound_by(ours.orders, ours.pending, MAX_FEE)
    held = account.base_balance - account.base_available, account.quote_balance - account.quote_available
    return max(held[0] - base, ZERO), max(held[1] - quote, ZERO)


def _balances(
    ours: OurBooks,
    trades: list[TradeInfoSchema],
    theirs: TheirBooks,
    start: Start,
    names: tuple[str, str],
    found: Audit,
) -> None:
    """Compare the account with what it, or the bot, had at the start plus the executions."""
    traded, others = flow(trades), _bound_by_others(ours, theirs.balance)
    held = theirs.balance.base_balance, theirs.balance.quote_balance
    for n, name in enumerate(names):
        began, own = start.account[n], start.own[n]
        if began is not None:
            _whole_account(name, began, traded[n], held[n], found)
        if own is not None:
            _fenced(name, own, traded[n], held[n], others[n], found)
        elif began is None:
            _not_told(name, traded[n], held[n], found)
    if start.account[0] is None and names[0] in found.rests:  # always a shortage: here a surplus is no difference
        found.notes.append(f"the missing {names[0]} may have been withdrawn, staked, or sold by hand")


def _whole_account(name: str, began: Decimal, change: Decimal, account: Decimal, found: Audit) -> None:
    should, what = began + change, f"{name}: {digits(began)} at the start, {_signed(change)} by executions"
    if should == account:
        found.notes.append(f"{what}: {digits(account)} in the account")
        return
    found.rests[name] = account - should
    found.differences.append(f"{what} make {digits(should)}; the account holds {digits(account)}")


def _fenced(name: str, began: Decimal, change: Decimal, account: Decimal, others: Decimal, found: Audit) -> None:
    """Compare with what is the bot's own by [funds]. ``others``: the part of the account bound by others' orders."""
    own, account = began + change, account - others
    what = f"{name}: the bot's own were {digits(began)}, {_signed(change)} by executions: {digits(own)}"
    if account < own:
        beside = f" beside the {digits(others)} that other orders bind" if others else ""
        found.rests.setdefault(name, account - own)
        found.differences.append(
            f"{what}; the account holds only {digits(account)}{beside}: some was taken out, or [funds] grants more "
            "than there was"
        )
    elif own < 0:
        found.differences.append(
            f"{what}: {digits(-own)} more than its own were used, by an order made by hand, or because [funds] now "
            "grants it less than it had used already"
        )
    else:
        rest = digits(account + others - own)
        found.notes.append(f"{what}; {rest} in the account are not the bot's and are not touched")


def _not_told(name: str, change: Decimal, account: Decimal, found: Audit) -> None:
    """A shared account without [funds]: only a shortage proves anything."""
    rest, held = account - change, digits(account)
    if change > 0 and rest < 0:
        found.rests[name] = rest
        found.differences.append(f"{name}: executions brought {digits(change)}, and the account holds only {held}")
        return
    found.notes.append(
        f"{name}: the account holds {held}, {digits(rest)} more than the bot's executions explain "
        f"({_signed(change)}); the bot was not told what is its own, see [funds]"
    )


def _signed(value: Decimal) -> str:
    return f"{'+' if value >= 0 else ''}{digits(value)}"
