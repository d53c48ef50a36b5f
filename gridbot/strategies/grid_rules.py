"""
The rules of the grid: arithmetic and decisions. No clock, no network, no database, no logging.

A trader should be able to check every line by hand. Symbols: A amount_per_grid (quote), i interval,
f fee per side, n number of open buys, M max_investment (quote), p the ticker, q a price already cut
to the tick. Each ``check_...`` is one step of the grid check: what to do now, and why something
wanted is not done. ``quiet_band`` says between which prices the check has nothing to do.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_UP, Decimal

from gridbot.exceptions import ConfigurationError, OrderTooSmall
from gridbot.models.configuration import INTERVAL_STEP, BotConfigDTO, smallest_paying_interval
from gridbot.models.events import GridShifted
from gridbot.models.exchange import AssetPairInfoSchema
from gridbot.models.grid import (
    EXTRA,
    SURPLUS,
    BookOrder,
    CancelOrder,
    Cause,
    Decision,
    GridSettings,
    GridView,
    PlaceBuy,
    PlaceSell,
    UnsoldBuy,
    Waiting,
)
from gridbot.models.money import ONE, ZERO, percent, shown, step_of

# The ticker must clear the second interval by a little, so that a price resting on the threshold
# does not move the grid to and fro.
SHIFT_UP_MARGIN = Decimal("1.001")
# Seconds: the exchange may report two events that are closer than this in either order.
SAME_MOMENT = 5.0
# A sell returns the quote spent on its buy, or slightly less: volumes are cut, and the fee may have changed since.
NEARLY = Decimal("0.99")

TWO = Decimal(2)
INFINITY = Decimal("Infinity")
Band = tuple[Decimal, Decimal]
NO_BAND: Band = (ONE, ZERO)


def grid_settings(config: BotConfigDTO, pair: AssetPairInfoSchema, fee: Decimal | None) -> GridSettings:
    """
    The numbers of the rules. Raises ConfigurationError if no fee is known. ``check_first_cycle`` checks later, once a
    price is known, whether orders are large enough.
    """
    if fee is None:
        raise ConfigurationError(
            "[grid] fee: the exchange does not report the fee of this account.\n"
            "  Set it to your maker fee per side, for example fee = 0.25%"
        )
    return GridSettings(
        amount_per_grid=config.amount_per_grid,
        interval=config.interval,
        fee=fee,
        n_open_buy_orders=config.n_open_buy_orders,
        max_investment=config.max_investment,
        pair=pair,
    )


def buy_price(reference: Decimal, ticker: Decimal, settings: GridSettings) -> Decimal:
    """The price of ``level_below``, cut to the tick."""
    return settings.pair.truncate_price(level_below(reference, ticker, settings.interval))


def level_below(reference: Decimal, ticker: Decimal, interval: Decimal) -> Decimal:
    """One interval below ``reference``, or below the ticker where that would be above the ticker."""
    price = reference / (ONE + interval)
    return price if price <= ticker else ticker / (ONE + interval)


def first_level(ticker: Decimal, settings: GridSettings) -> Decimal:
    """The highest buy of a grid below ``ticker``. Raises ConfigurationError where the tick leaves no room for one."""
    price = buy_price(ticker, ticker, settings)
    if price <= 0:
        raise ConfigurationError(
            f"[bot] base_currency, quote_currency: the price {ticker:f} is so near the pair's smallest step of "
            f"{settings.pair.tick_size:f} that no buy fits below it. Choose another pair."
        )
    return price


def sell_price(bought_at: Decimal, ticker: Decimal, settings: GridSettings) -> Decimal:
    """
    One interval above the buy; one interval above the ticker if the ticker has passed that price. If cutting to a wide
    tick, or a fee raised since the buy, would take all of the gain: the first tick that pays.
    """
    price = bought_at * (ONE + settings.interval)
    if price < ticker:
        price = ticker * (ONE + settings.interval)
    cut = settings.pair.truncate_price(price)
    if _pays(bought_at, cut, settings):
        return cut
    return _first_that_pays(bought_at, settings)


def _first_that_pays(bought_at: Decimal, settings: GridSettings) -> Decimal:
    even = bought_at * (ONE + settings.fee) / (ONE - settings.fee)
    return settings.pair.truncate_price(even) + settings.pair.tick_size


def _pays(bought_at: Decimal, sold_at: Decimal, settings: GridSettings) -> bool:
    """True if some gain is left after two fees."""
    return sold_at * (ONE - settings.fee) > bought_at * (ONE + settings.fee)


def extra_sell_price(ticker: Decimal, highest_buy_price: Decimal, settings: GridSettings) -> Decimal:
    """SWING: two intervals above the ticker; where that would be below the dearest buy, two above that one."""
    two_intervals = (ONE + settings.interval) ** 2
    price = ticker * two_intervals
    if price < highest_buy_price:
        price = highest_buy_price * two_intervals
    return settings.pair.truncate_price(price)


def buy_volume(price: Decimal, settings: GridSettings) -> Decimal:
    """A / q, cut to the lot. Raises OrderTooSmall below the pair's minimums."""
    return _placeable(settings.amount_per_grid / price, price, settings.pair)


