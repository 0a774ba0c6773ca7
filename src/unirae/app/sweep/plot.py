"""Scores over a guidance scale: a panel for each score, a line for each other setting, the best point marked."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from unirae.evaluation.results.guidance_grid import Point, Scored

_LINE_STYLES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D")
_AXIS_LABELS = {
    "cfg_scale": "guidance scale (1 is without)",
    "ig_scale": "scale of internal guidance (1 is without)",
    "num_steps": "steps of the sampler",
}


def draw(scored: "Sequence[Scored]") -> bytes:
    """A PNG with one panel below the other, at 160 dpi."""
    from matplotlib.figure import Figure  # without pyplot a figure draws with Agg and leaves no global state

    from unirae.app.pictures.plots import LIGHT

    names, axis = list(scored[0].result.metrics), axis_of(scored)
    figure = Figure(figsize=(6.4, 4.2 * len(names)), dpi=160, layout="constrained", facecolor=LIGHT.paper)
    panels = figure.subplots(len(names), squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        draw_panel(axes, scored, name, axis)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def axis_of(scored: "Sequence[Scored]") -> str:
    """The horizontal axis: the guidance scale; that of internal guidance, or the steps, where it does not vary."""
    axes = ("cfg_scale", "ig_scale", "num_steps")
    return next((axis for axis in axes if len({getattr(s.point, axis) for s in scored}) > 1), axes[0])


def draw_panel(axes: "Axes", scored: "Sequence[Scored]", name: str, axis: str) -> None:
    """Draw the panel of one score."""
    from unirae.app.pictures.plots import LIGHT
    from unirae.evaluation.results.guidance_grid import best, lines

    found = lines(scored, axis)
    for number, (key, points) in enumerate(found.items()):
        turn, colour = divmod(number, len(LIGHT.curves))
        errors = [error for s in points if (error := s.result.standard_error(name)) is not None]
        axes.errorbar(
            [getattr(s.point, axis) for s in points],
            [s.result.metrics[name] for s in points],
            yerr=errors if len(errors) == len(points) else None,
            color=LIGHT.curves[colour],
            linestyle=_LINE_STYLES[number % len(_LINE_STYLES)],
            marker=_MARKERS[turn % len(_MARKERS)],
            elinewidth=1,
            capsize=2,
            label=label(key, list(found)),
        )
    top = best(scored, name)
    place = getattr(top.point, axis), top.result.metrics[name]
    axes.plot(*place, marker="*", ms=16, ls="none", color=LIGHT.ink, label=f"best: {place[1]:.4g}", zorder=5)
    _dress(axes, scored, name, axis)


def label(key: "Point", others: "Sequence[Point]") -> str | None:
    """The label that tells a line from the others; None for a single line."""
    parts = {
        "weights": key.weights,
        "solver": key.solver,
        "num_steps": f"{key.num_steps} steps",
        "guidance_interval": "interval {:g}-{:g}".format(*key.guidance_interval),
        "ig_scale": f"ig {key.ig_scale:g}",
        "ig_interval": "ig interval {:g}-{:g}".format(*key.ig_interval),
    }
    if key.ig_scale == 1.0:
        del parts["ig_interval"]  # of what is not there
    varied = [part for part in parts if len({getattr(other, part) for other in others}) > 1]
    return ", ".join(parts[part] for part in varied) or None


def _dress(axes: "Axes", scored: "Sequence[Scored]", name: str, axis: str) -> None:
    from unirae.app.pictures.plots import LIGHT
    from unirae.evaluation.results.score_families import family

    known = any(s.result.standard_error(name) is not None for s in scored)
    axes.set_xlabel(_AXIS_LABELS[axis])
    axes.set_ylabel(f"{scored[0].result.labels.get(name, name)} ({family(name).better} is better)")
    axes.set_title(
        f"{scored[0].result.count} samples a point" + (", bars: 1 standard error" if known else ""),
        fontsize=10,
    )
    axes.grid(color=LIGHT.grid, lw=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LIGHT.grid)
    axes.legend(frameon=False, fontsize=9)
