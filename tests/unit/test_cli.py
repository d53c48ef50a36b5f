"""The command line: exit codes, errors as help, the second start, and names that stand for classes."""

import argparse
import errno
import json
import logging
import os
import shlex
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridbot.core import cli, registry, single_instance
from gridbot.core.cli import COMMANDS, Command, main
from gridbot.exceptions import AccessDenied, BotStateError, ConfigurationError, TemporaryFailure
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models.configuration import Settings
from gridbot.models.money import to_decimal
from tests.past import write_candles
from tests.settings import config_ini

ROOT = Path(__file__).parents[2]

CONFIG = config_ini()


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDBOT_API_PUBLIC_KEY", raising=False)
    monkeypatch.delenv("GRIDBOT_API_SECRET_KEY", raising=False)
    (tmp_path / "config.ini").write_text(CONFIG)
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    monkeypatch.setattr("threading.excepthook", threading.excepthook)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    single_instance.release_all()


class FakeEngine(types.ModuleType):
    """Stands where gridbot.core.process would be imported from."""

    def __init__(self, outcome: int | BaseException) -> None:
        super().__init__("gridbot.core.process")
        self.outcome = outcome
        self.started_with: list[Settings] = []

    def run_bot(self, settings: Settings, record: Path | None) -> int:
        self.started_with.append(settings)
        logging.getLogger("gridbot").debug("a payload")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def engine(monkeypatch: pytest.MonkeyPatch, outcome: int | BaseException = 0) -> FakeEngine:
    fake = FakeEngine(outcome)
    monkeypatch.setitem(sys.modules, "gridbot.core.process", fake)
    return fake


def probe(settings: Settings, args: argparse.Namespace) -> int:
    """A command for these tests: tells what it was given."""
    locked = bool(single_instance._held)
    sys.stdout.write(json.dumps({"name": settings.bot.name, "days": args.days, "locked": locked}))
    return 1


def probe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=30, help="how far back, in days")


PROBE = Command("look, and change nothing", f"{__name__}:probe")


@pytest.mark.parametrize("words", [[], ["run"], ["--config", "config.ini"], ["run", "--config", "config.ini"]])
def test_without_a_command_the_bot_runs(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake = engine(monkeypatch)
    assert main(words) == 0
    assert [s.bot.name for s in fake.started_with] == ["mine"]
    out = capsys.readouterr().out
    assert "mine: GridHODL on BTC/USD, userref 7, demo: made-up prices, play money" in out
    assert "interval 1 % (0.01), fee assumed, see below" in out
    assert "a payload" not in out
    assert (tmp_path / "gridbot.db.lock").exists()


@pytest.mark.parametrize("words", [["-v"], ["run", "-v"], ["--verbose", "run"]])
def test_verbose_shows_payloads(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine(monkeypatch)
    assert main(words) == 0
    assert "DEBUG    a payload" in capsys.readouterr().out


def test_the_config_named_before_the_command_is_not_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.ini").rename(tmp_path / "other.ini")
    fake = engine(monkeypatch)
    assert main(["--config", "other.ini", "run"]) == 0
    assert fake.started_with[0].config_path == Path("other.ini")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (0, 0),
        (1, 1),
        (ConfigurationError("mend the interval"), 2),
        (AccessDenied("the key may not trade"), 2),
        (TemporaryFailure("Kraken is in maintenance"), 1),
        (BotStateError("a promise is broken"), 1),
        (KeyboardInterrupt(), 0),
    ],
)
def test_exit_codes_say_whether_a_restart_helps(
    outcome: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine(monkeypatch, outcome)
    assert main([]) == code
    err = capsys.readouterr().err
    assert err == (f"{outcome.message}\n" if hasattr(outcome, "message") else "")


def test_a_mistake_of_ours_ends_with_1_and_its_traceback_hides_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRIDBOT_API_SECRET_KEY", "c2VjcmV0LXNlY3JldA==")
    monkeypatch.setattr(engine(monkeypatch), "run_bot", lambda _settings, _record: to_decimal("c2VjcmV0LXNlY3JldA=="))
    assert main([]) == 1
    out, err = capsys.readouterr()
    assert "a mistake in gridbot itself (ValueError), not in your settings; please report it" in out
    assert "ValueError: '***' is not a number" in out
    assert "c2VjcmV0" not in out + err


def test_a_mistake_in_a_file_outside_gridbot_names_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine(monkeypatch), "run_bot", lambda _settings, _record: json.loads("{"))
    assert main([]) == 1
    out = capsys.readouterr().out
    assert f"a mistake in {__file__}, line " in out
    assert "(JSONDecodeError), not in gridbot; mend it there\nTraceback" in out


def test_a_wrong_setting_ends_with_2_and_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.ini").write_text(config_ini(interval="4"))
    fake = engine(monkeypatch)
    assert main([]) == 2
    assert capsys.readouterr() == (
        "",
        "config.ini, [grid] interval = 4: 4 is 400 %. If you mean 4 %, write 4% or 0.04\n",
    )
    assert fake.started_with == []


