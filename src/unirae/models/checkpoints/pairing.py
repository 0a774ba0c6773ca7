"""Pairs of a diffusion transformer and the autoencoder that decodes its latents: whether they belong together."""

from typing import Any

from unirae.core.differences import differences, shortened
from unirae.core.errors import WeightsError
from unirae.models.denoisers.base import Denoiser
from unirae.models.encoders.identity import architecture_read, as_applied
from unirae.models.rae import RAE, as_size


def rae_reference(rae: RAE, *, path: str | None, recipe: dict[str, Any] | None = None) -> dict[str, Any]:
    """The record by which a stage-2 checkpoint names its autoencoder.

    Args:
        path: of the autoencoder's checkpoint, relative to the stage-2 checkpoint; None for a random one.
        recipe: arguments of :func:`~unirae.models.checkpoints.making.random_rae`, for a random one.
    """
    return {"path": path, "fingerprint": rae.fingerprint, "identity": rae.identity, "recipe": recipe}


def autoencoder_differences(about: dict[str, Any], rae: RAE) -> list[str]:
    """Differences of an autoencoder from the one that a stage-2 checkpoint was trained on; empty if it is that one.

    Earlier versions recorded the weights' hash alone. Where it agrees, all that the checkpoint says of the encoder
    elsewhere must agree, too: the decoder with that hash was trained on tokens of one reading.

    Args:
        about: what the checkpoint says of itself, its ``"unirae"`` entry.
    """
    recorded = about["rae"]
    if recorded["fingerprint"] == rae.fingerprint:
        return []
    if "identity" in recorded:
        there, here = recorded["identity"], rae.identity
    elif recorded["fingerprint"] != rae.weights_fingerprint:
        there, here = {"fingerprint": recorded["fingerprint"]}, {"fingerprint": rae.weights_fingerprint}
    else:
        there = {"encoder": _said_of_encoder(about)}
        here = {"encoder": _at_same_places(rae.token_identity, there["encoder"])}
    return [
        f"{d.name} {shortened(d.first, 24)} recorded, {shortened(d.second, 24)} found"
        for d in differences(there, here)
    ]


def _said_of_encoder(about: dict[str, Any]) -> dict[str, Any]:
    """The encoder's record in a checkpoint of an earlier version, in the form of ``EncoderIdentity.decisive``.

    ``null`` in a configuration stands for the encoder's own, which the autoencoder's checkpoint knows.
    """
    model = about["config"].get("model") or {}
    model = model.get("rae") or model
    encoder = {key: value for key, value in (model.get("encoder") or {}).items() if value is not None}
    said = {"kind": encoder["kind"]} if "kind" in encoder else {}
    said |= {f"pixel_{name}": as_applied(encoder[name]) for name in ("mean", "std") if name in encoder}
    if encoder.get("weights") == "random":  # else the weights come with their architecture
        said["architecture"] = architecture_read(encoder["kind"], encoder.get("architecture", {}))
    if model.get("image_size") is not None:
        said["input_size"] = list(as_size(model["image_size"]))
    return said


def _at_same_places(record: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that has the keys of another one."""
    return {
        key: _at_same_places(record[key], value)
        if isinstance(value, dict) and isinstance(record.get(key), dict)
        else record.get(key)
        for key, value in said.items()
    }


def decoder_for(dit: Denoiser, rae: RAE) -> RAE:
    """Give an RAE the statistics of the latents that ``dit`` makes.

    Raises:
        WeightsError: If the RAE's latents are others than the network's.
    """
    if rae.latent_shape != dit.latent_shape:
        raise WeightsError(f"the DiT makes latents {dit.latent_shape}, the RAE decodes {rae.latent_shape}")
    if rae.stats.shape is None:
        return rae.with_stats(dit.latent_stats)
    if rae.stats.sha256 != dit.latent_stats.sha256:
        raise WeightsError(
            "the RAE holds other latent statistics than the DiT was trained with; open it from the DiT's checkpoint: "
            "unirae.load_rae(DIT_CHECKPOINT)"
        )
    return rae
