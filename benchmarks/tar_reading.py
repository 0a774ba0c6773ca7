"""Images per second out of tar shards in random order: ours beside the webdataset package.

    pip install webdataset
    python benchmarks/tar_reading.py            # measures, writes results/tar_reading.json
    python benchmarks/tar_reading.py --check    # compares with the committed results, writes nothing

Ours reads by number, in the order of training: a permutation of all pictures. webdataset streams: it shuffles the
shards, and in a buffer the samples of the shards that it reads, as its documentation has it. Both read the same shards,
which lie in the page cache, through torch's loader; where pictures are cropped, with their labels, it is by the same
transform, and else members that are no pictures are passed over. The pictures are photographs of 500×375 px, as in
data.py.
"""

import argparse
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import cases
from paced import Lap, Measured, Side, interleave

import data

OURS, THEIRS = "ours", "webdataset"
WORKS = {
    "bytes": "undecoded, one process",
    "decoded": "decoded, one process",
    "crops": "decoded and cropped to 256 px, two workers",
}
SHARDS, SHARD_IMAGES = 10, 400
BATCHES = {"bytes": 100, "decoded": 12, "crops": 12}
"""Of a turn."""
_BATCH, _BUFFER, _WORKERS = 32, 1000, {"bytes": 0, "decoded": 0, "crops": 2}


def main() -> None:
    """Measure, then write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed results; write nothing"
    )
    options = parser.parse_args()
    if find_spec("webdataset") is None:
        parser.error("the package to compare with is not here: pip install webdataset")
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), rounds=options.rounds)
    show(result)
    if not options.check:
        cases.write("tar_reading", result)
    elif worse := cases.regressions("tar_reading", result):
        sys.exit("\n".join(worse))


def measure(
    folder: Path,
    *,
    rounds: int,
    pictures: data.Pictures = data.SMALL,
    sides: tuple[str, ...] = (OURS, THEIRS),
) -> dict[str, Any]:
    """The record, ready for JSON."""
    load = os.getloadavg()[0]
    written = write_shards(folder / "shards", data.write_pictures(folder / "pictures", pictures))
    reading, ratios = {}, {}
    for work, title in WORKS.items():
        functions = {OURS: "tar_reading:ours", THEIRS: "tar_reading:theirs"}
        where = {"folder": str(folder / "shards"), "work": work}
        found = interleave(
            [Side(name, functions[name], where) for name in sides], rounds=rounds, warmup=1, count_flops=False
        )
        reading[title] = {name: described(one, _BATCH * BATCHES[work]) for name, one in found.items()}
        if THEIRS in found:
            ratios[title] = compared(found)
    return {
        "what": "JPEG pictures out of tar shards, in random order",
        "pictures": written,
        "reading": reading,
        "indexing_seconds": round(indexing(folder / "shards"), 3),
        "ratios": ratios,
        "load_before": round(load, 2),
        "machine": cases.machine(),
        "versions": {
            **cases.versions(None),
            "pillow": version("pillow"),
            "webdataset": version("webdataset") if THEIRS in sides else None,
        },
    }


def write_shards(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Shards of samples with captions and labels; pictures come round again, in another shard."""
    folder.mkdir(parents=True)
    contents = [file.read_bytes() for file in files]
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(shard * SHARD_IMAGES, (shard + 1) * SHARD_IMAGES):
                members = {
                    "jpg": contents[number % len(contents)],
                    "txt": f"photograph number {number}".encode(),
                    "cls": str(number % 10).encode(),
                }
                for kind, content in members.items():
                    about = tarfile.TarInfo(f"{number:09d}.{kind}")
                    about.size = len(content)
                    tar.addfile(about, io.BytesIO(content))
    size = statistics.mean(map(len, contents))
    return {"shards": SHARDS, "of_each": SHARD_IMAGES, "mean_kb": round(size / 1e3)}


def described(one: Measured, images: int) -> dict[str, Any]:
    """A side's seconds, speed and memory; the memory of workers is not in it."""
    peak = {} if one.peak_bytes is None else {"peak_mb": round(one.peak_bytes / 1e6)}
    return {**data.described(one, images), **peak}


