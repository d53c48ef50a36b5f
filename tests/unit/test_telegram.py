"""Telegram: what is sent, what its refusals mean, and that its token is told to nobody."""

import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
import responses

from gridbot.adapters import notification
from gridbot.adapters.notification import TelegramNotificationChannel
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.models.configuration import NotificationConfigDTO, TelegramConfigDTO
from gridbot.services.notification_service import Courier, Kind

TOKEN = "123456:SECRET-abc_DEF"
URL = f"https://api.telegram.org/bot{TOKEN}/sendMessage"


@pytest.fixture
def telegram() -> TelegramNotificationChannel:
    return TelegramNotificationChannel(TOKEN, "-100200", "7")


@responses.activate
def test_a_message_goes_to_the_chat_and_its_topic(telegram: TelegramNotificationChannel) -> None:
    responses.post(URL, json={"ok": True})
    assert telegram.send("bought") is True
    assert json.loads(responses.calls[0].request.body) == {
        "chat_id": "-100200",
        "message_thread_id": "7",
        "text": "bought",
    }


@responses.activate
def test_it_is_built_from_the_settings_and_needs_no_topic() -> None:
    responses.post(URL, json={"ok": True})
    settings = NotificationConfigDTO(telegram=TelegramConfigDTO(token=TOKEN, chat_id="42"))
    assert TelegramNotificationChannel.from_settings(settings).send("x") is True
    assert json.loads(responses.calls[0].request.body) == {"chat_id": "42", "text": "x"}


def test_without_its_section_it_says_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match=r"no \[telegram\] section"):
        TelegramNotificationChannel.from_settings(NotificationConfigDTO())


@responses.activate
@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        ("x" * 4096, "x" * 4096),
        ("x" * 4097, "x" * 4088 + "\n… (cut)"),
        ("😀" * 2049, "😀" * 2044 + "\n… (cut)"),  # two units each
    ],
)
def test_a_long_message_is_cut_with_a_mark(telegram: TelegramNotificationChannel, sent: str, arrived: str) -> None:
    responses.post(URL, json={"ok": True})
    telegram.send(sent)
    assert json.loads(responses.calls[0].request.body)["text"] == arrived


@responses.activate
@pytest.mark.parametrize(
    ("parameters", "seconds"), [({"retry_after": 35}, 35), ({"retry_after": "soon"}, 5), (None, 5), ([35], 5)]
)
def test_telegram_is_left_alone_for_as_long_as_it_asks(
    telegram: TelegramNotificationChannel, caplog: pytest.LogCaptureFixture, parameters: object, seconds: float
) -> None:
    said = {"ok": False, "description": f"Too Many Requests: retry after 35 {TOKEN}", "parameters": parameters}
    responses.post(URL, status=429, json=said)
    courier = Courier(telegram, steady=lambda: 1000.0)
    courier.put("bought", Kind.ALARM)
    assert courier.step() == seconds
    assert "for a while (429 Too Many Requests: retry after 35 ***). Trying again in" in caplog.text


REFUSALS = [
    (401, {"json": {"ok": False, "description": "Unauthorized"}}, "the token is wrong"),
    (404, {"json": {"ok": False, "description": f"no bot{TOKEN}"}}, "the token is wrong"),
    (
        403,
        {"json": {"ok": False, "description": "Forbidden: bot was blocked"}},
        "bot was blocked.*press Start",
    ),
    (400, {"json": {"ok": False, "description": "Bad Request: chat not found"}}, "chat not found.*chat_id"),
]
OUTAGES = [
    (502, {"body": f"<html>{URL}"}, r"does not work at the moment \(502\)"),
    (302, {"headers": {"Location": "https://elsewhere.example/"}}, r"\(302\)"),
    (200, {"body": "<html>please sign in to this hotel"}, r"\(200\)"),
    (200, {"json": ["no", "object"]}, r"\(200\)"),
    (200, {"body": requests.ConnectTimeout(URL)}, "did not answer in time"),
    (200, {"body": requests.ReadTimeout(URL)}, "did not answer in time"),
    (200, {"body": requests.ConnectionError(f"Max retries exceeded with url: {URL}")}, "cannot be reached"),
    (200, {"body": ValueError(URL)}, r"could not be asked \(ValueError\)"),
]


@responses.activate
@pytest.mark.parametrize(("status", "reply", "said"), REFUSALS)
def test_a_refusal_says_what_to_mend(
    telegram: TelegramNotificationChannel, status: int, reply: dict, said: str
) -> None:
    responses.post(URL, status=status, **reply)
    with pytest.raises(ConfigurationError, match=said):
        telegram.send("x")


@responses.activate
@pytest.mark.parametrize(("status", "reply", "said"), OUTAGES)
def test_an_outage_is_not_taken_for_a_mistake_in_the_settings(
    telegram: TelegramNotificationChannel, status: int, reply: dict, said: str
) -> None:
    responses.post(URL, status=status, **reply)
    with pytest.raises(GridBotError, match=said) as error:
        telegram.send("x")
    assert not isinstance(error.value, ConfigurationError)


@responses.activate
@pytest.mark.parametrize(("status", "reply", "said"), REFUSALS + OUTAGES)
def test_the_token_is_in_no_error_no_traceback_and_no_log(
    telegram: TelegramNotificationChannel,
    status: int,
    reply: dict,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    responses.post(URL, status=status, **reply)
    with pytest.raises(GridBotError) as error:
        telegram.send("x")
    assert (error.value.__cause__, error.value.__context__) == (None, None)
    logging.getLogger("anybody").error("with its traceback", exc_info=error.value)
    courier = Courier(telegram)
    courier.put("x", Kind.ALARM)
    courier.step()
    assert "SECRET" not in caplog.text
    assert "Telegram: message not sent: " in caplog.text
    assert "SECRET" not in repr(telegram)


def test_urllib3_at_debug_does_not_show_the_token_over_a_real_socket(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bot(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"ok":true}')

        def log_message(self, *_args: object) -> None:
            """Nothing: what the test is about is the client's log."""

    caplog.set_level(logging.DEBUG)
    with HTTPServer(("127.0.0.1", 0), Bot) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr(notification, "TELEGRAM_URL", f"http://127.0.0.1:{server.server_port}")
        assert TelegramNotificationChannel(TOKEN, "42").send("x") is True
    assert '"POST /bot***/sendMessage' in caplog.text
    assert "SECRET" not in caplog.text


def test_a_telegram_that_never_answers_is_given_up_at_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(notification, "TELEGRAM_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(notification, "TIMEOUT", (0.1, 0.1))
        telegram = TelegramNotificationChannel(TOKEN, "42")
        with pytest.raises(GridBotError, match="did not answer in time"):
            telegram.send("x")
