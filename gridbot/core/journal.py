"""
The journal of a session: everything that reached the bot's main thread, in one order, in one file.

Recorded are the frames and what the feed made of them, every question and order with its reply or its
error, and every reading of the clock; at the beginning the settings that matter and the database. Keys,
tokens and addresses are not part of that, and whatever looks like one of them is blotted out all the same.
Lines of JSON, gzipped, written by the main thread through a buffer: a power cut loses the last of it.

    {"k":"clock","v":12.5}  {"k":"turn","f":1}  {"k":"call","n":"rest.create_order","a":{...},"r":{...}}
"""

import gzip
import json
from collections.abc import Callable, Iterator
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

FORMAT = 1
FLUSH_EVERY = 2000  # records; a flush costs a write to the disk
BLOT = "(removed)"
EMPTY, WOKEN = "empty", "woken"  # turns of the loop without a frame
KEPT_SECTIONS = ("bot", "paper", "demo", "funds")
# The nonce and other marks of the key are in no table; these are SQLite's and the migrations' own.
FOREIGN_TABLES = ("sqlite_", "_sqlite")


# ---- values as JSON ----------------------------------------------------------------------------


def packed(value: Any) -> Any:
    """``value`` as JSON can hold it, so that ``unpacked`` gives back an equal one."""
    if isinstance(value, Decimal):
        return {"D": str(value)}
    if isinstance(value, BaseModel):
        fields = {name: packed(getattr(value, name)) for name in type(value).model_fields}
        return {"M": type(value).__name__, "v": fields}
    if isinstance(value, tuple):
        return {"T": [packed(item) for item in value]}
    if isinstance(value, list):
        return [packed(item) for item in value]
    if isinstance(value, dict):
        return {"O": [[key, packed(item)] for key, item in value.items()]}
    if isinstance(value, GridBotError):
        return {"E": type(value).__name__, "m": value.message, "a": getattr(value, "retry_after", None)}
    if isinstance(value, bytes):
        return {"B": value.decode("utf-8", "replace")}
    return value if value is None or isinstance(value, str | int | float | bool) else {"X": repr(value)}


def unpacked(value: Any) -> Any:
    """What ``packed`` was given. An error comes back as the error, not raised."""
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"D": text}:
            return Decimal(text)
        case {"M": name, "v": fields}:
            return getattr(exchange_models, name)(**{key: unpacked(item) for key, item in fields.items()})
        case {"T": items}:
            return tuple(unpacked(item) for item in items)
        case {"O": items}:
            return {key: unpacked(item) for key, item in items}
        case {"E": name, "m": message, "a": after}:
            known: Any = getattr(exceptions, name, GridBotError)
            return known(message) if after is None else known(message, after)
        case {"B": text}:
            return text.encode()
    return value


# ---- writing -----------------------------------------------------------------------------------


class Journal:
    """Writes records, secrets blotted out."""

    def __init__(self, path: Path, secrets: list[str]) -> None:
        """Raises ConfigurationError when the file cannot be written or exists already."""
        try:
            raw = path.open("xb")
        except FileExistsError:
            raise ConfigurationError(f"--record {path}: exists already; name another file") from None
        except OSError as exc:
            raise ConfigurationError(f"--record {path}: {exc.strerror}. Name a file in a folder that exists") from exc
        self._raw = raw
        self._file = gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6)
        self._secrets = [json.dumps(secret)[1:-1] for secret in secrets]
        self._since_flush = 0
        self._depth = 0  # calls under way: what an adapter asks inside of one is not the bot's question

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; after the end nothing is added."""
        if self._file.closed:
            return
        text = json.dumps(record, separators=(",", ":"))
        for secret in self._secrets:
            text = text.replace(secret, BLOT)
        self._file.write(text.encode() + b"\n")
        self._since_flush += 1
        if self._since_flush >= FLUSH_EVERY:
            self._since_flush = 0
            self._file.flush()

    def close(self) -> None:
        """End the file; twice does no harm."""
        self._file.close()
        self._raw.close()

    def begin(self, settings: Settings, db: DBConnect, version: str, simulated: bool) -> None:
        """The settings that matter to decisions, and the database as it stands."""
        document = json.loads(settings.model_dump_json(include=set(KEPT_SECTIONS) & set(Settings.model_fields)))
        metrics = {"enabled": settings.metrics.enabled}
        self.write(
            {
                "k": "start",
                "format": FORMAT,
                "version": version,
                "simulated": simulated,
                "settings": document,
                "metrics": metrics,
            }
        )
        self.write({"k": "database", "tables": tables_of(db)})

    def called(self, name: str, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one call of the bot and record what came of it."""
        if self._depth:
            return call(*args, **kwargs)
        self._depth += 1
        record: dict[str, Any] = {"k": "call", "n": name, "a": packed([list(args), kwargs])}
        try:
            reply = call(*args, **kwargs)
        except GridBotError as exc:
            self.write(record | {"r": packed(exc)})
            raise
        finally:
            self._depth -= 1
        self.write(record | {"r": packed(reply)})
        return reply


