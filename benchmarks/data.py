"""Images per second, from JPEG files to what a step takes: ours beside the usual way, and how many a loader delivers.

    python benchmarks/data.py            # measures, writes results/data.json
    python benchmarks/data.py --check    # compares with the committed results, writes nothing

The usual way is that of the official script: Pillow opens and converts, torchvision's transforms on Pillow images,
ToTensor. The files are cut from the photographs in the wheels of scikit-image and scikit-learn, and lie in the
page cache. Each side is one process with one thread, as a loader's worker is.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cases
from paced import Lap, Measured, Side, interleave

CROP_PX = 256
USUAL, EXACT, DECODE = "usual way", "ours, exact", "ours, decoding only"
FAST, REDUCED = "ours, default", "ours, fast_decode"
WORKERS = (0, 1, 2)
_BATCH, _LOADER_BATCHES = 32, 12


@dataclass(frozen=True)
class Pictures:
    """Files of one size.

    Attributes:
        name: of their folder.
        size: width and height in pixels.
        files: how many.
        unit: images of one turn.
    """

    name: str
    size: tuple[int, int]
    files: int
    unit: int

    @property
    def title(self) -> str:
        """For tables."""
        return "{}×{}".format(*self.size)


SMALL = Pictures("small", (500, 375), files=200, unit=100)
LARGE = Pictures("large", (2000, 1500), files=40, unit=10)
STAGES = {"stage1": "stage 1", "stage2": "stage 2"}


def main() -> None:
    """Measure, then write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed results; write nothing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), rounds=options.rounds)
    show(result)
    if not options.check:
        cases.write("data", result)
    elif worse := cases.regressions("data", result):
        sys.exit("\n".join(worse))


def measure(folder: Path, *, rounds: int, pictures: tuple[Pictures, ...] = (SMALL, LARGE)) -> dict[str, Any]:
    """The record, ready for JSON."""
    reading, ratios, about = {}, {}, {}
    for kind in pictures:
        files = write_pictures(folder / kind.name, kind)
        kilobytes = statistics.mean(file.stat().st_size for file in files) / 1e3
        about[kind.title] = {"files": len(files), "mean_kb": round(kilobytes)}
        for stage in STAGES:
            measured = interleave(sides(folder, kind, stage), rounds=rounds, warmup=1, count_flops=False)
            title = f"{kind.title}, {STAGES[stage]}"
            reading[title] = {name: described(one, kind.unit) for name, one in measured.items()}
            ratios |= {f"{title}, {name}": ratio for name, ratio in compared(measured).items()}
    return {
        "what": f"JPEG files to crops of {CROP_PX} px",
        "pictures": about,
        "reading": reading,
        "distance": distances(folder, pictures),
        "loader": loaders(folder / pictures[0].name, rounds=rounds),
        "ratios": ratios,
        "machine": cases.machine(),
        "versions": {**cases.versions(None), **{name: version(name) for name in ("pillow", "torchvision")}},
    }


def sides(folder: Path, kind: Pictures, stage: str) -> list[Side]:
    """One process each."""
    where = {"folder": str(folder / kind.name), "unit": kind.unit}
    return [
        Side(USUAL, "data:usual", {**where, "stage": stage}),
        Side(EXACT, "data:ours", {**where, "stage": stage, "fast": False, "fast_decode": False}),
        Side(FAST, "data:ours", {**where, "stage": stage, "fast": True, "fast_decode": False}),
        Side(REDUCED, "data:ours", {**where, "stage": stage, "fast": True, "fast_decode": True}),
        Side(DECODE, "data:decoding", where),
    ]


def loaders(folder: Path, *, rounds: int) -> dict[str, Any]:
    """Batches of stage 1 by none, one and two workers."""
    found = [
        Side(str(count), "data:loading", {"folder": str(folder), "num_workers": count}) for count in WORKERS
    ]
    measured = interleave(found, rounds=rounds, warmup=1, count_flops=False)
    return {name: described(one, _BATCH * _LOADER_BATCHES) for name, one in measured.items()}


def distances(folder: Path, pictures: tuple[Pictures, ...]) -> dict[str, Any]:
    """How far training crops are from exact ones: the lowest PSNR of an image, and the share of values that differ."""
    import torch

    ways = {FAST: (True, False), REDUCED: (True, True)}
    found = {}
    for kind in pictures:
        for stage, title in STAGES.items():
            where = str(folder / kind.name)
            exact = dataset(where, stage, fast=False, fast_decode=False)
            rows = {}
            for name, (fast, fast_decode) in ways.items():
                near = dataset(where, stage, fast=fast, fast_decode=fast_decode)
                off = torch.stack(
                    [exact[i]["image"].double() - near[i]["image"] for i in range(min(len(exact), kind.unit))]
                )
                mse = float(off.square().mean((1, 2, 3)).max())
                rows[name] = {
                    "lowest_psnr_db": round(10 * math.log10(255**2 / mse), 1) if mse else None,
                    "share_of_values": round(float((off != 0).double().mean()), 4),
                    "largest_levels": int(off.abs().max()),
                }
            found[f"{kind.title}, {title}"] = rows
    return found


def described(one: Measured, images: int) -> dict[str, Any]:
    """A side's seconds and speed."""
    return {
        "seconds": [round(value, 4) for value in one.seconds],
        "median": round(one.median, 4),
        "images_per_second": round(images / one.median, 1),
    }


