"""
Book synchronisation: compares our book with the exchange's, after a start, a lost connection, or doubt.

Asks the exchange, adopts open orders that carry our userref, settles placements of unknown fate, and returns everything
else that the exchange reports of our orders; the strategy books each report together with what follows from it. Absence
proves nothing: an order the exchange does not mention stays in the book.
"""

from gridbot.interfaces.exchange import IExchangeRESTService
from gridbot.models.exchange import News, OrderInfoSchema, TradeInfoSchema
from gridbot.models.money import ZERO
from gridbot.services.order_desk import CLOCK_TOLERANCE, FORGET_AFTER, OrderDesk


class BookSync:
    """Compares one desk's book with its exchange."""

    def __init__(self, desk: OrderDesk, rest_api: IExchangeRESTService, userref: int) -> None:
        self._desk = desk
        self._rest = rest_api
        self._userref = userref

    def run(self, since: float | None = None) -> News:
        """
        One comparison. Raises TemporaryFailure, and has then changed nothing that the next one would not find again.

        since  also look at every order closed after then (unix seconds): after an absence, this finds orders
               that were placed and executed unnoticed
        """
        desk = self._desk
        desk.sync_reason = ""
        desk.time.read()
        opened = self._ours(self._rest.get_open_orders(self._userref, trades=True))
        closed = self._closed(since)
        desk.settle([*opened, *closed])
        unknown = [txid for txid in desk.strangers if not desk.knows(txid)]
        adopted = [info for info in opened if not desk.knows(info.txid)]
        for info in adopted:
            desk.adopt(info)
        reports = {info.txid: info for info in (*opened, *closed)}
        reports |= self._asked_for(reports)
        for txid, info in reports.items():
            may_be_ours = txid in desk.strangers or (since is not None and info in closed)
            if may_be_ours and info.vol_exec > ZERO and not desk.knows(txid):
                desk.adopt(info)
        desk.strangers = {txid for txid in desk.strangers if txid not in reports and not desk.knows(txid)}
        news = News(
            reports=[info for txid, info in reports.items() if desk.book.get(txid) is not None],
            trades=self._executions(list(reports.values())),
            adopted=adopted,
            balance=self._rest.get_pair_balance(),
            strangers=[txid for txid in unknown if desk.knows(txid)],
        )
        for txid in desk.provisional & news.trades.keys():
            if desk.book.get(txid) is None and desk.fit(news.trades[txid], reports[txid].vol_exec):
                for trade in news.trades[txid]:
                    desk.itemise(trade)
        desk.finished.prune(desk.now() - FORGET_AFTER)
        return news

    def _asked_for(self, reports: dict[str, OrderInfoSchema]) -> dict[str, OrderInfoSchema]:
        """Ask for orders of ours that the lists did not mention: in the book, booked as a sum, reported by the feed."""
        desk = self._desk
        wanted = dict.fromkeys([*(order.txid for order in desk.book), *desk.provisional, *sorted(desk.strangers)])
        missing = [txid for txid in wanted if txid not in reports]
        if not missing:
            return {}
        found = self._rest.get_orders_info(missing)
        ours = {info.txid for info in self._ours(list(found.values()))}
        desk.strangers -= found.keys() - ours
        return {txid: info for txid, info in found.items() if txid in ours}

    def _closed(self, since: float | None) -> list[OrderInfoSchema]:
        """Closed orders: all since then, and all that may be placements of unknown fate; [] if there is neither."""
        starts = [] if since is None else [since - CLOCK_TOLERANCE - self._rest.answers_lag]
        if len(self._desk.pending):
            starts.append(self._desk.written_since())
        if not starts:
            return []
        return self._ours(self._rest.get_closed_orders(self._userref, trades=True, start=min(starts)))

    def _ours(self, infos: list[OrderInfoSchema]) -> list[OrderInfoSchema]:
        """Only our pair: the owner's other bots may use the same userref by mistake."""
        return [i for i in infos if i.pair == self._rest.rest_altname and i.userref == self._userref]

    def _executions(self, reports: list[OrderInfoSchema]) -> dict[str, list[TradeInfoSchema]]:
        """By order id: executions of orders that are booked as a sum, or of which more was executed than is booked."""
        wanted: list[str] = []
        for info in reports:
            order = self._desk.book.get(info.txid)
            if info.txid in self._desk.provisional or (order is not None and order.executed < info.vol_exec):
                wanted.extend(info.trades)
        by_order: dict[str, list[TradeInfoSchema]] = {}
        if wanted:
            for trade in self._rest.get_trades_info(wanted).values():
                by_order.setdefault(trade.txid, []).append(trade)
        return by_order
