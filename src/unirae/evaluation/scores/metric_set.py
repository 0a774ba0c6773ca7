"""Construction of metrics from the names of scores, with their networks loaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unirae.core.errors import ConfigError
from unirae.core.io import state_sha256
from unirae.evaluation.scores.fdr import build_fdr_metrics, find_space_weights
from unirae.evaluation.scores.reconstruction import ReconstructionMetricSet
from unirae.evaluation.scores.record import name_of_reconstructions
from unirae.metrics.base import PairMetric
from unirae.metrics.clip_score import CLIP_SCORE, clip_metric
from unirae.metrics.extractors import RESERVED_NAMES, EncoderExtractor, FeatureExtractor
from unirae.metrics.frechet_ratio import FDR6, PublishedMoments
from unirae.metrics.inception_score import Order
from unirae.metrics.pixel import mean_distance, mean_psnr, mean_ssim
from unirae.metrics.resampling import Confidence
from unirae.metrics.set_metrics import (
    ENCODER_METRIC,
    ENCODER_METRICS,
    INCEPTION_METRICS,
    SetMetric,
    encoder_metrics,
    inception_metrics,
)
from unirae.models.encoders.base import Encoder

PAIR_METRICS = ("psnr", "ssim", "lpips")
SET_METRICS = (*INCEPTION_METRICS, *ENCODER_METRICS)
"""Names of the scores of a set of images, most of them against a reference."""
EVALUATION_METRICS = (*SET_METRICS, FDR6, CLIP_SCORE)
"""The same and those of the evaluation commands alone, whose networks are too large to stand beside training."""
RECONSTRUCTION_METRICS = ("rfid", "rfd", *PAIR_METRICS, *SET_METRICS)
"""Names of an autoencoder's scores; ``rfid`` is ``fid`` of reconstructions against the originals, ``rfd`` is ``fd``."""
_RECONSTRUCTION_NAMES = {"rfid": "fid", "rfd": ENCODER_METRIC}


@dataclass(frozen=True, kw_only=True)
class MetricSources:
    """Sources of the metrics' networks, and what is asked of the metrics beside their names.

    Attributes:
        encoder: the extractor behind ``fd``, see :func:`encoder_extractor`.
        confidence: for Fréchet distances.
        is_order: of the images in the Inception Score's parts.
        fdr_weights, fdr_published: see :func:`build_fdr_metrics`.
        clip_weights: see :class:`~unirae.evaluation.judges.clip_features.ClipExtractor`; None is the usual one.
        prompts: of the images in their order, "" for one without; see :func:`~unirae.metrics.clip_score.clip_metric`.
    """

    device: torch.device | str = "cpu"
    inception_weights: str | Path = "hub"
    lpips_weights: str | Path = "hub"
    encoder: FeatureExtractor | None = None
    confidence: Confidence | None = None
    is_order: Order = "shuffled"
    fdr_weights: str | Path = "hub"
    fdr_published: Mapping[str, PublishedMoments] | None = None
    clip_weights: str | None = None
    prompts: Sequence[str] | None = None


_USUAL = MetricSources()


def build_set_metrics(names: Sequence[str], sources: MetricSources = _USUAL) -> list[SetMetric]:
    """The metrics behind the scores called ``names``, of :data:`EVALUATION_METRICS`.

    ``fd`` and ``mind_fd`` compare features of the encoder, and are called ``fd_<encoder>`` and ``mind_<encoder>``.
    With random Inception weights ``fid`` is called ``fid_random_inception``, and the others alike. ``fdr6`` is six
    scores and their mean. ``clip_score`` is made for one set of images, those of the prompts.

    Raises:
        ConfigError: If a name is unknown or given twice, ``fd`` comes without an encoder, or ``clip_score`` without
            prompts.
        DataError: If no image has a prompt.
        WeightsError: If Inception's weights are missing, or those of another network.
    """
    check_names(names, EVALUATION_METRICS)
    of_encoder = [name for name in names if name in ENCODER_METRICS]
    if of_encoder and sources.encoder is None:
        raise ConfigError(
            f"the metric {of_encoder[0]} compares features of an encoder, and none is at hand (when training on cached "
            "latents it is not loaded: use fid alone, or score the checkpoint afterwards with `python src/eval_fid.py`)"
        )
    if CLIP_SCORE in names and sources.prompts is None:
        raise ConfigError(
            f"the metric {CLIP_SCORE} compares each image with its prompt, and these images have none"
        )
    metrics: list[SetMetric] = []
    if FDR6 in names:
        find_space_weights(sources.fdr_weights)  # before anything is loaded
    if any(name in (*INCEPTION_METRICS, FDR6) for name in names):
        from unirae.metrics.inception import InceptionExtractor

        inception = InceptionExtractor(weights=sources.inception_weights, device=sources.device)
        metrics += inception_metrics(
            names, inception, confidence=sources.confidence, is_order=sources.is_order
        )
        if FDR6 in names:
            metrics += build_fdr_metrics(
                inception,
                weights=sources.fdr_weights,
                published=sources.fdr_published,
                device=sources.device,
            )
    if of_encoder and sources.encoder is not None:
        metrics += encoder_metrics(of_encoder, sources.encoder, confidence=sources.confidence)
    if CLIP_SCORE in names and sources.prompts is not None:
        from unirae.evaluation.judges.clip_features import MODEL, ClipExtractor

        clip = ClipExtractor(weights=sources.clip_weights or MODEL, device=sources.device)
        metrics.append(clip_metric(clip, sources.prompts))
    return metrics


