"""The words for events: amounts, units and ids a trader can check."""

import inspect
from decimal import Decimal as D

import pytest

from gridbot.models import events
from gridbot.models.events import (
    BotStarted,
    BotStopped,
    CaughtUp,
    Event,
    ExtraSellPlaced,
    FundsShort,
    GridShifted,
    OrderCancelled,
    OrderExecuted,
    OrderPlaced,
    OrderRefused,
    StatusUpdate,
    Trouble,
)
from gridbot.services.messages import Units, duration, message_for

PRICE, VOLUME = D("49504.9"), D("0.00202")


def told(event: Event) -> str | None:
    return message_for(event, Units("BTC", "USD", price_decimals=1))


CASES = [
    (
        OrderExecuted("buy", PRICE, VOLUME, D("99.9999"), D("0.2599"), "OQ4C3A-1"),
        "bought 0.00202000 BTC @ 49504.9 USD = 99.99 USD, fee 0.25 USD (OQ4C3A-1)",
    ),
    (
        OrderExecuted("sell", D("49999.9"), D("0.00201005"), D("100.50"), D("0.25"), "OV7K", D("0.499")),
        "sold 0.00201005 BTC @ 49999.9 USD = 100.50 USD, fee 0.25 USD, cycle +0.49 USD (OV7K)",
    ),
    (
        OrderPlaced("sell", D("49999.9"), D("0.00201005"), "OV7K", "for the buy OQ4C3A-1"),
        "placed sell 0.00201005 BTC @ 49999.9 USD (OV7K): for the buy OQ4C3A-1",
    ),
    (
        OrderCancelled("buy", PRICE, VOLUME, D("0"), "OQ4C", "too near the next"),
        "cancelled buy 0.00202000 BTC @ 49504.9 USD (OQ4C): too near the next",
    ),
    (
        OrderCancelled("buy", PRICE, VOLUME, D("0.001"), "OQ4C", ""),
        "cancelled buy 0.00202000 BTC @ 49504.9 USD, 0.00100000 BTC of it had been filled (OQ4C)",
    ),
    (
        GridShifted(D("51005"), 1),
        "the price 51005.0 USD has risen above the grid: 1 buy cancelled, to be placed again below it",
    ),
    (
        FundsShort("buy", "USD", D("100.25"), D("12.309"), "waiting"),
        "not enough USD for the next buy: 12.30 free, 100.25 needed; waiting",
    ),
    (
        FundsShort("sell", "BTC", D("0.00201005"), D("0.00201004"), ""),
        "not enough BTC for the next sell: 0.00201004 free, 0.00201005 needed",
    ),
    (
        OrderRefused("buy", PRICE, VOLUME, "below the minimum of 0.005 BTC", "it stays empty"),
        "buy 0.00202000 BTC @ 49504.9 USD was refused: below the minimum of 0.005 BTC; it stays empty",
    ),
    (
        ExtraSellPlaced(D("52000"), D("0.00193"), "OEXT"),
        "placed extra sell 0.00193000 BTC @ 52000.0 USD, of base that no buy of the grid brought in (OEXT)",
    ),
    (
        CaughtUp(11_520.0, 2, 1, 1, 0),
        "away 3 h 12 min: 2 buys filled, 1 sell filled, 1 order cancelled",
    ),
    (BotStarted("pi", "5 buys of 100 USD"), "pi started\n5 buys of 100 USD"),
    (
        BotStopped("pi", "Ctrl-C", "6 orders stay open on Kraken"),
        "pi stopped: Ctrl-C\n6 orders stay open on Kraken",
    ),
    (StatusUpdate("all is well"), "all is well"),
    (Trouble("the feed is silent; reconnecting"), "the feed is silent; reconnecting"),
]


@pytest.mark.parametrize(("event", "words"), CASES, ids=lambda x: type(x).__name__)
def test_an_event_reads(event: Event, words: str) -> None:
    assert told(event) == words


def test_every_event_there_is_has_words() -> None:
    kinds = {k for _, k in inspect.getmembers(events, inspect.isclass) if issubclass(k, Event)} - {Event}
    assert kinds == {type(event) for event, _ in CASES if told(event)}


def test_an_event_unknown_here_has_none() -> None:
    assert told(Event()) is None


def test_what_is_missing_shows_even_when_it_is_less_than_a_cent() -> None:
    words = told(FundsShort("buy", "USD", D("100.2549"), D("100.2531"), "waiting"))
    assert words == "not enough USD for the next buy: 100.253 free, 100.254 needed; waiting"


def test_a_quote_such_as_btc_is_not_cut_to_nothing() -> None:
    event = OrderExecuted("sell", D("0.03512"), D("0.5"), D("0.01756"), D("0.0000439"), "OX", D("0.00008"))
    assert message_for(event, Units("ETH", "BTC", 5, 8, 8)) == (
        "sold 0.50000000 ETH @ 0.03512 BTC = 0.01756000 BTC, fee 0.00004390 BTC, cycle +0.00008000 BTC (OX)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (86_400, "1 d"),
        (187_000, "2 d 3 h"),
    ],
)
def test_a_duration_reads(seconds: float, text: str) -> None:
    assert duration(seconds) == text
