"""The feed-forward networks: a GPU's products get rows of aligned length, and the results stay."""

import pytest
import torch

from unirae.nn import feed_forward
from unirae.nn.feed_forward import SwiGlu


@pytest.mark.parametrize("hidden_width", [13, 16])
def test_filling_up_with_zeros_changes_nothing(hidden_width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = SwiGlu(width=12, hidden_width=hidden_width).double()
    leaves = [torch.randn(2, 5, 12, dtype=torch.double, requires_grad=True), *network.parameters()]
    seen = []
    for wanted in (False, True):
        monkeypatch.setattr(feed_forward, "_wants_alignment", lambda x, wanted=wanted: wanted)
        out = network(leaves[0])
        seen.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for plain, filled in zip(*seen, strict=True):
        torch.testing.assert_close(filled, plain, atol=1e-12, rtol=1e-12)
