"""Curves of a diagnosis: how figures change with the noise, and the spectrum of the latents."""

import io
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from unirae.app.pictures.plot_names import drawable
from unirae.app.pictures.plots import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from unirae.evaluation.diagnosis.diagnose import Diagnosis, Outcome

_PANELS: "tuple[tuple[str, Callable[[Outcome], float | None]], ...]" = (
    ("PSNR, dB", lambda outcome: outcome.psnr),
    ("Fréchet distance to the originals", lambda outcome: outcome.frechet),
    ("seams (steps across over inside patches)", lambda outcome: outcome.seams),
)

_SMALLEST_SHARE = 1e-7


def draw_curves(found: "Mapping[str, Diagnosis]", dpi: int = 110) -> bytes:
    """Draw figures over the noise σ and the spectrum as a PNG, a line for each diagnosis."""
    import matplotlib
    from matplotlib.figure import Figure

    names, families = drawable(list(found))
    with matplotlib.rc_context({"font.size": 10, "text.color": LIGHT.ink, "axes.labelcolor": LIGHT.ink}):
        figure = Figure(figsize=(8.8, 6.6), dpi=dpi, layout="constrained")
        panels = list(figure.subplots(2, 2).flat)
        for axes, (title, figure_of) in zip(panels[:3], _PANELS, strict=True):
            for number, diagnosis in enumerate(found.values()):
                outcomes = diagnosis.curve("noise")
                values = [math.nan if (v := figure_of(outcome)) is None else v for outcome in outcomes]
                axes.plot([o.amount for o in outcomes], values, marker="o", **_style(number))
            _dress(axes, title, "noise σ on normalised latents")
        _draw_seams_of_originals(panels[2], next(iter(found.values())))
        for number, diagnosis in enumerate(found.values()):
            shares = diagnosis.spectrum.shares
            panels[3].loglog(range(1, len(shares) + 1), shares, **_style(number))
        panels[3].set_ylim(bottom=_SMALLEST_SHARE)  # a LayerNorm leaves one direction without variance
        _dress(panels[3], "share of the latents' variance", "principal direction")
        if len(names) > 1:
            lines = list(panels[0].get_lines())
            legend = figure.legend(
                lines, names, loc="outside lower center", ncols=len(names), prop={"family": families}
            )
            for text in legend.get_texts():
                text.set_parse_math(False)  # a dollar sign in a folder's name is no formula
        png = io.BytesIO()
        figure.savefig(png, format="png")
    return png.getvalue()


def _draw_seams_of_originals(axes: "Axes", diagnosis: "Diagnosis") -> None:
    if math.isfinite(diagnosis.seams):
        axes.axhline(diagnosis.seams, color=LIGHT.ink, lw=1, ls=":", label="originals")
        axes.legend(frameon=False)
    axes.set_ylim(bottom=0)


def _style(number: int) -> dict[str, str]:
    return {"color": LIGHT.curves[number % len(LIGHT.curves)], "linestyle": ("-", "--")[number % 2]}


def _dress(axes: "Axes", title: str, xlabel: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel)
    axes.grid(color=LIGHT.grid, lw=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LIGHT.grid)
