"""Starts that do not last are followed by growing pauses; what was mended, or a power cut, is not."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from gridbot.core import heartbeat, process, restart_guard, single_instance
from gridbot.core.clock import SystemClock
from gridbot.core.heartbeat import Heartbeat, look
from gridbot.core.restart_guard import RestartGuard
from gridbot.core.state_machine import StateMachine
from gridbot.models.configuration import DBConfigDTO, Settings
from tests.settings import config

NOW = 1_790_000_000.0


class Machine:
    """A config.ini, a database path, a wall clock and a steady one, and a boot id."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.steady = 1000.0
        self.directory = directory
        self.boot = "first-boot"
        (directory / "config.ini").write_text("[bot]\n")
        monkeypatch.setattr(restart_guard, "_boot_id", lambda: self.boot)
        monkeypatch.setattr(restart_guard.time, "monotonic", lambda: self.steady)

    def guard(self) -> RestartGuard:
        return RestartGuard(str(self.directory / "config.ini"), str(self.directory / "bot.db"), lambda: self.now)

    def fail(self, code: int = 1, why: str = "the database is full") -> None:
        guard = self.guard()
        guard.begun()
        guard.ended(code, why)

    def pause(self) -> float:
        """Seconds until a start is allowed."""
        waited = 0.0
        while self.guard().waiting() is not None:
            self.now += 10
            waited += 10
        return waited


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_the_first_start_waits_for_nothing(machine: Machine) -> None:
    assert machine.guard().waiting() is None


def test_failures_in_a_row_are_followed_by_growing_pauses(machine: Machine) -> None:
    pauses = []
    for _ in range(9):
        machine.fail()
        pauses.append(machine.pause())
    assert pauses == [0, 0, 60, 120, 240, 480, 900, 900, 900]


def test_what_a_restart_cannot_mend_pauses_at_once_and_longer(machine: Machine) -> None:
    pauses = []
    for _ in range(5):
        machine.fail(2, "the API key is wrong")
        pauses.append(machine.pause())
    assert pauses == [60, 300, 900, 3600, 3600]


def test_the_waiting_start_says_what_is_wrong_until_when_and_how_to_try_at_once(machine: Machine) -> None:
    machine.fail(2, "the API key\n  is wrong")
    code, text = machine.guard().waiting() or (0, "")
    until = time.strftime("%H:%M:%S", time.localtime(NOW + 60))
    assert code == 2
    assert text == (
        f"gridbot waits until {until}: the last start failed (once): the API key is wrong\n"
        f"  To try at once, after mending it: touch {machine.directory / 'config.ini'}"
    )


def test_an_error_that_may_pass_leaves_with_1(machine: Machine) -> None:
    for _ in range(3):
        machine.fail()
    assert (machine.guard().waiting() or (0, ""))[0] == 1


def test_being_killed_while_it_trades_is_no_failure(machine: Machine) -> None:
    for _ in range(30):
        guard = machine.guard()
        assert guard.waiting() is None
        guard.begun()
        guard.alive(running=False)
        guard.alive(running=True)
    machine.fail()
    machine.fail()
    assert machine.pause() == 0
    machine.fail()
    assert machine.pause() == 60


def test_a_bot_killed_soon_after_it_began_to_trade_serves_no_pause_for_older_failures(machine: Machine) -> None:
    for _ in range(5):
        machine.fail()
    assert machine.pause() == 240
    guard = machine.guard()
    guard.begun()
    guard.alive(running=True)
    machine.now += 60
    assert machine.guard().waiting() is None
    machine.fail()  # the older failures are not forgotten yet: it has not lasted
    assert machine.pause() == 480


def test_errors_while_it_trades_count_like_all_others(machine: Machine) -> None:
    for _ in range(3):
        guard = machine.guard()
        guard.begun()
        guard.alive(running=True)
        guard.ended(1, "broken")
    assert machine.pause() == 60


def test_being_killed_again_and_again_before_it_trades_counts_in_the_end(machine: Machine) -> None:
    for _ in range(8):
        assert machine.guard().waiting() is None
        machine.guard().begun()
    code, text = machine.guard().waiting() or (0, "")
    assert code == 1
    assert "it ended without a word (killed, or out of memory)" in text


def test_a_power_cut_is_no_failure(machine: Machine) -> None:
    for number in range(6):
        machine.boot = f"boot-{number}"
        assert machine.guard().waiting() is None
        machine.guard().begun()


def test_power_cuts_while_it_trades_are_no_failures(machine: Machine) -> None:
    for number in range(6):
        machine.boot = f"boot-{number}"
        machine.now += 60
        guard = machine.guard()
        assert guard.waiting() is None
        guard.begun()
        guard.alive(running=True)


