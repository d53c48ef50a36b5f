"""What the running bot and the commands share of the accounts: what belongs to what, and the stored view."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from gridbot.models.configuration import Settings
from gridbot.models.grid import EXTRA, SURPLUS, BookOrder, Placement, UnsoldBuy
from gridbot.models.money import as_text
from gridbot.services.status_report import Status


def base_before(settings: Settings) -> Decimal | None:
    """Base the bot was given at its first start; None when nobody told."""
    if settings.funds.own_base is not None:
        return settings.funds.own_base
    return settings.paper.base_balance if settings.bot.simulated else None


def spoken_for(
    orders: Iterable[BookOrder], pending: Iterable[Placement], unsold: Iterable[UnsoldBuy]
) -> frozenset[str]:
    """The buys whose sell is open, on its way, or still to be placed."""
    named = {order.sells for order in orders} | {placement.sells for placement in pending}
    return frozenset(named | {buy.txid for buy in unsold}) - {"", SURPLUS, EXTRA}


def snapshot(status: Status) -> dict[str, Any]:
    """What ``status`` cannot find in the other tables: the price, the free funds, and why levels are missing."""
    units = status.units
    return {
        "price": as_text(status.grid.ticker),
        "fee": as_text(status.grid.settings.fee),
        "base_free": as_text(status.grid.base_available),
        "quote_free": as_text(status.grid.quote_available),
        "price_decimals": units.price_decimals,
        "lot_decimals": units.lot_decimals,
        "quote_decimals": units.quote_decimals,
        "missing": [{"price": as_text(w.price), "cause": w.cause.value, "reason": w.reason} for w in status.waiting],
    }