def check_first_cycle(
    ticker: Decimal, settings: GridSettings, sell_after: Callable[[UnsoldBuy], PlaceSell | None]
) -> None:
    """
    Raises ConfigurationError unless a first buy below ``ticker`` and its sell are large enough for the exchange and
    pay. The error names the amount_per_grid that would do, or the interval that prices cut to the tick eat up.
    """
    price = first_level(ticker, settings)
    try:
        sell = sell_after(UnsoldBuy("", price, buy_volume(price, settings), 0.0))
    except OrderTooSmall as exc:
        raise ConfigurationError(
            f"[grid] amount_per_grid = {settings.amount_per_grid:f}: too little for a buy @ {price:f} and its sell: "
            f"{exc}. Raise amount_per_grid to {smallest_amount(ticker, settings):f} or more."
        ) from exc
    if sell is not None:
        check_tick_leaves_gain(ticker, settings)


def check_tick_leaves_gain(ticker: Decimal, settings: GridSettings) -> None:
    """Raises ConfigurationError unless a buy below ``ticker`` and its sell, prices cut to the tick, leave a gain."""
    price = buy_price(ticker, ticker, settings)
    sold_at = settings.pair.truncate_price(price * (ONE + settings.interval))
    if not _pays(price, sold_at, settings):
        raise ConfigurationError(
            f"[grid] interval = {percent(settings.interval)}: prices move in steps of {settings.pair.tick_size:f}, so "
            f"that a buy @ {price:f} would be sold @ {sold_at:f}, and two fees of {percent(settings.fee)} take all "
            f"of it. Raise interval to {percent(smallest_interval(ticker, settings), 3)} or more."
        )


def smallest_interval(ticker: Decimal, settings: GridSettings) -> Decimal:
    """The smallest interval, rounded up to five decimals, that pays below ``ticker``, prices cut to the tick."""
    interval = smallest_paying_interval(settings.fee)
    while interval < ONE:
        price = buy_price(ticker, ticker, replace(settings, interval=interval))
        if price <= 0:
            break
        needed = (_first_that_pays(price, settings) / price - ONE).quantize(INTERVAL_STEP, ROUND_UP)
        if needed <= interval:
            break
        interval = needed
    return interval


def smallest_amount(price: Decimal, settings: GridSettings) -> Decimal:
    """The smallest amount_per_grid, rounded up to the cent, whose buy and sell near ``price`` are large enough."""
    pair = settings.pair
    top = price * (ONE + settings.interval)  # sells stand above the price
    least = max(pair.ordermin * top, pair.costmin + pair.lot * top)
    return least.quantize(step_of(pair.money_decimals), ROUND_UP)


def volume_for(buy: UnsoldBuy, price: Decimal, settings: GridSettings) -> Decimal:
    """
    What must be sold at ``price`` so that the quote spent on ``buy`` comes back; never more than it
    brought. A buy made when A was larger gets its own quote back. Raises OrderTooSmall.
    """
    amount = max(settings.amount_per_grid, buy.price * buy.volume)
    bought = settings.pair.truncate_volume(buy.volume)
    return min(volume_returning_quote(price, replace(settings, amount_per_grid=amount)), bought)


def volume_returning_quote(price: Decimal, settings: GridSettings) -> Decimal:
    """
    A / (q·(1−2f)), cut to the lot: what must be sold so that the quote spent comes back, both fees
    paid. The rest of the base stays. Raises OrderTooSmall below the pair's minimums.
    """
    return _placeable(settings.amount_per_grid / (price * (ONE - TWO * settings.fee)), price, settings.pair)


def _placeable(volume: Decimal, price: Decimal, pair: AssetPairInfoSchema) -> Decimal:
    cut = pair.truncate_volume(volume)
    if cut < pair.ordermin or cut <= 0:
        raise OrderTooSmall(f"{cut:f} is below the pair's smallest volume of {pair.ordermin:f}")
    if cut * price < pair.costmin:
        raise OrderTooSmall(f"{cut:f} @ {price:f} costs {cut * price:f}, below the pair's minimum of {pair.costmin:f}")
    return cut


def sellable_volume(wanted: Decimal, base_available: Decimal, lot: Decimal) -> Decimal | None:
    """
    ``wanted``, or one lot less where the free balance is short by rounding dust only; None where it
    is short by more.
    """
    if wanted <= base_available:
        return wanted
    if wanted - lot <= base_available and wanted > lot:
        return wanted - lot
    return None


