"""A way to reach the owner: Telegram, or one's own."""

from abc import ABC, abstractmethod
from typing import Self

from gridbot.models.configuration import NotificationConfigDTO


class INotificationChannel(ABC):
    """Sends short texts. Called on the notifier's own thread, never on the trading thread."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: NotificationConfigDTO) -> Self:
        """
        Build the channel, once at the start. A channel of one's own takes its secrets from the
        environment or a file of its own. Must not use the network. Raises ConfigurationError.
        """

    @abstractmethod
    def send(self, message: str) -> bool:
        """
        Send one message; True when it was accepted. May block for seconds. An exception counts as
        not sent: the message of a GridBotError is logged as it is, so it must hold no secret; of any
        other exception only the class is logged. One with ``retry_after``, in seconds, as TemporaryFailure
        has it, is waited for so long at least.
        """
