"""References that were computed once and are kept: a folder of npz files named by what is in them.

The name is a hash of the images' selection, their crop and size, the extractors' weights, what is kept of them, and
the versions of the file format and of this package; so nothing stale can be found, and a file may be deleted at any
time. A file that cannot be read is made again, and one that cannot be written is a warning.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unirae.core.cache import keep_in_cache
from unirae.core.distributed import gather, is_main
from unirae.core.errors import DataError
from unirae.core.io import sha256_of_text
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.data.source_content import content_of
from unirae.data.transforms import settings_of
from unirae.evaluation.passes.scoring import Needs
from unirae.evaluation.references.reference import Purpose, Reference, ReferenceData, selection
from unirae.evaluation.references.reference_file import FORMAT, read_reference, write_reference

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
    """Read the reference from ``folder``, or keep there the result of ``compute``.

    Args:
        folder: None keeps nothing.
        dataset, indices, seed: which images.
        needs: what is kept of them.
    """
    if folder is None or not needs:
        return compute()
    file = folder / f"{cache_key(dataset, needs, purpose=purpose, indices=indices, seed=seed)}.npz"
    kept = _kept(file)
    # machines may have caches of their own, and a damaged file in one of them; then all compute together
    if all(gather(kept is not None)) and kept is not None:
        if is_main():
            log.info("reference from the cache: %s", file)
        # The file's own name and hash say nothing that its content does not; and the images may have moved since.
        identity = {key: value for key, value in kept.identity.items() if key not in ("file", "sha256")}
        return replace(kept, identity={**identity, **selection(dataset, indices, seed=seed)})
    if is_main():
        log.info("no reference of these images, as they are now, is kept in %s: it is computed", folder)
    reference = compute()
    if any(gather(_changed(dataset))):
        log.warning("the reference is not kept: the images changed while it was computed")
        return reference
    if keep_in_cache(lambda: write_reference(file, reference), "the reference") and is_main():
        log.info("reference kept in the cache: %s", file)
    return reference


def _changed(dataset: ReferenceData) -> bool:
    """Say whether the images are others than when they were first looked at."""
    return content_of(dataset.source) != content_of(dataset.source, anew=True)


def _kept(file: Path) -> Reference | None:
    """Read the reference that was kept; None where there is no file, or one that cannot be read."""
    try:
        return read_reference(file) if file.is_file() else None
    except (DataError, zipfile.BadZipFile, OSError) as error:  # the last: a folder or file of another user
        log.warning("%s cannot be used and is made again (%s)", file, error)
        return None


def cache_key(
    dataset: ReferenceData, needs: Needs, *, purpose: Purpose, indices: list[int], seed: int
) -> str:
    """A hash of everything that decides the reference."""
    chosen = selection(dataset, indices, seed=seed)
    chosen["fingerprint"] = content_of(dataset.source)
    transform = dataset.transform
    wanted = {
        "versions": {"format": FORMAT, "unirae": __version__},
        "selection": chosen,
        "size": list(transform.size),
        "transform": settings_of(transform),
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
