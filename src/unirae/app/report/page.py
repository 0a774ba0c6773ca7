"""Writes ``report.html``: the sections that have something to show, in one file that loads nothing else."""

import html
from importlib import resources
from pathlib import Path
from string import Template

import unirae
from unirae.app.report.inputs import Demo, read_demo
from unirae.app.report.sections import SECTIONS
from unirae.core.io import write_atomically

_TITLE = "A representation autoencoder, trained on this machine"
_TITLE_WITH_GENERATOR = "New pictures from a representation autoencoder and a diffusion transformer"


def write_report(demo_dir: Path) -> Path:
    """Write ``demo_dir/report.html``, and into ``demo_dir/pictures/`` the PNGs on it that are made here.

    Raises:
        UserError: ``scores.json`` is missing or incomplete.
    """
    page = render(read_demo(demo_dir))
    return write_atomically(demo_dir / "report.html", lambda file: file.write(page.encode()))


def render(demo: Demo) -> str:
    """The page as HTML."""
    bodies = {section: section.body(demo) for section in SECTIONS}
    shown = {section: body for section, body in bodies.items() if body}
    template = resources.files("unirae.app.report").joinpath("template.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=_TITLE_WITH_GENERATOR if "dit" in demo.runs else _TITLE,
        lede=_lede(demo),
        navigation="".join(f'<a href="#{s.anchor}">{html.escape(s.title)}</a>' for s in shown),
        sections="\n".join(
            f'<section id="{s.anchor}"><h2>{html.escape(s.title)}</h2>\n{body}</section>'
            for s, body in shown.items()
        ),
        footer=f"Written by UniRAE {unirae.__version__}. Everything is inside this file; it loads nothing.",
    )


def _lede(demo: Demo) -> str:
    from unirae.training.callbacks.progress import readable_time

    parts = ("encoder", "rae", "dit") if "dit" in demo.runs else ("encoder", "rae")
    spent = [demo.seconds[name] for name in parts if name in demo.seconds]
    took = f"In {readable_time(sum(spent))} of training" if len(spent) == len(parts) else "From nothing"
    what = (
        "three small networks learned on this machine to turn pictures into tokens, to paint pictures from tokens, and "
        "to invent tokens of pictures that never existed. Nothing was downloaded for it. Below are the pictures, and "
        "how good they are."
        if "dit" in demo.runs
        else "two small networks learned on this machine to turn pictures into tokens and back. Nothing was downloaded "
        "for it. Below is what they do with pictures they had never seen."
    )
    return f"{took}, {what}"
