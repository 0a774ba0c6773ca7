"""A run's curves over the band of its reference: one small panel for each column."""

import io
import math
from typing import TYPE_CHECKING, Any

from unirae.app.pictures.plot_names import drawable
from unirae.app.pictures.plots import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from unirae.evaluation.health.bands import Band, Series
    from unirae.evaluation.health.check import Curves

_COLUMNS = 3
_PANEL_INCHES = (4.0, 2.7)
_RUN, _BAND, _OUTSIDE = LIGHT.curves[1], LIGHT.curves[0], "#C00020"


def draw_comparison(
    curves: "Curves", run: "Series | None" = None, *, run_name: str = "", dpi: int = 110
) -> bytes:
    """Draw the band and the single runs of a reference as a PNG, and over them a run, marked where it is outside.

    Without a run, the reference is drawn alone.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    names = [name for name in curves.columns if run is None or name in run]
    columns = 2 if len(names) in (2, 4) else min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    width, height = _PANEL_INCHES
    with matplotlib.rc_context({"font.size": 10, "text.color": LIGHT.ink, "axes.labelcolor": LIGHT.ink}):
        figure = Figure(
            figsize=(width * columns, height * rows + 0.5),
            dpi=dpi,
            layout=ConstrainedLayoutEngine(h_pad=0.08),
        )
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, name in zip(panels[: len(names)], names, strict=True):
            _draw_panel(axes, name, curves, run)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        _legend(figure, curves, run_name if run else "")
        png = io.BytesIO()
        figure.savefig(png, format="png")
    return png.getvalue()


def _draw_panel(axes: "Axes", name: str, curves: "Curves", run: "Series | None") -> None:
    from unirae.evaluation.health.bands import smoothed
    from unirae.evaluation.health.check import Watch

    band, window = curves.bands.get(name), curves.window_steps
    for reference in curves.runs:
        axes.plot(
            *_finite(reference[name]),
            color=LIGHT.ink,
            alpha=0.3,
            lw=0.8,
            marker=_marker(reference[name]),
            ms=3,
        )
    if band:
        _draw_band(axes, band)
    if run is not None:
        axes.plot(*_finite(run[name]), color=_RUN, alpha=0.35, lw=0.8)
        axes.plot(*_finite(smoothed(run[name], window)), color=_RUN, lw=2, marker=_marker(run[name]), ms=5)
    if run is not None and band:
        watch = Watch(name, band, window)
        judged = [j for step, value in run[name] if (j := watch.add(step, value)) and not j.inside]
        axes.plot(*_finite([(j.step, j.value) for j in judged]), "x", color=_OUTSIDE, ms=5, mew=1.5)
    _dress(axes, name, [*curves.runs, *([run] if run else [])])


def _draw_band(axes: "Axes", band: "Band") -> None:
    if len(band.steps) < 5:  # scores: few points
        axes.vlines(band.steps, band.low, band.high, color=_BAND, alpha=0.35, lw=8)
        axes.plot(band.steps, band.middle, "_", color=_BAND, ms=12, mew=2)
    else:
        axes.fill_between(band.steps, band.low, band.high, color=_BAND, alpha=0.22, lw=0)
        axes.plot(band.steps, band.middle, color=_BAND, lw=1.6)


def _dress(axes: "Axes", name: str, runs: "list[Series]") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    from unirae.evaluation.health.bands import LINEAR

    values = [value for run in runs for value in _finite(run[name])[1]]
    if name not in LINEAR and max(values) > 3 * min(values) > 0:
        axes.set_yscale("log")
        wide = max(values) > 100 * min(values)
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_title(name, fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlim(left=0)
    axes.grid(color=LIGHT.grid, lw=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LIGHT.grid)


def _legend(figure: Any, curves: "Curves", run_name: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    count = len(curves.runs)
    (reference, run_name), families = drawable([curves.name, run_name])
    handles: list[Any] = [
        Patch(color=_BAND, alpha=0.3, label=f"band and median: {reference}"),
        Line2D(
            [], [], color=LIGHT.ink, alpha=0.4, lw=0.8, label=f"its {count} runs" if count > 1 else "the run"
        ),
    ]
    if run_name:
        handles.append(
            Line2D([], [], color=_RUN, lw=2, label=f"{run_name} (median of {curves.window_steps} steps)")
        )
        handles.append(Line2D([], [], color=_OUTSIDE, marker="x", ls="", label="outside"))
    font = {"family": families, "size": 10}
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, prop=font
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar sign in a folder's name is no formula


def _finite(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    kept = [(step, value) for step, value in points if math.isfinite(value)]
    return [step for step, _ in kept], [value for _, value in kept]


def _marker(points: list[tuple[int, float]]) -> str:
    return "o" if len(points) < 5 else ""
