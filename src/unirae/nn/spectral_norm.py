"""Convolutions whose weight is divided by its largest singular value (Miyato et al., arXiv 1802.05957).

σ ≈ uᵀWv, with u and v from power iteration and treated as constants, so that gradients reach W through σ.
Unlike torch's hook, a forward pass never advances u and v: :func:`advance_spectral_norm` does, once per
update of the discriminator. So a forward pass is a pure function, however often it is called, in any mode.

``weight_orig``, ``weight_u`` and ``weight_v`` carry the names of ``nn.utils.spectral_norm``.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.precision import full_precision, without_autocast

_EPS = 1e-12
_WARM_UP = 15  # iterations at construction: the first forward already sees a σ near its limit


class _SpectralNormConv(nn.modules.conv._ConvNd):
    """Base of the convolutions below: W under another name, u, v, and W / σ."""

    weight_orig: Tensor
    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Move W to ``weight_orig`` and start u and v."""
        super().__init__(*args, **kwargs)
        weight = self._parameters.pop("weight")
        assert weight is not None
        self.register_parameter("weight_orig", weight)
        rows, columns = weight.flatten(1).shape
        self.register_buffer("weight_u", F.normalize(weight.new_empty(rows).normal_(), dim=0, eps=_EPS))
        self.register_buffer("weight_v", F.normalize(weight.new_empty(columns).normal_(), dim=0, eps=_EPS))
        for _ in range(_WARM_UP):
            self.power_iteration()

    @torch.no_grad()
    def power_iteration(self) -> None:
        """One step: v ← Wᵀu / ‖Wᵀu‖, u ← Wv / ‖Wv‖."""
        matrix = self.weight_orig.flatten(1)
        self.weight_v.copy_(F.normalize(matrix.T @ self.weight_u, dim=0, eps=_EPS))
        self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0, eps=_EPS))

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c2 ..."]:
        """Convolve with W / σ; u and v stay."""
        return self._conv_forward(x, self.normalised_weight(), self.bias)

    def normalised_weight(self) -> Float[Tensor, "o i ..."]:
        """W / σ, in full precision also under autocast: an error in σ scales the whole layer."""
        weight = full_precision(self.weight_orig)
        # copies, because a power iteration may come between the forward and the backward pass
        u, v = self.weight_u.clone(), self.weight_v.clone()
        with without_autocast(weight):  # it would round the product to 16 bits
            sigma = u @ (weight.flatten(1) @ v)
        return weight * sigma.reciprocal()  # whose gradient takes half the passes of a quotient's


class SpectralNormConv1d(_SpectralNormConv, nn.Conv1d):
    """``nn.Conv1d`` with spectral norm; arguments and initialisation are the same."""


class SpectralNormConv2d(_SpectralNormConv, nn.Conv2d):
    """``nn.Conv2d`` with spectral norm; arguments and initialisation are the same."""


def advance_spectral_norm(module: nn.Module) -> None:
    """One power iteration in every spectral-norm convolution of ``module``."""
    for part in module.modules():
        if isinstance(part, _SpectralNormConv):
            part.power_iteration()
