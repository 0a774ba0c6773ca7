"""Base of the diffusion transformers: all that flow, training and sampling know of one."""

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, InputError
from unirae.flow.prediction import Prediction
from unirae.flow.times import time_shift as derived_time_shift
from unirae.models.denoisers.condition import Condition
from unirae.models.inputs import check_step, check_values
from unirae.models.latent_stats import LatentStats
from unirae.nn.embeddings import TimeEmbedding
from unirae.nn.modulation import BlockOptions, ModulatedBlock
from unirae.nn.parameter_groups import ParameterGroups


class Denoiser(nn.Module, ABC):
    """A network from noised latents, times and a condition to velocities.

    A network implements :meth:`predict`, which answers what it was trained to; ``forward`` makes that a velocity.

    Args:
        latent_shape: (c, h, w) of the latents.
        patch_size: side of the square of latent elements that become one token.
        num_classes: labels are 0 … num_classes − 1; ``null_label`` = num_classes means "no label".
        time_shift: how times are shifted towards noise in training and sampling; None derives it from the latents'
            size (RAE paper, section 4.2).
        latent_stats: of the latents that it was trained on; they travel with it.
        gradient_checkpointing: recompute each block in the backward pass: less memory, about a third slower.
        prediction: what :meth:`predict` answers, ``velocity`` or ``data``.

    Networks also take ``label_init_std``, the spread of new label embeddings.
    """

    architecture: dict[str, Any]
    """The arguments that build this network again; plain values."""

    def __init__(
        self,
        *,
        latent_shape: tuple[int, int, int],
        patch_size: int,
        num_classes: int,
        time_shift: float | None,
        latent_stats: LatentStats | None,
        gradient_checkpointing: bool,
        prediction: Prediction | str,
    ) -> None:
        super().__init__()
        channels, *sides = latent_shape
        if patch_size < 1:
            raise ConfigError(f"{argument('denoiser.patch_size', patch_size)} must be at least 1")
        if any(side % patch_size for side in sides):
            raise ConfigError(
                f"{argument('denoiser.patch_size', patch_size)} does not divide latents of {sides[0]}×{sides[1]}"
            )
        if num_classes < 0:
            raise ConfigError(f"num_classes={num_classes} must not be negative; 0 means without labels")
        self.latent_shape, self.patch_size, self.num_classes = latent_shape, patch_size, num_classes
        self.grid = (sides[0] // patch_size, sides[1] // patch_size)
        self.token_width = channels * patch_size**2
        self.time_shift = derived_time_shift(latent_shape) if time_shift is None else float(time_shift)
        self.latent_stats = LatentStats() if latent_stats is None else latent_stats
        self.gradient_checkpointing = gradient_checkpointing
        self.prediction = Prediction.named(prediction)

    @property
    def null_label(self) -> int:
        """The label that stands for no label."""
        return self.num_classes

    @final
    def forward(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity ε − x₀ at x_t, as a float32 or wider tensor.

        Of predicted data it is (x_t − x̂)/t, so t must be above 0 there.

        Args:
            x: noised latents of :attr:`latent_shape`.
            t: a time in [0, 1] for each; 0 is data, 1 is noise.
            y: a condition of as many samples; a plain tensor is one of labels, 0 … :attr:`null_label`.

        Raises:
            InputError: If ``x``, ``t`` or ``y`` has another type, shape or, where it lies on the CPU, range.
        """
        self.check(x, t, self.labels_of(y), values=True)
        return self.prediction.velocity(self.predict(x, t, y), x, t)

    @abstractmethod
    def predict(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """The network's own output at x_t, as ``prediction`` says, as a float32 or wider tensor.

        Begins with :meth:`check`.
        """

    def check(self, x: Tensor, t: Tensor, y: Tensor, *, values: bool = False) -> None:
        """Refuse inputs that :meth:`forward` and :meth:`predict` cannot read; costs no wait for a GPU.

        Args:
            values: look at times and labels, too, where they lie on the CPU; a step of training does not.
        """
        check_step(x, t, y, latent_shape=self.latent_shape)
        if values:
            check_values(t, y, num_classes=self.num_classes)

    def labels_of(self, condition: Condition | Tensor) -> Tensor:
        """The labels of a condition, which is all that this network reads.

        Raises:
            InputError: If the condition has no labels.
        """
        labels = condition.labels if isinstance(condition, Condition) else condition
        if labels is None:
            raise InputError("this DiT is conditioned on labels, and was given tokens")
        return labels

    def null_condition(self, count: int, device: torch.device | str | None = None) -> Condition:
        """The null condition, ``count`` times."""
        return Condition(labels=torch.full((count,), self.null_label, device=device))

    @abstractmethod
    def blocks_in_order(self) -> list[nn.Module]:
        """The blocks in the order in which a forward pass goes through them."""

    @abstractmethod
    def parameter_groups(self) -> ParameterGroups:
        """The trained parameters, matrices and others."""

    @property
    @abstractmethod
    def narrowest_width(self) -> int:
        """The width through which the prediction has to pass."""

    def width_warning(self) -> str | None:
        """One line where the network is too narrow for its tokens (RAE paper, section 4.1, theorem 1)."""
        if self.narrowest_width >= self.token_width:
            return None
        return (
            f"the DiT is {self.narrowest_width} wide, its tokens have {self.token_width} numbers: a network narrower "
            "than its tokens cannot fit even one image (docs/results.md)"
        )

    def run(self, block: ModulatedBlock, *inputs: Any) -> Tensor:
        """A block, recomputed in the backward pass if so configured."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

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


def pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """A side or (height, width) as (height, width)."""
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise ConfigError(f"{argument('denoiser.input_size', list(size))} must be a side or (height, width)")
    return int(size[0]), int(size[1])


def check_heads(width: int, num_heads: int, *, use_rope: bool, part: int | None = None) -> None:
    """Refuse a width that its heads cannot share.

    Args:
        part: 0 for the trunk, 1 for the head of a DiT^DH.

    Raises:
        ConfigError: If the width does not split into such heads; the message names the arguments, and what
            would do.
    """
    index = "" if part is None else f"[{part}]"
    heads_key, width_key = (argument(f"denoiser.{name}{index}") for name in ("num_heads", "hidden_size"))
    if num_heads < 1 or width < 1:
        key, value = (heads_key, num_heads) if num_heads < 1 else (width_key, width)
        raise ConfigError(f"{key}={value} must be at least 1")
    step = 4 if use_rope else 1
    fitting = [str(n) for n in range(1, width + 1) if width % n == 0 and (width // n) % step == 0]
    would_do = f"{', '.join(fitting)} would do" if fitting else f"{width_key} must be a multiple of {step}"
    if width % num_heads:
        raise ConfigError(f"{heads_key}={num_heads} does not divide {width_key}={width}; {would_do}")
    if use_rope and (width // num_heads) % 4:
        raise ConfigError(
            f"{heads_key}={num_heads} makes heads of width {width // num_heads} out of {width_key}={width}, but rotary "
            f"positions need a multiple of 4; {would_do}, or {argument('denoiser.use_rope', False)}"
        )


def check_added_positions(width: int, *, part: int | None = None) -> None:
    """Refuse a width that sin-cos positions cannot fill.

    Raises:
        ConfigError: If the width is no multiple of four; the message names the argument.
    """
    if width % 4:
        key = argument("denoiser.hidden_size" + ("" if part is None else f"[{part}]"))
        raise ConfigError(f"{key}={width} must be divisible by 4 for 2-d sin-cos positions")


def block_options(given: dict[str, Any]) -> BlockOptions:
    """The options of a network's blocks.

    Raises:
        ConfigError: If an option does not exist; the message names all such.
    """
    known = [field.name for field in fields(BlockOptions)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(
            f"{argument('denoiser')}: unknown {', '.join(unknown)}; options of its blocks are {', '.join(known)}"
        )
    return BlockOptions(**given)


def xavier(layer: nn.Linear) -> None:
    """Initialise a linear layer: Xavier-uniform weight, zero bias."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def initialise_conditioning(time: TimeEmbedding, labels: nn.Embedding, *, label_std: float) -> None:
    """N(0, label_std²) for the label table, N(0, 0.02²) for the time MLP's weights (the reference: 0.02 for both)."""
    nn.init.normal_(labels.weight, std=label_std)
    nn.init.normal_(time.expand.weight, std=0.02)
    nn.init.normal_(time.contract.weight, std=0.02)
