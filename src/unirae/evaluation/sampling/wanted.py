"""A caller's choice of what images are to show, by labels or by prompts, against what a network was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from unirae.core.errors import ConfigError, WeightsError
from unirae.evaluation.sampling.requests import LabelRule, RequestRule, prompt_rule
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.text.build import check_text_encoder, text_encoder_of
from unirae.models.text.encoder import TextEncoder
from unirae.models.text.identity import TextEncoderIdentity


@dataclass(frozen=True)
class Wanted:
    """The caller's choice of what images are to show: labels or prompts, one for each image."""

    labels: Sequence[int] | Int64[Tensor, " n"] | None
    prompts: Sequence[str] | None
    negative_prompt: str | None
    text_encoder: TextEncoder | None

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.prompts is None):
            raise ConfigError("give labels or prompts, and not both")
        if self.prompts is None and (self.negative_prompt is not None or self.text_encoder is not None):
            raise ConfigError("negative_prompt and text_encoder go with prompts, and labels are given")
        if self.text_encoder is not None and not isinstance(self.text_encoder, TextEncoder):
            raise ConfigError(
                f"text_encoder is a {type(self.text_encoder).__name__}: give what unirae.load_text_encoder gives"
            )
        if self.prompts is None:
            return
        if isinstance(self.prompts, str) or not all(isinstance(text, str) for text in self.prompts):
            raise ConfigError(f"prompts={self.prompts!r} must be a list of texts, one for each image")
        if not len(self.prompts):
            raise ConfigError("there are no prompts; give at least one")
        if not isinstance(self.negative_prompt, str | None):
            raise ConfigError(f"negative_prompt={self.negative_prompt!r} must be a text")

    @property
    def count(self) -> int:
        """Number of images."""
        found = self.labels if self.prompts is None else self.prompts
        assert found is not None
        return len(found)

    def __str__(self) -> str:
        return f"{self.count} {'labels' if self.prompts is None else 'prompts'}"


def rule_for(dit: Denoiser, wanted: Wanted) -> RequestRule:
    """The rule that gives each image what is wanted of it.

    Raises:
        ConfigError: If the network cannot follow labels or prompts.
        WeightsError: If the text encoder is missing, or another one than the network was trained with.
    """
    if wanted.labels is not None:
        labels = _whole_numbers(wanted.labels)
        check_condition(Condition(labels=labels), dit)
        return LabelRule(num_classes=dit.num_classes, given=tuple(labels.tolist()))
    if not dit.reads_text:
        raise ConfigError("this model is conditioned on labels, not on text: give labels, and no prompts")
    encoder = text_encoder_for(dit, wanted.text_encoder)
    negatives = [] if wanted.negative_prompt is None else [wanted.negative_prompt]
    return prompt_rule(encoder.encode, list(wanted.prompts or ()), negatives=negatives)


def text_encoder_for(
    dit: Denoiser, given: TextEncoder | None = None, *, name: str | None = None
) -> TextEncoder:
    """The text encoder of a network: the given one, if it is that one, or the one that the network names, opened.

    Args:
        name: where that one lies now, if not where the network says.

    Raises:
        WeightsError: If it is missing, or another one.
    """
    if dit.text_identity is None:
        if given is None:
            raise WeightsError("this model does not say which text encoder it was trained with: give it")
        return given
    identity = TextEncoderIdentity.from_dict(dit.text_identity)
    if given is None:
        return text_encoder_of(identity, name=name).to(next(dit.parameters()).device)
    check_text_encoder(identity, given)
    return given


def _whole_numbers(labels: Sequence[int] | Tensor) -> Int64[Tensor, " n"]:
    try:
        given = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        given = torch.tensor(())
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if given.ndim != 1 or not len(given) or not whole:
        raise ConfigError(
            f"labels={labels} must be a list of whole numbers, one for each image, such as [0, 0, 1]"
        )
    return given.long()


def check_condition(condition: Condition, dit: Denoiser) -> None:
    """Refuse labels for a network that reads text and the reverse, and labels that it does not know.

    Raises:
        ConfigError: If the network cannot follow the condition.
    """
    if condition.labels is not None and not dit.reads_text:
        check_labels(condition.labels, dit)
    elif condition.labels is not None:
        raise ConfigError("this model is conditioned on text, and has no labels: give prompts")
    elif not dit.reads_text:
        raise ConfigError("this model is conditioned on labels, not on text: give labels, and no prompts")


def check_labels(labels: Int64[Tensor, " b"], dit: Denoiser) -> None:
    """Refuse labels outside 0 … num_classes, the last of which is the null label."""
    if bool(((labels < 0) | (labels > dit.null_label)).any()):
        raise ConfigError(
            f"labels {sorted(set(labels.tolist()))} are not all known: this model has classes 0 to "
            f"{dit.num_classes - 1}, and {dit.null_label} for no label"
        )
