"""
The command ``replay``: a recorded session again, decision by decision.

Engine, strategy, desk and books are the real ones; clock, queue, feed and exchange read from the journal.
Every question and order must be the one that was recorded, with the same arguments, byte for byte; the
first that is not ends the replay and is shown with the number of the frame. Only readings of the clock may
be more or fewer, so that a later version can be tried on the journal of an earlier one.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast

from gridbot.core.cli import VERSION
from gridbot.core.engine import TIMER_SPACING, BotEngine
from gridbot.core.journal import EMPTY, FORMAT, WOKEN, packed, records, unpacked
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.infrastructure.database import MEMORY, DBConnect
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange, IExchangeRESTService, IExchangeWebSocketService
from gridbot.models import configuration
from gridbot.models.configuration import MetricsConfigDTO, Settings
from gridbot.models.exchange import OnMessageSchema

DECISIONS = ("rest.create_order", "rest.cancel_order")
SAME, OTHER = 0, 1
SECTIONS = {"bot": "BotConfigDTO", "paper": "PaperConfigDTO", "demo": "DemoConfigDTO", "funds": "FundsConfigDTO"}


class Diverged(GridBotError):
    """The bot now does something else than was recorded."""


class EndOfJournal(Exception):
    """Nothing more was recorded: not an error, the session is over."""


class Script:
    """The journal, read in step with the bot."""

    def __init__(self, lines: Iterator[tuple[int, dict[str, Any]]]) -> None:
        self._lines = lines
        self._ahead: dict[str, Any] | None = None
        self._now = 0.0
        self._line = 0
        self.frames = 0
        self.decisions = 0
        self.questions = 0

    def _peek(self) -> dict[str, Any]:
        if self._ahead is None:
            try:
                self._line, self._ahead = next(self._lines)
            except StopIteration:
                raise EndOfJournal from None
        return self._ahead

    def _pop(self) -> dict[str, Any]:
        record = self._peek()
        self._ahead = None
        return record

    def clock(self) -> float:
        """The next reading, or the last one again when it was not read here."""
        if self._peek()["k"] == "clock":
            self._now = float(self._pop()["v"])
        return self._now

    def next(self, kind: str, wanted: str) -> dict[str, Any]:
        """The next record, which must be of this kind. Raises Diverged, EndOfJournal."""
        while self._peek()["k"] == "clock":
            self.clock()
        if self._peek()["k"] != kind:
            raise self.other(told(self._peek()), wanted)
        return self._pop()

    def call(self, name: str, args: list[Any]) -> Any:
        """The recorded reply, when this very call was recorded. Raises it, when it was an error."""
        now = {"k": "call", "n": name, "a": _as_json(packed(args))}
        record = self.next("call", told(now))
        if (record["n"], _bytes(record["a"])) != (name, _bytes(now["a"])):
            raise self.other(told(record), told(now))
        if name in DECISIONS:
            self.decisions += 1
        else:
            self.questions += 1
        reply = unpacked(record["r"])
        if isinstance(reply, GridBotError):
            raise reply
        return reply

    def other(self, recorded: str, now: str) -> Diverged:
        """What to say when the two part."""
        return Diverged(
            f"the replay parts from the journal at frame {self.frames} (line {self._line}), after {self.decisions} "
            f"equal decisions:\n  recorded  {recorded}\n  now       {now}"
        )


def told(record: dict[str, Any]) -> str:
    """A record in one line."""
    if record["k"] != "call":
        return "the next turn of the loop" if record["k"] in ("turn", "frame") else f"{record['k']} {record.get('n')}"
    args, kwargs = record["a"][0], record["a"][1].get("O", [])
    words = [_plain(arg) for arg in args] + [f"{key}={_plain(value)}" for key, value in kwargs]
    return f"{record['n']}({', '.join(words)})"


def _plain(value: Any) -> str:
    return str(value["D"]) if isinstance(value, dict) and "D" in value else json.dumps(value)


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _bytes(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


# ---- the recorded world ------------------------------------------------------------------------


class ReplayClock(IClock):
    """Readings from the journal; waiting takes no time."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def time(self) -> float:
        """The next reading."""
        return self._script.clock()

    def monotonic(self) -> float:
        """The next reading."""
        return self._script.clock()

    def wait(self, seconds: float) -> bool:
        """Not waited."""
        return False

    def stopping(self) -> bool:
        """The end of the journal ends the replay."""
        return False


