"""The page ``report.html``: the template, filled with the contents of the demo's folder."""

import shlex
from pathlib import Path
from typing import Any

from unirae.app.demo.report.inputs import Demo, incomplete, read_demo
from unirae.app.demo.report.pictures import draw_growth, draw_learning
from unirae.app.demo.report.scores import best, compare, known_scores, score_of
from unirae.app.pictures.embedded import data_uri
from unirae.app.pictures.plots import DARK, LIGHT, Curve, Panel, draw_panel, read_curve
from unirae.core.io import write_atomically

_ENCODER = {"train/loss": "training", "val/loss": "held-out"}
_DECODER = {
    "train/l1": "L1, training",
    "val/l1": "L1, held-out",
    "train/perceptual": "perceptual, training",
    "val/perceptual": "perceptual, held-out",
}
_BALANCE = {"train/grad_norm": "gradient norm", "train/adaptive_weight": "adaptive weight λ"}
_DIT = {"train/loss": "training"}


def write_report(demo_dir: Path) -> Path:
    """Write ``demo_dir/report.html``, and into ``demo_dir/pictures/`` the PNGs on it that are made here.

    Raises:
        UserError: If ``scores.json`` is missing or incomplete, or a run's metrics have no rows.
    """
    from jinja2 import UndefinedError

    demo = read_demo(demo_dir)
    try:
        page = render(demo)
    except UndefinedError as error:
        raise incomplete(demo_dir / "scores.json", error) from None
    return write_atomically(demo_dir / "report.html", lambda file: file.write(page.encode()))


def render(demo: Demo) -> str:
    """Fill the template; the page loads nothing from outside."""
    from jinja2 import Environment, StrictUndefined
    from omegaconf import OmegaConf

    from unirae.core.version import __version__
    from unirae.training.callbacks.progress import readable_time

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "duration": readable_time,
        "shell": lambda argument: shlex.quote(str(argument)),
        "yaml": lambda content: OmegaConf.to_yaml(OmegaConf.create(content)),
    }
    environment.globals |= {
        "best": best,
        "compare": compare,
        "known_scores": known_scores,
        "score_of": score_of,
        "pictures": _pictures(demo),
        "panels": _panels(demo),
        "version": __version__,
    }
    template = Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(folder=demo.folder, scores=demo.scores, runs=demo.runs)


def _pictures(demo: Demo) -> dict[str, str]:
    """The pictures that are there by name, as data URIs; those of the training are drawn here."""
    folder = demo.folder / "pictures"
    files: list[Path | None] = [folder / "reconstructions.png"]
    if demo.scores.get("generation"):
        files += [folder / f"{name}.png" for name in ("samples", "guidance", "denoising", "nearest")]
    if demo.scores.get("words"):
        files += [folder / f"words_{name}.png" for name in ("held_out", "new")]
    for name, run, draw in (("learning", "rae", draw_learning), ("growth", "dit", draw_growth)):
        if run in demo.runs:
            files.append(draw(folder / f"{name}.png", demo.runs[run].samples))
    return {file.stem: data_uri(file.read_bytes()) for file in files if file and file.is_file()}


def _panels(demo: Demo) -> dict[str, dict[str, Any]]:
    """Curves by name, for light and for dark pages; the light ones are also written to ``pictures/``."""
    drawn = {}
    for panel in _build_panels(demo):
        light, dark = draw_panel(panel, LIGHT), draw_panel(panel, DARK)
        write_atomically(demo.folder / f"pictures/{panel.name}.png", lambda file, png=light: file.write(png))
        drawn[panel.name] = {"panel": panel, "light": data_uri(light), "dark": data_uri(dark)}
    return drawn


def _build_panels(demo: Demo) -> list[Panel]:
    """The panels that have something to show."""
    decoder, starts = _curves(demo, "rae", _DECODER), _adversary_starts(demo)
    panels = [
        Panel(name="curves_encoder", ylabel="squared error", curves=_curves(demo, "encoder", _ENCODER)),
        Panel(name="curves_rae", ylabel="loss", curves=decoder, events=starts),
        _held_out(demo),
        Panel(name="curves_health", ylabel="value", curves=_curves(demo, "rae", _BALANCE)),
        Panel(name="curves_dit", ylabel="squared error", curves=_curves(demo, "dit", _DIT)),
        Panel(name="curves_dit_frechet", ylabel="Fréchet distance", curves=_sample_scores(demo)),
    ]
    return [panel for panel in panels if panel.curves]


def _curves(demo: Demo, run: str, labels: dict[str, str]) -> tuple[Curve, ...]:
    rows = demo.runs[run].rows if run in demo.runs else []
    found = (read_curve(rows, column, label) for column, label in labels.items())
    return tuple(curve for curve in found if curve is not None)


def _adversary_starts(demo: Demo) -> tuple[tuple[int, str], ...]:
    run = demo.runs.get("rae")
    start = run.first_step("train/gan") if run else None
    if run is None or start is None or start == int(run.rows[0]["step"]):
        return ()  # a run that is adversarial from its start has nothing to mark
    return ((start, "discriminator joins"),)


def _held_out(demo: Demo) -> Panel:
    curves = _curves(demo, "rae", {"train/psnr": "training", "val/psnr": "held-out"})
    level = score_of(demo.scores["rows"], "mean_colour", "psnr")
    levels = () if level is None else ((level, "mean colour"),)
    return Panel(
        name="curves_psnr", ylabel="PSNR in dB, higher is better", curves=curves, log=False, levels=levels
    )


def _sample_scores(demo: Demo) -> tuple[Curve, ...]:
    columns = demo.runs["dit"].rows[-1] if "dit" in demo.runs else ()
    column = next((c for c in columns if c.startswith(("val/fd_", "val/fid"))), "")
    curves = _curves(demo, "dit", {column: "samples"})
    # one point is no curve, and the table has that score
    return curves if curves and len(curves[0].steps) > 1 else ()