def test_saving_the_settings_ends_the_pause_and_forgets_the_failures(machine: Machine) -> None:
    for _ in range(4):
        machine.fail(2)
    os.utime(machine.directory / "config.ini", (NOW, NOW))
    assert machine.guard().waiting() is None
    machine.fail(2)
    assert machine.pause() == 60


def test_a_stop_by_request_forgets_the_failures(machine: Machine) -> None:
    machine.fail()
    machine.fail()
    guard = machine.guard()
    guard.begun()
    guard.ended(0, "asked to stop")
    for _ in range(3):
        assert machine.pause() == 0
        machine.fail()
    assert machine.pause() == 60


def test_ten_minutes_of_trading_forget_the_failures_and_nine_do_not(machine: Machine) -> None:
    machine.fail()
    machine.fail()
    guard = machine.guard()
    guard.begun()
    note = machine.directory / "bot.db.restarts"
    guard.alive(running=True)
    machine.steady += 599
    guard.alive(running=True)
    assert note.exists()
    machine.steady += 1
    guard.alive(running=True)
    assert not note.exists()
    guard.ended(1, "x")
    assert machine.guard().waiting() is None


def test_ten_minutes_without_trading_forget_nothing(machine: Machine) -> None:
    machine.fail()
    guard = machine.guard()
    guard.begun()
    for _ in range(3):
        machine.steady += 600
        guard.alive(running=False)
    assert (machine.directory / "bot.db.restarts").exists()


@pytest.mark.parametrize("step", [-86400.0, 86400.0, -NOW + 100])
def test_a_clock_that_steps_ends_the_pause_at_the_most(machine: Machine, step: float) -> None:
    machine.fail(2)
    machine.now += step
    assert machine.guard().waiting() is None


@pytest.mark.parametrize("text", ["", "nonsense", "x y 2 z - no\n", "99999999999 nan 2 first-boot SAVED no\n"])
def test_a_note_that_cannot_be_read_stops_nobody(machine: Machine, text: str) -> None:
    saved = restart_guard._saved_at(str(machine.directory / "config.ini"))
    (machine.directory / "bot.db.restarts").write_text(text.replace("SAVED", saved))
    assert machine.guard().waiting() is None


