"""Construction of encoders: from a hub, a folder, a seed, or a checkpoint's record."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.differences import differences, shortened
from unirae.core.errors import ConfigError, InputError, WeightsError
from unirae.core.log import get_logger
from unirae.core.strict import load_strictly
from unirae.core.weights import carried_folder, command
from unirae.models.encoders.base import Backbone, Encoder
from unirae.models.encoders.dinov2 import Dinov2Encoder
from unirae.models.encoders.dinov3 import Dinov3Encoder
from unirae.models.encoders.fusion import Combine, check_layers
from unirae.models.encoders.generic_hf import GenericHFEncoder
from unirae.models.encoders.hf import HFEncoder
from unirae.models.encoders.identity import EncoderIdentity, RopePeriods, architecture_read
from unirae.models.encoders.mae import MaeEncoder
from unirae.models.encoders.siglip2 import Siglip2Encoder
from unirae.models.encoders.timm import TimmEncoder

log = get_logger(__name__)

KINDS: dict[str, type[Any]] = {
    "dinov2": Dinov2Encoder,
    "dinov3": Dinov3Encoder,
    "siglip2": Siglip2Encoder,
    "mae": MaeEncoder,
    "generic_hf": GenericHFEncoder,
    "timm": TimmEncoder,
}
"""Classes of encoders by kind, with those that :func:`register_encoder` added."""
KINDS_OF_UNIRAE = frozenset(KINDS)

TRAINED_HERE = "unirae.json"
"""Lies in the folder of an encoder that was trained by this package; such weights travel in checkpoints."""


def build_encoder(
    *,
    kind: str,
    name: str,
    weights: str = "hub",
    architecture: Mapping[str, Any] | None = None,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layers: Sequence[int] | None = None,
    combine: Combine = "mean",
    add_token_mean: bool = False,
    norm_affine: bool | None = None,
    final_norm: bool = True,
    rope_periods: RopePeriods = "exact",
    remedy: str | None = None,
) -> Encoder:
    """Build a frozen encoder.

    Args:
        kind: the adapter, one of :data:`KINDS`.
        name: the model's name on its hub.
        weights: "hub" (the weights folder, if one is set, else the hub's cache and the hub itself), a path (a folder;
            for timm also a checkpoint file), or "random".
        architecture: the full configuration of the model, read only for ``weights="random"``
            (timm: arguments of ``create_model``; with a path, too).
        seed: of the random weights.
        mean, std: of RGB in [0, 1]; default: the model's own.
        layers: the blocks whose normed tokens are combined, from 0; None: the last one alone.
        combine: the way in which several blocks are combined.
        add_token_mean: add the mean over the patch tokens of the deepest chosen block to every patch token.
        norm_affine: keep the affine part of the final norm; None: as the kind does, which is without.
        final_norm: apply the final norm; False: tokens as the blocks give them.
        rope_periods: rotary periods as computed, or rounded to bf16 as DINOv3 was released with.
        remedy: how to get missing weights, where there is a better way than the usual.

    Raises:
        WeightsError: If the weights are missing, damaged, or of another model.
    """
    cls = adapter(kind)
    if layers is None and (combine != "mean" or add_token_mean):
        raise ConfigError(
            f"{argument('encoder.combine', combine)} and {argument('encoder.add_token_mean', add_token_mean)} say how "
            f"chosen blocks are combined; choose them with {argument('encoder.layers')}"
        )
    if norm_affine and not final_norm:
        raise ConfigError(
            f"{argument('encoder.norm_affine', True)} keeps a part of the norm that "
            f"{argument('encoder.final_norm', False)} leaves out; set one of them to its default"
        )
    for key, word, known in (
        ("combine", combine, get_args(Combine)),
        ("rope_periods", rope_periods, get_args(RopePeriods)),
    ):
        if word not in known:
            raise ConfigError(f"{argument(f'encoder.{key}', word)} is unknown; choose {' or '.join(known)}")
    if rope_periods != "exact" and not issubclass(cls, Dinov3Encoder):
        raise ConfigError(f"{argument('encoder.rope_periods', rope_periods)} is for kind=dinov3, not {kind}")
    if weights == "random":
        if not architecture:
            raise ConfigError(
                f"{argument('encoder.weights', 'random')} needs {argument('encoder.architecture')} for kind={kind}"
            )
        backbone = Backbone(_seeded_skeleton(cls, architecture, seed), cls.default_mean, cls.default_std)
        source = name
    else:
        if architecture and issubclass(cls, HFEncoder):
            cls.configure(dict(architecture))  # the weights bring their own, but a misspelt key is a mistake
        of_hub = weights == "hub" and not Path(name).exists()
        source = name if of_hub else _existing(name, weights, remedy)
        place = _place(kind, name) if of_hub else source
        backbone = _pretrained(cls, name, place, architecture, remedy)
    origin = "random" if weights == "random" else "path" if Path(source).is_absolute() else "hub"
    identity = EncoderIdentity(
        kind=kind,
        name=name,
        source=source,
        weights=origin,
        config=cls.describe(backbone.network),
        pixel_mean=_rgb("mean", mean or backbone.mean),
        pixel_std=_rgb("std", std or backbone.std),
        embedded=origin == "random" or (Path(source) / TRAINED_HERE).is_file(),
        layers=None if layers is None else check_layers(layers, None),
        combine=combine,
        add_token_mean=add_token_mean,
        norm_affine=bool(norm_affine),
        final_norm=final_norm,
        rope_periods=rope_periods,
    )
    return cls(backbone=backbone.network, identity=identity)


def encoder_from_identity(
    identity: EncoderIdentity,
    state_dict: dict[str, Tensor] | None = None,
    *,
    weights_override: str | None = None,
) -> Encoder:
    """Rebuild the very encoder that a checkpoint was made with.

    Args:
        state_dict: its ``state_dict()``; needed where ``identity.embedded`` and no override is given.
        weights_override: a path to take the weights from instead of their recorded source.

    Raises:
        WeightsError: If the encoder cannot be had, or its hash or architecture is not the recorded one.
    """
    cls = adapter(identity.kind)
    if identity.embedded and weights_override is None:
        if state_dict is None:
            raise WeightsError(
                f"the checkpoint names a {identity.kind} encoder whose weights should be inside, but are not"
            )
        encoder = cls(backbone=_seeded_skeleton(cls, identity.config, seed=0), identity=identity)
        load_strictly(encoder, state_dict, what="encoder")
    else:
        source = weights_override or identity.source
        if weights_override is not None or identity.weights == "path":
            source = _existing(identity.name, source, None)
        elif identity.weights == "hub":
            source = _place(identity.kind, source)
        backbone = _pretrained(cls, identity.name, source, identity.config, None)
        _check_architecture(identity, cls.describe(backbone.network), source)
        encoder = cls(backbone=backbone.network, identity=identity)
    if identity.sha256 and encoder.weights_sha256 != identity.sha256:
        raise WeightsError(
            f"the encoder at {weights_override or identity.source} is not the one that this checkpoint was "
            f"trained with: sha256 {encoder.weights_sha256[:12]}…, recorded {identity.sha256[:12]}…"
        )
    return encoder


def _check_architecture(identity: EncoderIdentity, found: dict[str, Any], source: str) -> None:
    """Refuse weights that lie beside another architecture than the recorded one: equal ones would be read otherwise.

    Of the kinds of this package, a key that one side lacks is of another version of their library; of one's own it
    counts.
    """
    there, here = (architecture_read(identity.kind, config) for config in (identity.config, found))
    if identity.kind in KINDS_OF_UNIRAE:
        there, here = ({key: side[key] for key in there.keys() & here.keys()} for side in (there, here))
    if different := differences(there, here):
        raise WeightsError(
            f"the encoder at {source} is not the one that this checkpoint was trained with; its architecture differs: "
            + "; ".join(f"{d.name} {shortened(d.second)}, recorded {shortened(d.first)}" for d in different)
        )


def hub_repository(kind: str, name: str) -> str | None:
    """Repository of an encoder on the Hugging Face hub, ``owner/name``; None for one that does not lie there."""
    return adapter(kind).hub_repository(name)


def _place(kind: str, name: str) -> str:
    """Source of the encoder that a hub calls ``name``: its folder in the weights folder, if set, or the hub."""
    on_hub = hub_repository(kind, name)
    folder = None if on_hub is None else carried_folder(on_hub)
    return name if folder is None else str(folder)


def embedded(encoder: Encoder) -> Encoder:
    """The same encoder, whose weights travel inside checkpoints from now on."""
    return type(encoder)(backbone=encoder.backbone, identity=replace(encoder.identity, embedded=True))  # pyright: ignore[reportCallIssue]


def adapter(kind: str) -> type[Any]:
    """The class that reads encoders of a kind.

    Raises:
        ConfigError: If there is no kind of that name.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"the encoder kind {kind!r} is unknown; choose one of {', '.join(KINDS)}, or make one of your own known "
            f"before by unirae.register_encoder({kind!r}, CLASS)"
        )
    return KINDS[kind]


