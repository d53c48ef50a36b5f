"""
Telegram, over its bot API: one POST for each message.

The address of every request holds the token. So no text of an exception, and nothing that the HTTP library logs, may
leave this module unchanged: errors are reported by their class, urllib3's log is filtered.
"""

import logging
import re
from typing import Any, Self

import requests

from gridbot.exceptions import ConfigurationError, GridBotError, TemporaryFailure
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models.configuration import NotificationConfigDTO

TELEGRAM_URL = "https://api.telegram.org"
LONGEST_MESSAGE = 4096  # Telegram's limit, counted here as it counts: in UTF-16 units
CUT_MARK = "\n… (cut)"
TIMEOUT = 5.0, 10.0  # seconds to connect, and to wait for the answer
TOO_MANY_REQUESTS = 429

# What each refusal means; the owner must act on all of them.
REFUSALS = {
    400: "check chat_id and thread_id",
    401: "the token is wrong or was revoked: ask @BotFather for it",
    403: "the bot may not write there: open the chat and press Start, or invite the bot to the group",
    404: "the token is wrong: ask @BotFather for it",
}


class TelegramNotificationChannel(INotificationChannel):
    """
    Sends messages to one chat.

    token      of the bot, from @BotFather; a secret
    chat_id    number of the chat, or @name of a channel
    thread_id  number of a topic in a group, or None
    """

    def __init__(self, token: str, chat_id: str, thread_id: str | None = None) -> None:
        self._token = token.strip()
        self._where = {"chat_id": chat_id} | ({"message_thread_id": thread_id} if thread_id else {})
        self._url = f"{TELEGRAM_URL}/bot{self._token}/sendMessage"
        self._session = requests.Session()
        # At DEBUG, urllib3 logs the path of every request. Adding the same filter twice does nothing.
        logging.getLogger("urllib3.connectionpool").addFilter(_hide_token)

    @classmethod
    def from_settings(cls, settings: NotificationConfigDTO) -> Self:
        """The channel of [telegram]. Raises ConfigurationError when there is no such section."""
        if settings.telegram is None:
            raise ConfigurationError("config.ini has no [telegram] section: it needs token and chat_id.")
        telegram = settings.telegram
        return cls(telegram.token.get_secret_value(), telegram.chat_id, telegram.thread_id)

    def send(self, message: str) -> bool:
        """
        Send one message, cut at 4096 characters; True when Telegram has taken it. No error holds the token.

        Raises TemporaryFailure when Telegram wants no more messages for a while (429), ConfigurationError when it
        refuses the settings, GridBotError when it cannot be reached or does not work.
        """
        payload = {**self._where, "text": _cut(message)}
        try:
            response = self._session.post(self._url, json=payload, timeout=TIMEOUT, allow_redirects=False)
        except requests.Timeout:
            problem = "Telegram did not answer in time"
        except requests.ConnectionError:
            problem = "Telegram cannot be reached"
        except Exception as exc:  # noqa: BLE001 - the text of any exception may hold the URL
            problem = f"Telegram could not be asked ({type(exc).__name__})"
        else:
            self._refuse_bad(response)
            return True
        # Raised outside ``except``: an exception of requests, which shows the URL, would else be attached to it.
        raise GridBotError(problem)

    def _refuse_bad(self, response: requests.Response) -> None:
        """Raise what ``send`` promises, unless the answer says that Telegram took the message."""
        status, answer = response.status_code, _answer(response)
        if answer.get("ok") is True:
            return
        said = str(answer.get("description", "")).replace(self._token, "***") if self._token else ""
        reply = f"{status} {said}".strip()
        if status == TOO_MANY_REQUESTS:
            asked = answer.get("parameters")
            seconds = asked.get("retry_after") if isinstance(asked, dict) else 0
            raise TemporaryFailure(
                f"Telegram wants no more messages for a while ({reply})", seconds if isinstance(seconds, int) else 0
            )
        if status in REFUSALS:
            raise ConfigurationError(f"Telegram refuses the message ({reply}): {REFUSALS[status]}.")
        raise GridBotError(f"Telegram does not work at the moment ({reply})")


def _cut(message: str) -> str:
    """``message``, shortened to what Telegram takes, with a mark where it ends."""
    units = message.encode("utf-16-le", "replace")
    if len(units) <= 2 * LONGEST_MESSAGE:
        return message
    return units[: 2 * (LONGEST_MESSAGE - len(CUT_MARK))].decode("utf-16-le", "ignore") + CUT_MARK


def _answer(response: requests.Response) -> dict[str, Any]:
    """The JSON object Telegram sent; empty for any other answer (a proxy's page, half a reply)."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _hide_token(record: logging.LogRecord) -> bool:
    """A log filter: /bot123:ABC/sendMessage becomes /bot***/sendMessage; every record passes."""
    record.msg, record.args = re.sub(r"/bot[^/\s]+", "/bot***", record.getMessage()), ()
    return True
