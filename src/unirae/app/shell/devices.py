"""The common parts of commands that use a checkpoint: device, processes, data, progress bar."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.errors import ConfigError
from unirae.core.log import get_logger

if TYPE_CHECKING:
    import torch

    from unirae.data.source import Split

log = get_logger(__name__)


def pick_device(name: str) -> "torch.device":
    """The device of that name. ``auto`` takes CUDA (this process's card), then Metal, then the CPU.

    Other names are torch's.

    Raises:
        ConfigError: If the name is unknown or the device is not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used here ({reason}); try auto or cpu") from None


@contextmanager
def process_group(device: "torch.device") -> Iterator[None]:
    """Join the processes that torchrun started; do nothing without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from unirae.core.distributed import join_group, leave_group

    join_group(device)
    try:
        yield
    finally:
        leave_group()


def choose_data(
    data: str | None,
    data_dir: Path | None,
    trained_on: dict[str, Any],
    *,
    split: "Split" = "val",
    labels: bool = True,
    verify_contents: bool = False,
) -> dict[str, Any]:
    """The resolved data configuration that ``--data`` and ``--data_dir`` mean.

    Args:
        data: None for the checkpoint's own, of a mix the source that is scored; the name of a file in
            ``configs/data``; or a folder or a tar, all of whose images are meant unless it has a validation folder or
            split.
        data_dir: the folder of the data, in place of the configured one.
        trained_on: the checkpoint's data configuration; data read without labels are also read so elsewhere.
        labels: False where nobody asks for the images' classes: images beside class folders are then taken, too.
        split: the wanted split; "train" leaves a folder without a validation part its usual one.
        verify_contents: recognise what is kept of the images by every byte of their files.

    Raises:
        ConfigError: If ``data`` is neither a known name, nor a folder or a tar.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from unirae.app.config.mixing import scored_config
    from unirae.app.config.targets import config_dir, data_names

    if data is None:
        own = OmegaConf.create({"data": scored_config(trained_on)})
    else:
        known = data_names()
        group = data if data in known else _group_of_folder(Path(data), known)
        with initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
            own = compose(f"data/{group}")
        if "labels" in own.data.source and not trained_on.get("labels", True):
            own.data.labels = False
        if group == "image_folder" and data not in known and not labels:
            own.data.labels = False
        if data not in known:
            data_dir = Path(data)
            if split == "val":
                own.data.source.val_fraction = 1.0
    if data_dir is not None:
        if "data_dir" not in own.data.source:
            raise ConfigError(
                f"--data_dir {data_dir}: this data ({own.data.source._target_}) is not read from a folder; "
                "choose it with --data"
            )
        own.data.data_dir = own.data.source.data_dir = str(data_dir)
    if verify_contents and "data_dir" in own.data.source:
        own.data.source.verify_contents = True
    return OmegaConf.to_container(own.data, resolve=True)  # type: ignore[return-value]


def _group_of_folder(folder: Path, known: list[str]) -> str:
    from unirae.data.tar_listing import holds_shards

    if holds_shards(folder):
        return "tar_shards"
    if not folder.is_dir():
        raise ConfigError(f"--data {folder}: neither a folder, a tar nor one of {', '.join(known)}")
    from unirae.data.hf import holds_parquet

    written_by_datasets = any((folder / name).exists() for name in ("dataset_dict.json", "dataset_info.json"))
    return "hf" if written_by_datasets or holds_parquet(folder) else "image_folder"


@contextmanager
def computing(device: "torch.device", *, num_threads: int | None) -> Iterator[None]:
    """The context that a command computes in: :func:`process_group`, :func:`fixed_threads`, :func:`fast_products`."""
    with process_group(device), fixed_threads(device, num_threads), fast_products(device):
        yield


@contextmanager
def fast_products(device: "torch.device") -> Iterator[None]:
    """Compute 32-bit products with the faster one of torch's libraries; the first process chooses for all."""
    import torch

    from unirae.core.distributed import on_main
    from unirae.core.hardware import fastest_float32_matmul, float32_matmul, keep_freed_memory

    if device.type == "cpu":
        keep_freed_memory()
    with float32_matmul():
        torch.set_float32_matmul_precision(on_main(lambda: fastest_float32_matmul(device.type)))
        yield


@contextmanager
def fixed_threads(device: "torch.device", number: int | None) -> Iterator[None]:
    """Compute with ``number`` CPU threads within the block, or one for each core (of a GPU's process its share).

    Kernels may add up in another order with another number of threads. So it must not depend on how many processes
    there are: torchrun would set one thread for several processes and leave a single one all cores.

    Raises:
        ConfigError: If ``number`` is less than one.
    """
    import torch

    if number is not None and number < 1:
        raise ConfigError(f"--num_threads {number} must be at least 1")
    before = torch.get_num_threads()
    # on a GPU the CPU still compares neighbours and moments; torchrun would leave each process one thread for it
    shared = 1 if device.type == "cpu" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(number or max(1, _cores() // shared))
    try:
        yield
    finally:
        torch.set_num_threads(before)


_MANY_IMAGES = 1000
_LINE_EVERY_S = 30.0
"""Seconds between two lines about work that no bar shows."""


def reader_processes(given: int | None, images: int) -> int:
    """Processes that read images: as given, or one for each core (at most four) where there are many images."""
    if given is not None:
        return given
    if images < _MANY_IMAGES:
        return 0  # starting them would take longer than they save
    return max(1, min(4, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def progress_bar(what: str, *, rate: str | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on stderr, as a function of (done, total); only the first process shows it.

    Where stderr is no terminal, a line in the log says every half minute, and at the end, how far the work is.

    Args:
        what: a name of the work.
        rate: a unit, such as ``images/s``, to show the speed in, since the bar appeared.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from unirae.core.distributed import is_main

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if rate is not None:
        columns.append(TextColumn("{task.fields[speed]}"))
    columns.append(TimeRemainingColumn())
    console = Console(stderr=True)
    in_lines = is_main() and not console.is_terminal
    with Progress(*columns, console=console, disable=in_lines or not is_main()) as bar:
        task = bar.add_task(what, total=None, speed="")
        start = told = time.perf_counter()

        bar.live.transient = True  # an error before anything is done leaves no empty bar

        def show(done: int, total: int) -> None:
            nonlocal told
            bar.live.transient = False
            now = time.perf_counter()
            speed = f"{done / max(now - start, 1e-9):.3g} {rate}"
            bar.update(task, completed=done, total=total, speed=speed)
            if in_lines and (now - told > _LINE_EVERY_S or 0 < total == done):
                told = now
                log.info("%s: %d of %d%s", what, done, total, "" if rate is None else f", {speed}")

        yield show
