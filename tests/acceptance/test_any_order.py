"""The same news in any order and any number of times ends in the same books."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from gridbot.models.exchange import BUY, ExecutionsUpdateSchema, OnMessageSchema
from tests.settings import USERREF
from tests.world import World


def news_of(world: World) -> list[ExecutionsUpdateSchema]:
    """A buy filled in three parts, one cancelled after a part, one cancelled untouched; told as Kraken does."""
    whole, part, untouched, *_ = world.buys
    at = world.clock.now
    events = []
    done = cost = Decimal(0)
    for number, share in enumerate(("0.25", "0.5", "0.25"), start=1):
        volume = whole.volume * Decimal(share)
        done += volume
        cost += volume * whole.price
        events.append(
            ExecutionsUpdateSchema(
                order_id=whole.txid,
                exec_type="trade",
                order_status="filled" if done == whole.volume else "partially_filled",
                userref=USERREF,
                symbol="BTC/USD",
                side=BUY,
                exec_id=f"T-whole-{number}",
                last_qty=volume,
                last_price=whole.price,
                cost=volume * whole.price,
                fee=Decimal(number) / 100,
                cum_qty=done,
                cum_cost=cost,
                time=at + number,
            )
        )
    half = part.volume / 2
    events.append(
        ExecutionsUpdateSchema(
            order_id=part.txid,
            exec_type="trade",
            order_status="partially_filled",
            userref=USERREF,
            symbol="BTC/USD",
            side=BUY,
            exec_id="T-part-1",
            last_qty=half,
            last_price=part.price,
            cost=half * part.price,
            fee=Decimal("0.12"),
            cum_qty=half,
            cum_cost=half * part.price,
            time=at + 4,
        )
    )
    for order, executed in ((part, half), (untouched, Decimal(0))):
        events.append(
            ExecutionsUpdateSchema(
                order_id=order.txid,
                exec_type="canceled",
                order_status="canceled",
                userref=USERREF,
                cum_qty=executed,
                cum_cost=executed * order.price,
                time=at + 5,
                reason="User requested",
            )
        )
    return events


def books_after(indices: list[int]) -> tuple[object, ...]:
    world = World("cDCA").start("50000")  # it answers nothing to a fill, so that only the books speak
    events = news_of(world)
    world.strategy._waiting_for = {"executions"}  # and no grid check answers a price
    for index in indices:
        world.deliver([OnMessageSchema(channel="executions", type="update", executions=[events[index]])])
    trades = sorted((t.info.exec_id, t.info.volume, t.info.cost, t.info.fee) for t in world.desk.trades.all())
    stored = world.desk.configuration.get()
    return (
        trades,
        sorted(order.txid for order in world.desk.book),
        stored.vol_of_unfilled_remaining,
        stored.vol_of_unfilled_remaining_max_price,
        stored.highest_buy_price,
        world.desk.provisional,
    )


EXPECTED = books_after([0, 1, 2, 3, 4, 5])


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=12))
def test_any_order_and_any_number_of_times_ends_in_the_same_books(order: list[int], again: list[int]) -> None:
    assert books_after([*order, *again]) == EXPECTED


def test_the_expected_books_are_what_was_told() -> None:
    trades, book, surplus, price, highest, provisional = EXPECTED
    assert [t[0] for t in trades] == ["T-part-1", "T-whole-1", "T-whole-2", "T-whole-3"]
    assert len(book) == 2
    assert (surplus, price, highest) == (Decimal("0.00102010"), Decimal("49014.7"), Decimal("49504.9"))
    assert provisional == frozenset()
