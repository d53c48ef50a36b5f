"""The backtest: numbers checked by hand, the two ways through a file, and paper on the same candles."""

import gc
import re
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path

import pytest

from gridbot.adapters.exchanges.paper import PaperExchange
from gridbot.core.backtest import Backtest, FeeLadder, Play, pair_from_file
from gridbot.core.backtest_result import Deepest, report, verdict
from gridbot.core.candles import PATHS, CandleBlock, MarketData, Period
from gridbot.core.engine import BotEngine
from gridbot.core.live_comparison import LiveTrades
from gridbot.core.registry import resolve
from gridbot.core.sweep import cut
from gridbot.exceptions import ConfigurationError
from gridbot.infrastructure.database import DBConnect
from gridbot.interfaces.exchange import Exchange, ExchangeSetup
from gridbot.models.configuration import DBConfigDTO, PaperConfigDTO, Settings
from gridbot.models.events import OrderExecuted, OrderPlaced
from gridbot.models.exchange import BUY
from gridbot.models.grid import EXTRA
from gridbot.models.money import truncate
from gridbot.services.messages import Units
from tests.past import BEGIN, FEE, bot, diced_candles, played, real_candles, write_candles
from tests.unit.test_paper import PublicFeed, PublicRest
from tests.world import ManualClock

STRATEGIES = ("GridHODL", "GridSell", "SWING", "cDCA")
ROUND = [
    ("50000.0", "50000.0", "50000.0", "50000.0"),
    ("50000.0", "50000.0", "49504.8", "49504.8"),  # through the first buy @ 49504.9
    ("49504.8", "50000.0", "49504.8", "50000.0"),  # through its sell @ 49999.9
]


def test_one_round_of_gridhodl_is_what_a_pencil_says(tmp_path):
    past = played([write_candles(tmp_path / "a.csv", ROUND)])
    result = past.outcome
    assert (result.buys, result.sells, result.cycles) == (1, 1, 1)
    buy, sell = past.tally.fills
    assert (buy.price, buy.volume, buy.fee) == (Decimal("49504.9"), Decimal("0.00202000"), Decimal("0.24999"))
    assert (sell.price, sell.volume, sell.fee) == (Decimal("49999.9"), Decimal("0.00201005"), Decimal("0.25125"))
    # 100.502298995 - 0.25125, less what the sold part of the buy had cost: 100.249888 x 0.00201005 / 0.00202
    assert result.summary.profit.grid.net.quantize(Decimal("1e-12")) == Decimal("0.494966136386")
    assert result.summary.kept.volume == result.base == Decimal("0.00000995")
    assert result.fees == Decimal("0.50124")
    assert result.quote == Decimal("10000.001160995")
    assert result.wealth == result.quote + result.base * 50000


def test_one_round_of_gridsell_gains_quote(tmp_path):
    result = played([write_candles(tmp_path / "a.csv", ROUND)], changes={"strategy": "GridSell"}).outcome
    # 0.00202 x 49999.9 = 100.999798, fee 0.25249
    bought, sold = Decimal("99.999898") + Decimal("0.24999"), Decimal("100.999798") - Decimal("0.25249")
    assert result.summary.profit.grid.net == sold - bought
    assert result.base == 0


def test_a_price_that_only_touches_fills_nothing(tmp_path):
    file = write_candles(tmp_path / "a.csv", [ROUND[0], ("50000.0", "50000.0", "49504.9", "49504.9")])
    assert played([file]).outcome.buys == 0


def test_what_is_bought_at_the_low_is_sold_at_the_same_candles_high_only_when_told_so(tmp_path):
    file = write_candles(tmp_path / "a.csv", [ROUND[0], ("49800.0", "50000.0", "49504.8", "49700.0")])
    cycles = {name: played([file], path=name).outcome.cycles for name in ("high-first", "low-first", "close")}
    assert cycles == {"high-first": 0, "low-first": 1, "close": 0}