def compared(measured: dict[str, Measured]) -> dict[str, Any]:
    """The usual way's time over ours, by round."""
    found = {}
    for name in measured.keys() - {USUAL, DECODE}:
        rounds = [a / b for a, b in zip(measured[USUAL].seconds, measured[name].seconds, strict=True)]
        found[name] = {
            "speed": round(statistics.median(rounds), 2),
            "lowest": round(min(rounds), 2),
            "highest": round(max(rounds), 2),
        }
    return dict(sorted(found.items()))


def show(result: dict[str, Any]) -> None:
    """A few lines on the terminal."""
    for title, found in {**result["reading"], "loader, by workers": result["loader"]}.items():
        print(title)
        for name, side in found.items():
            print(f"  {name:32s} {side['images_per_second']:8.1f} images/s")
    for name, ratio in result["ratios"].items():
        print(f"{name}: {ratio['speed']} ({ratio['lowest']} to {ratio['highest']})")


# ---------------------------------------------------------------- the files


def write_pictures(folder: Path, kind: Pictures) -> list[Path]:
    """Photographs of 500×375 px, cropped at random places; larger pictures are tiled with them."""
    import numpy as np
    from PIL import Image

    from unirae.data.photos import FILES, read_photo

    photos, chance = [read_photo(name) for name in FILES], np.random.default_rng(0)
    tile_w, tile_h = SMALL.size
    folder.mkdir(parents=True)
    files = [folder / f"{number:03d}.jpg" for number in range(kind.files)]
    for file in files:
        picture = Image.new("RGB", kind.size)
        for left in range(0, kind.size[0], tile_w):
            for top in range(0, kind.size[1], tile_h):
                photo = photos[chance.integers(len(photos))]
                scale = min(photo.width / tile_w, photo.height / tile_h) * chance.uniform(0.8, 1)
                width, height = int(scale * tile_w), int(scale * tile_h)
                x, y = chance.integers(photo.width - width + 1), chance.integers(photo.height - height + 1)
                part = photo.crop((x, y, x + width, y + height))
                picture.paste(part.resize((tile_w, tile_h), Image.Resampling.BICUBIC), (left, top))
        picture.save(file, quality=90)
    return files


# ---------------------------------------------------------------- the sides


def usual(lap: Lap, *, folder: str, unit: int, stage: str) -> None:
    """Pillow, torchvision's transforms on Pillow images, floats."""
    import torch
    from PIL import Image
    from torchvision import transforms

    torch.set_num_threads(1)
    crop = [
        transforms.Resize(CROP_PX * 3 // 2, transforms.InterpolationMode.BICUBIC),
        transforms.RandomCrop(CROP_PX),
    ]
    if stage == "stage2":
        crop = [transforms.Lambda(adm_crop), transforms.RandomHorizontalFlip()]
    transform = transforms.Compose([*crop, transforms.ToTensor()])

    def read(file: Path) -> None:
        with Image.open(file) as image:
            transform(image.convert("RGB"))

    turns(lap, [lambda file=file: read(file) for file in sorted(Path(folder).iterdir())], unit)


def adm_crop(image: Any) -> Any:
    """ADM's centre crop as its authors describe it: halve by box filter, bicubic, crop."""
    from PIL import Image

    while min(image.size) >= 2 * CROP_PX:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = CROP_PX / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - CROP_PX) // 2, (image.height - CROP_PX) // 2
    return image.crop((left, top, left + CROP_PX, top + CROP_PX))


def ours(lap: Lap, *, folder: str, unit: int, stage: str, fast: bool, fast_decode: bool) -> None:
    """The data set of a run."""
    import torch

    torch.set_num_threads(1)
    data = dataset(folder, stage, fast=fast, fast_decode=fast_decode)
    turns(lap, [lambda index=index: data[index] for index in range(len(data))], unit)


def decoding(lap: Lap, *, folder: str, unit: int) -> None:
    """Files to RGB alone."""
    from unirae.data.decode import read_rgb

    turns(lap, [lambda file=file: read_rgb(file) for file in sorted(Path(folder).iterdir())], unit)


def loading(lap: Lap, *, folder: str, num_workers: int) -> None:
    """Batches through a loader as training makes it; each turn is a pass of its own, so nothing is read ahead of it."""
    from torch.utils.data import DataLoader

    from unirae.data.sample_key import SampleKey

    data = dataset(folder, "stage1", fast=True, fast_decode=False)
    numbers = islice(cycle(range(len(data))), _BATCH * _LOADER_BATCHES)
    keys = [SampleKey(index, 0) for index in numbers]
    batches = [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)]
    loader = DataLoader(
        data, batch_sampler=batches, num_workers=num_workers, persistent_workers=num_workers > 0
    )
    while True:
        lap()
        for _ in loader:
            pass


def dataset(folder: str, stage: str, *, fast: bool, fast_decode: bool) -> Any:
    """Training images of a folder."""
    from unirae.data.dataset import ImageDataset
    from unirae.data.folder import FolderSource
    from unirae.data.transforms import AdmCropFlip, Stage1Transform

    transform = {"stage1": Stage1Transform, "stage2": AdmCropFlip}[stage](size=CROP_PX, fast=fast)
    source = FolderSource(split="train", data_dir=folder, val_fraction=0)
    return ImageDataset(source=source, transform=transform, fast_decode=fast_decode)


def turns(lap: Lap, work: list[Any], unit: int) -> None:
    """So many pieces of work a turn, round and round."""
    endless: Iterator[Any] = cycle(work)
    while True:
        lap()
        for one in islice(endless, unit):
            one()


if __name__ == "__main__":
    main()
