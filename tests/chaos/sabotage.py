"""
The protocol broken on purpose, one step at a time: the matrix must turn red, or it proves nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from gridbot.exceptions import OrderFateUnknown
from gridbot.infrastructure.database import PendingTXIDs, Trades
from gridbot.models.exchange import TradeInfoSchema
from gridbot.models.grid import BookOrder, Placement
from gridbot.services.order_desk import OrderDesk


def write_after_send(stack: ExitStack) -> None:
    """A placement is in memory while it is sent, and on disk only once its fate turns out to be unknown."""
    add, remove, send = PendingTXIDs.add, PendingTXIDs.remove, OrderDesk.send

    def only_in_memory(self: PendingTXIDs, intent: Any, **times: float) -> Placement:
        words = {name: getattr(intent, name) for name in ("side", "price", "volume", "sells", "why")}
        placement = Placement(id=-1 - len(self._placements), **words, **times)
        self._placements[placement.id] = placement
        return placement

    def forget(self: PendingTXIDs, placement: Placement) -> None:
        if placement.id > 0:
            remove(self, placement)
        else:
            del self._placements[placement.id]

    def send_then_write(self: OrderDesk, placement: Placement) -> BookOrder | None:
        order = send(self, placement)
        if order is None and placement.id in self.pending._placements:
            del self.pending._placements[placement.id]
            add(self.pending, placement, placement.written_at, placement.deadline)
        return order

    stack.enter_context(patch.object(PendingTXIDs, "add", only_in_memory))
    stack.enter_context(patch.object(PendingTXIDs, "remove", forget))
    stack.enter_context(patch.object(OrderDesk, "send", send_then_write))


def retry_after_timeout(stack: ExitStack) -> None:
    """No answer, so the order is sent again."""
    original = OrderDesk.send

    def send(self: OrderDesk, placement: Placement) -> BookOrder | None:
        create = self._rest.create_order

        def create_twice(**order: Any) -> Any:
            try:
                return create(**order)
            except OrderFateUnknown:
                return create(**order)

        with patch.object(self._rest, "create_order", create_twice):
            return original(self, placement)

    stack.enter_context(patch.object(OrderDesk, "send", send))


def count_fills_by_message(stack: ExitStack) -> None:
    """Every telling of a fill counts, whatever its execution id."""
    original = Trades.add

    def add(self: Trades, trade: TradeInfoSchema, sells: str = "") -> bool:
        if original(self, trade, sells):
            return True
        again = replace_id(trade, f"{trade.exec_id}/{len(self.all())}")
        return original(self, again, sells)

    stack.enter_context(patch.object(Trades, "add", add))


def replace_id(trade: TradeInfoSchema, exec_id: str) -> TradeInfoSchema:
    """The same execution under another name."""
    return trade.model_copy(update={"exec_id": exec_id})


SABOTAGES: dict[str, Callable[[ExitStack], None]] = {
    "write_after_send": write_after_send,
    "retry_after_timeout": retry_after_timeout,
    "count_fills_by_message": count_fills_by_message,
}


@contextmanager
def of(name: str | None) -> Iterator[None]:
    """Run the block with this step of the protocol broken; None breaks nothing."""
    with ExitStack() as stack:
        if name:
            SABOTAGES[name](stack)
        yield
