"""Two results of an evaluation side by side: which is better, and whether that can be said at all.

A difference counts where it is larger than twice its standard error, √(se_a² + se_b²). That takes the two noises to be
independent; where images share their noise seeds or their originals the true noise is smaller, so it is an upper bound.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from unirae.core.arguments import argument
from unirae.core.differences import Difference, differences
from unirae.core.errors import DataError
from unirae.data.source_content import without_paths
from unirae.evaluation.results.comparability import (
    NOT_RECORDED,
    same_images,
    same_input,
    same_order,
    standing,
)
from unirae.evaluation.results.result_file import Result
from unirae.evaluation.results.score_families import Family, family
from unirae.evaluation.sampling.settings import UNRECORDED

Outcome = Literal[
    "A better",
    "B better",
    "equal",
    "within noise",
    "noise unknown",
    "reproducibility problem",
    "not comparable",
    "comparability unknown",
]

NOISE_FACTOR = 2.0
"""Standard errors of a difference that chance is taken to reach: about 95 %."""

_EQUAL = 1e-6
"""Relative difference below which two values are equal: another order of summation."""
_HIDDEN = (
    *("metrics", "reference"),  # compared score by score
    *("images.content_sha256", "images.duplicates", "images.count", "images.sampler.times"),  # these follow
    *("made_with.checkpoint", "made_with.versions", "tried"),
)
"""Settings that are not listed as differences."""
_MACHINE = ("device", "versions", "made_with", "images.sampler.device")
"""Settings that explain other last digits."""


@dataclass(frozen=True, kw_only=True)
class ScoreComparison:
    """One score of two results.

    Attributes:
        difference: B − A.
        noise: what chance would make of it, in 95 of 100 cases; None if unknown.
        why: what the outcome rests on, or what would have to be done.
        remarks: what a reader must know beside it.
    """

    name: str
    a: float
    b: float
    difference: float
    noise: float | None
    outcome: Outcome
    why: list[str]
    remarks: list[str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything there is to say of two results.

    Attributes:
        only_in_a, only_in_b: scores that the other result lacks.
        differences: settings that differ: usually what is compared.
        remarks: on the two as a whole.
    """

    a: Result
    b: Result
    scores: list[ScoreComparison]
    only_in_a: list[str]
    only_in_b: list[str]
    differences: list[Difference]
    remarks: list[str]

    def as_record(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "a": str(self.a.file),
            "b": str(self.b.file),
            "scores": {
                score.name: {k: v for k, v in vars(score).items() if k != "name"} for score in self.scores
            },
            "only_in_a": self.only_in_a,
            "only_in_b": self.only_in_b,
            "differences": {d.name: {"a": d.first, "b": d.second} for d in self.differences},
            "remarks": self.remarks,
            "warnings": {"a": self.a.warnings, "b": self.b.warnings},
        }


def compare(a: Result, b: Result) -> Comparison:
    """Compare every score that both results have.

    Raises:
        ConfigError: If a result has a name that no score of ours has.
        DataError: If no score stands in both results.
    """
    shared = [name for name in a.metrics if name in b.metrics]
    if not shared:
        raise DataError(
            f"no score stands in both results: {_its_scores(a)}, {_its_scores(b)}. Repeat one evaluation with the "
            "metrics of the other"
        )
    different = _differing_settings(a, b)
    return Comparison(
        a=a,
        b=b,
        scores=[_score(name, a, b, different) for name in shared],
        only_in_a=[name for name in a.metrics if name not in b.metrics],
        only_in_b=[name for name in b.metrics if name not in a.metrics],
        differences=different,
        remarks=[*_shared_noise(a, b), *_unexplained(a, b, different)],
    )


def _its_scores(result: Result) -> str:
    return f"{result.file} has {', '.join(result.metrics) or 'none'}"


def noise_of_difference(first: float | None, second: float | None) -> float | None:
    """:data:`NOISE_FACTOR` standard errors of the difference of two scores; None if either's is unknown."""
    return None if first is None or second is None else NOISE_FACTOR * math.hypot(first, second)


