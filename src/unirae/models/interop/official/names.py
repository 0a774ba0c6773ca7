"""Parameter names of the official RAE code (bytetriper/RAE), stage 1, to ours and back, losslessly.

Their decoder is transformers' ViTMAE decoder of old: q, k and v are three linears (ours: one, stacked in that
order), positions and class token are ``decoder_pos_embed`` and ``trainable_cls_token``. A full stage-1
checkpoint holds the decoder below ``decoder.`` and the encoder below ``encoder.``; an extracted decoder has
neither prefix.
"""

import re

import torch
from torch import Tensor

from unirae.core.errors import WeightsError

_TOP = {
    "decoder_embed": "embed",
    "decoder_norm": "norm",
    "decoder_pred": "to_pixels",
}
_IN_BLOCK = {
    "layernorm_before": "attention_norm",
    "layernorm_after": "mlp_norm",
    "attention.output.dense": "attention.out",
    "intermediate.dense": "mlp.expand",
    "output.dense": "mlp.contract",
}
_TENSORS = {"decoder_pos_embed": "positions", "trainable_cls_token": "class_token"}
_QKV = ("query", "key", "value")
_ENCODER_ROOTS = ("encoder.encoder.", "encoder.model.")
"""DINOv2's attribute is named encoder, the others' model."""

DECODER_SIZES = {  # of a decoder's configuration: theirs and ours
    "decoder_hidden_size": "width",
    "decoder_num_hidden_layers": "depth",
    "decoder_num_attention_heads": "num_heads",
    "decoder_intermediate_size": "mlp_width",
}
DECODER_CONSTANTS = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "qkv_bias": True, "num_channels": 3}
"""Constants of a decoder's configuration that ours always has."""


def split_rae(state: dict[str, Tensor], *, what: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The decoder's tensors, and the encoder's where the file holds a whole RAE, without their prefixes.

    The encoder's names are those of the transformers that saved them and are left as they are.

    Args:
        what: the file, for the message.

    Raises:
        WeightsError: If a whole RAE has something else beside decoder and encoder.
    """
    if not any(key.startswith(("decoder.", "encoder.")) for key in state):
        return state, {}
    decoder = {key.removeprefix("decoder."): t for key, t in state.items() if key.startswith("decoder.")}
    encoder = {
        key.removeprefix(root): tensor
        for key, tensor in state.items()
        for root in _ENCODER_ROOTS
        if key.startswith(root)
    }
    if foreign := [key for key in state if not key.startswith(("decoder.", *_ENCODER_ROOTS))]:
        raise WeightsError(
            f"{what} holds a whole autoencoder (decoder.…, encoder.…), and {len(foreign)} tensors of neither, such as "
            f"{foreign[0]}; each weight must have one source"
        )
    return decoder, encoder


def decoder_from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an official decoder, as :func:`split_rae` gives them, under our decoder's names.

    Raises:
        WeightsError: If a key belongs to no official decoder, or a part of q, k, v is missing.
    """
    ours: dict[str, Tensor] = {}
    packed: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        part = re.fullmatch(
            r"decoder_layers\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)", key
        )
        if part:
            index, which, leaf = part.groups()
            packed.setdefault(f"blocks.{index}.attention.qkv.{leaf}", {})[which] = tensor
        else:
            ours[_to_ours(key)] = tensor
    for key, parts in packed.items():
        if len(parts) != len(_QKV):
            raise WeightsError(
                f"official decoder: {key} has only {', '.join(sorted(parts))} of {', '.join(_QKV)}"
            )
        ours[key] = torch.cat([parts[which] for which in _QKV])
    return ours


def decoder_to_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`decoder_from_official`, without the ``decoder.`` prefix."""
    official: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.attention\.qkv\.(weight|bias)", key):
            index, leaf = match.groups()
            for which, part in zip(_QKV, tensor.chunk(3), strict=True):
                official[f"decoder_layers.{index}.attention.attention.{which}.{leaf}"] = part.clone()
        else:
            official[_to_official(key)] = tensor
    return official


def _to_ours(key: str) -> str:
    if key in _TENSORS:
        return _TENSORS[key]
    stem, _, leaf = key.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{leaf}"
    match = re.fullmatch(r"decoder_layers\.(\d+)\.(.+)", stem)
    if match and match[2] in _IN_BLOCK:
        return f"blocks.{match[1]}.{_IN_BLOCK[match[2]]}.{leaf}"
    raise WeightsError(
        f"{key} is no key of an official RAE decoder; is this a stage-1 checkpoint of bytetriper/RAE?"
    )


def _to_official(key: str) -> str:
    tensors, top, in_block = ({v: k for k, v in names.items()} for names in (_TENSORS, _TOP, _IN_BLOCK))
    if key in tensors:
        return tensors[key]
    stem, _, leaf = key.rpartition(".")
    if stem in top:
        return f"{top[stem]}.{leaf}"
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if match and match[2] in in_block:
        return f"decoder_layers.{match[1]}.{in_block[match[2]]}.{leaf}"
    raise WeightsError(f"{key} is no key of our decoder")
