"""
Kraken's error strings, and what each of them calls for: a table and the few lines that read it.

An error means one thing for a question and another for an order: after "internal error" a question is asked again, but
an order may be in Kraken's book. No network, no clock.

    SAFE   nothing happened, and nothing is in the way: ask or decide again
    BIZ    this request is not possible as it stands
    BACK   nothing happened: slow down
    FATAL  stop, the owner must do something
    AMBIG  the order may exist: look for it, never send it again
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gridbot.exceptions import (
    AccessDenied,
    ConfigurationError,
    ExchangeError,
    GridBotError,
    InsufficientFunds,
    OrderFateUnknown,
    OrderRejected,
    OrderTooSmall,
    PlacementPaused,
    PostOnlyWouldCross,
    TemporaryFailure,
    TooManyOrders,
    UnknownOrderError,
)


class PermissionMissing(AccessDenied):
    """The key is right, but lacks the tick for this call."""


class UnknownMethod(AccessDenied):
    """Kraken, or the server at [kraken] rest_url, does not have this call."""


class CancelUnderWay(TemporaryFailure):
    """The order is being cancelled already."""


class UnlistedRefusal(ExchangeError):
    """Kraken refused the request itself, in words that the table does not list."""


class Outcome(IntEnum):
    """From harmless to worst: if one reply holds several errors, the worst decides."""

    SAFE = 0
    BIZ = 1
    BACK = 2
    FATAL = 3
    AMBIG = 4


SAFE, BIZ, BACK, FATAL, AMBIG = Outcome

LOCKOUT = 15 * 60.0  # seconds a key stays locked after too many bad requests
MARKET_MODE = 30.0  # seconds until the market's mode may have changed
BUSY = 5.0
SLOW_DOWN = 15.0  # seconds in which the slowest REST counter loses five points
SLOW_ORDERS = 5.0  # the same of the matching engine's counter; a sell may be waiting
SHORT = 1.0
# Seconds. A longer wait in "Throttled: <unix time>" is cut to this.
LONGEST_THROTTLE = 60.0


@dataclass(frozen=True)
class Row:
    """
    One error string: ``text`` up to its second colon, without blanks after the first.

    pause     seconds to leave Kraken alone
    question  exception for a question, if the Outcome alone does not decide it
    order     the same for AddOrder
    """

    text: str
    on_question: Outcome
    on_order: Outcome
    advice: str
    pause: float = 0.0
    question: type[ExchangeError] | type[ConfigurationError] | None = None
    order: type[ExchangeError] | None = None


_TICK = "Set the missing tick at the API key at Kraken. (For xStocks: may your account trade them?)"
_LOCKED = "Too many bad requests with this key; does another program use it? The bot is silent for 15 minutes."
_SHARED = "Usually another program uses the same API key: give every program its own."
_FULL = "Kraken allows no more open orders on this pair: lower n_open_buy_orders in [grid], or wait."
_NEW_KEY = "Make a new API key at Kraken and put both halves into [kraken]."
_OUR_BUG = "This is a mistake of the bot, not yours: please report it with this line."
_ACCOUNT = "Log in at Kraken and see what your account needs."
_PAIR = "Check base_currency and quote_currency in [bot]."
_WAIT = "Nothing to do: the bot waits and goes on by itself."
_LOOK = "The bot asks Kraken whether the order exists."
_MARGIN = "The bot trades without margin; check whether something else uses this account with margin."

TABLE: tuple[Row, ...] = (
    Row("EGeneral:Invalid arguments", BIZ, BIZ, _OUR_BUG),
    Row("EGeneral:Permission denied", FATAL, FATAL, _TICK, question=PermissionMissing, order=PermissionMissing),
    Row("EGeneral:Temporary lockout", BACK, BACK, _LOCKED, LOCKOUT),
    Row("EGeneral:Too many requests", BACK, BACK, _WAIT, BUSY),
    Row("EGeneral:Internal error", SAFE, AMBIG, _LOOK),
    Row("EGeneral:Unknown method", FATAL, FATAL, "Check [kraken] rest_url.", question=UnknownMethod),
    Row("EService:Unavailable", BACK, AMBIG, _LOOK, BUSY),
    Row("EService:Busy", BACK, AMBIG, _LOOK, BUSY),
    Row("EService:Timeout", BACK, AMBIG, _LOOK, BUSY),
    Row("EService:Market in cancel_only mode", BACK, BACK, _WAIT, MARKET_MODE),
    Row("EService:Market in post_only mode", BACK, BACK, _WAIT, MARKET_MODE),
    Row("EService:Market in limit_only mode", BACK, BACK, _WAIT, MARKET_MODE),
    Row("EService:Market in reduce_only mode", BACK, BACK, _WAIT, MARKET_MODE),
    # The documentation calls it a definite refusal; one look-up costs less than an order placed twice.
    Row("EService:Deadline elapsed", SAFE, AMBIG, _LOOK),
    Row("EService:Throttled", BACK, BACK, _WAIT, BUSY),
    Row("EAPI:Invalid key", FATAL, FATAL, _NEW_KEY),
    Row("EAPI:Invalid signature", FATAL, FATAL, "The secret does not belong to the key. " + _NEW_KEY),
    # Every attempt carries its own nonce and is sent once, so a refused nonce is a refused order.
    Row("EAPI:Invalid nonce", SAFE, SAFE, _SHARED, SHORT),
    Row("EAPI:Rate limit exceeded", BACK, BACK, _WAIT, SLOW_DOWN),
    Row("EAPI:Bad request", BIZ, BIZ, _OUR_BUG),
    Row("EAPI:Feature disabled", FATAL, FATAL, _ACCOUNT),
    Row("EDatabase:Internal error", SAFE, AMBIG, _LOOK),
    Row("EAuth:Failed", FATAL, FATAL, _ACCOUNT),
    Row("EAuth:Account temporary disabled", FATAL, FATAL, _ACCOUNT),
    Row("EAuth:Account unconfirmed", FATAL, FATAL, _ACCOUNT),
    Row("EAuth:Rate limit exceeded", BACK, BACK, _WAIT, SLOW_DOWN),
    Row("EAuth:Too many requests", BACK, BACK, _WAIT, SLOW_DOWN),
    Row("EAccount:Invalid permissions", FATAL, FATAL, "Your account may not trade this currency. " + _PAIR),
    Row("ESession:Invalid session", SAFE, SAFE, _WAIT),
    Row("EQuery:Unknown asset", FATAL, FATAL, _PAIR, question=ConfigurationError),
    Row("EQuery:Unknown asset pair", FATAL, FATAL, _PAIR, question=ConfigurationError),
    Row("EQuery:Invalid asset pair", FATAL, FATAL, _PAIR, question=ConfigurationError),
    Row("EOrder:Insufficient funds", BIZ, BIZ, "The free balance does not cover the order.", order=InsufficientFunds),
    Row("EOrder:Order minimum not met", BIZ, BIZ, "Raise amount_per_grid in [grid].", order=OrderTooSmall),
    Row("EOrder:Cost minimum not met", BIZ, BIZ, "Raise amount_per_grid in [grid].", order=OrderTooSmall),
    Row("EOrder:Tick size check failed", BIZ, BIZ, _OUR_BUG),
    Row("EOrder:Invalid price", BIZ, BIZ, _OUR_BUG),
    Row("EOrder:Post only order", BIZ, BIZ, "The bot computes a new price.", order=PostOnlyWouldCross),
    Row("EOrder:Invalid order", BIZ, BIZ, _OUR_BUG, question=UnknownOrderError),
    Row("EOrder:Unknown order", BIZ, BIZ, "The bot looks it up.", question=UnknownOrderError),
    Row("EOrder:Orders limit exceeded", BIZ, BIZ, _FULL, order=TooManyOrders),
    Row("EOrder:Rate limit exceeded", BACK, BACK, _WAIT, SLOW_ORDERS),
    Row("EOrder:Domain rate limit exceeded", BACK, BACK, _WAIT, SLOW_DOWN),
    Row("EOrder:Cancel pending", BACK, BACK, _WAIT, SHORT, question=CancelUnderWay),
    Row("EOrder:Trading agreement required", FATAL, FATAL, _ACCOUNT),
    Row("EOrder:Scheduled orders limit exceeded", BIZ, BIZ, _MARGIN),
    Row("EOrder:Positions limit exceeded", BIZ, BIZ, _MARGIN),
    Row("EOrder:Margin allowance exceeded", BIZ, BIZ, _MARGIN),
    Row("EOrder:Margin level too low", BIZ, BIZ, _MARGIN),
    Row("EOrder:Margin position size exceeded", BIZ, BIZ, _MARGIN),
    Row("EOrder:Insufficient margin", BIZ, BIZ, _MARGIN),
    Row("EOrder:Cannot open position", BIZ, BIZ, _MARGIN),
    Row("EOrder:Cannot open opposing position", BIZ, BIZ, _MARGIN),
    Row("EOrder:Unknown position", BIZ, BIZ, _MARGIN),
    Row("EOrder:Reduce only", BIZ, BIZ, _MARGIN),
    Row("ETrade:User Locked", FATAL, FATAL, _ACCOUNT),
    Row("ETrade:Invalid request", FATAL, FATAL, _OUR_BUG),
    Row("EBM:limit exceeded", FATAL, FATAL, "Kraken limits what you may buy in Canada. " + _ACCOUNT),
)
_BY_TEXT = {row.text: row for row in TABLE}

# What Kraken's documentation does not list.
_UNKNOWN_BUSINESS = Row(
    "EOrder:*", BIZ, BIZ, "The bot does not know this answer; please report it.", question=UnlistedRefusal
)
_UNKNOWN = Row("*", BACK, AMBIG, "The bot does not know this answer; please report it.", BUSY)
_DUPLICATE = Row("*duplicate*", BACK, AMBIG, _LOOK)
_FUNDING = Row("EFunding:*", BIZ, BIZ, _OUR_BUG)


def row_of(error: str) -> Row:
    """The row for one error string, never None: an unknown error is treated as the worst it may be."""
    lower = error.lower()
    if "cl_ord_id" in lower or "dupli" in lower:
        return _DUPLICATE  # not documented: any mention of a duplicate means that the order may exist
    category, _, rest = error.partition(":")
    text = f"{category.strip()}:{rest.split(':')[0].strip()}"
    if row := _BY_TEXT.get(text):
        return row
    if category in ("EOrder", "EQuery"):
        return _UNKNOWN_BUSINESS
    return _FUNDING if category == "EFunding" else _UNKNOWN


def throttled_for(error: str, now: float) -> float:
    """
    Seconds until the time that ``EService: Throttled: <unix time>`` names; 0 for any other text.

    >>> throttled_for("EService: Throttled: 1790000012", 1790000000.0)
    12.0
    """
    found = re.search(r"Throttled:\s*(\d{1,12})", error)
    return min(max(int(found.group(1)) - now, SHORT), LONGEST_THROTTLE) if found else 0.0


def question_failed(method: str, errors: Sequence[str], now: float) -> GridBotError:
    """The exception for errors in the answer to a question (or a cancellation); ``now`` in unix seconds."""
    row = max(map(row_of, errors), key=lambda r: r.on_question)
    advice = _WAIT if row.advice is _LOOK else row.advice  # there is no order to look for
    message = f"Kraken answered {method} with: {'; '.join(errors)}. {advice}"
    kind = row.question or _QUESTION[row.on_question]
    if issubclass(kind, TemporaryFailure):
        return kind(message, _pause(errors, now) if row.on_question is BACK else row.pause)
    return kind(message)


def order_failed(errors: Sequence[str], now: float) -> ExchangeError:
    """The exception for errors in the answer to AddOrder; ``now`` in unix seconds."""
    row = max(map(row_of, errors), key=lambda r: r.on_order)
    message = f"Kraken answered the order with: {'; '.join(errors)}. {row.advice}"
    kind = row.order or _ORDER[row.on_order]
    if issubclass(kind, PlacementPaused):
        return kind(message, max(_pause(errors, now), SHORT))
    return kind(message)


def _pause(errors: Sequence[str], now: float) -> float:
    return max(throttled_for(e, now) or row_of(e).pause for e in errors)


_QUESTION: dict[Outcome, type[ExchangeError]] = {
    SAFE: TemporaryFailure,
    BIZ: ExchangeError,
    BACK: TemporaryFailure,
    FATAL: AccessDenied,
}
_ORDER: dict[Outcome, type[ExchangeError]] = {
    SAFE: PlacementPaused,
    BIZ: OrderRejected,
    BACK: PlacementPaused,
    FATAL: AccessDenied,
    AMBIG: OrderFateUnknown,
}
