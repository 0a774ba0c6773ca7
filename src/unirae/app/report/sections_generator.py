"""The sections on stage 2: samples, guidance, the way from noise, likeness to training images, scores."""

import html

from unirae.app.report.figures import picture_figure
from unirae.app.report.inputs import Demo, Generation
from unirae.app.report.pictures import draw_growth
from unirae.app.report.scores import known_scores
from unirae.app.report.tables import meanings, score_table

AIM = 0.9
"""The classifier's share on samples that the project aims at, as part of its accuracy on real pictures."""


def show_samples(demo: Demo) -> str:
    """A row of samples per class, beside real pictures of it."""
    path = demo.pictures / "samples.png"
    if demo.generation is None or not path.is_file():
        return ""
    sampler = demo.generation.sampler
    text = picture_figure(
        path,
        alt="A row per class: samples of the diffusion transformer on the left, real pictures on the right.",
        caption="Left: pictures that the DiT invented when it was told the class; the first ones of each class, not "
        f"picked by hand (seed {sampler['seed']}, guidance {sampler['cfg_scale']:g}, {sampler['num_steps']} time "
        "points). Right: real pictures of the class that it never saw.",
    )
    run = demo.runs.get("dit")
    growth = draw_growth(demo.pictures / "growth.png", run.samples) if run else None
    if growth is not None:
        text += picture_figure(
            growth,
            alt="Samples from the same noise at several steps of the training.",
            caption="The same noise, turned into pictures by the averaged (EMA) DiT as its training went on.",
        )
    return text


def show_guidance(demo: Demo) -> str:
    """The same noises at several strengths of guidance."""
    path = demo.pictures / "guidance.png"
    if demo.generation is None or not path.is_file():
        return ""
    return picture_figure(
        path,
        alt="Samples of two classes; guidance grows from row to row, the noise is the same in each column.",
        caption="Every column starts from one noise; from row to row only the <b>guidance</b> grows. At scale w the "
        "DiT is asked twice, with the class and without, and the picture goes w times as far in the "
        "direction in which the two differ. Higher scales give pictures that are more "
        "typical of the class, and more like each other.",
    )


def show_denoising(demo: Demo) -> str:
    """Some samples at several times."""
    path = demo.pictures / "denoising.png"
    if demo.generation is None or not path.is_file():
        return ""
    return picture_figure(
        path,
        alt="Strips of pictures, from noise on the left to a finished sample on the right.",
        caption="Time t runs from 1, pure noise, to 0, the picture. Above: the tokens as they are at that time, "
        "painted by the decoder. Below: where the DiT expects to end up (x<sub>t</sub> − t·v). Early on that is an "
        "average of everything possible; then the class, the outline and at last the details are settled.",
    )


def show_nearest(demo: Demo) -> str:
    """Samples above the training pictures that are most like them, and whether that is suspicious."""
    path = demo.pictures / "nearest.png"
    if demo.generation is None or not path.is_file():
        return ""
    return _copying(demo.generation) + picture_figure(
        path,
        alt="Samples, and below each the two training pictures that are nearest to it.",
        caption="Samples, and the training pictures that are nearest to them, compared token by token in the encoder's "
        "features.",
    )


def _copying(generation: Generation) -> str:
    """The sentences that the distances allow."""
    copies = generation.copies
    known, new = copies["median_of_copies"], copies["median_of_new"]
    part = (copies["median_of_samples"] - known) / (new - known) if new > known else None
    text = (
        "<p>A generator could learn the training pictures by heart. Then each sample would lie as near to a training "
        f"picture as a copy of it that went through the autoencoder (median distance {known:.1f}). Held-out pictures, "
        f"which it cannot know, lie at {new:.1f}; the samples lie at <b>{copies['median_of_samples']:.1f}</b>"
    )
    if part is not None and part <= 1:
        text += f", that is {max(0.0, part):.0%} of the way from copies to new pictures"
    elif part is not None:
        text += ", farther away than new pictures"
    samples, chance = copies["samples_as_near_as_copies"], copies["new_as_near_as_copies"]
    verdict = (
        "no sign of copying" if samples <= chance + 0.02 else "more than chance: some samples may be copies"
    )
    return (
        f"{text}.</p><p>As near as a copy are {samples:.1%} of the samples and {chance:.1%} of the held-out pictures: "
        f"{verdict}.</p>"
    )


def show_generation_scores(demo: Demo) -> str:
    """The table, what it says in words, and how to read it."""
    generation = demo.generation
    if generation is None or not known_scores(generation.candidates):
        return ""
    errors = {(key, "classified"): error for key, error in generation.standard_errors.items()}
    table = score_table(generation.candidates, heading="pictures", mark_best=False, errors=errors)
    return (
        f"<p>Each row is {generation.count:,} pictures, with as many of each class as the held-out set has.</p>{table}"
        f"<ul>{_recognition(generation)}{_frechet(generation)}</ul>{_chance(generation)}"
        f"<h3>How to read the scores</h3>{meanings(generation.candidates)}{_rows(generation)}{_confusion(generation)}"
    )


