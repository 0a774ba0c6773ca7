"""Every trained parameter is in exactly one group, and which ones are matrices."""

import re

import pytest
import torch
from torch import nn

from tiny_dit import tiny_dit
from tiny_models import tiny_decoder
from unirae.models.discriminators.patchgan import PatchGan
from unirae.nn.parameter_groups import ParameterGroups, group_parameters

OF_A_BLOCK = ("attention.qkv", "attention.out", "mlp.expand", "mlp.contract")
OF_A_MODULATED_BLOCK = (*OF_A_BLOCK, "modulation.linear")
TIME, OUTPUT = (
    ("time_embed.expand", "time_embed.contract", "label_embed"),
    ("output.modulation.linear", "output.linear"),
)
NETWORKS = {
    "dit": (
        lambda: tiny_dit("dit"),
        [*TIME, *(f"blocks.{i}.{part}" for i in (0, 1) for part in OF_A_MODULATED_BLOCK), *OUTPUT],
    ),
    "dit_with_tokens": (
        lambda: tiny_dit("dit", conditioning="tokens", base_head_depth=1, train_time_frequencies=True),
        [
            *TIME,
            "condition_tokens.time",
            "condition_tokens.condition",
            *(f"blocks.{i}.{part}" for i in (0, 1) for part in OF_A_BLOCK),
            "output.linear",
            "base_output.linear",
        ],
    ),
    "dit_dh": (
        lambda: tiny_dit("dit_dh"),
        [
            *TIME,
            *(f"trunk.{i}.{part}" for i in (0, 1) for part in OF_A_MODULATED_BLOCK),
            "to_head",
            *(f"head.0.{part}" for part in OF_A_MODULATED_BLOCK),
            *OUTPUT,
        ],
    ),
    "decoder": (tiny_decoder, [f"blocks.{i}.{part}" for i in (0, 1) for part in OF_A_BLOCK]),
    "discriminator": (lambda: PatchGan(channels=4, num_layers=2), []),
}


def names(network: nn.Module, parameters: list[nn.Parameter]) -> list[str]:
    by_id = {id(parameter): name for name, parameter in network.named_parameters()}
    return [by_id[id(parameter)] for parameter in parameters]


@pytest.mark.parametrize("network", NETWORKS)
def test_matrices_of_our_networks_are_those_that_their_references_give_to_muon(network):
    """Of a diffusion transformer all that is two-dimensional in RAEv2, whose patch embeddings are convolutions."""
    build, matrices = NETWORKS[network]
    module = build()
    groups = module.parameter_groups()
    weights = [name if name.startswith("condition_tokens") else f"{name}.weight" for name in matrices]
    assert names(module, groups.matrices) == weights
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert names(module, groups.trained) == trained
    assert sorted(names(module, groups.matrices) + names(module, groups.others)) == sorted(trained)


def test_what_is_frozen_is_in_no_group():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
    groups = group_parameters(network, edges=("0",))
    assert names(network, groups.trained) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert names(network, groups.matrices) == ["2.weight"]


class WithTokens(nn.Module):
    """A network with a table that is neither a linear layer's nor declared."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.tokens = nn.Parameter(torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("matrices", "others", "message"),
    [
        (["inner.weight"], ["inner.bias"], "WithTokens: tokens is in no group, neither matrices nor others"),
        (["inner.weight"], [], "WithTokens: inner.bias, tokens are in no group, neither matrices nor others"),
        (
            ["inner.weight", "tokens"],
            ["inner.bias", "tokens"],
            "WithTokens: tokens is in both groups, matrices and others",
        ),
        (["inner.weight", "outer"], ["inner.bias", "tokens"], "WithTokens: outer is no parameter"),
    ],
)
def test_a_parameter_in_no_group_or_in_both_is_named(matrices, others, message):
    with pytest.raises(ValueError, match=f"^parameter groups of {re.escape(message)}$"):
        ParameterGroups(WithTokens(), matrices=matrices, others=others)


def test_a_table_has_to_be_declared_and_a_declaration_has_to_mean_something():
    with pytest.raises(ValueError, match="tokens is in no group"):
        group_parameters(WithTokens())
    with pytest.raises(ValueError, match="token is no part with parameters"):
        group_parameters(WithTokens(), edges=("tokens", "token"))
    assert len(group_parameters(WithTokens(), edges=("tokens",)).others) == 2
    assert len(group_parameters(WithTokens(), tables=("tokens",)).matrices) == 2
    with pytest.raises(ValueError, match="table is no part with parameters"):
        group_parameters(WithTokens(), tables=("tokens", "table"))


@pytest.mark.parametrize(
    ("chunks", "qkv", "gate_and_up", "modulation"),
    [("all", 3, 2, 6), ("projections", 3, 2, 1), ("none", 1, 1, 1)],
)
def test_weights_that_several_maps_share_are_taken_apart(chunks, qkv, gate_and_up, modulation):
    """RAEv2 has q, k, v, gate and up as matrices of their own, and modulations whole."""
    module = tiny_dit("dit_dh")
    groups = module.parameter_groups()
    found = dict(
        zip(names(module, groups.matrices), (groups.parts(m, chunks) for m in groups.matrices), strict=True)
    )
    assert found["trunk.0.attention.qkv.weight"] == qkv
    assert found["trunk.0.mlp.expand.weight"] == gate_and_up
    assert found["head.0.modulation.linear.weight"] == modulation
    assert found["output.modulation.linear.weight"] == (2 if modulation > 1 else 1)
    assert found["trunk.0.attention.out.weight"] == found["label_embed.weight"] == 1


def test_an_mlp_without_a_gate_is_one_matrix():
    groups = (decoder := tiny_decoder()).parameter_groups()
    found = {
        name: groups.parts(matrix, "all")
        for name, matrix in zip(names(decoder, groups.matrices), groups.matrices, strict=True)
    }
    assert (found["blocks.0.attention.qkv.weight"], found["blocks.0.mlp.expand.weight"]) == (3, 1)
