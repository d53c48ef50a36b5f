"""Who hears what, and that a listener cannot hurt the bot; the clock that a stop ends."""

import logging
import threading
from dataclasses import dataclass

import pytest

from gridbot.core.clock import SystemClock
from gridbot.core.event_bus import EventBus
from gridbot.models.events import Event, StatusUpdate, Trouble


@dataclass(frozen=True)
class LoudTrouble(Trouble):
    """A kind of trouble."""


def test_a_listener_hears_its_events_and_their_subclasses_only() -> None:
    bus, troubles, everything = EventBus(), [], []
    bus.subscribe(Trouble, troubles.append)
    bus.subscribe(Event, everything.append)
    for event in (StatusUpdate("hourly"), Trouble("a"), LoudTrouble("b")):
        bus.publish(event)
    assert troubles == [Trouble("a"), LoudTrouble("b")]
    assert everything == [StatusUpdate("hourly"), Trouble("a"), LoudTrouble("b")]


def test_listeners_hear_in_the_order_they_subscribed() -> None:
    bus, order = EventBus(), []
    for name in ("first", "second", "third"):
        bus.subscribe(Trouble, lambda _event, name=name: order.append(name))
    bus.publish(Trouble("x"))
    assert order == ["first", "second", "third"]


def test_a_failing_listener_is_logged_and_the_rest_still_hear(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_event: Trouble) -> None:
        raise RuntimeError("no connection")

    bus, heard = EventBus(), []
    bus.subscribe(Trouble, fails)
    bus.subscribe(Trouble, heard.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(Trouble("x"))
    assert heard == [Trouble("x")]
    [record] = caplog.records
    assert record.getMessage() == "a listener failed on Trouble; trading goes on"
    assert "no connection" in str(record.exc_info)


def test_a_listener_may_subscribe_another_while_it_hears() -> None:
    bus, late = EventBus(), []
    bus.subscribe(Trouble, lambda _event: bus.subscribe(Trouble, late.append))
    bus.publish(Trouble("first"))
    assert late == []
    bus.publish(Trouble("second"))
    assert late == [Trouble("second")]


def test_a_stop_ends_a_wait_at_once() -> None:
    stopping = threading.Event()
    clock = SystemClock(stopping)
    assert (clock.wait(0), clock.wait(-5), clock.stopping()) == (False, False, False)
    stopping.set()
    started = clock.monotonic()
    assert (clock.wait(60), clock.stopping()) == (True, True)
    assert clock.monotonic() - started < 1


def test_a_clock_tells_how_long_whoever_made_it_will_wait_and_of_no_other_thread() -> None:
    clock, told = SystemClock(), list[float]()
    clock.before_wait = told.append
    clock.wait(0.001)
    other = threading.Thread(target=clock.wait, args=(0.002,))
    other.start()
    other.join()
    assert told == [0.001]
