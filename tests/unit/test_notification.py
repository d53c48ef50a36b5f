"""Telling the owner: what is said, when, how often, and that the trade never waits for it."""

import logging
import math
import threading
import time
from decimal import Decimal as D
from typing import Self

import pytest

from gridbot.core.event_bus import EventBus
from gridbot.exceptions import GridBotError
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models.configuration import NotificationConfigDTO
from gridbot.models.events import (
    BotStarted,
    BotStopped,
    Event,
    GridShifted,
    OrderCancelled,
    OrderExecuted,
    OrderPlaced,
    StatusUpdate,
    Trouble,
)
from gridbot.services.messages import Units, message_for
from gridbot.services.notification_service import (
    CAPACITY,
    LONGEST_BATCH,
    Courier,
    Kind,
    Line,
    NotificationService,
    Outbox,
    compose,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Channel(INotificationChannel):
    @classmethod
    def from_settings(cls, settings: NotificationConfigDTO) -> Self:
        return cls()


class Phone(Channel):
    """A channel that remembers; ``faults`` are raised, or answered with False, before it works."""

    def __init__(self, *faults: Exception | bool) -> None:
        self.faults = list(faults)
        self.heard: list[str] = []
        self.rang = threading.Event()

    def send(self, message: str) -> bool:
        fault = self.faults.pop(0) if self.faults else True
        if isinstance(fault, Exception):
            raise fault
        if fault:
            self.heard.append(message)
            self.rang.set()
        return fault


class DeadPhone(Channel):
    """A channel that hangs until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def send(self, message: str) -> bool:
        self.asked.set()
        self.let_go.wait(10)
        return False


def describe(event: Event) -> str | None:
    return message_for(event, Units("BTC", "USD", 1))


def fill(number: int) -> OrderExecuted:
    return OrderExecuted("buy", D("49504.9"), D("0.00202"), D("100"), D("0.25"), f"O{number}")


def line(text: str, kind: Kind = Kind.ALARM, at: float = 0.0) -> Line:
    return Line(text, kind, at)


def texts(batch: list[Line]) -> list[str]:
    return [each.text for each in batch]


def test_fills_wait_two_seconds_for_one_another_and_leave_together() -> None:
    box = Outbox()
    box.put(line("one", Kind.FILL, 0.0))
    box.put(line("two", Kind.FILL, 1.9))
    assert box.take(1.99) == []
    batch = box.take(2.0)
    assert compose(batch, 2.0) == "2 orders executed:\none\ntwo"
    assert box.take(10.0) == []


def test_an_alarm_leaves_at_once_and_takes_no_fill_with_it() -> None:
    box = Outbox()
    box.put(line("fill", Kind.FILL, 0.0))
    box.put(line("alarm", Kind.ALARM, 0.5))
    assert texts(box.take(0.5)) == ["alarm"]
    assert texts(box.take(2.0)) == ["fill"]


def test_a_single_fill_has_no_heading() -> None:
    assert compose([line("bought", Kind.FILL)], 2.0) == "bought"


def test_the_same_words_within_five_minutes_are_said_once_and_counted() -> None:
    box = Outbox()
    for second in range(8):
        box.put(line("no answer from Kraken", at=float(second)))
    assert texts(box.take(8.0)) == ["no answer from Kraken"]
    assert box.take(299.9) == []
    assert texts(box.take(300.0)) == ["no answer from Kraken (7 more times within 5 min)"]
    assert box.take(600.0) == []
    box.put(line("no answer from Kraken", at=601.0))
    assert texts(box.take(601.0)) == ["no answer from Kraken"]


def test_the_same_words_are_said_again_when_they_were_not_repeated_for_a_while() -> None:
    box = Outbox()
    for at in (0.0, 400.0):
        box.put(line("short of USD", at=at))
        assert texts(box.take(at)) == ["short of USD"]


def test_two_fills_alike_are_two_fills() -> None:
    box = Outbox()
    box.put(line("bought", Kind.FILL, 0.0))
    box.put(line("bought", Kind.FILL, 0.0))
    assert texts(box.take(2.0)) == ["bought", "bought"]


def test_a_full_outbox_drops_its_oldest_fills_before_any_alarm() -> None:
    box = Outbox()
    box.put(line("alarm", Kind.ALARM, 0.0))
    for number in range(CAPACITY + 6):
        box.put(line(f"fill {number}", Kind.FILL, 1.0 + number))
    batch = [*box.take(1000.0), *box.take(1000.0)]
    assert len(batch) == CAPACITY
    assert texts(batch)[:2] == ["alarm", "fill 7"]


def test_alarms_push_out_alarms_but_never_the_stop() -> None:
    box = Outbox()
    box.put(line("stopped", Kind.STOP, 0.0))
    for number in range(CAPACITY):
        box.put(line(f"alarm {number}", Kind.ALARM, 1.0))
    assert texts(box.take(1.0))[:2] == ["stopped", "alarm 1"]


def test_a_backlog_leaves_in_messages_that_no_channel_has_to_cut() -> None:
    box = Outbox()
    for number in range(CAPACITY):
        box.put(line(f"{number:03} " + "x" * 96, Kind.FILL, float(number)))
    seen: list[str] = []
    while batch := box.take(10_000.0):
        assert len(compose(batch, 10_000.0)) <= 4096
        seen += texts(batch)
    assert [text[:3] for text in seen] == [f"{number:03}" for number in range(CAPACITY)]


def test_one_line_that_is_too_long_still_leaves() -> None:
    box = Outbox()
    box.put(line("x" * (2 * LONGEST_BATCH)))
    assert len(box.take(0.0)) == 1


def test_what_is_told_late_says_how_late() -> None:
    assert compose([line("bought", Kind.FILL, 0.0)], 720.0) == "bought (12 min ago)"


def test_a_failing_channel_is_logged_once_and_asked_ever_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock, phone = Clock(), Phone(*[GridBotError("Telegram cannot be reached.")] * 8)
    courier = Courier(phone, steady=clock)
    courier.put("trouble", Kind.ALARM)
    pauses = []
    while phone.faults:
        pauses.append(courier.step())
        clock.now += pauses[-1]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]
    courier.step()
    assert phone.heard == ["trouble (15 min ago)"]
    assert [record.getMessage() for record in caplog.records] == [
        "Phone: message not sent: Telegram cannot be reached. Trying again in 5 s, then more slowly; trading goes on",
        "Phone sends again",
    ]


def test_nothing_is_sent_during_the_pause_and_all_of_it_after() -> None:
    clock, phone = Clock(), Phone(False)
    courier = Courier(phone, steady=clock)
    courier.put("first", Kind.NOTE)
    assert courier.step() == 5.0
    courier.put("second", Kind.ALARM)
    clock.now += 4.0
    assert (courier.step(), phone.heard) == (1.0, [])
    clock.now += 1.0
    courier.step()
    assert phone.heard == ["second\n\nfirst"]


@pytest.mark.parametrize(
    ("asked", "pause"), [(60, 60), (2.5, 5), ("60", 5), (None, 5), (math.inf, 86400), (math.nan, 5)]
)
def test_a_channel_of_ones_own_says_for_how_long_it_wants_to_be_left_alone(asked: object, pause: float) -> None:
    fault = RuntimeError()
    fault.retry_after = asked  # type: ignore[attr-defined]
    courier = Courier(Phone(fault), steady=Clock())
    courier.put("x", Kind.ALARM)
    assert courier.step() == pause


def test_the_error_text_of_an_unknown_channel_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    courier = Courier(Phone(RuntimeError("https://me:SECRET@mail.example")))
    courier.put("x", Kind.ALARM)
    courier.step()
    assert "Phone: message not sent: RuntimeError." in caplog.text
    assert "SECRET" not in caplog.text


def test_an_alarm_reaches_every_channel_at_once() -> None:
    phones = [Phone(), Phone()]
    service = NotificationService(phones, describe)
    service.on_event(Trouble("the feed is silent"))
    for phone in phones:
        assert phone.rang.wait(2)
        assert phone.heard == ["the feed is silent"]
    assert service.close() is True


def test_every_message_begins_with_the_name_of_the_bot_once() -> None:
    phone = Phone()
    service = NotificationService([phone], describe, "hodl")
    told = [
        (Trouble("hodling is hard"), "hodl: hodling is hard"),
        (BotStarted("hodl", "5 buys"), "hodl started\n5 buys"),
        (StatusUpdate("hodl: GridHODL on BTC/USD"), "hodl: GridHODL on BTC/USD"),
    ]
    for n, (event, _) in enumerate(told):
        service.on_event(event)
        until = time.monotonic() + 2
        while len(phone.heard) <= n and time.monotonic() < until:
            time.sleep(0.005)
    service.on_event(fill(1))
    service.on_event(fill(2))
    assert service.close() is True
    assert phone.heard[:3] == [text for _, text in told]
    assert phone.heard[3].startswith("hodl: 2 orders executed:\nbought ")


def test_orders_placed_cancelled_and_shifts_are_not_told() -> None:
    phone = Phone()
    service = NotificationService([phone], describe)
    service.on_event(OrderPlaced("buy", D(1), D(1), "O", ""))
    service.on_event(OrderCancelled("buy", D(1), D(1), D(0), "O", ""))
    service.on_event(GridShifted(D(1), 5))
    assert service.close() is True
    assert phone.heard == []


def test_the_last_message_begins_with_the_stop_and_waits_for_no_digest() -> None:
    phone = Phone()
    courier = Courier(phone)
    courier.put("bought", Kind.FILL)
    courier.put("no answer", Kind.ALARM)
    courier.put("no answer", Kind.ALARM)
    courier.put("pi stopped: Ctrl-C", Kind.STOP)
    courier.ask_to_end()
    courier.start()
    assert courier.wait_for_end(2) is True
    assert phone.heard == ["pi stopped: Ctrl-C\n\nno answer\n\nno answer (1 more time within 5 min)\n\nbought"]


def test_the_stop_message_is_tried_even_during_a_pause() -> None:
    phone = Phone(False)
    service = NotificationService([phone], describe)
    service.on_event(Trouble("no network"))
    while phone.faults:
        time.sleep(0.001)
    service.on_event(BotStopped("pi", "SIGTERM", ""))
    assert service.close() is True
    assert phone.heard == ["pi stopped: SIGTERM\n\nno network"]


def test_a_channel_that_hangs_holds_up_neither_the_trade_nor_the_other_channel_nor_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead, alive = DeadPhone(), Phone()
    service = NotificationService([dead, alive], describe)
    service.on_event(BotStarted("pi", ""))
    assert dead.asked.wait(2)
    began = time.monotonic()
    for number in range(1000):
        service.on_event(fill(number))
    service.on_event(StatusUpdate("well"))
    assert time.monotonic() - began < 1.0
    assert alive.rang.wait(2)
    began = time.monotonic()
    assert service.close(timeout=0.1) is False
    assert time.monotonic() - began < 0.5
    assert "the last notifications could not be sent within 0.1 s" in caplog.text
    dead.let_go.set()


def test_an_event_nobody_can_describe_does_not_reach_the_trade(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_event: Event) -> str:
        raise KeyError("price")

    service, bus = NotificationService([Phone()], broken), EventBus()
    bus.subscribe(Event, service.on_event)
    bus.publish(fill(1))
    assert "a listener failed on OrderExecuted" in caplog.text
    assert service.close() is True


def test_without_channels_there_is_no_thread_and_no_work() -> None:
    before = threading.active_count()
    service = NotificationService([], describe)
    service.on_event(fill(1))
    assert threading.active_count() == before
    assert service.close() is True
