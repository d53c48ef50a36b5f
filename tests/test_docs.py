"""
What is written for people, against what the program does: options, commands, numbers, files. A README that
named an option its bot did not know has cost somebody real money.
"""

import configparser
import importlib.util
import re
import shlex
import subprocess
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter

from gridbot.adapters.exchanges.kraken_keys import NEEDED
from gridbot.core.cli import COMMANDS, _parser, load
from gridbot.core.config_file import GRID_KEYS, SECTIONS, load_settings
from gridbot.core.state_machine import TRANSITIONS
from gridbot.models import configuration
from gridbot.models.configuration import STRATEGIES, smallest_paying_interval
from gridbot.models.events import OrderExecuted
from gridbot.models.grid import BookOrder, Cause, GridSettings, GridView, Placement, UnsoldBuy, Waiting
from gridbot.models.money import truncate
from gridbot.services.messages import Units, message_for
from gridbot.services.report import profit_lines, summarise
from gridbot.services.status_report import Status, status_message
from gridbot.strategies import grid_rules as rules
from tests.test_layers import MAY_IMPORT
from tests.world import BTC_USD

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "gridbot" / "README.md").read_text(encoding="utf-8")
CONFIG = (ROOT / "config.ini").read_text(encoding="utf-8")

MODELS = {
    "bot": configuration.BotConfigDTO,
    "grid": configuration.BotConfigDTO,
    "funds": configuration.FundsConfigDTO,
    "kraken": configuration.KrakenConfigDTO,
    "paper": configuration.PaperConfigDTO,
    "demo": configuration.DemoConfigDTO,
    "database": configuration.DBConfigDTO,
    "telegram": configuration.TelegramConfigDTO,
    "notification": configuration.NotificationConfigDTO,
    "metrics": configuration.MetricsConfigDTO,
    "logging": configuration.LoggingConfigDTO,
}
OPTIONS = sorted((section, key) for section, keys in SECTIONS.items() for key in keys)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table behind ``heading``, without its head."""
    lines = text.split(f"\n{heading}\n", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    found = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def cut(value: Decimal, decimals: int) -> str:
    return f"{value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_DOWN):f}"


def options_of_config_ini() -> list[tuple[str, str]]:
    """Every ``key = value`` of config.ini with its section, in use or in a comment."""
    found, section = [], ""
    for line in CONFIG.splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif match := re.match(r"(?:# )?([a-z_]+) =", line):
            found.append((section, match[1]))
    return found


def test_every_option_is_a_line_of_config_ini_and_the_other_way_round() -> None:
    assert sorted(options_of_config_ini()) == OPTIONS


def test_every_option_is_a_row_of_the_readme_and_the_other_way_round() -> None:
    assert sorted((row[0].strip("[]"), row[1].strip("`")) for row in rows(README, "## Settings")) == OPTIONS


def test_every_option_is_a_field_of_a_model_and_the_other_way_round() -> None:
    fields = {(section, key) for section, model in MODELS.items() for key in model.model_fields}
    fields -= {("grid", key) for key in SECTIONS["bot"]} | {("bot", key) for key in GRID_KEYS}
    fields -= {("notification", "telegram")}  # a section of its own
    assert sorted(fields) == OPTIONS


@pytest.mark.parametrize("row", rows(README, "## Settings"), ids=lambda row: row[1].strip("`"))
def test_a_default_in_the_readme_is_the_default_of_the_model(row: list[str]) -> None:
    section, key, unit, told, consequence = row[0].strip("[]"), row[1].strip("`"), *row[2:]
    assert unit
    assert consequence
    model = MODELS[section]
    field = model.model_fields[key]
    empty: tuple[Any, ...] = (None, (), "")
    if field.is_required() and section != "telegram":
        assert told == "must be set"
    elif section == "telegram" or getattr(field.default, "get_secret_value", lambda: field.default)() in empty:
        assert told == "none"
    elif isinstance(field.default, Path):
        assert told == f"`{field.default}`"
    else:
        reader = TypeAdapter(Annotated[field.annotation, *field.metadata])
        assert reader.validate_python(told.strip("`")) == field.default


def test_the_config_ini_that_is_shipped_is_the_demo_on_play_money() -> None:
    bot = load_settings(ROOT / "config.ini").bot
    assert (bot.exchange, bot.dry_run, bot.simulated) == ("Demo", True, True)


def test_what_config_ini_shows_in_a_comment_can_be_uncommented(tmp_path: Path) -> None:
    """All but the secrets, which are shown empty, and the paths."""
    text = re.sub(r"^# ([a-z_]+ = ?\S*)$", r"\1", CONFIG, flags=re.MULTILINE)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    parser.remove_section("telegram")
    path = tmp_path / "config.ini"
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)
    settings = load_settings(path)
    assert (settings.demo.seed, settings.funds.own_quote, settings.metrics.port) == (42, Decimal(1000), 8080)


def command_lines(text: str) -> list[str]:
    """Every ``python gridbot.py ...`` and ``python -m ...`` in the text."""
    found = re.findall(r"(?:\.venv/bin/)?python (?:gridbot\.py|-m [\w.]+)[^`\n&|>]*", text)
    return [line.removeprefix(".venv/bin/").strip() for line in found]


def test_every_command_is_a_row_of_the_readme_and_the_other_way_round() -> None:
    assert sorted(row[0].strip("`") for row in rows(README, "## Commands")) == sorted(COMMANDS)


@pytest.mark.parametrize("row", rows(README, "## Commands"), ids=lambda row: row[0].strip("`"))
def test_the_example_of_a_command_calls_it(row: list[str]) -> None:
    words = shlex.split(row[2].strip("`"))[2:]
    assert _parser(words).parse_args(words).command == row[0].strip("`")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_a_sentence_and_can_be_imported(name: str) -> None:
    command = COMMANDS[name]
    assert len(command.help.split()) >= 8
    assert command.help[0].islower()
    assert callable(load(command.run))
    assert not command.arguments or callable(load(command.arguments))


@pytest.mark.parametrize("line", sorted({*command_lines(README), *command_lines(GUIDE)}))
def test_every_command_line_that_is_shown_is_understood(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "-m":
        assert words[1].startswith("tests.") or importlib.util.find_spec(words[1]) is not None
        return
    words = [word.replace("COMMAND", "status") for word in words[1:]]
    assert _parser(words).parse_args(words).command in COMMANDS


@pytest.mark.parametrize("campaign", ["bench", "chaos", "fuzz", "sigkill", "soak"])
def test_every_campaign_of_the_readme_can_be_called(campaign: str) -> None:
    assert f"`python -m tests.{campaign}`" in README
    file, package = ROOT / "tests" / f"{campaign}.py", ROOT / "tests" / campaign / "__main__.py"
    assert file.is_file() or package.is_file()


def test_the_test_command_is_the_one_ci_uses() -> None:
    assert '"$venv/bin/python" -m pytest\n' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "```sh\n.venv/bin/python -m pytest\n```" in README


@pytest.mark.parametrize(("text", "place"), [(README, ROOT), (GUIDE, ROOT / "gridbot")], ids=["README", "guide"])
def test_every_link_leads_somewhere(text: str, place: Path) -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif "://" not in link:
            assert (place / link).exists(), link


@pytest.mark.parametrize(("text", "place"), [(README, ROOT), (GUIDE, ROOT / "gridbot")], ids=["README", "guide"])
def test_every_file_of_the_house_that_is_named_exists(text: str, place: Path) -> None:
    folders = "adapters|core|gridbot|infrastructure|interfaces|models|services|strategies|tests"
    named = set(re.findall(rf"(?<![\w./(])((?:{folders})/[\w/]+(?:\.\w+)?)", text)) | {".ci/run"}
    assert len(named) > 1 or place == ROOT
    for name in named:
        assert any((base / name).exists() or (base / f"{name}.py").exists() for base in (place, ROOT)), name


A, I, F, PRICE = Decimal(100), Decimal("0.01"), Decimal("0.0025"), Decimal(50000)  # noqa: E741 - the rules' letters
TICK, LOT = Decimal("0.1"), Decimal("0.00000001")
EXAMPLE = GridSettings(A, I, F, 5, Decimal(10000), BTC_USD)


def example_buys() -> list[tuple[Decimal, Decimal]]:
    buys, reference = [], PRICE
    for _ in range(5):
        reference = truncate(reference / (1 + I), TICK)
        buys.append((reference, truncate(A / reference, LOT)))
    return buys


def test_the_prices_of_the_worked_example_are_those_of_the_rules() -> None:
    buys = example_buys()
    prices = [f"{price:f}" for price, _ in buys]
    assert f"{', '.join(prices[:4])} and {prices[4]} USD" in README
    bound = sum(price * volume * (1 + F) for price, volume in buys)
    assert f"they bind {cut(Decimal(bound), 2)} USD, fees included" in " ".join(README.split())
    decided = rules.check_n_open_buy_orders(GridView(EXAMPLE, PRICE, quote_available=Decimal(10000)))
    assert [(intent.price, intent.volume) for intent in decided.intents] == buys


def test_the_cycles_of_the_worked_example_are_computed_to_the_cent() -> None:
    bought_at, bought = example_buys()[0]
    cost = bought_at * bought
    spent = cost * (1 + F)
    told = " ".join(README.split())
    assert f"buys {bought:f} BTC (100 / {bought_at:f}) for {cut(cost, 4)} USD and a fee of {cut(cost * F, 4)}" in told
    assert f"{cut(spent, 4)} USD are spent. The sell stands at {bought_at:f} × 1.01 = " in told

    price = truncate(bought_at * (1 + I), TICK)
    assert f"= {price:f} USD:" in told
    hodl = truncate(A / (price * (1 - 2 * F)), LOT)
    assert (price, hodl) == (
        rules.sell_price(bought_at, PRICE / 2, EXAMPLE),
        rules.volume_returning_quote(price, EXAMPLE),
    )

    def row(name: str, sold: Decimal, coins: str) -> str:
        gross = price * sold
        gain, kept = gross * (1 - F) - spent, (bought - sold) * price
        money = f"{cut(gain, 4)} USD"
        cells = (f"{sold:f}", cut(gross, 4), cut(gross * F, 4), cut(gross * (1 - F), 4), money, coins)
        return f"| {name} | {' | '.join(cells)} | {cut(gain + kept, 2)} USD |"

    kept = f"{bought - hodl:f} BTC, worth {cut((bought - hodl) * price, 4)} USD"
    assert row("GridHODL", hodl, kept) in README
    assert row("SWING", hodl, kept) in README
    assert row("GridSell", bought, "none") in README
    assert f"| cDCA | nothing | – | – | – | none | {bought:f} BTC for {cut(spent, 4)} USD | – |" in README


def test_the_extra_sell_of_the_worked_example() -> None:
    price = truncate(PRICE * (1 + I) ** 2, TICK)
    volume = truncate(A / (price * (1 - 2 * F)), LOT)
    arrives = cut(price * volume * (1 - F), 4)
    told = " ".join(README.split())
    assert f"SWING's extra sell at 50000 would be {volume:f} BTC at {price:f} USD; {arrives} USD arrive" in told
    assert price == rules.extra_sell_price(PRICE, Decimal(0), EXAMPLE)


@pytest.mark.parametrize("fee", ["0.40", "0.25", "0.16", "0.10"])
def test_the_smallest_intervals_of_the_readme_pay_and_smaller_ones_do_not(fee: str) -> None:
    fraction = Decimal(fee) / 100
    smallest = smallest_paying_interval(fraction)
    assert f"| {fee} % | {(smallest * 100).normalize():f} % |" in README
    assert (1 + smallest) * (1 - 2 * fraction) > 1 >= (1 + smallest - Decimal("0.00001")) * (1 - 2 * fraction)


def test_the_profit_lines_of_the_status_message_in_the_readme_add_up() -> None:
    grid, move, change = (
        Decimal(re.search(rf"^{label} +([+-][\d.]+) USD", README, re.MULTILINE)[1])
        for label in ("grid profit", "price move", "change")
    )
    assert grid + move == change


def test_the_lines_of_the_demo_in_the_readme_are_worded_as_the_bot_words_them() -> None:
    excerpt = README.split("## What you see", 1)[1].split("```")[1]
    pattern = r"INFO +((?:bought|sold) ([\d.]+) BTC @ ([\d.]+) .*\((S\w+-\w+-(?:BUY|SELL))\))$"
    lines = re.findall(pattern, excerpt, re.MULTILINE)
    assert len(lines) == 2
    fee = Decimal("0.001")  # config.ini's
    (_, bought, cost, _), (_, sold, proceeds, _) = ((t, Decimal(v), Decimal(v) * Decimal(p), x) for t, v, p, x in lines)
    gain = proceeds * (1 - fee) - cost * (1 + fee) * sold / bought
    for (line, volume, price, txid), side in zip(lines, ("buy", "sell"), strict=True):
        whole = Decimal(volume) * Decimal(price)
        told = (gain, bought - sold) if side == "sell" else (None, None)
        event = OrderExecuted(side, Decimal(price), Decimal(volume), whole, whole * fee, txid, *told)
        assert line == message_for(event, Units("BTC", "USD", 1))


def test_every_line_of_the_status_message_is_explained() -> None:
    explained = {label for row in rows(README, "## The status message") for label in row[0].split(", ")}
    buy, sell = (BookOrder("O1", side, PRICE, Decimal(1), 0.0) for side in ("buy", "sell"))
    grid = GridView(
        EXAMPLE,
        PRICE,
        (buy,),
        (sell,),
        unsold=(UnsoldBuy("O2", PRICE, Decimal(1), 0.0),),
        pending=(Placement(1, "buy", PRICE, Decimal(1), "", "", 0.0, 0.0),),
    )
    status = Status(
        name="x",
        strategy="GridHODL",
        simulated=False,
        units=Units("BTC", "USD", 1, 8, 2),
        grid=grid,
        waiting=(Waiting(Cause.FUNDS, PRICE, "too little"),),
        base_balance=Decimal(1),
        quote_balance=Decimal(1),
        profit_lines=profit_lines(summarise([], PRICE), Units("BTC", "USD", 1, 8, 2)),
        halted="EGeneral:Temporary lockout",
    )
    lines = [line for line in status_message(status).splitlines()[1:] if not line.lstrip().startswith(">")]
    shown = {re.match(r"(grid profit|price move|\w+)", line)[1] for line in lines}
    assert shown - explained == set()
    assert explained - shown == {"before", "accumulated", "dust"}  # only when there is something to say


def test_the_ticks_of_the_api_key_are_those_the_bot_asks_for() -> None:
    section = README.split("Set exactly these ticks:", 1)[1].split("**No** right", 1)[0]
    assert re.findall(r"^ +- (.+)$", section, re.MULTILINE) == [tick for tick, *_ in NEEDED.values()]


def test_the_readme_knows_every_strategy() -> None:
    assert [row[0].strip("`") for row in rows(README, "## The four strategies")] == list(STRATEGIES)
    assert [row[0] for row in rows(README, "### One cycle in money")] == list(STRATEGIES)


def test_the_rooms_of_the_guide_are_those_the_layer_test_holds() -> None:
    told = {row[0].strip("`"): set(row[2].split(", ")) - {"nothing"} for row in rows(GUIDE, "### The rooms")}
    assert told == MAY_IMPORT


def test_the_states_of_the_guide_are_those_of_the_state_machine() -> None:
    told = {row[0]: set(row[2].split(", ")) for row in rows(GUIDE, "### States")}
    assert told == {state.name: {s.name for s in after} for state, after in TRANSITIONS.items()}


def tracked_files() -> list[Path]:
    """What git would hand to others; without git, what lies here and is no cache."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        names = [name for name in done.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        names = [
            n for n in names if not re.search(r"(^|/)(\.git|\.\w+_cache|__pycache__|\.?venv|\.hypothesis)(/|$)", n)
        ]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


# In pieces, so that this file is not one of those it looks for.
HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry." + "npmjs.org",
    "crates" + ".io",
    "conda." + "anaconda.org",
]
PLACES = [r"(?<![\w.])/" + "work/", r"(?<![\w.])/" + "tmp/", r"(?<![\w.])/" + "root/"]


@pytest.mark.parametrize("forbidden", [*(re.escape(host) for host in HOSTS), *PLACES])
def test_no_file_names_a_package_registry_or_a_place_on_somebodys_machine(forbidden: str) -> None:
    pattern = re.compile(forbidden)
    found = []
    for path in tracked_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a saved payload or an image
        found += [
            f"{path.relative_to(ROOT)}:{n}: {line[:100]}" for n, line in enumerate(lines, 1) if pattern.search(line)
        ]
    assert found == []


def test_the_licence_is_there() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 the gridbot authors\n")
