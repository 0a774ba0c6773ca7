"""From the names of scores to the metrics that compute them, with their networks loaded."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from unirae.core.errors import ConfigError
from unirae.metrics.base import ReconstructionMetric
from unirae.metrics.extractors import EncoderExtractor, FeatureExtractor
from unirae.metrics.frechet import ReconstructionFrechet
from unirae.metrics.pixel import mean_distance, mean_psnr, mean_ssim
from unirae.models.encoders.base import Encoder

METRICS = ("rfid", "rfd", "psnr", "ssim", "lpips")
"""Of reconstructions."""
GENERATION_METRICS = ("fid", "fd")
"""Of generated images."""


def build_reconstruction_metrics(
    names: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    inception_weights: str | Path = "hub",
    lpips_weights: str | Path = "hub",
    encoder: FeatureExtractor | None = None,
    options: str = "callbacks.reconstruction_metrics.",
) -> list[ReconstructionMetric]:
    """The metrics called ``names``, in that order, on ``device``.

    Args:
        names: of :data:`METRICS`; ``rfd`` is the Fréchet distance in the features of ``encoder``, and its
            score is called ``rfd_<encoder>``; with random Inception weights ``rfid`` is called
            ``rfid_random_inception``.
        encoder: the extractor behind ``rfd``, see :func:`encoder_extractor`.
        options: what precedes ``inception_weights`` where the user sets it; for error messages.

    Raises:
        ConfigError: an unknown name, one named twice, or ``rfd`` without an encoder.
        WeightsError: a network's weights are missing.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names or len(set(names)) != len(names):
        raise ConfigError(f"metrics={','.join(names)}: give some of {', '.join(METRICS)}, each once")
    metrics: list[ReconstructionMetric] = []
    for name in names:
        if name == "rfid":
            from unirae.metrics.inception import InceptionExtractor

            extractor = InceptionExtractor(
                weights=inception_weights, device=device, option=f"{options}inception_weights"
            )
            metrics.append(ReconstructionFrechet(extractor=extractor, device=device))
        elif name == "rfd":
            if encoder is None:
                raise ConfigError("the metric rfd needs an encoder whose features it compares")
            metrics.append(ReconstructionFrechet(extractor=encoder, device=device))
        elif name == "lpips":
            metrics.append(_lpips(lpips_weights, device, f"{options}lpips_weights"))
        else:
            metrics.append({"psnr": mean_psnr, "ssim": mean_ssim}[name](device))
    return metrics


def build_generation_extractors(
    names: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    inception_weights: str | Path = "hub",
    encoder: FeatureExtractor | None = None,
    options: str = "callbacks.generation_metrics.",
) -> list[FeatureExtractor]:
    """The feature extractors behind the Fréchet scores called ``names``, in that order, on ``device``.

    Args:
        names: of :data:`GENERATION_METRICS`; ``fd`` compares features of ``encoder``, and its score is called
            ``fd_<encoder>``; with random Inception weights ``fid`` is called ``fid_random_inception``.
        encoder: see :func:`encoder_extractor`.
        options: what precedes ``inception_weights`` where the user sets it; for error messages.

    Raises:
        ConfigError: an unknown name, one named twice, or ``fd`` without an encoder.
        WeightsError: Inception's weights are missing.
    """
    unknown = [name for name in names if name not in GENERATION_METRICS]
    if unknown or not names or len(set(names)) != len(names):
        raise ConfigError(
            f"metrics={','.join(names)}: give some of {', '.join(GENERATION_METRICS)}, each once"
        )
    if "fd" in names and encoder is None:
        raise ConfigError(
            "the metric fd compares features of the autoencoder's encoder, which is not loaded when training on cached "
            "latents; use fid alone, or score the checkpoint afterwards with src/eval_fid.py"
        )
    extractors: list[FeatureExtractor] = []
    for name in names:
        if name == "fid":
            from unirae.metrics.inception import InceptionExtractor

            option = f"{options}inception_weights"
            extractors.append(InceptionExtractor(weights=inception_weights, device=device, option=option))
        elif encoder is not None:
            extractors.append(encoder)
    return extractors


def encoder_extractor(encoder: Encoder, input_size: tuple[int, int] | None = None) -> EncoderExtractor:
    """Mean-pooled features of one of our encoders, named by its kind (``mae``) or, if generic, by model.

    Args:
        input_size: (height, width) that images are resized to, as :attr:`RAE.encoder_input_size`.
    """
    identity = encoder.identity
    generic = identity.kind in ("generic_hf", "timm")
    name = re.sub(r"[^a-z0-9]+", "_", Path(identity.name).name.lower()) if generic else identity.kind
    return EncoderExtractor(
        encoder=encoder,
        name=f"random_{name}" if identity.weights == "random" else name,
        identity={"kind": identity.kind, "source": identity.source, "sha256": identity.sha256},
        input_size=input_size,
    )


def _lpips(weights: str | Path, device: torch.device | str, option: str) -> ReconstructionMetric:
    from unirae.nn.lpips import build_lpips

    # Random weights only when asked for, and then in the score's name.
    name = "lpips_random" if weights == "random" else "lpips"
    network = build_lpips(weights=weights, option=option).to(device).eval()
    return mean_distance(name, network, {"network": "VGG-16, LPIPS 0.1", "weights": str(weights)}, device)
