"""
Tells the owner what happened, without the trade ever waiting for it.

The trading thread only puts a line into an outbox; each channel has a thread and an outbox of its
own, so that a channel that hangs holds up neither the trade nor another channel. In the outbox
alarms go first, fills wait two seconds for one another, and what was just said is only counted.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

from gridbot.exceptions import GridBotError
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models.events import (
    BotStarted,
    BotStopped,
    CaughtUp,
    Event,
    ExtraSellPlaced,
    FundsShort,
    OrderExecuted,
    OrderRefused,
    StatusUpdate,
    Trouble,
)
from gridbot.services.messages import counted, duration

LOG = logging.getLogger(__name__)

CAPACITY = 100  # lines waiting for one channel
DIGEST_SECONDS = 2.0  # fills this close together are one message
FOLD_SECONDS = 300.0  # the same words within this time are said once, and counted
LATE_SECONDS = 60.0  # from here on a line says how old it is
LONGEST_BATCH = 3500  # characters; below what Telegram takes, so that a digest loses no line
LINE_EXTRA = 20  # characters: the age of a line and its end
FIRST_PAUSE = 5.0  # after a failure; doubled with each further one
LONGEST_PAUSE = 300.0
MOST_ATTEMPTS = 50  # about four hours; then a line is dropped, lest one that can never be sent blocks all
IDLE_SECONDS = 3600.0  # an empty outbox wakes its thread by itself; this is only a bound


class Kind(IntEnum):
    """In the order in which lines leave; the last ones are dropped first when there are too many."""

    STOP = 0
    ALARM = 1
    NOTE = 2
    FILL = 3


# What is told; orders placed or cancelled and shifts of the grid are too many and stay in the log.
KINDS: dict[type[Event], Kind] = {
    BotStopped: Kind.STOP,
    Trouble: Kind.ALARM,
    FundsShort: Kind.ALARM,
    OrderRefused: Kind.ALARM,
    BotStarted: Kind.NOTE,
    CaughtUp: Kind.NOTE,
    ExtraSellPlaced: Kind.NOTE,
    StatusUpdate: Kind.NOTE,
    OrderExecuted: Kind.FILL,
}


class NotificationService:
    """
    Hears events, tells the channels. Its threads (daemons, one for each channel) start at once.

    channels  where to tell it
    describe  the text of an event, None for one that is not to be told
    title     first line of every message, for people with several bots in one chat
    """

    def __init__(
        self,
        channels: Iterable[INotificationChannel],
        describe: Callable[[Event], str | None],
        *,
        title: str = "",
    ) -> None:
        self._describe = describe
        self._couriers = [Courier(channel, title) for channel in channels]
        for courier in self._couriers:
            courier.start()

    def on_event(self, event: Event) -> None:
        """Take note of an event. Returns at once and raises nothing, whatever state the channels are in."""
        kind = KINDS.get(type(event))
        if kind is None or not self._couriers:
            return
        try:
            text = self._describe(event)
        except Exception:
            LOG.exception("no words for a %s; nobody was told", type(event).__name__)
            return
        if text:
            for courier in self._couriers:
                courier.put(text, kind)

    def close(self, timeout: float = 0.8) -> bool:
        """
        Send what is left, the stop message first, for ``timeout`` seconds at most. False when some
        of it could not be sent. Events after this are not told.
        """
        deadline = time.monotonic() + timeout
        for courier in self._couriers:
            courier.ask_to_end()
        done = [courier.wait_for_end(max(0.0, deadline - time.monotonic())) for courier in self._couriers]
        if not all(done):
            LOG.warning("the last notifications could not be sent within %s s", timeout)
        return all(done)


@dataclass(frozen=True)
class Line:
    """One thing to tell. ``at``: when it happened, in seconds of the steady clock."""

    text: str
    kind: Kind
    at: float
    attempts: int = 0

    @property
    def due(self) -> float:
        """When it may leave."""
        return self.at + DIGEST_SECONDS if self.kind is Kind.FILL else self.at


class Outbox:
    """
    What waits for one channel, at most CAPACITY lines. No thread, no clock: times are handed in.

    dropped  lines that had to go unsent since the last message that was sent
    """

    def __init__(self) -> None:
        self._lines: list[Line] = []  # in the order of their time
        self._repeats: dict[str, tuple[Line, int]] = {}  # the line that was said, and how often since
        self.dropped = 0

    def put(self, line: Line) -> None:
        """Keep a line, or count it when the same words were said within FOLD_SECONDS."""
        self.fold(line.at)
        if line.kind in (Kind.ALARM, Kind.NOTE):
            if line.text in self._repeats:
                said, count = self._repeats[line.text]
                self._repeats[line.text] = said, count + 1
                return
            if len(self._repeats) < CAPACITY:
                self._repeats[line.text] = line, 0
        self._keep([line])

    def fold(self, now: float) -> None:
        """Tell how often a line was repeated, once FOLD_SECONDS are over since it was said."""
        for text, (said, count) in list(self._repeats.items()):
            if said.at + FOLD_SECONDS > now:
                continue
            del self._repeats[text]
            if count:
                again = replace(said, at=said.at + FOLD_SECONDS)
                self._repeats[text] = (
                    again,
                    0,
                )  # this counts as said: a lasting trouble is told every so often
                self._keep([replace(again, text=_repeated(text, count))])

    def take(self, now: float) -> list[Line]:
        """What is to be sent as one message, the most important first; empty when nothing is due."""
        self.fold(now)
        # Once one fill is due, those that came while it waited go with it.
        fills_due = any(line.due <= now for line in self._lines if line.kind is Kind.FILL)
        due = [line for line in self._lines if line.due <= now or (fills_due and line.kind is Kind.FILL)]
        return self._remove_batch(due)

    def take_everything(self) -> list[Line]:
        """For the last messages: what waits, due or not, and the repeats nobody was told of."""
        for text, (said, count) in self._repeats.items():
            if count:
                self._keep([replace(said, text=_repeated(text, count))])
        self._repeats.clear()
        return self._remove_batch(self._lines)

    def put_back(self, batch: list[Line]) -> None:
        """A batch that could not be sent; a line that has had MOST_ATTEMPTS is dropped."""
        tried = [replace(line, attempts=line.attempts + 1) for line in batch]
        alive = [line for line in tried if line.attempts < MOST_ATTEMPTS]
        self.dropped += len(tried) - len(alive)
        self._keep(alive)

    def next_due(self, now: float) -> float:
        """Seconds until there is something to do."""
        times = [line.due for line in self._lines]
        times += [said.at + FOLD_SECONDS for said, _count in self._repeats.values()]
        return max(0.0, min(times, default=now + IDLE_SECONDS) - now)

    def _keep(self, lines: list[Line]) -> None:
        self._lines = sorted(self._lines + lines, key=lambda line: line.at)
        while len(self._lines) > CAPACITY:
            # The oldest of the fills and notes; an alarm only when nothing else is left; never the stop.
            least = max(min(line.kind, Kind.NOTE) for line in self._lines)
            self._lines.remove(next(line for line in self._lines if min(line.kind, Kind.NOTE) == least))
            self.dropped += 1

    def _remove_batch(self, lines: list[Line]) -> list[Line]:
        batch: list[Line] = []
        room = LONGEST_BATCH
        for line in sorted(lines, key=lambda line: (line.kind, line.at)):
            room -= len(line.text) + LINE_EXTRA
            if batch and room < 0:
                break
            batch.append(line)
        taken = {id(line) for line in batch}
        self._lines = [line for line in self._lines if id(line) not in taken]
        return batch


class Courier:
    """
    One channel, its outbox and its thread. After a failure it pauses, longer each time, and
    says so in the log once until the channel works again.
    """

    def __init__(
        self, channel: INotificationChannel, title: str = "", steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._channel = channel
        self._title = title
        self._steady = steady
        self._outbox = Outbox()
        self._lock = threading.Lock()  # around the outbox; never held while something is sent
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._failures = 0  # in a row
        self._failing_since = 0.0
        self._retry_at = float("-inf")
        self._all_sent = False  # the answer of wait_for_end, written as the thread's last act
        self._thread = threading.Thread(target=self._run, name="gridbot-notify", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, text: str, kind: Kind) -> None:
        """Leave a line in the outbox; takes microseconds."""
        with self._lock:
            self._outbox.put(Line(text, kind, self._steady()))
        self._wake.set()

    def ask_to_end(self) -> None:
        """Send what is left, without regard to pauses, then end."""
        self._ending.set()
        self._wake.set()

    def wait_for_end(self, timeout: float) -> bool:
        """True when everything was sent within so many seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive() and self._all_sent

    def step(self) -> float:
        """Send one message if one is due; seconds until there is something to do again."""
        now = self._steady()
        if now < self._retry_at:
            return self._retry_at - now
        with self._lock:
            batch = self._outbox.take(now)
        if batch:
            self._deliver(batch)
            return max(0.0, self._retry_at - self._steady())
        with self._lock:
            return self._outbox.next_due(now)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                pause = self.step()
            except Exception:  # a mistake of ours: say so, and go on slowly rather than fall silent
                LOG.exception("the notifier stumbled; it goes on")
                pause = FIRST_PAUSE
            self._wake.wait(pause)
            self._wake.clear()
        while batch := self._last_batch():
            if not self._deliver(batch):
                return
        self._all_sent = True

    def _last_batch(self) -> list[Line]:
        with self._lock:
            return self._outbox.take_everything()

    def _deliver(self, batch: list[Line]) -> bool:
        with self._lock:
            dropped = self._outbox.dropped
        problem = self._try(compose(batch, self._steady(), dropped, self._title))
        with self._lock:
            if problem:
                self._outbox.put_back(batch)
            else:
                self._outbox.dropped -= dropped  # more may have been dropped meanwhile
        if problem:
            self._failed(problem)
        else:
            self._worked()
        return not problem

    def _try(self, message: str) -> str:
        """Send; empty when it worked, else why not. A stranger's error may hold a secret: its class only."""
        try:
            return "" if self._channel.send(message) else "the message was not accepted"
        except GridBotError as exc:
            return exc.message
        except Exception as exc:  # noqa: BLE001
            return type(exc).__name__

    def _failed(self, problem: str) -> None:
        now = self._steady()
        pause = min(FIRST_PAUSE * 2 ** min(self._failures, 10), LONGEST_PAUSE)
        if self._failures == 0:
            self._failing_since = now
            LOG.warning(
                "%s could not send: %s. Trying again in %.0f s, then more slowly; trading goes on",
                type(self._channel).__name__,
                problem.rstrip("."),
                pause,
            )
        self._failures += 1
        self._retry_at = now + pause

    def _worked(self) -> None:
        if self._failures:
            away = duration(self._steady() - self._failing_since)
            LOG.info("%s sends again, after %s", type(self._channel).__name__, away)
        self._failures = 0


def compose(batch: list[Line], now: float, dropped: int = 0, title: str = "") -> str:
    """One message out of lines: alarms and notes as paragraphs, fills as a list below them."""
    told = [(line.kind, line.text + _age(now - line.at)) for line in batch]
    paragraphs = [text for kind, text in told if kind is not Kind.FILL]
    fills = [text for kind, text in told if kind is Kind.FILL]
    if len(fills) > 1:
        fills.insert(0, f"{counted(len(fills), 'order')} executed:")
    if fills:
        paragraphs.append("\n".join(fills))
    if dropped:
        paragraphs.append(f"{counted(dropped, 'message')} {'was' if dropped == 1 else 'were'} dropped")
    return "\n".join(filter(None, [title, "\n\n".join(paragraphs)]))


def _age(seconds: float) -> str:
    return f" ({duration(seconds)} ago)" if seconds >= LATE_SECONDS else ""


def _repeated(text: str, count: int) -> str:
    return f"{text} ({counted(count, 'more time')} within {duration(FOLD_SECONDS)})"
