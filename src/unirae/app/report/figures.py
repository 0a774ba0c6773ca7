"""Pictures inside the page: data URIs, so that the report is one file."""

import base64
import html
from pathlib import Path

from unirae.app.report.plots import DARK, LIGHT, Panel, draw_panel
from unirae.core.io import write_atomically


def picture_figure(path: Path, *, alt: str, caption: str) -> str:
    """A PNG of the demo's folder with a caption."""
    return (
        f'<figure class="pictures"><img alt="{html.escape(alt)}" src="{data_uri(path.read_bytes())}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def panel_figure(panel: Panel, folder: Path) -> str:
    """A panel for light and for dark pages; the light one is also written to ``folder``."""
    light = draw_panel(panel, LIGHT)
    write_atomically(folder / f"{panel.name}.png", lambda file: file.write(light))
    alt = f"{panel.title}: {', '.join(curve.label for curve in panel.curves)}, over the training steps."
    return (
        f"<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{data_uri(draw_panel(panel, DARK))}">'
        f'<img alt="{html.escape(alt)}" src="{data_uri(light)}"></picture>'
        f"<figcaption><b>{panel.title}.</b> {panel.caption}</figcaption></figure>"
    )


def data_uri(png: bytes) -> str:
    """A PNG as ``data:`` URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
