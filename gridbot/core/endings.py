"""How the process ends: exit codes, whose mistake an error is, and the signals that ask for an end. Imported first."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # in place of typing.TYPE_CHECKING: importing typing takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STOPPED_BY_REQUEST = 0  # or already running
STOPPED_BY_ERROR = 1  # a restart may help
MUST_BE_MENDED = 2  # configuration or credentials: a restart will not help
INTERRUPTED = 130  # what shells report for a program that was ended by Ctrl-C


def when_asked_to_stop(handler: Callable[[int, Any], None]) -> None:
    """Have ``handler`` called on Ctrl-C, SIGTERM and SIGHUP (the session ends); under nohup not on SIGHUP."""
    import signal

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)


def whose_mistake(exc: BaseException) -> str:
    """A sentence that says whose code is wrong: gridbot's, or the owner's own exchange, strategy or channel."""
    name = type(exc).__name__
    if place := own_code(exc):
        return f"a mistake in {place} ({name}), not in gridbot; mend it there"
    return f"a mistake in gridbot itself ({name}), not in your settings; please report it"


def own_code(exc: BaseException) -> str:
    """File and line of the owner's own code that raised ``exc``, libraries skipped; "" if gridbot raised it."""
    from traceback import walk_tb

    ours, python = (os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), os.__file__))
    for frame, line in reversed(list(walk_tb(exc.__traceback__))):
        file = frame.f_code.co_filename
        if file.startswith(ours):
            break
        if not (file.startswith(("<", python)) or f"-packages{os.sep}" in file):
            return f"{file}, line {line}"
    return ""
