"""Signed requests, and what every way of losing an answer means for a question and for an order."""

import base64
import logging
from decimal import Decimal
from ssl import SSLCertVerificationError
from urllib.parse import parse_qs

import pytest
import requests
import responses
from urllib3.exceptions import (
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)

from gridbot.adapters.exchanges.kraken_rest import KrakenClient
from gridbot.adapters.exchanges.kraken_wire import encode, sign
from gridbot.exceptions import (
    AccessDenied,
    ConfigurationError,
    ExchangeError,
    OrderFateUnknown,
    PlacementPaused,
    TemporaryFailure,
)
from tests.unit.kraken_clock import StillClock

SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
KEY = "PUBLIC-KEY-PUBLIC-KEY"
BASE = "https://api.kraken.com/0"
BALANCE, ADD_ORDER = f"{BASE}/private/Balance", f"{BASE}/private/AddOrder"
NONCE = "1616492376594"
FORM = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
JSON = (
    '{"nonce": "1616492376594", "ordertype": "limit", "pair": "XBTUSD", "price": 37500, "type": "buy", "volume": 1.25}'
)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def client(clock: StillClock) -> KrakenClient:
    return KrakenClient(KEY, SECRET, clock=clock)


@pytest.fixture
def web():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def bodies(web: responses.RequestsMock) -> list[dict[str, list[str]]]:
    return [parse_qs(call.request.body.decode()) for call in web.calls]


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (FORM, "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="),
        (JSON, "xojekerxRL59CSvi3027oZ1+nMQF0TgqD5QE569qR8tgSJ4tAhoVYVGhSEciXkufsn6foHHVi0N3Utiarvg74w=="),
    ],
)
def test_the_signature_is_krakens_own_example(body: str, signature: str):
    assert sign("/0/private/AddOrder", NONCE, body, base64.b64decode(SECRET)) == signature


def test_what_is_sent_is_what_was_signed(client: KrakenClient, web: responses.RequestsMock):
    web.post(BALANCE, json={"error": [], "result": {}})
    client.ask("Balance", {"trades": True}, private=True)
    request = web.calls[0].request
    assert request.body == b"nonce=1790000000000000000&trades=true"
    assert request.headers["API-Key"] == KEY
    assert request.headers["API-Sign"] == sign(
        "/0/private/Balance", "1790000000000000000", request.body.decode(), base64.b64decode(SECRET)
    )
    assert request.headers["User-Agent"] == "gridbot"


def test_a_float_is_never_sent():
    with pytest.raises(TypeError):
        encode({"volume": 0.1})


def test_small_numbers_are_sent_without_an_exponent():
    assert encode({"volume": Decimal("1E-8"), "price": Decimal("4.950E+4")}) == "volume=0.00000001&price=49500"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.kraken.com",
        "https://api.kraken.com/",
        "https://api.kraken.com/0",
        " https://api.kraken.com/0/ ",
    ],
)
def test_the_address_may_end_as_people_write_it(url: str, clock: StillClock, web: responses.RequestsMock):
    web.get(f"{BASE}/public/Time", json={"error": [], "result": {"unixtime": 1}})
    assert KrakenClient("", "", clock=clock, rest_url=url).ask("Time") == {"unixtime": 1}


@pytest.mark.parametrize("url", ["api.kraken.com", "ftp://api.kraken.com", "https://", "wss://ws.kraken.com"])
def test_an_address_that_is_none_is_refused(url: str, clock: StillClock):
    with pytest.raises(ConfigurationError, match="rest_url"):
        KrakenClient("", "", clock=clock, rest_url=url)


def test_a_secret_that_cannot_be_one_is_refused_without_showing_it(clock: StillClock):
    with pytest.raises(ConfigurationError) as caught:
        KrakenClient(KEY, "not base64!", clock=clock)
    assert "api_secret_key" in caught.value.message
    assert "not base64!" not in caught.value.message


def test_without_a_key_private_calls_are_refused_before_anything_is_sent(clock: StillClock, web):
    with pytest.raises(AccessDenied, match="none is configured"):
        KrakenClient("", "", clock=clock).ask("Balance", private=True)
    assert len(web.calls) == 0


def test_a_question_is_asked_five_times_with_growing_pauses_and_a_fresh_nonce_each(client, clock, web):
    web.post(BALANCE, body=requests.ReadTimeout())
    with pytest.raises(TemporaryFailure, match="no answer in time"):
        client.ask("Balance", private=True)
    nonces = [int(body["nonce"][0]) for body in bodies(web)]
    assert len(nonces) == 5
    assert sorted(set(nonces)) == nonces
    assert [low <= wait <= low + 0.5 for low, wait in zip((0.5, 1, 2, 4), clock.waits, strict=True)] == [True] * 4


