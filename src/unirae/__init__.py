"""UniRAE: representation autoencoders and the diffusion transformers that generate in their latent space."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirae.app.from_python import train
    from unirae.evaluation.sampling import sample
    from unirae.metrics.score import score
    from unirae.models.condition import Condition
    from unirae.models.encoders.build import register_encoder
    from unirae.models.hub import from_hub, push_to_hub
    from unirae.models.loading import load_rae
    from unirae.models.loading_dit import load_dit

__version__ = "0.1.0"

__all__ = [
    "Condition",
    "__version__",
    "from_hub",
    "load_dit",
    "load_rae",
    "push_to_hub",
    "register_encoder",
    "sample",
    "score",
    "train",
]

_HOMES = {
    "Condition": "unirae.models.condition",
    "from_hub": "unirae.models.hub",
    "push_to_hub": "unirae.models.hub",
    "load_rae": "unirae.models.loading",
    "load_dit": "unirae.models.loading_dit",
    "register_encoder": "unirae.models.encoders.build",
    "sample": "unirae.evaluation.sampling",
    "score": "unirae.metrics.score",
    "train": "unirae.app.from_python",
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