def tables_of(db: DBConnect) -> dict[str, dict[str, list[Any]]]:
    """Every row of every table of ours."""
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables: dict[str, dict[str, list[Any]]] = {}
    for name in names:
        if not name.startswith(FOREIGN_TABLES):
            cursor = db.execute(f'SELECT * FROM "{name}"')
            columns = [column[0] for column in cursor.description]
            tables[name] = {"columns": columns, "rows": [list(row) for row in cursor]}
    return tables


class RecordingClock(IClock):
    """The clock of engine, desk and strategy; the adapters' threads keep the one below."""

    def __init__(self, clock: IClock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal

    def _read(self, value: float) -> float:
        self._journal.write({"k": "clock", "v": value})
        return value

    def time(self) -> float:
        """As the clock below."""
        return self._read(self._clock.time())

    def monotonic(self) -> float:
        """As the clock below."""
        return self._read(self._clock.monotonic())

    def wait(self, seconds: float) -> bool:
        """As the clock below."""
        return self._clock.wait(seconds)

    def stopping(self) -> bool:
        """As the clock below; a stop is simply the end of the journal."""
        return self._clock.stopping()


class RecordingREST:
    """Everything the bot asks and orders."""

    def __init__(self, rest: IExchangeRESTService, journal: Journal) -> None:
        self._rest = rest
        self._journal = journal
        self._told: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._rest, name)
        if callable(found):
            return lambda *args, **kwargs: self._journal.called(f"rest.{name}", found, args, kwargs)
        if name not in self._told:
            self._told.add(name)
            self._journal.write({"k": "name", "n": name, "v": found})
        return found

    def close(self) -> None:
        """The last thing the engine does with its exchange: the journal ends here, too."""
        self._rest.close()
        self._journal.close()


class RecordingFeed(IExchangeWebSocketService):
    """The feed, and what it makes of every frame."""

    def __init__(self, exchange: Exchange, journal: Journal) -> None:
        self._rest = exchange.rest
        self._feed = exchange.feed
        self._journal = journal

    def get_required_subscriptions(self, rest_api: IExchangeRESTService) -> list[dict[str, Any]]:
        """As the feed below, which asks the exchange directly: that is not the bot's question."""
        return list(
            self._journal.called(
                "feed.subscriptions", lambda: self._feed.get_required_subscriptions(self._rest), (), {}
            )
        )

    def start(self, put: Callable[[object], None]) -> None:
        """As the feed below."""
        self._feed.start(put)

    def subscribe(self, params: dict[str, Any]) -> None:
        """As the feed below."""
        self._feed.subscribe(params)

    def on_message(self, message: object) -> list[Any]:
        """As the feed below; the frame is kept beside what it said."""
        messages = self._feed.on_message(message)
        self._journal.write({"k": "frame", "f": packed(message), "m": packed(messages)})
        return messages

    def close(self) -> None:
        """As the feed below."""
        self._feed.close()


class RecordingQueue:
    """The engine's queue: turns without a frame are recorded as well."""

    def __init__(self, queue: "SimpleQueue[object]", journal: Journal) -> None:
        self._queue = queue
        self._journal = journal
        self.put = queue.put

    def get(self, timeout: float) -> object:
        """As the queue below. Raises Empty."""
        try:
            frame = self._queue.get(timeout=timeout)
        except Empty:
            self._journal.write({"k": "turn", "v": EMPTY})
            raise
        self._journal.write({"k": "turn", "v": WOKEN if frame is None else "frame"})
        return frame


def record_session(path: Path, settings: Settings, clock: IClock, exchange: Exchange, db: DBConnect) -> BotEngine:
    """The engine of these parts, with a journal at ``path`` listening. Raises ConfigurationError."""
    journal = Journal(path, settings.secrets())
    journal.begin(settings, db, VERSION, exchange.simulated)
    heard = Exchange(
        cast(IExchangeRESTService, RecordingREST(exchange.rest, journal)),
        RecordingFeed(exchange, journal),
        exchange.simulated,
    )
    engine = BotEngine(settings, RecordingClock(clock, journal), heard, db)
    engine._queue = cast("SimpleQueue[object]", RecordingQueue(engine._queue, journal))
    return engine


# ---- reading -----------------------------------------------------------------------------------


def records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of a journal; one that was cut off ends early. Raises ConfigurationError."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.endswith("\n"):
                    yield number, json.loads(line)
    except EOFError:
        return  # the machine stopped while it recorded: what is there counts
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{path}, line {number + 1}: this is not a journal of gridbot ({exc})") from exc
