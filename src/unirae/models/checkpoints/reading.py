"""Reading of checkpoints: files are found, read and checked; networks are built by ``opening``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import check_tensors, load_tensors, map_tensors
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
        WeightsError: If there is no checkpoint.
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


class Checkpoint:
    """A checkpoint of training, or an exported folder: opened once and handed on. ``about`` is there at once.

    Attributes:
        file: where it lies.
        about: what it says of itself: kind, version, commit, step, config and the model's description.
    """

    def __init__(self, file: Path, content: dict[str, Any], *, checked: bool = True) -> None:
        """Take the content of ``file``: ``unirae``, ``state_dict``, and of a run all that continues it.

        Args:
            checked: False where the bytes of the tensors are compared with their checksums when they are first used.
        """
        self.file, self._content, self._checked = file, content, checked
        self.about: dict[str, Any] = content["unirae"]

    @property
    def kind(self) -> str:
        """Stage of the checkpoint: "mae", "stage1", "stage2" or "linear_probe"."""
        return self.about["kind"]

    @property
    def step(self) -> int | None:
        """Number of updates of training; None where nobody wrote them down."""
        return self._content.get("global_step", self.about["step"])

    @property
    def config(self) -> dict[str, Any]:
        """Resolved configuration of the run that wrote the checkpoint."""
        return self.about["config"]

    def state_of(self, callback: str) -> dict[str, Any]:
        """State of a callback of the run that wrote the checkpoint; empty where it has none."""
        return self._content["callbacks"].get(callback, {})

    @property
    def content(self) -> dict[str, Any]:
        """The whole content, as it is written to a file.

        Raises:
            WeightsError: If the bytes of a tensor are not those that were written.
        """
        if not self._checked:
            check_tensors(self.file)
            self._checked = True
        return self._content

    def weights(self, name: str) -> dict[str, Tensor]:
        """The tensors of a network, or of one of its averages.

        Raises:
            WeightsError: If there are no such tensors, for exported folders hold the average alone; or if they
                are damaged.
        """
        found = part(self.content["state_dict"], name)
        if not found:
            raise WeightsError(
                f"there are no weights named {name!r}: an exported folder holds the averaged ones alone"
            )
        return found

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the file in every error that says what does not fit, while a network is built from it.

        The first errors are what constructors make of a description with other keys, types or sizes than they know.
        """
        try:
            yield
        except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{self.file}: its description of the model cannot be built ({type(error).__name__}: "
                f"{str(error).partition(chr(10))[0]})"
            ) from error
        except (ConfigError, WeightsError) as error:
            if str(self.file) in str(error):
                raise
            raise type(error)(f"{self.file}: {error}") from None


def open_checkpoint(path: str | Path, *, kind: str | tuple[str, ...], in_memory: bool = False) -> Checkpoint:
    """Open a checkpoint, and check that it is of the wanted kind (one of them, where several will do).

    Args:
        path: a file, the folder of a run, or an exported folder.
        in_memory: read all of it now, and check its bytes; else tensors stay in the file until they are used, and the
            file on the disk until they are forgotten.

    Raises:
        WeightsError: If the checkpoint is missing, damaged, from another program, or of another kind.
    """
    file = find_checkpoint(path)
    exported = file.name == WEIGHTS and is_model_folder(file.parent)
    if file.suffix == ".safetensors" and not exported:
        if file.name == WEIGHTS and (broken := broken_config(file.parent)):
            raise WeightsError(broken)
        raise WeightsError(
            f"{file} is no checkpoint of unirae: of its safetensors files, {WEIGHTS} lies beside a config.json"
        )
    read = load_tensors if in_memory else map_tensors
    content = read_model_folder(file.parent) if exported else read(file)
    about = content.get("unirae") if isinstance(content, dict) else None
    if not isinstance(about, dict) or "kind" not in about:
        raise WeightsError(f"{file} is not a checkpoint of unirae")
    kinds = (kind,) if isinstance(kind, str) else kind
    if about["kind"] not in kinds:
        wanted = " or ".join(map(repr, kinds))
        raise WeightsError(f"{file} is a checkpoint of kind {about['kind']!r}; a {wanted} one is needed here")
    return Checkpoint(file, content, checked=exported or in_memory)
