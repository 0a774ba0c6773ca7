"""Parameter names of the official diffusion transformers (bytetriper/RAE, stage 2) to ours and back, losslessly.

Their patch embeddings are convolutions (ours: linear layers over the same numbers), the rotary tables lie in their
checkpoints (ours follow from the grid), and DiT^DH counts trunk and head blocks in one list. Trained without label
dropout their table of labels has no row for "no label"; ours always has one, which is zero then.
"""

import math
import re

import torch
from torch import Tensor

from unirae.core.errors import ConfigError, WeightsError
from unirae.flow.prediction import Prediction
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.dit_dh import DiTDH

_IN_BLOCK = {
    "norm1": "attention_norm",
    "norm2": "mlp_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "attn.q_norm": "attention.query_norm",
    "attn.k_norm": "attention.key_norm",
    "adaLN_modulation.1": "modulation.linear",
}
_MLP = {
    True: {"mlp.w12": "mlp.expand", "mlp.w3": "mlp.contract"},  # SwiGLU
    False: {"mlp.fc1": "mlp.expand", "mlp.fc2": "mlp.contract"},
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


def dit_from_official(
    state: dict[str, Tensor], *, trunk_depth: int | None = None, has_null_label: bool = True
) -> dict[str, Tensor]:
    """Tensors of an official DiT^DH (or, without ``trunk_depth``, a LightningDiT) under our names.

    Raises:
        WeightsError: If a key belongs to no official model, or a rotary table is another than the grid's.
    """
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if _ROTARY.fullmatch(key):
            _check_rotary_table(key, tensor)
        else:
            name = _to_ours(key, trunk_depth)
            ours[name] = tensor.flatten(1) if key.endswith("embedder.proj.weight") else tensor
    if not has_null_label and "label_embed.weight" in ours:
        rows = ours["label_embed.weight"]
        ours["label_embed.weight"] = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    return ours


def official_prediction(denoiser: Denoiser) -> str:
    """Value of ``transport.params.prediction`` in the official YAML for what the network predicts.

    Raises:
        ConfigError: If the network predicts data, which that code cannot train or sample.
    """
    if denoiser.prediction is not Prediction.VELOCITY:
        raise ConfigError(
            f"this network predicts {denoiser.prediction.value}; the official RAE code knows networks that predict the "
            "velocity only"
        )
    return "velocity"


def dit_to_official(denoiser: Denoiser, *, has_null_label: bool = True) -> dict[str, Tensor]:
    """The inverse of :func:`dit_from_official`, with the rotary tables as the official code computes them.

    Raises:
        WeightsError: If latents or grid are not square, which the official code cannot express.
        ConfigError: If the network is one of RAEv2.
    """
    if denoiser.config.conditioning == "tokens" or denoiser.base_output is not None:
        raise ConfigError(
            "the official code of RAE has no networks with conditioning=tokens or an early head; they are RAEv2's"
        )
    rows, columns = denoiser.grid
    if rows != columns:
        raise WeightsError(f"the official code has square latents only, not {rows}×{columns} tokens")
    trunk_depth = denoiser.config.depth[0] if isinstance(denoiser, DiTDH) else None
    official: dict[str, Tensor] = {}
    for name, tensor in denoiser.state_dict().items():
        if name.startswith("latent_stats."):
            continue
        key = _to_official(name, trunk_depth, swiglu=denoiser.config.use_swiglu)
        if key.endswith("embedder.proj.weight"):
            patch = denoiser.patch_size
            tensor = tensor.unflatten(1, (-1, patch, patch))
        official[key] = tensor
    if not has_null_label:
        official["y_embedder.embedding_table.weight"] = official["y_embedder.embedding_table.weight"][:-1]
    return official | _rotary_tables(denoiser)


def _rotary_tables(denoiser: Denoiser) -> dict[str, Tensor]:
    if not denoiser.config.use_rope:
        return {}
    names = ("enc_feat_rope", "dec_feat_rope") if isinstance(denoiser, DiTDH) else ("feat_rope",)
    tables: dict[str, Tensor] = {}
    for name, stack in zip(names, denoiser.config.stacks, strict=True):
        tables |= rotary_table(name, stack.width // stack.heads, denoiser.grid[0])
    return tables


def rotary_table(name: str, head_width: int, side: int) -> dict[str, Tensor]:
    """Cosines and sines [side², head_width] in float32 throughout, as theirs: the last digits are theirs, too."""
    half = head_width // 2
    frequencies = 1.0 / (10_000 ** (torch.arange(0, half, 2).float() / half))
    places = torch.arange(side) / side * side
    angles = (places[:, None] * frequencies).repeat_interleave(2, 1)
    rows, columns = angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)
    table = torch.cat([rows, columns], dim=-1)
    return {
        f"{name}.freqs_cos": table.cos().view(side * side, head_width),
        f"{name}.freqs_sin": table.sin().view(side * side, head_width),
    }


def _check_rotary_table(key: str, table: Tensor) -> None:
    """Theirs follow from the grid as ours do; a table of other frequencies would be dropped in silence."""
    name, _, which = key.partition(".")
    side = math.isqrt(table.shape[0]) if table.ndim == 2 else 0
    if side and side * side == table.shape[0] and table.shape[1] % 4 == 0:
        expected = rotary_table(name, table.shape[1], side)[f"{name}.{which}"]
        if torch.allclose(table.float(), expected, atol=max(1e-4, torch.finfo(table.dtype).eps), rtol=0):
            return
    raise WeightsError(
        f"{key} is not the table of rotary positions that the official code computes for a square grid"
    )


def _top(trunk_depth: int | None) -> dict[str, str]:
    if trunk_depth is None:
        return {**_TOP, "x_embedder.proj": "patch_embed"}
    return {**_TOP, "x_embedder.proj": "head_embed", "s_embedder.proj": "trunk_embed"}


def _to_ours(key: str, trunk_depth: int | None) -> str:
    if key in _TENSORS:
        return _TENSORS[key]
    stem, _, leaf = key.rpartition(".")
    top = _top(trunk_depth)
    if stem in top:
        return f"{top[stem]}.{leaf}"
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    in_block = {**_IN_BLOCK, **_MLP[True], **_MLP[False]}
    if match is None or match[2] not in in_block:
        raise WeightsError(f"{key} is no key of an official DiT; is this a stage-2 model of bytetriper/RAE?")
    index = int(match[1])
    if trunk_depth is None:
        place = f"blocks.{index}"
    else:
        place = f"trunk.{index}" if index < trunk_depth else f"head.{index - trunk_depth}"
    return f"{place}.{in_block[match[2]]}.{leaf}"


def _to_official(name: str, trunk_depth: int | None, *, swiglu: bool) -> str:
    tensors, top, in_block = (
        {ours: theirs for theirs, ours in names.items()}
        for names in (_TENSORS, _top(trunk_depth), {**_IN_BLOCK, **_MLP[swiglu]})
    )
    if name in tensors:
        return tensors[name]
    stem, _, leaf = name.rpartition(".")
    if stem in top:
        return f"{top[stem]}.{leaf}"
    match = re.fullmatch(r"(blocks|trunk|head)\.(\d+)\.(.+)", stem)
    assert match is not None, name
    index = int(match[2]) + (trunk_depth or 0) * (match[1] == "head")
    return f"blocks.{index}.{in_block[match[3]]}.{leaf}"
