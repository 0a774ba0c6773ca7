"""Baselines of reconstruction that know nothing, to stand beside reconstructors that should."""

from jaxtyping import Float
from torch import Tensor


class MeanColour:
    """Each image as one plain area of its own mean colour: three numbers per image."""

    def reconstruct(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """Replace RGB in [0, 1] by its mean colour."""
        return images.mean((-2, -1), keepdim=True).expand_as(images)
