"""Generators in the configuration of RAEv2 (nanovisionx/RAEv2), in our terms: network, condition, sampler.

What describes one network lies in several sections there: its sizes in ``stage_2``, its condition in ``conditioning``,
its early head in ``internal_guidance``, its classes and time shift in ``misc``, its prediction in ``transport``.
Missing sections mean RAEv2's defaults.
"""

import math
import re
from typing import Any

from unirae.core.errors import ConfigError
from unirae.core.log import get_logger
from unirae.flow.prediction import CLAMP
from unirae.flow.times import SHIFT_BASE
from unirae.models.interop.official.config import Node, OfficialDit, known, section, target, value
from unirae.models.interop.official.sampling import OfficialSampling
from unirae.models.text.build import MAX_LENGTH

log = get_logger(__name__)

TARGETS_V2 = {  # its class: our kind, and whether it has an early head
    "stage2.models.DDT.DiTwDDTHead": ("dit_dh", False),
    "stage2.models.DDT.DiTwDDTHeadIG": ("dit_dh", True),
    "stage2.models.lightningDiT.LightningDiT": ("dit", False),
    "stage2.models.lightningDiT.LightningDiTIG": ("dit", True),
}
PREDICTIONS_V2 = {"velocity": "velocity", "x": "data"}
_NEEDED = ("input_size", "in_channels", "hidden_size", "depth", "num_heads")
_ELSEWHERE = (
    "base_model_depth",
    "num_classes",
    "condition_type",
    "context_dim",
    "cond_arch",
    "use_cfg_conds",
)
"""Arguments of the class that other sections give; a configuration may have them here, too, and they must agree."""
_OF_REPA = ("enable_repa", "repa_layer_depth", "z_dim")
_SHIFT_DIM = 196608
_NAVIGATION = (
    "conditioning.type=nwm: this generator is not converted, because it is a navigation model, whose conditions "
    "(frames, actions) nothing here makes"
)


def read_dit_v2(document: Node) -> OfficialDit:
    """Read the description of a generator of RAEv2.

    Raises:
        ConfigError: If a target or key is unknown, two sections disagree, or the network is one that is not converted.
    """
    node = document["stage_2"]
    kind, has_base = TARGETS_V2[target(node, tuple(TARGETS_V2), "stage_2")]
    params = section(node, "params", "stage_2")
    known(params, (*_NEEDED, "patch_size", "mlp_ratio", *_ELSEWHERE, *_OF_REPA), "stage_2.params")
    tokens = _condition_tokens(document, params)
    classes = _agreed(params, section(document, "misc"), "num_classes", "misc", default=1000)
    width, encoder, length = _text(document, params)
    arguments = {
        **_sizes(params, kind),
        **({**tokens, "num_classes": classes} if width is None else _of_text(tokens, width)),
        "base_head_depth": _base_depth(document, params, has_base),
        "use_qknorm": True,
        "conditioning": "tokens",
        "prediction": _prediction(section(document, "transport")),
        **({"use_pos_embed": False} if kind == "dit_dh" else {}),
    }
    return OfficialDit(
        version=2,
        kind=kind,
        arguments=arguments,
        has_null_label=True,
        checkpoint=node.get("ckpt"),
        text_encoder=encoder,
        text_length=length,
    )


