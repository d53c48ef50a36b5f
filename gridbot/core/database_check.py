"""
Checks whether a database of the bot is sound, and whether its content is possible. It only reads, and trusts no
table: each one is compared with the others, without the bot's own classes.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from gridbot.exceptions import excerpt
from gridbot.infrastructure.connection import read_only
from gridbot.infrastructure.migrations import Database, migrations, not_ours
from gridbot.infrastructure.table import TIMES
from gridbot.models import stored
from gridbot.models.exchange import BUY, SELL
from gridbot.models.grid import NO_BUY
from gridbot.models.money import is_cost_of
from gridbot.services.ledger import PROVISIONAL

CORE = {"orderbook", "pending_txids", "unsold_buy_order_txids", "trades"}  # tables of every version
EXCHANGE = {"account", "orders", "executions", "market"}  # of a simulated exchange's file
FROM_ZERO = ("highest_buy_price", "vol_of_unfilled_remaining", "vol_of_unfilled_remaining_max_price", "base_before")
# For each table the column that names a row, then the columns to check: amounts, times, sides.
COLUMNS: dict[str, tuple[str, ...]] = {
    "configuration": ("userref", "amount_per_grid", "interval", *FROM_ZERO, "created_at", "synced_at"),
    "orderbook": ("txid", "price", "volume", "executed", "side", "placed_at"),
    "pending_txids": ("id", "price", "volume", "side", "written_at", "deadline"),
    "unsold_buy_order_txids": ("txid", "price", "volume", "filled_at"),
    "trades": ("exec_id", "price", "volume", "cost", "fee", "side", "time"),
    "forgotten_orders": ("txid", "volume", "at"),
    "finished_orders": ("txid", "finished_at"),
    "audits": ("userref", "at"),
    "snapshots": ("userref", "at"),
}
IN_ONE_FILE = b"\x01\x01"  # SQLite's write and read version, bytes 18 and 19 of a file; 2 is WAL
MAY_BE_ZERO = {"executed", "cost", "fee", *FROM_ZERO, "forgotten_orders.volume"}
MENDS_M014 = "m015_volume_of_forgotten_orders"  # the next start applies it, and adds the column an early m014 lacked
BRING = "bring a copy back (restore FILE)"
PARTS = """
    SELECT name FROM sqlite_master WHERE name NOT LIKE '%sqlite%'
    UNION SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
