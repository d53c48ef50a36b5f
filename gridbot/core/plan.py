"""
The command ``plan``: what a bot with these settings would do now, and what a fall would leave it with.

The same strategy objects decide, against a simulated exchange that holds a copy of the bot's open orders and
its money. Nothing is sent, and neither the database nor the play money is written.
"""

import argparse
import json
import sys
import threading
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal
from pathlib import Path

from gridbot.adapters.exchanges.demo import demo_pair
from gridbot.core.backtest import Backtest, Play
from gridbot.core.clock import SystemClock
from gridbot.core.commands_books import Books, read_books
from gridbot.core.commands_past import ASSUMED_FEE, add_changes, changed, units_of
from gridbot.core.registry import resolve
from gridbot.exceptions import ConfigurationError, OrderTooSmall
from gridbot.infrastructure.database import StoredConfiguration
from gridbot.interfaces.exchange import ExchangeSetup
from gridbot.models.configuration import Settings, smallest_paying_interval
from gridbot.models.events import Event, OrderCancelled, OrderPlaced
from gridbot.models.exchange import BUY, AssetPairInfoSchema
from gridbot.models.grid import BookOrder, GridSettings, UnsoldBuy
from gridbot.models.money import ONE, ZERO, as_text, percent, shown, to_decimal
from gridbot.services.messages import Units
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_base import GridStrategyBase

FALLS = (Decimal("0.10"), Decimal("0.30"), Decimal("0.50"))
STEPS_PER_INTERVAL = 4  # of the imagined fall: fine enough that every level is met from above
STEP_SECONDS = 60.0
CENT = Decimal("0.01")
DONE = 0


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
    open_buys: int

    def loss(self, before: Decimal) -> Decimal:
        """Of the wealth before the fall, as a fraction."""
        return ONE - self.wealth / before if before else ZERO


@dataclass(frozen=True)
class Cycle:
    """A buy at the first level and its sell. ``sell_price`` 0: the strategy keeps what it buys."""

    buy_price: Decimal
    bought: Decimal
    sell_price: Decimal
    sold: Decimal
    gain: Decimal  # quote
    base_kept: Decimal


@dataclass(frozen=True)
class Plan:
    """What would happen."""

    wealth: Decimal  # now, in quote
    cancels: tuple[OrderCancelled, ...]
    places: tuple[OrderPlaced, ...]
    bound: Decimal  # by all open buys afterwards, with fees
    missing: tuple[str, ...]
    cycle: Cycle
    falls: tuple[Fall, ...]
    smallest_amount: Decimal
    smallest_interval: Decimal


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``plan``."""
    add_changes(parser)
    parser.add_argument("--price", type=to_decimal, metavar="QUOTE", help="plan for this price instead of the present")
    parser.add_argument("--base", type=to_decimal, metavar="BASE", help="free base; default: see the output")
    parser.add_argument("--quote", type=to_decimal, metavar="QUOTE", help="free quote; default: see the output")
    parser.add_argument("--json", action="store_true", help="the same as JSON, amounts as text")


def make_plan(play: Play, standing: Standing) -> Plan:
    """Let the bot look at its grid once, then let the price fall. ``play``'s balances are not used."""
    events: list[Event] = []
    world, names = imagined(play, standing, events)
    world.say(0.0, standing.price)
    settings = world.strategy.settings
    held_buys = [order for order in world.desk.book.buys() if not order.cancel_requested]
    money = world.exchange.money
    return Plan(
        wealth=money.start_quote + money.start_base * standing.price,
        cancels=tuple(replace(e, txid=names.get(e.txid, e.txid)) for e in events if isinstance(e, OrderCancelled)),
        places=tuple(e for e in events if isinstance(e, OrderPlaced)),
        bound=sum((order.value for order in held_buys), ZERO) * (ONE + settings.fee),
        missing=tuple(f"{shown(w.price, play.pair.pair_decimals)}: {w.reason}" for w in world.strategy.waiting),
        cycle=one_cycle(world.strategy, standing.price),
        falls=fall_through(world, standing.price),
        smallest_amount=smallest_amount(standing.price, settings),
        smallest_interval=smallest_paying_interval(settings.fee),
    )


