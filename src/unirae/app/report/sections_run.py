"""The sections on the run as a whole: what was done, its curves, what it cost, how to go on."""

import html
import shlex
from importlib import resources
from string import Template
from typing import Any

from unirae.app.report.figures import panel_figure
from unirae.app.report.inputs import Demo, Run
from unirae.app.report.panels import build_panels

RUN_NAMES = {
    "encoder": "encoder (stage 0)",
    "rae": "decoder (stage 1)",
    "random_encoder": "decoder on a random encoder",
    "dit": "DiT (stage 2)",
}

_OTHER_NAMES = {
    "classifier": "classifier that judges the samples",
    "samples": "sampling",
    "pictures": "pictures of the samples",
}


def explain(demo: Demo) -> str:
    """What an RAE is and what the demo did."""
    stage2 = _template("explanation_stage2.html") if "dit" in demo.runs else Template("")
    return _template("explanation.html").substitute(
        losses=_losses(demo),
        encoder_time=_took(demo, "encoder"),
        rae_time=_took(demo, "rae"),
        stage2=stage2.substitute(dit_time=_took(demo, "dit")),
    )


def _template(name: str) -> Template:
    return Template(resources.files("unirae.app.report").joinpath(name).read_text(encoding="utf-8"))


def _took(demo: Demo, part: str) -> str:
    from unirae.training.callbacks.progress import readable_time

    return f" ({readable_time(demo.seconds[part])})" if part in demo.seconds else ""


def _losses(demo: Demo) -> str:
    """What the decoder was trained against, as far as its run logged it."""
    run = demo.runs.get("rae")
    if run is None:
        return ""
    items = [
        f"{name} ({column})" for column, name in _LOSSES.items() if run.typical(f"train/{column}") is not None
    ]
    start = run.first_step("train/gan")
    joins = (
        f" From about step {start:,} on a discriminator, which learns to tell painted pictures from real "
        "ones, asks for sharp detail."
        if start is not None
        else ""
    )
    return f"It is trained to lower {' and '.join(items)}.{joins}" if items else ""


_LOSSES = {"l1": "the error in pixels", "perceptual": "the error in the encoder's features"}


def show_curves(demo: Demo) -> str:
    """Panels of logged values."""
    panels = build_panels(demo)
    if not panels:
        return ""
    figures = "".join(panel_figure(panel, demo.pictures) for panel in panels)
    return (
        "<p>Thin lines are single measurements on training batches, thick lines their running mean; "
        f'dots are measured on held-out pictures.</p><div class="panels">{figures}</div>'
    )


def show_cost(demo: Demo) -> str:
    """Time, speed and size of each part; the machine; every setting."""
    rows = "".join(_cost_row(demo, name, run) for name, run in demo.runs.items())
    rows += "".join(_other_cost_row(demo, name) for name in _OTHER_NAMES if name in demo.seconds)
    table = (
        '<div class="wide"><table><thead><tr><th scope="col">part</th><th scope="col">steps × images</th>'
        f'<th scope="col">time</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
    return (table if rows else "") + _facts(demo.machine) + _settings(demo)


def _cost_row(demo: Demo, name: str, run: Run) -> str:
    from unirae.training.callbacks.progress import readable_time

    speed, seconds, size = (
        run.typical("train/images_per_s"),
        demo.seconds.get(name),
        demo.parameters.get(name),
    )
    return _cells(
        ("th scope='row'", RUN_NAMES[name], f"{size / 1e6:.2f} M trained parameters" if size else ""),
        ("td", f"{run.steps:,} × {run.batch_size:,}", ""),
        ("td", "–" if seconds is None else readable_time(seconds), f"{speed:,.0f} images/s" if speed else ""),
    )


def _other_cost_row(demo: Demo, name: str) -> str:
    from unirae.training.callbacks.progress import readable_time

    return _cells(
        ("th scope='row'", _OTHER_NAMES[name], ""),
        ("td", "–", ""),
        ("td", readable_time(demo.seconds[name]), ""),
    )


def _cells(*cells: tuple[str, str, str]) -> str:
    """A table's row of (tag, text, small print)."""
    return (
        "<tr>"
        + "".join(
            f"<{tag}>{text}{f'<small>{small}</small>' if small else ''}</{tag[:2]}>"
            for tag, text, small in cells
        )
        + "</tr>"
    )


def _facts(facts: dict[str, Any]) -> str:
    items = "".join(
        f"<dt>{html.escape(name.replace('_', ' '))}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in facts.items()
        if value is not None
    )
    return f'<dl class="facts">{items}</dl>' if items else ""


def _settings(demo: Demo) -> str:
    from omegaconf import OmegaConf

    contents = {f"Every setting of the {RUN_NAMES[name]}": run.config for name, run in demo.runs.items()}
    contents |= {"The data": demo.data, "How the reconstructions were scored": demo.settings}
    if demo.generation:
        contents["How the pictures were sampled"] = demo.generation.sampler
        contents["How the samples were scored"] = demo.generation.settings
    return "".join(
        f"<details><summary>{title}</summary>"
        f"<pre>{html.escape(OmegaConf.to_yaml(OmegaConf.create(content)))}</pre></details>"
        for title, content in contents.items()
        if content
    )


def show_next(demo: Demo) -> str:
    """Commands that continue from here."""
    commands = {**(_with_generator(demo) if "dit" in demo.runs else {}), **_with_autoencoder(demo)}
    return "".join(f"<p>{what}:</p><pre>{html.escape(command)}</pre>" for what, command in commands.items())


def _with_generator(demo: Demo) -> dict[str, str]:
    dit, rae = shlex.quote(str(demo.folder / "dit")), shlex.quote(str(demo.folder / "rae"))
    name = demo.generation.class_names[-1] if demo.generation else "0"
    scale = demo.generation.sampler["cfg_scale"] if demo.generation else 2.0
    return {
        "New pictures, of one class": (
            f"python src/sample_dit.py --checkpoint {dit} --labels {shlex.quote(name)} --num_samples 16 "
            f"--cfg_scale {scale:g} --seed 1 --output_dir outputs/my_samples"
        ),
        "Better pictures take longer training: ten times as many steps, on the same autoencoder": (
            f"python src/train.py experiment=dit_tiny trainer.max_steps={10 * demo.runs['dit'].steps} "
            f"model.rae.pretrained_decoder_path={rae} paths.output_dir=outputs/dit_longer"
        ),
        "Measure samples of a checkpoint without storing them": (
            f"python src/eval_fid.py --checkpoint {dit} --metrics fd --num_samples 185 --cfg_scale {scale:g}"
        ),
    }


def _with_autoencoder(demo: Demo) -> dict[str, str]:
    rae = shlex.quote(str(demo.folder / "rae"))
    return {
        "Your own pictures, original beside reconstruction": (
            f"python src/reconstruct.py --checkpoint {rae} --images DIR"
        ),
        "Measure the autoencoder (offline add <code>--metrics rfd,psnr,ssim</code>: rFID needs Inception)": (
            f"python src/eval_rfid.py --checkpoint {rae}"
        ),
        "Train a decoder on your own folder of images": (
            "python src/train.py experiment=rae_tiny data=image_folder data.data_dir=DIR "
            "paths.output_dir=outputs/my_rae"
        ),
    }
