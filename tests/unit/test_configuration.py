"""config.ini and what becomes of it: understood in the owner's units, or refused with what would be right."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gridbot.core import registry
from gridbot.core.config_file import SECTIONS, describe, load_settings, require_key
from gridbot.core.single_instance import claim_early
from gridbot.exceptions import ConfigurationError
from gridbot.models import configuration
from gridbot.models.configuration import (
    BotConfigDTO,
    KrakenConfigDTO,
    Settings,
    TelegramConfigDTO,
    check_interval_pays,
    smallest_paying_interval,
)
from gridbot.models.grid import GridView
from gridbot.models.money import to_decimal
from gridbot.strategies import grid_rules as rules
from tests.settings import config, config_ini
from tests.world import BTC_USD

SHIPPED = Path(__file__).parents[2] / "config.ini"
PUBLIC = "pUbLiCkEyOfTheBot0123456789"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="

WORKING = config_ini(exchange="Kraken", fee="0.25%")

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRIDBOT_API_PUBLIC_KEY", raising=False)
    monkeypatch.delenv("GRIDBOT_API_SECRET_KEY", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes config.ini, readable for its owner only, with lines replaced and text added."""

    def do(*changes: tuple[str, str], more: str = "", mode: int = 0o600) -> Path:
        text = WORKING
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "config.ini"
        path.write_text(text + more, encoding="utf-8")
        path.chmod(mode)
        return path

    return do


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    return caught.value.message.replace(f"{path}", "config.ini")


@pytest.mark.parametrize("key", ["ws_url", "ws_auth_url"])
@pytest.mark.parametrize(
    "address", ["x", "http://ws.kraken.com", "wss://", "wss://ws.kraken.com:abc", "WSS://ws.kraken.com", "ws://a:99999"]
)
def test_an_address_that_is_no_websocket_s_is_refused(write: Write, key: str, address: str) -> None:
    told = refusal(write(more=f"[kraken]\n{key} = {address}\n"))
    assert told.startswith(f"config.ini, [kraken] {key} = {address}: this is no address of a websocket. Right would be")


def test_the_settings_themselves_are_not_taken_for_a_damaged_database(write: Write) -> None:
    told = refusal(write(more="[database]\npath = ./config.ini\n"))
    assert told.startswith("config.ini, [database] path = ./config.ini: is this very file. Name another")


@pytest.mark.parametrize("name", ["config.ini", "./gridbot.db", "gridbot.exchange.db"])
def test_a_log_that_would_spoil_the_settings_or_a_database_is_refused(write: Write, name: str) -> None:
    told = refusal(write(more=f"[logging]\nfile = {name}\n"))
    assert told.startswith(f"config.ini, [logging] file = {name}: is the settings or a database. Name another")


def bot(**changes: Any) -> BotConfigDTO:
    """The bot of ``WORKING``, without a fee."""
    return config(**({"name": "mine", "exchange": "Kraken", "userref": 7, "fee": None} | changes))


def test_a_working_file_becomes_settings_and_orders_stay_on_paper(write: Write, tmp_path: Path) -> None:
    settings = load_settings(write())
    assert settings.bot == bot(fee=Decimal("0.0025"))
    assert settings.bot.dry_run
    assert settings.bot.simulated
    assert settings.db.path == tmp_path / "gridbot.db"
    assert settings.kraken.rest_url == "https://api.kraken.com"
    assert settings.kraken.ws_url == "wss://ws.kraken.com/v2"
    assert settings.kraken.ws_auth_url == "wss://ws-auth.kraken.com/v2"
    assert (settings.notification.telegram, settings.notification.channels) == (None, ())
    assert (settings.metrics.enabled, settings.metrics.host) == (False, "127.0.0.1")
    assert settings.config_path == tmp_path / "config.ini"


@pytest.mark.parametrize("text", ["1%", "1 %", "0.01", " 1.0% ", "0.0100"])
def test_percent_and_fraction_are_both_understood(text: str) -> None:
    assert bot(interval=text).interval == Decimal("0.01")