@pytest.mark.parametrize("name", ["config.ini", "nowhere/j.gz", "."])
def test_a_slip_in_the_words_of_a_start_is_no_failed_start(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["run", "--record", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"--record {name}: ")
    assert ("Name a file in a folder you may write to" in err) == (name == "nowhere/j.gz")
    assert not (tmp_path / "gridbot.db.restarts").exists()


def test_a_file_of_errors_that_cron_adds_to_every_minute_hears_the_errors_of_two_bots_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "errors.log").write_text("older\n" * 3000)
    for wrong in ("4", "4", "-1%", "4", "-1%", "4"):
        (tmp_path / "config.ini").write_text(config_ini(interval=wrong))
        with (tmp_path / "errors.log").open("a") as errors:
            monkeypatch.setattr(sys, "stderr", errors)
            assert main([]) == 2
    lines = (tmp_path / "errors.log").read_text().splitlines()[3000:]
    assert [line.split(": ")[0].split("= ")[1] for line in lines] == ["4", "-1%"]


def test_a_missing_file_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "nowhere.ini"]) == 2
    assert "nowhere.ini: there is no such file" in capsys.readouterr().err


def test_a_missing_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "probe", Command("x", "package_that_is_not_there.module:function"))
    assert main(["probe"]) == 2
    assert "'package_that_is_not_there' is missing" in capsys.readouterr().err


def test_an_unknown_command_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["rnu"])
    assert caught.value.code == 2
    assert "invalid choice: 'rnu'" in capsys.readouterr().err


SECOND_START = """
import sys
import threading
from gridbot.core.cli import main
code = main(["--config", sys.argv[1]])
heavy = {"pydantic", "requests", "sqlite_utils", "websocket", "tenacity", "sqlite3", "logging", "hashlib"}
print(code, sorted(heavy & set(sys.modules)))
"""


