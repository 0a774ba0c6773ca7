"""The images that an option names: a folder, an npz, a data set, or one of ``configs/data``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.errors import ConfigError, DataError
from unirae.core.log import get_logger
from unirae.core.names import count_of, first_of, on_one_line

if TYPE_CHECKING:
    from unirae.data.folder import FolderSource
    from unirae.data.source import Source
    from unirae.data.stored import StoredImages
    from unirae.data.transforms import Size

log = get_logger(__name__)

EXPECTED = (
    "a folder of images or of tar shards, a tar, an npz file, a Hugging Face dataset (a folder, a parquet file or a "
    "hub name), or one of the names in configs/data"
)


OF_SAMPLES = ("settings.json", "labels.csv", "samples.npz", "prompts.jsonl", "metadata.jsonl", "grid.png")
"""Files that ``sample_dit.py`` writes beside its images."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A set of images to be scored, or to compare with.

    Attributes:
        kind: folder, npz or dataset.
        about: knowledge beside the images: the sampler's settings in a folder of ``sample_dit.py``.
    """

    images: "StoredImages"
    kind: str
    about: dict[str, Any] = field(default_factory=dict)


def open_images(
    spec: str,
    *,
    split: str | None = None,
    option: str = "--split",
    size: "Size | None" = None,
    verify_contents: bool = False,
    replace_unreadable: bool = False,
) -> ImageSet:
    """Open the images that ``spec`` names, each image once.

    Args:
        split: a split of a data set: any of its own names, or train and val.
        option: the command's option that chooses the split, for messages.
        size: crop to this many pixels as ADM does; None takes images as they are, all of one size.
        verify_contents: recognise what is kept of the images by every byte of their files.
        replace_unreadable: a readable neighbour stands in for an unreadable image, as in training, and is counted;
            else such an image is an error.

    Raises:
        DataError: If nothing has the name ``spec``, or if what has it holds no image.
        ConfigError: If a split must be chosen, or the data have no split of that name.
    """
    from unirae.data.stored import StoredImages
    from unirae.data.transforms import AdmCenterCrop

    source, kind, about = _source(spec, split, option, verify_contents=verify_contents)
    transform = None if size is None else AdmCenterCrop(size=size)
    images = StoredImages(source, transform=transform, replace_unreadable=replace_unreadable)
    return ImageSet(images=images, kind=kind, about=about)


def is_reference_file(spec: str) -> bool:
    """True where ``spec`` is a file with statistics, with or without images beside them."""
    from unirae.evaluation.references.reference_file import holds_statistics

    path = Path(spec).expanduser()
    return path.suffix in (".pt", ".pth") or (path.is_file() and holds_statistics(path))


def _source(
    spec: str, split: str | None, option: str, *, verify_contents: bool
) -> "tuple[Source, str, dict[str, Any]]":
    from unirae.app.config.targets import data_names
    from unirae.data.npz import NpzSource
    from unirae.data.tar_listing import holds_shards

    path = Path(spec).expanduser()
    if path.suffix == ".npz":
        _refuse_split(spec, split, option)
        return NpzSource(path), "npz", {}
    if holds_shards(path):
        return _tar_shards(path, split, option, verify_contents=verify_contents), "dataset", {}
    if path.is_dir() and not _is_dataset(path):
        return _folder(path, split, option, verify_contents=verify_contents)
    if path.exists() or spec.count("/") == 1:
        return _hugging_face(spec, split, option, verify_contents=verify_contents), "dataset", {}
    known = data_names()
    if spec in known:
        return _configured(spec, split, option, verify_contents=verify_contents), "dataset", {}
    raise DataError(f"{spec}: there is nothing of that name; expected {EXPECTED} ({', '.join(known)})")


def _is_dataset(folder: Path) -> bool:
    from unirae.data.hf import holds_parquet

    written = any((folder / name).exists() for name in ("dataset_dict.json", "dataset_info.json"))
    return written or holds_parquet(folder)


def _refuse_split(spec: str, split: str | None, option: str) -> None:
    if split is not None:
        raise ConfigError(f"{spec} has no splits; leave out {option} {split}")


def _folder(
    folder: Path, split: str | None, option: str, *, verify_contents: bool
) -> "tuple[Source, str, dict[str, Any]]":
    """All images of a folder, or of the split that it has under that name; of a folder of samples, the numbered
    ones."""
    from unirae.data.file_kinds import OTHER
    from unirae.data.generated import sampling_record
    from unirae.data.listing import find_files, find_images, say_left_out

    if split is not None:
        folder = folder / split
        if not folder.is_dir():
            raise ConfigError(
                f"{option} {split}: there is no folder {folder}; name the folder itself and leave {option} out"
            )
    record = sampling_record(folder)
    if record is None:
        files = find_images(folder)
    else:
        files, left_out = find_files(folder)
        left_out.kinds[OTHER] -= sum((folder / name).is_file() for name in OF_SAMPLES)
        say_left_out(str(folder), left_out)
        files = [name for name in files if Path(name).stem.isdecimal()]  # without the overview, grid.png
        if len(files) != record["num_samples"]:
            raise DataError(
                f"{folder} holds {count_of(len(files), 'sample')}, but its settings.json speaks of "
                f"{record['num_samples']}: sampling was interrupted. Repeat its command to complete it"
            )
    source = _all_of(folder, files, option, verify_contents)
    source.fingerprint["split"] = split  # all of the folder, which to the source are training images
    return source, "folder", {} if record is None else {"sampler": record["settings"]}


def _all_of(folder: Path, files: list[str], option: str, verify_contents: bool) -> "FolderSource":
    """The files as a source. Refuse where it is doubtful that all are meant: a score leaves none out in silence."""
    from unirae.data.folder import FolderSource
    from unirae.data.split_folders import ROOT, StrayImagesError, UnclearSplitsError

    how = {"data_dir": folder, "val_fraction": 0.0, "labels": False, "verify_contents": verify_contents}
    advice = f"Name the folder that is meant, or give {option}"
    in_folders = [name for name in files if "/" in name] or files
    try:
        judged = FolderSource(split="train", files=in_folders, **how)
    except (UnclearSplitsError, StrayImagesError):
        raise ConfigError(f"{folder} holds folders that look like splits. {advice}") from None
    if len(judged) != len(in_folders):
        raise ConfigError(
            f"{folder} holds {count_of(len(files), 'image')}, and {len(judged)} of them where a data set has its "
            f"training images. {advice}"
        )
    if len(in_folders) == len(files):
        return judged
    say_beside(folder, files)
    return FolderSource(split="train", files=files, train_split=ROOT, **how)


def say_beside(folder: Path, files: list[str]) -> None:
    """Log that images in a folder's folders and others beside these are taken together: one may be an overview."""
    beside = [name for name in files if "/" not in name]
    if 0 < len(beside) < len(files):
        log.warning(
            "%s: %s in its folders and %d beside them (%s) are taken together",
            on_one_line(str(folder)),
            count_of(len(files) - len(beside), "image"),
            len(beside),
            first_of(beside),
        )


