"""Our attention inside the models of transformers: see :func:`unirae.nn.attention.attend` for why."""

from typing import Any

from torch import Tensor, nn

from unirae.nn.attention import attend

_NAME = "unirae"


def use_our_attention(model: Any) -> None:
    """Let a transformers model call :func:`~unirae.nn.attention.attend` where its attention is the plain one."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def forward(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        plain = attention_mask is None and not dropout and scaling in (None, query.shape[-1] ** -0.5)
        if not plain or options.get("is_causal") or getattr(module, "is_causal", False):
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
            )
        return attend(query, key, value).transpose(1, 2).contiguous(), None

    AttentionInterface.register(_NAME, forward)
    model.set_attn_implementation(_NAME)
