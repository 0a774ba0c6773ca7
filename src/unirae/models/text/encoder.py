"""A frozen text encoder: texts to the hidden states of their tokens.

Tokens are filled up to the longest text of a call, or not at all where there is none; a network masks the filling. So
what a text's tokens are depends on the text alone, beyond the last digits. Everything runs in 32 bits, whatever the
precision around it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unirae.core.log import get_logger
from unirae.core.precision import without_autocast
from unirae.models.denoisers.condition import Condition
from unirae.models.text.identity import TextEncoderIdentity

log = get_logger(__name__)

_BATCH = 32
"""Texts that go through the model at once."""


class TextEncoder(nn.Module):
    """A model of transformers and its tokenizer.

    Args:
        model: answers ``last_hidden_state`` and ``hidden_states`` to ``input_ids`` and ``attention_mask``.
        tokenizer: of transformers.
        identity: of both; its width and hashes are those of ``model`` and ``tokenizer``.
    """

    def __init__(self, *, model: nn.Module, tokenizer: Any, identity: TextEncoderIdentity) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.identity = tokenizer, identity
        self._said_cut = False
        # a token to fill up with may have been added to the tokenizer alone
        own, known = tokenizer.pad_token_id or 0, model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
        self._filling = own if own < known.num_embeddings else 0
        self.eval()

    def train(self, mode: bool = True) -> "TextEncoder":
        """It stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Condition:
        """The tokens of texts, on the model's device, filled up to the longest; the filling is zero and masked.

        A text of which the tokenizer makes no token, as some do of "", has a mask without any. Texts of more than
        ``identity.max_length`` tokens are cut, and one line says so.
        """
        ids = [self.ids_of(text) for text in texts]
        self._say_cut(texts, ids)
        length = max(1, *map(len, ids)) if ids else 1
        device = next(self.model.parameters()).device
        tokens = torch.zeros(len(ids), length, self.identity.width, device=device)
        mask = torch.zeros(len(ids), length, dtype=torch.bool, device=device)
        by_length = sorted((i for i, own in enumerate(ids) if own), key=lambda i: len(ids[i]))
        for start in range(0, len(by_length), _BATCH):
            chosen = by_length[start : start + _BATCH]
            states, there = self._states([ids[i] for i in chosen], device)
            tokens[chosen, : states.shape[1]] = states
            mask[chosen, : states.shape[1]] = there
        return Condition(tokens=tokens, mask=mask)

    def null(self) -> Condition:
        """The tokens of "", one sample on the CPU, without filling: what a network keeps as its null condition."""
        return without_filling(self.encode([""]))

    def ids_of(self, text: str, *, cut: bool = True) -> list[int]:
        """The numbers of a text's tokens, with the special ones that the tokenizer adds."""
        readable = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
        length = {"truncation": True, "max_length": self.identity.max_length} if cut else {}
        return list(self.tokenizer(readable, verbose=False, **length)["input_ids"])

    def _states(self, ids: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Hidden states of texts with at least one token each, zero where the mask is false."""
        length = max(map(len, ids))
        filling = self._filling
        numbers = torch.tensor([own + [filling] * (length - len(own)) for own in ids], device=device)
        mask = (
            torch.arange(length, device=device)
            < torch.tensor([len(own) for own in ids], device=device)[:, None]
        )
        with without_autocast(numbers):
            found = self.model(
                input_ids=numbers,
                attention_mask=mask.long(),
                output_hidden_states=self.identity.layer is not None,
            )
        layer = self.identity.layer
        states = found.last_hidden_state if layer is None else found.hidden_states[layer]
        return torch.where(mask[..., None], states.float(), 0.0), mask

    def _say_cut(self, texts: Sequence[str], ids: list[list[int]]) -> None:
        """Say once that texts are cut, and name one."""
        full = [i for i, own in enumerate(ids) if len(own) >= self.identity.max_length]
        if self._said_cut or not full:
            return
        longer = [i for i in full if len(self.ids_of(texts[i], cut=False)) > self.identity.max_length]
        if longer:
            self._said_cut = True
            start = " ".join(texts[longer[0]][:60].split())
            log.warning(
                "texts are cut to %d tokens; the first that is longer begins with %r (said once)",
                self.identity.max_length,
                start,
            )


def without_filling(one: Condition) -> Condition:
    """One text's tokens on the CPU, in float32, without the filling behind them; at least one, which may be masked."""
    found = one.to("cpu", torch.float32)
    _, mask = found.text
    return found.resized(max(1, int(mask.sum())))
