"""On one GPU of 80 GB beside RAEv2, at its size: steps and sampling of its DiT^DH-XL, and Muon alone; random weights.

    python benchmarks/one_gpu_v2.py --against_v2 DIR --gram GRAM

Latents of 768×16×16. Steps are compiled on both sides, ours block by block, theirs as its ``--compile`` does; our
sampling is compiled, too, for which it has no option.
"""

from dataclasses import replace

import cases
import muon_step
import sampling_v2
import training_v2
from cases import OURS, THEIRS_BF16

XL = {"batch": 32, "dit": "dh_v2_xl"}


def at_xl(case: cases.Case, title: str, **settings: int) -> cases.Case:
    """The same work with the XL network and 32 images, bf16 beside bf16."""
    return replace(
        case,
        name=f"{case.name}_xl",
        title=title,
        images=32,
        ours={**case.ours, **XL},
        theirs={**case.theirs, **XL},
        only=(OURS, THEIRS_BF16),
        tf32=True,
        agreement="",  # two networks of this size do not fit beside each other; the small cases compare them
        **settings,
    )


_STEP = training_v2.case("stage2_v2", "", "dh_v2_xl", "gmuon", compiled=True)
_SAMPLING = {case.name: case for case in sampling_v2.CASES}
CASES = [
    replace(
        at_xl(
            _STEP, "stage-2 step, RAEv2's DiT^DH-XL, torch.compile on both sides, batch 32", rounds=3, units=8
        ),
        compile_together=True,
    ),
    *(
        at_xl(_SAMPLING[name], f"50 evaluations, RAEv2's DiT^DH-XL{how}, batch 32", rounds=2, units=1)
        for name, how in (
            ("sampling_v2", ""),
            ("sampling_v2_ig", ", internal guidance"),
            ("sampling_v2_ig_cfg", ", internal guidance and CFG"),
        )
    ),
    replace(
        muon_step.case("muon_xl", "Muon's step, matrices of RAEv2's DiT^DH-XL", "dh_v2_xl", rounds=3),
        only=(OURS, THEIRS_BF16),
        agreement="",
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
