"""DiT^DH: a diffusion transformer with a wide, shallow head (RAE paper, section 5; after DDT, Wang et al. 2025).

The trunk, of moderate width, reads the noised latents and says what each token is about; the head, at least as wide as
the tokens, predicts from the noised latents again, its layers modulated token by token by the trunk's
output. So the width that high-dimensional latents need is paid in two layers only.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.precision import full_precision
from unirae.models.denoisers.base import Denoiser, xavier
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.config import DiTConfig, DiTDHConfig
from unirae.nn.embeddings import TimeEmbedding
from unirae.nn.modulation import ModulatedOutput
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.nn.positions import sincos_positions


class DiTDH(Denoiser):
    """Trunk and head; for the arguments see :class:`~unirae.models.denoisers.config.DiTDHConfig`."""

    config_class: ClassVar[type[DiTConfig]] = DiTDHConfig
    positions: nn.Parameter | None

    def build(self, config: DiTDHConfig) -> None:
        """Make the trunk with its embeddings, then the head."""
        trunk, head = config.stacks
        self.time_embed = TimeEmbedding(width=trunk.width)
        self.label_embed = nn.Embedding(self.num_classes + 1, trunk.width)
        self.trunk_embed = nn.Linear(self.token_width, trunk.width)
        # a frozen parameter, which the reference counts among its parameters too
        table = sincos_positions(trunk.width, self.grid)[None] if config.use_pos_embed else None
        self.positions = None if table is None else nn.Parameter(table, requires_grad=False)
        self.trunk_rotary = self.rotary_of(trunk, config)
        self.trunk = self.blocks_of(trunk, config)
        self.to_head = nn.Identity() if trunk.width == head.width else nn.Linear(trunk.width, head.width)
        self.head_embed = nn.Linear(self.token_width, head.width)
        self.head_rotary = self.rotary_of(head, config)
        self.head = self.blocks_of(head, config)
        self.output = ModulatedOutput(width=head.width, out_width=self.token_width, options=config)

    def reset(self, label_init_std: float) -> None:
        """DDT's start: PyTorch's default for linears, Xavier for the embeddings, zero modulation and output."""
        xavier(self.trunk_embed)
        xavier(self.head_embed)
        super().reset(label_init_std)

    def blocks_in_order(self) -> list[Any]:
        """The trunk's, then the head's."""
        return [*self.trunk, *self.head]

    def parameter_groups(self) -> ParameterGroups:
        """Trained parameters in groups: matrices lie in blocks, time's embedding, modulations, way to the head."""
        return group_parameters(self, edges=("trunk_embed", "head_embed", "label_embed", "output.linear"))

    def predict(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity or data at x_t."""
        self.check(x, t, self.labels_of(y))
        time = self.time_embed(t)
        return self.run_head(x, time, self.run_trunk(x, time, y))

    def run_trunk(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b d"], y: Condition | Tensor
    ) -> Float[Tensor, "b n d"]:
        """Hidden state of each token of x_t, after the trunk; ``time`` is t embedded."""
        steering = F.silu(time + self.label_embed(self.labels_of(y)))[:, None]
        hidden = full_precision(self.trunk_embed(self.patchify(x)))
        if self.positions is not None:
            hidden = hidden + self.positions
        return self.run(self.trunk, hidden, steering, self.trunk_rotary)

    def run_head(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b d"], trunk: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c h w"]:
        """The prediction at x_t; the trunk's output may be an earlier moment's (:mod:`~.trunk_reuse`)."""
        condition = self.to_head(F.silu(time[:, None] + trunk))
        hidden = full_precision(self.head_embed(self.patchify(x)))
        hidden = self.run(self.head, hidden, condition, self.head_rotary)
        return full_precision(self.unpatchify(self.output(hidden, condition)))
