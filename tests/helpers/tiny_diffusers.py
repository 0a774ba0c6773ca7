"""Tiny AutoencoderRAEs, built by diffusers itself, with random weights and statistics."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("diffusers")

from diffusers import AutoencoderRAE
from diffusers.models.autoencoders import autoencoder_rae
from transformers import SiglipVisionConfig, SiglipVisionModel

KINDS = ("dinov2", "siglip2", "mae")
SHAPE = (64, 4, 4)


class OldSiglip(nn.Module):
    """SigLIP as transformers 4 nests it. diffusers 0.42 still builds it so, and fails where transformers does not."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.vision_model, self.config = SiglipVisionModel(config), config

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.vision_model(*args, **options)


def mend_siglip(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = SiglipVisionConfig(hidden_size=64, num_attention_heads=1, num_hidden_layers=0)
    if not hasattr(SiglipVisionModel(tiny), "vision_model"):
        monkeypatch.setattr(autoencoder_rae, "SiglipVisionModel", OldSiglip)


def config_of(kind: str, **other: Any) -> dict[str, Any]:
    patch = 14 if kind == "dinov2" else 16
    sizes = {"encoder_hidden_size": 64, "encoder_patch_size": patch, "encoder_num_hidden_layers": 2}
    sizes |= {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}
    sizes |= {"decoder_intermediate_size": 48, "patch_size": 8, "encoder_input_size": 4 * patch}
    return {"encoder_type": kind, **sizes, **other}


@torch.no_grad()
def theirs(
    kind: str, *, stats: tuple[int, ...] | None = SHAPE, seed: int = 0, **other: Any
) -> AutoencoderRAE:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if stats:
            other |= {"latents_mean": torch.randn(stats), "latents_std": torch.rand(stats) + 0.2}
        model = AutoencoderRAE(**config_of(kind, **other))
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def saved(folder: Path, model: AutoencoderRAE, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    return folder


def pictures(size: int = 70) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
