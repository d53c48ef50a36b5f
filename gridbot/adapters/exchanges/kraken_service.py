"""
Kraken behind our interface: questions and orders of one pair. kraken_rest sends the requests, kraken_errors knows what
errors mean, kraken_parse reads the payloads.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from requests.adapters import BaseAdapter

from gridbot.adapters.exchanges import kraken_parse as parse
from gridbot.adapters.exchanges.kraken_errors import CancelUnderWay, PermissionMissing, UnknownMethod, UnlistedRefusal
from gridbot.adapters.exchanges.kraken_keys import check_permissions
from gridbot.adapters.exchanges.kraken_limits import COMPARISON_COST, REST_COSTS
from gridbot.adapters.exchanges.kraken_pair import KrakenPair, find_pair
from gridbot.adapters.exchanges.kraken_rest import TOKEN, KrakenClient
from gridbot.adapters.exchanges.kraken_wire import REST_URL
from gridbot.exceptions import (
    AccessDenied,
    BotStateError,
    ConfigurationError,
    ExchangeError,
    OrderFateUnknown,
    PlacementPaused,
    TemporaryFailure,
    UnknownOrderError,
)
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.models.exchange import (
    AssetBalanceSchema,
    AssetPairInfoSchema,
    CreateOrderResponseSchema,
    ExchangeDomain,
    OrderInfoSchema,
    PairBalanceSchema,
    TradeInfoSchema,
)
from gridbot.models.money import to_decimal

LOG = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 50  # rows of ClosedOrders
# By default Kraken reports one row for what a taker got from several makers; the feed reports them one by one.
EVERY_FILL = {"consolidate_taker": False}
ORDERS_PER_QUERY, TRADES_PER_QUERY = 50, 20
# If Kraken refuses a whole list because of one unknown id, the list is halved, in at most so many extra calls.
MAX_QUERIES = 30
START_MARGIN = 60.0  # seconds: the bot's estimate of Kraken's time may be a little ahead
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
CANCEL_PAUSE = 0.3
CLOCK_PAUSE = 10.0  # seconds until an order is tried again whose deadline was an impossible time


class KrakenRESTService(IExchangeRESTService):
    """
    One pair of one Kraken account. With empty keys only the public questions work.

    Only the engine changes the state of the bot, so the ``state_machine`` of the documented constructor is gone: errors
    are raised instead.

    nonce_path  file for the nonce of this key; None: not remembered across restarts
    transport   what carries the requests in place of the network; for tests

    Raises ConfigurationError for an address or a secret that cannot be right. Connects to nothing.
    """

    def __init__(
        self,
        api_public_key: str,
        api_secret_key: str,
        base_currency: str,
        quote_currency: str,
        *,
        clock: IClock,
        rest_url: str = REST_URL,
        nonce_path: Path | None = None,
        transport: BaseAdapter | None = None,
    ) -> None:
        self._clock = clock
        self._base = base_currency
        self._quote = quote_currency
        self.client = KrakenClient(
            api_public_key, api_secret_key, clock=clock, rest_url=rest_url, nonce_path=nonce_path, transport=transport
        )
        self.limits = self.client.limits
        self._time_offset = clock.time() - clock.monotonic()  # Kraken's time, once it was asked, minus our steady clock
        self._left_out: set[str] = set()  # unreadable foreign orders that were already warned about

    @property
    def comparison_wait(self) -> float:
        return self.limits.rest.seconds_until(COMPARISON_COST)

    @property
    def left_suddenly(self) -> bool:
        """See the interface. Known once a nonce was used: a proper end gives the reserved nonces back."""
        return self.client.nonce.left_reserved

    def check_exchange_status(self, tries: int = 0) -> None:
        """See the interface. The pauses between the tries grow from 0.5 to 30 s."""
        for attempt in range(tries + 1):
            try:
                if (status := self.get_system_status()) == "online":
                    return
                problem = f"Kraken is not open for trading: its status is {status!r}"
            except TemporaryFailure as exc:
                problem = exc.message
            if attempt < tries and self._clock.wait(min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE)):
                break
        raise TemporaryFailure(problem, LONGEST_PAUSE)

    def get_system_status(self) -> str:
        """One of online, maintenance, cancel_only, post_only, or a word that Kraken adds later."""
        return self._asked("SystemStatus", lambda result: str(result["status"]), private=False)

    def check_api_key_permissions(self) -> None:
        check_permissions(self.client, lambda: self.rest_altname)

    def get_server_time(self) -> float:
        """Unix seconds on Kraken's clock, to the whole second."""
        server = self._asked("Time", parse.server_time, private=False)
        self._time_offset = server - self._clock.monotonic()
        return server

    def get_websocket_token(self) -> str:
        """A secret for the private feed, good for 15 minutes. Called on the feed's thread."""
        result = self.client.ask_once(TOKEN, private=True)
        with _readable(TOKEN):
            return str(result["token"])

    @cached_property
    def _pair(self) -> KrakenPair:
        return find_pair(self.client, self._base, self._quote)

    def get_asset_pair_info(self) -> AssetPairInfoSchema:
        """
        As Kraken lists the pair now; logs a warning if it does not take the orders of a grid. Raises ConfigurationError
        for a pair that is no longer traded.
        """
        self.__dict__["_pair"] = find_pair(self.client, self._base, self._quote)
        info = self._pair.info
        if info.status in ("delisted", "disabled"):
            raise ConfigurationError(
                f"[bot] base_currency, quote_currency: Kraken lists {self.rest_symbol} as {info.status!r}, traded "
                "no more. Choose another pair"
            )
        if not info.takes_orders:
            LOG.warning("Kraken lists %s as %r: not every order will be taken", self.rest_symbol, info.status)
        return info

    def get_maker_fee(self) -> Decimal | None:
        """From TradeVolume, which needs the tick Query Funds; None without it, or if the answer holds no fee."""
        try:
            result = self.client.ask("TradeVolume", {"pair": self.rest_altname}, private=True)
            if not isinstance(result, dict):
                raise TemporaryFailure("Kraken's answer to TradeVolume cannot be read")
            return parse.maker_fee(result)
        except (PermissionMissing, UnknownMethod):
            return None
        except (TemporaryFailure, AccessDenied):
            raise
        except parse.Contradiction as exc:
            raise TemporaryFailure(f"Kraken's answer to TradeVolume cannot be true: {exc}") from exc
        except (*parse.UNREADABLE, ExchangeError, ConfigurationError) as exc:
            LOG.warning("Kraken did not report the fee for %s (%s)", self.rest_symbol, type(exc).__name__)
            return None

    def get_last_price(self) -> Decimal:
        params = {"pair": self.rest_altname, "asset_class": self._pair.asset_class}
        return self._asked("Ticker", parse.last_price, params, private=False)

    @property
    def rest_symbol(self) -> str:
        return f"{self._base}/{self._quote}"

    @property
    def rest_altname(self) -> str:
        return self._pair.altname

    @property
    def ws_symbol(self) -> str:
        return self._pair.ws_symbol

    def truncate(self, amount: Decimal | str, amount_type: str) -> str:
        return self._pair.info.truncate(amount, amount_type)

    def get_account_balance(self) -> dict[str, Decimal]:
        return self._asked("Balance", lambda result: {asset: to_decimal(held) for asset, held in result.items()})

    def get_balances(self) -> list[AssetBalanceSchema]:
        return self._asked("BalanceEx", parse.balances)

    def get_pair_balance(self) -> PairBalanceSchema:
        """See the interface. Only a hint: Kraken's answer to an order decides."""
        pair = self._pair
        return parse.pair_balance(self.get_balances(), pair.base_wallets, pair.quote_wallets)

    def create_order(
        self,
        *,
        ordertype: str,
        side: str,
        volume: Decimal,
        price: Decimal,
        userref: int,
        validate: bool = False,
        oflags: str | None = None,
        deadline: float | None = None,
    ) -> CreateOrderResponseSchema:
        """See the interface; ``deadline`` is cut to the whole second."""
        try:
            until = None if deadline is None else parse.rfc3339(deadline)
        except (ValueError, OverflowError, OSError) as exc:
            problem = f"Its deadline ({deadline}) is not a valid time; the order was not sent"
            raise PlacementPaused(problem, CLOCK_PAUSE) from exc
        params: dict[str, Any] = {
            "ordertype": ordertype,
            "type": side,
            "pair": self.rest_altname,
            "volume": volume,
            "price": price,
            "userref": userref,
            "oflags": oflags,
            "timeinforce": "GTC",
            "deadline": until,
            "asset_class": self._pair.asset_class,
            "validate": validate or None,  # left out unless it is wanted
        }
        result = self.client.send_once("AddOrder", params)
        if validate:
            return CreateOrderResponseSchema(txid="validated")
        try:
            txid = parse.accepted_txid(result)
        except parse.UNREADABLE as exc:
            raise OrderFateUnknown("Kraken raised no error for the order, but named no id either") from exc
        self.limits.order_seen(txid, 0.0)
        return CreateOrderResponseSchema(txid=txid)

    def cancel_order(self, txid: str) -> None:
        """See the interface. Asked twice at most; a second request does no harm."""
        limits = self.limits
        cost = limits.cost_of_cancelling(txid)
        if wait := limits.engine.seconds_until(cost):
            raise TemporaryFailure(f"Too many cancellations in a short time; {txid} waits", wait)
        limits.engine.take(cost)
        try:
            result = self._cancel_once_or_twice(txid)
        except CancelUnderWay:
            return
        limits.order_gone(txid)
        with _readable("CancelOrder"):
            if int(result["count"]) == 0:
                raise UnknownOrderError(f"Kraken cancelled nothing: it has no open order {txid}")

    def _cancel_once_or_twice(self, txid: str) -> Any:
        try:
            return self.client.ask_once("CancelOrder", {"txid": txid}, private=True)
        except TemporaryFailure as exc:
            if isinstance(exc, CancelUnderWay) or exc.retry_after > 1 or self._clock.wait(CANCEL_PAUSE):
                raise
            return self.client.ask_once("CancelOrder", {"txid": txid}, private=True)

    def get_open_orders(self, userref: int, trades: bool | None = None) -> list[OrderInfoSchema]:
        result = self.client.ask("OpenOrders", {"userref": userref, "trades": trades}, private=True)
        with _readable("OpenOrders"):
            orders = self._orders("OpenOrders", result["open"], userref)
            if over := next((order for order in orders if order.status in parse.OVER), None):
                raise parse.Contradiction(f"the open order {over.txid} has the status {over.status}")
        now = self._clock.monotonic() + self._time_offset
        for order in orders:
            self.limits.order_seen(order.txid, max(0.0, now - order.opened_at))
        return orders

    def get_closed_orders(
        self, userref: int, trades: bool = False, start: float | None = None
    ) -> list[OrderInfoSchema]:
        """
        See the interface. Pages shift while orders close, so rows are identified by their txid. Each page costs four
        points of the request counter, and a long history waits for it.
        """
        params: dict[str, Any] = {"userref": userref, "trades": trades, "closetime": "both", **EVERY_FILL}
        if start is not None:
            params["start"] = max(0, int(start - START_MARGIN))
        found: dict[str, OrderInfoSchema] = {}
        seen: set[str] = set()
        offset = 0
        while True:
            result = self.client.ask("ClosedOrders", {**params, "ofs": offset}, private=True)
            with _readable("ClosedOrders"):
                rows = result["closed"]
                found.update({order.txid: order for order in self._orders("ClosedOrders", rows, userref)})
                total = int(result.get("count") or 0)
                is_news = not seen.issuperset(rows)
                seen.update(rows)
            wait = self.limits.rest.seconds_until((total - 1) // PAGE * REST_COSTS["ClosedOrders"])
            if not offset and wait > LONGEST_PAUSE:
                LOG.info("asking Kraken for %d closed orders, about %.0f min at the pace it allows", total, wait / 60)
            offset += len(rows)
            if not is_news or (offset >= total if total else len(rows) < PAGE):
                return list(found.values())

    def get_orders_info(self, txids: list[str]) -> dict[str, OrderInfoSchema]:
        """See the interface; fifty ids per call, with the ids of executions."""
        rows = self._query("QueryOrders", {"trades": True, **EVERY_FILL}, txids, ORDERS_PER_QUERY)
        return {order.txid: order for order in self._orders("QueryOrders", rows)}

    def _orders(self, method: str, rows: dict[str, Any], userref: int | None = None) -> list[OrderInfoSchema]:
        """
        The orders with this userref (None: all). Kraken filters already, but an ignored filter must do no harm. Raises
        TemporaryFailure for an order that cannot be read, unless the bot never places such orders: to leave out a limit
        order of our pair could lose a fill.
        """
        found = []
        for txid, row in rows.items():
            with _readable(f"{method} about the order {txid}"):
                try:
                    if userref is None or parse.userref_of(row) == userref:
                        found.append(parse.order_info(txid, row))
                except parse.UNREADABLE:
                    if not self._leave_out(txid, row["descr"]):
                        raise
        return found

    def _leave_out(self, txid: str, described: dict[str, Any]) -> bool:
        """True if an unreadable order is of a type or a pair that the bot never places; warns once per order."""
        kind, pair = described["ordertype"], described["pair"]
        if not kind or not pair or (kind == "limit" and pair.replace("/", "") == self.rest_altname):
            return False
        if txid not in self._left_out:
            self._left_out.add(txid)
            LOG.warning(
                "order %s (%s, %s) cannot be read and is left out: the bot places limit orders of %s only. Orders by "
                "hand should not carry its userref",
                *(txid, pair, kind, self.rest_altname),
            )
        return True

    def get_trades_info(self, exec_ids: list[str]) -> dict[str, TradeInfoSchema]:
        """See the interface; twenty ids per call."""
        rows = self._query("QueryTrades", {}, exec_ids, TRADES_PER_QUERY)
        found = {}
        for exec_id, row in rows.items():
            with _readable(f"QueryTrades about the execution {exec_id}"):
                found[exec_id] = parse.trade_info(exec_id, row)
        return found

    def _asked(
        self, method: str, read: Callable[[Any], T], params: dict[str, Any] | None = None, *, private: bool = True
    ) -> T:
        """What ``read`` makes of Kraken's answer. Raises TemporaryFailure for one that it cannot read."""
        result = self.client.ask(method, params, private=private)
        with _readable(method):
            return read(result)

    def _query(self, method: str, params: dict[str, Any], ids: list[str], at_once: int) -> dict[str, Any]:
        """
        The rows Kraken has for ``ids``. An unknown id may be left out, or may fail the whole call (both are reported):
        then the list is halved until the unknown ids stand alone, in a limited number of calls.
        """
        wanted = list(dict.fromkeys(ids))
        batches = [wanted[i : i + at_once] for i in range(0, len(wanted), at_once)]
        calls_left = len(batches) + MAX_QUERIES
        rows: dict[str, Any] = {}
        while batches and calls_left:
            calls_left -= 1
            batch = batches.pop(0)
            try:
                result = self.client.ask(method, {**params, "txid": ",".join(batch)}, private=True)
            except (UnknownOrderError, UnlistedRefusal):  # how Kraken refuses an unknown trade is not documented
                half = len(batch) // 2
                batches += [part for part in (batch[:half], batch[half:]) if half and part]
                continue
            with _readable(method):
                rows.update({txid: row for txid, row in result.items() if txid in wanted})
        if batches:
            LOG.warning("Kraken knows too few of %d ids; some were not asked for one by one", len(wanted))
        return rows

    def get_order_with_retry(
        self, txid: str, tries: int = 0, max_tries: int = 5, exit_on_fail: bool = True
    ) -> OrderInfoSchema:
        """See the interface. The pauses grow from 0.5 s."""
        for attempt in range(tries, max_tries):
            if order := self.get_orders_info([txid]).get(txid):
                return order
            if attempt + 1 < max_tries and self._clock.wait(FIRST_PAUSE * 2.0 ** (attempt - tries)):
                break
        message = f"Kraken does not know the order {txid}, asked {max(max_tries - tries, 0)} times"
        raise (BotStateError if exit_on_fail else UnknownOrderError)(message)

    def get_exchange_domain(self) -> ExchangeDomain:
        return ExchangeDomain(EXCHANGE="Kraken")

    def close(self) -> None:
        """Close the connection and bring the file of the nonce up to date."""
        self.client.close()


@contextmanager
def _readable(method: str) -> Iterator[None]:
    try:
        yield
    except parse.UNREADABLE as exc:
        if isinstance(exc, parse.Contradiction):
            raise TemporaryFailure(f"Kraken's answer to {method} contradicts itself: {exc}") from exc
        raise TemporaryFailure(f"Kraken's answer to {method} cannot be read: {type(exc).__name__}") from exc
