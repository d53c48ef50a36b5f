"""
The command line. A command is a line in COMMANDS: its help, its arguments, and where its work is done.

Nothing heavy is imported before the lock is tried and the command is known: cron starts the bot every
minute, and most of these starts only find out that it runs.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

from gridbot.core import VERSION, single_instance
from gridbot.core.endings import (
    INTERRUPTED,
    MUST_BE_MENDED,
    STOPPED_BY_ERROR,
    STOPPED_BY_REQUEST,
    when_asked_to_stop,
    whose_mistake,
)
from gridbot.exceptions import AccessDenied, ConfigurationError, GridBotError

TYPE_CHECKING = False  # in place of typing.TYPE_CHECKING: importing typing takes milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any, TextIO, TypeGuard

    from gridbot.models.configuration import Settings


class Command:
    """
    help       what it does, with consequences, in one or two sentences
    run        "package.module:function" with function(settings, args) -> exit code
    arguments  True: the module also has function_arguments(parser) -> None
    trades     True: holds the locks, and logs to stdout; the other commands only read, and print a result
    light      True: run is function(args) -> exit code, and reads config.ini itself if needed

    Both functions are imported only when the command is called. A plain class: importing dataclasses would take a
    fifth of the time of a start that only finds the bot running.
    """

    def __init__(self, help: str, run: str, arguments: bool = True, trades: bool = False, light: bool = False) -> None:
        self.help = help
        self.run = run
        self.arguments = f"{run}_arguments" if arguments else ""
        self.trades = trades
        self.light = light


COMMANDS = {
    "run": Command(
        "trade until stopped (the default). Ctrl-C, SIGTERM or the end of the session finishes the message in hand; "
        "open orders stay on the exchange, and the next start goes on with them",
        "gridbot.core.cli:run",
        trades=True,
    ),
    "doctor": Command(
        "look at everything the bot needs (settings, database, status page, network, clock, API key, fee, minimums, "
        "funds) and say what to do about what is missing. Places no order",
        "gridbot.core.commands_doctor:doctor",
    ),
    "selftest": Command(
        "thirty days of a made-up market in about a minute, with lost answers, crashes and restarts, and the bot's "
        "promises counted on your own machine. Touches neither your database nor the exchange",
        "gridbot.core.selftest:run",
    ),
    "watch": Command(
        "is the bot alive? Exit code 0: yes; 1: dead, stuck or stopped, with what to do. For a second line in cron",
        "gridbot.core.heartbeat:watch",
        light=True,
    ),
    "check": Command(
        "is the database sound, and does everything in it fit together? Changes nothing",
        "gridbot.core.commands_owner:check",
        arguments=False,
    ),
    "backup": Command(
        "copy the database to FILE, also while the bot runs; an older copy of this bot is replaced, nothing else. With "
        "play money also its exchange's file (b.db and b.exchange.db): keep both together",
        "gridbot.core.commands_owner:backup",
    ),
    "restore": Command(
        "put the copy FILE in the place of the database, which is kept aside. Only while the bot is stopped; the next "
        "start catches up with what has happened at the exchange since. With play money its exchange's file comes "
        "back, too",
        "gridbot.core.commands_owner:restore",
    ),
    "forget": Command(
        "leave bought coins to yourself, when you have sold or moved them, or mean to: the bot sells them no more. "
        "Only while the bot is stopped. Without an order it says what there is",
        "gridbot.core.commands_owner:forget",
    ),
    "status": Command(
        "show the grid, why levels are missing, what the bot waits for, and the profit. Reads the database only: "
        "the bot may run, and need not",
        "gridbot.core.commands_status:run_status",
    ),
    "report": Command(
        "profit, fees and base by day, month, year or cycle, as table, csv or JSON; gains of a tax year as csv, "
        "method FIFO. Days, months and years are UTC. Reads the database only",
        "gridbot.core.commands_books:run_report",
    ),
    "audit": Command(
        "compare every execution, open order and balance with the exchange's own books, to the last digit. Places "
        "and cancels nothing. Exit code 0: reconciled, 1: there are differences, or nothing was compared",
        "gridbot.core.commands_audit:run_audit",
    ),
    "backtest": Command(
        "what these settings would have done with the prices in a file: the same strategy, order desk and simulated "
        "exchange as live, compared with holding and with buying at fixed times. Sends nothing",
        "gridbot.core.commands_past:backtest",
    ),
    "sweep": Command(
        "backtests of many settings, and how the best of them did on a later part of the data that was not looked at "
        "before. Sends nothing",
        "gridbot.core.sweep:sweep",
    ),
    "plan": Command(
        "what these settings, or others given here, would place and cancel now, the money it binds, and what a fall "
        "in price would leave you with. Sends nothing",
        "gridbot.core.plan:plan",
    ),
    "replay": Command(
        "run a recorded session again and check that every order and every cancellation is the same, byte for byte. "
        "Sends nothing, and needs no settings",
        "gridbot.core.replay:replay",
        light=True,
    ),
}

EPILOG = """\
Without a command the bot runs: on play money, until config.ini says exchange = Kraken and dry_run = no.
A second start while it runs says so and leaves with 0, so cron may start it every minute.

