"""Frames of the feed, read on the main thread: what counts, what is dropped, and what is a loss."""

import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gridbot.adapters.exchanges.kraken_feed import LOST, PRICE_LOST, KrakenWebSocketService
from gridbot.adapters.exchanges.kraken_limits import KrakenLimits
from gridbot.adapters.exchanges.kraken_socket import ConnectLimiter, Happening, pause_before
from gridbot.models.exchange import OnMessageSchema
from tests.unit.kraken_clock import StillClock

DATA = Path(__file__).parent.parent / "data" / "kraken"
TICKER = (DATA / "ws_ticker.json").read_bytes()
HEARTBEAT = b'{"channel":"heartbeat"}'


class Rest:
    """What the feed needs of the REST side."""

    ws_symbol = "BTC/USD"

    def __init__(self, clock: StillClock) -> None:
        self.limits = KrakenLimits(clock)

    def get_websocket_token(self) -> str:
        return "SECRET-TOKEN"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def rest(clock: StillClock) -> Rest:
    return Rest(clock)


@pytest.fixture
def feed(rest: Rest, clock: StillClock) -> KrakenWebSocketService:
    feed = KrakenWebSocketService(rest, clock=clock)
    for subscription in feed.get_required_subscriptions(rest):  # type: ignore[arg-type]
        feed.subscribe(subscription)
    return feed


def executions(sequence: int | None, kind: str = "update", *rows: dict[str, Any]) -> bytes:
    frame: dict[str, Any] = {"channel": "executions", "type": kind, "data": list(rows)}
    if sequence is not None:
        frame["sequence"] = sequence
    return json.dumps(frame).encode()


def row(order_id: str = "OABC", **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "exec_type": "new", "order_status": "new"} | more


def hear(feed: KrakenWebSocketService, *frames: bytes | Happening, number: int = 1, name: str = "private"):
    return [message for frame in frames for message in feed.on_message((name, number, frame))]


def kinds(messages: list[OnMessageSchema]) -> list[str | None]:
    return [message.type for message in messages]


def test_a_ticker_is_the_last_price_and_its_time(feed):
    [message] = hear(feed, TICKER, name="public")
    assert (message.channel, message.type) == ("ticker", "snapshot")
    assert message.ticker_data.last == Decimal("83744.2")
    assert message.ticker_data.time == 1790327071.742599


def test_the_ticker_of_another_pair_is_not_ours(feed):
    assert hear(feed, TICKER.replace(b"BTC/USD", b"ETH/USD"), name="public") == []


@pytest.mark.parametrize(
    "frame",
    [
        HEARTBEAT,
        b'{"method":"pong","req_id":1,"time_in":"x","time_out":"y"}',
        b'{"channel":"status","type":"update","data":[{"system":"online","connection_id":18125794168470749634}]}',
        b'{"channel":"status","type":"update","data":[]}',
        b'{"channel":"book","data":[]}',
        b'{"Error":"Exceeded msg rate"}',
    ],
)
def test_frames_that_say_nothing_to_the_bot(feed, frame):
    assert hear(feed, frame, name="public") == []
    assert feed.unreadable == 0


GARBAGE = [b"", b"{", b"\xff\xfe", b"[]", b"null", b"1", b'"x"', b'{"channel":"ticker"}', b"[" * 99_999]
GARBAGE += [b'{"channel":"ticker","data":[{"symbol":"BTC/USD","last":NaN}]}']
GARBAGE += [b'{"channel":"ticker","data":[{"symbol":"BTC/USD","last":-1}]}']
GARBAGE += [b'{"channel":"ticker","data":[{"symbol":"BTC/USD","last":1E999999}]}']


@pytest.mark.parametrize("frame", GARBAGE)
def test_garbage_among_prices_is_counted_and_forgotten(feed, frame):
    assert hear(feed, frame, name="public") == []
    assert feed.unreadable == 1
    assert len(hear(feed, TICKER, name="public")) == 1


def test_a_flood_of_garbage_does_not_fill_the_log(feed, caplog):
    hear(feed, *[b"garbage"] * 1000, name="public")
    assert feed.unreadable == 1000
    assert len(caplog.records) == 4  # the 1st, 10th, 100th and 1000th


