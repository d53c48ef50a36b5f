"""
The command ``plan``: what a bot with these settings would do now, and what a fall in price would leave it with.

The live strategy class decides, on a simulated exchange that holds a copy of the bot's open orders and its money.
Nothing is sent, and neither the database nor the play money is written.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from decimal import Decimal

from gridbot.adapters.exchanges.demo import demo_pair
from gridbot.adapters.exchanges.simulated import ASSUMED_FEE
from gridbot.core import arguments, single_instance
from gridbot.core.backtest import Backtest, Play
from gridbot.core.clock import SystemClock
from gridbot.core.commands_books import Books, has_books, known_price, read_books
from gridbot.core.commands_past import add_changes, changed_bot
from gridbot.core.registry import exchange_of, resolve
from gridbot.exceptions import ConfigurationError, GridBotError, OrderTooSmall
from gridbot.infrastructure.database import StoredConfiguration
from gridbot.interfaces.exchange import ExchangeSetup
from gridbot.models.configuration import BotConfigDTO, Settings
from gridbot.models.events import Event, OrderCancelled, OrderExecuted, OrderPlaced
from gridbot.models.exchange import BUY, AssetPairInfoSchema
from gridbot.models.grid import BookOrder, UnsoldBuy
from gridbot.models.money import ONE, ZERO, as_text, percent, shown, signed_percent, step_of, to_decimal
from gridbot.services.bookkeeping import flow
from gridbot.services.funds import bound_by
from gridbot.services.messages import Units, counted, duration
from gridbot.services.tables import Column, Table
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_base import GridStrategyBase

FALLS = (Decimal("0.10"), Decimal("0.30"), Decimal("0.50"))
STEPS_PER_INTERVAL = 4  # of the imagined fall: fine enough that every level is met from above
STEP_SECONDS = 60.0
MOST_LOOKS = 10  # after a fill, or a moved grid, the bot looks again; the owner's own strategy might do so for ever


@dataclass(frozen=True)
class Standing:
    """Where the bot is: its books, its money, and what it remembers of its settings."""

    price: Decimal
    free_base: Decimal
    free_quote: Decimal
    orders: tuple[BookOrder, ...] = ()
    unsold: tuple[UnsoldBuy, ...] = ()
    stored: StoredConfiguration | None = None


@dataclass(frozen=True)
class Fall:
    """The account after a straight fall of the price. Amounts in quote, ``base`` in base."""

    fraction: Decimal
    price: Decimal
    base: Decimal
    quote: Decimal
    wealth: Decimal
    loss: Decimal  # of the wealth before the fall, as a fraction
    open_buys: int


@dataclass(frozen=True)
class Cycle:
    """A buy at the first level and its sell. ``sell_price`` 0: the strategy keeps what it buys."""

    buy_price: Decimal
    bought: Decimal
    sell_price: Decimal
    sold: Decimal
    gain: Decimal  # quote: grid profit as the ledger counts it, against the cost of what was sold
    base_kept: Decimal


@dataclass(frozen=True)
class Plan:
    """What the bot would do."""

    wealth: Decimal  # now, in quote
    fills: tuple[OrderExecuted, ...]  # orders of the bot that the price has reached
    cancels: tuple[OrderCancelled, ...]
    places: tuple[OrderPlaced, ...]
    bound: Decimal  # by all open buys afterwards, with fees
    missing: tuple[str, ...]
    cycle: Cycle
    falls: tuple[Fall, ...]
    smallest_amount: Decimal
    smallest_interval: Decimal


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    add_changes(parser)
    parser.add_argument("--price", type=arguments.price, metavar="QUOTE", help="plan for this price, not the present")
    parser.add_argument("--base", type=arguments.amount, metavar="BASE", help="free base; default: see the output")
    parser.add_argument("--quote", type=arguments.amount, metavar="QUOTE", help="free quote; default: see the output")
    parser.add_argument("--json", action="store_true", help="the same as JSON, amounts as text")


def make_plan(play: Play, standing: Standing) -> Plan:
    """
    Let the bot look at its grid until it has nothing more to do, then let the price fall. ``play``'s balances
    are not used.
    """
    events: list[Event] = []
    world, names = imagined(play, standing, events)
    wealth = world.exchange.money.quote + world.exchange.money.base * standing.price
    for looks in range(1, MOST_LOOKS + 1):
        seen = len(events)
        world.say(looks * STEP_SECONDS, standing.price)  # later than 0.0, the time at which its orders were placed
        if len(events) == seen:
            break
    settings = world.strategy.settings
    cancels = [e for e in events if isinstance(e, OrderCancelled)]
    taken_back = {e.txid for e in cancels}
    return Plan(
        wealth=wealth,
        fills=tuple(replace(e, txid=names[e.txid]) for e in events if isinstance(e, OrderExecuted) and e.txid in names),
        cancels=tuple(replace(e, txid=names[e.txid]) for e in cancels if e.txid in names),
        places=tuple(e for e in events if isinstance(e, OrderPlaced) and e.txid not in taken_back),
        bound=bound_by(world.desk.book, (), settings.fee)[1],
        missing=tuple(missing_levels(world.strategy)),
        cycle=one_cycle(world.strategy, standing.price),
        falls=fall_through(world, standing.price, wealth, looks * STEP_SECONDS),
        smallest_amount=rules.smallest_amount(standing.price, settings),
        smallest_interval=rules.smallest_interval(standing.price, settings),
    )


def imagined(play: Play, standing: Standing, events: list[Event]) -> tuple[Backtest, dict[str, str]]:
    """A copy of the bot with its orders, money and stored values; and the id of each original by that of its copy."""
    names: dict[str, str] = {}
    bound = bound_by(standing.orders, (), play.fee)
    base, quote = standing.free_base + bound[0], standing.free_quote + bound[1]
    # The copies are placed with their full volume, and need the money for that until it is set to what it is, below.
    whole = bound_by((order._replace(executed=ZERO) for order in standing.orders), (), play.fee)
    rich = replace(play, base_balance=base + whole[0], quote_balance=quote + whole[1])
    world = Backtest(rich, STEP_SECONDS, publish=events.append)
    world.exchange.on_price(standing.price, 0.0)
    for order in standing.orders:
        # A price at which no copy fills yet: an order that the real price has passed fills at the first price told.
        world.exchange.last_price = order.price * (2 if order.side == BUY else Decimal("0.5"))
        txid = world.exchange.create_order(
            side=order.side, price=order.price, volume=order.volume, userref=play.bot.userref, post_only=False, time=0.0
        )
        names[txid] = order.txid
        world.desk.book.add(order._replace(txid=txid, placed_at=1.0, executed=ZERO))
        if order.executed:
            world.exchange.fill(txid, order.executed)
    world.exchange.take_events()
    world.exchange.money.base, world.exchange.money.quote = base, quote
    if standing.stored is not None:
        stored, configuration = standing.stored, world.desk.configuration
        configuration.create(world.strategy.market, stored.amount_per_grid, stored.interval, 0.0)
        configuration.update(
            highest_buy_price=stored.highest_buy_price,
            vol_of_unfilled_remaining=stored.vol_of_unfilled_remaining,
            vol_of_unfilled_remaining_max_price=stored.vol_of_unfilled_remaining_max_price,
        )
    for buy in standing.unsold:
        world.desk.unsold.add(buy)
    return world, names


def one_cycle(strategy: GridStrategyBase, price: Decimal) -> Cycle:
    """What one buy at the first level below ``price`` and its sell bring, after both fees."""
    settings = strategy.settings
    level = rules.first_level(price, settings)
    strategy.ticker = level  # where the price is when this level has just been filled
    try:
        bought = rules.buy_volume(level, settings)
        sell = strategy.sell_after(UnsoldBuy("plan", level, bought, 0.0))
    except OrderTooSmall as exc:
        raise ConfigurationError(
            f"amount_per_grid = {settings.amount_per_grid:f} is too little at {price:f}: {exc}.\n  The smallest "
            f"amount that works at this price is {rules.smallest_amount(price, settings):f}"
        ) from exc
    if sell is None:
        return Cycle(level, bought, ZERO, ZERO, ZERO, bought)
    gain = sell.volume * (sell.price * (ONE - settings.fee) - level * (ONE + settings.fee))
    return Cycle(level, bought, sell.price, sell.volume, gain, bought - sell.volume)


def missing_levels(strategy: GridStrategyBase) -> Iterator[str]:
    """Every missing buy with the reason; the strategy names only the first of them."""
    settings = strategy.settings
    open_buys = len(strategy.view().buys)
    for first in strategy.waiting:
        price = first.price
        for _ in range(settings.n_open_buy_orders - open_buys):
            if price <= 0:
                return
            yield f"{shown(price, settings.pair.pair_decimals)}: {first.reason}"
            price = rules.buy_price(price, strategy.ticker, settings)


def fall_through(world: Backtest, price: Decimal, before: Decimal, at: float) -> tuple[Fall, ...]:
    """
    The account, worth ``before``, as the price falls straight, in small steps from the time ``at`` on. Afterwards
    ``world`` is of no further use.
    """
    pair, money = world.strategy.settings.pair, world.exchange.money
    factor = ONE - world.strategy.settings.interval / STEPS_PER_INTERVAL
    falls, present = [], price
    for fraction in FALLS:
        goal = pair.truncate_price(price * (ONE - fraction))
        while present > goal:
            present = max(pair.truncate_price(present * factor), goal)
            at += STEP_SECONDS
            world.say(at, present)
        wealth = money.quote + money.base * present
        loss = ONE - wealth / before if before else ZERO
        falls.append(Fall(fraction, present, money.base, money.quote, wealth, loss, len(world.desk.book.buys())))
    return tuple(falls)


def plan(settings: Settings, args: argparse.Namespace) -> int:
    bot = changed_bot(settings.bot, vars(args))
    books = read_books(settings) if has_books(settings.db.path) else None
    pair, price, origin = _market(settings, args.price, books)
    strategy = resolve("strategy", bot.strategy, settings.config_path.parent)
    fee, whose = _fee(settings, bot, books, args.fee is not None)
    play = Play(bot, strategy, pair, fee, ZERO, ZERO)
    units = Units.of(bot.base_currency, bot.quote_currency, pair)
    standing, remark = _standing(settings, price, books, args, units)
    found = make_plan(play, standing)
    head = f"{bot.strategy} on {units.base}/{units.quote}, price {shown(price, pair.pair_decimals)} ({origin})"
    head += f"\nfee {percent(fee)} a side ({whose})"
    return arguments.write(asdict(found) if args.json else text(found, units, f"{head}\n{remark}"))


def _market(settings: Settings, asked: Decimal | None, books: Books | None) -> tuple[AssetPairInfoSchema, Decimal, str]:
    """The pair, the price, and the source of the price: ``asked``, Kraken's present one, or the bot's last."""
    bot = settings.bot
    if bot.exchange == "Kraken":
        from gridbot.adapters.exchanges.kraken import public_kraken

        public = public_kraken(ExchangeSetup(settings, SystemClock())).rest
        try:
            pair = public.get_asset_pair_info()
            return (pair, asked, "as asked") if asked else (pair, public.get_last_price(), "Kraken's, just now")
        finally:
            public.close()
    start = settings.demo.start_price
    pair = demo_pair(bot.base_currency, bot.quote_currency, start)
    if books is None:
        return (pair, asked, "as asked") if asked else (pair, start, "[demo] start_price; --price sets another")
    decimals = books.snapshot.get("price_decimals", pair.pair_decimals)
    pair = pair.model_copy(update={"pair_decimals": decimals, "tick_size": step_of(decimals)})
    return (pair, *known_price(books, asked, time.time()))


def _fee(settings: Settings, bot: BotConfigDTO, books: Books | None, is_asked: bool) -> tuple[Decimal, str]:
    """The fee per side and its source: the settings, the bot's last, what the account pays, or assumed."""
    if bot.fee is not None:
        return bot.fee, "as asked" if is_asked else "[grid] fee"
    if books is not None and "fee" in books.snapshot:
        age = duration(time.time() - books.snapshot["at"])
        return to_decimal(books.snapshot["fee"]), f"what the bot saw {age} ago; --fee sets another"
    if bot.exchange != "Kraken" or bot.dry_run:
        return ASSUMED_FEE, "assumed; --fee sets another"
    return _account_fee(settings)


