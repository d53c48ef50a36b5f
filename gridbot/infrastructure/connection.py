"""
The connection to the bot's database: opening, integrity, transactions, and errors that say what to do.

One SQLite file in WAL mode with ``synchronous=FULL``. Writes that belong together stand inside
``with db.atomic():``. A write that fails raises DatabaseError. The data in memory may then be ahead of the disk, so
the process must end; the next start reads what is on the disk.
"""

import itertools
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from gridbot.exceptions import ConfigurationError, DatabaseError
from gridbot.infrastructure.migrations import Database, migrations, not_ours

MEMORY = ":memory:"
BUSY_SECONDS = 10.0  # a backup or a report may hold the file for a moment
LEAST_ROOM = 100_000  # bytes of free space; opening a database needs most of them
JOINED = nullcontext()  # for a block inside another one
PAGE_SIZE = 1024  # bytes; a commit writes whole pages, and the rows are small


class DBConnect:
    """The connection: opening, integrity, transactions."""

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        """
        Open ``path`` (or ":memory:") and bring its schema up to date.

        Raises DatabaseError when the file cannot be used, ConfigurationError when it is not the bot's; ``is_intact``
        tells whether it is sound.
        """
        self.path = str(path)
        self._read_only = read_only
        self._file: tuple[int, int] | None = None
        self._open()

    def _open(self) -> None:
        try:
            if self._read_only:
                connection = read_only(Path(self.path))
            else:
                connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
            connection.isolation_level = None
            self.db = Database(connection)
            if not self._read_only:
                self._prepare()
        except sqlite3.Error as exc:
            raise self.explained(exc) from exc
        self._file = self._file_there()

    def _prepare(self) -> None:
        if problem := not_ours(self.db):
            self.db.conn.close()
            raise ConfigurationError(f"[database] path = {self.path}: {problem}. Nothing was changed")
        self.db.execute(f"PRAGMA page_size={PAGE_SIZE}")
        if self.path != MEMORY:
            self.db.enable_wal()
            self.db.execute("PRAGMA synchronous=FULL")
        migrations.apply(self.db)

    def _file_there(self) -> tuple[int, int] | None:
        """Device and inode of the file with our name, None when there is none (or none is needed)."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return None
        except OSError:
            return self._file  # a disk error does not mean that the file is gone
        return there.st_dev, there.st_ino

    def put_back(self) -> str:
        """
        What happened to the file while the bot used it, "" if nothing did. A deleted file is written anew from what
        the open connection still holds. Raises DatabaseError if that fails.
        """
        there = self._file_there()
        if there == self._file:
            return ""
        if there is not None:
            self._file = there
            return (
                f"another file has taken the place of the database {self.path}. Stop the bot, decide which one is "
                "right, start it again: what is booked from now on is not in it"
            )
        try:
            for suffix in ("-wal", "-shm"):  # of the deleted file: they would spoil the new one
                Path(self.path + suffix).unlink(missing_ok=True)
            with closing(sqlite3.connect(self.path)) as copy:
                self.db.conn.backup(copy)
            self.db.conn.close()
        except (OSError, sqlite3.Error) as exc:
            raise DatabaseError(f"database {self.path}: was deleted, and cannot be written anew ({exc})") from exc
        self._open()
        return f"the database {self.path} was deleted while the bot runs; it was written anew, nothing is lost"

    def is_intact(self) -> bool:
        """True when SQLite finds the whole file in order. Raises DatabaseError when it cannot be read just now."""
        try:
            return [row[0] for row in self.db.execute("PRAGMA quick_check")] == ["ok"]
        except sqlite3.DatabaseError as exc:
            if not _is_damage(str(exc)):
                raise self.explained(exc) from exc
            return False

    def atomic(self) -> AbstractContextManager[None]:
        """All of the block, or nothing. An inner block joins the outer one. Raises DatabaseError."""
        return JOINED if self.db.conn.in_transaction else self._transaction()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self.db.atomic():
                yield
        except sqlite3.Error as exc:
            raise self.explained(exc) from exc

    def execute(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """One statement with its values; Decimals must already be text. Raises DatabaseError."""
        try:
            return self.db.conn.execute(sql, values)
        except sqlite3.Error as exc:
            raise self.explained(exc) from exc

    def explained(self, exc: sqlite3.Error) -> DatabaseError:
        """SQLite's error in words that say what to do."""
        text = str(exc)
        if "full" in text or (("I/O" in text or "unable to open" in text) and _is_full(self.path)):
            advice = "The disk is full: free some space and start the bot again; it goes on where it was."
        elif "locked" in text:
            advice = "Another program holds the file: end it, or wait."
        elif "readonly" in text or "unable to open" in text:
            advice = "Check that the folder exists and that this user may write to it."
        elif "malformed" in text or "not a database" in text:
            advice = "The file is damaged. It is moved aside at the next start and rebuilt from the exchange."
        elif any(words in text for words in ("no such table", "no such column", "no such index", "already exists")):
            advice = (
                "Another version wrote this file, and an older one's is brought up to date by the bot's next start; or "
                "a part of it is lost: see check, and bring a copy back (restore FILE)."
            )
        else:
            advice = "Nothing was changed by the failed step."
        return DatabaseError(f"database {self.path}: {text}. {advice}")

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it."""
        self.db.conn.close()


def _is_full(path: str) -> bool:
    """True if the disk has no room left for data or for another file; SQLite's error does not always say so."""
    try:
        disk = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < LEAST_ROOM or (disk.f_files > 0 and disk.f_favail == 0)