"""

Rows = Callable[[str], list[tuple[str, ...]]]  # runs a SELECT for one userref


def problems_in(path: Path, userref: int) -> list[str]:
    """
    What is wrong with the database at ``path``, in words; [] if nothing is. It is not compared with the settings: they
    may have changed since, and the next start follows them. Raises DatabaseError.
    """
    try:
        with closing(read_only(path)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
            if found != ["ok"]:
                return [f"the file is damaged: {text}" for text in found]
            if problem := _schema(connection):
                return [problem]
            there = _parts(connection)
            if problems := list(_lost(connection, there)):
                return problems
            # One transaction for all queries, because the bot may write meanwhile.
            connection.execute("BEGIN")

            def rows(sql: str) -> list[tuple[str, ...]]:
                return connection.execute(f"{sql} WHERE userref = ?", (userref,)).fetchall()

            # Single values first, because the other checks calculate with them.
            questions = (_orders, _buys, _sells, _costs, _bought)
            return list(_values(rows, there)) or [problem for question in questions for problem in question(rows)]
    except sqlite3.DatabaseError as exc:
        return [f"the file cannot be read as a database: {exc}"]


def is_copy(path: Path, is_exchange: bool = False) -> bool:
    """
    True for a copy made by ``backup``: a database of gridbot, or a simulated exchange's file, in one file. A database
    in use keeps a log in a second file (WAL), and its header says so.
    """
    try:
        with path.open("rb") as file:
            head = file.read(20)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            is_ours = _parts(connection) >= EXCHANGE if is_exchange else not _schema(connection)
            return head[18:] == IN_ONE_FILE and is_ours
    except (OSError, sqlite3.DatabaseError):
        return False


def _schema(connection: sqlite3.Connection) -> str:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if missing := sorted(CORE - tables):
        return f"this is no database of gridbot: the tables {', '.join(missing)} are missing"
    problem = not_ours(Database(connection))
    return f"this file {problem}" if problem else ""


def _parts(connection: sqlite3.Connection) -> set[str]:
    """Tables, indexes and columns, by name."""
    return {row[0] for row in connection.execute(PARTS)}


def _lost(connection: sqlite3.Connection, there: set[str]) -> Iterator[str]:
    """Parts that are missing although their migration is recorded as applied, or there although it is not."""
    recorded = {step.name for step in migrations.applied(Database(connection))}
    fresh = Database(memory=True)
    known: set[str] = set()
    for step in migrations.pending(fresh):
        step.fn(fresh)
        made = _parts(fresh.conn) - known
        known |= made
        if step.name not in recorded and (unrecorded := made & there):
            yield f"{min(unrecorded)} is there, and the record of {step.name}, which makes it, is lost: {BRING}"
        elif step.name in recorded:
            lost = made - there - ({"forgotten_orders.volume"} if MENDS_M014 not in recorded else set())
            yield from (f"{x} is missing: {BRING}" for x in sorted(lost) if x.partition(".")[0] not in lost - {x})


def _values(rows: Rows, there: set[str]) -> Iterator[str]:
    for table, (key, *columns) in COLUMNS.items():
        columns = [column for column in columns if f"{table}.{column}" in there]  # an older file has fewer
        for row, *values in rows(f"SELECT {', '.join((key, *columns))} FROM {table}") if columns else ():
            for column, value in zip(columns, values, strict=True):
                if not _is_possible(table, column, value):
                    yield f"{table}.{column} = {excerpt(repr(value))} is not possible ({key} {row})"


def _orders(rows: Rows) -> Iterator[str]:
    executed: dict[str, Decimal] = {}
    for txid, volume in rows("SELECT txid, volume FROM trades"):
        executed[txid] = executed.get(txid, Decimal(0)) + Decimal(volume)
    finished = {row[0] for row in rows("SELECT txid FROM finished_orders")}
    for txid, volume, done in rows("SELECT txid, volume, executed FROM orderbook"):
        if Decimal(done) >= Decimal(volume):
            yield f"order {txid} is in the book of open orders and completely executed"
        if Decimal(done) != executed.get(txid, Decimal(0)):
            yield f"order {txid}: {done} executed, but its trades say {executed.get(txid, 0)}"
        if txid in finished:
            yield f"order {txid} is both open and over"


def _buys(rows: Rows) -> Iterator[str]:
    buys = Counter(Decimal(price) for side, price in rows("SELECT side, price FROM orderbook") if side == "buy")
    yield from (f"two open buys at {price:f}" for price, count in buys.items() if count > 1)


def _sells(rows: Rows) -> Iterator[str]:
    sells = Counter(row[0] for row in rows("SELECT sells FROM orderbook") if row[0])
    for buy, count in sells.items():
        if count > 1 and buy not in NO_BUY:
            yield f"{count} open sells for the buy {buy}"
    unsold = [row[0] for row in rows("SELECT txid FROM unsold_buy_order_txids")]
    yield from (f"the buy {txid} is noted as unsold and has an open sell" for txid in unsold if sells[txid])


def _costs(rows: Rows) -> Iterator[str]:
    for exec_id, *texts in rows("SELECT exec_id, price, volume, cost FROM trades"):
        price, volume, cost = map(Decimal, texts)
        # Fills booked as one sum have the price of their order and the cost that the exchange reported.
        if not is_cost_of(price, volume, cost) and not exec_id.startswith(PROVISIONAL):
            value = price * volume
            yield f"execution {exec_id}: cost {cost:f} where price x volume is {value:f}; compare with audit"


def _bought(rows: Rows) -> Iterator[str]:
    bought = {row[0] for row in rows(f"SELECT DISTINCT CASE side WHEN '{BUY}' THEN txid END FROM trades")}
    sold = {row[0] for table in ("orderbook", "pending_txids", "trades") for row in rows(f"SELECT sells FROM {table}")}
    unsold = {row[0] for row in rows("SELECT txid FROM unsold_buy_order_txids")}
    for txid in sorted((sold | unsold) - NO_BUY - bought):
        yield f"the buy {txid} is sold, or to be sold, and none of its executions is booked: {BRING}"


def _is_possible(table: str, column: str, value: str) -> bool:
    if column == "side":
        return value in (BUY, SELL)
    try:
        if column in (*TIMES, "finished_at"):
            return stored.time(value) >= 0
        number = stored.amount(value or 0 if column == "base_before" else value)  # it may be NULL or ""
    except stored.IMPOSSIBLE:
        return False
    may_be_zero = column in MAY_BE_ZERO or f"{table}.{column}" in MAY_BE_ZERO
    return number > 0 or (number == 0 and may_be_zero) or column == "fee"  # or a rebate
