"""Which logged values are drawn together, and what they tell."""

from unirae.app.report.inputs import Demo, Run
from unirae.app.report.plots import Curve, Panel, read_curve


def build_panels(demo: Demo) -> list[Panel]:
    """The panels that have something to show."""
    panels = (_encoder(demo), _decoder(demo), _held_out(demo), _balance(demo), *_generator(demo))
    return [panel for panel in panels if panel is not None and panel.curves]


def _curves(run: Run, labels: dict[str, str]) -> tuple[Curve, ...]:
    found = (read_curve(run.rows, column, label) for column, label in labels.items())
    return tuple(curve for curve in found if curve is not None)


def _encoder(demo: Demo) -> Panel | None:
    from omegaconf import OmegaConf

    run = demo.runs.get("encoder")
    if run is None:
        return None
    caption = "The error on the patches that the encoder did not see."
    if OmegaConf.select(run.config, "model.architecture.norm_pix_loss"):
        caption += " Each is normalised to variance 1, so guessing its mean would cost 1."
    return Panel(
        name="curves_encoder",
        title="Stage 0, the encoder guesses hidden patches",
        ylabel="squared error",
        caption=caption,
        curves=_curves(run, {"train/loss": "training", "val/loss": "held-out"}),
    )


def _decoder(demo: Demo) -> Panel | None:
    run = demo.runs.get("rae")
    if run is None:
        return None
    events = _adversary_starts(run)
    caption = (
        "L1 is the mean error of a pixel between 0 and 1; perceptual is the error in the encoder's features."
    )
    if events:
        caption += " From the dotted line on the decoder also works against the discriminator."
    return Panel(
        name="curves_rae",
        title="Stage 1, the decoder's losses",
        ylabel="loss",
        caption=caption,
        curves=_curves(
            run,
            {
                "train/l1": "L1, training",
                "val/l1": "L1, held-out",
                "train/perceptual": "perceptual, training",
                "val/perceptual": "perceptual, held-out",
            },
        ),
        events=events,
    )


def _adversary_starts(run: Run) -> tuple[tuple[int, str], ...]:
    start = run.first_step("train/gan")
    # a run that is adversarial from its start has nothing to mark
    return () if start is None or start == int(run.rows[0]["step"]) else ((start, "discriminator joins"),)


def _held_out(demo: Demo) -> Panel | None:
    curves: list[Curve] = []
    for name, label in (("rae", "pretrained encoder"), ("random_encoder", "random encoder")):
        if name in demo.runs:
            curves += _curves(
                demo.runs[name], {"train/psnr": f"{label}, training", "val/psnr": f"{label}, held-out"}
            )
    mean_colour = demo.model("mean_colour")
    level = mean_colour.scores.get("psnr") if mean_colour else None
    return Panel(
        name="curves_psnr",
        title="Held-out PSNR",
        ylabel="PSNR in dB, higher is better",
        caption="How close held-out pictures come back from the averaged (EMA) decoder. A curve that falls "
        "while the training loss falls too is overfitting.",
        curves=tuple(curves),
        log=False,
        levels=() if level is None else ((level, "mean colour"),),
    )


def _balance(demo: Demo) -> Panel | None:
    run = demo.runs.get("rae")
    if run is None:
        return None
    caption = "The gradient's norm should settle, not grow."
    if run.first_step("train/adaptive_weight") is not None:
        caption += (
            " λ keeps the discriminator's pull on the decoder in proportion to that of the other losses."
        )
    return Panel(
        name="curves_health",
        title="The health of stage 1",
        ylabel="value",
        caption=caption,
        curves=_curves(
            run, {"train/grad_norm": "gradient norm", "train/adaptive_weight": "adaptive weight λ"}
        ),
    )


def _generator(demo: Demo) -> tuple[Panel, ...]:
    run = demo.runs.get("dit")
    if run is None:
        return ()
    loss = Panel(
        name="curves_dit",
        title="Stage 2, the DiT's error",
        ylabel="squared error",
        caption="How far the predicted direction from noise to picture is off, averaged over all times. It cannot "
        "reach 0: at most times several pictures are possible. Small steps down still show in the samples.",
        curves=_curves(run, {"train/loss": "training"}),
    )
    held_out = next((c for c in run.rows[-1] if c.startswith(("val/fd_", "val/fid"))), None)
    curves = _curves(run, {held_out: "samples"}) if held_out else ()
    if not curves or len(curves[0].steps) < 2:  # one point is no curve, and the table has that score
        return (loss,)
    distance = Panel(
        name="curves_dit_frechet",
        title="Samples while the DiT learned",
        ylabel="Fréchet distance",
        caption="Of samples of the averaged (EMA) weights to held-out pictures, lower is better; other counts and "
        "another reference than in the table of scores.",
        curves=curves,
    )
    return (loss, distance)
