"""Plain DiT and DiT^DH against the recipe written out anew, image by image and head by head, in float64."""

import json
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny_dit import CHANNELS, CLASSES, GRID, SHARED, SIZES, inputs, randomise, tiny_dit
from tiny_models import relative_l2
from unirae.core.errors import ConfigError, InputError
from unirae.models.denoisers.build import build_denoiser, denoiser_from_description, describe_denoiser
from unirae.models.latent_stats import LatentStats

KINDS = pytest.mark.parametrize("kind", ["dit", "dit_dh"])


class Plain:
    """The recipe's formulas on one image at a time, over a state dict."""

    def __init__(self, model, *, patch=1, mlp_ratio=4.0, **off_or_on):
        self.state, self.patch, self.mlp_ratio = model.state_dict(), patch, mlp_ratio
        self.rows, self.columns = GRID[0] // patch, GRID[1] // patch
        self.qknorm = off_or_on.get("use_qknorm", False)
        self.rms, self.swiglu, self.rope, self.added = (
            off_or_on.get(name, True) for name in ("use_rmsnorm", "use_swiglu", "use_rope", "use_pos_embed")
        )

    def linear(self, x, name):
        return torch.einsum("...i,oi->...o", x, self.state[f"{name}.weight"]) + self.state[f"{name}.bias"]

    def norm(self, x, name, eps=1e-6):
        weight = self.state.get(f"{name}.weight", 1.0)
        if self.rms:
            return weight * x / ((x * x).mean(-1, keepdim=True) + 1e-6).sqrt()
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred**2).mean(-1, keepdim=True)
        return weight * centred / (variance + eps).sqrt() + self.state.get(f"{name}.bias", 0.0)

    def angle(self, place, k, count):
        return place * 10_000.0 ** (-k / count)

    def rotated(self, x):
        """[n, d]: pair k, a complex number, turned by the row for the first half of the pairs, by the column then."""
        pairs, quarter = torch.complex(x[:, 0::2], x[:, 1::2]), x.shape[1] // 4
        for token in range(len(x)):
            for half, place in enumerate(divmod(token, self.columns)):
                for k in range(quarter):
                    a = self.angle(place, k, quarter)
                    pairs[token, half * quarter + k] *= complex(math.cos(a), math.sin(a))
        return torch.stack([pairs.real, pairs.imag], -1).flatten(1)

    def sincos(self, width):
        quarter, table = width // 4, torch.zeros(self.rows * self.columns, width, dtype=torch.float64)
        for token in range(len(table)):
            row, column = divmod(token, self.columns)
            for k in range(quarter):
                a, b = self.angle(column, k, quarter), self.angle(row, k, quarter)
                for part, value in enumerate((math.sin(a), math.cos(a), math.sin(b), math.cos(b))):
                    table[token, part * quarter + k] = value
        return table

    def attention(self, x, name, heads):
        d, found = x.shape[1] // heads, []
        q, k, v = self.linear(x, f"{name}.qkv").split(x.shape[1], dim=1)
        for head in range(heads):
            mine = slice(head * d, (head + 1) * d)
            q_h, k_h = q[:, mine], k[:, mine]
            if self.qknorm:
                q_h = self.norm(q_h, f"{name}.query_norm", eps=1e-5)
                k_h = self.norm(k_h, f"{name}.key_norm", eps=1e-5)
            if self.rope:
                q_h, k_h = self.rotated(q_h), self.rotated(k_h)
            weights = (torch.einsum("id,jd->ij", q_h, k_h) / math.sqrt(d)).exp()
            found.append(weights @ v[:, mine] / weights.sum(1, keepdim=True))
        return self.linear(torch.cat(found, 1), f"{name}.out")

    def feed_forward(self, x, name):
        hidden = self.linear(x, f"{name}.expand")
        wide = int(x.shape[1] * self.mlp_ratio)
        if self.swiglu:
            assert hidden.shape[1] == 2 * int(2 * wide / 3)
            a, b = hidden.chunk(2, 1)
            hidden = a / (1 + (-a).exp()) * b
        else:
            assert hidden.shape[1] == wide
            hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
        return self.linear(hidden, f"{name}.contract")

    def parts(self, condition, name, count):
        return self.linear(silu(condition), f"{name}.modulation.linear").chunk(count, -1)

    def block(self, x, condition, name, heads):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.parts(condition, name, 6)
        read = self.norm(x, f"{name}.attention_norm") * (1 + scale_a) + shift_a
        x = x + gate_a * self.attention(read, f"{name}.attention", heads)
        read = self.norm(x, f"{name}.mlp_norm") * (1 + scale_m) + shift_m
        return x + gate_m * self.feed_forward(read, f"{name}.mlp")

    def embed(self, image, name):
        """The reference's convolution: kernel and stride are the patch."""
        weight = self.state[f"{name}.weight"].reshape(-1, CHANNELS, self.patch, self.patch)
        return F.conv2d(image[None], weight, self.state[f"{name}.bias"], stride=self.patch)[0].flatten(1).T

    def output(self, x, condition):
        shift, scale = self.parts(condition, "output", 2)
        tokens = self.linear(self.norm(x, "output.norm") * (1 + scale) + shift, "output.linear")
        patches = tokens.reshape(self.rows, self.columns, self.patch, self.patch, CHANNELS)
        return torch.einsum("rspqc->crpsq", patches).reshape(CHANNELS, *GRID)

    def time(self, t):
        angle = 2 * math.pi * t * self.state["time_embed.frequencies"]
        hidden = self.linear(torch.cat([angle.sin(), angle.cos()]), "time_embed.expand")
        return self.linear(silu(hidden), "time_embed.contract")

    def dit(self, image, t, label):
        condition = self.time(t) + self.state["label_embed.weight"][label]
        x = self.embed(image, "patch_embed") + self.sincos(24)
        for index in range(2):
            x = self.block(x, condition, f"blocks.{index}", 3)
        return self.output(x, condition)

    def dit_dh(self, image, t, label):
        time = self.time(t)
        steering = silu(time + self.state["label_embed.weight"][label])
        s = self.embed(image, "trunk_embed") + (self.sincos(16) if self.added else 0)
        for index in range(2):
            s = self.block(s, steering, f"trunk.{index}", 2)
        s = self.linear(silu(time + s), "to_head")
        return self.output(self.block(self.embed(image, "head_embed"), s, "head.0", 3), s)


