"""SWING: GridHODL, and base that no buy brought in is sold into a rise."""

from decimal import Decimal

from gridbot.models.grid import EXTRA, Decision, GridView
from gridbot.models.money import ZERO, shown
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_hodl import GridHODLStrategy


class SwingStrategy(GridHODLStrategy):
    """
    Like GridHODL; and with no sell open, one extra sell of free base, two intervals above the market and
    not below the dearest buy. It sells coins that were there before the bot, too.
    """

    def describe(self) -> str:
        """The grid in one sentence, and a warning about coins that will be sold although no buy brought them in."""
        pair = self.settings.pair
        if self._desk.own_at_start[0] == 0:
            return super().describe() + self._still_for_sale()
        found, amount = shown(self.base_from_before(), pair.lot_decimals), self.settings.amount_per_grid
        if not Decimal(found):
            return super().describe()
        return (
            f"{super().describe()}.\n"
            f"found {found} {self._config.base_currency} free that no buy of this bot brought in; SWING will sell them,"
            f" about {shown(amount, pair.money_decimals)} {self._config.quote_currency} at a time, two intervals above "
            "the price, while no other sell is open. To keep them, set own_base = 0 under [funds] and start again"
        )

    def _still_for_sale(self) -> str:
        """A note on an extra sell from before the owner set own_base = 0: it stays open, as every open order does."""
        extra = sum((o.rest for o in self._desk.book.sells() if o.sells == EXTRA), ZERO)
        if not extra:
            return ""
        return (
            f".\nown_base = 0, but an extra sell of {shown(extra, self.settings.pair.lot_decimals)} "
            f"{self._config.base_currency} from before is open still: cancel it on the exchange to keep them"
        )

    def base_from_before(self) -> Decimal:
        """Free base, extra sells included, beyond what is left of the bot's own buys. Slow: reads all trades."""
        desk = self._desk
        extra = sum((o.rest for o in desk.book.sells() if o.sells == EXTRA), ZERO)
        others = sum((o.rest for o in desk.book.sells() if o.sells != EXTRA), ZERO)
        own = max(desk.held() - others, ZERO)
        return max(desk.funds.base_available + extra - own, ZERO)

    def _check_extra_sell_order(self, grid: GridView) -> Decision:
        return rules.check_extra_sell_order(grid)

    def _quiet_band(self, grid: GridView, decision: Decision) -> rules.Band:
        return rules.extra_sell_band(grid, super()._quiet_band(grid, decision))