def surplus_is_worth_a_sell(remaining: Decimal, max_price: Decimal, settings: GridSettings) -> bool:
    """True if what cancelled buys had executed is worth one amount_per_grid at the highest of their prices."""
    return remaining * max_price >= settings.amount_per_grid


def surplus_sell(remaining: Decimal, max_price: Decimal, ticker: Decimal, settings: GridSettings) -> PlaceSell:
    """The sell for the executed parts of cancelled buys. Raises OrderTooSmall."""
    price = sell_price(max_price, ticker, settings)
    volume = min(volume_returning_quote(price, settings), settings.pair.truncate_volume(remaining))
    return PlaceSell(price, volume, SURPLUS, "surplus of cancelled buys")


def buy_behind(sell: BookOrder, unsold: tuple[UnsoldBuy, ...], settings: GridSettings) -> UnsoldBuy | None:
    """
    The buy that a sell of unknown origin sells; None if no buy fits. A buy fits if it was filled before the sell was
    placed, was cheaper, and the sell returns the quote spent and sells no more base than was bought. Of several, take
    the one exactly one interval below the sell; else the dearest, because the interval may have been different then.
    """
    placed_at = sell.placed_at or math.inf  # 0: the exchange did not report when
    returned = sell.volume * sell.price * (ONE - TWO * settings.fee)
    possible = [
        buy
        for buy in unsold
        if buy.filled_at <= placed_at + SAME_MOMENT
        and buy.price < sell.price
        and sell.volume <= buy.volume
        and returned >= buy.price * buy.volume * NEARLY
    ]

    def likelihood(buy: UnsoldBuy) -> tuple[bool, bool, Decimal, float]:
        is_exact = sell_price(buy.price, buy.price, settings) == sell.price
        return is_exact, buy.filled_at <= placed_at, buy.price, -buy.filled_at

    return max(possible, key=likelihood, default=None)


def buy_after_sell(sold_at: Decimal, grid: GridView) -> Decision:
    """
    A sell was filled at ``sold_at``: the buy that follows one interval below it.

    Nothing while no other sell is open (the price is leaving the grid: the shift-up will move the buys),
    while n buys are open, and where another buy already stands on that level.
    """
    settings = grid.settings
    if not grid.sells or len(grid.buys) >= settings.n_open_buy_orders:
        return Decision()
    price = buy_price(sold_at, grid.ticker, settings)
    if price <= 0 or any(_too_near(price, other.price, settings) for other in grid.buys):
        return Decision()
    return _buys_if_affordable([price], grid)


def check_near_buy_orders(grid: GridView) -> Decision:
    """Of two neighbouring buys nearer than half an interval the higher is cancelled."""
    cancels = []
    kept: BookOrder | None = None
    for order in reversed(grid.buys):
        if kept is not None and _too_near(order.price, kept.price, grid.settings):
            cancels.append(CancelOrder(order.txid, f"too near to the buy @ {kept.price:f}"))
        else:
            kept = order
    return Decision(tuple(cancels))


def check_n_open_buy_orders(grid: GridView) -> Decision:
    """Buys are added below until n are open, unless the limit is reached or funds are short."""
    prices = []
    reference = min((order.price for order in grid.buys), default=grid.ticker)
    for _ in range(grid.settings.n_open_buy_orders - len(grid.buys)):
        reference = buy_price(reference, grid.ticker, grid.settings)
        if reference <= 0:
            break
        prices.append(reference)
    return _buys_if_affordable(prices, grid)


def _buys_if_affordable(prices: list[Decimal], grid: GridView) -> Decision:
    """The buys at these prices, as far as the limit and the free quote allow; and why not further."""
    if not prices:
        return Decision()
    settings = grid.settings
    if settings.held_back:
        return Decision(waiting=(Waiting(Cause.FEE, prices[0], settings.held_back),))
    needed = settings.amount_with_fee
    investment, free = grid.investment, grid.quote_available
    buys: list[PlaceBuy] = []
    for price in prices:
        if settings.max_investment <= investment + needed:
            reason = (
                f"max_investment {_money(settings.max_investment, settings)} reached: "
                f"{_money(investment, settings)} invested, one more buy needs {_money(needed, settings)}"
            )
            return Decision(tuple(buys), (Waiting(Cause.LIMIT, price, reason),))
        if free <= needed:
            reason = f"{_money(free, settings)} free, {_money(needed, settings)} needed"
            return Decision(tuple(buys), (Waiting(Cause.FUNDS, price, reason),))
        try:
            volume = buy_volume(price, settings)
        except OrderTooSmall as exc:
            return Decision(tuple(buys), (Waiting(Cause.MINIMUM, price, str(exc)),))
        buys.append(PlaceBuy(price, volume, "next level of the grid"))
        investment += price * volume
        free -= price * volume * (ONE + settings.fee)
    return Decision(tuple(buys))


