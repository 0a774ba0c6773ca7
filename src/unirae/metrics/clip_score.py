"""CLIPScore (Hessel et al. 2021, arXiv 2104.08718, equation 1 with w = 100): how well images fit their prompts.

Of an image and its prompt 100·max(cos(v, t), 0), where v and t are CLIP's features of the two; over a set the mean.
torchmetrics has the same but for two points: it takes the maximum after the mean, which differs only where single
cosines are negative (they are counted here); and of a prompt that is too long it cuts the end-of-text token off, where
CLIP reads its features, so that all such prompts have the same. Here that token stays, as in OpenAI's own code.
"""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from unirae.core.distributed import own_batches, rows_of_all
from unirae.core.errors import DataError
from unirae.core.exact import exact_float32, in_chunks
from unirae.core.io import sha256_of_text
from unirae.core.names import count_of
from unirae.metrics.base import Estimate
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.set_metrics import SetMetric
from unirae.metrics.statistics import SetStatistics

CLIP_SCORE = "clip_score"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Prompts as a text network reads them, all of one length.

    Attributes:
        ids: the tokens' numbers, filled up at the end.
        mask: 1 where a token is, 0 where the row was filled up.
        cut: how many prompts were longer than the network takes.
    """

    ids: Int64[Tensor, "n l"]
    mask: Int64[Tensor, "n l"]
    cut: int


class PromptExtractor(FeatureExtractor):
    """Functions from images and from texts to vectors in one space, of which cosines are taken.

    Attributes:
        device: where both networks are.
    """

    device: torch.device

    @abstractmethod
    def tokenise(self, prompts: Sequence[str]) -> Tokens:
        """The prompts' tokens on the CPU, each row a function of its prompt alone."""

    @abstractmethod
    def of_tokens(self, ids: Int64[Tensor, "b l"], mask: Int64[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """Features of one chunk of prompts."""

    def text_features(self, tokens: Tokens, *, shared: bool = True) -> Float[Tensor, "n d"]:
        """Features of prompts on the CPU, the same for every number of prompts and of processes.

        Args:
            shared: every process computes a part; False for prompts that one process has to itself.
        """
        count = len(tokens.ids)
        rows = torch.zeros(count, self.width)
        both = torch.stack([tokens.ids, tokens.mask], 1)
        for batch in own_batches(count, self.chunk) if shared else [range(count)]:
            part = both[batch.start : batch.stop].to(self.device)
            with exact_float32(self.device):
                found = in_chunks(lambda chunk: self.of_tokens(chunk[:, 0], chunk[:, 1]), part, self.chunk)
            rows[batch.start : batch.stop] = found.float().cpu()
        return rows_of_all(rows, device=self.device) if shared else rows


def cosine_scores(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
    """100·cos of each image's features and those of its prompt, in [−100, 100]; negative ones are kept."""
    pair = [torch.nn.functional.normalize(side.double(), dim=-1) for side in (images, texts)]
    return 100.0 * (pair[0] * pair[1]).sum(-1)


def clip_metric(extractor: PromptExtractor, prompts: Sequence[str], *, shared: bool = True) -> SetMetric:
    """CLIPScore of a set of images, of which number k belongs to ``prompts[k]``.

    The prompts go through the network here, each text once, so that a mistake in them shows before images are made.

    Args:
        prompts: one for each image; an image whose prompt is blank is left out of the mean, and counted.
        shared: the processes share the texts; False where one process has its images to itself.

    Raises:
        DataError: If no image has a prompt, or a prompt is not text.
    """
    there = [number for number, prompt in enumerate(prompts) if prompt.strip()]
    if not there:
        raise DataError(f"{CLIP_SCORE}: none of the {count_of(len(prompts), 'image')} has a prompt")
    _check_text(prompts)
    given = [prompts[number] for number in there]
    place = {prompt: k for k, prompt in enumerate(dict.fromkeys(given))}
    tokens = extractor.tokenise(list(place))
    features = extractor.text_features(tokens, shared=shared)
    if not features.isfinite().all():
        raise DataError(
            f"{CLIP_SCORE}: features of the prompts are not finite; the network's weights are damaged"
        )
    rows = torch.tensor([place[prompt] for prompt in given])

    def compute(images: SetStatistics, reference: SetStatistics | None) -> dict[str, Estimate]:
        found = images.need_features()
        if len(found) != len(prompts):
            raise ValueError(
                f"{CLIP_SCORE}: {len(found)} images and {len(prompts)} prompts; each image has one"
            )
        return {CLIP_SCORE: _estimate(cosine_scores(found[there], features[rows]), len(prompts))}

    return SetMetric(
        labels={CLIP_SCORE: CLIP_SCORE},
        extractor=extractor,
        reference=None,
        compute=compute,
        parameters={
            "definition": "mean over images of 100 max(cos(image, prompt), 0)",
            "prompts_sha256": _shares_sha256(given),
            "tokens_sha256": _shares_sha256(
                [str(tokens.ids[k][tokens.mask[k] > 0].tolist()) for k in rows.tolist()]
            ),
        },
        least_images=1,
        made_for=len(prompts),
        cautions=_cautions(len(prompts), len(given), tokens.cut),
    )


def _estimate(cosines: Float64[Tensor, " n"], images: int) -> Estimate:
    """The mean with its error; summed exactly, hence in any order alike."""
    scores = cosines.clamp_min(0.0).tolist()
    count, mean = len(scores), math.fsum(scores) / len(scores)
    squares = math.fsum((score - mean) ** 2 for score in scores)
    return Estimate(
        value=mean,
        standard_error=math.sqrt(squares / (count - 1) / count) if count > 1 else None,
        method="spread over images",
        details={
            "images_with_prompt": count,
            "images_without_prompt": images - count,
            "negative_cosines": int((cosines < 0).sum()),
        },
    )


def _cautions(images: int, with_prompt: int, cut: int) -> tuple[str, ...]:
    said = []
    if lacking := images - with_prompt:
        said.append(
            f"{CLIP_SCORE}: {lacking} of the {images} images have no prompt and are left out; it is the mean over the "
            f"other {with_prompt}"
        )
    if cut:
        verb = "is" if cut == 1 else "are"
        said.append(
            f"{CLIP_SCORE}: {count_of(cut, 'prompt')} {verb} longer than the text network reads; the rest is cut off"
        )
    return tuple(said)


def _check_text(prompts: Sequence[str]) -> None:
    for number, prompt in enumerate(prompts):
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{CLIP_SCORE}: the prompt of image {number} is not text: character {error.start} is half of a pair "
                "(U+D800 to U+DFFF), as bytes that are not UTF-8 become"
            ) from None


def _shares_sha256(texts: Sequence[str]) -> str:
    """A name of texts and their shares: twice as many images of the same prompts have the same."""
    counts = Counter(texts)
    divisor = math.gcd(*counts.values())
    return sha256_of_text(repr(sorted((text, count // divisor) for text, count in counts.items())))