def test_the_status_of_kraken_is_logged_once_per_change(feed, caplog):
    caplog.set_level(logging.INFO)
    for system in ("online", "maintenance", "maintenance", "online"):
        hear(feed, b'{"channel":"status","data":[{"system":"%s"}]}' % system.encode(), name="public")
    assert len(caplog.records) == 2


def test_something_that_is_not_of_the_feed_is_not_fatal(feed):
    assert [feed.on_message(odd) for odd in (None, "text", (), ("public", 1), ("other", 1, b""))] == [[]] * 5


def test_the_snapshot_comes_first_and_updates_follow_by_number(feed):
    messages = hear(feed, executions(1, "snapshot"), executions(2, "update", row()), executions(3, "update", row()))
    assert kinds(messages) == ["snapshot", "update", "update"]
    assert messages[0].executions == []
    assert messages[1].executions[0].order_id == "OABC"


def test_a_fill_arrives_with_every_digit(feed):
    hear(feed, executions(1, "snapshot"))
    [message] = hear(feed, (DATA / "ws_trade.json").read_bytes().replace(b'"sequence":10', b'"sequence":2'))
    [fill] = message.executions
    assert (str(fill.last_qty), str(fill.fee)) == ("0.00101000", "0.12499")


def test_events_of_other_pairs_are_left_out_and_those_without_a_pair_are_kept(feed):
    rows = (row("OOURS", symbol="BTC/USD"), row("OTHER", symbol="ETH/USD", limit_price="odd"), row("ONONE"))
    [message] = hear(feed, executions(1, "snapshot", *rows))
    assert [event.order_id for event in message.executions] == ["OOURS", "ONONE"]


def test_orders_of_other_pairs_stay_left_out_when_their_later_events_name_no_pair(feed):
    hear(feed, executions(1, "snapshot", row("OTHER", symbol="ETH/USD")))
    [message] = hear(feed, executions(2, "update", row("OTHER"), row("ONEW")))
    assert [event.order_id for event in message.executions] == ["ONEW"]


def test_an_order_of_another_pair_stays_left_out_however_much_another_one_is_talked_of(feed):
    other = [row("OBUSY", symbol="ETH/USD", exec_type="trade")] * 600
    hear(feed, executions(1, "snapshot", row("OTHER", symbol="ETH/USD")), executions(2, "update", *other))
    [message] = hear(feed, executions(3, "update", row("OTHER"), row("ONEW")))
    assert [event.order_id for event in message.executions] == ["ONEW"]


def test_the_same_frames_on_another_connection_are_news(feed):
    frames = executions(1, "snapshot"), executions(2, "update", row()), executions(3)
    for number in (1, 2):
        assert kinds(hear(feed, *frames, number=number)) == ["snapshot", "update", "update"]


def test_a_message_told_twice_counts_once(feed):
    frames = (executions(1, "snapshot"), executions(1, "snapshot"), executions(2), executions(2))
    assert kinds(hear(feed, *frames)) == ["snapshot", "update"]


def test_counting_begins_anew_with_another_snapshot(feed):
    hear(feed, executions(1, "snapshot"), executions(2, "update", row()), executions(3, "update", row()))
    frames = (executions(1, "snapshot"), executions(2, "update", row("OTWO")))
    assert kinds(hear(feed, *frames)) == ["snapshot", "update"]


@pytest.mark.parametrize(
    "frames",
    [
        (executions(1, "snapshot"), executions(3)),
        (executions(1, "snapshot"), executions(2), executions(1)),
        (executions(1, "update"),),
        (executions(None, "update"),),
        (executions(1, "snapshot"), b"garbage"),
        (executions(1, "snapshot"), executions(2, "update", {"exec_type": "trade"})),
        (executions(1, "snapshot"), executions(2, "update", row(last_qty="1E999"))),
        (executions(1, "snapshot"), b'{"channel":"executions","type":"update","sequence":2}'),
        (
            b'{"channel":"executions","error":"ESession:Invalid session",'
            b'"method":"subscribe","status":"error","success":false}',
        ),
    ],
    ids=[
        "gap",
        "a number again, for something else",
        "no snapshot",
        "no snapshot, no number",
        "garbage",
        "no id",
        "number",
        "no data",
        "nack",
    ],
)
def test_whatever_may_have_lost_news_about_our_orders_ends_the_connection(feed, frames):
    messages = hear(feed, *frames)
    assert messages[-1] is LOST
    assert hear(feed, executions(4), executions(1, "snapshot"), Happening.LOST) == []  # not believed any more
    assert kinds(hear(feed, Happening.CONNECTED, executions(1, "snapshot"), number=2)) == ["snapshot"]


