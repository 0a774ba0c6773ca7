"""UniRAE: representation autoencoders and the diffusion transformers that generate in their latent space."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirae.models.loading import load_rae

__version__ = "0.1.0"

__all__ = ["__version__", "load_rae"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import unirae`` costs nothing."""
    if name == "load_rae":
        from unirae.models.loading import load_rae

        return load_rae
    raise AttributeError(f"module 'unirae' has no attribute {name!r}")
