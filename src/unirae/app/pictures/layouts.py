"""Layouts of a folder of samples: numbered files, or the names that the evaluators of GenEval and DPG-Bench read."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from unirae.app.inputs.prompt_list import IMAGES_PER_PROMPT, LayoutName
from unirae.core.errors import ConfigError
from unirae.core.io import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from unirae.app.inputs.prompts import Prompt


class Layout(Protocol):
    """Places of the images in a folder, and what an evaluator reads beside them."""

    name: ClassVar[LayoutName]
    records: ClassVar[str]
    """The folder, below that of the samples, of the files that describe these and of the overview."""

    def file(self, folder: Path, number: int) -> Path:
        """The file of an image."""
        ...

    def holds_images(self, folder: Path) -> bool:
        """True where images lie that another run of this layout may have made."""
        ...

    def check(self, prompts: "Sequence[Prompt]", *, size: tuple[int, int]) -> None:
        """Refuse prompts, and images of a (height, width), that the evaluator could not read.

        Raises:
            ConfigError: If it could not; the message says why.
        """
        ...

    def finish(self, folder: Path, prompts: "Sequence[Prompt]") -> None:
        """Write what the evaluator reads beside the images, which are all there."""
        ...


class Plain:
    """``000000.png`` …: images by their numbers."""

    name: ClassVar[LayoutName] = "plain"
    records: ClassVar[str] = "."

    def file(self, folder: Path, number: int) -> Path:
        """The file of an image."""
        return folder / f"{number:06d}.png"

    def holds_images(self, folder: Path) -> bool:
        """True where numbered images lie."""
        return any(folder.glob("[0-9]" * 6 + "*.png"))

    def check(self, prompts: "Sequence[Prompt]", *, size: tuple[int, int]) -> None:
        """Take any prompts."""

    def finish(self, folder: Path, prompts: "Sequence[Prompt]") -> None:
        """Write nothing more."""


class GenEval:
    """``00000/samples/0000.png`` … with ``00000/metadata.jsonl`` and ``grid.png``, as GenEval's README has it.

    Its evaluator (github.com/djghosh13/geneval, ``evaluation/evaluate_images.py``) reads each folder whose name is a
    number, the JSON of its ``metadata.jsonl``, and in ``samples`` the files whose names are numbers; nothing else.
    """

    name: ClassVar[LayoutName] = "geneval"
    records: ClassVar[str] = "."

    def __init__(self, images_per_prompt: int = IMAGES_PER_PROMPT) -> None:
        self._each = images_per_prompt

    def file(self, folder: Path, number: int) -> Path:
        """The file of an image."""
        return self._of_prompt(folder, number // self._each) / "samples" / f"{number % self._each:04d}.png"

    def holds_images(self, folder: Path) -> bool:
        """True where a prompt's folder holds images."""
        return any(folder.glob("[0-9]" * 5 + "*/samples/*.png"))

    def check(self, prompts: "Sequence[Prompt]", *, size: tuple[int, int]) -> None:
        """Refuse prompts without the fields that the evaluator asks for.

        Raises:
            ConfigError: If a prompt does not come from a line of JSON with ``prompt`` and ``tag``.
        """
        import json

        for number, prompt in enumerate(prompts, start=1):
            fields = json.loads(prompt.line) if prompt.line else {}
            lacking = [field for field in ("prompt", "tag") if field not in fields]
            if lacking:
                raise ConfigError(
                    f"--layout geneval: prompt {number} has no {' and no '.join(lacking)}, which GenEval's evaluator "
                    "asks for; give its evaluation_metadata.jsonl as --prompts"
                )

    def finish(self, folder: Path, prompts: "Sequence[Prompt]") -> None:
        """Write each prompt's line and the grid of its images."""
        import json

        for number, prompt in enumerate(prompts):
            place = self._of_prompt(folder, number)
            # in ASCII, as GenEval's own program writes it: its evaluator reads in the encoding of its machine
            _write_if_new(place / "metadata.jsonl", json.dumps(json.loads(prompt.line)).encode())
            if not (place / "grid.png").is_file():
                images = [self.file(folder, number * self._each + i) for i in range(self._each)]
                _write_grid(place / "grid.png", images, gap_px=2)

    def _of_prompt(self, folder: Path, number: int) -> Path:
        return folder / f"{number:05d}"


