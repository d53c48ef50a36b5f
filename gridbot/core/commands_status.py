"""
The command ``status``: the grid as a picture, what is missing and why, what comes next, and the profit.

Reads the database only, so the bot may run or be stopped. Imported only when it is called.
"""

import argparse
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gridbot.core.arguments import write
from gridbot.core.commands_books import Books, add_price, known_price, read_books, units_of
from gridbot.core.single_instance import holder_if_running
from gridbot.models.configuration import BotConfigDTO, Settings
from gridbot.models.exchange import BUY
from gridbot.models.grid import SURPLUS, BookOrder, invested
from gridbot.models.money import ONE, ZERO, as_text, shown, step_of, to_decimal, truncate
from gridbot.services import report
from gridbot.services.messages import Units, duration
from gridbot.services.order_desk import BUYING, CROSSING, CROWDED, PLACING
from gridbot.services.status_report import away, headline, ladder
from gridbot.services.tables import moment
from gridbot.strategies.grid_notices import UNPAID
from gridbot.strategies.grid_rules import level_below, shift_up_threshold

# Why no buy is placed for a while, in plain words.
PAUSES = {
    PLACING: "refused: the exchange wants no orders for now; tried again when it allows",
    BUYING: "refused: the exchange refused the last buy; tried again at growing intervals",
    CROSSING: "spike: the price moves faster than buys are placed; tried again within a minute",
    CROWDED: "refused: the exchange allows no more open orders, and a sell waits for a place",
    UNPAID: "fee: with the fee you pay now the grid would not pay, or not fit; the log has the figures",
}
AT_THE_NEXT_PRICE = "the bot places it at the next price; if it does not, its log names the refusal"


def run_status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same as JSON, amounts as text")
    add_price(parser)


def run_status(settings: Settings, args: argparse.Namespace) -> int:
    bot, books, now = settings.bot, read_books(settings), time.time()
    units = units_of(settings, books)
    lot = step_of(units.lot_decimals)
    price, origin = known_price(books, args.price, now)
    summary = report.summarise(
        books.rows, price, books.spoken_for, books.base_before, books.last_audit, books.surplus, lot
    )
    running = holder_if_running(settings.db.path)
    view = _View(bot, books, units, price, running, now)
    if args.json:
        document = {"running": bool(running), "price_origin": origin, **view.document()}
        return write({**document, **report.summary_document(summary)})
    text = [
        f"{headline(bot.name, bot.strategy, units, bot.simulated)}, "
        f"{f'running ({running})' if running else 'NOT RUNNING'}",
        f"price {shown(price, units.price_decimals)} {units.quote}, {origin}",
        "",
        ladder(books.sells, books.buys, price, units, now),
        "",
        *(f"missing  {line}" for line in view.missing()),
        f"next     {view.next_event()}",
        "",
        *report.profit_lines(summary, units),
    ]
    return write("\n".join(text))


