"""
The command ``replay``: runs a recorded session again and compares every decision.

Engine, strategy, desk and books are the real ones; clock, queue, feed and exchange read from the journal.
Every question and order must be the one that was recorded, with the same arguments, byte for byte; the
first that differs ends the replay and is shown with the number of the frame. Only the number of clock readings may
differ, so that a later version can be tried on the journal of an earlier one.
"""

import argparse
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from gridbot.core import VERSION, journal
from gridbot.core.arguments import write
from gridbot.core.backtest import MarketClock
from gridbot.core.engine import TIMER_SPACING, BotEngine
from gridbot.core.journal import Taped, TapedClock, as_json, from_json, records
from gridbot.core.logging_setup import set_up_logging
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.infrastructure.database import MEMORY, DBConnect
from gridbot.interfaces.exchange import Exchange, IExchangeRESTService, IExchangeWebSocketService
from gridbot.models.configuration import LoggingConfigDTO, MetricsConfigDTO, Settings

DECISIONS = ("rest.create_order", "rest.cancel_order")
SAME, OTHER = 0, 1


class Diverged(GridBotError):
    """The bot now does something other than what was recorded."""


class EndOfJournal(Exception):
    """Nothing more was recorded: not an error, the session is over."""


class Script:
    """Answers the bot's calls with the replies in the journal."""

    def __init__(self, lines: Iterator[tuple[int, dict[str, Any]]]) -> None:
        self._lines = lines
        self._ahead: dict[str, Any] | None = None
        self._now = 0.0
        self._line = 0
        self._damage = ""
        self.frames = 0
        self.decisions = 0
        self.questions = 0

    def _peek(self) -> dict[str, Any]:
        if self._ahead is None:
            try:
                self._line, self._ahead = next(self._lines)
            except StopIteration:
                raise EndOfJournal("the journal is at its end") from None
            if self._ahead["n"] == journal.CUT_OFF:
                raise EndOfJournal("the journal is cut off here: the process that wrote it did not end properly")
            if self._ahead["n"] == journal.DAMAGED:
                self._damage = self._ahead["r"]
                raise EndOfJournal("the journal cannot be read any further")
        return self._ahead

    def damage(self) -> str:
        """What is wrong with the journal, "" for nothing. Reads the rest of it: the checksum is at the end."""
        for _, record in self._lines:
            if record["n"] == journal.DAMAGED:
                self._damage = record["r"]
        return self._damage

    def clock(self, _reading: float = 0.0) -> float:
        """The next recorded reading; if the clock was not read here in the recording, the last one again."""
        record = self._peek()
        if record["n"] == "clock":
            self._ahead = None
            self._now = float(record["r"])
        return self._now

    def stopping(self, _is_asked: bool = False) -> bool:
        """True where the recorded bot noticed that it was asked to stop."""
        return bool(self._peek()["n"] == journal.STOPPING)

    def called(self, name: str, _call: object, *args: Any, **kwargs: Any) -> Any:
        """
        The recorded reply, if the next recorded call is this one; a recorded error is raised. Arguments are compared
        for calls of the REST side only, of others just the name. Raises Diverged, EndOfJournal.
        """
        while self._peek()["n"] == "clock":
            self.clock()
        if self.stopping():
            raise EndOfJournal("the bot was asked to stop")
        record, now = self._peek(), {"n": name, "a": [args, kwargs]}
        compared = ("n", "a") if name.startswith("rest.") else ("n",)
        if any(as_json(record.get(key)) != as_json(now[key]) for key in compared):
            raise Diverged(
                f"the replay parts from the journal at frame {self.frames} (line {self._line}), after "
                f"{self.decisions} equal decisions:\n  recorded  {told(record)}\n  now       {told(now)}"
            )
        self._ahead = None
        self.frames += name == "feed.on_message"
        self.decisions += name in DECISIONS
        self.questions += name.startswith("rest.") and name not in DECISIONS
        if isinstance(record["r"], GridBotError):
            raise record["r"]
        return record["r"]


