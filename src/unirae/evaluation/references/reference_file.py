"""References as files: our own npz, and those of ADM, pytorch-fid, clean-fid and torch-fidelity.

Ours holds for each statistic ``<extractor>/<output>`` the arrays ``….mu``, ``….sigma`` and, where they were kept,
``….features``; ``image_hashes``; and ``about``, a JSON text with everything that identifies it. The moments of
Inception are there under the common names ``mu``, ``sigma`` (pooled) and ``mu_s``, ``sigma_s`` (spatial), too, so that
other tools read the file.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirae.core.errors import DataError, WeightsError
from unirae.core.io import file_sha256, load_tensors, write_atomically
from unirae.data.npz import stored_shape
from unirae.evaluation.references.reference import Reference
from unirae.metrics.extractors import POOLED
from unirae.metrics.inception import SPATIAL
from unirae.metrics.moments import Moments
from unirae.metrics.statistics import SetStatistics, statistics_key

_COMMON_NAMES = {POOLED: ("mu", "sigma"), SPATIAL: ("mu_s", "sigma_s")}
FORMAT = 1
"""Format of our own files; it changes when they are read in another way."""


def write_reference(path: str | Path, reference: Reference) -> Path:
    """Write the npz atomically; the same reference gives the same bytes."""
    path = Path(path)
    arrays: dict[str, Any] = {}
    for key, kept in reference.statistics.items():
        if kept.moments is not None:
            mean, covariance = kept.moments.mean.cpu().numpy(), kept.moments.covariance.cpu().numpy()
            arrays |= {f"{key}.mu": mean, f"{key}.sigma": covariance}
            extractor, output = key.split("/")
            if extractor == "inception" and output in _COMMON_NAMES:
                arrays |= dict(zip(_COMMON_NAMES[output], (mean, covariance), strict=True))
        if kept.features is not None:
            arrays[f"{key}.features"] = kept.features.numpy()
    if reference.hashes is not None:
        arrays["image_hashes"] = reference.hashes.numpy()
    about = {"format": FORMAT, "identity": reference.identity, "extractors": reference.extractors}
    arrays["about"] = np.array(json.dumps(about))
    return write_atomically(path, lambda file: np.savez(file, **arrays))


def read_reference(path: str | Path) -> Reference:
    """Read our own file, or npz of ADM, pytorch-fid or clean-fid with ``mu`` and ``sigma``, or pt of torch-fidelity.

    Raises:
        DataError: If there is no such file, or the file is no npz, or holds no such arrays, or not finite ones.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no such file: {path}; a reference is an npz with mu and sigma")
    if path.suffix in (".pt", ".pth"):
        return _from_torch(path)
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an npz file, or was not copied completely")
    with np.load(path, allow_pickle=False) as content:
        if "about" in content.files:
            return _ours(path, content)
        return _foreign(path, content)


