"""
The files of a test are made in memory where the machine has such a place: thousands of commits need not reach a disk,
and a memory card need not wear out. Those of a test that failed stay there to be looked at.
"""

import os
import shutil
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ENOUGH = 200_000_000  # bytes; some containers have less


def pytest_configure(config: pytest.Config) -> None:
    """``--basetemp``, and the variable itself, choose another place."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
