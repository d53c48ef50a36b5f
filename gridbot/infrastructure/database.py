"""
The bot's memory on disk, table by table: read once at the start, held in memory and written through.
A ticker reads and writes nothing here.

Rows are written with plain SQL over sqlite-utils' connection: its table methods cost ten times as
much a row, and given a Decimal they would store a float. Decimals become text here, and only here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from operator import attrgetter

from gridbot.exceptions import DatabaseError
from gridbot.infrastructure.connection import MEMORY, DBConnect, open_or_rebuild
from gridbot.models.exchange import BUY, SELL, TradeInfoSchema
from gridbot.models.grid import BookOrder, Placement, UnsoldBuy
from gridbot.models.money import ZERO, as_text

__all__ = [
    "MEMORY",
    "Configuration",
    "DBConnect",
    "FinishedOrders",
    "Orderbook",
    "PendingTXIDs",
    "StoredConfiguration",
    "Trade",
    "Trades",
    "UnsoldBuyOrderTXIDs",
    "open_or_rebuild",
]


@dataclass(frozen=True)
class StoredConfiguration:
    """What the bot remembers beside its orders. Prices in quote, volumes in base, times unix seconds."""

    market: str  # exchange and pair the orders belong to: "Kraken BTC/USD"
    amount_per_grid: Decimal
    interval: Decimal
    created_at: float
    synced_at: float  # up to then the exchange was asked for every order of ours; before created_at: not yet asked
    highest_buy_price: Decimal = ZERO
    vol_of_unfilled_remaining: Decimal = ZERO
    vol_of_unfilled_remaining_max_price: Decimal = ZERO


class Configuration:
    """The one row of ``configuration`` for this userref."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref
        row = db.execute(
            "SELECT market, amount_per_grid, interval, created_at, synced_at, highest_buy_price,"
            " vol_of_unfilled_remaining, vol_of_unfilled_remaining_max_price"
            " FROM configuration WHERE userref = ?",
            (userref,),
        ).fetchone()
        self._stored: StoredConfiguration | None = None
        if row is not None:
            market, amount, interval, created_at, synced_at, *amounts = row
            self._stored = StoredConfiguration(
                market, Decimal(amount), Decimal(interval), created_at, synced_at, *map(Decimal, amounts)
            )

    @property
    def exists(self) -> bool:
        """False before the first start with this userref."""
        return self._stored is not None

    def get(self) -> StoredConfiguration:
        """The present values. Raises DatabaseError before ``create``."""
        if self._stored is None:
            raise DatabaseError(f"database {self._db.path}: no configuration stored for userref {self._userref}")
        return self._stored

    def create(
        self, market: str, amount_per_grid: Decimal, interval: Decimal, now: float, synced_at: float | None = None
    ) -> None:
        """The first start with this userref. ``synced_at`` when it is not ``now``."""
        synced_at = now if synced_at is None else synced_at
        self._write(StoredConfiguration(market, amount_per_grid, interval, created_at=now, synced_at=synced_at))

    @property
    def is_synced(self) -> bool:
        """False while the exchange was not asked for the time before ``created_at``."""
        return self.exists and self.get().synced_at >= self.get().created_at

    def update(self, **changes: Decimal | float) -> None:
        """Change some of the values of StoredConfiguration, by name."""
        self._write(replace(self.get(), **changes))  # type: ignore[arg-type]  # checked by STRICT and the tests

    def _write(self, new: StoredConfiguration) -> None:
        self._db.execute(
            "INSERT INTO configuration (userref, market, amount_per_grid, interval, created_at, synced_at,"
            " highest_buy_price, vol_of_unfilled_remaining, vol_of_unfilled_remaining_max_price)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (userref) DO UPDATE SET amount_per_grid = excluded.amount_per_grid,"
            " interval = excluded.interval, synced_at = excluded.synced_at,"
            " highest_buy_price = excluded.highest_buy_price,"
            " vol_of_unfilled_remaining = excluded.vol_of_unfilled_remaining,"
            " vol_of_unfilled_remaining_max_price = excluded.vol_of_unfilled_remaining_max_price",
            (
                self._userref,
                new.market,
                as_text(new.amount_per_grid),
                as_text(new.interval),
                new.created_at,
                new.synced_at,
                as_text(new.highest_buy_price),
                as_text(new.vol_of_unfilled_remaining),
                as_text(new.vol_of_unfilled_remaining_max_price),
            ),
        )
        self._stored = new


