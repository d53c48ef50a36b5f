"""
AddOrder, CancelOrder, CancelAll (Kraken's API, AddOrder, order identity and parameters).

Format and minimums are checked here, at the gateway; funds, modes, limits and crossing in
the engine. Unknown parameters are ignored silently, as Kraken does.
"""

from __future__ import annotations

import functools
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.fake_kraken.orders import Order
from tests.fake_kraken.tables import Pair, find_pair
from tests.fake_kraken.wire import KrakenError, flag, parse_rfc3339, plain_number, whole

if TYPE_CHECKING:
    from tests.fake_kraken.exchange import FakeKraken
    from tests.fake_kraken.rest import Call

OFLAGS = frozenset({"post", "fcib", "fciq", "nompp", "viqc"})
CLIENT_ID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|[\x21-\x7e]{1,18}", re.IGNORECASE)
USERREF_RANGE = range(-(2**31), 2**31)
DEADLINE_RANGE = (2.0, 60.0)


def add_order(fake: FakeKraken, call: Call) -> Any:
    order = _parse(fake, call)
    result: dict[str, Any] = {"descr": {"order": order.description()}}
    if flag(call.params, "validate"):
        return result
    fake.submit(order)
    if call.fault is not None and call.fault.kind == "no_txid":
        return result
    return result | {"txid": [order.txid]}


def cancel_order(fake: FakeKraken, call: Call) -> Any:
    orders = _orders_to_cancel(fake, call)
    kind = call.fault.kind if call.fault is not None else ""
    if kind == "cancel_ignored":
        return {"count": max(1, len(orders))}
    if not orders:
        raise KrakenError(fake.cancel_unknown_error)
    if any(order.cancel_pending for order in orders):
        raise KrakenError("EOrder:Cancel pending")
    if kind == "cancel_pending":
        assert call.fault is not None
        for order in orders:
            order.cancel_pending = True
            fake.at(fake.clock.time() + call.fault.seconds, functools.partial(_finish_cancel, fake, order))
        return {"count": len(orders), "pending": True}
    for order in orders:
        fake.cancel_for_client(order)
    return {"count": len(orders)}


def cancel_all(fake: FakeKraken, call: Call) -> Any:
    """The whole account."""
    orders = fake.open_orders()
    for order in orders:
        fake.cancel_for_client(order)
    return {"count": len(orders)}


def _finish_cancel(fake: FakeKraken, order: Order) -> None:
    """A fill may have won the race."""
    order.cancel_pending = False
    if order.is_open:
        fake.cancel_for_client(order)


def _orders_to_cancel(fake: FakeKraken, call: Call) -> list[Order]:
    txid, client_id = call.params.get("txid"), call.params.get("cl_ord_id")
    if not txid and not client_id:
        raise KrakenError("EGeneral:Invalid arguments:txid")
    found = fake.open_orders()
    if client_id:
        return [order for order in found if order.cl_ord_id == client_id]
    assert txid is not None
    if re.fullmatch(r"-?[0-9]+", txid):
        return [order for order in found if order.userref == int(txid)]
    return [order for order in found if order.txid == txid]


def _parse(fake: FakeKraken, call: Call) -> Order:
    params = call.params
    side, ordertype = params.get("type", ""), params.get("ordertype", "")
    if side not in ("buy", "sell"):
        raise KrakenError("EGeneral:Invalid arguments:type")
    if ordertype not in ("limit", "market"):
        raise KrakenError("EGeneral:Invalid arguments:ordertype")
    pair = find_pair(fake.pairs, params.get("pair", ""), params.get("asset_class"))
    volume = _volume(params, pair)
    price = _price(params, pair) if ordertype == "limit" else Decimal(0)
    if volume < pair.ordermin:
        raise KrakenError("EOrder:Order minimum not met")
    if volume * (price or fake.last[pair.id]) < pair.costmin:
        raise KrakenError("EOrder:Cost minimum not met")
    order = fake.new_order(pair, side, ordertype, volume, price)
    _set_references(order, params)
    _set_flags(order, params)
    _set_times(fake, order, params, call.arrived)
    return order


def _volume(params: dict[str, str], pair: Pair) -> Decimal:
    volume = plain_number(params.get("volume", ""), "volume")
    if volume != round(volume, pair.lot_decimals):
        raise KrakenError("EGeneral:Invalid arguments:volume")
    return volume


def _price(params: dict[str, str], pair: Pair) -> Decimal:
    price = plain_number(params.get("price", ""), "price")
    if price != round(price, pair.pair_decimals):
        places = f"{pair.pair_decimals} decimals."
        raise KrakenError(f"EOrder:Invalid price:{pair.id} price can only be specified up to {places}")
    if price <= 0:
        raise KrakenError("EOrder:Invalid price")
    if price % pair.tick_size:
        raise KrakenError("EOrder:Tick size check failed")
    return price


def _set_references(order: Order, params: dict[str, str]) -> None:
    order.userref, order.cl_ord_id = whole(params, "userref"), params.get("cl_ord_id") or None
    if order.userref is not None and order.cl_ord_id is not None:
        raise KrakenError("EGeneral:Invalid arguments:userref and cl_ord_id exclude each other")
    if order.userref is not None and order.userref not in USERREF_RANGE:
        raise KrakenError("EGeneral:Invalid arguments:userref")
    if order.cl_ord_id is not None and not CLIENT_ID.fullmatch(order.cl_ord_id):
        raise KrakenError("EGeneral:Invalid arguments:cl_ord_id")


def _set_flags(order: Order, params: dict[str, str]) -> None:
    flags = tuple(name for name in params.get("oflags", "").split(",") if name)
    if not OFLAGS.issuperset(flags) or {"fcib", "fciq"}.issubset(flags) or "viqc" in flags:
        raise KrakenError("EGeneral:Invalid arguments:oflags")
    if "post" in flags and order.ordertype != "limit":
        raise KrakenError("EGeneral:Invalid arguments:oflags")
    order.flags = flags


def _set_times(fake: FakeKraken, order: Order, params: dict[str, str], arrived: float) -> None:
    now = fake.clock.time()
    order.timeinforce = params.get("timeinforce", "GTC").upper()
    if order.timeinforce not in ("GTC", "IOC", "GTD", "FOK"):
        raise KrakenError("EGeneral:Invalid arguments:timeinforce")
    if order.timeinforce == "GTD":
        text = params.get("expiretm", "")
        expires = whole({"expiretm": text.removeprefix("+")}, "expiretm", 0) or 0
        order.expiretm = now + expires if text.startswith("+") else float(expires)
        if order.expiretm < now + 5:
            raise KrakenError("EGeneral:Invalid arguments:expiretm")
    if deadline := params.get("deadline"):
        try:
            order.deadline = parse_rfc3339(deadline)
        except ValueError:
            raise KrakenError("EGeneral:Invalid arguments:deadline") from None
        # Counted from the arrival of the request, not from the moment the engine gets to it.
        ahead = order.deadline - arrived
        if ahead < 0:
            raise KrakenError("EService:Deadline elapsed")
        if not DEADLINE_RANGE[0] <= ahead <= DEADLINE_RANGE[1]:
            raise KrakenError("EGeneral:Invalid arguments:deadline")
