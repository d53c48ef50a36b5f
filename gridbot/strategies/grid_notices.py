"""What the owner is told of a grid that needs attention: in which words, and how often."""

import logging
from collections.abc import Callable
from decimal import Decimal

from gridbot.exceptions import ConfigurationError, ExchangeError
from gridbot.models.configuration import BotConfigDTO
from gridbot.models.events import Event, OrderRefused, Trouble
from gridbot.models.exchange import BUY
from gridbot.models.grid import Cause, Decision, GridView
from gridbot.models.money import as_text, percent
from gridbot.services.order_desk import Finished, OrderDesk

LOG = logging.getLogger(__name__)

# Told once, until it is over.
MINIMUM = "minimum"  # an order would be too small
LIMITED = "limited"  # max_investment is reached
UNPLACEABLE = "unplaceable"  # with new settings no order could be placed
UNPAID = "unpaid"  # the fee is so high that no buy would pay
UNDERRATED = "underrated"  # the exchange takes more than [grid] fee says
BLIND = "blind"  # no feed of executions; also a pause
FAILING = "failing"  # no comparison with the exchange succeeds
PHANTOMS = "phantoms"  # the exchange does not know orders of the book

STRANGER = "stranger"  # pause of a day: an order with our userref that the bot has not placed
DAY = 86400.0  # seconds


class GridNotices:
    """Told through events. What stands for a while is told once, and again only after it was over."""

    def __init__(self, config: BotConfigDTO, desk: OrderDesk, publish: Callable[[Event], None]) -> None:
        self._config = config
        self._desk = desk
        self._publish = publish

    def __contains__(self, what: str) -> bool:
        """True while ``what`` was told and is not over."""
        return what in self._desk.notices

    def over(self, what: str) -> None:
        self._desk.notices.over(what)

    def _trouble(self, text: str) -> None:
        self._publish(Trouble(text))

    def _once(self, what: str, event: Event) -> None:
        if self._desk.notices.is_new(what):
            self._publish(event)

    def database_lost(self, days: float) -> None:
        """The database is new, and the exchange knows orders of ours; ``days``: how far back they were asked for."""
        self._trouble(
            f"the database is new, but the exchange knows orders of userref {self._config.userref}: an older "
            f"database was lost. Open orders are adopted, and buys of the last {days:.0f} days that have "
            "no sell get one. What was bought before, and the highest buy price, are not known any more. Or "
            "another bot uses this number: then stop one of the two at once, and give it another [bot] userref"
        )

    def others(self) -> None:
        """Open orders under other userrefs: an owner who changes [bot] userref leaves a whole grid behind."""
        for userref, count in self._desk.book.of_others().items():
            self._trouble(
                f"the database also holds {count} open orders of userref {userref}, which this bot "
                f"(userref {self._config.userref}) does not look after. If you changed [bot] userref, "
                "change it back"
            )

    def stranger(self, txid: str) -> None:
        """An order that the bot has not placed, once a day: two bots with one userref sell each other's coins."""
        if not self._desk.pauses.over(STRANGER):
            return
        self._desk.pauses.begin(STRANGER, first=DAY, longest=DAY)
        self._trouble(
            f"the order {txid} carries this bot's userref {self._config.userref} and was not placed by it, but "
            "edited or placed by hand, or by another bot, which must have another userref. It is looked after "
            "as if it were the bot's"
        )

    def strange_sell(self, txid: str, rest: Decimal) -> None:
        """A cancelled sell of coins that the owner, or another bot with our userref, may have offered."""
        self._trouble(
            f"the sell {txid} carried this bot's userref and was not placed by it. It was cancelled, and "
            f"{as_text(rest)} {self._config.base_currency} of it are left alone: no buy of the bot is known for them"
        )

    def phantoms(self, txids: list[str]) -> None:
        """Orders of the book that the exchange does not know. They stay in the book: absence proves nothing."""
        if not txids:
            self.over(PHANTOMS)
            return
        text = (
            f"the exchange does not know {len(txids)} orders of the database ({txids[0]}, ...): is "
            "this the key of another account, the database of another bot or, with play money, a copy older "
            "than what the exchange remembers? They stay in the books as open"
        )
        self._once(PHANTOMS, Trouble(text))

    def failing(self, seconds: float, exc: ExchangeError) -> None:
        """For so long no comparison with the exchange has succeeded."""
        text = (
            f"the orders could not be compared with the exchange for {seconds / 60:.0f} minutes: {exc}. "
            "Until they are, nothing new is placed; it is tried again every minute"
        )
        self._once(FAILING, Trouble(text))

    def blind(self, seconds: float) -> None:
        """For so long the feed of executions has been down."""
        text = (
            f"no connection to the feed of our orders for {seconds / 60:.0f} minutes: no buy is placed until it "
            "is back, and fills are asked for every minute. Check the key's WebSocket permission"
        )
        self._once(BLIND, Trouble(text))

    def unpaid(self, exc: ConfigurationError) -> None:
        """With this fee no buy would pay."""
        self._once(UNPAID, Trouble(f"{exc.message}\n  Until then no buy is placed; sells go on."))

    def underrated(self, finished: Finished, taken: Decimal, expected: Decimal) -> None:
        """The exchange took more for a buy than [grid] fee says; both as fractions."""
        text = (
            f"[grid] fee = {percent(expected)}: the exchange took {percent(taken)} for the buy {finished.order.txid}, "
            "so that every cycle brings less than the bot counts on. Take the line out, or set what you really "
            "pay, and start the bot again"
        )
        self._once(UNDERRATED, Trouble(text))

    def unplaceable(self, exc: ConfigurationError) -> None:
        """With new settings no order could be placed, or none would pay."""
        text = f"{exc.message}\n  Until then open buys stay, and no other is placed; sells go on."
        self._once(UNPLACEABLE, Trouble(text))

    def missing(self, grid: GridView, decision: Decision) -> None:
        """Levels are missing because an order would be too small, or because of max_investment."""
        reasons = {waiting.cause: waiting for waiting in reversed(decision.waiting)}
        too_small, limit = reasons.get(Cause.MINIMUM), reasons.get(Cause.LIMIT)
        if too_small is None:
            self.over(MINIMUM)
        else:
            volume = grid.settings.pair.truncate_volume(grid.settings.amount_per_grid / too_small.price)
            wanted = "the level stays empty: raise amount_per_grid"
            self._once(MINIMUM, OrderRefused(BUY, too_small.price, volume, too_small.reason, wanted))
        if limit is None:
            self.over(LIMITED)
        elif self._desk.notices.is_new(LIMITED):
            LOG.info("%s. The missing buys are placed when sells have made room", limit.reason)
