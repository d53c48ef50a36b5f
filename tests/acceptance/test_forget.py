"""Coins that the owner takes: what the command forget promises."""

import argparse
import os
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from gridbot.core import single_instance
from gridbot.core.commands_owner import forget
from gridbot.core.database_check import problems_in
from gridbot.exceptions import ConfigurationError, DatabaseError
from gridbot.models.configuration import DBConfigDTO, Settings
from tests.settings import USERREF, config
from tests.world import World


def settings_of(world: World, exchange: str = "Demo") -> Settings:
    path = Path(world.path)
    return Settings(
        bot=config(exchange=exchange, dry_run=exchange == "Demo"),
        db=DBConfigDTO(path=path),
        config_path=path.with_name("config.ini"),
    )


def of_market(world: World, market: str) -> None:
    """The settings name the exchange Demo, and the world calls its own otherwise."""
    with closing(sqlite3.connect(world.path)) as db, db:
        db.execute("UPDATE configuration SET market = ?", (market,))


def sells_at_exchange(world: World) -> list[str]:
    return [order.txid for order in world.exchange.open_orders.values() if order.side == "sell"]


def forgotten(world: World, order: str | None, exchange: str = "Demo") -> int:
    """The bot is stopped, told, and started again a minute later."""
    world.db.close()
    of_market(world, f"{exchange} BTC/USD")
    try:
        return forget(settings_of(world, exchange), argparse.Namespace(order=order))
    finally:
        single_instance.release_all()
        of_market(world, world.strategy.market)
        world.clock.now += 60
        world.restart()


def test_a_buy_whose_coins_the_owner_has_sold_is_forgotten_and_the_others_keep_their_sells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000")
    world.exchange.on_price(Decimal("49000"), world.clock.now)  # two are filled while nobody was told
    world.exchange.money.base -= Decimal("0.00202")
    world.exchange.money.bought -= Decimal("0.00202")
    world.restart().price("49000").wait(60)
    [unsold] = world.desk.unsold.all()
    assert forgotten(world, unsold.txid) == 0
    assert f"{unsold.txid}: {unsold.volume:f} BTC bought @ {unsold.price:f}, without a sell" in capsys.readouterr().out
    [sell] = sells_at_exchange(world)
    world.rest.calls.clear()
    world.price("49000").wait(3600)
    assert sells_at_exchange(world) == [sell]
    assert "create_order" not in world.rest.calls
    assert world.desk.unsold.all() == ()
    assert problems_in(Path(world.path), USERREF) == []


def test_a_sell_is_not_placed_again_once_it_is_forgotten_and_cancelled_at_the_exchange(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000").price("49500")
    [sell] = world.sells
    assert forgotten(world, sell.txid) == 0
    world.price("49500").wait(60)
    assert sells_at_exchange(world) == [sell.txid], "it is the owner's to cancel"
    world.exchange.cancel_order(sell.txid, world.clock.now)
    world.settle()
    world.price("49500").wait(3600)
    assert (sells_at_exchange(world), len(world.desk.unsold)) == ([], 0)
    assert world.desk.configuration.get().vol_of_unfilled_remaining == 0


@pytest.mark.parametrize(
    ("exchange", "says"),
    [
        ("Kraken", "Order {} will still be filled, unless you cancel it on the exchange."),
        ("Demo", "Order {} will still be filled, as play money's orders cannot be cancelled."),
    ],
)
def test_forget_says_what_becomes_of_an_open_sell_and_lists_it_as_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exchange: str, says: str
) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000").price("49500", "49000")
    later, first = world.sells
    assert forgotten(world, first.txid, exchange) == 0
    assert capsys.readouterr().out.endswith(f"\n{says.format(first.txid)}\n")
    forgotten(world, None, exchange)
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[1:])
    assert {txid: "forgotten already" in what for txid, what in said.items()} == {first.txid: True, later.txid: False}


@pytest.mark.parametrize("own", [None, Decimal(0)])
def test_swing_offers_no_coins_that_were_forgotten(tmp_path: Path, own: Decimal | None) -> None:
    world = World("SWING", path=tmp_path / "bot.db").start("50000").price("49500", "49000")
    sells = world.sells
    assert len(sells) == 2
    for sell in sells:
        assert forgotten(world, sell.txid) == 0
    for sell in sells:
        world.exchange.cancel_order(sell.txid, world.clock.now)
    world.desk.own_at_start = own, None
    world.settle()
    world.price("49000").wait(60)
    world.price("49100", "49300").wait(600)
    assert sells_at_exchange(world) == []
    assert world.desk.forgotten.volume == sum(sell.volume for sell in sells)


def test_an_extra_sell_of_coins_from_before_is_not_forgotten_but_switched_off(tmp_path: Path) -> None:
    world = World("SWING", base=Decimal(1), path=tmp_path / "bot.db").start("50000")
    [extra] = world.sells
    with pytest.raises(ConfigurationError, match="What there is: nothing"):
        forgotten(world, extra.txid)


def test_the_executed_parts_of_cancelled_buys_can_be_forgotten(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000")
    buy = world.buys[0]
    world.exchange.fill(buy.txid, Decimal("0.0005"))
    world.exchange.cancel_order(buy.txid, world.clock.now)
    world.settle()
    assert world.desk.configuration.get().vol_of_unfilled_remaining == Decimal("0.0005")
    assert forgotten(world, "surplus") == 0
    assert world.desk.configuration.get().vol_of_unfilled_remaining == 0
    assert world.desk.left_to_owner == Decimal("0.0005")


def test_forget_says_what_there_is_and_refuses_what_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000").price("49500")
    [sell] = world.sells
    buy = world.buys[0].txid
    assert forgotten(world, None) == 0
    heading = "The bot sells these coins, or will; forget ORDER leaves those of one to you:"
    assert capsys.readouterr().out == f"{heading}\n{sell.txid}: 0.00202000 BTC for sale @ 49999.9\n"
    with pytest.raises(ConfigurationError, match=f"{buy}: waits for no sell, and is no open sell. What there is: "):
        forgotten(world, buy)
    world.rest.faults = ["lost before"]
    world.price("49000")
    [placement] = world.desk.pending.all()
    with pytest.raises(DatabaseError, match=f"{placement.sells}: its sell was sent, and not answered yet"):
        forgotten(world, placement.sells)
    assert len(world.desk.unsold) == 1


def test_nothing_is_forgotten_under_a_running_bot(tmp_path: Path) -> None:
    world = World("GridSell", path=tmp_path / "bot.db").start("50000")
    lock = single_instance.lock_file(f"{os.path.realpath(world.path)}.lock")
    assert lock is not None
    try:
        with pytest.raises(DatabaseError, match=r"gridbot is already running \(pid \d+\)(.|\n)*nothing was changed"):
            forget(settings_of(world), argparse.Namespace(order="surplus"))
    finally:
        os.close(lock)
