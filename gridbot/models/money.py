"""
The only place where money is read, rounded and printed.

Every price, volume, balance, cost and fee in gridbot is a ``Decimal`` made from text. The wire
(JSON numbers included), the database and the screen give and take text; no float in between.
"""

import json
from decimal import ROUND_DOWN, Context, Decimal, InvalidOperation
from typing import Any

ZERO = Decimal(0)
ONE = Decimal(1)
# Quantizing raises where the result needs more digits than the default 28: no price, however absurd, may do that.
WIDE = Context(prec=80)

# One decoder kept for good: json.loads(parse_float=...) builds a new one for every call.
JSON_DECODER = json.JSONDecoder(parse_float=Decimal)


def from_json(text: str) -> Any:
    """Decode JSON; numbers with a decimal point become Decimal, exactly. Raises ValueError."""
    return JSON_DECODER.decode(text)


def is_cost_of(price: Decimal, volume: Decimal, cost: Decimal) -> bool:
    """
    True if ``cost`` can be the cost of an execution: price x volume to within 1 %, plus one unit of the last
    significant digit of ``cost`` (5 decimals at most), because it may be cut.

    >>> is_cost_of(Decimal("147.25"), Decimal("0.0001"), Decimal("0.01000"))
    True
    >>> is_cost_of(Decimal("50000"), Decimal("0.002"), Decimal("200.00"))
    False
    """
    cut = step_of(min(decimals_of(cost.normalize()), 5))
    return abs(price * volume - cost) <= price * volume / 100 + cut


def decimals_of(value: Decimal) -> int:
    """
    How many decimals a number is written with, whatever the notation.

    >>> decimals_of(Decimal("50123.40")), decimals_of(Decimal("5E+4"))
    (2, 0)
    """
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def to_decimal(value: str | int | Decimal) -> Decimal:
    """
    A finite Decimal from text, an integer or a Decimal. A float is refused: it has already lost digits.

    Raises ValueError for anything that is not a finite number.

    >>> to_decimal("0.10")
    Decimal('0.10')
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"{value!r} is a {type(value).__name__}; money is read from text")
    try:
        if isinstance(value, str) and ("_" in value or not value.isascii()):  # which Decimal would read: "1_000", "١"
            raise InvalidOperation
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a finite number")
    return number


def step_of(decimals: int) -> Decimal:
    """
    The smallest step of a number with this many decimals.

    >>> step_of(1)
    Decimal('0.1')
    """
    return Decimal(1).scaleb(-decimals)


def truncate(value: Decimal, step: Decimal) -> Decimal:
    """
    ``value`` cut toward zero to a multiple of ``step``, written with the decimals of ``step``.

    >>> truncate(Decimal("49504.9504"), Decimal("0.1"))
    Decimal('49504.9')
    >>> truncate(Decimal("1.37"), Decimal("0.25"))
    Decimal('1.25')
    >>> truncate(Decimal("1E30"), Decimal("0.1")).adjusted()
    30
    """
    return ((value / step).to_integral_value(ROUND_DOWN) * step).quantize(step, context=WIDE)


def as_text(value: Decimal) -> str:
    """
    Fixed-point text, never an exponent: for the wire and the database.

    >>> as_text(Decimal("1E-8"))
    '0.00000001'
    """
    return f"{value:f}"


def digits(value: Decimal) -> str:
    """
    Every digit that counts, no exponent.

    >>> digits(Decimal("218.5170"))
    '218.517'
    """
    text = as_text(value) if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(value: Decimal, decimals: int = 2) -> str:
    """
    For people: cut toward zero to ``decimals``, so that no screen shows more than there is.

    >>> shown(Decimal("100.259"))
    '100.25'
    >>> shown(Decimal("-0.001"))
    '0.00'
    """
    return as_text(truncate(value, step_of(decimals)) + ZERO)


def percent(fraction: Decimal, decimals: int = 2) -> str:
    """
    A fraction as percent, for people.

    >>> percent(Decimal("0.0025"))
    '0.25 %'
    """
    return f"{shown(fraction * 100, decimals)} %"


def signed_percent(fraction: Decimal) -> str:
    """
    A fraction as percent with its sign, for gains and distances. A loss keeps its minus, however small.

    >>> signed_percent(Decimal("-0.0101")), signed_percent(Decimal("-0.00004")), signed_percent(ZERO)
    ('-1.01 %', '-0.00 %', '+0.00 %')
    """
    return ("-" if fraction < 0 else "+") + percent(abs(fraction))
