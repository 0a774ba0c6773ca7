"""Encoding and decoding: DINOv2-B, ViT-B decoder, random weights, 224 → 256 px, batch 4.

python benchmarks/autoencoder.py --against DIR
"""

import cases

CASES = [
    cases.Case(
        name=what,
        title=f"{what}, batch 4",
        images=4,
        work="autoencoder",
        ours={"batch": 4, "what": what},
        theirs={"batch": 4, "what": what},
    )
    for what in ("encode", "decode")
]

if __name__ == "__main__":
    cases.main(CASES, description=__doc__)
