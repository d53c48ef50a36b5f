"""
A backtest: the same strategies, order desk, books and simulated exchange as live, fed with prices from a file.

How orders fill is decided in simulated_core, and is pessimistic: the price must go through the limit price, not
just reach it. Of a candle four prices are known; the order in which they happened is assumed (``candles.PATHS``).
No order gives the lowest gain for every file and every setting. Of 264 runs over real prices "close" gave the
lowest in 207, "low-first" in 44, "high-first" in 13. "high-first" is the default because, on longer
candles made of minutes, it came nearest to what the minutes themselves gave. Between two of these
prices the market jumps; an order placed because of one price can fill at the next one at the earliest.

The bot's clock shows the time of the newest price. ``on_timer`` is called once, at the end of each candle, so a
pause or any other wait ends with a candle, never inside one.

Speed: the strategy names the prices between which it has nothing to do, the exchange the price of the next order
that would fill. A candle strictly inside both changes nothing and is skipped. Floats decide that, with one tick of
safety on each side. Every other candle is calculated exactly; ``use_band=False`` skips none and gives the same
result to the last digit.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from gridbot.adapters.exchanges.simulated import SimulatedRESTService
from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.adapters.exchanges.simulated_feed import SimulatedFeed
from gridbot.core.backtest_result import FLOAT_CARE, INFINITY, NEVER, REGULAR_SECONDS, Result, Tally
from gridbot.core.candles import Block, MarketData, Period, Tick
from gridbot.exceptions import ConfigurationError
from gridbot.infrastructure.database import MEMORY, DBConnect
from gridbot.interfaces.clock import IClock
from gridbot.models.configuration import BotConfigDTO
from gridbot.models.events import Event
from gridbot.models.exchange import COINS, AssetPairInfoSchema, OnMessageSchema
from gridbot.models.grid import SURPLUS
from gridbot.models.money import ZERO, step_of
from gridbot.services.book_sync import BookSync
from gridbot.services.order_desk import OrderDesk
from gridbot.strategies.grid_base import GridStrategyBase
from gridbot.strategies.grid_orders import Surroundings
from gridbot.strategies.grid_retry import FUNDS

CURVE_SECONDS = 3600  # between two points of the chart; the fee is looked at as often where it follows the volume
TIER_SECONDS = 30 * 86400.0

# Kraken's minimums for BTC/USD. A file of prices does not hold them; for another pair use --ordermin and --costmin.
USUAL_ORDERMIN = Decimal("0.00005")
USUAL_COSTMIN = Decimal("0.5")


class MarketClock(IClock):
    """The time of the newest price, in unix seconds, for both clocks. Waits end at once; no stop is ever asked for."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    monotonic = time  # it never steps

    def wait(self, seconds: float) -> bool:
        return False

    def stopping(self) -> bool:
        return False


class FileFeed(SimulatedFeed):
    """A frame is (time, price). As on paper, the bot hears of the fills a price causes before the price itself."""

    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        time, price = cast(Tick, frame)
        return self._traded(price, time)

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True)
class Play:
    """What is played: the bot's settings, the pair's rules, the fee per side, and the money put in."""

    bot: BotConfigDTO
    strategy: type[GridStrategyBase]
    pair: AssetPairInfoSchema
    fee: Decimal
    base_balance: Decimal
    quote_balance: Decimal
    fee_tiers: tuple[tuple[Decimal, Decimal], ...] = ()  # (traded in 30 days, quote; fee), from the lowest volume


class FeeLadder:
    """The fee per side by the volume that the bot itself has traded within 30 days."""

    def __init__(self, tiers: tuple[tuple[Decimal, Decimal], ...]) -> None:
        self._tiers = tiers
        self._fills: deque[tuple[float, Decimal]] = deque()
        self._volume = ZERO

    def after(self, time: float, cost: Decimal) -> Decimal:
        """The fee per side after a fill of ``cost`` (quote, 0 for none) at ``time``."""
        if len(self._tiers) == 1:
            return self._tiers[0][1]
        self._fills.append((time, cost))
        self._volume += cost
        while self._fills[0][0] < time - TIER_SECONDS:
            self._volume -= self._fills.popleft()[1]
        return [fee for least, fee in self._tiers if self._volume >= least][-1]


