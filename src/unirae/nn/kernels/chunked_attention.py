"""Attention on a CPU as large products, a few heads at a time, with its backward pass written out.

PyTorch's fused kernel walks through small tiles, on which oneDNN's products reach a sixth of their speed. Here a chunk
of heads is multiplied whole and goes through softmax while its scores lie in the cache. Scores, softmax and sums are in
32 bits; the probabilities and their gradient are rounded to the values' type for the products, as in FlashAttention-2
(Dao 2023, arXiv 2307.08691, algorithms 1 and 2). Only the probabilities are kept beside q, k and v.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from unirae.core.precision import full_precision

_CHUNK = 2**20
"""Scores in a chunk: 4 MB."""


def chunked_attention(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads n d"],
    v: Float[Tensor, "b heads n d"],
    mask: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b heads n d"]:
    """Attend in chunks: softmax(q·kᵀ/√d)·v, all of one type. Cannot be differentiated twice.

    Args:
        mask: which keys are attended to, at least one of each sample; None is all.
    """
    return _ChunkedAttention.apply(q, k, v, mask)  # pyright: ignore[reportReturnType]


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        shape = q.shape
        filling = None if mask is None else ~mask.repeat_interleave(shape[1], 0)[:, None]
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        ctx.shape = shape
        wanted = any(ctx.needs_input_grad)
        out = torch.empty(q.shape, dtype=v.dtype)
        kept = []
        for part in _chunks(q):
            scores = (full_precision(q[part]) * q.shape[-1] ** -0.5) @ full_precision(k[part]).mT
            if filling is not None:
                scores.masked_fill_(filling[part], -torch.inf)
            probabilities = scores.softmax(-1).to(v.dtype)
            torch.bmm(probabilities, v[part], out=out[part])
            if wanted:
                kept.append(probabilities)
        if wanted:
            ctx.save_for_backward(q, k, v, *kept)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        given = gradients[0].flatten(0, 1)
        by_q, by_k, by_v = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        for part, probabilities in zip(_chunks(q), kept, strict=True):
            torch.bmm(probabilities.mT, given[part], out=by_v[part])
            by_scores = _softmax_backward(
                full_precision(given[part] @ v[part].mT), full_precision(probabilities)
            )
            by_scores = by_scores.mul_(q.shape[-1] ** -0.5).to(v.dtype)
            torch.bmm(by_scores, k[part], out=by_q[part])
            torch.bmm(by_scores.mT, q[part], out=by_k[part])
        return (*(x.view(ctx.shape) for x in (by_q, by_k, by_v)), None)


def _softmax_backward(
    gradient: Float[Tensor, "c n n"], probabilities: Float[Tensor, "c n n"]
) -> Float[Tensor, "c n n"]:
    """Gradient of softmax, p·(g − Σp·g/Σp), in place of g: rounded p do not add up to 1, and the rest would count."""
    mean = (gradient * probabilities).sum(-1, keepdim=True) / probabilities.sum(-1, keepdim=True)
    return gradient.sub_(mean).mul_(probabilities)


def _chunks(x: Float[Tensor, "bh n d"]) -> list[slice]:
    size = max(1, _CHUNK // x.shape[1] ** 2)
    return [slice(start, start + size) for start in range(0, len(x), size)]
