"""Parameter names of RAEv2's diffusion transformers (nanovisionx/RAEv2, stage 2) to ours and back, losslessly.

Queries, keys and values are three linears there, both halves of a SwiGLU two; ours are one, stacked in that order.
Patch embeddings are convolutions, rotary tables lie in the checkpoints, and blocks count through trunk and head.
"""

import re

import torch
from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.dit_dh import DiTDH
from unirae.models.interop.official.dit import rotary_table

_IN_BLOCK = {
    "attention_norm": ("norm1",),
    "mlp_norm": ("norm2",),
    "attention.qkv": ("attn.q", "attn.k", "attn.v"),
    "attention.query_norm": ("attn.q_norm",),
    "attention.key_norm": ("attn.k_norm",),
    "attention.out": ("attn.proj",),
    "mlp.expand": ("mlp.w1", "mlp.w2"),
    "mlp.contract": ("mlp.w3",),
    "modulation.linear": ("adaln_modulation.1",),
}
_TOP = {
    "time_embed.expand": "t_embedder.mlp.0",
    "time_embed.contract": "t_embedder.mlp.2",
    "label_embed": "ctx_embedder.embedding_table",
    "text_embed.norm": "ctx_embedder.norm",
    "text_embed.linear": "ctx_embedder.proj",
    "patch_embed": "x_embedder.proj",
    "trunk_embed": "s_embedder.proj",
    "head_embed": "x_embedder.proj",
    "to_head": "s_projector",
}
_TENSORS = {
    "time_embed.frequencies": "t_embedder.W",
    "condition_tokens.time": "t_embedder.learnable_tokens",
    "condition_tokens.condition": "ctx_embedder.learnable_tokens",
}
_OF_NULL_TEXT = ("null_tokens", "null_mask")
_OUTPUTS = {"output": "final_layer", "base_output": "base_final_layer"}


def dit_v2_from_official(state: dict[str, Tensor], denoiser: Denoiser) -> dict[str, Tensor]:
    """Tensors of a network of RAEv2 under the names of ours of the same architecture.

    What stands for no text is not in its checkpoints, and stays the given network's.

    Args:
        state: which fits :func:`dit_v2_to_official` of that network.

    Raises:
        WeightsError: If a rotary table is another than the grid's.
    """
    length = _text_length(state, denoiser)
    for key, expected in _rotary_tables(denoiser, length).items():
        found = state[key]
        if not torch.allclose(found.float(), expected, atol=max(1e-4, torch.finfo(found.dtype).eps), rtol=0):
            raise WeightsError(
                f"{key} is not the table of rotary positions that RAEv2 computes for this grid and its condition tokens"
            )
    return {
        name: torch.cat([state[key] for key in keys]).reshape(tensor.shape)
        for name, tensor, keys in _named_tensors(denoiser)
    } | {name: tensor for name, tensor in denoiser.state_dict().items() if name in _OF_NULL_TEXT}


def dit_v2_to_official(denoiser: Denoiser, *, text_length: int = 0) -> dict[str, Tensor]:
    """The inverse of :func:`dit_v2_from_official`, with the rotary tables as RAEv2 computes them.

    Args:
        text_length: tokens that a text is filled up to there, of a network that is conditioned on text.
    """
    official: dict[str, Tensor] = {}
    for _, tensor, keys in _named_tensors(denoiser):
        for key, part in zip(keys, tensor.chunk(len(keys)), strict=True):
            patch = denoiser.patch_size
            patches = key in ("s_embedder.proj.weight", "x_embedder.proj.weight")
            official[key] = part.unflatten(1, (-1, patch, patch)) if patches else part.clone()
    return official | _rotary_tables(denoiser, text_length)


def _named_tensors(denoiser: Denoiser) -> list[tuple[str, Tensor, list[str]]]:
    """Each tensor of a network, with the names of those that it is stacked of there."""
    return [
        (name, tensor, _to_official(name, denoiser))
        for name, tensor in denoiser.state_dict().items()
        if not name.startswith("latent_stats.") and name not in _OF_NULL_TEXT
    ]


def _to_official(name: str, denoiser: Denoiser) -> list[str]:
    if name in _TENSORS:
        return [_TENSORS[name]]
    stem, _, leaf = name.rpartition(".")
    if stem in _TOP:
        return [f"{_TOP[stem]}.{leaf}"]
    part, _, layer = stem.partition(".")
    has_head = isinstance(denoiser, DiTDH)
    if part in _OUTPUTS:
        layers = {"norm": "norm" if has_head else "norm_final", "modulation.linear": "adaln_modulation.1"}
        return [f"{_OUTPUTS[part]}.{layers.get(layer, layer)}.{leaf}"]
    match = re.fullmatch(r"(blocks|trunk|head)\.(\d+)\.(.+)", stem)
    assert match is not None, name
    index = int(match[2]) + (denoiser.config.depth[0] if match[1] == "head" else 0)
    return [f"blocks.{index}.{layer}.{leaf}" for layer in _IN_BLOCK[match[3]]]


def _text_length(state: dict[str, Tensor], denoiser: Denoiser) -> int:
    """The tokens that a text is filled up to, as the rotary table says that counts them; 0 without text."""
    if not denoiser.reads_text:
        return 0
    table = state["enc_rope.freqs_cos" if isinstance(denoiser, DiTDH) else "rope.freqs_cos"]
    return len(table) - denoiser.grid[0] * denoiser.grid[1] - denoiser.config.tokens_behind


def _rotary_tables(denoiser: Denoiser, text_length: int) -> dict[str, Tensor]:
    """Tables of the trunk, whose condition tokens have the angle 0, and of the head; or of the one stack."""
    names = ("enc_rope", "dec_rope") if isinstance(denoiser, DiTDH) else ("rope",)
    tables: dict[str, Tensor] = {}
    for name, stack in zip(names, denoiser.config.stacks, strict=True):
        for key, table in rotary_table(name, stack.width // stack.heads, denoiser.grid[0]).items():
            behind = 0 if name == "dec_rope" else denoiser.config.tokens_behind + text_length
            unturned = table.new_full((behind, table.shape[1]), float(key.endswith("cos")))
            tables[key] = torch.cat([table, unturned])
    return tables
