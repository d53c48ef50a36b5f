"""Checks of values from a database file: a failing disk, or somebody's hand, may have changed them."""

from decimal import Decimal
from typing import Any

from gridbot.exceptions import excerpt

LARGEST = Decimal(10) ** 31  # a larger number is no amount, and would spoil every calculation
LATEST = 253402300800.0  # unix seconds: the year 10000, which no calendar here knows
IMPOSSIBLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what readers raise


def amount(value: Any) -> Decimal:
    """The amount kept as this text. Raises one of IMPOSSIBLE."""
    number = Decimal(value)
    if not -LARGEST < number < LARGEST:  # a NaN raises here
        raise ValueError(value)
    return number


def time(value: Any) -> float:
    """Unix seconds. Raises one of IMPOSSIBLE."""
    if not -LATEST < value < LATEST:
        raise ValueError(value)
    return float(value)


def cannot_be(where: str, value: object, row: object = "") -> str:
    """The text for an impossible value: ``where`` is table and column, ``row`` the id of the row."""
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return f"{where} = {excerpt(text)}{f' (row {row})' if row != '' else ''} is not possible"
