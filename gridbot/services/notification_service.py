"""
Sends notifications to the owner; trading never waits for them.

The trading thread only puts a line into an outbox. Each channel has a thread and an outbox of its own, so that a
channel that hangs delays neither the trading nor another channel. In the outbox alarms go first, fills wait two
seconds to be sent together, and repeated texts are only counted.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

from gridbot.exceptions import GridBotError
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models import events
from gridbot.services.messages import counted, duration

LOG = logging.getLogger(__name__)

CAPACITY = 100  # lines waiting for one channel
DIGEST_SECONDS = 2.0  # fills this close together are one message
FOLD_SECONDS = 300.0  # the same text is sent once within this time; repeats are counted
LATE_SECONDS = 60.0  # an older line is sent with its age
LONGEST_BATCH = 3500  # characters; below what Telegram accepts, so that a digest loses no line
LINE_EXTRA = 20  # characters: the age of a line and its end
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds after a failure; doubled with each further one
LONGEST_WAIT = 86400.0  # seconds; if a channel asks for a longer wait, that is a mistake
TICK = 0.5  # seconds; how often an outbox is checked while something waits in it


class Kind(IntEnum):
    """In the order of sending; if there are too many lines, those of the last kinds are dropped first."""

    STOP = 0
    ALARM = 1
    NOTE = 2
    FILL = 3


# The events that are sent. Orders placed or cancelled and shifts of the grid are too many: they are only logged.
KINDS: dict[type[events.Event], Kind] = {
    events.BotStopped: Kind.STOP,
    events.Trouble: Kind.ALARM,
    events.FundsShort: Kind.ALARM,
    events.OrderRefused: Kind.ALARM,
    events.BotStarted: Kind.NOTE,
    events.CaughtUp: Kind.NOTE,
    events.ExtraSellPlaced: Kind.NOTE,
    events.StatusUpdate: Kind.NOTE,
    events.OrderExecuted: Kind.FILL,
}


class NotificationService:
    """
    Passes events to the channels. Its threads (daemons, one for each channel) start at once.
    ``describe``: returns the text of an event, None if it is not to be sent. ``name``: of the bot, because several
    bots may write to one chat.
    """

    def __init__(
        self, channels: Iterable[INotificationChannel], describe: Callable[[events.Event], str | None], name: str = ""
    ) -> None:
        self._describe = describe
        self._couriers = [Courier(channel, name=name) for channel in channels]
        for courier in self._couriers:
            courier.start()

    def on_event(self, event: events.Event) -> None:
        """Queue an event for every channel. Returns at once, even if a channel hangs."""
        kind = KINDS.get(type(event))
        if kind is not None and (text := self._describe(event)):
            for courier in self._couriers:
                courier.put(text, kind)

    def close(self, timeout: float = 0.8) -> bool:
        """
        Send what is left, the stop message first, for ``timeout`` seconds at most. False if some of it could not be
        sent. Later events are not sent.
        """
        deadline = time.monotonic() + timeout
        for courier in self._couriers:
            courier.ask_to_end()
        done = [courier.wait_for_end(max(0.0, deadline - time.monotonic())) for courier in self._couriers]
        if not all(done):
            hangs = any(courier.is_alive() for courier in self._couriers)
            LOG.warning("the last notifications could not be sent%s", f" within {timeout} s" if hangs else "")
        return all(done)


@dataclass(frozen=True)
class Line:
    """One text to send. ``at``: when it happened, in seconds of the monotonic clock."""

    text: str
    kind: Kind
    at: float


class Outbox:
    """The lines that wait for one channel, at most CAPACITY. It has no thread and no clock: times are passed in."""

    def __init__(self) -> None:
        self.lines: list[Line] = []  # in the order of sending
        self._said: dict[str, tuple[Line, int]] = {}  # by text: the line queued lately, and its repeats since

    @property
    def is_idle(self) -> bool:
        """True if nothing waits, and no repeats are being counted."""
        return not self.lines and not self._said

    def put(self, line: Line) -> None:
        """Queue a line. An alarm or note with the text of one from the last FOLD_SECONDS is only counted."""
        self._fold(line.at)
        if line.text in self._said:
            said, count = self._said[line.text]
            self._said[line.text] = said, count + 1
            return
        if line.kind in (Kind.ALARM, Kind.NOTE) and len(self._said) < CAPACITY:
            self._said[line.text] = line, 0
        self.keep([line])

    def take(self, now: float) -> list[Line]:
        """Remove and return the lines of the next message, the most important first; [] if none is due."""
        self._fold(now)
        # Once one fill is due, those that came while it waited are sent with it.
        oldest = min((line.at for line in self.lines if line.kind is Kind.FILL), default=now)
        batch: list[Line] = []
        room = LONGEST_BATCH
        for line in self.lines:
            room -= len(line.text) + LINE_EXTRA
            if (batch and room < 0) or (line.kind is Kind.FILL and oldest + DIGEST_SECONDS > now):
                break
            batch.append(line)
        self.lines = self.lines[len(batch) :]
        return batch

    def keep(self, lines: list[Line]) -> None:
        """Queue new lines, or those that could not be sent. Drops the oldest of the least important when full."""
        self.lines = sorted(self.lines + lines, key=lambda line: (line.kind, line.at))
        while len(self.lines) > CAPACITY:
            least = self.lines[-1].kind
            self.lines.remove(next(line for line in self.lines if line.kind is least))

    def _fold(self, now: float) -> None:
        """Queue a line that says how often a text was repeated, once FOLD_SECONDS have passed since it was queued."""
        for text, (said, count) in list(self._said.items()):
            if said.at + FOLD_SECONDS > now:
                continue
            del self._said[text]
            if count:  # this line counts as the text itself, so a lasting trouble is reported every five minutes
                again = replace(said, at=said.at + FOLD_SECONDS)
                self._said[text] = again, 0
                times = f"{counted(count, 'more time')} within {duration(FOLD_SECONDS)}"
                self.keep([replace(again, text=f"{text} ({times})")])


class Courier(threading.Thread):
    """
    One channel, its outbox and its thread. After a failure it pauses, longer each time, and
    says so in the log once until the channel works again.
    """

    def __init__(
        self, channel: INotificationChannel, steady: Callable[[], float] = time.monotonic, *, name: str = ""
    ) -> None:
        super().__init__(name="gridbot-notify", daemon=True)
        self._channel = channel
        self._bot = name
        self._steady = steady
        self._outbox = Outbox()
        self._lock = threading.Lock()  # around the outbox; never held while something is sent
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._failures = 0  # in a row
        self._retry_at = -math.inf

    def put(self, text: str, kind: Kind) -> None:
        """Leave a line in the outbox; takes microseconds."""
        with self._lock:
            self._outbox.put(Line(text, kind, self._steady()))
        self._wake.set()

    def ask_to_end(self) -> None:
        """Have the thread send what is left, without waiting for pauses, and then end."""
        self._ending.set()
        self._wake.set()

    def wait_for_end(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds at most; True if everything was sent."""
        self.join(timeout)
        return not self.is_alive() and not self._outbox.lines

    def step(self) -> float | None:
        """Send one message if one is due; returns the seconds until the next step, None if nothing waits."""
        now = self._steady()
        if now < self._retry_at:
            return self._retry_at - now
        if self._deliver(now):
            return 0.0
        return max(self._retry_at - self._steady(), 0.0) or (None if self._outbox.is_idle else TICK)

    def run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(self.step())
            self._wake.clear()
        while self._deliver(math.inf):
            pass

    def _deliver(self, until: float) -> bool:
        """Send what is due at the time ``until`` as one message; True if there was any and the channel accepted it."""
        with self._lock:
            batch = self._outbox.take(until)
        if not batch:
            return False
        problem, wait = send(self._channel, _signed(self._bot, compose(batch, self._steady())))
        if problem:
            with self._lock:
                self._outbox.keep(batch)
        self._note(problem, wait)
        return not problem

    def _note(self, problem: str, wait: float) -> None:
        name = name_of(self._channel)
        if not problem:
            if self._failures:
                LOG.info("%s sends again", name)
            self._failures = 0
            return
        pause = max(min(FIRST_PAUSE * 2 ** min(self._failures, 10), LONGEST_PAUSE), wait)
        if not self._failures:
            text = "%s: message not sent: %s. Trying again in %.0f s, then more slowly; trading goes on"
            LOG.warning(text, name, problem.rstrip("."), pause)
        self._failures += 1
        self._retry_at = self._steady() + pause


