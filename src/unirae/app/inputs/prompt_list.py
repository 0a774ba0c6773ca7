"""The prompts of a folder of samples: which image shows which, and what identifies the list."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unirae.app.inputs.prompts import Prompt

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

    def noise_of(self, number: int, *, seed: int) -> tuple[int, int]:
        """The (seed, number) that an image's noise is a function of.

        Args:
            seed: the seed of prompts that have none of their own. One that has gets the noise of its seed's images 0
                to K - 1, wherever it stands in the list.
        """
        own = self.of(number).seed
        return (seed, number) if own is None else (own, number % self.images_per_prompt)

    def lines(self) -> list[str]:
        """The lines of the JSONL file that holds these prompts."""
        return [json.dumps(prompt.record(), ensure_ascii=False) for prompt in self.prompts]

    def sha256(self, count: int | None = None) -> str:
        """The hash of the file of these prompts, or of its first ``count`` lines."""
        return hashlib.sha256(as_file(self.lines()[:count])).hexdigest()


def as_file(lines: Sequence[str]) -> bytes:
    """Lines as the bytes of a UTF-8 file; half characters, which JSON's escapes can hold, stay escaped."""
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
