"""Steps of stage 2 on latents of 768×16×16: from images, from the latent cache, with the small published size.

    python benchmarks/training_stage2.py --against DIR

The reference has no cache: the cached case is measured against its steps from images.
"""

import cases

DUMMY, SMALL = {"batch": 4, "dit": "dh_dummy"}, {"batch": 4, "dit": "dh_s"}
CASES = [
    cases.Case(
        name="stage2_images",
        title="stage-2 step, DiT^DH dummy (384/384, 6+2), images in, batch 4",
        images=4,
        work="stage2",
        ours={**DUMMY, "cached": False},
        theirs={**DUMMY, "images": True},
        training=True,
    ),
    cases.Case(
        name="stage2_cached",
        title="stage-2 step, DiT^DH dummy, ours from the latent cache, the reference from images, batch 4",
        images=4,
        work="stage2",
        ours={**DUMMY, "cached": True},
        theirs={**DUMMY, "images": True},
        training=True,
    ),
    cases.Case(
        name="stage2_small",
        title="stage-2 step, DiT^DH-S (384/2048, 12+2), latents given, batch 4",
        images=4,
        work="stage2",
        ours={**SMALL, "cached": True},
        theirs={**SMALL, "images": False},
        training=True,
        rounds=5,
        by_pairs=True,
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
