"""Tiny models for the tests of this room."""

from torch import Tensor

from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder
from unirae.models.rae import RAE

_TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TINY_ARCHITECTURES = {
    "dinov2": _TINY | {"model_type": "dinov2_with_registers", "mlp_ratio": 2, "num_register_tokens": 4},
    "dinov3": _TINY | {"model_type": "dinov3_vit", "intermediate_size": 32, "num_register_tokens": 4},
    "siglip2": _TINY | {"intermediate_size": 32},
    "mae": _TINY | {"intermediate_size": 32},
    "generic_hf": _TINY | {"model_type": "vit", "intermediate_size": 32},
    "timm": {
        "model_name": "vit_tiny_patch16_224",
        "embed_dim": 16,
        "num_heads": 2,
        "depth": 2,
        "img_size": 32,
    }
    | {"patch_size": 8},
}


def tiny_encoder(kind: str = "dinov2", **options) -> Encoder:
    options = {
        "name": f"tiny-{kind}",
        "weights": "random",
        "architecture": TINY_ARCHITECTURES[kind],
    } | options
    return build_encoder(kind=kind, **options)


def tiny_decoder(grid: tuple[int, int] = (4, 4), **options) -> ViTDecoder:
    return ViTDecoder(
        **{
            "token_dim": 16,
            "width": 24,
            "depth": 2,
            "num_heads": 2,
            "mlp_width": 48,
            "patch_size": 4,
            "grid": grid,
        }
        | options
    )


def tiny_rae(kind: str = "dinov2", size: int | tuple[int, int] = 32, **options) -> RAE:
    height, width = (size, size) if isinstance(size, int) else size
    decoder = tiny_decoder(grid=(height // 8, width // 8))
    return RAE(encoder=tiny_encoder(kind), decoder=decoder, encoder_input_size=size, **options)


def relative_l2(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).norm() / expected.norm())