@pytest.mark.parametrize(("seed", "lowest"), [(4, "close"), (9, "low-first"), (32, "high-first")])
def test_no_path_gives_the_least_for_every_file(tmp_path, seed, lowest):
    file = write_candles(tmp_path / "a.csv", diced_candles(100, seed))
    wealth = {name: played([file], path=name).outcome.wealth for name in PATHS}
    assert min(wealth, key=lambda name: wealth[name]) == lowest


def test_holding_and_buying_at_fixed_times_pay_their_fees(tmp_path):
    flat = [("100.0", "100.0", "100.0", "100.0")] * 24 + [("200.0", "200.0", "200.0", "200.0")] * 25
    result = played([write_candles(tmp_path / "a.csv", flat, step=3600)], quote="1000").outcome
    assert result.holding == Decimal(1000) / (100 * (1 + FEE)) * 200
    assert result.regular_buys == 3  # at the first price, after 24 and after 48 hours
    third = Decimal(1000) / 3
    assert abs(result.regular - (third / 100 + third / 100 + third / 200) / (1 + FEE) * 200) < Decimal("1e-15")
    assert verdict(replace(result, buys=1)).startswith("verdict     holding was better")


def test_after_a_gap_the_buys_at_fixed_times_are_made_up_for(tmp_path):
    lines = [f"{BEGIN + hour * 3600},100.0,100.0,100.0,100.0,1,1" for hour in (*range(30), *range(81, 96))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert played([tmp_path / "a.csv"]).outcome.regular_buys == 4  # four days


def test_a_file_of_few_prices_has_its_buys_at_fixed_times_all_the_same(tmp_path):
    (tmp_path / "a.csv").write_text("".join(f"{BEGIN + 86400 * n},100.0,100.0,100.0,100.0,1,1\n" for n in range(59)))
    assert played([tmp_path / "a.csv"]).outcome.regular_buys == 59


def test_coins_are_held_from_the_very_fill_to_the_end(tmp_path):
    candles = [("50000.0",) * 4] * 3 + [("50000.0", "50000.0", "49504.8", "49504.8")]
    past = played([write_candles(tmp_path / "a.csv", candles, step=3600)], keep_curve=True)
    [fill] = past.tally.fills
    assert fill.time == pytest.approx(BEGIN + 3 * 3600 + 3599 * 2 / 3)  # the low is the third of four prices
    assert float(past.outcome.time_in_market) == pytest.approx((4 * 3600 - (fill.time - BEGIN)) / (4 * 3600))


def test_money_is_tied_up_in_orders_from_their_placement_to_their_end(tmp_path):
    """Five buys below the first price; after half of the time the price leaves the grid upward."""

    def five_buys_below(price: Decimal) -> Decimal:
        values = []
        for _ in range(5):
            price = truncate(price / Decimal("1.01"), Decimal("0.1"))
            values.append(price * truncate(100 / price, Decimal("1E-8")))
        return sum(values, Decimal(0))

    file = write_candles(tmp_path / "a.csv", [("50000.0",) * 4, ("60000.0",) * 4], step=3600)
    result = played([file]).outcome
    first, later = five_buys_below(Decimal(50000)), five_buys_below(Decimal(60000))
    assert result.most_tied_up == max(first, later)
    assert result.tied_up == (first + later) / 2


@pytest.mark.parametrize("path", ["close", "high-first"])
@pytest.mark.parametrize("fee_tiers", [(), ((Decimal(0), Decimal("0.004")), (Decimal(500), Decimal("0.002")))])
def test_a_chart_changes_no_figure(tmp_path, fee_tiers, path):
    file = write_candles(tmp_path / "a.csv", diced_candles(2000, 7), step=150)
    one, other = (played([file], keep_curve=kept, fee_tiers=fee_tiers, path=path).outcome for kept in (True, False))
    assert one.document() == other.document()
    assert one.regular_buys == 4


def test_coins_given_at_the_start_are_in_the_market_also_when_some_are_sold(tmp_path):
    file = write_candles(tmp_path / "a.csv", [("50000.0",) * 4, *[("52000.0",) * 4] * 3], step=3600)
    result = played([file], base="0.5", changes={"strategy": "SWING"}).outcome
    assert (result.buys, result.sells) == (0, 1)
    assert 0 < result.base < result.start_base
    assert result.time_in_market == 1
    assert played([file], changes={"strategy": "SWING"}).outcome.time_in_market == 0


def test_doing_as_well_as_holding_is_said(tmp_path):
    flat = [("50000.0",) * 4] * 10
    result = played([write_candles(tmp_path / "a.csv", flat)], quote="0", base="1").outcome
    assert verdict(replace(result, buys=1)) == "verdict     holding would have come to the same"


def test_a_grid_that_filled_no_order_is_not_called_better(tmp_path):
    falling = [("50000.0",) * 4, ("49000.0",) * 4]
    result = played([write_candles(tmp_path / "a.csv", falling)], quote="5").outcome
    assert verdict(result) == "verdict     no order was filled; holding came to -2.24 %"


def test_a_candle_that_cannot_be_is_an_error_where_only_its_close_is_looked_at(tmp_path):
    candles = [("100.0", "100.1", "99.9", "100.0")] * 9
    file = write_candles(tmp_path / "a.csv", [*candles, ("100.0", "100.1", "99.9", "400.0")])
    with pytest.raises(ConfigurationError, match=r"a\.csv, line 10: open 100\.0 and close 400\.0 do not lie between"):
        played([file])


@pytest.mark.parametrize("step", [3600, 86400])
def test_two_days_are_two_buys_at_fixed_times(tmp_path, step):
    flat = [("100.0", "100.0", "100.0", "100.0")] * (2 * 86400 // step)
    result = played([write_candles(tmp_path / "a.csv", flat, step=step)], quote="1000").outcome
    assert (result.end - result.begin, result.regular_buys) == (2 * 86400, 2)
    assert abs(result.regular - 1000 / (1 + FEE)) < Decimal("1e-15")


def test_the_largest_fall_is_from_a_peak_to_a_later_low():
    deepest = Deepest()
    for value in (100, 120, 90, 130, 117, 125):
        deepest.see(Decimal(value))
    assert deepest.fall == Decimal("0.25")


def test_fees_follow_the_volume_of_thirty_days():
    ladder = FeeLadder(((Decimal(0), Decimal("0.004")), (Decimal(1000), Decimal("0.003"))))
    assert ladder.after(0.0, Decimal(999)) == Decimal("0.004")
    assert ladder.after(10.0, Decimal(1)) == Decimal("0.003")
    assert ladder.after(31 * 86400.0, Decimal(1)) == Decimal("0.004")


@pytest.mark.parametrize("strategy", ["GridHODL", "SWING"])
def test_the_largest_fall_is_seen_within_an_hour_too_whoever_does_nothing(tmp_path, strategy):
    up_and_down = [("50000.0",) * 4, ("50000.0", "50400.0", "50000.0", "50000.0"), ("50000.0",) * 4]
    through = [("50000.0", "50000.0", "30000.0", "30000.0"), ("30000.0",) * 4, ("50000.0",) * 4]
    file = write_candles(tmp_path / "a.csv", [*up_and_down, *through])
    result = played([file], base="1", quote="0", changes={"strategy": strategy}).outcome
    assert result.buys == 0
    assert result.drawdown == result.holding_drawdown == 1 - Decimal(30000) / Decimal(50400)


def test_an_hour_is_an_hour_of_the_market_however_few_candles_it_has(tmp_path):
    """Kraken's files leave out minutes without a trade. Here all of them but some of the first and the last hour."""
    fall = ("50000.0", "50000.0", "49504.8", "49504.8")  # through the first buy
    times = [*range(0, 3600, 60), 4 * 3600 - 60]
    candles = [("50000.0",) * 4 for _ in times[1:]] + [fall]
    lines = (f"{BEGIN + time},{','.join(candle)},1,1\n" for time, candle in zip(times, candles, strict=True))
    (tmp_path / "a.csv").write_text("".join(lines))
    past = played([tmp_path / "a.csv"])
    assert [(sample.time - BEGIN) / 3600 for sample in past.tally.samples] == [0, 1, 4]
    [fill] = past.tally.fills
    assert float(past.outcome.time_in_market) == pytest.approx((4 * 3600 - (fill.time - BEGIN)) / (4 * 3600))


def test_an_order_pays_the_fee_of_the_tier_in_which_it_is_filled(tmp_path):
    """A sell placed at the cheap tier is filled after 49 quiet days."""
    fall, quiet = ("50000.0", "50000.0", "49504.8", "49504.8"), ("49504.8",) * 4
    rise = ("49504.8", "50000.0", "49504.8", "50000.0")
    tiers = ((Decimal(0), Decimal("0.004")), (Decimal(1), Decimal("0.001")))
    file = write_candles(tmp_path / "a.csv", [ROUND[0], fall, *[quiet] * 49 * 24, rise], step=3600)
    bought, sold = played([file], fee_tiers=tiers, changes={"fee": "0.4%"}).tally.fills
    assert [f"{fill.fee / fill.price / fill.volume:.4f}" for fill in (bought, sold)] == ["0.0040", "0.0040"]


def test_a_discount_ends_when_the_volume_is_thirty_days_old(tmp_path):
    """A buy after 49 quiet days; its order was placed while there was no volume of thirty days any more."""
    fall, quiet = ("50000.0", "50000.0", "49504.8", "49504.8"), ("49504.8",) * 4
    rise = ("52000.0",) * 4  # the grid moves up
    candles = [ROUND[0], fall, *[quiet] * 49 * 24, rise, ("52000.0", "52000.0", "51480.0", "51480.0")]
    tiers = ((Decimal(0), Decimal("0.004")), (Decimal(1), Decimal("0.001")))
    changes = {"strategy": "cDCA", "fee": "0.4%"}
    past = played([write_candles(tmp_path / "a.csv", candles, step=3600)], fee_tiers=tiers, changes=changes)
    first, last = past.tally.fills
    assert [f"{fill.fee / fill.price / fill.volume:.4f}" for fill in (first, last)] == ["0.0040", "0.0040"]


def test_cheaper_tiers_cost_less(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(700, 4))
    tiers = ((Decimal(0), FEE), (Decimal(500), Decimal("0.001")))
    assert played([file], fee_tiers=tiers).outcome.fees < played([file]).outcome.fees


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("quote", "base"), [("10000", "0.05"), ("350", "0")])
def test_passing_over_quiet_candles_changes_no_digit(tmp_path, monkeypatch, strategy, quote, base):
    acted, act = Counter(), Backtest.act

    def counted(past, block, index):
        acted[past] += 1
        act(past, block, index)

    monkeypatch.setattr(Backtest, "act", counted)
    file = write_candles(tmp_path / "a.csv", diced_candles(1400, 11))
    changes = {"strategy": strategy}
    fast = played([file], quote=quote, base=base, changes=changes)
    slow = played([file], quote=quote, base=base, changes=changes, use_band=False)
    assert acted[slow] == 1400 > acted[fast]
    assert fast.outcome == slow.outcome
    assert fast.tally.fills == slow.tally.fills
    assert fast.tally.samples == slow.tally.samples


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_money_beyond_the_bots_own_changes_no_order(tmp_path, strategy):
    """As the running bot has it: the account holds more, the desk is told its share."""
    file = write_candles(tmp_path / "a.csv", diced_candles(700, 11))
    alone = played([file], base="0.02", quote="700", changes={"strategy": strategy})
    data = MarketData([file])
    play = replace(alone.play, base_balance=Decimal(1), quote_balance=Decimal(9000))
    fenced = Backtest(play, data.step, keep_curve=True)
    fenced.desk.own_at_start = Decimal("0.02"), Decimal(700)
    fenced.run(data)
    assert fenced.tally.fills == alone.tally.fills != []


@pytest.mark.parametrize(("strategy", "quote"), [*((name, "10000") for name in STRATEGIES), ("GridHODL", "700")])
def test_the_same_on_two_days_of_real_candles(strategy, quote):
    period = Period(1514764800 + 20 * 86400, 1514764800 + 22 * 86400)
    runs = [
        played([real_candles()], quote=quote, changes={"strategy": strategy}, use_band=band, period=period)
        for band in (True, False)
    ]
    assert runs[0].outcome == runs[1].outcome
    assert runs[0].tally.fills == runs[1].tally.fills
    assert runs[0].outcome.buys > 5
    runs[0].exchange.check_money()


def test_trades_and_the_candles_made_of_them_give_the_same_when_the_path_is_known(tmp_path):
    candles = [
        (o, o, low, low)
        for o, _, low, _ in diced_candles(600, 5)  # only falls within a candle: nothing is assumed
    ]
    trades = tmp_path / "t.csv"
    lines = []
    for i, (o, _, low, _) in enumerate(candles):
        begin = BEGIN + i * 60
        lines += [f"{begin},{o},1\n", f"{begin + 59},{low},1\n"]
    trades.write_text("".join(lines))
    one = played([trades]).tally.fills
    two = played([write_candles(tmp_path / "c.csv", candles)]).tally.fills
    assert [(f.side, f.price, f.volume, f.fee) for f in one] == [(f.side, f.price, f.volume, f.fee) for f in two]
    assert len(one) > 20


def test_paper_trade_on_the_same_prices_places_and_cancels_the_same_orders(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(400, 21))
    in_the_past: list[tuple[object, ...]] = []
    recorded = Recorded()
    settings = bot()
    recorded.backtest(file, settings, in_the_past)
    on_paper: list[tuple[object, ...]] = []
    recorded.paper(file, settings, tmp_path, on_paper)
    assert len(in_the_past) > 100
    assert on_paper == in_the_past


class Recorded:
    """The two runs, and every order and cancellation of each."""

    def listen(self, rest, calls) -> None:
        create, cancel = rest.create_order, rest.cancel_order
        names: dict[str, int] = {}  # ids carry the name of the book; their order tells as much

        def create_order(**order):
            reply = create(**order)
            names[reply.txid] = len(names)
            calls.append(("create", order["side"], order["price"], order["volume"], order["oflags"]))
            return reply

        def cancel_order(txid):
            calls.append(("cancel", names[txid]))
            return cancel(txid)

        rest.create_order, rest.cancel_order = create_order, cancel_order

    def backtest(self, file, settings, calls) -> None:
        data = MarketData([file])
        play = Play(
            settings,
            resolve("strategy", settings.strategy),
            pair_from_file(settings, 1),
            FEE,
            Decimal(0),
            Decimal(10000),
        )
        past = Backtest(play, data.step)
        self.pair = play.pair
        self.listen(past.rest, calls)
        past.run(data)

    def paper(self, file, settings, folder, calls) -> None:
        clock = ManualClock(float(BEGIN))
        public, feed = PublicRest(), PublicFeed()
        public.get_asset_pair_info = lambda: self.pair
        public.get_server_time = lambda: clock.now
        everything = Settings(
            bot=settings, db=DBConfigDTO(path=folder / "bot.db"), paper=PaperConfigDTO(quote_balance="10000")
        )
        exchange = PaperExchange(lambda setup: Exchange(public, feed)).create(ExchangeSetup(everything, clock))
        self.listen(exchange.rest, calls)
        engine = BotEngine(everything, clock, exchange, DBConnect(":memory:"))
        engine._connect()
        for block in MarketData([file]).blocks():
            for index in range(len(block)):
                for time, price in block.ticks(index):
                    clock.now = time
                    engine._queue.put(("BTC/USD", str(price), time))
                    while not engine._queue.empty():
                        engine.step(0.0)
        exchange.rest.close()


def test_time_that_goes_back_or_a_period_without_candles_is_said(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(10, 1))
    asked = "nothing from 1970-01-01T00:00:00Z to 1970-01-01T00:00:05Z"
    said = f"{asked}; the files go from 2020-09-13T12:27:00Z to 2020-09-13T12:36:00Z"
    with pytest.raises(ConfigurationError, match=said):
        played([file], period=Period(0, 5))
    with pytest.raises(ConfigurationError, match=said):
        cut(Period(0, 5), MarketData([file]), Decimal("0.3"))


def test_settings_that_cannot_work_are_refused_as_live(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(10, 1))
    with pytest.raises(ConfigurationError, match=r"Raise amount_per_grid to "):
        played([file], changes={"amount_per_grid": "0.4"})


def test_memory_holds_no_candles(tmp_path):
    """Whatever the length of the file, at most two blocks of it are alive."""
    data = MarketData([write_candles(tmp_path / "a.csv", diced_candles(8000, 1))])
    blocks = data.blocks()
    for _ in islice(blocks, 5):
        pass
    gc.collect()
    assert sum(isinstance(o, CandleBlock) for o in gc.get_objects()) <= 2


def test_the_report_reads_as_sentences_with_units(tmp_path):
    past = played([write_candles(tmp_path / "a.csv", ROUND)])
    text = report(past.outcome, Units.of("BTC", "USD", past.strategy.settings.pair), "title")
    assert "cycles      1 buy sold again\ngrid profit +0.49 USD by what was sold, after 0.50 of fees" in text
    assert "accumulated 0.00000995 BTC, worth 0.49 USD" in text
    assert re.search(r"\nheld coins  \S+ % of the time; open orders bound .* USD at most\n", text)
    assert re.search(r"\nfixed times .* USD, buying an equal amount every day\n", text)
    assert "orders      1 buy and 1 sell filled, grid moved up 0 times" in text
    assert re.search(r"verdict     better than holding, by \d\.\d\d points", text)


def test_what_a_strategy_of_ones_own_keeps_is_accumulated_as_in_a_report_and_no_surplus(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(600, 8))
    past = played([file], changes={"strategy": "tests.world:Keeper"})
    sold = {trade.sells for trade in past.desk.trades.all()} | {order.sells for order in past.desk.book}
    kept = [trade.info for trade in past.desk.trades.all() if trade.info.side == BUY and trade.info.txid not in sold]
    summary = past.outcome.summary
    assert kept
    assert summary.surplus.volume == 0
    assert summary.kept.volume >= sum(trade.volume for trade in kept)


def test_live_and_backtest_are_compared_to_the_last_digit(tmp_path):
    past = played([write_candles(tmp_path / "a.csv", diced_candles(1500, 8))])
    fills = past.tally.fills
    dearer = [replace(f, time=f.time + 1, fee=f.fee * 2) for f in fills[:-3]]
    comparison = LiveTrades(tuple(dearer), fills[0].time, fills[-1].time, "reconciled").compare(fills, past.outcome)
    assert len(comparison.pairs) == len(fills) - 3
    assert comparison.only_live == []
    assert len(comparison.only_past) == 3
    parts = comparison.parts()
    assert parts["from_fees"] == -sum(f.fee for f in fills[:-3])
    assert parts["from_prices"] == 0
    assert parts["difference"] == parts["live"] - parts["backtest"]
    assert parts["difference"] == parts["from_fees"] + parts["only_live_value"] + parts["only_backtest_value"]


def test_what_was_filled_live_outside_the_data_is_left_out_and_told(tmp_path):
    file = write_candles(tmp_path / "a.csv", diced_candles(1500, 8))
    fills = tuple(played([file]).tally.fills)
    past = played([file], period=Period(BEGIN, BEGIN + 700 * 60))
    covered = [fill for fill in fills if fill.time < past.outcome.end]
    early = replace(fills[0], time=BEGIN - 60.0)
    live = LiveTrades((early, *fills), BEGIN, fills[-1].time, "not reconciled: there was no audit yet")
    comparison = live.compare(past.tally.fills, past.outcome)
    assert 0 < len(covered) < len(fills)
    assert (len(comparison.pairs), comparison.only_live, comparison.only_past) == (len(covered), [], [])
    left_out = len(fills) + 1 - len(covered)
    assert comparison.document()["live_outside_data"] == left_out
    units = Units.of("BTC", "USD", past.strategy.settings.pair)
    said = comparison.text(units)
    assert f"compared from 2020-09-13 12:27 to 2020-09-14 00:07; {left_out} orders filled live outside the data" in said
    assert "live books: not reconciled: there was no audit yet" in said


def test_the_comparison_values_the_backtest_as_its_report_does(tmp_path):
    past = played([write_candles(tmp_path / "a.csv", diced_candles(1500, 8))])
    assert past.outcome.last_price != past.tally.fills[-1].price
    parts = LiveTrades((), BEGIN, BEGIN + 90000, "reconciled").compare(past.tally.fills, past.outcome).parts()
    assert parts["backtest"] == past.outcome.summary.profit.change.net == past.outcome.wealth - 10000


class Watched:
    """A backtest that is looked at after every bar and every placement that anybody acted on."""

    def __init__(self, file: Path, **changes: object) -> None:
        data = MarketData([file])
        settings = bot(**changes)
        pair = pair_from_file(settings, max(1, data.decimals))
        strategy = resolve("strategy", settings.strategy)
        play = Play(settings, strategy, pair, FEE, Decimal("0.02"), Decimal(4000))
        self.settings = settings
        self.bought: set[str] = set()
        self.past = Backtest(play, data.step, publish=self.hear)
        act = self.past.act

        def watched(block, index) -> None:
            act(block, index)
            self.look()

        self.past.act = watched
        self.period = Period(data.first_time, data.first_time + 90 * 86400)
        self.outcome = self.past.run(data, self.period)

    def hear(self, event) -> None:
        if isinstance(event, OrderExecuted) and event.side == "buy":
            self.bought.add(event.txid)
        elif isinstance(event, OrderExecuted):
            self.bought -= {row.sells for row in self.past.desk.trades.of_order(event.txid)}
        elif isinstance(event, OrderPlaced) and event.side == "buy":
            assert sum(order.value for order in self.past.desk.book) <= self.settings.max_investment

    def look(self) -> None:
        desk, exchange = self.past.desk, self.past.exchange
        exchange.check_money()
        assert desk.funds.base_available == exchange.base_available
        assert desk.funds.quote_available == exchange.quote_available
        assert {order.txid for order in desk.book} == set(exchange.open_orders)
        buys, sells = desk.book.buys(), desk.book.sells()
        assert len(buys) <= self.settings.n_open_buy_orders
        assert all(a.price / b.price > 1 + self.settings.interval / 2 for a, b in pairwise(buys))
        for_buys = [order.sells for order in sells if order.sells != EXTRA] + [buy.txid for buy in desk.unsold.all()]
        if self.settings.strategy != "cDCA":
            assert sorted(for_buys) == sorted(self.bought)
        assert len(sells) - len([order for order in sells if order.sells != EXTRA]) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_three_months_of_real_minutes_break_nothing(strategy):
    run = Watched(real_candles(), strategy=strategy, interval="1.5%", max_investment="2500")
    assert run.outcome.candles > 120_000
    assert run.outcome.buys > 30


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weeks_of_diced_hours_break_nothing(tmp_path, strategy):
    file = write_candles(tmp_path / "a.csv", diced_candles(1200, 13, volatility=0.006), step=3600)
    run = Watched(file, strategy=strategy, max_investment="2500")
    assert run.outcome.buys > 30
