"""
The log: on stdout, and in files of limited size if the settings name one.

Every line passes one formatter that removes the secrets from the finished text: from message, arguments and
tracebacks alike.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from typing import TextIO
from urllib.parse import quote, quote_plus

from gridbot.core.outlet import Outlet
from gridbot.exceptions import not_written
from gridbot.models.configuration import LoggingConfigDTO

LOG = logging.getLogger(__name__)

HIDDEN = "***"
# Shorter texts are no real keys, and hiding them would also hide parts of ordinary words.
SHORTEST_SECRET = 4
# At most 4 MB on an SD card: the file in use and three older ones.
FILE_BYTES = 1_000_000
OLDER_FILES = 3
CHATTY_LIBRARIES = ("urllib3", "requests", "websocket")

SCREEN_FORMAT = ("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S")
FILE_FORMAT = ("%(asctime)s %(levelname)-8s %(message)s", "%Y-%m-%d %H:%M:%S")


class RedactingFormatter(logging.Formatter):
    """Formats as usual, then replaces every secret, also in its forms for URLs and JSON."""

    def __init__(self, fmt: str, datefmt: str, secrets: Iterable[str]) -> None:
        super().__init__(fmt, datefmt)
        forms = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        # The longest first: a secret that is part of another must not leave the rest of it behind.
        self._forms = sorted(forms, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """The finished line or lines, without secrets."""
        text = super().format(record)
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text


def _forms(secret: str) -> set[str]:
    escaped = json.dumps(secret)[1:-1]
    return {secret, escaped, repr(secret)[1:-1], quote(secret), quote(secret, safe=""), quote_plus(secret)}


class PatientFileHandler(RotatingFileHandler):
    """
    Goes on with a full file that cannot be renamed, as in a foreign directory: better a long log than none. A file that
    was deleted, or set aside by logrotate, is begun anew: lines written to one without a name are lost.
    """

    def shouldRollover(self, record: logging.LogRecord) -> int:
        if (stream := self.stream) and self._is_gone(stream.fileno()):
            with suppress(OSError):  # where no new one may be begun, the old one goes on
                self.stream = self._open()
                stream.close()
        return super().shouldRollover(record)

    def _is_gone(self, handle: int) -> bool:
        try:
            return not os.path.samestat(os.stat(self.baseFilename), os.fstat(handle))
        except OSError as exc:
            return isinstance(exc, FileNotFoundError)  # a disk error does not mean that the file is gone

    def doRollover(self) -> None:
        try:
            super().doRollover()
        except FileNotFoundError:
            pass  # another bot that logs to this file renamed it at the same moment; the next line opens a new one
        except OSError as exc:
            self.maxBytes = 0
            LOG.warning("%s now grows without end: it cannot be set aside (%s)", self.baseFilename, exc.strerror)


def set_up_logging(config: LoggingConfigDTO, secrets: Iterable[str], stream: TextIO | None = None) -> None:
    """
    Send the log to ``stream`` (default: stdout) and to the configured file; an earlier setup is replaced.

    Raises ConfigurationError if the file cannot be written, or GridBotError if that is no mistake in the settings.
    """
    secrets = tuple(secrets)
    screen = logging.StreamHandler(Outlet(stream or sys.stdout))
    screen.setFormatter(RedactingFormatter(*SCREEN_FORMAT, secrets))
    handlers: list[logging.Handler] = [screen]
    if config.file is not None:
        try:
            file = PatientFileHandler(config.file, maxBytes=FILE_BYTES, backupCount=OLDER_FILES, encoding="utf-8")
        except OSError as exc:
            advice = "Name a file in a directory you may write to, or leave the line out"
            raise not_written(f"[logging] file = {config.file}:", exc, advice) from exc
        file.setFormatter(RedactingFormatter(*FILE_FORMAT, secrets))
        handlers.append(file)

    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(config.level)
    for library in CHATTY_LIBRARIES:
        logging.getLogger(library).setLevel(logging.NOTSET if config.level == "DEBUG" else logging.WARNING)
    # When a line cannot be written, logging would print its raw arguments to stderr, past the formatter.
    logging.raiseExceptions = False
    threading.excepthook = _log_thread_failure


def _log_thread_failure(args: threading.ExceptHookArgs) -> None:
    """Log that a thread died. Python's own report would go to stderr, with the secrets in it."""
    name = args.thread.name if args.thread else "unknown"
    if args.exc_value is not None:
        LOG.error("the thread %s ended with an error", name, exc_info=args.exc_value)
