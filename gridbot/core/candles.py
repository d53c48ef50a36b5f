"""
Market data from files: Kraken's OHLCVT candles and its trade lists, plain or gzipped, block by block.

A block is a few thousand lines at most, so that memory does not grow with the file. Lows and highs are read as
floats, and only decide *whether* a candle is looked at; every price used is an exact Decimal made from the text.
An error names the file, the line, and what was expected.
"""

import gzip
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import groupby, pairwise
from math import gcd
from operator import le, lt
from pathlib import Path
from typing import IO, cast

from gridbot.exceptions import ConfigurationError
from gridbot.models.configuration import MAX_AMOUNT
from gridbot.models.money import decimals_of
from gridbot.services.tables import moment

BLOCK = 65536  # characters read at once: larger blocks leave the processor's cache and are slower
CANDLE_COLUMNS = 7  # time, open, high, low, close, volume, trades
TRADE_COLUMNS = 3  # time, price, volume
CANDLE_FRAME = b"," * (CANDLE_COLUMNS - 1) + b"\n"
READ_ALWAYS = (0, 2, 3)  # time, high and low
GZIP = b"\x1f\x8b"  # how a compressed file begins, whatever it is called
NUMBERS = b"0123456789."  # exponents are rare: lines with one take the slower check
FEW_ROWS = 20  # with fewer rows, and candles missing, the length of a candle cannot be known
TRADE_STEP = 60  # seconds: trades are handed out in groups of one minute
LATEST = 4102444800.0  # the year 2100: a larger number is in milliseconds, or no time at all

# The order assumed for the four known prices of a candle, as columns of the file. Its effect: see core/backtest.
PATHS = {"high-first": (1, 2, 3, 4), "low-first": (1, 3, 2, 4), "close": (4,)}
DEFAULT_PATH = "high-first"

Tick = tuple[float, Decimal]  # unix seconds, price


class Block(ABC):
    """Some bars in order of time. ``lows`` and ``highs`` are floats: good for skipping bars, not for money."""

    times: list[float]  # when each bar begins, unix seconds
    lows: list[float]
    highs: list[float]

    def __len__(self) -> int:
        return len(self.lows)

    @abstractmethod
    def ticks(self, index: int) -> list[Tick]:
        """The exact prices of one bar, in order. Raises ConfigurationError for an impossible bar."""

    def close(self, index: int) -> Decimal:
        """The last price of the bar."""
        return self.ticks(index)[-1][1]