def name_of(channel: INotificationChannel) -> str:
    """What the owner calls it."""
    return type(channel).__name__.removesuffix("NotificationChannel")


def send(channel: INotificationChannel, message: str) -> tuple[str, float]:
    """
    Send; empty when it worked, else why not, and the seconds that the channel wants to be left alone. A
    stranger's error may hold a secret: its class only.
    """
    try:
        return "" if channel.send(message) else "the message was not accepted", 0
    except Exception as exc:  # noqa: BLE001
        asked = getattr(exc, "retry_after", 0)
        wait = min(asked, LONGEST_WAIT) if isinstance(asked, int | float) else 0
        return exc.message if isinstance(exc, GridBotError) else type(exc).__name__, wait


def compose(batch: list[Line], now: float) -> str:
    """One message out of lines: alarms and notes as paragraphs, fills as a list below them."""
    texts = [(line.kind, line.text + _age(now - line.at)) for line in batch]
    paragraphs = [text for kind, text in texts if kind is not Kind.FILL]
    fills = [text for kind, text in texts if kind is Kind.FILL]
    if len(fills) > 1:
        fills.insert(0, f"{counted(len(fills), 'order')} executed:")
    if fills:
        paragraphs.append("\n".join(fills))
    return "\n\n".join(paragraphs)


def _signed(name: str, message: str) -> str:
    """``message`` with the bot's ``name`` in front; starts, stops and status messages begin with it already."""
    is_signed = not name or message.startswith((f"{name}: ", f"{name} started", f"{name} stopped"))
    return message if is_signed else f"{name}: {message}"


def _age(seconds: float) -> str:
    return f" ({duration(seconds)} ago)" if seconds >= LATE_SECONDS else ""