exit codes: 0 stopped by request, or already running
            1 stopped by an error; a restart may help. audit, check, replay, selftest, watch: not in order
            2 configuration or credentials must be mended; a restart will not help
            130 interrupted: a command other than run was ended by Ctrl-C, without a result
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command line and return the exit code. Errors appear as their message, on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((COMMANDS[word] for word in words if word in COMMANDS), COMMANDS["run"])
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="replace")  # a letter that the terminal cannot show becomes "?", not an error
    try:
        # The start that cron makes every minute: it would spend most of its time in argparse.
        if (config := _plain_start(words)) and (running := single_instance.claim_early(config)):
            _say(running, sys.stdout)
            return STOPPED_BY_REQUEST
        args = _parser(words).parse_args(words)
        command = COMMANDS[args.command]
        if command.trades:
            # A stop during the imports ends the process at once, as nothing has begun. Not by an exception: raised
            # inside the import of a C extension, it can crash it.
            when_asked_to_stop(lambda _signum, _frame: os._exit(STOPPED_BY_REQUEST))
            if running := single_instance.claim_early(args.config):
                _say(running, sys.stdout)
                return STOPPED_BY_REQUEST
            if waiting := load("gridbot.core.restart_guard:waiting")(args.config):
                return _fail(waiting[1], waiting[0])
            return _carry_out(command, args)
        if sys.stdout is None:
            raise GridBotError("the standard output is closed: there is nowhere to write the result to")
        code = int(load(command.run)(args)) if command.light else _carry_out(command, args)
        sys.stdout.flush()  # so that a write error is reported below, not by Python at its end
        return code
    except (ConfigurationError, AccessDenied) as exc:
        return _fail(exc.message, MUST_BE_MENDED)
    except GridBotError as exc:
        return _fail(exc.message, STOPPED_BY_ERROR)
    except KeyboardInterrupt:
        return STOPPED_BY_REQUEST if command.trades else _fail("interrupted, no result", INTERRUPTED)
    except BrokenPipeError:
        _give_up_stdout()  # the reader has left (status | head)
        return STOPPED_BY_REQUEST
    except OSError as exc:
        if not _is_full(exc):
            raise
        _give_up_stdout()
        return _fail(f"the result cannot be written: {exc.strerror}", STOPPED_BY_ERROR)


def _is_full(exc: BaseException) -> bool:
    """True if an open stream takes no more data, because its disk is full or broken."""
    return isinstance(exc, OSError) and exc.filename is None and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _may_not_be_used(exc: BaseException) -> TypeGuard[OSError]:
    """True if a path that the owner has named is barred to this user, or is too long."""
    return isinstance(exc, OSError) and bool(exc.filename) and exc.errno in (errno.EACCES, errno.ENAMETOOLONG)


