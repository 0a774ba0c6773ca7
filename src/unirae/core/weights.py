"""Search for pretrained weights: a path that the user gives, a folder of weights that was carried here, or a hub.

The folder is ``weights_dir`` of a run, or ``UNIRAE_WEIGHTS_DIR`` for every command. While it is set, ``"hub"`` means
that folder and nothing else: a run without a network then stops at the first missing file and says which one, and a
run with one never downloads behind the user's back. ``python src/fetch_weights.py`` fills it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

from unirae.core.arguments import argument
from unirae.core.download import download, hash_in_name, why_silent
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.log import get_logger

log = get_logger(__name__)

VARIABLE = "UNIRAE_WEIGHTS_DIR"
_YES = ("1", "true", "yes", "on")
_experiment: ContextVar[str | None] = ContextVar("experiment", default=None)


def weights_dir() -> Path | None:
    """The folder that ``"hub"`` stands for; None means torch's and Hugging Face's own caches and the network.

    Raises:
        ConfigError: If there is no such folder.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"weights_dir={folder} ({VARIABLE}): no such folder. Fill it with `{command(folder)}`"
        )
    return folder


@contextmanager
def weights_of_run(folder: str | Path | None, *, experiment: str) -> Iterator[None]:
    """Within this context ``"hub"`` means ``folder``; None leaves it to the environment, whose variable this sets.

    A variable rather than a global, so that the processes that a run starts see it, too.
    """
    before, token = os.environ.get(VARIABLE), _experiment.set(experiment)
    try:
        if folder is not None:
            os.environ[VARIABLE] = str(Path(folder).expanduser().resolve())
        weights_dir()
        yield
    finally:
        _experiment.reset(token)
        if before is not None:
            os.environ[VARIABLE] = before
        else:
            os.environ.pop(VARIABLE, None)


def may_ask_network() -> bool:
    """Say whether downloads are allowed, by ``HF_HUB_OFFLINE`` (or transformers' older name for it)."""
    variables = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return not any(os.environ.get(variable, "").lower() in _YES for variable in variables)


def command(folder: str | Path = "DIR", *, experiment: str | None = None) -> str:
    """The command line that fetches the weights of an experiment, by default this run's.

    Outside of a run, where an evaluation may be what lacks them, it fetches what evaluations load, too.
    """
    if name := experiment or _experiment.get():
        return f"python src/fetch_weights.py --experiment {name} --to {folder}"
    return f"python src/fetch_weights.py --experiment NAME --to {folder} --evaluation true"


def folder_name(repository: str) -> str:
    """Folder of a hub's ``owner/name`` in the weights folder: ``owner--name``."""
    return repository.replace("/", "--")


def carried_folder(repository: str) -> Path | None:
    """The folder of a hub's model in the weights folder; None where no weights folder is set.

    Raises:
        WeightsError: If a weights folder is set and lacks this model.
    """
    carried = weights_dir()
    if carried is None:
        return None
    folder = carried / folder_name(repository)
    if not (folder / "config.json").is_file():
        raise WeightsError(
            _not_carried(f"the model {repository}", folder, f"{repository} on the Hugging Face hub")
        )
    return folder


def find_weights(weights: str | Path, *, url: str, file_name: str, what: str, option: str) -> Path:
    """The local file for ``weights``: a path as it is, or ``"hub"`` for the carried, cached or downloaded file.

    ``"random"`` is the caller's business, so that no model becomes random by accident.

    Args:
        weights: ``"hub"`` or a file.
        url: where ``"hub"`` downloads from.
        file_name: the file's name in the cache and in the weights folder.
        what: what the weights are, for messages.
        option: the argument that says so, for messages.

    Raises:
        WeightsError: If the file is missing, or cannot be downloaded.
    """
    if str(weights) == "hub":
        carried = weights_dir()
        if carried is None:
            return _cached_download(url, file_name, what, option)
        if not (carried / file_name).is_file():
            raise WeightsError(_not_carried(what, carried / file_name, url))
        return carried / file_name
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"{what}: no such file {path}. Download it from {url} and set {argument(option)} to its path "
            f"({argument(option, 'random')} runs without, for smoke tests only)."
        )
    return path


def _not_carried(what: str, path: Path, source: str) -> str:
    return (
        f"{what}: there is no {path}, and with weights_dir ({VARIABLE}) set nothing is downloaded. Where there is a "
        f"network, `{command(path.parent)}` fetches it from {source}"
    )


def _cached_download(url: str, file_name: str, what: str, option: str) -> Path:
    import torch.hub

    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if path.is_file():
        return path
    try:
        if not may_ask_network() and urlsplit(url).scheme != "file":
            raise WeightsError(f"HF_HUB_OFFLINE forbids to download {url}")
        if silent := why_silent(url):
            raise WeightsError(f"{url} does not answer ({silent})")
        log.info("downloading %s from %s to %s", what, url, path)
        download(url, path, sha256=hash_in_name(file_name))
    except WeightsError as error:
        raise WeightsError(
            f"{what}: there is no {path}, and {error}. Put the file at {path}, or set {argument(option)} to its path "
            f"({argument(option, 'random')} runs without, for smoke tests only); `{command()}` fetches all that a run "
            "needs."
        ) from None
    return path
