"""Safe reading and writing: nothing half-written, nothing executed, every failure explained."""

import hashlib
import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from unirae.core.errors import UserError, WeightsError, causes
from unirae.core.stopping import unfinished


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Call ``write(file)`` on a temporary neighbour of ``path``, flush it to disk, then rename it into place.

    A reader sees the old file or the whole new one. If anything fails (a full disk, an interrupt) the
    temporary file is removed and ``path`` is untouched.

    Raises:
        UserError: If the operating system refuses; the message names the file and the reason.
    """
    path = Path(path)
    with _temporary_for(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    return path


@contextmanager
def _temporary_for(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path``, of which nothing stays; explains what the operating system refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.add(temporary)
    try:
        yield temporary
    except (OSError, RuntimeError) as error:
        # torch's writer answers a full disk with a RuntimeError of its own
        refusal = next((cause for cause in causes(error) if isinstance(cause, OSError)), None)
        if refusal is None:
            raise
        raise UserError(
            f"cannot write {path}: {refusal.strerror or refusal}. Free some space or choose another folder; "
            "nothing was left half-written."
        ) from error
    finally:
        with suppress(OSError):  # its folder may be what could not be made
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink(missing_ok=True)
        unfinished.discard(temporary)


def write_json(path: str | Path, content: Any) -> Path:
    """Write readable JSON atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # bytes of a file's name that are not UTF-8 are lone surrogates: escaped they are JSON, and read as they were
    return write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: If the file is missing or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON (line {error.lineno}: {error.msg})") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise UserError(f"{path} is not a JSON file") from None


def save_tensors(path: str | Path, content: dict[str, Any]) -> Path:
    """Save a dictionary of tensors and plain values by ``torch.save``, atomically."""
    plain = dict(content)  # of a dictionary's subclass it would write the class, which no reader accepts
    return write_atomically(path, lambda file: torch.save(plain, file))


def load_tensors(path: str | Path) -> dict[str, Any]:
    """Read a ``torch.save`` file onto the CPU; only tensors and plain values, never code.

    Raises:
        WeightsError: If the file is missing, unreadable, truncated, not a torch file, or a pickle that wants to
            run code; or if a checksum does not match.
    """
    path = Path(path)
    with _open_weights(path) as file:
        _check_entries(path, file)
        return _load(path, file)


def map_tensors(path: str | Path) -> dict[str, Any]:
    """Open a ``torch.save`` file: plain values are there at once, bytes of tensors are read when they are used.

    The file stays on the disk, also where it is deleted or replaced, until its last tensor is forgotten; and nobody has
    looked yet whether its bytes are whole: :func:`check_tensors`.

    Raises:
        WeightsError: If the file is missing, unreadable, truncated, not a torch file, or a pickle that wants to
            run code.
    """
    path = Path(path)
    with _open_weights(path) as file:
        if not _is_zip(file):
            return load_tensors(path)  # torch's older format cannot be mapped
    return _load(path, path, mmap=True)


def check_tensors(path: str | Path) -> None:
    """Read a ``torch.save`` file once and compare its checksums.

    Raises:
        WeightsError: If a checksum does not match its bytes.
    """
    path = Path(path)
    with _open_weights(path) as file:
        _check_entries(path, file)


def _open_weights(path: Path) -> IO[bytes]:
    """Open a file of weights, or say in one line why it cannot be read."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise WeightsError(f"{path} is a folder; a file of weights is needed here") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None


def _load(path: Path, source: Path | IO[bytes], *, mmap: bool = False) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on strange bytes; what counts is below
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # whatever damaged bytes bring about in the reader
        raise _unreadable(path, error) from None


def _check_entries(path: Path, file: IO[bytes]) -> None:
    """Refuse a torch file (a zip) with an entry whose bytes do not have its CRC-32; torch itself does not look.

    It takes 0.1 s for 300 MB, half of what loading them takes. A file written with
    ``torch.serialization.set_crc32_options(False)`` has no checksums, 0 everywhere, and the older format has none.
    """
    if not _is_zip(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            has_checksums = any(entry.CRC for entry in archive.infolist())
            damaged = archive.testzip() if has_checksums else None
    except Exception as error:
        raise _unreadable(path, error) from None
    if damaged is not None:
        raise WeightsError(
            f"{path} is damaged: the checksum of {damaged} in it does not match its bytes. Copy it again, or use "
            "another checkpoint."
        )
    file.seek(0)


def _is_zip(file: IO[bytes]) -> bool:
    found = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    return found


def _unreadable(path: Path, error: Exception) -> WeightsError:
    code = re.search(r"(?i)unsupported global:? (?:global )?([\w.]+)", str(error))
    if code:
        return WeightsError(
            f"{path} holds more than tensors and plain values ({code[1]}) and was refused, because "
            "loading it could run code. Re-save its state_dict from a source that you trust."
        )
    return WeightsError(
        f"{path} is truncated or not a torch file ({type(error).__name__}). Copy it again, or use another checkpoint."
    )


def load_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        WeightsError: If the file is missing, unreadable, truncated, or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    _open_weights(path).close()
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is truncated or no safetensors file ({error}). Copy it again, or use another one."
        ) from None


def save_safetensors(
    path: Path, tensors: dict[str, Tensor], *, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors to a new file, in place: for files of a folder that appears as a whole.

    Raises:
        OSError: If the operating system refuses. safetensors says so in an error of its own, which
            :func:`write_folder` would not explain.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode  # safetensors would let nobody else read it
    # safetensors refuses tensors that share memory, such as the parts of a packed projection
    separate = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(separate, path, metadata=metadata)
    except SafetensorError as error:
        code = re.search(r"(?:os error|Os { code:) (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    path.chmod(mode)


def check_new_folder(folder: str | Path) -> None:
    """Refuse a folder that is there already, before anything long begins; an empty one will do.

    Raises:
        UserError: If the folder exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists already; name a new folder, or remove that one first")


def write_folder(folder: str | Path, fill: Callable[[Path], Any]) -> Path:
    """Call ``fill(temporary)`` on a new neighbour of ``folder``, then rename that: all files appear, or none.

    Raises:
        UserError: If ``folder`` exists and is not empty, or the operating system refuses.
    """
    folder = Path(folder)
    check_new_folder(folder)
    with _temporary_for(folder) as temporary:
        temporary.mkdir(parents=True)
        fill(temporary)
        os.replace(temporary, folder)  # POSIX renames onto an empty folder
    return folder


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def short_code(record: Any) -> str:
    """Short code of plain values: eight hexadecimal digits of their hash, for names of files that they decide."""
    return sha256_of_text(json.dumps(record, sort_keys=True))[:8]


def state_sha256(state: dict[str, Tensor]) -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def module_sha256(module: torch.nn.Module) -> str:
    """:func:`state_sha256` of a network's tensors; empty on the meta device, where there are none."""
    state = module.state_dict()
    return "" if any(tensor.is_meta for tensor in state.values()) else state_sha256(state)
