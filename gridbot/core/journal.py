"""
The journal of a session: everything that reached the bot's main thread, in one order, in one file.

Recorded are every question and order with its reply or its error, what the feed made of every frame, the
turns of the loop, and every reading of the clock; at the beginning the settings that matter and the database.
Keys, tokens and addresses are not part of that, and whatever looks like one of them is blotted out all the
same. Lines of JSON, gzipped, written by the main thread through a buffer: a power cut loses the last of it.

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
from gridbot.core.cli import VERSION
from gridbot.core.engine import BotEngine
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange, IExchangeRESTService, IExchangeWebSocketService
from gridbot.models import exchange as exchange_models
from gridbot.models.configuration import Settings

LOG = logging.getLogger(__name__)

FORMAT = 5
FLUSH_SECONDS = 5.0  # so much of a session is lost at the most when the process is killed
BLOT = "(removed)"
CUT_OFF = "cut off"  # stands behind the last record of a journal whose process did not end it
DAMAGED = "damaged"  # stands behind the last record that can be read; "r" says where, and what is wrong
EMPTY, FRAME = "empty", "frame"  # turns of the loop
STOPPING = "stopping"
KEPT_SECTIONS = {"bot", "paper", "demo", "funds"}
# The nonce and other marks of the key are in no table; these are SQLite's and the migrations' own.
FOREIGN_TABLES = ("sqlite_", "_sqlite")


def as_json(value: Any) -> str:
    """``value`` as one line, so that ``from_json`` gives back an equal one; what it cannot hold as its repr."""
    return json.dumps(value, separators=(",", ":"), default=_packed)


def from_json(text: str) -> Any:
    """What ``as_json`` was given; a tuple comes back as a list, an error as the error, not raised."""
    return json.loads(text, object_hook=_unpacked)


def _packed(value: Any) -> Any:
    match value:
        case Decimal():
            return {"$decimal": str(value)}
        case BaseModel():
            return {"$model": type(value).__name__, "fields": value.model_dump(mode="json")}
        case GridBotError():
            # An adapter's own errors are known to the bot by what they are kinds of.
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
    """Writes records, secrets blotted out."""

    def __init__(self, path: Path, secrets: list[str]) -> None:
        """Raises ConfigurationError when the file cannot be written or exists already."""
        self._file = _new(path)
        self._secrets = [json.dumps(secret)[1:-1] for secret in secrets]
        self._next_flush = 0.0
        self._is_full = False
        self._under_way = False  # a call: what an adapter asks inside of one is not the bot's question

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; after the end nothing is added. A full disk ends the journal, not the trading."""
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
        """End the file; twice does no harm."""
        try:
            self._file.close()
        except OSError as exc:
            LOG.warning("the journal could not be ended (%s)", exc.strerror)

    def called(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Carry out one call of the bot and record what came of it."""
        if self._under_way:
            return call(*args, **kwargs)
        self._under_way = True
        record: dict[str, Any] = {"n": name, "a": [args, kwargs]}
        if name.startswith("rest."):
            self._put(b"", flush=True)  # a call that hangs shall not keep what led to it; costs some bytes, no fsync
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
        """Record where a stop was noticed: that is the end of what is replayed."""
        if is_asked:
            self.write({"n": STOPPING})
        return is_asked


def check_record(path: Path) -> None:
    """Return when a journal can be written to ``path``. Raises ConfigurationError, before a start counts as one."""
    _new(path).close()
    path.unlink()


def _new(path: Path) -> gzip.GzipFile:
    try:
        return gzip.open(path, "xb", compresslevel=6)
    except FileExistsError:
        raise ConfigurationError(f"--record {path}: exists already; name another file") from None
    except OSError as exc:
        raise ConfigurationError(f"--record {path}: {exc.strerror}. Name a file in a folder that exists") from exc


class Taped:
    """The exchange's REST side or its feed, and everything the bot asks of it."""

    def __init__(self, name: str, part: Any, tape: Any) -> None:
        """``tape``: the Journal to be written, or the Script of one that was; then ``part`` is only its interface."""
        self._name = name
        self._part = part
        self._tape = tape

    def __getattr__(self, name: str) -> Any:
        found, called = getattr(self._part, name), f"{self._name}.{name}"
        if callable(found):
            return lambda *args, **kwargs: self._tape.called(called, found, *args, **kwargs)
        return self._tape.called(called, lambda: found)

    def close(self) -> None:
        """The last thing the engine does with its exchange: the journal ends here, too."""
        self._part.close()
        if self._name == "rest":
            self._tape.close()


class TapedClock(IClock):
    """The clock of engine, desk and strategy; the adapters' threads keep the one below."""

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
    """The engine's queue: turns of the loop without a frame are recorded as well."""

    def __init__(self, queue: "SimpleQueue[object]", journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self.put = queue.put

    def get(self, timeout: float) -> object:
        """As the queue below; None, as for a wake-up, where nothing comes."""
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
    """The engine of these parts, with a journal at ``path`` listening. Raises ConfigurationError."""
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
    """Columns and rows of every table of ours."""
    tables: dict[str, dict[str, list[Any]]] = {}
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if not name.startswith(FOREIGN_TABLES):
            cursor = db.execute(f'SELECT * FROM "{name}"')
            tables[name] = {"columns": [column[0] for column in cursor.description], "rows": cursor.fetchall()}
    return tables


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    (line number, record) of a journal; behind the last one CUT_OFF if there is no end, or DAMAGED. Raises
    ConfigurationError where not even the first can be read.
    """
    number = 1
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield number, _record(line)
                number += 1
    except EOFError:
        yield number, {"n": CUT_OFF}  # what is there counts
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except (OSError, ValueError, zlib.error) as exc:
        if number == 1:
            raise ConfigurationError(f"{path}, line 1: this is not a journal of gridbot ({exc})") from exc
        # A changed bit may well have left something that could be read.
        yield number, {"n": DAMAGED, "r": f"{path} is damaged at line {number} or before it ({exc})"}


def _record(line: str) -> dict[str, Any]:
    """What a line holds. Raises ValueError when that is no record."""
    try:
        record: dict[str, Any] = from_json(line)
    except Exception as exc:  # a name or a number in it may have become anything
        raise ValueError(f"{type(exc).__name__}: {exc}") from exc
    match record:
        case {"n": "clock", "r": int() | float()} | {"n": "start"} | {"n": str(), "a": [list(), dict()], "r": _}:
            return record
        case {"n": str(name)} if name == STOPPING or (name.startswith("queue.") and "r" in record):
            return record
    raise ValueError("no record of a journal")