def _give_up_stdout() -> None:
    """Point stdout at /dev/null, so that Python does not try to write its buffer again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain_start(words: Sequence[str]) -> str:
    """The path of config.ini if the command line is just ``[run] [--config FILE]``, else ""."""
    rest = [word for word in words if word != "run"]
    if not rest:
        return "config.ini"
    return rest[1] if len(rest) == 2 and rest[0] == "--config" else ""


def load(path: str) -> Any:
    """What ``package.module:function`` names. Raises ConfigurationError when a package is not installed."""
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        if (exc.name or "").split(".")[0] == "gridbot":
            raise
        raise ConfigurationError(
            f"the Python package {exc.name!r} is missing. Run: {sys.executable} -m pip install -r requirements.txt"
        ) from exc


def run(settings: Settings, args: argparse.Namespace) -> int:
    """The command ``run``: take the locks, log the settings in force, trade until stopped."""
    import logging

    from gridbot.core.config_file import describe, require_key

    require_key(settings)
    record = getattr(args, "record", None)
    if record:
        load("gridbot.core.journal:check_record")(record)
    key = "" if settings.bot.simulated else settings.kraken.api_public_key
    if running := single_instance.claim(str(settings.db.path), key):
        _say(running, sys.stdout)
        return STOPPED_BY_REQUEST
    for line in describe(settings):
        logging.getLogger(__name__).info("%s", line)
    return int(load("gridbot.core.process:run_bot")(settings, record))


def run_arguments(parser: argparse.ArgumentParser) -> None:
    from pathlib import Path

    parser.add_argument(
        "--record",
        metavar="JOURNAL",
        type=Path,
        help="also write everything that reaches the bot into a new file (gzip; keys and tokens are left out), so "
        "that replay can run the session again. For a bug report; grows by a few MB a day",
    )


def _carry_out(command: Command, args: argparse.Namespace) -> int:
    import logging
    from pathlib import Path

    settings = load("gridbot.core.config_file:load_settings")(Path(args.config))
    changes: dict[str, Any] = {"level": "DEBUG"} if args.verbose else {}
    if not command.trades:  # stdout is for the result only, and the log file for the running bot only
        changes = {"file": None, "level": "WARNING", **changes}
    stream = None if command.trades else sys.stderr
    set_up_logging = load("gridbot.core.logging_setup:set_up_logging")
    set_up_logging(settings.logging.model_copy(update=changes), settings.secrets(), stream)
    try:
        return int(load(command.run)(settings, args))
    except (GridBotError, BrokenPipeError):
        raise
    except Exception as exc:
        if _is_full(exc) and not command.trades:
            raise
        if _may_not_be_used(exc) and not command.trades:
            raise ConfigurationError(
                f"{exc.filename}: cannot be used ({exc.strerror}). Name a file in a folder that is yours, or ask as "
                "the user who starts the bot"
            ) from exc
        # Through the log, because its formatter takes the secrets out of the traceback.
        logging.getLogger(__name__).critical("%s", whose_mistake(exc), exc_info=True)
        return STOPPED_BY_ERROR


def _say(text: str, stream: TextIO | None) -> None:
    """Print ``text`` without waiting for a reader. A full disk is ignored: the exit code says the same."""
    from gridbot.core.outlet import Outlet

    try:
        Outlet(stream).write(f"{text}\n")
    except OSError:
        return


def _fail(message: str, code: int) -> int:
    from gridbot.core.outlet import said_lately

    # cron tries every minute, perhaps for months: the same message must not fill its errors.log.
    if not said_lately(sys.stderr, f"{message}\n"):
        _say(message, sys.stderr)
    return code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="gridbot.py",
        description="A grid-trading bot for Kraken spot: buys below the price, sells one interval higher.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gridbot {VERSION}")
    _add_common(parser, "config.ini", False)
    # prog saves time: without it argparse formats a help text to find the same name.
    commands = parser.add_subparsers(
        title="commands", metavar="[COMMAND]", dest="command", required=False, prog="gridbot.py"
    )
    parser.set_defaults(command="run")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help, allow_abbrev=False)
        # These options may also follow the command. SUPPRESS: else their defaults would replace what came before it.
        _add_common(sub, argparse.SUPPRESS, argparse.SUPPRESS)
        if command.arguments and name in words:
            load(command.arguments)(sub)
    return parser


def _add_common(parser: argparse.ArgumentParser, config: str, verbose: bool | str) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=config,
        help="the settings, default config.ini here; relative paths in it start at its directory",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=verbose,
        help="log what is asked of the exchange and what it answers, too (many lines; keys and tokens never)",
    )
