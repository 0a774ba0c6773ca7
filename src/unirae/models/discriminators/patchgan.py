"""PatchGAN: a small convolutional discriminator with one logit per patch (Isola et al., arXiv 1611.07004).

Spectral norm in place of batch norm keeps images independent of each other and the discriminator Lipschitz.
It needs no weights, so the tiny experiments use it.
"""

import itertools

from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.models.discriminators.base import Discriminator
from unirae.nn.spectral_norm import SpectralNormConv2d, advance_spectral_norm


class PatchGan(Discriminator):
    """Stride-2 convolutions, then a head with one logit per remaining position.

    Args:
        channels: of the first convolution; doubled by each further one, up to eight times as many.
        num_layers: convolutions of stride 2; with 3, logits see 38 px and stand 8 px apart.
    """

    def __init__(self, *, channels: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        widths = [3] + [channels * min(2**i, 8) for i in range(num_layers)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [
                SpectralNormConv2d(before, after, kernel_size=4, stride=2, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(SpectralNormConv2d(widths[-1], 1, kernel_size=3, padding=1))
        self.layers = nn.Sequential(*layers)
        self.min_size_px = 2**num_layers

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n"]:
        """Logits of images in [-1, 1], n = H·W / 4^num_layers."""
        if min(images.shape[-2:]) < self.min_size_px:
            raise ConfigError(
                f"PatchGan with {self.min_size_px.bit_length() - 1} layers needs images of at least "
                f"{self.min_size_px} px, got {tuple(images.shape[-2:])}; lower "
                f"{argument('discriminator.num_layers')}"
            )
        return self.layers(images).flatten(1)

    @property
    def trained(self) -> nn.Module:
        """The whole network: all of it is trained."""
        return self

    def power_iteration(self) -> None:
        """Advance spectral norm by one step."""
        advance_spectral_norm(self)
