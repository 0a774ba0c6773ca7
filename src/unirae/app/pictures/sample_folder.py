"""A folder of samples: images, the settings or prompts that made them, an overview; it can be continued."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from unirae.app.inputs.prompt_list import LayoutName, as_file
from unirae.app.pictures.layouts import Layout, Plain, layout_of, read_image
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from unirae.app.inputs.prompt_list import PromptList

_GRID_IMAGES = 64
"""Images on the overview."""
_OF_THE_LIST = ("prompts", "negative_prompt", "prompt_seeds", "prompt_cfg_scales", "guidance")
"""The sampler's settings that say something of all prompts, all of which ``prompts.jsonl`` has one by one."""


class SampleFolder:
    """A folder with ``000000.png`` …, ``settings.json``, ``labels.csv``, ``grid.png`` and, on demand, ``samples.npz``.

    Of prompts there are ``prompts.jsonl`` and ``metadata.jsonl`` instead of labels, and the images lie as the layout
    says (:mod:`unirae.app.pictures.layouts`).

    Args:
        settings: everything that decides the images; a folder made with others is refused.
        count: number of images; it may grow from one call to the next.
        layout: the places of the images.
        prompts: the prompts of the images, if they have any; the list may grow, too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: dict[str, Any],
        count: int,
        layout: Layout | None = None,
        prompts: "PromptList | None" = None,
    ) -> None:
        if count < 1:
            raise ConfigError(f"--num_samples {count} must be at least 1")
        self.folder, self.settings, self.count = folder, settings, count
        self.layout: Layout = Plain() if layout is None else layout
        self.prompts = prompts
        self.records = folder / self.layout.records
        self.evaluations_before: list[int] = []

    @classmethod
    def of_prompts(
        cls,
        folder: Path,
        *,
        settings: dict[str, Any],
        prompts: "PromptList",
        layout: LayoutName,
        size: tuple[int, int],
    ) -> Self:
        """The folder of the images of prompts.

        Args:
            settings: what decides the images; what follows from the list of prompts is left out, since it may grow.
            size: (height, width) of the images.

        Raises:
            ConfigError: If the layout cannot hold these prompts, or images of this size.
        """
        places = layout_of(layout, prompts.images_per_prompt)
        places.check(prompts.prompts, size=size)
        decided = {key: value for key, value in settings.items() if key not in _OF_THE_LIST}
        decided |= {"layout": layout, "images_per_prompt": prompts.images_per_prompt}
        return cls(folder, settings=decided, count=len(prompts), layout=places, prompts=prompts)

    def check(self) -> None:
        """Refuse a folder that these images do not belong into; nothing is written.

        Raises:
            ConfigError: If the folder holds images of other settings or prompts, or of unknown ones, or more than are
                asked for.
        """
        from unirae.app.pictures.sample_record import check_prompts, read_record

        found = read_record(self.folder)
        if found is None:
            if self.layout.holds_images(self.folder):
                raise ConfigError(
                    f"--output_dir {self.folder} holds images but no settings.json; choose another folder"
                )
            return
        changed = differences(found["settings"], self.settings)
        if changed:
            shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
            raise ConfigError(
                f"--output_dir {self.folder} was made with other settings: {shown}. Choose another folder, or repeat "
                "the settings to continue it"
            )
        if self.prompts is not None:
            check_prompts(self.folder, self.records, found.get("prompts"), self.prompts)
        elif found["num_samples"] > self.count:
            raise ConfigError(
                f"--output_dir {self.folder} was made with --num_samples {found['num_samples']}; it can grow but not "
                f"shrink to {self.count}"
            )
        self.evaluations_before = found["network_evaluations"]

    def file(self, number: int) -> Path:
        """The file of an image."""
        return self.layout.file(self.folder, number)

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
        """Write ``settings.json``: the settings that decide the images, and what came of them.

        Of prompts it holds their number and hash, and ``prompts.jsonl`` beside it the prompts.
        """
        from unirae.core.io import write_json

        if self.prompts is None:
            shown = {"label_counts": {str(label): n for label, n in sorted(Counter(labels).items())}}
        else:
            lines = self.prompts.lines()
            # first, so that its first lines are always those that settings.json speaks of
            self._write_lines("prompts.jsonl", lines)
            shown = {"prompts": {"number": len(lines), "sha256": self.prompts.sha256()}}
        content = {
            "num_samples": self.count,
            **shown,
            "network_evaluations": evaluations,
            "settings": self.settings,
            "made_with": made_with,
        }
        write_json(self.records / "settings.json", content)

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
        write_atomically(self.records / "labels.csv", lambda file: file.write(text.getvalue().encode()))

    def write_captions(self) -> None:
        """Write the prompts of the images, which are all there: for the layout's evaluator, and as captions.

        Where the images lie beside each other, ``metadata.jsonl`` makes the folder a data set with captions: file_name
        and text on each line, as in Hugging Face's ``imagefolder``.
        """
        import json

        if self.prompts is None:
            return
        files = [self.file(number) for number in range(self.count)]
        if all(file.parent == self.records for file in files):
            rows = [{"file_name": file.name, "text": self.prompts.of(n).text} for n, file in enumerate(files)]
            self._write_lines("metadata.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows])
        self.layout.finish(self.folder, self.prompts.prompts)

    def write_grid(self) -> None:
        """Write ``grid.png`` of the first images, about square, each with its prompt below it if it has one."""
        import math

        import torch

        from unirae.core.images import image_grid, save_png
        from unirae.core.io import write_atomically

        shown = min(self.count, _GRID_IMAGES)
        images = torch.stack([self.read(number) for number in range(shown)])
        columns = math.ceil(math.sqrt(shown))
        if self.prompts is None:
            save_png(self.records / "grid.png", image_grid(images, columns=columns))
            return
        from unirae.app.pictures.captioned_grid import captioned_grid

        picture = captioned_grid(images, [self.prompts.of(n).text for n in range(shown)], columns=columns)
        write_atomically(self.records / "grid.png", lambda file: picture.save(file, format="PNG"))

    def read(self, number: int) -> "Tensor":
        """An image of the folder, uint8 [3, H, W].

        Raises:
            DataError: If its file is damaged.
        """
        return read_image(self.file(number))

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

        return write_atomically(self.records / "samples.npz", write)

    def _write_lines(self, name: str, lines: Sequence[str]) -> None:
        from unirae.core.io import write_atomically

        write_atomically(self.records / name, lambda file: file.write(as_file(lines)))


def differences(there: Any, now: Any) -> list[str]:
    """The settings that two records differ in: ``seed: 0 there, 1 now``."""
    from unirae.core.differences import differences as between
    from unirae.core.differences import shortened

    return [
        f"{found.name}: {shortened(found.first)} there, {shortened(found.second)} now"
        for found in between(there, now)
    ]
