"""
The bot's memory on disk, table by table: all but the trades is read once at the start, held in memory and written
through. A ticker reads and writes nothing here.
"""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple, Self

from pydantic import ValidationError

from gridbot.exceptions import DatabaseError
from gridbot.infrastructure.connection import MEMORY as MEMORY
from gridbot.infrastructure.connection import DBConnect as DBConnect
from gridbot.infrastructure.connection import open_or_rebuild as open_or_rebuild
from gridbot.infrastructure.table import Table, as_stored
from gridbot.models.exchange import BUY, SELL, TradeInfoSchema
from gridbot.models.grid import BookOrder, PlaceBuy, Placement, PlaceSell, UnsoldBuy
from gridbot.models.money import ZERO, as_text


@dataclass(frozen=True)
class StoredConfiguration:
    """What the bot remembers beside its orders. Prices in quote, volumes in base, times unix seconds."""

    market: str  # exchange and pair the orders belong to: "Kraken BTC/USD"
    amount_per_grid: Decimal
    interval: Decimal
    created_at: float
    # Every order of ours that closed before then was asked for, or reported by the feed: the next look back begins
    # there. Before created_at: those from before a loss of the database were not all asked for yet.
    synced_at: float
    highest_buy_price: Decimal = ZERO
    vol_of_unfilled_remaining: Decimal = ZERO
    vol_of_unfilled_remaining_max_price: Decimal = ZERO
    base_before: str | None = None  # see ``base_given``; "": not known; None: the database is older than this column

    def base_given(self, present: Decimal | None) -> Decimal | None:
        """
        Base the bot had at its first start, None if not known; ``present`` if the database is older than this field.
        """
        if self.base_before is None:
            return present
        return Decimal(self.base_before) if self.base_before else None


class Configuration(Table):
    """
    The one row of ``configuration`` for this userref.

    base_before  what ``create`` stores under this name
    """

    name = "configuration"

    def __init__(self, db: DBConnect, userref: int) -> None:
        super().__init__(db, userref)
        self.base_before: str | None = None
        self._stored: StoredConfiguration | None = None
        self._select(f.name for f in fields(StoredConfiguration) if f.default is MISSING)  # those must be there
        for row in self._rows("*"):  # a report may read what another version has written: columns may differ
            known = {field.name for field in fields(StoredConfiguration)}
            self._stored = StoredConfiguration(**{name: value for name, value in row.items() if name in known})

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
        """Store the values of the first start with this userref. ``synced_at``: if it is not ``now``."""
        synced_at = now if synced_at is None else synced_at
        self._write(
            StoredConfiguration(
                market, amount_per_grid, interval, created_at=now, synced_at=synced_at, base_before=self.base_before
            )
        )

    @property
    def is_synced(self) -> bool:
        """False while the exchange was not yet asked for orders from before ``created_at``."""
        return self.exists and self.get().synced_at >= self.get().created_at

    def update(self, **changes: Decimal | float) -> None:
        """Change some of the values of StoredConfiguration, by name."""
        self._write(replace(self.get(), **changes))  # type: ignore[arg-type]  # checked by STRICT and the tests

    def _write(self, new: StoredConfiguration) -> None:
        self._put(vars(new))
        self._stored = new


class Orderbook(Table):
    """Our open orders. In memory sorted by price, on disk written through."""

    name = "orderbook"
    columns = ("txid", "side", "price", "volume", "placed_at", "executed", "sells")

    def __init__(self, db: DBConnect, userref: int) -> None:
        super().__init__(db, userref)
        self._orders = {row["txid"]: BookOrder(**row) for row in self._rows(self.columns)}
        self._sorted: dict[str, tuple[BookOrder, ...]] = {}
        self._cancel_requested: dict[str, None] = {}  # in the order of asking

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

    def of_others(self) -> dict[int, int]:
        """Open orders in the same file that belong to other userrefs: userref -> how many."""
        sql = f"SELECT userref, count(*) FROM {self.name} WHERE userref != ? GROUP BY userref"
        return dict(self._db.execute(sql, (self._userref,)).fetchall())

    def _of(self, side: str) -> tuple[BookOrder, ...]:
        if side not in self._sorted:
            orders = (order for order in self._orders.values() if order.side == side)
            self._sorted[side] = tuple(sorted(orders, key=attrgetter("price"), reverse=side == BUY))
        return self._sorted[side]

    def add(self, order: BookOrder) -> None:
        row = {name: getattr(order, name) for name in self.columns}
        self._insert(row, "ON CONFLICT (userref, txid) DO UPDATE SET executed = excluded.executed")
        self._keep(order)

    def set_executed(self, txid: str, executed: Decimal) -> None:
        """This much of an open order has been executed, in base."""
        self._change(txid, executed=executed)

    def set_sells(self, txid: str, sells: str) -> None:
        """Store what an open sell sells, once it is known."""
        self._change(txid, sells=sells)

    def amend(self, txid: str, price: Decimal, volume: Decimal) -> None:
        """Store the new price and volume of an open order that the owner changed by hand."""
        self._change(txid, price=price, volume=volume)

    def _change(self, txid: str, **changes: Any) -> None:
        sql = f"UPDATE {self.name} SET {', '.join(f'{name} = ?' for name in changes)} WHERE userref = ? AND txid = ?"
        self._db.execute(sql, (*as_stored(changes), self._userref, txid))
        self._keep(self._orders[txid]._replace(**changes))

    def mark_cancel_requested(self, txid: str) -> None:
        """Its cancellation was requested. Only in memory: after a restart the exchange reports how it ended."""
        self._keep(self._orders[txid]._replace(cancel_requested=True))
        self._cancel_requested[txid] = None

    def unconfirmed_cancels(self) -> list[str]:
        """Txids of orders whose cancellation was requested and whose end is not known yet."""
        return list(self._cancel_requested)

    def forget_cancel_request(self, txid: str) -> None:
        """The exchange did not cancel it: the order is open like any other."""
        self._keep(self._orders[txid]._replace(cancel_requested=False))
        self._cancel_requested.pop(txid, None)

    def remove(self, txid: str) -> None:
        """The order is over."""
        self._delete("txid =", txid)
        order = self._orders.pop(txid)
        self._sorted.pop(order.side, None)
        self._cancel_requested.pop(txid, None)

    def _keep(self, order: BookOrder) -> None:
        self._orders[order.txid] = order
        self._sorted.pop(order.side, None)


