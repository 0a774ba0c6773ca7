"""Held-out splits that depend on the items' names alone: no seed, no order, the same on every machine."""

import hashlib
from collections.abc import Sequence


def held_out(names: Sequence[str], fraction: float) -> set[int]:
    """Positions of the ``fraction`` of ``names`` with the smallest SHA-256; at least one unless it is 0.

    Renaming or reordering other items moves the border by a few names at most; no item's hash changes.
    """
    if fraction == 0 or not names:
        return set()
    count = max(1, round(len(names) * fraction))
    # file names need not be valid text: Python carries their odd bytes as surrogates
    hashes = [hashlib.sha256(name.encode(errors="surrogateescape")).digest() for name in names]
    order = sorted(range(len(names)), key=lambda i: hashes[i])
    return set(order[:count])