def _recognition(generation: Generation) -> str:
    """The classifier's share beside its accuracy."""
    share, accuracy = (generation.score(key, "classified") for key in ("samples", "real"))
    if share is None or not accuracy:
        return ""
    ratio = share / accuracy
    said = (
        f"at least the {AIM:.0%} that were aimed at" if ratio >= AIM else f"short of the {AIM:.0%} aimed at"
    )
    text = (
        f"The classifier recognises the wanted class in <b>{share:.0%}</b> of the samples and in {accuracy:.0%} of "
        f"real pictures: {ratio:.2f} of its accuracy, {said}."
    )
    if ratio > 1:
        text += (
            " More than of real pictures: guided samples are more typical of their class, and nearer to the pictures "
            "that the classifier learned from."
        )
    through = generation.score("reconstructed", "classified")
    if through is not None:
        text += f" Real pictures that went through the autoencoder reach {through:.0%}: the decoder's part in this."
    return f"<li>{text}</li>"


def _frechet(generation: Generation) -> str:
    """Whether samples are nearer to real pictures than to the baselines, for each distance."""
    items = []
    for name, kind in known_scores(generation.candidates).items():
        real, samples = (generation.score(key, name) for key in ("real", "samples"))
        if not name.startswith("fd_") or real is None or samples is None:
            continue
        baselines = {
            one.name: one.scores[name]
            for one in generation.candidates
            if one.key in ("noise", "mislabelled") and name in one.scores
        }
        nearer = [n for n, value in baselines.items() if abs(samples - real) < abs(samples - value)]
        verdict = (
            "nearer to real pictures than to any baseline"
            if len(nearer) == len(baselines)
            else f"not nearer to real pictures than to <i>{', '.join(n for n in baselines if n not in nearer)}</i>"
        )
        against = ", ".join(f"{value:.{kind.digits}f} ({html.escape(n)})" for n, value in baselines.items())
        items.append(
            f"<li>{kind.label}: the samples have {kind.show(samples)}, {verdict} ({kind.show(real)} for real "
            f"pictures; {against}).</li>"
        )
    return "".join(items)


def _chance(generation: Generation) -> str:
    """How much so few pictures can tell."""
    ranges = [
        f"{kind.show(min(values))} to {kind.show(max(values))} ({kind.label})"
        for name, kind in known_scores(generation.candidates).items()
        if (values := generation.by_chance.get(name))
    ]
    if not ranges:
        return ""
    return (
        f'<p class="quiet">With {generation.count} pictures scores move by chance: other real pictures, drawn at '
        f"random, reach {' and '.join(ranges)}. Quote the distances as @{generation.count} and compare them only "
        "within this page. ± is the standard error of a share.</p>"
    )


_ROWS = {
    "real": "held-out pictures against training pictures, what a perfect generator would reach",
    "reconstructed": "the best that samples of this decoder can look",
    "samples": "made by the DiT, one for each held-out picture and of its class",
    "noise": "the noise that the samples started from, straight through the decoder: whatever is better than "
    "this is the DiT's work",
    "mislabelled": "the held-out pictures, each under another one's class: what samples that ignore their class would "
    "reach",
}


def _rows(generation: Generation) -> str:
    items = [
        f"<li><b>{html.escape(one.name)}</b>: {_ROWS[one.key]}.</li>"
        for one in generation.candidates
        if one.key in _ROWS
    ]
    return f"<h3>The rows</h3><ul>{''.join(items)}</ul>"


def _confusion(generation: Generation) -> str:
    """Which class was seen in which, as numbers of pictures; folded away."""
    titles = {"samples": "What the classifier saw in samples of each class", "real": "… and in real pictures"}
    return "".join(
        f"<details><summary>{title}</summary>{_matrix(generation.confusion[key], generation.class_names)}</details>"
        for key, title in titles.items()
        if key in generation.confusion
    )


def _matrix(counts: list[list[int]], names: tuple[str, ...]) -> str:
    heads = "".join(f'<th scope="col">{number}</th>' for number in range(1, len(names) + 1))
    rows = []
    for wanted, (name, row) in enumerate(zip(names, counts, strict=True)):
        cells = "".join(
            f'<td class="best">{n}</td>' if seen == wanted else f"<td>{n or ''}</td>"
            for seen, n in enumerate(row)
        )
        rows.append(f'<tr><th scope="row">{wanted + 1} {html.escape(name)}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">wanted ↓, seen →</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