class PendingTXIDs(Table):
    """Placements on their way: written before they are sent, removed when their fate is known."""

    name = "pending_txids"

    def __init__(self, db: DBConnect, userref: int) -> None:
        super().__init__(db, userref)
        rows = self._rows(Placement._fields, "ORDER BY id")
        self._placements = {row["id"]: Placement(**row) for row in rows}

    def __len__(self) -> int:
        return len(self._placements)

    def all(self) -> tuple[Placement, ...]:
        """The placements, oldest first."""
        return tuple(self._placements.values())

    def add(self, intent: PlaceBuy | PlaceSell, written_at: float, deadline: float) -> Placement:
        """Write a placement down, with times on the exchange's clock; returns it with its id."""
        row: dict[str, Any] = {name: getattr(intent, name) for name in ("side", "price", "volume", "sells", "why")}
        row |= {"written_at": written_at, "deadline": deadline}
        number = self._insert(row).lastrowid
        self._placements[number] = Placement(number, **row)
        return self._placements[number]

    def redate(self, placement: Placement, written_at: float, deadline: float) -> None:
        """Correct the times of a placement that a wrong clock wrote. Only in memory: the next start does it again."""
        self._placements[placement.id] = placement._replace(written_at=written_at, deadline=deadline)

    def remove(self, placement: Placement) -> None:
        """Its fate is known."""
        self._delete("id =", placement.id)
        del self._placements[placement.id]


class UnsoldBuyOrderTXIDs(Table):
    """Filled buys whose sell is not known to be on the exchange."""

    name = "unsold_buy_order_txids"

    def __init__(self, db: DBConnect, userref: int) -> None:
        super().__init__(db, userref)
        rows = self._rows((f.name for f in fields(UnsoldBuy)), "ORDER BY filled_at")
        self._buys = {row["txid"]: UnsoldBuy(**row) for row in rows}

    def __len__(self) -> int:
        return len(self._buys)

    def all(self) -> tuple[UnsoldBuy, ...]:
        """The buys, the longest unsold first."""
        return tuple(self._buys.values())

    def get(self, txid: str) -> UnsoldBuy | None:
        return self._buys.get(txid)

    def add(self, buy: UnsoldBuy) -> None:
        """A buy was filled. Adding it again changes nothing."""
        self._insert(vars(buy), "ON CONFLICT (userref, txid) DO NOTHING")
        self._buys.setdefault(buy.txid, buy)

    def remove(self, txid: str) -> None:
        """Its sell is on the exchange."""
        self._delete("txid =", txid)
        self._buys.pop(txid, None)


class ForgottenOrders(Table):
    """Buys, and sells without a buy, whose base the owner has taken (``forget``): the bot does not sell it again."""

    name = "forgotten_orders"

    def __init__(self, db: DBConnect, userref: int) -> None:
        super().__init__(db, userref)
        self._volumes: dict[str, Decimal] = {row["txid"]: row["volume"] for row in self._rows(("txid", "volume"))}

    def __contains__(self, txid: str) -> bool:
        return txid in self._volumes

    @property
    def volume(self) -> Decimal:
        """Base that has been left to the owner so far."""
        return sum(self._volumes.values(), ZERO)

    def add(self, txid: str, at: float, volume: Decimal) -> None:
        """
        The owner forgets an order, ``at`` a time of this machine's clock. ``volume``: what no order offers any more.
        """
        self._insert({"txid": txid, "at": at, "volume": volume}, "ON CONFLICT (userref, txid) DO NOTHING")
        self._volumes.setdefault(txid, volume)

    def leave(self, txid: str, volume: Decimal) -> None:
        """A sell of a forgotten order ended: add the ``volume`` that it did not sell."""
        self._volumes[txid] += volume
        sql = f"UPDATE {self.name} SET volume = ? WHERE userref = ? AND txid = ?"
        self._db.execute(sql, (as_text(self._volumes[txid]), self._userref, txid))


