"""Arguments of the diffusion transformers: the one place where each is declared, explained and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.nn.modulation import BlockOptions

Conditioning = Literal["adaln", "tokens"]
"""Modulated blocks (Peebles and Xie 2023), or tokens that carry time and condition (RAEv2, arXiv 2605.18324)."""

_ALWAYS_RECORDED = frozenset({"patch_size", "use_rope", "use_pos_embed"})
"""Arguments that a checkpoint keeps at their defaults, too. One that is added later stands there only where it is not
at its default, which must mean what networks did before: so checkpoints and fingerprints stay as they were."""


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
        conditioning: ``adaln`` modulates the blocks; ``tokens`` puts time and condition behind the latents' tokens,
            with the rotary angle 0, and modulates nothing in a plain DiT, the head alone in a DiT^DH.
        num_time_tokens, num_condition_tokens: how many, of ``tokens``; a text has tokens of its own in place of the
            latter.
        text_width: width of the hidden states of the text that the network is conditioned on, in place of labels; needs
            ``tokens``. None is labels.
        base_head_depth: a second, early output after so many blocks (of the trunk), which internal guidance departs
            from; None is without.
        train_time_frequencies: train the frequencies of the time's embedding, as the reference does.

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
    conditioning: Conditioning = "adaln"
    num_time_tokens: int = 4
    num_condition_tokens: int = 8
    text_width: int | None = None
    base_head_depth: int | None = None
    train_time_frequencies: bool = False

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
        self._check_conditioning()
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
        own = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in block
            and (field.name in _ALWAYS_RECORDED or getattr(self, field.name) != field.default)
        }
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
        """Whether sin-cos positions are added to the first tokens; not so in RAEv2's plain network."""
        return self.conditioning == "adaln"

    @property
    def tokens_behind(self) -> int:
        """Tokens behind those of the latents: those of time and label, where these are tokens; a text's come on top."""
        if self.conditioning != "tokens":
            return 0
        return self.num_time_tokens + (self.num_condition_tokens if self.text_width is None else 0)

    def _check_conditioning(self) -> None:
        if self.conditioning not in get_args(Conditioning):
            known = " or ".join(get_args(Conditioning))
            raise ConfigError(
                f"{argument('denoiser.conditioning', repr(self.conditioning))} is unknown; choose {known}"
            )
        for name in ("num_time_tokens", "num_condition_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{argument(f'denoiser.{name}', getattr(self, name))} must be at least 1")
        if self.text_width is not None:
            self._check_text(self.text_width)
        depth = self.stacks[0].depth
        if self.base_head_depth is not None and not 1 <= self.base_head_depth <= depth:
            raise ConfigError(
                f"{argument('denoiser.base_head_depth', self.base_head_depth)} must be null or one of the {depth} "
                f"blocks {'of the trunk' if self.has_parts else 'that there are'}, counted from 1"
            )

    def _check_text(self, width: int) -> None:
        if width < 1:
            raise ConfigError(f"text_width={width} must be at least 1")
        if self.conditioning != "tokens":
            raise ConfigError(
                f"{argument('denoiser.conditioning', self.conditioning)} modulates by one vector, and a text is many: "
                f"with a text encoder set {argument('denoiser.conditioning', 'tokens')}"
            )
        if self.num_classes:
            raise ConfigError(
                f"num_classes={self.num_classes}: a network is conditioned on labels or on text, and this one on text"
            )

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
