"""Families of scores: which direction is better, and what a score depends on."""

from dataclasses import dataclass
from typing import Literal

from unirae.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Family:
    """Scores that are read alike.

    Attributes:
        better: which of two values is the better one.
        of: a set of images, pairs of images with their originals or with their prompts, or the classes that a
            classifier chose.
        biased: whether its expectation depends on the number of images (recipe, trap 13).
        frechet: whether it is a Fréchet distance, whose noise is known only if it was asked for.
        with_reference: whether images are compared with others.
        ordered: whether the order of the images counts: subsets of them are drawn, or pairs are formed.
    """

    better: Literal["lower", "higher"]
    of: Literal["sets", "pairs", "prompts", "classes"] = "sets"
    biased: bool = True
    frechet: bool = False
    with_reference: bool = True
    ordered: bool = False


_FRECHET = Family(better="lower", frechet=True)
_SHARE = Family(better="higher")
_ACCURACY = Family(better="higher", of="classes", biased=False)
FAMILIES = {
    **dict.fromkeys(("fid", "sfid", "fd", "rfid", "rfd", "fdr", "fdr6"), _FRECHET),
    "kid": Family(better="lower", biased=False, ordered=True),
    "mind": Family(better="lower", ordered=True),
    "is": Family(better="higher", with_reference=False, ordered=True),
    **dict.fromkeys(("precision", "recall", "density", "coverage"), _SHARE),
    **dict.fromkeys(("psnr", "ssim"), Family(better="higher", of="pairs", biased=False, ordered=True)),
    "lpips": Family(better="lower", of="pairs", biased=False, ordered=True),
    "clip": Family(better="higher", of="prompts", biased=False, with_reference=False, ordered=True),
    **dict.fromkeys(("top1", "top5", "knn"), _ACCURACY),
}


def family(name: str) -> Family:
    """Family of a score by its name, which says after an underscore whose features it rests on: ``fd_mae``.

    ``clip_score`` belongs to ``clip``.

    Raises:
        ConfigError: If no score of ours has that name.
    """
    found = FAMILIES.get(name.split("_")[0])
    if found is None:
        raise ConfigError(f"{name} is no score known here; known are {', '.join(FAMILIES)}")
    return found
