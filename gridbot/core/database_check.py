"""
Is a database of the bot sound, and is what it says possible? Reads only, and believes nothing: every
table is compared with the others, without the bot's own classes.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal, InvalidOperation
from pathlib import Path

from gridbot.infrastructure.connection import read_only
from gridbot.infrastructure.migrations import Database, not_ours
from gridbot.models.grid import NO_BUY

NUMBERS = {
    "orderbook": ("price", "volume", "executed"),
    "pending_txids": ("price", "volume"),
    "unsold_buy_order_txids": ("price", "volume"),
    "trades": ("price", "volume", "cost", "fee"),
}
IN_ONE_FILE = b"\x01\x01"  # SQLite's write and read version, bytes 18 and 19 of a file; 2 is WAL
MAY_BE_ZERO = {"executed", "cost", "fee"}
MAY_BE_NEGATIVE = {"fee"}  # a rebate

Rows = Callable[[str], list[tuple[str, ...]]]  # the answer to a question about one userref


def problems_in(path: Path, userref: int) -> list[str]:
    """
    What is wrong with the database at ``path``, in words; [] when nothing is. Settings are not looked at: they may have
    changed since it was written, and the next start follows them. Raises DatabaseError.
    """
    try:
        with closing(read_only(path)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
            if found != ["ok"]:
                return [f"the file is damaged: {text}" for text in found]
            if problem := _schema(connection):
                return [problem]
            # One moment for all questions: the bot may be writing.
            connection.execute("BEGIN")

            def rows(sql: str) -> list[tuple[str, ...]]:
                return connection.execute(f"{sql} WHERE userref = ?", (userref,)).fetchall()

            # Numbers first, because the rest calculates with them.
            return _numbers(rows) or [*_orders(rows), *_buys(rows), *_sells(rows)]
    except sqlite3.DatabaseError as exc:
        return [f"the file cannot be read as a database: {exc}"]


def is_copy(path: Path) -> bool:
    """
    Is this a copy as ``backup`` makes them: a database of gridbot, in one file? One that a bot works with
    keeps a log beside it (WAL), and says so in its head.
    """
    try:
        with path.open("rb") as file:
            head = file.read(20)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return head[18:] == IN_ONE_FILE and not _schema(connection)
    except (OSError, sqlite3.DatabaseError):
        return False


def _schema(connection: sqlite3.Connection) -> str:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if missing := sorted(NUMBERS.keys() - tables):
        return f"this is no database of gridbot: the tables {', '.join(missing)} are missing"
    problem = not_ours(Database(connection))
    return f"this file {problem}" if problem else ""


def _numbers(rows: Rows) -> list[str]:
    problems = []
    for table, columns in NUMBERS.items():
        for row in rows(f"SELECT {', '.join(columns)} FROM {table}"):
            problems += [
                f"{table}.{column} = {text!r} is not possible"
                for column, text in zip(columns, row, strict=True)
                if not _is_possible(column, text)
            ]
    return problems


def _orders(rows: Rows) -> list[str]:
    executed: dict[str, Decimal] = {}
    for txid, volume in rows("SELECT txid, volume FROM trades"):
        executed[txid] = executed.get(txid, Decimal(0)) + Decimal(volume)
    finished = {row[0] for row in rows("SELECT txid FROM finished_orders")}
    problems = []
    for txid, volume, done in rows("SELECT txid, volume, executed FROM orderbook"):
        if Decimal(done) >= Decimal(volume):
            problems.append(f"order {txid} is in the book of open orders and completely executed")
        if Decimal(done) != executed.get(txid, Decimal(0)):
            problems.append(f"order {txid}: {done} executed, but its trades say {executed.get(txid, 0)}")
        if txid in finished:
            problems.append(f"order {txid} is both open and over")
    return problems


def _buys(rows: Rows) -> list[str]:
    buys = Counter(Decimal(price) for side, price in rows("SELECT side, price FROM orderbook") if side == "buy")
    return [f"two open buys at {price:f}" for price, count in buys.items() if count > 1]


def _sells(rows: Rows) -> list[str]:
    sells = Counter(row[0] for row in rows("SELECT sells FROM orderbook") if row[0])
    problems = [
        f"{count} open sells for the buy {buy}" for buy, count in sells.items() if count > 1 and buy not in NO_BUY
    ]
    unsold = [row[0] for row in rows("SELECT txid FROM unsold_buy_order_txids")]
    return problems + [f"the buy {txid} is noted as unsold and has an open sell" for txid in unsold if sells[txid]]


def _is_possible(column: str, text: str) -> bool:
    try:
        value = Decimal(text)
    except (InvalidOperation, TypeError):
        return False
    if not value.is_finite():
        return False
    return value > 0 or (value == 0 and column in MAY_BE_ZERO) or column in MAY_BE_NEGATIVE
