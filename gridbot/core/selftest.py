"""
The command ``selftest``: thirty days of a made-up market in about a minute, on the owner's own machine and
with the owner's own strategy and numbers. Everything that can go wrong does; then the bot's promises are checked.

It touches neither the bot's database nor the key nor the network.
"""

import argparse
import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from gridbot.adapters.exchanges.simulated import ASSUMED_FEE
from gridbot.core import arguments
from gridbot.core.trial import BUYS, ENDS, INVESTED, LEVELS, Trial
from gridbot.exceptions import OrderTooSmall
from gridbot.infrastructure.database import DBConnect, Orderbook, Trade, Trades, UnsoldBuyOrderTXIDs
from gridbot.models.configuration import DemoConfigDTO, Settings
from gridbot.models.exchange import BUY, SELL
from gridbot.models.grid import UnsoldBuy
from gridbot.models.money import as_text
from gridbot.services.messages import counted

DAYS = 30
MOST_DAYS = 3650
MOST_SEED = 999_999
IN_MEMORY = "/dev/shm"  # the many commits need not wear an SD card


def run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days", type=arguments.whole(1, MOST_DAYS), default=DAYS, help=f"days of the made-up market, default {DAYS}"
    )
    seed = arguments.whole(0, MOST_SEED)
    parser.add_argument("--seed", type=seed, help="repeat the market and the accidents of an earlier test")


def run(settings: Settings, args: argparse.Namespace) -> int:
    """The command; returns 0 when every promise held, 1 otherwise."""
    seed = int(time.time()) % (MOST_SEED + 1) if args.seed is None else args.seed
    bot = settings.bot
    arguments.write(
        f"{bot.strategy}: {counted(bot.n_open_buy_orders, 'buy')} of {bot.amount_per_grid:f} {bot.quote_currency}, "
        f"{counted(args.days, 'day')} of a made-up market, seed {seed}"
    )
    began, progress = time.monotonic(), arguments.Progress()
    logging.disable(logging.CRITICAL)  # the accidents are on purpose and need no log lines
    try:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None) as directory:
            trial = Trial(trial_settings(settings, Path(directory)), Path(directory), seed)
            for day in range(1, args.days + 1):
                trial.run_days(1)
                progress(day / args.days)
                if any(trial.broken.values()):
                    break
            trial.settle()
            progress(1)
            promises = judge(trial)
    finally:
        logging.disable(logging.NOTSET)
    counts = ", ".join(f"{what} {count}" for what, count in trial.fate.counts.most_common())
    arguments.write(f"on purpose: {counts}")
    for promise in promises:
        arguments.write(str(promise))
    good = all(promise.holds for promise in promises)
    verdict = "every promise held" if good else f"please report this, with: selftest --seed {seed} --days {args.days}"
    arguments.write(f"{verdict} ({time.monotonic() - began:.0f} s)")
    return 0 if good else 1


def trial_settings(settings: Settings, directory: Path) -> Settings:
    """The owner's strategy and numbers on the demo; no key, no [funds], no notification, no status server."""
    bot = settings.bot
    # Two fees must leave something of an interval, whatever the owner's real fee is.
    fee = min(ASSUMED_FEE, bot.interval / 4) if bot.fee is None else bot.fee
    return Settings(
        bot=bot.model_copy(update={"exchange": "Demo", "dry_run": True, "fee": fee}),
        demo=DemoConfigDTO(volatility=min(bot.interval / 10, Decimal("0.01"))),
        db=settings.db.model_copy(update={"path": directory / "trial.db"}),
        config_path=settings.config_path,
    )


class Promise(NamedTuple):
    """One promise: how often it was put to the test, and what broke it."""

    text: str
    tested: str
    broken: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        return not self.broken

    def __str__(self) -> str:
        verdict = "ok    " if self.holds else "BROKEN"
        return "\n         ".join([f"{verdict} {self.text}: {self.tested}", *self.broken[:5]])


