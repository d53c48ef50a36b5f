"""cDCA: buy on the way down and on the way up, and keep."""

from gridbot.models.grid import PlaceSell, UnsoldBuy
from gridbot.strategies.grid_base import GridStrategyBase


class CDCAStrategy(GridStrategyBase):
    """Never sells: what was bought leaves the book, and the base accumulates."""

    keeps_all = True

    def sell_after(self, buy: UnsoldBuy) -> PlaceSell | None:
        return None