def test_a_fee_may_be_left_out_and_is_then_asked_for(write: Write) -> None:
    assert load_settings(write(("fee = 0.25%", "fee ="))).bot.fee is None
    assert load_settings(write(("fee = 0.25%", ""))).bot.fee is None


@pytest.mark.parametrize(
    ("line", "wrong", "why"),
    [
        ("fee = 0.25%", "fee = 0.26", "0.26 is 26 %. If you mean 0.26 %, write 0.26% or 0.0026"),
        ("fee = 0.25%", "fee = 50%", "no exchange takes more than 10 % a side"),
        ("fee = 0.25%", "fee = -0.01%", "a rebate cannot be promised; leave fee out"),
        ("interval = 1%", "interval = 4", "4 is 400 %. If you mean 4 %, write 4% or 0.04"),
        ("interval = 1%", "interval = 0.5", "write 0.5% or 0.005; if you do mean 50 %, write it with the sign"),
        ("interval = 1%", "interval = 0,01", "write numbers with a point"),
        ("interval = 1%", "interval = 0", "must be more than 0 % and less than 100 %"),
        ("interval = 1%", "interval = 100%", "must be more than 0 % and less than 100 %"),
        ("amount_per_grid = 100", "amount_per_grid = 0", "must be more than 0"),
        ("amount_per_grid = 100", "amount_per_grid = 1_000", "without thousands separators"),
        ("amount_per_grid = 100", "amount_per_grid = １００", "digits 0 to 9"),
        ("amount_per_grid = 100", "amount_per_grid = ١٠٠", "digits 0 to 9"),
        ("interval = 1%", "interval = ١%", "digits 0 to 9"),
        ("amount_per_grid = 100", "amount_per_grid = ten", "'ten' is not a number"),
        ("amount_per_grid = 100", "amount_per_grid = NaN", "not a finite number"),
        ("amount_per_grid = 100", "amount_per_grid = 1e999999", "a number of ordinary size"),
        ("n_open_buy_orders = 5", "n_open_buy_orders = 0", "a whole number from 1 to 225, for example 5"),
        ("n_open_buy_orders = 5", "n_open_buy_orders = 2.5", "must be a whole number"),
        ("userref = 7", "userref = 0", "a whole number from 1 to 2147483647"),
        ("userref = 7", "userref = 2147483648", "a whole number from 1 to 2147483647"),
        ("base_currency = BTC", "base_currency = btc", 'did you mean "BTC"?'),
        ("base_currency = BTC", "base_currency = aaplx", 'did you mean "AAPLX" or the xStock "AAPLx"?'),
        ("base_currency = BTC", "base_currency = BTC/USD", "base_currency = BTC and quote_currency = USD"),
        ("strategy = GridHODL", "strategy = gridhodl", 'did you mean "GridHODL"?'),
        ("strategy = GridHODL", "strategy = CDCA", 'did you mean "cDCA"?'),
        ("strategy = GridHODL", "strategy = hedge", "choose one of GridHODL, GridSell, SWING, cDCA"),
        ("exchange = Kraken", "exchange = kraken", 'did you mean "Kraken"?'),
        ("exchange = Kraken", "exchange = Paper", "choose one of Demo, Kraken"),
    ],
)
def test_a_value_is_refused_with_section_key_value_and_what_is_right(
    write: Write, line: str, wrong: str, why: str
) -> None:
    text = refusal(write((line, wrong)))
    section = "grid" if line.split(" ")[0] in SECTIONS["grid"] else "bot"
    assert text.startswith(f"config.ini, [{section}] {wrong}: ")
    assert why in text


def test_an_unusual_interval_may_be_insisted_on_with_the_percent_sign() -> None:
    assert bot(interval="50%").interval == Decimal("0.5")