def test_a_second_start_leaves_with_0_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    assert single_instance.claim(str(tmp_path / "gridbot.db")) is None
    result = subprocess.run(
        [sys.executable, "-c", SECOND_START, str(tmp_path / "config.ini")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    running, code = result.stdout.splitlines()
    assert running.startswith("gridbot is already running (pid ")
    assert code == "0 []"
    assert result.stderr == ""


def test_pandas_and_numpy_are_left_alone_where_they_are_installed(tmp_path: Path) -> None:
    for name in ("numpy", "pandas"):
        (tmp_path / f"{name}.py").write_text(f"print('{name} was loaded')")
    import_the_database = "import gridbot.infrastructure.database; print('database'); import numpy, pandas"
    result = subprocess.run(
        [sys.executable, "-c", import_the_database],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines() == ["database", "numpy was loaded", "pandas was loaded"]


def test_the_launcher_hands_the_exit_code_to_the_shell(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "gridbot.py"), "--config", str(tmp_path / "nowhere.ini")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_command_that_only_looks_takes_no_lock_and_has_stdout_to_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(COMMANDS, "probe", PROBE)
    assert main(["probe", "--days", "3"]) == 1
    assert json.loads(capsys.readouterr().out) == {"name": "mine", "days": 3, "locked": False}
    assert not (tmp_path / "gridbot.db.lock").exists()


def test_a_command_works_while_the_bot_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    handle = single_instance.lock_file(str(tmp_path / "gridbot.db.lock"))
    assert handle is not None
    monkeypatch.setitem(COMMANDS, "probe", PROBE)
    assert main(["probe"]) == 1
    assert json.loads(capsys.readouterr().out)["days"] == 30
    assert main([]) == 0
    assert "already running" in capsys.readouterr().out
    os.close(handle)


def test_every_command_has_help_and_a_function_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in COMMANDS.items():
        assert len(command.help) > 20
        assert callable(cli.load(command.run))
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        assert "--config FILE" in capsys.readouterr().out


def test_the_help_tells_what_happens_to_the_money(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "open orders stay on the exchange" in text
    assert "2 configuration or credentials must be mended; a restart will not help" in text


def interrupted(settings: Settings, args: argparse.Namespace) -> int:
    raise KeyboardInterrupt


def test_a_command_that_is_interrupted_says_that_there_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "probe", Command("look", f"{__name__}:interrupted", arguments=False))
    assert main(["probe"]) == 130
    assert capsys.readouterr() == ("", "interrupted, no result\n")


def barred(settings: Settings, args: argparse.Namespace) -> int:
    raise PermissionError(errno.EACCES, "Permission denied", "/boot/copy.db")


def test_a_file_in_a_folder_of_another_user_is_no_mistake_of_gridbot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "probe", Command("look", f"{__name__}:barred", arguments=False))
    assert main(["--config", str(tmp_path / "config.ini"), "probe"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.partition(". ")[0]) == ("", "/boot/copy.db: cannot be used (Permission denied)")


def in_a_shell(words: str, tmp_path: Path, **environment: str) -> tuple[int, str, str]:
    command = shlex.join([sys.executable, str(ROOT / "gridbot.py"), "--config", str(tmp_path / "config.ini")])
    done = subprocess.run(
        f"{command} {words}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", ["plan", "watch"])
def test_a_result_that_cannot_be_written_is_an_error_in_one_line(command: str, tmp_path: Path) -> None:
    full = in_a_shell(f"{command} > /dev/full", tmp_path)
    assert full == (1, "", "the result cannot be written: No space left on device\n")
    closed = in_a_shell(f"{command} >&-", tmp_path)
    assert closed == (1, "", "the standard output is closed: there is nowhere to write the result to\n")


def test_an_error_that_nobody_reads_keeps_no_process_and_no_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, b"x" * 65536)
    os.set_blocking(writer, True)
    command = [sys.executable, str(ROOT / "gridbot.py"), "--config", str(tmp_path / "nowhere.ini")]
    assert subprocess.run(command, stderr=writer, timeout=5, check=False).returncode == 2
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("where", ["/dev/full", "&-"])
def test_a_second_start_that_nobody_hears_is_no_error(where: str, tmp_path: Path) -> None:
    assert single_instance.claim(str(tmp_path / "gridbot.db")) is None
    assert in_a_shell(f">{where}", tmp_path) == (0, "", "")


def test_a_command_needs_no_standard_error(tmp_path: Path) -> None:
    data = write_candles(tmp_path / "a.csv", [("50000.0",) * 4] * 9)
    assert in_a_shell(f"backtest --data {data} 2>&-", tmp_path)[0] == 0


def test_letters_the_terminal_does_not_know_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.ini").write_text(config_ini(name="日本"), encoding="utf-8")
    code, out, err = in_a_shell("doctor", tmp_path, PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "")
    assert "config.ini, ??: GridHODL on BTC/USD" in out


@pytest.mark.parametrize(
    ("command", "setting", "said"),
    [
        *((command, "[database]\npath = bücher.db", "b\\xfccher.db") for command in ("", "status", "watch", "check")),
        *((command, "[logging]\nfile = bücher.log", "b\\xfccher.log") for command in ("", "status")),
    ],
)
def test_a_path_that_this_session_cannot_write_is_said_in_words(
    command: str, setting: str, said: str, tmp_path: Path
) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    config = tmp_path / "config.ini"
    config.write_text(f"{config.read_text()}\n{setting}\n", encoding="utf-8")
    code, out, err = in_a_shell(command, tmp_path, **ascii_only)
    assert (code, out) == (2, "")
    assert f"{said}: this session knows no such letters (its encoding is ascii). Start with LC_ALL=C.UTF-8" in err
    assert "Traceback" not in err


OWN_CHANNEL = """
from gridbot.interfaces.notification import INotificationChannel
class Bell(INotificationChannel):
    @classmethod
    def from_settings(cls, settings):
        return cls()
    def send(self, message):
        return True
class NoChannel:
    pass
"""


@pytest.fixture
def beside_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", sys.path[:])
    directory = tmp_path / "bots"
    directory.mkdir()
    (directory / "own_bell_module.py").write_text(OWN_CHANNEL)
    (directory / "own_broken_module.py").write_text("1 / 0")
    monkeypatch.delitem(sys.modules, "own_bell_module", raising=False)
    return directory


def test_a_class_of_one_s_own_is_found_beside_config_ini(beside_config: Path) -> None:
    bell = registry.resolve("channel", "own_bell_module:Bell", beside_config)
    assert issubclass(bell, INotificationChannel)
    assert sys.path[-2:] == [str(beside_config), str(beside_config.parent)]


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("channel", "own_bell_module:Bel", 'has no class Bel; did you mean "Bell"?'),
        ("channel", "own_bell_module:NoChannel", "NoChannel is not a subclass of INotificationChannel"),
        ("exchange", "own_bell_module:Bell", "Bell is not a subclass of IExchangeFactory"),
        ("channel", "own_absent_module:Bell", "there is no module 'own_absent_module'"),
        ("channel", "own_broken_module:Bell", "failed with ZeroDivisionError: division by zero"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_with_help(beside_config: Path, kind: str, name: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry.resolve(kind, name, beside_config)
    key = {"channel": "[notification] channels", "exchange": "[bot] exchange", "strategy": "[bot] strategy"}[kind]
    assert caught.value.message.startswith(f"{key} = {name}: ")
    assert says in caught.value.message


def test_telegram_is_a_channel_of_the_house() -> None:
    assert registry.resolve("channel", "telegram").__name__ == "TelegramNotificationChannel"


@pytest.mark.parametrize(("dry_run", "expected"), [("yes", ""), ("no", "public")])
def test_play_money_does_not_keep_the_bot_with_real_orders_from_its_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dry_run: str, expected: str
) -> None:
    monkeypatch.setenv("GRIDBOT_API_PUBLIC_KEY", "public")
    monkeypatch.setenv("GRIDBOT_API_SECRET_KEY", "c2VjcmV0")
    (tmp_path / "config.ini").write_text(config_ini(exchange="Kraken", dry_run=dry_run))
    claimed = []

    def claim(database: str, key: str) -> str:
        claimed.append(key)
        return "another one runs"

    monkeypatch.setattr(single_instance, "claim", claim)
    assert main(["--config", "config.ini"]) == cli.STOPPED_BY_REQUEST
    assert set(claimed) == {expected}
