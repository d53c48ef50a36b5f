"""
The journal of a session: everything that reached the bot's main thread, in one order, in one file.

Recorded are every question and order with its reply or its error, what the feed made of every frame, the
turns of the loop, and every reading of the clock; at the beginning the settings that matter and the database.
Keys, tokens and addresses are not part of that; a key or token that appears all the same is replaced by "(removed)".
The journal is gzipped JSON, one record a line. The main thread writes it through a buffer: a power cut loses its end.

    {"n":"clock","r":12.5}  {"n":"queue.get","r":"frame"}  {"n":"rest.create_order","a":[[],{...}],"r":{...}}
"""

import gzip
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast

from pydantic import BaseModel

from gridbot import exceptions
from gridbot.core import VERSION
from gridbot.core.engine import BotEngine
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange, IExchangeRESTService, IExchangeWebSocketService
from gridbot.models import exchange as exchange_models
from gridbot.models.configuration import Settings

LOG = logging.getLogger(__name__)

FORMAT = 5
FLUSH_SECONDS = 5.0  # the most of a session that is lost when the process is killed
BLOT = "(removed)"
CUT_OFF = "cut off"  # follows the last record of a journal that its process did not close
DAMAGED = "damaged"  # follows the last readable record of a damaged one; "r" says where, and what is wrong
EMPTY, FRAME = "empty", "frame"  # turns of the loop
STOPPING = "stopping"
KEPT_SECTIONS = {"bot", "paper", "demo", "funds"}
# Not recorded: tables of SQLite and of the migrations. (The nonce and other marks of the key are in no table.)
FOREIGN_TABLES = ("sqlite_", "_sqlite")


def as_json(value: Any) -> str:
    """``value`` in one line that ``from_json`` turns into an equal value; the repr of a type it does not know."""
    return json.dumps(value, separators=(",", ":"), default=_packed)


def from_json(text: str) -> Any:
    """What ``as_json`` was given; a tuple comes back as a list, an error as an object (it is not raised)."""
    return json.loads(text, object_hook=_unpacked)


def _packed(value: Any) -> Any:
    match value:
        case Decimal():
            return {"$decimal": str(value)}
        case BaseModel():
            return {"$model": type(value).__name__, "fields": value.model_dump(mode="json")}
        case GridBotError():
            # An adapter's own error is recorded as the class of gridbot.exceptions that it derives from.
            name = next(kind.__name__ for kind in type(value).__mro__ if kind.__module__ == exceptions.__name__)
            return {"$error": name, "m": value.message, "after": getattr(value, "retry_after", None)}
    return repr(value)


def _unpacked(found: dict[str, Any]) -> Any:
    match found:
        case {"$decimal": text}:
            return Decimal(text)
        case {"$model": name, "fields": fields}:
            return getattr(exchange_models, name).model_validate(fields, strict=False)
        case {"$error": name, "m": message, "after": after}:
            known: Any = getattr(exceptions, name, GridBotError)
            return known(message) if after is None else known(message, after)
    return found


class Journal:
    """Writes records, and replaces secrets in them."""

    def __init__(self, path: Path, secrets: list[str]) -> None:
        """Raises ConfigurationError when the file cannot be written or exists already."""
        self._file = _new(path)
        self._secrets = [json.dumps(secret)[1:-1] for secret in secrets]
        self._next_flush = 0.0
        self._is_full = False
        self._under_way = False  # True during a call: what the adapter itself calls meanwhile is not recorded

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; does nothing after ``close``. A full disk ends the journal, not the trading."""
        text = as_json(record)
        for secret in self._secrets:
            text = text.replace(secret, BLOT)
        self._put(text.encode() + b"\n")

    def _put(self, data: bytes, flush: bool = False) -> None:
        if self._file.closed or self._is_full:
            return
        try:
            self._file.write(data)
            if flush or time.monotonic() >= self._next_flush:
                self._next_flush = time.monotonic() + FLUSH_SECONDS
                self._file.flush()
        except OSError as exc:
            self._is_full = True
            LOG.warning("the journal ends here: it cannot be written (%s); trading goes on", exc.strerror)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        try:
            self._file.close()
        except OSError as exc:
            LOG.warning("the journal could not be ended (%s)", exc.strerror)

    def called(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make one call of the bot, and record its reply or error."""
        if self._under_way:
            return call(*args, **kwargs)
        self._under_way = True
        record: dict[str, Any] = {"n": name, "a": [args, kwargs]}
        if name.startswith("rest."):
            self._put(b"", flush=True)  # should the call hang, the file holds what led to it; costs no fsync
        try:
            reply = call(*args, **kwargs)
        except GridBotError as exc:
            self.write(record | {"r": exc})
            raise
        finally:
            self._under_way = False
        self.write(record | {"r": reply})
        return reply

    def clock(self, reading: float) -> float:
        """Record a reading, and give it back."""
        self.write({"n": "clock", "r": reading})
        return reading

    def stopping(self, is_asked: bool) -> bool:
        """Record where the bot noticed that it must stop: a replay ends there."""
        if is_asked:
            self.write({"n": STOPPING})
        return is_asked


