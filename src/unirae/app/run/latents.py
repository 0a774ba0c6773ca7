"""Latents before stage 2 can start: their statistics, and a cache if one is wanted."""

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from unirae.app.run.builders import Config
from unirae.app.run.mixing import TrainingImages, latents_of_parts, scored_images
from unirae.app.run.rae_source import RaeSource
from unirae.app.shell.devices import progress_bar
from unirae.core.differences import differences
from unirae.core.distributed import gather, is_distributed, is_main, join_group
from unirae.core.errors import ConfigError, DataError, WeightsError
from unirae.core.io import load_tensors, save_tensors
from unirae.core.log import get_logger
from unirae.data.cache_plan import INDEX, PLAN
from unirae.data.dataset import ImageDataset
from unirae.data.latent_cache import CachedLatents
from unirae.data.mix import Mixed
from unirae.data.source_content import changes, content_of
from unirae.data.views import AllViews
from unirae.evaluation.latents.earlier import statistics_record
from unirae.evaluation.latents.statistics import compute_latent_stats
from unirae.evaluation.latents.writing import check_cached_images, ensure_latent_cache
from unirae.models.checkpoints.pairing import autoencoder_differences
from unirae.models.checkpoints.reading import Checkpoint
from unirae.models.encoders.absent import AbsentEncoder
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE
from unirae.training.datamodule import default_workers

log = get_logger(__name__)


def statistics_of_run(checkpoint: Checkpoint, rae: RAE) -> LatentStats:
    """The latent statistics that a run was started with.

    Raises:
        WeightsError: If the run was trained on another autoencoder.
    """
    about = checkpoint.about
    if different := autoencoder_differences(about, rae):
        raise WeightsError(
            f"{checkpoint.file} was trained on another autoencoder than the one that this run opens "
            f"({'; '.join(different)}): give back the old one, or start anew"
        )
    return LatentStats(**checkpoint.weights("dit.latent_stats"), info=about["latent_stats_info"])


def statistics_of_data(
    rae: RAE, images: TrainingImages, *, source: RaeSource, cfg: Config, trainer: pl.Trainer
) -> LatentStats:
    """The latent statistics of the training data: computed once, kept in the latent cache or else in the run's folder.

    Those of a mix are of the source that is scored. So every process and every restart uses the same statistics. For
    other data, views or settings they are computed anew.

    Raises:
        DataError: If the images change meanwhile.
    """
    dataset = scored_images(images)
    cache, settings = cfg["data"]["latent_cache"], cfg["model"]["latent_stats"]
    file = Path(cache) / ".latent_stats.pt" if cache else Path(cfg["paths"]["output_dir"]) / "latent_stats.pt"
    wanted = {
        "encoder": rae.token_identity,
        "data": content_of(dataset.source),
        "views": AllViews(dataset).description,
        "seed": cfg["seed"],
        **settings,
    }
    if file.is_file():
        kept = load_tensors(file)
        made_for = statistics_record(kept, rae, folder=file.parent)
        other = _differences(made_for, wanted, trust=bool(cache) and cfg["data"]["latent_cache_trust"])
        if not other:
            log.info("latent statistics: from %s", file)
            return LatentStats(**kept["latent_stats"])
        log.info("the latent statistics in %s are not taken; they differ in: %s", file, "; ".join(other))
    join_processes(trainer)
    log.info("the autoencoder has no latent statistics: computing them over %d images", len(dataset))
    encoder = source.load() if isinstance(rae.encoder, AbsentEncoder) else rae
    with progress_bar("latent statistics") as progress:
        stats = compute_latent_stats(
            encoder.to(trainer.strategy.root_device),
            dataset,
            **settings,
            **_reading(cfg, trainer),
            seed=cfg["seed"],
            progress=progress,
        )
    if any(gather(content_of(dataset.source, anew=True) != wanted["data"])):
        raise DataError(
            "the images changed while the statistics of their latents were computed; start again when nothing writes "
            "to the data"
        )
    if is_main():
        save_tensors(file, {"for": wanted, "latent_stats": stats.to_dict()})
    return stats


def _differences(there: dict[str, Any], here: dict[str, Any], *, trust: bool) -> list[str]:
    """The settings in which kept statistics differ from the wanted ones; contents of trusted images do not count."""
    images = [] if trust else changes(there["data"], here["data"])
    others = [d.name for d in differences({**there, "data": None}, {**here, "data": None})]
    return [*images, *others]


def cached_latents(
    cfg: Config, source: RaeSource, rae: RAE, images: TrainingImages, trainer: pl.Trainer
) -> CachedLatents | Mixed[CachedLatents]:
    """The latents of the training images, encoded now if they are not in the cache yet.

    Those of a mix lie in a folder for each source, named by it: a source that is added or left out changes nothing for
    the others.
    """
    join_processes(trainer)

    def ensure(folder: Path, dataset: ImageDataset) -> CachedLatents:
        with progress_bar("latent cache") as progress:
            return ensure_latent_cache(
                folder,
                rae=rae,
                open_encoder=source.load,
                dataset=dataset,
                dtype=cfg["data"]["latent_cache_dtype"],
                trust=cfg["data"]["latent_cache_trust"],
                **_reading(cfg, trainer),
                progress=progress,
            )

    folder = Path(cfg["data"]["latent_cache"])
    if isinstance(images, Mixed):
        return latents_of_parts(images, lambda name, dataset: ensure(folder / name, dataset))
    return ensure(folder, images)


def check_cache(cfg: Config, images: TrainingImages) -> None:
    """Refuse a latent cache of other images, before anything costs time.

    Raises:
        ConfigError: If the cache, or that of a source of a mix, holds the latents of other images.
    """
    folder, trust = Path(cfg["data"]["latent_cache"]), cfg["data"]["latent_cache_trust"]
    if not isinstance(images, Mixed):
        return check_cached_images(folder, images, trust=trust)
    if any((folder / file).is_file() for file in (INDEX, PLAN)):
        raise ConfigError(
            f"the latent cache in {folder} is of one data set, and a mix has a folder for each of its sources: choose "
            "another folder for data.latent_cache"
        )
    for part in images.parts:
        check_cached_images(folder / part.name, part.data, trust=trust)
    return None


def _reading(cfg: Config, trainer: pl.Trainer) -> dict[str, Any]:
    """The device of the encoder, and the number of loader processes that read its images."""
    workers = cfg["data"]["num_workers"]
    return {
        "device": trainer.strategy.root_device,
        "num_workers": default_workers(trainer.num_devices) if workers is None else workers,
    }


def join_processes(trainer: pl.Trainer) -> None:
    """Form the group that Lightning will then use, where the processes are there already: they share the work.

    Where Lightning starts the processes itself, the first one does the work before it starts the others.

    Raises:
        ConfigError: If something else than torchrun started the processes, and they know nothing of each other yet.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if is_distributed() or environment is None or trainer.world_size == 1:
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        join_group(trainer.strategy.root_device)
    elif environment.creates_processes_externally and "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            "latent statistics or a latent cache are to be made, and this launcher's processes cannot share that work: "
            "start with torchrun, or make them beforehand (src/compute_stats.py writes a checkpoint with statistics)"
        )
