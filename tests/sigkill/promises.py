"""What must hold between a bot's database and its exchange once everything is answered. Reads only."""

from __future__ import annotations

import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.fake_kraken import FakeKraken
from tests.fake_kraken.orders import Order

CENT = Decimal("0.00001")  # Kraken's cost decimals


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def is_settled(fake: FakeKraken, database: Path, userref: int) -> bool:
    """Nothing on its way, and the book is the exchange's."""
    try:
        pending = rows(database, "SELECT count(*) FROM pending_txids")[0][0]
        book = {row[0] for row in rows(database, "SELECT txid FROM orderbook")}
    except sqlite3.Error:
        return False
    return not pending and book == {o.txid for o in fake.open_orders(userref)} and bool(book)


def broken_promises(fake: FakeKraken, database: Path, userref: int, strategy: str) -> list[str]:
    """The promises that do not hold, in words; [] when all is well. Call it when settled."""
    with fake.lock:
        fake.audit()
        ours = [order for order in fake.orders.values() if order.userref == userref]
        return [
            *_book(ours, database),
            *_trades(fake, ours, database),
            *(_cycles(ours, database) if strategy != "cDCA" else ()),
            *(_nothing_lost(ours, database) if strategy == "GridSell" else ()),
        ]


def _book(ours: list[Order], database: Path) -> list[str]:
    there = {o.txid: (o.side, o.price, o.volume, o.vol_exec) for o in ours if o.is_open}
    here = {
        txid: (side, Decimal(price), Decimal(volume), Decimal(executed))
        for txid, side, price, volume, executed in rows(
            database, "SELECT txid, side, price, volume, executed FROM orderbook"
        )
    }
    return [] if there == here else [f"open orders differ: exchange {there}, book {here}"]


def _trades(fake: FakeKraken, ours: list[Order], database: Path) -> list[str]:
    mine = {order.txid for order in ours}
    there = {t.id: (t.order, t.side, t.price, t.volume, t.cost, t.fee) for t in fake.trades.values() if t.order in mine}
    here = {
        row[0]: (*row[1:3], *(Decimal(text) for text in row[3:]))
        for row in rows(database, "SELECT exec_id, txid, side, price, volume, cost, fee FROM trades")
    }
    return [
        f"trade {exec_id}: exchange {there.get(exec_id)}, bot {here.get(exec_id)}"
        for exec_id in sorted(there.keys() | here.keys())
        if there.get(exec_id) != here.get(exec_id)
    ]


def _cycles(ours: list[Order], database: Path) -> list[str]:
    """Every filled buy: exactly one sell, or one unsold record."""
    sells: dict[str, set[str]] = {}
    for txid, buy in [
        *rows(database, "SELECT txid, sells FROM orderbook WHERE side = 'sell'"),
        *rows(database, "SELECT txid, sells FROM trades WHERE side = 'sell'"),
    ]:
        sells.setdefault(buy, set()).add(txid)
    unsold = Counter(row[0] for row in rows(database, "SELECT txid FROM unsold_buy_order_txids"))
    broken = []
    for order in ours:
        if order.side == "buy" and order.status == "closed":
            found = len(sells.get(order.txid, ())) + unsold[order.txid]
            if found != 1:
                broken.append(
                    f"filled buy {order.txid} @ {order.price}: {sells.get(order.txid)} sells, "
                    f"{unsold[order.txid]} unsold records"
                )
    linked = {txid for txids in sells.values() for txid in txids}
    strangers = [o.txid for o in ours if o.side == "sell" and o.status in ("open", "closed") and o.txid not in linked]
    nameless = sells.get("", set())
    return broken + [f"sells nobody knows the reason of: {strangers} {nameless}"] * bool(strangers or nameless)


def _nothing_lost(ours: list[Order], database: Path) -> list[str]:
    """GridSell sells exactly what it bought: base in = base out + on offer + noted for later."""
    bought = sum((o.vol_exec for o in ours if o.side == "buy"), Decimal(0))
    sold = sum((o.vol_exec for o in ours if o.side == "sell"), Decimal(0))
    offered = sum((o.remaining for o in ours if o.side == "sell" and o.is_open), Decimal(0))
    unsold = sum((Decimal(r[0]) for r in rows(database, "SELECT volume FROM unsold_buy_order_txids")), Decimal(0))
    surplus = Decimal(rows(database, "SELECT vol_of_unfilled_remaining FROM configuration")[0][0])
    in_open_buys = sum((o.vol_exec for o in ours if o.side == "buy" and o.is_open), Decimal(0))
    noted = sold + offered + unsold + surplus + in_open_buys
    return [] if bought == noted else [f"bought {bought}, but sold + offered + noted is {noted}"]
