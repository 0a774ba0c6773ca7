"""On one GPU of 80 GB, at the paper's sizes: steps of both stages, sampling, encoding and decoding; random weights.

    python benchmarks/one_gpu.py --against DIR

DINOv2-B, the ViT-XL decoder, DiT^DH-XL, 256 px. Our steps include reading their data, the reference's have them on the
device. Sampling of ours in fp32 is left out: it is exact there, where the reference's products are TF32.
"""

import cases
from cases import OURS, OURS_FP32, THEIRS_BF16, THEIRS_FP32

STAGE1 = {"batch": 32, "gan": True}
STAGE2 = {"batch": 32, "dit": "dh_xl"}
SAMPLING = {"batch": 32, "dit": "dh_xl", "num_steps": 50}
AUTOENCODER = {"batch": 64}
COMPILED = ("model.compile=true",)
BF16_FIRST = (OURS, THEIRS_BF16, OURS_FP32, THEIRS_FP32)
"""The sides that wait hold their weights: those that need most memory are the last, when others have left."""


def sampling(name: str, title: str, ours: dict[str, object], guidance: str) -> cases.Case:
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
    cases.Case(
        name="stage1_gan_xl",
        title="stage-1 step with GAN, DINOv2-B + ViT-XL decoder, 256 px, batch 32",
        images=32,
        work="stage1",
        ours={**STAGE1, "overrides": ("model/decoder=vit_xl",)},
        theirs={**STAGE1, "decoder": "ViTXL"},
        only=BF16_FIRST,
        training=True,
        rounds=3,
        units=4,
    ),
    cases.Case(
        name="stage2_xl",
        title="stage-2 step, DiT^DH-XL, latents given, batch 32",
        images=32,
        work="stage2",
        ours={**STAGE2, "cached": True},
        theirs={**STAGE2, "images": False},
        only=BF16_FIRST,
        training=True,
        rounds=3,
        units=8,
        tf32=True,
    ),
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
    cases.Case(
        name="stage2_xl_compiled",
        title="stage-2 step, DiT^DH-XL, latents given, torch.compile, batch 32",
        images=32,
        work="stage2",
        ours={**STAGE2, "cached": True, "overrides": COMPILED},
        theirs={**STAGE2, "images": False, "compiled": True},
        only=(OURS, THEIRS_BF16),
        training=True,
        rounds=3,
        units=8,
        tf32=True,
        compiled=True,
        work_of="stage2_xl",
    ),
    sampling(
        "sampling_xl_cfg", "50-point Euler sampling with CFG, DiT^DH-XL, batch 32", {"cfg_scale": 2.0}, "cfg"
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
