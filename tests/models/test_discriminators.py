import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from unirae.core.errors import ConfigError, WeightsError
from unirae.models.discriminators.dino import DinoDiscriminator, TokenNorm, make_head
from unirae.models.discriminators.patchgan import PatchGan

GOLDEN = Path(__file__).parents[1] / "golden" / "discriminator_head.safetensors"
TINY = {"width": 32, "depth": 3, "num_heads": 2, "patch_size": 8, "input_size_px": 32, "key_depths": (0, 2)}


def tiny_dino(**changes) -> DinoDiscriminator:
    torch.manual_seed(0)
    return DinoDiscriminator(**{"weights": "random", "kernel_size": 5, **TINY, **changes})


def tiny_patchgan() -> PatchGan:
    torch.manual_seed(0)
    return PatchGan(channels=8)


both = pytest.mark.parametrize("build", [tiny_dino, tiny_patchgan])


def signed(n=3, height=40, width=48):
    torch.manual_seed(1)
    return torch.rand(n, 3, height, width) * 2 - 1


def test_head_matches_the_reference():
    golden = load_file(GOLDEN)
    head = make_head(16, kernel_size=9)
    head.load_state_dict({k.removeprefix("state."): v for k, v in golden.items() if k.startswith("state.")})
    error = (head(golden["activations"]) - golden["logits"]).norm() / golden["logits"].norm()
    assert error < 1e-5


@both
def test_images_of_a_batch_do_not_influence_each_other(build):
    discriminator = build().train()
    real, fake = signed(), -signed()
    together = discriminator(torch.cat([real, fake]))
    torch.testing.assert_close(together, torch.cat([discriminator(real), discriminator(fake)]))


@both
def test_forward_changes_no_buffer_and_ignores_the_mode(build):
    discriminator = build().train()
    before = {k: v.clone() for k, v in discriminator.state_dict().items()}
    logits = discriminator(signed())
    torch.testing.assert_close(discriminator.eval()(signed()), logits, rtol=0, atol=0)
    for name, value in discriminator.state_dict().items():
        assert torch.equal(value, before[name]), name


@both
def test_gradients_reach_the_image_in_eval_mode(build):
    images = signed().requires_grad_()
    build().eval()(images).mean().backward()
    assert images.grad.abs().amax(dim=(1, 2, 3)).min() > 0


@both
def test_a_step_teaches_real_from_fake(build):
    discriminator = build()
    optimizer = torch.optim.AdamW(discriminator.trained.parameters(), lr=1e-3)
    frozen = {n: p.clone() for n, p in discriminator.named_parameters() if not p.requires_grad}
    real, fake = signed(), -signed()
    margins = []
    for _ in range(8):
        discriminator.power_iteration()
        loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        margins.append(float((discriminator(real).mean() - discriminator(fake).mean()).detach()))
    assert margins[-1] > margins[0] + 0.1
    parameters = dict(discriminator.named_parameters())
    assert all(torch.equal(parameters[n], value) for n, value in frozen.items())


@both
def test_trainable_state_round_trips_strictly(build):
    trained, fresh = build(), build()
    with torch.no_grad():
        for parameter in trained.trained.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    trained.power_iteration()
    state = trained.trained.state_dict()
    assert not any("backbone" in key for key in state)
    assert not torch.equal(fresh(signed()), trained(signed()))
    fresh.trained.load_state_dict(state)
    assert torch.equal(fresh(signed()), trained(signed()))
    state.popitem()
    with pytest.raises(RuntimeError, match="Missing key"):
        fresh.trained.load_state_dict(state)


@both
def test_power_iteration_between_forward_and_backward_is_harmless(build):
    discriminator = build()
    loss = discriminator(signed()).mean()
    discriminator.power_iteration()
    loss.backward()


@both
def test_builds_on_the_meta_device(build):
    with torch.device("meta"):
        assert build()(signed()).device.type == "meta"


def test_token_norm_is_per_image_and_channel():
    torch.manual_seed(0)
    norm, x = TokenNorm(4), torch.randn(2, 4, 9)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    mean, var = x.mean(2, keepdim=True), x.var(2, keepdim=True, unbiased=False)
    wanted = (x - mean) / (var + 1e-6).sqrt() * norm.weight[:, None] + norm.bias[:, None]
    torch.testing.assert_close(norm(x), wanted)
    assert norm(x.bfloat16()).dtype == torch.float32


