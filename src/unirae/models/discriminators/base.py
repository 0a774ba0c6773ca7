"""What stage 1 asks of a discriminator."""

from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn


class Discriminator(Protocol):
    """A judge of images.

    Two properties that training builds on: images of one batch do not influence each other, so real and fake
    may go through in one pass; and ``forward`` changes no buffer, so that it is the same function in the
    generator's turn and in its own, for every micro-batch.
    """

    def __call__(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n"]:
        """Logits, high for real, of augmented images in [-1, 1] (augmentation may leave that range)."""
        ...

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What its optimizer updates; a frozen backbone is not among them."""
        ...

    def power_iteration(self) -> None:
        """Advance spectral norm; training calls it once per update of the discriminator."""
        ...

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint needs: trained parameters and their buffers, without frozen weights."""
        ...

    def load_trainable_state_dict(self, state: dict[str, Any]) -> None:
        """Restore, strictly, what :meth:`trainable_state_dict` gave."""
        ...
