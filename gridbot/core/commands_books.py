"""
The command ``report``, and how it and the other commands read the bot's books.

The database is opened for reading only, so the bot may run or be stopped. Imported only when called.
"""

import argparse
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridbot.core import arguments
from gridbot.core.account import base_told
from gridbot.core.registry import exchange_name
from gridbot.exceptions import ConfigurationError
from gridbot.infrastructure import database
from gridbot.infrastructure.audits import Audits, Snapshots
from gridbot.infrastructure.database import Configuration, DBConnect
from gridbot.models.configuration import Settings
from gridbot.models.money import decimals_of, step_of, to_decimal
from gridbot.services import ledger, report
from gridbot.services.messages import Units, duration
from gridbot.services.status_report import headline
from gridbot.services.tables import moment


class Books:
    """The bot's books at one moment."""

    def __init__(self, db: DBConnect, settings: Settings) -> None:
        """Read everything; the caller has begun a transaction. Raises DatabaseError."""
        userref = settings.bot.userref
        book = database.Orderbook(db, userref)
        self.stored = Configuration(db, userref).get()
        self.rows = tuple(database.Trades(db, userref).all())
        self.orders = tuple(book)
        self.buys = book.buys()  # from the highest price to the lowest
        self.sells = book.sells()  # from the lowest price to the highest
        self.pending = database.PendingTXIDs(db, userref).all()
        self.unsold = database.UnsoldBuyOrderTXIDs(db, userref).all()
        self.last_audit = Audits(db, userref).last()
        self.snapshot: dict[str, Any] = Snapshots(db, userref).last() or {}
        self.base_before = self.stored.base_given(base_told(settings))  # what the bot was given at its first start
        self.keeps = self.snapshot.get("keeper", "cDCA") == settings.bot.strategy  # what it buys, for good
        self.spoken_for = ledger.spoken_for(book, self.pending, self.unsold, self.keeps)  # their sells are to come
        self.simulated = settings.bot.simulated  # if so, a fill has the price of its order, not the market's

    @property
    def surplus(self) -> Decimal:
        """Base bought by the executed parts of cancelled buys, and still to be sold."""
        return ledger.surplus_of(self.stored.vol_of_unfilled_remaining, self.orders, self.keeps)


def has_books(path: Path) -> bool:
    """False before a bot has seen its first price. Raises DatabaseError."""
    if not path.exists():
        return False
    with closing(DBConnect(path, read_only=True)) as db:
        is_begun = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'configuration'").fetchone()
        return is_begun is not None and db.execute("SELECT 1 FROM configuration").fetchone() is not None


def read_books(settings: Settings) -> Books:
    """Read everything in one transaction. Raises ConfigurationError without a database, DatabaseError."""
    path = settings.db.path
    if not path.exists():
        raise ConfigurationError(
            f"{settings.config_path}, [database] path = {path}: there is no such file. Before its first start the bot "
            "has no books; start it, or name the config.ini it runs with: --config FILE"
        )
    db = DBConnect(path, read_only=True)
    try:
        db.execute("BEGIN")
        check_owner(db, settings, path)
        return Books(db, settings)
    except sqlite3.Error as exc:
        raise db.explained(exc) from exc
    finally:
        db.close()


def check_owner(db: DBConnect, settings: Settings, path: Path) -> None:
    """
    Check that the database at ``path`` holds the books of this bot. Raises ConfigurationError that names both: the
    books of another exchange or pair would be shown in the wrong currency, or as play money.
    """
    bot, configuration = settings.bot, Configuration(db, settings.bot.userref)
    if not configuration.exists:
        known = ", ".join(str(row[0]) for row in db.execute("SELECT userref FROM configuration"))
        raise ConfigurationError(
            f"{settings.config_path}, [bot] userref = {bot.userref}: {path} holds no bot with this "
            f"number; {f'it holds {known}' if known else 'it holds none yet: the bot has not seen its first price'}"
        )
    market, name = configuration.get().market, exchange_name(bot)
    name = market.rpartition(" ")[0] if ":" in name else name  # the owner's own exchange chooses its name itself
    wanted = f"{name} {bot.base_currency}/{bot.quote_currency}"
    if market != wanted:
        raise ConfigurationError(
            f"{path}: holds the books of {market}, and the settings ask for {wanted}. Name the config.ini they belong "
            "to (--config FILE); every exchange and every pair needs a database of its own ([database] path)"
        )


