"""The keys below ``data``: one class for each source and transform."""

from typing import Literal

from unirae.app.config.schema.kinds import (
    LEFT_OUT,
    Count,
    CountOrZero,
    Keys,
    PathText,
    Pixels,
    Positive,
    Seed,
    Share,
    Size,
    Weighted,
    Workers,
)


class Emoji(Keys):
    """Keys of configs/data/emoji.yaml."""

    _target_: Literal["unirae.data.emoji.EmojiSource"]


class Folder(Keys):
    """Keys of configs/data/image_folder.yaml."""

    _target_: Literal["unirae.data.folder.FolderSource"]
    data_dir: PathText | None
    labels: bool
    train_split: str | None
    val_split: str | None
    val_fraction: Share
    verify_contents: bool
    caption_column: Weighted | None


class HuggingFace(Keys):
    """Keys of configs/data/imagenet.yaml."""

    _target_: Literal["unirae.data.hf.HFSource"]
    data_dir: PathText | None
    labels: bool
    image_column: str | None
    label_column: str | None
    train_split: str
    val_split: str | None
    val_fraction: Share
    verify_contents: bool
    caption_column: Weighted | None
    subset: str | None


class OneImage(Keys):
    """Keys of configs/data/one_image.yaml."""

    _target_: Literal["unirae.data.one_image.OneImageSource"]
    index: CountOrZero
    count: Count


class Photos(Keys):
    """Keys of configs/data/photos.yaml."""

    _target_: Literal["unirae.data.photos.PhotosSource"]
    crop_px: Pixels = LEFT_OUT
    train_crops_per_photo: Count = LEFT_OUT
    val_crops_per_photo: Count = LEFT_OUT
    seed: Seed = LEFT_OUT


class Synthetic(Keys):
    """Keys of configs/data/synthetic.yaml."""

    _target_: Literal["unirae.data.synthetic.SyntheticSource"]
    image_size: Size
    train_count: Count
    val_count: Count
    classes: CountOrZero
    seed: Seed = LEFT_OUT


class TarShards(Keys):
    """Keys of configs/data/tar_shards.yaml."""

    _target_: Literal["unirae.data.tar_shards.TarShardsSource"]
    data_dir: PathText | None
    labels: bool
    caption_column: Weighted | None
    train_split: str | None
    val_split: str | None
    val_fraction: Share
    verify_contents: bool


class Stage1Transform(Keys):
    """Resize, random crop and mirror, as in the reference's stage 1."""

    _target_: Literal["unirae.data.transforms.Stage1Transform"]
    resize: Size = LEFT_OUT


class AdmCropFlip(Keys):
    """ADM's centre crop, and a mirror."""

    _target_: Literal["unirae.data.transforms.AdmCropFlip"]
    flip_probability: Share = LEFT_OUT


class AdmCenterCrop(Keys):
    """ADM's centre crop."""

    _target_: Literal["unirae.data.transforms.AdmCenterCrop"]


class ScaleShift(Keys):
    """Small changes of size and place."""

    _target_: Literal["unirae.data.transforms.ScaleShift"]
    min_scale: Positive = LEFT_OUT
    max_scale: Positive = LEFT_OUT
    max_shift: Share = LEFT_OUT


Transform = Stage1Transform | AdmCropFlip | AdmCenterCrop | ScaleShift


class OfRun(Keys):
    """Keys that a run has once (configs/data/_run.yaml)."""

    labels: bool
    global_batch_size: Count
    num_workers: Workers | None
    overfit_batches: CountOrZero
    latent_cache: PathText | None
    latent_cache_dtype: Literal["float16", "float32"]
    latent_cache_trust: bool
    verify_contents: bool


class OfImages(Keys):
    """Keys of one data set (configs/data/default.yaml)."""

    source: Emoji | Folder | HuggingFace | OneImage | Photos | Synthetic | TarShards
    train_transform: Transform
    stage2_transform: Transform
    eval_transform: Transform
    data_dir: PathText | None
    caption_column: Weighted | None
    missing_captions: Literal["null_prompt", "leave_out"]
    fast_resize: bool
    fast_decode: bool
    on_bad_image: Literal["replace", "error"]


class Data(OfImages, OfRun):
    """Keys of a run on one data set."""


class SourceOfMix(OfImages):
    """Keys of an entry of ``data.sources``, once the file of its choice is read into it."""

    data: str
    name: str
    weight: Positive
    labels: bool
    verify_contents: bool


class MixedSource(Keys):
    """The mark of a mix."""

    _target_: Literal["unirae.data.mix.MixedSource"]


class Mix(OfRun):
    """Keys of configs/data/mix.yaml."""

    source: MixedSource
    sources: list[SourceOfMix]
    scored: CountOrZero | str
