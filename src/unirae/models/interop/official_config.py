"""The official code's YAML (bytetriper/RAE), read as a dictionary: what it means in our terms, and what it cannot mean.

Every key is known, or it is an error that names it: a switch that was overlooked would change the numbers. What the
official code itself cannot run is refused with the reason.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unirae.core.conventions import LATENT_EPS
from unirae.core.errors import ConfigError
from unirae.core.log import get_logger

log = get_logger(__name__)

Node = Mapping[str, Any]

_ENCODERS = {  # its class: our kind, and the parameter that says where the weights lie
    "Dinov2withNorm": ("dinov2", "dinov2_path"),
    "SigLIP2wNorm": ("siglip2", "model_name"),
    "MAEwNorm": ("mae", "model_name"),
}
_RAE = {
    "encoder_cls": "Dinov2withNorm",
    "encoder_config_path": "facebook/dinov2-base",
    "encoder_input_size": 224,
    "encoder_params": {},
    "decoder_config_path": "vit_mae-base",
    "decoder_patch_size": 16,
    "pretrained_decoder_path": None,
    "noise_tau": 0.8,
    "reshape_to_2d": True,
    "normalization_stat_path": None,
    "eps": LATENT_EPS,
}
_SHARED = {
    "in_channels": 768,
    "mlp_ratio": 4.0,
    "class_dropout_prob": 0.1,
    "num_classes": 1000,
    "use_qknorm": False,
    "use_swiglu": True,
    "use_rope": True,
    "use_rmsnorm": True,
    "wo_shift": False,
}
_DIT_DH = _SHARED | {
    "input_size": 1,
    "patch_size": 1,
    "hidden_size": [1152, 2048],
    "depth": [28, 2],
    "num_heads": [16, 16],
    "use_pos_embed": True,
}
_DIT = _SHARED | {
    "input_size": 16,
    "patch_size": 1,
    "hidden_size": 1152,
    "depth": 28,
    "num_heads": 16,
    "learn_sigma": False,
    "use_gembed": True,  # read by nothing
}
RAE_TARGETS = ("stage1.RAE", "stage1.rae.RAE")
DIT_TARGETS = {
    "stage2.models.DDT.DiTwDDTHead": "dit_dh",
    "stage2.models.lightningDiT.LightningDiT": "dit",
}
_SOLVERS = {"euler": "euler", "heun2": "heun", "dopri5": "dopri5"}
_SECTIONS = ("stage_1", "stage_2", "transport", "sampler", "guidance", "misc", "training", "eval", "gan")


@dataclass(frozen=True, kw_only=True)
class OfficialRae:
    """``stage_1``.

    Attributes:
        encoder_kind: ours.
        encoder_source: folder or hub name of the encoder's weights.
        pixel_source: folder or hub name whose preprocessor says mean and std.
        decoder_config: folder or hub name with the decoder's sizes.
        decoder_weights, stats: files; None where the configuration names none.
        checkpoint: a file with the weights of all.
    """

    encoder_kind: str
    encoder_source: str
    pixel_source: str
    encoder_input_size: int
    decoder_config: str
    decoder_patch_size: int
    noise_tau: float
    eps: float
    decoder_weights: str | None
    stats: str | None
    checkpoint: str | None


@dataclass(frozen=True, kw_only=True)
class OfficialDit:
    """``stage_2``, or the model that guides it.

    Attributes:
        kind: ours.
        arguments: of our class of that kind.
        has_null_label: whether its table of labels has a row for "no label".
        checkpoint: its weights; None where the configuration names none.
    """

    kind: str
    arguments: dict[str, Any]
    has_null_label: bool
    checkpoint: str | None

    @property
    def trunk_depth(self) -> int | None:
        """Blocks of the trunk; None without a head."""
        return self.arguments["depth"][0] if self.kind == "dit_dh" else None


@dataclass(frozen=True, kw_only=True)
class OfficialSampling:
    """``sampler``, ``guidance`` and ``misc``.

    Attributes:
        time_shift: s of the times.
        settings: of our sampler; empty where the configuration has no sampler.
        guide: the model of autoguidance.
    """

    time_shift: float
    settings: dict[str, Any] = field(default_factory=dict)
    guide: OfficialDit | None = None


def check_sections(document: Node) -> None:
    """Refuse a file that is none of theirs.

    Raises:
        ConfigError: no ``stage_1``, or a section that they do not have.
    """
    if not isinstance(document, Mapping) or "stage_1" not in document:
        raise ConfigError("this is no configuration of the official RAE code: it has no stage_1")
    _known(document, _SECTIONS, "the top level")


def read_rae(document: Node) -> OfficialRae:
    """The autoencoder.

    Raises:
        ConfigError: an unknown target or key, or something that cannot be converted.
    """
    node = document["stage_1"]
    _target(node, RAE_TARGETS, "stage_1")
    params = _params(node, _RAE, "stage_1")
    if params["encoder_cls"] not in _ENCODERS:
        raise ConfigError(
            f"stage_1.params.encoder_cls={params['encoder_cls']!r} is unknown; expected one of {', '.join(_ENCODERS)}"
        )
    kind, where = _ENCODERS[params["encoder_cls"]]
    encoder = params["encoder_params"] or {}
    _known(encoder, (where, "normalize", "num_tokens"), "stage_1.params.encoder_params")
    if where not in encoder:
        raise ConfigError(f"stage_1.params.encoder_params lacks {where}, the encoder's weights")
    if encoder.get("normalize", True) is not True:
        raise ConfigError(
            "stage_1.params.encoder_params.normalize=false keeps the encoder's last affine LayerNorm; our encoders "
            "end without it, as the paper's do"
        )
    if params["reshape_to_2d"] is not True:
        raise ConfigError(
            "stage_1.params.reshape_to_2d=false makes latents that no diffusion model here reads"
        )
    if node.get("ckpt") is not None and params["pretrained_decoder_path"] is not None:
        raise ConfigError(
            f"two sources for the decoder's weights: stage_1.ckpt={node['ckpt']} and "
            f"stage_1.params.pretrained_decoder_path={params['pretrained_decoder_path']}; leave one out"
        )
    return OfficialRae(
        encoder_kind=kind,
        encoder_source=str(encoder[where]),
        pixel_source=str(params["encoder_config_path"]),
        encoder_input_size=int(params["encoder_input_size"]),
        decoder_config=str(params["decoder_config_path"]),
        decoder_patch_size=int(params["decoder_patch_size"]),
        noise_tau=float(params["noise_tau"]),
        eps=float(params["eps"]),
        decoder_weights=params["pretrained_decoder_path"],
        stats=params["normalization_stat_path"],
        checkpoint=node.get("ckpt"),
    )


def read_dit(node: Node, where: str = "stage_2") -> OfficialDit:
    """A diffusion transformer.

    Raises:
        ConfigError: an unknown target or key, or a switch with which the official code does not run.
    """
    kind = DIT_TARGETS[_target(node, tuple(DIT_TARGETS), where)]
    params = _params(node, _DIT_DH if kind == "dit_dh" else _DIT, where)
    _refuse_what_cannot_run(kind, params, where)
    dropout = params.pop("class_dropout_prob")
    arguments = {k: v for k, v in params.items() if k not in ("wo_shift", "learn_sigma", "use_gembed")}
    if kind == "dit_dh":
        arguments["patch_size"] = 1
        heads = arguments["num_heads"]
        arguments["num_heads"] = [heads, heads] if isinstance(heads, int) else list(heads)
        arguments |= {name: list(arguments[name]) for name in ("hidden_size", "depth")}
    return OfficialDit(
        kind=kind, arguments=arguments, has_null_label=float(dropout) > 0, checkpoint=node.get("ckpt")
    )


def read_sampling(document: Node, dit: OfficialDit) -> OfficialSampling:
    """How images are made.

    Raises:
        ConfigError: an unknown key, a path or a prediction other than the linear path's velocity, a solver that we
            do not have, or guidance that the official code cannot run.
    """
    _check_transport(document.get("transport") or {})
    shift = _time_shift(document.get("misc") or {}, dit)
    settings: dict[str, Any] = {}
    if (sampler := document.get("sampler")) is not None:
        settings |= _solver(sampler)
    guidance = document.get("guidance") or {}
    _known(guidance, ("method", "scale", "t_min", "t-min", "t_max", "t-max", "guidance_model"), "guidance")
    scale = float(guidance.get("scale", 1.0))
    method = guidance.get("method", "cfg")
    if method not in ("cfg", "autoguidance"):
        raise ConfigError(f"guidance.method={method!r} is unknown; expected cfg or autoguidance")
    if scale <= 1.0:  # the official code then runs the plain model
        return OfficialSampling(time_shift=shift, settings=settings)
    if dit.kind == "dit":
        raise ConfigError(
            f"guidance.scale={scale:g}: the official LightningDiT cannot be guided (its forward_with_cfg and "
            "forward_with_autoguidance fail on the interval that its sampler passes). Set guidance.scale: 1.0 to "
            "convert, and sample with --cfg_scale"
        )
    settings |= {"cfg_scale": scale, "guidance_interval": [_bound(guidance, "min"), _bound(guidance, "max")]}
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


def _refuse_what_cannot_run(kind: str, params: dict[str, Any], where: str) -> None:
    if params["wo_shift"]:
        raise ConfigError(
            f"{where}.params.wo_shift=true: the official code cannot run it (it modulates with None)"
        )
    if kind == "dit":
        if params["learn_sigma"]:
            raise ConfigError(
                f"{where}.params.learn_sigma=true: half of the output is a variance that nothing reads; there is no "
                "such half here"
            )
        return
    patch = params["patch_size"]
    if any(int(side) != 1 for side in (patch if isinstance(patch, list | tuple) else [patch])):
        raise ConfigError(
            f"{where}.params.patch_size={patch}: the official DiT^DH runs with patch_size 1 alone (its embedding "
            "expects channels that its input does not have)"
        )
    if not params["use_rope"]:
        raise ConfigError(
            f"{where}.params.use_rope=false: the official DiT^DH cannot run it (it asks for tables that it then lacks)"
        )


def _check_transport(node: Node) -> None:
    _known(node, ("target", "params"), "transport")
    params = dict(node.get("params") or {})
    known = (
        "path_type",
        "prediction",
        "loss_weight",
        "train_eps",
        "sample_eps",
        "time_dist_type",
        "time_dist_shift",
    )
    _known(params, known, "transport.params")
    for name, needed in (("path_type", "Linear"), ("prediction", "velocity")):
        if params.get(name, needed) != needed:
            raise ConfigError(f"transport.params.{name}={params[name]}: only {needed} models are read here")


def _time_shift(misc: Node, dit: OfficialDit) -> float:
    _known(
        misc,
        ("latent_size", "num_classes", "null_label", "time_dist_shift_dim", "time_dist_shift_base"),
        "misc",
    )
    arguments = dit.arguments
    latent = [arguments["in_channels"], arguments["input_size"], arguments["input_size"]]
    for name, own in (("num_classes", arguments["num_classes"]), ("null_label", arguments["num_classes"])):
        if int(misc.get(name, own)) != own:
            raise ConfigError(
                f"misc.{name}={misc[name]}, but stage_2.params.num_classes={arguments['num_classes']}"
            )
    base = float(misc.get("time_dist_shift_base", 4096))
    dimension = float(misc.get("time_dist_shift_dim", math.prod(misc.get("latent_size", latent))))
    if base <= 0 or dimension < base:
        raise ConfigError(
            f"misc.time_dist_shift_dim={dimension:g} below time_dist_shift_base={base:g}: the official code refuses a "
            "shift below 1"
        )
    return math.sqrt(dimension / base)


def _solver(sampler: Node) -> dict[str, Any]:
    _known(sampler, ("mode", "params"), "sampler")
    if (mode := sampler.get("mode", "ODE")) != "ODE":
        raise ConfigError(
            f"sampler.mode={mode}: only ODE is converted; leave sampler out, and use --solver sde"
        )
    params = sampler.get("params") or {}
    _known(params, ("sampling_method", "num_steps", "atol", "rtol", "reverse"), "sampler.params")
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
    return {"solver": _SOLVERS[method], "num_steps": int(params.get("num_steps", 50))}


def _bound(guidance: Node, which: str) -> float:
    """``t_min`` or ``t-min``: their YAML files spell both."""
    names = [name for name in (f"t_{which}", f"t-{which}") if name in guidance]
    if len(names) == 2:
        raise ConfigError(f"guidance has both {names[0]} and {names[1]}; leave one out")
    default = {"min": 0.0, "max": 1.0}[which]
    return float(guidance[names[0]]) if names else default


def _target(node: Node, targets: tuple[str, ...], where: str) -> str:
    if not isinstance(node, Mapping) or "target" not in node:
        raise ConfigError(f"{where} has no target")
    _known(node, ("target", "params", "ckpt"), where)
    if node["target"] not in targets:
        raise ConfigError(f"{where}.target={node['target']} is unknown; expected one of {', '.join(targets)}")
    return node["target"]


def _params(node: Node, defaults: dict[str, Any], where: str) -> dict[str, Any]:
    given = dict(node.get("params") or {})
    _known(given, tuple(defaults), f"{where}.params")
    return defaults | given


def _known(node: Node, names: tuple[str, ...], where: str) -> None:
    if unknown := [str(name) for name in node if name not in names]:
        raise ConfigError(
            f"{where}: unknown {', '.join(unknown)}; the official code reads {', '.join(names)}"
        )
