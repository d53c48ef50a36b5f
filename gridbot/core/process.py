"""
The process around the engine: builds the bot from the settings, handles signals, and leaves notes for ``watch``
and for the next start.
"""

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from gridbot.core.clock import SystemClock
from gridbot.core.endings import MUST_BE_MENDED, STOPPED_BY_ERROR, STOPPED_BY_REQUEST, when_asked_to_stop, whose_mistake
from gridbot.core.engine import BotEngine
from gridbot.core.heartbeat import GOOD_FOR, Heartbeat
from gridbot.core.registry import exchange_name, exchange_of
from gridbot.core.restart_guard import RestartGuard
from gridbot.core.state_machine import States
from gridbot.exceptions import AccessDenied, ConfigurationError, GridBotError
from gridbot.infrastructure.database import open_or_rebuild
from gridbot.interfaces.clock import IClock
from gridbot.models import events
from gridbot.models.configuration import Settings

LOG = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def build(settings: Settings, clock: IClock, record: Path | None = None) -> BotEngine:
    """
    The bot these settings describe, on its exchange. Raises GridBotError.

    record  write a journal of the session there, for ``replay``
    """
    bot = settings.bot
    db, problem = open_or_rebuild(settings.db.path, clock.time())
    exchange = exchange_of(settings, clock, exchange_name(bot))
    if bot.dry_run and not exchange.simulated:
        raise ConfigurationError(
            f"[bot] exchange = {bot.exchange}: this exchange places real orders, and dry_run = yes forbids them.\n"
            "  Set dry_run = no to trade real money there, or choose Demo, or Kraken with dry_run = yes."
        )
    if record is None:
        engine = BotEngine(settings, clock, exchange, db)
    else:
        from gridbot.core.journal import record_session  # only now: a Pi need not load it

        engine = record_session(record, settings, clock, exchange, db)
    if problem:
        engine.event_bus.publish(events.Trouble(problem))
    return engine


def run_bot(settings: Settings, record: Path | None = None) -> int:
    """The command ``run``: trade until SIGINT, SIGTERM or SIGHUP; returns the exit code."""
    stopping = threading.Event()
    wake: list[Callable[[], None]] = []

    def ask_to_stop(signum: int, _frame: FrameType | None) -> None:
        for each in STOP_SIGNALS:  # one signal is enough; a second handler inside this one could block for ever
            signal.signal(each, signal.SIG_IGN)
        LOG.info("%s: stopping after the message in hand", signal.Signals(signum).name)
        stopping.set()
        for wake_up in wake:
            wake_up()

    when_asked_to_stop(ask_to_stop)
    heartbeat = Heartbeat(settings.db.path, userref=settings.bot.userref)
    guard = RestartGuard(str(settings.config_path), str(settings.db.path))
    code, why = STOPPED_BY_ERROR, ""

    def alive(wait: float = 0.0) -> None:
        state = engine.state_machine.state
        heartbeat.beat(state.name, wait + GOOD_FOR)
        guard.alive(state is States.RUNNING)

    def stopped(event: events.BotStopped) -> None:
        nonlocal why
        why = event.reason

    guard.begun()
    heartbeat.beat("starting")
    try:
        clock = SystemClock(stopping)
        engine = build(settings, clock, record)
        wake.append(engine.wake_up)
        engine.alive = clock.before_wait = alive
        engine.event_bus.subscribe(events.BotStopped, stopped)
        code = engine.run()
    except BaseException as exc:
        code = MUST_BE_MENDED if isinstance(exc, ConfigurationError | AccessDenied) else STOPPED_BY_ERROR
        why = exc.message if isinstance(exc, GridBotError) else why or whose_mistake(exc)
        raise
    finally:
        guard.ended(code, why)
        heartbeat.end(why, on_request=code == STOPPED_BY_REQUEST)
    return code