def _tar_shards(path: Path, split: str | None, option: str, *, verify_contents: bool) -> "Source":
    """All pictures of tars, or those of the split that is chosen where the tars have splits."""
    from unirae.data.tar_listing import find_shards, split_shards
    from unirae.data.tar_shards import TarShardsSource

    _, val = split_shards(find_shards(str(path)), train=None, val=None, where=str(path))
    if val is None:
        _refuse_split(str(path), split, option)
    elif split not in ("train", "val"):
        given = "" if split is None else f"{option} {split}: "
        raise ConfigError(f"{given}{path} has the splits train and val; choose one with {option}")
    source = TarShardsSource(
        split="val" if split == "val" else "train",
        data_dir=path,
        train_split="." if val is None else None,
        val_fraction=0.0,
        labels=False,
        verify_contents=verify_contents,
    )
    source.fingerprint["split"] = split  # without splits all, which to the source are training images
    return source


def _hugging_face(spec: str, split: str | None, option: str, *, verify_contents: bool) -> "Source":
    from unirae.data.hf import HFSource, split_names

    names = split_names(spec)
    if split is None:
        if len(names) > 1:
            raise ConfigError(f"{spec} has the splits {', '.join(names)}; choose one with {option}")
        split = names[0]
    elif split not in names:
        raise ConfigError(f"{option} {split}: {spec} has no such split; it has {', '.join(names)}")
    source = HFSource(
        split="train",
        data_dir=spec,
        train_split=split,
        val_fraction=0.0,
        labels=False,
        verify_contents=verify_contents,
    )
    source.fingerprint["split"] = (
        split  # by its own name: to the source it is the training split, whatever it is
    )
    return source


def _configured(name: str, split: str | None, option: str, *, verify_contents: bool) -> "Source":
    from unirae.app.config.targets import build
    from unirae.app.shell.devices import choose_data

    if split is None:
        raise ConfigError(f"{name} has the splits train and val; choose one with {option}")
    if split not in ("train", "val"):
        raise ConfigError(f"{option} {split}: {name} has no such split; it has train and val")
    data = choose_data(name, None, {}, verify_contents=verify_contents)
    return build(data["source"], split=split)