def imagined(play: Play, standing: Standing, events: list[Event]) -> tuple[Backtest, dict[str, str]]:
    """A copy of the bot: its orders, its money, what it remembers; and the real ids by those of the copies."""
    names: dict[str, str] = {}
    buys = [order for order in standing.orders if order.side == BUY]
    sells = [order for order in standing.orders if order.side != BUY]
    held_quote = sum((o.price * (o.volume - o.executed) * (ONE + play.fee) for o in buys), ZERO)
    held_base = sum((o.volume - o.executed for o in sells), ZERO)
    world = Backtest(
        replace(play, base_balance=standing.free_base + held_base, quote_balance=standing.free_quote + held_quote),
        STEP_SECONDS,
        publish=events.append,
    )
    world.exchange.on_price(standing.price, 0.0)
    for order in standing.orders:
        left = order.volume - order.executed
        # Copies are made as they lie: an order the price has passed meanwhile fills at the first price.
        world.exchange.last_price = order.price * (2 if order.side == BUY else Decimal("0.5"))
        txid = world.exchange.create_order(
            side=order.side,
            price=order.price,
            volume=left,
            userref=play.bot.userref,
            post_only=False,
            time=0.0,
        )
        names[txid] = order.txid
    world.exchange.take_events()
    if standing.stored is not None:
        stored = standing.stored
        configuration = world.desk.configuration
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
    """What one round of the first level below ``price`` brings after both fees."""
    settings = strategy.settings
    level = rules.buy_price(price, price, settings)
    strategy.ticker = level  # where the price is when this level has just been filled
    try:
        bought = rules.buy_volume(level, settings)
        sell = strategy.sell_after(UnsoldBuy("plan", level, bought, 0.0))
    except OrderTooSmall as exc:
        raise ConfigurationError(
            f"amount_per_grid = {settings.amount_per_grid:f} is too little at {price:f}: {exc}.\n  The smallest "
            f"amount that works at this price is {smallest_amount(price, settings):f}"
        ) from exc
    if sell is None:
        return Cycle(level, bought, ZERO, ZERO, ZERO, bought)
    cost = level * bought * (ONE + settings.fee)
    return Cycle(
        buy_price=level,
        bought=bought,
        sell_price=sell.price,
        sold=sell.volume,
        gain=sell.price * sell.volume * (ONE - settings.fee) - cost,
        base_kept=bought - sell.volume,
    )


def fall_through(world: Backtest, price: Decimal) -> tuple[Fall, ...]:
    """The account as the price falls straight, in small steps. The world is used up by it."""
    pair = world.strategy.settings.pair
    factor = ONE - world.strategy.settings.interval / STEPS_PER_INTERVAL
    falls, present, time = [], price, 0.0
    for fraction in FALLS:
        goal = pair.truncate_price(price * (ONE - fraction))
        while present > goal:
            present = max(pair.truncate_price(present * factor), goal)
            time += STEP_SECONDS
            world.say(time, present)
        money = world.exchange.money
        falls.append(
            Fall(
                fraction=fraction,
                price=present,
                base=money.base,
                quote=money.quote,
                wealth=money.quote + money.base * present,
                open_buys=len(world.desk.book.buys()),
            )
        )
    return tuple(falls)


def smallest_amount(price: Decimal, settings: GridSettings) -> Decimal:
    """The smallest amount_per_grid, to the cent, of which a buy and its sell near ``price`` are large enough."""
    pair = settings.pair
    top = price * (ONE + settings.interval)  # sells stand above the price
    least = max(pair.ordermin * top, pair.costmin + pair.lot * top)
    return least.quantize(CENT, ROUND_UP)


# ---- the command -------------------------------------------------------------------------------


def plan(settings: Settings, args: argparse.Namespace) -> int:
    """The command ``plan``."""
    bot = changed(settings, args)
    books = read_books(settings) if Path(settings.db.path).exists() else None
    pair, price, fee, origin = _market(settings, args.price, books)
    play = Play(
        bot=bot,
        strategy=resolve("strategy", bot.strategy, settings.config_path.parent),
        pair=pair,
        fee=bot.fee if bot.fee is not None else fee,
        base_balance=ZERO,
        quote_balance=ZERO,
    )
    standing, remark = _standing(settings, play, price, books, args)
    found = make_plan(play, standing)
    units = units_of(bot, pair)
    if args.json:
        sys.stdout.write(json.dumps(document(found), indent=2) + "\n")
    else:
        head = f"{bot.strategy} on {units.base}/{units.quote}, price {shown(price, pair.pair_decimals)} ({origin})"
        sys.stdout.write(text(found, units, f"{head}\n{remark}") + "\n")
    return DONE