def check_record(path: Path) -> None:
    """Raises ConfigurationError if no journal can be written to ``path``; called before the start is counted."""
    _new(path).close()
    path.unlink()


def _new(path: Path) -> gzip.GzipFile:
    try:
        return gzip.open(path, "xb", compresslevel=6)
    except FileExistsError:
        raise ConfigurationError(f"--record {path}: exists already; name another file") from None
    except OSError as exc:
        raise ConfigurationError(f"--record {path}: {exc.strerror}. Name a file in a folder you may write to") from exc


class Taped:
    """Stands in for the exchange's REST side or its feed, and passes every call of the bot to the tape."""

    def __init__(self, name: str, part: Any, tape: Any) -> None:
        """``tape``: a Journal that records ``part``, or the Script of a replay; ``part`` is then just the interface."""
        self._name = name
        self._part = part
        self._tape = tape

    def __getattr__(self, name: str) -> Any:
        found, called = getattr(self._part, name), f"{self._name}.{name}"
        if callable(found):
            return lambda *args, **kwargs: self._tape.called(called, found, *args, **kwargs)
        return self._tape.called(called, lambda: found)

    def close(self) -> None:
        """Close the part. The engine closes REST last, so the journal ends with it."""
        self._part.close()
        if self._name == "rest":
            self._tape.close()


class TapedClock(IClock):
    """The clock of engine, desk and strategy; the adapters' threads use the original."""

    def __init__(self, clock: IClock, tape: Any) -> None:
        self._clock = clock
        self._tape = tape

    def time(self) -> float:
        return float(self._tape.clock(self._clock.time()))

    def monotonic(self) -> float:
        return float(self._tape.clock(self._clock.monotonic()))

    def wait(self, seconds: float) -> bool:
        return self._clock.wait(seconds)

    def stopping(self) -> bool:
        return bool(self._tape.stopping(self._clock.stopping()))


class RecordedQueue:
    """The engine's queue; it also records turns of the loop without a frame."""

    def __init__(self, queue: "SimpleQueue[object]", journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self.put = queue.put

    def get(self, timeout: float) -> object:
        """The next frame; None for a wake-up, or if none comes within ``timeout`` seconds."""
        frame = None
        with suppress(Empty):
            frame = self._queue.get(timeout=timeout)
        self._journal.write({"n": "queue.get", "r": EMPTY if frame is None else FRAME})
        return frame

    def empty(self) -> bool:
        is_empty = self._queue.empty()
        self._journal.write({"n": "queue.empty", "r": is_empty})
        return is_empty


def record_session(path: Path, settings: Settings, clock: IClock, exchange: Exchange, db: DBConnect) -> BotEngine:
    """An engine that records its session in a new journal at ``path``. Raises ConfigurationError."""
    journal = Journal(path, settings.secrets())
    journal.write(
        {
            "n": "start",
            "format": FORMAT,
            "version": VERSION,
            "simulated": exchange.simulated,
            "settings": settings.model_dump(mode="json", include=KEPT_SECTIONS),
            "metrics": settings.metrics.enabled,
            "tables": tables_of(db),
        }
    )
    heard = Exchange(
        cast(IExchangeRESTService, Taped("rest", exchange.rest, journal)),
        cast(IExchangeWebSocketService, Taped("feed", exchange.feed, journal)),
        exchange.simulated,
    )
    engine = BotEngine(settings, TapedClock(clock, journal), heard, db)
    engine._queue = cast("SimpleQueue[object]", RecordedQueue(engine._queue, journal))
    return engine


def tables_of(db: DBConnect) -> dict[str, dict[str, list[Any]]]:
    """Columns and rows of every table of gridbot."""
    tables: dict[str, dict[str, list[Any]]] = {}
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if not name.startswith(FOREIGN_TABLES):
            cursor = db.execute(f'SELECT * FROM "{name}"')
            tables[name] = {"columns": [column[0] for column in cursor.description], "rows": cursor.fetchall()}
    return tables


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    (line number, record) of a journal. A record CUT_OFF follows the last one if the journal was not closed, DAMAGED if
    the rest cannot be read. Raises ConfigurationError if not even the first record can be read.
    """
    number = 1
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield number, _record(line)
                number += 1
    except EOFError:
        yield number, {"n": CUT_OFF}
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except (OSError, ValueError, zlib.error) as exc:
        if number == 1:
            raise ConfigurationError(f"{path}, line 1: this is not a journal of gridbot ({exc})") from exc
        # The damage may be before this line: a changed bit may leave a record that can still be read.
        yield number, {"n": DAMAGED, "r": f"{path} is damaged at line {number} or before it ({exc})"}


def _record(line: str) -> dict[str, Any]:
    """The record in a line. Raises ValueError if it is not one."""
    try:
        record: dict[str, Any] = from_json(line)
    except Exception as exc:  # damage may have turned a name or a number into anything
        raise ValueError(f"{type(exc).__name__}: {exc}") from exc
    match record:
        case {"n": "clock", "r": int() | float()} | {"n": "start"} | {"n": str(), "a": [list(), dict()], "r": _}:
            return record
        case {"n": str(name)} if name == STOPPING or (name.startswith("queue.") and "r" in record):
            return record
    raise ValueError("no record of a journal")
