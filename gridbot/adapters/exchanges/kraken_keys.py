"""
May this key do what the bot needs, and no more? Asked of Kraken, never guessed; places nothing.
"""

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gridbot.adapters.exchanges import kraken_parse as parse
from gridbot.adapters.exchanges.kraken_errors import PermissionMissing, UnknownMethod
from gridbot.adapters.exchanges.kraken_rest import KrakenClient
from gridbot.exceptions import AccessDenied, ConfigurationError, ExchangeError, TemporaryFailure

LOG = logging.getLogger(__name__)

# What Kraken calls it in GetApiKeyInfo, and on the page where its owner sets the tick.
NEEDED = {
    "query-funds": "Query Funds",
    "query-open-trades": "Query open orders & trades",
    "query-closed-trades": "Query closed orders & trades",
    "modify-trades": "Create & modify orders",
    "close-trades": "Cancel & close orders",
    "create-ws-token": "WebSocket interface",
}
# A key can be made for a stretch of time alone; orders outside it are not shown, and would be placed again.
PERIOD = {"query_from": "queryFrom", "query_to": "queryTo"}
# An order that would be far too cheap to be executed, and that is only checked, never placed.
PROBE_VOLUME = Decimal(10)
PROBE_REFERENCE = "gridbot-probe"  # no order carries this client order id


def check_permissions(client: KrakenClient, altname: Callable[[], str]) -> None:
    """
    Return when the key has every right of NEEDED, shows all of the time, and may not withdraw.

    altname  name of the pair, for the probes where Kraken cannot be asked directly

    Raises AccessDenied naming the ticks to set or to take away.
    """
    try:
        info = client.ask("GetApiKeyInfo", private=True)
        granted = parse.permissions(info)
    except (UnknownMethod, PermissionMissing, *parse.UNREADABLE) as exc:
        if isinstance(exc, parse.UNREADABLE):
            LOG.warning("Kraken's description of the API key cannot be read; its rights are tried one by one")
        _judge(*_probe(client, altname()))
        return
    missing = [tick for name, tick in NEEDED.items() if name not in granted]
    period = {name: str(info.get(name, info.get(other)) or 0) for name, other in PERIOD.items()}
    LOG.debug("GetApiKeyInfo, of its answer what matters here: %s, %s", granted, period)
    hidden = [name for name, since in period.items() if since != "0"]
    _judge(missing, [name for name in granted if "withdraw" in name], hidden)


def _judge(missing: list[str], dangerous: list[str], hidden: list[str] | None = None) -> None:
    parts = []
    if hidden:
        parts.append(
            f"it shows only a part of the past ({', '.join(hidden)}). Take the limits of the query period away"
        )
    if missing:
        parts.append(f"it lacks: {', '.join(missing)}. Set these ticks")
    if dangerous:
        parts.append(f"it may withdraw money ({', '.join(dangerous)}), which no bot may. Take these ticks away")
    if parts:
        raise AccessDenied(
            f"The API key does not have the right permissions: {'; '.join(parts)} at Kraken "
            f"under Settings, API, and start again."
        )


def _probe(client: KrakenClient, altname: str) -> tuple[list[str], list[str]]:
    """Missing and dangerous rights, found by trying. Nothing is placed, cancelled or moved."""
    order = {
        "ordertype": "limit",
        "type": "buy",
        "pair": altname,
        "volume": PROBE_VOLUME,
        "price": Decimal(10),
        "validate": True,
    }
    probes: dict[str, tuple[str, dict[str, Any]]] = {
        "query-funds": ("Balance", {}),
        "query-open-trades": ("OpenOrders", {}),
        "query-closed-trades": ("ClosedOrders", {"without_count": True}),
        "modify-trades": ("AddOrder", order),
        "close-trades": ("CancelOrder", {"cl_ord_id": PROBE_REFERENCE}),
        "create-ws-token": ("GetWebSocketsToken", {}),
    }
    missing = [NEEDED[name] for name, (method, params) in probes.items() if not _allowed(client, method, params)]
    withdraw = _allowed(client, "WithdrawMethods", {})
    return missing, ["Withdraw Funds"] if withdraw else []


def _allowed(client: KrakenClient, method: str, params: dict[str, Any]) -> bool:
    try:
        client.ask(method, params, private=True)
    except PermissionMissing:
        return False
    except (TemporaryFailure, AccessDenied):
        raise
    except (ExchangeError, ConfigurationError):
        return True  # Kraken looked at the request itself, so the key may make it
    return True
