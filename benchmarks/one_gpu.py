"""On one GPU of 80 GB, at the paper's sizes: steps of both stages, sampling, encoding and decoding; random weights.

    python benchmarks/one_gpu.py --against DIR

DINOv2-B, the ViT-XL decoder, DiT^DH-XL, 256 px. We compile by default in long runs; the official script of stage 2
demands it, that of stage 1 does not know it. Our steps include reading their data, the reference's have them
on the device. Sampling of ours in fp32 is left out: it is exact there, where the reference's products are TF32.
"""

from typing import Any

import cases
from cases import OURS, OURS_FP32, THEIRS_BF16, THEIRS_FP32

STAGE1 = {"batch": 32, "gan": True}
STAGE2 = {"batch": 32, "dit": "dh_xl"}
SAMPLING = {"batch": 32, "dit": "dh_xl", "num_steps": 50}
AUTOENCODER = {"batch": 64}
EAGER = {"overrides": ("trainer.compile=false",)}
BF16_FIRST = (OURS, THEIRS_BF16, OURS_FP32, THEIRS_FP32)
"""The sides that wait hold their weights: those that need most memory are the last, when others have left."""


def stage1(name: str, how: str, ours: dict[str, Any]) -> cases.Case:
    overrides = ("model/decoder=vit_xl", *ours.get("overrides", ()))
    return cases.Case(
        name=name,
        title=f"stage-1 step with GAN, DINOv2-B + ViT-XL decoder, 256 px{how}, batch 32",
        images=32,
        work="stage1",
        ours={**STAGE1, "overrides": overrides},
        theirs={**STAGE1, "decoder": "ViTXL"},
        only=BF16_FIRST,
        training=True,
        rounds=3,
        units=4,
    )


def stage2(
    name: str, how: str, ours: dict[str, Any], theirs: dict[str, Any], only: tuple[str, ...], **settings: Any
) -> cases.Case:
    return cases.Case(
        name=name,
        title=f"stage-2 step, DiT^DH-XL, latents given{how}, batch 32",
        images=32,
        work="stage2",
        ours={**STAGE2, "cached": True, **ours},
        theirs={**STAGE2, "images": False, **theirs},
        only=only,
        training=True,
        rounds=3,
        units=8,
        tf32=True,
        **settings,
    )


def sampling(name: str, title: str, ours: dict[str, Any], guidance: str) -> cases.Case:
    return cases.Case(
        name=name,
        title=title,
        images=32,
        work="sampling",
        ours={**SAMPLING, "settings": ours},
        theirs={**SAMPLING, "guidance": guidance, "interval": (0.0, 1.0)},
        only=(OURS, THEIRS_BF16, THEIRS_FP32),
        rounds=2,
        warmup=1,
        units=1,
        tf32=True,
    )


CASES = [
    stage1("stage1_gan_xl", ", torch.compile on ours", {}),
    stage2(
        "stage2_xl",
        ", torch.compile on both sides",
        {},
        {"compiled": True},
        (OURS, THEIRS_BF16),
        compile_together=True,
    ),
    stage1("stage1_gan_xl_eager", ", torch.compile on neither side", EAGER),
    stage2("stage2_xl_eager", ", torch.compile on neither side", EAGER, {}, BF16_FIRST),
    sampling("sampling_xl", "50-point Euler sampling, DiT^DH-XL, batch 32", {}, "none"),
    *(
        cases.Case(
            name=f"{what}_xl",
            title=f"{what}, DINOv2-B + ViT-XL decoder, 256 px, batch 64",
            images=64,
            work="autoencoder",
            ours={**AUTOENCODER, "what": what, "decoder": "vit_xl"},
            theirs={**AUTOENCODER, "what": what, "decoder": "ViTXL"},
            only=(OURS, THEIRS_BF16, THEIRS_FP32),
            rounds=3,
            units=10,
            tf32=True,
        )
        for what in ("encode", "decode")
    ),
    sampling(
        "sampling_xl_cfg", "50-point Euler sampling with CFG, DiT^DH-XL, batch 32", {"cfg_scale": 2.0}, "cfg"
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