@pytest.mark.parametrize("name", ["AAPLx", "XBT", "1INCH", "BTC", "T", "BRK.Bx"])
def test_currencies_stay_as_they_are_written(name: str) -> None:
    assert bot(base_currency=name).base_currency == name


@pytest.mark.parametrize(("base", "quote"), [("USD", "USD"), ("XBT", "BTC"), ("DOGE", "XDG")])
def test_a_currency_against_itself_is_refused(base: str, quote: str) -> None:
    with pytest.raises(ValidationError, match="must differ from base_currency"):
        bot(base_currency=base, quote_currency=quote)


def test_a_limit_in_which_not_one_buy_fits_is_refused_at_the_cent_where_the_rules_would_stop() -> None:
    assert bot(max_investment="100.26", fee="0.25%").max_investment == Decimal("100.26")
    with pytest.raises(ValidationError, match=r"must be more than 100\.25 .*For 5 open buys: more than 501\.25"):
        bot(max_investment="100.25", fee="0.25%")


@pytest.mark.parametrize("field", ["amount_per_grid", "interval", "max_investment", "fee"])
def test_a_float_is_never_money(field: str) -> None:
    with pytest.raises(ValidationError, match="is a float; money is read from text"):
        bot(**{field: 0.01})


def test_an_interval_that_two_fees_eat_up_is_refused_with_the_smallest_that_pays(write: Write) -> None:
    text = refusal(write(("interval = 1%", "interval = 0.5%"), ("fee = 0.25%", "fee = 0.26%")))
    assert text == (
        "config.ini, [grid] interval = 0.5%: this grid loses on every round: two fees of 0.26 % cost more than a step "
        "of 0.5 % earns. The smallest interval that pays is 0.00523 (0.523 %). Raise interval, or set fee to the fee "
        "you really pay"
    )
    assert load_settings(write(("interval = 1%", "interval = 0.523%"), ("fee = 0.25%", "fee = 0.26%")))


@pytest.mark.parametrize(
    ("fee", "smallest"), [("0.0025", "0.00503"), ("0.0026", "0.00523"), ("0", "0.00001"), ("-0.0002", "0.00001")]
)
def test_the_smallest_interval_that_pays(fee: str, smallest: str) -> None:
    assert smallest_paying_interval(Decimal(fee)) == Decimal(smallest)


def test_the_account_s_fee_is_held_against_the_interval_once_it_is_known() -> None:
    check_interval_pays(Decimal("0.00503"), Decimal("0.0025"))
    with pytest.raises(ConfigurationError, match=r"\[grid\] interval = 0\.00502: .* pays is 0\.00503"):
        check_interval_pays(Decimal("0.00502"), Decimal("0.0025"))


@given(st.decimals(min_value=0, max_value="0.1", places=6))
def test_the_smallest_interval_pays_and_a_step_less_does_not(fee: Decimal) -> None:
    smallest = smallest_paying_interval(fee)
    check_interval_pays(smallest, fee)
    with pytest.raises(ConfigurationError):
        check_interval_pays(smallest - Decimal("0.00001"), fee)


def test_everything_that_is_wrong_is_said_at_once(write: Write) -> None:
    text = refusal(
        write(
            ("interval = 1%", "interval = 4"),
            ("userref = 7\n", ""),
            more="[telegrm]\ntoken = x\n[metrics]\nprot = 80\n",
        )
    )
    lines = text.splitlines()
    assert lines[0] == "config.ini: 4 things must be mended before the bot can start:"
    assert sorted(line.split(": ")[0] for line in lines[1:]) == [
        "  config.ini, [bot] userref",
        "  config.ini, [grid] interval = 4",
        "  config.ini, [metrics] prot",
        "  config.ini, [telegrm]",
    ]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[telegrm]\n", '[telegrm]: unknown section; did you mean "telegram"?'),
        ("[Metrics]\n", '[Metrics]: unknown section; did you mean "metrics"?'),
        ("[DEFAULT]\nname = x\n", "[DEFAULT]: unknown section; there are bot, grid, kraken"),
        ("[metrics]\nprot = 80\n", '[metrics] prot: unknown key; did you mean "port"?'),
        ("[metrics]\ninterval = 1%\n", "[metrics] interval: unknown key; it belongs into [grid]"),
        ("[metrics]\ndryrun = yes\n", '[metrics] dryrun: unknown key; did you mean "dry_run"? (in [bot])'),
        ("[metrics]\nzzz = 1\n", "[metrics] zzz: unknown key; [metrics] knows enabled, host, port"),
    ],
)
def test_an_unknown_name_refuses_the_start_and_names_the_nearest(write: Write, more: str, says: str) -> None:
    assert says in refusal(write(more=more))


