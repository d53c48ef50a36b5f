"""
The commands ``check``, ``backup``, ``restore`` and ``forget``. None of them places or cancels an order. ``doctor``
and ``watch`` have modules of their own.
"""

import argparse
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from gridbot.adapters.exchanges.simulated_store import path_beside, store_path
from gridbot.core import single_instance
from gridbot.core.arguments import write
from gridbot.core.commands_books import Books, check_owner, has_books, read_books
from gridbot.core.database_check import is_copy, problems_in
from gridbot.exceptions import ConfigurationError, DatabaseError
from gridbot.infrastructure.audits import AuditMark, Audits
from gridbot.infrastructure.connection import DBConnect, keep_aside, read_only, spare_name
from gridbot.infrastructure.database import Configuration, ForgottenOrders, UnsoldBuyOrderTXIDs
from gridbot.models.configuration import Settings
from gridbot.models.grid import EXTRA, NO_BUY, SURPLUS
from gridbot.models.money import ZERO, as_text
from gridbot.services.messages import counted

RESTORED = "what happened between the copy brought back and now; there was no audit since"
PAGES_AT_ONCE = 256  # a backup copies so many pages, then lets the bot write


def check(settings: Settings, args: argparse.Namespace) -> int:
    """Check the database and its content; return 0 if all is well, 1 otherwise."""
    path = settings.db.path
    _must_exist(path)
    problems = problems_in(path, settings.bot.userref)
    for problem in problems:
        write(f"PROBLEM {problem}")
    if problems:
        found = counted(len(problems), "problem")
        write(
            f"{path}: {found}. Keep a copy: backup FILE; the exchange stays the truth, see audit. To mend it, bring an "
            "older copy back (restore FILE), or see README, What if the database is lost?"
        )
        return 1
    write(f"{path}: the file is sound, and everything in it fits together")
    return 0


def backup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the copy; a relative path starts in the working directory")


restore_arguments = backup_arguments


def backup(settings: Settings, args: argparse.Namespace) -> int:
    """Copy the database as it is at this moment, and the exchange of play money; the bot may go on meanwhile."""
    source, target = settings.db.path, Path(args.file)
    _must_exist(source)
    if target.is_dir():
        raise ConfigurationError(f"{target}: is a directory. Name a file in it: {target / 'gridbot-backup.db'}")
    if not target.parent.is_dir():
        raise ConfigurationError(f"{target}: there is no such directory. Name a file in one that exists")
    pairs = _pairs(source, store_path(source), target)
    for n, (original, copy) in enumerate(pairs):
        if copy.exists() and copy.samefile(original):
            raise ConfigurationError(f"{copy}: is the bot's own file. Name another file for the copy")
        is_alone = n > 0 and not target.exists()  # whose exchange it is nobody knows
        if copy.exists() and (is_alone or not is_copy(copy, is_exchange=n > 0)):
            raise ConfigurationError(
                f"{copy}: exists, and is no copy made by backup, so it is not replaced. Name another file for the copy"
            )
    if target.exists() and has_books(target):
        with closing(DBConnect(target, read_only=True)) as db:
            whose = [row[0] for row in db.execute("SELECT userref FROM configuration")]
        if settings.bot.userref not in whose:
            raise ConfigurationError(
                f"{target}: is a copy of another bot (userref {', '.join(map(str, whose))}), so it is not replaced. "
                "Name another file for the copy"
            )
    for original, copy in pairs:
        copy_database(original, copy)
    names = " and ".join(str(copy) for _, copy in pairs)
    write(f"{names}: a copy of {source}, checked. Bring it back with: restore {target}")
    return 0


def _pairs(database: Path, exchange: Path, target: Path) -> list[tuple[Path, Path]]:
    """
    What is copied where: the database and, with play money, the simulated exchange's file beside it. In this order:
    where the bot runs meanwhile, the exchange may know more than the database, which then catches up; never less.
    """
    return [pair for pair in ((database, target), (exchange, path_beside(target))) if pair[0].exists()]


def restore(settings: Settings, args: argparse.Namespace) -> int:
    """Put a copy in the place of what ``backup`` copies, which is kept aside. Only while the bot is stopped."""
    source, target = Path(args.file), settings.db.path
    if not source.is_file():
        raise ConfigurationError(f"{source}: there is no such file. Name a copy that backup has made")
    if target.exists() and source.samefile(target):
        raise ConfigurationError(f"{source}: is the database in use. Name the copy that shall take its place")
    _must_stand_still(target)
    problems = problems_in(source, settings.bot.userref)
    if problems:
        raise ConfigurationError(f"{source}: {'; '.join(problems)}.\n  Nothing was changed. Try an older copy.")
    with closing(DBConnect(source, read_only=True)) as db:
        check_owner(db, settings, source)
    place, exchange = (Path(os.path.realpath(path)) for path in (target, store_path(target)))  # a link stays one
    fresh = place.with_name(f"{place.name}.restoring")
    for suffix in ("-wal", "-shm"):  # of a restore that was killed: they would spoil the copy
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    aside = spare_name(place.with_name(f"{place.name}.before-{time.strftime('%Y%m%d-%H%M%S')}"))
    fresh_exchange, exchange_aside = (exchange.with_name(path_beside(path).name) for path in (fresh, aside))
    copies = [pair for pair in ((source, fresh), (path_beside(source), fresh_exchange)) if pair[0].exists()]
    for original, copy in copies:
        copy_database(original, copy)
    with closing(DBConnect(fresh)) as db:  # the audit noted in the copy does not cover what happened since
        Audits(db, settings.bot.userref).put(AuditMark(time.time(), -1, RESTORED))
    changes = [(place, fresh, aside), (exchange, fresh_exchange, exchange_aside)][: len(copies)]
    for old, copy, kept in changes:
        keep_aside(old, kept)
        os.replace(copy, old)
    write(f"{target}: now the copy {source}" + (f"; what was there is kept as {aside.name}" if aside.exists() else ""))
    write("The next start asks the exchange for every order since that copy was made, before it places anything.")
    return 0


