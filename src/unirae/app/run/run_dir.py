"""A run's folder: its place, its contents, and its discovery by later commands."""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError, UserError
from unirae.core.file_lock import locked
from unirae.core.io import write_atomically
from unirae.core.log import get_logger

log = get_logger(__name__)

RUNS = Path("logs/train/runs")
"""The default folder of runs, each in a folder named by its time."""

_LAST = Path("checkpoints/last.ckpt")


def newest_run(experiment: str, runs: Path = RUNS) -> Path:
    """The newest run of an experiment that has a checkpoint.

    Raises:
        ConfigError: If the experiment has no run with a checkpoint.
    """
    for run in sorted(runs.glob("*"), reverse=True):
        name = run / "experiment"
        if (run / _LAST).is_file() and name.is_file() and name.read_text().strip() == experiment:
            return run
    raise ConfigError(
        f"ckpt_path=last: no run of experiment={experiment} with a checkpoint under {runs}; give its folder with "
        "paths.output_dir=DIR, or a file with ckpt_path=FILE"
    )


def resolve_resume(
    ckpt_path: str | None, *, output_dir: Path, output_dir_given: bool, experiment: str
) -> tuple[Path | None, Path]:
    """Resolve ``ckpt_path`` to (checkpoint to continue from or None, the folder to write to).

    ``last`` is ``checkpoints/last.ckpt`` of the given output folder, and without one that of the newest run of
    this experiment, which the run then continues in place.

    Raises:
        ConfigError: If the checkpoint does not exist, or if a new run would write over another run.
    """
    if ckpt_path is None:
        _refuse_to_overwrite(output_dir)
        return None, output_dir
    if ckpt_path == "last":
        folder = output_dir if output_dir_given else newest_run(experiment)
        checkpoint = folder / _LAST
        if not checkpoint.is_file():
            raise ConfigError(f"ckpt_path=last: there is no {checkpoint}; start the run without ckpt_path")
        return checkpoint, folder
    checkpoint = Path(ckpt_path)
    if not checkpoint.is_file():
        raise ConfigError(f"ckpt_path={ckpt_path}: no such file")
    if checkpoint.resolve().parent != (output_dir / _LAST).resolve().parent:
        _refuse_to_overwrite(output_dir)
    return checkpoint, output_dir


def is_named_by_time(folder: Path) -> bool:
    """True where the default named a run's folder, by its time."""
    return re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d|\d+", folder.name) is not None


def names_beside(folder: Path) -> Iterator[Path]:
    """Candidates for a run's folder: the folder itself, then ``NAME-2``, ``NAME-3``, …"""
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))


def check_place(folder: Path) -> None:
    """Refuse a place where no folder can be made, before anything is.

    Raises:
        ConfigError: If a file stands at the place, or if nobody may write there.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"paths.output_dir={folder}: {there} is a file; choose a folder for the run")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"paths.output_dir={folder}: {there} cannot be written to; choose another folder")


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Hold a run's folder, which is made if need be, until the block is over or this process ends, however it ends.

    Raises:
        BusyError: If another process holds the folder; the message names that process.
        UserError: If the folder cannot be made or written to.
    """
    busy = f"{folder} is in use by HOLDER: wait for it or stop it, or choose another folder"
    with locked(folder / ".lock", busy=busy):
        yield


@contextmanager
def without_trace(folder: Path, *, begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold a run's folder (:func:`taken`); a run that is refused before its first step leaves no new one behind.

    Args:
        begun: says whether a step was made.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with taken(folder), _removed_if_refused(folder, new, begun):
        yield


_OF_THE_START = {"train.log", ".lock", "config.yaml", "experiment", "csv", "tensorboard"}
"""Names that a run writes before its first step."""


@contextmanager
def _removed_if_refused(folder: Path, new: list[Path], begun: Callable[[], bool]) -> Iterator[None]:
    try:
        yield
    except (UserError, OSError):
        with suppress(OSError):  # another run may use the same parents, or have removed them
            if folder in new and not begun() and {file.name for file in folder.iterdir()} <= _OF_THE_START:
                shutil.rmtree(folder)
                for parent in new[1:]:
                    parent.rmdir()  # refused where something else is in it
        raise


def prepare_folder(folder: Path, *, is_new: bool) -> None:
    """Make sure that a folder which this process holds is free for a new run, and clear what a killed run left in it.

    Raises:
        ConfigError: If a new run would write over another run.
    """
    if is_new:
        _refuse_to_overwrite(folder)
    for leftover in (*folder.glob(".*.[0-9]*.tmp"), *folder.glob("*/.*.[0-9]*.tmp")):
        leftover.unlink(missing_ok=True)


def _refuse_to_overwrite(folder: Path) -> None:
    if (folder / _LAST).is_file():
        raise ConfigError(
            f"{folder} holds a run: go on with it by ckpt_path=last, or begin another one elsewhere, by "
            "paths.output_dir=DIR, or after deleting that folder"
        )


def write_run_files(output_dir: Path, *, config: dict[str, Any], experiment: str) -> None:
    """Write the resolved configuration and the experiment's name."""
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create(config))
    write_atomically(output_dir / "config.yaml", lambda file: file.write(text.encode()))
    write_atomically(output_dir / "experiment", lambda file: file.write(f"{experiment}\n".encode()))


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, with ``+changes`` if it is dirty; None elsewhere."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")
