"""Our questions and orders in Kraken's words, over a Kraken that answers what it is told to."""

import json
import logging
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from requests.adapters import BaseAdapter

from gridbot.adapters.exchanges.kraken import KrakenExchange, KrakenRESTService, public_kraken
from gridbot.exceptions import (
    AccessDenied,
    BotStateError,
    ConfigurationError,
    ExchangeError,
    InsufficientFunds,
    OrderFateUnknown,
    PlacementPaused,
    TemporaryFailure,
    UnknownOrderError,
)
from gridbot.interfaces.exchange import ExchangeSetup
from gridbot.models.configuration import BotConfigDTO, DBConfigDTO, KrakenConfigDTO, Settings
from tests.unit.kraken_clock import StillClock

DATA = Path(__file__).parent.parent / "data" / "kraken"
SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
USERREF = 1680953421

ASSETS = {
    "XXBT": "XBT",
    "XETH": "ETH",
    "XXDG": "XDG",
    "SOL": "SOL",
    "AAPLx": "AAPLx",
    "ZUSD": "USD",
    "XION": "XION",
    "ZEUS": "ZEUS",
}
PAIRS = {
    "XBTUSD": ("XXBTZUSD", "XXBT", "ZUSD"),
    "ETHUSD": ("XETHZUSD", "XETH", "ZUSD"),
    "XDGUSD": ("XDGUSD", "XXDG", "ZUSD"),
    "SOLUSD": ("SOLUSD", "SOL", "ZUSD"),
    "AAPLxUSD": ("AAPLxUSD", "AAPLx", "ZUSD"),
    "ETHXBT": ("XETHXXBT", "XETH", "XXBT"),
    "XIONUSD": ("XIONUSD", "XION", "ZUSD"),
    "ZEUSUSD": ("ZEUSUSD", "ZEUS", "ZUSD"),
}