def _score(name: str, a: Result, b: Result, different: list[Difference]) -> ScoreComparison:
    found, kind, values = standing(name, a, b), family(name), (a.metrics[name], b.metrics[name])
    noise = noise_of_difference(a.standard_error(name), b.standard_error(name))
    outcome, why = _verdict(kind, values, noise)
    if found.reasons:
        outcome, why = "not comparable", found.reasons
    elif found.unknown:
        why = [*found.unknown, f"if that is the same in both: {outcome}"]
        outcome = "comparability unknown"
    elif outcome != "equal" and same_input(name, a, b):
        machine = _listed([d for d in different if _below(d.name, _MACHINE)])
        outcome = "reproducibility problem"
        why = [f"the same images, reference and parameters gave different values ({machine})"]
    remarks = found.remarks
    if not _equal(*values) and kind.ordered and same_images(a, b) and not same_order(name, a, b):
        remarks = [
            *remarks,
            "both are of the same images; whether in the same order is not known, and this score depends on it",
        ]
    return ScoreComparison(
        name=name,
        a=values[0],
        b=values[1],
        difference=values[1] - values[0],
        noise=noise,
        outcome=outcome,
        why=why,
        remarks=remarks,
    )


def _verdict(kind: Family, values: tuple[float, float], noise: float | None) -> tuple[Outcome, list[str]]:
    """Verdict on two values if nothing else differs, and what would have to be done for a better one."""
    if _equal(*values):
        return "equal", []
    if noise is None:
        remedy = f"repeat both with {argument('confidence', 'bootstrap')}"
        return "noise unknown", [remedy if kind.frechet else "no standard error of it was recorded"]
    if abs(values[1] - values[0]) <= noise:
        return "within noise", []
    return ("A better" if (values[0] < values[1]) == (kind.better == "lower") else "B better"), []


def _equal(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_EQUAL)


def _listed(machine: list[Difference]) -> str:
    """List the differences of the machines."""
    where = "; ".join(f"{d.name}: {d.first} in A, {d.second} in B" for d in machine)
    return where or "on the same kind of machine"


def _differing_settings(a: Result, b: Result) -> list[Difference]:
    found = differences(*map(_settings, (a, b)), missing=NOT_RECORDED)
    return [d for d in found if not _below(d.name, _HIDDEN)]


def _settings(result: Result) -> dict[str, Any]:
    """All settings, those too that a sampler's record leaves out where they are off."""
    settings = {"count": result.count, **result.settings}
    if not result.sampler:
        return settings
    return settings | {"images": result.images | {"sampler": UNRECORDED | result.sampler}}


def _below(name: str, parents: tuple[str, ...]) -> bool:
    return f"{name}.".startswith(tuple(f"{parent}." for parent in parents))


def _shared_noise(a: Result, b: Result) -> list[str]:
    """Advice where the two share what chance decides, so that part of the noise cancels in the difference."""
    kind, references = a.images.get("kind"), (without_paths(a.reference), without_paths(b.reference))
    if kind != b.images.get("kind") or same_images(a, b):
        return []
    originals, seeds = (
        [of.get("content_sha256") for of in references],
        [r.sampler.get("seed") for r in (a, b)],
    )
    if kind == "reconstruction" and originals[0] == originals[1] is not None:
        shared = "both reconstruct the same originals"
    elif kind == "linear probe" and references[0] == references[1]:
        shared = "both classify the same images"
    elif seeds[0] == seeds[1] is not None:
        shared = f"both sampled with seed {seeds[0]}, image by image from the same noise"
    else:
        return []
    return [f"{shared}; part of their noise cancels in the difference, so the noise stated is an upper bound"]


def _unexplained(a: Result, b: Result, different: list[Difference]) -> list[str]:
    """Remark on different images although everything that decides them is the same."""
    known = all("checkpoint_sha256" in {**r.images, **r.sampler} for r in (a, b))
    hashes = [result.images.get("content_sha256") for result in (a, b)]
    explained = (
        None in hashes or hashes[0] == hashes[1] or not all(_below(d.name, _MACHINE) for d in different)
    )
    if explained or not known:
        return []
    return [
        "reproducibility problem: the same checkpoint and settings gave different images "
        f"({_listed(different)})"
    ]