@pytest.mark.parametrize("speed", ["0", "1000.1", "-5"])
def test_a_market_that_is_too_fast_is_refused_in_our_words(write: Write, speed: str) -> None:
    text = refusal(write(more=f"[demo]\nspeed = {speed}\n"))
    assert f"[demo] speed = {speed}: must be more than 0 and at most 1000, for example 5" in text


@pytest.mark.parametrize("word", ["yes", "true", "on", "1", "Yes", "TRUE"])
def test_words_for_yes(write: Write, word: str) -> None:
    assert load_settings(write(("userref", f"dry_run = {word}\nuserref"))).bot.dry_run is True


@pytest.mark.parametrize("word", ["n", "nope", "", "2", "false!", "dry"])
def test_dry_run_is_never_guessed(write: Write, word: str) -> None:
    assert "[bot] dry_run" in refusal(write(("userref", f"dry_run = {word}\nuserref")))


def test_a_comment_behind_a_value_is_refused(write: Write) -> None:
    text = refusal(write(("interval = 1%", "interval = 1%  # one percent")))
    assert "[grid] interval = 1%  # one percent: has a comment behind it. Give the comment a line of its own" in text


def test_a_name_may_hold_a_number_sign(write: Write) -> None:
    assert load_settings(write(("name = mine", "name = bot #2"))).bot.name == "bot #2"


def test_an_indented_key_is_not_swallowed_by_the_line_above(write: Write) -> None:
    assert "[bot] userref = 7: goes on in an indented line below it" in refusal(
        write(("userref = 7\n", "userref = 7\n  dry_run = no\n"))
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("fee = 0.1%\n", "config.ini, line 14: [grid] fee stands there twice. Keep the line you mean"),
        ("[bot]\n", "config.ini, line 14: [bot] stands there twice"),
        ("no sign here\n", "config.ini, line 14: neither [section] nor key = value"),
    ],
)
def test_a_file_in_the_wrong_form_is_refused_with_the_line(write: Write, more: str, says: str) -> None:
    assert says in refusal(write(more=more))


def test_a_file_that_is_not_there_and_one_that_is_none(tmp_path: Path) -> None:
    assert "there is no such file. Name it with --config FILE" in refusal(tmp_path / "config.ini")
    (tmp_path / "config.ini").mkdir()
    assert "is a directory" in refusal(tmp_path / "config.ini")


