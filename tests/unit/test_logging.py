"""The log: one line per event, never a secret, never a full card."""

import errno
import io
import logging
import os
import pty
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from gridbot.core import logging_setup
from gridbot.core.logging_setup import FILE_BYTES, OLDER_FILES, set_up_logging
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.models.configuration import LoggingConfigDTO

SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
TOKEN = "123456:AAH-token_of_the_bot"
LOG = logging.getLogger("gridbot.test")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, hook, raising = logging.getLogger(), threading.excepthook, logging.raiseExceptions
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    threading.excepthook, logging.raiseExceptions = hook, raising
    for library in ("urllib3", "requests", "websocket"):
        logging.getLogger(library).setLevel(logging.NOTSET)


def log_to(config: LoggingConfigDTO, *secrets: str) -> io.StringIO:
    stream = io.StringIO()
    set_up_logging(config, secrets, stream)
    return stream


def test_a_line_is_time_level_and_story() -> None:
    stream = log_to(LoggingConfigDTO())
    LOG.info("bought %s BTC @ %s USD (%s)", "0.00202000", "49504.9", "OQ4C3A")
    LOG.debug("payload")
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO     bought 0\.00202000 BTC @ 49504\.9 USD \(OQ4C3A\)\n", stream.getvalue()
    )


def test_the_story_goes_to_stdout_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LoggingConfigDTO(), ())
    LOG.warning("no answer")
    out, err = capsys.readouterr()
    assert out.endswith("WARNING  no answer\n")
    assert err == ""


def test_a_closed_stdout_does_not_send_the_story_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    set_up_logging(LoggingConfigDTO(), ())
    LOG.info("placed buy")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", [SECRET, quote(SECRET), quote(SECRET, safe="")])
def test_a_secret_in_message_or_argument_is_hidden(form: str) -> None:
    stream = log_to(LoggingConfigDTO(), SECRET)
    LOG.info(f"sent {form}|")
    LOG.info("sent %s|", form)
    LOG.info("sent %r", {"key": form, "list": [form]})
    assert "kQH5HW" not in stream.getvalue()
    assert stream.getvalue().count("***") == 4


def test_a_secret_in_a_traceback_is_hidden_and_the_rest_of_it_stays() -> None:
    stream = log_to(LoggingConfigDTO(), SECRET, TOKEN)
    try:
        raise ValueError(f"https://api.telegram.org/bot{TOKEN}/sendMessage failed for {SECRET}")
    except ValueError:
        LOG.exception("not sent")
    text = stream.getvalue()
    assert TOKEN not in text
    assert SECRET not in text
    assert "ValueError: https://api.telegram.org/bot***/sendMessage failed for ***" in text


def test_a_secret_that_contains_another_leaves_nothing_behind() -> None:
    stream = log_to(LoggingConfigDTO(), "abcdef", "abcdef-and-more")
    LOG.info("it is abcdef-and-more.")
    assert stream.getvalue().endswith("it is ***.\n")


def test_no_secret_tears_holes_into_the_text() -> None:
    stream = log_to(LoggingConfigDTO(), "", "a")
    LOG.info("a banana")
    assert stream.getvalue().endswith("a banana\n")


def test_a_thread_that_dies_says_so_without_the_secret(capsys: pytest.CaptureFixture[str]) -> None:
    stream = log_to(LoggingConfigDTO(), SECRET)

    def dies() -> None:
        raise RuntimeError(f"with {SECRET}")

    thread = threading.Thread(target=dies, name="feed")
    thread.start()
    thread.join()
    assert "the thread feed ended with an error" in stream.getvalue()
    assert "RuntimeError: with ***" in stream.getvalue()
    assert SECRET not in stream.getvalue() + "".join(capsys.readouterr())


def test_a_line_that_cannot_be_written_prints_no_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = log_to(LoggingConfigDTO(), SECRET)
    stream.close()
    LOG.info("sent %s", SECRET)
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.parametrize("open_pair", [os.pipe, pty.openpty], ids=["pipe", "terminal"])
def test_an_output_that_nobody_reads_stops_nothing_and_says_later_what_is_missing(
    open_pair: Callable[[], tuple[int, int]],
) -> None:
    reader, writer = open_pair()
    seen = b""

    def read() -> None:
        nonlocal seen
        while not seen.endswith(b"the end\n"):
            seen += os.read(reader, 65536).replace(b"\r\n", b"\n")

    def trade() -> None:
        for number in range(1000):
            LOG.info("%d %s", number, "x" * 150)

    with os.fdopen(writer, "w") as stream:
        set_up_logging(LoggingConfigDTO(), (), stream)
        trader = threading.Thread(target=trade, daemon=True)
        trader.start()
        trader.join(5)
        stuck = trader.is_alive()
        late = threading.Thread(target=read, daemon=True)
        late.start()
        trader.join()
        while late.is_alive():  # a line at a time, until there is room again for the last one
            LOG.info("the end")
            late.join(0.01)
        os.close(reader)
    assert not stuck
    lines = seen.decode().splitlines()
    shown = [line for line in lines if " INFO " in line]
    (note,) = (line for line in lines if "missing" in line)
    missing = re.fullmatch(r"\[(\d+) messages are missing here: nobody read this output\]", note)
    assert missing
    assert int(missing[1]) + sum("xxx" in line for line in shown) >= 1000
    assert all(line.endswith(("x" * 150, "the end")) for line in shown)


