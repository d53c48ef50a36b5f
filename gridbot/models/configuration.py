"""
The settings of the bot: frozen, checked when they are made, money as Decimal. No I/O.

Every value may be given as the text of config.ini ("1%", "yes", "100.50") or as the type itself; a float for an
amount of money is refused. An error says why, and what would be right. Sections and keys of config.ini have the
names of these fields; core/config_file.py reads the file.
"""

import difflib
import re
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from gridbot.exceptions import ConfigurationError
from gridbot.models.money import ONE, ZERO, as_text, digits, to_decimal

EXCHANGES = ("Demo", "Kraken")
STRATEGIES = ("GridHODL", "GridSell", "SWING", "cDCA")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

# Kraken stores userref as a signed 32 bit integer; 0 would match orders that have none.
MAX_USERREF = 2**31 - 1
# The most open orders Kraken allows on one pair, in its highest tier.
MAX_OPEN_ORDERS = 225
# No grid needs more. The limit keeps a mistyped exponent ("1e999999") out of every later calculation.
MAX_AMOUNT = Decimal(10) ** 15
MOST_DIGITS = 60
# A larger number without a percent sign was almost certainly meant as percent.
SUSPICIOUS_INTERVAL = Decimal("0.25")
SUSPICIOUS_FEE = Decimal("0.01")
MAX_FEE = Decimal("0.1")
MAX_VOLATILITY = Decimal("0.05")
MAX_SPEED = 1000  # ticks per second
# The smallest interval that pays is a multiple of this.
INTERVAL_STEP = Decimal("0.00001")

YES, NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
# Kraken knows two of its assets under two names.
SAME_CURRENCY = {"XBT": "BTC", "XDG": "DOGE"}

_DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_CURRENCY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.]{0,19}")  # T and BRK.Bx are among Kraken's


def did_you_mean(word: str, known: tuple[str, ...] | list[str]) -> str:
    """``did you mean "SWING"?``, or the empty text when nothing known resembles ``word``."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.strip().lower(), by_lower, n=1, cutoff=0.6)
    return f'did you mean "{by_lower[near[0]]}"?' if near else ""


def _number(value: Any) -> Decimal:
    if isinstance(value, str):
        value = value.strip()
        if "," in value or "_" in value or not value.isascii():
            raise ValueError("write numbers with a point, digits 0 to 9, without thousands separators: 1234.56")
        if len(value) > MOST_DIGITS:
            raise ValueError(f"must be a number of ordinary size, written with at most {MOST_DIGITS} characters")
    number = to_decimal(value)
    if abs(number) > MAX_AMOUNT or (number != 0 and abs(number) < 1 / MAX_AMOUNT):
        raise ValueError(f"must be a number of ordinary size, below {MAX_AMOUNT:f}")
    return number


def read_positive(value: Any) -> Decimal:
    """A number of ordinary size above 0. Raises ValueError."""
    number = _number(value)
    if number <= 0:
        raise ValueError("must be more than 0")
    return number


def read_not_negative(value: Any) -> Decimal:
    """A number of ordinary size, 0 included. Raises ValueError."""
    number = _number(value)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def read_fraction(value: Any, suspicious: Decimal, limit: Decimal) -> Decimal:
    """
    "1%", "1 %" and "0.01" are all 0.01. A number above ``suspicious`` without a percent sign is refused as a wrong
    unit, because 0.26 is 26 %, which is hardly ever meant. The error says how to write it as percent, if it is below
    ``limit``. Raises ValueError.
    """
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.endswith("%"):
        return _number(text[:-1]) / 100
    number = _number(text)
    if number > suspicious:
        meant = as_text(number)
        insist = f"; if you do mean {as_percent(number)}, write it with the sign" if number < limit else ""
        raise ValueError(
            f"{meant} is {as_percent(number)}. If you mean {meant} %, write {meant}% or {digits(number / 100)}{insist}"
        )
    return number


def read_interval(value: Any) -> Decimal:
    """The distance of two orders, as a fraction. Raises ValueError."""
    interval = read_fraction(value, SUSPICIOUS_INTERVAL, ONE)
    if not ZERO < interval < ONE:
        raise ValueError("must be more than 0 % and less than 100 %, for example 1% or 0.01")
    return interval


def read_fee(value: Any) -> Decimal | None:
    """A fee per side, as a fraction; None if ``value`` is empty. Raises ValueError."""
    if value is None or value == "":
        return None
    fee = read_fraction(value, SUSPICIOUS_FEE, MAX_FEE)
    if fee < 0:
        raise ValueError("a rebate cannot be promised; leave fee out and the account's own fee is asked for")
    if fee > MAX_FEE:
        raise ValueError("no exchange takes more than 10 % a side; 0.25% (or 0.0025) is a usual maker fee")
    return fee


def _read_volatility(value: Any) -> Decimal:
    volatility = read_fraction(value, MAX_VOLATILITY, MAX_VOLATILITY)
    if not ZERO <= volatility <= MAX_VOLATILITY:
        raise ValueError("must be between 0 % and 5 % per tick, for example 0.1%")
    return volatility


def _read_speed(value: Any) -> Decimal:
    if not ZERO < (speed := _number(value)) <= MAX_SPEED:
        raise ValueError(f"must be more than 0 and at most {MAX_SPEED}, for example 5")
    return speed


def read_whole(value: Any) -> int:
    """A whole number, of either sign. Raises ValueError."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


