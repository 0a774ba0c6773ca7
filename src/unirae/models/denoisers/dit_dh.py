"""DiT^DH: a diffusion transformer with a wide, shallow head (RAE paper, section 5; after DDT, Wang et al. 2025).

The trunk, of moderate width, reads the noised latents and says what each token is about; the head, at least as wide as
the tokens, predicts from the noised latents again, its layers modulated token by token by the trunk's
output. So the width that high-dimensional latents need is paid in two layers only. With ``conditioning=tokens`` it is
RAEv2's (recipe, section 4): the trunk is not modulated, time and label are tokens of it.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unirae.core.precision import full_precision
from unirae.models.denoisers.base import Denoiser, FullAndBase, xavier
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.config import DiTConfig, DiTDHConfig
from unirae.nn.positions import sincos_positions


class DiTDH(Denoiser):
    """Trunk and head; for the arguments see :class:`~unirae.models.denoisers.config.DiTDHConfig`."""

    config_class: ClassVar[type[DiTConfig]] = DiTDHConfig
    patch_embeddings: ClassVar[tuple[str, ...]] = ("trunk_embed", "head_embed")
    positions: nn.Parameter | None

    def build(self, config: DiTDHConfig) -> None:
        """Make the trunk with its embeddings, then the head."""
        trunk, head = config.stacks
        self.build_conditions(trunk.width, config)
        self.trunk_embed = nn.Linear(self.token_width, trunk.width)
        # a frozen parameter, which the reference counts among its parameters too
        table = sincos_positions(trunk.width, self.grid)[None] if config.use_pos_embed else None
        self.positions = None if table is None else nn.Parameter(table, requires_grad=False)
        self.trunk_rotary = self.rotary_of(trunk, config, tokens_behind=config.tokens_behind)
        self.trunk = self.blocks_of(trunk, config, modulated=config.conditioning == "adaln")
        self.to_head = nn.Identity() if trunk.width == head.width else nn.Linear(trunk.width, head.width)
        self.head_embed = nn.Linear(self.token_width, head.width)
        self.head_rotary = self.rotary_of(head, config, tokens_behind=0)
        self.head = self.blocks_of(head, config, modulated=True)
        self.output = self.output_of(head.width, config, modulated=True)
        early = config.base_head_depth is not None
        self.base_output = self.output_of(trunk.width, config, modulated=True) if early else None

    def reset(self, label_init_std: float) -> None:
        """DDT's start: PyTorch's default for linears, Xavier for the embeddings, zero modulation and output."""
        xavier(self.trunk_embed)
        xavier(self.head_embed)
        super().reset(label_init_std)

    def blocks_in_order(self) -> list[Any]:
        """The trunk's, then the head's."""
        return [*self.trunk, *self.head]

    def predict(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity or data at x_t."""
        self.check(x, t, y)
        time = self.time_embed(t)
        return self.run_head(x, time, self.run_trunk(x, time, y))

    def predict_with_base(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> FullAndBase:
        """Velocity or data at x_t, and the early head's; see :meth:`.base.Denoiser.predict_with_base`.

        The early head norms c = SiLU(time + trunk so far) and is modulated by it, too (recipe of RAEv2, section 4).
        """
        depth, base_output = self.base_head()
        self.check(x, t, y)
        time = self.time_embed(t)
        hidden, steering, mask = self._enter_trunk(x, time, y)
        early = self.run(self.trunk[:depth], hidden, steering, self.trunk_rotary, mask)
        late = self.run(self.trunk[depth:], early, steering, self.trunk_rotary, mask)
        condition = F.silu(time[:, None] + self.of_latents(early))
        return FullAndBase(
            full=self.run_head(x, time, self.of_latents(late)),
            base=self.leave(base_output, condition, condition),
        )

    def run_trunk(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b d"], y: Condition | Tensor
    ) -> Float[Tensor, "b n d"]:
        """Hidden state of each token of x_t, after the trunk; ``time`` is t embedded."""
        hidden, steering, mask = self._enter_trunk(x, time, y)
        return self.of_latents(self.run(self.trunk, hidden, steering, self.trunk_rotary, mask))

    def _enter_trunk(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b d"], y: Condition | Tensor
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b 1 d"], Bool[Tensor, "b m"] | None]:
        """The tokens that go into the trunk, what modulates them there, and which are attended to."""
        hidden = full_precision(self.trunk_embed(self.patchify(x)))
        if self.positions is not None:
            hidden = hidden + self.positions
        entered = self.enter(hidden, time, y)
        return entered.hidden, F.silu(entered.condition)[:, None], entered.mask

    def run_head(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b d"], trunk: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c h w"]:
        """The prediction at x_t; the trunk's output may be an earlier moment's (:mod:`~.trunk_reuse`)."""
        condition = self.to_head(F.silu(time[:, None] + trunk))
        hidden = full_precision(self.head_embed(self.patchify(x)))
        hidden = self.run(self.head, hidden, condition, self.head_rotary)
        return self.leave(self.output, hidden, condition)