class ReplayREST:
    """Answers with what was answered."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._names: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if not callable(getattr(IExchangeRESTService, name, None)):
            if name not in self._names:
                self._names[name] = self._script.next("name", f"the bot asks for {name}")["v"]
            return self._names[name]
        return lambda *args, **kwargs: self._script.call(f"rest.{name}", [list(args), kwargs])


class ReplayFeed(IExchangeWebSocketService):
    """Frames from the journal, with what the feed had made of them."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def get_required_subscriptions(self, rest_api: IExchangeRESTService) -> list[dict[str, Any]]:
        """As recorded."""
        return list(self._script.call("feed.subscriptions", [[], {}]))

    def start(self, put: Callable[[object], None]) -> None:
        """Nothing to connect."""

    def subscribe(self, params: dict[str, Any]) -> None:
        """Nobody to tell."""

    def on_message(self, message: object) -> list[OnMessageSchema]:
        """What the recorded frame had said."""
        self._script.frames += 1
        return list(unpacked(self._script.next("frame", "a frame")["m"]))

    def close(self) -> None:
        """Nothing to close."""


class ReplayQueue:
    """The turns of the loop."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def put(self, frame: object) -> None:
        """What would come by itself is in the journal already."""

    def get(self, timeout: float) -> object:
        """The recorded turn. Raises Empty for one in which nothing came."""
        turn = self._script.next("turn", "the next turn of the loop")["v"]
        if turn == EMPTY:
            raise Empty
        return None if turn == WOKEN else turn


def engine_of(lines: Iterator[tuple[int, dict[str, Any]]], directory: Path) -> tuple[BotEngine, Script, str]:
    """
    The recorded bot, its script, and the version that recorded it.

    directory  where a strategy of one's own is looked for

    Raises ConfigurationError for a journal that cannot be used.
    """
    try:
        start, stored = next(lines)[1], next(lines)[1]
        if start["k"] != "start" or start["format"] != FORMAT or stored["k"] != "database":
            raise ConfigurationError(f"this journal has format {start.get('format')}; this gridbot reads {FORMAT}")
        sections = {
            name: getattr(configuration, SECTIONS[name])(**values) for name, values in start["settings"].items()
        }
    except (StopIteration, KeyError, ValueError) as exc:
        raise ConfigurationError(f"the beginning of the journal cannot be read ({type(exc).__name__}: {exc})") from exc
    settings = Settings(
        **sections,
        metrics=MetricsConfigDTO(enabled=start["metrics"]["enabled"]),
        config_path=directory / "config.ini",
    )
    db = DBConnect(MEMORY)
    _fill(db, stored["tables"])
    script = Script(lines)
    rest = cast(IExchangeRESTService, ReplayREST(script))
    engine = BotEngine(settings, ReplayClock(script), Exchange(rest, ReplayFeed(script), bool(start["simulated"])), db)
    engine._queue = cast("SimpleQueue[object]", ReplayQueue(script))
    return engine, script, str(start["version"])


def _fill(db: DBConnect, tables: dict[str, dict[str, list[Any]]]) -> None:
    with db.atomic():
        for name, table in tables.items():
            db.execute(f'DELETE FROM "{name}"')
            columns = ", ".join(f'"{column}"' for column in table["columns"])
            marks = ", ".join("?" * len(table["columns"]))
            for row in table["rows"]:
                db.execute(f'INSERT INTO "{name}" ({columns}) VALUES ({marks})', tuple(row))


def play(engine: BotEngine) -> str:
    """Run to the end of the journal; returns how the session ended, in words. Raises Diverged."""
    try:
        engine._connect()
        while True:
            engine.step(TIMER_SPACING)
    except EndOfJournal:
        return "the journal is at its end"
    except Diverged:
        raise
    except GridBotError as exc:
        return f"the bot stopped: {exc.message}"


# ---- the command -------------------------------------------------------------------------------


def add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``replay``."""
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="what run --record JOURNAL has written")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def replay(settings: Settings, args: argparse.Namespace) -> int:
    """The command ``replay``: 0 when every decision is the same, 1 when one is not."""
    engine, script, version = engine_of(records(args.journal), settings.config_path.parent)
    try:
        ending, code = play(engine), SAME
    except Diverged as exc:
        ending, code = exc.message, OTHER
    document = {
        "same": code == SAME,
        "frames": script.frames,
        "decisions": script.decisions,
        "questions": script.questions,
        "recorded_by": version,
        "ending": ending,
    }
    if args.json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return code
    told_version = "" if version == VERSION else f" (recorded by version {version}, replayed by {VERSION})"
    sys.stdout.write(
        f"{script.frames} frames, {script.questions} questions, {script.decisions} orders and cancellations: "
        f"{'all the same, byte for byte' if code == SAME else 'NOT THE SAME'}{told_version}\n{ending}\n"
    )
    return code
