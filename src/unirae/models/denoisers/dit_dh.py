"""DiT^DH: a diffusion transformer with a wide, shallow head (RAE paper, section 5; after DDT, Wang et al. 2025).

The trunk, of moderate width, reads the noised latents and says what each token is about; the head, at least as wide as
the tokens, predicts from the noised latents again, its layers modulated token by token by the trunk's
output. So the width that high-dimensional latents need is paid in two layers only.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision
from unirae.flow.prediction import Prediction
from unirae.models.denoisers.base import (
    Denoiser,
    block_options,
    check_added_positions,
    check_heads,
    initialise_conditioning,
    pair,
    xavier,
)
from unirae.models.denoisers.condition import Condition
from unirae.models.latent_stats import LatentStats
from unirae.nn.embeddings import TimeEmbedding
from unirae.nn.modulation import BlockOptions, ModulatedBlock, ModulatedOutput
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.nn.positions import RotaryPositions, sincos_positions


class DiTDH(Denoiser):
    """Trunk and head; see :class:`~unirae.models.denoisers.base.Denoiser` for the shared arguments.

    Args:
        input_size: side, or (height, width), of the latents.
        in_channels: of the latents.
        hidden_size, depth, num_heads: of (trunk, head).
        use_rope: rotary positions in attention.
        use_pos_embed: sin-cos positions added to the trunk's input; the head's has none.
        block: further arguments of :class:`~unirae.nn.modulation.BlockOptions`.
    """

    positions: nn.Parameter | None

    def __init__(
        self,
        *,
        input_size: int | tuple[int, int],
        in_channels: int,
        num_classes: int,
        hidden_size: Sequence[int],
        depth: Sequence[int],
        num_heads: Sequence[int],
        patch_size: int = 1,
        use_rope: bool = True,
        use_pos_embed: bool = True,
        time_shift: float | None = None,
        latent_stats: LatentStats | None = None,
        gradient_checkpointing: bool = False,
        label_init_std: float = 0.02,
        prediction: Prediction | str = Prediction.VELOCITY,
        **block: Any,
    ) -> None:
        super().__init__(
            latent_shape=(in_channels, *pair(input_size)),
            patch_size=patch_size,
            num_classes=num_classes,
            time_shift=time_shift,
            latent_stats=latent_stats,
            gradient_checkpointing=gradient_checkpointing,
            prediction=prediction,
        )
        sizes = {"hidden_size": hidden_size, "depth": depth, "num_heads": num_heads}
        sizes = {name: _trunk_and_head(name, value) for name, value in sizes.items()}
        widths, depths, heads = sizes["hidden_size"], sizes["depth"], sizes["num_heads"]
        for part in (0, 1):
            check_heads(widths[part], heads[part], use_rope=use_rope, part=part)
        if use_pos_embed:
            check_added_positions(widths[0], part=0)
        options = block_options(block)
        self.architecture = {
            "input_size": list(pair(input_size)),
            "in_channels": in_channels,
            "num_classes": num_classes,
            **sizes,
            "patch_size": patch_size,
            "use_rope": use_rope,
            "use_pos_embed": use_pos_embed,
            **block,
        }
        self.hidden_size = (widths[0], widths[1])
        self._build_trunk(widths[0], depths[0], heads[0], use_rope, use_pos_embed, options)
        self._build_head(widths[1], depths[1], heads[1], use_rope, options)
        self.reset(label_init_std)

    def _build_trunk(
        self, width: int, depth: int, heads: int, rope: bool, positions: bool, options: BlockOptions
    ) -> None:
        self.time_embed = TimeEmbedding(width=width)
        self.label_embed = nn.Embedding(self.num_classes + 1, width)
        self.trunk_embed = nn.Linear(self.token_width, width)
        # a frozen parameter, which the reference counts among its parameters too
        table = (
            nn.Parameter(sincos_positions(width, self.grid)[None], requires_grad=False) if positions else None
        )
        self.register_parameter("positions", table)
        self.trunk_rotary = RotaryPositions(head_width=width // heads, grid=self.grid) if rope else None
        self.trunk = nn.ModuleList(
            ModulatedBlock(width=width, num_heads=heads, options=options) for _ in range(depth)
        )

    def _build_head(self, width: int, depth: int, heads: int, rope: bool, options: BlockOptions) -> None:
        trunk_width = self.hidden_size[0]
        self.to_head = nn.Identity() if trunk_width == width else nn.Linear(trunk_width, width)
        self.head_embed = nn.Linear(self.token_width, width)
        self.head_rotary = RotaryPositions(head_width=width // heads, grid=self.grid) if rope else None
        self.head = nn.ModuleList(
            ModulatedBlock(width=width, num_heads=heads, options=options) for _ in range(depth)
        )
        self.output = ModulatedOutput(width=width, out_width=self.token_width, options=options)

    def reset(self, label_init_std: float) -> None:
        """DDT's start: PyTorch's default for linears, Xavier for the embeddings, zero modulation and output."""
        xavier(self.trunk_embed)
        xavier(self.head_embed)
        initialise_conditioning(self.time_embed, self.label_embed, label_std=label_init_std)
        for block in (*self.trunk, *self.head):
            assert isinstance(block, ModulatedBlock)
            block.modulation.reset()
        self.output.reset()

    def blocks_in_order(self) -> list[nn.Module]:
        """The trunk's, then the head's."""
        return [*self.trunk, *self.head]

    def parameter_groups(self) -> ParameterGroups:
        """Trained parameters in groups: matrices lie in blocks, time's embedding, modulations, way to the head."""
        return group_parameters(self, edges=("trunk_embed", "head_embed", "label_embed", "output.linear"))

    @property
    def narrowest_width(self) -> int:
        """The head's width: the trunk only conditions."""
        return self.hidden_size[1]

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
        for block in self.trunk:
            assert isinstance(block, ModulatedBlock)
            hidden = self.run(block, hidden, steering, self.trunk_rotary)
        return hidden

    def run_head(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b d"], trunk: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c h w"]:
        """The prediction at x_t; the trunk's output may be an earlier moment's (:mod:`~.trunk_reuse`)."""
        condition = self.to_head(F.silu(time[:, None] + trunk))
        hidden = full_precision(self.head_embed(self.patchify(x)))
        for block in self.head:
            assert isinstance(block, ModulatedBlock)
            hidden = self.run(block, hidden, condition, self.head_rotary)
        return full_precision(self.unpatchify(self.output(hidden, condition)))


def _trunk_and_head(name: str, value: Sequence[int]) -> list[int]:
    if isinstance(value, int) or len(value) != 2:
        raise ConfigError(f"{argument(f'denoiser.{name}', value)} must be two numbers: [trunk, head]")
    return [int(number) for number in value]