def silu(x):
    return x / (1 + (-x).exp())


VARIANTS = [
    {},
    {"patch_size": 2},
    {"use_qknorm": True},
    {"use_rmsnorm": False},
    {"use_qknorm": True, "use_rmsnorm": False},
    {"use_swiglu": False, "mlp_ratio": 3.0},
    {"use_rope": False},
    {"use_pos_embed": False},
    {"patch_size": 2, "use_qknorm": True, "use_rmsnorm": False, "use_swiglu": False, "use_rope": False},
]


@KINDS
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options) or "default")
@torch.no_grad()
def test_velocity_is_the_recipes(kind, options):
    if kind == "dit" and "use_pos_embed" in options:
        pytest.skip("the plain DiT always adds positions")
    model = randomise(tiny_dit(kind, **options)).double()
    plain = Plain(model, patch=options.get("patch_size", 1), **options)
    x, t, y = inputs(torch.float64)
    wanted = torch.stack([getattr(plain, kind)(*one) for one in zip(x, t, y, strict=True)])
    # the tables of positions are float32; beside that the two are exact
    torch.testing.assert_close(model(x, t, y), wanted, rtol=1e-6, atol=1e-6 * float(wanted.std()))


@pytest.mark.parametrize("patch", [1, 2])
@torch.no_grad()
def test_a_patch_enters_as_c_p_q_and_leaves_as_p_q_c(patch):
    model = tiny_dit("dit", patch_size=patch)
    x, _, _ = inputs()
    weight = model.patch_embed.weight.reshape(24, CHANNELS, patch, patch)
    wanted = F.conv2d(x, weight, model.patch_embed.bias, stride=patch).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.patch_embed(model.patchify(x)), wanted)
    rows, columns = GRID[0] // patch, GRID[1] // patch
    tokens = torch.randn(2, rows * columns, patch * patch * CHANNELS)
    grid = tokens.reshape(2, rows, columns, patch, patch, CHANNELS)
    assert torch.equal(
        model.unpatchify(tokens), torch.einsum("brspqc->bcrpsq", grid).reshape(2, CHANNELS, *GRID)
    )


@KINDS
@torch.no_grad()
def test_a_new_network_predicts_zero(kind):
    assert torch.equal(tiny_dit(kind)(*inputs()), torch.zeros(3, CHANNELS, *GRID))


@KINDS
@torch.no_grad()
def test_predicted_data_are_answered_as_the_velocity_towards_them(kind):
    velocities, data = randomise(tiny_dit(kind)), randomise(tiny_dit(kind, prediction="data"))
    data.load_state_dict(velocities.state_dict())
    x, t, y = inputs()
    output = data.predict(x, t, y)
    assert torch.equal(output, velocities(x, t, y))
    torch.testing.assert_close(data(x, t, y), (x - output) / t.view(-1, 1, 1, 1))
    again = denoiser_from_description(describe_denoiser(data), data.state_dict())
    assert torch.equal(again(x, t, y), data(x, t, y))


