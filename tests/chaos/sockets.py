"""The two websockets without threads: frames of the fake Kraken go straight to the bot's queue."""

from collections.abc import Callable
from typing import Any

from gridbot.adapters.exchanges.kraken_socket import GOOD_LIFE, SILENCE, Happening, pause_before
from gridbot.exceptions import GridBotError
from tests.fake_kraken import FakeKraken
from tests.fake_kraken.ws import CLOSED, FakeConnection, Frame


class InProcessSocket:
    """What KrakenSocket does, a turn at a time: connect, pass on, notice silence, connect again."""

    def __init__(
        self, fake: FakeKraken, name: str, hello: Callable[[], list[str]], put: Callable[[object], None]
    ) -> None:
        self.at_least = 0.0
        self._fake = fake
        self._name = name
        self._hello = hello
        self._put = put
        self._number = 0
        self._failures = 0
        self._due = self._began = self._heard = self._now()
        self._connection: FakeConnection | None = None
        self._closed = False

    def _now(self) -> float:
        return self._fake.clock.time()

    def start(self) -> None:
        """The first turn connects."""

    def turn(self) -> None:
        """What is due now."""
        if self._closed:
            return
        if self._connection is None:
            if self._now() >= self._due:
                self._connect()
        elif self._now() - self._heard >= SILENCE:
            self._lose()

    def _connect(self) -> None:
        self._number += 1
        self._began = self._heard = self._now()
        number = self._number
        try:
            self._connection = self._fake.connect(self._name == "private", lambda frame: self._came(number, frame))
        except ConnectionRefusedError:
            self._lose()
            return
        self._put((self._name, number, Happening.CONNECTED))
        try:
            for text in self._hello():
                self._connection.receive(text)
        except GridBotError:
            self._lose()

    def _came(self, number: int, frame: Frame) -> None:
        if self._closed or number != self._number:
            return
        if frame is CLOSED:
            self._lose()
            return
        self._heard = self._now()
        self._put((self._name, number, frame))

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._fake.forget(connection)
            self._put((self._name, self._number, Happening.LOST))
        self._failures = 1 if self._now() - self._began > GOOD_LIFE else self._failures + 1
        self._due = self._now() + pause_before(self._failures, self.at_least, lambda: 1.0)

    def drop(self, number: int) -> None:
        """As the feed asks: end this connection."""
        if number == self._number and self._connection is not None:
            self._lose()

    def close(self) -> None:
        """The process ended, politely or not."""
        self._closed = True
        if self._connection is not None:
            self._fake.forget(self._connection)

    def join(self, _timeout: Any = None) -> None:
        """There is no thread."""
