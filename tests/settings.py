"""The settings tests begin with, the worked example of the trading rules: as a model, and as the text of config.ini."""

from decimal import Decimal
from typing import Any

from gridbot.models.configuration import BotConfigDTO

USERREF = 1680953421


def config(**changes: Any) -> BotConfigDTO:
    """A 100, i 1 %, f 0.25 %, n 5, M 10000."""
    values: dict[str, Any] = {
        "name": "test",
        "exchange": "Demo",
        "userref": USERREF,
        "strategy": "GridHODL",
        "base_currency": "BTC",
        "quote_currency": "USD",
        "amount_per_grid": Decimal(100),
        "interval": Decimal("0.01"),
        "n_open_buy_orders": 5,
        "max_investment": Decimal(10000),
        "fee": Decimal("0.0025"),
    }
    return BotConfigDTO(**(values | changes))


def config_ini(more: str = "", **changes: object) -> str:
    """
    The text of a config.ini for the demo, without a fee.

    changes  other values of [bot] and [grid], by key; None leaves the key out
    more     sections after these
    """
    bot: dict[str, object] = {
        "name": "mine",
        "exchange": "Demo",
        "userref": 7,
        "strategy": "GridHODL",
        "base_currency": "BTC",
        "quote_currency": "USD",
    }
    grid: dict[str, object] = {
        "amount_per_grid": 100,
        "interval": "1%",
        "n_open_buy_orders": 5,
        "max_investment": 10000,
    }
    for key, value in changes.items():
        (bot if key in bot or key == "dry_run" else grid)[key] = value
    return f"[bot]\n{_lines(bot)}[grid]\n{_lines(grid)}{more}"


def _lines(keys: dict[str, object]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None)