def units_of(settings: Settings, books: Books) -> Units:
    """How amounts are written: with the decimals that the running bot stored, else with those of its orders."""
    seen = books.snapshot
    prices = [order.price for order in books.orders] + [row.info.price for row in books.rows[-100:]]
    return Units(
        settings.bot.base_currency,
        settings.bot.quote_currency,
        seen.get("price_decimals", max(map(decimals_of, prices), default=2)),
        seen.get("lot_decimals", 8),
        seen.get("quote_decimals", 2),
    )


def known_price(books: Books, asked: Decimal | None, now: float) -> tuple[Decimal, str]:
    """
    The price at which coins are valued, and its source in words: ``asked``, or the newest price the books know. That
    one is kept between the highest buy and the lowest sell, because a price beyond them would have filled them.
    Raises ConfigurationError if no price is known.
    """
    if asked is not None:
        return asked, "as asked"
    last = books.rows[-1].info if books.rows else None
    seen_at = float(books.snapshot.get("at", 0.0))
    if last is not None and last.time >= seen_at and not (books.simulated and seen_at):
        price, origin, at = last.price, "the last execution", last.time
    elif "price" in books.snapshot:
        price, origin, at = to_decimal(books.snapshot["price"]), "what the bot saw", seen_at
    elif books.buys:
        first = books.buys[0]
        price, origin, at = first.price, "the highest buy", first.placed_at
    else:
        raise ConfigurationError("no price is known yet: nothing was traded and no order is open. Name one: --price P")
    origin = f"from {origin}, {duration(now - at)} ago"
    if books.buys and price < books.buys[0].price:
        price, origin = books.buys[0].price, "at least, from the highest open buy"
    if books.sells and price > books.sells[0].price:
        price, origin = books.sells[0].price, "at most, from the lowest open sell"
    return price, f"{origin}; --price sets another"


def run_report_arguments(parser: argparse.ArgumentParser) -> None:
    table = parser.add_mutually_exclusive_group()
    table.add_argument(
        "--by",
        choices=[*report.PERIODS, "cycle"],
        help="a row for each day, month or year (UTC), or for each buy with what was sold of it; default month",
    )
    table.add_argument(
        "--tax",
        metavar="YEAR",
        type=arguments.whole(1970, 9999),
        help="instead: the gains of this year (UTC), the oldest of the bot's own coins sold first (FIFO), as csv; "
        "coins from before the bot count for SWING's extra sells only; no tax advice",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="the table as csv: every digit, times in UTC")
    form.add_argument("--json", action="store_true", help="profit and table as JSON: every digit, amounts as text")
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help="write there and not on the screen; an older csv, json or txt file is replaced",
    )
    add_price(parser)


def add_price(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--price",
        metavar="P",
        type=arguments.price,
        help="value the coins held at this price in quote; default: the last one the books know",
    )


def run_report(settings: Settings, args: argparse.Namespace) -> int:
    """The command ``report``: profit, fees and base, by period or cycle, or the gains of a tax year."""
    if args.file is not None:
        arguments.check_target("--file", args.file, (".csv", ".json", ".txt"), settings)
    books = read_books(settings)
    units = units_of(settings, books)
    word = ledger.reconciled(books.rows, books.last_audit)
    if args.tax is not None:
        table = report.tax_table(ledger.fifo(books.rows, books.base_before), args.tax, units)
        gains = {"year": args.tax, "books": word, "gains": table.document()}
        return arguments.write(gains if args.json else table.csv(word), args.file)
    view = ledger.by_cycle(books.rows, books.spoken_for, books.base_before)
    by = args.by or "month"
    table = report.by_cycle_table(view, units) if by == "cycle" else report.by_period(view, by, units)
    if args.csv:
        return arguments.write(table.csv(word), args.file)
    price, origin = known_price(books, args.price, time.time())
    bot, lot = settings.bot, step_of(units.lot_decimals)
    summary = report.summary_of(ledger.totals(view, lot), price, word, books.surplus)
    if args.json:
        document = {"pair": f"{units.base}/{units.quote}", **report.summary_document(summary)}
        return arguments.write({**document, f"by_{by}": table.document()}, args.file)
    text = [
        f"{headline(bot.name, bot.strategy, units, bot.simulated)}, since {moment(books.stored.created_at)}",
        report.summary_text(summary, units),
        f"  price {origin}",
        "",
        table.text(),
        "rows and sums are cut to what is shown, each by itself; --csv has every digit",
        f"grid profit is after fees; times are UTC; books: {word}",
    ]
    return arguments.write("\n".join(text), args.file)
