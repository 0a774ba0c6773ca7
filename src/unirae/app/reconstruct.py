"""``python src/reconstruct.py --checkpoint C --images DIR|FILE…``: your images beside their copies."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.config.schema.kinds import Count, OutputFolder
from unirae.app.inputs.options import AutoencoderOptions, DeviceOptions
from unirae.app.shell.options import Switch, command
from unirae.core.errors import DataError
from unirae.core.log import get_logger
from unirae.core.names import count_of

if TYPE_CHECKING:
    from torch import Tensor

    from unirae.models.rae import RAE

log = get_logger(__name__)

_GRID_PAIRS = 32
"""Number of pairs on the overview."""


@dataclass(frozen=True, kw_only=True)
class Options(AutoencoderOptions, DeviceOptions):
    """Reconstruct images of any size and mode: centre-cropped as in evaluation, original left, result right.

    Writes OUTPUT_DIR/pairs/NAME.png for each image and OUTPUT_DIR/grid.png with 32 of them.
    Unreadable files are named and skipped.
    """

    images: tuple[Path, ...]
    """Image files, or folders (with their subfolders)."""
    output_dir: OutputFolder = Path("outputs/reconstructions")
    """The folder to write the pictures into."""
    use_ema: Switch = True
    """Use the averaged decoder; false takes the raw one."""
    batch_size: Count = 16
    """Images in a batch."""


def run(options: Options) -> list[Path]:
    """Reconstruct and write; returns the pairs' files.

    Raises:
        DataError: If there are no images, or none of them can be read.
    """
    from unirae.app.shell.devices import progress_bar
    from unirae.core.distributed import is_main
    from unirae.core.images import image_grid, save_png
    from unirae.models.checkpoints.opening import load_rae

    with options.computing() as device, progress_bar("reconstructing") as progress:
        if not is_main():  # one process is enough for a look
            return []
        files = list_images(options.images)
        rae = load_rae(options.checkpoint, ema=options.use_ema, encoder_weights=options.encoder_weights)
        rae.to(device)
        if (options.output_dir / "pairs").exists():
            log.warning(
                "%s holds pictures of an earlier call; those of the same names are replaced",
                options.output_dir,
            )
        written, overview = [], []
        shown = {
            number * len(files) // _GRID_PAIRS for number in range(_GRID_PAIRS)
        }  # of all folders, not the first
        progress(0, len(files))
        for names, originals in _batches(files, rae.output_size, options.batch_size):
            for name, pair in zip(names, _pairs(rae, originals), strict=True):
                picture = image_grid(pair, columns=2)
                written.append(save_png(options.output_dir / "pairs" / f"{name}.png", picture))
                if len(written) - 1 in shown:
                    overview.append(pair)
            progress(len(written), len(files))
        progress(len(files), len(files))  # with those that could not be read
        if not written:
            first = next(iter(files.values()))
            what = f"{first} could not"
            if len(files) > 1:
                what = f"none of {len(files)} files, {first} first, could"
            raise DataError(f"--images: {what} be read; the log names the reasons")
        save_png(options.output_dir / "grid.png", _overview(overview))
    log.info("%d of %s reconstructed: %s", len(written), count_of(len(files), "image"), options.output_dir)
    return written


main = command(Options, run)


def list_images(paths: Sequence[Path]) -> dict[str, Path]:
    """The image files that files and folders stand for, each under a name of its own without suffix.

    Raises:
        DataError: If a path does not exist, or there are no images at all.
    """
    from unirae.app.inputs.images import say_beside
    from unirae.data.listing import find_images

    found: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = find_images(path)
            say_beside(path, inside)
            found += [(name, path / name) for name in inside]
        elif path.is_file():
            found.append((path.name, path))
        else:
            raise DataError(f"no such file or folder: {path}")
    if not found:
        raise DataError(f"no images in {', '.join(map(str, paths))}")
    named: dict[str, Path] = {}
    for relative, file in found:
        stem = str(Path(relative).with_suffix(""))
        # x.png beside x.jpg, or the same name in two folders: the later one gets its suffix or a number
        candidates = itertools.chain([stem, relative], (f"{stem}-{n}" for n in itertools.count(2)))
        named[next(name for name in candidates if name not in named)] = file
    return named


def _batches(
    files: dict[str, Path], size: tuple[int, int], batch_size: int
) -> Iterator[tuple[list[str], "Tensor"]]:
    """Names and cropped uint8 images [b, 3, H, W], batch by batch, without the unreadable ones."""
    import torch

    from unirae.data.decode import BadImageError, read_rgb
    from unirae.data.transforms import AdmCenterCrop

    crop = AdmCenterCrop(size=size)
    names: list[str] = []
    images: list[Tensor] = []
    for name, file in files.items():
        try:
            images.append(crop(read_rgb(file)))
        except BadImageError as error:
            log.warning("skipped: %s", error)
            continue
        names.append(name)
        if len(names) == batch_size:
            yield names, torch.stack(images)
            names, images = [], []
    if names:
        yield names, torch.stack(images)


def _pairs(rae: "RAE", originals: "Tensor") -> "Tensor":
    """Pairs of each original and its reconstruction, uint8 [b, 2, 3, H, W]."""
    import torch

    from unirae.core.images import to_float, to_uint8

    with torch.no_grad():
        reconstructed = rae(to_float(originals).to(rae.encoder.mean.device))
    return torch.stack([originals, to_uint8(reconstructed).cpu()], dim=1)


def _overview(pairs: list["Tensor"]) -> "Tensor":
    import torch

    from unirae.core.images import image_grid

    return image_grid(torch.cat(pairs), columns=2 * max(1, min(4, len(pairs) // 2)))