@KINDS
@torch.no_grad()
def test_the_null_label_is_one_more_class(kind):
    model = randomise(tiny_dit(kind))
    assert model.null_label == CLASSES
    x, t, _ = inputs()
    labels = [torch.full((3,), label) for label in (0, CLASSES)]
    assert relative_l2(model(x, t, labels[1]), model(x, t, labels[0])) > 1e-3
    with pytest.raises(InputError, match=r"labels \[6\].*0 to 4, and 5 for no label"):
        model(x, t, labels[1] + 1)


@KINDS
def test_narrow_networks_warn(kind):
    assert tiny_dit(kind).width_warning() is None
    assert tiny_dit(kind, in_channels=24).width_warning() is None
    warning = tiny_dit(kind, in_channels=25).width_warning()
    assert "the DiT is 24 wide" in warning
    assert "25 numbers" in warning
    assert "28 numbers" in tiny_dit(kind, in_channels=7, patch_size=2).width_warning()


@KINDS
@torch.no_grad()
def test_description_and_tensors_make_the_same_network(kind):
    stats = LatentStats(mean=torch.randn(CHANNELS, *GRID), var=torch.rand(CHANNELS, 1, 1), info={"count": 7})
    options = {"patch_size": 2, "use_qknorm": True, "use_rope": False, "mlp_ratio": 2.0, "time_shift": 2.5}
    model = randomise(tiny_dit(kind, latent_stats=stats, **options))
    torch.manual_seed(9)
    again = denoiser_from_description(describe_denoiser(model), model.state_dict(), stats_info=stats.info)
    assert torch.equal(again(*inputs()), model(*inputs()))
    assert describe_denoiser(again) == describe_denoiser(model)
    assert again.time_shift == 2.5
    assert again.latent_stats.info == {"count": 7}
    assert again.latent_stats.sha256 == stats.sha256


@KINDS
@torch.no_grad()
def test_bf16_autocast_answers_in_float32_and_near_it(kind):
    model = randomise(tiny_dit(kind))
    wanted = model(*inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(*inputs())
    assert found.dtype == torch.float32
    assert 0 < relative_l2(found, wanted) < 0.02


@KINDS
@torch.no_grad()
def test_time_is_embedded_in_32_bits_also_under_autocast(kind):
    model, (_, t, _) = randomise(tiny_dit(kind)), inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.time_embed(t)
    assert found.dtype == torch.float32
    assert torch.equal(found, model.time_embed(t))


@KINDS
def test_gradient_checkpointing_changes_nothing(kind):
    results = []
    for checkpointing in (False, True):
        model = randomise(tiny_dit(kind, gradient_checkpointing=checkpointing))
        velocity = model(*inputs())
        velocity.square().mean().backward()
        results.append((velocity, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}))
    (plain, gradients), (recomputed, again) = results
    assert torch.equal(plain, recomputed)
    assert gradients.keys() == again.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, again[name]), name


def test_gradient_checkpointing_recomputes(monkeypatch):
    calls = []
    model = randomise(tiny_dit("dit", gradient_checkpointing=True))
    forward = model.blocks[0].forward
    monkeypatch.setattr(model.blocks[0], "forward", lambda *a: (calls.append(1), forward(*a))[1])
    velocity = model(*inputs())
    assert len(calls) == 1
    velocity.sum().backward()
    assert len(calls) == 2


@KINDS
@torch.no_grad()
def test_label_init_std_is_the_labels_alone(kind):
    options = {"num_classes": 2000}
    small, large = tiny_dit(kind, **options), tiny_dit(kind, label_init_std=0.5, **options)
    assert float(small.label_embed.weight.std()) == pytest.approx(0.02, rel=0.03)
    assert float(large.label_embed.weight.std()) == pytest.approx(0.5, rel=0.03)
    assert float(large.time_embed.expand.weight.std()) == pytest.approx(0.02, rel=0.05)
    for name, p in small.named_parameters():
        assert name == "label_embed.weight" or torch.equal(p, large.get_parameter(name)), name
    assert "label_init_std" not in describe_denoiser(large)["architecture"]


def test_frozen_are_positions_and_frequencies():
    for kind in SIZES:
        frozen = {name for name, p in tiny_dit(kind).named_parameters() if not p.requires_grad}
        assert frozen == {"positions", "time_embed.frequencies"}
    assert "positions" not in tiny_dit("dit_dh", use_pos_embed=False).state_dict()


def test_equal_widths_need_no_projection():
    assert isinstance(tiny_dit("dit_dh", hidden_size=[24, 24]).to_head, nn.Identity)


