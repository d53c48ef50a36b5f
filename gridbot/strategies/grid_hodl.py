"""GridHODL: trade the grid, keep the gain in base."""

from gridbot.models.grid import PlaceSell, UnsoldBuy
from gridbot.strategies import grid_rules as rules
from gridbot.strategies.grid_base import GridStrategyBase


class GridHODLStrategy(GridStrategyBase):
    """Sell the quote that was spent, one interval higher. What is left over stays in base."""

    def sell_after(self, buy: UnsoldBuy) -> PlaceSell | None:
        price = self._get_sell_order_price(buy.price)
        return PlaceSell(price, rules.volume_for(buy, price, self.settings), buy.txid, f"for the buy {buy.txid}")
