"""The rooms of the house, held by reading imports: who may know whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "gridbot").rglob("*.py"))

# The longest prefix of a module's name decides; a room may always import itself, unless it is one file.
MAY_IMPORT: dict[str, set[str]] = {
    "exceptions": set(),
    "models": {"exceptions"},
    "interfaces": {"models", "exceptions"},
    "strategies.grid_rules": {"models", "exceptions"},
    "strategies": {"models", "interfaces", "exceptions", "services.order_desk"},
    "infrastructure": {"models", "exceptions"},
    "services": {"infrastructure", "interfaces", "models", "exceptions"},
    "adapters": {"interfaces", "models", "exceptions"},
    "core.state_machine": {"models", "exceptions"},
    "core.event_bus": {"models", "exceptions"},
    "core": {"models", "interfaces", "exceptions", "strategies", "services", "infrastructure", "adapters"},
}

IO = {
    "requests",
    "urllib3",
    "websocket",
    "socket",
    "http",
    "sqlite3",
    "sqlite_utils",
    "subprocess",
    "threading",
}
MAY_NEVER_IMPORT: dict[str, set[str]] = {
    "": {"asyncio", "aiohttp", "websockets", "trio", "anyio"},
    "exceptions": IO | {"logging", "time", "datetime", "os", "pydantic"},
    "models": IO | {"logging", "time", "os"},
    "interfaces": IO | {"logging", "time", "os"},
    "strategies.grid_rules": IO | {"logging", "time", "datetime", "os", "random"},
    "strategies": IO | {"time"},
}


def module_name(path: Path) -> str:
    """``strategies.grid_rules`` for gridbot/strategies/grid_rules.py."""
    parts = path.relative_to(ROOT / "gridbot").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str) -> set[str]:
    """Full names of everything a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inside(name: str, room: str) -> bool:
    return room == "" or name == room or name.startswith(f"{room}.")


def room_of(module: str) -> str:
    return max((room for room in MAY_IMPORT if inside(module, room)), key=len)


def offences(module: str, source: str) -> list[str]:
    """What the table does not allow; empty when everything is in its place."""
    room = room_of(module)
    found = []
    for name in sorted(imports(source)):
        if inside(name, "gridbot"):
            target = name.removeprefix("gridbot").removeprefix(".")
            if not any(inside(target, allowed) for allowed in MAY_IMPORT[room] | {room}):
                found.append(f"{module} must not import {name}")
        for prefix, never in MAY_NEVER_IMPORT.items():
            if inside(module, prefix) and name.split(".")[0] in never:
                found.append(f"{module} must never touch {name}")
    return found


@pytest.mark.parametrize("path", [p for p in FILES if module_name(p)], ids=lambda p: module_name(p))
def test_every_module_imports_only_what_its_room_may(path: Path) -> None:
    assert offences(module_name(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("models.money", "from gridbot.interfaces.clock import IClock"),
        ("models.grid", "import logging"),
        ("interfaces.exchange", "from gridbot.core.event_bus import EventBus"),
        ("strategies.grid_rules", "from gridbot.services.order_desk import OrderDesk"),
        ("strategies.swing", "from gridbot.services.book_sync import BookSync"),
        ("strategies.swing", "import time"),
        ("services.ledger", "from gridbot.adapters.notification import TelegramNotificationChannel"),
        ("adapters.exchanges.kraken", "from gridbot.core import state_machine"),
        ("infrastructure.database", "from gridbot.services import order_desk"),
        ("core.state_machine", "from gridbot.core.engine import BotEngine"),
        ("core.engine", "import asyncio"),
    ],
)
def test_the_table_notices_an_import_from_the_wrong_room(module: str, line: str) -> None:
    assert len(offences(module, line)) == 1


def test_a_strategy_may_know_the_order_desk_and_nothing_else_of_the_services() -> None:
    assert offences("strategies.grid_base", "from gridbot.services.order_desk import OrderDesk") == []


def test_the_program_is_there_to_be_read() -> None:
    assert len(FILES) > 20
