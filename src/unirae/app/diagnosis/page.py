"""``diagnosis.html``, self-contained, and ``diagnosis.json`` beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.diagnosis.curves import draw_curves
from unirae.app.pictures.embedded import data_uri
from unirae.core.io import write_atomically, write_json
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from unirae.evaluation.diagnosis.changes import Kind
    from unirae.evaluation.diagnosis.diagnose import Diagnosis, Outcome

log = get_logger(__name__)

_SHOWN_NOISE = (0.0, 0.4, 0.8)
_NAMES: "dict[Kind, str]" = {"noise": "noise", "interpolation": "interpolated", "left_out": "without block"}
"""In plain letters: the font of the pictures has no Greek ones."""


def named(found: "Sequence[Diagnosis]") -> "dict[str, Diagnosis]":
    """The diagnoses under the names of their runs' folders; the files' paths where these are alike."""
    paths = [Path(diagnosis.settings["checkpoint"]) for diagnosis in found]
    names = [path.parent.parent.name if path.parent.name == "checkpoints" else path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        names = [f"{number + 1}: {name}" for number, name in enumerate(names)]
    return dict(zip(names, found, strict=True))


def show(found: "Sequence[Diagnosis]") -> None:
    """Show the figures as a table on the console."""
    from rich.console import Console
    from rich.table import Table

    for name, diagnosis in named(found).items():
        table = Table("latents", "PSNR, dB", "Fréchet distance", "seams", title=name)
        for outcome in diagnosis.outcomes:
            table.add_row(*cells(outcome))
        table.add_row("the originals", "", "", f"{diagnosis.seams:.3f}")
        Console().print(table)


def cells(outcome: "Outcome") -> tuple[str, str, str, str]:
    """An outcome as a row of a table."""
    psnr = "" if outcome.psnr is None else f"{outcome.psnr:.2f}"
    return (
        f"{_NAMES[outcome.kind]} {outcome.amount:g}",
        psnr,
        f"{outcome.frechet:.4g}",
        f"{outcome.seams:.3f}",
    )


def write_page(folder: Path, found: "Sequence[Diagnosis]") -> Path:
    """Write page and figures into the folder; returns the page."""
    named_ones = named(found)
    write_json(folder / "diagnosis.json", {name: one.to_dict() for name, one in named_ones.items()})
    page = _render(named_ones)
    path = write_atomically(folder / "diagnosis.html", lambda file: file.write(page.encode()))
    log.info("page and figures: %s", path)
    return path


def _render(found: "Mapping[str, Diagnosis]") -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {
        "cells": cells,
        "curves": data_uri(draw_curves(found)),
        "pictures": {name: data_uri(_pictures(diagnosis)) for name, diagnosis in found.items()},
    }
    template = Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(found=found)


def _pictures(diagnosis: "Diagnosis") -> bytes:
    """Rows of the same images: as they are, and decoded after some changes of their latents."""
    import io

    from unirae.app.pictures.strips import draw_blocks, strip

    rows = [("originals", diagnosis.pictures[0])]
    for outcome, images in zip(diagnosis.outcomes, diagnosis.pictures[1:], strict=True):
        if outcome.kind == "noise" and outcome.amount not in _SHOWN_NOISE:
            continue
        name = cells(outcome)[0] if outcome.amount or outcome.kind != "noise" else "reconstructions"
        rows.append((name, images))
    picture = draw_blocks([[strip(name, groups=[images]) for name, images in rows]])
    png = io.BytesIO()
    picture.save(png, format="PNG", optimize=True)
    return png.getvalue()
