"""What is remembered of audits, and of the bot's view of its grid: one row each per userref."""

import json
from dataclasses import dataclass
from typing import Any

from gridbot.infrastructure.database import Table


@dataclass(frozen=True)
class AuditMark:
    """The last audit: when (unix seconds), over how many executions, and what it found ("" for no difference)."""

    at: float
    trades: int
    difference: str


class Audits(Table):
    """The outcome of the last audit."""

    name = "audits"

    def last(self) -> AuditMark | None:
        """None before the first audit."""
        row = self._select(("at", "trades", "difference")).fetchone()
        return AuditMark(*row) if row is not None else None

    def put(self, mark: AuditMark) -> None:
        """Remember this one in place of the one before."""
        self._put(vars(mark))


class Snapshots(Table):
    """What only the running bot knows (price, free funds, why levels are missing), for ``status``."""

    name = "snapshots"

    def last(self) -> dict[str, Any] | None:
        """The document of the last ``put``, with "at" (unix seconds); None when there is none."""
        row = self._select(("at", "document")).fetchone()
        return {**json.loads(row[1]), "at": row[0]} if row is not None else None

    def put(self, at: float, document: dict[str, Any]) -> None:
        """Remember this document, amounts as text, in place of the one before."""
        self._put({"at": at, "document": json.dumps(document)})
