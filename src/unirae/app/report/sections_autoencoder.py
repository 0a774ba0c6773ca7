"""The sections on stage 1: reconstructions, their scores, and how they came about."""

import html

from unirae.app.report.figures import picture_figure
from unirae.app.report.inputs import Demo
from unirae.app.report.pictures import draw_learning
from unirae.app.report.scores import compare, known_scores, worse_in
from unirae.app.report.tables import meanings, score_table


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
    if not known_scores(demo.models):
        return ""
    return (
        f"<p>Measured on {demo.count:,} held-out pictures. The best of each column is marked.</p>"
        f"{score_table(demo.models, heading='reconstructed by')}"
        f"{_conclusions(demo)}<h3>How to read the scores</h3>{meanings(demo.models)}{_baselines(demo)}"
    )


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