def test_a_file_nobody_lets_us_read_says_so(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()

    def denied(*_args: Any, **_options: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", denied)
    assert "this user may not read it" in refusal(path)


def test_a_file_saved_by_an_editor_of_windows_is_read(write: Write) -> None:
    path = write()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_settings(path).bot.name == "mine"
    path.write_bytes(path.read_bytes().replace(b"mine", b"m\xfcine"))
    assert "is not plain text in UTF-8" in refusal(path)


def test_a_character_that_no_path_can_hold_is_refused(write: Write) -> None:
    assert "config.ini: is not plain text (it holds control characters)" in refusal(
        write(more="[database]\npath = a\0.db\n")
    )


@pytest.mark.parametrize("code", ["\x1b[31mmine", "\x9b2Jmine", "mine\b\b"])
def test_a_name_that_plays_with_the_terminal_is_refused_and_not_shown(write: Write, code: str) -> None:
    assert refusal(write(("name = mine", f"name = {code}"))) == (
        "config.ini: is not plain text (it holds control characters); save it again as UTF-8"
    )


def test_a_value_without_end_is_refused_and_not_repeated(write: Write) -> None:
    told = refusal(write(more=f"[database]\npath = {'a' * 5000}\n"))
    assert told == "config.ini, [database] path: is 5000 characters long. Shorten it"


@pytest.mark.parametrize("value", ["a" * 4_000, "9" * 4_000, "0." + "3" * 4_000])
@pytest.mark.parametrize("line", ["interval = 1%", "userref = 7", "strategy = GridHODL", "fee = 0.25%"])
def test_a_long_value_is_repeated_no_further_than_a_line_goes(write: Write, line: str, value: str) -> None:
    key = line.split(" ")[0]
    text = refusal(write((line, f"{key} = {value}")))
    assert f" {key} = {value[:60]}…: " in text
    assert len(text) < 500


@pytest.mark.parametrize("text", ["1_000", "１２", "٣", "1٣"])
def test_money_has_the_digits_0_to_9_and_nothing_between_them(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        to_decimal(text)


def test_lines_may_end_in_any_way_and_none_is_shown(write: Write) -> None:
    path = write(more=with_key() + "[telegrm]\ntoken = x\n")
    path.write_text(path.read_text().replace("\n", "\u2028"), encoding="utf-8")
    assert refusal(path) == 'config.ini, [telegrm]: unknown section; did you mean "telegram"?'


def test_a_section_that_may_be_a_secret_is_not_shown(write: Write) -> None:
    for more in (f"[kraken api_secret_key = {SECRET}]\n", f"[kraken api_secret_key = {SECRET}]\n" * 2):
        text = refusal(write(more=more))
        assert "[(not shown, it may be a secret)]" in text
        assert SECRET not in text


def test_paths_start_at_the_directory_of_the_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = load_settings(write(more="[database]\npath = data/bot.db\n[logging]\nfile = bot.log\nlevel = debug\n"))
    assert settings.db.path == tmp_path / "data" / "bot.db"
    assert settings.logging.file == tmp_path / "bot.log"
    assert settings.logging.level == "DEBUG"
    monkeypatch.chdir(tmp_path)
    assert load_settings(Path("config.ini")).db.path == tmp_path / "data" / "bot.db"


def test_a_directory_is_no_database_and_gets_no_lock_beside_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    path = write(more="[database]\npath = books\n")
    books = tmp_path / "books"
    says = f"config.ini, [database] path = {books}: is a directory. Name a file in it: {books}/gridbot.db"
    assert refusal(path) == says
    assert claim_early(str(path)) is None
    assert not (tmp_path / "books.lock").exists()


def test_telegram_needs_both_and_hides_both(write: Write) -> None:
    text = refusal(write(more="[telegram]\ntoken = 123:AAH-secret\n"))
    assert "[telegram] chat_id: is missing or empty" in text
    assert "AAH" not in text
    settings = load_settings(write(more="[telegram]\ntoken = 123:AAH-secret\nchat_id = 42\n"))
    assert settings.notification.telegram is not None
    assert settings.notification.telegram.chat_id == "42"
    assert "AAH" not in repr(settings)
    assert load_settings(write(more="[telegram]\ntoken =\nchat_id =\n")).notification.telegram is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "chat_id = hello there",
            "chat_id = (hidden): must be a whole number, with the minus sign of a group, or the @n",
        ),
        ("chat_id = 1_0", "chat_id = (hidden): must be a whole number"),
        (
            "chat_id = 42\nthread_id = abc",
            "thread_id = (hidden): must be a whole number. Right would be: the number of",
        ),
    ],
)
def test_a_chat_that_telegram_cannot_know_is_refused(write: Write, line: str, says: str) -> None:
    assert f"[telegram] {says}" in refusal(write(more=f"[telegram]\ntoken = 123:AAH-secret\n{line}\n"))


