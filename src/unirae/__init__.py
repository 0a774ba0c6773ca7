"""UniRAE: representation autoencoders and the diffusion transformers that generate in their latent space."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirae.evaluation.sampling import sample
    from unirae.metrics.score import score
    from unirae.models.hub import from_hub, push_to_hub
    from unirae.models.loading import load_rae
    from unirae.models.loading_dit import load_dit

__version__ = "0.1.0"

__all__ = ["__version__", "from_hub", "load_dit", "load_rae", "push_to_hub", "sample", "score"]

_HOMES = {
    "from_hub": "unirae.models.hub",
    "push_to_hub": "unirae.models.hub",
    "load_rae": "unirae.models.loading",
    "load_dit": "unirae.models.loading_dit",
    "sample": "unirae.evaluation.sampling",
    "score": "unirae.metrics.score",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import unirae`` costs nothing."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'unirae' has no attribute {name!r}")
