"""Curves of the demo's report: one small panel each, so that they stay readable on a phone.

The colours, near those of Okabe and Ito, can be told apart by colour-blind readers too, and each curve
has its own line style.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = list[dict[str, str]]
"""Rows of ``csv/metrics.csv``; an empty string is a value that was not logged at that step."""

_LINE_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours of a panel on a light or a dark page."""

    paper: str
    ink: str
    grid: str
    curves: tuple[str, ...]


_LIGHT_CURVES = ("#0072B2", "#D55E00", "#00795A", "#9C4B82")
_DARK_CURVES = ("#56B4E9", "#E69F00", "#35C99A", "#E79CC6")
LIGHT = Theme(paper="#ffffff", ink="#24292f", grid="#d8dee4", curves=_LIGHT_CURVES)
DARK = Theme(paper="#1c2128", ink="#d5dbe3", grid="#3b434d", curves=_DARK_CURVES)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Values over steps. Held-out ones (``points``) are few and marked; training values many and smoothed."""

    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    points: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes over training steps, and where something happened."""

    name: str
    ylabel: str
    curves: tuple[Curve, ...]
    log: bool = True
    events: tuple[tuple[int, str], ...] = ()
    levels: tuple[tuple[float, str], ...] = ()
    """Horizontal lines, such as a baseline's score."""


def read_curve(rows: Rows, column: str, label: str) -> Curve | None:
    """The finite values of a column; None if it has none. ``val/…`` columns are drawn as points."""
    pairs = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
    pairs = [(step, value) for step, value in pairs if math.isfinite(value)]
    if not pairs:
        return None
    steps, values = zip(*pairs, strict=True)
    return Curve(label=label, steps=steps, values=values, points=column.startswith("val/"))


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred running mean, as wide as fits near the ends."""
    last = len(values) - 1
    reaches = [min(window // 2, i, last - i) for i in range(len(values))]
    return [sum(values[i - reach : i + reach + 1]) / (2 * reach + 1) for i, reach in enumerate(reaches)]


def draw_panel(panel: Panel, theme: Theme) -> bytes:
    """Draw the panel as a PNG of 6.4 × 4 inches at 160 dpi."""
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot a figure draws with Agg and leaves no global state

    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context({"font.size": 14, **dict.fromkeys(inked, theme.ink)}):
        figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained", facecolor=theme.paper)
        axes = figure.add_subplot(facecolor=theme.paper)
        for i, curve in enumerate(panel.curves):
            _draw_curve(axes, curve, theme.curves[i % len(theme.curves)], _LINE_STYLES[i % len(_LINE_STYLES)])
        for step, what in panel.events:
            axes.axvline(step, color=theme.ink, lw=1, ls=":", label=what)
        for value, what in panel.levels:
            axes.axhline(value, color=theme.ink, lw=1.4, ls=(0, (1, 1.5)), label=what)
        _dress(axes, panel, theme)
        png = io.BytesIO()
        figure.savefig(png, format="png")
    return png.getvalue()


def _draw_curve(axes: "Axes", curve: Curve, colour: str, line_style: str) -> None:
    if curve.points:
        axes.plot(curve.steps, curve.values, line_style, marker="o", ms=7, color=colour, label=curve.label)
        return
    axes.plot(curve.steps, curve.values, color=colour, alpha=0.3, lw=1)
    mean = smooth(curve.values, window=max(3, len(curve.values) // 20))
    axes.plot(curve.steps, mean, line_style, color=colour, lw=2.2, label=curve.label)


def _dress(axes: "Axes", panel: Panel, theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if panel.log and all(value > 0 for curve in panel.curves for value in curve.values):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        narrow = high / low < 20
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8) if narrow else (1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(f"{panel.ylabel} (log scale)")
    else:
        axes.set_ylabel(panel.ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("training step")
    axes.set_xlim(left=0)
    axes.grid(color=theme.grid, lw=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)
    axes.legend(frameon=True, framealpha=0.8, facecolor=theme.paper, edgecolor="none", fontsize=12.5)
