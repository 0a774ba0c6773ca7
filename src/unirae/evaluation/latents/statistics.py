"""Statistics of the latents over a training set (RAE paper, section 3; recipe, stage 1 and trap 6).

Exact: every image counts once, each of its views (the crop and its mirror image) by its probability, sums are
float64 and merged by the formula of Chan et al., the variance divides by n. Networks run in chunks of a fixed
size. So neither the order of the images nor the batch size nor the number of processes matters.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor
from torch.utils.data import Subset

from unirae.core.distributed import all_sum, shard
from unirae.core.errors import ConfigError, DataError, NonFiniteError
from unirae.core.exact import NETWORK_CHUNK, rechunk
from unirae.core.version import __version__
from unirae.data.dataset import ImageDataset
from unirae.data.loader import Loader
from unirae.data.views import AllViews
from unirae.evaluation.passes.encoding import encode_views
from unirae.evaluation.passes.reading import Precision, Progress, choose_indices, describe_data
from unirae.metrics.moments import VarianceAccumulator
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

Per = Literal["element", "channel"]


def compute_latent_stats(
    rae: RAE,
    dataset: ImageDataset,
    *,
    per: Per = "element",
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    precision: Precision = "fp32",
    num_samples: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> LatentStats:
    """Mean and population variance of ``rae.tokens`` over ``dataset``; every process gets the same result.

    Args:
        rae: on ``device``; statistics that it has already play no part.
        dataset: with the transform of stage 2. Of a transform that is no
            :class:`~unirae.data.transforms.ViewTransform` epoch 0's draws are taken.
        per: one value per latent element, or per channel (pooled over positions, shape (c, 1, 1)).
        batch_size: images read at once; it does not reach the network.
        num_samples: a seeded random subset of this size; all images where None.
        settings: what the caller knows of checkpoint and data, kept in ``info``.
        progress: called with (images done, images in all) of this process.

    Raises:
        DataError: If there are fewer than two images.
        NonFiniteError: If the encoder gives NaN or infinity.
    """
    if per not in ("element", "channel"):
        raise ConfigError(f"per={per!r} is unknown; choose element or channel")
    device = torch.device(device)
    indices = choose_indices(len(dataset), num_samples, seed)
    if len(indices) < 2:
        raise DataError("latent statistics need at least 2 images, better thousands")
    own = [indices[i] for i in shard(len(indices))]
    views = AllViews(dataset)
    accumulator = VarianceAccumulator(shape=rae.latent_shape, device=device)
    replaced = torch.zeros((), dtype=torch.int64, device=device)
    done = 0
    for chunk in rechunk(_images(views, own, batch_size, num_workers, replaced), NETWORK_CHUNK):
        tokens = encode_views(rae.tokens, chunk, device=device, precision=precision)
        for of_view, weight in zip(tokens, views.view_weights, strict=True):
            accumulator.update(of_view, weight)
        done += len(chunk)
        if progress is not None:
            progress(done, len(own))
    moments = accumulator.compute()
    info = {
        **(settings or {}),
        **describe_data(dataset),
        **_describe(rae, per=per, precision=precision),
        "transform": views.description,
        "count": moments.count,
        "count_available": len(dataset),
        "subset_seed": seed if len(indices) < len(dataset) else None,
        "unreadable_images_replaced": int(all_sum(replaced)),
    }
    mean, var = moments.mean, moments.variance
    return _checked(*((mean, var) if per == "element" else _pooled(mean, var)), info=info)


def _images(
    views: AllViews, indices: list[int], batch_size: int, num_workers: int, replaced: Tensor
) -> Iterator[UInt8[Tensor, "b v 3 H W"]]:
    loader = Loader(Subset(views, indices), batch_size=batch_size, num_workers=num_workers)
    for number, batch in enumerate(loader):
        expected = torch.tensor(indices[number * batch_size : (number + 1) * batch_size])
        replaced += (batch["index"] != expected).sum().to(replaced.device)
        yield batch["images"]


def _pooled(
    mean: Float64[Tensor, "c h w"], var: Float64[Tensor, "c h w"]
) -> tuple[Float64[Tensor, "c 1 1"], Float64[Tensor, "c 1 1"]]:
    """Pool over positions: the variance within them plus the variance of their means."""
    pooled = mean.mean((1, 2), keepdim=True)
    return pooled, (var + (mean - pooled).square()).mean((1, 2), keepdim=True)


def _describe(rae: RAE, *, per: Per, precision: Precision) -> dict[str, Any]:
    identity = rae.encoder.identity
    return {
        "encoder": {"name": identity.name, **identity.decisive()},
        "encoder_input_size": list(rae.encoder_input_size),
        "per": per,
        "precision": precision,
        "versions": {"unirae": __version__, "torch": str(torch.__version__)},
    }


def _checked(mean: Tensor, var: Tensor, *, info: dict[str, Any]) -> LatentStats:
    """Check the sums, which every process holds alike, so that all of them raise or none."""
    broken = int((~(mean + var).isfinite()).sum())
    if broken:
        raise NonFiniteError(
            f"the encoder's tokens are not finite ({broken} of {mean.numel()} statistics): its weights are broken, "
            f"or 16 bits overflowed (precision={info['precision']}; try fp32)"
        )
    return LatentStats(mean=mean.cpu(), var=var.cpu(), info=info)
