"""SWING: GridHODL, and base that no buy brought in is sold into a rise."""

from gridbot.models.grid import Decision, GridView
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_hodl import GridHODLStrategy


class SwingStrategy(GridHODLStrategy):
    """
    Like GridHODL; and with no sell open, one extra sell of free base, two intervals above the market
    and above the dearest buy. It sells coins that were there before the bot, too.
    """

    def _check_extra_sell_order(self, grid: GridView) -> Decision:
        return rules.check_extra_sell_order(grid)

    def _quiet_band(self, grid: GridView, decision: Decision) -> rules.Band:
        return rules.extra_sell_band(grid, super()._quiet_band(grid, decision))
