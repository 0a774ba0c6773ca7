"""Steps of stage 1: DINOv2-B, ViT-B decoder, LPIPS, DINO-S/8 discriminator, random weights, 224 → 256 px, batch 2.

python benchmarks/training_stage1.py --against DIR
"""

import cases

BATCH = {"batch": 2}
CASES = [
    cases.Case(
        name="stage1_gan",
        title="stage-1 step with GAN, DINOv2-B + ViT-B decoder, 256 px, batch 2",
        images=2,
        work="stage1",
        ours={**BATCH, "gan": True},
        theirs={**BATCH, "gan": True},
        training=True,
        rounds=5,
        by_pairs=True,
    ),
    cases.Case(
        name="stage1_before_gan",
        title="stage-1 step before the GAN starts, batch 2",
        images=2,
        work="stage1",
        ours={**BATCH, "gan": False},
        theirs={**BATCH, "gan": False},
        training=True,
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
