"""Prompts for the pictures and scores of a run: the captions of the validation split."""

from unirae.data.captions import drawn_caption
from unirae.data.source import Source
from unirae.evaluation.sampling.requests import PromptRule, prompt_rule
from unirae.training.stage2 import Stage2


def caption_rule(module: Stage2, source: Source, count: int) -> PromptRule:
    """Captions of ``count`` pictures, spread evenly over the source; the same ones every time.

    Args:
        module: of a network that is conditioned on text.
    """
    assert module.encode_texts is not None
    chosen = (
        [number * len(source) // count for number in range(count)]
        if count < len(source)
        else range(len(source))
    )
    return prompt_rule(
        module.encode_texts, [drawn_caption(source, index, seed=module.seed, epoch=0) for index in chosen]
    )
