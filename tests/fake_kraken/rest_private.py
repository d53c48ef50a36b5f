"""
The private REST methods that ask about the account, and the table of all private methods
(Kraken's API, Balance to TradesHistory, GetWebSocketsToken, GetApiKeyInfo, TradeVolume).

What depends on the state of orders or balances is answered as of ``now - lag``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.fake_kraken.orders import Order
from tests.fake_kraken.rest_orders import add_order, cancel_all, cancel_order
from tests.fake_kraken.tables import SHARES, Asset, find_pair
from tests.fake_kraken.wire import KrakenError, flag, padded, whole

if TYPE_CHECKING:
    from tests.fake_kraken.exchange import FakeKraken
    from tests.fake_kraken.rest import Call

PAGE = 50


def balance(fake: FakeKraken, call: Call) -> Any:
    balances, _ = fake.ledger.as_of(_as_of(fake, call))
    rows: dict[str, str] = {}
    for asset in _listed(fake, balances):
        rows[_balance_key(fake, asset)] = padded(balances.get(asset.id, Decimal(0)), asset.decimals)
    return rows


def balance_ex(fake: FakeKraken, call: Call) -> Any:
    """With auto-earn the balance is under ALTNAME.F while the hold stays with the asset itself."""
    balances, holds = fake.ledger.as_of(_as_of(fake, call))
    rows: dict[str, Any] = {}
    for asset in _listed(fake, {**balances, **holds}):
        amount, hold = balances.get(asset.id, Decimal(0)), holds.get(asset.id, Decimal(0))
        if asset.id in fake.auto_earn:
            rows[asset.id] = _balance_row(fake, asset, Decimal(0), hold)
            rows[f"{asset.altname}.F"] = _balance_row(fake, asset, amount, Decimal(0))
        else:
            rows[_balance_key(fake, asset)] = _balance_row(fake, asset, amount, hold)
    return rows


def open_orders(fake: FakeKraken, call: Call) -> Any:
    with_trades = flag(call.params, "trades")
    states = _states(fake, call)
    chosen = [order for order in states if order.is_open and _wanted(order, call)]
    return {"open": {order.txid: order.row(with_trades) for order in reversed(chosen)}}


def closed_orders(fake: FakeKraken, call: Call) -> Any:
    """Newest first, 50 a page. ``start`` is exclusive, ``end`` inclusive, both times or txids."""
    with_trades, without_count = flag(call.params, "trades"), flag(call.params, "without_count")
    clock = call.params.get("closetime", "both")
    if clock not in ("open", "close", "both"):
        raise KrakenError("EGeneral:Invalid arguments")
    start, end = _moment(fake, call, "start", clock), _moment(fake, call, "end", clock)
    chosen = []
    for order in _states(fake, call):
        if order.is_open or not _wanted(order, call):
            continue
        times = {"open": [order.opentm], "close": [order.closetm], "both": [order.opentm, order.closetm]}[clock]
        if any((start is None or t > start) and (end is None or t <= end) for t in times):
            chosen.append(order)
    chosen.sort(key=lambda order: order.opentm if clock == "open" else order.closetm, reverse=True)
    offset = whole(call.params, "ofs", 0) or 0
    result: dict[str, Any] = {"closed": {o.txid: o.row(with_trades) for o in chosen[offset : offset + PAGE]}}
    return result if without_count else result | {"count": len(chosen)}


def query_orders(fake: FakeKraken, call: Call) -> Any:
    if not call.params.get("txid"):
        raise KrakenError("EGeneral:Invalid arguments:txid")
    wanted = call.params["txid"].split(",")
    if len(wanted) > 50:
        raise KrakenError("EGeneral:Invalid arguments:txid")
    with_trades = flag(call.params, "trades")
    states = {order.txid: order for order in _states(fake, call) if _wanted(order, call)}
    if fake.query_unknown_error and not all(txid in states for txid in wanted):
        raise KrakenError(fake.query_unknown_error)
    return {txid: states[txid].row(with_trades) for txid in wanted if txid in states}


def query_trades(fake: FakeKraken, call: Call) -> Any:
    wanted = call.params.get("txid", "").split(",")
    if not wanted[0] or len(wanted) > 20:
        raise KrakenError("EGeneral:Invalid arguments:txid")
    now = _as_of(fake, call)
    return {t: fake.trades[t].row() for t in wanted if t in fake.trades and fake.trades[t].time <= now}


def trades_history(fake: FakeKraken, call: Call) -> Any:
    start, end = _moment(fake, call, "start", "close"), _moment(fake, call, "end", "close")
    now = _as_of(fake, call)
    chosen = [
        trade
        for trade in reversed(fake.trades.values())
        if trade.time <= now and (start is None or trade.time > start) and (end is None or trade.time <= end)
    ]
    offset = whole(call.params, "ofs", 0) or 0
    result: dict[str, Any] = {"trades": {trade.id: trade.row() for trade in chosen[offset : offset + PAGE]}}
    return result if flag(call.params, "without_count") else result | {"count": len(chosen)}


def trade_volume(fake: FakeKraken, call: Call) -> Any:
    """The only place that tells the account's fees, in percent; keyed by the name that was asked."""
    with_schedule = flag(call.params, "fee_schedule")
    result: dict[str, Any] = {"currency": "ZUSD", "volume": "3120.5000"}
    names = [name for name in call.params.get("pair", "").split(",") if name]
    if not names:
        return result
    maker, taker = fake.maker_percent, fake.taker_percent
    pairs = {name: find_pair(fake.pairs, name, _class_of(name)) for name in names}
    result["fees"] = {name: _fee_row(taker) for name in names}
    result["fees_maker"] = {name: _fee_row(maker) for name in names}
    if with_schedule:
        tiers = [
            {"maker_fee": padded(maker, 4), "taker_fee": padded(taker, 4), "active": True},
            {
                "maker_fee": padded(maker * 3 / 4, 4),
                "taker_fee": padded(taker * 3 / 4, 4),
                "min_spot_volume": "10000.0000",
                "min_futures_volume": "5000000.0000",
            },
        ]
        result["schedules"] = [{"pair": pair.altname, "class": "forex", "tiers": tiers} for pair in pairs.values()]
    return result


