"""The nonce only ever grows: across restarts, wrong clocks and refusals."""

import errno
from pathlib import Path

import pytest

from gridbot.adapters.exchanges.kraken_nonce import NANOSECONDS, NonceSource
from gridbot.exceptions import ConfigurationError, TemporaryFailure
from tests.unit.kraken_clock import StillClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "nonce"


def test_the_first_nonce_is_the_clock_in_nanoseconds():
    assert NonceSource(StillClock(1_790_000_000.0)).next() == 1_790_000_000_000_000_000


def test_two_nonces_in_the_same_instant_differ_by_one():
    nonce = NonceSource(StillClock())
    assert nonce.next() + 1 == nonce.next()


def test_a_clock_that_steps_back_does_not_lower_the_nonce():
    clock = StillClock()
    nonce = NonceSource(clock)
    before = nonce.next()
    clock.now -= 3600
    assert nonce.next() == before + 1


def test_a_restart_in_1970_continues_above_everything_used_before(path: Path):
    used = [NonceSource(StillClock(), path).next() for _ in range(2)]
    woken_up = NonceSource(StillClock(100.0), path)
    assert woken_up.next() > max(used)


def test_the_mark_is_written_once_in_ten_minutes(path: Path):
    clock = StillClock()
    nonce = NonceSource(clock, path)
    contents = set()
    for _ in range(19 * 60):
        nonce.next()
        contents.add(path.read_text())
        clock.advance(1)
    assert len(contents) == 2


def test_the_file_holds_the_mark_ten_minutes_ahead_and_nothing_else(path: Path):
    nonce = NonceSource(StillClock(), path)
    assert path.parent.exists() is False  # nothing is touched before the first private call
    first = nonce.next()
    assert path.read_text() == f"{first + 600 * NANOSECONDS}\n"
    assert [p.name for p in path.parent.iterdir()] == ["nonce"]


def test_closing_gives_back_what_was_reserved(path: Path):
    nonce = NonceSource(StillClock(), path)
    last = nonce.next()
    nonce.close()
    assert NonceSource(StillClock(0.0), path).next() == last + 1


@pytest.mark.parametrize(("closed", "later", "suddenly"), [(False, 60, True), (False, 700, False), (True, 60, False)])
def test_a_sudden_end_is_seen_for_ten_minutes(path: Path, closed: bool, later: float, suddenly: bool):
    before = NonceSource(StillClock(), path)
    before.next()
    if closed:
        before.close()
    clock = StillClock()
    clock.advance(later)
    after = NonceSource(clock, path)
    after.next()
    assert after.left_reserved is suddenly


def test_closing_without_a_call_writes_nothing(path: Path):
    NonceSource(StillClock(), path).close()
    assert not path.exists()


def test_after_a_refusal_the_nonce_jumps_a_minute_above_krakens_clock():
    clock = StillClock(0.0)  # the clock is wrong, and the mark is lost
    nonce = NonceSource(clock)
    assert nonce.next() == 1 or nonce.next() == 2
    nonce.skip_ahead(1_790_000_000.0)
    assert nonce.next() == 1_790_000_060_000_000_001


def test_a_file_that_cannot_be_written_is_named_at_the_first_call(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigurationError, match=r"nonce.*cannot be"):
        NonceSource(StillClock(), blocked / "nonce").next()


def test_with_a_full_disk_the_start_waits_until_there_is_space(path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    nonce = NonceSource(StillClock(), path)
    with monkeypatch.context() as patch:
        patch.setattr("gridbot.adapters.exchanges.kraken_nonce._write_atomically", full)
        for _ in range(2):
            with pytest.raises(TemporaryFailure, match="the disk is full"):
                nonce.next()
    assert nonce.next() < int(path.read_text())


def test_a_disk_that_fails_later_is_logged_and_calls_go_on(path: Path, caplog: pytest.LogCaptureFixture):
    clock = StillClock()
    nonce = NonceSource(clock, path)
    first = nonce.next()
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("")
    clock.advance(3600)
    assert nonce.next() > first
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("text", ["", "garbage", "-5", "²", "9" * 30, "1" * 5000, "12.5"])
def test_a_damaged_mark_is_told_and_the_clock_takes_over(path: Path, text: str, caplog: pytest.LogCaptureFixture):
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert NonceSource(StillClock(), path).next() == 1_790_000_000_000_000_000
    assert "does not hold a number" in caplog.text
