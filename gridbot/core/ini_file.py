"""
config.ini as sections of raw text. What the values mean is decided in config_file.

It needs no heavy imports, because a start that only finds the bot running reads the file, too.
"""

from __future__ import annotations

import configparser
import os
import sys

from gridbot.exceptions import ConfigurationError

LONGEST_KEY = 24
LONGEST_VALUE = 4096  # characters, enough for a path; later errors repeat a value, and must not become endless

Raw = dict[str, dict[str, str]]


def read_ini(path: str) -> Raw:
    """
    Section -> key -> text, keys in lower case.

    Raises ConfigurationError for a file that is missing, cannot be read, or is not in the form of
    an ini file; the text never repeats a line, which may hold a key.
    """
    parser = configparser.ConfigParser(
        interpolation=None,  # a % is a percent sign here
        default_section="",  # [DEFAULT] has no special meaning: it is just an unknown section
        empty_lines_in_values=False,
    )
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
        # Escape codes, in a name for instance, would play with the terminal that shows them.
        if any((char < " " or "\x7f" <= char <= "\x9f") and not char.isspace() for char in set(text)):
            raise ConfigurationError(f"{path}: is not plain text (it holds control characters); save it again as UTF-8")
        # splitlines knows every kind of line end. Read as one line, the file would be one key with all the rest in it.
        parser.read_file(text.splitlines(), source=path)
    except OSError as exc:
        raise ConfigurationError(_unreadable(path, exc)) from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path}: is not plain text in UTF-8; save it again in that encoding") from exc
    except configparser.Error as exc:
        # "from None": the library's error quotes the line, and the line may be the secret.
        raise ConfigurationError(f"{path}, {_malformed(exc)}") from None
    raw = {section: dict(parser[section]) for section in parser.sections()}
    for section, values in raw.items():
        for key, value in values.items():
            if len(value) > LONGEST_VALUE:
                place = f"[{shown_key(section)}] {shown_key(key)}"
                raise ConfigurationError(f"{path}, {place}: is {len(value)} characters long. Shorten it")
    return raw


def database_path(config_path: str, raw: Raw) -> str:
    """The absolute path of the database; a relative one starts at config.ini. Raises ConfigurationError."""
    path = beside(config_path, raw.get("database", {}).get("path", "") or "gridbot.db")
    if problem := unknown_letters(path):
        raise ConfigurationError(f"{config_path}, [database] path = {path}: {problem}")
    if os.path.isdir(path):
        raise ConfigurationError(
            f"{config_path}, [database] path = {path}: is a directory. Name a file in it: {path}/gridbot.db"
        )
    return path


def unknown_letters(path: str) -> str:
    """Why this session cannot name a file so; "" if it can."""
    try:
        os.fsencode(path)
        path.encode()
    except UnicodeEncodeError:
        return (
            f"this session knows no such letters (its encoding is {sys.getfilesystemencoding()}). Start with "
            "LC_ALL=C.UTF-8 in the environment, or name a path without them"
        )
    return ""


def beside(config_path: str, path: str) -> str:
    """``path`` as an absolute one; a relative path starts at the directory of config.ini."""
    return os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(config_path)), os.path.expanduser(path)))


def api_public_key(raw: Raw) -> str:
    """The public half of the API key; the environment overrides the file."""
    return os.environ.get("GRIDBOT_API_PUBLIC_KEY", "").strip() or raw.get("kraken", {}).get("api_public_key", "")


def key_in_use(raw: Raw) -> str:
    """The public half of the key that the bot will use; "" for play money, so that the key stays free for others."""
    bot = raw.get("bot", {})
    is_live = bot.get("exchange") != "Demo" and bot.get("dry_run", "").strip().lower() in ("no", "false", "off", "0")
    return api_public_key(raw) if is_live else ""


def shown_key(key: str) -> str:
    """
    The name of a key or section, for an error message; not if it is longer than ours are. It may be a secret then:
    one that stands on a line of its own and ends with "=" is read as a key.
    """
    return key if len(key) <= LONGEST_KEY and " " not in key else "(not shown, it may be a secret)"


def _unreadable(path: str, exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return f"{path}: there is no such file. Name it with --config FILE, or start where config.ini lies"
    if isinstance(exc, IsADirectoryError):
        return f"{path}: is a directory. Name the file in it: --config {os.path.join(path, 'config.ini')}"
    if isinstance(exc, PermissionError):
        return f"{path}: this user may not read it. Start as its owner, or change that: chown $USER {path}"
    return f"{path}: cannot be read ({exc.strerror})"


def _malformed(exc: configparser.Error) -> str:
    if isinstance(exc, configparser.DuplicateSectionError):
        name = shown_key(exc.section)
        return f"line {exc.lineno}: [{name}] stands there twice. Put all its keys under the first one"
    if isinstance(exc, configparser.DuplicateOptionError):
        name = shown_key(exc.section)
        return f"line {exc.lineno}: [{name}] {shown_key(exc.option)} stands there twice. Keep the line you mean"
    if isinstance(exc, configparser.MissingSectionHeaderError):
        return f"line {exc.lineno}: a value before the first section. Put a line such as [bot] above it"
    if isinstance(exc, configparser.ParsingError):
        lines = ", ".join(str(number) for number, _ in exc.errors)
        return f"line {lines}: neither [section] nor key = value. Begin comments with #"
    return "cannot be read as an ini file"
