"""Builders of a run's parts from its resolved configuration: who needs what from whom, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch

from unirae.app.config.file_data import check_file_keys
from unirae.app.config.mixing import is_mix, names_of_entry, scored_config, scored_number, source_config
from unirae.app.config.targets import build
from unirae.app.run.mixing import Config, TrainingImages, mixed_images, with_classes_of
from unirae.core.arguments import called
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.images import to_float
from unirae.data.captions import Captioned
from unirae.data.dataset import ImageDataset
from unirae.data.mix import Mixed, MixedSource
from unirae.data.mix_order import MixedBatches
from unirae.data.order import EndlessBatches
from unirae.data.place import check_place
from unirae.data.source import Source
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder
from unirae.models.interop.decoder_weights import check_colours, initialise_decoder, is_official
from unirae.models.rae import RAE, token_grid
from unirae.training.datamodule import TrainingData, TrainingSet
from unirae.training.manual import ManualModule, StepSettings
from unirae.training.optimizers import OptimizerSettings, optimizer_settings
from unirae.training.schedule import Schedule, resolve_steps


def build_dataset(
    data: Config,
    *,
    split: str,
    size: int | tuple[int, int],
    use: str,
    seed: int = 0,
    exact: bool = True,
    source: Source | None = None,
    captions: bool = False,
) -> ImageDataset:
    """A split of the configured data, cropped to ``size``, with the transform of ``use``: train, stage2 or eval.

    Of a mix it is that of the source that is scored.

    Args:
        exact: read and resize as the reference does; else as ``fast_decode`` and ``fast_resize`` say.
        source: the source of that split, if it is open already.
        captions: give the pictures' captions, too; those that have none are as ``missing_captions`` says.

    Raises:
        ConfigError: See :func:`check_data`.
        DataError: If there are no such data, or none of that split.
    """
    if is_mix(data):
        options: Config = {
            "split": split,
            "size": size,
            "use": use,
            "seed": seed,
            "exact": exact,
            "source": source,
            "captions": captions,
        }
        with called(names_of_entry(scored_number(data))):
            return build_dataset(scored_config(data), **options)
    check_data(data)
    resizing = {} if exact else {"fast": data["fast_resize"]}
    opened: Source = build(data["source"], split=split) if source is None else source
    if captions and source is None:
        opened = Captioned(
            opened, missing=data["missing_captions"], split="val" if split == "val" else "train"
        )
    return ImageDataset(
        source=opened,
        transform=build(data[f"{use}_transform"], size=size, **resizing),
        seed=seed,
        on_bad_image=data["on_bad_image"],
        fast_decode=not exact and data["fast_decode"],
        captions=captions,
    )


def check_data(data: Config) -> None:
    """Refuse data that cannot be read as configured, or are not there: cheap, and so before weights are looked for.

    Raises:
        ConfigError: See :func:`~unirae.app.config.file_data.check_file_keys`.
        DataError: If the folder or file of the data does not exist, or is not given.
    """
    if is_mix(data):
        for number, entry in enumerate(data["sources"]):
            check_file_keys(entry, key=f"data.sources[{number}]")
            with called(names_of_entry(number)):
                check_data(source_config(data, number))
        return
    check_file_keys(data)
    if "data_dir" in data["source"]:
        of_hub = str(data["source"]["_target_"]).endswith(".HFSource")
        check_place(data["source"]["data_dir"], may_be_on_hub=of_hub)


def training_images(
    cfg: Config,
    *,
    size: int | tuple[int, int],
    use: str = "train",
    exact: bool = False,
    source: Source | None = None,
    captions: bool = False,
) -> TrainingImages:
    """The training split, of a mix those of all its sources, with the transform of ``use``: train, or stage2."""

    def one(data: Config, *, source: Source | None = source) -> ImageDataset:
        return build_dataset(
            data,
            split="train",
            size=size,
            use=use,
            seed=cfg["seed"],
            exact=exact,
            source=source,
            captions=captions,
        )

    if not is_mix(cfg["data"]):
        return one(cfg["data"])
    assert source is None or isinstance(source, MixedSource), "the source of a mix is a mix"
    return mixed_images(cfg["data"], one, source=source)


def check_batch(cfg: Config, images: TrainingImages) -> None:
    """Refuse a batch that the images do not fill, before anything is computed over them.

    Raises:
        ConfigError: If the batch is larger than the split, or than that of a source of a mix.
    """
    batch_size = cfg["data"]["global_batch_size"]
    if isinstance(images, Mixed):
        MixedBatches(shares=images.shares, batch_size=batch_size, seed=0)
    else:
        EndlessBatches(count=len(images), batch_size=batch_size, seed=0)


def build_data(
    cfg: Config,
    *,
    size: int | tuple[int, int],
    trainer: pl.Trainer,
    train_dataset: TrainingSet | None = None,
    eval_dataset: ImageDataset | None = None,
    **options: Any,
) -> TrainingData:
    """The data module: training images at ``size`` (or what is given), evaluation on the validation split."""
    data = cfg["data"]
    train = training_images(cfg, size=size) if train_dataset is None else train_dataset
    if eval_dataset is None:
        eval_dataset = build_dataset(data, split="val", size=size, use="eval")
    return TrainingData(
        train_dataset=train,
        eval_dataset=with_classes_of(train, eval_dataset),
        global_batch_size=data["global_batch_size"],
        overfit_batches=data["overfit_batches"],
        world_size=trainer.world_size,
        local_processes=trainer.num_devices,
        micro_batches=cfg["trainer"]["accumulate_grad_batches"],
        num_workers=data["num_workers"],
        seed=cfg["seed"],
        **options,
    )


@contextmanager
def keys_for(**keys: str) -> Iterator[None]:
    """Let errors about an argument, within the block, call it by its key of the configuration."""
    try:
        yield
    except ConfigError as error:
        message = str(error)
        for argument, key in keys.items():
            message = message.replace(f"{argument}=", f"{key}=")
        raise ConfigError(message) from None


def configured_encoder(model: Config, *, seed: int) -> Encoder:
    """The encoder of ``model.encoder``.

    Raises:
        WeightsError: If the encoder's weights are missing or do not fit; the message names the key.
    """
    node = model["encoder"]
    try:
        return build_encoder(**{**node, "seed": seed})
    except WeightsError as error:
        raise WeightsError(f"model.encoder.weights={node['weights']}: {error}") from None


def build_rae(model: Config, *, seed: int, encoder: Encoder | None = None) -> RAE:
    """Build encoder and decoder, new or from a file of weights; the decoder's shapes follow from the encoder's.

    Args:
        encoder: an encoder in place of the configured one.
    """
    encoder = encoder or configured_encoder(model, seed=seed)
    with keys_for(encoder_input_size="model.image_size"):
        grid = token_grid(model["image_size"], encoder.patch_size)
    decoder = build(model["decoder"], token_dim=encoder.width, grid=grid)
    if model["pretrained_decoder_path"] is not None:
        initialise_decoder(decoder, model["pretrained_decoder_path"])
    return RAE(
        encoder=encoder,
        decoder=decoder,
        encoder_input_size=model["image_size"],
        noise_tau=model["noise_tau"],
        noise_kind=model["noise_kind"],
        layer_dropout=model["layer_dropout"],
    )


def check_decoder(rae: RAE, images: TrainingSet, path: str | None) -> None:
    """Refuse an official decoder's file whose output is plainly of another space than configured, by a few pictures.

    Args:
        path: the file that the decoder comes from; others than the official code's say what they are.
    """
    if path is None or not is_official(path):
        return
    pictures = [images[index]["image"] for index in range(min(8, len(images)))]
    check_colours(rae, to_float(torch.stack(pictures)), path)


def step_settings(cfg: Config, *, steps_per_epoch: int) -> StepSettings:
    """The settings that every training module takes."""
    model = cfg["model"]
    return StepSettings(
        optimizer=build_optimizer(model, "optimizer"),
        schedule=build_schedule(model, "scheduler", "optimizer", steps_per_epoch=steps_per_epoch),
        **{name: model[name] for name in ("clip_grad", "ema_decay", "ema_warmup")},
        seed=cfg["seed"],
        micro_batches=cfg["trainer"]["accumulate_grad_batches"],
    )


def build_optimizer(model: Config, optimizer: str) -> OptimizerSettings:
    """The settings that a training module builds an optimizer from.

    Raises:
        ConfigError: If there is no optimizer of that kind.
    """
    with keys_for(kind=f"model.{optimizer}.kind"):
        return optimizer_settings(**model[optimizer])


def build_schedule(model: Config, scheduler: str, optimizer: str, *, steps_per_epoch: int) -> Schedule:
    """A schedule whose lengths, given in epochs or steps, are resolved to updates."""
    node = model[scheduler]

    def length(name: str, in_epochs: str, in_steps: str) -> int:
        return resolve_steps(
            epochs=node[in_epochs],
            steps=node[in_steps],
            steps_per_epoch=steps_per_epoch,
            name=f"model.{scheduler}.{name}",
        )

    return Schedule(
        kind=node["type"],
        base_lr=model[optimizer]["lr"],
        final_lr=node["final_lr"],
        warmup_steps=length("warmup", "warmup_epochs", "warmup_steps"),
        decay_end_steps=length("decay_end", "decay_end_epoch", "decay_end_steps"),
        warmup_from_zero=node["warmup_from_zero"],
    )


def total_steps(trainer: Config, *, steps_per_epoch: int) -> int:
    """The run's length: the earlier of ``max_steps`` and ``max_epochs``."""
    for key in ("max_steps", "max_epochs"):
        if trainer[key] is not None and not isinstance(trainer[key], int | float):
            raise ConfigError(
                f"trainer.{key}={trainer[key]!r} is not a number; give one, or null for no such limit"
            )
    limits = []
    if trainer["max_steps"] is not None:
        limits.append(int(trainer["max_steps"]))
    if trainer["max_epochs"] is not None:
        limits.append(int(trainer["max_epochs"] * steps_per_epoch))
    if not limits:
        raise ConfigError("the run has no end: set trainer.max_epochs or trainer.max_steps")
    if min(limits) < 1:
        raise ConfigError(
            f"trainer.max_epochs={trainer['max_epochs']}, trainer.max_steps={trainer['max_steps']}: the run would have "
            "no steps; give a positive number, or null for no such limit"
        )
    return min(limits)


def parameter_summary(module: ManualModule) -> list[tuple[str, int, int]]:
    """The networks of a run, each as (part, parameters, trainable parameters)."""
    rows = []
    for name, part in module.networks().items():
        if part is not None and (parameters := list(part.parameters())):
            trainable = sum(p.numel() for p in parameters if p.requires_grad)
            rows.append((name, sum(p.numel() for p in parameters), trainable))
    return rows
