"""GridSell: trade the grid, take the gain in quote."""

from gridbot.models.grid import PlaceSell, UnsoldBuy
from gridbot.strategies.grid_base import GridStrategyBase


class GridSellStrategy(GridStrategyBase):
    """Sell exactly what was bought, one interval higher. The gain is quote."""

    def sell_after(self, buy: UnsoldBuy) -> PlaceSell | None:
        price = self._get_sell_order_price(buy.price)
        volume = self.settings.pair.truncate_volume(buy.volume)
        return PlaceSell(price, volume, buy.txid, f"for the buy {buy.txid}")
