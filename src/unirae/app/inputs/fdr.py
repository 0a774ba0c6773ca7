"""The options of fdr6: the weights of its networks, and the reference moments that were published for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FdrOptions:
    """The networks of fdr6."""

    fdr_weights: str = "hub"
    """Weights of the five timm models of fdr6: hub, random (the scores' names say so), or a folder with an entry for
    each of convnext, dinov2, mae, siglip and clip, such as mae/ (a folder of timm's) or mae.safetensors. Those of its
    Inception: --inception_weights."""


@dataclass(frozen=True, kw_only=True)
class FdrReferenceOptions(FdrOptions):
    """The networks and the reference of fdr6."""

    fdr_references: Path | None = None
    """Folder with the six published files of moments that fdr6 compares with (docs/evaluation.md). Default: fdr6
    compares with --reference, as other scores do."""


def fdr_sources(options: FdrOptions, names: Sequence[str]) -> dict[str, Any]:
    """The arguments of ``MetricSources`` for fdr6; what is missing or damaged shows here, before networks are loaded.

    Raises:
        ConfigError: If an option is given without the score.
        DataError: If published moments are missing or damaged.
        WeightsError: If weights are missing.
    """
    from unirae.evaluation.references.published_moments import published_moments
    from unirae.evaluation.scores.fdr import find_space_weights
    from unirae.metrics.frechet_ratio import FDR6

    folder = options.fdr_references if isinstance(options, FdrReferenceOptions) else None
    given = {"--fdr_weights": options.fdr_weights != "hub", "--fdr_references": folder is not None}
    if FDR6 not in names:
        if said := [name for name, is_given in given.items() if is_given]:
            raise ConfigError(f"{', '.join(said)}: only --metrics {FDR6} reads it; ask for {FDR6}, too")
        return {}
    published = None if folder is None else published_moments(folder)
    find_space_weights(options.fdr_weights)
    return {"fdr_weights": options.fdr_weights, "fdr_published": published}
