"""
Passes events to the listeners that subscribed. A listener that fails is logged, and cannot stop the bot. (Orders
are not events: their errors must reach the engine.)

Listeners run on the thread that publishes, so a slow one must keep a queue of its own.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from gridbot.models.events import Event

LOG = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)


class EventBus:
    """Listeners by type of event; a listener for a base class gets the events of its subclasses, too."""

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Callable[[Any], None]]] = []

    def subscribe(self, event_type: type[E], listener: Callable[[E], None]) -> None:
        """Have ``listener`` called with every event that is an ``event_type``, after those subscribed before it."""
        self._listeners.append((event_type, listener))

    def publish(self, event: Event) -> None:
        """Call the listeners in the order they subscribed. One that raises is logged; the others are still called."""
        for event_type, listener in tuple(self._listeners):
            if not isinstance(event, event_type):
                continue
            try:
                listener(event)
            except Exception:
                LOG.exception("a listener failed on %s; trading goes on", type(event).__name__)
