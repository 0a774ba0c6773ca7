"""Writing of a cache of texts: each text through the text encoder, once.

The files are described in :mod:`unirae.data.text_cache`. Parts are named by the texts that they hold, written
atomically and shared out among the processes; an interrupted call, repeated, makes only those that are missing.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirae.core.arguments import argument
from unirae.core.differences import differences
from unirae.core.distributed import barrier, is_main, on_main, rank, world_size
from unirae.core.errors import ConfigError, DataError, NonFiniteError, UserError, WeightsError
from unirae.core.io import read_json, short_code, write_atomically, write_json
from unirae.core.log import get_logger
from unirae.data.text_cache import ABOUT, INDEX_SUFFIX, TextCache, hash_of
from unirae.evaluation.latents.writing import CacheDtype
from unirae.evaluation.passes.reading import Progress
from unirae.models.text.build import is_here, stamp_of
from unirae.models.text.encoder import TextEncoder
from unirae.models.text.identity import TextEncoderIdentity

log = get_logger(__name__)

_TEXTS_IN_PART = 4096
_AT_ONCE = 64
"""Texts that are encoded between two reports of progress."""


def open_text_cache(folder: str | Path, identity: TextEncoderIdentity, *, dtype: CacheDtype) -> TextCache:
    """The cache of a text encoder in a folder of caches; a new one is empty.

    Raises:
        ConfigError: If the folder holds something else.
        DataError: If what it holds is damaged.
    """
    key = {"text_encoder": identity.decisive(), "dtype": dtype}
    own = Path(folder) / f".texts-{short_code(key)}"
    if (own / ABOUT).is_file():
        there = _read_about(own / ABOUT)[0]
        if changed := differences({name: there.get(name) for name in key}, key):
            raise ConfigError(
                f"{own} holds texts of another text encoder ({', '.join(d.name for d in changed)}); choose another "
                f"folder for {argument('latent_cache')}"
            )
    return TextCache(own, width=identity.width)


def known_identity(
    folder: str | Path, *, name: str, max_length: int, layer: int | None, dtype: CacheDtype
) -> TextEncoderIdentity | None:
    """The identity of the text encoder that a cache was made by, without opening it; None where that is not certain.

    It is certain where the encoder's files are those that the cache was made from, by size and time. Where they are
    not here at all, the one cache of that name, length and layer is taken.

    Raises:
        WeightsError: If the encoder is not here, and several caches could be its.
        DataError: If the record of a cache is damaged.
    """
    asked, now = (name, max_length, layer), stamp_of(name)
    found = []
    for file in sorted(Path(folder).glob(f".texts-*/{ABOUT}")):
        about, identity = _read_about(file)
        if (identity.name, identity.max_length, identity.layer) == asked and about["dtype"] == dtype:
            found.append((identity, about["files"]))
    if now is not None:
        return next((identity for identity, files in found if files == now), None)
    if not found or is_here(name):
        return None
    if len(found) > 1:
        raise WeightsError(
            f"the text encoder {name} is not here, and {folder} holds the texts of {len(found)} of that name: remove "
            "those that are not meant"
        )
    log.info("the text encoder %s is not here: its tokens are taken from the cache in %s", name, folder)
    return found[0][0]


def ensure_texts(
    cache: TextCache,
    texts: Iterable[str],
    *,
    identity: TextEncoderIdentity,
    open_encoder: Callable[[], TextEncoder],
    dtype: CacheDtype,
    progress: Progress | None = None,
) -> None:
    """Encode those of the texts that the cache lacks; several processes share them.

    Args:
        open_encoder: gives the text encoder of ``identity`` on its device; called only if something is missing.

    Raises:
        DataError: If the disk is too small.
        NonFiniteError: If a token is NaN, or too large for 16 bits.
    """
    missing = on_main(lambda: cache.missing(texts))
    if is_main():
        _record(cache.folder, identity, dtype=dtype, needed=bool(missing))
    if not missing:
        barrier()
        cache.reload()  # another run may have written meanwhile what the first process has seen
        return
    parts = [missing[start : start + _TEXTS_IN_PART] for start in range(0, len(missing), _TEXTS_IN_PART)]
    own = parts[rank() :: world_size()]
    if is_main():
        log.info("text cache: encoding %d texts, into %s", len(missing), cache.folder)
    encoder, total, done = open_encoder() if own else None, sum(map(len, own)), 0
    for part in own:
        assert encoder is not None

        def report(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        _write_part(cache.folder, part, encoder, dtype=dtype, report=report)
    barrier()
    cache.reload()


def _read_about(file: Path) -> tuple[dict[str, Any], TextEncoderIdentity]:
    """What a cache says of itself, and the identity of its text encoder."""
    try:
        about = read_json(file)
        if not isinstance(about, dict) or not {"text_encoder", "dtype", "identity", "files"} <= about.keys():
            raise UserError(f"{file} is no record of a text cache")
        return about, TextEncoderIdentity.from_dict(about["identity"])
    except (UserError, TypeError) as error:
        raise DataError(
            f"{file} is damaged ({error}): remove it, and it is made again; the tokens beside it stay"
        ) from None


def _record(folder: Path, identity: TextEncoderIdentity, *, dtype: CacheDtype, needed: bool) -> None:
    """Write what the cache says of itself, also where its encoder was found elsewhere, or with other times.

    Args:
        needed: whether something will be written beside it; otherwise nobody may be allowed to write there.
    """
    about = {
        "text_encoder": identity.decisive(),
        "dtype": dtype,
        "identity": identity.to_dict(),
        "files": stamp_of(identity.name),
    }
    there = _read_about(folder / ABOUT)[0] if (folder / ABOUT).is_file() else None
    if there == about or (there is not None and about["files"] is None):
        return
    if needed:
        write_json(folder / ABOUT, about)
    elif folder.is_dir():
        with suppress(UserError):
            write_json(folder / ABOUT, about)


def _write_part(
    folder: Path,
    texts: Sequence[str],
    encoder: TextEncoder,
    *,
    dtype: CacheDtype,
    report: Callable[[int], None],
) -> None:
    """Encode and write one part: first the tokens, then the index that says they are whole."""
    kept: list[np.ndarray] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _AT_ONCE):
        some = texts[start : start + _AT_ONCE]
        tokens, mask = encoder.encode(some).text
        stored = tokens.to(getattr(torch, dtype)).cpu()
        for own, there, text in zip(stored, mask.cpu(), some, strict=True):
            if not own[there].isfinite().all():
                raise NonFiniteError(_not_finite(text))
            kept.append(own[there].numpy())
            lengths.append(int(there.sum()))
        report(len(some))
    table = np.zeros((len(texts), 4), dtype=np.uint64)
    table[:, :2] = [hash_of(text) for text in texts]
    table[:, 3] = lengths
    table[1:, 2] = np.cumsum(lengths)[:-1]
    name = hashlib.sha256(table[:, :2].tobytes()).hexdigest()[:16]
    joined: Any = np.concatenate(kept)
    folder.mkdir(parents=True, exist_ok=True)
    if joined.nbytes > (free := shutil.disk_usage(folder).free):
        raise DataError(
            f"the text cache in {folder} needs {joined.nbytes / 1e9:.3g} GB more, and {free / 1e9:.3g} GB are free. "
            f"Choose another disk for {argument('latent_cache')}, or {argument('latent_cache', None)}"
        )
    write_atomically(folder / f"{name}.npy", lambda file: np.save(file, joined))
    write_atomically(folder / f"{name}{INDEX_SUFFIX}", lambda file: np.save(file, table))


def _not_finite(text: str) -> str:
    return (
        f"a token of the text {text[:60]!r} is NaN, infinite or too large for 16 bits: set "
        f"{argument('latent_cache.dtype', 'float32')}, or another layer of the text encoder"
    )