def pair_from_file(
    bot: BotConfigDTO, decimals: int, ordermin: Decimal = USUAL_ORDERMIN, costmin: Decimal = USUAL_COSTMIN
) -> AssetPairInfoSchema:
    """The rules of the pair: prices have ``decimals``, as in the file; ``ordermin`` in base, ``costmin`` in quote."""
    return AssetPairInfoSchema(
        base=bot.base_currency,
        quote=bot.quote_currency,
        lot_decimals=8,
        cost_decimals=10 if bot.quote_currency in COINS else 5,
        pair_decimals=decimals,
        tick_size=step_of(decimals),
        ordermin=ordermin,
        costmin=costmin,
    )


class Backtest:
    """One bot, run over one period of the past."""

    def __init__(
        self,
        play: Play,
        step: float,
        *,
        use_band: bool = True,
        keep_curve: bool = False,
        publish: Callable[[Event], None] | None = None,
    ) -> None:
        """
        step        seconds from one candle to the next
        use_band    False: no candle is skipped (slow; proves that skipping changes nothing)
        keep_curve  keep samples and fills for a chart; memory then grows with the period
        publish     is called with each of the bot's events, too
        """
        self.clock = MarketClock()
        self.exchange = SimulatedExchange(
            play.pair,
            base_balance=play.base_balance,
            quote_balance=play.quote_balance,
            fee=play.fee,
            symbol=f"{play.bot.base_currency}/{play.bot.quote_currency}",
            tag="PAST0",
        )
        self.rest = SimulatedRESTService(self.exchange, name="Backtest", now=self.clock.time)
        self._feed = FileFeed(self.rest)
        ladder = FeeLadder(play.fee_tiers or ((ZERO, play.fee),))
        self.tally = Tally(self.exchange, self.clock.time, ladder.after, keep_curve)
        userref = play.bot.userref
        db = DBConnect(MEMORY)
        db.execute("BEGIN")  # one transaction for the whole run: this database need not survive a crash

        def publish_to_all(event: Event) -> None:
            self.tally.hear(event)
            if publish is not None:
                publish(event)

        self.desk = OrderDesk(db, self.rest, self.clock, userref, publish_to_all)
        self.strategy = play.strategy(
            Surroundings(
                config=play.bot.model_copy(update={"fee": play.fee}),
                rest_api=self.rest,
                websocket=self._feed,
                desk=self.desk,
                sync=BookSync(self.desk, self.rest, userref).run,
                clock=self.clock,
                publish=publish_to_all,
                report=lambda: "",
            )
        )
        # No message is lost between this exchange and its bot, so the book need not be compared at regular times.
        self.strategy.regular_spacing = INFINITY
        self._frames: deque[object] = deque()
        self._use_band = use_band
        self._step = step
        self._tick = float(play.pair.tick_size)
        self._low, self._high = NEVER  # candles between these prices are skipped
        is_often = keep_curve or len(play.fee_tiers) > 1
        self._spacing = CURVE_SECONDS if is_often else REGULAR_SECONDS  # of the samples of the account
        self._due = 0.0  # market time of the next one
        self.strategy.run(self._frames.append)

    def run(
        self, data: MarketData, period: Period | None = None, told: Callable[[float], None] | None = None
    ) -> Result:
        """
        Run the bot over ``period`` of ``data``. ``told`` is called with the progress, from 0 to 1, after every block.

        Raises ConfigurationError for settings that cannot work, for a file that is broken, or if no candle lies in
        the period.
        """
        period = period or Period()
        for block in data.blocks():
            bars = period.part_of(block)
            if bars:
                self._live_through(block, bars)
            if told is not None:
                told(data.progress)
            if block.times[-1] >= period.end:
                break
        if not self.tally.bars:
            raise data.nothing_in(period)
        self.exchange.check_money()
        return self.tally.result(self.desk)

    def _live_through(self, block: Block, bars: range) -> None:
        """Run the bars of one block; sample the account as often as is due, or after the bar that ends a longer gap."""
        index, tally = bars.start, self.tally
        if not tally.bars:
            time, price = block.ticks(index)[0]
            tally.begin(time, price)
            self._due = time + self._spacing
        while index < bars.stop:
            # The first bar after which a sample is due, or the last bar of the block.
            last = bisect_left(block.times, self._due - self._step, index, bars.stop - 1)
            self._bars(block, index, last + 1)
            if (ended := block.times[last] + self._step) >= self._due:
                tally.sample(ended, block.close(last), self.desk)
                self._due += (ended - self._due) // self._spacing * self._spacing + self._spacing
            index = last + 1
        tally.passed(len(bars), block.times[bars.stop - 1] + self._step, block.close(bars.stop - 1))

    def _bars(self, block: Block, index: int, stop: int) -> None:
        """
        Act on the bars outside the quiet prices, skip the others. ``min`` and ``max`` of a slice run in C; the Python
        loop only finds the first bar that needs action.
        """
        lows, highs = block.lows, block.highs
        while index < stop:
            low, high = self._low, self._high
            lowest, highest = min(lows[index:stop]), max(highs[index:stop])
            if lowest >= low and highest <= high:
                if lowest < self.tally.calm[0] or highest > self.tally.calm[1]:
                    self._see(block, index, stop)
                return
            begin = index
            while lows[index] >= low and highs[index] <= high:
                index += 1
            self._see(block, begin, index)
            self.act(block, index)
            index += 1

    def _see(self, block: Block, index: int, stop: int) -> None:
        """Note the account's value in skipped bars, where it may be a new peak or a new deepest fall."""
        lows, highs = block.lows, block.highs
        low, high = self.tally.calm
        for bar in range(index, stop):
            if lows[bar] < low or highs[bar] > high:
                for _, price in block.ticks(bar):
                    self.tally.see(price)
                low, high = self.tally.calm

    def act(self, block: Block, index: int) -> None:
        """Run one bar, price by price."""
        began = block.times[index]
        if began < self.clock.now - self._step:
            raise ConfigurationError(f"--data: the time {began:.0f} comes after a later one")
        for frame in block.ticks(index):
            if not self._low <= frame[1] <= self._high:  # else neither strategy nor exchange has anything to do
                self.clock.now = frame[0]
                self._hear(frame)
                self._low, self._high = self._quiet_prices()
            self.tally.see(frame[1])
        # Just before the next candle, so that timers are always one candle apart.
        self.clock.now = max(self.clock.now, began + self._step - 0.001)
        if not self._use_band or self._timers_matter():
            self.strategy.on_timer()
            self._work_off()
            self._low, self._high = self._quiet_prices()

    def say(self, time: float, price: Decimal) -> None:
        """Feed one price that is in no file (``plan`` does); the timers run half a minute later."""
        self.clock.now = time
        self._hear((time, price))
        self.clock.now = time + 30.0
        self.strategy.on_timer()
        self._work_off()

    def _hear(self, frame: object) -> None:
        for message in self._feed.on_message(frame):
            self.strategy.on_message(message)
        self._work_off()

    def _work_off(self) -> None:
        """Hand the strategy the messages that its own calls have caused, until there are none left."""
        while self._frames:
            for message in self._feed.on_message(self._frames.popleft()):
                self.strategy.on_message(message)

    def _quiet_prices(self) -> tuple[float, float]:
        """The prices between which nothing can happen, narrowed by one tick on each side."""
        if not self._use_band or self._timers_matter():
            return NEVER
        low, high = self.strategy.band
        low, high = max(low, self.exchange.next_fill_below), min(high, self.exchange.next_fill_above)
        return float(low) * (1 + FLOAT_CARE) + self._tick, float(high) * (1 - FLOAT_CARE) - self._tick

    def _timers_matter(self) -> bool:
        """
        True while the passing of time alone can change something. A shortage of funds does not count: only the bot
        uses this account, so asking again changes nothing once the balances came from the exchange.
        """
        desk = self.desk
        return (
            self.strategy.is_busy
            or self.strategy.next_look < INFINITY
            or len(desk.unsold) > 0
            or desk.pauses.known(SURPLUS)
            or (desk.pauses.known(FUNDS) and not desk.funds.is_told)
        )