class Orderbook:
    """Our open orders. In memory sorted by price, on disk written through."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref
        self._orders: dict[str, BookOrder] = {}
        self._sorted: dict[str, tuple[BookOrder, ...]] = {}
        self._cancel_requested: dict[str, None] = {}  # in the order of asking
        for row in db.execute(
            "SELECT txid, side, price, volume, executed, placed_at, sells FROM orderbook WHERE userref = ?",
            (userref,),
        ):
            self._orders[row[0]] = BookOrder(
                txid=row[0],
                side=row[1],
                price=Decimal(row[2]),
                volume=Decimal(row[3]),
                executed=Decimal(row[4]),
                placed_at=row[5],
                sells=row[6],
            )

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[BookOrder]:
        return iter(tuple(self._orders.values()))

    def get(self, txid: str) -> BookOrder | None:
        """The order, or None when it is not (or no longer) open as far as we know."""
        return self._orders.get(txid)

    def buys(self) -> tuple[BookOrder, ...]:
        """Open buys from the highest price to the lowest."""
        return self._of(BUY)

    def sells(self) -> tuple[BookOrder, ...]:
        """Open sells from the lowest price to the highest."""
        return self._of(SELL)

    def _of(self, side: str) -> tuple[BookOrder, ...]:
        if side not in self._sorted:
            orders = (order for order in self._orders.values() if order.side == side)
            self._sorted[side] = tuple(sorted(orders, key=attrgetter("price"), reverse=side == BUY))
        return self._sorted[side]

    def add(self, order: BookOrder) -> None:
        """A new open order."""
        self._db.execute(
            "INSERT INTO orderbook (userref, txid, side, price, volume, executed, placed_at, sells)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (userref, txid) DO UPDATE SET executed = excluded.executed",
            (
                self._userref,
                order.txid,
                order.side,
                as_text(order.price),
                as_text(order.volume),
                as_text(order.executed),
                order.placed_at,
                order.sells,
            ),
        )
        self._put(order)

    def set_executed(self, txid: str, executed: Decimal) -> None:
        """So much of an open order has been executed, in base."""
        self._db.execute(
            "UPDATE orderbook SET executed = ? WHERE userref = ? AND txid = ?",
            (as_text(executed), self._userref, txid),
        )
        self._put(replace(self._orders[txid], executed=executed))

    def set_sells(self, txid: str, sells: str) -> None:
        """What an open sell sells has become known."""
        self._db.execute("UPDATE orderbook SET sells = ? WHERE userref = ? AND txid = ?", (sells, self._userref, txid))
        self._put(replace(self._orders[txid], sells=sells))

    def amend(self, txid: str, price: Decimal, volume: Decimal) -> None:
        """An open order was given another price or volume by hand."""
        self._db.execute(
            "UPDATE orderbook SET price = ?, volume = ? WHERE userref = ? AND txid = ?",
            (as_text(price), as_text(volume), self._userref, txid),
        )
        self._put(replace(self._orders[txid], price=price, volume=volume))

    def mark_cancel_requested(self, txid: str) -> None:
        """Asked to be cancelled. Only in memory: after a restart the exchange tells how it ended."""
        self._put(replace(self._orders[txid], cancel_requested=True))
        self._cancel_requested[txid] = None

    def cancel_requested(self) -> list[str]:
        """Orders asked to be cancelled whose end is not known yet."""
        return list(self._cancel_requested)

    def forget_cancel_request(self, txid: str) -> None:
        """The exchange did not act on it: the order is open like any other."""
        self._put(replace(self._orders[txid], cancel_requested=False))
        self._cancel_requested.pop(txid, None)

    def remove(self, txid: str) -> None:
        """The order is over."""
        self._db.execute("DELETE FROM orderbook WHERE userref = ? AND txid = ?", (self._userref, txid))
        order = self._orders.pop(txid)
        self._sorted.pop(order.side, None)
        self._cancel_requested.pop(txid, None)

    def _put(self, order: BookOrder) -> None:
        self._orders[order.txid] = order
        self._sorted.pop(order.side, None)


class PendingTXIDs:
    """Placements on their way: written before they are sent, removed when their fate is known."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref
        self._placements: dict[int, Placement] = {}
        for row in db.execute(
            "SELECT id, side, price, volume, sells, why, written_at, deadline FROM pending_txids"
            " WHERE userref = ? ORDER BY id",
            (userref,),
        ):
            self._placements[row[0]] = Placement(
                row[0], row[1], Decimal(row[2]), Decimal(row[3]), row[4], row[5], row[6], row[7]
            )

    def __len__(self) -> int:
        return len(self._placements)

    def all(self) -> tuple[Placement, ...]:
        """The placements, oldest first."""
        return tuple(self._placements.values())

    def add(
        self,
        *,
        side: str,
        price: Decimal,
        volume: Decimal,
        sells: str,
        why: str,
        written_at: float,
        deadline: float,
    ) -> Placement:
        """Write a placement down; returns it with its id."""
        cursor = self._db.execute(
            "INSERT INTO pending_txids (userref, side, price, volume, sells, why, written_at, deadline)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._userref, side, as_text(price), as_text(volume), sells, why, written_at, deadline),
        )
        if cursor.lastrowid is None:
            raise DatabaseError(f"database {self._db.path}: a placement was written but got no id")
        placement = Placement(cursor.lastrowid, side, price, volume, sells, why, written_at, deadline)
        self._placements[placement.id] = placement
        return placement

    def remove(self, placement: Placement) -> None:
        """Its fate is known."""
        self._db.execute("DELETE FROM pending_txids WHERE id = ?", (placement.id,))
        del self._placements[placement.id]


