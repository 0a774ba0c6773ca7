"""Fused encoders: several blocks of a ViT in one pass, against the numbers of RAEv2's code and against plain sums."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tiny_models import TINY_ARCHITECTURES, relative_l2, tiny_encoder
from unirae.app.config.composition import compose
from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import adapter, build_encoder, embedded, encoder_from_identity
from unirae.models.encoders.dinov3_hub import architecture_of
from unirae.models.encoders.fusion import VisitedBlocks
from unirae.models.encoders.identity import EncoderIdentity

GOLDEN = Path(__file__).parents[2] / "golden"
KINDS = list(TINY_ARCHITECTURES)
IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


@cache
def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN / f"raev2_encoder_{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118


def written(tensors: dict[str, Tensor], prefix: str, folder: Path, config: dict[str, Any]) -> str:
    """A folder as transformers writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    inside = {k.removeprefix(prefix): t.contiguous() for k, t in tensors.items() if k.startswith(prefix)}
    save_file(inside, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def chosen(name: str) -> list[int]:
    return [int(number) for number in name.split("layers=")[1].split(".")]


@torch.no_grad()
def tokens_of(encoder: Encoder, images: Tensor) -> Tensor:
    return encoder(images).flatten(2).transpose(1, 2)


def named(name: str) -> list[str]:
    return [key for key in golden(name)[0] if key.startswith("tokens.")]


# ---------------------------------------------------------------- RAEv2's numbers


@pytest.fixture(scope="module")
def dinov3_file(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("hub") / "dinov3_vitt16_pretrain.pth"
    tensors, _ = golden("dinov3")
    torch.save({k.removeprefix("hub."): t for k, t in tensors.items() if k.startswith("hub.")}, file)
    return str(file)


@pytest.fixture(scope="module")
def dinov3_folder(dinov3_file, tmp_path_factory) -> str:
    tensors, _ = golden("dinov3")
    config = architecture_of(torch.load(dinov3_file), "x") | {"architectures": ["DINOv3ViTModel"]}
    return written(tensors, "hf.", tmp_path_factory.mktemp("hf"), config)


def dinov3_of(name: str, weights: str) -> Encoder:
    """The encoder that a golden tensor names."""
    fused: dict[str, Any] = {"layers": chosen(name)} if "layers=" in name else {}
    return build_encoder(
        kind="dinov3",
        name="golden",
        weights=weights,
        add_token_mean=".mls." in name,
        combine="sum" if "eupe" in name else "mean",
        norm_affine=True if ".norm" in name else None,
        rope_periods="exact" if "exact" in name else "bf16",
        **fused,
    )


@pytest.mark.parametrize("name", named("dinov3"))
def test_dinov3_has_the_tokens_of_raev2(name, dinov3_file):
    tensors, _ = golden("dinov3")
    images = tensors["image_uint8"] / 255
    if "other_size" in name:  # its own encoder resizes before; our autoencoder does
        images = F.interpolate(
            tensors["image_other_size_uint8"] / 255, (64, 64), mode="bilinear", antialias=True
        )
    assert relative_l2(tokens_of(dinov3_of(name, dinov3_file), images), tensors[name]) < 1e-5


@pytest.mark.parametrize("name", [name for name in named("dinov3") if "eupe" in name])
def test_eupe_has_the_tokens_of_raev2_by_its_file_of_configs(name, dinov3_file):
    node = compose(["experiment=rae_dinov3_k1", "model/encoder=eupe_b", "model.encoder.combine=sum"])
    node = node["model"]["encoder"] | {"weights": dinov3_file, "layers": chosen(name), "architecture": None}
    tensors, _ = golden("dinov3")
    assert relative_l2(tokens_of(build_encoder(**node), tensors["image_uint8"] / 255), tensors[name]) < 1e-5


def test_a_folder_of_transformers_and_a_published_file_are_the_same_encoder(dinov3_file, dinov3_folder):
    name = "tokens.mls.layers=1.3.5"
    file, folder = dinov3_of(name, dinov3_file), dinov3_of(name, dinov3_folder)
    assert file.identity.sha256 == folder.identity.sha256
    images = golden("dinov3")[0]["image_uint8"] / 255
    assert torch.equal(tokens_of(file, images), tokens_of(folder, images))


def test_exact_periods_are_another_encoder(dinov3_file):
    released, exact = (
        build_encoder(kind="dinov3", name="x", weights=dinov3_file, rope_periods=periods)
        for periods in ("bf16", "exact")
    )
    images = golden("dinov3")[0]["image_uint8"] / 255
    assert 1e-4 < relative_l2(tokens_of(exact, images), tokens_of(released, images)) < 1e-3
    assert released.identity.decisive() != exact.identity.decisive()
    assert "rope_periods" not in exact.identity.decisive()  # as records of before, which have none


@pytest.mark.parametrize("name", named("dinov2"))
def test_dinov2_has_the_tokens_of_raev2(name, tmp_path):
    tensors, golden_config = golden("dinov2")
    model = golden_config["model"]
    config = {
        "model_type": "dinov2_with_registers",
        "architectures": ["Dinov2WithRegistersModel"],
        "hidden_size": model["embed"],
        "num_hidden_layers": model["depth"],
        "num_attention_heads": model["heads"],
        "image_size": 518,
        "patch_size": 14,
        "num_register_tokens": 4,
        "layer_norm_eps": 1e-6,
    }
    encoder = build_encoder(
        kind="dinov2",
        name="golden",
        weights=written(tensors, "hf.", tmp_path, config),
        layers=chosen(name) if "layers=" in name else None,
        norm_affine=True if name.endswith(".norm") else None,
        **IMAGENET,
    )
    images = F.interpolate(tensors["image_uint8"] / 255, (224, 224), mode="bicubic", align_corners=False)
    assert relative_l2(tokens_of(encoder, images), tensors[name]) < 1e-5


@pytest.mark.parametrize("name", named("siglip2"))
def test_siglip2_has_the_tokens_of_raev2(name, tmp_path):
    tensors, golden_config = golden("siglip2")
    config = {
        "model_type": "siglip_vision_model",
        "architectures": ["SiglipVisionModel"],
        "image_size": 64,
        "patch_size": 16,
        "layer_norm_eps": 1e-6,
        "hidden_act": golden_config["hidden_act"],
        **golden_config["model"],
    }
    fused = "layers=" in name
    encoder = build_encoder(
        kind="siglip2",
        name="golden",
        weights=written(tensors, "hf.", tmp_path, config),
        layers=chosen(name) if fused else None,
        add_token_mean=fused,
        norm_affine=True,
        **IMAGENET,
    )
    assert relative_l2(tokens_of(encoder, tensors["image_uint8"] / 255), tensors[name]) < 1e-5


# ---------------------------------------------------------------- every kind


def plain(encoder: Encoder, images: Tensor, layers: list[int]) -> list[Tensor]:
    """Normed patch tokens of blocks, from a pass through all of them."""
    rows, columns = encoder.grid(images)
    tokens = encoder.block_tokens(encoder._pixels(images))
    return [encoder.final_norm(tokens[layer])[:, -rows * columns :] for layer in layers]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("combine", "token_mean", "affine"), [("mean", False, None), ("mean", True, True), ("sum", False, None)]
)
@torch.no_grad()
def test_the_tokens_are_the_combination_of_the_normed_blocks(kind, combine, token_mean, affine):
    affine = affine if adapter(kind).keeps_affine else None
    fused = tiny_encoder(
        kind, layers=[1, 0], combine=combine, add_token_mean=token_mean, norm_affine=affine, seed=1
    )
    images = torch.rand(2, 3, 24, 40)
    first, second = plain(fused, images, [0, 1])
    expected = first + second if combine == "sum" else (first + second) / 2
    if token_mean:
        expected = expected + second.mean(dim=1, keepdim=True)
    torch.testing.assert_close(tokens_of(fused, images), expected, atol=2e-5, rtol=1e-5)
    assert fused.identity.layers == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_last_block_alone_is_the_encoder_of_before(kind):
    images = torch.rand(2, 3, 32, 32)
    before, last = tiny_encoder(kind), tiny_encoder(kind, layers=[1])
    torch.testing.assert_close(last(images), before(images), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_blocks_behind_the_deepest_chosen_one_are_not_computed(kind):
    encoder = tiny_encoder(kind, layers=[0])
    computed: list[int] = []
    blocks = next(
        module
        for module in encoder.backbone.modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) == 2
    )
    for number, block in enumerate(
        nn.ModuleList.__iter__(blocks) if isinstance(blocks, nn.ModuleList) else blocks
    ):
        block.register_forward_hook(lambda *_, number=number: computed.append(number))
    encoder(torch.rand(1, 3, 32, 32))
    assert computed == [0]
    computed.clear()
    encoder.feature_maps(torch.rand(1, 3, 32, 32))  # a visit leaves nothing behind
    assert computed == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_identity_rebuilds_the_combination(kind):
    encoder = tiny_encoder(kind, layers=[0, 1], add_token_mean=True, norm_affine=adapter(kind).keeps_affine)
    record = json.loads(json.dumps(encoder.identity.to_dict()))
    again = encoder_from_identity(EncoderIdentity.from_dict(record), encoder.state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(tokens_of(again, images), tokens_of(encoder, images))
    assert again.identity.decisive() == encoder.identity.decisive()


@torch.no_grad()
def test_compiled_blocks_are_visited_too():
    encoder = tiny_encoder("dinov3", layers=[0, 1])
    images = torch.rand(1, 3, 32, 32)
    before, calls = encoder(images), []
    blocks = next(module for module in encoder.modules() if isinstance(module, VisitedBlocks))
    for block in blocks:
        original = block._call_impl
        block._compiled_call_impl = lambda *args, original=original, **options: (
            calls.append(1) or original(*args, **options)
        )
    assert torch.equal(encoder(images), before)
    assert len(calls) == 2


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], r"layers=\[\]: name at least one block"),
        ([0, 2], r"layers=\[0, 2\]: there is no block 2; the encoder's blocks are 0 to 1"),
        ([-1], r"there is no block -1"),
        ([1, 1], r"layers=\[1, 1\] names a block twice"),
    ],
)
def test_blocks_that_cannot_be_are_refused(kind, layers, message):
    with pytest.raises(ConfigError, match=message):
        tiny_encoder(kind, layers=layers)


