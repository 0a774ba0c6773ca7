"""Where pretrained weight files are found: a path that the user gives, or the download cache of torch.hub."""

from pathlib import Path

from unirae.core.errors import WeightsError
from unirae.core.log import get_logger

log = get_logger(__name__)


def find_weights(weights: str | Path, *, url: str, file_name: str, what: str, option: str) -> Path:
    """The local file for ``weights``: a path as it is, or ``"hub"`` for the cached or downloaded file.

    ``"random"`` is the caller's business, so that no model becomes random by accident.

    Args:
        weights: ``"hub"`` or a file.
        url: where ``"hub"`` downloads from.
        file_name: the file's name in the cache.
        what: what the weights are, for messages.
        option: the configuration key that the user can set, for messages.

    Raises:
        WeightsError: the file is missing, or cannot be downloaded.
    """
    if str(weights) == "hub":
        return _cached_download(url, file_name, what, option)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"{what}: no such file {path}. Download it from {url} and set {option} to its path "
            f"({option}=random runs without, for smoke tests only)."
        )
    return path


def _cached_download(url: str, file_name: str, what: str, option: str) -> Path:
    import torch.hub

    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if path.is_file():
        return path
    log.info("downloading %s from %s to %s", what, url, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))  # to a temporary neighbour, then renamed
    except (OSError, RuntimeError) as error:  # no network, HTTP status, full disk
        reason = str(error).strip() or type(error).__name__
        raise WeightsError(
            f"{what}: cannot download {url} ({reason}). Put the file at {path}, or set {option} to its path "
            f"({option}=random runs without, for smoke tests only)."
        ) from None
    return path
