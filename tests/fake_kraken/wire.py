"""
How Kraken writes things: JSON with exact numbers, times, flags. No state.

``json.dumps`` cannot print a Decimal as a number without passing through float, so the
encoder here is our own: forty lines, and every digit arrives as it left the ledger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from functools import cache
from types import NoneType
from typing import Any

LONGEST_NUMBER = 24  # digits beyond that would leave the precision of Decimal
_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")
_encode_text = json.encoder.encode_basestring_ascii


class KrakenError(Exception):
    """A refusal in Kraken's own words; ``str(error)`` is the string for the envelope."""


def to_json(value: Any) -> str:
    """
    Compact JSON; a Decimal becomes a number with exactly its own digits.

    >>> to_json({"qty": Decimal("0.00202000"), "ok": True, "id": None})
    '{"qty":0.00202000,"ok":true,"id":null}'
    """
    if (write := _WRITERS.get(type(value))) is None:
        write = next((writer for kind, writer in _WRITERS.items() if isinstance(value, kind)), None)
    if write is None:
        raise TypeError(f"no JSON for {type(value).__name__}")
    return write(value)


def _object(value: dict[Any, Any]) -> str:
    return "{" + ",".join([f"{_encode_text(str(k))}:{to_json(v)}" for k, v in value.items()]) + "}"


def _array(value: Iterable[Any]) -> str:
    return "[" + ",".join([to_json(item) for item in value]) + "]"


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: _encode_text,
    Decimal: "{:f}".format,
    bool: lambda value: "true" if value else "false",
    NoneType: lambda _value: "null",
    int: str,
    float: repr,
    dict: _object,
    list: _array,
    tuple: _array,
}


def from_json(text: str | bytes) -> Any:
    """Numbers with a point come back as Decimal."""
    return json.loads(text, parse_float=Decimal)


@cache
def step(decimals: int) -> Decimal:
    """One unit of the last of ``decimals`` places: 1 -> 0.1."""
    return Decimal(1).scaleb(-decimals)


def cut(value: Decimal, decimals: int) -> Decimal:
    """Toward zero, to exactly ``decimals`` places."""
    return value.quantize(step(decimals), rounding=ROUND_DOWN)


def cut_up(value: Decimal, decimals: int) -> Decimal:
    """Away from zero, to exactly ``decimals`` places."""
    return value.quantize(step(decimals), rounding=ROUND_UP)


def padded(value: Decimal, decimals: int) -> str:
    """At least ``decimals`` places, never fewer digits than the value has."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return f"{value:f}" if -exponent >= decimals else f"{value:.{decimals}f}"


def plain_number(text: str, field: str) -> Decimal:
    """A plain, not negative, fixed-point number; ``1E-8``, ``+1%`` and the like are refused."""
    if not _PLAIN_NUMBER.fullmatch(text) or len(text) > LONGEST_NUMBER:
        raise KrakenError(f"EGeneral:Invalid arguments:{field}")
    return Decimal(text)


def flag(params: dict[str, str], name: str, default: bool = False) -> bool:
    """A boolean of a form body: lower case only, as Kraken refuses ``True``."""
    text = params.get(name)
    if text is None or text == "":
        return default
    if text not in ("true", "false", "1", "0"):
        raise KrakenError("EGeneral:Invalid arguments")
    return text in ("true", "1")


def whole(params: dict[str, str], name: str, default: int | None = None) -> int | None:
    text = params.get(name)
    if text is None or text == "":
        return default
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise KrakenError(f"EGeneral:Invalid arguments:{name}")
    return int(text)


def rest_time(seconds: float) -> Decimal:
    """Seconds as REST prints them: a number with four decimals."""
    return Decimal(repr(round(seconds, 4)))


def iso_time(seconds: float) -> str:
    """
    A moment as the websocket prints it.

    >>> iso_time(1790000000.1)
    '2026-09-21T14:13:20.100000Z'
    """
    moment = datetime.fromtimestamp(round(seconds, 6), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}Z"


def parse_rfc3339(text: str) -> float:
    """Unix seconds; raises ValueError without a time zone or when it is not a time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.timestamp()
