"""Sampling by the official code's YAML: ``transport``, ``sampler``, ``guidance`` and ``misc``."""

import math
from dataclasses import dataclass, field
from typing import Any

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.log import get_logger
from unirae.flow.times import SHIFT_BASE
from unirae.models.interop.official.config import Node, OfficialDit, known, read_dit, section, value

log = get_logger(__name__)

_SOLVERS = {"euler": "euler", "heun2": "heun", "dopri5": "dopri5"}


@dataclass(frozen=True, kw_only=True)
class OfficialSampling:
    """Settings of ``sampler``, ``guidance`` and ``misc``.

    Attributes:
        time_shift: s of the times.
        settings: of our sampler; empty where the configuration has no sampler.
        guide: the model of autoguidance.
    """

    time_shift: float
    settings: dict[str, Any] = field(default_factory=dict)
    guide: OfficialDit | None = None


def read_sampling(document: Node, dit: OfficialDit) -> OfficialSampling:
    """Read the settings of the sampler.

    Raises:
        ConfigError: If a key is unknown, the path or the prediction is another than the linear path's velocity,
            we do not have the solver, or the official code cannot run the guidance.
    """
    _check_transport(section(document, "transport"))
    shift = _time_shift(section(document, "misc"), dit)
    settings: dict[str, Any] = {}
    if document.get("sampler") is not None:
        settings |= _solver(section(document, "sampler"))
    guidance = section(document, "guidance")
    known(guidance, ("method", "scale", "t_min", "t-min", "t_max", "t-max", "guidance_model"), "guidance")
    scale = float(value(guidance, "scale", "guidance", default=1.0))
    method = guidance.get("method", "cfg")
    if method not in ("cfg", "autoguidance"):
        raise ConfigError(f"guidance.method={method!r} is unknown; expected cfg or autoguidance")
    if scale <= 1.0:  # the official code then runs the plain model
        return OfficialSampling(time_shift=shift, settings=settings)
    if dit.kind == "dit":
        raise ConfigError(
            f"guidance.scale={scale:g}: the official LightningDiT cannot be guided (its forward_with_cfg and "
            "forward_with_autoguidance fail on the interval that its sampler passes). Set guidance.scale: 1.0 to "
            f"convert, and sample with {argument('sampling.cfg_scale')}"
        )
    low, high = _bound(guidance, "min"), _bound(guidance, "max")
    if not 0 <= low < high <= 1:
        raise ConfigError(f"guidance.t_min={low:g} and t_max={high:g}: expected 0 <= t_min < t_max <= 1")
    settings |= {"cfg_scale": scale, "guidance_interval": [low, high]}
    if method == "cfg" and not dit.has_null_label:
        raise ConfigError(
            "guidance.method=cfg needs a label for none, but stage_2.params.class_dropout_prob is 0"
        )
    guide = None
    if method == "autoguidance":
        if guidance.get("guidance_model") is None:
            raise ConfigError("guidance.method=autoguidance needs guidance.guidance_model")
        guide = read_dit(guidance["guidance_model"], "guidance.guidance_model")
    return OfficialSampling(time_shift=shift, settings=settings, guide=guide)


def _check_transport(node: Node) -> None:
    known(node, ("target", "params"), "transport")
    params = section(node, "params", "transport")
    names = (
        "path_type",
        "prediction",
        "loss_weight",
        "train_eps",
        "sample_eps",
        "time_dist_type",
        "time_dist_shift",
    )
    known(params, names, "transport.params")
    for name, needed in (("path_type", "Linear"), ("prediction", "velocity")):
        if params.get(name, needed) != needed:
            raise ConfigError(f"transport.params.{name}={params[name]}: only {needed} models are read here")


def _time_shift(misc: Node, dit: OfficialDit) -> float:
    known(
        misc,
        ("latent_size", "num_classes", "null_label", "time_dist_shift_dim", "time_dist_shift_base"),
        "misc",
    )
    arguments = dit.arguments
    classes, latent = (
        arguments["num_classes"],
        [arguments["in_channels"], arguments["input_size"], arguments["input_size"]],
    )
    for name, own in (("num_classes", classes), ("null_label", classes), ("latent_size", latent)):
        if (found := misc.get(name, own)) != own:
            raise ConfigError(f"misc.{name}={found}, but by stage_2.params it is {own}")
    base = value(misc, "time_dist_shift_base", "misc", default=float(SHIFT_BASE))
    dimension = value(misc, "time_dist_shift_dim", "misc", default=float(math.prod(latent)))
    if base <= 0 or ("time_dist_shift_dim" in misc and dimension < base):
        raise ConfigError(
            f"misc.time_dist_shift_dim={dimension:g} below time_dist_shift_base={base:g}: the official code refuses a "
            "shift below 1"
        )
    if "time_dist_shift_dim" not in misc:
        log.info("no misc.time_dist_shift_dim: times are shifted as %g elements of a latent ask", dimension)
    return max(1.0, math.sqrt(dimension / base))


def _solver(sampler: Node) -> dict[str, Any]:
    known(sampler, ("mode", "params"), "sampler")
    if (mode := sampler.get("mode", "ODE")) != "ODE":
        raise ConfigError(
            f"sampler.mode={mode}: only ODE is converted; leave sampler out, and use "
            f"{argument('sampling.solver', 'sde')}"
        )
    params = section(sampler, "params", "sampler")
    known(params, ("sampling_method", "num_steps", "atol", "rtol", "reverse"), "sampler.params")
    method = params.get("sampling_method", "dopri5")
    if method not in _SOLVERS:
        raise ConfigError(f"sampler.params.sampling_method={method} is not among {', '.join(_SOLVERS)}")
    if params.get("reverse", False):
        raise ConfigError(
            "sampler.params.reverse=true goes from data to noise; images are made the other way"
        )
    if method == "dopri5":
        log.warning(
            "sampler: dopri5 with rtol %s, atol %s there; here it runs with 1e-5 and 1e-5, nearer the exact solution",
            params.get("rtol", 1e-3),
            params.get("atol", 1e-6),
        )
    num_steps = value(params, "num_steps", "sampler.params", default=50)
    if num_steps < 2:
        raise ConfigError(f"sampler.params.num_steps={num_steps}: a path has at least its 2 ends")
    return {"solver": _SOLVERS[method], "num_steps": num_steps}


def _bound(guidance: Node, which: str) -> float:
    """The bound ``t_min`` or ``t-min``: their YAML files spell both."""
    names = [name for name in (f"t_{which}", f"t-{which}") if name in guidance]
    if len(names) == 2:
        raise ConfigError(f"guidance has both {names[0]} and {names[1]}; leave one out")
    default = {"min": 0.0, "max": 1.0}[which]
    return float(value(guidance, names[0], "guidance", default=default)) if names else default