def test_a_question_that_does_not_get_through_is_one_line_in_the_log(client, web, caplog):
    web.post(BALANCE, status=502)
    with pytest.raises(TemporaryFailure):
        client.ask("Balance", private=True)
    assert [record.getMessage() for record in caplog.records] == ["Kraken answered Balance with HTTP 502"]


def test_an_answer_after_a_failure_is_an_answer(client, web):
    web.post(BALANCE, status=502, body="<html>")
    web.post(BALANCE, json={"error": ["EService:Busy"]})
    web.post(BALANCE, body='{"error":[],"result":{"ZUSD":0.1000}}')
    assert client.ask("Balance", private=True) == {"ZUSD": Decimal("0.1000")}


def test_a_requested_stop_ends_the_asking(web):
    clock = StillClock(stop_after=1)
    web.post(BALANCE, status=502)
    with pytest.raises(TemporaryFailure):
        KrakenClient(KEY, SECRET, clock=clock).ask("Balance", private=True)
    assert len(web.calls) == 1


def test_krakens_own_pause_is_kept(client, clock, web):
    web.post(BALANCE, json={"error": ["EService: Throttled: 1790000012"]})
    web.post(BALANCE, json={"error": [], "result": 1})
    client.ask("Balance", private=True)
    assert clock.waits == [12.0]


def test_a_lockout_is_not_waited_for_inside(client, clock, web):
    web.post(BALANCE, json={"error": ["EGeneral:Temporary lockout"]})
    with pytest.raises(TemporaryFailure) as caught:
        client.ask("Balance", private=True)
    assert (len(web.calls), clock.waits, caught.value.retry_after) == (1, [], 900)


def test_a_locked_key_is_not_shown_for_fifteen_minutes(client, clock, web):
    web.post(BALANCE, json={"error": ["EGeneral:Temporary lockout"]})
    web.post(BALANCE, json={"error": [], "result": 1})
    with pytest.raises(TemporaryFailure):
        client.ask("Balance", private=True)
    clock.advance(800)
    with pytest.raises(TemporaryFailure, match="Balance was not sent") as caught:
        client.ask("Balance", private=True)
    assert caught.value.retry_after == pytest.approx(100)
    with pytest.raises(PlacementPaused):
        client.send_once("AddOrder", {})
    assert len(web.calls) == 1
    clock.advance(100)
    assert client.ask("Balance", private=True) == 1


def test_a_wrong_key_is_not_shown_twice(client, web):
    web.post(BALANCE, json={"error": ["EAPI:Invalid key"]})
    with pytest.raises(AccessDenied):
        client.ask("Balance", private=True)
    assert len(web.calls) == 1


def test_the_sixteenth_question_waits_for_the_counter(client, clock, web):
    web.post(BALANCE, json={"error": [], "result": 1})
    for _ in range(15):
        client.ask("Balance", private=True)
    assert clock.waits == []
    client.ask("Balance", private=True)
    assert clock.waits == [pytest.approx(1 / 0.33 + 0.01)]


def test_closed_orders_cost_four(client, clock, web):
    web.post(f"{BASE}/private/ClosedOrders", json={"error": [], "result": 1})
    for _ in range(3):
        client.ask("ClosedOrders", private=True)
    assert client.limits.rest.value == 12


def test_a_refused_nonce_jumps_above_krakens_date(client, clock, web):
    clock.now = 0.0
    refused = {"error": ["EAPI:Invalid nonce"]}
    web.post(BALANCE, json=refused, headers={"Date": "Mon, 21 Sep 2026 14:13:20 GMT"})
    web.post(BALANCE, json={"error": [], "result": 1})
    client.ask("Balance", private=True)
    assert int(bodies(web)[1]["nonce"][0]) == 1_790_000_060_000_000_001


def test_four_refused_nonces_in_a_row_end_the_bot_with_advice(client, web):
    web.post(BALANCE, json={"error": ["EAPI:Invalid nonce"]})
    with pytest.raises(AccessDenied, match="4 nonces in a row"):
        client.ask("Balance", private=True)
    assert len(web.calls) == 4


def test_refused_nonces_with_answers_between_them_do_not_add_up(client, web):
    for _ in range(6):
        web.post(BALANCE, json={"error": ["EAPI:Invalid nonce"]})
        web.post(BALANCE, json={"error": [], "result": 1})
    assert [client.ask("Balance", private=True) for _ in range(6)] == [1] * 6


