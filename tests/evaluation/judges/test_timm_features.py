"""Features of timm's models as published: timm's own network, fed by an independent preparation of the images."""

import pytest
import torch
import torch.nn.functional as F

from tiny_fdr import SPACES, TIMM_SPACES, WIDTH, tiny_model, write_weights
from unirae.core.errors import ConfigError, WeightsError
from unirae.evaluation.judges.timm_features import TimmExtractor
from unirae.models.encoders.timm_whole import random_network, whole_network

SPACE = {space.name: space for space in SPACES}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


def extractor(space, place, *, pooling=None, **options):
    is_vit = space.pooling != "spatial"
    return TimmExtractor(
        backbone=whole_network(str(place), name=space.model, any_size=is_vit),
        name="tiny",
        model=space.model,
        weights=str(place),
        pooling=pooling or space.pooling,
        input_size=(space.input_size_px, space.input_size_px),
        **options,
    )


def prepared(images, side):
    """Of [n, 3, h, w] in 8 bits; the statistics are those of ``tiny_model``."""
    pixels = F.interpolate(images.double(), (side, side), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)))
    return ((pixels - 255 * mean) / (255 * std)).float()


def own_features(space, images):
    """By timm's own parts: positions for the grid at hand, tokens of whole patches, the final norm."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    model, pixels = tiny_model(space), prepared(images, space.input_size_px)
    if space.pooling == "spatial":
        return model.forward_features(pixels).mean((2, 3))
    patch = model.patch_embed.proj.kernel_size[0]
    rest = -space.input_size_px % patch
    tokens = model.patch_embed.proj(F.pad(pixels, (0, rest, 0, rest))).flatten(2).transpose(1, 2)
    side, prefix = (space.input_size_px + rest) // patch, model.num_prefix_tokens
    if model.cls_token is not None:
        tokens = torch.cat([model.cls_token.expand(len(tokens), -1, -1), tokens], 1)
    tokens = tokens + resample_abs_pos_embed(model.pos_embed, [side, side], num_prefix_tokens=prefix)
    tokens = model.norm(model.blocks(model.norm_pre(tokens)))
    return model.attn_pool(tokens) if space.pooling == "attention" else tokens[:, 0]


@torch.no_grad()
@pytest.mark.parametrize("name", [space.name for space in TIMM_SPACES])
@pytest.mark.parametrize("size", [(64, 64), (300, 260)])
def test_features_are_those_of_the_recipe(weights, name, size):
    images = torch.randint(
        0, 256, (3, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = extractor(SPACE[name], weights / name)(images)
    own = own_features(SPACE[name], images)
    assert found.shape == (3, WIDTH)
    assert own.std() > 0.1
    assert (found - own).norm() < 1e-4 * own.norm()


def test_images_of_the_right_size_are_not_resized(weights):
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    model, pixels = tiny_model(SPACE["mae"]), prepared(images, 224)
    with torch.no_grad():
        own = model.forward_features(pixels)[:, 0]
    assert torch.allclose(extractor(SPACE["mae"], weights / "mae")(images), own, rtol=1e-4, atol=1e-5)


def test_the_identity_says_how(weights):
    found = extractor(SPACE["siglip"], weights / "siglip", bfloat16=True).identity
    assert found["network"] == "vit_so400m_patch16_siglip_256.v2_webli (timm)"
    assert (found["pooling"], found["input_size"]) == ("attention pool", [224, 224])
    assert found["precision"] == "float32"  # of a CPU
    assert len(found["sha256"]) == 64
    assert "published_weights" not in found


@pytest.mark.parametrize(
    ("name", "pooling", "message"),
    [
        ("siglip", "class", "encoder_pooling=class: .*siglip.* has no class token; choose attention or mean"),
        ("mae", "attention", r"encoder_pooling=attention: .*mae has no attention pool; choose class or mean"),
    ],
)
def test_what_a_model_does_not_have(weights, name, pooling, message):
    with pytest.raises(ConfigError, match=message):
        extractor(SPACE[name], weights / name, pooling=pooling)


@torch.no_grad()
def test_a_file_of_weights_keeps_its_attention_pool(tmp_path):
    """And drops the classes; a register token goes into this model's pool."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_vit3", num_classes=3).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    backbone = whole_network(str(file), name="test_vit3", any_size=True)
    found = TimmExtractor(
        backbone=backbone,
        name="tiny",
        model="test_vit3",
        weights=str(file),
        pooling="attention",
        input_size=(160, 160),
    )
    images = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    tokens = model.forward_features((images / 255 - mean) / std)
    own = model.forward_head(tokens, pre_logits=True)
    assert (found(images) - own).norm() < 1e-4 * own.norm()
    with pytest.raises(WeightsError, match="do not fit"):
        whole_network(str(file), name="test_vit", any_size=True)


def test_random_weights_are_seeded_and_leave_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = (random_network("test_convnext", any_size=False).network.state_dict() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = random_network("test_convnext", any_size=False, seed=1).network.state_dict()
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])
