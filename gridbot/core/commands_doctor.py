"""
The command ``doctor``: checks everything the first order needs, one thing after the other, and says what to do
about a problem. It places no order, and uses the API key only while no bot does.
"""

import argparse
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal

from gridbot.adapters.exchanges.simulated import ASSUMED_FEE
from gridbot.core import single_instance
from gridbot.core.arguments import write
from gridbot.core.backtest import Backtest, Play
from gridbot.core.clock import SystemClock
from gridbot.core.commands_books import Books, read_books
from gridbot.core.config_file import describe, require_key
from gridbot.core.database_check import problems_in
from gridbot.core.endings import MUST_BE_MENDED, STOPPED_BY_ERROR
from gridbot.core.heartbeat import look
from gridbot.core.registry import channels_of, exchange_of, resolve
from gridbot.exceptions import AccessDenied, ConfigurationError, GridBotError, MetricsServerError, TemporaryFailure
from gridbot.infrastructure.database import Configuration, DBConnect
from gridbot.interfaces.exchange import Exchange, ExchangeSetup, IExchangeRESTService
from gridbot.models.configuration import FundsConfigDTO, Settings, check_interval_pays, check_one_buy_fits
from gridbot.models.exchange import AssetPairInfoSchema
from gridbot.models.grid import PlaceSell, UnsoldBuy
from gridbot.models.money import ONE, ZERO, digits, percent
from gridbot.services.bookkeeping import flow
from gridbot.services.funds import bound_by
from gridbot.services.messages import Units, counted
from gridbot.services.metrics_server import MetricsServer
from gridbot.services.notification_service import name_of, send
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.swing import SwingStrategy

LITTLE_SPACE, TOO_LITTLE = 50e6, 1e6  # bytes: weeks of trading with its log, and hardly a start
SLOW_CLOCK = 5.0  # seconds: a smaller difference does no harm, a larger one gives logs and nonces wrong times

GOOD, HINT, WRONG = "ok     ", "hint   ", "PROBLEM"
Finding = tuple[str, str, str]  # one of these three, what was checked, what was found
SellAfter = Callable[[UnsoldBuy], PlaceSell | None]


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--notify", action="store_true", help="also send a test message through every configured channel"
    )


def doctor(settings: Settings, args: argparse.Namespace) -> int:
    """Check everything; 0 if the bot can start, 1 for a network problem, 2 if the owner must correct something."""
    worst = 0
    for verdict, what, text in Doctor(settings, args.notify).examine():
        write(f"{verdict} {what}: {text}")
        if verdict is WRONG:
            worst = max(worst, MUST_BE_MENDED if what not in ("network", "message") else STOPPED_BY_ERROR)
    write("everything is ready" if not worst else "not ready: see PROBLEM above")
    return worst


