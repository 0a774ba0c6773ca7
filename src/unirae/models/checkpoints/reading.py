"""Reading what training wrote: files are found, read and checked; networks are built by ``opening``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import load_tensors
from unirae.models.checkpoints.model_folder import (
    WEIGHTS,
    broken_config,
    is_model_folder,
    part,
    read_model_folder,
)


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint file, given itself, a run's folder (its ``checkpoints/last.ckpt``) or an exported folder.

    Raises:
        WeightsError: there is none.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    last = path / "checkpoints/last.ckpt"
    if last.is_file():
        return last
    if is_model_folder(path):
        return path / WEIGHTS
    if broken := broken_config(path):
        raise WeightsError(broken)
    if path.is_dir():
        raise WeightsError(
            f"{path} holds neither checkpoints/last.ckpt nor an exported model (config.json of unirae and {WEIGHTS}): "
            "give a run's folder, an exported one, or a checkpoint file"
        )
    raise WeightsError(
        f"no checkpoint at {path}; give a .ckpt file, the folder of a run, or an exported folder"
    )


def read_checkpoint(path: str | Path, *, kind: str | tuple[str, ...]) -> dict[str, Any]:
    """A checkpoint's content, after checking that it is of the wanted kind (one of them, where several will do).

    Its ``"unirae"`` entry says what it is: kind, version, commit, step, config and the model's description.

    Raises:
        WeightsError: missing, damaged, from another program, or of another kind.
    """
    file = find_checkpoint(path)
    exported = file.name == WEIGHTS and is_model_folder(file.parent)
    if file.suffix == ".safetensors" and not exported:
        if file.name == WEIGHTS and (broken := broken_config(file.parent)):
            raise WeightsError(broken)
        raise WeightsError(
            f"{file} is no checkpoint of unirae: of its safetensors files, {WEIGHTS} lies beside a config.json"
        )
    content = read_model_folder(file.parent) if exported else load_tensors(file)
    about = content.get("unirae") if isinstance(content, dict) else None
    if not isinstance(about, dict) or "kind" not in about:
        raise WeightsError(f"{file} is not a checkpoint of unirae")
    kinds = (kind,) if isinstance(kind, str) else kind
    if about["kind"] not in kinds:
        wanted = " or ".join(map(repr, kinds))
        raise WeightsError(f"{file} is a checkpoint of kind {about['kind']!r}; a {wanted} one is needed here")
    return Content(content, file=file)


class Content(dict[str, Any]):
    """What :func:`read_checkpoint` gives: a dictionary that knows its file, so that later errors can name it."""

    def __init__(self, content: dict[str, Any], *, file: Path) -> None:
        super().__init__(content)
        self.file = file


@contextmanager
def naming_file(content: dict[str, Any]) -> Iterator[None]:
    """Within this context a network is built from ``content``: what does not fit is an error that names the file.

    The first errors are what constructors make of a description with other keys, types or sizes than they know.
    """
    try:
        yield
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if not isinstance(content, Content):
            raise
        raise WeightsError(
            f"{content.file}: its description of the model cannot be built ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]})"
        ) from error
    except (ConfigError, WeightsError) as error:
        if not isinstance(content, Content) or str(content.file) in str(error):
            raise
        raise type(error)(f"{content.file}: {error}") from None


def weights_of(content: dict[str, Any], name: str) -> dict[str, Tensor]:
    """The tensors of a network, or of one of its averages.

    Raises:
        WeightsError: they are not there; exported folders hold the average alone.
    """
    found = part(content["state_dict"], name)
    if not found:
        raise WeightsError(
            f"there are no weights named {name!r}: an exported folder holds the averaged ones alone"
        )
    return found
