"""
The demo: the whole bot without key and network, on a made-up market with play money.

Orders, fills and play money live in a file beside the bot's database and survive a restart or a power cut: the market
goes on from the price of the last order or fill that was stored.

[demo] speed, in ticks per second, speeds up the price only. The exchange's clock is this machine's: orders and reports
carry the real time, so that the owner recognises what has just happened on the screen.
"""

import logging
import secrets
import threading
from collections.abc import Callable
from decimal import Decimal

from gridbot.adapters.exchanges.demo_market import DemoMarket
from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_feed import SimulatedFeed, executions
from gridbot.adapters.exchanges.simulated_store import SimulatedStore, open_exchange, store_path
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange, ExchangeSetup, IExchangeFactory
from gridbot.models.configuration import DemoConfigDTO
from gridbot.models.exchange import COINS, AssetPairInfoSchema, OnMessageSchema
from gridbot.models.money import step_of

LOG = logging.getLogger(__name__)

PRICE_DIGITS = 6  # digits of the start price, its decimals included: 50000.0 moves in steps of 0.1
SHORTEST_PAUSE = 0.1  # seconds between two looks at the clock; a faster market makes several ticks at once
LONGEST_PAUSE = 1.0
TICK = "a price is due"  # what the thread puts on the queue
MOST_TICKS = 1000  # on the queue: a machine that slept, or is too slow, skips the rest


class DemoExchange(IExchangeFactory):
    """``exchange = Demo``."""

    def create(self, setup: ExchangeSetup) -> Exchange:
        """Open the demo's file and continue its market where it stood. Raises DatabaseError."""
        settings, clock = setup.settings, setup.clock
        bot = settings.bot
        symbol = f"{bot.base_currency}/{bot.quote_currency}"
        pair = demo_pair(bot.base_currency, bot.quote_currency, settings.demo.start_price)
        store = SimulatedStore(store_path(settings.db.path), f"Demo {symbol}")
        exchange = open_exchange(store, pair, settings, symbol)
        market = _market(settings.demo, pair, store)
        store.market = lambda: market.position
        # A market that continues has a price before its next tick.
        # The exchange's clock is steady: it does not jump when a Raspberry Pi sets its clock after the start.
        now = max(clock.time(), exchange.time)
        exchange.on_price(market.price, now)
        ahead = now - clock.monotonic()
        rest = SimulatedRESTService(exchange, name="Demo", now=lambda: clock.monotonic() + ahead)
        return Exchange(rest, DemoFeed(rest, market, clock, float(settings.demo.speed)), simulated=True)


def demo_pair(base: str, quote: str, start_price: Decimal) -> AssetPairInfoSchema:
    """A pair like Kraken's BTC/USD (or ETH/BTC) under other names; the price's decimals follow from its size."""
    decimals = max(1, PRICE_DIGITS - 1 - start_price.adjusted())
    is_coin = quote in COINS
    return AssetPairInfoSchema(
        base=base,
        quote=quote,
        lot_decimals=8,
        cost_decimals=10 if is_coin else 5,
        pair_decimals=decimals,
        tick_size=step_of(decimals),
        ordermin=Decimal("0.00005"),
        costmin=Decimal("0.00002" if is_coin else "0.5"),
    )


def _market(demo: DemoConfigDTO, pair: AssetPairInfoSchema, store: SimulatedStore) -> DemoMarket:
    position = store.market_position()
    seed = demo.seed
    if seed is None:
        seed = position.seed if position else secrets.randbelow(2**31)
    if position is None:
        LOG.info("demo: a new market of seed %d begins", seed)
    else:
        LOG.info(
            "demo: the market of the last run goes on; to begin a new one, remove %s and the database beside it",
            store.path,
        )
    return DemoMarket(
        start_price=demo.start_price, tick_size=pair.tick_size, volatility=demo.volatility, seed=seed, position=position
    )


class DemoFeed(SimulatedFeed):
    """A thread that only counts ticks; the main thread makes the prices, one after the other."""

    def __init__(self, rest: SimulatedRESTService, market: DemoMarket, clock: IClock, speed: float) -> None:
        """``speed``: ticks per second of real time."""
        super().__init__(rest)
        self._market = market
        self._clock = clock
        self._speed = speed
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._put: Callable[[object], None]
        self._put_so_far = 0  # ticks put on the queue so far; only the thread writes it
        self._made = 0  # ticks made so far; only the main thread writes it

    def start(self, put: Callable[[object], None]) -> None:
        """Begin to tick."""
        super().start(put)
        self._put = put
        self._thread = threading.Thread(target=self._tick, args=(put,), name="demo-market", daemon=True)
        self._thread.start()

    def _tick(self, put: Callable[[object], None]) -> None:
        pause = min(max(1 / self._speed, SHORTEST_PAUSE), LONGEST_PAUSE)
        began, counted = self._clock.monotonic(), 0
        while not self._ended.wait(pause):
            due = int((self._clock.monotonic() - began) * self._speed) - counted
            if due > 0:
                counted += due
                for _ in range(min(due, MOST_TICKS - (self._put_so_far - self._made))):
                    self._put_so_far += 1
                    put(TICK)  # one by one: each is answered before the next is traded

    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        if frame != TICK:
            LOG.warning("demo: an unknown frame was ignored: %r", frame)
            return []
        if events := self._rest.exchange.take_events():
            self._put(frame)  # the bot gets the events of its own calls before the next price is made
            return executions(events)
        self._made += 1
        price = self._market.advance()
        return [] if price is None else self._traded(price, self._rest.now())

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=1)
