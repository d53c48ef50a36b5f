"""Every error string of Kraken, and the reaction it calls for: a table of its own, written by hand."""

import pytest

from gridbot.adapters.exchanges import kraken_errors as errors
from gridbot.exceptions import (
    AccessDenied,
    ConfigurationError,
    ExchangeError,
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

NOW = 1_790_000_000.0
AGAIN, DENIED, UNSURE, PAUSED = TemporaryFailure, AccessDenied, OrderFateUnknown, PlacementPaused
PLAIN, NOT_PLACED = ExchangeError, OrderRejected

# text, exception for a question, exception for AddOrder, seconds to wait after it
CASES = [
    ("EGeneral:Invalid arguments", PLAIN, NOT_PLACED, 0),
    ("EGeneral:Invalid arguments:volume", PLAIN, NOT_PLACED, 0),
    ("EGeneral:Invalid arguments:Index unavailable", PLAIN, NOT_PLACED, 0),
    ("EGeneral:Permission denied", errors.PermissionMissing, errors.PermissionMissing, 0),
    ("EGeneral:Temporary lockout", AGAIN, PAUSED, 900),
    ("EGeneral:Too many requests", AGAIN, PAUSED, 5),
    ("EGeneral:Internal error", AGAIN, UNSURE, 0),
    ("EGeneral:Internal error:4711", AGAIN, UNSURE, 0),
    ("EGeneral:Unknown method", errors.UnknownMethod, DENIED, 0),
    ("EService:Unavailable", AGAIN, UNSURE, 5),
    ("EService:Busy", AGAIN, UNSURE, 5),
    ("EService:Timeout", AGAIN, UNSURE, 5),
    ("EService:Market in cancel_only mode", AGAIN, PAUSED, 30),
    ("EService:Market in post_only mode", AGAIN, PAUSED, 30),
    ("EService:Market in limit_only mode", AGAIN, PAUSED, 30),
    ("EService:Market in reduce_only mode", AGAIN, PAUSED, 30),
    ("EService:Deadline elapsed", AGAIN, UNSURE, 0),
    ("EService: Throttled: 1790000012", AGAIN, PAUSED, 12),
    ("EService:Throttled:1790000012", AGAIN, PAUSED, 12),
    ("EService: Throttled: 9999999999", AGAIN, PAUSED, 60),
    ("EAPI:Invalid key", DENIED, DENIED, 0),
    ("EAPI:Invalid signature", DENIED, DENIED, 0),
    ("EAPI:Invalid nonce", TemporaryFailure, PlacementPaused, 1),
    ("EAPI:Rate limit exceeded", AGAIN, PAUSED, 15),
    ("EAPI:Bad request", PLAIN, NOT_PLACED, 0),
    ("EAPI:Feature disabled", DENIED, DENIED, 0),
    ("EDatabase:Internal error", AGAIN, UNSURE, 0),
    ("EAuth:Failed", DENIED, DENIED, 0),
    ("EAuth:Account temporary disabled", DENIED, DENIED, 0),
    ("EAuth:Account unconfirmed", DENIED, DENIED, 0),
    ("EAuth:Rate limit exceeded", AGAIN, PAUSED, 15),
    ("EAuth:Too many requests", AGAIN, PAUSED, 15),
    ("EAccount:Invalid permissions", DENIED, DENIED, 0),
    ("EAccount:Invalid permissions:USDT trading restricted for DE.", DENIED, DENIED, 0),
    ("ESession:Invalid session", AGAIN, PAUSED, 0),
    ("EQuery:Unknown asset", ConfigurationError, DENIED, 0),
    ("EQuery:Unknown asset pair", ConfigurationError, DENIED, 0),
    ("EQuery:Invalid asset pair", ConfigurationError, DENIED, 0),
    ("EOrder:Insufficient funds", PLAIN, InsufficientFunds, 0),
    ("EOrder:Order minimum not met", PLAIN, OrderTooSmall, 0),
    ("EOrder:Cost minimum not met", PLAIN, OrderTooSmall, 0),
    ("EOrder:Tick size check failed", PLAIN, NOT_PLACED, 0),
    ("EOrder:Invalid price", PLAIN, NOT_PLACED, 0),
    (
        "EOrder:Invalid price:XXBTZUSD price can only be specified up to 1 decimals.",
        PLAIN,
        NOT_PLACED,
        0,
    ),
    ("EOrder:Post only order", PLAIN, PostOnlyWouldCross, 0),
    ("EOrder:Invalid order", UnknownOrderError, NOT_PLACED, 0),
    ("EOrder:Unknown order", UnknownOrderError, NOT_PLACED, 0),
    ("EOrder:Orders limit exceeded", PLAIN, TooManyOrders, 0),
    ("EOrder:Rate limit exceeded", AGAIN, PAUSED, 5),
    ("EOrder:Domain rate limit exceeded", AGAIN, PAUSED, 15),
    ("EOrder:Cancel pending", errors.CancelUnderWay, PAUSED, 1),
    ("EOrder:Trading agreement required", DENIED, DENIED, 0),
    ("EOrder:Scheduled orders limit exceeded", PLAIN, NOT_PLACED, 0),
    ("EOrder:Positions limit exceeded", PLAIN, NOT_PLACED, 0),
    ("EOrder:Margin allowance exceeded", PLAIN, NOT_PLACED, 0),
    ("EOrder:Margin level too low", PLAIN, NOT_PLACED, 0),
    ("EOrder:Margin position size exceeded", PLAIN, NOT_PLACED, 0),
    ("EOrder:Insufficient margin", PLAIN, NOT_PLACED, 0),
    ("EOrder:Cannot open position", PLAIN, NOT_PLACED, 0),
    ("EOrder:Cannot open opposing position", PLAIN, NOT_PLACED, 0),
    ("EOrder:Unknown position", PLAIN, NOT_PLACED, 0),
    ("EOrder:Reduce only:Position is closed", PLAIN, NOT_PLACED, 0),
    ("ETrade:User Locked", DENIED, DENIED, 0),
    ("ETrade:Invalid request", DENIED, DENIED, 0),
    ("EBM:limit exceeded:CAL", DENIED, DENIED, 0),
    ("EFunding:No funding method", PLAIN, NOT_PLACED, 0),
    # Not in the documentation: treated as the worst that it may be.
    ("EOrder:Duplicate order", AGAIN, UNSURE, 0),
    ("EOrder:cl_ord_id already in use", AGAIN, UNSURE, 0),
    ("EGeneral:Invalid arguments:cl_ord_id", AGAIN, UNSURE, 0),
    ("EOrder:Something new", errors.UnlistedRefusal, NOT_PLACED, 0),
    ("EQuery:Something new", errors.UnlistedRefusal, NOT_PLACED, 0),
    ("EService:Something new", AGAIN, UNSURE, 5),
    ("ENew:Something", AGAIN, UNSURE, 5),
    ("no colon at all", AGAIN, UNSURE, 5),
    ("", AGAIN, UNSURE, 5),
]


@pytest.mark.parametrize(("text", "question", "order", "pause"), CASES, ids=[c[0] for c in CASES])
def test_an_error_means_one_thing_for_a_question_and_another_for_an_order(text, question, order, pause):
    asked = errors.question_failed("Balance", [text], NOW)
    placed = errors.order_failed([text], NOW)
    assert type(asked) is question
    assert type(placed) is order
    if isinstance(asked, TemporaryFailure):
        assert asked.retry_after == pause
    if isinstance(placed, PlacementPaused):
        assert placed.retry_after == max(pause, 1)


def test_every_row_of_the_table_is_covered_above():
    named = {errors.row_of(case[0]).text for case in CASES}
    assert {row.text for row in errors.TABLE} <= named


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (["EOrder:Insufficient funds", "EGeneral:Internal error"], OrderFateUnknown),
        (["EGeneral:Internal error", "EAPI:Invalid key"], OrderFateUnknown),
        (["EAPI:Rate limit exceeded", "EAPI:Invalid key"], AccessDenied),
        (["EOrder:Insufficient funds", "EOrder:Rate limit exceeded"], PlacementPaused),
        (["EAPI:Invalid nonce", "EOrder:Insufficient funds"], InsufficientFunds),
    ],
)
def test_of_several_errors_the_worst_decides(texts, order):
    assert type(errors.order_failed(texts, NOW)) is order
    assert type(errors.order_failed(texts[::-1], NOW)) is order


def test_of_several_pauses_the_longest_is_kept():
    failure = errors.order_failed(["EAPI:Rate limit exceeded", "EGeneral:Temporary lockout"], NOW)
    assert isinstance(failure, PlacementPaused)
    assert failure.retry_after == 900


def test_the_message_says_what_kraken_said_and_what_to_do():
    failure = errors.question_failed("Balance", ["EAPI:Invalid nonce"], NOW)
    assert failure.message == (
        "Kraken answered Balance with: EAPI:Invalid nonce. "
        "Usually another program uses the same API key: give every program its own."
    )
