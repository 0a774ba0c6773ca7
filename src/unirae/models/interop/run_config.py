"""Configuration that a run would have had which made a converted model."""

from typing import Any

from unirae.models.rae import RAE


def model_config(rae: RAE) -> dict[str, Any]:
    """The node ``model`` of a run's configuration that describes this autoencoder."""
    identity = rae.encoder.identity
    decoder = {k: v for k, v in rae.decoder.architecture.items() if k not in ("token_dim", "grid")}
    return {
        "encoder": {
            "kind": identity.kind,
            "name": identity.name,
            "weights": "hub" if identity.weights == "hub" else identity.source,
            "architecture": identity.config,
            "mean": list(identity.pixel_mean),
            "std": list(identity.pixel_std),
            "remedy": None,
        },
        "decoder": {
            "_target_": "unirae.models.decoder.ViTDecoder",
            **decoder,
            "gradient_checkpointing": False,
        },
        "image_size": rae.encoder_input_size[0]
        if rae.encoder_input_size[0] == rae.encoder_input_size[1]
        else list(rae.encoder_input_size),
    }