class ScriptedKraken(BaseAdapter):
    """
    Knows the tables above; everything else is answered from ``answers``: method -> answers in turn, the
    last one for ever. An answer is an error string, a result, or an exception. Remembers every call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, list[Any]] = {}
        self.calls: list[tuple[str, dict[str, str]]] = []

    def will_answer(self, method: str, *answers: Any) -> None:
        self.answers[method] = list(answers)

    def asked(self, method: str) -> list[dict[str, str]]:
        return [params for name, params in self.calls if name == method]

    def close(self) -> None:
        pass

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        parts = urlsplit(request.url)
        method = parts.path.rsplit("/", 1)[1]
        body = request.body.decode() if request.body else parts.query
        params = dict(parse_qsl(body))
        params.pop("nonce", None)
        self.calls.append((method, params))
        answer = self._answer(method, params)
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code = 200
        reply = {"error": [answer]} if isinstance(answer, str) else {"error": [], "result": answer}
        response._content = json.dumps(reply).encode()
        return response

    def _answer(self, method: str, params: dict[str, str]) -> Any:
        if script := self.answers.get(method):
            return script.pop(0) if len(script) > 1 else script[0]
        if method == "AssetPairs":
            return self._pair(params)
        if method == "Assets":
            return {id_: {"altname": ASSETS[id_]} for id_ in params["asset"].split(",")}
        return "EGeneral:Unknown method"

    def _pair(self, params: dict[str, str]) -> Any:
        found = PAIRS.get(params["pair"])
        tokenised = params["pair"].startswith("AAPLx")
        if found is None or tokenised != (params.get("aclass_base") == "tokenized_asset"):
            return "EQuery:Unknown asset pair"
        id_, base, quote = found
        row = saved("asset_pairs_xbtusd")["XXBTZUSD"]
        row |= {"altname": params["pair"], "base": base, "quote": quote}
        row |= {"aclass_base": "tokenized_asset" if tokenised else "currency"}
        return {id_: row}


def saved(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())["result"]


@pytest.fixture
def kraken() -> ScriptedKraken:
    return ScriptedKraken()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def rest(kraken: ScriptedKraken, clock: StillClock) -> KrakenRESTService:
    return service(kraken, clock)


def service(kraken: ScriptedKraken, clock: StillClock, base: str = "BTC", quote: str = "USD") -> KrakenRESTService:
    return KrakenRESTService("KEY", SECRET, base, quote, clock=clock, transport=kraken)


@pytest.mark.parametrize(
    ("base", "quote", "altname", "ws_symbol", "base_id"),
    [
        ("BTC", "USD", "XBTUSD", "BTC/USD", "XXBT"),
        ("XBT", "USD", "XBTUSD", "BTC/USD", "XXBT"),
        ("ETH", "USD", "ETHUSD", "ETH/USD", "XETH"),
        ("DOGE", "USD", "XDGUSD", "DOGE/USD", "XXDG"),
        ("XDG", "USD", "XDGUSD", "DOGE/USD", "XXDG"),
        ("SOL", "USD", "SOLUSD", "SOL/USD", "SOL"),
        ("AAPLx", "USD", "AAPLxUSD", "AAPLx/USD", "AAPLx"),
        ("ETH", "BTC", "ETHXBT", "ETH/BTC", "XETH"),
        ("XION", "USD", "XIONUSD", "XION/USD", "XION"),
        ("ZEUS", "USD", "ZEUSUSD", "ZEUS/USD", "ZEUS"),
    ],
)
def test_names_come_from_krakens_own_tables(kraken, clock, base, quote, altname, ws_symbol, base_id):
    rest = service(kraken, clock, base, quote)
    assert rest.get_asset_pair_info().base == base_id
    assert (rest.rest_symbol, rest.rest_altname, rest.ws_symbol) == (f"{base}/{quote}", altname, ws_symbol)
    assert all("/" not in call["pair"] for call in kraken.asked("AssetPairs"))


@pytest.mark.parametrize(
    ("method", "answer"),
    [("AssetPairs", None), ("AssetPairs", []), ("AssetPairs", {"XXBTZUSD": None}), ("TradeVolume", None)],
)
def test_an_answer_without_sense_is_no_reason_to_change_the_settings(kraken, rest, method, answer):
    rest.get_asset_pair_info()
    kraken.will_answer(method, answer)
    with pytest.raises(TemporaryFailure):
        rest.get_asset_pair_info() if method == "AssetPairs" else rest.get_maker_fee()


@pytest.mark.parametrize("altname", ["", "\ud800"])
def test_a_pair_without_a_name_for_requests_cannot_be_read(kraken, rest, altname):
    kraken.will_answer("AssetPairs", {"X": saved("asset_pairs_xbtusd")["XXBTZUSD"] | {"altname": altname}})
    with pytest.raises(TemporaryFailure, match="cannot be read"):
        rest.get_asset_pair_info()


def test_the_pair_is_asked_for_with_two_calls(kraken, rest):
    rest.get_asset_pair_info()
    rest.rest_altname, rest.ws_symbol, rest.truncate("1", "price")
    assert [name for name, _ in kraken.calls] == ["AssetPairs", "Assets"]


@pytest.mark.parametrize(("base", "quote"), [("NOPE", "USD"), ("XBTU", "SD")])
def test_a_pair_kraken_does_not_know_is_a_matter_for_the_configuration(kraken, clock, base, quote):
    with pytest.raises(ConfigurationError, match=rf"base_currency = {base}, quote_currency = {quote}"):
        service(kraken, clock, base, quote).get_asset_pair_info()


@pytest.mark.parametrize("status", ["delisted", "disabled"])
def test_a_pair_that_is_traded_no_more_is_a_matter_for_the_configuration(kraken, rest, status):
    row = saved("asset_pairs_xbtusd")["XXBTZUSD"] | {"status": status}
    kraken.will_answer("AssetPairs", {"XXBTZUSD": row})
    with pytest.raises(ConfigurationError, match=f"BTC/USD as '{status}', traded no more"):
        rest.get_asset_pair_info()


def test_a_pair_that_is_not_online_is_told(kraken, rest, caplog):
    row = saved("asset_pairs_xbtusd")["XXBTZUSD"] | {"status": "cancel_only"}
    kraken.will_answer("AssetPairs", {"XXBTZUSD": row})
    assert rest.get_asset_pair_info().status == "cancel_only"
    assert "cancel_only" in caplog.text


def test_a_tokenised_share_says_its_class_in_every_request(kraken, clock):
    kraken.will_answer("Ticker", {"AAPLxUSD": {"c": ["210.00", "1"]}})
    kraken.will_answer("AddOrder", saved("add_order"))
    rest = service(kraken, clock, "AAPLx")
    rest.get_last_price()
    place(rest)
    assert kraken.asked("Ticker") == [{"pair": "AAPLxUSD", "asset_class": "tokenized_asset"}]
    assert kraken.asked("AddOrder")[0]["asset_class"] == "tokenized_asset"


def test_truncating_cuts_toward_zero_to_krakens_precision(rest):
    assert rest.truncate(Decimal("49504.95049"), "price") == "49504.9"
    assert rest.truncate("0.123456789", "volume") == "0.12345678"
    with pytest.raises(ValueError, match="cannot be truncated"):
        rest.truncate("1", "cost")
    with pytest.raises(ValueError, match="float"):
        rest.truncate(0.1, "price")


def test_an_exchange_that_is_not_online_is_asked_again_and_then_told(kraken, clock, rest):
    kraken.will_answer("SystemStatus", {"status": "maintenance"}, {"status": "post_only"}, {"status": "online"})
    rest.check_exchange_status(tries=2)
    assert clock.waits == [0.5, 1.0]
    kraken.will_answer("SystemStatus", {"status": "cancel_only"})
    with pytest.raises(TemporaryFailure, match="Kraken is not open for trading: its status is 'cancel_only'"):
        rest.check_exchange_status()


def test_an_exchange_that_cannot_be_asked_is_not_called_closed(rest, monkeypatch):
    monkeypatch.setattr(rest, "get_system_status", Mock(side_effect=TemporaryFailure("Kraken cannot be reached")))
    with pytest.raises(TemporaryFailure, match=r"^Kraken cannot be reached$"):
        rest.check_exchange_status()


def test_krakens_time_and_last_price(kraken, rest):
    kraken.will_answer("Time", {"unixtime": 1790000000, "rfc1123": "Mon, 21 Sep 26 14:13:20 +0000"})
    kraken.will_answer("Ticker", saved("ticker_xbtusd"))
    assert (rest.get_server_time(), rest.get_last_price()) == (1790000000.0, Decimal("30303.2"))


@pytest.mark.parametrize("time", [1790000000000, 0, -1, "1E+400", "1_790_000_000", 4102444801])
def test_a_time_that_cannot_be_now_is_not_believed(kraken, rest, time):
    kraken.will_answer("Time", {"unixtime": time})
    with pytest.raises(TemporaryFailure, match="answer to Time"):
        rest.get_server_time()


PERIODIC = {
    "Time": ({"unixtime": 1790000000}, lambda rest: rest.get_server_time()),
    "OpenOrders": ({"open": {}}, lambda rest: rest.get_open_orders(USERREF)),
    "ClosedOrders": ({"closed": {}}, lambda rest: rest.get_closed_orders(USERREF)),
    "BalanceEx": (saved("balance_ex"), lambda rest: rest.get_balances()),
    "QueryOrders": ({}, lambda rest: rest.get_orders_info(["OA"])),
}


@pytest.mark.parametrize("method", PERIODIC)
@pytest.mark.parametrize(
    "refusal", ["EQuery:Unknown asset pair", "EGeneral:Invalid arguments", "EOrder:Foo", "EOrder:Unknown order"]
)
def test_a_question_refused_after_it_was_answered_ends_nothing(kraken, rest, method, refusal):
    answer, ask = PERIODIC[method]
    kraken.will_answer(method, refusal)
    is_about_an_id = method == "QueryOrders" and refusal.startswith("EOrder")
    with nullcontext() if is_about_an_id else pytest.raises((ExchangeError, ConfigurationError)) as caught:
        ask(rest)
    assert is_about_an_id or not isinstance(caught.value, TemporaryFailure)  # a start may end with it
    kraken.will_answer(method, answer)
    ask(rest)
    kraken.will_answer(method, refusal)
    with nullcontext() if is_about_an_id else pytest.raises(TemporaryFailure, match=refusal):
        ask(rest)
    kraken.will_answer(method, "EGeneral:Permission denied")
    with pytest.raises(AccessDenied):
        ask(rest)


@pytest.mark.parametrize("fee", ["-5", "40", "10.1"])
def test_a_fee_that_nobody_takes_is_asked_for_again(kraken, rest, fee):
    kraken.will_answer("TradeVolume", {"fees_maker": {"XXBTZUSD": {"fee": fee}}})
    with pytest.raises(TemporaryFailure, match=f"TradeVolume cannot be true: fee is {fee}"):
        rest.get_maker_fee()


@pytest.mark.parametrize(
    ("answer", "fee"),
    [
        (saved("trade_volume"), Decimal("0.004")),
        ("EGeneral:Permission denied", None),
        ("EQuery:Unknown asset pair", None),
        ("EGeneral:Invalid arguments", None),
        ({"fees": {}, "fees_maker": {}}, None),
        ({"fees": None}, None),
        ("EGeneral:Unknown method", None),
    ],
)
def test_the_maker_fee_is_the_accounts_or_unknown(kraken, rest, answer, fee):
    kraken.will_answer("TradeVolume", answer)
    assert rest.get_maker_fee() == fee
    assert kraken.asked("TradeVolume")[0] == {"pair": "XBTUSD"}


def test_a_wrong_key_is_not_mistaken_for_an_unknown_fee(kraken, rest):
    kraken.will_answer("TradeVolume", "EAPI:Invalid key")
    with pytest.raises(AccessDenied):
        rest.get_maker_fee()


ALL = saved("api_key_info")["permissions"]


def test_a_key_with_the_six_ticks_is_right(kraken, rest):
    kraken.will_answer("GetApiKeyInfo", saved("api_key_info"))
    rest.check_api_key_permissions()
    assert [name for name, _ in kraken.calls] == ["GetApiKeyInfo"]


def test_what_kraken_tells_of_the_keys_owner_is_not_logged(kraken, rest, caplog):
    caplog.set_level(logging.DEBUG, "gridbot")
    kraken.will_answer("GetApiKeyInfo", saved("api_key_info") | {"iban": "LT121000011101001000", "api_key_name": "Ann"})
    rest.check_api_key_permissions()
    assert "query-funds" in caplog.text
    assert "LT12" not in caplog.text
    assert "Ann" not in caplog.text


@pytest.mark.parametrize(
    ("name", "tick"),
    [
        ("query-funds", "Query Funds"),
        ("query-open-trades", "Query open orders & trades"),
        ("query-closed-trades", "Query closed orders & trades"),
        ("modify-trades", "Create & modify orders"),
        ("close-trades", "Cancel & close orders"),
        ("create-ws-token", "WebSocket interface"),
    ],
)
def test_a_missing_tick_is_named_as_krakens_page_names_it(kraken, rest, name, tick):
    kraken.will_answer("GetApiKeyInfo", {"apiKeyName": "x", "permissions": [p for p in ALL if p != name]})
    with pytest.raises(AccessDenied, match=tick) as caught:
        rest.check_api_key_permissions()
    assert "withdraw" not in caught.value.message


@pytest.mark.parametrize("name", ["withdraw-funds", "add-withdraw-address", "update-withdraw-address"])
def test_a_key_that_may_withdraw_is_refused(kraken, rest, name):
    kraken.will_answer("GetApiKeyInfo", {"permissions": [*ALL, name]})
    with pytest.raises(AccessDenied, match=rf"may withdraw money \({name}\)"):
        rest.check_api_key_permissions()


@pytest.mark.parametrize("name", ["query_from", "query_to", "queryFrom"])
def test_a_key_that_hides_a_part_of_the_past_is_refused(kraken, rest, name):
    kraken.will_answer("GetApiKeyInfo", saved("api_key_info") | {"query_from": "0", "query_to": "0"})
    rest.check_api_key_permissions()
    described = {n: v for n, v in saved("api_key_info").items() if not n.startswith("query")}
    kraken.will_answer("GetApiKeyInfo", described | {name: "1790000000"})
    with pytest.raises(AccessDenied, match="shows only a part of the past"):
        rest.check_api_key_permissions()


def probes(kraken: ScriptedKraken) -> None:
    """An old Kraken without GetApiKeyInfo, and a key as it should be."""
    for method in ("Balance", "OpenOrders", "ClosedOrders", "GetWebSocketsToken"):
        kraken.will_answer(method, {})
    kraken.will_answer("AddOrder", "EOrder:Insufficient funds")
    kraken.will_answer("CancelOrder", "EOrder:Unknown order")
    kraken.will_answer("WithdrawMethods", "EGeneral:Permission denied")


def test_without_that_question_the_rights_are_tried_and_nothing_is_placed(kraken, rest):
    probes(kraken)
    rest.check_api_key_permissions()
    assert [call["validate"] for call in kraken.asked("AddOrder")] == ["true"]
    assert "txid" not in kraken.asked("CancelOrder")[0]


@pytest.mark.parametrize(
    ("method", "tick"),
    [
        ("Balance", "Query Funds"),
        ("OpenOrders", "Query open orders"),
        ("ClosedOrders", "Query closed orders"),
        ("AddOrder", "Create & modify orders"),
        ("CancelOrder", "Cancel & close orders"),
        ("GetWebSocketsToken", "WebSocket interface"),
    ],
)
def test_a_right_that_is_denied_when_tried_is_named(kraken, rest, method, tick):
    probes(kraken)
    kraken.will_answer(method, "EGeneral:Permission denied")
    with pytest.raises(AccessDenied, match=tick):
        rest.check_api_key_permissions()


def test_a_key_that_may_ask_how_to_withdraw_is_refused(kraken, rest):
    probes(kraken)
    kraken.will_answer("WithdrawMethods", [])
    with pytest.raises(AccessDenied, match="Withdraw Funds"):
        rest.check_api_key_permissions()


def test_free_money_counts_what_auto_earn_keeps_elsewhere(kraken, clock):
    kraken.will_answer("BalanceEx", saved("balance_ex"))
    balance = service(kraken, clock, "ETH").get_pair_balance()
    assert balance.base_balance == Decimal("2.0000000001")
    assert balance.base_available == Decimal("1.5000000001")
    assert balance.quote_available == Decimal("17185.45")


def place(rest: KrakenRESTService, **more: Any) -> str:
    order = {
        "ordertype": "limit",
        "side": "buy",
        "volume": Decimal("0.00202000"),
        "price": Decimal("49504.9"),
    }
    return rest.create_order(**(order | {"userref": USERREF} | more)).txid


def test_an_order_is_sent_with_reference_flags_and_deadline(kraken, rest):
    kraken.will_answer("AddOrder", saved("add_order"))
    assert place(rest, oflags="post,fciq", deadline=1790000030.9) == "OUF4EM-FRGI2-MQMWZD"
    assert kraken.asked("AddOrder") == [
        {
            "ordertype": "limit",
            "type": "buy",
            "pair": "XBTUSD",
            "volume": "0.00202000",
            "price": "49504.9",
            "userref": "1680953421",
            "oflags": "post,fciq",
            "timeinforce": "GTC",
            "deadline": "2026-09-21T14:13:50Z",
        }
    ]


def test_validating_places_nothing_and_needs_no_id(kraken, rest):
    kraken.will_answer("AddOrder", {"descr": {"order": "buy"}})
    assert place(rest, validate=True) == "validated"
    assert kraken.asked("AddOrder")[0]["validate"] == "true"


@pytest.mark.parametrize("result", [{"descr": {}}, {"txid": []}, {"txid": ["\ud800"]}, {"txid": "OA"}, {}, None, []])
def test_neither_error_nor_id_means_that_the_order_may_exist(kraken, rest, result):
    kraken.will_answer("AddOrder", result)
    with pytest.raises(OrderFateUnknown):
        place(rest)


@pytest.mark.parametrize("deadline", [1.79e12, float("nan"), float("inf"), -1e20])
def test_an_order_whose_deadline_cannot_be_written_is_never_sent(kraken, rest, deadline):
    with pytest.raises(PlacementPaused, match="the order was not sent"):
        place(rest, deadline=deadline)
    assert kraken.calls == []


def test_short_of_funds_is_named(kraken, rest):
    kraken.will_answer("AddOrder", "EOrder:Insufficient funds")
    with pytest.raises(InsufficientFunds):
        place(rest)


@pytest.mark.parametrize("answer", [{"count": 1}, {"count": 1, "pending": True}, "EOrder:Cancel pending"])
def test_a_cancellation_that_kraken_took_is_done_for_us(kraken, rest, answer):
    kraken.will_answer("CancelOrder", answer)
    rest.cancel_order("OABC")
    assert kraken.asked("CancelOrder") == [{"txid": "OABC"}]


@pytest.mark.parametrize("answer", [{"count": 0}, "EOrder:Unknown order", "EOrder:Invalid order"])
def test_cancelling_what_is_not_open_is_unknown(kraken, rest, answer):
    kraken.will_answer("CancelOrder", answer)
    with pytest.raises(UnknownOrderError):
        rest.cancel_order("OABC")


def test_a_cancellation_without_an_answer_is_asked_for_once_more(kraken, clock, rest):
    kraken.will_answer("CancelOrder", requests.ReadTimeout(), {"count": 1})
    rest.cancel_order("OABC")
    assert clock.waits == [0.3]
    kraken.will_answer("CancelOrder", requests.ReadTimeout())
    with pytest.raises(TemporaryFailure):
        rest.cancel_order("OABC")
    assert len(kraken.asked("CancelOrder")) == 4


@pytest.mark.parametrize(("age", "cost"), [(-30, 8), (4, 8), (50, 2), (400, 0)])
def test_orders_found_open_cost_by_their_age_to_cancel_and_nothing_once_cancelled(kraken, clock, rest, age, cost):
    result = saved("open_orders")
    result["open"]["OQCLML-BW3P3-BUCMWZ"]["opentm"] = clock.time() - age  # from tomorrow, where our clock is behind
    kraken.will_answer("OpenOrders", result)
    rest.get_open_orders(USERREF)
    assert rest.limits.cost_of_cancelling("OQCLML-BW3P3-BUCMWZ") == cost
    kraken.will_answer("CancelOrder", {"count": 1})
    rest.cancel_order("OQCLML-BW3P3-BUCMWZ")
    assert rest.limits.cost_of_cancelling("OQCLML-BW3P3-BUCMWZ") == 0


@pytest.mark.parametrize("step", [7200, -7200])
def test_a_clock_that_is_wrong_does_not_change_the_ages_of_orders_found_open(kraken, clock, rest, step):
    kraken.will_answer("Time", {"unixtime": 1790000000})
    result = saved("open_orders")
    result["open"]["OQCLML-BW3P3-BUCMWZ"]["opentm"] = 1790000000.0 - 50
    kraken.will_answer("OpenOrders", result)
    rest.get_server_time()
    clock.now += step
    rest.get_open_orders(USERREF)
    assert rest.limits.cost_of_cancelling("OQCLML-BW3P3-BUCMWZ") == 2


def test_cancelling_young_orders_waits_for_the_engine_counter(kraken, clock, rest):
    kraken.will_answer("AddOrder", *({"txid": [f"O{n}"]} for n in range(7)))
    kraken.will_answer("CancelOrder", {"count": 1})
    for _ in range(7):
        place(rest)
    for n in range(6):
        rest.cancel_order(f"O{n}")  # 7 + 6 x 8 = 55 of 60
    with pytest.raises(TemporaryFailure) as caught:
        rest.cancel_order("O6")
    assert caught.value.retry_after == pytest.approx(3)
    assert len(kraken.asked("CancelOrder")) == 6
    clock.advance(300)
    rest.cancel_order("O6")


def test_open_orders_are_those_with_our_reference(kraken, rest):
    result = saved("open_orders")
    result["open"]["OOTHER"] = result["open"]["OQCLML-BW3P3-BUCMWZ"] | {"userref": 8}
    kraken.will_answer("OpenOrders", result)
    [order] = rest.get_open_orders(USERREF, trades=True)
    assert order.txid == "OQCLML-BW3P3-BUCMWZ"
    assert kraken.asked("OpenOrders") == [{"userref": "1680953421", "trades": "true"}]


def test_an_order_of_ours_that_cannot_be_read_is_not_left_out_silently(kraken, rest):
    result = saved("open_orders")
    result["open"]["OQCLML-BW3P3-BUCMWZ"]["vol"] = "?"
    kraken.will_answer("OpenOrders", result)
    with pytest.raises(TemporaryFailure, match="OpenOrders about the order OQCLML-BW3P3-BUCMWZ cannot be read"):
        rest.get_open_orders(USERREF)


def test_an_order_by_hand_in_a_reply_that_was_not_filtered_is_none_of_ours(kraken, rest):
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"]
    kraken.will_answer("OpenOrders", {"open": {"OA": row | {"userref": None}}})
    assert rest.get_open_orders(1680953421) == []


@pytest.mark.parametrize(
    "change",
    [
        {"userref": "x"},
        {"userref": "1680953421_0"},
        {"descr": {"pair": "", "type": "buy", "ordertype": "limit", "price": "1"}},
        {"descr": {"pair": "XBTUSD", "type": "", "ordertype": "limit", "price": "1"}},
        {"descr": {"pair": "ETHUSD", "type": "bid", "ordertype": None, "price": "1"}},
    ],
)
def test_an_order_asked_for_by_its_reference_that_does_not_say_whose_it_is_is_not_left_out(kraken, rest, change):
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"]
    kraken.will_answer("OpenOrders", {"open": {"OA": row | change}})
    with pytest.raises(TemporaryFailure, match="the order OA cannot be read"):
        rest.get_open_orders(USERREF)


def test_an_open_order_that_is_over_is_not_believed_and_both_are_named(kraken, rest):
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"] | {"status": "canceled"}
    kraken.will_answer("OpenOrders", {"open": {"OA": row}})
    with pytest.raises(TemporaryFailure, match="the open order OA has the status canceled"):
        rest.get_open_orders(USERREF)


@pytest.mark.parametrize(
    ("kind", "pair", "price"),
    [("market", "XBTUSD", "0"), ("trailing-stop", "XBTUSD", "+5.0000%"), ("limit", "ETHUSD", "?")],
)
def test_an_order_by_hand_that_is_none_of_the_bots_ends_no_comparison_and_is_told_once(
    kraken, rest, caplog, kind, pair, price
):
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"]
    strange = row | {"price": "0", "descr": row["descr"] | {"ordertype": kind, "pair": pair, "price": price}}
    rows = {"OHAND": strange, "OBOT": row}
    kraken.will_answer("OpenOrders", {"open": rows})
    kraken.will_answer("ClosedOrders", {"closed": rows, "count": 2})
    kraken.will_answer("QueryOrders", rows)
    assert [order.txid for order in rest.get_open_orders(USERREF)] == ["OBOT"]
    assert [order.txid for order in rest.get_closed_orders(USERREF)] == ["OBOT"]
    assert list(rest.get_orders_info(["OHAND", "OBOT"])) == ["OBOT"]
    assert caplog.text.count(f"order OHAND ({pair}, {kind}) cannot be read and is left out") == 1


@pytest.mark.parametrize("change", [{"vol": "?"}, {"descr": {}}, {"descr": None}])
def test_a_limit_order_that_cannot_be_read_is_left_out_of_no_answer(kraken, rest, change):
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"] | change
    kraken.will_answer("QueryOrders", {"OA": row})
    with pytest.raises(TemporaryFailure, match="the order OA cannot be read"):
        rest.get_orders_info(["OA"])


def closed_page(*numbers: int, count: int) -> dict[str, Any]:
    row = saved("closed_orders")["closed"]["O37652-RJWRT-IMO74O"]
    return {"closed": {f"O{n}": row for n in numbers}, "count": count}


def test_every_page_of_closed_orders_is_read_and_rows_that_shift_count_once(kraken, clock, rest):
    pages = [closed_page(*range(0, 50), count=101), closed_page(*range(49, 99), count=102)]
    kraken.will_answer("ClosedOrders", *pages, closed_page(99, 100, count=102))
    orders = rest.get_closed_orders(USERREF, trades=True, start=1790000000.7)
    assert [order.txid for order in orders] == [f"O{n}" for n in range(101)]
    assert [call["ofs"] for call in kraken.asked("ClosedOrders")] == ["0", "50", "100"]
    assert kraken.asked("ClosedOrders")[0] == {
        "userref": "1680953421",
        "trades": "true",
        "closetime": "both",
        "consolidate_taker": "false",
        "start": "1789999940",
        "ofs": "0",
    }


def test_a_long_list_of_closed_orders_is_announced_once_with_its_time(kraken, rest, caplog):
    caplog.set_level("INFO")
    pages = [closed_page(*range(n, n + 50), count=400) for n in range(0, 400, 50)]
    kraken.will_answer("ClosedOrders", *pages)
    assert len(rest.get_closed_orders(USERREF)) == 400
    assert caplog.messages == ["asking Kraken for 400 closed orders, about 1 min at the pace it allows"]


def test_one_page_is_one_call(kraken, rest):
    kraken.will_answer("ClosedOrders", saved("closed_orders"))
    assert len(rest.get_closed_orders(USERREF)) == 1
    assert len(kraken.asked("ClosedOrders")) == 1


def test_orders_are_looked_up_fifty_at_a_time_and_absent_ones_are_absent(kraken, rest):
    row = saved("closed_orders")["closed"]["O37652-RJWRT-IMO74O"]
    kraken.will_answer("QueryOrders", {f"O{n}": row for n in range(50)}, {"O50": row}, {})
    orders = rest.get_orders_info([f"O{n}" for n in range(101)])
    assert set(orders) == {f"O{n}" for n in range(51)}
    assert [len(call["txid"].split(",")) for call in kraken.asked("QueryOrders")] == [50, 50, 1]
    assert rest.get_orders_info([]) == {}


def test_one_unknown_id_does_not_hide_the_others(kraken, rest):
    row = saved("closed_orders")["closed"]["O37652-RJWRT-IMO74O"]
    kraken.will_answer("QueryOrders", "EOrder:Unknown order", {"OA": row}, "EOrder:Invalid order")
    assert set(rest.get_orders_info(["OA", "ONO"])) == {"OA"}
    assert [call["txid"] for call in kraken.asked("QueryOrders")] == ["OA,ONO", "OA", "ONO"]


def test_the_search_for_unknown_ids_is_bounded(kraken, rest, caplog):
    kraken.will_answer("QueryOrders", "EOrder:Unknown order")
    assert rest.get_orders_info([f"O{n}" for n in range(50)]) == {}
    assert len(kraken.asked("QueryOrders")) == 31
    assert "too few of 50" in caplog.text


def test_trades_are_looked_up_twenty_at_a_time(kraken, rest):
    kraken.will_answer("QueryTrades", saved("query_trades"), {})
    trades = rest.get_trades_info(["THVRQM-33VKH-UCI7BS", *(f"T{n}" for n in range(20))])
    assert set(trades) == {"THVRQM-33VKH-UCI7BS"}
    assert len(kraken.asked("QueryTrades")) == 2


def test_an_unknown_trade_is_absent_in_whatever_words_kraken_says_so(kraken, rest):
    known = saved("query_trades")
    kraken.will_answer("QueryTrades", "EQuery:Unknown trade", known, "EQuery:Unknown trade")
    assert set(rest.get_trades_info(["THVRQM-33VKH-UCI7BS", "TNO"])) == {"THVRQM-33VKH-UCI7BS"}


@pytest.mark.parametrize("answer", ["EGeneral:Invalid arguments", "EAPI:Bad request", "EService:Busy"])
def test_what_is_no_refusal_of_an_id_is_not_searched_for_one(kraken, rest, answer):
    kraken.will_answer("QueryTrades", answer)
    with pytest.raises(ExchangeError):
        rest.get_trades_info([f"T{n}" for n in range(20)])
    assert len(kraken.asked("QueryTrades")) == (5 if answer == "EService:Busy" else 1)


def test_there_is_room_for_a_comparison_while_eight_points_are_left(kraken, rest, clock):
    kraken.will_answer("OpenOrders", {"open": {}})
    for _ in range(7):
        rest.get_open_orders(USERREF)
    assert rest.comparison_wait == 0
    rest.get_open_orders(USERREF)
    assert rest.comparison_wait == pytest.approx(1 / 0.33)
    clock.advance(4)
    assert rest.comparison_wait == 0


def test_every_fill_of_a_taker_is_asked_for(kraken, rest):
    kraken.will_answer("QueryOrders", {})
    rest.get_orders_info(["OA"])
    assert kraken.asked("QueryOrders") == [{"trades": "true", "consolidate_taker": "false", "txid": "OA"}]


@pytest.mark.parametrize(
    ("method", "ask"),
    [
        ("SystemStatus", lambda rest: rest.get_system_status()),
        ("Time", lambda rest: rest.get_server_time()),
        ("Ticker", lambda rest: rest.get_last_price()),
        ("GetWebSocketsToken", lambda rest: rest.get_websocket_token()),
        ("Balance", lambda rest: rest.get_account_balance()),
        ("BalanceEx", lambda rest: rest.get_pair_balance()),
        ("CancelOrder", lambda rest: rest.cancel_order("OA")),
        ("ClosedOrders", lambda rest: rest.get_closed_orders(USERREF)),
        ("QueryOrders", lambda rest: rest.get_orders_info(["OA"])),
        ("QueryTrades", lambda rest: rest.get_trades_info(["TA"])),
    ],
)
@pytest.mark.parametrize("answer", [["of", "another", "shape"], {"OA": "five", "TA": "five"}])
def test_an_answer_of_another_shape_is_asked_for_again_and_ends_nothing(kraken, rest, method, ask, answer):
    kraken.will_answer(method, answer)
    with pytest.raises(TemporaryFailure, match="cannot be read"):
        ask(rest)


def test_pages_of_closed_orders_end_without_a_count_and_before_one_that_is_too_high(kraken, rest):
    first, second = closed_page(*range(50), count=0), closed_page(50, 51, count=0)
    del first["count"], second["count"]
    kraken.will_answer("ClosedOrders", first, second)
    assert len(rest.get_closed_orders(USERREF)) == 52
    kraken.will_answer("ClosedOrders", closed_page(1, 2, count=9), closed_page(count=9), {"must": "not be asked"})
    assert len(rest.get_closed_orders(USERREF)) == 2


@pytest.mark.parametrize("count", [0, 10**9])
def test_pages_of_closed_orders_end_where_one_tells_nothing_new(kraken, rest, count):
    page = closed_page(*range(50), count=count)
    kraken.will_answer("ClosedOrders", page, page, {"must": "not be asked"})
    assert len(rest.get_closed_orders(USERREF)) == 50


def test_the_rules_of_the_pair_are_asked_for_anew(kraken, rest):
    rest.get_asset_pair_info()
    row = kraken._pair({"pair": "XBTUSD"})
    row["XXBTZUSD"]["tick_size"] = "0.5"
    kraken.will_answer("AssetPairs", row)
    assert rest.get_asset_pair_info().tick_size == Decimal("0.5")
    assert rest.truncate("30000.7", "price") == "30000.5"


def test_an_order_that_shows_up_late_is_waited_for(kraken, clock, rest):
    row = saved("closed_orders")["closed"]["O37652-RJWRT-IMO74O"]
    kraken.will_answer("QueryOrders", {}, {}, {"OA": row})
    assert rest.get_order_with_retry("OA").txid == "OA"
    assert clock.waits == [0.5, 1.0]


@pytest.mark.parametrize(("exit_on_fail", "error"), [(True, BotStateError), (False, UnknownOrderError)])
def test_an_order_that_never_shows_up_is_a_named_error(kraken, clock, rest, exit_on_fail, error):
    kraken.will_answer("QueryOrders", {})
    with pytest.raises(error, match="OA"):
        rest.get_order_with_retry("OA", tries=2, exit_on_fail=exit_on_fail)
    assert len(kraken.asked("QueryOrders")) == 3


def setup(tmp_path: Path, **kraken: Any) -> ExchangeSetup:
    bot = BotConfigDTO(
        name="b",
        exchange="Kraken",
        userref=1,
        strategy="GridHODL",
        base_currency="BTC",
        quote_currency="USD",
        amount_per_grid=Decimal(100),
        interval=Decimal("0.01"),
        n_open_buy_orders=5,
        max_investment=Decimal(10000),
    )
    database = DBConfigDTO(path=tmp_path / "gridbot.db")
    return ExchangeSetup(Settings(bot=bot, kraken=KrakenConfigDTO(**kraken), db=database), StillClock())


def test_the_real_exchange_needs_both_halves_of_a_key(tmp_path):
    with pytest.raises(ConfigurationError, match="api_secret_key"):
        KrakenExchange().create(setup(tmp_path, api_public_key="KEY"))


def test_building_connects_to_nothing_and_writes_nothing(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    exchange = KrakenExchange().create(setup(tmp_path, api_public_key="KEYKEY", api_secret_key=SECRET))
    assert exchange.simulated is False
    exchange.feed.close()
    exchange.rest.close()
    assert list(tmp_path.iterdir()) == []
    assert "KEYKEY" not in repr(exchange) + caplog.text
    assert SECRET not in repr(exchange) + caplog.text


def test_the_nonce_is_kept_where_everything_with_this_key_looks_for_it(tmp_path, kraken):
    built = replace(setup(tmp_path, api_public_key="KEYKEY", api_secret_key=SECRET), key_state=tmp_path / "key")
    exchange = KrakenExchange().create(built)
    exchange.rest.client._session.mount("https://", kraken)
    kraken.will_answer("Balance", {})
    exchange.rest.get_account_balance()
    exchange.rest.close()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_public_kraken_has_prices_only(tmp_path):
    exchange = public_kraken(setup(tmp_path))
    with pytest.raises(AccessDenied):
        exchange.rest.get_balances()
    with pytest.raises(ValueError, match="needs a key"):
        exchange.feed.subscribe({"channel": "executions"})
