"""Draws the chart: a panel per stage with a bar per candidate, fastest first, and limits and references as lines."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from largeds_native.errors import LargedsError

SUFFIXES = (".png", ".svg")
OURS, PEER, INK, FAINT, LIMIT = "#2f6fde", "#c3cad5", "#1c1f24", "#6b7280", "#d1495b"
ROW, HEAD, WIDTH = 0.34, 0.85, 9.0  # inches


def check_installed() -> None:
    """Raises LargedsError if matplotlib is missing. Call it before anything is measured."""
    if find_spec("matplotlib") is None:
        raise LargedsError("a chart needs matplotlib; type: pip install 'largeds-native[charts]'")


def draw_chart(stages: Sequence[dict[str, Any]], caption: str, kind: str) -> bytes:
    """The chart as bytes. `stages`: `questions` of `largeds bench --json`. `kind`: png or svg."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages = [stage for stage in stages if stage["results"]]
    if not stages:
        raise LargedsError("nothing was measured, so there is nothing to draw")
    bars = [len(_bars(stage)) for stage in stages]
    heights = [HEAD + ROW * count for count in bars]
    # matplotlib's own font, and no date in the file: the picture is the same on every machine
    with rc_context({"font.family": ["DejaVu Sans"], "font.size": 9, "svg.hashsalt": "largeds", "text.color": INK}):
        figure = Figure((WIDTH, sum(heights) + 0.35), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(stages), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, stage in zip(panels, stages, strict=True):
            _panel(axes, stage)
        figure.supxlabel(caption, fontsize=7.5, color=FAINT, x=0.01, ha="left")
        stream = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(stream, format=kind, dpi=160, metadata=metadata)
    return stream.getvalue()


def _bars(stage: dict[str, Any]) -> list[dict[str, Any]]:
    """The results that are drawn as bars, fastest first."""
    return sorted((r for r in stage["results"] if r["role"] in ("ours", "peer")), key=lambda r: -r["median"])


def _panel(axes: Any, stage: dict[str, Any]) -> None:
    bars = _bars(stage)
    positions = range(len(bars))
    rates = [bar["median"] for bar in bars]
    spreads = [[m - min(b["rates"]) for m, b in zip(rates, bars, strict=True)]]
    spreads.append([max(b["rates"]) - m for m, b in zip(rates, bars, strict=True)])
    colours = [OURS if bar["role"] == "ours" else PEER for bar in bars]
    axes.barh(
        positions, rates, 0.68, color=colours, xerr=spreads, error_kw={"ecolor": INK, "elinewidth": 0.8, "alpha": 0.5}
    )
    axes.set_yticks(positions, [bar["name"] for bar in bars])
    axes.invert_yaxis()
    lines = [result for result in stage["results"] if result["role"] in ("limit", "reference")]
    longest = max([*rates, *(max(bar["rates"]) for bar in bars), *(line["median"] for line in lines)])
    axes.set_xlim(0, longest * 1.16)
    for line in lines:
        label = "limit: " * (line["role"] == "limit") + f"{line['name']}, {line['median']:,.0f} "
        axes.axvline(line["median"], color=LIMIT, linestyle="--", linewidth=1.2)
        axes.text(
            line["median"], 1.0, label, color=LIMIT, fontsize=8,
            ha="right", va="bottom", transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    for position, bar in enumerate(bars):
        beside = max(bar["rates"]) + 0.008 * longest
        weight = "bold" if bar["role"] == "ours" else "normal"
        text = axes.text(beside, position, f"{bar['median']:,.0f}", va="center", fontsize=8.5, weight=weight)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85})
    axes.set_title(stage["question"], loc="left", fontsize=10.5, weight="bold", pad=14)
    axes.tick_params(left=False, colors=INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.tick_params(axis="x", labelsize=7.5, colors=FAINT)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PEER)
