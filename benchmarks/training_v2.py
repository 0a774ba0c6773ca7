"""Steps of stage 2 beside RAEv2, from latents of 768×16×16: its DiT^DH with two heads, with Muon and with AdamW.

    python benchmarks/training_v2.py --against_v2 DIR --gram GRAM

Muon divides the matrices as RAEv2 does (``chunks=projections``). On a CPU its products are in float32 on both sides,
also in a step in bf16: the reference's are in float16, which a CPU multiplies a hundred times slower.
"""

from typing import Any

import cases

SMALL_DECODER = ("model/decoder@model.rae.decoder=vit_tiny", "model.rae.decoder.output=unit")
"""Of the run's autoencoder, which a step from latents does not use; the reference's side has none."""
KINDS = {"gmuon": ("model.optimizer.chunks=projections",), "adamw": ("model.optimizer.kind=adamw",)}


def case(
    name: str, title: str, dit: str, optimizer: str, *, compiled: bool = False, **settings: Any
) -> cases.Case:
    sizes = {"batch": 4, "dit": dit}
    return cases.Case(
        name=name,
        title=title,
        images=4,
        work="stage2",
        ours={
            **sizes,
            "cached": True,
            "experiment": "dit_v2_dummy",
            "overrides": (*SMALL_DECODER, *KINDS[optimizer]),
        },
        theirs={**sizes, "optimizer": optimizer, "compiled": compiled},
        training=True,
        tf32=True,
        reference=cases.RAEV2,
        agreement="agreement_v2:networks",
        **settings,
    )


CASES = [
    case(
        "stage2_v2_dummy", "stage-2 step, RAEv2's DiT^DH dummy (384/384, 6+2), batch 4", "dh_dummy", "gmuon"
    ),
    case("stage2_v2_dummy_adamw", "… with AdamW", "dh_dummy", "adamw"),
    case(
        "stage2_v2_dummy_compiled",
        "… with AdamW, torch.compile on both sides",
        "dh_dummy",
        "adamw",
        compiled=True,
    ),
    case(
        "stage2_v2_small",
        "stage-2 step, RAEv2's DiT^DH-S (384/2048, 12+2), batch 4",
        "dh_v2_s",
        "gmuon",
        rounds=3,
        warmup=1,
        by_pairs=True,
    ),
    case(
        "stage2_v2_small_adamw",
        "… with AdamW, batch 4",
        "dh_v2_s",
        "adamw",
        rounds=5,
        by_pairs=True,
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
