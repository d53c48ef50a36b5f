"""Stores the outcome of the last audit, and the running bot's view of its grid: one row each per userref."""

import json
import logging
from dataclasses import dataclass
from typing import Any

from gridbot.infrastructure.table import Table
from gridbot.models import stored
from gridbot.models.money import as_text

LOG = logging.getLogger(__name__)


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
        row = next(self._rows(("at", "trades", "difference")), None)
        return AuditMark(**row) if row is not None else None

    def put(self, mark: AuditMark) -> None:
        """Remember this one in place of the one before."""
        self._put(vars(mark))


class Snapshots(Table):
    """What only the running bot knows (price, free funds, why levels are missing), for ``status``."""

    name = "snapshots"

    def last(self) -> dict[str, Any] | None:
        """The document of the last ``put``, with "at" (unix seconds); None if there is none, or it is unreadable."""
        row = self._select(("at", "document")).fetchone()
        try:
            return None if row is None else {**json.loads(row[1]), "at": stored.time(row[0])}
        except stored.IMPOSSIBLE:
            what = stored.cannot_be("snapshots.document", row[1], f"of userref {self._userref}, at {row[0]}")
            LOG.warning("database %s: %s, and is left out. The running bot writes it anew", self._db.path, what)
            return None

    def put(self, at: float, document: dict[str, Any]) -> None:
        """Remember this document, amounts as text, in place of the one before."""
        self._put({"at": at, "document": json.dumps(document, default=as_text)})
