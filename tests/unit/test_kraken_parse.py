"""Saved payloads of Kraken, read into models."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gridbot.adapters.exchanges import kraken_parse as parse
from gridbot.models.exchange import AssetBalanceSchema, TakerTradeSchema, TradeInfoSchema
from gridbot.models.money import from_json

DATA = Path(__file__).parent.parent / "data" / "kraken"


def saved(name: str) -> Any:
    return parse.read_envelope((DATA / f"{name}.json").read_bytes()).result


def frame(name: str) -> Any:
    return from_json((DATA / f"ws_{name}.json").read_text())["data"][0]


def test_a_pair_without_fee_ladder():
    info = parse.asset_pair(saved("asset_pairs_xbtusd")["XXBTZUSD"])
    assert (info.base, info.quote, info.aclass_base, info.status) == ("XXBT", "ZUSD", "currency", "online")
    assert (info.lot_decimals, info.pair_decimals, info.cost_decimals) == (8, 1, 5)
    assert (info.tick_size, info.ordermin, info.costmin) == (
        Decimal("0.1"),
        Decimal("0.00005"),
        Decimal("0.5"),
    )
    assert info.fees_maker == []


def test_a_pair_may_step_wider_than_its_decimals_be_closed_and_have_no_least_cost():
    row = dict(saved("asset_pairs_xbtusd")["XXBTZUSD"]) | {"tick_size": "0.5", "status": "cancel_only"}
    del row["costmin"]
    info = parse.asset_pair(row)
    assert (info.tick_size, info.status, info.costmin) == (Decimal("0.5"), "cancel_only", 0)


@pytest.mark.parametrize(
    ("tick", "decimals", "price", "cut"),
    [
        ("0.100", 1, "99.09", "99.0"),
        ("0.01", 1, "99.09", "99.0"),
        ("0", 1, "99.09", "99.0"),
        ("0.5", 2, "99.09", "99.0"),
        ("5E+1", 0, "9999", "9950"),
        ("1e-08", 8, "0.123456789", "0.12345678"),
    ],
)
def test_a_price_never_has_more_decimals_than_the_pair(tick, decimals, price, cut):
    row = dict(saved("asset_pairs_xbtusd")["XXBTZUSD"]) | {"tick_size": tick, "pair_decimals": decimals}
    assert parse.asset_pair(row).truncate(price, "price") == cut


def test_of_a_pair_only_what_nobody_can_guess_must_be_told():
    whole = saved("asset_pairs_xbtusd")["XXBTZUSD"]
    row = {name: whole[name] for name in ("base", "quote", "lot_decimals", "pair_decimals")}
    row |= {"tick_size": None, "status": None, "costmin": None}
    info = parse.asset_pair(row)
    assert (info.tick_size, info.status, info.costmin, info.cost_decimals) == (Decimal("0.1"), "online", 0, 5)
    assert info.ordermin == 0, "the exchange refuses what is too small"
    assert info.aclass_base == info.aclass_quote == "currency"


def test_a_pair_without_tick_size_steps_by_its_decimals():
    row = dict(saved("asset_pairs_xbtusd")["XXBTZUSD"])
    del row["tick_size"]
    assert parse.asset_pair(row).tick_size == Decimal("0.1")


def test_balances_as_text_and_as_numbers():
    rows = {row.asset: row for row in parse.balances(saved("balance_ex"))}
    assert rows["ZUSD"].hold_trade == Decimal("8249.76")
    assert rows["XXBT"].balance == Decimal("1.2435")
    assert parse.balances({"ZUSD": {"balance": "5"}})[0].hold_trade == 0


def balance(asset: str, amount: str, hold: str = "0") -> AssetBalanceSchema:
    return AssetBalanceSchema(asset=asset, balance=Decimal(amount), hold_trade=Decimal(hold))


@pytest.mark.parametrize(
    ("rows", "total", "free"),
    [
        ([balance("XETH", "1.5", "0.5")], "1.5", "1.0"),
        ([balance("XETH", "0.0000000001", "0.5"), balance("ETH.F", "2")], "2.0000000001", "1.5000000001"),
        ([balance("XETH", "0.1", "0.5")], "0.1", "0"),
        (
            [balance("ETH.S", "9"), balance("ETH2.S", "9"), balance("ETH.M", "9"), balance("ETH.B", "9")],
            "0",
            "0",
        ),
        ([balance("XXETH", "9"), balance("ETHW", "9")], "0", "0"),
        ([], "0", "0"),
    ],
    ids=["plain", "auto-earn holds the money", "hold above balance", "staked", "similar names", "absent"],
)
def test_free_money_is_the_sum_of_an_assets_wallets(rows, total, free):
    eth = parse.wallet_names("XETH", "ETH", "currency")
    pair = parse.pair_balance(rows, eth, parse.wallet_names("ZUSD", "USD", "currency"))
    assert (pair.base_balance, pair.base_available) == (Decimal(total), Decimal(free))
    assert (pair.quote_balance, pair.quote_available) == (0, 0)


def test_a_tokenised_share_may_stand_under_its_suffix():
    names = parse.wallet_names("AAPLx", "AAPLx", "tokenized_asset")
    pair = parse.pair_balance([balance("AAPLx.T", "3")], names, frozenset())
    assert pair.base_available == 3


def test_the_maker_fee_is_a_fraction():
    assert parse.maker_fee(saved("trade_volume")) == Decimal("0.004")


@pytest.mark.parametrize(
    ("result", "fee"),
    [
        ({"fees": {"EURUSD": {"fee": "0.2000"}}}, "0.002"),
        ({"fees": {"X": {"fee": "0.2"}}, "fees_maker": {}}, "0.002"),
        ({"fees_maker": {"AAPLxUSD": {"fee": "-0.0200"}}}, "-0.0002"),
    ],
)
def test_a_pair_without_a_makers_rate_has_one_for_all_and_a_rebate_is_negative(result, fee):
    assert parse.maker_fee(result) == Decimal(fee)


def test_an_open_order():
    order = parse.order_info("OQCLML-BW3P3-BUCMWZ", saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"])
    assert (order.pair, order.side, order.status, order.userref) == ("XBTUSD", "buy", "open", 1680953421)
    assert (order.price, order.vol, order.vol_exec) == (Decimal("30010.0"), Decimal("1.25"), Decimal("0.375"))
    assert (order.cost, order.fee) == (Decimal("11253.7"), 0)
    assert (order.opened_at, order.closed_at) == (1688666559.8974, 0.0)
    assert order.trades == ("TCCCTY-WE2O6-P3NB37",)


def test_a_cancelled_order_keeps_what_was_executed():
    order = parse.order_info("O37652-RJWRT-IMO74O", saved("closed_orders")["closed"]["O37652-RJWRT-IMO74O"])
    assert (order.status, order.reason, order.closed_at) == ("canceled", "User requested", 1688148610.0482)
    assert (order.vol_exec, order.cost) == (Decimal("0.0004"), Decimal("9.4"))


def test_cost_and_fee_of_an_order_are_the_exchanges_and_what_it_leaves_out_is_nothing():
    row = dict(saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"], fee="28.13425", userref=-5)
    order = parse.order_info("O", row)
    assert (order.fee, order.userref) == (Decimal("28.13425"), 0)
    for name in ("cost", "fee", "opentm", "userref", "reason", "trades"):
        row.pop(name, None)
    order = parse.order_info("O", row)
    assert (order.cost, order.fee, order.opened_at, order.userref, order.reason, order.trades) == (0, 0, 0, 0, "", ())


def test_the_limit_price_is_not_the_average_price():
    row = dict(saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"], price="29999.1")
    assert parse.order_info("O", row).price == Decimal("30010.0")
    row["descr"] = dict(row["descr"], ordertype="market", price="0")
    assert parse.order_info("O", row).price == Decimal("29999.1")  # which has no other


def test_an_order_amended_to_less_than_it_had_executed_can_be_read():
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"] | {"vol": "0.1"}
    del row["misc"]
    for told in ({"misc": "partial,amended"}, {}):  # a server that leaves it out denies nothing
        order = parse.order_info("O", row | told)
        assert order.vol == order.vol_exec == Decimal("0.375")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"status": "closed"}, id="closed and not executed as a whole"),
        pytest.param({"vol_exec": "0.0", "status": "canceled"}, id="not executed and paid for"),
        pytest.param({"vol": "0.1"}, id="more executed than ordered"),
    ],
)
def test_an_order_whose_figures_contradict_each_other_is_not_believed(change):
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"] | {"misc": ""}
    with pytest.raises(parse.Contradiction, match=r"status \w+, vol .*, vol_exec .*, cost "):
        parse.order_info("O", row | change)


def test_an_order_whose_side_is_not_the_one_it_is_described_with_is_not_believed():
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"]
    with pytest.raises(parse.Contradiction, match="type sell, order buy 1"):
        parse.order_info("O", row | {"descr": row["descr"] | {"type": "sell"}})
    assert parse.order_info("O", row | {"descr": row["descr"] | {"type": "sell", "order": ""}}).side == "sell"


def test_a_time_that_can_be_none_is_taken_for_none():
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"]
    for time in (None, 0, "0", -5, Decimal("844333279948.7"), Decimal("1E25")):
        assert parse.order_info("O", row | {"opentm": time}).opened_at == 0


@pytest.mark.parametrize("change", [{"vol": "1_25"}, {"vol": "１"}, {"descr": {"type": "bid"}}, {"trades": ["\ud800"]}])
def test_an_order_in_another_writing_than_krakens_cannot_be_read(change):
    row = saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"]
    with pytest.raises(parse.UNREADABLE):
        parse.order_info("O", row | change | {"descr": row["descr"] | change.get("descr", {})})


def test_an_execution_that_costs_something_else_than_price_times_volume_is_not_believed():
    [row] = saved("query_trades").values()
    with pytest.raises(parse.Contradiction, match=r"price 30010.*, volume 0\.02.*, cost 1200\.4"):
        parse.trade_info("T", row | {"cost": "1200.4"})
    for price, volume, cost in (("30010.0", "0.00000001", "0.00030"), ("23667", "0.0004", "9.4"), ("3", "0.001", "0")):
        parse.trade_info("T", row | {"price": price, "vol": volume, "cost": cost})  # rounded
    told = frame("trade")
    with pytest.raises(parse.Contradiction):
        parse.execution(told | {"cost": told["cost"] * 2})
    with pytest.raises(parse.Contradiction):
        parse.execution(told | {"last_qty": told["last_qty"] * 10})


@pytest.mark.parametrize(
    "change",
    [
        {"pair_decimals": -5},
        {"lot_decimals": 19},
        {"cost_decimals": -1},
        {"lot_decimals": 10**45},
        {"pair_decimals": 10**45},
        {"tick_size": "100000"},
    ],
)
def test_rules_that_no_pair_can_have_are_not_believed(change):
    with pytest.raises(parse.UNREADABLE):
        parse.asset_pair(saved("asset_pairs_xbtusd")["XXBTZUSD"] | change)


@pytest.mark.parametrize("name", ["", "O" * 65, "O\ud800", "O 1", "O,1", "Ö1", 7, None])
def test_what_is_no_id_is_not_taken_for_one(name):
    with pytest.raises(parse.UNREADABLE):
        parse.accepted_txid({"txid": [name]})
    with pytest.raises(parse.UNREADABLE):
        parse.execution({"order_id": name, "exec_type": "new"})


def test_a_trade():
    [(exec_id, row)] = saved("query_trades").items()
    trade = parse.trade_info(exec_id, row)
    assert (trade.exec_id, trade.txid, trade.side) == ("THVRQM-33VKH-UCI7BS", "OQCLML-BW3P3-BUCMWZ", "buy")
    assert (trade.price, trade.volume, trade.cost, trade.fee) == (
        Decimal("30010"),
        Decimal("0.02"),
        Decimal("600.2"),
        0,
    )
    assert trade.time == 1688667796.8802


def test_an_execution_counts_as_the_maker_s_unless_it_is_told_to_be_a_taker_s():
    [(exec_id, row)] = saved("query_trades").items()
    absent = {name: value for name, value in row.items() if name != "maker"}
    trades = [parse.trade_info(exec_id, absent | more) for more in ({}, {"maker": True}, {"maker": False})]
    assert [type(trade) for trade in trades] == [TradeInfoSchema, TradeInfoSchema, TakerTradeSchema]
    fill = {name: value for name, value in frame("trade").items() if name != "liquidity_ind"}
    events = [parse.execution(fill | more) for more in ({}, {"liquidity_ind": "m"}, {"liquidity_ind": "t"})]
    assert [event.maker for event in events] == [True, True, False]


def test_the_last_price_and_the_txid_of_an_accepted_order():
    assert parse.last_price(saved("ticker_xbtusd")) == Decimal("30303.2")
    assert parse.accepted_txid(saved("add_order")) == "OUF4EM-FRGI2-MQMWZD"


@pytest.mark.parametrize("price", ["0.00000", "-1"])
def test_what_is_no_price_is_not_taken_for_one(price):
    with pytest.raises(ValueError, match="the last price is"):
        parse.last_price({"XXBTZUSD": {"c": [price, "1"]}})


def test_a_ticker_of_the_feed():
    ticker = parse.ticker(frame("ticker"))
    assert (ticker.symbol, str(ticker.last), ticker.time) == ("BTC/USD", "83744.2", 1790327071.742599)


def test_a_ticker_without_a_time():
    assert parse.ticker({"symbol": "BTC/USD", "last": 50000}).time == 0.0


def test_pending_new_carries_the_whole_order():
    event = parse.execution(frame("pending_new"))
    assert (event.exec_type, event.order_status, event.userref) == ("pending_new", "pending_new", 1680953421)
    assert (event.symbol, event.side) == ("BTC/USD", "buy")
    assert (str(event.limit_price), str(event.order_qty)) == ("49504.9", "0.00202000")
    assert (event.cum_cost, event.cum_qty, event.exec_id, event.fee) == (0, None, None, None)


def test_new_carries_neither_symbol_nor_volume():
    event = parse.execution(frame("new"))
    assert (event.order_id, event.exec_type, event.time) == ("OUF4EM-FRGI2-MQMWZD", "new", 1790000000.1)
    assert (event.symbol, event.side, event.order_qty, event.limit_price) == (None, None, None, None)


def test_a_fill_carries_its_price_volume_cost_and_fee_to_the_last_digit():
    event = parse.execution(frame("trade"))
    assert (event.exec_id, event.order_status) == ("THVRQM-33VKH-UCI7BS", "partially_filled")
    assert (str(event.last_qty), str(event.last_price)) == ("0.00101000", "49504.9")
    assert (str(event.cost), str(event.fee), str(event.cum_qty)) == ("49.999949", "0.12499", "0.00101000")


def test_a_cancellation_tells_why():
    event = parse.execution(frame("canceled"))
    assert (event.exec_type, event.reason, event.cum_qty) == ("canceled", "Post only order", 0)


@pytest.mark.parametrize("row", [{"reason": "why"}, {"cancel_reason": "why"}, {"reason": "why", "cancel_reason": "no"}])
def test_why_an_order_ended_is_told_under_either_name_or_not_at_all(row):
    event = {"order_id": "O", "exec_type": "canceled"}
    assert parse.execution(event | row).reason == "why"
    assert (parse.execution(event).reason, parse.execution(event).order_status) == ("", "")


def test_userref_zero_is_none():
    assert parse.execution({"order_id": "O", "exec_type": "new", "order_userref": 0}).userref is None


@pytest.mark.parametrize(
    ("fees", "fee"),
    [
        ([], "0"),
        ([{"asset": "USD", "qty": Decimal("0.1")}, {"asset": "USD", "qty": Decimal("0.2")}], "0.3"),
        ([{"asset": "USD", "qty": Decimal("-0.01")}], "-0.01"),
        ([{"asset": "BTC", "qty": Decimal("0.00001")}], "0.5"),
    ],
    ids=["none", "summed", "rebate", "told in base"],
)
def test_the_fee_of_a_fill_is_in_quote(fees, fee):
    row = {"order_id": "O", "exec_type": "trade", "symbol": "BTC/USD", "last_price": 50000, "fees": fees}
    assert parse.execution(row).fee == Decimal(fee)


@pytest.mark.parametrize(
    "number", [0.1, float("nan"), True, "NaN", "Infinity", "1E999999", "1E-999", "1E-25", "", None, [], "x"]
)
def test_a_float_or_an_impossible_number_is_never_money(number):
    with pytest.raises(parse.UNREADABLE):
        parse.ticker({"symbol": "BTC/USD", "last": number})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"<html>", "web page"),
        (b"  <!DOCTYPE html>", "web page"),
        (b'{"error":[]', "cut off"),
        (b"\xff\xfe", "cut off"),
        (b"[" * 100_000, "cut off"),
        (b"[]", "unknown form"),
        (b'{"result":{}}', "unknown form"),
    ],
)
def test_a_body_that_is_not_krakens_is_described_in_words(body, words):
    with pytest.raises(ValueError, match=words):
        parse.read_envelope(body)


def test_errors_and_warnings_are_told_apart():
    envelope = parse.read_envelope(b'{"error":["WDatabase:No change","EGeneral:Internal error"]}')
    assert (envelope.errors, envelope.warnings) == (["EGeneral:Internal error"], ["WDatabase:No change"])
    assert envelope.result is None


@pytest.mark.parametrize("timestamp", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z"])
def test_a_timestamp_that_can_be_none_is_none(timestamp):
    assert parse.unix_seconds(timestamp) == 0.0


def test_a_closed_order_may_be_short_by_dust():
    row = dict(saved("open_orders")["open"]["OQCLML-BW3P3-BUCMWZ"])
    row |= {"status": "closed", "vol": "1.25000000", "vol_exec": "1.24999999"}
    assert parse.order_info("OA", row).vol_exec == Decimal("1.24999999")