def told(record: dict[str, Any]) -> str:
    """A record in one line."""
    if not record["n"].startswith("rest."):
        return "the next turn of the loop"
    # Through JSON: what was recorded and what is asked now must read alike.
    args, kwargs = from_json(as_json(record["a"]))
    words = [_plain(arg) for arg in args] + [f"{key}={_plain(value)}" for key, value in kwargs.items()]
    return f"{record['n']}({', '.join(words)})"


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else as_json(value)


class ReplayedQueue:
    """The turns of the loop."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def put(self, frame: object) -> None:
        """Ignored: the journal says when a frame came."""

    def get(self, timeout: float) -> object:
        """FRAME if the recorded turn had a frame, otherwise None."""
        turn = self._script.called("queue.get", None)
        return turn if turn == journal.FRAME else None

    def empty(self) -> bool:
        return bool(self._script.called("queue.empty", None))


def engine_of(lines: Iterator[tuple[int, dict[str, Any]]], directory: Path) -> tuple[BotEngine, Script, str]:
    """
    The recorded bot, its script, and the version that recorded it.

    directory  where the owner's own strategy is looked for

    Raises ConfigurationError for a journal that cannot be used.
    """
    try:
        start: dict[str, Any] = next(lines, (0, {"n": journal.CUT_OFF}))[1]
        if start["n"] == journal.CUT_OFF:
            raise ConfigurationError("the journal is empty: the process that wrote it ended before its first record")
        if start.get("n") != "start" or start["format"] != journal.FORMAT:
            wrong = start.get("format")
            raise ConfigurationError(f"this journal has format {wrong}; this gridbot reads {journal.FORMAT}")
        metrics = MetricsConfigDTO(enabled=start["metrics"])
        settings = Settings(**start["settings"], metrics=metrics, config_path=directory / "config.ini")
        simulated, version = start["simulated"], str(start["version"])
        _fill(db := DBConnect(MEMORY), start["tables"])
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"the beginning of the journal cannot be read ({type(exc).__name__}: {exc})") from exc
    script = Script(lines)
    exchange = Exchange(
        cast(IExchangeRESTService, Taped("rest", IExchangeRESTService, script)),
        cast(IExchangeWebSocketService, Taped("feed", IExchangeWebSocketService, script)),
        simulated,
    )
    try:
        engine = BotEngine(settings, TapedClock(MarketClock(), script), exchange, db)
    except EndOfJournal as exc:
        why = script.damage() or exc
        raise ConfigurationError(f"the journal ends before the bot was up, there is nothing to replay: {why}") from exc
    engine._queue = cast("SimpleQueue[object]", ReplayedQueue(script))
    return engine, script, version


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
    except EndOfJournal as exc:
        return str(exc)
    except Diverged:
        raise
    except GridBotError as exc:
        return f"the bot stopped: {exc.message}"


def replay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="what run --record JOURNAL has written")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def replay(args: argparse.Namespace) -> int:
    """
    The command ``replay``: 0 if every decision is the same, 1 if one is not or the journal is damaged. The settings
    come from the journal; --config FILE only names the directory where the owner's own strategy is looked for.
    """
    set_up_logging(LoggingConfigDTO(level="DEBUG" if args.verbose else "WARNING"), (), sys.stderr)
    engine, script, version = engine_of(records(args.journal), Path(args.config).parent)
    code, verdict = SAME, "all the same, byte for byte"
    try:
        ending = play(engine)
    except Diverged as exc:
        code, verdict, ending = OTHER, "NOT THE SAME", exc.message
    if damage := script.damage():
        verdict = "all the same so far, BUT THE JOURNAL IS DAMAGED" if code == SAME else verdict
        code, ending = OTHER, f"{ending}\n{damage}. Copy the file once more from where it was recorded"
    versions = "" if version == VERSION else f" (recorded by version {version}, replayed by {VERSION})"
    counts = {"frames": script.frames, "decisions": script.decisions, "questions": script.questions}
    text = (
        f"{script.frames} frames, {script.questions} questions, {script.decisions} orders and cancellations: "
        f"{verdict}{versions}\n{ending}"
    )
    write({"same": code == SAME, **counts, "recorded_by": version, "ending": ending} if args.json else text)
    return code
