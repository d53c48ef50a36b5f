"""The bot as a process: killed, asked to stop, started twice, failing, without a network, with a wrong clock."""

import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridbot.core.cli import main
from gridbot.core.heartbeat import look
from gridbot.core.restart_guard import stopped_at
from tests.fake_kraken.server import FakeKrakenServer
from tests.sigkill.ground import TAKEN, USERREF, Aim, Ground
from tests.sigkill.promises import broken_promises, is_settled, rows
from tests.sigkill.shooting import shoot

PATIENCE = 20.0
STARTED = " mine started\n"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with Ground(tmp_path) as ground:
        yield ground


def started(ground: Ground, **environment: str) -> Ground:
    """The bot trades: it has said so, which its sign of life tells up to two seconds later."""
    said = ground.log.count(STARTED)
    ground.start(**environment)
    assert ground.wait_until(lambda: ground.log.count(STARTED) > said and ground.grid_stands(), PATIENCE), ground.log
    return ground


def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_done_twice(tmp_path: Path) -> None:
    shooting = shoot(tmp_path, "GridHODL", points=4, seed=3, check_every=100)
    assert shooting.broken == []
    assert sum(shooting.hit.values()) == 4


def test_an_order_whose_answer_the_bot_did_not_live_to_hear_is_found_again(ground: Ground) -> None:
    ground.aim = Aim("AddOrder", TAKEN, nth=3)
    ground.start()
    assert ground.aim.hit.wait(PATIENCE)
    ground.kill()
    assert len(ground.fake.open_orders(USERREF)) == 3
    assert [r[0] for r in rows(ground.database, "SELECT count(*) FROM pending_txids")] == [1]
    ground.aim = None
    started(ground)
    assert ground.wait_until(lambda: is_settled(ground.fake, ground.database, USERREF), PATIENCE)
    assert ground.fake.count("AddOrder") == 5
    assert broken_promises(ground.fake, ground.database, USERREF, "GridHODL") == []


def test_sigterm_ends_an_idle_bot_at_once_and_its_orders_stay(ground: Ground) -> None:
    started(ground)
    code, seconds = ground.terminate()
    assert code == 0, ground.log
    assert seconds < 3, "the aim is below 1 s; this machine may be busy"
    assert ground.grid_stands()
    assert "5 buys and 0 sells stay open on the exchange" in ground.log


def test_the_end_of_the_session_ends_the_bot_with_its_farewell(ground: Ground) -> None:
    started(ground)
    code, _ = ground.terminate(signal.SIGHUP)
    assert code == 0, ground.log
    assert "SIGHUP: stopping after the message in hand" in ground.log
    assert "5 buys and 0 sells stay open on the exchange" in ground.log


def test_a_bot_that_was_started_to_outlive_its_session_does(ground: Ground) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        started(ground)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ground.process is not None
    ground.process.send_signal(signal.SIGHUP)
    ground.fake.set_price("BTC/USD", "49500.0")  # through the highest buy
    assert ground.wait_until(lambda: len(ground.fake.open_orders(USERREF, "sell")) == 1, PATIENCE), ground.log
    assert ground.terminate()[0] == 0