def test_a_combination_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"combine=sum .* choose them with layers"):
        tiny_encoder(combine="sum")


def test_rope_periods_are_for_dinov3():
    with pytest.raises(ConfigError, match="rope_periods=bf16 is for kind=dinov3, not dinov2"):
        tiny_encoder(rope_periods="bf16")


def test_weights_without_the_affine_part_are_refused_where_it_is_wanted(dinov3_folder, tmp_path):
    tensors = {k: t for k, t in golden("dinov3")[0].items() if not k.startswith("hf.norm.")}
    config = json.loads((Path(dinov3_folder) / "config.json").read_text())
    folder = written(tensors, "hf.", tmp_path, config)
    build_encoder(kind="dinov3", name="x", weights=folder)
    with pytest.raises(WeightsError, match="norm_affine=True: the weights of x have no affine part"):
        build_encoder(kind="dinov3", name="x", weights=folder, norm_affine=True)


def test_a_published_file_of_another_network_is_refused(tmp_path):
    torch.save({"cls_token": torch.zeros(1, 1, 8)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth does not hold the tensors of a DINOv3"):
        build_encoder(kind="dinov3", name="x", weights=str(tmp_path / "x.pth"))


# ---------------------------------------------------------------- DINOv3's sizes


@pytest.mark.parametrize(
    ("file", "parameters"),  # without the final norm's affine part
    [
        ("dinov3_s", 21_595_776),
        ("dinov3_splus", 28_692_096),
        ("dinov3", 85_658_880),
        ("dinov3_l", 303_127_552),
        ("dinov3_hplus", 840_590_080),
        ("dinov3_7b", 6_716_026_880),
    ],
)
def test_the_files_of_dinov3_have_its_sizes(file, parameters):
    node = compose(["experiment=rae_dinov3_k7", f"model/encoder={file}"])["model"]["encoder"]
    assert (node["kind"], node["rope_periods"]) == ("dinov3", "bf16")
    with torch.device("meta"):
        encoder = build_encoder(**node | {"weights": "random", "layers": [1, 3]})
        assert encoder(torch.zeros(1, 3, 64, 48)).shape == (1, encoder.width, 4, 3)
    assert sum(p.numel() for p in encoder.parameters()) == parameters


# ---------------------------------------------------------------- found by a review


@torch.no_grad()
def test_a_model_of_timm_without_tokens_in_front():
    architecture = TINY_ARCHITECTURES["timm"] | {"class_token": False, "global_pool": "avg"}
    fused = tiny_encoder("timm", architecture=architecture, layers=[0, 1])
    for batch in (1, 2, 3):
        images = torch.rand(batch, 3, 32, 32)
        first, second = plain(fused, images, [0, 1])
        torch.testing.assert_close(tokens_of(fused, images), (first + second) / 2, atol=2e-5, rtol=1e-5)


def test_an_affine_part_that_is_not_there_is_refused():
    ends_without = TINY_ARCHITECTURES["timm"] | {"class_token": False, "global_pool": "avg"}
    with pytest.raises(ConfigError, match=r"norm_affine=True: tiny-timm ends without a norm"):
        tiny_encoder("timm", architecture=ends_without, norm_affine=True)


@torch.no_grad()
def test_two_encoders_may_share_a_backbone():
    encoder = tiny_encoder("dinov3", layers=[0, 1])
    images = torch.rand(1, 3, 32, 32)
    before = encoder(images)
    twin = embedded(encoder)
    assert torch.equal(encoder(images), before)
    assert torch.equal(twin(images), before)


@torch.no_grad()
def test_the_angles_stay_exact_in_a_network_of_16_bits():
    encoder = tiny_encoder("dinov3")
    pixels = torch.zeros(1, 3, 48, 32)
    before = encoder.backbone.rope_embeddings(pixels)
    after = encoder.bfloat16().backbone.rope_embeddings(pixels.bfloat16())
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0, 1], "combine": "max"}, "combine=max is unknown; choose mean or sum"),
        ({"rope_periods": "fp16"}, "rope_periods=fp16 is unknown; choose exact or bf16"),
        ({"layers": [0.5, 1]}, r"layers=\[0\.5, 1\]: name blocks by whole numbers"),
    ],
)
def test_words_that_are_unknown_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_encoder("dinov3", **options)


