"""
From config.ini to Settings, or to one error that names everything that must be corrected.

ini_file reads the file, models/configuration checks single values. This module knows which section and key belongs
to which model, which setting needs another one, and how an error is worded.
"""

import base64
import os
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gridbot.core.ini_file import Raw, api_public_key, beside, database_path, read_ini, shown_key, unknown_letters
from gridbot.exceptions import ConfigurationError, excerpt
from gridbot.models import configuration as models
from gridbot.models.configuration import Section, Settings, as_percent, did_you_mean
from gridbot.models.money import digits
from gridbot.services.messages import counted

GRID_KEYS = ("amount_per_grid", "interval", "n_open_buy_orders", "max_investment", "fee")

# Sections that are a field of Settings under the same name.
PARTS: dict[str, type[Section]] = {
    "kraken": models.KrakenConfigDTO,
    "funds": models.FundsConfigDTO,
    "paper": models.PaperConfigDTO,
    "demo": models.DemoConfigDTO,
    "metrics": models.MetricsConfigDTO,
    "logging": models.LoggingConfigDTO,
}
SECTIONS: dict[str, tuple[str, ...]] = {
    "bot": tuple(key for key in models.BotConfigDTO.model_fields if key not in GRID_KEYS),
    "grid": GRID_KEYS,
    **{name: tuple(model.model_fields) for name, model in PARTS.items()},
    "database": tuple(models.DBConfigDTO.model_fields),
    "telegram": tuple(models.TelegramConfigDTO.model_fields),
    "notification": ("channels",),
}

SECRET_KEYS = ("api_public_key", "api_secret_key", "token")
# For these keys "key =" without a value means the same as no line at all; for others it is an error.
MAY_BE_EMPTY = (*SECRET_KEYS, "fee", "seed", "chat_id", "thread_id", "file", "channels", "own_base", "own_quote")

WOULD_BE_RIGHT = {
    "name": "any name, to tell your bots apart",
    "exchange": "Demo, Kraken, or your own as package.module:Class",
    "userref": "a whole number from 1 to 2147483647, another one for each bot of the account",
    "strategy": "GridHODL, GridSell, SWING or cDCA",
    "base_currency": "what is bought, for example BTC",
    "quote_currency": "what it is paid with, for example USD",
    "amount_per_grid": "quote per buy, for example 100",
    "interval": "the distance of two buys, for example 1% or 0.01",
    "n_open_buy_orders": "a whole number from 1 to 225, for example 5",
    "max_investment": "the upper limit in quote over all open orders, for example 1000",
    "fee": "what one order costs, for example 0.25% or 0.0025",
    "dry_run": "yes or no",
    "own_base": "the amount of base that is the bot's own, for example 0",
    "own_quote": "the amount of quote that is the bot's own, for example 1000",
    "base_balance": "base to begin with, for example 0.5",
    "quote_balance": "quote to begin with, for example 10000",
    "start_price": "the first price in quote, for example 50000",
    "volatility": "the typical move of a tick, for example 0.1%",
    "seed": "a whole number, for example 42",
    "rest_url": "https://api.kraken.com",
    "ws_url": "wss://ws.kraken.com/v2",
    "ws_auth_url": "wss://ws-auth.kraken.com/v2",
    "token": "the token @BotFather gave you",
    "chat_id": "the number of the chat that gets the messages",
    "thread_id": "the number of the topic, in a group that has topics",
    "port": "a whole number from 1 to 65535",
}

Model = TypeVar("Model", bound=Section)


def load_settings(path: Path) -> Settings:
    """
    The settings in ``path``, checked. Relative paths in the file start at its directory. The environment variables
    GRIDBOT_API_PUBLIC_KEY and GRIDBOT_API_SECRET_KEY override the API key in the file.

    Raises ConfigurationError that lists everything that is wrong; it never contains a key or a token.
    """
    return _Reader(path, read_ini(str(path))).settings()


def require_key(settings: Settings) -> None:
    """Raises ConfigurationError if the bot trades on a real account and a part of its API key is missing."""
    if settings.bot.exchange != "Kraken" or settings.bot.dry_run or settings.kraken.has_key:
        return
    raise ConfigurationError(
        f"{settings.config_path}, [bot] dry_run = no: real orders need both api_public_key and api_secret_key, in "
        "[kraken] or in the environment (GRIDBOT_API_PUBLIC_KEY, GRIDBOT_API_SECRET_KEY). To trade on paper set "
        "dry_run = yes"
    )