def test_many_requests_to_stop_are_one(ground: Ground) -> None:
    started(ground)
    assert ground.process is not None
    by = itertools.cycle((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    while ground.process.poll() is None:
        ground.process.send_signal(next(by))
        time.sleep(0.0002)
    assert ground.process.returncode == 0, ground.log


def test_sigterm_while_an_order_is_on_its_way_waits_for_the_answer(ground: Ground) -> None:
    ground.fake.faults.add("AddOrder", "delay_reply", nth=2, seconds=0.8)
    ground.aim = Aim("AddOrder", "never", nth=99)
    ground.start()
    assert ground.wait_until(lambda: ground.fake.count("AddOrder") == 2, PATIENCE), ground.log
    code, _ = ground.terminate()
    assert code == 0, ground.log
    assert rows(ground.database, "SELECT count(*) FROM pending_txids") == [(0,)]
    there = {order.txid for order in ground.fake.open_orders(USERREF)}
    assert {row[0] for row in rows(ground.database, "SELECT txid FROM orderbook")} == there
    assert len(there) >= 2


def cpu_of(command: list[str], cwd: Path) -> tuple[float, int, str]:
    """Seconds of CPU, the least of three; exit code; output."""
    best, code, out = 99.0, 0, ""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        code, out = done.returncode, done.stdout
    return best, code, out


def test_a_second_start_says_so_and_costs_little(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(ground.directory))
    started(ground)
    root = Path(__file__).parents[2]
    bare, *_ = cpu_of([sys.executable, "-c", "pass"], root)
    ours, code, out = cpu_of([sys.executable, "gridbot.py", "--config", f"{ground.directory}/config.ini"], root)
    assert code == 0
    assert out.startswith(f"gridbot is already running (pid {ground.process.pid if ground.process else 0})")
    sys.stdout.write(
        f"second start {ours * 1000:.0f} ms of CPU, bare Python {bare * 1000:.0f} ms, ratio {ours / bare:.1f}\n"
    )
    assert ours < bare * 12
    assert ground.is_alive()


def test_a_wrong_key_is_shown_to_kraken_once_and_not_every_minute(ground: Ground) -> None:
    ground.write_config(ground.server, key="another-key")
    code, text = ground.call(GRIDBOT_TEST_GUARD="1")
    assert (code, "EAPI:Invalid key" in text) == (2, True), text
    asked = ground.fake.count()
    code, text = ground.call(GRIDBOT_TEST_GUARD="1")
    assert code == 2
    assert text.startswith("gridbot waits until ")
    assert "EAPI:Invalid key" in text
    assert f"touch {ground.directory}/config.ini" in text
    assert ground.fake.count() == asked

    ground.write_config(ground.server)  # mended
    started(ground, GRIDBOT_TEST_GUARD="1")
    assert ground.terminate()[0] == 0
    assert stopped_at(ground.database)


def test_watch_tells_the_living_from_the_dead_and_the_stopped(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    def watch() -> tuple[int, str]:
        code = main(["--config", f"{ground.directory}/config.ini", "watch"])
        return code, capsys.readouterr().out

    started(ground)
    pid = ground.process.pid if ground.process else 0
    running = f"the bot (pid {pid}) is alive: RUNNING"
    assert ground.wait_until(lambda: look(ground.database).text.startswith(running), PATIENCE)
    code, text = ground.call("watch")
    assert (code, text.startswith(running)) == (0, True)
    ground.kill()
    code, text = watch()
    assert (code, text.startswith(f"the bot (pid {pid}) is dead; its last sign of life is ")) == (1, True)
    assert "\n  Start it, unless cron does: it goes on where it was.\n" in text
    started(ground)
    ground.terminate()
    code, text = watch()
    assert (code, text.startswith("the bot was stopped on request at ")) == (1, True)


def test_without_a_network_it_waits_says_so_and_goes_on_by_itself(ground: Ground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = (ground.directory / "config.ini").read_text().replace(str(ground.server.port), str(port))
    (ground.directory / "config.ini").write_text(config)
    ground.start(GRIDBOT_TEST_HASTE="1")
    assert ground.wait_until(lambda: "cannot start yet: " in ground.log, PATIENCE), ground.log
    line = next(line for line in ground.log.splitlines() if "cannot start yet" in line)
    assert "cannot be reached" in line
    assert "Traceback" not in ground.log
    with FakeKrakenServer(ground.fake, port):
        assert ground.wait_until(ground.grid_stands, PATIENCE), ground.log
        assert ground.terminate()[0] == 0


def test_a_clock_of_1970_does_no_harm(ground: Ground) -> None:
    started(ground)
    ground.terminate()
    for order in ground.fake.open_orders(USERREF):
        ground.fake.cancel(order.txid)
    os.unlink(ground.database)
    started(ground, GRIDBOT_TEST_WALL_CLOCK="100")
    assert time.time() - min(o.opentm for o in ground.fake.open_orders(USERREF)) < 60
    assert ground.terminate()[0] == 0