def register_encoder(kind: str, cls: type[Encoder]) -> None:
    """Make an encoder class of your own known to this process as ``model.encoder.kind=KIND``.

    Call it before training with it, and before opening checkpoints of models that have it: those hold the kind, the
    architecture and, where they exist nowhere else, the weights, but no code. docs/encoders.md has an example.

    Args:
        kind: a new word; registering it again replaces the class.
        cls: see :class:`~unirae.models.encoders.base.Encoder` for what it must have.

    Raises:
        InputError: If the kind is one of this package's, or ``cls`` is no class of encoders or lacks a method.
    """
    if kind in KINDS_OF_UNIRAE:
        raise InputError(f"kind={kind!r} is one of unirae's encoders; give yours another name")
    if not (isinstance(cls, type) and issubclass(cls, Encoder)):
        raise InputError(f"{cls!r} must be a subclass of unirae.models.encoders.base.Encoder")
    if inspect.isabstract(cls):
        raise InputError(f"{cls.__name__} lacks {', '.join(sorted(cls.__abstractmethods__))}")
    KINDS[kind] = cls


def _seeded_skeleton(cls: type[Any], architecture: Mapping[str, Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs for good
        return cls.described(architecture)


def _existing(name: str, weights: str, remedy: str | None) -> str:
    path = Path(name if weights == "hub" else weights).expanduser()
    if not path.exists():
        raise WeightsError(f"no encoder weights at {path}. {remedy or _usual_remedy(name)}")
    if (path / "checkpoints").is_dir() and not (path / "config.json").exists():
        raise WeightsError(
            f"{path} is the folder of a run without an encoder's config.json and model.safetensors: stage 0 writes "
            "them when it ends. Let it finish, or name another folder"
        )
    return str(path.resolve())


def _pretrained(
    cls: type[Any], name: str, source: str, architecture: Mapping[str, Any] | None, remedy: str | None
) -> Backbone:
    log.info("loading the encoder from %s", source)
    try:
        return cls.pretrained(source, name=name, architecture=dict(architecture or {}))
    except WeightsError as error:
        raise WeightsError(f"{error}. {remedy or _usual_remedy(name, cls)}") from None


def _usual_remedy(name: str, cls: type[Any] = HFEncoder) -> str:
    if not issubclass(cls, HFEncoder | TimmEncoder):
        return f"Set {argument('encoder.weights')} to its folder, or to random ({cls.__name__} has no hub)"
    model = (None if Path(name).exists() else cls.hub_repository(name)) or name
    return (
        f"Fetch it where there is a network (`hf download {model} --local-dir DIR`) and set "
        f"{argument('encoder.weights', 'DIR')}; or fetch all that a run needs (`{command()}`) and set weights_dir=DIR, "
        f"for other commands UNIRAE_WEIGHTS_DIR=DIR; or set {argument('encoder.weights', 'random')}"
    )


def _rgb(what: str, values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ConfigError(f"{argument(f'encoder.{what}')} needs three numbers (R, G, B), got {list(values)}")
    red, green, blue = (float(value) for value in values)
    return red, green, blue