class _Reader:
    """Reads one file; collects what is wrong with it, so that all of it can be shown together."""

    def __init__(self, path: Path, raw: Raw) -> None:
        self.path = path
        self.raw = raw
        self.refusals: list[str] = []

    def settings(self) -> Settings:
        self._check_names()
        self._check_form()
        self._check_mode()
        self._take_key_from_environment()
        bot = self._model(models.BotConfigDTO, {**self._values("bot"), **self._values("grid")})
        parts: dict[str, Any] = {name: self._model(model, self._values(name)) for name, model in PARTS.items()}
        telegram = self._values("telegram")
        checked = {"telegram": self._model(models.TelegramConfigDTO, telegram)} if telegram else {}
        notification = self._model(models.NotificationConfigDTO, {**self._values("notification"), **checked})
        if notification and not telegram and "telegram" in notification.channels:
            needs = "telegram needs a section [telegram] with token and chat_id. Write it"
            self._refuse("notification", "channels", needs)
        self._check_secret(parts["kraken"])
        database = Path(database_path(str(self.path), self.raw))
        self._check_files(database, parts["logging"].file if parts["logging"] else None)
        if self.refusals or bot is None or notification is None:
            lines = "\n".join(f"  {line}" for line in self.refusals)
            several = f"{self.path}: {len(self.refusals)} things must be mended before the bot can start:\n{lines}"
            raise ConfigurationError(several if len(self.refusals) > 1 else self.refusals[0])
        return Settings(
            bot=bot, db=models.DBConfigDTO(path=database), notification=notification, config_path=self.path, **parts
        )

    def _check_names(self) -> None:
        for section, values in self.raw.items():
            if section not in SECTIONS:
                hint = did_you_mean(section, list(SECTIONS)) or f"there are {', '.join(SECTIONS)}"
                self.refusals.append(f"{self.path}, [{shown_key(section)}]: unknown section; {hint}")
                continue
            for key in values:
                if key not in SECTIONS[section]:
                    instead = _where_instead(section, key)
                    self.refusals.append(f"{self.path}, [{section}] {shown_key(key)}: unknown key; {instead}")

    def _check_form(self) -> None:
        for section, values in self.raw.items():
            for key, value in values.items():
                if "\n" in value:
                    self._refuse(section, key, "goes on in an indented line below it. Begin every key at the margin")
                elif key != "name" and any(f" {sign}" in value or f"\t{sign}" in value for sign in "#;"):
                    self._refuse(section, key, "has a comment behind it. Give the comment a line of its own")

    def _check_mode(self) -> None:
        """Refuse a file that holds a secret and that other users may read."""
        held = [key for s in self.raw.values() for key, value in s.items() if key in SECRET_KEYS and value]
        mode = stat.S_IMODE(os.stat(self.path).st_mode)
        if held and mode & 0o077:
            self.refusals.append(
                f"{self.path}: holds {' and '.join(held)}, and other users may read it (mode {mode:o}). "
                f"Run: chmod 600 {self.path}"
            )

    def _check_files(self, database: Path, log: Path | None) -> None:
        """
        Refuse one file for two uses. The start would take config.ini for a damaged database and move it aside; a log
        would be appended to the other file, and renamed with it.
        """
        if os.path.realpath(database) == os.path.realpath(self.path):
            self._refuse("database", "path", "is this very file. Name another, for example gridbot.db")
        others = (os.path.realpath(self.path), os.path.realpath(database))
        if log is not None and (problem := unknown_letters(str(log))):
            self._refuse("logging", "file", problem)
        elif log is not None and (os.path.realpath(log) in others or log.suffix == ".db"):
            self._refuse("logging", "file", "is the settings or a database. Name another, for example gridbot.log")

    def _take_key_from_environment(self) -> None:
        secret = os.environ.get("GRIDBOT_API_SECRET_KEY", "").strip()
        keys = {"api_public_key": api_public_key(self.raw), "api_secret_key": secret}
        self.raw.setdefault("kraken", {}).update({key: value for key, value in keys.items() if value})

    def _values(self, section: str) -> dict[str, Any]:
        known = SECTIONS[section]
        values = self.raw.get(section, {})
        found: dict[str, Any] = {k: v for k, v in values.items() if k in known and (v or k not in MAY_BE_EMPTY)}
        if "file" in found:
            found["file"] = Path(beside(str(self.path), found["file"]))
        return found

    def _model(self, model: type[Model], values: dict[str, Any]) -> Model | None:
        try:
            return model.model_validate(values)
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_input=False):
                self._explain(model, values, error["loc"], error["type"], error["msg"])
            return None

    def _explain(self, model: type[Section], values: dict[str, Any], loc: Any, kind: str, message: str) -> None:
        message = message.removeprefix("Value error, ")
        if not loc:  # values that do not go together: each line names the key to mend
            for line in message.split("\n"):
                key, _, text = line.partition(": ")
                self._refuse(_section_of(model, key), key, text)
            return
        key = str(loc[0])
        section = _section_of(model, key)
        if kind == "missing" or values.get(key) == "":
            missing = f"{self.path}, [{section}] {key}: is missing or empty. {_right(key)}"
            self.refusals.append(missing.rstrip())
        else:
            says_what_would_be_right = ". " in message or "for example" in message
            self._refuse(section, key, message if says_what_would_be_right else f"{message.rstrip('.')}. {_right(key)}")

    def _check_secret(self, kraken: models.KrakenConfigDTO | None) -> None:
        try:
            base64.b64decode(kraken.api_secret_key.get_secret_value() if kraken else "", validate=True)
        except ValueError:  # binascii.Error is one
            self.refusals.append(
                f"{self.path}, [kraken] api_secret_key (or GRIDBOT_API_SECRET_KEY): is not a secret as Kraken shows it "
                "(base64: letters, digits, + / =). Copy it again, whole; perhaps it is the public key"
            )

    def _refuse(self, section: str, key: str, why: str) -> None:
        # No value of [telegram] is shown: the owner may have pasted the token behind chat_id.
        secret = key in SECRET_KEYS or section == "telegram"
        value = "(hidden)" if secret else self.raw.get(section, {}).get(key, "").split("\n")[0]
        self.refusals.append(f"{self.path}, [{section}] {key} = {excerpt(value)}: {why.rstrip()}")


