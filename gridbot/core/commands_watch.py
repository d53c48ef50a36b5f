"""
The command ``watch``: is the bot alive? For a second line in cron, so nothing heavy is imported unless
somebody must be told.
"""

import argparse
import os
import sys
import time

from gridbot.core import heartbeat, ini_file

REMIND_AFTER = 6 * 3600.0  # seconds until a dead bot is reported to the owner's phone once more


def watch_arguments(parser: argparse.ArgumentParser) -> None:
    """--notify."""
    parser.add_argument(
        "--notify",
        action="store_true",
        help="also tell the configured channels: once when the bot is found dead, every six hours while it stays "
        "so, and once when it is back",
    )


def watch(args: argparse.Namespace) -> int:
    """Is the bot alive? 0 when it is; 1 when it is dead or stuck, with what to do. Reads config.ini only in part."""
    database = ini_file.database_path(args.config, ini_file.read_ini(args.config))
    life = heartbeat.look(database)
    text = life.text
    if not life.is_alive and (waiting := _waiting(args.config)):
        text = f"{text}\n{waiting}"
    _say(text)
    if args.notify:
        _notify_once(args.config, database, life.is_alive, text)
    return 0 if life.is_alive else 1


def _waiting(config_path: str) -> str:
    from gridbot.core.restart_guard import waiting

    found = waiting(config_path)
    return found[1] if found else ""


def _notify_once(config_path: str, database: str, is_alive: bool, text: str) -> None:
    """What was told is remembered in memory: after a reboot it is told again."""
    told = heartbeat.beside_the_heartbeat(database, ".told")
    told_at = os.stat(told).st_mtime if told and os.path.exists(told) else None
    if is_alive and told_at is None:
        return
    if not is_alive and told_at is not None and 0 <= time.time() - told_at < REMIND_AFTER:
        return
    if not _send(config_path, text) or told is None:
        return
    if is_alive:
        os.unlink(told)
    else:
        os.close(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        os.utime(told)


def _send(config_path: str, text: str) -> bool:
    """To every channel; True when one of them took it."""
    from pathlib import Path

    from gridbot.core.config_file import load_settings
    from gridbot.core.registry import resolve
    from gridbot.exceptions import GridBotError

    settings = load_settings(Path(config_path))
    notification = settings.notification
    names = [*(["telegram"] if notification.telegram else []), *notification.channels]
    if not names:
        _say("no channel is configured, so nobody was told; see [telegram] in config.ini")
    taken = []
    for name in dict.fromkeys(names):
        try:
            channel = resolve("channel", name, settings.config_path.parent).from_settings(notification)
            taken.append(bool(channel.send(f"{settings.bot.name}: {text}")))
        except GridBotError as exc:
            _say(f"{name}: {exc.message}")
    return any(taken)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
