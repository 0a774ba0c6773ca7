"""UniRAE: representation autoencoders and the diffusion transformers that generate in their latent space."""

import importlib
from typing import TYPE_CHECKING, Any

from unirae.core.version import __version__

if TYPE_CHECKING:
    from unirae.app.run.from_python import train
    from unirae.evaluation.sampling.sampler import sample, sample_latents
    from unirae.metrics.score import score
    from unirae.models.checkpoints.hub import from_hub, push_to_hub
    from unirae.models.checkpoints.opening import load_dit, load_rae
    from unirae.models.denoisers.condition import Condition
    from unirae.models.encoders.build import register_encoder
    from unirae.models.text.build import load_text_encoder

__all__ = [
    "Condition",
    "__version__",
    "from_hub",
    "load_dit",
    "load_rae",
    "load_text_encoder",
    "push_to_hub",
    "register_encoder",
    "sample",
    "sample_latents",
    "score",
    "train",
]

_HOMES = {
    "Condition": "unirae.models.denoisers.condition",
    "from_hub": "unirae.models.checkpoints.hub",
    "push_to_hub": "unirae.models.checkpoints.hub",
    "load_rae": "unirae.models.checkpoints.opening",
    "load_dit": "unirae.models.checkpoints.opening",
    "load_text_encoder": "unirae.models.text.build",
    "register_encoder": "unirae.models.encoders.build",
    "sample": "unirae.evaluation.sampling.sampler",
    "sample_latents": "unirae.evaluation.sampling.sampler",
    "score": "unirae.metrics.score",
    "train": "unirae.app.run.from_python",
}


def __dir__() -> list[str]:
    """The public names, for ``dir(unirae)`` and tab completion; they are imported when they are asked for."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import unirae`` costs nothing."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    from difflib import get_close_matches

    nearest = get_close_matches(name, __all__, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; it has {', '.join(_HOMES)}"
    raise AttributeError(f"module 'unirae' has no attribute {name!r}{hint}")