def _section_of(model: type[Section], key: str) -> str:
    if model is models.BotConfigDTO:
        return "grid" if key in GRID_KEYS else "bot"
    return next(section for section, keys in SECTIONS.items() if key in keys and key in model.model_fields)


def _right(key: str) -> str:
    return f"Right would be: {WOULD_BE_RIGHT[key]}" if key in WOULD_BE_RIGHT else ""


def _where_instead(section: str, key: str) -> str:
    """Names the section that has this key, else the most similar key: of this section first, then of all."""
    for other, keys in SECTIONS.items():
        if key in keys:
            return f"it belongs into [{other}]"
    if near := did_you_mean(key, SECTIONS[section]):
        return near
    for other, keys in SECTIONS.items():
        if near := did_you_mean(key, keys):
            return f"{near} (in [{other}])"
    return f"[{section}] knows {', '.join(SECTIONS[section])}"


def describe(settings: Settings) -> list[str]:
    """The settings in force, in human units, one line each; no secrets."""
    bot, quote, fit = settings.bot, settings.bot.quote_currency, settings.bot.buys_that_fit
    if bot.fee is not None:
        fee = f"{as_percent(bot.fee)} ({digits(bot.fee)}) a side"
    else:
        fee = "assumed, see below" if bot.simulated else "the account's own maker fee"
    lines = [
        f"{bot.name}: {bot.strategy} on {bot.base_currency}/{quote}, userref {bot.userref}, {_at_stake(bot)}",
        f"{counted(bot.n_open_buy_orders, 'open buy')} of {digits(bot.amount_per_grid)} {quote} each",
        f"interval {as_percent(bot.interval)} ({digits(bot.interval)}), fee {fee}",
        f"at most {digits(bot.max_investment)} {quote} in open orders"
        + (f": room for {fit} of the {bot.n_open_buy_orders} buys" if fit < bot.n_open_buy_orders else ""),
        f"database {settings.db.path}",
    ]
    if bot.simulated:
        paper = settings.paper
        play = f"{digits(paper.base_balance)} {bot.base_currency} and {digits(paper.quote_balance)} {quote}"
        lines.append(f"play money at the first start: {play}")
    own = settings.funds
    shares = [(own.own_base, bot.base_currency), (own.own_quote, quote)]
    if amounts := [f"{digits(amount)} {currency}" for amount, currency in shares if amount is not None]:
        lines.append(f"the bot's own at its first start: {' and '.join(amounts)}; the rest is not touched")
    channels = [*(["Telegram"] if settings.notification.telegram else []), *settings.notification.channels]
    lines.append(f"notifications: {', '.join(channels) or 'none'}")
    if settings.metrics.enabled:
        lines.append(f"status page on {settings.metrics.host}:{settings.metrics.port}")
    if bot.skip_permission_check:
        lines.append("the permissions of the API key are not checked (skip_permission_check)")
    if bot.skip_price_timeout:
        lines.append("a market without prices does not stop the bot (skip_price_timeout)")
    return lines


def _at_stake(bot: models.BotConfigDTO) -> str:
    if bot.exchange == "Demo":
        return "demo: made-up prices, play money, nothing leaves this machine"
    if bot.dry_run:
        prices = "live prices of Kraken" if bot.exchange == "Kraken" else bot.exchange
        return f"dry run: {prices}, play money, no order leaves"
    return f"REAL ORDERS on {bot.exchange}"
