"""
Kraken's payloads as our models. Pure: no network, no clock, no logging.

Each docstring shows the payload it reads. Numbers become Decimal from text or from JSON numbers that were decoded as
Decimal; a float is refused. A payload that cannot be read raises one of ``UNREADABLE``.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from gridbot.models.exchange import (
    BUY,
    SELL,
    AssetBalanceSchema,
    AssetPairInfoSchema,
    ExecutionsUpdateSchema,
    OrderInfoSchema,
    PairBalanceSchema,
    TakerTradeSchema,
    TickerUpdateSchema,
    TradeInfoSchema,
)
from gridbot.models.money import ZERO, decimals_of, from_json, is_cost_of, step_of, to_decimal

# What reading a payload of another shape than expected can raise (pydantic's errors are ValueErrors).
UNREADABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError, RecursionError)

Row = Mapping[str, Any]


class Contradiction(ValueError):
    """A payload that can be read but cannot be true; the text names the fields."""


# Fields of a pair, and amounts of an execution, that have the same names here as at Kraken.
AS_THEY_ARE = ("base", "quote", "lot_decimals", "pair_decimals")
USUAL_COST_DECIMALS = 5
AMOUNTS = ("limit_price", "order_qty", "last_qty", "last_price", "cost", "cum_qty", "cum_cost")


# No amount of money has a larger or smaller power of ten; a wrong exponent ("1E999999") must not be calculated with.
LARGEST_EXPONENT, SMALLEST_EXPONENT = 30, -18
LATEST = 4_102_444_800.0  # the year 2100: Kraken reports no later time
LARGEST_TICK = 10_000  # in steps of the last decimal; at Kraken it is one such step
LOWEST_FEE, HIGHEST_FEE = Decimal("-0.01"), Decimal("0.1")
PER_CENT = Decimal("0.01")
OVER = ("closed", "canceled", "expired")  # states of an order


def number(value: Any) -> Decimal:
    """A Decimal of ordinary size from text or a JSON number. Raises ValueError, for a float too."""
    found = to_decimal(value)
    if found and not SMALLEST_EXPONENT <= found.adjusted() <= LARGEST_EXPONENT:
        raise ValueError("a number of impossible size")
    return found


def id_of(value: Any) -> str:
    """
    An id of Kraken's, whose form is not documented; no commas, which separate the ids of a request. Raises ValueError
    or TypeError.
    """
    if not re.fullmatch("[!-+.-~-]{1,64}", value):
        raise ValueError("not an id")
    return str(value)


def moment(value: Any) -> float:
    """Unix seconds; 0.0 for none, and for an impossible time."""
    seconds = float(number(value or 0))
    return seconds if 0 < seconds <= LATEST else 0.0


def server_time(result: Row) -> float:
    """``{"unixtime":1790000000,"rfc1123":"Mon, 21 Sep 26 14:13:20 +0000"}``"""
    if not (seconds := moment(result["unixtime"])):
        raise Contradiction(f"unixtime {result['unixtime']} is no time of this century")
    return seconds


class Envelope(NamedTuple):
    """A REST reply: ``errors`` begin with E, ``warnings`` with W and may stand beside a result."""

    errors: list[str]
    warnings: list[str]
    result: Any


def read_envelope(body: bytes) -> Envelope:
    """
    ``{"error":["WDatabase:No change"],"result":{"status":"online"}}``

    Raises ValueError, in plain words, for a body that is empty, HTML, cut off, or not Kraken's.
    """
    start = body.lstrip()[:1]
    if not start:
        raise ValueError("an empty page")
    if start == b"<":
        raise ValueError("a web page in place of an answer")
    try:
        reply = from_json(body.decode())
    except (ValueError, RecursionError):
        raise ValueError("an answer that is damaged or cut off") from None
    errors = reply.get("error") if isinstance(reply, dict) else None
    if not isinstance(errors, list) or not all(isinstance(e, str) for e in errors):
        raise ValueError("an answer of unknown form")
    warnings = [e for e in errors if e.startswith("W")]
    return Envelope([e for e in errors if not e.startswith("W")], warnings, reply.get("result"))


def asset_pair(row: Row) -> AssetPairInfoSchema:
    """
    ``{"altname":"XBTUSD","aclass_base":"currency","base":"XXBT","aclass_quote":"currency","quote":"ZUSD",
    "cost_decimals":5,"pair_decimals":1,"lot_decimals":8,"fees_maker":[],"ordermin":"0.00005","costmin":"0.5",
    "tick_size":"0.1","status":"online"}``

    Kraken refuses a price with more than ``pair_decimals`` decimals, so the tick is never finer, nor written with more.
    """
    step = step_of(row["pair_decimals"])
    tick = max(number(row.get("tick_size") or 0), step)
    if tick > LARGEST_TICK * step:
        raise Contradiction(f"tick_size is {tick:f}")
    return AssetPairInfoSchema(
        **{name: row[name] for name in AS_THEY_ARE},
        aclass_base=row.get("aclass_base") or "currency",
        aclass_quote=row.get("aclass_quote") or "currency",
        cost_decimals=row.get("cost_decimals", USUAL_COST_DECIMALS),
        tick_size=tick.quantize(step) if decimals_of(tick) > row["pair_decimals"] else tick,
        ordermin=number(row.get("ordermin") or 0),
        costmin=number(row.get("costmin") or 0),
        status=row.get("status") or "online",
        fees_maker=[[number(cell) for cell in step] for step in row.get("fees_maker") or []],
    )


def last_price(result: Row) -> Decimal:
    """``{"XXBTZUSD":{"c":["30303.20000","0.00067643"], ...}}``: the price of the last trade."""
    [row] = result.values()
    price = number(row["c"][0])
    if price <= 0:
        raise ValueError(f"the last price is {price}")
    return price


def balances(result: Row) -> list[AssetBalanceSchema]:
    """
    ``{"ZUSD":{"balance":"25435.21","hold_trade":"8249.76"},"XXBT":{"balance":1.2435,"hold_trade":0.8423}}``:
    text in most accounts, JSON numbers in some. A balance below zero (a credit line) counts as zero.
    """
    return [
        AssetBalanceSchema(
            asset=asset,
            balance=max(number(row["balance"]), ZERO),
            hold_trade=max(number(row.get("hold_trade") or 0), ZERO),
        )
        for asset, row in result.items()
    ]


def wallet_names(asset_id: str, altname: str, asset_class: str) -> frozenset[str]:
    """
    The balance keys that one asset is spread over: its id, and what auto-earn keeps under ``.F``.

    >>> sorted(wallet_names("XXBT", "XBT", "currency"))
    ['XBT', 'XBT.F', 'XXBT']
    """
    names = {asset_id, altname, f"{altname}.F"}
    if asset_class == "tokenized_asset":
        names |= {f"{altname}.T", f"{asset_id}.T"}
    return frozenset(names)


def pair_balance(rows: list[AssetBalanceSchema], base: frozenset[str], quote: frozenset[str]) -> PairBalanceSchema:
    """
    Sum the wallets of both currencies. With auto-earn the hold stands at another wallet than the money
    and may exceed that wallet's balance, so only the sums are subtracted, and never below zero.
    """

    def total(currency: str, wallets: frozenset[str]) -> dict[str, Decimal]:
        mine = [row for row in rows if row.asset in wallets]
        balance = sum((row.balance for row in mine), ZERO)
        held = sum((row.hold_trade for row in mine), ZERO)
        return {f"{currency}_balance": balance, f"{currency}_available": max(balance - held, ZERO)}

    return PairBalanceSchema(**total("base", base), **total("quote", quote))


def maker_fee(result: Row) -> Decimal:
    """
    ``{"fees":{"DOTUSD":{"fee":"0.8000"}},"fees_maker":{"DOTUSD":{"fee":"0.4000"}}}``, in percent: 0.004.
    ``fees`` is the taker's, and the only one for pairs without a rate of their own for makers.
    """
    [row] = (result.get("fees_maker") or result["fees"]).values()
    fee = number(row["fee"]) / 100
    if not LOWEST_FEE <= fee <= HIGHEST_FEE:
        raise Contradiction(f"fee is {fee * 100:f} %")
    return fee


def permissions(result: Row) -> list[str]:
    """``{"api_key_name":"grid","permissions":["query-funds","modify-trades"], ...}``"""
    found = result["permissions"]
    if not isinstance(found, list):
        raise ValueError("permissions is not a list")
    return [str(name) for name in found]


def order_info(txid: str, row: Row) -> OrderInfoSchema:
    """
    ``{"userref":1680953421,"status":"open","opentm":1688666559.8974,"descr":{"pair":"XBTUSD","type":"buy",
    "ordertype":"limit","price":"30010.0"},"vol":"1.25000000","vol_exec":"0.37500000","cost":"11253.7",
    "fee":"0.00000","price":"30010.0","reason":null,"trades":["TCCCTY-WE2O6-P3NB37"]}``

    ``descr.price`` is the limit price; ``price`` beside it is the average price of what was executed, and the only one
    of a market order. If an order was amended to a volume below what it had executed, its volume counts as what it
    executed; ``misc`` then contains "amended". A report without ``misc`` is accepted with more executed than its
    volume.

    Raises Contradiction for figures that cannot be true together.
    """
    described, vol, vol_exec = row["descr"], number(row["vol"]), number(row["vol_exec"])
    cost, status = number(row.get("cost") or 0), row["status"]
    misc = row.get("misc")
    too_little = status == "closed" and vol_exec < vol * (1 - PER_CENT)
    too_much = vol_exec > vol and misc is not None and "amended" not in misc
    if too_little or too_much or (cost and not vol_exec):
        raise Contradiction(f"status {status}, vol {vol:f}, vol_exec {vol_exec:f}, cost {cost:f}")
    in_words = str(described.get("order") or "")
    if in_words.startswith(SELL if described["type"] == BUY else BUY):
        raise Contradiction(f"type {described['type']}, order {in_words}")
    return OrderInfoSchema(
        pair=described["pair"],
        price=number(described["price"]) or number(row["price"]),
        side=described["type"],
        status=status,
        txid=id_of(txid),
        userref=userref_of(row),
        vol=max(vol, vol_exec),
        vol_exec=vol_exec,
        cost=cost,
        fee=number(row.get("fee") or 0),
        opened_at=moment(row.get("opentm")),
        closed_at=moment(row.get("closetm")),
        trades=tuple(map(id_of, row.get("trades") or ())),
        reason=row.get("reason") or "",
    )


def userref_of(row: Row) -> int:
    """The userref of an order; 0 for none and for negative ones, which our bots never use."""
    return max(int(number(row.get("userref") or 0)), 0)


def trade_info(exec_id: str, row: Row) -> TradeInfoSchema:
    """
    ``{"ordertxid":"OQCLML-BW3P3-BUCMWZ","pair":"XXBTZUSD","time":1688667796.8802,"type":"buy",
    "price":"30010.00000","cost":"600.20000","fee":"0.00000","vol":"0.02000000","maker":true}``
    """
    price, volume, cost = number(row["price"]), number(row["vol"]), number(row["cost"])
    _check_cost(price, volume, cost)
    schema = TakerTradeSchema if row.get("maker") is False else TradeInfoSchema
    return schema(
        exec_id=id_of(exec_id),
        txid=id_of(row["ordertxid"]),
        side=row["type"],
        price=price,
        volume=volume,
        cost=cost,
        fee=number(row["fee"]),
        time=moment(row["time"]),
    )


def _check_cost(price: Decimal, volume: Decimal, cost: Decimal) -> None:
    """Raise Contradiction if the cost of an execution does not match its price and volume."""
    if not is_cost_of(price, volume, cost):
        raise Contradiction(f"price {price:f}, volume {volume:f}, cost {cost:f}")


def accepted_txid(result: Any) -> str:
    """``{"descr":{"order":"buy 0.00202000 XBTUSD @ limit 49504.9"},"txid":["OUF4EM-FRGI2-MQMWZD"]}``"""
    txids = result["txid"]
    if not isinstance(txids, list):
        raise ValueError("no list of ids")
    return id_of(txids[0])


def ticker(row: Row) -> TickerUpdateSchema:
    """``{"symbol":"BTC/USD","bid":83744.1,"last":83744.2,"timestamp":"2026-09-25T09:04:31.742599Z", ...}``"""
    return TickerUpdateSchema(symbol=row["symbol"], last=number(row["last"]), time=unix_seconds(row.get("timestamp")))


def execution(row: Row) -> ExecutionsUpdateSchema:
    """
    ``{"order_id":"OUF4EM-FRGI2-MQMWZD","order_userref":1680953421,"exec_id":"THVRQM-33VKH-UCI7BS",
    "exec_type":"trade","symbol":"BTC/USD","side":"buy","last_qty":0.00101000,"last_price":49504.9,
    "cost":49.999949,"order_status":"partially_filled","cum_qty":0.00101000,"cum_cost":49.999949,
    "liquidity_ind":"m","timestamp":"2026-09-21T14:20:01.000000Z","fees":[{"asset":"USD","qty":0.12499}]}``

    ``new`` and ``canceled`` hold little more than order_id, exec_type, order_status and order_userref.
    """
    amounts: dict[str, Any] = {name: number(row[name]) for name in AMOUNTS if row.get(name) is not None}
    if row["exec_type"] == "trade" and amounts.keys() >= {"last_price", "last_qty", "cost"}:
        _check_cost(amounts["last_price"], amounts["last_qty"], amounts["cost"])
    return ExecutionsUpdateSchema(
        order_id=id_of(row["order_id"]),
        exec_type=row["exec_type"],
        order_status=row.get("order_status") or "",
        userref=row.get("order_userref") or None,
        symbol=row.get("symbol"),
        side=row.get("side"),
        exec_id=id_of(row["exec_id"]) if row.get("exec_id") else None,
        fee=_fee(row),
        maker=row.get("liquidity_ind") != "t",
        time=unix_seconds(row.get("timestamp")),
        reason=row.get("reason") or row.get("cancel_reason") or "",
        **amounts,
    )


def unix_seconds(timestamp: str | None) -> float:
    """RFC 3339 as unix seconds; 0.0 for none, and for an impossible time."""
    if not timestamp:
        return 0.0
    moment = datetime.fromisoformat(timestamp)
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 < seconds <= LATEST else 0.0


def rfc3339(seconds: float) -> str:
    """
    Unix seconds for ``deadline``, cut to the whole second: an earlier deadline is the safe side.

    >>> rfc3339(1790000030.9)
    '2026-09-21T14:13:50Z'
    """
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fee(row: Row) -> Decimal | None:
    """In quote; None if not reported. Kraken says that fees are always in quote; one in base is converted."""
    fees = row.get("fees")
    if fees is None:
        return None
    base = (row.get("symbol") or "").partition("/")[0]
    total = ZERO
    for part in fees:
        amount = number(part["qty"])
        total += amount * number(row["last_price"]) if base and part.get("asset") == base else amount
    return total
