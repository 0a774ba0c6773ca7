"""The plain diffusion transformer: LightningDiT's blocks (Yao et al. 2025) after DiT (Peebles and Xie 2023).

x = patch embedding + fixed sin-cos positions, then blocks conditioned on c = time + label. In the RAE paper it is the
baseline: to fit high-dimensional latents its width must be at least theirs (section 4.1).
"""

from typing import Any

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
from unirae.nn.modulation import ModulatedBlock, ModulatedOutput
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.nn.positions import RotaryPositions, sincos_positions


class DiT(Denoiser):
    """One stack of blocks of one width; see :class:`~unirae.models.denoisers.base.Denoiser` for the shared arguments.

    Args:
        input_size: side, or (height, width), of the latents.
        in_channels: of the latents.
        hidden_size, depth, num_heads: of the blocks.
        use_rope: rotary positions in attention, beside the added ones.
        block: further arguments of :class:`~unirae.nn.modulation.BlockOptions`.
    """

    def __init__(
        self,
        *,
        input_size: int | tuple[int, int],
        in_channels: int,
        num_classes: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        patch_size: int = 1,
        use_rope: bool = True,
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
        for name, size in (("hidden_size", hidden_size), ("depth", depth), ("num_heads", num_heads)):
            if not isinstance(size, int):
                raise ConfigError(
                    f"{argument(f'denoiser.{name}', size)} must be one number; only kind: dit_dh has trunk and head"
                )
        check_heads(hidden_size, num_heads, use_rope=use_rope)
        check_added_positions(hidden_size)
        options = block_options(block)
        self.architecture = {
            "input_size": list(pair(input_size)),
            "in_channels": in_channels,
            "num_classes": num_classes,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
            "patch_size": patch_size,
            "use_rope": use_rope,
            **block,
        }
        self.hidden_size = hidden_size
        self.patch_embed = nn.Linear(self.token_width, hidden_size)
        self.positions = nn.Parameter(sincos_positions(hidden_size, self.grid)[None], requires_grad=False)
        self.time_embed = TimeEmbedding(width=hidden_size)
        self.label_embed = nn.Embedding(num_classes + 1, hidden_size)
        self.rotary = (
            RotaryPositions(head_width=hidden_size // num_heads, grid=self.grid) if use_rope else None
        )
        self.blocks = nn.ModuleList(
            ModulatedBlock(width=hidden_size, num_heads=num_heads, options=options) for _ in range(depth)
        )
        self.output = ModulatedOutput(width=hidden_size, out_width=self.token_width, options=options)
        self.reset(label_init_std)

    def reset(self, label_init_std: float) -> None:
        """LightningDiT's start: Xavier everywhere, then zero modulation and output."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                xavier(module)
        initialise_conditioning(self.time_embed, self.label_embed, label_std=label_init_std)
        for block in self.blocks:
            assert isinstance(block, ModulatedBlock)
            block.modulation.reset()
        self.output.reset()

    def blocks_in_order(self) -> list[nn.Module]:
        """The blocks of the one stack."""
        return [*self.blocks]

    def parameter_groups(self) -> ParameterGroups:
        """Trained parameters in groups: matrices are those of blocks, time's embedding and output's modulation."""
        return group_parameters(self, edges=("patch_embed", "label_embed", "output.linear"))

    @property
    def narrowest_width(self) -> int:
        """Least width of the network: that of the blocks."""
        return self.hidden_size

    def predict(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity or data at x_t."""
        labels = self.labels_of(y)
        self.check(x, t, labels)
        steering = (self.time_embed(t) + self.label_embed(labels))[:, None]
        hidden = self.patch_embed(self.patchify(x)) + self.positions
        for block in self.blocks:
            assert isinstance(block, ModulatedBlock)
            hidden = self.run(block, hidden, steering, self.rotary)
        return full_precision(self.unpatchify(self.output(hidden, steering)))
