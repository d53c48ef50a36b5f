"""
The command ``audit``: asks the exchange for everything it has on this bot, and compares.

It places and cancels nothing, and writes one row: its outcome, for ``status`` and ``report``.
Imported only when it is called.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gridbot.adapters.exchanges.simulated_store import store_path
from gridbot.core.arguments import write
from gridbot.core.clock import SystemClock
from gridbot.core.commands_books import Books, read_books
from gridbot.core.commands_owner import copy_database
from gridbot.core.config_file import require_key
from gridbot.core.registry import exchange_name, exchange_of
from gridbot.core.single_instance import claim, holder_if_running, release_all
from gridbot.exceptions import DatabaseError, GridBotError
from gridbot.infrastructure.audits import AuditMark, Audits
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.exchange import Exchange, IExchangeRESTService
from gridbot.models.configuration import DBConfigDTO, Settings
from gridbot.models.money import step_of
from gridbot.services.audit import Audit, OurBooks, Start, TheirBooks, audit
from gridbot.services.ledger import PROVISIONAL

MOST_TRIES = 5  # comparisons; the running bot must not trade during one of them
SURE_TRIES = 3  # on a simulated exchange, where an earlier difference may just be a message on its way
LOOK_BACK = 5.0  # seconds: orders are asked for from so long before the first start, because clocks differ
MANY_EXECUTIONS = 200  # with more, asking a real exchange takes minutes, and the owner is told
PER_MINUTE = 200  # executions with their orders that can be asked for, at the slowest of Kraken's limits


def run_audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the outcome as JSON")


def run_audit(settings: Settings, args: argparse.Namespace) -> int:
    """
    The command ``audit``: every execution, open order and balance against the exchange's own books.
    Returns 0 when they agree to the last digit, 1 when they do not.
    """
    require_key(settings)
    with _key_to_ourselves(settings):
        books, outcome = _compare_at_rest(settings)
    if outcome.has_news and not holder_if_running(settings.db.path):
        outcome.notes.append(
            "the bot is stopped: what happened since is not in its books yet. Start the bot once, then audit again"
        )
    try:
        with closing(DBConnect(settings.db.path)) as db:
            Audits(db, settings.bot.userref).put(AuditMark(time.time(), len(books.rows), outcome.difference))
    except DatabaseError as exc:
        sys.stderr.write(f"the outcome could not be noted for status and report: {exc}\n")
    write(outcome.document() if args.json else outcome.text())
    return 0 if outcome.is_reconciled else 1


def _compare_at_rest(settings: Settings) -> tuple[Books, Audit]:
    """
    Read the bot's books, ask the exchange, and read the books again, until they did not change meanwhile. On a
    simulated exchange a difference is believed from the comparison number SURE_TRIES on. Raises GridBotError if the
    books changed during every comparison.
    """
    bot = settings.bot
    books = read_books(settings)
    for attempt in range(1, MOST_TRIES + 1):
        with _opened(settings) as exchange:
            theirs = ask(exchange.rest, books, bot.userref, quiet=exchange.simulated)
            start = _start(settings, exchange)
        again = read_books(settings)
        if (again.rows, again.orders, again.pending) == (books.rows, books.orders, books.pending):
            ours = OurBooks(books.rows, books.orders, books.pending)
            outcome = audit(ours, theirs, start, bot.base_currency, bot.quote_currency)
            if outcome.is_reconciled or attempt >= SURE_TRIES or not bot.simulated:
                return books, outcome
        books = again
    raise GridBotError(f"not compared: the bot traded during each of {MOST_TRIES} tries. Ask again, or stop the bot")


def ask(rest: IExchangeRESTService, books: Books, userref: int, *, quiet: bool = True) -> TheirBooks:
    """
    Everything the exchange has on this bot. ``quiet``: do not announce a long wait. Raises TemporaryFailure,
    AccessDenied.
    """
    rest.get_asset_pair_info()
    if len(books.rows) > MANY_EXECUTIONS and not quiet:
        sys.stderr.write(
            f"asking for {len(books.rows)} executions, and for every order since the bot's first start: "
            f"{len(books.rows) // PER_MINUTE} minutes, and more with many cancelled orders. Kraken allows no more, and "
            "the bot cannot run meanwhile, unless this is another key\n"
        )
    asked = [
        *rest.get_open_orders(userref, trades=True),
        *rest.get_closed_orders(userref, trades=True, start=books.stored.created_at - LOOK_BACK),
    ]
    known = {row.info.txid for row in books.rows} | {order.txid for order in books.orders}
    ours = [info for info in asked if info.userref == userref and info.pair == rest.rest_altname]
    # Orders that ended before the bot's first start are not its own, unless it knows them.
    orders = {o.txid: o for o in ours if o.txid in known or not 0 < o.closed_at < books.stored.created_at}
    orders |= rest.get_orders_info(sorted(known - orders.keys()))
    exec_ids = {exec_id for info in orders.values() for exec_id in info.trades}
    exec_ids |= {r.info.exec_id for r in books.rows if not r.info.exec_id.startswith(PROVISIONAL)}
    step = step_of(rest.get_asset_pair_info().cost_decimals)
    return TheirBooks(orders, rest.get_trades_info(sorted(exec_ids)), rest.get_pair_balance(), step)


def _start(settings: Settings, exchange: Exchange) -> Start:
    """What there was at the start: a simulated exchange remembers its account; of a real one only [funds] is known."""
    own = settings.funds.own_base, settings.funds.own_quote
    if not exchange.simulated:
        return Start(own=own)
    account = getattr(exchange.rest, "exchange", None)
    if account is None:  # the owner's own simulated exchange
        return Start((settings.paper.base_balance, settings.paper.quote_balance), own)
    return Start((account.money.start_base, account.money.start_quote), own)


@contextmanager
def _opened(settings: Settings) -> Iterator[Exchange]:
    """The exchange. Of a simulated one a copy is opened: it would write to the file that the running bot uses."""
    with tempfile.TemporaryDirectory(prefix="gridbot-audit-") as directory:
        if settings.bot.simulated:
            copies, source = Path(directory), store_path(settings.db.path)
            if source.exists():
                copy_database(source, copies / source.name)
            settings = settings.model_copy(update={"db": DBConfigDTO(path=copies / settings.db.path.name)})
        exchange = exchange_of(settings, SystemClock(), exchange_name(settings.bot))
        try:
            yield exchange
        finally:
            exchange.rest.close()


@contextmanager
def _key_to_ourselves(settings: Settings) -> Iterator[None]:
    """Claim the API key: a key serves one program at a time. Raises GridBotError if another program uses it."""
    key = "" if settings.bot.simulated else settings.kraken.api_public_key
    if running := claim(str(settings.db.path), key, key_only=True):
        raise GridBotError(
            f"{running}, and a key serves one program at a time: two would spoil each other's nonces.\n"
            "  Stop the bot for the audit, or give the audit a key of its own that may only query: "
            "GRIDBOT_API_PUBLIC_KEY and GRIDBOT_API_SECRET_KEY in the environment"
        )
    try:
        yield
    finally:
        if key:
            release_all()
