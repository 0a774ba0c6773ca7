"""Per-element statistics of the latents over a training set (RAE paper, section 3), and their one formula."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.conventions import LATENT_EPS
from unirae.core.errors import WeightsError
from unirae.core.io import state_sha256


class LatentStats(nn.Module):
    """Mean and population variance per latent element, or per channel (c, 1, 1); either may be absent.

    The released DINOv2-B statistics, for one, have no mean. Kept and applied in float32 whatever the
    precision of the networks around them.

    Args:
        info: how they were taken (data set, count, crop), for the checkpoint and the curious.
        eps: ε under the root; None is :data:`~unirae.core.conventions.LATENT_EPS`. Another one, of statistics from
            elsewhere, travels with them.
    """

    mean: Tensor | None
    var: Tensor | None

    def __init__(
        self,
        *,
        mean: Float[Tensor, "c h w"] | None = None,
        var: Float[Tensor, "c h w"] | None = None,
        info: dict[str, Any] | None = None,
        eps: float | Tensor | None = None,
    ) -> None:
        super().__init__()
        for name, tensor in (("mean", mean), ("var", var)):
            if tensor is not None and not torch.isfinite(tensor).all():
                raise WeightsError(f"latent statistics: {name} holds values that are not finite")
        if var is not None and (var < 0).any():
            raise WeightsError(
                "latent statistics: var holds negative values; is it a standard deviation's sign?"
            )
        self.info = dict(info or {})
        self.epsilon = LATENT_EPS if eps is None else float(eps)
        if not self.epsilon >= 0:
            raise WeightsError(f"latent statistics: eps={self.epsilon} must not be negative")
        if self.epsilon != LATENT_EPS:
            self.register_buffer("eps", torch.tensor(self.epsilon))
        self.register_buffer("mean", None if mean is None else mean.float())
        self.register_buffer("var", None if var is None else var.float())

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(c, h, w) or (c, 1, 1); None where both are absent."""
        present = self.mean if self.mean is not None else self.var
        return None if present is None else tuple(present.shape)

    def fit(self, latent_shape: tuple[int, ...]) -> bool:
        """Whether they belong to latents of that (c, h, w): each is of that shape, or one value per channel."""
        present = [tuple(t.shape) for t in (self.mean, self.var) if t is not None]
        return all(shape in (latent_shape, (latent_shape[0], 1, 1)) for shape in present)

    def to_dict(self) -> dict[str, Any] | None:
        """What a checkpoint holds, the arguments of this class; None where there are none."""
        return {**self.state_dict(), "info": self.info} if self.shape else None

    @property
    def sha256(self) -> str:
        """Hash of mean and variance."""
        return state_sha256(self.state_dict())

    def normalise(self, tokens: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """(z − mean) / √(var + ε), in float32."""
        latents = tokens.float()
        if self.mean is not None:
            latents = latents - self.mean
        return latents if self.var is None else latents / (self.var + self.epsilon).sqrt()

    def denormalise(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse of :meth:`normalise`."""
        tokens = latents.float()
        if self.var is not None:
            tokens = tokens * (self.var + self.epsilon).sqrt()
        return tokens if self.mean is None else tokens + self.mean