def test_a_start_that_must_wait_leaves_before_anything_heavy_is_imported(machine: Machine) -> None:
    (machine.directory / "config.ini").write_text("[bot]\nexchange = Demo\n[database]\npath = bot.db\n")
    machine.now = time.time()
    guard = machine.guard()
    guard.begun()
    guard.ended(2, "the key is wrong")
    program = (
        "import sys; from gridbot.core.cli import main; code = main(sys.argv[1:]);"
        "print(code, [name for name in ('pydantic', 'requests', 'sqlite_utils', 'logging') if name in sys.modules])"
    )
    note = machine.directory / "bot.db.restarts"
    note.write_text(note.read_text().replace("first-boot", Path(restart_guard.BOOT_ID).read_text().strip()))
    done = subprocess.run(
        [sys.executable, "-c", program, "--config", str(machine.directory / "config.ini")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.stdout == "2 []\n"
    assert "the key is wrong" in done.stderr


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That of a bot which holds its lock."""
    path = tmp_path / "bot.db"
    monkeypatch.setattr(heartbeat, "sign_path", lambda database: f"{database}.alive")
    assert single_instance.claim(str(path)) is None
    yield path
    single_instance.release_all()


def test_nobody_has_lived_here(database: Path) -> None:
    single_instance.release_all()
    life = look(database, 100.0)
    assert (life.is_alive, life.text) == (False, "the bot has not run since this machine started")


def test_a_bot_is_alive_for_five_minutes_after_its_last_sign(database: Path) -> None:
    Heartbeat(database, lambda: 1000.0).beat("RUNNING")
    assert look(database, 1300.0).is_alive
    stuck = look(database, 1301.0)
    assert not stuck.is_alive
    assert stuck.text == (
        f"the bot (pid {os.getpid()}, RUNNING) is stuck: no sign of life for 5 min.\n"
        f"  End it with: kill -9 {os.getpid()} (nothing is lost by that); cron starts it again."
    )


def test_no_room_for_a_sign_of_life_stops_nobody(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    monkeypatch.setattr(heartbeat, "sign_path", lambda _database: "/dev/full")
    Heartbeat(database, lambda: 1000.0).beat("RUNNING")


def test_a_long_wait_that_was_announced_is_no_alarm(database: Path) -> None:
    Heartbeat(database, lambda: 1000.0).beat("INITIALIZING", 960.0)
    assert look(database, 1960.0).is_alive
    assert not look(database, 1961.0).is_alive


def test_a_sign_is_written_every_ten_seconds_at_most(database: Path) -> None:
    now = 1000.0
    beat = Heartbeat(database, lambda: now)
    beat.beat("RUNNING")
    now = 1009.9
    beat.beat("RUNNING")
    assert " 1000.0 " in Path(f"{database}.alive").read_text()
    now = 1010.0
    beat.beat("RUNNING")
    assert " 1010.0 " in Path(f"{database}.alive").read_text()


def test_a_process_that_is_gone_is_dead_at_once(database: Path) -> None:
    child = os.fork()
    if child == 0:
        Heartbeat(database, lambda: 1000.0).beat("RUNNING")
        os._exit(0)
    os.waitpid(child, 0)
    assert look(database, 1001.0).text == f"the bot (pid {child}) is dead; its last sign of life is 1 s old"


def test_a_killed_bot_is_dead_though_its_pid_is_still_there(database: Path) -> None:
    Heartbeat(database, lambda: 1000.0).beat("RUNNING")
    single_instance.release_all()  # as the kernel does, also for a process that nobody reaps
    assert look(database, 1001.0).text == f"the bot (pid {os.getpid()}) is dead; its last sign of life is 1 s old"


def test_a_bot_that_ended_by_itself_says_why(database: Path) -> None:
    Heartbeat(database, lambda: 1000.0).end("the database is full\n  Delete something.")
    assert look(database, 1060.0).text == "the bot ended 60 s ago (the database is full)"


def test_a_bot_that_was_stopped_on_request_says_when(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Heartbeat(database, lambda: 1000.0).end("asked to stop", on_request=True)
    monkeypatch.setattr(heartbeat.time, "time", lambda: NOW + 60)
    life = look(database, 1060.0)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW))
    assert (life.is_alive, life.was_stopped) == (False, True)
    assert life.text == f"the bot was stopped on request at {when}"


def test_a_change_of_state_is_seen_at_once(database: Path) -> None:
    beat = Heartbeat(database, lambda: 1000.0)
    beat.beat("starting")
    beat.beat("RUNNING")
    assert "is alive: RUNNING" in look(database, 1000.0).text


def test_a_sign_of_before_the_reboot_says_nothing(database: Path) -> None:
    Heartbeat(database, lambda: 50_000.0).beat("RUNNING")
    single_instance.release_all()
    assert not look(database, 100.0).is_alive


def test_a_bot_whose_sign_was_removed_is_alive_while_it_holds_its_lock(database: Path) -> None:
    life = look(database, 100.0)
    assert (life.is_alive, life.text) == (
        True,
        f"the bot (pid {os.getpid()}) is alive; what it does is not known just now",
    )


def test_a_stop_on_request_is_known_without_a_sign_until_the_next_start(machine: Machine, database: Path) -> None:
    guard = machine.guard()
    guard.begun()
    guard.ended(0, "asked to stop")
    single_instance.release_all()
    os.utime(machine.directory / "config.ini", (NOW + 60, NOW + 60))
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW))
    life = look(database, 100.0)
    assert (life.was_stopped, life.text) == (True, f"the bot was stopped on request at {when}")
    machine.guard().begun()
    assert not look(database, 100.0).was_stopped


def test_a_bot_that_was_stopped_by_a_reboot_and_did_not_come_back_was_not_stopped_on_request(
    machine: Machine, database: Path
) -> None:
    guard = machine.guard()
    guard.begun()
    guard.ended(0, "SIGTERM")
    single_instance.release_all()
    machine.boot = "second-boot"
    assert look(database, 100.0).text == "the bot has not run since this machine started"


def test_a_wait_of_the_bot_itself_is_a_sign_of_life(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the exchange's request counter: a long comparison waits before every page, and is not stuck."""
    told = []

    def build(_settings: Settings, clock: SystemClock, _record: None) -> Mock:
        def run() -> int:
            clock.wait(0.01)
            told.append(look(database).text)
            return 0

        return Mock(state_machine=StateMachine(), run=run)

    monkeypatch.setattr(process, "build", build)
    monkeypatch.setattr(process, "when_asked_to_stop", lambda _handler: None)
    settings = Settings(bot=config(), db=DBConfigDTO(path=database), config_path=database.with_name("config.ini"))
    assert process.run_bot(settings) == 0
    assert "is alive: INITIALIZING" in told[0]


def test_a_planted_link_is_not_written_through(database: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    os.symlink(tmp_path / "precious", f"{database}.alive")
    Heartbeat(database, lambda: 1000.0).beat("RUNNING")
    assert (tmp_path / "precious").read_text() == "mine"