def test_when_kraken_says_too_many_questions_the_counter_is_full(client, clock, web):
    web.post(BALANCE, json={"error": ["EAPI:Rate limit exceeded"]})
    with pytest.raises(TemporaryFailure):
        client.ask_once("Balance", private=True)
    assert client.limits.rest.value >= 15


def test_a_stop_by_request_asks_nothing_more(client, web, clock):
    clock.stopping = lambda: True
    with pytest.raises(TemporaryFailure, match="The bot is stopping"):
        client.ask("Balance", private=True)
    assert len(web.calls) == 0


def test_debug_tells_questions_and_answers_and_no_secret(client, web, caplog):
    caplog.set_level(logging.DEBUG, "gridbot")
    web.post(BALANCE, json={"error": [], "result": {"ZUSD": "12.5"}})
    web.post(
        f"{BASE}/private/GetWebSocketsToken", json={"error": [], "result": {"token": "WW91ciBhdXRo", "expires": 900}}
    )
    client.ask("Balance", {"asset": "ZUSD"}, private=True)
    client.ask("GetWebSocketsToken", private=True)
    [line] = [record.getMessage() for record in caplog.records]
    assert line == """Balance {'asset': 'ZUSD'}: HTTP 200 {"error": [], "result": {"ZUSD": "12.5"}}"""


def test_a_warning_is_logged_and_the_result_used(client, web, caplog):
    web.post(BALANCE, json={"error": ["WDatabase:No change"], "result": {"a": "1"}})
    assert client.ask("Balance", private=True) == {"a": "1"}
    assert "WDatabase:No change" in caplog.text


@pytest.fixture
def closed(client, monkeypatch) -> list[bool]:
    """One entry for every time that the connection was closed."""
    times: list[bool] = []
    monkeypatch.setattr(client._session, "close", lambda: times.append(True))
    return times


def test_the_connection_is_renewed_every_four_minutes(client, clock, web, closed):
    web.get(f"{BASE}/public/Time", json={"error": [], "result": 1})
    client.ask("Time")
    closed.clear()
    clock.advance(239)
    client.ask("Time")
    assert not closed
    clock.advance(2)
    client.ask("Time")
    assert closed
    assert client._session.trust_env is False
    assert client._session.get_adapter(BASE).max_retries.total == 0


def test_an_order_does_not_travel_on_a_connection_that_was_silent_for_a_minute(client, clock, web, closed):
    web.post(ADD_ORDER, json={"error": [], "result": 1})
    client.send_once("AddOrder", {})
    closed.clear()
    clock.advance(59)
    client.send_once("AddOrder", {})
    assert not closed
    clock.advance(61)
    client.send_once("AddOrder", {})
    assert closed


POOL = None
UNKNOWN_FATE = {
    "read time-out": {"body": requests.ReadTimeout()},
    "reset": {"body": requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError()))},
    "closed": {"body": requests.ConnectionError("Remote end closed connection")},
    "cut": {"body": requests.exceptions.ChunkedEncodingError()},
    "damaged encoding": {"body": requests.exceptions.ContentDecodingError()},
    "TLS": {"body": requests.exceptions.SSLError(MaxRetryError(None, "/", SSLError(OSError("bad record mac"))))},
    "proxy": {"body": requests.exceptions.ProxyError(MaxRetryError(None, "/", ProxyError("502", OSError("502"))))},
    "empty": {"body": ""},
    "blank": {"body": " \n"},
    "half": {"body": '{"error":[],"resu'},
    "HTML": {"body": "<!DOCTYPE html><html></html>"},
    "not UTF-8": {"body": b'{"error":["\xff"]}'},
    "a list": {"body": "[]"},
    "no error list": {"body": '{"result":{"txid":["OABC"]}}'},
    "odd error list": {"body": '{"error":[1]}'},
    "redirect": {"status": 307, "headers": {"Location": "https://elsewhere/"}},
    **{f"HTTP {status}": {"status": status, "body": "<html>"} for status in (500, 502, 503, 504, 520, 522, 524, 530)},
    "HTTP 503 with an envelope": {"status": 503, "json": {"error": ["EOrder:Insufficient funds"]}},
    "redirect with an envelope": {"status": 308, "json": {"error": [], "result": {"txid": ["OABC"]}}},
    "HTTP 404 with a page": {"status": 404, "body": "<html>"},
}


@pytest.mark.parametrize("reply", UNKNOWN_FATE.values(), ids=UNKNOWN_FATE)
def test_an_order_without_a_readable_answer_may_exist_and_is_not_sent_again(client, clock, web, reply):
    web.post(ADD_ORDER, **reply)
    with pytest.raises(OrderFateUnknown):
        client.send_once("AddOrder", {})
    assert (len(web.calls), clock.waits) == (1, [])