def read_within(least: int, most: int) -> Callable[[Any], int]:
    """A reader of whole numbers, both ends included. It raises ValueError."""

    def within(value: Any) -> int:
        if not least <= (number := read_whole(value)) <= most:
            raise ValueError(f"must be from {least} to {most}")
        return number

    return within


def _read_switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in YES + NO:
        raise ValueError("must be yes or no (true/false, on/off, 1/0 are understood too); nothing is guessed here")
    return word in YES


def _read_currency(value: Any) -> str:
    name = value.strip() if isinstance(value, str) else ""
    if "/" in name:
        raise ValueError("must be one currency; a pair is written as base_currency = BTC and quote_currency = USD")
    if not _CURRENCY.fullmatch(name):
        raise ValueError("must be the name of a currency as Kraken writes it: BTC, USD, AAPLx")
    # Not upper-cased without asking: AAPLx exists, AAPLX does not.
    if name == name.lower() != name.upper():
        stock = name.removesuffix("x").upper()
        meant = f'"{name.upper()}"' + (f' or the xStock "{stock}x"' if name.endswith("x") and stock else "")
        raise ValueError(f"did you mean {meant}? Kraken writes currencies in capitals (xStocks: AAPLx)")
    return name


def read_name(value: Any, known: tuple[str, ...], what: str) -> str:
    """One of ``known``, or a dotted path ``package.module:Class``. Raises ValueError with the nearest name."""
    name = value.strip() if isinstance(value, str) else ""
    if name in known or _DOTTED_PATH.fullmatch(name):
        return name
    hint = did_you_mean(name, known) or f"choose one of {', '.join(known)}."
    raise ValueError(f"there is no such {what}: {hint} Your own is named package.module:Class")


def _read_level(value: Any) -> str:
    name = value.strip().upper() if isinstance(value, str) else ""
    if name not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}. {did_you_mean(name, LEVELS)}".rstrip())
    return name


