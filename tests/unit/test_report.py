"""Reports: figures a reader can add up, tables, csv and JSON with every digit, gains of a tax year."""

import json
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridbot.infrastructure.audits import AuditMark
from gridbot.models.grid import EXTRA
from gridbot.services import report
from gridbot.services.ledger import Line, Profit, by_cycle, fifo
from gridbot.services.messages import Units
from gridbot.services.tables import Column, Table, as_json, moment
from tests.unit.test_ledger import HODL, buy, sell

UNITS = Units("BTC", "USD", 1, 8, 2)
NEW_YEAR_2026 = 1_767_225_600.0  # 2026-01-01T00:00:00Z
DAY = 86400.0


def test_the_profit_lines_of_the_status_message_say_which_fees_are_in_them() -> None:
    summary = report.summarise(HODL, D(150))
    assert report.profit_lines(summary, UNITS) == (
        "grid profit +0.17 USD by what was sold, after 0.02 of fees",
        "price move  +0.10 USD on 0.00200000 BTC held at what they cost, after 0.01 of fees",
        "change      +0.27 USD in all; the 0.03 of fees are taken off above",
        "accumulated 0.00200000 BTC, worth 0.30 USD",
        "books       not reconciled: there was no audit yet",
    )


def test_no_profit_without_the_word_on_the_books() -> None:
    summary = report.summarise(HODL, D(150), last_audit=AuditMark(9.0, 2, ""))
    assert report.profit_lines(summary, UNITS)[-1] == "books       reconciled"
    assert "books: reconciled" in report.summary_text(summary, UNITS)
    assert report.summary_document(summary)["books"] == "reconciled"
    other = report.summarise(HODL, D(150), last_audit=AuditMark(9.0, 2, "0.10 USD"))
    assert "not reconciled by 0.10 USD" in report.summary_text(other, UNITS)


def test_what_is_kept_is_base_accumulated() -> None:
    rows = [*HODL, buy("B2", "0.00202", "100", "0.01", 3.0), sell("S2", "0.00201999", "125", "0.02", 4.0, "B2")]
    lines = report.profit_lines(report.summarise(rows, D(150)), UNITS)
    assert "accumulated 0.00200000 BTC, worth 0.30 USD" in lines
    assert "dust        0.00000001 BTC left over by sells that sold a lot unit less" in lines


def test_what_cdca_has_bought_stays_base_accumulated_when_another_strategy_follows() -> None:
    rows = [buy("B1", "0.01", "100", "0.01", 1.0), buy("B2", "0.01", "90", "0.009", 2.0)]
    summary = report.summarise(rows, D(100), surplus=D("0.004"))
    assert "accumulated 0.01600000 BTC, worth 1.60 USD" in report.profit_lines(summary, UNITS)
    assert "surplus     0.00400000 BTC of cancelled buys, not sold yet" in report.profit_lines(summary, UNITS)
    assert summary.kept.cost + summary.surplus.cost == summary.held.cost


def test_what_a_cancelled_sell_left_to_the_surplus_is_not_accumulated() -> None:
    summary = report.summarise(HODL, D(150), surplus=D("0.0015"))
    assert (summary.kept.volume, summary.surplus.volume) == (D("0.0005"), D("0.0015"))


def test_all_that_cdca_buys_is_base_accumulated() -> None:
    rows = [buy("B1", "0.01", "100", "0.01", 1.0), buy("B2", "0.01", "90", "0.009", 2.0)]
    summary = report.summarise(rows, D(100), {"B1"}, surplus=D(0))
    assert (summary.waiting.volume, summary.kept.volume, summary.surplus.volume) == (D("0.01"), D("0.01"), D(0))
    assert "accumulated 0.01000000 BTC, worth 1.00 USD" in report.profit_lines(summary, UNITS)


def test_executed_parts_of_cancelled_buys_are_shown_as_surplus() -> None:
    summary = report.summarise([buy("B1", "0.01", "100", "0.01", 1.0)], D(100))
    assert "surplus     0.01000000 BTC of cancelled buys, not sold yet" in report.profit_lines(summary, UNITS)


