"""Latent caches and statistics that an earlier version made: taken where they show that they are the wanted ones.

Their records hold less of the encoder than is compared now: a cache's nothing of its architecture, statistics' the
weights' hash alone. What a record lacks, latents show: some of a cache's are encoded again and compared.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirae.core.arguments import argument
from unirae.core.distributed import barrier, on_main
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.core.io import write_json
from unirae.core.log import get_logger
from unirae.data.cache_plan import INDEX, PLAN, CachePlan, check_key, is_complete, shard_files
from unirae.data.dataset import ImageDataset
from unirae.data.loader import Loader
from unirae.data.views import AllViews
from unirae.evaluation.passes.encoding import encode_views
from unirae.models.encoders.identity import as_applied
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

log = get_logger(__name__)

_FORMAT = 1
_COMPARED = 4
"""Images of a cache that are encoded again."""
_TOLERANCE = 2e-3
"""Relative distance of the same latents that 16 bits (3e-4) or another device make, with room to spare."""


def renewed_key(
    folder: Path,
    key: dict[str, Any],
    *,
    open_rae: Callable[[], RAE],
    dataset: ImageDataset,
    device: torch.device,
    trust: bool = False,
) -> dict[str, Any]:
    """The key that the cache in ``folder``, finished or begun, is to be opened with.

    That is ``key``, but for a cache of an earlier version that cannot be written to. Others of an earlier version get
    ``key`` for their own once their latents have been compared, so that this is done once.

    Args:
        key: of the wanted latents.
        open_rae: gives the RAE with its encoder, on ``device``, and the statistics of the run.

    Raises:
        ConfigError: If a cache of an earlier version holds other latents, or cannot show that it holds these.
    """
    files = [file for file in (folder / INDEX, folder / PLAN) if file.is_file()]
    if not files or (plan := CachePlan.read(files[0])).key.get("format") != _FORMAT:
        return key
    check_key(folder, _comparable(plan.key), _as_then(key), trust=trust)
    _compare_latents(folder, plan, open_rae, dataset, device)
    new = replace(plan, key={**key, "data": plan.key["data"]})

    def write() -> None:
        for file in files:
            write_json(file, new.to_dict())

    log.info(
        "%s: made by an earlier version, which did not record the encoder's architecture; some of its latents were "
        "encoded again and are the same",
        folder,
    )
    barrier()  # before anybody writes what another still reads
    try:
        on_main(write)
    except UserError as error:
        log.warning("%s is compared at each start, because that it was cannot be kept: %s", folder, error)
        return plan.key
    return key


def statistics_record(kept: dict[str, Any], rae: RAE, *, folder: Path) -> dict[str, Any]:
    """Record of what kept statistics were computed of; of an earlier version's, what they and their cache show.

    Statistics of an earlier version name weights alone. The latent cache beside them was made with them, and its key
    holds what else is compared; it is looked at before it is used (:func:`renewed_key`).

    Args:
        kept: the file's content: ``for`` and ``latent_stats``.
        folder: where they and maybe a cache lie.
    """
    made_for = kept["for"]
    if "encoder" in made_for or made_for.get("rae") != rae.weights_fingerprint:
        return made_for
    file = folder / (INDEX if is_complete(folder) else PLAN)
    beside = CachePlan.read(file).key if file.is_file() else {}
    made_with_them = beside.get("statistics") == LatentStats(**kept["latent_stats"]).sha256
    if not (made_with_them and _same_encoder(beside, rae.token_identity)):
        return made_for
    return {**{k: v for k, v in made_for.items() if k != "rae"}, "encoder": rae.token_identity}


def _same_encoder(key: dict[str, Any], identity: dict[str, Any]) -> bool:
    """Say whether a cache's key, of whichever version, describes the encoder of ``identity`` as far as it goes."""
    if key["format"] != _FORMAT:
        return key["encoder"] == identity
    there, here = _comparable(key), _as_then({"encoder": identity})
    return all(there[name] == here[name] for name in ("encoder", "encoder_input_size"))


def _comparable(key: dict[str, Any]) -> dict[str, Any]:
    """A key of an earlier version with its numbers as they are applied."""
    encoder = key.get("encoder", {})
    return {
        **key,
        "encoder": encoder | {k: as_applied(encoder[k]) for k in encoder if k.startswith("pixel_")},
    }


def _as_then(key: dict[str, Any]) -> dict[str, Any]:
    """Write a key as the earlier version did."""
    encoder = dict(key["encoder"])
    del encoder["architecture"]
    return {**key, "format": _FORMAT, "encoder_input_size": encoder.pop("input_size"), "encoder": encoder}


def _compare_latents(
    folder: Path, plan: CachePlan, open_rae: Callable[[], RAE], dataset: ImageDataset, device: torch.device
) -> None:
    where = argument("latent_cache")
    remedy = f"Choose another folder for {where}, or remove this one and it will be made again"
    if not plan.is_whole(folder, 0):
        raise ConfigError(
            f"the latent cache in {folder} was begun by an earlier version and holds no whole shard that could show "
            f"how its images were encoded. {remedy}"
        )
    try:
        rae = open_rae()
    except WeightsError as error:
        raise ConfigError(
            f"the latent cache in {folder} was made by an earlier version, which did not record all that its latents "
            f"depend on, and the encoder that could show it cannot be had ({error}). Start where it lies, or: {remedy}"
        ) from None
    numbers = list(range(min(_COMPARED, len(plan.shards[0]))))
    batch = next(iter(Loader(AllViews(dataset), batch_sampler=[numbers], num_workers=0)))
    here = torch.stack(encode_views(rae.latents, batch["images"], device=device), dim=1).cpu()
    rows = np.load(shard_files(folder, 0)[0], mmap_mode="r")[: len(numbers)]
    there = torch.from_numpy(rows.astype(np.float32))
    if not (distance := float((here - there).norm() / there.norm())) <= _TOLERANCE:
        raise ConfigError(
            f"the latent cache in {folder} was made by an earlier version, and its latents differ from those of "
            f"this encoder by {distance:.2g} of their size: the same weights were read otherwise, as by another "
            f"number of heads. {remedy}"
        )
