"""The story that is told for every number: each rule of the grid has its turn."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from tests.chaos.house import PAIR, USERREF, House

HALF = Decimal("0.5")


@dataclass(frozen=True)
class Step:
    """``act`` is done to the market or the bot, then ``seconds`` pass."""

    name: str
    act: Callable[[House], None]
    seconds: float = 15.0


def _people(house: House) -> None:
    """Other bots and people are there too, with orders that look like ours."""
    fake = house.fake
    fake.place_by_hand(PAIR, "buy", "0.002", "49504.9", userref=USERREF + 1)
    fake.place_by_hand(PAIR, "buy", "0.002", "49014.7")
    fake.place_by_hand(PAIR, "sell", "0.002", "49999.9", userref=None)
    fake.place_by_hand("XETHZUSD", "buy", "0.02", "2400", userref=USERREF)


def _part_of(side: str, part: Decimal = HALF) -> Callable[[House], None]:
    def act(house: House) -> None:
        for order in house.own_open(side)[:1]:
            volume = min((order.volume * part).quantize(Decimal("0.00000001")), order.remaining)
            house.say(f"{volume} of {order.txid} is filled")
            house.fake.fill(order.txid, volume)

    return act


def _cancelled_by_hand(side: str) -> Callable[[House], None]:
    def act(house: House) -> None:
        for order in house.own_open(side)[:1]:
            house.say(f"somebody cancels {order.txid}")
            house.fake.cancel(order.txid)

    return act


def _price(*prices: str) -> Callable[[House], None]:
    def act(house: House) -> None:
        for price in prices:
            house.price(price)

    return act


def _restart(**grid: object) -> Callable[[House], None]:
    def act(house: House) -> None:
        house.stop()
        house.start(**grid)

    return act


def _changed(house: House) -> None:
    """Stopped; the price falls; started again with other settings."""
    house.stop()
    house.run(5)
    house.price("52300")
    house.start(amount_per_grid=Decimal(60), interval=Decimal("0.02"), max_investment=Decimal(700), n_open_buy_orders=4)


STORY = (
    Step("start", lambda house: house.start()),
    Step("other people", _people, 1),
    Step("a buy fills", _price("49500")),
    Step("part of a buy", _part_of("buy", Decimal("0.3"))),
    Step("another part of it", _part_of("buy", Decimal("0.3"))),
    Step("the rest of it", _price("49000")),
    Step("part of the next", _part_of("buy", Decimal("0.6"))),
    Step("cancelled by hand", _cancelled_by_hand("buy")),
    Step("part of one more", _part_of("buy", Decimal("0.6"))),
    Step("cancelled by hand as well", _cancelled_by_hand("buy")),
    Step("a sell fills", _price("49510")),
    Step("part of a sell", _part_of("sell")),
    Step("that sell is cancelled by hand", _cancelled_by_hand("sell")),
    Step("all sells fill", _price("50100", "51000")),
    Step("the grid moves up", _price("53000")),
    Step("stopped, and started with other settings", _changed),
    Step("a fall through the whole grid", _price("50000", "46000")),
    Step("back up", _price("48000")),
    Step("started again", _restart()),
    Step("up and away", _price("49000", "52000", "55000")),
)


def calm_down(house: House) -> int:
    """The faults are over; the market moves a little, as markets do. Returns the REST calls of that time."""
    calls = house.fake.count()
    if house.engine is None and house.start_at is None:
        house.start_at = house.now
    price = house.fake.last[PAIR]
    for _ in range(12):
        for factor in ("1.0005", "0.9995"):
            house.price((price * Decimal(factor)).quantize(HALF / 5))
            house.run(33, turn=3)  # nothing is in a hurry any more
    house.run(5)
    return house.fake.count() - calls
