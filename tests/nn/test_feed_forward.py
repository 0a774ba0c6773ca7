"""The feed-forward networks: what makes them faster on a GPU or under torch.compile leaves the results as they are."""

import pytest
import torch
import torch.nn.functional as F

from unirae.nn import feed_forward
from unirae.nn.feed_forward import Mlp, SwiGlu


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


def test_tanh_gelu_without_its_tanh_is_the_same_function_with_the_same_gradient() -> None:
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, 0.0, 1e4])]).double().requires_grad_()
    seen = []
    for values in (feed_forward._tanh_gelu_by_sigmoid(x), F.gelu(x, approximate="tanh")):
        seen.append([values, *torch.autograd.grad(values.sum(), x)])
    for found, wanted in zip(*seen, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_torch_compile_changes_how_the_mlp_is_computed_and_not_what(approximate) -> None:
    network = Mlp(width=6, hidden_width=24, approximate=approximate).double()
    x = torch.randn(2, 5, 6, dtype=torch.double)
    operations: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        operations.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    found = torch.compile(network, backend=backend, fullgraph=True)(x)
    torch.testing.assert_close(found, network(x), atol=1e-14, rtol=1e-12)
    assert any("sigmoid" in name for name in operations) == (approximate == "tanh")
