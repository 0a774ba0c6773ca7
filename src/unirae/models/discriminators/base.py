"""Interface of the discriminators of stage 1."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from unirae.nn.parameter_groups import ParameterGroups, group_parameters


class Discriminator(nn.Module, ABC):
    """Discriminator: a judge of images.

    Two properties that training builds on: images of one batch do not influence each other, so real and fake
    may go through in one pass; and ``forward`` changes no buffer, so that it is the same function in the
    generator's turn and in its own, for every micro-batch.
    """

    @abstractmethod
    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n"]:
        """Logits, high for real, of augmented images in [-1, 1] (augmentation may leave that range)."""

    @abstractmethod
    def power_iteration(self) -> None:
        """Advance spectral norm; training calls it once per update of the discriminator."""

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The part of the network that its optimizer updates and a checkpoint holds; a frozen backbone is outside."""

    def parameter_groups(self) -> ParameterGroups:
        """The parameters of :attr:`trained`, matrices and others; convolutions are no matrices."""
        return group_parameters(self.trained)