def hub() -> dict[str, Tensor]:
    return {k.removeprefix("hub."): t.clone() for k, t in golden("dinov3")[0].items() if k.startswith("hub.")}


def without_masks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.endswith("bias_mask")}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            lambda: hub() | {"rope_embed.periods": hub()["rope_embed.periods"] * 3},
            "its rotary periods run from 3 to",
        ),
        (
            lambda: {k: t + 1 if k.endswith("qkv.bias") else t for k, t in without_masks(hub()).items()},
            "a bias of the keys that no mask takes away",
        ),
        (lambda: [torch.zeros(1)], "does not hold the named tensors of a network"),
        (lambda: hub() | {"note": "x"}, "does not hold the named tensors of a network"),
    ],
)
def test_a_published_file_that_would_be_read_otherwise_is_refused(tmp_path, state, message):
    torch.save(state(), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=message):
        build_encoder(kind="dinov3", name="x", weights=str(tmp_path / "x.pth"))


def test_a_file_of_safetensors_asks_for_its_folder(dinov3_folder):
    with pytest.raises(WeightsError, match=r"is a file; give the folder that holds it and its config\.json"):
        build_encoder(kind="dinov3", name="x", weights=f"{dinov3_folder}/model.safetensors")


def test_gated_blocks_and_those_without_biases_are_read(tmp_path):
    architecture = TINY_ARCHITECTURES["dinov3"] | {"use_gated_mlp": True, "hidden_act": "silu"}
    encoder = tiny_encoder("dinov3", architecture=architecture | {"query_bias": False, "value_bias": False})
    norm = {"norm.weight": torch.ones(16), "norm.bias": torch.zeros(16)}
    periods = {"rope_embed.periods": 100.0 ** (torch.arange(2) / 2)}
    state = periods | norm | to_hub_names(encoder.backbone.state_dict())
    torch.save(state, tmp_path / "x.pth")
    again = build_encoder(kind="dinov3", name="x", weights=str(tmp_path / "x.pth"))
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(tokens_of(again, images), tokens_of(encoder, images))


def to_hub_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of transformers under the names of the published files."""
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.mask_token": "mask_token",
        "embeddings.patch_embeddings.": "patch_embed.proj.",
        "model.layer.": "blocks.",
        ".layer_scale1.lambda1": ".ls1.gamma",
        ".layer_scale2.lambda1": ".ls2.gamma",
        ".attention.o_proj.": ".attn.proj.",
        ".mlp.gate_proj.": ".mlp.w1.",
        ".mlp.up_proj.": ".mlp.w2.",
        ".mlp.down_proj.": ".mlp.w3.",
    }
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = name
        for ours, theirs in names.items():
            new = new.replace(ours, theirs)
        found[new] = tensor
    for block in ("blocks.0", "blocks.1"):
        parts = [found.pop(f"{block}.attention.{part}_proj.weight") for part in "qkv"]
        found[f"{block}.attn.qkv.weight"] = torch.cat(parts)
    return found