def read_sampling_v2(document: Node, dit: OfficialDit) -> OfficialSampling:
    """Read the sampler: N Euler steps on the linear grid, which has N + 1 points, and both kinds of guidance.

    Raises:
        ConfigError: If a key is unknown or a value cannot be.
    """
    sampler = section(document, "sampler")
    known(sampler, ("num_steps",), "sampler")
    if (num_steps := value(sampler, "num_steps", "sampler", default=50)) < 1:
        raise ConfigError(f"sampler.num_steps={num_steps}: there is at least one step")
    settings = {"solver": "euler", "num_steps": num_steps + 1, "time_grid": "linear"}
    guidance = section(document, "guidance")
    known(guidance, ("cfg", "ig"), "guidance")
    cfg, ig = section(guidance, "cfg", "guidance"), section(guidance, "ig", "guidance")
    known(cfg, ("scale", "t_min", "t_max"), "guidance.cfg")
    known(ig, ("scale", "t_min", "t_max", "unconditional_scale"), "guidance.ig")
    if (scale := _number(cfg, "scale", "guidance.cfg", 1.0)) > 1:  # RAEv2 takes others for no guidance
        settings |= {"cfg_scale": scale, "guidance_interval": _interval(cfg, "guidance.cfg")}
    scale = _number(ig, "scale", "guidance.ig", 1.0)
    alone = ig.get("unconditional_scale")
    unconditional = scale if alone is None else _number(ig, "unconditional_scale", "guidance.ig", 1.0)
    if scale > 1 or (alone is not None and unconditional != 1):
        if dit.arguments["base_head_depth"] is None:
            raise ConfigError(f"guidance.ig.scale={scale:g} needs a network with an early head, a target …IG")
        settings |= {"ig_scale": scale, "ig_interval": _interval(ig, "guidance.ig")}
        settings |= {} if alone is None else {"ig_unconditional_scale": unconditional}
    return OfficialSampling(time_shift=_time_shift(document, dit), settings=settings)


def _sizes(params: Node, kind: str) -> dict[str, Any]:
    """The sizes of the network, all of which have to be there but the patch and the ratio."""
    if missing := [name for name in _NEEDED if name not in params]:
        raise ConfigError(f"stage_2.params lacks {', '.join(missing)}")
    patch = params.get("patch_size", 1)
    sides = {patch} if isinstance(patch, int) else set(patch if isinstance(patch, list | tuple) else [])
    if len(sides) != 1 or not isinstance(side := next(iter(sides)), int):
        raise ConfigError(
            f"stage_2.params.patch_size={patch}: RAEv2 runs with one patch size for trunk and head alone"
        )
    pair: Any = [1, 1] if kind == "dit_dh" else 1
    found = {
        name: value(params, name, "stage_2.params", default=default)
        for name, default in {
            "input_size": 16, "in_channels": 1024, "hidden_size": pair, "depth": pair, "num_heads": pair,
            "mlp_ratio": 4.0,
        }.items()
    }  # fmt: skip
    if kind == "dit_dh" and isinstance(heads := found["num_heads"], int):
        found["num_heads"] = [heads, heads]
    return {**found, "patch_size": side}


def _condition_tokens(document: Node, params: Node) -> dict[str, int]:
    """How many tokens carry time and label; another condition than labels or texts is refused."""
    node = section(document, "conditioning")
    known(
        node,
        ("type", "cfg_dropout_prob", "context_dim", "text_encoder", "arch", "use_cfg_conds"),
        "conditioning",
    )
    kind = _condition_type(node, params)
    if kind != params.get("condition_type", kind):
        raise ConfigError(
            f"conditioning.type={kind}, but stage_2.params.condition_type={params['condition_type']}"
        )
    if kind == "nwm":
        raise ConfigError(_NAVIGATION)
    if kind not in ("label", "text"):
        raise ConfigError(f"conditioning.type={kind!r} is unknown; expected label, text or nwm")
    if params.get("use_cfg_conds") or node.get("use_cfg_conds"):
        raise ConfigError(
            "use_cfg_conds=true: tokens of the guidance's strength ω are not converted, because RAEv2 has no code that "
            "trains them or samples with them"
        )
    arch = section(node, "arch", "conditioning") or dict(params.get("cond_arch") or {})
    known(
        arch, ("num_t_tokens", "num_c_tokens", "num_cfg_omega_tokens", "n_action_tokens"), "conditioning.arch"
    )
    return {
        ours: value(arch, theirs, "conditioning.arch", default=default)
        for ours, theirs, default in (
            ("num_time_tokens", "num_t_tokens", 4),
            ("num_condition_tokens", "num_c_tokens", 8),
        )
    }


def _condition_type(node: Node, params: Node) -> str:
    return node.get("type", params.get("condition_type", "label"))


