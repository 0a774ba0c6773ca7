"""A DiT^DH whose trunk is computed at every k-th evaluation only (DDT, Wang et al., arXiv 2504.05741).

What the trunk says changes slowly along a path, and in the large models it is most of the work; the head, given x
and t of the moment, does the rest. Departs from DDT's code, whose kept output includes the time it was made at.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.flow.guidance import VelocityModel
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.dit_dh import DiTDH


def reusing_trunk(model: Denoiser, every: int) -> VelocityModel:
    """Reuse the trunk for one solution of the equation: it is computed at every ``every``-th evaluation; 1 is always.

    Raises:
        ConfigError: If ``every`` is no positive number, or the model has no trunk.
    """
    if every < 1:
        raise ConfigError(
            f"trunk_every={every} must be at least 1, which computes the trunk at every evaluation"
        )
    if every == 1:
        return model
    if not isinstance(model, DiTDH):
        raise ConfigError(
            f"trunk_every={every} needs a DiT^DH, for guide and guided; a {type(model).__name__} has no trunk to keep"
        )
    return TrunkReuse(model, every)


@final
class TrunkReuse:
    """Keeps the trunk's output between evaluations, so it serves one solution; a new one for each batch.

    Another batch, as where guidance begins or ends, computes it anew.
    """

    def __init__(self, model: DiTDH, every: int) -> None:
        self._model, self._every = model, every
        self._kept: Tensor | None = None
        self._uses = 0

    def __call__(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity at x_t: only where the trunk's output comes from differs from the network's own."""
        time = self._model.time_embed(t)
        kept = self._kept
        if kept is None or len(kept) != len(x) or self._uses == self._every:
            kept, self._uses = self._model.run_trunk(x, time, y), 0
            self._kept = kept
        self._uses += 1
        return self._model.prediction.velocity(self._model.run_head(x, time, kept), x, t)
