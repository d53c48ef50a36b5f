"""One bot per database and per API key; a second start leaves quickly, and kill -9 leaves no lock behind."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridbot.core import single_instance
from gridbot.core.single_instance import claim, claim_early, key_state_path, lock_file
from gridbot.exceptions import ConfigurationError, GridBotError

ROOT = Path(__file__).parents[2]
KEY = "pUbLiCkEy"

HOLDER = """
import sys
from gridbot.core.single_instance import claim
print(claim(*sys.argv[1:]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("GRIDBOT_API_PUBLIC_KEY", raising=False)
    single_instance.release_all()
    yield
    single_instance.release_all()


class Holder:
    """Another process that holds the locks for as long as it lives."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "None\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def hold() -> Iterator[type[Holder]]:
    started: list[Holder] = []

    class Started(Holder):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            started.append(self)

    yield Started
    for holder in started:
        holder.kill()


def test_a_second_bot_on_the_same_database_is_told_who_runs(tmp_path: Path, hold: type[Holder]) -> None:
    database = str(tmp_path / "gridbot.db")
    first = hold(database)
    assert claim(database) == f"gridbot is already running (pid {first.pid}) on this database: {database}"
    assert (tmp_path / "gridbot.db.lock").read_text() == f"{first.pid}\n"
    assert claim(str(tmp_path / "other.db")) is None


def test_kill_9_releases_the_lock(tmp_path: Path, hold: type[Holder]) -> None:
    database = str(tmp_path / "gridbot.db")
    first = hold(database)
    assert claim(database) is not None
    first.kill()
    assert claim(database) is None
    assert (tmp_path / "gridbot.db.lock").read_text() == f"{os.getpid()}\n"


def test_a_command_that_looks_whether_the_bot_runs_keeps_none_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = os.open(tmp_path / "gridbot.db.lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _seconds: os.close(looking))
    assert claim(str(tmp_path / "gridbot.db")) is None


def test_two_ways_to_one_file_are_one_database(tmp_path: Path, hold: type[Holder]) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    hold(str(tmp_path / "gridbot.db"))
    assert claim(str(tmp_path / "link" / "gridbot.db")) is not None


def test_a_second_bot_with_the_same_key_is_refused_on_another_database_too(tmp_path: Path, hold: type[Holder]) -> None:
    first = hold(str(tmp_path / "one.db"), KEY)
    assert claim(str(tmp_path / "two.db"), KEY) == (
        f"gridbot is already running (pid {first.pid}) with this API key; a second bot needs a key of its own"
    )
    single_instance.release_all()
    assert claim(str(tmp_path / "two.db"), "another key") is None


def test_what_this_process_holds_already_it_may_claim_again(tmp_path: Path) -> None:
    database = str(tmp_path / "gridbot.db")
    assert (claim(database, KEY), claim(database, KEY)) == (None, None)


def test_a_lock_is_held_against_this_process_too(tmp_path: Path) -> None:
    handle = lock_file(str(tmp_path / "x.lock"))
    assert handle is not None
    assert lock_file(str(tmp_path / "x.lock")) is None
    os.close(handle)
    again = lock_file(str(tmp_path / "x.lock"))
    assert again is not None
    os.close(again)


def test_a_lock_whose_file_was_deleted_is_taken_anew(tmp_path: Path, hold: type[Holder]) -> None:
    database = str(tmp_path / "bot.db")
    assert claim(database) is None
    assert single_instance.keep() is None
    os.unlink(f"{database}.lock")
    assert single_instance.keep() is None
    told = subprocess.run([sys.executable, "-c", HOLDER, database], cwd=ROOT, capture_output=True, text=True, input="")
    assert told.stdout.startswith(f"gridbot is already running (pid {os.getpid()})")


def test_of_two_bots_whose_lock_was_deleted_the_older_one_goes(tmp_path: Path, hold: type[Holder]) -> None:
    database = str(tmp_path / "bot.db")
    assert claim(database) is None
    os.unlink(f"{database}.lock")
    other = hold(database)
    assert single_instance.keep() == (
        f"another gridbot (pid {other.process.pid}) has started: the lock file {database}.lock was deleted while this "
        "one ran"
    )


def test_a_lock_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    database = str(tmp_path / "missing" / "gridbot.db")
    with pytest.raises(ConfigurationError) as caught:
        claim(database)
    assert caught.value.message == (
        f"[database] path = {database}: the lock file {database}.lock cannot be written (No such file or directory). "
        "The directory must exist and be writable for the user who starts the bot"
    )


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "No space left on device). Free some space"),
        (errno.EROFS, "Read-only file system). The disk is mounted read-only"),
        (errno.EMFILE, "Too many open files). This program may open no more files"),
    ],
)
def test_a_disk_that_takes_no_lock_is_no_matter_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse(path: str, *_args: object) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(GridBotError) as caught:
        claim(str(tmp_path / "bot.db"))
    assert f"bot.db: the lock file {tmp_path}/bot.db.lock cannot be written ({says}" in caught.value.message
    assert not isinstance(caught.value, ConfigurationError)
    assert claim_early(config(tmp_path, "Demo")) is None


def test_a_lock_holds_without_room_for_the_pid_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    database = str(tmp_path / "bot.db")
    assert claim(database) is None
    assert single_instance.holder_if_running(database) == "pid unknown"


def config(tmp_path: Path, exchange: str, text: str = "", dry_run: str = "No") -> str:
    (tmp_path / "config.ini").write_text(
        f"[bot]\nexchange = {exchange}\ndry_run = {dry_run}\n[kraken]\napi_public_key = {KEY}\n"
        f"[database]\npath = data.db\n{text}"
    )
    return str(tmp_path / "config.ini")


def test_the_early_claim_takes_database_and_key_from_the_file(tmp_path: Path, hold: type[Holder]) -> None:
    path = config(tmp_path, "Kraken")
    first = hold(str(tmp_path / "data.db"))
    assert claim_early(path) == (
        f"gridbot is already running (pid {first.pid}) on this database: {tmp_path / 'data.db'}"
    )
    first.kill()
    second = hold(str(tmp_path / "elsewhere.db"), KEY)
    assert f"(pid {second.pid}) with this API key" in str(claim_early(path))


@pytest.mark.parametrize(("exchange", "dry_run"), [("Demo", "yes"), ("Kraken", "yes"), ("Kraken", "")])
def test_play_money_uses_no_key(tmp_path: Path, hold: type[Holder], exchange: str, dry_run: str) -> None:
    hold(str(tmp_path / "elsewhere.db"), KEY)
    assert claim_early(config(tmp_path, exchange, dry_run=dry_run)) is None


def test_a_file_that_must_be_mended_is_left_for_the_full_start_to_say(tmp_path: Path) -> None:
    assert claim_early(str(tmp_path / "missing.ini")) is None
    assert claim_early(config(tmp_path, "Kraken", "no sign here\n")) is None


def test_the_file_of_a_key_does_not_reveal_it_and_is_always_the_same(tmp_path: Path) -> None:
    path = key_state_path(KEY, tmp_path)
    assert path.parent == tmp_path / "state" / "gridbot"
    assert path == key_state_path(KEY, tmp_path / "elsewhere")
    assert path != key_state_path(KEY + "x", tmp_path)
    assert KEY.lower() not in path.name.lower()
    assert path.parent.stat().st_mode & 0o077 == 0


def test_without_a_state_directory_the_file_of_a_key_lies_beside_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert key_state_path(KEY, tmp_path / "data").parent == tmp_path / "data"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert key_state_path(KEY, tmp_path / "data").parent == tmp_path / "home" / ".local" / "state" / "gridbot"
