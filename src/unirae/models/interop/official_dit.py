"""Parameter names of the official diffusion transformers (bytetriper/RAE, stage 2) to ours.

Their patch embeddings are convolutions (ours: linear layers over the same numbers), the rotary tables lie in their
checkpoints (ours follow from the grid), and DiT^DH counts trunk and head blocks in one list.
"""

import re

from torch import Tensor

from unirae.core.errors import WeightsError

_IN_BLOCK = {
    "norm1": "attention_norm",
    "norm2": "mlp_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "attn.q_norm": "attention.query_norm",
    "attn.k_norm": "attention.key_norm",
    "mlp.w12": "mlp.expand",
    "mlp.w3": "mlp.contract",
    "mlp.fc1": "mlp.expand",
    "mlp.fc2": "mlp.contract",
    "adaLN_modulation.1": "modulation.linear",
}
_TOP = {
    "t_embedder.mlp.0": "time_embed.expand",
    "t_embedder.mlp.2": "time_embed.contract",
    "y_embedder.embedding_table": "label_embed",
    "s_projector": "to_head",
    "final_layer.norm_final": "output.norm",
    "final_layer.linear": "output.linear",
    "final_layer.adaLN_modulation.1": "output.modulation.linear",
}
_TENSORS = {"t_embedder.W": "time_embed.frequencies", "pos_embed": "positions"}
_ROTARY = re.compile(r"(enc_feat_rope|dec_feat_rope|feat_rope)\.freqs_(cos|sin)")


def dit_from_official(state: dict[str, Tensor], *, trunk_depth: int | None = None) -> dict[str, Tensor]:
    """Tensors of an official DiT^DH (or, without ``trunk_depth``, a LightningDiT) under our names.

    Raises:
        WeightsError: a key belongs to no official model.
    """
    return {
        ours: tensor.flatten(1) if key.endswith("embedder.proj.weight") else tensor
        for key, tensor in state.items()
        if (ours := _to_ours(key, trunk_depth)) is not None
    }


def _to_ours(key: str, trunk_depth: int | None) -> str | None:
    """Our name of an official key; None for tables that we derive."""
    if _ROTARY.fullmatch(key):
        return None
    if key in _TENSORS:
        return _TENSORS[key]
    stem, _, leaf = key.rpartition(".")
    embeds = {"x_embedder.proj": "patch_embed" if trunk_depth is None else "head_embed"}
    top = {**_TOP, **embeds, "s_embedder.proj": "trunk_embed"}
    if stem in top:
        return f"{top[stem]}.{leaf}"
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if match is None or match[2] not in _IN_BLOCK:
        raise WeightsError(f"{key} is no key of an official DiT; is this a stage-2 model of bytetriper/RAE?")
    index = int(match[1])
    if trunk_depth is None:
        place = f"blocks.{index}"
    else:
        place = f"trunk.{index}" if index < trunk_depth else f"head.{index - trunk_depth}"
    return f"{place}.{_IN_BLOCK[match[2]]}.{leaf}"
