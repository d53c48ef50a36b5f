"""
Reads the options of a command and writes its result. Numbers are read by the functions that read config.ini, so
that a typing error is refused with an explanation before anything calculates with it. A file is checked before it
is replaced.
"""

import argparse
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from gridbot.exceptions import ConfigurationError
from gridbot.models import configuration
from gridbot.models.configuration import Settings
from gridbot.models.money import ONE
from gridbot.services.tables import as_json


def _checked(read: Callable[[Any], Any], example: str) -> Callable[[str], Any]:
    """``read`` for argparse, which shows the text of an ArgumentTypeError, but not that of a ValueError."""

    def argument(text: str) -> Any:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"{text}: {exc}; for example {example}") from None

    return argument


price = _checked(configuration.read_positive, "50123.4")
amount = _checked(configuration.read_not_negative, "100.50")


def check_target(option: str, file: Path, suffixes: tuple[str, ...], settings: Settings) -> None:
    """
    Check that a result may be written to ``file``: it is not config.ini, the database or the log file, even if these
    do not exist yet; and if it exists, its name ends with one of ``suffixes``. Raises ConfigurationError.
    """
    own = [path for path in (settings.config_path, settings.db.path, settings.logging.file) if path is not None]
    there = [path for path in own if path.exists() and file.exists()]
    if any(file.resolve() == path.resolve() for path in own) or any(file.samefile(path) for path in there):
        raise ConfigurationError(f"{option} {file}: is the bot's own file, and is not replaced. Name another file")
    if file.is_file() and file.suffix.lower() not in suffixes:
        raise ConfigurationError(
            f"{option} {file}: exists, and only a file that ends with {' or '.join(suffixes)} is replaced. Name another"
        )
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigurationError(f"{option} {file}: cannot be written. Name a file in a folder you may write to")


def write(result: str | dict[str, Any], file: Path | None = None) -> int:
    """
    Write a text, or a document as JSON, to ``file`` or stdout; return exit code 0. Raises ConfigurationError if the
    file cannot be written.
    """
    text = as_json(result) if isinstance(result, dict) else result.removesuffix("\n")
    if file is not None:
        try:
            file.write_text(f"{text}\n", encoding="utf-8")
        except OSError as exc:
            raise ConfigurationError(
                f"--file {file}: cannot be written ({exc.strerror}). Name a file in a folder you may write to"
            ) from exc
        text = f"written to {file}"
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return 0


class Progress:
    """A progress bar, if stderr is a terminal."""

    def __init__(self) -> None:
        self._shown = -1
        self._visible = sys.stderr.isatty()

    def __call__(self, done: float) -> None:
        """Show how much is ``done``, from 0 to 1."""
        percentage = int(done * 100)
        if self._visible and percentage != self._shown:
            self._shown = percentage
            sys.stderr.write(f"\r{'#' * (percentage // 2):<50} {percentage:3} %" + ("\n" if percentage == 100 else ""))
            sys.stderr.flush()


def whole(least: int, most: int) -> Callable[[str], Any]:
    """A reader of whole numbers from ``least`` to ``most``, both included."""
    return _checked(configuration.read_within(least, most), str(least))


def _tiers(text: str) -> tuple[tuple[Decimal, Decimal | None], ...]:
    parts = [part.partition(":") for part in text.split(",")]
    if not all(fee.strip() for _, _, fee in parts):
        raise ValueError("write VOLUME:FEE,...")
    tiers = sorted((configuration.read_not_negative(volume), configuration.read_fee(fee)) for volume, _, fee in parts)
    if tiers[0][0] != 0:
        raise ValueError("the first tier begins at volume 0")
    if len({volume for volume, _ in tiers}) < len(tiers):
        raise ValueError("a volume stands there twice")
    return tuple(tiers)


def texts(read: Callable[[Any], Any], example: str) -> Callable[[str], Any]:
    """Values with commas between, as they are written; ``read`` raises ValueError for one that can never be right."""

    def parts(text: str) -> tuple[str, ...]:
        if not (found := tuple(part.strip() for part in text.split(",") if part.strip())):
            raise ValueError("names nothing to try")
        for part in found:
            read(part)
        return found

    return _checked(parts, example)


def _share(text: str) -> Decimal:
    if not 0 < (share := configuration.read_fraction(text, ONE, ONE)) < 1:
        raise ValueError("must be more than 0 and less than 100%")
    return share


share = _checked(_share, "30%")
fee_tiers = _checked(_tiers, "0:0.40%,10000:0.35%")
