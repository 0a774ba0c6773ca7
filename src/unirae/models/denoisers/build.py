"""Construction of a diffusion transformer from a description: a configuration's, or a checkpoint's."""

from inspect import signature
from typing import Any

from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.strict import load_strictly
from unirae.flow.prediction import Prediction
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.dit import DiT
from unirae.models.denoisers.dit_dh import DiTDH
from unirae.models.latent_stats import LatentStats

KINDS: dict[str, type[Any]] = {"dit": DiT, "dit_dh": DiTDH}
"""Plain diffusion transformer, and the one with a wide head."""


def build_denoiser(kind: str, **arguments: Any) -> Denoiser:
    """A new network of a kind of :data:`KINDS`.

    Raises:
        ConfigError: If the kind or an argument is unknown, or an argument is missing.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"{argument('denoiser.kind', repr(kind))} is unknown; choose one of {', '.join(KINDS)}"
        )
    known = signature(KINDS[kind].config_class)
    try:
        known.bind(**{name: value for name, value in arguments.items() if name in known.parameters})
    except TypeError as error:
        raise ConfigError(f"{argument('denoiser')} ({kind}): {error}") from None
    return KINDS[kind](**arguments)


def describe_denoiser(denoiser: Denoiser) -> dict[str, Any]:
    """Everything but tensors that :func:`denoiser_from_description` needs; plain values."""
    kind = next(kind for kind, cls in KINDS.items() if isinstance(denoiser, cls))
    return {
        "kind": kind,
        "architecture": denoiser.architecture,
        "time_shift": denoiser.time_shift,
        "prediction": denoiser.prediction.value,
        **({} if denoiser.text_identity is None else {"text_encoder": denoiser.text_identity}),
    }


def denoiser_from_description(
    description: dict[str, Any], state: dict[str, Tensor], *, stats_info: dict[str, Any] | None = None
) -> Denoiser:
    """The network of a checkpoint, with the statistics of its latents.

    Raises:
        WeightsError: If the tensors do not fit.
    """
    stats = LatentStats(
        **{name: state.get(f"latent_stats.{name}") for name in ("mean", "var", "eps")}, info=stats_info
    )
    denoiser = build_denoiser(
        description["kind"],
        **description["architecture"],
        time_shift=description["time_shift"],
        prediction=description.get("prediction", Prediction.VELOCITY),  # checkpoints of before had no other
        latent_stats=stats,
        null_text=_null_text(state),
        text_identity=description.get("text_encoder"),
    )
    load_strictly(denoiser, state, what="DiT")
    return denoiser


def _null_text(state: dict[str, Tensor]) -> Condition | None:
    """The condition of "" that a network was trained with; None of one that is conditioned on labels, or damaged."""
    if not {"null_tokens", "null_mask"} <= state.keys():
        return None
    return Condition(tokens=state["null_tokens"][None], mask=state["null_mask"][None])
