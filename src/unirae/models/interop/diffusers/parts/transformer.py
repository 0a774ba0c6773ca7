"""A diffusion transformer of ours as a model of diffusers."""

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.models.denoisers.build import build_denoiser


class RAETransformer(ModelMixin, ConfigMixin):
    """A network from noised latents, times and labels to velocities.

    Args:
        kind: ``dit`` (one stack of blocks) or ``dit_dh`` (trunk and wide head).
        architecture: the network's arguments.
        time_shift: how times are shifted towards noise.
        prediction: what the network answers inside, velocity or data; outside it is a velocity.
        latent_stats: shapes of ``mean`` and ``var``, and ``eps``: statistics of the latents that it was trained on.
            The autoencoder applies them; here they only travel.
    """

    @register_to_config
    def __init__(
        self,
        kind: str,
        architecture: dict[str, Any],
        time_shift: float,
        latent_stats: dict[str, Any] | None = None,
        prediction: str = "velocity",
    ) -> None:
        super().__init__()
        self.network = build_denoiser(kind, **architecture, time_shift=time_shift, prediction=prediction)
        for name in ("mean", "var"):
            shape = (latent_stats or {}).get(name)
            self.register_buffer(f"latents_{name}", None if shape is None else torch.ones(shape))

    def forward(
        self,
        hidden_states: Float[Tensor, "b c h w"],
        timestep: Float[Tensor, " b"],
        class_labels: Int64[Tensor, " b"],
        return_dict: bool = True,
        return_base: bool = False,
    ) -> Any:
        """Velocity noise − data at ``hidden_states``; timestep 0 is data, 1 is noise.

        Args:
            return_base: return (velocity, that of the early head), which a network may have.
        """
        if return_base:
            return tuple(self.network.both_heads(hidden_states, timestep, class_labels))
        sample = self.network(hidden_states, timestep, class_labels)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)
