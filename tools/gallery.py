"""A row for each class from a folder of src/sample_dit.py: the first images of each, none left out.

python tools/gallery.py --samples outputs/long/gallery --output docs/images/gallery.jpg
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from unirae.core.images import image_grid


def by_class(folder: Path) -> dict[str, list[Path]]:
    """The files of each label, in the order of their numbers."""
    found: dict[str, list[Path]] = defaultdict(list)
    with open(folder / "labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            found[row["label"]].append(folder / row["file"])
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def read(file: Path, scale: int) -> Tensor:
    """An image, each pixel ``scale`` times as large."""
    return pil_to_tensor(Image.open(file)).repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def main() -> int:
    """Draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--scale", type=int, default=1)
    options = parser.parse_args()
    rows = [files[: options.columns] for files in by_class(options.samples).values()]
    images = torch.stack([read(file, options.scale) for row in rows for file in row])
    grid = image_grid(images, columns=options.columns, gap_px=4)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(grid).save(options.output, quality=93)
    return 0


if __name__ == "__main__":
    sys.exit(main())
