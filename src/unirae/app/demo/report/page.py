"""The page ``report.html``: the template, filled with the contents of the demo's folder."""

import base64
import shlex
from pathlib import Path
from typing import Any

from unirae.app.demo.report.inputs import Demo, incomplete, read_demo
from unirae.app.demo.report.pictures import draw_growth, draw_learning
from unirae.core.io import write_atomically


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

    from unirae.app.demo.report.scores import best, compare, known_scores, score_of
    from unirae.core.version import __version__
    from unirae.training.callbacks.progress import readable_time

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": readable_time, "shell": _shell, "yaml": _yaml}
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
    for name, run, draw in (("learning", "rae", draw_learning), ("growth", "dit", draw_growth)):
        if run in demo.runs:
            files.append(draw(folder / f"{name}.png", demo.runs[run].samples))
    return {file.stem: _data_uri(file.read_bytes()) for file in files if file and file.is_file()}


def _panels(demo: Demo) -> dict[str, dict[str, Any]]:
    """Curves by name, for light and for dark pages; the light ones are also written to ``pictures/``."""
    from unirae.app.demo.report.panels import build_panels
    from unirae.app.pictures.plots import DARK, LIGHT, draw_panel

    drawn = {}
    for panel in build_panels(demo):
        light, dark = draw_panel(panel, LIGHT), draw_panel(panel, DARK)
        write_atomically(demo.folder / f"pictures/{panel.name}.png", lambda file, png=light: file.write(png))
        drawn[panel.name] = {"panel": panel, "light": _data_uri(light), "dark": _data_uri(dark)}
    return drawn


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _yaml(content: Any) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(content))


def _shell(argument: object) -> str:
    return shlex.quote(str(argument))
