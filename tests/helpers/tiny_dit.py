"""Small diffusion transformers of both kinds, and what they are given."""

import torch

from unirae.models.denoisers.build import build_denoiser

CHANNELS, GRID, CLASSES = 3, (4, 6), 5
SHARED = {"in_channels": CHANNELS, "input_size": GRID, "num_classes": CLASSES}
SIZES = {
    "dit": {"hidden_size": 24, "depth": 2, "num_heads": 3},
    "dit_dh": {"hidden_size": [16, 24], "depth": [2, 1], "num_heads": [2, 3]},
}


def tiny_dit(kind, **options):
    torch.manual_seed(0)
    return build_denoiser(kind, **SHARED | SIZES[kind] | options)


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, CHANNELS, *GRID, generator=generator, dtype=dtype)
    return x, torch.tensor([0.1, 0.5, 0.93], dtype=dtype), torch.tensor([0, 3, CLASSES])


@torch.no_grad()
def randomise(model):
    """Every weight drawn, so that no zero or one hides a mistake; the positions and the frequencies stay."""
    for name, p in model.named_parameters():
        if name not in ("positions", "time_embed.frequencies"):
            spread = 0.3 if p.ndim == 1 else p.shape[-1] ** -0.5
            p.copy_(torch.randn(p.shape) * spread + float(name.endswith("norm.weight")))
    return model
