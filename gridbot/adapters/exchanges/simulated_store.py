"""
Play money that survives a power cut: the simulated exchange's own SQLite file, beside the bot's.

One transaction per change (an order taken, a fill, a cancellation), committed before the exchange answers or reports
its event; never one per price. Several books (demo, paper, another pair) can share one file without affecting each
other. Plain SQL over sqlite-utils' connection; Decimals are TEXT.

A write that fails raises DatabaseError: memory is then ahead of the disk, so the process must end, and the next start
goes on from the disk.
"""

import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridbot.adapters.exchanges.simulated import ASSUMED_FEE
from gridbot.adapters.exchanges.simulated_core import KEEP_FINISHED, SimulatedExchange
from gridbot.adapters.exchanges.simulated_state import MarketPosition, Money, SimulatedOrder
from gridbot.exceptions import DatabaseError
from gridbot.models.configuration import Settings
from gridbot.models.exchange import AssetPairInfoSchema, TradeInfoSchema
from gridbot.models.money import as_text

LOG = logging.getLogger(__name__)

PAGE_SIZE = 1024  # a commit writes whole pages: small rows want small ones
BUSY_SECONDS = 10.0
TAG_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
TAG_LENGTH = 5

# Columns are named like the fields they keep.
MONEY_COLUMNS = tuple(f.name for f in fields(Money))
ORDER_COLUMNS = tuple(f.name for f in fields(SimulatedOrder))
TRADE_COLUMNS = tuple(TradeInfoSchema.model_fields)
SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS account (
        book TEXT PRIMARY KEY, tag TEXT NOT NULL,
        start_base TEXT NOT NULL, start_quote TEXT NOT NULL, base TEXT NOT NULL, quote TEXT NOT NULL,
        base_held TEXT NOT NULL, quote_held TEXT NOT NULL, bought TEXT NOT NULL, sold TEXT NOT NULL,
        paid TEXT NOT NULL, received TEXT NOT NULL, fees TEXT NOT NULL,
        orders_taken INTEGER NOT NULL, trades_made INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS orders (
        book TEXT NOT NULL, number INTEGER NOT NULL, txid TEXT NOT NULL, side TEXT NOT NULL,
        price TEXT NOT NULL, volume TEXT NOT NULL, userref INTEGER NOT NULL, opened_at REAL NOT NULL,
        fee_rate TEXT NOT NULL, held TEXT NOT NULL, status TEXT NOT NULL, executed TEXT NOT NULL,
        cost TEXT NOT NULL, fee TEXT NOT NULL, closed_at REAL NOT NULL, reason TEXT NOT NULL,
        trades TEXT NOT NULL, PRIMARY KEY (book, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS executions (
        book TEXT NOT NULL, number INTEGER NOT NULL, exec_id TEXT NOT NULL, txid TEXT NOT NULL,
        side TEXT NOT NULL, price TEXT NOT NULL, volume TEXT NOT NULL, cost TEXT NOT NULL,
        fee TEXT NOT NULL, time REAL NOT NULL, PRIMARY KEY (book, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS market (
        book TEXT PRIMARY KEY, seed TEXT NOT NULL, tick INTEGER NOT NULL, level REAL NOT NULL
    ) STRICT
    """,
)
TEXTS = {"txid", "exec_id", "side", "status", "reason", "trades"}


def _upsert(table: str, names: tuple[str, ...]) -> str:
    marks = ", ".join("?" * (len(names) + 1))
    changes = ", ".join(f"{n} = excluded.{n}" for n in names if n != "number")
    return f"INSERT INTO {table} (book, {', '.join(names)}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {changes}"


# Rows are updated in place, not replaced: that writes one page instead of three.
PUT_ORDER = _upsert("orders", ORDER_COLUMNS)
PUT_TRADE = _upsert("executions", ("number", *TRADE_COLUMNS))
PUT_ACCOUNT = _upsert("account", ("tag", *MONEY_COLUMNS))
PUT_MARKET = _upsert("market", ("seed", "tick", "level"))


def path_beside(database: Path) -> Path:
    """The name of the exchange's file: gridbot.db -> gridbot.exchange.db; no two databases share one."""
    return database.with_name(f"{database.name.removesuffix('.db')}.exchange.db")


def store_path(database: Path) -> Path:
    """The exchange's file beside the bot's own database, which may still have its older name."""
    path = path_beside(database)
    # Its older name, unless that is now the name for another database, the one with the suffix .db.
    older = database.with_name(f"{database.stem}.exchange.db")
    is_its_own = older.exists() and not (path.exists() or database.with_suffix(".db").exists())
    return older if is_its_own else path


class SimulatedStore:
    """One book in the file."""

    def __init__(self, path: Path | str, book: str) -> None:
        """
        Open ``path``, creating file and tables when needed.

        book  whose account this is, for example "Demo BTC/USD"

        Raises DatabaseError when the file cannot be used.
        """
        # Imported here: a backtest stores nothing, and should not wait for this import.
        from sqlite_utils.db import Database

        self.path = str(path)
        self.book = book
        self.tag = ""
        self.market: Callable[[], MarketPosition] | None = None  # stored with every change when set
        with self._explained():
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._db = Database(connection)
            self._db.execute(f"PRAGMA page_size={PAGE_SIZE}")
            self._db.enable_wal()
            self._db.execute("PRAGMA synchronous=FULL")
            for statement in SCHEMA:
                self._db.execute(statement)

    def open_account(
        self, base_balance: Decimal, quote_balance: Decimal
    ) -> tuple[Money, list[SimulatedOrder], list[TradeInfoSchema]]:
        """
        The stored account of this book, or a new one with this much play money; its orders, the finished ones in the
        order in which they ended; and its newest executions. Raises DatabaseError.
        """
        with self._explained():
            row = self._select("account", ("tag", *MONEY_COLUMNS)).fetchone()
            if row is None:
                # Part of every id: a book that starts again must never repeat an id the bot remembers.
                self.tag = "".join(secrets.choice(TAG_LETTERS) for _ in range(TAG_LENGTH))
                money = Money.starting(base_balance, quote_balance)
                self.save(money, [], [], [])
                return money, [], []
            self.tag = row[0]
            orders = [SimulatedOrder(**_read(ORDER_COLUMNS, r)) for r in self._select("orders", ORDER_COLUMNS)]
            newest = self._select("executions", TRADE_COLUMNS, f"ORDER BY number DESC LIMIT {KEEP_FINISHED}")
            trades = [TradeInfoSchema(**_read(TRADE_COLUMNS, r)) for r in newest]
            money = Money(**_read(MONEY_COLUMNS, row[1:]))
        trades.reverse()
        orders.sort(key=lambda o: (o.closed_at, o.number))
        return money, orders, trades

    def market_position(self) -> MarketPosition | None:
        """The position of the demo's market when the last change was stored; None for a new book."""
        with self._explained():
            row = self._select("market", ("seed", "tick", "level")).fetchone()
            return None if row is None else MarketPosition(int(row[0]), row[1], row[2])

    def save(
        self, money: Money, orders: list[SimulatedOrder], trades: list[TradeInfoSchema], forgotten: list[int]
    ) -> None:
        """
        Store one change in one transaction: the account, the orders that changed, the executions that were added;
        ``forgotten``: numbers of finished orders that need not be kept any longer. Raises DatabaseError.
        """
        with self._explained(), self._db.atomic():
            for order in orders:
                self._write(PUT_ORDER, astuple(order))
            for number, trade in enumerate(trades, start=money.trades_made - len(trades) + 1):
                self._write(PUT_TRADE, (number, *vars(trade).values()))
            for number in forgotten:
                self._write("DELETE FROM orders WHERE book = ? AND number = ?", (number,))
            self._write(PUT_ACCOUNT, (self.tag, *astuple(money)))
            self._save_market()

    def close(self) -> None:
        """Store the market's position and close the file. Raises DatabaseError."""
        with self._explained(), self._db.atomic():
            self._save_market()
        self._db.conn.close()

    def _save_market(self) -> None:
        if self.market is not None:
            at = self.market()
            self._write(PUT_MARKET, (str(at.seed), at.tick, at.level))

    def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        row = [as_text(v) if isinstance(v, Decimal) else ",".join(v) if isinstance(v, tuple) else v for v in values]
        self._db.conn.execute(sql, (self.book, *row))

    def _select(self, table: str, columns: tuple[str, ...], rest: str = "") -> sqlite3.Cursor:
        return self._db.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE book = ? {rest}", [self.book])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ArithmeticError, TypeError, ValueError) as exc:
            problem = str(exc) if isinstance(exc, sqlite3.Error) else "holds a value that is not possible"
            raise DatabaseError(
                f"the simulated exchange's file {self.path}: {problem}. Check that there is space and that "
                f"this user may write there. A damaged file can be removed together with the database beside it: the "
                "play money then begins anew"
            ) from exc


def open_exchange(
    store: SimulatedStore, pair: AssetPairInfoSchema, settings: Settings, symbol: str
) -> SimulatedExchange:
    """
    The exchange of this book: as stored, or new with the play money of [paper]. Its fee is [grid] fee, or ASSUMED_FEE
    if that is not set. Raises DatabaseError.
    """
    base, quote = settings.paper.base_balance, settings.paper.quote_balance
    fee = ASSUMED_FEE if settings.bot.fee is None else settings.bot.fee
    money, orders, trades = store.open_account(base, quote)
    if (money.start_base, money.start_quote) != (base, quote):
        LOG.info(
            "%s goes on with the play money of its first start (%s base, %s quote); what [paper] says now "
            "(%s and %s) counts for a new book: to begin one, remove %s and the database beside it",
            store.book,
            as_text(money.start_base),
            as_text(money.start_quote),
            as_text(base),
            as_text(quote),
            store.path,
        )
    exchange = SimulatedExchange(
        pair, base_balance=base, quote_balance=quote, fee=fee, symbol=symbol, tag=store.tag, store=store
    )
    exchange.restore(money, orders, trades)
    return exchange


def _read(names: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in zip(names, row, strict=True)}


def _value(name: str, value: Any) -> Any:
    if name == "trades":
        return tuple(t for t in value.split(",") if t)
    return Decimal(value) if isinstance(value, str) and name not in TEXTS else value
