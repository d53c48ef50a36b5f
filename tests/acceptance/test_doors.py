"""
The doors for one's own exchange, strategy and channel: the examples of the developer guide, taken out of it as
they stand, named in a config.ini by their dotted path, and run by the real engine.
"""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TypeGuard

import pytest

from gridbot.core.clock import SystemClock
from gridbot.core.config_file import load_settings
from gridbot.core.engine import BotEngine
from gridbot.core.process import build
from gridbot.core.registry import resolve
from gridbot.exceptions import ConfigurationError
from gridbot.models.events import BotStarted, BotStopped, Event, OrderCancelled, OrderExecuted, OrderPlaced
from gridbot.models.exchange import BUY, SELL
from tests.settings import config_ini

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "gridbot" / "README.md"
EXAMPLES = {
    match["name"]: match["code"]
    for match in re.finditer(r"```python\n(?P<code># (?P<name>\w+)\.py\n.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
}
LONGEST_RUN = 20.0  # seconds; the examples need less than one

MORE = """\
[demo]
seed = 7
speed = 500
volatility = {volatility}
[notification]
channels = {channels}
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory as an owner would have it: the modules of the guide, beside config.ini."""
    for name, code in EXAMPLES.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in EXAMPLES:
        sys.modules.pop(name, None)


def configure(
    house: Path,
    *,
    exchange: str = "tide_exchange:TideExchange",
    strategy: str = "GridSell",
    channels: str = "",
    fee: str | None = "0.25%",
    volatility: str = "0.5%",
) -> Path:
    path = house / "config.ini"
    more = MORE.format(channels=channels, volatility=volatility)
    path.write_text(config_ini(more, exchange=exchange, strategy=strategy, fee=fee), encoding="utf-8")
    return path


def run_until(config: Path, enough: Callable[[Event], bool]) -> tuple[int, list[Event]]:
    """The exit code and every event, from the start of the bot until ``enough`` says so of one."""
    stopping = threading.Event()
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        if enough(event):
            stopping.set()

    engine: BotEngine = build(load_settings(config), SystemClock(stopping))
    engine.event_bus.subscribe(Event, hear)
    guard = threading.Timer(LONGEST_RUN, stopping.set)
    guard.start()
    try:
        code = engine.run()
    finally:
        guard.cancel()
    return code, heard


def a_sell_is_filled(event: Event) -> bool:
    return isinstance(event, OrderExecuted) and event.side == SELL


def a_sell_is_placed(event: Event) -> TypeGuard[OrderPlaced]:
    return isinstance(event, OrderPlaced) and event.side == SELL


def placed(events: list[Event], side: str) -> list[tuple[Decimal, Decimal]]:
    return [(e.price, e.volume) for e in events if isinstance(e, OrderPlaced) and e.side == side]


def test_the_guide_has_one_example_for_each_door() -> None:
    assert sorted(EXAMPLES) == ["diary", "patient_grid", "tide_exchange"]


def test_an_exchange_of_ones_own_is_traded_on(house: Path) -> None:
    code, events = run_until(configure(house), a_sell_is_filled)

    assert code == 0
    assert placed(events, BUY)[:2] == [
        (Decimal("49504.9"), Decimal("0.00202000")),
        (Decimal("49014.7"), Decimal("0.00204020")),
    ]
    assert placed(events, SELL)[0] == (Decimal("49999.9"), Decimal("0.00202000"))
    [sold] = [e for e in events if isinstance(e, OrderExecuted) and e.side == SELL]
    assert sold.profit is not None
    assert sold.profit > Decimal("0.49")


def test_an_exchange_of_ones_own_outlives_the_bot(house: Path) -> None:
    """The second start goes on with the orders of the first: one of them is filled, and none is placed again."""
    config = configure(house)
    _, before = run_until(config, a_sell_is_placed)
    over = {event.txid for event in before if isinstance(event, OrderExecuted | OrderCancelled)}
    left = {e.txid: (e.price, e.volume) for e in before if isinstance(e, OrderPlaced) and e.txid not in over}
    assert len(left) >= 5

    _, after = run_until(config, lambda event: isinstance(event, OrderExecuted) and event.txid in left)
    assert any(isinstance(event, OrderExecuted) and event.txid in left for event in after)
    twice = [(e.price, e.volume) for e in after if isinstance(e, OrderPlaced) and (e.price, e.volume) in left.values()]
    assert twice == [] or any(isinstance(event, OrderCancelled) for event in after)


def test_an_exchange_of_ones_own_refuses_its_settings_with_help(house: Path) -> None:
    config = configure(house, fee=None)
    with pytest.raises(ConfigurationError, match="the tide does not tell a fee"):
        build(load_settings(config), SystemClock(threading.Event()))


def test_a_dry_run_trusts_no_exchange_that_does_not_say_it_is_simulated(house: Path) -> None:
    module = house / "tide_exchange.py"
    module.write_text(EXAMPLES["tide_exchange"].replace("simulated=True", "simulated=False"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="places real orders, and dry_run = yes forbids them"):
        build(load_settings(configure(house)), SystemClock(threading.Event()))


@pytest.mark.parametrize("exchange", ["Demo", "tide_exchange:TideExchange"])
def test_a_strategy_of_ones_own_decides_what_follows_a_buy(house: Path, exchange: str) -> None:
    config = configure(house, exchange=exchange, strategy="patient_grid:PatientGrid")
    code, events = run_until(config, a_sell_is_placed)

    assert code == 0
    sell = next(e for e in events if a_sell_is_placed(e))
    [buy] = [e for e in events if isinstance(e, OrderPlaced) and sell.why == f"two intervals above the buy {e.txid}"]
    assert sell.volume == buy.volume
    # Each interval is cut to the tick of 0.1; higher only if the market had risen above that.
    assert sell.price >= buy.price * Decimal("1.01") ** 2 - Decimal("0.3")


def test_a_strategy_of_ones_own_stands_two_intervals_above_the_first_level(house: Path) -> None:
    _, events = run_until(configure(house, strategy="patient_grid:PatientGrid"), a_sell_is_placed)
    assert placed(events, SELL)[0] == (Decimal("50499.8"), Decimal("0.00202000"))


def test_a_channel_of_ones_own_hears_the_bot(house: Path) -> None:
    """In a market that stands still, so that nothing else happens."""
    config = configure(house, exchange="Demo", channels="diary:DiaryChannel", volatility="0%")
    code, _ = run_until(config, lambda event: isinstance(event, BotStarted))

    assert code == 0
    diary = (house / "diary.txt").read_text(encoding="utf-8")
    assert "mine started\nGridSell: 5 buys of 100.00" in diary
    assert "mine stopped: asked to stop\n5 buys and 0 sells stay open on the exchange" in diary


def test_all_three_at_once_from_the_command_line(house: Path) -> None:
    """As an owner would: ``python gridbot.py --config ...``, then Ctrl-C."""
    config = configure(house, strategy="patient_grid:PatientGrid", channels="diary:DiaryChannel")
    with subprocess.Popen(
        [sys.executable, str(ROOT / "gridbot.py"), "--config", str(config)], stdout=subprocess.PIPE, text=True
    ) as bot:
        guard = threading.Timer(LONGEST_RUN, bot.kill)
        guard.start()
        assert bot.stdout is not None
        told = []
        for line in bot.stdout:
            told.append(line)
            if " bought " in line:
                break
        bot.terminate()
        told += bot.stdout
        code = bot.wait()
        guard.cancel()
    assert code == 0, told
    assert any("placed sell 0.00202000 BTC @ 50499.8 USD" in line for line in told), told
    assert "bought 0.00202000 BTC @ 49504.9 USD" in (house / "diary.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "name", "help_text"),
    [
        ("exchange", "tide_exchang:TideExchange", "there is no module 'tide_exchang'. Put it beside config.ini"),
        ("strategy", "patient_grid:Patientgrid", 'has no class Patientgrid; did you mean "PatientGrid"?'),
        ("channel", "patient_grid:PatientGrid", "PatientGrid is not a subclass of INotificationChannel"),
        ("strategy", "gridbot.strategies.grid_base:GridStrategyBase", "GridStrategyBase lacks sell_after; write what"),
        ("exchange", "gridbot.interfaces.exchange:IExchangeFactory", "IExchangeFactory lacks create; write what"),
    ],
)
def test_a_door_that_does_not_open_says_what_to_mend(house: Path, kind: str, name: str, help_text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(help_text)):
        resolve(kind, name, house)


def mistaken(house: Path, name: str, right: str, wrong: str) -> Path:
    """The example of this name with a mistake in it, in a config.ini that uses all three."""
    assert right in EXAMPLES[name]
    (house / f"{name}.py").write_text(EXAMPLES[name].replace(right, wrong, 1), encoding="utf-8")
    return configure(house, strategy="patient_grid:PatientGrid", channels="diary:DiaryChannel")


@pytest.mark.parametrize(
    ("name", "right", "wrong", "says"),
    [
        (
            "tide_exchange",
            "symbol = f",
            "1 / 0; symbol = f",
            "create failed with ZeroDivisionError: .* Mend .*py, line 29",
        ),
        ("tide_exchange", "return Exchange(", "return str(", "create failed with TypeError: .* Mend .*py, line 37 and"),
        (
            "tide_exchange",
            "return Exchange(",
            "return None  #",
            "create returned a NoneType; it must return an Exchange",
        ),
        (
            "diary",
            "return cls()",
            "raise KeyError('MY')",
            "from_settings failed with KeyError: 'MY'. Mend .*py, line 17",
        ),
        ("diary", "return cls()", "return None", "from_settings returned a NoneType; it must return an INotificationC"),
    ],
)
def test_an_own_class_that_cannot_be_built_is_a_matter_of_the_settings(
    house: Path, name: str, right: str, wrong: str, says: str
) -> None:
    config = mistaken(house, name, right, wrong)
    with pytest.raises(ConfigurationError, match=rf"(exchange|channels) = {name}:\w+: {says}"):
        run_until(config, a_sell_is_placed)


def test_a_mistake_in_ones_own_strategy_is_not_called_one_of_gridbot(house: Path) -> None:
    told: list[Event] = []
    config = mistaken(house, "patient_grid", "        one_higher =", "        1 / 0; one_higher =")
    with pytest.raises(ZeroDivisionError):
        run_until(config, lambda event: told.append(event) is not None)
    [stopped] = [event for event in told if isinstance(event, BotStopped)]
    assert (
        stopped.reason
        == f"a mistake in {house}/patient_grid.py, line 12 (ZeroDivisionError), not in gridbot; mend it there"
    )


def test_a_sell_with_a_float_in_it_names_the_strategy_before_anything_is_bought(house: Path) -> None:
    code, events = run_until(
        mistaken(house, "patient_grid", "PlaceSell(price", "PlaceSell(float(price)"), a_sell_is_placed
    )
    assert code == 2
    [stopped] = [event for event in events if isinstance(event, BotStopped)]
    assert "[bot] strategy = patient_grid:PatientGrid: sell_after returned PlaceSell(price=51005.0" in stopped.reason
    assert placed(events, BUY) == []
