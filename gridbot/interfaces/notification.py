"""A way to reach the owner: Telegram, or the owner's own channel."""

from abc import ABC, abstractmethod
from typing import Self

from gridbot.models.configuration import NotificationConfigDTO


class INotificationChannel(ABC):
    """Sends short texts. Called on the notifier's own thread, never on the trading thread."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: NotificationConfigDTO) -> Self:
        """
        Build the channel, once at the start. A channel of your own takes its secrets from the environment or from its
        own file. Must not use the network. Raises ConfigurationError.
        """

    @abstractmethod
    def send(self, message: str) -> bool:
        """
        Send one message; True when it was accepted. May block for seconds. An exception counts as not sent. The message
        of a GridBotError is logged as it is, so it must hold no secret; of any other exception only the class is
        logged. If the exception has ``retry_after`` (seconds), as TemporaryFailure has, the next try waits at least
        that long, but a day at most.
        """