def get_websockets_token(fake: FakeKraken, call: Call) -> Any:
    token = fake.ids.token()
    fake.tokens[token] = fake.clock.time()
    return {"token": token, "expires": 900}


def get_api_key_info(fake: FakeKraken, call: Call) -> Any:
    key = fake.keys[call.key]
    info: dict[str, Any] = {
        "api_key_name": "grid",
        "api_key": key.public,
        "nonce": str(key.nonce),
        "nonce_window": "0",
        "permissions": sorted(key.permissions),
        "iban": "AA00 N000 0000 0000",
        "valid_until": "0",
        "query_from": "0",
        "query_to": "0",
        "created_time": "1522132642",
        "modified_time": "1618230358",
        "ip_allowlist": [""],
        "last_used": str(int(fake.clock.time())),
    }
    return {_camel(name): value for name, value in info.items()} if fake.camel_case_key_info else info


def withdraw_methods(fake: FakeKraken, call: Call) -> Any:
    return [{"asset": "XXBT", "method": "Bitcoin", "network": "Bitcoin", "minimum": "0.0004"}]


def _as_of(fake: FakeKraken, call: Call) -> float:
    return fake.clock.time() - max(fake.rest_lag, call.lag)


def _states(fake: FakeKraken, call: Call) -> list[Order]:
    """Every order as REST knows it at this moment, oldest first."""
    if not max(fake.rest_lag, call.lag):
        return list(fake.orders.values())
    moment = _as_of(fake, call)
    return [state for order in fake.orders.values() if (state := order.as_of(moment)) is not None]


def _wanted(order: Order, call: Call) -> bool:
    userref = whole(call.params, "userref")
    client_id = call.params.get("cl_ord_id") or None
    return (userref is None or order.userref == userref) and (client_id is None or order.cl_ord_id == client_id)


def _moment(fake: FakeKraken, call: Call, name: str, clock: str) -> float | None:
    text = call.params.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    if text in fake.orders:
        order = fake.orders[text]
        return order.opentm if clock == "open" or order.is_open else order.closetm
    if text in fake.trades:
        return fake.trades[text].time
    raise KrakenError(f"EGeneral:Invalid arguments:{name}")


def _listed(fake: FakeKraken, amounts: dict[str, Decimal]) -> list[Asset]:
    return [asset for asset in fake.assets.values() if asset.id in amounts]


def _balance_key(fake: FakeKraken, asset: Asset) -> str:
    if asset.aclass == "tokenized_asset" and fake.tokenized_suffix:
        return f"{asset.altname}.T"
    return f"{asset.altname}.F" if asset.id in fake.auto_earn else asset.id


def _balance_row(fake: FakeKraken, asset: Asset, amount: Decimal, hold: Decimal) -> dict[str, Any]:
    if fake.numeric_balances:
        return {"balance": amount, "hold_trade": hold}
    return {"balance": padded(amount, asset.decimals), "hold_trade": padded(hold, asset.decimals)}


def _fee_row(percent: Decimal) -> dict[str, Any]:
    fee = padded(percent, 4)
    return {
        "fee": fee,
        "minfee": "0.0000",
        "maxfee": fee,
        "nextfee": padded(percent * 3 / 4, 4),
        "nextvolume": "10000.0000",
        "tiervolume": "0.0000",
    }


def _class_of(name: str) -> str | None:
    return "tokenized_asset" if name.startswith(SHARES) else None


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


PRIVATE = {
    "Balance": (("query-funds",), balance),
    "BalanceEx": (("query-funds",), balance_ex),
    "TradeVolume": (("query-funds",), trade_volume),
    "OpenOrders": (("query-open-trades",), open_orders),
    "ClosedOrders": (("query-closed-trades",), closed_orders),
    "QueryOrders": (("query-open-trades", "query-closed-trades"), query_orders),
    "QueryTrades": (("query-closed-trades",), query_trades),
    "TradesHistory": (("query-closed-trades",), trades_history),
    "AddOrder": (("modify-trades",), add_order),
    "CancelOrder": (("close-trades", "modify-trades"), cancel_order),
    "CancelAll": (("close-trades", "modify-trades"), cancel_all),
    "GetWebSocketsToken": (("create-ws-token",), get_websockets_token),
    "GetApiKeyInfo": ((), get_api_key_info),
    "WithdrawMethods": (("withdraw-funds",), withdraw_methods),
}
