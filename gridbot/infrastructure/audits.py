"""What is remembered of audits, and of the bot's view of its grid: one row each per userref."""

import json
from dataclasses import dataclass
from typing import Any

from gridbot.infrastructure.database import DBConnect


@dataclass(frozen=True)
class AuditMark:
    """The last audit: when (unix seconds), over how many executions, and what it found ("" for no difference)."""

    at: float
    trades: int
    difference: str


class Audits:
    """The outcome of the last audit."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref

    def last(self) -> AuditMark | None:
        """None before the first audit, and in a database of an older gridbot."""
        if not _has_table(self._db, "audits"):
            return None
        sql = "SELECT at, trades, difference FROM audits WHERE userref = ?"
        row = self._db.execute(sql, (self._userref,)).fetchone()
        return AuditMark(*row) if row is not None else None

    def put(self, mark: AuditMark) -> None:
        """Remember this one in place of the one before."""
        self._db.execute(
            "INSERT INTO audits (userref, at, trades, difference) VALUES (?, ?, ?, ?) ON CONFLICT (userref)"
            " DO UPDATE SET at = excluded.at, trades = excluded.trades, difference = excluded.difference",
            (self._userref, mark.at, mark.trades, mark.difference),
        )


class Snapshots:
    """What only the running bot knows (price, free funds, why levels are missing), for ``status``."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref

    def last(self) -> dict[str, Any] | None:
        """The document of the last ``put``, with "at" (unix seconds); None when there is none."""
        if not _has_table(self._db, "snapshots"):
            return None
        sql = "SELECT at, document FROM snapshots WHERE userref = ?"
        row = self._db.execute(sql, (self._userref,)).fetchone()
        return {**json.loads(row[1]), "at": row[0]} if row is not None else None

    def put(self, at: float, document: dict[str, Any]) -> None:
        """Remember this document, amounts as text, in place of the one before."""
        self._db.execute(
            "INSERT INTO snapshots (userref, at, document) VALUES (?, ?, ?) ON CONFLICT (userref)"
            " DO UPDATE SET at = excluded.at, document = excluded.document",
            (self._userref, at, json.dumps(document)),
        )


def _has_table(db: DBConnect, name: str) -> bool:
    found = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None
