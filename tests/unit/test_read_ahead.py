"""Reading in a second process: the same blocks and the same errors, and nobody left behind."""

import gzip
import os
import signal
from itertools import islice

import pytest

from gridbot.core import read_ahead
from gridbot.core.candles import MarketData
from gridbot.core.read_ahead import ReadAhead
from gridbot.exceptions import ConfigurationError, GridBotError
from tests.past import diced_candles, write_candles


def told(data: MarketData) -> list[object]:
    return [(data.progress, block.times, block.lows, block.highs, block.ticks(0)) for block in data.blocks()]


def has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@pytest.fixture
def file(tmp_path):
    return write_candles(tmp_path / "a.csv", diced_candles(8000, 1))


def test_the_blocks_are_those_that_one_process_reads(file, tmp_path):
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    trades = tmp_path / "c.csv"
    trades.write_text("".join(f"{1600000000 + 40 * n},{100 + n % 7}.5,0.1\n" for n in range(5000)))
    for path in (file, packed, trades):
        assert told(ReadAhead([path])) == told(MarketData([path]))
    assert not has_children()


def test_what_is_wrong_with_a_file_is_said_as_by_one_process(file):
    text = file.read_text().splitlines()
    text[7000] = text[7000].replace(",", ";", 1)
    file.write_text("\n".join(text))
    messages = []
    for kind in (MarketData, ReadAhead):
        with pytest.raises(ConfigurationError) as caught:
            told(kind([file]))
        messages.append(caught.value.message)
    assert "line 7001" in messages[0]
    assert messages[1] == messages[0]
    assert not has_children()


def test_whoever_stops_early_leaves_no_process_behind(file):
    blocks = ReadAhead([file]).blocks()
    assert len(list(islice(blocks, 2))) == 2
    assert has_children()
    blocks.close()
    assert not has_children()


def test_a_second_process_that_is_killed_is_no_end_of_the_data(file, monkeypatch):
    children: list[int] = []
    fork = os.fork

    def remembered() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(read_ahead.os, "fork", remembered)
    blocks = ReadAhead([file]).blocks()
    next(blocks)
    os.kill(children[0], signal.SIGKILL)
    with pytest.raises(GridBotError, match="the process that reads the files was ended"):
        list(blocks)