def read_only(path: Path) -> sqlite3.Connection:
    """
    A connection that only reads. Raises sqlite3.Error, and DatabaseError for a log that cannot be read.

    Even for reading, SQLite must create files beside a database in WAL mode. If this user may not do that, the file
    is read alone, without its log. That is right only if the bot ended properly and left no log.
    """
    address = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as exc:
        connection.close()
        if exc.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or not path.exists():
            raise
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise DatabaseError(
                f"database {path}: {log.name} holds what was written last, and only a user who may write to "
                f"{path.parent} can read it. Ask as the user who starts the bot"
            ) from exc
        connection = sqlite3.connect(f"{address}&immutable=1", uri=True)
    return connection


def open_or_rebuild(path: Path, now: float) -> tuple[DBConnect, str]:
    """
    Open the database. A damaged one is renamed, and an empty one takes its place, to be filled from the exchange.
    Returns the database, and a text for the owner, "" if all is well.

    now  unix seconds, for the name of the damaged file
    """
    path = Path(os.path.realpath(path))  # else a link would be renamed, and its file, whose lock the bot holds, stay
    try:
        db = DBConnect(path)
        if db.is_intact():
            return db, ""
        db.close()
    except DatabaseError as exc:
        if not isinstance(exc.__cause__, sqlite3.DatabaseError) or not _is_damage(str(exc.__cause__)):
            raise
    aside = spare_name(path.with_name(f"{path.name}.damaged-{now:.0f}"))
    move_aside(path, aside)
    return DBConnect(path), (
        f"the database {path} was damaged; it is kept as {aside.name}. Open orders are adopted from the exchange; "
        "what earlier trades earned is known there and in the damaged file only."
    )


def spare_name(path: Path) -> Path:
    """``path``, numbered if names begin so already: a clock may show one second twice, and no file is replaced."""
    there = [entry.name for entry in path.parent.iterdir()]
    names = (path.with_name(f"{path.name}-{n}" if n else path.name) for n in itertools.count())
    return next(name for name in names if not any(other.startswith(name.name) for other in there))


def keep_aside(database: Path, aside: Path) -> None:
    """
    Give the database a second name, ``aside``, that it keeps when another file takes its place: so there is one at
    every moment, whatever kills us. Its log is folded into it first, because a log must never meet another file. A
    database that is damaged, or in use, or on a disk that knows no second names, is moved.
    """
    try:
        until = time.monotonic() + BUSY_SECONDS
        while not _is_folded(database):  # status or report holds it for a moment; SQLite does not wait here
            if time.monotonic() > until:
                raise sqlite3.OperationalError("the log is still in use")
            time.sleep(0.05)
        os.link(database, aside)
    except (sqlite3.Error, OSError):
        move_aside(database, aside)


def _is_folded(database: Path) -> bool:
    """Fold the log into the database; False while another program holds the file."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            return bool(connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",))
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False


def move_aside(database: Path, aside: Path) -> None:
    """Rename the database to ``aside``, and its -wal and -shm files, if they exist, accordingly."""
    for suffix in ("", "-wal", "-shm"):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))


def _is_damage(text: str) -> bool:
    return any(words in text for words in ("malformed", "not a database", "unsupported file format", "decode to UTF-8"))