def judge(trial: Trial) -> list[Promise]:
    """Compare the bot's database with the exchange, after ``settle``."""
    with closing(DBConnect(trial.path, read_only=True)) as db:
        book, trades = Orderbook(db, trial.userref), Trades(db, trial.userref).all()
        orders = [*trial.exchange.open_orders.values(), *trial.exchange.finished.values()]
        ours = [order for order in orders if order.userref == trial.userref]
        lost = () if trial.foreign in trial.exchange.open_orders else ["it is gone"]
        return [
            _no_buy_forgotten(trial, ours, book, trades, UnsoldBuyOrderTXIDs(db, trial.userref)),
            *_at_every_moment(trial),
            _trades_equal(trial, {order.txid for order in ours}, trades),
            _book_equal(trial, book),
            Promise("orders of others are not touched", "1 order", lost),
        ]


def _no_buy_forgotten(
    trial: Trial, ours: list[Any], book: Orderbook, trades: list[Trade], unsold: UnsoldBuyOrderTXIDs
) -> Promise:
    filled = [order for order in ours if order.side == BUY and order.status == "closed"]
    kept = {order.txid for order in filled if _is_kept(trial, order)}
    sells: defaultdict[str, set[str]] = defaultdict(set)
    for order in book.sells():
        sells[order.sells].add(order.txid)
    for trade in trades:
        if trade.info.side == SELL:
            sells[trade.sells].add(trade.info.txid)
    known = {txid for txids in sells.values() for txid in txids}
    broken = []
    for txid in (order.txid for order in filled):
        sold, noted = len(sells[txid]), int(unsold.get(txid) is not None)
        if sold + noted != 1 and (sold or noted or txid not in kept):
            broken.append(f"buy {txid} has {sold} sells and {noted} unsold records")
    broken += [
        f"sell {order.txid} is on the exchange, and the bot does not know why"
        for order in ours
        if order.side == SELL and order.status != "canceled" and order.txid not in known
    ]
    tested = f"{len(filled)} filled buys" + (f", of which the strategy keeps {len(kept)}" if kept else "")
    return Promise("every filled buy has exactly one sell or one unsold record", tested, broken)


def _is_kept(trial: Trial, order: Any) -> bool:
    """The strategy wants no sell after this buy."""
    try:
        buy = UnsoldBuy(order.txid, order.price, order.executed, order.closed_at)
        return trial.engine is not None and trial.engine.strategy.sell_after(buy) is None
    except OrderTooSmall:
        return False


def _at_every_moment(trial: Trial) -> list[Promise]:
    bot, broken = trial.settings.bot, trial.broken
    limit = f"{bot.max_investment:f} {bot.quote_currency}"
    most = f"at most {trial.most_invested:.2f}"
    return [
        Promise("no level is bought twice", f"{trial.seen['buys taken']} buys placed", broken[LEVELS]),
        Promise(f"never more than {bot.n_open_buy_orders} buys open", f"at most {trial.most_buys}", broken[BUYS]),
        Promise(f"no buy beyond max_investment of {limit}", most, broken[INVESTED]),
        Promise("it ends only when it is asked to, or killed", f"{trial.seen['starts']} starts", broken[ENDS]),
    ]


def _trades_equal(trial: Trial, ours: set[str], trades: list[Trade]) -> Promise:
    there = {t.exec_id: _digits(t) for t in trial.exchange.trades.values() if t.txid in ours}
    here = {trade.info.exec_id: _digits(trade.info) for trade in trades}
    differ = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    broken = [f"{key}: exchange {there.get(key)}, bot {here.get(key)}" for key in differ]
    return Promise("its trades are the exchange's, to the last digit", f"{len(there)} trades", broken)


def _digits(trade: Any) -> str:
    return " ".join([trade.txid, trade.side, *map(as_text, (trade.price, trade.volume, trade.cost, trade.fee))])


def _book_equal(trial: Trial, book: Orderbook) -> Promise:
    trial.exchange.check_money()
    there = {o.txid for o in trial.exchange.open_orders.values() if o.userref == trial.userref}
    here = {order.txid for order in book}
    broken = [f"{txid} is open {'there' if txid in there else 'here'} only" for txid in sorted(there ^ here)]
    return Promise("its open orders are the exchange's", f"{len(there)} open orders", broken)
