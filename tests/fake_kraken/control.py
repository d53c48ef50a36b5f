"""
The control interface of the server process: ``POST /control/<command>`` with a JSON object.

For tests that run the bot as a process of its own. Answers ``{"ok": true, "result": ...}``,
or ``{"ok": false, "error": "..."}`` with status 400.

set_price {pair, price, ticker?}   fill {txid, volume?}   cancel {txid, reason?}   deposit {asset, amount}
place_by_hand {pair, side, volume, price?, userref?, cl_ord_id?}   set_status {status}   set_fees {maker, taker}
fault {method, kind, nth?, times?, taken?, seconds?, status?, error?, reset?, gate?}   clear_faults {}
websocket {what: drop_sockets | silence | half_open | send_garbage | lose | double | swap | refuse_token |
refuse_connections | void_tokens | cut_connections, count?, gap?, private?}   set {any attribute: value}
limits {tier?, rest?, engine?, public?, lockouts?}   state {}   open_orders {userref?, side?}
calls {}   audit {}   stop {}
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.fake_kraken.exchange import FakeKraken, describe
from tests.fake_kraken.wire import from_json, to_json

if TYPE_CHECKING:
    from tests.fake_kraken.server import FakeKrakenServer

SETTABLE = frozenset(
    [
        "post_only_mode",
        "post_only_cancel_cost",
        "optional_fields",
        "separate_filled",
        "rest_lag",
        "query_unknown_error",
        "camel_case_key_info",
        "strict_booleans",
        "numeric_balances",
        "tokenized_suffix",
        "duplicate_error",
        "cancel_unknown_error",
    ]
)


def control(server: FakeKrakenServer, command: str, body: bytes) -> tuple[int, bytes]:
    """Carry out one command; HTTP status and JSON text."""
    try:
        arguments: dict[str, Any] = from_json(body) if body else {}
        if command == "stop":
            threading.Timer(0.1, server.stop).start()  # the answer goes out first
            result: Any = None
        elif arguments.get("what") == "cut_connections":
            server.cut_connections()
            result = None
        else:
            result = COMMANDS[command](server.fake, **arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test that asked must hear of it
        return 400, to_json({"ok": False, "error": f"{type(error).__name__}: {error}"}).encode()
    return 200, b'{"ok":true,"result":' + (result if isinstance(result, bytes) else to_json(result).encode()) + b"}"


def _set_price(fake: FakeKraken, pair: str, price: Any, ticker: str = "after") -> Any:
    return [trade.id for trade in fake.set_price(pair, price, ticker)]


def _fill(fake: FakeKraken, txid: str, volume: Any = None) -> Any:
    return fake.fill(txid, volume).id


def _cancel(fake: FakeKraken, txid: str, reason: str = "User requested") -> Any:
    return fake.cancel(txid, reason).txid


def _place_by_hand(fake: FakeKraken, **arguments: Any) -> Any:
    return fake.place_by_hand(**arguments).txid


def _fault(fake: FakeKraken, method: str, kind: str, **options: Any) -> None:
    if "seconds" in options:
        options["seconds"] = float(options["seconds"])
    fake.faults.add(method, kind, **options)


def _websocket(fake: FakeKraken, what: str, count: int = 1, gap: bool = True, private: bool | None = None) -> Any:
    if what in ("drop_sockets", "silence", "half_open", "send_garbage"):
        return getattr(fake, what)(private=private)
    if what == "void_tokens":
        return fake.void_tokens()
    if what == "lose":
        return fake.faults.lose(count, gap)
    if what in ("double", "swap", "refuse_token", "refuse_connections"):
        return getattr(fake.faults, what)(count)
    raise ValueError(f"no websocket fault {what!r}")


def _set(fake: FakeKraken, **attributes: Any) -> None:
    for name, value in attributes.items():
        if name not in SETTABLE:
            raise ValueError(f"{name!r} cannot be set; there are {', '.join(sorted(SETTABLE))}")
        setattr(fake, name, float(value) if name == "rest_lag" else value)


def _limits(fake: FakeKraken, **attributes: Any) -> None:
    for name, value in attributes.items():
        if name not in ("tier", "rest", "engine", "public", "lockouts"):
            raise ValueError(f"no limit {name!r}")
        setattr(fake.limits, name, value)


def _open_orders(fake: FakeKraken, userref: int | None = None, side: str | None = None) -> Any:
    return {order.txid: order.row(with_trades=True) for order in fake.open_orders(userref, side)}


def _calls(fake: FakeKraken) -> Any:
    return [
        {"time": call.time, "method": call.method, "params": call.params, "outcome": call.outcome}
        for call in list(fake.calls)
    ]


COMMANDS: dict[str, Callable[..., Any]] = {
    "set_price": _set_price,
    "fill": _fill,
    "cancel": _cancel,
    "place_by_hand": _place_by_hand,
    "deposit": lambda fake, asset, amount: fake.deposit(asset, amount),
    "set_status": lambda fake, status: fake.set_status(status),
    "set_fees": lambda fake, maker, taker: fake.set_fees(maker, taker),
    "fault": _fault,
    "clear_faults": lambda fake: fake.faults.clear(),
    "websocket": _websocket,
    "set": _set,
    "limits": _limits,
    "state": lambda fake: describe(fake).encode(),
    "open_orders": _open_orders,
    "calls": _calls,
    "audit": lambda fake: fake.audit(),
}
