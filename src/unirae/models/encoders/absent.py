"""The place of an encoder that was not loaded: training on cached latents and decoding samples need none."""

from typing import Any, NoReturn

from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import WeightsError
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.identity import EncoderIdentity


class AbsentEncoder(Encoder):
    """An encoder without its network: its identity has pixel mean and std, which decoding needs; cannot encode."""

    def __init__(self, *, width: int, patch_size: int, identity: EncoderIdentity) -> None:
        super().__init__(backbone=nn.Identity(), width=width, patch_size=patch_size, identity=identity)
        self.weights_sha256 = identity.sha256  # as recorded: there are no tensors to hash

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> NoReturn:
        """Refuse to encode.

        Raises:
            WeightsError: Always, for there is no network.
        """
        raise WeightsError(
            f"the encoder ({self.identity.name}) was not loaded: this autoencoder can only decode. Open it with "
            "load_rae(path) instead of load_rae(path, with_encoder=False)"
        )

    @classmethod
    def skeleton(cls, architecture: dict[str, Any]) -> nn.Module:
        """An identity in place of the network."""
        return nn.Identity()

    def last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> NoReturn:
        self.forward(pixels)

    def block_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> NoReturn:
        self.forward(pixels)
