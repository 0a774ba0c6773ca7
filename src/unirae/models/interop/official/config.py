"""Configuration of the official code (bytetriper/RAE), its YAML read as a dictionary, in our terms.

Every key is known, or it is an error that names it: a switch that was overlooked would change the numbers. What the
official code itself cannot run is refused with the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unirae.core.conventions import LATENT_EPS
from unirae.core.errors import ConfigError
from unirae.core.log import get_logger
from unirae.models.interop.official.raev2 import named_encoder

log = get_logger(__name__)

Node = Mapping[str, Any]

ENCODERS = {  # its class: our kind, and its parameters, the first of which says where the weights lie
    "Dinov2withNorm": ("dinov2", ("dinov2_path", "normalize")),
    "SigLIP2wNorm": ("siglip2", ("model_name", "num_tokens")),
    "MAEwNorm": ("mae", ("model_name",)),
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
_RAE_V2 = {
    "encoder_name": "dinov3-vit-l16",
    "resolution": 256,
    "decoder_config_path": "vit_mae-base",
    "decoder_patch_size": 16,
    "pretrained_decoder_path": None,
    "noise_tau": 0.8,
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
_SECTIONS = ("stage_1", "stage_2", "transport", "sampler", "guidance", "misc", "training", "eval", "gan")
_SECTIONS_V2 = (*_SECTIONS, "conditioning", "internal_guidance", "repa", "dataset")
_OF_A_RUN = ("cmd_args", "experiment_dir", "checkpoint_dir")
"""Sections that the trainers add to the configuration that they save; nothing of them describes a model."""


@dataclass(frozen=True, kw_only=True)
class OfficialRae:
    """The autoencoder of ``stage_1``.

    Attributes:
        version: 1 (bytetriper/RAE) or 2 (nanovisionx/RAEv2).
        encoder_kind: ours.
        encoder_source: folder or hub name of the encoder's weights.
        reading: how tokens are read: further arguments of :func:`~unirae.models.encoders.build.build_encoder`.
        input_size: the side in pixels of the encoder's images.
        checkpoint: a file with the weights of all; None where the configuration names none.
        params: all of ``stage_1.params`` under their own names, with the official defaults.
    """

    version: Literal[1, 2]
    encoder_kind: str
    encoder_source: str
    reading: dict[str, Any]
    input_size: int
    checkpoint: str | None
    params: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class OfficialDit:
    """The diffusion transformer of ``stage_2``, or the model that guides it.

    Attributes:
        kind: ours.
        arguments: of our class of that kind.
        has_null_label: whether its table of labels has a row for "no label".
        checkpoint: its weights; None where the configuration names none.
        version: 1 (bytetriper/RAE) or 2 (nanovisionx/RAEv2).
        text_encoder: folder or hub name of the text encoder; None where it is conditioned on labels, or none is named.
        text_length: tokens that its texts are filled up to; 0 where it is conditioned on labels.
    """

    kind: str
    arguments: dict[str, Any]
    has_null_label: bool
    checkpoint: str | None
    version: Literal[1, 2] = 1
    text_encoder: str | None = None
    text_length: int = 0

    @property
    def trunk_depth(self) -> int | None:
        """Blocks of the trunk; None without a head."""
        return self.arguments["depth"][0] if self.kind == "dit_dh" else None


def check_sections(document: Node) -> None:
    """Refuse a file that is no configuration of the official code.

    Raises:
        ConfigError: If there is no ``stage_1``, or a section that the official code does not have.
    """
    if not isinstance(document, Mapping) or "stage_1" not in document:
        raise ConfigError("this is no configuration of the official RAE code: it has no stage_1")
    sections = _SECTIONS_V2 if is_version_2(document) else _SECTIONS
    known(document, (*sections, *_OF_A_RUN), "the top level")


def is_version_2(document: Node) -> bool:
    """Say whether a configuration is one of RAEv2: its autoencoder names the encoder in one word, ``encoder_name``."""
    node = document["stage_1"]
    params = node.get("params") if isinstance(node, Mapping) else None
    return isinstance(params, Mapping) and "encoder_name" in params


def read_rae(document: Node) -> OfficialRae:
    """Read the description of the autoencoder, of either version.

    Raises:
        ConfigError: If a target or key is unknown, or something cannot be converted.
    """
    node = document["stage_1"]
    target(node, RAE_TARGETS, "stage_1")
    read = _read_rae_v2 if is_version_2(document) else _read_rae_v1
    official = read(node)
    if official.checkpoint is not None and official.params["pretrained_decoder_path"] is not None:
        raise ConfigError(
            f"two sources for the decoder's weights: stage_1.ckpt={official.checkpoint} and "
            f"stage_1.params.pretrained_decoder_path={official.params['pretrained_decoder_path']}; leave one out"
        )
    return official


def _read_rae_v2(node: Node) -> OfficialRae:
    params = _params(node, _RAE_V2, "stage_1")
    named = named_encoder(params["encoder_name"], params["resolution"], where="stage_1.params.encoder_name")
    return OfficialRae(
        version=2,
        encoder_kind=named.kind,
        encoder_source=named.source,
        reading=named.reading,
        input_size=named.input_size,
        checkpoint=node.get("ckpt"),
        params=params,
    )


def _read_rae_v1(node: Node) -> OfficialRae:
    params = _params(node, _RAE, "stage_1")
    if params["encoder_cls"] not in ENCODERS:
        raise ConfigError(
            f"stage_1.params.encoder_cls={params['encoder_cls']!r} is unknown; expected one of {', '.join(ENCODERS)}"
        )
    kind, accepted = ENCODERS[params["encoder_cls"]]
    encoder, where = params["encoder_params"], accepted[0]
    known(encoder, accepted, "stage_1.params.encoder_params")
    if not isinstance(encoder.get(where), str):
        raise ConfigError(
            f"stage_1.params.encoder_params lacks {where}, the folder or name of the encoder's weights"
        )
    if encoder.get("normalize", True) is not True:
        raise ConfigError(
            "stage_1.params.encoder_params.normalize=false keeps the encoder's last affine LayerNorm; our encoders "
            "end without it, as the paper's do"
        )
    if params["reshape_to_2d"] is not True:
        raise ConfigError(
            "stage_1.params.reshape_to_2d=false makes latents that no diffusion model here reads"
        )
    return OfficialRae(
        version=1,
        encoder_kind=kind,
        encoder_source=encoder[where],
        reading={},
        input_size=params["encoder_input_size"],
        checkpoint=node.get("ckpt"),
        params=params,
    )


def read_dit(node: Node, where: str = "stage_2") -> OfficialDit:
    """Read the description of a diffusion transformer.

    Raises:
        ConfigError: If a target or key is unknown, or a switch is set with which the official code does not
            run.
    """
    kind = DIT_TARGETS[target(node, tuple(DIT_TARGETS), where)]
    params = _params(node, _DIT_DH if kind == "dit_dh" else _DIT, where)
    _refuse_what_cannot_run(kind, params, where)
    dropout = params.pop("class_dropout_prob")
    arguments = {k: v for k, v in params.items() if k not in ("wo_shift", "learn_sigma", "use_gembed")}
    if kind == "dit_dh":
        arguments["patch_size"] = 1
        if isinstance(heads := arguments["num_heads"], int):
            arguments["num_heads"] = [heads, heads]
    return OfficialDit(
        kind=kind, arguments=arguments, has_null_label=float(dropout) > 0, checkpoint=node.get("ckpt")
    )


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


def target(node: Node, targets: tuple[str, ...], where: str) -> str:
    """The class that a node of the configuration names.

    Raises:
        ConfigError: If it names none, or another than the ``targets``, or has other keys beside.
    """
    if not isinstance(node, Mapping) or "target" not in node:
        raise ConfigError(f"{where} has no target")
    known(node, ("target", "params", "ckpt"), where)
    value(node, "ckpt", where, default=None)
    if node["target"] not in targets:
        raise ConfigError(f"{where}.target={node['target']} is unknown; expected one of {', '.join(targets)}")
    return node["target"]


def _params(node: Node, defaults: dict[str, Any], where: str) -> dict[str, Any]:
    given = section(node, "params", where)
    known(given, tuple(defaults), f"{where}.params")
    return {
        name: value(given, name, f"{where}.params", default=default) for name, default in defaults.items()
    }


def section(node: Node, name: str, where: str = "") -> dict[str, Any]:
    """A part of the configuration that has keys of its own; empty where it is absent.

    Raises:
        ConfigError: If the part is a single value.
    """
    found = node.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise ConfigError(f"{where}.{name}={found!r}: expected keys and values".lstrip("."))
    return dict(found or {})


def value(node: Node, name: str, where: str, *, default: Any) -> Any:
    """A value of the kind of ``default``: a number, a pair of them, true or false, a text; for None a text, or nothing.

    Raises:
        ConfigError: If the value is of another kind.
    """
    found = node.get(name, default)
    what, fits = _KINDS[type(default)]
    if not (fits(found) or any(fits_too(found) for fits_too in _ALSO.get(name, ()))):
        raise ConfigError(f"{where}.{name}={found!r}: expected {what}")
    return found


def _is_count(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 0


def _is_pair(found: Any) -> bool:
    return isinstance(found, list | tuple) and len(found) == 2 and all(map(_is_count, found))


_KINDS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda found: isinstance(found, bool)),
    int: ("a whole number", _is_count),
    float: ("a number", lambda found: isinstance(found, int | float) and not isinstance(found, bool)),
    str: ("a text", lambda found: isinstance(found, str)),
    list: ("two whole numbers, [trunk, head]", _is_pair),
    dict: ("keys and values", lambda found: isinstance(found, Mapping)),
    type(None): ("a text, or nothing", lambda found: found is None or isinstance(found, str)),
}
_ALSO: dict[str, tuple[Callable[[Any], bool], ...]] = {"num_heads": (_is_count,), "patch_size": (_is_pair,)}


def known(node: Node, names: tuple[str, ...], where: str) -> None:
    """Refuse keys that the official code does not read.

    Raises:
        ConfigError: If a key is unknown to the official code; the message names all such keys.
    """
    if unknown := [str(name) for name in node if name not in names]:
        raise ConfigError(
            f"{where}: unknown {', '.join(unknown)}; the official code reads {', '.join(names)}"
        )
