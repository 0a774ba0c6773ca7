"""Published reference moments of FDr6: a folder with one npz for each of its six spaces (RAEv2, section 9)."""

from collections.abc import Sequence
from pathlib import Path

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError
from unirae.core.io import state_sha256
from unirae.evaluation.references.reference_file import read_moments
from unirae.metrics.frechet_ratio import FDR6, SPACES, PublishedMoments, Space

DATA_SET = "nanovisionx/nanogen-evals-stats"
_SIZE_PX = [256, 256]


def published_moments(folder: str | Path, spaces: Sequence[Space] = SPACES) -> dict[str, PublishedMoments]:
    """The moments by the spaces' names; a file is called as it was published, or as its space: ``mae.npz``.

    Raises:
        ConfigError: If there is no such folder.
        DataError: If the moments of a space are not there, or cannot be read; the message names all that are missing.
    """
    folder = Path(folder).expanduser()
    given = argument("fdr_references", folder)
    if folder.is_file():
        raise ConfigError(
            f"{given} is a file; it takes the folder of the published moments. A file of make_reference.py is a "
            f"{argument('reference')}"
        )
    if not folder.is_dir():
        raise ConfigError(f"{given}: no such folder. {_remedy()}")
    found = {space.name: _files(folder, space) for space in spaces}
    if lacking := [space for space in spaces if not found[space.name]]:
        names = ", ".join(f"{space.name} ({space.statistics[0]}.npz)" for space in lacking)
        raise DataError(
            f"{given} lacks the moments of {names}, and there is no mean of {len(spaces) - len(lacking)}. {_remedy()}"
        )
    for name, files in found.items():
        if len(files) > 1:
            said = " and ".join(file.name for file in files)
            raise ConfigError(f"{given}: {said} are both moments of {name}; leave one")
    return {name: _read(files[0]) for name, files in found.items()}


def _files(folder: Path, space: Space) -> list[Path]:
    return [file for stem in (space.name, *space.statistics) if (file := folder / f"{stem}.npz").is_file()]


def _read(file: Path) -> PublishedMoments:
    moments = read_moments(file)
    tensors = {"mean": moments.mean, "covariance": moments.covariance}
    identity = {"file": file.name, "sha256": state_sha256(tensors), "size_px": _SIZE_PX}
    return PublishedMoments(moments=moments, identity=identity)


def _remedy() -> str:
    return (
        f"The six files of {FDR6} lie on the Hugging Face hub (`hf download {DATA_SET} --repo-type dataset "
        "--local-dir DIR`)"
    )
