"""Checks that the API key may do what the bot needs, and no more. Kraken is asked; nothing is placed."""

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gridbot.adapters.exchanges import kraken_parse as parse
from gridbot.adapters.exchanges.kraken_errors import PermissionMissing, UnknownMethod
from gridbot.adapters.exchanges.kraken_rest import KrakenClient
from gridbot.exceptions import AccessDenied, ConfigurationError, ExchangeError, TemporaryFailure

LOG = logging.getLogger(__name__)

# An order that Kraken only checks (``validate``) and never places; at this price it would not fill anyway.
ORDER = {"ordertype": "limit", "type": "buy", "volume": Decimal(10), "price": Decimal(10), "validate": True}
NOBODYS = {"cl_ord_id": "gridbot-probe"}  # no order carries this client order id
# Name of a right in GetApiKeyInfo: its tick on Kraken's page for API keys, and a call that needs it.
NEEDED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "query-funds": ("Query Funds", "Balance", {}),
    "query-open-trades": ("Query open orders & trades", "OpenOrders", {}),
    "query-closed-trades": ("Query closed orders & trades", "ClosedOrders", {"without_count": True}),
    "modify-trades": ("Create & modify orders", "AddOrder", ORDER),
    "close-trades": ("Cancel & close orders", "CancelOrder", NOBODYS),
    "create-ws-token": ("WebSocket interface", "GetWebSocketsToken", {}),
}
# A key can be limited to a period; orders outside it are not shown, and the bot would place them again.
PERIOD = {"query_from": "queryFrom", "query_to": "queryTo"}


def check_permissions(client: KrakenClient, altname: Callable[[], str]) -> None:
    """
    Return if the key has every right of NEEDED, is limited to no query period, and may not withdraw.

    altname  returns the name of the pair, for the probes used where Kraken does not describe the key

    Raises AccessDenied naming the ticks to set or to take away.
    """
    hidden: list[str] = []
    try:
        info = client.ask("GetApiKeyInfo", private=True)
        granted = parse.permissions(info)
    except (UnknownMethod, PermissionMissing, *parse.UNREADABLE) as exc:
        LOG.info("Kraken does not describe the API key (%s); its rights are tried one by one", type(exc).__name__)
        missing, dangerous = _probe(client, altname())
    else:
        missing = [tick for name, (tick, *_) in NEEDED.items() if name not in granted]
        dangerous = [name for name in granted if "withdraw" in name]
        period = {name: str(info.get(name, info.get(other)) or 0) for name, other in PERIOD.items()}
        LOG.debug("GetApiKeyInfo, of its answer what matters here: %s, %s", granted, period)
        hidden = [name for name, since in period.items() if since != "0"]
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
    """Missing and dangerous rights, found by trying calls. Nothing is placed, cancelled or moved."""
    missing = []
    for tick, method, params in NEEDED.values():
        pair = {"pair": altname} if params is ORDER else {}
        if not _allowed(client, method, params | pair):
            missing.append(tick)
    return missing, ["Withdraw Funds"] if _allowed(client, "WithdrawMethods", {}) else []


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
