"""Base of the diffusion transformers: all that flow, training and sampling know of one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision
from unirae.flow.prediction import Prediction
from unirae.flow.times import time_shift as derived_time_shift
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.conditioned import Conditioned
from unirae.models.denoisers.config import DiTConfig, Stack
from unirae.models.latent_stats import LatentStats
from unirae.nn.modulation import BlockOptions, ModulatedBlock, ModulatedOutput, PlainBlock, PlainOutput
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.nn.positions import RotaryPositions


class FullAndBase(NamedTuple):
    """Both outputs of a network with an early head, as its ``prediction`` says."""

    full: Float[Tensor, "b c h w"]
    base: Float[Tensor, "b c h w"]
    """The early head's, which has seen the first blocks alone."""


class Denoiser(Conditioned, ABC):
    """A network from noised latents, times and a condition to velocities.

    A network implements :meth:`predict`, which answers what it was trained to; ``forward`` makes that a velocity.
    One with an early head answers both with :meth:`predict_with_base`.

    Args:
        time_shift: how times are shifted towards noise in training and sampling; None derives it from the latents'
            size (RAE paper, section 4.2).
        latent_stats: of the latents that it was trained on; they travel with it.
        gradient_checkpointing: recompute each block in the backward pass: less memory, about a third slower.
        label_init_std: spread of new label embeddings.
        prediction: what :meth:`predict` answers, ``velocity`` or ``data``.
        null_text: the condition of "", one sample, of a network that is conditioned on text; it travels with it. None
            is no token at all.
        text_identity: the identity of the text encoder that its texts come from, plain values
            (:class:`~unirae.models.text.identity.TextEncoderIdentity`); None where nobody wrote it down.
        architecture: the arguments of :attr:`config_class`.
    """

    config_class: ClassVar[type[DiTConfig]]
    patch_embeddings: ClassVar[tuple[str, ...]]
    """Names of the layers that read patches, convolutions in the reference."""
    output: ModulatedOutput | PlainOutput
    base_output: ModulatedOutput | PlainOutput | None

    def __init__(
        self,
        *,
        time_shift: float | None = None,
        latent_stats: LatentStats | None = None,
        gradient_checkpointing: bool = False,
        label_init_std: float = 0.02,
        prediction: Prediction | str = Prediction.VELOCITY,
        null_text: Condition | None = None,
        text_identity: dict[str, Any] | None = None,
        **architecture: Any,
    ) -> None:
        super().__init__()
        self.config = config = self.config_class.of(architecture)
        self.architecture = config.record(architecture)
        """The arguments that build this network again; plain values."""
        self.num_classes, self.patch_size = config.num_classes, config.patch_size
        self.latent_shape = config.latent_shape
        self.grid = (self.latent_shape[1] // self.patch_size, self.latent_shape[2] // self.patch_size)
        self.token_width = config.in_channels * self.patch_size**2
        self.time_shift = derived_time_shift(self.latent_shape) if time_shift is None else float(time_shift)
        self.latent_stats = LatentStats() if latent_stats is None else latent_stats
        self.gradient_checkpointing = gradient_checkpointing
        self.prediction = Prediction.named(prediction)
        self.build(config)
        self.keep_null_text(null_text)
        self.text_identity = text_identity
        self.reset(label_init_std)

    @abstractmethod
    def build(self, config: Any) -> None:
        """Make the layers that an instance of :attr:`config_class` describes."""

    def reset(self, label_init_std: float) -> None:
        """Start: N(0, std²) for the label table, N(0, 0.02²) for the time MLP's weights; modulation and outputs zero.

        A network draws its other weights before. The reference has 0.02 for both. Learned tokens are N(0, 1/width).
        """
        if self.label_embed is not None:
            nn.init.normal_(self.label_embed.weight, std=label_init_std)
        nn.init.normal_(self.time_embed.expand.weight, std=0.02)
        nn.init.normal_(self.time_embed.contract.weight, std=0.02)
        for part in (*self.blocks_in_order(), self.condition_tokens, self.output, self.base_output):
            if part is not None:
                part.reset()

    def blocks_of(self, stack: Stack, options: BlockOptions, *, modulated: bool) -> nn.ModuleList:
        """New blocks of those sizes."""
        block = ModulatedBlock if modulated else PlainBlock
        return nn.ModuleList(
            block(width=stack.width, num_heads=stack.heads, options=options) for _ in range(stack.depth)
        )

    def output_of(
        self, width: int, options: BlockOptions, *, modulated: bool
    ) -> ModulatedOutput | PlainOutput:
        """A new output for tokens of that width."""
        output = ModulatedOutput if modulated else PlainOutput
        return output(width=width, out_width=self.token_width, options=options)

    def rotary_of(self, stack: Stack, config: DiTConfig, *, tokens_behind: int) -> RotaryPositions | None:
        """Rotary positions for the heads of such blocks; None without them."""
        if not config.use_rope:
            return None
        head_width = stack.width // stack.heads
        return RotaryPositions(head_width=head_width, grid=self.grid, num_unturned=tokens_behind)

    @final
    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity ε − x₀ at x_t, as a float32 or wider tensor.

        Of predicted data it is (x_t − x̂)/t, so t must be above 0 there.

        Args:
            x: noised latents of :attr:`latent_shape`.
            t: a time in [0, 1] for each; 0 is data, 1 is noise.
            y: a condition of as many samples, of labels or text as the network is; a plain tensor is one of labels,
                0 … :attr:`null_label`.

        Raises:
            InputError: If ``x``, ``t`` or ``y`` has another type, shape or, where it lies on the CPU, range.
        """
        self.check(x, t, y, values=True)
        return self.prediction.velocity(self.predict(x, t, y), x, t)

    @final
    def both_heads(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> FullAndBase:
        """The velocities of both heads at x_t, for the arguments of :meth:`forward`, in one pass."""
        self.check(x, t, y, values=True)
        outputs = self.predict_with_base(x, t, y)
        return FullAndBase(*(self.prediction.velocity(output, x, t) for output in outputs))

    @abstractmethod
    def predict(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """The network's own output at x_t, as ``prediction`` says, as a float32 or wider tensor.

        Begins with :meth:`check`.
        """

    @abstractmethod
    def predict_with_base(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> FullAndBase:
        """What :meth:`predict` answers, and the same from the early head, in one pass.

        Raises:
            ConfigError: If the network has no early head.
        """

    def base_head(self) -> tuple[int, ModulatedOutput | PlainOutput]:
        """The early head and the number of blocks in front of it.

        Raises:
            ConfigError: If the network has none.
        """
        depth, output = self.config.base_head_depth, self.base_output
        if depth is None or output is None:
            raise ConfigError(
                f"this {type(self).__name__} has no early head; {argument('denoiser.base_head_depth')} builds one"
            )
        return depth, output

    @abstractmethod
    def blocks_in_order(self) -> list[Any]:
        """The blocks in the order in which a forward pass goes through them."""

    def parameter_groups(self) -> ParameterGroups:
        """The trained parameters in groups, as RAEv2 divides its own between Muon and AdamW (recipe, section 7).

        Matrices are all that is two-dimensional there: label table, learned tokens and output layers too, but not the
        patch embeddings.
        """
        named = {"label_embed": self.label_embed, "condition_tokens": self.condition_tokens}
        tables = [name for name, part in named.items() if part is not None]
        return group_parameters(self, edges=self.patch_embeddings, tables=tables)

    @property
    def narrowest_width(self) -> int:
        """The width through which the prediction has to pass: that of the last blocks; a trunk only conditions."""
        return self.config.stacks[-1].width

    def width_warning(self) -> str | None:
        """One line where the network is too narrow for its tokens (RAE paper, section 4.1, theorem 1)."""
        if self.narrowest_width >= self.token_width:
            return None
        return (
            f"the DiT is {self.narrowest_width} wide, its tokens have {self.token_width} numbers: a network narrower "
            "than its tokens cannot fit even one image (docs/results.md)"
        )

    def of_latents(self, hidden: Float[Tensor, "b m d"]) -> Float[Tensor, "b n d"]:
        """The tokens of the latents alone."""
        return hidden[:, : self.grid[0] * self.grid[1]]

    def leave(
        self,
        output: ModulatedOutput | PlainOutput,
        hidden: Float[Tensor, "b n d"],
        condition: Float[Tensor, "b m d"],
    ) -> Float[Tensor, "b c h w"]:
        """The prediction that an output makes of the tokens of the latents."""
        return full_precision(self.unpatchify(output(hidden, condition)))

    def run(
        self,
        blocks: Iterable[nn.Module],
        hidden: Float[Tensor, "b n d"],
        condition: Float[Tensor, "b m d"],
        rotary: RotaryPositions | None,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Run blocks one after the other, recomputed in the backward pass if so configured.

        Args:
            mask: which tokens are attended to; None is all.
        """
        recomputed = self.gradient_checkpointing and torch.is_grad_enabled()
        for block in blocks:
            inputs = (hidden, condition, rotary) if mask is None else (hidden, condition, rotary, mask)
            hidden = checkpoint(block, *inputs, use_reentrant=False) if recomputed else block(*inputs)
        return hidden

    def patchify(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Patchify latents, row by row; a patch is laid out (c p q)."""
        p, (rows, columns) = self.patch_size, self.grid
        if p == 1:
            return x.flatten(2).transpose(1, 2)
        patches = x.unflatten(3, (columns, p)).unflatten(2, (rows, p)).permute(0, 2, 4, 1, 3, 5)
        return patches.flatten(3).flatten(1, 2)

    def unpatchify(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b c h w"]:
        """Unpatchify predicted tokens; a patch is laid out (p q c)."""
        p, (rows, columns) = self.patch_size, self.grid
        if p == 1:
            return tokens.transpose(1, 2).unflatten(2, self.grid)
        patches = tokens.unflatten(2, (p, p, -1)).unflatten(1, (rows, columns))
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), *self.latent_shape)


def xavier(layer: nn.Linear) -> None:
    """Initialise a linear layer: Xavier-uniform weight, zero bias."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