@pytest.mark.parametrize("chat", ["-1001234567890", "@my_channel"])
def test_a_group_and_a_channel_can_hear_the_bot(write: Write, chat: str) -> None:
    settings = load_settings(write(more=f"[telegram]\ntoken = 1:A\nchat_id = {chat}\nthread_id = 7\n"))
    assert settings.notification.telegram is not None
    assert (settings.notification.telegram.chat_id, settings.notification.telegram.thread_id) == (chat, "7")


def test_telegram_as_a_channel_needs_its_section(write: Write) -> None:
    assert refusal(write(more="[notification]\nchannels = telegram\n")).endswith(
        "[notification] channels = telegram: telegram needs a section [telegram] with token and chat_id. Write it"
    )


def with_key(public: str = PUBLIC, secret: str = SECRET) -> str:
    return f"[kraken]\napi_public_key = {public}\napi_secret_key = {secret}\n"


def test_real_orders_need_an_explicit_no_and_both_halves_of_the_key(write: Write) -> None:
    live = ("userref", "dry_run = no\nuserref")
    settings = load_settings(write(live, more=with_key()))
    assert (settings.bot.dry_run, settings.bot.simulated) == (False, False)
    require_key(settings)
    for more in ("", with_key(secret=""), with_key(public="")):
        settings = load_settings(write(live, more=more))  # status, report, watch need no key
        with pytest.raises(ConfigurationError, match="dry_run = no: real orders need both api_public_key and api_sec"):
            require_key(settings)


def test_the_demo_has_no_real_orders(write: Write) -> None:
    text = refusal(write(("exchange = Kraken", "exchange = Demo"), ("userref", "dry_run = no\nuserref")))
    assert "[bot] dry_run = no: the demo has no real orders. Set dry_run = yes, or exchange = Kraken" in text


def test_the_environment_goes_before_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDBOT_API_PUBLIC_KEY", "from-the-environment")
    monkeypatch.setenv("GRIDBOT_API_SECRET_KEY", "b3RoZXI=")
    kraken = load_settings(write(("userref", "dry_run = no\nuserref"), mode=0o644)).kraken
    assert (kraken.api_public_key, kraken.api_secret_key.get_secret_value()) == ("from-the-environment", "b3RoZXI=")
    kraken = load_settings(write(more=with_key())).kraken
    assert (kraken.api_public_key, kraken.api_secret_key.get_secret_value()) == ("from-the-environment", "b3RoZXI=")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_with_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(
    write: Write, mode: int
) -> None:
    text = refusal(write(more=with_key(), mode=mode))
    assert f"other users may read it (mode {mode:o}). Run: chmod 600 config.ini" in text
    assert load_settings(write(mode=mode))  # without a key it may be public


@pytest.mark.parametrize("secret", ["not base64!", SECRET[:-2], "ä" * 12])
def test_a_mistyped_secret_is_refused_without_being_shown(write: Write, secret: str) -> None:
    text = refusal(write(more=with_key(secret=secret)))
    assert "[kraken] api_secret_key (or GRIDBOT_API_SECRET_KEY): is not a secret as Kraken shows it" in text
    assert secret not in text


@pytest.mark.parametrize(
    "more",
    [
        with_key(secret=f"{SECRET}  # mine"),
        with_key(secret=f"{SECRET}\n  {SECRET}"),
        with_key(secret="") + f"{SECRET}\n",
        with_key(secret="") + SECRET.rstrip("=") + "abcdefgh==\n",
        f"[kraken]\napi_secret {SECRET}\n",
        f"[kraken]\napi_secret = {SECRET}\n",
        f"{SECRET}\n",
        f"[telegram]\ntoken = {SECRET} # x\nchat_id = {SECRET} ; y\n",
    ],
)
def test_no_refusal_shows_a_secret(write: Write, more: str) -> None:
    assert SECRET.rstrip("=").lower()[:20] not in refusal(write(more=more)).lower()