def test_base_from_before_has_a_line_of_its_own() -> None:
    rows = [*HODL, sell("X", "0.010", "100", "0.01", 3.0, EXTRA)]
    summary = report.summarise(rows, D(150), base_before=D(1))
    assert "before      -0.51 USD by selling base from before the bot, not keeping it" in report.profit_lines(
        summary, UNITS
    )


def test_the_table_of_profit_adds_up_along_and_down() -> None:
    text = report.summary_text(report.summarise(HODL, D(150)), UNITS)
    assert text.splitlines()[:6] == [
        "profit in USD, coins held at 150 USD",
        "                         before fees          fees      after fees",
        "  grid profit                  +0.19         -0.02           +0.17",
        "  price move                   +0.11         -0.01           +0.10",
        "  change                       +0.30         -0.03           +0.27",
        "  books: not reconciled: there was no audit yet",
    ]


def test_the_fees_of_what_is_held_are_those_of_the_price_move() -> None:
    rows = [buy("B1", "0.010", "100", "0.016", 1.0), sell("S1", "0.005", "125", "0.016", 2.0, "B1")]
    text = report.summary_text(report.summarise(rows, D(150)), UNITS)
    assert "  price move                   +0.25         -0.01           +0.24" in text
    assert "held: 0.00500000 BTC that cost 0.50 USD and 0.01 USD of fees" in text


money = st.decimals(D(-10000), D(10000), places=7)


@given(st.lists(st.tuples(money, money), min_size=3, max_size=3), st.integers(0, 5))
def test_figures_cut_for_people_add_up_as_they_are_shown(lines: list[tuple[D, D]], decimals: int) -> None:
    grid, move, before = (Line(*line) for line in lines)
    change = Line(grid.gross + move.gross + before.gross, grid.fees + move.fees + before.fees)
    shown = report.shown_profit(Profit(D(1), grid, move, before, change), decimals)
    total = shown.pop("change")
    assert sum(line.net for line in shown.values()) == total.net
    assert sum(line.fees for line in shown.values()) == total.fees
    assert sum(line.gross for line in shown.values()) == total.gross
    assert all(line.gross - line.fees == line.net for line in (*shown.values(), total))
    step = D(1).scaleb(-decimals)
    exact = {"grid profit": grid.net, "price move": move.net, "base from before": before.net, "change": change.net}
    assert all(abs(line.net - exact[name]) <= 3 * step for name, line in {**shown, "change": total}.items())


def two_days() -> list[object]:
    later = [sell("S2", "0.002", "150", "0.003", DAY + 5.0, "B2")]
    return [*HODL, buy("B2", "0.002", "100", "0.002", 3.0), *later]


def test_a_row_for_each_day_with_totals_that_add_up() -> None:
    table = report.by_period(by_cycle(two_days()), "day", UNITS)  # type: ignore[arg-type]
    assert table.rows == (
        ("1970-01-01", 2, 1, D("0.004"), D("-0.232"), D("0.032"), D("0.172")),
        ("1970-01-02", 0, 1, D("-0.002"), D("0.297"), D("0.003"), D("0.095")),
    )
    assert table.totals == ("all", 2, 2, D("0.002"), D("0.065"), D("0.035"), D("0.267"))
    assert table.text().splitlines() == [
        "day         buys  sells      BTC +/-  USD +/-  fees in it  grid profit",
        "----------------------------------------------------------------------",
        "1970-01-01     2      1   0.00400000    -0.23        0.03         0.17",
        "1970-01-02     0      1  -0.00200000     0.29        0.00         0.09",
        "----------------------------------------------------------------------",
        "all            2      2   0.00200000     0.06        0.03         0.26",
    ]


@pytest.mark.parametrize(("period", "names"), [("month", ["1970-01"]), ("year", ["1970"])])
def test_months_and_years_are_the_sums_of_their_days(period: str, names: list[str]) -> None:
    table = report.by_period(by_cycle(two_days()), period, UNITS)  # type: ignore[arg-type]
    assert [row[0] for row in table.rows] == names
    assert table.rows[0][1:] == table.totals[1:]


def test_periods_end_at_midnight_utc() -> None:
    rows = [buy("B", "1", "1", "0", NEW_YEAR_2026 - 0.1), sell("S", "1", "2", "0", NEW_YEAR_2026, "B")]
    table = report.by_period(by_cycle(rows), "year", UNITS)
    assert [(row[0], row[6]) for row in table.rows] == [("2025", D(0)), ("2026", D(1))]