def _read_channels(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    return tuple(read_name(name, ("telegram",), "channel") for name in names if name.strip())


def _read_chat(value: Any) -> str:
    name = value.strip() if isinstance(value, str) else ""
    if not re.fullmatch(r"-?[1-9][0-9]{0,18}|@[A-Za-z0-9_]+", name):
        raise ValueError("must be a whole number, with the minus sign of a group, or the @name of a channel")
    return name


Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[Decimal, BeforeValidator(read_positive)]
NotNegative = Annotated[Decimal, BeforeValidator(read_not_negative)]
Switch = Annotated[bool, BeforeValidator(_read_switch)]
Currency = Annotated[str, BeforeValidator(_read_currency)]


def smallest_paying_interval(fee: Decimal) -> Decimal:
    """
    The smallest interval, as a fraction to five decimals, that earns more than two fees cost:
    (1+i)·(1-2f) > 1.

    fee  f, a fraction per side, below 0.5; may be negative (a rebate)

    >>> smallest_paying_interval(Decimal("0.0025"))
    Decimal('0.00503')
    """
    break_even = max(ONE / (ONE - 2 * fee) - ONE, ZERO)
    return (break_even / INTERVAL_STEP).to_integral_value(ROUND_FLOOR) * INTERVAL_STEP + INTERVAL_STEP


def check_interval_pays(interval: Decimal, fee: Decimal) -> None:
    """
    Check that a buy and its sell one ``interval`` higher earn more than two fees. Both are fractions.

    Raises ConfigurationError that names the smallest interval that pays.
    """
    if why := _why_it_does_not_pay(interval, fee):
        raise ConfigurationError(f"[grid] interval = {digits(interval)}: {why}")


def _why_it_does_not_pay(interval: Decimal, fee: Decimal) -> str:
    if (ONE + interval) * (ONE - 2 * fee) > ONE:
        return ""
    smallest = smallest_paying_interval(fee)
    return (
        f"this grid loses on every round: two fees of {as_percent(fee)} cost more than a step of "
        f"{as_percent(interval)} earns. The smallest interval that pays is {smallest:f} ({as_percent(smallest)}). "
        f"Raise interval, or set fee to the fee you really pay"
    )


def as_percent(fraction: Decimal) -> str:
    """A fraction as percent with all its digits, for texts about settings: ``0.523 %``."""
    return f"{digits(fraction * 100)} %"


def check_one_buy_fits(max_investment: Decimal, one_buy: Decimal, n: int) -> None:
    """Check that at least one of ``n`` buys of ``one_buy`` quote, fee included, fits. Raises ConfigurationError."""
    if why := _why_none_fits(max_investment, one_buy, n):
        raise ConfigurationError(f"[grid] {why}")


def _why_none_fits(max_investment: Decimal, one_buy: Decimal, n: int) -> str:
    # Not "less than": the rules stop buying when investment + one buy reaches max_investment.
    if max_investment > one_buy:
        return ""
    return (
        f"max_investment: not one buy fits, it must be more than {digits(one_buy)} (amount_per_grid with its fee). "
        f"For {n} open buys: more than {digits(one_buy * n)}"
    )


class Section(BaseModel):
    """Frozen and strict; an error never repeats the value, which may be a secret."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class BotConfigDTO(Section):
    """[bot] and [grid]: what is traded, where, and with which grid."""

    name: Text
    exchange: Annotated[str, BeforeValidator(lambda v: read_name(v, EXCHANGES, "exchange"))]
    dry_run: Switch = True  # real orders need an explicit no
    userref: Annotated[int, BeforeValidator(read_within(1, MAX_USERREF))]  # groups this bot's orders at the exchange
    strategy: Annotated[str, BeforeValidator(lambda v: read_name(v, STRATEGIES, "strategy"))]
    base_currency: Currency
    quote_currency: Currency
    skip_price_timeout: Switch = False
    skip_permission_check: Switch = False
    amount_per_grid: Positive  # A, quote per buy
    interval: Annotated[Decimal, BeforeValidator(read_interval)]  # i, a fraction
    n_open_buy_orders: Annotated[int, BeforeValidator(read_within(1, MAX_OPEN_ORDERS))]  # n
    max_investment: Positive  # M, quote
    # f, a fraction per side; None: the account's maker fee is asked for
    fee: Annotated[Decimal | None, BeforeValidator(read_fee)] = None

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Compare the values with each other. Raises ValueError; each line of it begins with the key to correct."""
        problems = []
        if self.exchange == "Demo" and not self.dry_run:
            problems.append("dry_run: the demo has no real orders. Set dry_run = yes, or exchange = Kraken")
        one_name = SAME_CURRENCY.get
        if one_name(self.base_currency, self.base_currency) == one_name(self.quote_currency, self.quote_currency):
            problems.append("quote_currency: must differ from base_currency; BTC against USD, for example")
        if why := _why_none_fits(self.max_investment, self.one_buy, self.n_open_buy_orders):
            problems.append(why)
        if self.fee is not None and (why := _why_it_does_not_pay(self.interval, self.fee)):
            problems.append(f"interval: {why}")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def one_buy(self) -> Decimal:
        """What a buy binds, in quote, with its fee if the settings name one."""
        return self.amount_per_grid * (ONE + (self.fee or ZERO))

    @property
    def buys_that_fit(self) -> int:
        """How many of the buys fit into max_investment while no sell is open."""
        room = (self.max_investment - self.one_buy) / self.amount_per_grid  # beyond one; the limit must not be reached
        return min(int(room.to_integral_value(ROUND_CEILING)), self.n_open_buy_orders)

    @property
    def simulated(self) -> bool:
        """True if no order of this bot reaches an exchange: a dry run, or the demo."""
        return self.dry_run or self.exchange == "Demo"


class FundsConfigDTO(Section):
    """[funds]: what is the bot's own at its first start; later its trades change it. None: all that is free."""

    own_base: NotNegative | None = None
    own_quote: NotNegative | None = None


def _read_socket_address(value: object) -> object:
    text = str(value)
    try:
        address = urlsplit(text)
        is_one = text.startswith(("ws://", "wss://")) and address.hostname and address.port != 0
    except ValueError:  # for example for a port of letters
        is_one = False
    if not is_one:
        raise ValueError("this is no address of a websocket")
    return value


SocketAddress = Annotated[Text, BeforeValidator(_read_socket_address)]


class KrakenConfigDTO(Section):
    """[kraken]: the API key (from the environment, preferably) and Kraken's addresses."""

    api_public_key: str = Field(default="", repr=False)
    api_secret_key: SecretStr = SecretStr("")
    rest_url: Text = "https://api.kraken.com"
    ws_url: SocketAddress = "wss://ws.kraken.com/v2"
    ws_auth_url: SocketAddress = "wss://ws-auth.kraken.com/v2"

    @property
    def has_key(self) -> bool:
        return bool(self.api_public_key and self.api_secret_key.get_secret_value())


class PaperConfigDTO(Section):
    """[paper]: the play money a dry run and the demo start with."""

    base_balance: NotNegative = ZERO
    quote_balance: NotNegative = Decimal(10000)


class DemoConfigDTO(Section):
    """[demo]: the made-up market."""

    start_price: Positive = Decimal(50000)  # quote
    volatility: Annotated[Decimal, BeforeValidator(_read_volatility)] = Decimal("0.001")  # typical move per tick
    # The same seed gives the same prices; None: new prices for every new database.
    seed: Annotated[int, BeforeValidator(read_whole)] | None = None
    speed: Annotated[Decimal, BeforeValidator(_read_speed)] = Decimal(5)  # ticks per second


class DBConfigDTO(Section):
    """[database]: one SQLite file."""

    path: Path = Path("gridbot.db")


class TelegramConfigDTO(Section):
    """[telegram]: the token of a Telegram bot, and the chat it writes to."""

    token: SecretStr
    chat_id: Annotated[str, BeforeValidator(_read_chat)]
    thread_id: Annotated[str, BeforeValidator(lambda v: str(read_whole(v)))] | None = None


class NotificationConfigDTO(Section):
    """Where notifications go. ``channels``: further channels by registry name or dotted path."""

    telegram: TelegramConfigDTO | None = None
    channels: Annotated[tuple[str, ...], BeforeValidator(_read_channels)] = ()


class MetricsConfigDTO(Section):
    """[metrics]: the status server; off unless asked for, and then on this machine only."""

    enabled: Switch = False
    host: Text = "127.0.0.1"
    port: Annotated[int, BeforeValidator(read_within(1, 65535))] = 8080


class LoggingConfigDTO(Section):
    """[logging]: how much is logged, and whether also to a file."""

    level: Annotated[str, BeforeValidator(_read_level)] = "INFO"
    file: Path | None = None


class Settings(Section):
    """Everything config.ini says; ``config_path`` is the file it came from."""

    bot: BotConfigDTO
    funds: FundsConfigDTO = FundsConfigDTO()
    kraken: KrakenConfigDTO = KrakenConfigDTO()
    paper: PaperConfigDTO = PaperConfigDTO()
    demo: DemoConfigDTO = DemoConfigDTO()
    db: DBConfigDTO = DBConfigDTO()
    notification: NotificationConfigDTO = NotificationConfigDTO()
    metrics: MetricsConfigDTO = MetricsConfigDTO()
    logging: LoggingConfigDTO = LoggingConfigDTO()
    config_path: Path = Path("config.ini")

    @property
    def own_play_money(self) -> tuple[Decimal, Decimal]:
        """Base and quote of [paper], at most what is the bot's own by [funds]."""
        paper, own = self.paper, self.funds
        base = paper.base_balance if own.own_base is None else min(paper.base_balance, own.own_base)
        quote = paper.quote_balance if own.own_quote is None else min(paper.quote_balance, own.own_quote)
        return base, quote

    def secrets(self) -> list[str]:
        """What must never reach a log: both halves of the API key, and the Telegram token."""
        telegram = self.notification.telegram
        found = [self.kraken.api_public_key, self.kraken.api_secret_key.get_secret_value()]
        return [s for s in (*found, telegram.token.get_secret_value() if telegram else "") if s]