def test_counting_begins_with_the_snapshot_at_whatever_number(feed):
    assert kinds(hear(feed, executions(7, "snapshot"), executions(8))) == ["snapshot", "update"]
    assert hear(feed, executions(10))[-1] is LOST


def test_frames_without_numbers_are_taken_as_they_come(feed):
    frames = (executions(None, "snapshot"), executions(None), executions(None))
    assert kinds(hear(feed, *frames)) == ["snapshot", "update", "update"]


def test_a_lost_connection_is_told_once(feed):
    hear(feed, Happening.CONNECTED, executions(1, "snapshot"))
    assert hear(feed, Happening.LOST) == [LOST]
    assert hear(feed, executions(2), Happening.LOST) == []  # what was still on its way on the lost one
    assert hear(feed, Happening.CONNECTED, Happening.LOST, number=2) == []  # nothing was known since


def test_frames_of_an_older_connection_are_dropped(feed):
    hear(feed, executions(1, "snapshot"), number=2)
    assert hear(feed, executions(2), Happening.LOST, number=1) == []
    assert kinds(hear(feed, executions(2), number=2)) == ["update"]


def test_losing_the_public_connection_says_nothing_about_our_orders(feed):
    assert hear(feed, TICKER, Happening.LOST, name="public")[1:] == [PRICE_LOST]


def test_heartbeats_without_a_snapshot_are_not_enough(feed, clock):
    assert hear(feed, Happening.CONNECTED, HEARTBEAT) == []
    clock.advance(21)
    assert hear(feed, HEARTBEAT) == [LOST]


@pytest.mark.parametrize(("name", "after"), [("public", []), ("private", [LOST])])
def test_a_quiet_pair_is_no_loss_once_it_is_subscribed_and_our_orders_need_a_snapshot(feed, clock, name, after):
    ack = b'{"method":"subscribe","success":true,"result":{"channel":"any"}}'
    hear(feed, Happening.CONNECTED, ack, name=name)
    clock.advance(21)
    assert hear(feed, HEARTBEAT, name=name) == after


def test_the_acknowledgement_tells_the_tier(feed, rest):
    ack = {"method": "subscribe", "success": True, "result": {"channel": "executions", "maxratecount": 125}}
    assert hear(feed, json.dumps(ack).encode()) == []
    assert rest.limits.engine.seconds_until(125) == 0


def test_the_token_is_in_no_log_and_no_repr(feed, caplog):
    caplog.set_level(logging.DEBUG)
    assert "SECRET-TOKEN" in feed._hello("private")[0]
    hear(feed, b'garbage "SECRET-TOKEN"')
    hear(feed, b'garbage "SECRET-TOKEN"', name="public")
    assert "garbage" in caplog.text
    assert "SECRET-TOKEN" not in caplog.text + repr(feed)


def test_the_subscriptions_are_krakens(feed, rest):
    ticker, mine = feed.get_required_subscriptions(rest)
    assert ticker == {"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "trades", "snapshot": True}
    assert mine == {
        "channel": "executions",
        "snap_orders": True,
        "snap_trades": False,
        "order_status": True,
        "ratecounter": False,
    }


def test_pauses_begin_small_and_end_at_a_minute():
    assert [pause_before(n, jitter=lambda: 1.0) for n in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, 32, 60]
    assert pause_before(1, jitter=lambda: 0.0) == 0.25
    assert pause_before(0, at_least=5.0) == 5.0


def test_both_sockets_together_stay_below_krakens_limit(clock):
    limiter = ConnectLimiter(clock.monotonic)
    made = 0
    for _ in range(600):
        made += limiter.take() == 0
        clock.advance(1)
    assert made == 100
    assert limiter.take() == 0
