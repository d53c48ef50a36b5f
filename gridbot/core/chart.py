"""
An interactive chart of a backtest: price with fills and ladder above, wealth against holding below.

Only the chart needs plotly, so it is imported here and not with the bot. The file holds everything it needs, and
opens without a network.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gridbot.core.backtest_result import Fill, Sample, Tally
from gridbot.exceptions import ConfigurationError
from gridbot.models.exchange import BUY, SELL
from gridbot.services.messages import Units

MOST_POINTS = 4000  # of a line; more slow the browser down, and no screen can show them
MOST_RUNGS = 8  # open orders shown on each side of the price
MANY_FILLS = 600  # of one side; with more the marks become small and transparent
COLOURS = {BUY: "#1f9d55", SELL: "#cc1f1a"}


def check_plotly() -> None:
    """Raise ConfigurationError when plotly is not there."""
    if find_spec("plotly") is None:
        raise ConfigurationError(
            '--chart: the Python package plotly is missing. Install it: python -m pip install "plotly>=5"'
        )


def write(path: Path, title: str, tally: Tally, units: Units) -> None:
    """Write the chart as one html file; call ``check_plotly`` before. Raises ConfigurationError if that fails."""
    figure = draw(title, tally, units)
    try:
        figure.write_html(path, include_plotlyjs=True)
    except OSError as exc:
        raise ConfigurationError(f"--chart {path}: {exc.strerror}. Name a file in a folder you may write to") from exc


def draw(title: str, tally: Tally, units: Units) -> Any:
    """The figure. Floats here are pixels, not money."""
    scattergl = import_module("plotly.graph_objects").Scattergl
    make_subplots = import_module("plotly.subplots").make_subplots
    samples = thinned(tally.samples)
    times = [_stamp(sample.time) for sample in samples]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.65, 0.35], vertical_spacing=0.04)

    def line(row: int, name: str, values: list[float], **style: object) -> None:
        figure.add_trace(scattergl(x=times, y=values, name=name, mode="lines", line=style), row=row, col=1)

    def dots(name: str, points: list[tuple[float, float]], side: str, marker: dict[str, Any], **style: object) -> None:
        x, y = [t for t, _ in points], [p for _, p in points]
        marker |= {"color": COLOURS[side]}
        figure.add_trace(scattergl(x=x, y=y, name=name, mode="markers", marker=marker, **style), row=1, col=1)

    for side, rungs in ((BUY, [s.buys for s in samples]), (SELL, [s.sells for s in samples])):
        points = [(t, float(p)) for t, prices in zip(times, rungs, strict=True) for p in prices[:MOST_RUNGS]]
        dots(f"open {side}s", points, side, {"size": 2, "opacity": 0.3}, hoverinfo="skip")
    for side, name, symbol in ((BUY, "bought", "triangle-up"), (SELL, "sold", "triangle-down")):
        fills = [fill for fill in tally.fills if fill.side == side]
        points = [(_stamp(fill.time), float(fill.price)) for fill in fills]
        texts = [_hover_text(fill, units) for fill in fills]
        look = {"size": 7, "opacity": 1} if len(fills) < MANY_FILLS else {"size": 4, "opacity": 0.35}
        dots(name, points, side, {**look, "symbol": symbol}, text=texts, hovertemplate="%{text}<extra></extra>")
    line(1, f"price ({units.quote})", [float(s.price) for s in samples], color="#4a5568", width=1)
    line(2, "wealth", [float(s.wealth) for s in samples], color="#2b6cb0", width=2)
    line(2, "holding", [float(s.holding) for s in samples], color="#a0aec0", width=1)
    legend = {"orientation": "h", "itemsizing": "constant"}  # else a dot of the ladder is too small to see
    figure.update_layout(title=title, template="plotly_white", hovermode="closest", legend=legend)
    figure.update_xaxes(type="date")
    figure.update_yaxes(title_text=f"price ({units.quote})", row=1, col=1)
    figure.update_yaxes(title_text=f"wealth ({units.quote})", row=2, col=1)
    return figure


def thinned(samples: list[Sample]) -> list[Sample]:
    """Every n-th sample, so that about MOST_POINTS remain (fewer than twice as many); always the last one."""
    step = max(1, len(samples) // MOST_POINTS)
    kept = samples[::step]
    return kept if not samples or kept[-1] is samples[-1] else [*kept, samples[-1]]


def _stamp(time: float) -> float:
    return time * 1000  # plotly's date axes count milliseconds


def _hover_text(fill: Fill, units: Units) -> str:
    verb = "bought" if fill.side == BUY else "sold"
    gain = "" if fill.profit is None else f"<br>cycle {units.money(fill.profit)}"
    return f"{verb} {units.order(fill.price, fill.volume)}<br>fee {units.money(fill.fee)}{gain}"
