"""
How a row is written and read, whatever the table.

Rows are written with plain SQL over sqlite-utils' connection: its table methods cost ten times as
much a row, and given a Decimal they would store a float. Decimals become text here, and only here.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any

from gridbot.exceptions import DatabaseError
from gridbot.infrastructure.connection import DBConnect
from gridbot.models import stored
from gridbot.models.money import as_text

# How to read columns that hold times, or numbers as text; other columns are taken as they are.
AMOUNTS = {"amount_per_grid", "interval", "price", "volume", "executed", "cost", "fee", "highest_buy_price"}
AMOUNTS |= {"vol_of_unfilled_remaining", "vol_of_unfilled_remaining_max_price"}
TIMES = ("created_at", "synced_at", "placed_at", "written_at", "deadline", "filled_at", "at", "time")
READ: dict[str, Callable[[Any], Any]] = {**dict.fromkeys(AMOUNTS, stored.amount), **dict.fromkeys(TIMES, stored.time)}
READ["base_before"] = lambda text: text and str(stored.amount(text))


class Table:
    """The rows of one userref in the table ``name``; columns are named like the fields they keep."""

    name: str

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref

    def _select(self, columns: Iterable[str], rest: str = "", values: tuple[object, ...] = (), hint: str = "") -> Any:
        sql = f"SELECT {', '.join(columns)} FROM {self.name} {hint} WHERE userref = ? {rest}"
        return self._db.execute(sql, (self._userref, *values))

    def _rows(self, *what: Any) -> Iterator[dict[str, Any]]:
        """As ``_select``, each row by the names of its columns, numbers in text as Decimal. Raises DatabaseError."""
        found = self._select(*what)
        names = [column[0] for column in found.description]
        row: tuple[Any, ...] = ()
        try:
            for row in found:
                yield {
                    name: READ[name](value) if name in READ else value for name, value in zip(names, row, strict=True)
                }
        except stored.IMPOSSIBLE:
            raise self._impossible(dict(zip(names, row, strict=True))) from None

    def _impossible(self, row: dict[str, Any], column: str = "") -> DatabaseError:
        """The error for a row with an impossible value: in ``column``, or else in the first that cannot be read."""
        for name in () if column else (name for name in row if name in READ):
            try:
                READ[name](row[name])
            except stored.IMPOSSIBLE:
                column = name
        key = next((row[name] for name in ("exec_id", "txid", "id") if name in row), f"of userref {self._userref}")
        return DatabaseError(
            f"database {self._db.path}: {stored.cannot_be(f'{self.name}.{column}', row[column], key)}. Bring a copy "
            "back (restore FILE), or move the file aside: the next start asks the exchange. See README, What if the "
            "database is lost?"
        )

    def _insert(self, row: dict[str, Any], conflict: str = "") -> Any:
        return self._db.execute(_insertion(self.name, tuple(row), conflict), (self._userref, *as_stored(row)))

    def _put(self, row: dict[str, Any]) -> None:
        """Write the one row of this userref, in place of the one before."""
        changes = ", ".join(f"{name} = excluded.{name}" for name in row)
        self._insert(row, f"ON CONFLICT (userref) DO UPDATE SET {changes}")

    def _delete(self, where: str, value: object) -> None:
        self._db.execute(f"DELETE FROM {self.name} WHERE userref = ? AND {where} ?", (self._userref, value))


@cache  # a backtest writes thousands of rows a second
def _insertion(table: str, columns: tuple[str, ...], conflict: str) -> str:
    return f"INSERT INTO {table} (userref, {', '.join(columns)}) VALUES (?{', ?' * len(columns)}) {conflict}"


def as_stored(row: dict[str, Any]) -> list[object]:
    """The values of a row as SQLite keeps them."""
    return [as_text(value) if isinstance(value, Decimal) else value for value in row.values()]
