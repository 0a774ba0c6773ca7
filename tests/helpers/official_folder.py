"""Files as the official code writes and names them, in miniature: the golden autoencoder and a DiT^DH on it."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from unirae.models.denoisers.build import build_denoiser
from unirae.models.interop.official.dit import dit_to_official

GOLDEN = Path(__file__).parents[1] / "golden"
LATENT = (32, 4, 4)


def golden_rae() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, configuration) of the golden autoencoder."""
    with safe_open(GOLDEN / "rae_dinov2.safetensors", "pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118


def write_encoder(folder: Path, *, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)) -> Path:
    """The golden encoder in transformers' format."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    tensors, config = golden_rae()
    model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**config["encoder_config"]))
    state = {k.removeprefix("encoder.encoder."): t for k, t in tensors.items() if k.startswith("encoder.")}
    missing = model.load_state_dict(state, strict=False)
    assert set(missing.missing_keys) <= {"layernorm.weight", "layernorm.bias"}
    assert not missing.unexpected_keys
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": mean, "image_std": std, "image_processor_type": "BitImageProcessor"})
    )
    return folder


def write_rae(root: Path) -> dict[str, Any]:
    """Decoder, statistics and encoder below ``root``; returns ``stage_1``."""
    tensors, config = golden_rae()
    sizes = config["decoder"]
    decoder = {
        "model_type": "vit_mae",
        "decoder_hidden_size": sizes["hidden_size"],
        "decoder_num_hidden_layers": sizes["num_layers"],
        "decoder_num_attention_heads": sizes["num_heads"],
        "decoder_intermediate_size": sizes["intermediate_size"],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "patch_size": "SHOULD BE RELOADED",
    }
    (root / "configs/decoder/tiny").mkdir(parents=True)
    (root / "configs/decoder/tiny/config.json").write_text(json.dumps(decoder))
    write_encoder(root / "models/encoder")
    state = {k.removeprefix("decoder."): t for k, t in tensors.items() if k.startswith("decoder.")}
    torch.save(state, root / "models/model.pt")
    torch.save({"mean": tensors["stat_mean"], "var": tensors["stat_var"]}, root / "models/stat.pt")
    return {
        "target": "stage1.RAE",
        "params": {
            "encoder_cls": "Dinov2withNorm",
            "encoder_config_path": "models/encoder",
            "encoder_input_size": config["encoder_input_size"],
            "encoder_params": {"dinov2_path": "models/encoder", "normalize": True},
            "decoder_config_path": "configs/decoder/tiny",
            "decoder_patch_size": config["decoder_patch_size"],
            "pretrained_decoder_path": "models/model.pt",
            "noise_tau": 0.0,
            "reshape_to_2d": True,
            "normalization_stat_path": "models/stat.pt",
        },
    }


def dit_node(
    latent: tuple[int, int, int] = LATENT, *, seed: int = 0, **changes: Any
) -> tuple[dict[str, Any], dict]:
    """``stage_2`` without ckpt, and official weights that are random everywhere."""
    params = {
        "input_size": latent[1],
        "patch_size": 1,
        "in_channels": latent[0],
        "hidden_size": [32, 48],
        "depth": [2, 1],
        "num_heads": [2, 3],
        "num_classes": 5,
        **changes,
    }
    kind = "dit_dh" if isinstance(params["hidden_size"], list) else "dit"
    module = {"dit_dh": "DDT.DiTwDDTHead", "dit": "lightningDiT.LightningDiT"}[kind]
    arguments = {k: v for k, v in params.items() if k != "class_dropout_prob"}
    if kind == "dit_dh" and isinstance(arguments["num_heads"], int):
        arguments["num_heads"] = [arguments["num_heads"]] * 2
    denoiser = build_denoiser(kind, **arguments)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in denoiser.named_parameters():
        if name != "positions":
            parameter.data.normal_(std=0.2, generator=generator)
    state = dit_to_official(denoiser, has_null_label=params.get("class_dropout_prob", 0.1) > 0)
    return {"target": f"stage2.models.{module}", "params": params}, state


def write_config(path: Path, config: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


def write_other_encoder(kind: str, folder: Path) -> Path:
    """A tiny MAE or SigLIP with random weights, as published ones are: with MAE's decoder, or the text half."""
    from transformers import SiglipConfig, SiglipModel, ViTMAEConfig, ViTMAEForPreTraining

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    image = sizes | {"image_size": 56, "patch_size": 14}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "MAEwNorm":
            small = {
                "decoder_hidden_size": 16,
                "decoder_num_hidden_layers": 1,
                "decoder_num_attention_heads": 2,
            }
            model = ViTMAEForPreTraining(ViTMAEConfig(**image, **small, decoder_intermediate_size=16))
        else:
            model = SiglipModel(SiglipConfig(text_config=sizes | {"vocab_size": 20}, vision_config=image))
        for parameter in model.parameters():
            parameter.data.normal_(std=0.1)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "ViTImageProcessor"}
        )
    )
    return folder
