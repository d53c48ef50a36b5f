"""Side effects are numbered as they happen; at a chosen number the process dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests

from gridbot.exceptions import DatabaseError
from gridbot.infrastructure.database import DBConnect
from tests.fake_kraken import Delay, FakeKraken, Fault
from tests.fake_kraken.in_process import FakeKrakenAdapter

CHANGING = ("AddOrder", "CancelOrder")
ON_ITS_WAY = "on its way"
JOURNEY = 4.0  # seconds


class Killed(BaseException):
    """kill -9 at a numbered point: not an Exception, so that nothing in the bot can catch it."""


class SideEffects:
    """
    Counts what the bot does to the world. ``kill_at``: the number at which it dies, once.

    disk_says   the error of the next writes to the database, "" when all is well
    """

    def __init__(self, kill_at: int = 0) -> None:
        self.kill_at = kill_at
        self.count = 0
        self.names: list[str] = []
        self.disk_says = ""

    def reached(self, name: str) -> None:
        """A seam: something was done, or is about to be."""
        self.count += 1
        self.names.append(name)
        self.split()
        if self.count == self.kill_at:
            raise Killed(f"killed at {self.count}: {name}")

    def split(self) -> None:
        """For who wants to see both: that it dies here, and that it does not (family.py)."""


class Wire(FakeKrakenAdapter):
    """The network, with a seam before and after every call that changes something."""

    def __init__(self, fake: FakeKraken, effects: SideEffects) -> None:
        super().__init__(fake)
        self._effects = effects

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """As the network does."""
        method = (request.url or "").rsplit("/", 1)[-1]
        if method not in CHANGING:
            return super().send(request, *args, **options)
        self._effects.reached(f"before {method}")
        try:
            self._effects.reached(f"{method} {ON_ITS_WAY}")
        except Killed:
            self._arrives_later(method, request)
            raise
        try:
            reply = super().send(request, *args, **options)
        except requests.RequestException:
            self._effects.reached(f"after {method}, which was not answered")
            raise
        self._effects.reached(f"after {method}, its reply unread")
        return reply

    def _arrives_later(self, method: str, request: requests.PreparedRequest) -> None:
        """The process is dead, and Kraken's engine takes what it sent some seconds later."""
        self.fake.faults.script.insert(0, Fault(method, "delay_request", seconds=JOURNEY))
        headers = {str(name): str(value) for name, value in request.headers.items()}
        outcome = self.fake.handle_http("POST", urlsplit(request.url or "").path, headers, request.body or b"")
        if isinstance(outcome, Delay):
            self.fake.at(self.fake.clock.time() + JOURNEY, outcome.finish)


class ShakyDB(DBConnect):
    """The database, with a seam before and after every commit, and a disk that may fail."""

    def __init__(self, path: str, effects: SideEffects) -> None:
        self._effects = effects
        self._depth = 0
        super().__init__(path)
        self.db.execute("PRAGMA synchronous=OFF")  # in-process kills cannot lose what was committed

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """As the real one."""
        outermost = not self.db.conn.in_transaction
        with super().atomic():
            yield
            if outermost:
                self._effects.reached("before a commit")
        if outermost:
            self._effects.reached("after a commit")

    def execute(self, sql: str, values: tuple[object, ...] = ()) -> Any:
        """As the real one; a write outside ``atomic`` is a commit of its own."""
        writes = not sql.startswith(("SELECT", "PRAGMA"))
        if writes and self._effects.disk_says:
            raise DatabaseError(f"database {self.path}: {self._effects.disk_says}")
        if not writes or self.db.conn.in_transaction:
            return super().execute(sql, values)
        self._effects.reached("before a commit")
        cursor = super().execute(sql, values)
        self._effects.reached("after a commit")
        return cursor
