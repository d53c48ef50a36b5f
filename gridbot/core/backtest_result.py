"""
The result of a backtest: the lines of ``report``, compared with holding and with buying at fixed times.

Wealth is quote plus base at the market's price. Its falls are measured at every price of the assumed path, its
averages once an hour. Nothing here influences a trade.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from gridbot.adapters.exchanges.simulated_core import SimulatedExchange
from gridbot.exceptions import BotStateError
from gridbot.infrastructure.audits import AuditMark
from gridbot.models.events import (
    Event,
    FundsShort,
    GridShifted,
    OrderCancelled,
    OrderExecuted,
    OrderPlaced,
    OrderRefused,
)
from gridbot.models.exchange import BUY, SELL
from gridbot.models.money import ONE, ZERO, as_text, percent, shown, signed_percent
from gridbot.services.bookkeeping import flow
from gridbot.services.ledger import by_cycle, cycles, reconciled, spoken_for, totals
from gridbot.services.messages import Units, counted
from gridbot.services.order_desk import OrderDesk
from gridbot.services.report import LOT, Summary, profit_lines, summary_document, summary_of

REGULAR_SECONDS = 86400.0  # "buying at fixed times": once a day
FLOAT_CARE = 1e-12  # relative; far above the rounding of a float, far below a tick
INFINITY = float("inf")
NEVER = (INFINITY, -INFINITY)  # no price lies between these


@dataclass(frozen=True)
class Fill:
    """One filled order. ``cost`` before the fee; ``profit`` in quote for a sell that closed a cycle."""

    time: float
    side: str
    price: Decimal
    volume: Decimal
    cost: Decimal
    fee: Decimal
    profit: Decimal | None


@dataclass(frozen=True)
class Sample:
    """The account at one time, and what simply holding would be worth."""

    time: float
    price: Decimal
    wealth: Decimal
    holding: Decimal
    buys: tuple[Decimal, ...]  # prices of the open orders: the ladder
    sells: tuple[Decimal, ...]


@dataclass(frozen=True)
class Result:
    """Amounts in quote unless the name says base; shares and drawdowns as fractions; times unix seconds."""

    begin: float
    end: float
    candles: int
    first_price: Decimal
    last_price: Decimal
    start_base: Decimal
    start_quote: Decimal
    base: Decimal
    quote: Decimal
    start_wealth: Decimal
    wealth: Decimal
    buys: int
    sells: int
    cycles: int  # buys whose sell is filled, as `report --by cycle` counts them
    summary: Summary  # as `report` shows it for the same trades: profit lines, base kept
    fees: Decimal
    shifts: int  # times the grid followed the price upward
    shortages: int  # times the free money was not enough for an order
    refusals: int
    open_buys: int
    open_sells: int
    unsold: int
    drawdown: Decimal
    time_in_market: Decimal  # share of the time in which the account held base, given at the start or bought
    tied_up: Decimal  # mean of price x volume over all open orders
    most_tied_up: Decimal
    holding: Decimal  # all quote into base at the first price, one fee
    holding_drawdown: Decimal
    regular: Decimal  # all quote into base in equal parts, one a day, fees paid
    regular_buys: int

    @property
    def gain(self) -> Decimal:
        """Wealth gained, as a fraction of the wealth at the start."""
        return self.wealth / self.start_wealth - ONE

    @property
    def holding_gain(self) -> Decimal:
        return self.holding / self.start_wealth - ONE

    @property
    def regular_gain(self) -> Decimal:
        return self.regular / self.start_wealth - ONE

    @property
    def rival(self) -> tuple[str, Decimal]:
        """The better of the two simple alternatives, and its gain: the grid is judged against it."""
        others = (("holding", self.holding_gain), ("buying at fixed times", self.regular_gain))
        return max(others, key=lambda other: other[1])

    @property
    def span(self) -> str:
        """ "2018-03-01 00:00 to 2018-03-31 00:00", in UTC."""
        return f"{_day(self.begin)} to {_day(self.end)}"

    def document(self) -> dict[str, object]:
        """For JSON: amounts as text with all their digits, profit and holdings as ``report --json`` has them."""
        plain = {name: as_text(x) if isinstance(x, Decimal) else x for name, x in vars(self).items()}
        del plain["summary"]
        return {**plain, "gain": as_text(self.gain), **summary_document(self.summary)}


class Deepest:
    """The largest fall from a peak, as a fraction of the peak."""

    def __init__(self) -> None:
        self._peak = ZERO
        self.fall = ZERO

    def see(self, value: Decimal) -> None:
        """Note the next value in time."""
        if value > self._peak:
            self._peak = value
        elif self._peak - value > self.fall * self._peak:
            self.fall = (self._peak - value) / self._peak

    def calm(self, base: Decimal, quote: Decimal) -> tuple[float, float]:
        """The prices between which an account of ``base`` and ``quote`` sets no new peak or fall, narrowed a little."""
        if not base:
            return -INFINITY, INFINITY
        trough = self._peak * (ONE - self.fall)
        return float((trough - quote) / base) * (1 + FLOAT_CARE), float((self._peak - quote) / base) * (1 - FLOAT_CARE)


@dataclass
class Tally:
    """Counts the events of the bot and samples the account."""

    exchange: SimulatedExchange
    now: Callable[[], float]
    fee_after: Callable[[float, Decimal], Decimal]  # (time, cost of a fill) -> fee per side from now on
    keep_curve: bool = False
    fills: list[Fill] = field(default_factory=list)  # only with keep_curve, as the samples
    samples: list[Sample] = field(default_factory=list)
    bars: int = 0

    def __post_init__(self) -> None:
        self._begin = self._end = self._counted_to = self._sampled_at = 0.0
        self._first = self._last = ZERO
        self._hold_base = self._start_wealth = ZERO
        self._counts: Counter[object] = Counter()  # of events by class, of filled orders by side
        self._deepest, self._hold_deepest = Deepest(), Deepest()
        self.calm = NEVER  # between these prices the account is neither at a new peak nor in its deepest fall
        self._holds_base = False
        self._in_market = ZERO  # seconds
        self._tied_up = self._sum_tied_up = self._most_tied_up = ZERO  # the sum: quote x seconds
        self._first_fee = ZERO
        self._next_regular = 0.0
        self._regular: list[tuple[float, Decimal]] = []  # time, base for one quote

    def begin(self, time: float, price: Decimal) -> None:
        """Start with the first price of the period."""
        money = self.exchange.money
        self._begin, self._first, self._last = time, price, price
        self._counted_to = self._sampled_at = time
        self._holds_base = money.base > ZERO
        self._first_fee = self.exchange.fee  # holding and buying at fixed times get no discount for the bot's volume
        self._start_wealth = money.start_quote + money.start_base * price
        self._hold_base = money.start_base + money.start_quote / (price * (ONE + self._first_fee))
        self._deepest.see(self._start_wealth)
        self._hold_deepest.see(self._start_wealth)
        self._next_regular = time
        self._buy_regularly(time, price)
        if self.keep_curve:  # so that even a short period has a line in the chart
            self.samples.append(Sample(time, price, self._start_wealth, self._hold_base * price, (), ()))

    def hear(self, event: Event) -> None:
        self._count_to(self.now())
        self._counts[type(event)] += 1
        if isinstance(event, OrderPlaced):
            self._tied_up += event.price * event.volume
            self._most_tied_up = max(self._most_tied_up, self._tied_up)
        elif isinstance(event, OrderExecuted | OrderCancelled):
            self._tied_up -= event.price * event.volume
        if not isinstance(event, OrderExecuted):
            return
        self._counts[event.side] += 1
        self._holds_base = self.exchange.money.base > ZERO
        self.calm = NEVER
        self.exchange.charge(self.fee_after(self.now(), event.cost))
        if self.keep_curve:
            sums = event.volume, event.cost, event.fee
            self.fills.append(Fill(self.now(), event.side, event.price, *sums, event.profit))

    def _count_to(self, time: float) -> None:
        """Count the seconds up to ``time`` as they were: with or without base, and with so much in orders."""
        if time > self._counted_to:
            seconds, self._counted_to = Decimal(time - self._counted_to), time
            self._in_market += seconds * self._holds_base
            self._sum_tied_up += seconds * self._tied_up

    def see(self, price: Decimal) -> None:
        """Note what the account, and holding, are worth at the next price."""
        if self.calm[0] <= price <= self.calm[1]:
            return
        money = self.exchange.money
        self._deepest.see(money.quote + money.base * price)
        self._hold_deepest.see(self._hold_base * price)
        bands = (self._deepest.calm(money.base, money.quote), self._hold_deepest.calm(self._hold_base, ZERO))
        self.calm = max(low for low, _ in bands), min(high for _, high in bands)

    def sample(self, time: float, price: Decimal, desk: OrderDesk) -> None:
        """Do what time alone demands, and note a point of the chart; a second time at the same moment does nothing."""
        if time == self._sampled_at:
            return
        self._sampled_at = time
        self.exchange.charge(self.fee_after(time, ZERO))
        self._buy_regularly(time, price)
        if self.keep_curve:
            money = self.exchange.money
            buys = tuple(order.price for order in desk.book.buys())
            sells = tuple(order.price for order in desk.book.sells())
            wealth = money.quote + money.base * price
            self.samples.append(Sample(time, price, wealth, self._hold_base * price, buys, sells))

    def _buy_regularly(self, time: float, price: Decimal) -> None:
        """Make the daily buys that are due: several after a gap in the data."""
        while self._next_regular <= time:
            self._regular.append((self._next_regular, ONE / (price * (ONE + self._first_fee))))
            self._next_regular += REGULAR_SECONDS

    def passed(self, bars: int, end: float, close: Decimal) -> None:
        """Count ``bars`` that are done; the last of them ended at ``end`` with the price ``close``."""
        self.bars += bars
        self._end, self._last = end, close

    def result(self, desk: OrderDesk) -> Result:
        """The result at the end of the period. Raises BotStateError if books and exchange do not agree."""
        self.sample(self._end, self._last, desk)
        self._count_to(self._end)
        money, last, counts = self.exchange.money, self._last, self._counts
        regular = [base for time, base in self._regular if time < self._end]  # no buy at the very end
        regular_base = money.start_base + money.start_quote / len(regular) * sum(regular, ZERO)
        rows = desk.trades.all()
        if (traded := flow(row.info for row in rows)) != (
            money.base - money.start_base,
            money.quote - money.start_quote,
        ):
            raise BotStateError(f"the trades in the books, {traded}, are not those of the exchange, {money}")
        view = by_cycle(rows, spoken_for(desk.book, desk.pending.all(), desk.unsold.all()), money.start_base)
        books = reconciled(rows, AuditMark(self._end, len(rows), ""))
        return Result(
            begin=self._begin,
            end=self._end,
            candles=self.bars,
            first_price=self._first,
            last_price=last,
            start_base=money.start_base,
            start_quote=money.start_quote,
            base=money.base,
            quote=money.quote,
            start_wealth=self._start_wealth,
            wealth=money.quote + money.base * last,
            buys=counts[BUY],
            sells=counts[SELL],
            cycles=sum(cycle.state == "closed" for cycle in cycles(view)),
            summary=summary_of(totals(view, LOT), last, books, ZERO),  # fills are whole: no surplus
            fees=money.fees,
            shifts=counts[GridShifted],
            shortages=counts[FundsShort],
            refusals=counts[OrderRefused],
            open_buys=len(desk.book.buys()),
            open_sells=len(desk.book.sells()),
            unsold=len(desk.unsold),
            drawdown=self._deepest.fall,
            time_in_market=(self._in_market / Decimal(self._end - self._begin)).normalize(),
            tied_up=self._sum_tied_up / Decimal(self._end - self._begin),
            most_tied_up=self._most_tied_up,
            holding=self._hold_base * last,
            holding_drawdown=self._hold_deepest.fall,
            regular=regular_base * last,
            regular_buys=len(regular),
        )


def report(result: Result, units: Units, title: str) -> str:
    """The result as text; amounts are cut, percentages are of the wealth at the start."""
    money, volume = units.money, units.volume
    moved = result.start_base * (result.last_price - result.first_price)
    days = (result.end - result.begin) / 86400
    rows = [
        ("wealth", result.gain, result.wealth, f"largest fall from a peak {percent(result.drawdown)}"),
        ("holding", result.holding_gain, result.holding, f"largest fall {percent(result.holding_drawdown)}"),
        ("fixed times", result.regular_gain, result.regular, "buying an equal amount every day"),
    ]
    lines = [
        title,
        f"period      {result.span} ({counted(round(days), 'day')}, "
        f"{counted(result.candles, 'candle')}), "
        f"price {result.first_price.normalize():f} to {result.last_price.normalize():f} {units.quote}",
        f"orders      {counted(result.buys, 'buy')} and {counted(result.sells, 'sell')} filled, grid moved up "
        f"{counted(result.shifts, 'time')}",
        f"cycles      {counted(result.cycles, 'buy')} sold again",
        *profit_lines(result.summary, units),
        *([f"own base    {money(moved)} by the price of the {volume(result.start_base)} given"] if moved else []),
        f"fees        {money(result.fees)} in all, contained in everything here",
        f"open        {counted(result.open_buys, 'buy')}, {counted(result.open_sells, 'sell')}, "
        f"{counted(result.unsold, 'filled buy')} without a sell",
        f"account     {volume(result.base)} and {money(result.quote)}",
        f"held coins  {percent(result.time_in_market)} of the time; open orders bound {money(result.tied_up)} on "
        f"average, {money(result.most_tied_up)} at most",
        *([f"shortage    {counted(result.shortages, 'time')} free money did not reach"] if result.shortages else []),
        *([f"refused     {counted(result.refusals, 'order')}"] if result.refusals else []),
        *(f"{name:<12}{signed_percent(gain):>9}  {money(value)}, {remark}" for name, gain, value, remark in rows),
        verdict(result),
    ]
    return "\n".join(lines)


def verdict(result: Result) -> str:
    """One plain sentence: was the grid worth it?"""
    other, gain = result.rival
    if not result.buys + result.sells:
        return f"verdict     no order was filled; {other} came to {signed_percent(gain)}"
    if result.gain == gain:
        return f"verdict     {other} would have come to the same"
    points = f"{shown(abs(result.gain - gain) * 100)} points"
    if result.gain < gain:
        return f"verdict     {other} was better, by {points}"
    return f"verdict     better than {other}, by {points}" + ("; it lost money all the same" if result.gain < 0 else "")


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}"
