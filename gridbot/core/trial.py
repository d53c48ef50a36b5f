"""
A bot on trial: the real engine, strategy and database on a made-up market, with everything going wrong
that can go wrong, on a clock that runs as fast as the machine. No network, no waiting.

Requests and answers are lost before and after an order was taken, orders come late, questions fail, messages about
fills are lost or repeated, orders are executed in part, and the process dies at any point. A death is an exception
that the bot does not catch; after it only the database file and the exchange are left.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from gridbot.adapters.exchanges.demo import demo_pair
from gridbot.adapters.exchanges.demo_market import DemoMarket
from gridbot.adapters.exchanges.simulated import ASSUMED_FEE, SimulatedRESTService
from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.adapters.exchanges.simulated_feed import SimulatedFeed
from gridbot.core.backtest import MarketClock
from gridbot.core.engine import BotEngine
from gridbot.exceptions import OrderFateUnknown, PlacementPaused, TemporaryFailure
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.exchange import Exchange
from gridbot.models.configuration import Settings
from gridbot.models.exchange import BUY, SELL, CreateOrderResponseSchema, OnMessageSchema
from gridbot.models.money import ONE, ZERO

TICK = 30.0  # seconds of market time
LATE = 4.0  # seconds by which an order may be late; less than its deadline allows
ABSENCE = (0, 0, 1, 20, 240)  # ticks between a death and the next start

# Chances: of what may happen to an order, and that a question, commit, message or price fails.
ORDER_FATES = {"reply lost": 0.03, "request lost": 0.03, "late": 0.02, "not sent": 0.04}
QUESTION_FAILS = 0.03
QUESTIONS = ("get_open_orders", "get_closed_orders", "get_orders_info", "get_pair_balance")
NEWS_LOST, NEWS_TWICE = 0.02, 0.05
PART_FILLED = 0.002
DEATH = {"order": 0.01, "commit": 0.003, "price": 0.0003}
STOPS = 0.0002  # asked to stop, as by SIGTERM

# What must hold at every moment.
ENDS, BUYS, INVESTED, LEVELS = "ends", "buys", "invested", "levels"


class Killed(BaseException):
    """The process dies here. Not an Exception: nothing may catch it."""


class TrialClock(MarketClock):
    """The market's time; the bot is asked to stop when it reaches ``end``."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        self.end = 0.0
        self.asked_to_stop = False

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.stopping()

    def stopping(self) -> bool:
        """True at the end of the trial, and when a stop was asked for."""
        return self.asked_to_stop or self.now >= self.end


class Fate:
    """Decides what goes wrong, and counts it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.is_kind = False  # True: nothing goes wrong
        self.counts: Counter[str] = Counter()

    def strikes(self, what: str, chance: float) -> bool:
        """True with this chance; every True is counted under ``what``."""
        if self.is_kind or self.random.random() >= chance:
            return False
        self.counts[what] += 1
        return True

    def death(self, where: str, chance: float) -> None:
        if self.strikes(f"killed {where}", chance):
            raise Killed(where)


class MortalDB(DBConnect):
    """The bot's database; the process may die before and after every commit."""

    def __init__(self, path: Path, fate: Fate) -> None:
        self._fate = fate
        super().__init__(path)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        if self.db.conn.in_transaction:
            yield
            return
        with DBConnect.atomic(self):
            yield
            self._fate.death("before a commit", DEATH["commit"])
        self._fate.death("after a commit", DEATH["commit"])


