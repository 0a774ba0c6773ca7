"""A generator of ours in the configuration of RAEv2: the inverse of :mod:`.generator_v2`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.core.log import get_logger
from unirae.flow.prediction import CLAMP
from unirae.models.denoisers.base import Denoiser
from unirae.models.interop.official.dit_v2 import dit_v2_to_official
from unirae.models.interop.official.generator_v2 import PREDICTIONS_V2, TARGETS_V2
from unirae.models.interop.official.text_v2 import text_conditioning

log = get_logger(__name__)

_SWITCHES = {
    "conditioning": "tokens",
    "use_qknorm": True,
    "use_swiglu": True,
    "use_rmsnorm": True,
    "use_rope": True,
    "adds_positions": False,
}
"""What RAEv2's networks always have."""


def check_dit_v2(dit: Denoiser) -> None:
    """Refuse a network that RAEv2 cannot express.

    Raises:
        ConfigError: If the network has other switches than RAEv2's, or its latents are not square.
    """
    config = dit.config
    if other := [
        f"{k}={getattr(config, k)}" for k, wanted in _SWITCHES.items() if getattr(config, k) != wanted
    ]:
        wanted = ", ".join(f"{name}={value}" for name, value in _SWITCHES.items())
        raise ConfigError(f"RAEv2 has networks with {wanted} alone; this one has {', '.join(other)}")
    if dit.grid[0] != dit.grid[1]:
        raise ConfigError(f"RAEv2 has square latents only, not {dit.grid[0]}×{dit.grid[1]} tokens")


def write_dit_v2(
    folder: Path,
    final: Path,
    dit: Denoiser,
    about: dict[str, Any],
    *,
    shift: dict[str, Any],
    save: Callable[[Path, dict[str, Tensor], dict[str, Any]], None],
    text_encoder: str | None = None,
) -> dict[str, Any]:
    """Write the generator's weights into ``folder``, which will be ``final``; returns the sections that describe it.

    Args:
        shift: the keys of ``misc`` that mean the time shift.
        save: writes tensors in the types that they came in.
        text_encoder: the name that RAEv2 is to load it by, of a generator that is conditioned on text.
    """
    length = 0 if text_encoder is None else dit.text_identity["max_length"]  # pyright: ignore[reportOptionalSubscript]
    save(folder / "stage2_model.pt", dit_v2_to_official(dit, text_length=length), about)
    config, kind = dit.config, about["dit"]["kind"]
    document = (about.get("origin") or {}).get("config") or {}
    said = document.get("transport") or {}
    has_base = config.base_head_depth is not None
    base = {"base_model_depth": config.base_head_depth} if has_base else {}
    params = {
        "input_size": dit.latent_shape[1],
        "patch_size": [dit.patch_size] * 2 if kind == "dit_dh" else dit.patch_size,
        **{
            name: getattr(config, name)
            for name in ("in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio")
        },
        **base,
    }
    return {
        "stage_2": {
            "target": next(name for name, ours in TARGETS_V2.items() if ours == (kind, has_base)),
            "params": params,
            "ckpt": str(final / "stage2_model.pt"),
        },
        "conditioning": _conditioning(dit, document.get("conditioning") or {}, text_encoder),
        "transport": {
            "prediction": next(name for name, ours in PREDICTIONS_V2.items() if ours == dit.prediction.value),
            "time_dist_type": said.get("time_dist_type", "logit-normal_0_1"),
            "t_eps": said.get("t_eps", CLAMP),
        },
        **({"internal_guidance": base} if has_base else {}),
        **_sampling(about.get("sampling") or {}),
        "misc": {"latent_size": list(dit.latent_shape), **_classes(dit, document.get("misc") or {}), **shift},
    }


def _conditioning(dit: Denoiser, said: dict[str, Any], text_encoder: str | None) -> dict[str, Any]:
    if text_encoder is not None:
        return text_conditioning(dit, text_encoder, said)
    config = dit.config
    arch = {"num_t_tokens": config.num_time_tokens, "num_c_tokens": config.num_condition_tokens}
    return {"type": "label", "arch": arch}


def _classes(dit: Denoiser, said: dict[str, Any]) -> dict[str, Any]:
    """The number of classes; of a generator that reads text the one that RAEv2's YAML had, which nothing reads."""
    if dit.reads_text:
        return {"num_classes": said["num_classes"]} if "num_classes" in said else {}
    return {"num_classes": dit.num_classes}


def _sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    """The sections ``sampler`` and ``guidance``."""
    if sampling.get("guide"):
        raise ConfigError(
            "this model is sampled with a guide, and RAEv2 has no autoguidance; take it without"
        )
    how = sampling.get("solver", "euler"), sampling.get("time_grid", "reference")
    if how != ("euler", "linear"):
        log.warning(
            "this model is sampled with %s on the time grid %s; RAEv2 takes euler on its linear one", *how
        )
    low, high = sampling.get("guidance_interval", (0.0, 1.0))
    guidance = {"cfg": {"scale": sampling.get("cfg_scale", 1.0), "t_min": low, "t_max": high}}
    if "ig_scale" in sampling:
        low, high = sampling.get("ig_interval", (0.0, 1.0))
        guidance["ig"] = {"scale": sampling["ig_scale"], "t_min": low, "t_max": high}
        if "ig_unconditional_scale" in sampling:
            guidance["ig"]["unconditional_scale"] = sampling["ig_unconditional_scale"]
    return {"sampler": {"num_steps": sampling.get("num_steps", 51) - 1}, "guidance": guidance}
