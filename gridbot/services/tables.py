"""
Tables: for the terminal, as csv, as JSON. Data in, text out.

On the terminal amounts are cut to so many decimals. csv and JSON hold every digit, as plain decimals (in JSON as
text, because a JSON number is often read as a float), and times in UTC.
"""

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gridbot.models.money import ZERO, as_text, digits, step_of, truncate

TERMINAL = 80  # letters in a line of most terminals

Cell = str | int | float | Decimal | None


@dataclass(frozen=True)
class Column:
    """``kind``: text, count, amount, time or day. ``decimals`` of an amount on the terminal."""

    name: str
    title: str
    kind: str = "text"
    decimals: int = 0
    on_terminal: bool = True


@dataclass(frozen=True)
class Table:
    """Rows under columns."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    totals: tuple[Cell, ...] = ()

    def text(self) -> str:
        columns = [column for column in self.columns if column.on_terminal]
        lines = [[column.title for column in columns]]
        for row in (*self.rows, *([self.totals] if self.totals else [])):
            pairs = zip(row, self.columns, strict=True)
            lines.append([_for_terminal(cell, column) for cell, column in pairs if column.on_terminal])
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        sides = ["<" if column.kind in ("text", "time", "day") else ">" for column in columns]
        gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= TERMINAL else " "
        out = []
        for line in lines:
            cells = zip(line, sides, widths, strict=True)
            out.append(gap.join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip())
        rule = "-" * max(map(len, out))
        out.insert(1, rule)
        if self.totals:
            out.insert(-1, rule)
        return "\n".join(out)

    def csv(self, books: str = "") -> str:
        """With a header; ``books`` goes into a last column of that name, unless it is empty."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([column.name for column in self.columns] + (["books"] if books else []))
        writer.writerows([*row.values(), *([books] if books else [])] for row in self.document())
        return stream.getvalue()

    def document(self) -> list[dict[str, Any]]:
        names = [column.name for column in self.columns]
        return [dict(zip(names, map(_plain, row, self.columns), strict=True)) for row in self.rows]


def as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=as_text)


def moment(at: float) -> str:
    """
    A time in UTC, ISO 8601, to the second.

    >>> moment(1790000000.9)
    '2026-09-21T14:13:20Z'
    """
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _for_terminal(cell: Cell, column: Column) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Decimal):
        return f"{truncate(cell, step_of(column.decimals)) + ZERO:f}"
    plain = str(_plain(cell, column))
    return plain[:10] if column.kind == "day" else plain


def _plain(cell: Cell, column: Column) -> Cell:
    if isinstance(cell, Decimal):
        return digits(cell)
    if column.kind in ("time", "day") and isinstance(cell, float):
        return moment(cell)
    return cell