class CandleBlock(Block):
    """Lines of an OHLCVT file."""

    def __init__(self, where: "Where", text: str, step: float, path: tuple[int, ...]) -> None:
        self._where = where
        self._text = text
        self._rows: list[str] = []  # the lines; split when the first of them is needed
        self._path = path
        span = step - 1 if step > 1 else step / 2
        self._offsets = [span] if len(path) == 1 else [0.0, span / 3, span * 2 / 3, span]
        cells = text.replace("\n", ",").split(",")
        lines = len(cells) // CANDLE_COLUMNS
        # Without its digits every good line is the same, so one comparison checks the form of the whole text.
        is_plain = text.encode().translate(None, NUMBERS) == CANDLE_FRAME * lines
        if not is_plain:
            where.check_columns(text, CANDLE_COLUMNS)
        try:
            # -1: the last cell is the empty one behind the last line end.
            self.times, opens, self.highs, self.lows, closes = (
                list(map(float, cells[column:-1:CANDLE_COLUMNS])) if column in READ_ALWAYS or not is_plain else []
                for column in range(5)
            )
            is_sound = self._looks_sound() and (is_plain or self._lie_within(opens, closes))
        except ValueError:
            is_sound = False
        if not is_sound:
            self._explain()

    def _looks_sound(self) -> bool:
        """A quick check. It may call a sound block unsound (checked line by line then), not the reverse."""
        times, lows, highs = self.times, self.lows, self.highs
        return (
            times[0] > 0
            and times[-1] < LATEST
            and all(map(lt, times, times[1:]))
            and all(map(le, lows, highs))
            and lows[0] > 0
            and sum(highs) < MAX_AMOUNT
        )

    def _lie_within(self, *prices: list[float]) -> bool:
        """Do opens and closes lie between low and high? For unusual blocks only: for all it would cost 5 % of a run."""
        lows, highs = self.lows, self.highs
        return min(lows) > 0 and all(all(map(le, lows, p)) and all(map(le, p, highs)) for p in prices)

    def _explain(self) -> None:
        """Check line by line. Raises ConfigurationError for the first line that is wrong."""
        before = -1.0
        for index in range(self._text.count("\n")):
            time = self._where.time(index, self._cells(index)[0])
            if time <= before:
                raise self._where.error(index, "this candle is not later than the one before; sort the file by time")
            before = time
            self._prices(index)

    def _cells(self, index: int) -> list[str]:
        self._rows = self._rows or self._text.splitlines()
        return self._rows[index].split(",")

    def _prices(self, index: int) -> list[Decimal]:
        """Open, high, low, close, exactly. Raises ConfigurationError."""
        prices = [self._where.price(index, text) for text in self._cells(index)[1:5]]
        opened, high, low, closed = prices
        if not low <= min(opened, closed) <= max(opened, closed) <= high:
            raise self._where.error(
                index, f"open {opened:f} and close {closed:f} do not lie between low {low:f} and high {high:f}"
            )
        return prices

    def ticks(self, index: int) -> list[Tick]:
        """Open, the two extremes in the order of the path, close."""
        began, prices = self.times[index], self._prices(index)
        return [(began + offset, prices[column - 1]) for offset, column in zip(self._offsets, self._path, strict=True)]

    def close(self, index: int) -> Decimal:
        price = self._where.price(index, self._cells(index)[4])
        if price < self.lows[index] or price > self.highs[index]:
            self._prices(index)  # checks exactly, and raises an error that says what is wrong
        return price


class TradeBlock(Block):
    """Trades in groups of one minute: a bar holds every price of its minute, in the order of the trades."""

    def __init__(self, where: "Where", groups: list[tuple[int, list[tuple[str, str]]]]) -> None:
        self._where = where
        self._groups = groups
        self.times = [float(minute * TRADE_STEP) for minute, _ in groups]
        self.lows, self.highs = [], []
        for _, trades in groups:
            prices = [float(price) for _, price in trades]
            self.lows.append(min(prices))
            self.highs.append(max(prices))

    def ticks(self, index: int) -> list[Tick]:
        return [(float(time), self._where.price(index, price)) for time, price in self._groups[index][1]]


class Where:
    """A place in a file, for errors. ``first_line`` is the number of the line with index 0."""

    def __init__(self, path: Path, first_line: int) -> None:
        self.path = path
        self.first_line = first_line

    def error(self, index: int, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path}, line {self.first_line + index}: {problem}")

    def time(self, index: int, text: str, hint: str = "") -> float:
        """A time in unix seconds. Raises ConfigurationError."""
        try:
            time = float(text)
        except ValueError:
            time = 0.0
        if not 0 < time < LATEST:
            raise self.error(index, f"{text!r} is not a time in unix seconds{hint}")
        return time

    def check_columns(self, text: str, columns: int) -> None:
        """Raise ConfigurationError for the first line with another number of columns."""
        for index, row in enumerate(text.splitlines()):
            if (found := row.count(",") + 1) != columns:
                raise self.error(index, f"{found} columns where the lines before had {columns}; is the file cut off?")

    def price(self, index: int, text: str) -> Decimal:
        """An exact price. Raises ConfigurationError."""
        try:
            price = Decimal(text)
        except InvalidOperation:
            raise self.error(index, f"{text!r} is not a price") from None
        if not price.is_finite() or price <= 0:
            raise self.error(index, f"{text!r} is not a price above 0")
        if not 1 / MAX_AMOUNT <= price <= MAX_AMOUNT:  # else products with it would not fit into a Decimal's digits
            raise self.error(index, f"{text!r} is no price from {1 / MAX_AMOUNT:f} to {MAX_AMOUNT:f}")
        return price


