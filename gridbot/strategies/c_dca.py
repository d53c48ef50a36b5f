"""cDCA: buy on the way down and on the way up, and keep."""

from gridbot.models.grid import Placement, PlaceSell, UnsoldBuy
from gridbot.strategies.grid_base import GridStrategyBase


class CDCAStrategy(GridStrategyBase):
    """Never sells: a filled buy leaves the book, and the base accumulates."""

    def sell_after(self, buy: UnsoldBuy) -> PlaceSell | None:
        return None

    def _sell_surplus(self) -> Placement | None:
        """The executed parts of cancelled buys are kept as well."""
        return None