class Dpg:
    """``NAME.png`` for each prompt: four images in a square of two by two, as DPG-Bench's evaluator cuts them out.

    The evaluator (github.com/TencentQQGYLab/ELLA, ``dpg_bench/compute_dpg_bench.py``) takes each entry of the folder
    for a picture, its name up to the first dot for the name of a prompt, and cuts squares of ``--resolution`` pixels
    from its corner, ``--pic-num`` of them, row by row and without gaps. It says "Failed filename" of what it cannot
    read and leaves that out; so all else lies in one folder, ``parts``: the single images and what describes them.
    """

    name: ClassVar[LayoutName] = "dpg"
    records: ClassVar[str] = "parts"

    def __init__(self, images_per_prompt: int = IMAGES_PER_PROMPT) -> None:
        if images_per_prompt > IMAGES_PER_PROMPT:
            raise ConfigError(
                f"--images_per_prompt {images_per_prompt}: DPG-Bench's evaluator reads at most {IMAGES_PER_PROMPT} "
                "images of a prompt; give 1 to 4, and --pic-num of the evaluator the same"
            )
        self._each = images_per_prompt

    def file(self, folder: Path, number: int) -> Path:
        """The file of an image."""
        return Plain().file(folder / self.records, number)

    def holds_images(self, folder: Path) -> bool:
        """True where any picture lies: the evaluator would take it for a prompt's."""
        return any(folder.glob("*.png")) or Plain().holds_images(folder / self.records)

    def check(self, prompts: "Sequence[Prompt]", *, size: tuple[int, int]) -> None:
        """Refuse names that are no file's or that the evaluator would take for another's, and pictures not square.

        Raises:
            ConfigError: If a prompt has no name, one that holds a dot or cannot be a file's, or another one's.
        """
        if size[0] != size[1]:
            raise ConfigError(
                f"--layout dpg: DPG-Bench's evaluator cuts squares, and this model's images are {size[0]}×{size[1]} "
                "(height × width); choose --layout plain"
            )
        seen: dict[str, int] = {}
        for number, prompt in enumerate(prompts, start=1):
            name = prompt.name
            if name is None:
                raise ConfigError(
                    f"--layout dpg: prompt {number} has no name to call its picture by; give DPG-Bench's folder of "
                    '.txt files as --prompts, or lines with "name"'
                )
            if not _is_file_name(name):
                raise ConfigError(
                    f"--layout dpg: {name[:60]!r}, the name of prompt {number}, cannot be that of a picture; it must "
                    "be one file's name without dots, of at most 200 bytes"
                )
            first = seen.setdefault(name.casefold(), number)  # some disks do not tell A.png from a.png
            if first != number:
                raise ConfigError(
                    f"--layout dpg: prompts {first} and {number} are both called {name!r}; give each its own name"
                )

    def finish(self, folder: Path, prompts: "Sequence[Prompt]") -> None:
        """Write each prompt's picture."""
        for number, prompt in enumerate(prompts):
            picture = folder / f"{prompt.name}.png"
            if not picture.is_file():
                _write_grid(picture, [self.file(folder, number * self._each + i) for i in range(self._each)])


def layout_of(name: LayoutName, images_per_prompt: int) -> Layout:
    """The layout of that name.

    Raises:
        ConfigError: If it cannot hold that many images of a prompt.
    """
    if name == "plain":
        return Plain()
    return (GenEval if name == "geneval" else Dpg)(images_per_prompt)


def read_image(file: Path) -> "Tensor":
    """A picture's pixels, uint8 [3, H, W].

    Raises:
        DataError: If the file is damaged or missing.
    """
    import numpy as np
    import torch
    from PIL import Image

    from unirae.core.errors import DataError

    try:
        with Image.open(file) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's of a broken PNG
        raise DataError(
            f"{file} cannot be read ({error}); delete it and repeat the command, which makes it again"
        ) from None


def _is_file_name(name: str) -> bool:
    """True for a file's name that holds no dot, on any system."""
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:  # half a character
        return False
    return 0 < size <= 200 and name.strip() == name and not any(c in './\\:*?"<>|' or c < " " for c in name)


def _write_if_new(file: Path, content: bytes) -> None:
    if not file.is_file() or file.read_bytes() != content:
        write_atomically(file, lambda opened: opened.write(content))


def _write_grid(file: Path, images: Sequence[Path], *, gap_px: int = 0) -> None:
    """Write images as one picture, about square; without gaps there is no border either."""
    import math

    import torch

    from unirae.core.images import image_grid, save_png

    pixels = torch.stack([read_image(image) for image in images])
    save_png(file, image_grid(pixels, columns=math.ceil(math.sqrt(len(images))), gap_px=gap_px))
