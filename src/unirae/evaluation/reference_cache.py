"""References that were computed once are kept: a folder of npz files named by what is in them.

The name is a hash of the images' selection, their crop and size, the extractors' weights and what is kept of them; so
nothing stale can be found, and a file may be deleted at any time.
"""

import json
from collections.abc import Callable
from pathlib import Path

from unirae.core.distributed import barrier, gather, is_main
from unirae.core.io import sha256_of_text
from unirae.core.log import get_logger
from unirae.data.content import content_of
from unirae.evaluation.reference import Purpose, Reference, ReferenceData, selection
from unirae.evaluation.reference_file import read_reference, write_reference
from unirae.evaluation.scoring import Needs

log = get_logger(__name__)


def cached_reference(
    folder: Path | None,
    dataset: ReferenceData,
    needs: Needs,
    *,
    purpose: Purpose,
    indices: list[int],
    seed: int,
    compute: Callable[[], Reference],
) -> Reference:
    """The reference from ``folder``, or what ``compute`` gives, which is then kept there.

    Args:
        folder: None keeps nothing.
        dataset, indices, seed: which images.
        needs: what is kept of them.
    """
    if folder is None or not needs:
        return compute()
    file = folder / f"{cache_key(dataset, needs, purpose=purpose, indices=indices, seed=seed)}.npz"
    if all(gather(file.is_file())):  # machines may have caches of their own; then all compute together
        reference = read_reference(file)
        if is_main():
            log.info("reference from the cache: %s", file)
        # the file's own name and hash say nothing that its content does not
        return Reference(
            statistics=reference.statistics,
            identity={
                key: value for key, value in reference.identity.items() if key not in ("file", "sha256")
            },
            extractors=reference.extractors,
            hashes=reference.hashes,
        )
    reference = compute()
    if is_main():
        write_reference(file, reference)
        log.info("reference kept in the cache: %s", file)
    barrier()
    return reference


def cache_key(
    dataset: ReferenceData, needs: Needs, *, purpose: Purpose, indices: list[int], seed: int
) -> str:
    """A hash of everything that decides the reference."""
    chosen = selection(dataset, indices, seed=seed)
    chosen["fingerprint"] = content_of(dataset.source)
    transform = dataset.transform
    wanted = {
        "selection": chosen,
        "size": list(transform.size),
        "purpose": purpose,
        "extractors": {
            extractor.name: [
                {key: value for key, value in extractor.identity.items() if key != "weights"},
                {output: [keep.moments, keep.features] for output, keep in sorted(outputs.items())},
            ]
            for extractor, outputs in needs
        },
    }
    return sha256_of_text(json.dumps(wanted, sort_keys=True))