def compared(found: dict[str, Measured]) -> dict[str, Any]:
    """Their time over ours, by round."""
    rounds = [a / b for a, b in zip(found[THEIRS].seconds, found[OURS].seconds, strict=True)]
    return {
        "speed": round(statistics.median(rounds), 2),
        "lowest": round(min(rounds), 2),
        "highest": round(max(rounds), 2),
    }


def show(result: dict[str, Any]) -> None:
    """A few lines on the terminal."""
    for title, found in result["reading"].items():
        print(title)
        for name, side in found.items():
            print(f"  {name:12s} {side['images_per_second']:8.1f} images/s")
    for name, ratio in result["ratios"].items():
        print(f"{name}: {ratio['speed']} ({ratio['lowest']} to {ratio['highest']})")
    print(f"load before: {result['load_before']}")


# ---------------------------------------------------------------- the sides


def indexing(folder: Path) -> float:
    """Seconds of indexing all shards, which happens once."""
    from unirae.data.tar_index import FOLDER, Shard, open_indexes

    for index in (folder / FOLDER).glob("*"):
        index.unlink()
    shards = [Shard(path.name, path) for path in sorted(folder.glob("*.tar"))]
    start = time.perf_counter()
    open_indexes(shards, columns=None, where="the benchmark's")
    return time.perf_counter() - start


def ours(lap: Lap, *, folder: str, work: str) -> None:
    """By number, in the order of training."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from unirae.data.dataset import ImageDataset
    from unirae.data.order import EndlessBatches
    from unirae.data.tar_shards import TarShardsSource

    torch.set_num_threads(1)
    source = TarShardsSource(split="train", data_dir=folder, val_fraction=0)

    class Plain(Dataset[Any]):
        """Bytes or pictures."""

        def __getitem__(self, key: Any) -> Any:
            return source.encoded(key.index) if work == "bytes" else source[key.index].image

    crops = ImageDataset(source=source, transform=transform()) if work == "crops" else None
    loader = DataLoader(
        crops or Plain(),
        batch_sampler=EndlessBatches(count=len(source), batch_size=_BATCH, seed=0),
        **workers(work),
        collate_fn=None if crops else list,
    )
    turns(lap, iter(loader), BATCHES[work])


def theirs(lap: Lap, *, folder: str, work: str) -> None:
    """As a stream: shards in random order, samples shuffled in a buffer."""
    import torch
    from torch.utils.data import DataLoader

    wds = import_module("webdataset")  # which type checkers need not find
    torch.set_num_threads(1)
    files = sorted(str(path) for path in Path(folder).glob("*.tar"))
    whole = work == "crops"
    chosen = None if whole else lambda name: name.endswith(".jpg")
    stream = wds.WebDataset(files, shardshuffle=len(files), seed=0, select_files=chosen)
    stream = stream.repeat().shuffle(_BUFFER)
    if work != "bytes":
        stream = stream.decode("pil")
    stream = stream.map(cropped()).batched(_BATCH) if whole else stream.to_tuple("jpg").listed(_BATCH)
    turns(lap, iter(DataLoader(stream, batch_size=None, **workers(work))), BATCHES[work])


def workers(work: str) -> dict[str, Any]:
    """The workers of a loader, forked as a run's are; a side would start them otherwise, since it was started so."""
    count = _WORKERS[work]
    return {"num_workers": count, "multiprocessing_context": "fork" if count else None}


def transform() -> Any:
    """The crop of stage 2, as training has it."""
    from unirae.data.transforms import AdmCropFlip

    return AdmCropFlip(size=data.CROP_PX, fast=True)


def cropped() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Their sample as ours is: crop, label, number."""
    import torch

    crop, generator = transform(), torch.Generator().manual_seed(0)

    def of(sample: dict[str, Any]) -> dict[str, Any]:
        image = crop(sample["jpg"], generator)
        return {"image": image, "label": sample["cls"], "index": int(sample["__key__"])}

    return of


def turns(lap: Lap, batches: Iterator[Any], count: int) -> None:
    """So many batches a turn, without end."""
    while True:
        lap()
        for _ in islice(batches, count):
            pass


if __name__ == "__main__":
    main()
