"""
The command ``backtest``, and the options that it shares with ``sweep`` and ``plan``: market data from files, and
settings that replace those of config.ini for one run.
"""

import argparse
import gc
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gridbot.adapters.exchanges.simulated import ASSUMED_FEE
from gridbot.core import arguments
from gridbot.core.backtest import USUAL_COSTMIN, USUAL_ORDERMIN, Backtest, Play, pair_from_file
from gridbot.core.backtest_result import report
from gridbot.core.candles import DEFAULT_PATH, LATEST, PATHS, MarketData, Period
from gridbot.core.registry import resolve
from gridbot.exceptions import ConfigurationError
from gridbot.models.configuration import BotConfigDTO, Settings, check_interval_pays
from gridbot.models.money import digits
from gridbot.services.messages import Units

MOST_DECIMALS = 12  # of a price; with more the 28 digits of a Decimal no longer hold every product
# Options that replace a key of config.ini: the key, the placeholder, and the help text.
CHANGES = {
    "--strategy": ("strategy", "NAME", "GridHODL, GridSell, SWING, cDCA, or package.module:Class"),
    "--amount": ("amount_per_grid", "QUOTE", "quote per buy (amount_per_grid)"),
    "--interval": ("interval", "STEP", "distance of two buys: 1%% or 0.01"),
    "--n": ("n_open_buy_orders", "BUYS", "buys open at the same time (n_open_buy_orders)"),
    "--max-investment": ("max_investment", "QUOTE", "limit of price x volume over all open orders"),
    "--fee": ("fee", "FEE", "maker fee per side: 0.25%% or 0.0025"),
}


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Options that try other settings than config.ini's, for this once."""
    group = parser.add_argument_group("other settings than config.ini's, for this once")
    for option, (key, metavar, words) in CHANGES.items():
        group.add_argument(option, dest=key, metavar=metavar, help=words)


def add_market(parser: argparse.ArgumentParser) -> None:
    """Options for files, period, money and the pair's rules."""
    add = parser.add_argument
    add(
        "--data",
        action="extend",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="Kraken's downloads, csv or csv.gz: candles (time,open,high,low,close,volume,trades) of any length, or "
        "trades (time,price,volume). Several files must follow each other in time, with candles of one length; missing "
        "ones are fine",
    )
    add("--from", dest="start", type=_time, default=0.0, metavar="DATE", help="UTC, 2018-03-01")
    add("--to", dest="end", type=_time, default=LATEST, metavar="DATE", help="UTC, not included")
    add(
        "--path",
        choices=sorted(PATHS),
        default=DEFAULT_PATH,
        help="the order of prices assumed within a candle: open, high, low, close (high-first); open, low, high, close "
        "(low-first); or only the close. None of them always gives the least, close does most often: compare. "
        "Default %(default)s",
    )
    for option, metavar, default, words in (
        ("--base", "BASE", None, "base at the start; default [paper] base_balance, of it at most [funds] own_base"),
        ("--quote", "QUOTE", None, "the same in quote; default [paper] quote_balance, of it at most [funds] own_quote"),
        ("--ordermin", "BASE", USUAL_ORDERMIN, "smallest volume; default %(default)s"),
        ("--costmin", "QUOTE", USUAL_COSTMIN, "smallest cost; default %(default)s"),
    ):
        add(option, type=arguments.amount, default=default, metavar=metavar, help=words)
    add(
        "--price-decimals",
        type=arguments.whole(0, MOST_DECIMALS),
        metavar="N",
        help="decimals of a price; default: as many as the prices at the beginning of the files have",
    )
    add(
        "--fee-tiers",
        type=arguments.fee_tiers,
        default=(),
        metavar="VOLUME:FEE,...",
        help="fee per side at a fill, by the bot's own volume of 30 days in quote: 0:0.40%%,10000:0.35%%,50000:0.24%%",
    )