def _account_fee(settings: Settings) -> tuple[Decimal, str]:
    """The maker fee of this account and its source; if Kraken does not tell it, an assumed one and the reason."""
    why = "Kraken does not tell it to this key: see doctor"
    try:
        if running := single_instance.claim(str(settings.db.path), settings.kraken.api_public_key, key_only=True):
            why = running  # not asked: two programs with one key spoil each other's nonces
        else:
            with closing(exchange_of(settings, SystemClock(), "Kraken").rest) as rest:
                if (fee := rest.get_maker_fee()) is not None:
                    return fee, "what the account pays"
    except GridBotError as exc:
        why = " ".join(exc.message.split())
    finally:
        single_instance.release_all()
    return ASSUMED_FEE, f"assumed, and perhaps not yours; --fee sets another. {why}"


def _standing(
    settings: Settings, price: Decimal, books: Books | None, args: argparse.Namespace, units: Units
) -> tuple[Standing, str]:
    """The bot's books, if it has any, and its money (asked for, the bot's last, or [paper]'s); and both in words."""
    snapshot = books.snapshot if books is not None else {}
    seen = "quote_untraded" in snapshot
    free = dict(zip(("base", "quote"), settings.own_play_money, strict=True))
    since = {"base": ZERO, "quote": ZERO}  # the change of the free money by trades and orders since the first start
    if books is not None and seen:
        bound = bound_by(books.orders, books.pending, to_decimal(snapshot["fee"]))
        traded = flow(row.info for row in books.rows)
        since = {name: traded[n] - bound[n] for n, name in enumerate(free)}
        free = {name: max(to_decimal(snapshot[f"{name}_untraded"]) + since[name], ZERO) for name in free}
    asked = {name: amount for name in free if (amount := getattr(args, name)) is not None}
    own = {"base": settings.funds.own_base, "quote": settings.funds.own_quote}
    for name, amount in asked.items():
        fence = own[name]
        free[name] = amount if fence is None else min(amount, max(fence + since[name], ZERO))
    remark = "no books yet: a bot that starts now"
    if books is not None:
        remark = (
            f"its books: {counted(len(books.buys), 'buy')}, {counted(len(books.sells), 'sell')}, "
            f"{counted(len(books.unsold), 'filled buy')} without a sell"
        )
    remark += f"; free {units.volume(free['base'])} and {units.money(free['quote'])}"
    if len(asked) == len(free):
        remark += " (as asked)" if free == asked else " (of what is asked for so much is the bot's own by [funds])"
    elif seen:
        age = duration(time.time() - snapshot["at"])
        remark += f" (what the bot saw {age} ago and its orders since; --base and --quote set others)"
    else:
        remark += " ([paper] and [funds], not your account: give --base and --quote)"
    known = (books.orders, books.unsold, books.stored) if books is not None else ()
    return Standing(price, free["base"], free["quote"], *known), remark


