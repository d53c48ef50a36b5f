"""
The command ``selftest``: thirty days of a made-up market in about a minute, on the owner's own machine and
with the owner's own strategy and numbers, with everything going wrong that can, and the promises counted.

Nothing of it touches the bot's database, the key or the network.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from gridbot.adapters.exchanges.simulated import ASSUMED_FEE
from gridbot.core.registry import resolve
from gridbot.core.trial import Trial
from gridbot.infrastructure.database import DBConnect, Orderbook, Trades, UnsoldBuyOrderTXIDs
from gridbot.models.configuration import DemoConfigDTO, FundsConfigDTO, NotificationConfigDTO, Settings
from gridbot.models.exchange import BUY, SELL
from gridbot.models.money import as_text
from gridbot.strategies.c_dca import CDCAStrategy

DAYS = 30
IN_MEMORY = "/dev/shm"  # many commits that need not reach an SD card
BAR = 30  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--days`` and ``--seed``."""
    parser.add_argument("--days", type=int, default=DAYS, help=f"days of the made-up market, default {DAYS}")
    parser.add_argument("--seed", type=int, default=None, help="repeat the market and the accidents of an earlier test")


def run(settings: Settings, args: argparse.Namespace) -> int:
    """The command; returns 0 when every promise held, 1 otherwise."""
    seed = int(time.time()) % 1_000_000 if args.seed is None else args.seed
    bot = settings.bot
    _write(
        f"{bot.strategy}: {bot.n_open_buy_orders} buys of {bot.amount_per_grid:f} {bot.quote_currency}, "
        f"{args.days} days of a made-up market, seed {seed}\n"
    )
    began = time.monotonic()
    logging.disable(logging.CRITICAL)  # the accidents are meant
    try:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None) as directory:
            trial = on_trial(settings, Path(directory), seed, args.days, _progress(args.days))
            promises = judge(trial)
    finally:
        logging.disable(logging.NOTSET)
    _write(f"\n{accidents(trial)}\n")
    for promise in promises:
        _write(f"{promise}\n")
    good = all(promise.holds for promise in promises)
    verdict = "every promise held" if good else f"please report this, with: selftest --seed {seed} --days {args.days}"
    _write(f"{verdict} ({time.monotonic() - began:.0f} s)\n")
    return 0 if good else 1


def on_trial(
    settings: Settings, directory: Path, seed: int, days: int, after_day: Callable[[int, Trial], None]
) -> Trial:
    """A trial of so many days, and the hour of peace after it. ``after_day(day, trial)`` is called after each."""
    trial = Trial(trial_settings(settings, directory), directory, seed)
    for day in range(1, days + 1):
        trial.run_days(1)
        after_day(day, trial)
        if trial.broken:
            break
    trial.settle()
    return trial


def trial_settings(settings: Settings, directory: Path) -> Settings:
    """The owner's strategy and numbers on the demo; no key, no notification, no status server."""
    bot = settings.bot
    # Two fees must leave something of an interval, whatever the owner's real fee is.
    fee = min(ASSUMED_FEE, bot.interval / 4) if bot.fee is None else bot.fee
    return Settings(
        bot=bot.model_copy(update={"exchange": "Demo", "dry_run": True, "fee": fee}),
        demo=DemoConfigDTO(volatility=min(bot.interval / 10, Decimal("0.01"))),
        funds=FundsConfigDTO(),
        notification=NotificationConfigDTO(),
        db=settings.db.model_copy(update={"path": directory / "trial.db"}),
        config_path=settings.config_path,
    )


# ---- the promises --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Promise:
    """One promise: how often it was put to the test, and what broke it."""

    text: str
    count: str
    broken: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """True when nothing broke it."""
        return not self.broken

    def __str__(self) -> str:
        lines = [f"{'ok    ' if self.holds else 'BROKEN'} {self.text}: {self.count}"]
        return "\n         ".join([*lines, *self.broken[:5]])


def judge(trial: Trial) -> list[Promise]:
    """Compare the bot's database with the exchange, after ``settle``."""
    db = DBConnect(trial.path, read_only=True)
    try:
        book, trades = Orderbook(db, trial.userref), Trades(db, trial.userref)
        unsold = UnsoldBuyOrderTXIDs(db, trial.userref)
        return [
            _no_buy_forgotten(trial, book, trades, unsold),
            *_at_every_moment(trial),
            _trades_equal(trial, trades),
            _book_equal(trial, book),
            _others_untouched(trial),
        ]
    finally:
        db.close()


def _all_orders(trial: Trial) -> dict[str, str]:
    """txid -> side of every order of the bot that the exchange took and that was not cancelled."""
    orders = [*trial.exchange.open_orders.values(), *trial.exchange.finished.values()]
    return {o.txid: o.side for o in orders if o.userref == trial.userref and o.status != "canceled"}


