"""The sections of the report, in reading order. One that has nothing to show returns "" and is left out.

To add a section (the samples of a DiT, say) write a function of :class:`Demo` and name it in ``SECTIONS``.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from unirae.app.report.figures import panel_figure, picture_figure
from unirae.app.report.inputs import Demo, Run
from unirae.app.report.panels import build_panels
from unirae.app.report.pictures import draw_learning
from unirae.app.report.scores import ScoreKind, best, compare, known_scores, worse_in

RUN_NAMES = {
    "encoder": "encoder (stage 0)",
    "rae": "decoder (stage 1)",
    "random_encoder": "decoder on a random encoder",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: the anchor, its heading, and what fills it."""

    anchor: str
    title: str
    body: Callable[[Demo], str]


def show_pictures(demo: Demo) -> str:
    """Held-out originals and what each model made of them."""
    path = demo.pictures / "reconstructions.png"
    if not path.is_file():
        return ""
    return picture_figure(
        path,
        alt="Rows of held-out originals and, below each, the reconstructions of every model.",
        caption="First row: pictures that no part of the demo was trained on. Below: what comes back when "
        "they are squeezed into tokens and painted again. They are spread evenly over the held-out set, not "
        "picked by hand.",
    )


def show_scores(demo: Demo) -> str:
    """The table, what it says in words, and how to read it."""
    kinds = known_scores(demo.models)
    if not kinds:
        return ""
    heads = "".join(_score_head(kind) for kind in kinds.values())
    rows = "".join(_score_row(demo, index) for index in range(len(demo.models)))
    meanings = "".join(f"<li><b>{kind.label}</b>: {kind.meaning}</li>" for kind in kinds.values())
    return (
        f"<p>Measured on {demo.count:,} held-out pictures. The best of each column is marked.</p>"
        f'<div class="wide"><table><thead><tr><th scope="col">reconstructed by</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"{_conclusions(demo)}<h3>How to read the scores</h3><ul>{meanings}</ul>{_baselines(demo)}"
    )


def _score_head(kind: ScoreKind) -> str:
    arrow, direction = ("↑", "higher") if kind.higher_is_better else ("↓", "lower")
    unit = f"{kind.unit}, " if kind.unit else ""
    return f'<th scope="col">{kind.label}&nbsp;{arrow}<small>{unit}{direction} is better</small></th>'


def _score_row(demo: Demo, index: int) -> str:
    model, cells = demo.models[index], []
    for name, kind in known_scores(demo.models).items():
        if name not in model.scores:
            cells.append("<td>–</td>")
            continue
        shown = kind.show(model.scores[name])
        cells.append(
            f'<td class="best">{shown}</td>' if shown == best(demo.models, name) else f"<td>{shown}</td>"
        )
    return f'<tr><th scope="row">{html.escape(model.name)}</th>{"".join(cells)}</tr>'


_WHY_RANDOM_MAY_WIN = (
    "Where the random encoder is ahead, a likely reason is that random layers mix a patch's pixels but lose "
    "few of them, while pretraining keeps what explains a picture and lets go of some detail. The RAE paper "
    "chooses pretrained encoders because new pictures are easier to generate in their tokens (stage 2), and "
    "these scores do not measure that."
)


def _conclusions(demo: Demo) -> str:
    first, *others = demo.models
    items = [
        f"<li>Against <i>{html.escape(other.name)}</i>, <i>{html.escape(first.name)}</i> is {said}.</li>"
        for other in others
        if (said := compare(first, other))
    ]
    text = f"<ul>{''.join(items)}</ul>" if items else ""
    random = demo.model("random_encoder")
    if random and worse_in(first, random):
        text += f"<p>{_WHY_RANDOM_MAY_WIN}</p>"
    if random:
        text += '<p class="quiet">One run of each with one seed: a small difference may be chance.</p>'
    return text


_BASELINES = {
    "random_encoder": "the same decoder, trained in the same way on an encoder of the same shape that never "
    "learned anything. What the RAE has over it comes from pretraining.",
    "mean_colour": "every picture as one area of its own mean colour. Whatever is not clearly above this has "
    "learned nothing.",
}


def _baselines(demo: Demo) -> str:
    items = [
        f"<li><b>{html.escape(model.name)}</b>: {_BASELINES[model.key]}</li>"
        for model in demo.models
        if model.key in _BASELINES
    ]
    return f"<h3>What stands beside the RAE, and why</h3><ul>{''.join(items)}</ul>" if items else ""


def explain(demo: Demo) -> str:
    """What an RAE is and what the demo did."""
    text = resources.files("unirae.app.report").joinpath("explanation.html").read_text(encoding="utf-8")
    return Template(text).substitute(losses=_losses(demo))


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


def show_learning(demo: Demo) -> str:
    """The same pictures at a few moments of the decoder's training."""
    run = demo.runs.get("rae")
    path = draw_learning(demo.pictures / "learning.png", run.samples) if run else None
    if path is None:
        return ""
    return picture_figure(
        path,
        alt="Originals, and their reconstructions at several steps of the training.",
        caption="Held-out pictures, and what the averaged (EMA) decoder made of them as training went on.",
    )


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
    table = (
        '<div class="wide"><table><thead><tr><th scope="col">trained</th><th scope="col">steps × images</th>'
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
    cells = (
        ("th scope='row'", RUN_NAMES[name], f"{size / 1e6:.2f} M trained parameters" if size else ""),
        ("td", f"{run.steps:,} × {run.batch_size:,}", ""),
        ("td", "–" if seconds is None else readable_time(seconds), f"{speed:,.0f} images/s" if speed else ""),
    )
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
    contents |= {"The data": demo.data, "How the scores were measured": demo.settings}
    return "".join(
        f"<details><summary>{title}</summary>"
        f"<pre>{html.escape(OmegaConf.to_yaml(OmegaConf.create(content)))}</pre></details>"
        for title, content in contents.items()
        if content
    )


def show_next(demo: Demo) -> str:
    """Commands that continue from here."""
    rae = demo.folder / "rae"
    commands = {
        "Your own pictures, original beside reconstruction": (
            f"python src/reconstruct.py --checkpoint {rae} --images DIR"
        ),
        "Measure the checkpoint (offline add <code>--metrics rfd,psnr,ssim</code>: rFID needs Inception)": (
            f"python src/eval_rfid.py --checkpoint {rae}"
        ),
        "Train a decoder on your own folder of images": (
            "python src/train.py experiment=rae_tiny data=image_folder data.data_dir=DIR "
            "paths.output_dir=outputs/my_rae"
        ),
    }
    return "".join(f"<p>{what}:</p><pre>{html.escape(command)}</pre>" for what, command in commands.items())


SECTIONS = (
    Section(anchor="pictures", title="Pictures it had never seen", body=show_pictures),
    Section(anchor="what", title="What was done", body=explain),
    Section(anchor="scores", title="How good they are", body=show_scores),
    Section(anchor="learning", title="How it learned", body=show_learning),
    Section(anchor="curves", title="Curves", body=show_curves),
    Section(anchor="cost", title="What it cost", body=show_cost),
    Section(anchor="next", title="How to go on", body=show_next),
)