@dataclass(frozen=True)
class Trade:
    """One row of ``trades``: an execution, and for a sell what it sold (a buy's txid, SURPLUS, EXTRA)."""

    info: TradeInfoSchema
    sells: str = ""


class Amounts(NamedTuple):
    """What one execution changed."""

    side: str
    volume: Decimal
    cost: Decimal
    fee: Decimal


class SlimTrade(NamedTuple):
    """A row of ``trades`` without its price, in a third of the memory: for code that reads all of them at once."""

    exec_id: str
    txid: str
    side: str
    volume: Decimal
    cost: Decimal
    fee: Decimal
    time: float
    sells: str

    @property
    def info(self) -> Self:
        return self


Row = Trade | SlimTrade


class Trades(Table):
    """Executions, one row each, unique by exec id. The only table that grows."""

    name = "trades"
    columns = ("exec_id", "txid", "side", "price", "volume", "cost", "fee", "time", "sells")

    def __init__(self, db: DBConnect, userref: int) -> None:
        super().__init__(db, userref)
        self.news: set[str] = set()  # cycles with executions booked since the profit lines last read this

    def add(self, trade: TradeInfoSchema, sells: str = "") -> bool:
        """Book an execution; False when it was already known."""
        self.news.add(trade.txid if trade.side == BUY else sells)
        row = {**vars(trade), "sells": sells}
        return bool(self._insert(row, "ON CONFLICT (userref, exec_id) DO NOTHING").rowcount)

    def remove(self, exec_id: str) -> None:
        """Take back a provisional row, once the exchange has reported executions in its place."""
        self._delete("exec_id =", exec_id)

    def of_order(self, txid: str) -> list[Trade]:
        """The executions of one order, in order of time."""
        # Without the hint SQLite prefers the primary key, and reads every execution for each sell.
        return self._read("AND txid = ?", (txid,), "INDEXED BY trades_by_order")

    def sales_of(self, buy: str) -> list[Trade]:
        """The executions of every sell that was placed for this buy, in order of time."""
        return self._read("AND side = 'sell' AND sells = ?", (buy,), "INDEXED BY trades_by_sale")

    def provisional(self) -> list[Trade]:
        """Rows that stand for fills that were not reported one by one yet."""
        return self._read("AND exec_id LIKE '?%'", ())

    def all(self) -> list[Trade]:
        """Every execution, in order of time."""
        return self._read("", ())

    def all_slim(self) -> list[SlimTrade]:
        """The same without prices, for a running bot."""
        return [SlimTrade(**row) for row in self._rows(SlimTrade._fields, "ORDER BY time, exec_id")]

    def cycles(self) -> set[str]:
        """Every buy id, executed or named by a sell, plus the markers in its place: SURPLUS, EXTRA, UNKNOWN (or "")."""
        return {row[0] for row in self._select(("DISTINCT CASE side WHEN 'buy' THEN txid ELSE sells END",))}

    def of_cycle(self, buy: str) -> list[Trade]:
        """The executions of a buy and of the sells that were placed for it. Every execution is in one cycle."""
        return [row for row in self.of_order(buy) if row.info.side == BUY] + self.sales_of(buy)

    def count(self) -> int:
        """How many executions there are."""
        return int(self._select(("count(*)",)).fetchone()[0])

    def amounts(self) -> Iterator[Amounts]:
        """What each execution changed, in no order; row by row, because all of them may not fit into memory."""
        for row in self._rows((*Amounts._fields, "exec_id")):
            del row["exec_id"]  # read only so that an error can name the row
            yield Amounts(**row)

    def _read(self, where: str, values: tuple[object, ...], hint: str = "") -> list[Trade]:
        found = []
        for row in self._rows(self.columns, f"{where} ORDER BY time, exec_id", values, hint):
            try:
                found.append(Trade(sells=row.pop("sells"), info=TradeInfoSchema(**row)))
            except ValidationError as exc:
                raise self._impossible(row, str(exc.errors()[0]["loc"][0])) from None
        return found


class FinishedOrders(Table):
    """Orders that are over, for as long as the exchange may still mention them."""

    name = "finished_orders"

    def __init__(self, db: DBConnect, userref: int) -> None:
        super().__init__(db, userref)
        self._finished: dict[str, float] = dict(self._select(("txid", "finished_at")).fetchall())

    def __contains__(self, txid: str) -> bool:
        return txid in self._finished

    def add(self, txid: str, status: str, at: float) -> None:
        """The order ended as ``status`` (closed, canceled, expired)."""
        row = {"txid": txid, "status": status, "finished_at": at}
        self._insert(row, "ON CONFLICT (userref, txid) DO NOTHING")
        self._finished.setdefault(txid, at)

    def prune(self, before: float) -> None:
        """Forget the orders that ended before then."""
        kept = {txid: at for txid, at in self._finished.items() if at >= before}
        if len(kept) < len(self._finished):
            self._delete("finished_at <", before)
            self._finished = kept
