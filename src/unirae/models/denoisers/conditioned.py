"""Condition of a diffusion transformer: labels or a text, how they enter the network, and what stands for none.

With ``conditioning=adaln`` time and label modulate the blocks; with ``tokens`` they are tokens of the sequence (RAEv2,
arXiv 2605.18324; recipe, section 4). A text is always tokens: one for each of its own, after a norm and a projection.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unirae.core.errors import ConfigError, InputError
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.config import DiTConfig
from unirae.models.inputs import check_known, check_labels, check_step, check_text, check_times
from unirae.nn.embeddings import ConditionTokens, TextTokens, TimeEmbedding


class Entered(NamedTuple):
    """The input of the first block.

    Attributes:
        hidden: the tokens of the latents, behind them those of time and condition, if these are tokens.
        condition: time and label in one vector; of a text the time alone.
        mask: which of the tokens are attended to; None is all.
    """

    hidden: Float[Tensor, "b m d"]
    condition: Float[Tensor, "b d"]
    mask: Bool[Tensor, "b m"] | None


class Conditioned(nn.Module):
    """The part of a diffusion transformer that reads time and condition."""

    config: DiTConfig
    num_classes: int
    latent_shape: tuple[int, int, int]
    time_embed: TimeEmbedding
    label_embed: nn.Embedding | None
    text_embed: TextTokens | None
    condition_tokens: ConditionTokens | None
    null_tokens: Tensor
    null_mask: Tensor

    def build_conditions(self, width: int, config: DiTConfig) -> None:
        """Make the embeddings of time and label or text, and the tokens that carry them, if there are any."""
        self.time_embed = TimeEmbedding(width=width, train_frequencies=config.train_time_frequencies)
        self.label_embed = self.text_embed = self.condition_tokens = None
        if config.text_width is None:
            self.label_embed = nn.Embedding(self.num_classes + 1, width)
        else:
            self.text_embed = TextTokens(text_width=config.text_width, width=width)
        if config.conditioning == "tokens":
            self.condition_tokens = ConditionTokens(
                width=width,
                num_time=config.num_time_tokens,
                num_condition=0 if config.text_width else config.num_condition_tokens,
            )

    def keep_null_text(self, null_text: Condition | None) -> None:
        """Keep the condition of "" in buffers: the text encoder is in no checkpoint.

        Raises:
            ConfigError: If its tokens have another width.
        """
        width = self.config.text_width
        if width is None:
            return
        if null_text is None:
            null_text = Condition(tokens=torch.zeros(1, 1, width), mask=torch.zeros(1, 1, dtype=torch.bool))
        tokens, mask = null_text.text
        if tokens.shape[2] != width:
            raise ConfigError(f"null_text has tokens of width {tokens.shape[2]}, and text_width is {width}")
        self.register_buffer("null_tokens", tokens[0].float().clone())
        self.register_buffer("null_mask", mask[0].clone())

    @property
    def reads_text(self) -> bool:
        """Whether the network is conditioned on text; otherwise it is on labels, if on anything."""
        return self.config.text_width is not None

    @property
    def has_null_condition(self) -> bool:
        """Whether there is anything to guide away from: a text or labels, and not nothing."""
        return self.reads_text or self.num_classes > 0

    @property
    def null_label(self) -> int:
        """The label that stands for no label."""
        return self.num_classes

    def check(self, x: Tensor, t: Tensor, y: Condition | Tensor, *, values: bool = False) -> None:
        """Refuse inputs that :meth:`forward` and :meth:`predict` cannot read; costs no wait for a GPU.

        Args:
            values: look at times and labels, too, where they lie on the CPU; a step of training does not.
        """
        width = self.config.text_width
        text = None if width is None else self.text_of(y)
        labels = self.labels_of(y) if width is None else None
        check_step(x, t, latent_shape=self.latent_shape)
        if text is not None and width is not None:
            check_text(*text, count=len(x), width=width)
        if labels is not None:
            check_labels(labels, count=len(x))
        if values:
            check_times(t)
        if values and labels is not None:
            check_known(labels, num_classes=self.num_classes)

    def labels_of(self, condition: Condition | Tensor) -> Tensor:
        """The labels of a condition, which is all that a network reads that is conditioned on them.

        Raises:
            InputError: If the condition has no labels.
        """
        labels = condition.labels if isinstance(condition, Condition) else condition
        if labels is None:
            raise InputError("this DiT is conditioned on labels, and was given a text's tokens")
        return labels

    def text_of(self, condition: Condition | Tensor) -> tuple[Float[Tensor, "b l text"], Bool[Tensor, "b l"]]:
        """The tokens of a condition and their mask, which a network reads that is conditioned on text.

        Raises:
            InputError: If the condition has no tokens.
        """
        if not isinstance(condition, Condition) or condition.tokens is None:
            raise InputError(
                "this DiT is conditioned on text, and was given labels; give the Condition that a text encoder makes "
                "of prompts (unirae.load_text_encoder)"
            )
        return condition.text

    def null_condition(self, count: int, device: torch.device | str | None = None) -> Condition:
        """The null condition, ``count`` times: the null label, or the text ""."""
        if self.reads_text:
            tokens, mask = (x.to(device).expand(count, *x.shape) for x in (self.null_tokens, self.null_mask))
            return Condition(tokens=tokens, mask=mask)
        return Condition(labels=torch.full((count,), self.null_label, device=device))

    def enter(
        self, hidden: Float[Tensor, "b n d"], time: Float[Tensor, "b d"], y: Condition | Tensor
    ) -> Entered:
        """The tokens of the latents with time and condition: behind them as tokens, or beside them to modulate."""
        if self.text_embed is not None:
            assert self.condition_tokens is not None
            text, mask = self.text_of(y)
            tokens = torch.cat([hidden, self.condition_tokens(time), self.text_embed(text)], dim=1)
            return Entered(tokens, time, F.pad(mask, (tokens.shape[1] - mask.shape[1], 0), value=True))
        assert self.label_embed is not None
        label = self.label_embed(self.labels_of(y))
        if self.condition_tokens is not None:
            hidden = torch.cat([hidden, self.condition_tokens(time, label)], dim=1)
        return Entered(hidden, time + label, None)
