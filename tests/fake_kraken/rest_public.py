"""
The public REST methods (Kraken's API, Time to Trades).
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.fake_kraken.tables import Pair, find_pair
from tests.fake_kraken.wire import KrakenError, rest_time, whole

if TYPE_CHECKING:
    from tests.fake_kraken.exchange import FakeKraken
    from tests.fake_kraken.rest import Call

INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
MAX_CANDLES = 720


def time(fake: FakeKraken, call: Call) -> Any:
    now = fake.clock.time()
    text = datetime.fromtimestamp(now, UTC).strftime("%a, %d %b %y %H:%M:%S +0000")
    return {"unixtime": int(now), "rfc1123": text}


def system_status(fake: FakeKraken, call: Call) -> Any:
    stamp = datetime.fromtimestamp(fake.clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"status": fake.status, "timestamp": stamp}


def assets(fake: FakeKraken, call: Call) -> Any:
    aclass = call.params.get("aclass", "currency")
    listed = {asset.id: asset for asset in fake.assets.values() if asset.aclass == aclass}
    if wanted := call.params.get("asset"):
        names = wanted.split(",")
        chosen = {a.id: a for a in listed.values() if {a.id, a.altname, a.display}.intersection(names)}
        if len(chosen) < len(set(names)):
            raise KrakenError("EQuery:Unknown asset")
        listed = chosen
    return {asset.id: asset.row() for asset in listed.values()}


def asset_pairs(fake: FakeKraken, call: Call) -> Any:
    aclass = call.params.get("aclass_base", "currency")
    if wanted := call.params.get("pair"):
        chosen = [find_pair(fake.pairs, name, aclass) for name in wanted.split(",")]
    else:
        chosen = [pair for pair in fake.pairs.values() if pair.base.aclass == aclass]
    return {pair.id: pair.row() for pair in chosen}


def ticker(fake: FakeKraken, call: Call) -> Any:
    aclass = call.params.get("asset_class")
    if wanted := call.params.get("pair"):
        names = {name: find_pair(fake.pairs, name, aclass) for name in wanted.split(",")}
    else:
        names = {p.id: p for p in fake.pairs.values() if p.base.aclass == (aclass or "currency")}
    return {result_key(name, pair): _ticker_row(fake, pair) for name, pair in names.items()}


def ohlc(fake: FakeKraken, call: Call) -> Any:
    """The candles a test has put into ``fake.candles``; without any, flat ones at the last price."""
    pair = find_pair(fake.pairs, call.params.get("pair", ""), call.params.get("asset_class"))
    interval = whole(call.params, "interval", 1)
    if interval not in INTERVALS:
        raise KrakenError("EGeneral:Invalid arguments")
    since = whole(call.params, "since", 0) or 0
    seconds = interval * 60
    now = int(fake.clock.time()) // seconds * seconds
    rows = fake.candles.get(pair.id)
    if rows is None:
        price = f"{fake.last[pair.id]:.{pair.pair_decimals}f}"
        starts = range(now - (MAX_CANDLES - 1) * seconds, now + 1, seconds)
        rows = [[start, price, price, price, price, "0.0", "0.00000000", 0] for start in starts]
    kept = [row for row in rows[-MAX_CANDLES:] if int(str(row[0])) > since]
    return {result_key(call.params["pair"], pair): kept, "last": now - seconds}


def trades(fake: FakeKraken, call: Call) -> Any:
    """The account's own trades stand for those of the market, and one at the last price before them."""
    pair = find_pair(fake.pairs, call.params.get("pair", ""), call.params.get("asset_class"))
    since = int(call.params.get("since") or 0)
    count = min(whole(call.params, "count", 1000) or 1000, 1000)
    rows = []
    for trade in fake.trades.values():
        stamp = int(Decimal(repr(trade.time)) * 1_000_000_000)
        if trade.pair is pair and stamp > since:
            side = trade.side if not trade.maker else ("sell" if trade.side == "buy" else "buy")
            price, volume = f"{trade.price:f}", f"{trade.volume:.8f}"
            rows.append((stamp, [price, volume, rest_time(trade.time), side[0], "l", "", trade.number]))
    if not rows and not since:
        price = f"{fake.last[pair.id]:.{pair.pair_decimals}f}"
        now = fake.clock.time()
        rows.append((int(now) * 1_000_000_000, [price, "0.01000000", rest_time(now), "b", "l", "", 1]))
    rows = rows[:count]
    last = str(rows[-1][0]) if rows else str(since)
    return {result_key(call.params["pair"], pair): [row for _, row in rows], "last": last}


def result_key(asked: str, pair: Pair) -> str:
    """Results come under the pair's id, or under the name asked for when that has a slash."""
    return asked if "/" in asked else pair.id


def _ticker_row(fake: FakeKraken, pair: Pair) -> dict[str, Any]:
    """Decimals padded to five, as Kraken does."""
    places = max(5, pair.pair_decimals)
    last = f"{fake.last[pair.id]:.{places}f}"
    ask = f"{fake.last[pair.id] + pair.tick_size:.{places}f}"
    return {
        "a": [ask, "1", "1.000"],
        "b": [last, "1", "1.000"],
        "c": [last, "0.00067643"],
        "v": ["4083.67001100", "4412.73601799"],
        "p": [last, last],
        "t": [34619, 38907],
        "l": [last, last],
        "h": [last, last],
        "o": last,
    }


PUBLIC = {
    "Time": time,
    "SystemStatus": system_status,
    "Assets": assets,
    "AssetPairs": asset_pairs,
    "Ticker": ticker,
    "OHLC": ohlc,
    "Trades": trades,
}