def backtest_arguments(parser: argparse.ArgumentParser) -> None:
    add_market(parser)
    add_changes(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, amounts as text")
    parser.add_argument("--chart", type=Path, metavar="OUT.html", help="write an interactive chart (needs plotly)")
    parser.add_argument("--against-live", action="store_true", help="compare with the bot's own trades in their period")


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2018-03-01 or 2018-03-01T12:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def changed_bot(bot: BotConfigDTO, changes: dict[str, Any]) -> BotConfigDTO:
    """
    ``bot`` with the values of ``changes``, given as text; None: no change. Raises ConfigurationError that names the
    option.
    """
    options = {key: option for option, (key, _, _) in CHANGES.items()}
    wanted = {key: value for key, value in changes.items() if key in options and value is not None}
    if not wanted:
        return bot
    try:
        return BotConfigDTO(**(bot.model_dump() | wanted))
    except ValidationError as exc:
        problems = [
            f"{options.get(str(e['loc'][0]), e['loc'][0]) if e['loc'] else ''} {e['msg'].removeprefix('Value error, ')}"
            for e in exc.errors()
        ]
        raise ConfigurationError("these settings cannot work:\n  " + "\n  ".join(p.strip() for p in problems)) from exc


def paying_fee(bot: BotConfigDTO, tiers: tuple[tuple[Decimal, Decimal], ...]) -> Decimal:
    """The fee of the first orders. Raises ConfigurationError if the interval does not pay at the highest fee."""
    fees = [fee for _, fee in tiers] or [ASSUMED_FEE if bot.fee is None else bot.fee]
    check_interval_pays(bot.interval, max(fees))
    return fees[0]


def one_fee(args: argparse.Namespace) -> None:
    """Raises ConfigurationError if the command line names both --fee and --fee-tiers."""
    if args.fee is not None and args.fee_tiers:
        raise ConfigurationError("--fee and --fee-tiers both say what an order costs; give one of them")


def start_money(settings: Settings, args: argparse.Namespace) -> tuple[Decimal, Decimal]:
    """
    Base and quote to begin with: --base and --quote, else the part of [paper] that is the bot's own by [funds]. The
    other part is left out: the bot never touches it, so it changes no trade. Raises ConfigurationError if both are 0.
    """
    asked = zip(settings.own_play_money, (args.base, args.quote), strict=True)
    base, quote = (own if wanted is None else wanted for own, wanted in asked)
    if not base and not quote:
        raise ConfigurationError("nothing to begin with: give --base or --quote more than 0")
    return base, quote


def play_of(settings: Settings, bot: BotConfigDTO, args: argparse.Namespace, data: MarketData) -> Play:
    """The backtest that the command line describes, for ``bot``; ``settings`` only gives the money and the folder."""
    decimals = min(data.decimals, MOST_DECIMALS) if args.price_decimals is None else args.price_decimals
    base, quote = start_money(settings, args)
    return Play(
        bot=bot,
        strategy=resolve("strategy", bot.strategy, settings.config_path.parent),
        pair=pair_from_file(bot, decimals, args.ordermin, args.costmin),
        fee=paying_fee(bot, args.fee_tiers),
        base_balance=base,
        quote_balance=quote,
        fee_tiers=args.fee_tiers,
    )


def backtest(settings: Settings, args: argparse.Namespace) -> int:
    one_fee(args)
    gc.set_threshold(100_000)  # the objects made for each order form no cycles, so collecting often is a waste
    if args.chart is not None:
        from gridbot.core import chart

        chart.check_plotly()  # before the work, not after it
        arguments.check_target("--chart", args.chart, (".html", ".htm"), settings)
    data = MarketData(args.data, args.path)
    play = play_of(settings, changed_bot(settings.bot, vars(args)), args, data)
    period = Period(args.start, args.end)
    live = None
    if args.against_live:
        from gridbot.core.live_comparison import LiveTrades

        live = LiveTrades.read(settings)
        period = Period(max(period.start, live.begin - data.step), min(period.end, live.end + data.step))
    past = Backtest(play, data.step, keep_curve=args.chart is not None or live is not None)
    units = Units.of(play.bot.base_currency, play.bot.quote_currency, play.pair)
    past.desk.refresh_funds()  # SWING's description below names the coins it finds, before it sells them
    title = f"{play.bot.strategy} on {units.base}/{units.quote}: {past.strategy.describe()}"
    result = past.run(data, period, arguments.Progress())
    text = f"{report(result, units, title)}\n{assumptions(settings, play.bot, args)}"
    out = result.document() if args.json else text
    if live is not None:
        comparison = live.compare(past.tally.fills, result)
        out = out | {"live": comparison.document()} if isinstance(out, dict) else f"{out}\n{comparison.text(units)}"
    arguments.write(out)
    if args.chart is not None:
        chart.write(args.chart, title.split(".\n")[0], past.tally, units)  # SWING's description has several lines
        sys.stderr.write(f"chart: {args.chart}\n")
    return 0


def assumptions(settings: Settings, bot: BotConfigDTO, args: argparse.Namespace) -> str:
    """The assumptions behind the figures, in one line."""
    fees = "by tier" if args.fee_tiers else f"{digits(paying_fee(bot, ()) * 100)} % a side"
    base, quote = start_money(settings, args)
    is_share = args.base is None and base < settings.paper.base_balance
    is_share |= args.quote is None and quote < settings.paper.quote_balance
    whose = ", of [paper] only what is the bot's own by [funds]" if is_share else ""
    return (
        f"assumed     {digits(base)} {bot.base_currency} and {digits(quote)} {bot.quote_currency} at the start{whose}; "
        "a limit order fills when the price trades through it, completely, at its price; "
        f"{args.path} within a candle (another --path may give less); fee {fees}; no order below {args.ordermin:f} "
        f"{bot.base_currency} or {args.costmin:f} {bot.quote_currency}; "
        "queue, latency and your own effect on the market are not modelled"
    )
