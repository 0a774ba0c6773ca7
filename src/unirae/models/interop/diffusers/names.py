"""Parameter names of diffusers' AutoencoderRAE: its decoder's to ours and back, and its encoders' by any transformers.

The decoder's names are the official ones (:mod:`unirae.models.interop.official.names`) but for attention. The encoder's
are those of whichever transformers wrote the file: version 4 says ``attention.attention.query`` where later ones say
``attention.q_proj``, and keeps SigLIP below ``vision_model``. The names of version 4 are the common language here.
"""

import re

from torch import Tensor

from unirae.models.interop.official.names import decoder_from_official, decoder_to_official

POSITIONS = "decoder_pos_embed"
"""Key of the positions: a parameter of the official decoder; in diffusers' a table that it never saves."""

_ATTENTION = {
    "attention.attention.query": "attention.to_q",
    "attention.attention.key": "attention.to_k",
    "attention.attention.value": "attention.to_v",
    "attention.output.dense": "attention.to_out.0",
}
_LATER_ATTENTION = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
}
_LATER_MAE = {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}


def decoder_to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our decoder's tensors under diffusers' names, without the positions."""
    official = decoder_to_official(state)
    del official[POSITIONS]
    return {_replaced(key, _ATTENTION): tensor for key, tensor in official.items()}


def decoder_from_diffusers(state: dict[str, Tensor], *, positions: Tensor) -> dict[str, Tensor]:
    """Rename a decoder's tensors as the inverse of :func:`decoder_to_diffusers`."""
    back = {theirs: ours for ours, theirs in _ATTENTION.items()}
    official = {_replaced(key, back): tensor for key, tensor in state.items()}
    return decoder_from_official(official | {POSITIONS: positions})


def old_encoder_name(kind: str, name: str) -> str:
    """Name of transformers 4 for a tensor of an encoder; those that are its own stay as they are."""
    if kind == "siglip2":
        return "vision_model." + name.removeprefix("vision_model.")
    name = _replaced(name, _LATER_ATTENTION)
    if kind == "mae":
        name = re.sub(r"^layers\.", "encoder.layer.", name)
        name = _replaced(name, _LATER_MAE)
    return name


def _replaced(key: str, names: dict[str, str]) -> str:
    """Replace the one part of ``key`` that ``names`` knows."""
    for part, other in names.items():
        if re.search(rf"\.{re.escape(part)}\.(weight|bias)$", key):
            return key.replace(f".{part}.", f".{other}.")
    return key
