"""Reading market data: what counts as a file of candles, and what is said about one that is not."""

import codecs
import gzip
import re
from decimal import Decimal
from pathlib import Path

import pytest

from gridbot.core.candles import BLOCK, MarketData, Period
from gridbot.exceptions import ConfigurationError
from tests.past import BEGIN, diced_candles, write_candles

GOOD = "1600000020,100.0,103.0,99.0,101.5,2.5,4\n"


def ticks(data: MarketData) -> list[tuple[float, Decimal]]:
    return [tick for block in data.blocks() for index in range(len(block)) for tick in block.ticks(index)]


def error(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigurationError) as caught:
        ticks(MarketData([path]))
    return caught.value.message


def test_a_candle_is_four_prices_in_the_order_of_the_path(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(GOOD)
    orders = {
        name: [str(price) for _, price in ticks(MarketData([file], name))]
        for name in ("high-first", "low-first", "close")
    }
    assert orders == {
        "high-first": ["100.0", "103.0", "99.0", "101.5"],
        "low-first": ["100.0", "99.0", "103.0", "101.5"],
        "close": ["101.5"],
    }


def test_the_prices_of_a_candle_lie_within_its_time_and_in_order(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(3, 1))
    times = [time - BEGIN for time, _ in ticks(MarketData([file]))]
    assert [round(time, 3) for time in times[:5]] == [0.0, 19.667, 39.333, 59.0, 60.0]
    assert times == sorted(times)


def test_gzip_and_plain_text_are_the_same(tmp_path):
    plain = write_candles(tmp_path / "a.csv", diced_candles(5000, 2))
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert ticks(MarketData([plain])) == ticks(MarketData([packed]))


def test_blocks_end_at_the_end_of_a_line_and_lose_nothing(tmp_path):
    candles = diced_candles(4000, 3)
    file = write_candles(tmp_path / "a.csv", candles)
    assert file.stat().st_size > 2 * BLOCK
    data = MarketData([file])
    assert [str(price) for _, price in ticks(data)] == [p for o, h, low, c in candles for p in (o, h, low, c)]
    assert data.progress == 1.0


def test_windows_line_ends_and_a_missing_last_one_are_fine(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes((GOOD + GOOD.replace("0020", "0080")).replace("\n", "\r\n").rstrip().encode())
    assert len(ticks(MarketData([file]))) == 8


@pytest.mark.parametrize("end", ["\n", "\n\n", "\r\n", "\r\n\r\n\r\n", "  "])
@pytest.mark.parametrize("line", [GOOD, "1600000020,100.0,1\n"])
def test_empty_lines_at_the_end_are_nothing(tmp_path, line, end):
    file, bare = tmp_path / "a.csv", tmp_path / "b.csv"
    file.write_bytes((line + end).encode())
    bare.write_text(line)
    assert ticks(MarketData([file])) == ticks(MarketData([bare])) != []


def test_empty_lines_at_the_end_are_nothing_wherever_a_block_ends(tmp_path, monkeypatch):
    file = tmp_path / "a.csv"
    file.write_text(GOOD + GOOD.replace("0020", "0080") + "\n" * 9)
    for size in range(len(GOOD), 3 * len(GOOD)):
        monkeypatch.setattr("gridbot.core.candles.BLOCK", size)
        assert len(ticks(MarketData([file]))) == 8


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("lines", "number"), [(GOOD, 2), ("1600000020,100.0,1\n", 2), ("", 1)])
def test_a_file_without_line_ends_is_refused_with_its_line_and_not_read_to_its_end(tmp_path, packed, lines, number):
    content = lines.encode() + bytes(1_000_000)
    file = tmp_path / ("a.csv.gz" if packed else "a.csv")
    message = error(file, gzip.compress(content)[:-8] if packed else content)  # the packed one is cut off at its end
    assert f"{file.name}, line {number}: no candle or trade in {BLOCK} characters" in message


@pytest.mark.parametrize("packed", [False, True])
def test_the_mark_that_editors_of_windows_put_first_is_no_part_of_the_file(tmp_path, packed):
    content = codecs.BOM_UTF8 + GOOD.encode()
    file = tmp_path / ("a.csv.gz" if packed else "a.csv")
    file.write_bytes(gzip.compress(content) if packed else content)
    assert len(ticks(MarketData([file]))) == 4


@pytest.mark.parametrize(("price", "decimals"), [("100.25", 2), ("1.2036e-06", 10), ("1e-06", 6), ("1E3", 0), ("7", 0)])
def test_the_decimals_of_a_file_are_those_of_its_prices_in_any_notation(tmp_path, price, decimals):
    assert MarketData([write_candles(tmp_path / "a.csv", [(price,) * 4] * 3)]).decimals == decimals


def test_missing_minutes_are_missing_and_nothing_else(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(GOOD + GOOD.replace("0020", "0080") + GOOD.replace("0020", "3620"))
    data = MarketData([file])
    assert data.step == 60
    assert [time - BEGIN for time, _ in ticks(data)][::4] == [0, 60, 3600]


def test_trades_are_every_price_in_groups_of_a_minute(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("1600000021.5,100.1,1\n1600000021.5,100.3,1\n1600000079,99.9,2\n1600000081,100.0,1\n")
    data = MarketData([file])
    blocks = list(data.blocks())
    assert [len(block) for block in blocks] == [1, 1]
    assert ticks(data) == [
        (1600000021.5, Decimal("100.1")),
        (1600000021.5, Decimal("100.3")),
        (1600000079.0, Decimal("99.9")),
        (1600000081.0, Decimal("100.0")),
    ]
    assert (blocks[0].lows, blocks[0].highs) == ([99.9], [100.3])


def test_files_are_read_in_the_order_of_their_times(tmp_path):
    later = write_candles(tmp_path / "a.csv", diced_candles(2, 1), begin=BEGIN + 6000)
    earlier = write_candles(tmp_path / "b.csv", diced_candles(2, 2))
    data = MarketData([later, earlier])
    assert data.first_time == BEGIN
    times = [time for time, _ in ticks(data)]
    assert times == sorted(times)


def test_files_that_overlap_are_refused(tmp_path):
    one = write_candles(tmp_path / "a.csv", diced_candles(10, 1))
    two = write_candles(tmp_path / "b.csv", diced_candles(10, 1), begin=BEGIN + 120)
    with pytest.raises(ConfigurationError, match=r"b\.csv, line 1: begins at 2020-09-13T12:29:00Z, before .* at 2020"):
        ticks(MarketData([one, two]))


HOUR = 3600


@pytest.mark.parametrize(("step", "other"), [(HOUR, 60), (60, HOUR), (86400, HOUR)])
def test_files_whose_candles_differ_in_length_are_refused(tmp_path, step, other):
    one = write_candles(tmp_path / "a.csv", diced_candles(10, 1), step=step)
    two = write_candles(tmp_path / "b.csv", diced_candles(10, 1), step=other, begin=BEGIN + 86400 * 20)
    said = rf"a\.csv has candles of {step} seconds and .*b\.csv has candles of {other} seconds; name files of one kind"
    with pytest.raises(ConfigurationError, match=said):
        MarketData([two, one])


def trades_file(path: Path, begin: int) -> Path:
    path.write_text("".join(f"{begin + 7 * n},50000.0,1\n" for n in range(60)))
    return path


def test_trades_go_with_trades_and_with_candles_of_a_minute_and_no_others(tmp_path):
    trades = trades_file(tmp_path / "t.csv", BEGIN)
    more = trades_file(tmp_path / "u.csv", BEGIN + 600)
    minutes = write_candles(tmp_path / "a.csv", diced_candles(10, 1), begin=BEGIN + 6000)
    assert MarketData([trades, more, minutes]).step == 60
    hours = write_candles(tmp_path / "h.csv", diced_candles(10, 1), begin=BEGIN + 6000, step=HOUR)
    with pytest.raises(
        ConfigurationError, match=r"t\.csv has trades, taken by the minute and .*h\.csv has candles of 3"
    ):
        MarketData([trades, hours])


def test_missing_candles_make_no_file_one_of_another_kind(tmp_path):
    def file(name: str, *minutes: int) -> Path:
        lines = (f"{BEGIN + 60 * minute},100.0,103.0,99.0,101.5,2.5,4\n" for minute in minutes)
        (tmp_path / name).write_text("".join(lines))
        return tmp_path / name

    whole, sparse, single = file("a.csv", 0, 1, 2), file("b.csv", 3, 5, 8, 10), file("c.csv", 70)
    assert MarketData([whole, sparse, single]).step == 60
    hours = write_candles(tmp_path / "h.csv", diced_candles(3, 1), step=HOUR, begin=BEGIN + HOUR * 24)
    assert MarketData([single, hours]).step == HOUR
    minutes = write_candles(tmp_path / "m.csv", diced_candles(30, 1), begin=BEGIN + HOUR * 48)
    for few in ((0, 3), (0, 5, 15, 20)):
        assert MarketData([file("few.csv", *few), minutes]).step == 60


@pytest.mark.parametrize(
    ("start", "end", "bars"), [(0, 9e9, 10), (BEGIN + 60, 9e9, 9), (BEGIN + 61, BEGIN + 240, 2), (0, BEGIN, 0)]
)
def test_a_period_takes_the_bars_that_begin_in_it(tmp_path, start, end, bars):
    file = write_candles(tmp_path / "a.csv", diced_candles(10, 1))
    assert sum(len(Period(start, end).part_of(block)) for block in MarketData([file]).blocks()) == bars


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the file is empty"),
        ("time,open,high,low,close,volume,trades\n" + GOOD, "line 1: 'time' is not a time in unix seconds: a header"),
        ("a;b\n", "line 1: 1 columns; expected are Kraken's candles"),
        ("1600000020000,100.0,103.0,99.0,101.5,2.5,4\n", "line 1: '1600000020000' is not a time"),
        (GOOD + "1600000080,100.0,103.0\n", "line 2: 3 columns where the lines before had 7; is the file cut off?"),
        (GOOD + "\n" + GOOD, "line 2: '' is not a time"),
        (GOOD + GOOD, "line 2: this candle is not later than the one before"),
        (GOOD.replace("0020", "0080") + GOOD, "line 2: this candle is not later"),
        (GOOD + "1600000080,100.0,99.0,103.0,101.5,2.5,4\n", "line 2: open 100.0 and close 101.5 do not lie between"),
        (GOOD + "1600000080,100.0,abc,99.0,101.5,2.5,4\n", "line 2: 'abc' is not a price"),
        (GOOD + "1600000080,100.0,nan,99.0,101.5,2.5,4\n", "line 2: 'nan' is not a price above 0"),
        (GOOD + "1600000080,1.0,1.0,-1.0,1.0,2.5,4\n", "line 2: '-1.0' is not a price above 0"),
        ("1600000021,100.1,1\n1600000020,100.1,1\n", "line 2: this trade is earlier than the one before"),
        ("1600000021,1e-400,1\n", "line 1: '1e-400' is no price from 0.000"),
        ("1600000021,100.1,1\n1600000022,x,1\n", "line 2: 'x' is not a price"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "not a csv file"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_line(tmp_path, text, said):
    message = error(tmp_path / "wrong.csv", text)
    assert "wrong.csv" in message
    assert said in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1600000080,xx,103.0,99.0,101.5,2.5,4\n", "line 2: 'xx' is not a price"),
        ("1600000080,100.0,103.0,99.0,-1,2.5,4\n", "line 2: '-1' is not a price above 0"),
        ("1600000080,100.0,103.0,99.0,1e9,2.5,4\n", "line 2: open 100.0 and close 1000000000 do not lie between"),
        ("1600000080,1e300,1e300,1e300,1e300,2.5,4\n", "line 2: '1e300' is no price from 0.000000000000001 to 1000"),
        (f"1600000080,{'9' * 40},{'9' * 40},99.0,101.5,2.5,4\n", f"line 2: '{'9' * 40}' is no price from 0.000"),
        (GOOD.replace("\n", ",1\n") + "1600000080,100.0,103.0,99.0,101.5,2.5\n", "line 2: 8 columns"),
    ],
)
def test_what_can_be_no_candle_is_found_though_nothing_happens_in_it(tmp_path, line, said):
    file = tmp_path / "a.csv"
    file.write_text(GOOD + line)
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        list(MarketData([file]).blocks())


def test_a_mistake_far_down_is_found_on_its_line(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(4000, 3))
    lines = file.read_text().splitlines(keepends=True)
    lines[3210] = lines[3210].replace(",", ";", 1)
    message = error(file, "".join(lines))
    assert "a.csv, line 3211: 6 columns" in message


def test_a_swap_far_down_is_found_where_it_first_shows(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(4000, 3))
    lines = file.read_text().splitlines(keepends=True)
    lines[2000], lines[2001] = lines[2001], lines[2000]
    assert "a.csv, line 2002: this candle is not later" in error(file, "".join(lines))


def test_a_download_that_was_cut_off_is_told_as_such(tmp_path):
    whole = gzip.compress(write_candles(tmp_path / "a.csv", diced_candles(9000, 3)).read_bytes())
    assert "cut off or damaged" in error(tmp_path / "half.csv.gz", whole[: len(whole) // 2])


def test_a_file_is_compressed_by_its_content_and_not_by_its_name(tmp_path):
    for name, content in (("text.csv.gz", GOOD.encode()), ("packed.csv", gzip.compress(GOOD.encode()))):
        (tmp_path / name).write_bytes(content)
        assert ticks(MarketData([tmp_path / name]))


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--data .*nowhere\.csv: No such file"):
        MarketData([tmp_path / "nowhere.csv"])