def forget_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "order",
        metavar="ORDER",
        nargs="?",
        help=f"the id of a filled buy that waits for its sell, or of an open sell; '{SURPLUS}': the executed parts of "
        "cancelled buys. Left out: says what there is, and changes nothing",
    )


def forget(settings: Settings, args: argparse.Namespace) -> int:
    """Leave bought base to the owner, so that the bot does not sell it. Only while the bot is stopped."""
    path, userref = settings.db.path, settings.bot.userref
    if args.order is not None and path.exists():
        _must_stand_still(path)
    books = read_books(settings)
    with closing(DBConnect(path, read_only=True)) as db:
        forgotten = ForgottenOrders(db, userref)
    there = _for_sale(books, forgotten, settings.bot.base_currency)
    if args.order is None:
        lines = [f"{name}: {what}" for name, what in there.items()]
        heading = "The bot sells these coins, or will; forget ORDER leaves those of one to you:"
        write("\n".join([heading, *lines]) if lines else "nothing waits to be sold")
        return 0
    sell = next((order for order in books.sells if order.txid == args.order), None)
    if args.order not in there:
        known = "; ".join(there) or "nothing"
        raise ConfigurationError(f"{args.order}: waits for no sell, and is no open sell. What there is: {known}")
    if any(placement.sells == args.order for placement in books.pending):
        raise DatabaseError(
            f"{args.order}: its sell was sent, and not answered yet. Start the bot: it finds out. Then try again"
        )
    with closing(DBConnect(path)) as db, db.atomic():
        now = time.time()
        if args.order == SURPLUS:
            # Noted under a unique name: a surplus that collects later is not forgotten with it.
            ForgottenOrders(db, userref).add(f"{SURPLUS} {now}", now, books.stored.vol_of_unfilled_remaining)
            Configuration(db, userref).update(vol_of_unfilled_remaining=ZERO, vol_of_unfilled_remaining_max_price=ZERO)
        else:
            txid = args.order if sell is None or sell.sells in NO_BUY else sell.sells
            unsold = UnsoldBuyOrderTXIDs(db, userref)
            buy = unsold.get(txid)
            unsold.remove(txid)
            ForgottenOrders(db, userref).add(txid, now, buy.volume if buy is not None else ZERO)
    write(f"{args.order}: {there[args.order]}. These coins are yours now; reports keep counting them as held.")
    if sell:
        why = (
            "as play money's orders cannot be cancelled" if books.simulated else "unless you cancel it on the exchange"
        )
        write(f"Order {sell.txid} will still be filled, {why}.")
    return 0


def _for_sale(books: Books, forgotten: ForgottenOrders, base: str) -> dict[str, str]:
    """What ``forget`` can leave to the owner: the ORDER to name, and what it is, in words."""
    there = {b.txid: f"{as_text(b.volume)} {base} bought @ {as_text(b.price)}, without a sell" for b in books.unsold}
    for order in (order for order in books.sells if order.sells != EXTRA):  # [funds] protects coins from before
        is_gone = order.txid in forgotten or order.sells in forgotten
        what = f"{as_text(order.rest)} {base} for sale @ {as_text(order.price)}"
        there[order.txid] = f"{what}, forgotten already" if is_gone else what
    if surplus := books.stored.vol_of_unfilled_remaining:
        there[SURPLUS] = f"{as_text(surplus)} {base} of cancelled buys, without a sell"
    return there


def copy_database(source: Path, target: Path) -> None:
    """
    Copy with SQLite's own backup, so that a commit is in the copy completely or not at all. The copy is checked
    before it takes the place of ``target``. Raises DatabaseError.
    """
    draft = target.with_name(f"{target.name}.part")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(read_only(source)) as reading, closing(sqlite3.connect(draft)) as writing:
            reading.backup(writing, pages=PAGES_AT_ONCE)
            writing.execute("PRAGMA journal_mode=DELETE")  # one file, without -wal and -shm
            sound = [row[0] for row in writing.execute("PRAGMA integrity_check")] == ["ok"]
        if not sound:
            raise DatabaseError(f"{source}: is damaged, so no copy was made; see check")
        _to_disk(draft)
        os.replace(draft, target)
        _to_disk(target.parent)
    except (sqlite3.Error, OSError) as exc:
        raise DatabaseError(f"{target}: the copy cannot be made ({exc}). Is there space, may you write there?") from exc
    finally:
        with suppress(OSError):  # on a read-only disk: reported above
            draft.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _must_stand_still(path: Path) -> None:
    """Lock the database, so that its bot cannot start before this command ends. Raises DatabaseError if it runs."""
    if running := single_instance.claim(str(path)):
        raise DatabaseError(f"{running}.\n  Stop it first (and the line in cron that starts it): nothing was changed.")


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise DatabaseError(f"{path}: there is no such file. The bot makes its database at its first start")