def test_libraries_are_quiet_unless_debug() -> None:
    stream = log_to(LoggingConfigDTO(level="INFO"))
    logging.getLogger("urllib3.connectionpool").info("Starting new HTTPS connection")
    assert stream.getvalue() == ""
    stream = log_to(LoggingConfigDTO(level="DEBUG"))
    logging.getLogger("urllib3.connectionpool").debug("Starting new HTTPS connection")
    assert "Starting new HTTPS connection" in stream.getvalue()


def test_the_file_has_the_date_and_no_secret(tmp_path: Path) -> None:
    log_to(LoggingConfigDTO(file=tmp_path / "bot.log"), SECRET)
    LOG.info("placed a sell with %s", SECRET)
    text = (tmp_path / "bot.log").read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO     placed a sell with \*\*\*\n", text)


def test_the_file_never_takes_more_than_4_mb(tmp_path: Path) -> None:
    assert FILE_BYTES * (OLDER_FILES + 1) == 4_000_000
    log_to(LoggingConfigDTO(file=tmp_path / "bot.log"))
    line = "x" * 100_000
    for _ in range(60):
        LOG.info(line)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bot.log", "bot.log.1", "bot.log.2", "bot.log.3"]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 4_000_000


def test_a_file_that_cannot_be_set_aside_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    log_to(LoggingConfigDTO(file=tmp_path / "bot.log"))
    for number in range(15):
        LOG.info("%d %s", number, "x" * 100_000)
    lines = (tmp_path / "bot.log").read_text().splitlines()
    assert sum("INFO" in line for line in lines) == 15
    assert sum("now grows without end: it cannot be set aside (Permission denied)" in line for line in lines) == 1


def test_a_file_that_another_bot_sets_aside_in_the_same_moment_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, missing = os.rename, [FileNotFoundError(2, "No such file or directory")]

    def outrun_once(*paths: str) -> None:
        if missing:
            raise missing.pop()
        rename(*paths)

    monkeypatch.setattr(os, "rename", outrun_once)
    log_to(LoggingConfigDTO(file=tmp_path / "bot.log"))
    for number in range(60):
        LOG.info("%d %s", number, "x" * 100_000)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 4_200_000
    assert "grows without end" not in (tmp_path / "bot.log").read_text()


def test_a_file_that_is_deleted_or_set_aside_by_another_program_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "bot.log"
    log_to(LoggingConfigDTO(file=path))
    LOG.info("one")
    path.rename(tmp_path / "bot.log.old")
    LOG.info("two")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["two"]
    path.unlink()
    LOG.info("three")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["three"]


def test_a_file_that_was_set_aside_goes_on_where_no_new_one_may_be_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bot.log"
    log_to(LoggingConfigDTO(file=path))
    path.rename(tmp_path / "bot.log.old")

    def barred(_self: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(logging_setup.PatientFileHandler, "_open", barred)
    LOG.info("one")
    LOG.info("two")
    assert [line.split()[-1] for line in (tmp_path / "bot.log.old").read_text().splitlines()] == ["one", "two"]


def test_a_file_that_cannot_be_written_is_refused_with_the_key_to_mend(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\[logging\] file = .*: cannot be written \(No such file"):
        set_up_logging(LoggingConfigDTO(file=tmp_path / "missing" / "bot.log"), (), sys.stdout)


def test_a_full_disk_under_the_file_is_no_matter_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logging_setup, "PatientFileHandler", full)
    with pytest.raises(GridBotError, match=r"\(No space left on device\)\. Free some space$") as caught:
        log_to(LoggingConfigDTO(file=tmp_path / "bot.log"))
    assert not isinstance(caught.value, ConfigurationError)


def test_setting_up_again_replaces_and_does_not_double() -> None:
    log_to(LoggingConfigDTO())
    stream = log_to(LoggingConfigDTO())
    LOG.info("once")
    assert stream.getvalue().count("once") == 1