def build_reconstruction_metrics(
    names: Sequence[str], sources: MetricSources = _USUAL
) -> ReconstructionMetricSet:
    """The metrics behind the scores called ``names``, of :data:`RECONSTRUCTION_METRICS`.

    ``rfd`` is the Fréchet distance in the features of the encoder, and its score is called ``rfd_<encoder>``. ``fid``
    and ``fd`` are other spellings of ``rfid`` and ``rfd``: one score has one name.

    Raises:
        ConfigError: If a name is unknown or given twice, or ``rfd`` comes without an encoder.
        WeightsError: If a network's weights are missing.
    """
    check_names(names, RECONSTRUCTION_METRICS)
    plain = {name: _RECONSTRUCTION_NAMES.get(name, name) for name in names if name not in PAIR_METRICS}
    if len(set(plain.values())) < len(plain):
        raise ConfigError(
            f"metrics={','.join(names)}: rfid and fid, rfd and fd are the same here; name one of them"
        )
    of_sets = build_set_metrics(list(plain.values()), sources) if plain else []
    labels = {name: label for metric in of_sets for name, label in metric.labels.items()}
    of_pairs = [pair_metric(name, sources) for name in names if name in PAIR_METRICS]
    return ReconstructionMetricSet(
        of_sets=of_sets,
        of_pairs=of_pairs,
        names={label: name_of_reconstructions(label) for label in labels.values()},
    )


def pair_metric(name: str, sources: MetricSources = _USUAL) -> PairMetric:
    """Build one of :data:`PAIR_METRICS`."""
    if name != "lpips":
        return {"psnr": mean_psnr, "ssim": mean_ssim}[name](sources.device)
    from unirae.nn.lpips import build_lpips

    # Random weights only when asked for, and then in the score's name.
    weights = sources.lpips_weights
    network = build_lpips(weights=weights, option="metrics.lpips_weights").to(sources.device).eval()
    return mean_distance(
        "lpips_random" if weights == "random" else "lpips",
        network,
        {
            "network": "VGG-16, LPIPS 0.1",
            "weights": str(weights),
            "sha256": state_sha256(network.state_dict()),
        },
        sources.device,
    )


def encoder_extractor(encoder: Encoder, input_size: tuple[int, int] | None = None) -> EncoderExtractor:
    """Mean-pooled features of one of our encoders, named by its kind (``mae``) or, if generic, by model.

    Args:
        input_size: (height, width) that images are resized to, as :attr:`RAE.encoder_input_size`.
    """
    identity = encoder.identity
    generic = identity.kind in ("generic_hf", "timm")
    name = name_of_model(identity.name) if generic else identity.kind
    if name in RESERVED_NAMES:
        name = f"encoder_{name}"
    return EncoderExtractor(
        encoder=encoder,
        name=f"random_{name}" if identity.weights == "random" else name,
        identity={"source": identity.source, "weights": identity.weights, **identity.decisive()},
        input_size=input_size,
    )


def name_of_model(model: str) -> str:
    """A model's name on its hub, or its path, as a part of the names of scores."""
    return re.sub(r"[^a-z0-9]+", "_", Path(model).name.lower())


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that are no scores.

    Raises:
        ConfigError: If a name is unknown or given twice, or there are none at all.
    """

    def explained(name: str) -> str:
        plain = _RECONSTRUCTION_NAMES.get(name)  # where only reconstructions have it
        return f"{name} ({plain}, of reconstructions alone)" if plain in known else name

    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        misspelt = f"; unknown: {', '.join(map(explained, unknown))}" if unknown else ""
        raise ConfigError(f"metrics={','.join(names)}: give some of {', '.join(known)}, each once{misspelt}")
