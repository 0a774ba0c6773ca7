"""Text encoders of RAEv2's generators: found by the name in the YAML, and named there again on the way out.

RAEv2's checkpoints hold nothing of them. It loads one by its name and reads the last hidden states, after the final
norm, of texts that are filled up to one length.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from unirae.core.arguments import argument, called
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.log import get_logger
from unirae.models.denoisers.base import Denoiser
from unirae.models.interop.official.config import OfficialDit
from unirae.models.interop.official.place import OfficialModel
from unirae.models.text.build import load_text_encoder, text_encoder_of
from unirae.models.text.identity import TextEncoderIdentity, is_hub_name
from unirae.models.text.packaged import NAME as PACKAGED

log = get_logger(__name__)

_TABLES = ("enc_rope.freqs_cos", "rope.freqs_cos")


def read_texts(conversion: OfficialModel, official: OfficialDit) -> dict[str, Any]:
    """Load the text encoder of a generator, for the network's arguments that its checkpoint does not hold.

    Returns:
        ``null_text`` and ``text_identity``; nothing for a generator that is conditioned on labels.

    Raises:
        ConfigError: If none is named, or its tokens have another width than the YAML says.
        WeightsError: If it is missing or damaged.
    """
    if (width := official.arguments.get("text_width")) is None:
        return {}
    named = official.text_encoder
    local = None if named is None else conversion.find_local(named)
    name = conversion.text_encoder or (named if local is None else str(local))
    if name is None:
        raise ConfigError(
            f"{conversion.config} names no text encoder: set conditioning.text_encoder.model_name, or give "
            f"{argument('text_encoder', 'DIR')}"
        )
    with called({"text_encoder.": "conditioning.text_encoder."}):
        encoder = load_text_encoder(
            name,
            max_length=official.text_length,
            remedy=_remedy(conversion, named),
        )
    if encoder.identity.width != width:
        raise ConfigError(
            f"conditioning.context_dim={width}, but the text encoder {name} makes tokens of width "
            f"{encoder.identity.width}; give with {argument('text_encoder', 'DIR')} the one that the generator was "
            "trained with"
        )
    identity = replace(encoder.identity, name=named or name)
    log.info("the null text and its identity are those of the text encoder %s", name)
    return {"null_text": encoder.null(), "text_identity": identity.to_dict()}


def _remedy(conversion: OfficialModel, named: str | None) -> str:
    there = f"It is the text encoder of {conversion.config}: give its folder with {argument('text_encoder', 'DIR')}"
    if named is None or not is_hub_name(named):
        return there
    return f"{there} (fetched where there is a network with `hf download {named} --local-dir DIR`)"


def check_text_length(state: dict[str, Tensor], official: OfficialDit, what: str) -> None:
    """Refuse a checkpoint whose rotary table counts other text tokens than the YAML.

    Raises:
        WeightsError: If it does; the message has both numbers.
    """
    table = next((state[key] for key in _TABLES if key in state), None)
    if not official.text_length or table is None or not table.ndim:
        return  # a missing table is reported with whatever else is missing
    sizes = official.arguments
    others = (sizes["input_size"] // (sizes["patch_size"] or 1)) ** 2 + sizes["num_time_tokens"]
    found = len(table) - others
    if found > 0 and found != official.text_length:
        raise WeightsError(
            f"{what} has rotary tables for {found} tokens of text beside {others} others, but "
            f"conditioning.text_encoder.max_length is {official.text_length}"
        )


def text_encoder_name(dit: Denoiser, given: str | None) -> str | None:
    """The name by which RAEv2 is to load a generator's text encoder; None of one that is conditioned on labels.

    Args:
        given: a folder or a hub's name to write, which must be that text encoder.

    Raises:
        ConfigError: If RAEv2 cannot name it, or reads other hidden states.
        WeightsError: If ``given`` is missing, or another text encoder.
    """
    if not dit.reads_text:
        if given is not None:
            raise ConfigError(f"{argument('text_encoder', given)}: this generator is conditioned on labels")
        return None
    if dit.text_identity is None:
        raise ConfigError(
            "this generator does not say which text encoder it was trained with, and RAEv2's YAML names it"
        )
    identity = TextEncoderIdentity.from_dict(dit.text_identity)
    if identity.layer is not None:
        raise ConfigError(
            f"RAEv2 reads the last hidden states of a text encoder, after its final norm; this generator reads the "
            f"hidden states {identity.layer} of {identity.name}"
        )
    name = _checked(identity, given) if given is not None else _own_name(identity)
    log.warning(
        "RAEv2 loads the text encoder %s itself: nothing of it is written. This model's weights have the sha256 %s",
        *(name, identity.sha256),
    )
    return name


def text_conditioning(dit: Denoiser, name: str, said: dict[str, Any]) -> dict[str, Any]:
    """The section ``conditioning`` of a generator that is conditioned on text.

    Args:
        name: of :func:`text_encoder_name`.
        said: that section of the YAML that the generator was converted from; empty where it was not.
    """
    assert dit.text_identity is not None
    length = dit.text_identity["max_length"]
    of_text = (said.get("arch") or {}).get("num_c_tokens", length)
    dropout = {"cfg_dropout_prob": said["cfg_dropout_prob"]} if "cfg_dropout_prob" in said else {}
    return {
        "type": "text",
        **dropout,
        "context_dim": dit.config.text_width,
        "text_encoder": {"model_name": name, "max_length": length},
        "arch": {"num_t_tokens": dit.config.num_time_tokens, "num_c_tokens": of_text},
    }


def _checked(identity: TextEncoderIdentity, given: str) -> str:
    if given == PACKAGED:
        raise ConfigError(_only_ours(given))
    text_encoder_of(identity, name=given)
    folder = Path(given).expanduser()
    return str(folder.resolve()) if folder.is_dir() else given


def _own_name(identity: TextEncoderIdentity) -> str:
    """The hub's name, where it has one; else the folder that it was read from."""
    if identity.source == PACKAGED:
        raise ConfigError(_only_ours(identity.name))
    return identity.hub_name or identity.source


def _only_ours(name: str) -> str:
    return (
        f"RAEv2 loads its text encoders by a hub's name or from a folder, and {name!r} is a name of ours alone; give "
        f"one with {argument('text_encoder', 'NAME_OR_DIR')}"
    )
