"""Models of RAEv2 in a folder, as its code has them, and their conversion to ours."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from unirae.app.convert import Options, run
from unirae.models.decoder import ViTDecoder
from unirae.models.interop.official.names import DECODER_SIZES, decoder_to_official


def write_stage_1(root: Path, *, channels: int, side: int) -> dict[str, Any]:
    """An autoencoder of random weights whose latents have these sizes."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    sizes = {
        "hidden_size": channels,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
    }
    DINOv3ViTModel(DINOv3ViTConfig(**sizes, patch_size=16, image_size=64)).save_pretrained(root / "encoder")
    shape = {"width": 8, "depth": 1, "num_heads": 2, "mlp_width": 16}
    decoder = ViTDecoder(**shape, token_dim=channels, patch_size=16, grid=(side, side), output="unit")
    (root / "decoder").mkdir()
    config = {theirs: shape[ours] for theirs, ours in DECODER_SIZES.items()} | {"model_type": "vit_mae"}
    (root / "decoder/config.json").write_text(json.dumps(config))
    torch.save(decoder_to_official(decoder.state_dict()), root / "decoder.pt")
    params = {
        "encoder_name": "dinov3-vit-l16",
        "resolution": 16 * side,
        "decoder_config_path": "decoder",
        "decoder_patch_size": 16,
        "pretrained_decoder_path": "decoder.pt",
    }
    return {"target": "stage1.RAE", "params": params}


def convert(root: Path, config: dict[str, Any], **options: Any) -> Path:
    """Write the configuration into its folder, and convert it; returns our folder."""
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    options = {
        "from_": "rae",
        "config": root / "config.yaml",
        "output": root / "ours",
        "encoder_weights": str(root / "encoder"),
        "embed_encoder": True,
        "data": "emoji",
    } | options
    return run(Options(**options))


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """The tensors are equal, bit for bit, and there are no others."""
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The configuration with another value at ``a/b/c``."""
    *above, last = path.split("/")
    node = config
    for name in above:
        node = node.setdefault(name, {})
    node[last] = value
    return config