def text(found: Plan, units: Units, head: str) -> str:
    cycle = found.cycle
    lines = [head, ""]
    lines += [f"filled at this price  {e.side:<4} {units.order(e.price, e.volume)} ({e.txid})" for e in found.fills]
    lines += [f"cancel  {e.side:<4} {units.order(e.price, e.volume)} ({e.txid})" for e in found.cancels]
    lines += [f"place   {e.side:<4} {units.order(e.price, e.volume)}: {e.why}" for e in found.places]
    lines += [f"missing buy  {line}" for line in found.missing]
    if not (found.cancels or found.places):
        lines.append("nothing to place, nothing to cancel" + ("" if found.missing else ": the grid is in order"))
    lines += ["", f"bound by all open buys, fees included: {units.money(found.bound)}"]
    if cycle.sell_price:
        lines.append(
            f"one cycle: buy {units.order(cycle.buy_price, cycle.bought)}, sell "
            f"{units.order(cycle.sell_price, cycle.sold)}: {units.money(cycle.gain)} after both fees on what is sold, "
            f"and {units.volume(cycle.base_kept)} kept"
        )
    else:
        lines.append(f"every buy is kept: {units.order(cycle.buy_price, cycle.bought)} is the next")
    lines += ["", "if the price falls straight, without a rise in between:"]
    lines += [
        _fall_table(found.falls, units),
        "",
        f"smallest that would work: amount_per_grid = {as_text(found.smallest_amount)}, interval = "
        f"{percent(found.smallest_interval, 3)}",
        "nothing was sent",
    ]
    return "\n".join(lines)


def _fall_table(falls: tuple[Fall, ...], units: Units) -> str:
    money, worth = units.quote_decimals, f"worth {units.quote}"
    decimals = {"price": units.price_decimals, units.base: units.lot_decimals, units.quote: money, worth: money}
    titles = ("fall", *decimals, "change", "open buys")
    rows = [
        (f"-{percent(f.fraction, 0)}", f.price, f.base, f.quote, f.wealth, signed_percent(-f.loss), f.open_buys)
        for f in falls
    ]
    return Table(tuple(Column(t, t, "amount", decimals.get(t, 0)) for t in titles), tuple(rows)).text()
