"""The plain diffusion transformer: LightningDiT's blocks (Yao et al. 2025) after DiT (Peebles and Xie 2023).

x = patch embedding + fixed sin-cos positions, then blocks conditioned on c = time + label. In the RAE paper it is the
baseline: to fit high-dimensional latents its width must be at least theirs (section 4.1). With ``conditioning=tokens``
it is RAEv2's plain network (recipe, section 4): time and label are tokens, nothing is added or modulated.
"""

from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from unirae.core.precision import full_precision
from unirae.models.denoisers.base import Denoiser, FullAndBase, xavier
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.config import DiTConfig
from unirae.nn.positions import sincos_positions


class DiT(Denoiser):
    """One stack of blocks of one width; for the arguments see :class:`~unirae.models.denoisers.config.DiTConfig`."""

    config_class: ClassVar[type[DiTConfig]] = DiTConfig
    patch_embeddings: ClassVar[tuple[str, ...]] = ("patch_embed",)
    positions: nn.Parameter | None

    def build(self, config: DiTConfig) -> None:
        """Make the embeddings, the blocks and the output."""
        (stack,) = config.stacks
        modulated = config.conditioning == "adaln"
        self.patch_embed = nn.Linear(self.token_width, stack.width)
        table = sincos_positions(stack.width, self.grid)[None] if config.adds_positions else None
        self.positions = None if table is None else nn.Parameter(table, requires_grad=False)
        self.build_conditions(stack.width, config)
        self.rotary = self.rotary_of(stack, config, tokens_behind=config.tokens_behind)
        self.blocks = self.blocks_of(stack, config, modulated=modulated)
        self.output = self.output_of(stack.width, config, modulated=modulated)
        early = config.base_head_depth is not None
        self.base_output = self.output_of(stack.width, config, modulated=modulated) if early else None

    def reset(self, label_init_std: float) -> None:
        """LightningDiT's start: Xavier everywhere, then zero modulation and output; RAEv2's: only at the embedding."""
        for module in self.modules() if self.condition_tokens is None else [self.patch_embed]:
            if isinstance(module, nn.Linear):
                xavier(module)
        super().reset(label_init_std)

    def blocks_in_order(self) -> list[Any]:
        """The blocks of the one stack."""
        return [*self.blocks]

    def predict(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity or data at x_t."""
        hidden, steering, mask = self._enter(x, t, y)
        hidden = self.run(self.blocks, hidden, steering, self.rotary, mask)
        return self.leave(self.output, self.of_latents(hidden), steering)

    def predict_with_base(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> FullAndBase:
        """Velocity or data at x_t, and the early head's; see :meth:`.base.Denoiser.predict_with_base`."""
        depth, base_output = self.base_head()
        hidden, steering, mask = self._enter(x, t, y)
        early = self.run(self.blocks[:depth], hidden, steering, self.rotary, mask)
        late = self.run(self.blocks[depth:], early, steering, self.rotary, mask)
        return FullAndBase(
            full=self.leave(self.output, self.of_latents(late), steering),
            base=self.leave(base_output, self.of_latents(early), steering),
        )

    def _enter(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b 1 d"], Bool[Tensor, "b m"] | None]:
        """The tokens that go into the first block, what modulates all of them, and which are attended to."""
        self.check(x, t, y)
        time = self.time_embed(t)
        hidden = full_precision(self.patch_embed(self.patchify(x)))
        if self.positions is not None:
            hidden = hidden + self.positions
        entered = self.enter(hidden, time, y)
        return entered.hidden, entered.condition[:, None], entered.mask