def _market(
    settings: Settings, price: Decimal | None, books: Books | None
) -> tuple[AssetPairInfoSchema, Decimal, Decimal, str]:
    """Pair, price, a fee in case none is configured, and where the price comes from."""
    bot = settings.bot
    if bot.exchange != "Kraken":
        start = settings.demo.start_price
        pair = demo_pair(bot.base_currency, bot.quote_currency, start)
        if price is not None:
            return pair, price, ASSUMED_FEE, "--price"
        seen = books.snapshot.get("price") if books is not None else None
        if seen is not None:
            return pair, to_decimal(str(seen)), ASSUMED_FEE, "the last one the bot has stored; --price for another"
        return pair, start, ASSUMED_FEE, "[demo] start_price; --price for another"
    from gridbot.adapters.exchanges.kraken import public_kraken

    public = public_kraken(ExchangeSetup(settings, SystemClock(threading.Event()))).rest
    try:
        pair = public.get_asset_pair_info()
        return pair, price or public.get_last_price(), ASSUMED_FEE, "--price" if price else "Kraken, just now"
    finally:
        public.close()


def _standing(
    settings: Settings, play: Play, price: Decimal, books: Books | None, args: argparse.Namespace
) -> tuple[Standing, str]:
    """The bot's books, if it has any, and the money to count with."""
    base, quote = args.base, args.quote
    orders: tuple[BookOrder, ...] = ()
    unsold: tuple[UnsoldBuy, ...] = ()
    stored, remark, snapshot = None, "no books yet: a bot that starts now", {}
    if books is not None:
        orders, unsold, stored, snapshot = books.orders, books.unsold, books.stored, books.snapshot
        remark = f"its books: {len(books.buys)} buys, {len(books.sells)} sells, {len(unsold)} buys without a sell"
    free_base = base if base is not None else _known(snapshot, "base_free", settings.paper.base_balance)
    free_quote = quote if quote is not None else _known(snapshot, "quote_free", settings.paper.quote_balance)
    unit = play.bot
    remark += f"; free {free_base:f} {unit.base_currency} and {free_quote:f} {unit.quote_currency}"
    if "quote_free" not in snapshot and (base is None or quote is None):
        remark += " ([paper], not your account: give --base and --quote)"
    return Standing(price, free_base, free_quote, orders, unsold, stored), remark


def _known(snapshot: dict[str, object], name: str, default: Decimal) -> Decimal:
    return to_decimal(str(snapshot[name])) if snapshot.get(name) is not None else default


def document(found: Plan) -> dict[str, object]:
    """For JSON."""

    def plain(value: object) -> object:
        if isinstance(value, Decimal):
            return as_text(value)
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        if hasattr(value, "__dict__"):
            return {key: plain(item) for key, item in vars(value).items()}
        return value

    return {key: plain(value) for key, value in vars(found).items()}


def text(found: Plan, units: Units, head: str) -> str:
    """For people."""
    cycle = found.cycle
    lines = [head, ""]
    lines += [f"cancel  {e.side:<4} {units.order(e.price, e.volume)} ({e.txid})" for e in found.cancels]
    lines += [f"place   {e.side:<4} {units.order(e.price, e.volume)}: {e.why}" for e in found.places]
    lines += [f"missing buy  {line}" for line in found.missing]
    if not (found.cancels or found.places):
        lines.append("nothing to place, nothing to cancel: the grid is in order")
    lines += ["", f"bound by all open buys, fees included: {units.money(found.bound)}"]
    if cycle.sell_price:
        lines.append(
            f"one cycle: buy {units.order(cycle.buy_price, cycle.bought)}, sell "
            f"{units.order(cycle.sell_price, cycle.sold)}; after both fees {units.money(cycle.gain)} and "
            f"{units.volume(cycle.base_kept)} gained"
        )
    else:
        lines.append(f"every buy is kept: {units.order(cycle.buy_price, cycle.bought)} is the next")
    lines += ["", "if the price falls straight, without a rise in between:"]
    lines += [
        f"  -{percent(fall.fraction, 0):<5} to {shown(fall.price, units.price_decimals)}: {units.volume(fall.base)} "
        f"and {units.money(fall.quote)}, worth {units.money(fall.wealth)} (-{percent(fall.loss(found.wealth))}), "
        f"{fall.open_buys} buys open"
        for fall in found.falls
    ]
    lines += [
        "",
        f"smallest that would work: amount_per_grid = {as_text(found.smallest_amount)}, interval = "
        f"{percent(found.smallest_interval, 3)}",
        "nothing was sent",
    ]
    return "\n".join(lines)
