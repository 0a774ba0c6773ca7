"""Arguments of the diffusion transformers: the one place where each is declared, explained and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.nn.modulation import BlockOptions


class Stack(NamedTuple):
    """Sizes of blocks that follow one another."""

    width: int
    depth: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class DiTConfig(BlockOptions):
    """Architecture of a plain DiT; plain values, which a checkpoint keeps.

    Attributes:
        input_size: side, or (height, width), of the latents.
        in_channels: of the latents.
        num_classes: labels are 0 … num_classes − 1; the number itself means "no label".
        hidden_size, depth, num_heads: of the blocks.
        patch_size: side of the square of latent elements that become one token.
        use_rope: rotary positions in attention, beside the added ones.

    Raises:
        ConfigError: If a value cannot be, or does not fit another one; the message names the argument.
    """

    has_parts: ClassVar[bool] = False

    input_size: Any
    in_channels: int
    num_classes: int
    hidden_size: Any
    depth: Any
    num_heads: Any
    patch_size: int = 1
    use_rope: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", list(pair(self.input_size)))
        rows, columns = self.input_size
        patch = argument("denoiser.patch_size", self.patch_size)
        if self.patch_size < 1:
            raise ConfigError(f"{patch} must be at least 1")
        if rows % self.patch_size or columns % self.patch_size:
            raise ConfigError(f"{patch} does not divide latents of {rows}×{columns}")
        if self.num_classes < 0:
            raise ConfigError(f"num_classes={self.num_classes} must not be negative; 0 means without labels")
        for name in ("hidden_size", "depth", "num_heads"):
            object.__setattr__(self, name, self._size(name, getattr(self, name)))
        for part, stack in enumerate(self.stacks):
            _check_heads(stack, f"[{part}]" if self.has_parts else "", use_rope=self.use_rope)
        if self.adds_positions and (width := self.stacks[0].width) % 4:
            key = argument("denoiser.hidden_size" + ("[0]" if self.has_parts else ""))
            raise ConfigError(f"{key}={width} must be divisible by 4 for 2-d sin-cos positions")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """The configuration of these arguments.

        Raises:
            ConfigError: If an argument does not exist; the message names all such.
        """
        known = {field.name for field in fields(cls)}
        if unknown := [name for name in arguments if name not in known]:
            options = ", ".join(field.name for field in fields(BlockOptions))
            raise ConfigError(
                f"{argument('denoiser')}: unknown {', '.join(unknown)}; options of its blocks are {options}"
            )
        return cls(**arguments)

    def record(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as a checkpoint keeps them: of the blocks' options those that were ``given``, last."""
        block = {field.name for field in fields(BlockOptions)}
        own = {name: value for name, value in vars(self).items() if name not in block}
        return own | {name: value for name, value in given.items() if name in block}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The (c, h, w) of the latents."""
        height, width = self.input_size
        return self.in_channels, height, width

    @property
    def stacks(self) -> list[Stack]:
        """Sizes of the one stack, or of trunk and head."""
        return [Stack(self.hidden_size, self.depth, self.num_heads)]

    @property
    def adds_positions(self) -> bool:
        """Whether sin-cos positions are added to the first tokens."""
        return True

    def _size(self, name: str, value: Any) -> Any:
        if not isinstance(value, int):
            raise ConfigError(
                f"{argument(f'denoiser.{name}', value)} must be one number; only kind: dit_dh has trunk and head"
            )
        return value


@dataclass(frozen=True, kw_only=True)
class DiTDHConfig(DiTConfig):
    """Architecture of a DiT^DH: ``hidden_size``, ``depth`` and ``num_heads`` are of (trunk, head).

    Attributes:
        use_pos_embed: sin-cos positions added to the trunk's input; the head's has none.
    """

    has_parts: ClassVar[bool] = True

    use_pos_embed: bool = True

    @property
    def stacks(self) -> list[Stack]:
        """Sizes of trunk and head."""
        return [Stack(*sizes) for sizes in zip(self.hidden_size, self.depth, self.num_heads, strict=True)]

    @property
    def adds_positions(self) -> bool:
        """Whether the trunk's input has them."""
        return self.use_pos_embed

    def _size(self, name: str, value: Any) -> Any:
        if isinstance(value, int) or len(value) != 2:
            raise ConfigError(f"{argument(f'denoiser.{name}', value)} must be two numbers: [trunk, head]")
        return [int(number) for number in value]


def pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """A side or (height, width) as (height, width)."""
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise ConfigError(f"{argument('denoiser.input_size', list(size))} must be a side or (height, width)")
    return int(size[0]), int(size[1])


def _check_heads(stack: Stack, index: str, *, use_rope: bool) -> None:
    """Refuse a width that its heads cannot share, and say what would do."""
    heads_key, width_key = (argument(f"denoiser.{name}{index}") for name in ("num_heads", "hidden_size"))
    width, heads = stack.width, stack.heads
    for key, value in ((heads_key, heads), (width_key, width)):
        if value < 1:
            raise ConfigError(f"{key}={value} must be at least 1")
    step = 4 if use_rope else 1
    fitting = [str(n) for n in range(1, width + 1) if width % n == 0 and (width // n) % step == 0]
    would_do = f"{', '.join(fitting)} would do" if fitting else f"{width_key} must be a multiple of {step}"
    if width % heads:
        raise ConfigError(f"{heads_key}={heads} does not divide {width_key}={width}; {would_do}")
    if (width // heads) % step:
        raise ConfigError(
            f"{heads_key}={heads} makes heads of width {width // heads} out of {width_key}={width}, but rotary "
            f"positions need a multiple of 4; {would_do}, or {argument('denoiser.use_rope', False)}"
        )
