"""What the tests of backtest, sweep and plan share: candles from a dice, real candles where there are some."""

import os
import random
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest

from gridbot.core.backtest import Backtest, Play, pair_from_file
from gridbot.core.candles import DEFAULT_PATH, MarketData
from gridbot.core.registry import resolve
from gridbot.models.configuration import BotConfigDTO
from tests.settings import config

ROOT = Path(__file__).parent.parent
BEGIN = 1_600_000_020  # a full minute
FEE = Decimal("0.0025")

Candle = tuple[str, str, str, str]  # open, high, low, close


def bot(**changes: object) -> BotConfigDTO:
    return config(**({"name": "past", "exchange": "Kraken", "userref": 7} | changes))


def write_candles(path: Path, candles: Iterable[Candle], step: int = 60, begin: int = BEGIN) -> Path:
    lines = (f"{begin + i * step},{o},{h},{low},{c},1.5,3\n" for i, (o, h, low, c) in enumerate(candles))
    path.write_text("".join(lines))
    return path


def diced_candles(count: int, seed: int, volatility: float = 0.003, start: float = 50000.0) -> list[Candle]:
    """A random walk; now and then a candle jumps far."""
    dice = random.Random(seed)
    price, candles = start, []
    for _ in range(count):
        opened = price
        width = volatility * (8 if dice.random() < 0.01 else 1)
        prices = [opened] + [opened * (1 + dice.gauss(0, width)) for _ in range(4)]
        price = prices[-1]
        candles.append(tuple(f"{value:.1f}" for value in (opened, max(prices), min(prices), price)))
    return candles


def played(files: list[Path], *, quote: str = "10000", base: str = "0", path: str = DEFAULT_PATH, **options):
    """A backtest that has run; changes to the bot's settings in ``changes``."""
    settings = bot(**options.pop("changes", {}))
    data = MarketData(files, path)
    play = Play(
        bot=settings,
        strategy=resolve("strategy", settings.strategy),
        pair=pair_from_file(settings, max(1, data.decimals)),
        fee=settings.fee or FEE,
        base_balance=Decimal(base),
        quote_balance=Decimal(quote),
        fee_tiers=options.pop("fee_tiers", ()),
    )
    past = Backtest(play, data.step, keep_curve=options.pop("keep_curve", True), use_band=options.pop("use_band", True))
    past.play = play
    past.outcome = past.run(data, **options)
    return past


def real_candles() -> Path:
    """A year of one-minute candles: GRIDBOT_DATA, or beside the checkout. Skips the test without them."""
    named = os.environ.get("GRIDBOT_DATA")
    path = Path(named) if named else ROOT.parent / "shared" / "data" / "XBTUSD_1_2018.csv.gz"
    if not path.exists():
        pytest.skip("no real candles here; name a file in GRIDBOT_DATA")
    return path
