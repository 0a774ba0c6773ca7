"""Networks whose condition is among the tokens, and early heads (RAEv2); the numbers themselves: test_golden_dit_v2."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from tiny_dit import CHANNELS, GRID, inputs, randomise, tiny_dit
from unirae.core.errors import ConfigError
from unirae.models.denoisers.build import build_denoiser, denoiser_from_description, describe_denoiser
from unirae.models.denoisers.trunk_reuse import reusing_trunk

KINDS = pytest.mark.parametrize("kind", ["dit", "dit_dh"])
V2 = {"conditioning": "tokens", "use_qknorm": True, "base_head_depth": 1}
PRESETS = Path(__file__).parents[3] / "configs/model/dit"


@KINDS
@pytest.mark.parametrize("conditioning", ["adaln", "tokens"])
@torch.no_grad()
def test_a_new_network_predicts_zero_with_both_heads(kind, conditioning):
    model = tiny_dit(kind, **V2 | {"conditioning": conditioning})
    for output in model.predict_with_base(*inputs()):
        assert torch.equal(output, torch.zeros(3, CHANNELS, *GRID))


@KINDS
@pytest.mark.parametrize(
    "options", [{}, {"conditioning": "adaln"}, {"patch_size": 2}, {"base_head_depth": 2}]
)
@torch.no_grad()
def test_the_full_output_is_that_without_the_base(kind, options):
    model = randomise(tiny_dit(kind, **V2 | options))
    full, base = model.predict_with_base(*inputs())
    assert torch.equal(full, model.predict(*inputs()))
    assert float((full - base).abs().mean()) > 0.1


@KINDS
@torch.no_grad()
def test_the_base_has_seen_the_first_blocks_alone(kind):
    model = randomise(tiny_dit(kind, **V2))
    before = model.predict_with_base(*inputs())
    model.blocks_in_order()[1].mlp.contract.weight.mul_(2)
    after = model.predict_with_base(*inputs())
    assert torch.equal(after.base, before.base)
    assert not torch.allclose(after.full, before.full)
    model.blocks_in_order()[0].mlp.contract.weight.mul_(2)
    assert not torch.allclose(model.predict_with_base(*inputs()).base, before.base)


@KINDS
@torch.no_grad()
def test_both_time_and_label_reach_the_prediction_through_their_tokens(kind):
    model = randomise(tiny_dit(kind, **V2))
    x, t, y = inputs()
    assert not torch.allclose(model.predict(x, t.flip(0), y), model.predict(x, t, y), atol=1e-3)
    assert not torch.allclose(model.predict(x, t, y.flip(0)), model.predict(x, t, y), atol=1e-3)


@KINDS
def test_without_an_early_head_there_is_no_base(kind):
    with pytest.raises(ConfigError, match="has no early head; base_head_depth builds one"):
        tiny_dit(kind).predict_with_base(*inputs())


@KINDS
def test_checkpointing_changes_no_gradient_of_both_heads(kind):
    results = []
    for checkpointing in (False, True):
        model = randomise(tiny_dit(kind, gradient_checkpointing=checkpointing, **V2))
        full, base = model.predict_with_base(*inputs())
        (full.square().mean() + base.square().mean()).backward()
        results.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    plain, recomputed = results
    for name, gradient in plain.items():
        assert torch.equal(gradient, recomputed[name]), name


@KINDS
@torch.no_grad()
def test_both_heads_are_one_graph_for_torch_compile(kind):
    model = randomise(tiny_dit(kind, **V2))
    compiled = torch.compile(model.predict_with_base, backend="aot_eager", fullgraph=True)
    for found, wanted in zip(compiled(*inputs()), model.predict_with_base(*inputs()), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_trunk_with_tokens_can_be_kept():
    model = randomise(tiny_dit("dit_dh", **V2))
    x, t, y = inputs()
    time = model.time_embed(t)
    trunk = model.run_trunk(x, time, y)
    assert trunk.shape[1] == GRID[0] * GRID[1]
    assert torch.equal(model.run_head(x, time, trunk), model.predict(x, t, y))
    torch.testing.assert_close(reusing_trunk(model, 2)(x, t, y), model(x, t, y))


@KINDS
@torch.no_grad()
def test_bf16_autocast_stays_near_with_both_heads(kind):
    model = randomise(tiny_dit(kind, **V2))
    wanted = model.predict_with_base(*inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.predict_with_base(*inputs())
    for narrow, wide in zip(found, wanted, strict=True):
        assert narrow.dtype == torch.float32
        assert 0 < float((narrow - wide).norm() / wide.norm()) < 0.03


@KINDS
@torch.no_grad()
def test_the_start_is_that_of_the_recipe(kind):
    sizes = {"dit": {"hidden_size": 96}, "dit_dh": {"hidden_size": [96, 24], "num_heads": [3, 3]}}[kind]
    model = tiny_dit(kind, num_time_tokens=40, num_condition_tokens=60, **V2 | sizes)
    for tokens in (model.condition_tokens.time, model.condition_tokens.condition):
        assert float(tokens.std()) == pytest.approx(96**-0.5, rel=0.05)
    block = model.blocks_in_order()[0]
    assert float(block.attention.qkv.weight.abs().max()) == pytest.approx(
        96**-0.5, rel=0.01
    )  # PyTorch's default
    assert float(block.attention.qkv.bias.abs().max()) > 0.05
    assert torch.equal(model.base_output.linear.weight, torch.zeros_like(model.base_output.linear.weight))


def test_trained_frequencies_are_a_choice():
    for trained in (False, True):
        model = tiny_dit("dit_dh", train_time_frequencies=trained)
        assert model.time_embed.frequencies.requires_grad is trained
        assert len(model.parameter_groups().trained) == sum(p.requires_grad for p in model.parameters())


@KINDS
@torch.no_grad()
def test_a_checkpoint_keeps_what_differs_from_before(kind):
    options = {**V2, "num_time_tokens": 2, "num_condition_tokens": 3, "train_time_frequencies": True}
    model = randomise(tiny_dit(kind, **options))
    architecture = describe_denoiser(model)["architecture"]
    assert {name: architecture[name] for name in options} == options
    again = denoiser_from_description(describe_denoiser(model), model.state_dict())
    for found, wanted in zip(
        again.predict_with_base(*inputs()), model.predict_with_base(*inputs()), strict=True
    ):
        assert torch.equal(found, wanted)
    at_defaults = dict.fromkeys(options, None) | {
        "conditioning": "adaln", "num_time_tokens": 4, "num_condition_tokens": 8, "train_time_frequencies": False,
    }  # fmt: skip
    del at_defaults["use_qknorm"]
    assert describe_denoiser(tiny_dit(kind, **at_defaults)) == describe_denoiser(tiny_dit(kind))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("dit", {"conditioning": "cross"}, "conditioning='cross' is unknown; choose adaln or tokens"),
        ("dit", {"num_time_tokens": 0}, "num_time_tokens=0 must be at least 1"),
        ("dit_dh", {"num_condition_tokens": 0}, "num_condition_tokens=0 must be at least 1"),
        ("dit", {"base_head_depth": 3}, "base_head_depth=3 must be null or one of the 2 blocks that there are"),
        ("dit_dh", {"base_head_depth": 3}, "base_head_depth=3 must be null or one of the 2 blocks of the trunk"),
        ("dit_dh", {"base_head_depth": 0}, "base_head_depth=0 must be null or one of"),
    ],
)  # fmt: skip
def test_a_mistake_in_conditions_or_heads_is_named(kind, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        tiny_dit(kind, **options)


def preset(name):
    base, own = (yaml.safe_load((PRESETS / f"{file}.yaml").read_text()) for file in ("_base", name))
    del own["defaults"]
    return base | own | {"in_channels": 1024, "input_size": 16}


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 875_216_500), ({"base_head_depth": None}, 869_589_396), ({"patch_size": 2}, None)],
)
def test_the_published_network_has_its_published_number_of_parameters(changes, count):
    """The 256 frequencies are counted; with patch 2 as a check that the count notices."""
    with torch.device("meta"):
        model = build_denoiser(num_classes=1000, **preset("dh_v2_xl") | changes)
    found = sum(p.numel() for p in model.parameters())
    assert found == count or (count is None and found > 875_216_500)


def test_the_published_network_is_divided_as_published():
    """Muon's 871.0 M numbers, AdamW's 4.17 M (recipe of RAEv2, section 4)."""
    with torch.device("meta"):
        groups = build_denoiser(
            num_classes=1000, **preset("dh_v2_xl") | {"train_time_frequencies": True}
        ).parameter_groups()
    matrices, others = (sum(p.numel() for p in group) for group in (groups.matrices, groups.others))
    assert (round(matrices / 1e6, 1), round(others / 1e6, 2)) == (871.0, 4.17)
    assert matrices + others == 875_216_500


@pytest.mark.parametrize("size", ["s", "b", "l", "tiny"])
def test_a_preset_of_version_2_has_the_sizes_of_version_1(size):
    old, new = preset(f"dh_{size}"), preset(f"dh_v2_{size}")
    changed = {"use_pos_embed", "use_qknorm", "conditioning", "base_head_depth"}
    assert {key for key in new if new[key] != old[key]} == changed
    assert new["base_head_depth"] == {"s": 4, "b": 4, "l": 7, "tiny": 2}[size]
