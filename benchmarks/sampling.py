"""Sampling latents of 768×16×16 with 50 points of Euler, DiT^DH dummy, random weights, batch 4.

python benchmarks/sampling.py --against DIR
"""

from typing import Any

import cases

SIZES = {"batch": 4, "dit": "dh_dummy", "num_steps": 50}
HALF = (0.0, 0.87)
"""Of the shifted times, where the later half of the grid lies: 25 of the 49 evaluations."""


def case(
    name: str, title: str, ours: dict[str, Any], guidance: str, interval: tuple[float, float]
) -> cases.Case:
    return cases.Case(
        name=name,
        title=title,
        images=4,
        work="sampling",
        ours={**SIZES, "settings": ours},
        theirs={**SIZES, "guidance": guidance, "interval": interval},
        rounds=3,
        warmup=1,
    )


CASES = [
    case("sampling", "50-point Euler sampling, DiT^DH dummy, batch 4", {}, "none", (0.0, 1.0)),
    case("sampling_cfg", "… with CFG", {"cfg_scale": 2.0}, "cfg", (0.0, 1.0)),
    case(
        "sampling_cfg_interval",
        "… with CFG on half the interval",
        {"cfg_scale": 2.0, "guidance_interval": HALF},
        "cfg",
        HALF,
    ),
    case(
        "sampling_trunk_every_2", "… ours with the trunk at every 2nd", {"trunk_every": 2}, "none", (0.0, 1.0)
    ),
    case(
        "sampling_autoguidance",
        "… with autoguidance by a network of the same size",
        {"cfg_scale": 2.0, "guide": True},
        "autoguidance",
        (0.0, 1.0),
    ),
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