def official_file(path: Path, **changes):
    """A DINO weight file of timm's independent ViT, which has the official keys."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(2)
    size = {**TINY, **changes}
    vit = VisionTransformer(
        img_size=size["input_size_px"],
        patch_size=size["patch_size"],
        embed_dim=size["width"],
        depth=size["depth"],
        num_heads=size["num_heads"],
        num_classes=0,
        act_layer=lambda: torch.nn.GELU(approximate="tanh"),
        fc_norm=False,
    ).eval()
    torch.save(vit.state_dict(), path)
    return vit


def test_backbone_equals_timms_vit_on_the_same_weight_file(tmp_path):
    vit = official_file(tmp_path / "dino.pth")
    discriminator = tiny_dino(weights=tmp_path / "dino.pth")
    images = signed(2, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = ((images + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    wanted = vit.forward_intermediates(normalised, indices=[0, 2], intermediates_only=True, output_fmt="NLC")
    last, first, third = discriminator.backbone(images)
    torch.testing.assert_close(first, wanted[0].transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(third, wanted[1].transpose(1, 2), rtol=1e-4, atol=1e-5)
    assert torch.equal(last, third)


def test_images_of_any_size_are_resized():
    discriminator = tiny_dino()
    images = signed(2, 48, 80)
    resized = F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(discriminator(images), discriminator(resized))
    assert discriminator(images).shape == (2, 3 * 16)


def test_gradient_checkpointing_changes_no_number():
    images, gradients = signed(), []
    for checkpointing in (False, True):
        disc = tiny_dino(gradient_checkpointing=checkpointing).eval()
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(disc(leaf).mean(), leaf)
        gradients.append(gradient)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_gradient_checkpointing_keeps_less():
    def kept(checkpointing: bool) -> int:
        disc, sizes = tiny_dino(depth=6, key_depths=(1,), gradient_checkpointing=checkpointing).eval(), {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found = disc(signed().requires_grad_())
        assert found.requires_grad
        return sum(sizes.values())

    assert kept(True) < 0.6 * kept(False)


def test_only_the_heads_are_trained():
    discriminator = tiny_dino().train()
    trained = {id(p) for p in discriminator.trained.parameters()}
    assert trained == {id(p) for p in discriminator.parameters() if p.requires_grad}
    assert trained == {id(p) for p in discriminator.heads.parameters()}
    assert not discriminator.backbone.training
    assert discriminator.heads.training


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    backbones = [tiny_dino(seed=s).backbone.pos_embed for s in (1, 1, 2)]
    assert torch.equal(backbones[0], backbones[1])
    assert not torch.equal(backbones[0], backbones[2])
    torch.manual_seed(5)
    from unirae.nn.lpips import build_lpips

    build_lpips("random")
    assert torch.equal(torch.rand(3), wanted)


def test_wrong_weights_are_explained(tmp_path):
    with pytest.raises(WeightsError, match=r"no such file .*missing\.pth.* set weights to its path"):
        tiny_dino(weights=tmp_path / "missing.pth")
    official_file(tmp_path / "small.pth", depth=2)
    message = re.escape(str(tmp_path / "small.pth")) + r" does not fit .*blocks\.2"
    with pytest.raises(WeightsError, match=message):
        tiny_dino(weights=tmp_path / "small.pth")


def test_wrong_sizes_are_explained():
    with pytest.raises(ConfigError, match=r"key_depths=\[0, 3\] must lie in 0\.\.2"):
        tiny_dino(key_depths=(0, 3))
    with pytest.raises(ConfigError, match="input_size_px=33 must be divisible by patch_size=8"):
        tiny_dino(input_size_px=33)
    with pytest.raises(ConfigError, match="at least 8 px"):
        tiny_patchgan()(signed(1, 4, 16))


def test_patchgan_has_one_logit_per_patch():
    assert tiny_patchgan()(signed(2, 64, 64)).shape == (2, 64)
    assert PatchGan(channels=4, num_layers=2)(signed(2, 32, 64)).shape == (2, 8 * 16)