def test_no_repr_and_no_error_shows_a_secret() -> None:
    settings = Settings(
        bot=bot(), kraken=KrakenConfigDTO.model_validate({"api_public_key": PUBLIC, "api_secret_key": SECRET})
    )
    assert PUBLIC not in repr(settings)
    assert SECRET not in f"{settings!r} {settings}"
    assert settings.secrets() == [PUBLIC, SECRET]
    with pytest.raises(ValidationError) as caught:
        TelegramConfigDTO.model_validate({"token": SECRET, "chat_id": "", "thread": SECRET})
    assert SECRET not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        bot().fee = Decimal(0)  # type: ignore[misc]


def test_the_file_shipped_is_the_demo_and_its_grid_pays() -> None:
    settings = load_settings(SHIPPED)
    assert (settings.bot.exchange, settings.bot.strategy, settings.bot.n_open_buy_orders) == ("Demo", "GridHODL", 5)
    assert settings.bot.simulated
    assert settings.secrets() == []


def test_the_file_shipped_shows_every_section_and_key_once() -> None:
    shown: dict[str, list[str]] = {}
    for line in SHIPPED.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            keys = shown.setdefault(header[1], [])
        elif key := re.match(r"(?:# )?(\w+) =( |$)", line):
            keys.append(key[1])
    assert {section: sorted(keys) for section, keys in shown.items()} == {
        section: sorted(keys) for section, keys in SECTIONS.items()
    }


def test_the_defaults_the_file_shipped_names_are_the_true_ones() -> None:
    defaults = Settings(bot=bot())
    text = SHIPPED.read_text()
    for url in (defaults.kraken.rest_url, defaults.kraken.ws_url, defaults.kraken.ws_auth_url):
        assert f"= {url}\n" in text
    assert f"# host = {defaults.metrics.host}\n# port = {defaults.metrics.port}\n" in text


def test_the_settings_in_force_are_said_in_human_units_and_without_secrets(write: Write) -> None:
    settings = load_settings(write(("userref", "dry_run = no\nuserref"), more=with_key()))
    assert describe(settings) == [
        "mine: GridHODL on BTC/USD, userref 7, REAL ORDERS on Kraken",
        "5 open buys of 100 USD each",
        "interval 1 % (0.01), fee 0.25 % (0.0025) a side",
        "at most 10000 USD in open orders",
        f"database {settings.db.path}",
        "notifications: none",
    ]
    dry = describe(load_settings(write(("fee = 0.25%", ""))))
    assert dry[0].endswith("dry run: live prices of Kraken, play money, no order leaves")
    assert dry[2] == "interval 1 % (0.01), fee assumed, see below"
    assert dry[5] == "play money at the first start: 0 BTC and 10000 USD"


@pytest.mark.parametrize(
    ("limit", "fee", "fit"),
    [("100.26", "0.25%", 1), ("250", "0.25%", 2), ("500", "0.25%", 4), ("501", "0.25%", 5), ("450", None, 4)],
)
def test_it_is_said_how_many_buys_the_limit_has_room_for(limit: str, fee: str | None, fit: int) -> None:
    settings = bot(max_investment=limit, fee=fee)
    assert settings.buys_that_fit == fit
    lines = describe(Settings(bot=settings))
    assert any(f": room for {fit} of the 5 buys" in line for line in lines) is (fit < 5)
    grid = rules.grid_settings(settings, BTC_USD, settings.fee or Decimal(0))
    view = GridView(grid, Decimal(50000), quote_available=Decimal(10000))
    assert len(rules.check_n_open_buy_orders(view).intents) == fit, "as the rules decide it"


def test_the_names_of_the_models_are_those_of_the_registry() -> None:
    assert set(configuration.STRATEGIES) == set(registry.STRATEGIES)
    assert set(configuration.EXCHANGES) == set(registry.EXCHANGES) - {"Paper"}
