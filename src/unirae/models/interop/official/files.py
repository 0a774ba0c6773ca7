"""Files of the official code: weights alone, or a training checkpoint with model, average and optimizers."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.errors import WeightsError
from unirae.core.io import load_safetensors, load_tensors
from unirae.core.log import get_logger
from unirae.models.encoders.base import Encoder
from unirae.models.latent_stats import LatentStats

log = get_logger(__name__)

Which = Literal["ema", "model"]

_DRIFT = 1e-5
"""Relative to the largest number of a tensor; the official update of the average drifts by about 1e-6."""
_WRAPPERS = ("module.", "_orig_mod.")  # of DDP and torch.compile, in any order


def read_weights(file: Path, *, which: Which = "ema") -> dict[str, Tensor]:
    """The tensors of a file: of a training checkpoint (``ep-*.pt``) its average or its raw weights.

    Raises:
        WeightsError: If the file is damaged, holds no such weights, or holds something else than tensors.
    """
    content: dict[str, Any] = load_safetensors(file) if file.suffix == ".safetensors" else load_tensors(file)
    if not isinstance(content, dict):
        raise WeightsError(f"{file} holds a {type(content).__name__}, not the weights of a model")
    states = [name for name in ("ema", "model") if isinstance(content.get(name), dict)]
    if states:
        if which not in states:
            raise WeightsError(
                f"{file} is a training checkpoint without {which!r}; of weights it has {states[0]!r}. Choose with "
                f"{argument('weights', 'ema|model')}"
            )
        content = content[which]
    for key, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise WeightsError(
                f"{file}: {key!r} is a {type(value).__name__}; a model's weights are named tensors"
            )
    state = {_unwrapped(key): tensor for key, tensor in content.items()}
    if len(state) != len(content):
        raise WeightsError(f"{file} holds the same weights with and without the prefix of a wrapper")
    return state


def read_stats(file: Path, *, eps: float) -> LatentStats:
    """Read ``stat.pt``: ``mean`` and ``var``, either of which may be None or absent.

    Raises:
        WeightsError: If the file holds something else.
    """
    content = load_tensors(file)
    if not isinstance(content, dict) or not content.keys() <= {"mean", "var"} or not content:
        names = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"{file} holds {names}; statistics of latents are mean and var")
    for name, value in content.items():
        if value is not None and (not isinstance(value, Tensor) or value.ndim != 3):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise WeightsError(f"{file}: {name} is {shape}; expected a tensor (channels, height, width)")
    mean, var = content.get("mean"), content.get("var")
    if var is None and mean is not None:
        var = torch.ones_like(mean)  # they still divide by √(1 + ε)
    for name, tensor in (("mean", mean), ("var", var)):
        if tensor is not None and tensor.dtype == torch.float64:
            log.warning(
                "%s: %s is in float64; latents are normalised in float32, as in the official code", file, name
            )
    try:
        return LatentStats(mean=mean, var=var, eps=eps)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from None


def check_encoder(encoder: Encoder, state: dict[str, Tensor], file: Path, source: str) -> None:
    """A whole official RAE carries its encoder: it must be the one that is loaded. Names differ between versions.

    Not to the last bit: the official average covers the frozen encoder too, and each update rounds.

    Args:
        state: of the encoder inside, as ``split_rae`` gives it; empty where there is none.
        file: which it is from.
        source: of the encoder that is loaded.

    Raises:
        WeightsError: If the encoder is another one; the message counts the tensors that differ and names one.
    """
    if not state:
        return
    own: dict[tuple[int, ...], list[Tensor]] = {}
    for tensor in encoder.backbone.state_dict().values():
        if tensor.is_floating_point():
            own.setdefault(tuple(tensor.shape), []).append(tensor)
    ignored = getattr(encoder, "ignored_prefixes", ())
    theirs = {k: t for k, t in state.items() if t.is_floating_point() and not k.startswith(ignored)}
    other = [key for key, tensor in theirs.items() if not _is_among(tensor, own.get(tuple(tensor.shape), []))]
    count = sum(map(len, own.values()))
    if other or len(theirs) != count:
        example = f", such as {other[0]}" if other else ""
        raise WeightsError(
            f"the encoder inside {file} is not the one at {source}: {len(other)} of its {len(theirs)} tensors are "
            f"other ones{example} (there are {count} there). Give the right one with "
            f"{argument('encoder_weights', 'DIR')}"
        )


def _is_among(tensor: Tensor, candidates: list[Tensor]) -> bool:
    """Say whether one of the candidates is the tensor, up to the rounding of an average of equal numbers."""
    return any((tensor.float() - other).abs().max() <= _DRIFT * other.abs().max() for other in candidates)


def stored_types(state: dict[str, Tensor]) -> dict[str, Any]:
    """Types that the weights are stored in, for the way back; ours are float32, which holds all of these exactly.

    Returns:
        ``dtype`` of the most, and ``dtypes`` of those that differ.
    """
    kinds = {key: str(t.dtype).removeprefix("torch.") for key, t in state.items() if t.is_floating_point()}
    counted = Counter(kinds.values())
    if foreign := counted.keys() - {"float32", "float16", "bfloat16"}:
        raise WeightsError(f"weights of type {', '.join(foreign)} cannot be kept exactly in float32")
    most = counted.most_common(1)[0][0]
    return {"dtype": most, "dtypes": {key: kind for key, kind in kinds.items() if kind != most}}


def _unwrapped(key: str) -> str:
    while key.startswith(_WRAPPERS):
        key = next(key.removeprefix(prefix) for prefix in _WRAPPERS if key.startswith(prefix))
    return key
