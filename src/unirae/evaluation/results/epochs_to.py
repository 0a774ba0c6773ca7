"""EP_FID@k: the epochs that a generator's training takes to a Fréchet distance of k (RAEv2, section 9)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirae.core.differences import differences, shortened
from unirae.core.errors import DataError
from unirae.evaluation.results.result_file import Result, read_result
from unirae.evaluation.results.score_families import family

_OF_A_STEP = {"step", "epoch", "content_sha256", "duplicates"}
"""What the record of a run's samples says of the step, rather than of how they are made."""


@dataclass(frozen=True, kw_only=True)
class EpochsTo:
    """The epoch at which a score came to a value.

    Attributes:
        epoch: between the stored score at or below (of a score that is better high: above) the value and the one
            before, on the straight line between the two; None where no stored score came so far.
        scored: the stored scores as (epoch, value), by epoch.
    """

    score: str
    target: float
    epoch: float | None
    scored: list[tuple[float, float]]

    def __str__(self) -> str:
        if self.epoch is not None:
            return f"{self.score} {self.target:g} reached after {self.epoch:.4g} epochs"
        best = (min if family(self.score).better == "lower" else max)(value for _, value in self.scored)
        return f"{self.score} {self.target:g} not reached by epoch {self.scored[-1][0]:.4g}; best {best:.4g}"


def epochs_to(run: Path, score: str, target: float) -> EpochsTo:
    """Read the scores that a run stored while it trained, ``eval/step-*.json``, and find the epoch.

    Args:
        run: the run's folder.
        score: a name of the stored scores, such as ``fid`` or ``fd_mae``.
        target: the value to come to.

    Raises:
        DataError: If no file has the score without guidance and with its epoch, or if the files' settings differ.
    """
    results = [read_result(file) for file in sorted((run / "eval").glob("step-*.json"))]
    having = [result for result in results if score in result.metrics]
    if not having:
        names = ", ".join(sorted({name for result in results for name in result.metrics})) or "no scores"
        raise DataError(f"{run}/eval/step-*.json: no {score}; there is {names}")
    unguided = [result for result in having if result.sampler.get("guidance", "none") == "none"]
    if not unguided:
        raise DataError(
            f"{run}/eval/step-*.json: {score} is of guided samples alone, and epochs count without guidance"
        )
    for result in unguided:
        if "epoch" not in result.images:
            raise DataError(f"{result.file} was written by an earlier version, which recorded no epoch")
        _check_alike(unguided[0], result)
    scored = sorted((float(result.images["epoch"]), result.metrics[score]) for result in unguided)
    return EpochsTo(score=score, target=target, epoch=_first(score, scored, target), scored=scored)


def _first(score: str, scored: list[tuple[float, float]], target: float) -> float | None:
    sign = 1 if family(score).better == "lower" else -1
    for number, (epoch, value) in enumerate(scored):
        if sign * value > sign * target:
            continue
        if number == 0:
            return epoch
        before, earlier = scored[number - 1]
        return before + (earlier - target) / (earlier - value) * (epoch - before)
    return None


def _check_alike(first: Result, other: Result) -> None:
    """Refuse scores of one run that were made in different ways."""
    if found := differences(_deciding(first), _deciding(other)):
        raise DataError(
            f"{first.file} and {other.file} were scored in different ways: "
            + "; ".join(f"{d.name} {shortened(d.first)} and {shortened(d.second)}" for d in found)
        )


def _deciding(result: Result) -> dict[str, Any]:
    images = {key: value for key, value in result.images.items() if key not in _OF_A_STEP}
    return {
        "count": result.count,
        "images": images,
        "reference": result.reference,
        "metrics": result.settings["metrics"],
    }
