"""Sampling latents of 768×16×16 with 50 evaluations of RAEv2's DiT^DH dummy beside RAEv2, random weights, batch 4.

python benchmarks/sampling_v2.py --against_v2 DIR
"""

import cases

SIZES = {"batch": 4, "dit": "dh_dummy"}


def case(name: str, title: str, ig: float, cfg: float) -> cases.Case:
    settings = {"time_grid": "linear", "ig_scale": ig, "cfg_scale": cfg}
    return cases.Case(
        name=name,
        title=title,
        images=4,
        work="sampling",
        ours={**SIZES, "num_steps": 51, "experiment": "dit_v2_dummy", "settings": settings},
        theirs={**SIZES, "evaluations": 50, "ig": ig, "cfg": cfg},
        rounds=3,
        warmup=1,
        reference=cases.RAEV2,
        agreement="agreement_v2:networks",
    )


CASES = [
    case("sampling_v2", "50 evaluations, RAEv2's DiT^DH dummy, batch 4", 1.0, 1.0),
    case("sampling_v2_ig", "… with internal guidance", 1.78, 1.0),
    case("sampling_v2_ig_cfg", "… with internal guidance and CFG", 1.78, 2.0),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