@pytest.mark.parametrize("reply", UNKNOWN_FATE.values(), ids=UNKNOWN_FATE)
def test_the_same_answer_to_a_question_is_asked_for_again(client, web, reply):
    web.post(BALANCE, **reply)
    with pytest.raises(TemporaryFailure):
        client.ask("Balance", private=True)
    assert len(web.calls) == 5


NEVER_SENT = {
    "connect time-out": requests.ConnectTimeout(),
    "refused": requests.ConnectionError(MaxRetryError(POOL, "/", NewConnectionError(None, "refused"))),
    "unknown name": requests.ConnectionError(MaxRetryError(POOL, "/", NameResolutionError("h", None, OSError()))),
    "no proxy": requests.exceptions.ProxyError(
        MaxRetryError(POOL, "/", ProxyError("no proxy", NewConnectionError(None, "refused")))
    ),
    "wrong certificate": requests.exceptions.SSLError(
        MaxRetryError(POOL, "/", SSLError(SSLCertVerificationError("expired")))
    ),
}


@pytest.mark.parametrize("failure", NEVER_SENT.values(), ids=NEVER_SENT)
def test_an_order_that_was_never_sent_is_tried_for_three_seconds(client, clock, web, failure):
    web.post(ADD_ORDER, body=failure)
    with pytest.raises(PlacementPaused, match="was not sent"):
        client.send_once("AddOrder", {})
    assert len(web.calls) == 7
    assert sum(clock.waits) == 3.0
    assert client.limits.engine.value == 0


def test_an_order_goes_out_once_the_connection_comes_about(client, web):
    web.post(ADD_ORDER, body=requests.ConnectTimeout())
    web.post(ADD_ORDER, json={"error": [], "result": {"txid": ["OABC"]}})
    assert client.send_once("AddOrder", {}) == {"txid": ["OABC"]}
    first, second = (body["nonce"][0] for body in bodies(web))
    assert first != second


@pytest.mark.parametrize("status", [403, 429])
def test_a_block_in_front_of_kraken_pauses_orders(client, web, status):
    web.post(ADD_ORDER, status=status, body="<html>blocked</html>")
    with pytest.raises(PlacementPaused) as caught:
        client.send_once("AddOrder", {})
    assert caught.value.retry_after == 60


def test_http_4xx_with_an_envelope_is_read_by_its_error(client, web):
    web.post(ADD_ORDER, status=400, json={"error": ["EAPI:Invalid key"]})
    with pytest.raises(AccessDenied):
        client.send_once("AddOrder", {})


def test_the_61st_order_in_a_second_is_not_sent(client, web):
    web.post(ADD_ORDER, json={"error": [], "result": 1})
    for _ in range(60):
        client.send_once("AddOrder", {})
    with pytest.raises(PlacementPaused) as caught:
        client.send_once("AddOrder", {})
    assert (len(web.calls), caught.value.retry_after) == (60, 1.0)


def test_a_refused_order_counts_too(client, web):
    web.post(ADD_ORDER, json={"error": ["EOrder:Insufficient funds"]})
    web.post(ADD_ORDER, status=502)
    for _ in range(2):
        with pytest.raises(Exception, match=r"order|HTTP 502"):
            client.send_once("AddOrder", {})
    assert client.limits.engine.value == 2


def test_when_kraken_says_too_many_orders_the_counter_is_full(client, web):
    web.post(ADD_ORDER, json={"error": ["EOrder:Rate limit exceeded"]})
    with pytest.raises(PlacementPaused):
        client.send_once("AddOrder", {})
    with pytest.raises(PlacementPaused, match="was not sent"):
        client.send_once("AddOrder", {})
    assert len(web.calls) == 1


def test_an_order_does_not_wait_long_for_a_question_in_the_way(client, web, monkeypatch):
    monkeypatch.setattr("gridbot.adapters.exchanges.kraken_rest.ORDER_PATIENCE", 0.01)
    with client._turn, pytest.raises(PlacementPaused, match="takes long"):
        client.send_once("AddOrder", {})
    assert len(web.calls) == 0


def test_no_secret_reaches_a_log_an_error_or_a_repr(client, web, caplog):
    caplog.set_level(logging.DEBUG)
    told = [repr(client), str(client)]
    for reply in [*UNKNOWN_FATE.values(), {"json": {"error": ["EAPI:Invalid signature", "WFoo:bar"]}}]:
        web.reset()
        web.post(ADD_ORDER, **reply)
        try:
            client.send_once("AddOrder", {})
        except ExchangeError as exc:
            told += [repr(exc), repr(exc.__cause__)]
    everything = " ".join(told) + caplog.text
    assert SECRET not in everything
    assert KEY not in everything
