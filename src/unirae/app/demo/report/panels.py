"""Panels of logged values that are drawn together; the template says what they tell."""

from unirae.app.demo.report.inputs import Demo
from unirae.app.demo.report.scores import score_of
from unirae.app.pictures.plots import Curve, Panel, read_curve

_ENCODER = {"train/loss": "training", "val/loss": "held-out"}
_DECODER = {
    "train/l1": "L1, training",
    "val/l1": "L1, held-out",
    "train/perceptual": "perceptual, training",
    "val/perceptual": "perceptual, held-out",
}
_BALANCE = {"train/grad_norm": "gradient norm", "train/adaptive_weight": "adaptive weight λ"}
_DIT = {"train/loss": "training"}


def build_panels(demo: Demo) -> list[Panel]:
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
    curves: tuple[Curve, ...] = ()
    for run, label in (("rae", "pretrained encoder"), ("random_encoder", "random encoder")):
        curves += _curves(demo, run, {"train/psnr": f"{label}, training", "val/psnr": f"{label}, held-out"})
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
