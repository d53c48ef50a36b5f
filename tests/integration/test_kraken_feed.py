"""The Kraken adapter over real sockets here: what breaks comes back, and nothing is lost silently."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from gridbot.adapters.exchanges import kraken_rest, kraken_socket
from gridbot.adapters.exchanges.kraken import KrakenRESTService, KrakenWebSocketService
from gridbot.adapters.exchanges.kraken_socket import ConnectLimiter, KrakenSocket
from gridbot.core.clock import SystemClock
from gridbot.exceptions import OrderFateUnknown, PlacementPaused
from gridbot.models.exchange import OnMessageSchema
from tests.fake_kraken import TEST_KEY, TEST_SECRET, FakeKraken
from tests.fake_kraken import SystemClock as KrakenClock
from tests.fake_kraken import server as fake_server
from tests.fake_kraken.server import FakeKrakenServer

PATIENCE = 5.0  # seconds until a test gives up waiting; none of them needs a fraction of it


class Bot:
    """REST, feed and queue of a bot, without the bot."""

    def __init__(self, server: FakeKrakenServer, private: bool = True) -> None:
        self.stopping = threading.Event()
        clock = SystemClock(self.stopping)
        keys = (TEST_KEY, TEST_SECRET) if private else ("", "")
        self.rest = KrakenRESTService(*keys, "BTC", "USD", clock=clock, rest_url=server.rest_url)
        self.feed = KrakenWebSocketService(
            self.rest,
            clock=clock,
            ws_url=server.ws_url,
            ws_auth_url=server.ws_auth_url,
            private=private,
        )
        self.queue: queue.SimpleQueue[object] = queue.SimpleQueue()

    def start(self) -> "Bot":
        self.feed.start(self.queue.put)
        for subscription in self.feed.get_required_subscriptions(self.rest):
            self.feed.subscribe(subscription)
        return self

    def hear(
        self, channel: str, kind: str, fits: Callable[[OnMessageSchema], bool] = lambda m: True
    ) -> OnMessageSchema:
        """The next such message; others are read and forgotten."""
        until = time.monotonic() + PATIENCE
        while (left := until - time.monotonic()) > 0:
            try:
                item = self.queue.get(timeout=left)
            except queue.Empty:
                break
            for message in self.feed.on_message(item):
                if (message.channel, message.type) == (channel, kind) and fits(message):
                    return message
        raise AssertionError(f"no {channel} {kind} in {PATIENCE:g} s")

    def settle(self) -> "Bot":
        """Both sockets have their snapshot: whatever the exchange does next is heard as an update."""
        missing = {"ticker", "executions"}
        until = time.monotonic() + PATIENCE
        while missing:
            for message in self.feed.on_message(self.queue.get(timeout=until - time.monotonic())):
                missing.discard(message.channel if message.type == "snapshot" else "")
        return self

    def buy(self) -> str:
        return self.rest.create_order(
            ordertype="limit",
            side="buy",
            volume=Decimal("0.00202000"),
            price=Decimal("49504.9"),
            userref=7,
            oflags="post,fciq",
        ).txid

    def close(self) -> None:
        self.feed.close()
        self.rest.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kraken_socket, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(fake_server, "HEARTBEAT_SECONDS", 0.1)


@pytest.fixture
def fake() -> FakeKraken:
    return FakeKraken(KrakenClock(), prices={"BTC/USD": "50000.0"})


@pytest.fixture
def server(fake: FakeKraken) -> Iterator[FakeKrakenServer]:
    with FakeKrakenServer(fake) as server:
        yield server


@pytest.fixture
def bot(server: FakeKrakenServer) -> Iterator[Bot]:
    bot = Bot(server).start()
    try:
        yield bot.settle()
    finally:
        bot.close()


def test_prices_and_our_fills_arrive(fake: FakeKraken, bot: Bot):
    txid = bot.buy()
    fake.set_price("BTC/USD", "49000.0")
    fill = bot.hear("executions", "update", lambda m: m.executions[0].exec_type == "trade").executions[0]
    assert (fill.order_id, fill.userref, fill.last_qty) == (txid, 7, Decimal("0.00202"))
    assert fill.last_price == Decimal("49504.9")
    bot.rest.get_open_orders(7)
    fake.set_price("BTC/USD", "48900.0")
    assert bot.hear("ticker", "update", lambda m: m.ticker_data.last == 48900)


def test_a_dropped_private_connection_is_told_and_comes_back_with_a_snapshot(fake: FakeKraken, bot: Bot):
    txid = bot.buy()
    fake.drop_sockets(private=True)
    bot.hear("executions", "lost")
    snapshot = bot.hear("executions", "snapshot")
    assert [event.order_id for event in snapshot.executions] == [txid]
    assert fake.count("GetWebSocketsToken") == 2  # a fresh token for every connection


def test_a_dropped_public_connection_comes_back_with_prices(fake: FakeKraken, bot: Bot):
    fake.drop_sockets(private=False)
    fake.set_price("BTC/USD", "50123.4")
    bot.hear("ticker", "snapshot", lambda m: m.ticker_data.last == Decimal("50123.4"))


def test_a_gap_in_the_numbers_is_a_loss(fake: FakeKraken, bot: Bot):
    fake.faults.lose(1)
    bot.buy()
    bot.hear("executions", "lost")
    assert len(bot.hear("executions", "snapshot").executions) == 1


def test_doubled_messages_are_told_once(fake: FakeKraken, bot: Bot):
    fake.faults.double(2)
    bot.buy()
    bot.hear("executions", "update", lambda m: m.executions[0].exec_type == "pending_new")
    fake.set_price("BTC/USD", "49000.0")
    message = bot.hear("executions", "update", lambda m: m.executions[0].exec_type != "new")
    assert message.executions[0].exec_type == "trade"


def test_garbage_among_our_executions_is_a_loss(fake: FakeKraken, bot: Bot):
    fake.send_garbage(private=True)
    bot.hear("executions", "lost")
    bot.hear("executions", "snapshot")


def test_garbage_among_prices_is_passed_over(fake: FakeKraken, bot: Bot):
    fake.send_garbage(private=False)
    fake.set_price("BTC/USD", "50001.0")
    bot.hear("ticker", "update", lambda m: m.ticker_data.last == 50001)
    assert bot.feed.unreadable >= 1


@pytest.mark.parametrize("break_it", ["silence", "half_open"])
def test_a_connection_that_only_looks_open_is_replaced(
    fake: FakeKraken, server: FakeKrakenServer, break_it: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kraken_socket, "SILENCE", 0.5)
    bot = Bot(server).start()
    try:
        bot.hear("executions", "snapshot")
        getattr(fake, break_it)(private=True)
        bot.hear("executions", "lost")
        bot.hear("executions", "snapshot")
    finally:
        bot.close()


def test_a_refused_token_is_replaced_by_a_new_one(fake: FakeKraken, server: FakeKrakenServer):
    fake.faults.refuse_token(2)
    bot = Bot(server).start()
    try:
        bot.hear("executions", "snapshot")
        assert fake.count("GetWebSocketsToken") == 3
    finally:
        bot.close()


def test_refused_connections_are_tried_again(fake: FakeKraken, server: FakeKrakenServer):
    fake.faults.refuse_connections(4)
    bot = Bot(server).start()
    try:
        bot.hear("executions", "snapshot")
    finally:
        bot.close()


def test_prices_alone_need_no_key_and_call_nothing_private(fake: FakeKraken, server: FakeKrakenServer):
    bot = Bot(server, private=False).start()
    try:
        bot.hear("ticker", "snapshot", lambda m: m.ticker_data.last == 50000)
        assert bot.rest.get_last_price() == 50000
        assert fake.count("GetWebSocketsToken") == 0
    finally:
        bot.close()


def test_a_second_subscription_on_the_same_socket_is_made_too(fake: FakeKraken, bot: Bot):
    bot.feed.subscribe({"channel": "ticker", "symbol": ["ETH/USD"]})
    bot.hear("ticker", "snapshot", lambda m: m.ticker_data.symbol == "ETH/USD")


def test_closing_takes_less_than_a_second_and_ends_the_threads(bot: Bot):
    began = time.monotonic()
    bot.close()
    assert time.monotonic() - began < 1
    assert not [t.name for t in threading.enumerate() if t.name.startswith("kraken-") and t.is_alive()]


def test_closing_while_nothing_can_be_reached(server: FakeKrakenServer):
    bot = Bot(server)
    server.stop()
    bot.feed.start(bot.queue.put)
    bot.feed.subscribe({"channel": "ticker", "symbol": ["BTC/USD"]})
    bot.feed.subscribe({"channel": "executions"})
    began = time.monotonic()
    bot.close()
    assert time.monotonic() - began < 1


def test_a_server_that_refuses_everybody_is_not_tried_more_often_than_allowed(
    server: FakeKrakenServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kraken_socket, "MOST_ATTEMPTS", 3)
    server.stop()
    clock = SystemClock(threading.Event())
    limiter = ConnectLimiter(clock.monotonic)
    socket = KrakenSocket("public", server.ws_url, list, print, clock=clock, limiter=limiter)
    socket.start()
    until = time.monotonic() + PATIENCE
    while socket._number < 3 and time.monotonic() < until:
        socket.join(0.01)
    socket.join(0.3)
    assert socket._number == 3
    socket.close()
    socket.join(1)
    assert not socket.is_alive()


@pytest.mark.parametrize("reset", [False, True])
def test_an_order_whose_answer_is_lost_travels_once(fake: FakeKraken, bot: Bot, reset: bool):
    bot.rest.get_open_orders(7)  # a warm connection: the library must not send again on a fresh one
    fake.faults.add("AddOrder", "drop_reply", reset=reset)
    with pytest.raises(OrderFateUnknown):
        bot.buy()
    assert fake.count("AddOrder") == 1
    assert len(bot.rest.get_open_orders(7)) == 1


def test_tokens_and_orders_share_one_key_without_a_refused_nonce(fake: FakeKraken, bot: Bot):
    for _ in range(5):
        fake.drop_sockets(private=True)
        bot.buy()
        bot.hear("executions", "snapshot")
    assert bot.rest.client._refused_nonces == 0
    assert len(bot.rest.get_open_orders(7)) == 5


def test_nothing_is_sent_where_nobody_listens(server: FakeKrakenServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kraken_rest, "ORDER_PATIENCE", 0.0)
    bot = Bot(server)
    bot.rest.get_asset_pair_info()
    server.stop()
    with pytest.raises(PlacementPaused, match="was not sent: Kraken cannot be reached"):
        bot.buy()
    bot.close()
