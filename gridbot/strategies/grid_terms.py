"""What the exchange demands of an order, and its fee: read at the start, and again while the bot runs."""

import logging
import math
from dataclasses import replace
from decimal import Decimal

from gridbot.exceptions import ConfigurationError, ExchangeError
from gridbot.interfaces.clock import IClock
from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.models.configuration import BotConfigDTO, check_interval_pays, check_one_buy_fits
from gridbot.models.exchange import BUY
from gridbot.models.grid import GridSettings
from gridbot.models.money import ZERO, step_of
from gridbot.services.order_desk import BUYING, PLACING, Finished, OrderDesk
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_notices import MINIMUM, UNDERRATED, UNPAID, GridNotices

LOG = logging.getLogger(__name__)

BASIS_POINT = Decimal("0.0001")
RULES_AGE = 86400.0  # seconds after which the pair's rules and the fee are asked for again
REFUSED_AGE = 600.0  # the same while an order is refused, perhaps because of them


class GridTerms:
    """The terms of trade: the rules of the pair, and the fee. ``settings`` and ``symbol`` are there once read."""

    def __init__(
        self, config: BotConfigDTO, rest_api: IExchangeRESTService, desk: OrderDesk, clock: IClock, tell: GridNotices
    ) -> None:
        self._config = config
        self._rest_api = rest_api
        self._desk = desk
        self._clock = clock
        self._tell = tell
        self.market = f"{rest_api.get_exchange_domain().EXCHANGE} {rest_api.rest_symbol}"
        self.settings: GridSettings
        self.symbol = ""
        self._fee_taken = ZERO  # of the last buy, as a fraction, if it is more than [grid] fee; else 0
        self.read_at = 0.0  # monotonic

    def retrieve_asset_information(self) -> None:
        """Ask for precision and minimums of the pair, and the fee. Raises ConfigurationError."""
        self._check_market()
        pair = self._rest_api.get_asset_pair_info()
        self.symbol = self._rest_api.ws_symbol
        fee = self._config.fee if self._config.fee is not None else self._rest_api.get_maker_fee()
        self.settings = self._held_back_unless_paying(rules.grid_settings(self._config, pair, fee))
        self._desk.funds.fee = self.settings.fee
        self.read_at = self._clock.monotonic()

    def refresh(self) -> None:
        """Ask again: once a day, and every ten minutes while an order is refused."""
        age = self._clock.monotonic() - self.read_at
        pauses = self._desk.pauses
        is_refused = pauses.known(PLACING) or pauses.known(BUYING) or UNPAID in self._tell or MINIMUM in self._tell
        if age < (REFUSED_AGE if is_refused or len(self._desk.unsold) else RULES_AGE):
            return
        self.read_at = self._clock.monotonic()  # before asking: a failure must not be repeated at once
        before = self.settings
        try:
            self.retrieve_asset_information()
        except (ExchangeError, ConfigurationError) as exc:
            LOG.warning("%s; going on with what was known", exc)
        if self.settings != before:
            self._desk.try_again_soon()

    def _held_back_unless_paying(self, settings: GridSettings) -> GridSettings:
        """
        Raises ConfigurationError at the first start if the fee takes the whole interval, or if the limit leaves no room
        for one buy. Later, when the exchange has raised the fee, what was bought must still be sold: then only buys are
        held back.
        """
        try:
            check_interval_pays(settings.interval, max(settings.fee, self._fee_taken))
            check_one_buy_fits(settings.max_investment, settings.amount_with_fee, settings.n_open_buy_orders)
        except ConfigurationError as exc:
            if not self._desk.configuration.exists:
                raise
            self._tell.unpaid(exc)
            return replace(settings, held_back=exc.message.removeprefix("[grid] "))
        self._tell.over(UNPAID)
        return settings

    def compare_fee(self, finished: Finished) -> None:
        """
        Compare the fee of a filled buy with the fee the bot counts on. A buy is post-only and pays the maker fee,
        unless the owner edited it into a taker order, which is left out.

        If [grid] fee is too low, cycles earn less than expected: the owner is told once, and if cycles would lose, no
        more buys are placed. If the fee came from the exchange, the bot asks again. A simulated order proves nothing:
        it keeps the fee of the day on which it was placed.
        """
        if finished.order.side != BUY or not finished.executed or finished.has_taken or self._config.simulated:
            return
        counted_on = finished.cost * (self.settings.fee + BASIS_POINT) + step_of(self.settings.pair.cost_decimals)
        before, self._fee_taken = self._fee_taken, ZERO
        if finished.fee <= counted_on:
            self._tell.over(UNDERRATED)
        elif self._config.fee is None:
            self.read_at = -math.inf
        else:
            self._fee_taken = round(finished.fee / finished.cost, 5)
            self._tell.underrated(finished, self._fee_taken, self.settings.fee)
        if self._fee_taken != before:
            self.settings = self._held_back_unless_paying(replace(self.settings, held_back=""))

    def _check_market(self) -> None:
        """
        Raises ConfigurationError if the database belongs to another market: its orders would not be found here, and
        coins bought with play money might be sold for real.
        """
        stored = self._desk.configuration
        if stored.exists and stored.get().market != self.market:
            raise ConfigurationError(
                f"[database] path: this database holds the orders of userref {self._config.userref} on "
                f"{stored.get().market}, and the settings ask for {self.market}.\n"
                "  Give every exchange and every pair a database of its own, or another userref."
            )
        foreign = [order.txid for order in self._desk.book if self._rest_api.is_foreign(order.txid)]
        if foreign:
            raise ConfigurationError(
                "[database] path: the database and the simulated exchange's file beside it (such as demo.db and "
                "demo.exchange.db) do not belong together: the exchange has never seen "
                f"{len(foreign)} of the open orders ({foreign[0]}, ...).\n"
                "  Put back the matching file (restore can have done this), or remove both to begin anew."
            )
