"""A folder of samples: numbered images, the settings that made them, an overview; it can be continued."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

_GRID_IMAGES = 64
"""Images on the overview."""


class SampleFolder:
    """A folder with ``000000.png`` …, ``settings.json``, ``labels.csv``, ``grid.png`` and, on demand, ``samples.npz``.

    Args:
        settings: everything that decides the images; a folder made with others is refused.
        count: number of images; it may grow from one call to the next.
    """

    def __init__(self, folder: Path, *, settings: dict[str, Any], count: int) -> None:
        if count < 1:
            raise ConfigError(f"--num_samples {count} must be at least 1")
        self.folder, self.settings, self.count = folder, settings, count
        self.evaluations_before: list[int] = []

    def check(self) -> None:
        """Refuse a folder that these images do not belong into; nothing is written.

        Raises:
            ConfigError: If the folder holds images of other settings, or of unknown ones, or more than are asked for.
        """
        from unirae.core.io import read_json

        record = self.folder / "settings.json"
        if not record.is_file():
            if any(self.folder.glob("[0-9]" * 6 + "*.png")):
                raise ConfigError(
                    f"--output_dir {self.folder} holds numbered images but no settings.json; choose another folder"
                )
            return
        found = read_json(record)
        changed = differences(found["settings"], self.settings)
        if changed:
            shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
            raise ConfigError(
                f"--output_dir {self.folder} was made with other settings: {shown}. Choose another folder, or repeat "
                "the settings to continue it"
            )
        if found["num_samples"] > self.count:
            raise ConfigError(
                f"--output_dir {self.folder} was made with --num_samples {found['num_samples']}; it can grow but not "
                f"shrink to {self.count}"
            )
        self.evaluations_before = found["network_evaluations"]

    def file(self, number: int) -> Path:
        """The file of an image."""
        return self.folder / f"{number:06d}.png"

    def is_complete(self, batch: range) -> bool:
        """True where all of these images are there; they are written atomically."""
        return all(self.file(number).is_file() for number in batch)

    def save(self, batch: range, images: "Tensor") -> int:
        """Write those images [b, 3, H, W] of a batch that are not there yet; returns how many."""
        from unirae.core.images import save_png

        new = [i for i, number in enumerate(batch) if not self.file(number).is_file()]
        for i in new:
            save_png(self.file(batch[i]), images[i])
        return len(new)

    def write_record(self, made_with: dict[str, Any], labels: Sequence[int], evaluations: list[int]) -> None:
        """Write ``settings.json``: the settings that decide the images, and what came of them."""
        from unirae.core.io import write_json

        content = {
            "num_samples": self.count,
            "label_counts": {str(label): n for label, n in sorted(Counter(labels).items())},
            "network_evaluations": evaluations,
            "settings": self.settings,
            "made_with": made_with,
        }
        write_json(self.folder / "settings.json", content)

    def write_labels(self, labels: Sequence[int], class_names: Sequence[str]) -> None:
        """Write ``labels.csv``: file, label, name."""
        import csv
        import io

        from unirae.core.io import write_atomically

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["file", "label", "name"])
        for number, label in enumerate(labels):
            name = class_names[label] if label < len(class_names) else ""
            writer.writerow([self.file(number).name, label, name])
        write_atomically(self.folder / "labels.csv", lambda file: file.write(text.getvalue().encode()))

    def write_grid(self) -> None:
        """Write ``grid.png`` of the first images, about square."""
        import math

        import torch

        from unirae.core.images import image_grid, save_png

        shown = min(self.count, _GRID_IMAGES)
        images = torch.stack([self.read(number) for number in range(shown)])
        save_png(self.folder / "grid.png", image_grid(images, columns=math.ceil(math.sqrt(shown))))

    def read(self, number: int) -> "Tensor":
        """An image of the folder, uint8 [3, H, W]."""
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(self.file(number)) as picture:
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    def write_npz(self) -> Path:
        """Write ``samples.npz`` in ADM's layout, image by image: ``arr_0``, uint8 [n, H, W, 3]."""
        import zipfile

        import numpy as np

        from unirae.core.io import write_atomically

        first = self.read(0).permute(1, 2, 0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *first.shape)}

        def write(file: Any) -> None:
            with (
                zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
                archive.open(zipfile.ZipInfo("arr_0.npy"), "w", force_zip64=True) as array,
            ):
                np.lib.format.write_array_header_1_0(array, header)
                for number in range(self.count):
                    array.write(self.read(number).permute(1, 2, 0).contiguous().numpy().tobytes())

        return write_atomically(self.folder / "samples.npz", write)


def differences(there: Any, now: Any) -> list[str]:
    """The settings that two records differ in: ``seed: 0 there, 1 now``."""
    from unirae.core.differences import differences as between
    from unirae.core.differences import shortened

    return [
        f"{found.name}: {shortened(found.first)} there, {shortened(found.second)} now"
        for found in between(there, now)
    ]
