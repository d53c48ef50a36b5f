"""
Money in the fake exchange: no story, told from one thread or from several, makes or loses a unit.
"""

from __future__ import annotations

import random
import threading
from decimal import Decimal
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fake_kraken import ApiKey, FakeKraken, VirtualClock
from tests.fake_kraken.client import KrakenRefused, TinyClient
from tests.fake_kraken.in_process import session_for
from tests.fake_kraken.server import FakeKrakenServer

SIDES = st.sampled_from(["buy", "sell"])
PRICES = st.integers(40_000_0, 60_000_0)  # in steps of 0.1
VOLUMES = st.integers(5_000, 9_999_999)  # in steps of 1E-8

STEPS = st.one_of(
    st.tuples(st.just("price"), PRICES),
    st.tuples(
        st.just("limit"),
        SIDES,
        PRICES,
        VOLUMES,
    ),
    st.tuples(
        st.just("post"),
        SIDES,
        PRICES,
        VOLUMES,
    ),
    st.tuples(st.just("market"), SIDES, VOLUMES),
    st.tuples(st.just("part"), st.integers(0, 20), st.integers(1, 9_999_999)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("fees"), st.integers(-2, 80), st.integers(1, 80)),
    st.tuples(st.just("deposit"), st.integers(1, 10**9)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=st.lists(STEPS, max_size=40))
def test_no_story_makes_or_loses_money(story: list[tuple[Any, ...]]) -> None:
    fake = FakeKraken(VirtualClock(), balances={"ZUSD": "3000", "XXBT": "0.05"})
    fake.limits.off()
    client = TinyClient(session_for(fake))
    unexpected = []
    for kind, *values in story:
        try:
            _play(fake, client, kind, values)
        except KrakenRefused as refused:
            unexpected += [] if str(refused).startswith("EOrder:") else [refused]
        fake.check_money()
    assert not unexpected
    fake.audit()
    assert not fake.broken


def _play(fake: FakeKraken, client: TinyClient, kind: str, values: list[Any]) -> None:
    fake.advance(0.5)
    open_now = fake.open_orders()
    if kind == "price":
        fake.set_price("BTC/USD", Decimal(values[0]) / 10)
    elif kind in ("limit", "post"):
        side, price, volume = values
        client.add(
            side, f"{Decimal(volume) / 10**8:f}", f"{Decimal(price) / 10:f}", oflags="post" if kind == "post" else ""
        )
    elif kind == "market":
        client.add(values[0], f"{Decimal(values[1]) / 10**8:f}")
    elif kind == "part" and values[0] < len(open_now):
        order = open_now[values[0]]
        fake.fill(order.txid, min(order.remaining, Decimal(values[1]) / 10**8))
    elif kind == "cancel" and values[0] < len(open_now):
        client.private("CancelOrder", txid=open_now[values[0]].txid)
    elif kind == "fees":
        fake.set_fees(Decimal(values[0]) / 100, Decimal(values[1]) / 100)
    elif kind == "deposit":
        fake.deposit("ZUSD", Decimal(values[0]) / 10**4)


def test_cost_and_fee_are_cut_and_a_hold_suffices_for_every_part() -> None:
    # 0.00101 x 49504.9 = 49.999949, its fee 0.1249998725; both parts together fit into what the whole held
    fake = FakeKraken(VirtualClock(), balances={"ZUSD": "100.2499"})
    order = fake.place_by_hand("BTC/USD", "buy", "0.00202", "49504.9")
    trade = fake.fill(order.txid, "0.00101")
    assert (trade.cost, trade.fee) == (Decimal("49.99994"), Decimal("0.12499"))
    fake.fill(order.txid)
    assert fake.balances["ZUSD"] == Decimal("100.2499") - 2 * Decimal("50.12493")


def test_the_money_check_notices_a_missing_unit() -> None:
    fake = FakeKraken(VirtualClock())
    fake.balances["ZUSD"] -= Decimal("0.00001")
    with pytest.raises(AssertionError, match="ZUSD: put in 10000"):
        fake.place_by_hand("BTC/USD", "buy", "0.001", "49000")
    assert len(fake.broken) == 1


def test_the_same_seed_tells_the_same_story() -> None:
    def story() -> list[str]:
        fake = FakeKraken(VirtualClock(), seed=7)
        order = fake.place_by_hand("BTC/USD", "buy", "0.001", "49000")
        return [order.txid, fake.fill(order.txid).id]

    assert story() == story()


def test_many_clients_at_once_over_sockets() -> None:
    keys = [ApiKey(f"key-{number}") for number in range(4)]
    fake = FakeKraken(balances={"ZUSD": "500", "XXBT": "0.01"}, keys=keys, prices={"BTC/USD": "50000.0"})
    fake.limits.off()
    unexpected: list[Exception] = []

    def trade(key: str, seed: int, url: str) -> None:
        client, dice = TinyClient(requests.Session(), url, key=key), random.Random(seed)
        for _ in range(25):
            try:
                side, price = dice.choice(["buy", "sell"]), f"{dice.randint(490000, 510000) / 10:.1f}"
                [txid] = client.add(side, "0.001", price, oflags=dice.choice(["", "post"]))["txid"]
                if dice.random() < 0.3:
                    client.private("CancelOrder", txid=txid)
            except KrakenRefused as refused:
                if str(refused) not in ("EOrder:Insufficient funds", "EOrder:Unknown order"):
                    unexpected.append(refused)

    with FakeKrakenServer(fake) as server:
        threads = [
            threading.Thread(target=trade, args=(key.public, seed, server.rest_url)) for seed, key in enumerate(keys)
        ]
        for thread in threads:
            thread.start()
        for number in range(50):
            fake.set_price("BTC/USD", Decimal(49_500 + number * 20))
        for thread in threads:
            thread.join()
    fake.audit()
    assert not fake.broken
    assert not unexpected
    assert len(fake.trades) > 0