class UnsoldBuyOrderTXIDs:
    """Filled buys whose sell is not known to be on the exchange."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref
        self._buys: dict[str, UnsoldBuy] = {}
        for row in db.execute(
            "SELECT txid, price, volume, filled_at FROM unsold_buy_order_txids WHERE userref = ? ORDER BY filled_at",
            (userref,),
        ):
            self._buys[row[0]] = UnsoldBuy(row[0], Decimal(row[1]), Decimal(row[2]), row[3])

    def __len__(self) -> int:
        return len(self._buys)

    def all(self) -> tuple[UnsoldBuy, ...]:
        """The buys, the longest unsold first."""
        return tuple(self._buys.values())

    def get(self, txid: str) -> UnsoldBuy | None:
        """The unsold buy, or None."""
        return self._buys.get(txid)

    def add(self, buy: UnsoldBuy) -> None:
        """A buy was filled. Adding it again changes nothing."""
        self._db.execute(
            "INSERT INTO unsold_buy_order_txids (userref, txid, price, volume, filled_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (userref, txid) DO NOTHING",
            (self._userref, buy.txid, as_text(buy.price), as_text(buy.volume), buy.filled_at),
        )
        self._buys.setdefault(buy.txid, buy)

    def remove(self, txid: str) -> None:
        """Its sell is on the exchange."""
        self._db.execute("DELETE FROM unsold_buy_order_txids WHERE userref = ? AND txid = ?", (self._userref, txid))
        self._buys.pop(txid, None)


@dataclass(frozen=True)
class Trade:
    """One row of ``trades``: an execution, and for a sell what it sold (a buy's txid, SURPLUS, EXTRA)."""

    info: TradeInfoSchema
    sells: str = ""


class Trades:
    """Executions, one row each, unique by exec id. The only table that grows."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref

    def add(self, trade: TradeInfoSchema, sells: str = "") -> bool:
        """Book an execution; False when it was already known."""
        cursor = self._db.execute(
            "INSERT INTO trades (userref, exec_id, txid, side, price, volume, cost, fee, time, sells)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (userref, exec_id) DO NOTHING",
            (
                self._userref,
                trade.exec_id,
                trade.txid,
                trade.side,
                as_text(trade.price),
                as_text(trade.volume),
                as_text(trade.cost),
                as_text(trade.fee),
                trade.time,
                sells,
            ),
        )
        return cursor.rowcount == 1

    def remove(self, exec_id: str) -> None:
        """Take back a provisional row, once the exchange has told the executions it stood for."""
        self._db.execute("DELETE FROM trades WHERE userref = ? AND exec_id = ?", (self._userref, exec_id))

    def of_order(self, txid: str) -> list[Trade]:
        """The executions of one order, in order of time."""
        # Without the hint SQLite prefers the primary key, and reads every execution for each sell.
        return self._select("AND txid = ?", (txid,), "INDEXED BY trades_by_order")

    def provisional(self) -> list[Trade]:
        """Rows that stand for executions whose single fills were not told yet."""
        return self._select("AND exec_id LIKE '?%'", ())

    def all(self) -> list[Trade]:
        """Every execution, in order of time."""
        return self._select("", ())

    def count(self) -> int:
        """How many executions are booked."""
        return int(self._db.execute("SELECT count(*) FROM trades WHERE userref = ?", (self._userref,)).fetchone()[0])

    def _select(self, where: str, values: tuple[object, ...], index: str = "") -> list[Trade]:
        rows = self._db.execute(
            f"SELECT exec_id, txid, side, price, volume, cost, fee, time, sells FROM trades {index}"
            f" WHERE userref = ? {where} ORDER BY time, exec_id",
            (self._userref, *values),
        )
        return [
            Trade(
                TradeInfoSchema(
                    exec_id=row[0],
                    txid=row[1],
                    side=row[2],
                    price=Decimal(row[3]),
                    volume=Decimal(row[4]),
                    cost=Decimal(row[5]),
                    fee=Decimal(row[6]),
                    time=row[7],
                ),
                row[8],
            )
            for row in rows
        ]


class FinishedOrders:
    """Orders that are over, for as long as the exchange may still mention them."""

    def __init__(self, db: DBConnect, userref: int) -> None:
        self._db = db
        self._userref = userref
        self._finished: dict[str, float] = {
            row[0]: row[1]
            for row in db.execute("SELECT txid, finished_at FROM finished_orders WHERE userref = ?", (userref,))
        }

    def __contains__(self, txid: str) -> bool:
        return txid in self._finished

    def add(self, txid: str, status: str, at: float) -> None:
        """The order ended as ``status`` (closed, canceled, expired)."""
        self._db.execute(
            "INSERT INTO finished_orders (userref, txid, status, finished_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (userref, txid) DO NOTHING",
            (self._userref, txid, status, at),
        )
        self._finished.setdefault(txid, at)

    def prune(self, before: float) -> None:
        """Forget the orders that ended before then."""
        kept = {txid: at for txid, at in self._finished.items() if at >= before}
        if len(kept) < len(self._finished):
            sql = "DELETE FROM finished_orders WHERE userref = ? AND finished_at < ?"
            self._db.execute(sql, (self._userref, before))
            self._finished = kept