def read_moments(path: Path) -> Moments:
    """The moments of any features in a published npz: ``mu`` and ``sigma``, or ``ref_mu`` and ``ref_sigma``.

    Raises:
        DataError: If the file is no npz, or holds no such arrays, or not finite ones.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an npz file, or was not copied completely")
    with np.load(path, allow_pickle=False) as content:
        for mean, covariance in (("mu", "sigma"), ("ref_mu", "ref_sigma")):
            if {mean, covariance} <= set(content.files):
                return _moments(path, content, mean, covariance, 0)
        raise DataError(
            f"{path} holds {', '.join(content.files) or 'nothing'}, but neither mu and sigma nor ref_mu and ref_sigma"
        )


def holds_statistics(path: str | Path) -> bool:
    """Say whether an npz holds a mean and a covariance, or is one of our references; False for other files."""
    names = _arrays(path)
    return {"mu.npy", "sigma.npy"} <= names or "about.npy" in names


def holds_images(path: str | Path) -> bool:
    """Say whether an npz holds images as ADM lays them out, ``arr_0``."""
    return "arr_0.npy" in _arrays(path)


def _arrays(path: str | Path) -> set[str]:
    """Names of the members of an npz; none of other files."""
    if not zipfile.is_zipfile(path):
        return set()
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def _ours(path: Path, content: Any) -> Reference:
    try:
        about = json.loads(str(content["about"]))
        identity, extractors, version = about["identity"], about["extractors"], about["format"]
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: its description cannot be read ({error}); make the reference again"
        ) from None
    if version != FORMAT:
        raise DataError(f"{path} has format {version}, this version reads {FORMAT}; make the reference again")
    keys = sorted({name.rsplit(".", 1)[0] for name in content.files if "/" in name})
    count = int(identity["count"])
    statistics = {}
    for key in keys:
        features = f"{key}.features"
        rows = torch.from_numpy(_array(path, content, features)) if features in content.files else None
        moments = (
            _moments(path, content, f"{key}.mu", f"{key}.sigma", count)
            if f"{key}.mu" in content.files
            else None
        )
        statistics[key] = SetStatistics(count=count, moments=moments, features=rows)
    hashes = (
        torch.from_numpy(_array(path, content, "image_hashes")) if "image_hashes" in content.files else None
    )
    identity = {**identity, "file": path.name, "sha256": file_sha256(path)}
    return Reference(statistics=statistics, identity=identity, extractors=extractors, hashes=hashes)


def _foreign(path: Path, content: Any) -> Reference:
    """A published file: the network behind it is taken to be the FID Inception, whatever its name here."""
    if not {"mu", "sigma"} <= set(content.files):
        images = " It seems to hold images, not their statistics." if "arr_0" in content.files else ""
        raise DataError(
            f"{path} holds {', '.join(content.files) or 'nothing'}, but no mu and sigma.{images} The ones to use: "
            "ADM's reference batches (VIRTUAL_imagenet256_labeled.npz), or statistics of pytorch-fid"
        )
    found = {POOLED: _moments(path, content, "mu", "sigma", 0)}
    if {"mu_s", "sigma_s"} <= set(content.files):
        found[SPATIAL] = _moments(path, content, "mu_s", "sigma_s", 0)
    size_px = list(stored_shape(path)[1:3]) if "arr_0" in content.files else None
    return _of_inception(path, found, size_px=size_px)


def _from_torch(path: Path) -> Reference:
    # arrays of numpy, whose reading makes arrays and nothing else
    array: Any = np.zeros(1)
    kinds: list[Any] = [type(np.dtype(name)) for name in ("float32", "float64")]
    try:
        with torch.serialization.safe_globals([array.__reduce__()[0], np.ndarray, np.dtype, *kinds]):
            content = load_tensors(path)
    except WeightsError as error:
        raise DataError(str(error)) from None
    if not isinstance(content, dict) or not {"mu", "sigma"} <= set(content):
        raise DataError(f"{path} holds no mu and sigma; torch-fidelity's cache calls them so")
    arrays = {key: np.asarray(content[key], dtype=np.float64) for key in ("mu", "sigma")}
    return _of_inception(path, {POOLED: _checked(path, arrays["mu"], arrays["sigma"], 0)})


def _of_inception(path: Path, found: dict[str, Moments], *, size_px: list[int] | None = None) -> Reference:
    identity = {
        "file": path.name,
        "sha256": file_sha256(path),
        "purpose": "unknown",
        "count": None,
        "size_px": size_px,
        "moments": "as the file states them",
    }
    statistics = {
        statistics_key(extractor, output): SetStatistics(count=0, moments=moments)
        for extractor in ("inception", "random_inception")
        for output, moments in found.items()
    }
    return Reference(statistics=statistics, identity=identity)


def _moments(path: Path, content: Any, mean: str, covariance: str, count: int) -> Moments:
    try:
        mu, sigma = (_array(path, content, key).astype(np.float64) for key in (mean, covariance))
    except ValueError as error:
        raise DataError(f"{path}: mu or sigma cannot be read ({error})") from None
    return _checked(path, mu, sigma, count)


def _checked(path: Path, mean: np.ndarray, covariance: np.ndarray, count: int) -> Moments:
    width = len(mean)
    if mean.ndim != 1 or covariance.shape != (width, width):
        raise DataError(
            f"{path}: mu of shape {mean.shape} and sigma of shape {covariance.shape} are not a mean and its covariance"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{path}: mu or sigma holds values that are not finite")
    return Moments(count=count, mean=torch.from_numpy(mean), covariance=torch.from_numpy(covariance))


def _array(path: Path, content: Any, name: str) -> np.ndarray:
    try:
        return content[name]
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{path}: {name} cannot be read ({error})") from None
