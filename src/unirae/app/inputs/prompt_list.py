"""The prompts of a folder of samples: which image shows which, and what identifies the list."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unirae.app.inputs.prompts import Prompt

if TYPE_CHECKING:
    from unirae.evaluation.sampling.requests import Encode, PromptRule

LayoutName = Literal["plain", "geneval", "dpg"]
"""The names of the layouts of the images' folder (:mod:`unirae.app.pictures.layouts`)."""
IMAGES_PER_PROMPT = 4
"""Images of each prompt that the evaluators of GenEval and DPG-Bench expect."""


@dataclass(frozen=True, kw_only=True)
class PromptList:
    """Prompts of which each has equally many images: image n is number n % K of prompt n // K.

    Attributes:
        prompts: at least one, in their order.
        images_per_prompt: K.
    """

    prompts: Sequence[Prompt]
    images_per_prompt: int = 1

    def __len__(self) -> int:
        """Number of images."""
        return len(self.prompts) * self.images_per_prompt

    def of(self, number: int) -> Prompt:
        """The prompt of an image."""
        return self.prompts[number // self.images_per_prompt]

    def rule(self, encode: "Encode", *, seed: int) -> "PromptRule":
        """The sampler's rule for these prompts.

        Args:
            encode: of the network's text encoder.
            seed: of prompts that have none of their own.
        """
        from unirae.evaluation.sampling.requests import prompt_rule

        negatives = [prompt.negative for prompt in self.prompts]
        seeds = tuple(prompt.seed for prompt in self.prompts)
        scales = tuple(prompt.cfg_scale for prompt in self.prompts)
        return prompt_rule(
            encode,
            [prompt.text for prompt in self.prompts],
            negatives=_one_or_each(negatives),
            images_per_prompt=self.images_per_prompt,
            seeds=seeds if any(own is not None for own in seeds) else (),
            cfg_scales=scales if any(own is not None for own in scales) else (),
            seed=seed,
        )

    def lines(self) -> list[str]:
        """The lines of the JSONL file that holds these prompts."""
        return [json.dumps(prompt.record(), ensure_ascii=False) for prompt in self.prompts]

    def sha256(self, count: int | None = None) -> str:
        """The hash of the file of these prompts, or of its first ``count`` lines."""
        return hashlib.sha256(as_file(self.lines()[:count])).hexdigest()


def _one_or_each(negatives: Sequence[str | None]) -> list[str]:
    """The negative prompts as the sampler takes them: none, one for all, or one for each, "" where it has none."""
    if len(set(negatives)) == 1:
        return [] if negatives[0] is None else [negatives[0]]
    return [negative or "" for negative in negatives]


def as_file(lines: Sequence[str]) -> bytes:
    """Lines as the bytes of a UTF-8 file; half characters, which JSON's escapes can hold, stay escaped."""
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