def _decimals(price: str) -> int:
    """The number of decimals of a price in any notation; 0 if the text is not a number."""
    try:
        return decimals_of(Decimal(price))
    except InvalidOperation:
        return 0


class MarketFile:
    """
    One file of candles or trades; its first line shows which. Every method may raise ConfigurationError.

    step      seconds from one candle to the next: the smallest distance in the first block
    lengths   possible lengths of a candle in seconds, as some candles may be missing; empty: too few to know
    decimals  the most decimals that a price of the first block has
    """

    def __init__(self, path: Path, path_in_candle: str = DEFAULT_PATH) -> None:
        self.path = path
        self._order = PATHS[path_in_candle]
        try:
            self.size = path.stat().st_size  # bytes on disk
        except OSError as exc:
            raise ConfigurationError(f"--data {path}: {exc.strerror}. Name the csv file, or its csv.gz") from exc
        self.position = 0  # bytes on disk read so far, for a progress bar
        where = Where(path, 1)
        rows = [line.split(",") for line in next(self._texts(), "").splitlines()]
        columns = len(rows[0]) if rows else 0
        if columns not in (CANDLE_COLUMNS, TRADE_COLUMNS):
            found = f"{columns} columns" if rows else "the file is empty"
            raise where.error(
                0,
                f"{found}; expected are Kraken's candles (time,open,high,low,close,volume,trades) or trades "
                "(time,price,volume), without a header line",
            )
        hint = ": a header line or a foreign format (milliseconds)? Kraken's files have no header"
        self.first_time = where.time(0, rows[0][0], hint)
        self.is_candles = columns == CANDLE_COLUMNS
        if not self.is_candles:  # the first trade is seldom the first of its minute, and the bar begins with the minute
            self.first_time -= self.first_time % TRADE_STEP
        prices = [cell for row in rows for cell in row[1 : 5 if self.is_candles else 2]]
        self.decimals = max(_decimals(price) for price in prices)
        times = [where.time(index, row[0]) for index, row in enumerate(rows)]
        distances = {b - a for a, b in pairwise(times) if b > a} if self.is_candles else {TRADE_STEP}
        self.step = min(distances, default=TRADE_STEP)
        is_telling = len(rows) >= FEW_ROWS or not self.is_candles or (len(rows) > 2 and len(distances) == 1)
        self.lengths = {self.step, gcd(*map(int, distances))} if distances and is_telling else set()

    def _texts(self) -> Iterator[str]:
        """Whole lines, in pieces of about BLOCK characters. The caller adds the lines of a piece to ``_line``."""
        rest, self._line = b"", 1
        try:
            with self.path.open("rb") as raw:
                file = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if raw.peek(2)[:2] == GZIP else raw
                rest = file.read(len(BOM_UTF8)).removeprefix(BOM_UTF8)  # Windows editors put it in front
                while piece := file.read(BLOCK):
                    self.position = raw.tell()
                    piece = rest + piece
                    # Empty lines are kept back until a line follows: at the end of a file they mean nothing.
                    last = len(piece[: piece.rfind(b"\n") + 1].rstrip(b"\r\n"))
                    end = last and piece.find(b"\n", last) + 1
                    rest = piece[end:]
                    if len(rest) > BLOCK and not end:  # a line without end must not fill the memory
                        problem = f"no candle or trade in {BLOCK} characters; is the file damaged? Download it again"
                        raise Where(self.path, self._line).error(0, problem)
                    if end:
                        yield piece[:end].decode("ascii").replace("\r\n", "\n")
                if rest.strip():
                    yield rest.decode("ascii") + "\n"
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise ConfigurationError(
                f"{self.path}: the compressed file is cut off or damaged ({exc}). Download it again"
            ) from exc
        except OSError as exc:
            raise ConfigurationError(f"{self.path}: cannot be read: {exc.strerror or exc}") from exc
        except UnicodeDecodeError:
            raise ConfigurationError(
                f"{self.path}: this is not a csv file of candles or trades (other characters than digits)"
            ) from None

    @property
    def kind(self) -> str:
        return f"candles of {self.step:.0f} seconds" if self.is_candles else "trades, taken by the minute"

    def blocks(self) -> Iterator[Block]:
        return self._candles() if self.is_candles else self._trades()

    def _candles(self) -> Iterator[Block]:
        before = -1.0
        for text in self._texts():
            where = Where(self.path, self._line)
            block = CandleBlock(where, text, self.step, self._order)
            if block.times[0] <= before:
                raise where.error(0, "this candle is not later than the one before; sort the file by time")
            before = block.times[-1]
            self._line += len(block)
            yield block

    def _trades(self) -> Iterator[Block]:
        before = 0.0
        waiting: list[tuple[str, str]] = []
        for text in self._texts():
            where = Where(self.path, self._line)
            where.check_columns(text, TRADE_COLUMNS)
            for index, row in enumerate(text.splitlines()):
                moment, price, _ = row.split(",")
                time = where.time(index, moment)
                if time < before:
                    raise where.error(index, "this trade is earlier than the one before; sort the file by time")
                before = time
                where.price(index, price)
                waiting.append((moment, price))
                self._line += 1
            groups = [(m, list(g)) for m, g in groupby(waiting, key=lambda t: int(float(t[0])) // TRADE_STEP)]
            # The last minute may continue in the next block.
            last, waiting = groups.pop()
            if groups:
                yield TradeBlock(where, groups)
        yield TradeBlock(Where(self.path, self._line - 1), [(last, waiting)])


@dataclass(frozen=True)
class Period:
    """From ``start`` (included) to ``end`` (not included), in unix seconds. A bar belongs to the time it begins."""

    start: float = 0.0
    end: float = LATEST

    def part_of(self, block: Block) -> range:
        """The indices of the block's bars that lie in the period."""
        return range(bisect_left(block.times, self.start), bisect_left(block.times, self.end))


class MarketData:
    """Several files as one, sorted by their first time. Every method may raise ConfigurationError."""

    def __init__(self, paths: list[Path], path_in_candle: str = DEFAULT_PATH) -> None:
        self._files = sorted((MarketFile(p, path_in_candle) for p in paths), key=lambda f: f.first_time)
        known = [f for f in self._files if f.lengths]
        for one, other in pairwise(known):
            if not one.lengths & other.lengths:
                raise ConfigurationError(
                    f"--data: {one.path} has {one.kind} and {other.path} has {other.kind}; name files of one kind"
                )
        self.step = min((f.step for f in known or self._files), default=TRADE_STEP)
        self.decimals = max(f.decimals for f in self._files)
        self.first_time = self._files[0].first_time

    def blocks(self) -> Iterator[Block]:
        """All bars of all files. Raises ConfigurationError if two files overlap in time."""
        ended, last = -1.0, ""
        for file in self._files:
            for number, block in enumerate(file.blocks()):
                if number == 0 and block.times[0] <= ended:
                    raise ConfigurationError(
                        f"{file.path}, line 1: begins at {moment(block.times[0])}, before {last} ends at "
                        f"{moment(ended)}. Name files that follow each other"
                    )
                ended, last = block.times[-1], str(file.path)
                yield block

    def last_time(self) -> float:
        """The unix time at which the last bar begins. Slow: reads all files."""
        last = self.first_time
        for block in self.blocks():
            last = block.times[-1]
        return last

    def nothing_in(self, period: Period) -> ConfigurationError:
        """The error of a period in which no bar begins."""
        asked, there = map(moment, (period.start, period.end)), map(moment, (self.first_time, self.last_time()))
        return ConfigurationError(f"--data: nothing from {' to '.join(asked)}; the files go from {' to '.join(there)}")

    @property
    def progress(self) -> float:
        """How much has been read, from 0 to 1."""
        return sum(f.position for f in self._files) / max(1, sum(f.size for f in self._files))