class FaultyRest(SimulatedRESTService):
    """The exchange over a bad connection. ``watch(side)`` is called whenever the exchange has taken an order."""

    def __init__(
        self, exchange: SimulatedExchange, clock: TrialClock, fate: Fate, watch: Callable[[str], None]
    ) -> None:
        super().__init__(exchange, name="Trial", now=clock.time)
        self._fate = fate
        self._watch = watch
        self.late: list[dict[str, Any]] = []
        self.wake: Callable[[], None] = lambda: None
        for question in QUESTIONS:
            setattr(self, question, partial(self._over_a_bad_line, getattr(self, question)))

    def _over_a_bad_line(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._may_fail()
        return question(*args, **kwargs)

    def create_order(self, **order: Any) -> CreateOrderResponseSchema:
        """See the interface; the order may be lost or late, or its reply lost."""
        self._fate.death("before an order", DEATH["order"])
        what = next((what for what, chance in ORDER_FATES.items() if self._fate.strikes(what, chance)), "")
        if what == "not sent":
            raise PlacementPaused("on trial: the order was not sent", 5.0)
        if what == "late":
            self.late.append(order)
            self.wake()
        if what in ("late", "request lost"):
            raise OrderFateUnknown("on trial: no answer")
        reply = super().create_order(**order)
        self._watch(order["side"])
        self._fate.death("after an order was taken", DEATH["order"])
        if what == "reply lost":
            raise OrderFateUnknown("on trial: the answer was lost")
        return reply

    def bring_late_orders(self) -> None:
        """Deliver the late orders to the exchange, which may refuse them."""
        late, self.late = self.late, []
        for order in late:
            try:
                super().create_order(**order)
            except Exception as exc:  # noqa: BLE001 - the bot no longer waits for this answer, and never gets it
                self._fate.counts[f"late order refused ({type(exc).__name__})"] += 1
            else:
                self._watch(order["side"])

    def cancel_order(self, txid: str) -> None:
        """See the interface; the answer may be lost."""
        self._may_fail()
        super().cancel_order(txid)
        self._fate.death("after a cancellation", DEATH["order"])
        self._may_fail()

    def _may_fail(self) -> None:
        if self._fate.strikes("question not answered", QUESTION_FAILS):
            raise TemporaryFailure("on trial: no answer")


class TrialFeed(SimulatedFeed):
    """Every frame brings the next one, so that the engine's loop never waits. One price a tick."""

    def __init__(self, rest: FaultyRest, step: Callable[[], Decimal | None], clock: TrialClock, fate: Fate) -> None:
        super().__init__(rest)
        self._line = rest
        self._step = step
        self._clock = clock
        self._fate = fate
        self._lost = False
        self._put: Callable[[object], None] = lambda _frame: None

    def start(self, put: Callable[[object], None]) -> None:
        self._put = put
        self._line.wake = lambda: put("late")
        super().start(put)
        put("tick")

    def _market_said(self, frame: object) -> list[OnMessageSchema]:
        if frame == "late":
            self._clock.now += LATE
            self._line.bring_late_orders()
            return []
        if frame == "pause":  # executions caused by the bot's calls come before the next price
            self._put("tick")
            was_lost, self._lost = self._lost, False
            return [OnMessageSchema(channel="executions", type="snapshot", executions=[])] if was_lost else []
        self._put("pause")
        self._fate.death("between two prices", DEATH["price"])
        if self._fate.strikes("asked to stop", STOPS):
            self._clock.asked_to_stop = True
        self._clock.now += TICK
        price = self._step()
        return [] if price is None else self._traded(price, self._clock.now)

    def on_message(self, message: object) -> list[OnMessageSchema]:
        """See the interface; messages about executions may be lost, which the feed reports, or repeated."""
        messages = super().on_message(message)
        if not any(m.executions for m in messages):
            return messages
        if self._fate.strikes("news lost", NEWS_LOST):
            self._lost = True
            lost = OnMessageSchema(channel="executions", type="lost")
            return [lost, *(m for m in messages if m.channel != "executions")]
        return messages * 2 if self._fate.strikes("news told twice", NEWS_TWICE) else messages

    def close(self) -> None:
        """There is no thread."""


class Trial:
    """
    One bot and its exchange; ``run_days`` runs it, with deaths and restarts. ``fate`` counts what went wrong, ``seen``
    what was done; ``broken`` holds, by ENDS to LEVELS, what broke a promise that must hold at every moment.
    """

    def __init__(self, settings: Settings, directory: Path, seed: int) -> None:
        self.settings = settings
        self.path = directory / "trial.db"
        self.fate = Fate(seed)
        self.clock = TrialClock()
        self.broken: defaultdict[str, list[str]] = defaultdict(list)
        self.seen: Counter[str] = Counter()
        self.most_buys, self.most_invested = 0, ZERO
        bot, demo = settings.bot, settings.demo
        self.userref = bot.userref
        pair = demo_pair(bot.base_currency, bot.quote_currency, demo.start_price)
        smallest = bot.amount_per_grid / demo.start_price / 100
        self.exchange = SimulatedExchange(
            pair.model_copy(update={"ordermin": smallest, "costmin": bot.amount_per_grid / 100}),
            base_balance=bot.amount_per_grid / demo.start_price * 100,
            quote_balance=bot.max_investment + bot.amount_per_grid * 1000,
            fee=ASSUMED_FEE if bot.fee is None else bot.fee,
            symbol=f"{bot.base_currency}/{bot.quote_currency}",
            keep_finished=10**6,
        )
        tick = pair.tick_size
        self.market = DemoMarket(start_price=demo.start_price, tick_size=tick, volatility=demo.volatility, seed=seed)
        self.exchange.on_price(self.market.price, self.clock.now)
        low = self.exchange.pair.truncate_price(demo.start_price / 10)
        self.foreign = self.exchange.create_order(
            side=BUY,
            price=low,
            volume=self.exchange.pair.truncate_volume(bot.amount_per_grid / low),
            userref=self.userref + 1,
            post_only=True,
            time=self.clock.now,
        )
        self.rest = FaultyRest(self.exchange, self.clock, self.fate, self._watch)
        self.engine: BotEngine | None = None

    def run_days(self, days: float) -> None:
        """Run for ``days`` of market time, then ask the bot to stop. Raises what the bot raises."""
        self.clock.end = self.clock.now + days * 86400
        while self.clock.now < self.clock.end:
            self._one_life()
            self.clock.asked_to_stop = False

    def settle(self) -> None:
        """Run for an hour at a constant price without accidents, so that everything on its way arrives."""
        self.fate.is_kind = True
        self.rest.bring_late_orders()
        self.run_days(1 / 24)

    def _one_life(self) -> None:
        self.seen["starts"] += 1
        db = MortalDB(self.path, self.fate)
        feed = TrialFeed(self.rest, self._next_price, self.clock, self.fate)
        try:
            self.engine = BotEngine(self.settings, self.clock, Exchange(self.rest, feed, simulated=True), db)
            code = self.engine.run()
            if code:
                self.broken[ENDS].append(f"the bot ended by itself with exit code {code}")
                self.clock.now = self.clock.end
        except Killed:
            db.db.conn.close()  # what was not committed is gone, as after a power cut
            for _ in range(self.fate.random.choice(ABSENCE)):
                self.clock.now += TICK
                if (price := self._next_price()) is not None:
                    self.exchange.on_price(price, self.clock.now)
        self.exchange.take_events()
        self.rest.wake = lambda: None
        self.rest.bring_late_orders()

    def _next_price(self) -> Decimal | None:
        if self.fate.is_kind:
            return self.exchange.last_price
        if self.fate.strikes("executed in part", PART_FILLED) and (ours := self._ours()):
            order = self.fate.random.choice(ours)
            if part := self.exchange.pair.truncate_volume((order.volume - order.executed) / 3):
                self.exchange.fill(order.txid, part)
        return self.market.advance()

    def _ours(self) -> list[Any]:
        return [o for o in self.exchange.open_orders.values() if o.userref == self.userref]

    def _watch(self, side: str) -> None:
        """Check what must hold at the moment in which the exchange takes an order."""
        self.seen[f"{side}s taken"] += 1
        if side == SELL:
            return
        bot, ours = self.settings.bot, self._ours()
        prices = sorted(order.price for order in ours if order.side == BUY)
        invested = sum((order.price * order.volume for order in ours), ZERO)
        self.most_buys = max(self.most_buys, len(prices))
        self.most_invested = max(self.most_invested, invested)
        if len(prices) > bot.n_open_buy_orders:
            self.broken[BUYS].append(f"{len(prices)} buys were open at once")
        if invested > bot.max_investment:
            self.broken[INVESTED].append(f"{invested:f} were invested at once")
        for low, high in pairwise(prices):
            if high / low - ONE < bot.interval / 2:
                self.broken[LEVELS].append(f"one level twice: buys at {low:f} and {high:f}")
