"""Making of checkpoint contents: the description of networks, and contents for networks from elsewhere or at random."""

from collections.abc import Sequence
from typing import Any

import torch

from unirae.models.decoder import ViTDecoder
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.build import describe_denoiser
from unirae.models.encoders.build import build_encoder
from unirae.models.rae import RAE, token_grid


def describe_rae(rae: RAE) -> dict[str, Any]:
    """Describe an RAE: architecture, encoder (with its weights if nothing else can give them), statistics."""
    return {
        "rae": rae.spec(),
        "encoder_state": rae.encoder.state_dict() if rae.encoder.identity.embedded else None,
        "latent_stats": rae.stats.to_dict(),
    }


def rae_content(
    rae: RAE, *, config: dict[str, Any], origin: dict[str, Any], weights: str = "ema"
) -> dict[str, Any]:
    """The content of a stage-1 checkpoint for an autoencoder from elsewhere.

    Args:
        config: ``model`` and ``data`` as a run's configuration has them.
        origin: where it came from, and the ``version`` of unirae that converted it.
        weights: "ema" or "model": whether they are an average; it cannot be seen.
    """
    about = {"kind": "stage1", **_made_elsewhere(config, origin, weights), **describe_rae(rae)}
    return {"unirae": about, "state_dict": {f"ema.{k}": t for k, t in rae.decoder.state_dict().items()}}


def dit_content(
    denoiser: Denoiser,
    *,
    rae_reference: dict[str, Any],
    class_names: Sequence[str],
    config: dict[str, Any],
    origin: dict[str, Any],
    sampling: dict[str, Any] | None,
    ema_decay: float | None = None,
    weights: str = "ema",
) -> dict[str, Any]:
    """The content of a stage-2 checkpoint for a diffusion transformer from elsewhere, with its latents' statistics.

    Args:
        rae_reference: how the checkpoint names its autoencoder, see ``opening.rae_of_dit``.
        sampling: the settings that its images are made with by default, of
            :class:`~unirae.evaluation.sampling.settings.SamplerSettings`, and ``guide``, the folder of a guide.
        ema_decay: of the weights, where it is known.
        weights: as in :func:`rae_content`.
    """
    about = {
        "kind": "stage2",
        **_made_elsewhere(config, origin, weights),
        "dit": describe_denoiser(denoiser),
        "latent_stats_info": denoiser.latent_stats.info,
        "rae": rae_reference,
        "class_names": list(class_names),
        "ema": {"ema": ema_decay},
        "sampling": sampling,
    }
    return {"unirae": about, "state_dict": {f"ema.{k}": t for k, t in denoiser.state_dict().items()}}


def model_config(rae: RAE) -> dict[str, Any]:
    """The node ``model`` of the configuration that a run would have had which made this autoencoder."""
    identity, size = rae.encoder.identity, rae.encoder_input_size
    decoder = {k: v for k, v in rae.decoder.architecture.items() if k not in ("token_dim", "grid")}
    return {
        "encoder": {
            "kind": identity.kind,
            "name": identity.name,
            "weights": "hub" if identity.weights == "hub" else identity.source,
            "architecture": identity.config,
            "mean": list(identity.pixel_mean),
            "std": list(identity.pixel_std),
            **identity.reading,
            "layers": None if identity.layers is None else list(identity.layers),
            "norm_affine": identity.norm_affine or None,
            "remedy": None,
        },
        "decoder": {
            "_target_": "unirae.models.decoder.ViTDecoder",
            **decoder,
            "gradient_checkpointing": False,
        },
        "image_size": size[0] if size[0] == size[1] else list(size),
    }


def _made_elsewhere(config: dict[str, Any], origin: dict[str, Any], weights: str) -> dict[str, Any]:
    made = {"version": origin["version"], "commit": None, "step": None, "config": config, "origin": origin}
    return {**made, "exported_weights": weights}


def random_rae(*, encoder: dict[str, Any], decoder: dict[str, Any], image_size: int, seed: int) -> RAE:
    """A frozen RAE that is a function of its arguments, so that a checkpoint need not hold its weights.

    Args:
        encoder: arguments of :func:`~unirae.models.encoders.build.build_encoder`.
        decoder: arguments of :class:`~unirae.models.decoder.ViTDecoder`, without token width and grid.
        image_size: the encoder's input in pixels.
    """
    built = build_encoder(**{**encoder, "seed": seed})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random_decoder = ViTDecoder(
            **decoder, token_dim=built.width, grid=token_grid(image_size, built.patch_size)
        )
    rae = RAE(encoder=built, decoder=random_decoder, encoder_input_size=image_size, noise_tau=0.0)
    return rae.eval().requires_grad_(False)
