"""
What happened, told to whoever listens. An order is a command and may fail the bot; a listener may not.

Everything runs on the thread that publishes: a listener that needs time keeps a queue of its own.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from gridbot.models.events import Event

LOG = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)


class EventBus:
    """Listeners by type of event; who subscribed to a base class hears its subclasses too."""

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Callable[[Any], None]]] = []

    def subscribe(self, event_type: type[E], listener: Callable[[E], None]) -> None:
        """Have ``listener`` called with every event that is an ``event_type``, after those already there."""
        self._listeners.append((event_type, listener))

    def publish(self, event: Event) -> None:
        """Tell the listeners in the order they subscribed. One that raises is logged; the rest still hear."""
        for event_type, listener in tuple(self._listeners):
            if not isinstance(event, event_type):
                continue
            try:
                listener(event)
            except Exception:
                LOG.exception("a listener failed on %s; trading goes on", type(event).__name__)
