"""The golden RAE, shared by the tests of this room."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import safe_open
from torch import Tensor

from unirae.core.strict import load_strictly
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.build import build_encoder
from unirae.models.interop.official.names import decoder_from_official, split_rae
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

GOLDEN = Path(__file__).parents[1] / "golden" / "rae_dinov2.safetensors"


@dataclass(frozen=True)
class Golden:
    """What the reference implementation computed, and our model with its weights, without statistics."""

    tensors: dict[str, Tensor]
    rae: RAE

    @property
    def stats(self) -> LatentStats:
        return LatentStats(mean=self.tensors["stat_mean"], var=self.tensors["stat_var"])


@pytest.fixture(scope="session")
def golden() -> Golden:
    with safe_open(GOLDEN, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    architecture = config["encoder_config"]
    for not_ours in ("architectures", "transformers_version", "stage_names"):
        del architecture[not_ours]
    encoder = build_encoder(kind="dinov2", name="golden", weights="random", architecture=architecture)
    whole = {key: t for key, t in tensors.items() if key.startswith(("encoder.", "decoder."))}
    theirs, inside = split_rae(whole, what="golden")
    load_strictly(encoder, {f"backbone.{key}": t for key, t in inside.items()}, what="encoder")
    sizes = config["decoder"]
    decoder = ViTDecoder(
        token_dim=encoder.width,
        width=sizes["hidden_size"],
        depth=sizes["num_layers"],
        num_heads=sizes["num_heads"],
        mlp_width=sizes["intermediate_size"],
        patch_size=config["decoder_patch_size"],
        grid=(4, 4),
    )
    load_strictly(decoder, decoder_from_official(theirs), what="decoder")
    rae = RAE(encoder=encoder, decoder=decoder, encoder_input_size=config["encoder_input_size"])
    return Golden(tensors=tensors, rae=rae)