@KINDS
def test_a_checkpoint_keeps_the_arguments_and_those_options_of_blocks_that_were_given(kind):
    """Files of earlier versions have no others, and those of this one are to be equal to them."""
    network = tiny_dit(kind, input_size=4, use_rmsnorm=False, mlp_ratio=2.0)
    architecture = describe_denoiser(network)["architecture"]
    own = [
        "input_size",
        "in_channels",
        "num_classes",
        "hidden_size",
        "depth",
        "num_heads",
        "patch_size",
        "use_rope",
    ]
    own += ["use_pos_embed"] if kind == "dit_dh" else []
    assert list(architecture) == [*own, "use_rmsnorm", "mlp_ratio"]
    assert architecture["input_size"] == [4, 4]
    assert json.loads(json.dumps(architecture)) == architecture
    assert build_denoiser(kind, **architecture).config == network.config


REFUSED = [
    ("dit", {"patch_size": 0}, "patch_size=0 must be at least 1"),
    ("dit", {"patch_size": 4}, "patch_size=4 does not divide latents of 4×6"),
    ("dit", {"num_heads": 0}, "num_heads=0 must be at least 1"),
    ("dit", {"hidden_size": 0}, "hidden_size=0 must be at least 1"),
    (
        "dit",
        {"num_heads": 5},
        "num_heads=5 does not divide hidden_size=24; 1, 2, 3, 6 would do",
    ),
    (
        "dit",
        {"num_heads": 4},
        "num_heads=4 makes heads of width 6 out of hidden_size=24, but rotary positions need a "
        "multiple of 4; 1, 2, 3, 6 would do, or use_rope=False",
    ),
    ("dit", {"hidden_size": 22, "num_heads": 2}, "hidden_size must be a multiple of 4"),
    (
        "dit",
        {"hidden_size": 22, "num_heads": 2, "use_rope": False},
        "hidden_size=22 must be divisible by 4",
    ),
    (
        "dit",
        {"hidden_size": [16, 24]},
        "hidden_size=[16, 24] must be one number; only kind: dit_dh",
    ),
    ("dit", {"num_heads": [2, 3]}, "num_heads=[2, 3] must be one number"),
    ("dit", {"input_size": [4, 6, 2]}, "input_size=[4, 6, 2] must be a side or (height, width)"),
    ("dit", {"num_classes": -1}, "num_classes=-1 must not be negative"),
    ("dit_dh", {"num_heads": [2, 0]}, "num_heads[1]=0 must be at least 1"),
    ("dit_dh", {"num_heads": [3, 3]}, "num_heads[0]=3 does not divide hidden_size[0]=16"),
    ("dit_dh", {"num_heads": [2, 4]}, "num_heads[1]=4 makes heads of width 6"),
    ("dit_dh", {"hidden_size": 24}, "hidden_size=24 must be two numbers: [trunk, head]"),
    ("dit_dh", {"depth": [1, 2, 3]}, "depth=[1, 2, 3] must be two numbers"),
    (
        "dit_dh",
        {"hidden_size": [18, 24], "use_rope": False},
        "hidden_size[0]=18 must be divisible by 4",
    ),
    (
        "dit",
        {"use_qk_norm": True, "ratio": 2},
        "denoiser: unknown use_qk_norm, ratio; options of its blocks are",
    ),
    (
        "dit_dh",
        {"use_qk_norm": True},
        "denoiser: unknown use_qk_norm; options of its blocks are mlp_ratio, use_qknorm",
    ),
]


@pytest.mark.parametrize(("kind", "options", "message"), REFUSED)
def test_a_mistake_is_named_with_what_would_do(kind, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        tiny_dit(kind, **options)


@KINDS
def test_what_would_do_does(kind):
    heads = {"dit": 6, "dit_dh": [4, 6]}
    tiny_dit(kind, num_heads=heads[kind])
    tiny_dit(kind, num_heads={"dit": 4, "dit_dh": [2, 4]}[kind], use_rope=False)


def test_widths_without_added_positions_or_rotary_are_free():
    options = {"use_rope": False, "use_pos_embed": False}
    assert tiny_dit("dit_dh", hidden_size=[18, 21], num_heads=[2, 3], **options).narrowest_width == 21


def test_missing_arguments_and_kinds_are_named():
    with pytest.raises(ConfigError, match=r"denoiser \(dit\): missing a required .*argument: 'depth'"):
        build_denoiser("dit", **SHARED, hidden_size=24, num_heads=3)
    with pytest.raises(ConfigError, match=r"kind='unet' is unknown; choose one of dit, dit_dh"):
        build_denoiser("unet", **SHARED)


def test_a_type_error_inside_the_network_is_not_taken_for_the_users(monkeypatch):
    def broken(*_, **__):
        raise TypeError("an argument of something else")

    monkeypatch.setattr("unirae.models.denoisers.dit.sincos_positions", broken)
    with pytest.raises(TypeError, match="something else"):
        tiny_dit("dit")


def test_latents_of_another_shape_are_refused():
    x, t, y = inputs()
    with pytest.raises(InputError, match=re.escape("this DiT reads latents (3, 4, 6), not (3, 6, 4)")):
        tiny_dit("dit")(x.transpose(2, 3), t, y)
