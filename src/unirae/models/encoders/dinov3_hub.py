"""Published files of DINOv3 in the format of its torch.hub code: their names, and the architecture that they imply."""

from typing import Any

import torch
from torch import Tensor

from unirae.core.errors import WeightsError

_NAMES = (
    ("cls_token", "embeddings.cls_token"),
    ("storage_tokens", "embeddings.register_tokens"),
    ("mask_token", "embeddings.mask_token"),
    ("patch_embed.proj.", "embeddings.patch_embeddings."),
    (".ls1.gamma", ".layer_scale1.lambda1"),
    (".ls2.gamma", ".layer_scale2.lambda1"),
    (".attn.proj.", ".attention.o_proj."),
    (".mlp.fc1.", ".mlp.up_proj."),
    (".mlp.fc2.", ".mlp.down_proj."),
    (".mlp.w1.", ".mlp.gate_proj."),
    (".mlp.w2.", ".mlp.up_proj."),
    (".mlp.w3.", ".mlp.down_proj."),
    ("blocks.", "layer."),
)
"""Pieces of names, the hub's and transformers'."""
_BLOCKS_IN = "model."
"""The module of transformers that holds the blocks."""
_LEFT_OUT = ("rope_embed.periods", "local_cls_norm.", "head.")
"""What no token depends on; periods are computed."""
_BASE = 100.0
"""θ of the rotary positions."""
_NOT_MASKED = "qkv.bias_mask"


def from_hub_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under transformers' names: q, k and v apart, and no bias of k, which the hub's mask sets to 0."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(_LEFT_OUT) or name.endswith(_NOT_MASKED):
            continue
        new = name
        for theirs, ours in _NAMES:
            new = new.replace(theirs, ours, 1)
        if ".attn.qkv." in name:
            kind = name.rpartition(".")[2]
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                if (part, kind) != ("k", "bias"):
                    found[new.replace(f".attn.qkv.{kind}", f".attention.{part}_proj.{kind}")] = piece
        else:
            found[new] = tensor[None] if name == "mask_token" and tensor.ndim == 2 else tensor
    return {f"{_BLOCKS_IN if name.startswith('layer.') else ''}{name}": t for name, t in found.items()}


def architecture_of(state: dict[str, Tensor], source: str) -> dict[str, Any]:
    """The architecture that the tensors' names and shapes imply, as transformers says it.

    Raises:
        WeightsError: If these are not the tensors of a DINOv3, or of one that would be read otherwise here.
    """
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{source} does not hold the named tensors of a network")
    try:
        width, patch = state["patch_embed.proj.weight"].shape[0], state["patch_embed.proj.weight"].shape[-1]
        gated = "blocks.0.mlp.w1.weight" in state
        inner = state["blocks.0.mlp.w1.weight" if gated else "blocks.0.mlp.fc1.weight"].shape[0]
        found = {
            "model_type": "dinov3_vit",
            "hidden_size": width,
            "num_hidden_layers": 1
            + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
            "num_attention_heads": width // (4 * len(state["rope_embed.periods"])),
            "intermediate_size": inner,
            "use_gated_mlp": gated,
            "hidden_act": "silu" if gated else "gelu",
            "query_bias": "blocks.0.attn.qkv.bias" in state,
            "value_bias": "blocks.0.attn.qkv.bias" in state,
            "key_bias": False,
            "num_register_tokens": state["storage_tokens"].shape[1],
            "patch_size": patch,
            "layer_norm_eps": 1e-5,
        }
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(f"{source} does not hold the tensors of a DINOv3 ({error} is missing)") from None
    _check_rotation(state["rope_embed.periods"], source)
    _check_key_bias(state, width, source)
    return found


def _check_rotation(periods: Tensor, source: str) -> None:
    """Refuse rotary periods other than those that are computed for every DINOv3, θ = 100."""
    count = len(periods)
    expected = _BASE ** (torch.arange(count) / count)
    if not torch.allclose(periods.float(), expected, rtol=0.01):
        raise WeightsError(
            f"{source}: its rotary periods run from {periods[0]:.3g} to {periods[-1]:.3g}; those of DINOv3 from 1 to "
            f"{expected[-1]:.3g}"
        )


def _check_key_bias(state: dict[str, Tensor], width: int, source: str) -> None:
    """Refuse a bias of k that counts: every DINOv3 masks it, and it is left out here."""
    for name, bias in state.items():
        if not name.endswith("attn.qkv.bias"):
            continue
        mask = state.get(f"{name}_mask", torch.ones_like(bias))
        if (bias * mask)[width : 2 * width].abs().max() > 0:
            raise WeightsError(
                f"{source}: {name} has a bias of the keys that no mask takes away; DINOv3 has none"
            )
