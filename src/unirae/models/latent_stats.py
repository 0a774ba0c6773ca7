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

    ε is a plain number, not a buffer: ``half()`` would round a buffer, and Metal has no float64. It still travels in
    state dicts, as the float64 scalar ``eps``, where it is not the usual one; so statistics with the usual ε keep
    their keys and their hash.

    Args:
        eps: ε beside the variance; None is the usual :data:`~unirae.core.conventions.LATENT_EPS`.
        info: how they were taken (data set, count, crop), for the checkpoint and the curious.
    """

    mean: Tensor | None
    var: Tensor | None

    def __init__(
        self,
        *,
        mean: Float[Tensor, "c h w"] | None = None,
        var: Float[Tensor, "c h w"] | None = None,
        eps: float | Tensor | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.eps: float = _checked_eps(LATENT_EPS if eps is None else float(eps))
        for name, tensor in (("mean", mean), ("var", var)):
            if tensor is not None and not torch.isfinite(tensor).all():
                raise WeightsError(f"latent statistics: {name} holds values that are not finite")
        if var is not None and (var < 0).any():
            raise WeightsError(
                "latent statistics: var holds negative values; is it a standard deviation's sign?"
            )
        self.info = dict(info or {})
        for name, tensor in (
            ("mean", mean),
            ("var", var),
        ):  # copies: a checkpoint's tensors are bytes of its file
            self.register_buffer(name, None if tensor is None else tensor.to(torch.float32, copy=True))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the statistics, (c, h, w) or (c, 1, 1); None where both are absent."""
        present = self.mean if self.mean is not None else self.var
        return None if present is None else tuple(present.shape)

    def fit(self, latent_shape: tuple[int, ...]) -> bool:
        """Say whether the statistics belong to latents of that (c, h, w): of that shape, or one value per channel."""
        present = [tuple(t.shape) for t in (self.mean, self.var) if t is not None]
        return all(shape in (latent_shape, (latent_shape[0], 1, 1)) for shape in present)

    def to_dict(self) -> dict[str, Any] | None:
        """The arguments of this class, as a checkpoint holds them; None where there are no statistics."""
        return {**self.state_dict(), "info": self.info} if self.shape else None

    @property
    def sha256(self) -> str:
        """Hash of mean and variance, and of ε where it is not the usual one."""
        return state_sha256(self.state_dict())

    def normalise(self, tokens: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise latents: (z − mean) / √(var + ε), in float32."""
        latents = tokens.float()
        if self.mean is not None:
            latents = latents - self.mean
        return latents if self.var is None else latents / (self.var + self.eps).sqrt()

    def denormalise(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Denormalise latents, as the inverse of :meth:`normalise`."""
        tokens = latents.float()
        if self.var is not None:
            tokens = tokens * (self.var + self.eps).sqrt()
        return tokens if self.mean is None else tokens + self.mean

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.eps != LATENT_EPS:
            destination[prefix + "eps"] = torch.tensor(self.eps, dtype=torch.float64)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        given = state_dict.pop(prefix + "eps", None)  # torch hands over a copy of its own
        if given is not None:
            self.eps = _checked_eps(float(given))
        elif strict and self.eps != LATENT_EPS:
            missing_keys.append(prefix + "eps")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _checked_eps(eps: float) -> float:
    if not 0 <= eps < float("inf"):
        raise WeightsError(f"latent statistics: eps={eps} must be a finite number and not negative")
    return eps
