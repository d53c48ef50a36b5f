"""
Events as sentences, for the log and for the owner's phone: text out of data, nothing else.

Volumes are in base with the decimals of a lot, prices in quote with the decimals of the pair, other
money in quote with two decimals (more for a quote such as BTC). Everything is cut, never rounded up.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from gridbot.models import events
from gridbot.models.exchange import BUY, AssetPairInfoSchema
from gridbot.models.money import shown

MINUTE, HOUR, DAY = 60, 3600, 86400

# Two amounts that differ must look different; beyond this many decimals they may look alike.
MOST_DECIMALS = 10


@dataclass(frozen=True)
class Units:
    """How this pair's amounts are written."""

    base: str  # for people: BTC, not XXBT
    quote: str
    price_decimals: int
    lot_decimals: int = 8
    quote_decimals: int = 2  # of costs, fees and profits; 8 suits a quote such as BTC

    @classmethod
    def of(cls, base: str, quote: str, pair: AssetPairInfoSchema) -> Self:
        """Those of ``pair``, under the names people use."""
        return cls(base, quote, pair.pair_decimals, pair.lot_decimals, pair.money_decimals)

    def order(self, price: Decimal, volume: Decimal) -> str:
        """ "0.00202000 BTC @ 49504.9 USD"."""
        return f"{self.volume(volume)} @ {shown(price, self.price_decimals)} {self.quote}"

    def volume(self, volume: Decimal) -> str:
        """ "0.00202000 BTC"."""
        return f"{shown(volume, self.lot_decimals)} {self.base}"

    def money(self, amount: Decimal) -> str:
        """ "100.00 USD"."""
        return f"{shown(amount, self.quote_decimals)} {self.quote}"


def message_for(event: events.Event, units: Units) -> str | None:
    """
    The event in plain words, amounts with their units, ids last; None for an event unknown here.

    >>> message_for(events.GridShifted(Decimal("51005.0"), 5), Units("BTC", "USD", 1))
    'the price 51005.0 USD has risen above the grid: 5 buys cancelled, to be placed again below it'
    """
    match event:
        case events.BotStarted():
            return f"{event.name} started" + _after("\n", event.summary)
        case events.BotStopped():
            return f"{event.name} stopped" + _after(": ", event.reason) + _after("\n", event.summary)
        case events.OrderPlaced():
            order = units.order(event.price, event.volume)
            return f"placed {event.side} {order} ({event.txid})" + _after(": ", event.why)
        case events.OrderExecuted():
            return _executed(event, units)
        case events.OrderCancelled():
            order = units.order(event.price, event.volume)
            filled = f", {units.volume(event.executed)} of it had been filled" if event.executed else ""
            return f"cancelled {event.side} {order}{filled} ({event.txid})" + _after(": ", event.reason)
        case events.OrderRefused():
            order = units.order(event.price, event.volume)
            return f"{event.side} {order} was refused: {event.reason}" + _after("; ", event.consequence)
        case events.ExtraSellPlaced():
            order = units.order(event.price, event.volume)
            return f"placed extra sell {order}, of base that no buy of the grid brought in ({event.txid})"
        case events.GridShifted():
            price = f"{shown(event.ticker, units.price_decimals)} {units.quote}"
            buys = counted(event.cancelled, "buy")
            return f"the price {price} has risen above the grid: {buys} cancelled, to be placed again below it"
        case events.FundsShort():
            return _funds_short(event, units)
        case events.CaughtUp():
            return _caught_up(event)
        case events.StatusUpdate() | events.Trouble():
            return event.text
    return None


def duration(seconds: float) -> str:
    """
    A time span in its two largest units, cut.

    >>> duration(11_520), duration(7_200), duration(59.9), duration(180_000)
    ('3 h 12 min', '2 h', '59 s', '2 d 2 h')
    """
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    large, first, small, second = (HOUR, "h", MINUTE, "min") if whole < DAY else (DAY, "d", HOUR, "h")
    rest = whole % large // small
    return f"{whole // large} {first}" + (f" {rest} {second}" if rest else "")


def counted(number: int, noun: str) -> str:
    """
    A number with its noun.

    >>> counted(1, "buy"), counted(3, "buy")
    ('1 buy', '3 buys')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _after(lead: str, text: str) -> str:
    """``lead`` and ``text``, or nothing when there is no text."""
    return f"{lead}{text}" if text else ""


def _executed(event: events.OrderExecuted, units: Units) -> str:
    verb = "bought" if event.side == BUY else "sold"
    order = units.order(event.price, event.volume)
    profit = "" if event.profit is None else f", cycle {'+' if event.profit >= 0 else ''}{units.money(event.profit)}"
    if event.base_kept:
        profit += f" and {units.volume(event.base_kept)} kept"
    money = f"{units.money(event.cost)}, fee {units.money(event.fee)}{profit}"
    return f"{verb} {order} = {money} ({event.txid})"


def _funds_short(event: events.FundsShort, units: Units) -> str:
    decimals = units.lot_decimals if event.currency == units.base else units.quote_decimals
    # 100.25 free and 100.2549 needed must not read "100.25 free, 100.25 needed".
    while (
        decimals < MOST_DECIMALS
        and event.available < event.needed
        and shown(event.available, decimals) == shown(event.needed, decimals)
    ):
        decimals += 1
    free, needed = shown(event.available, decimals), shown(event.needed, decimals)
    text = f"not enough {event.currency} for the next {event.side}: {free} free, {needed} needed"
    return text + _after("; ", event.consequence)


def _caught_up(event: events.CaughtUp) -> str:
    news = [
        f"{counted(number, noun)} {verb}"
        for number, noun, verb in (
            (event.buys_filled, "buy", "filled"),
            (event.sells_filled, "sell", "filled"),
            (event.cancelled, "order", "cancelled"),
            (event.adopted, "order", "adopted"),
        )
        if number
    ]
    return f"away {duration(event.away_seconds)}: {', '.join(news)}"
