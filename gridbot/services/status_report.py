"""
The state of the grid as text: the ladder, and the hourly status message. Text out of data, nothing else.

Every line of the status message is explained in the README.
"""

from dataclasses import dataclass
from decimal import Decimal

from gridbot.models.grid import BookOrder, GridView, Waiting
from gridbot.models.money import ZERO, shown, signed_percent
from gridbot.services.messages import Units, counted, duration

MOST_RUNGS = 12  # sells shown in the ladder; a long bear market leaves hundreds


@dataclass(frozen=True)
class Status:
    """The data of the status message. Balances: the exchange's last report, updated by the bot's own fills since."""

    name: str
    strategy: str
    simulated: bool
    units: Units
    grid: GridView
    waiting: tuple[Waiting, ...]
    base_balance: Decimal
    quote_balance: Decimal
    profit_lines: tuple[str, ...] = ()
    halted: str = ""  # why the exchange accepts no orders for now; "": it does
    keeps: bool = False  # the strategy never sells what it buys


def ladder(
    sells: tuple[BookOrder, ...], buys: tuple[BookOrder, ...], price: Decimal, units: Units, now: float | None = None
) -> str:
    """
    The grid as a picture: sells above, the price, buys below, distances in percent of the price; with ``now``
    (unix seconds) the orders' ages, too.

        sell      50500.0    +1.00 %   0.00200000 BTC
             >    50000.0 USD
        buy       49504.9    -0.99 %   0.00202000 BTC
    """

    def rung(order: BookOrder) -> str:
        at = shown(order.price, units.price_decimals)
        part = f", {units.volume(order.executed)} of it filled" if order.executed else ""
        age = "" if now is None else f"  {duration(now - order.placed_at):>11}"
        return f"{order.side:<5}{at:>12} {away(order.price, price):>10}   {units.volume(order.volume)}{part}{age}"

    lines = [rung(order) for order in reversed(sells[:MOST_RUNGS])]
    if len(sells) > MOST_RUNGS:
        lines.insert(0, f"  ... and {counted(len(sells) - MOST_RUNGS, 'sell')} above")
    return "\n".join([*lines, f"    >{shown(price, units.price_decimals):>12} {units.quote}", *map(rung, buys)])


def away(price: Decimal, ticker: Decimal) -> str:
    """How far ``price`` is from the present price ``ticker``: "+1.00 %"."""
    return signed_percent((price - ticker) / ticker if ticker else ZERO)


def headline(name: str, strategy: str, units: Units, simulated: bool) -> str:
    """The first line of a report: "demo: GridHODL on BTC/USD, play money"."""
    return f"{name}: {strategy} on {units.base}/{units.quote}{', play money' if simulated else ''}"


def status_message(status: Status) -> str:
    grid, units = status.grid, status.units
    wealth = status.quote_balance + status.base_balance * grid.ticker
    lines = [
        headline(status.name, status.strategy, units, status.simulated),
        f"price       {shown(grid.ticker, units.price_decimals)} {units.quote}",
        f"balances    {units.volume(status.base_balance)} ({units.volume(grid.base_available)} free), "
        f"{units.money(status.quote_balance)} ({units.money(grid.quote_available)} free)",
        f"surplus     {units.volume(grid.surplus)}, executed parts of cancelled buys, without a sell",
        f"wealth      {units.money(wealth)}",
        f"investment  {units.money(grid.investment)} of at most {units.money(grid.settings.max_investment)}",
        f"orders      {len(grid.buys)} of {counted(grid.settings.n_open_buy_orders, 'buy')}, "
        f"{counted(len(grid.sells), 'sell')}, {counted(len(grid.unsold), 'filled buy')} waiting for "
        f"{'its' if len(grid.unsold) == 1 else 'their'} sell",
        *status.profit_lines,
        *(f"missing     buy @ {shown(w.price, units.price_decimals)}: {w.reason}" for w in status.waiting),
        *([f"halted      no order can be placed: {status.halted}"] if status.halted else []),
        *(f"waiting     {p.side} @ {shown(p.price, units.price_decimals)}: not answered yet" for p in grid.pending),
        ladder(grid.sells, grid.buys, grid.ticker, units),
    ]
    return "\n".join(lines)


def status_document(status: Status) -> dict[str, object]:
    """The status for the status server: plain values, amounts as Decimal."""
    grid = status.grid
    return {
        "name": status.name,
        "strategy": status.strategy,
        "pair": f"{status.units.base}/{status.units.quote}",
        "simulated": status.simulated,
        "price": grid.ticker,
        "base_balance": status.base_balance,
        "quote_balance": status.quote_balance,
        "base_available": grid.base_available,
        "quote_available": grid.quote_available,
        "vol_of_unfilled_remaining": grid.surplus,
        "investment": grid.investment,
        "max_investment": grid.settings.max_investment,
        "buys": [_row(order) for order in grid.buys],
        "sells": [_row(order) for order in grid.sells],
        "unsold": [{"txid": b.txid, "price": b.price, "volume": b.volume} for b in grid.unsold],
        "pending": [{"side": p.side, "price": p.price, "volume": p.volume} for p in grid.pending],
        "halted": status.halted,
        "missing": missing(status),
    }


def missing(status: Status) -> list[dict[str, object]]:
    """The buys that are missing, with the reasons; amounts as Decimal."""
    return [{"price": w.price, "cause": w.cause.value, "reason": w.reason} for w in status.waiting]


def _row(order: BookOrder) -> dict[str, object]:
    return {"txid": order.txid, "price": order.price, "volume": order.volume, "executed": order.executed}
