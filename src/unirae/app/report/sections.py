"""The sections of the report, in reading order. One that has nothing to show returns "" and is left out.

To add a section write a function of :class:`Demo` beside those of its subject and name it in ``SECTIONS``.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unirae.app.report import sections_autoencoder as autoencoder
from unirae.app.report import sections_generator as generator
from unirae.app.report import sections_run as run
from unirae.app.report.inputs import Demo


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: the anchor, its heading, and what fills it."""

    anchor: str
    title: str
    body: Callable[[Demo], str]


SECTIONS = (
    Section(anchor="what", title="What was done", body=run.explain),
    Section(anchor="pictures", title="Pictures it had never seen", body=autoencoder.show_pictures),
    Section(anchor="samples", title="Pictures that never existed", body=generator.show_samples),
    Section(anchor="guidance", title="What guidance does", body=generator.show_guidance),
    Section(anchor="denoising", title="From noise to a picture", body=generator.show_denoising),
    Section(anchor="nearest", title="Is it copying?", body=generator.show_nearest),
    Section(anchor="learning", title="How the decoder learned", body=autoencoder.show_learning),
    Section(anchor="curves", title="Curves", body=run.show_curves),
    Section(anchor="scores", title="How good the reconstructions are", body=autoencoder.show_scores),
    Section(
        anchor="generation-scores", title="How good the samples are", body=generator.show_generation_scores
    ),
    Section(anchor="cost", title="What it cost", body=run.show_cost),
    Section(anchor="next", title="How to go on", body=run.show_next),
)