def _no_buy_forgotten(trial: Trial, book: Orderbook, trades: Trades, unsold: UnsoldBuyOrderTXIDs) -> Promise:
    filled = [
        o.txid
        for o in trial.exchange.finished.values()
        if o.userref == trial.userref and o.side == BUY and o.status == "closed"
    ]
    if issubclass(resolve("strategy", trial.settings.bot.strategy, trial.settings.config_path.parent), CDCAStrategy):
        return Promise("what is bought is kept (cDCA), nothing is sold", f"{len(filled)} filled buys")
    sells: dict[str, set[str]] = {}
    for order in book.sells():
        sells.setdefault(order.sells, set()).add(order.txid)
    for trade in trades.all():
        if trade.info.side == SELL:
            sells.setdefault(trade.sells, set()).add(trade.info.txid)
    broken = [
        f"buy {txid} has {len(sells.get(txid, ()))} sells and {int(unsold.get(txid) is not None)} unsold records"
        for txid in filled
        if len(sells.get(txid, ())) + (unsold.get(txid) is not None) != 1
    ]
    known = {txid for txids in sells.values() for txid in txids}
    strangers = [txid for txid, side in _all_orders(trial).items() if side == SELL and txid not in known]
    broken += [f"sell {txid} is on the exchange, and the bot does not know why" for txid in strangers]
    return Promise(
        "every filled buy has exactly one sell or one unsold record", f"{len(filled)} filled buys", tuple(broken)
    )


def _at_every_moment(trial: Trial) -> list[Promise]:
    bot = trial.settings.bot
    kinds = {"level twice": "one level", "buys were": "buys were open", "invested": "were invested"}
    broken = {kind: tuple(b for b in trial.broken if words in b) for kind, words in kinds.items()}
    rest = tuple(b for b in trial.broken if not any(words in b for words in kinds.values()))
    buys, starts = trial.seen["buys taken"], trial.seen["starts"]
    return [
        Promise("no level is bought twice", f"{buys} buys placed", broken["level twice"]),
        Promise(
            f"never more than {bot.n_open_buy_orders} buys open", f"at most {trial.most_buys}", broken["buys were"]
        ),
        Promise(
            f"no buy beyond max_investment of {bot.max_investment:f} {bot.quote_currency}",
            f"at most {trial.most_invested:.2f}",
            broken["invested"],
        ),
        Promise("it ends only when it is asked to, or killed", f"{starts} starts", rest),
    ]


def _trades_equal(trial: Trial, trades: Trades) -> Promise:
    orders = [*trial.exchange.open_orders.values(), *trial.exchange.finished.values()]
    ours = {o.txid for o in orders if o.userref == trial.userref}
    there = {
        t.exec_id: " ".join([t.txid, t.side, *map(as_text, (t.price, t.volume, t.cost, t.fee))])
        for t in trial.exchange.trades.values()
        if t.txid in ours
    }
    here = {
        i.exec_id: " ".join([i.txid, i.side, *map(as_text, (i.price, i.volume, i.cost, i.fee))])
        for i in (trade.info for trade in trades.all())
    }
    differ = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    broken = tuple(f"{key}: exchange {there.get(key)}, bot {here.get(key)}" for key in differ)
    return Promise("its trades are the exchange's, to the last digit", f"{len(there)} trades", broken)


def _book_equal(trial: Trial, book: Orderbook) -> Promise:
    trial.exchange.check_money()
    there = {o.txid for o in trial.exchange.open_orders.values() if o.userref == trial.userref}
    here = {order.txid for order in book}
    broken = tuple(f"{txid} is open {'there' if txid in there else 'here'} only" for txid in sorted(there ^ here))
    return Promise("its open orders are the exchange's", f"{len(there)} open orders", broken)


def _others_untouched(trial: Trial) -> Promise:
    untouched = trial.foreign in trial.exchange.open_orders
    return Promise("orders of others are not touched", "1 order", () if untouched else ("it is gone",))


# ---- telling -------------------------------------------------------------------------------------


def accidents(trial: Trial) -> str:
    """What went wrong on purpose, in one paragraph."""
    counts = sorted(trial.fate.counts.items(), key=lambda item: -item[1])
    return "on purpose: " + ", ".join(f"{what} {count}" for what, count in counts)


def _progress(days: int) -> Callable[[int, Trial], None]:
    def show(day: int, _trial: Trial) -> None:
        if sys.stdout.isatty():
            done = BAR * day // days
            _write(f"\r[{'#' * done}{'.' * (BAR - done)}] day {day} of {days}")
        elif day == days or day % 10 == 0:
            _write(f"day {day} of {days}\n")

    return show


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