def check_lowest_cancel_of_more_than_n_buy_orders(grid: GridView) -> Decision:
    """With more than n buys open the lowest are cancelled."""
    n = grid.settings.n_open_buy_orders
    return Decision(tuple(CancelOrder(o.txid, f"more than {n} buys open") for o in grid.buys[n:]))


def make_room(grid: GridView) -> Decision:
    """A sell found no place among the orders that the exchange allows: the lowest buy gives way."""
    return Decision(tuple(CancelOrder(order.txid, "a sell needs its place") for order in grid.buys[-1:]))


def shift_buy_orders_up(grid: GridView) -> Decision:
    """The ticker has left the grid upward: all buys are cancelled, to be placed again below it."""
    if not grid.buys or grid.ticker <= shift_up_threshold(grid.buys[0].price, grid.settings.interval):
        return Decision()
    if grid.settings.held_back:
        return Decision()  # no buys would replace them
    if buy_price(grid.ticker, grid.ticker, grid.settings) <= grid.buys[0].price:
        return Decision()  # with a tick wider than the interval the new grid would be the old one
    why = f"the price rose to {grid.ticker:f}, the grid follows"
    return Decision(tuple(CancelOrder(o.txid, why) for o in grid.buys), event=GridShifted(grid.ticker, len(grid.buys)))


def shift_up_threshold(highest_buy: Decimal, interval: Decimal) -> Decimal:
    """The ticker above which the grid follows the price: highest open buy · (1+i)² · 1.001."""
    return highest_buy * (ONE + interval) ** 2 * SHIFT_UP_MARGIN


def check_extra_sell_order(grid: GridView) -> Decision:
    """SWING: base that no buy of the grid brought in is sold above the market, one order at a time."""
    settings = grid.settings
    if grid.sells or grid.unsold or grid.pending or len(grid.buys) != settings.n_open_buy_orders:
        return Decision()
    free = _base_without_a_buy(grid)
    if free * grid.ticker <= settings.amount_with_fee:
        return Decision()
    price = extra_sell_price(grid.ticker, grid.highest_buy_price, settings)
    try:
        volume = volume_returning_quote(price, settings)
    except OrderTooSmall:
        return Decision()
    if volume > free:
        return Decision()
    return Decision((PlaceSell(price, volume, EXTRA, "extra sell: base that no buy brought in"),))


def quiet_band(grid: GridView, decision: Decision) -> Band:
    """
    (low, high): while low <= ticker <= high the grid check would decide what it decided just now.

    With nothing to do, only the shift-up depends on the price, and it needs a rise: the band has no lower end. While
    buys are held back the grid stays where it is, so the band has no upper end either. Where levels are missing for
    lack of money, the band is reset when money comes in. Something to do, or a level below the pair's minimums: no
    band.
    """
    if decision.intents or any(w.cause is Cause.MINIMUM for w in decision.waiting):
        return NO_BAND
    if not grid.buys or grid.settings.held_back:
        return ZERO, INFINITY
    return ZERO, shift_up_threshold(grid.buys[0].price, grid.settings.interval)


def extra_sell_band(grid: GridView, band: Band) -> Band:
    """SWING: ``band`` cut off at the price from which the free base would be worth an extra sell."""
    free = _base_without_a_buy(grid)
    if grid.sells or free <= 0:
        return band
    # Above that price the rule said no for another reason, which may pass: it is asked again at every ticker.
    return band[0], min(band[1], grid.settings.amount_with_fee / free)


def _base_without_a_buy(grid: GridView) -> Decimal:
    """
    Free base that no buy of the grid brought in: without the executed parts of open and cancelled buys, which get their
    own sells, and without what the owner has taken (``forget``).
    """
    return grid.base_available - grid.surplus - grid.left_to_owner - sum((buy.executed for buy in grid.buys), ZERO)


def _too_near(one: Decimal, other: Decimal, settings: GridSettings) -> bool:
    """Two buys closer than half an interval would buy the same level twice."""
    high, low = max(one, other), min(one, other)
    return high / low - ONE < settings.interval / TWO


def explain_settings(settings: GridSettings) -> str:
    """The grid in one sentence, for the start message."""
    buys = "1 buy" if settings.n_open_buy_orders == 1 else f"{settings.n_open_buy_orders} buys"
    return (
        f"{buys} of {_money(settings.amount_per_grid, settings)}, "
        f"{percent(settings.interval)} apart, "
        f"fee {percent(settings.fee)} a side, at most {_money(settings.max_investment, settings)} invested"
    )


def _money(amount: Decimal, settings: GridSettings) -> str:
    """An amount of quote for people."""
    return shown(amount, settings.pair.money_decimals)