def test_csv_holds_every_digit_plain_and_the_word_on_the_books() -> None:
    text = report.by_period(by_cycle(HODL), "day", UNITS).csv("not reconciled by 0.10 USD")
    assert text.splitlines() == [
        "day,buys,sells,base_change,quote_change,fees,grid_profit,books",
        "1970-01-01,1,1,0.002,-0.03,0.03,0.172,not reconciled by 0.10 USD",
    ]


def test_a_row_for_each_cycle() -> None:
    table = report.by_cycle_table(by_cycle(HODL), UNITS)
    row = dict(zip((column.name for column in table.columns), table.rows[0], strict=True))
    assert (row["bought"], row["sold"], row["held"]) == (D("0.010"), D("0.008"), D("0.002"))
    assert (row["cost_with_fee"], row["proceeds_less_fee"], row["gain"]) == (D("1.01"), D("0.98"), D("0.172"))
    assert (row["state"], row["buy"]) == ("closed", "B1")


def test_the_cycles_of_a_large_bot_fit_a_terminal_of_80_columns() -> None:
    txid = "OQCLML-BW3P3-BUCMWZ"
    rows = [buy(txid, "9.010", "50000", "123.4", 1.0), sell("S1", "9.008", "51000", "123.4", 2.0, txid)]
    lines = report.by_cycle_table(by_cycle(rows), UNITS).text().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["1970-01-01", "9.01000000", "450623.40", "9.00800000", "8761.22", "closed", txid]


def test_the_gains_of_a_tax_year_are_fifo_with_dates_fees_and_holding_days() -> None:
    rows = [
        buy("OLD", "1", "100", "0.5", NEW_YEAR_2026 - 10 * DAY),
        buy("NEW", "1", "120", "0.6", NEW_YEAR_2026 + 1),
        sell("LAST", "0.5", "110", "0.2", NEW_YEAR_2026 - 5, "OLD"),
        sell("S", "1", "130", "0.4", NEW_YEAR_2026 + 2 * DAY + 3600, "NEW"),
    ]
    text = report.tax_table(fifo(rows), 2026, UNITS).csv("reconciled")
    assert text.splitlines() == [
        "acquired,sold,volume_BTC,cost_with_fees_USD,proceeds_less_fees_USD,gain_USD,holding_days,buy,sell,note,books",
        "2025-12-22T00:00:00Z,2026-01-03T01:00:00Z,0.5,50.25,64.8,14.55,12,OLD,S,,reconciled",
        "2026-01-01T00:00:01Z,2026-01-03T01:00:00Z,0.5,60.3,64.8,4.5,2,NEW,S,,reconciled",
    ]
    assert len(report.tax_table(fifo(rows), 2025, UNITS).rows) == 1


def test_base_from_before_has_no_gain_in_a_tax_year() -> None:
    rows = [sell("X", "0.5", "100", "0.1", NEW_YEAR_2026, EXTRA)]
    [row] = report.tax_table(fifo(rows), 2026, UNITS).document()
    assert (row["acquired"], row["cost_with_fees_USD"], row["gain_USD"]) == (None, None, None)
    assert row["proceeds_less_fees_USD"] == "49.9"
    assert "not known here" in row["note"]


def test_json_gives_amounts_as_text() -> None:
    summary = report.summarise(HODL, D(150))
    document = json.loads(as_json(report.summary_document(summary)))
    assert document["profit"]["grid_profit"] == {"gross": "0.2", "fees": "0.028", "net": "0.172"}
    assert document["profit"]["change"]["net"] == "0.27"
    assert document["accumulated"] == {"volume": "0.002", "cost": "0.2", "fees": "0.002"}


def test_a_table_never_shows_an_exponent_or_minus_nothing() -> None:
    table = Table((Column("x", "x", "amount", 2),), ((D("-0.001"),), (D("1E+3"),), (D("1E-9"),)))
    assert table.text().splitlines()[2:] == ["   0.00", "1000.00", "   0.00"]
    assert table.csv() == "x\n-0.001\n1000\n0.000000001\n"


def test_moments_are_iso_8601_in_utc() -> None:
    assert moment(NEW_YEAR_2026) == "2026-01-01T00:00:00Z"
