"""Muon's part of a step beside ``gram-newton-schulz``, as RAEv2 calls it, for the matrices of its DiT^DH.

    python benchmarks/muon_step.py --against_v2 DIR --gram GRAM

Equal matrices, gradients given, products of Newton–Schulz of one type on both sides. The library multiplies in float16,
which a CPU does a hundred times slower than in float32; there it is told another type, float32 or bfloat16.
"""

from typing import Any

import cases


def case(name: str, title: str, dit: str, **settings: Any) -> cases.Case:
    return cases.Case(
        name=name,
        title=title,
        images=1,
        work="muon",
        ours={"dit": dit},
        theirs={"dit": dit},
        reference=cases.RAEV2,
        agreement="agreement_v2:muon",
        **settings,
    )


CASES = [
    case("muon_dummy", "Muon's step, matrices of RAEv2's DiT^DH dummy", "dh_dummy"),
    case(
        "muon_small",
        "Muon's step, matrices of RAEv2's DiT^DH-S",
        "dh_v2_s",
        rounds=3,
        warmup=1,
        by_pairs=True,
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
