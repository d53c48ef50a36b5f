"""
The names config.ini may use for exchanges, strategies and channels, and the classes behind them.

A name outside these tables is a dotted path ``package.module:Class``: that is how the owner adds an exchange,
strategy or channel of their own. Modules are imported only when they are needed.
"""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gridbot.core.endings import own_code
from gridbot.core.single_instance import key_state_path
from gridbot.exceptions import ConfigurationError, GridBotError
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import Exchange, ExchangeSetup
from gridbot.interfaces.notification import INotificationChannel
from gridbot.models.configuration import BotConfigDTO, Settings, did_you_mean

EXCHANGES = {
    "Kraken": "gridbot.adapters.exchanges.kraken:KrakenExchange",
    "Paper": "gridbot.adapters.exchanges.paper:PaperExchange",  # stands for Kraken if dry_run = yes
    "Demo": "gridbot.adapters.exchanges.demo:DemoExchange",
}
STRATEGIES = {
    "GridHODL": "gridbot.strategies.grid_hodl:GridHODLStrategy",
    "GridSell": "gridbot.strategies.grid_sell:GridSellStrategy",
    "SWING": "gridbot.strategies.swing:SwingStrategy",
    "cDCA": "gridbot.strategies.c_dca:CDCAStrategy",
}
CHANNELS = {"telegram": "gridbot.adapters.notification:TelegramNotificationChannel"}

# kind -> (where config.ini names it, known names, the class that everything of this kind must be a subclass of)
KINDS: dict[str, tuple[str, dict[str, str], str]] = {
    "exchange": ("[bot] exchange", EXCHANGES, "gridbot.interfaces.exchange:IExchangeFactory"),
    "strategy": ("[bot] strategy", STRATEGIES, "gridbot.strategies.grid_base:GridStrategyBase"),
    "channel": ("[notification] channels", CHANNELS, "gridbot.interfaces.notification:INotificationChannel"),
}


def resolve(kind: str, name: str, directory: Path | None = None) -> type[Any]:
    """
    The class that ``name`` stands for.

    kind       "exchange", "strategy" or "channel"
    name       a name of the tables above, or a dotted path package.module:Class; the settings refuse any other
    directory  where config.ini lies: modules there, and in the working directory, can be imported

    Raises ConfigurationError that says what is missing and what would be right.
    """
    key, known, interface_path = KINDS[kind]
    where = f"{key} = {name}"
    path = known.get(name, name)
    module_name, _, class_name = path.partition(":")
    if path == name:
        _make_importable(directory)
    found = _load(where, module_name, class_name)
    interface = _load(where, *interface_path.split(":"))
    if not (isinstance(found, type) and issubclass(found, interface)):
        raise ConfigurationError(
            f"{where}: {class_name} is not a subclass of {interface.__name__} "
            f"({interface.__module__}); derive it from that class and write the methods named there"
        )
    if lacking := ", ".join(sorted(getattr(found, "__abstractmethods__", ()))):
        raise ConfigurationError(
            f"{where}: {class_name} lacks {lacking}; write what {interface.__name__} ({interface.__module__}) asks for"
        )
    return found


def exchange_name(bot: BotConfigDTO) -> str:
    """The name above of the exchange a bot trades on: a dry run of Kraken is Paper."""
    return "Paper" if bot.exchange == "Kraken" and bot.dry_run else bot.exchange


def exchange_of(settings: Settings, clock: IClock, name: str) -> Exchange:
    """The exchange of this name, built for these settings. Raises ConfigurationError, DatabaseError."""
    key = settings.kraken.api_public_key
    key_state = key_state_path(key, settings.db.path.parent) if key else None
    factory = resolve("exchange", name, settings.config_path.parent)
    setup = ExchangeSetup(settings, clock, key_state)
    exchange: Exchange = _made("exchange", name, "create", lambda: factory().create(setup), Exchange)
    return exchange


def channels_of(settings: Settings) -> list[INotificationChannel]:
    """The notification channels these settings name, built. Raises ConfigurationError."""
    notification = settings.notification
    names = [*(["telegram"] if notification.telegram else []), *notification.channels]
    channels = {name: resolve("channel", name, settings.config_path.parent) for name in names}
    return [
        _made("channel", name, "from_settings", partial(channel.from_settings, notification), INotificationChannel)
        for name, channel in channels.items()
    ]


def _made(kind: str, name: str, method: str, make: Callable[[], object], wanted: type[Any]) -> Any:
    """What ``make`` returns. Raises ConfigurationError if the owner's own class fails, or returns no ``wanted``."""
    where = f"{KINDS[kind][0]} = {name}: {method}"
    try:
        made = make()
    except Exception as exc:
        if isinstance(exc, GridBotError) or name in KINDS[kind][1]:
            raise
        raise ConfigurationError(
            f"{where} failed with {type(exc).__name__}: {exc}. Mend {own_code(exc) or 'the module'} and start again"
        ) from exc
    if not isinstance(made, wanted):
        raise ConfigurationError(f"{where} returned a {type(made).__name__}; it must return an {wanted.__name__}")
    return made


def _make_importable(directory: Path | None) -> None:
    """Append to the end of sys.path, so that no file beside config.ini can replace a library."""
    for place in (directory or Path(), Path()):
        text = str(place.resolve())
        if text not in sys.path:
            sys.path.append(text)


def _load(where: str, module_name: str, class_name: str) -> Any:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"{where}: there is no module {exc.name!r}. Put it beside config.ini, or install it, and check the spelling"
        ) from exc
    except Exception as exc:  # the owner's module may raise anything while it is imported
        raise ConfigurationError(
            f"{where}: importing {module_name} failed with {type(exc).__name__}: {exc}. Mend the module and start again"
        ) from exc
    try:
        return getattr(module, class_name)
    except AttributeError:
        hint = did_you_mean(class_name, [n for n in vars(module) if isinstance(getattr(module, n), type)])
        raise ConfigurationError(
            f"{where}: {module_name} has no class {class_name}; {hint or 'check the spelling'}"
        ) from None
