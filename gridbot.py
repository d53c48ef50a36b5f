"""Starts gridbot: ``python gridbot.py --help``."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python is what many machines call python3
    raise SystemExit(f"gridbot needs Python 3.11 or newer; this is {sys.version.split()[0]}")

from gridbot.core.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