class Doctor:
    """Examines one configuration. Nothing here changes anything."""

    def __init__(self, settings: Settings, notify: bool) -> None:
        self._settings = settings
        self._notify = notify
        self._clock = SystemClock()
        self._busy: str | None = None  # the program that uses the database now, in words
        self._key_in_use: str | None = None  # the same for the API key
        self._books: Books | None = None  # None: the bot has no books yet

    def examine(self) -> Iterator[Finding]:
        """One finding after the other; for what cannot be checked, the reason."""
        yield (GOOD, "config.ini", f"{self._settings.config_path}, {describe(self._settings)[0]}")
        yield from self._settings_alone()
        yield from self._disk()
        yield from self._database()
        yield from self._outlets()
        if self._settings.bot.exchange == "Demo":
            yield (GOOD, "exchange", "the demo needs no network and no key")
            return
        exchange: Exchange | None = None
        try:
            exchange = self._exchange()
            yield from self._public(exchange.rest)
            yield from self._private(exchange.rest)
        except (AccessDenied, ConfigurationError) as exc:
            yield (WRONG, "key" if isinstance(exc, AccessDenied) else "settings", exc.message)
        except GridBotError as exc:
            yield (WRONG, "network", exc.message)
        finally:
            if exchange is not None:
                exchange.rest.close()
            if self._busy is None:
                single_instance.release_all()

    def _exchange(self) -> Exchange:
        settings = self._settings
        if settings.bot.exchange == "Kraken" and not settings.kraken.has_key:
            from gridbot.adapters.exchanges.kraken import public_kraken

            return public_kraken(ExchangeSetup(settings, self._clock))
        return exchange_of(settings, self._clock, settings.bot.exchange)

    def _settings_alone(self) -> Iterator[Finding]:
        """Settings that ``run`` would refuse, or that do not do what the owner may expect. Asks no exchange."""
        bot = self._settings.bot
        try:
            require_key(self._settings)
        except ConfigurationError as exc:
            yield (WRONG, "settings", exc.message)
        if (fit := bot.buys_that_fit) < bot.n_open_buy_orders:
            enough = digits(bot.amount_per_grid * (bot.n_open_buy_orders + (bot.fee or ZERO)))
            room = f"room for {fit} of the {bot.n_open_buy_orders} buys, less while sells are open"
            limit = f"max_investment = {digits(bot.max_investment)}"
            yield (HINT, "limit", f"{limit} has {room}. For all of them: more than {enough}")

    def _disk(self) -> Iterator[Finding]:
        try:
            free = shutil.disk_usage(self._settings.db.path.parent).free
        except OSError:
            return  # the database says it better
        if free < LITTLE_SPACE:
            text = f"{free / 1e6:.1f} MB are free for the database. The bot ends when it can write nothing: make room"
            yield (WRONG if free < TOO_LITTLE else HINT, "disk", text)

    def _database(self) -> Iterator[Finding]:
        path, bot = self._settings.db.path, self._settings.bot
        self._busy = single_instance.claim(str(path))
        if self._busy is None:
            self._key_in_use = single_instance.claim(str(path), self._settings.kraken.api_public_key, key_only=True)
        elif (life := look(path, userref=str(bot.userref))).is_foreign:
            yield (WRONG, "database", f"{path}: {life.text}")
        if not path.exists():
            yield (GOOD, "database", f"{path} will be made at the first start")
            return
        problems = problems_in(path, bot.userref)
        for problem in problems:
            yield (WRONG, "database", f"{path}: {problem}. See the commands check and restore")
        if problems:
            return
        try:
            with closing(DBConnect(path, read_only=True)) as db:
                if Configuration(db, bot.userref).exists:
                    self._books = read_books(self._settings)
                others = ", ".join(str(row[0]) for row in db.execute("SELECT userref FROM configuration"))
            if self._books is None and others:
                yield (
                    HINT,
                    "database",
                    f"{path} holds the books of userref {others}, and none of this bot's {bot.userref}. Every bot "
                    "needs its own: [database] path. If you changed [bot] userref, nobody looks after the old orders",
                )
            yield (GOOD, "database", f"{path} is sound")
        except ConfigurationError as exc:
            yield (WRONG, "database", exc.message)

    def _outlets(self) -> Iterator[Finding]:
        """The ways to the owner, for which no start fails."""
        bot, metrics = self._settings.bot, self._settings.metrics
        if metrics.enabled and self._busy is None:
            server = MetricsServer(metrics.host, metrics.port, dict)
            try:
                server.start()
                server.stop()
                yield (GOOD, "status page", f"can be served on port {metrics.port} of {metrics.host}")
            except MetricsServerError as exc:
                yield (HINT, "status page", exc.message)
        try:
            channels = channels_of(self._settings)
        except ConfigurationError as exc:
            yield (WRONG, "settings", exc.message)
            return
        if channels and not self._notify:
            names = ", ".join(map(name_of, channels))
            yield (HINT, "message", f"{names} not tried: doctor --notify sends a test message")
        if self._notify and not channels:
            yield (HINT, "message", "no channel is configured; see [telegram]")
        for channel in channels if self._notify else ():
            problem, _ = send(channel, f"{bot.name}: a test message of doctor")
            yield (WRONG if problem else GOOD, "message", f"{name_of(channel)}: {problem or 'test message sent'}")

    def _public(self, rest: IExchangeRESTService) -> Iterator[Finding]:
        rest.check_exchange_status()
        yield (GOOD, "network", "the exchange answers and is open for trading")
        difference = self._clock.time() - rest.get_server_time()
        if abs(difference) <= SLOW_CLOCK:
            yield (GOOD, "clock", "agrees with the exchange's")
        else:
            off = f"{abs(difference):.0f} s {'ahead' if difference > 0 else 'behind'}"
            cure = "The bot goes by the exchange's clock, logs do not: sudo timedatectl set-ntp true"
            yield (HINT, "clock", f"this machine is {off}. {cure}")
        pair = rest.get_asset_pair_info()
        if pair.takes_orders:
            bot = self._settings.bot
            limits = (pair.ordermin, bot.base_currency), (pair.costmin, bot.quote_currency)
            smallest = " and ".join(f"{digits(least)} {currency}" for least, currency in limits if least)
            yield (GOOD, "pair", f"{rest.rest_symbol} can be traded; smallest order {smallest or 'of any size'}")
        else:
            yield (HINT, "pair", f"{rest.rest_symbol} is {pair.status!r} now: not every order will be taken")

    def _private(self, rest: IExchangeRESTService) -> Iterator[Finding]:
        bot = self._settings.bot
        key_in_use = self._busy or self._key_in_use
        if bot.exchange == "Kraken" and not self._settings.kraken.has_key:
            if bot.dry_run:
                yield (HINT, "key", "none configured: a dry run needs none. Fee, funds and rights cannot be looked at")
        elif bot.simulated and key_in_use is not None:
            yield (HINT, "key", f"not tried: {key_in_use}. Play money needs none")
        elif self._busy is not None:
            # Two programs with one key spoil each other's nonces, and the bot would stop.
            yield (HINT, "key", f"not tried: {self._busy}. It proves its key with every order; stop it to look here")
        elif self._key_in_use is not None:
            yield (WRONG, "key", f"{self._key_in_use}. This bot cannot start beside it")
        else:
            if bot.skip_permission_check:
                yield (HINT, "key", "its rights are not checked (skip_permission_check)")
            else:
                rest.check_api_key_permissions()
                yield (GOOD, "key", "may do what the bot needs, and cannot withdraw money")
            if self._books is None and not bot.dry_run and (count := len(rest.get_open_orders(bot.userref))):
                yield (
                    HINT,
                    "userref",
                    f"the exchange has {counted(count, 'order')} of userref {bot.userref} open already, and the "
                    "database knows of none. An older database was lost: restore a backup, or start, and what is open "
                    "is adopted. Or another bot uses this number: then choose another one",
                )
            fee = rest.get_maker_fee()
            yield from self._grid(rest, fee)
            yield from self._funds(rest, (fee if bot.fee is None else bot.fee) or ZERO)
            return
        yield from self._grid(rest, None)

    def _grid(self, rest: IExchangeRESTService, fee: Decimal | None) -> Iterator[Finding]:
        """The numbers of the grid against the fee, the minimums and the price."""
        bot = self._settings.bot
        if bot.fee is not None and fee is not None and bot.fee != fee:
            yield (HINT, "fee", f"[grid] fee is {percent(bot.fee)} a side, your account pays {percent(fee)}")
        if bot.fee is not None:  # the grid must pay with the fee that is really taken, if that is higher
            fee = max(bot.fee, fee or bot.fee)
        if fee is None and bot.dry_run:
            fee = ASSUMED_FEE
        if fee is None:
            yield (HINT, "fee", "not known without the key; the bot asks for it at the start, or set [grid] fee")
            return
        try:
            price = rest.get_last_price()
        except TemporaryFailure as exc:  # the exchange did answer before: the market is quiet, or has not begun
            yield (HINT, "price", f"{exc.message}; the minimums cannot be looked at")
            return
        try:
            grid = rules.grid_settings(bot, rest.get_asset_pair_info(), fee)
            check_interval_pays(bot.interval, fee)
            check_one_buy_fits(bot.max_investment, grid.amount_with_fee, bot.n_open_buy_orders)
            rules.check_first_cycle(price, grid, self._sell_after(grid.pair, fee, price))
        except ConfigurationError as exc:
            yield (WRONG, "settings", exc.message)
            return
        yield (GOOD, "fee", f"{percent(fee)} a side; an interval of {percent(bot.interval)} pays")
        highest = lowest = rules.buy_price(price, price, grid)
        for _ in range(bot.n_open_buy_orders - 1):
            lowest = rules.buy_price(lowest, price, grid)
        yield (GOOD, "minimum", f"every order is large enough; buys from {highest:f} down to {lowest:f}")

    def _sell_after(self, pair: AssetPairInfoSchema, fee: Decimal, price: Decimal) -> SellAfter:
        """``sell_after`` of the bot's strategy at this price; it is asked because each sells a different volume."""
        bot = self._settings.bot
        strategy = resolve("strategy", bot.strategy, self._settings.config_path.parent)
        imagined = Backtest(Play(bot, strategy, pair, fee, ZERO, ZERO), step=60.0).strategy
        imagined.ticker = price
        return imagined.sell_after

    def _funds(self, rest: IExchangeRESTService, fee: Decimal) -> Iterator[Finding]:
        """Is there enough for the missing buys? Only what is free, and by [funds] the bot's own, counts."""
        bot, own, money, books = self._settings.bot, self._settings.funds, rest.get_pair_balance(), self._books
        units = Units.of(bot.base_currency, bot.quote_currency, rest.get_asset_pair_info())
        traded = flow(row.info for row in books.rows) if books else (ZERO, ZERO)
        bound = bound_by(books.orders, books.pending, fee) if books else (ZERO, ZERO)
        have = []
        for n, (key, granted, free, held, in_words) in enumerate(
            (
                ("own_base", own.own_base, money.base_available, money.base_balance, units.volume),
                ("own_quote", own.own_quote, money.quote_available, money.quote_balance, units.money),
            )
        ):
            have.append(free if granted is None else min(free, max(granted + traded[n] - bound[n], ZERO)))
            if granted is not None and granted > held and books is None:
                share = f"[funds] {key} = {digits(granted)}, and the account holds {in_words(held)}"
                cure = f"The bot uses what there is, and audit will miss the rest: set {key} to no more than that"
                yield (HINT, "funds", f"{share}. {cure}")
        base, quote = have
        missing = max(bot.n_open_buy_orders - (len(books.buys) if books else 0), 0)
        needed = bot.amount_per_grid * (ONE + fee) * missing
        whose = "" if own == FundsConfigDTO() else " and the bot's own by [funds]"
        there = f"{units.money(quote)} and {units.volume(base)} free{whose}"
        need = "needs" if missing == 1 else "need"
        wanted = f"the {counted(missing, 'buy')} to be placed {need} {units.money(needed)} with fees"
        if quote > needed:
            yield (GOOD, "funds", f"{there}; {wanted}")
        else:
            yield (HINT, "funds", f"{there}, but {wanted}: some will wait")
        strategy = resolve("strategy", bot.strategy, self._settings.config_path.parent)
        if issubclass(strategy, SwingStrategy) and own.own_base != 0 and base:
            coins = f"{bot.strategy} will sell the {units.volume(base)} that are free"
            yield (HINT, "coins", f"{coins}. To keep them: [funds] own_base = 0")
        pair = rest.get_asset_pair_info()
        names = {bot.base_currency, bot.quote_currency, pair.base[1:], pair.quote[1:]}  # XXBT earns as XBT.F
        rewarded = {f"{name}.F" for name in names}
        if earning := ", ".join(b.asset for b in rest.get_balances() if b.asset in rewarded and b.balance):
            cure = "Orders may mostly use it; if they are refused for want of funds, switch it off at Kraken"
            yield (HINT, "auto-earn", f"is on for {earning}. The bot counts that money. {cure}")