@dataclass(frozen=True)
class _View:
    """The grid at one moment, in words."""

    bot: BotConfigDTO
    books: Books
    units: Units
    price: Decimal
    running: str
    now: float

    def missing(self) -> list[str]:
        """One line for every order that should exist and does not, with the reason."""
        books, units = self.books, self.units
        lines = [
            f"{p.side} {units.order(p.price, p.volume)}: sent {duration(self.now - p.written_at)} ago, not answered; "
            "nothing else is placed before its fate is known"
            for p in books.pending
        ]
        lines += self._missing_buys()
        answered = {p.sells for p in books.pending}
        lines += [
            f"sell of {units.volume(buy.volume)}, bought @ {shown(buy.price, units.price_decimals)} "
            f"{duration(self.now - buy.filled_at)} ago: {self._why_no_sell(buy.txid, buy.volume)}"
            for buy in books.unsold
            if buy.txid not in answered
        ]
        surplus, amount = books.stored.vol_of_unfilled_remaining, self.bot.amount_per_grid
        if surplus and not books.keeps and SURPLUS not in answered:
            price = books.stored.vol_of_unfilled_remaining_max_price
            why = f"sold once it is worth {units.money(amount)}"
            if (worth := surplus * price) >= amount:
                why = self._why_no_sell(SURPLUS, amount / price)  # one sell of the surplus is no larger
            what = f"sell of {units.volume(surplus)}, executed parts of cancelled orders"
            lines.append(f"{what}: worth {units.money(worth)}; {why}")
        return lines

    def _missing_buys(self) -> list[str]:
        books = self.books
        number = self.bot.n_open_buy_orders - len(books.buys) - sum(p.side == BUY for p in books.pending)
        prices = [order.price for order in books.buys] + [p.price for p in books.pending if p.side == BUY]
        lowest, step = min(prices, default=self.price), step_of(self.units.price_decimals)
        lines = []
        for _ in range(number):
            lowest = truncate(level_below(lowest, self.price, self.bot.interval), step)
            lines.append(f"buy @ {shown(lowest, self.units.price_decimals)}: {self._why_no_buy()}")
        return lines

    def _why_no_buy(self) -> str:
        books, bot, units = self.books, self.bot, self.units
        fee = to_decimal(books.snapshot.get("fee", bot.fee or ZERO))
        needed = bot.amount_per_grid * (ONE + fee)
        bound = invested(books.orders, books.pending, books.unsold)
        if books.pending:
            return "waits for the answer above"
        if bot.max_investment <= bound + needed:
            limit, so_far, more = units.money(bot.max_investment), units.money(bound), units.money(needed)
            return f"limit: max_investment {limit} would be reached, {so_far} are invested, a buy needs {more}"
        if reasons := books.snapshot.get("missing"):
            age = duration(self.now - books.snapshot["at"])
            return f"{reasons[0]['cause']}: {reasons[0]['reason']} ({age} ago)"
        if not self.running:
            return "the bot does not run; its next start places it"
        for pause in books.snapshot.get("pauses", []):
            why = self._refusal(pause) or PAUSES.get(pause, pause)
            return f"{why} ({duration(self.now - books.snapshot['at'])} ago)"
        return AT_THE_NEXT_PRICE

    def _refusal(self, what: str) -> str:
        """Why the exchange refused ``what``, in its own words; "" if it is not refused."""
        why = self.books.snapshot.get("refused", {}).get(what, "")
        return f"refused: {why}; tried again at growing intervals" if why else ""

    def _why_no_sell(self, sells: str, volume: Decimal) -> str:
        if self.books.keeps:
            return f"{self.bot.strategy} keeps it; another strategy would sell it"
        free = self.books.snapshot.get("base_free")
        if free is not None and to_decimal(free) < volume:
            have, age = self.units.volume(to_decimal(free)), duration(self.now - self.books.snapshot["at"])
            return f"funds: {have} free {age} ago; it stays noted and is sold when there is enough; see forget"
        if not self.running:
            return "the bot does not run; its next start places it"
        return self._refusal(sells) or "it stays noted and is placed at the next price"

    def next_event(self) -> str:
        """What the bot waits for."""
        books = self.books
        if books.pending:
            return "the exchange's word on the order sent"
        if not self.running:
            if books.simulated:
                return "a start of the bot; nothing is filled until then"
            return "a start of the bot; what is filled until then is booked at that start"
        events = []
        if books.buys:
            events.append(f"a fall to {self._at(books.buys[0].price)} fills a buy")
        if books.sells:
            events.append(f"a rise to {self._at(books.sells[0].price)} fills a sell")
        elif books.buys and UNPAID not in books.snapshot.get("pauses", []):
            shift = shift_up_threshold(books.buys[0].price, self.bot.interval)
            events.append(f"a rise above {self._at(shift)} moves the grid up")
        if not events and (why := self._why_no_buy()) != AT_THE_NEXT_PRICE:
            return f"no order is open, and the next price opens none: {why}"
        return ", ".join(events) or "the next price; no order is open"

    def _at(self, price: Decimal) -> str:
        return f"{shown(price, self.units.price_decimals)} ({away(price, self.price)})"

    def document(self) -> dict[str, Any]:
        def row(order: BookOrder) -> dict[str, Any]:
            amounts = {name: as_text(getattr(order, name)) for name in ("price", "volume", "executed")}
            return {"txid": order.txid, **amounts, "placed_at": moment(order.placed_at), "sells": order.sells}

        return {
            "buys": [row(order) for order in self.books.buys],
            "sells": [row(order) for order in self.books.sells],
            "missing": self.missing(),
            "next": self.next_event(),
        }
