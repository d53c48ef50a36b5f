"""
The rows of the ``executions`` channel (Kraken's API, websocket v2, executions messages).

The field sets are those of captured traffic, not the convenient ones: ``new`` and
``canceled`` carry no symbol, no side and no quantity. Fields seen only sometimes come with
``optional`` and are left out without it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.fake_kraken.orders import ZERO, Order, Trade
from tests.fake_kraken.wire import cut, iso_time

Row = dict[str, Any]


def snapshot_order(order: Order, usd: Decimal, optional: bool) -> Row:
    """An open order in the snapshot. ``usd`` is the price of one quote unit in USD."""
    row = _full(order, usd) | {
        "exec_type": "new",
        "order_status": "partially_filled" if order.vol_exec else "new",
        "timestamp": iso_time(order.opentm),
    }
    if optional:
        row |= _post_only(order) | {"cum_qty": order.vol_exec, "avg_price": order.average}
    return row


def snapshot_trade(trade: Trade, order: Order, usd: Decimal) -> Row:
    """A past fill in the snapshot: always "filled", never cumulated, even if the order is still open."""
    return _fill(trade, usd) | _reference(order) | {"order_status": "filled"}


def update(kind: str, order: Order, trade: Trade | None, now: float, usd: Decimal, optional: bool) -> Row:
    """The row of one event."""
    if kind == "pending_new":
        row = _full(order, usd) | _state(kind, kind, now)
        return row | _post_only(order) if optional else row
    if kind == "new":
        row = _state(kind, "new", now) | _reference(order) | {"order_id": order.txid}
        return row | _post_only(order) if optional else row
    if kind == "trade":
        assert trade is not None
        status = "partially_filled" if order.is_open else "filled"
        reference = _reference(order) if optional or order.cl_ord_id is None else {}
        return _fill(trade, usd) | reference | {"order_status": status} | _so_far(order)
    if kind == "filled":
        return _state(kind, "filled", now) | _reference(order) | {"order_id": order.txid} | _so_far(order)
    assert kind in ("canceled", "expired"), kind
    row = _state(kind, kind, now) | _so_far(order) | _reference(order)
    row |= {"fee_usd_equiv": _usd(order.fee, usd), "reason": order.reason, "order_id": order.txid}
    return row | _post_only(order) | {"cancel_reason": order.reason} if optional else row


def _state(kind: str, status: str, now: float) -> Row:
    return {"timestamp": iso_time(now), "order_status": status, "exec_type": kind}


def _reference(order: Order) -> Row:
    """``order_userref`` is 0 when nothing was set and absent beside a ``cl_ord_id``."""
    return {"order_userref": order.userref or 0} if order.cl_ord_id is None else {"cl_ord_id": order.cl_ord_id}


def _post_only(order: Order) -> Row:
    return {"post_only": True} if order.post_only else {}


def _so_far(order: Order) -> Row:
    return {"cum_qty": order.vol_exec, "cum_cost": order.cost, "avg_price": order.average}


def _full(order: Order, usd: Decimal) -> Row:
    return {
        "order_id": order.txid,
        "symbol": order.pair.symbol,
        "order_qty": cut(order.volume, order.pair.lot_decimals),
        "cum_cost": order.cost,
        "time_in_force": order.timeinforce,
        "side": order.side,
        "order_type": order.ordertype,
        "limit_price_type": "static",
        "limit_price": cut(order.price, order.pair.pair_decimals),
        "stop_price": ZERO,
        "fee_usd_equiv": _usd(order.fee, usd),
        "fee_ccy_pref": order.fee_flag,
    } | _reference(order)


def _fill(trade: Trade, usd: Decimal) -> Row:
    return {
        "order_id": trade.order,
        "exec_id": trade.id,
        "exec_type": "trade",
        "trade_id": trade.number,
        "symbol": trade.pair.symbol,
        "side": trade.side,
        "last_qty": cut(trade.volume, trade.pair.lot_decimals),
        "last_price": cut(trade.price, trade.pair.pair_decimals),
        "liquidity_ind": "m" if trade.maker else "t",
        "cost": trade.cost,
        "order_type": trade.ordertype,
        "timestamp": iso_time(trade.time),
        "fee_usd_equiv": _usd(trade.fee, usd),
        "fees": [{"asset": trade.pair.quote.display, "qty": trade.fee}],
    }


def _usd(amount: Decimal, usd: Decimal) -> Decimal:
    return cut(amount * usd, 5) if amount else ZERO