def _text(document: Node, params: Node) -> tuple[int | None, str | None, int]:
    """Width of a text's tokens, the name of what makes them, and how many; None, None and 0 where labels condition."""
    node = section(document, "conditioning")
    if _condition_type(node, params) != "text":
        return None, None, 0
    width = _agreed(params, node, "context_dim", "conditioning", default=0)
    if not width:
        raise ConfigError(
            "conditioning.context_dim is missing: the width of the text encoder's hidden states, such as 1024 of "
            "Qwen/Qwen3-0.6B"
        )
    encoder = section(node, "text_encoder", "conditioning")
    known(encoder, ("model_name", "max_length"), "conditioning.text_encoder")
    length = value(encoder, "max_length", "conditioning.text_encoder", default=MAX_LENGTH)
    if not length:
        raise ConfigError("conditioning.text_encoder.max_length=0: a text has at least one token")
    return width, value(encoder, "model_name", "conditioning.text_encoder", default=None), length


def _of_text(tokens: dict[str, int], width: int) -> dict[str, int]:
    """The network's arguments in place of those for labels: a text has no classes, and its own tokens alone."""
    return {"num_time_tokens": tokens["num_time_tokens"], "num_classes": 0, "text_width": width}


def _base_depth(document: Node, params: Node, has_base: bool) -> int | None:
    node = section(document, "internal_guidance")
    known(node, ("base_model_depth", "base_model_coeff"), "internal_guidance")
    depth = _agreed(params, node, "base_model_depth", "internal_guidance", default=0)
    if has_base and not depth:
        raise ConfigError(
            "stage_2 has an early head (…IG), and neither stage_2.params.base_model_depth nor "
            "internal_guidance.base_model_depth says after how many blocks"
        )
    return depth if has_base else None


def _prediction(transport: Node) -> str:
    known(transport, ("prediction", "time_dist_type", "t_eps"), "transport")
    name = transport.get("prediction", "velocity")
    if name not in PREDICTIONS_V2:
        raise ConfigError(f"transport.prediction={name!r} is unknown; expected {' or '.join(PREDICTIONS_V2)}")
    kind = str(transport.get("time_dist_type", "logit-normal_0_1"))
    if not re.fullmatch(r"logit-normal_-?[\d.]+_[\d.]+", kind):
        raise ConfigError(f"transport.time_dist_type={kind}: expected logit-normal_MEAN_STD")
    if (t_eps := _number(transport, "t_eps", "transport", CLAMP)) != CLAMP:
        log.warning(
            "transport.t_eps=%g: where a sampler clamps the velocity here, it does at %g", t_eps, CLAMP
        )
    return PREDICTIONS_V2[name]


def _time_shift(document: Node, dit: OfficialDit) -> float:
    """s = √(dimension / base); 0 stands for the dimension of the latents."""
    misc = section(document, "misc")
    names = ("latent_size", "num_classes", "time_dist_shift_dim", "time_dist_shift_base")
    known(misc, names, "misc")
    side = dit.arguments["input_size"]
    latent = [dit.arguments["in_channels"], side, side]
    if list(misc.get("latent_size") or latent) != latent:
        raise ConfigError(f"misc.latent_size={misc['latent_size']}, but by stage_2.params it is {latent}")
    base = _number(misc, "time_dist_shift_base", "misc", float(SHIFT_BASE)) or float(SHIFT_BASE)
    dimension = _number(misc, "time_dist_shift_dim", "misc", float(_SHIFT_DIM)) or float(math.prod(latent))
    if "time_dist_shift_dim" not in misc:
        log.info("no misc.time_dist_shift_dim: times are shifted as RAEv2's default of %d asks", _SHIFT_DIM)
    return math.sqrt(dimension / base)


def _agreed(params: Node, node: Node, name: str, where: str, *, default: int) -> int:
    """A whole number that stands in ``stage_2.params``, in another section, or in both."""
    found = {
        place: value(given, name, place, default=default)
        for place, given in (("stage_2.params", params), (where, node))
        if given.get(name) is not None
    }
    if len(set(found.values())) > 1:
        raise ConfigError(
            " and ".join(f"{place}.{name}={number}" for place, number in found.items()) + " disagree"
        )
    return next(iter(found.values()), default)


def _interval(node: Node, where: str) -> list[float]:
    low, high = _number(node, "t_min", where, 0.0), _number(node, "t_max", where, 1.0)
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"{where}: t_min={low:g} and t_max={high:g}: expected 0 <= t_min <= t_max <= 1")
    return [low, high]


def _number(node: Node, name: str, where: str, default: float) -> float:
    return float(value(node, name, where, default=default))
