"""RAEv2's further families (section 2): tiny models of their architectures, read as docs/encoders.md says.

Expected tokens are of the library's own model: its last hidden state, or the outputs of its blocks, and the formula.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiny_models import tiny_encoder
from unirae.app.config.composition import compose
from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder, encoder_from_identity
from unirae.models.encoders.hf import quiet_transformers
from unirae.models.encoders.timm import TimmEncoder

HALF = (0.5, 0.5, 0.5)
NONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
WIDE = SIZES | {"intermediate_size": 32}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
PE = TIMM | {"ref_feat_shape": (4, 4)}


@dataclass(frozen=True, kw_only=True)
class Family:
    """The library's model, how it is read here, and what its tokens should be.

    Attributes:
        tokens: normalised pixels to the library's last hidden state, prefix tokens in front.
        blocks: the model's blocks, and ``norm`` what their outputs go through.
        pixels: mean and std.
    """

    reading: dict[str, Any]
    tokens: Callable[[Tensor], Tensor]
    blocks: nn.ModuleList
    norm: Callable[[Tensor], Tensor]
    prefix: int
    pixels: tuple[Any, Any]


def plain(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, (16,), eps=1e-6)


def randomised(model: Any) -> Any:
    """No norm is the identity and no scale is 1, so that leaving one out or in is seen."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def of_transformers(folder: Path, model: nn.Module, processor: Any) -> Any:
    with quiet_transformers():
        randomised(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def webssl(folder: Path) -> Family:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    processor = BitImageProcessor(image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)
    model = of_transformers(folder, Dinov2Model(Dinov2Config(**SIZES)), processor)
    return Family(
        reading={"kind": "dinov2", "weights": str(folder), "norm_affine": True},
        tokens=lambda pixels: model(pixels).last_hidden_state,
        blocks=model.encoder.layer,
        norm=model.layernorm,
        prefix=1,
        pixels=IMAGENET,
    )


def clip(folder: Path) -> Family:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    config = CLIPConfig(vision_config=WIDE, text_config=TEXT, projection_dim=8)
    model = of_transformers(folder, CLIPModel(config), CLIPImageProcessor()).vision_model
    return Family(
        reading={"kind": "generic_hf", "weights": str(folder), "final_norm": False},
        tokens=lambda pixels: model(pixels, interpolate_pos_encoding=True).last_hidden_state,
        blocks=model.encoder.layers,
        norm=nn.Identity(),
        prefix=1,
        pixels=CLIP,
    )


def ijepa(folder: Path) -> Family:
    from transformers import IJepaConfig, IJepaModel, ViTImageProcessor

    # its published folders have this processor with its default 0.5; it was trained with ImageNet's numbers
    model = of_transformers(folder, IJepaModel(IJepaConfig(**WIDE, layer_norm_eps=1e-6)), ViTImageProcessor())
    return Family(
        reading={
            "kind": "generic_hf",
            "weights": str(folder),
            "norm_affine": True,
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        },
        tokens=lambda pixels: model(pixels, interpolate_pos_encoding=True).last_hidden_state,
        blocks=model.layers,
        norm=model.layernorm,
        prefix=0,
        pixels=IMAGENET,
    )


def tips(folder: Path) -> Family:
    from transformers import Tipsv2Config, Tipsv2Model
    from transformers.models.tipsv2.image_processing_tipsv2 import Tipsv2ImageProcessor

    text = TEXT | {"vocab_size": 10}
    config = Tipsv2Config(vision_config=SIZES | {"mlp_ratio": 2}, text_config=text)
    model = of_transformers(folder, Tipsv2Model(config), Tipsv2ImageProcessor()).vision_model
    return Family(
        reading={"kind": "generic_hf", "weights": str(folder)},
        tokens=lambda pixels: plain(model.encoder(model.embeddings(pixels)).last_hidden_state),
        blocks=model.encoder.layer,
        norm=plain,
        prefix=2,
        pixels=NONE,
    )


def of_timm(name: str, arguments: dict[str, Any]) -> Any:
    import timm

    return randomised(timm.create_model(name, dynamic_img_size=True, **arguments))


def pe(folder: Path, name: str = "vit_pe_core_tiny_patch16_384", **reading: Any) -> Family:
    from timm.models._hub import save_for_hf

    model = of_timm(name, PE)
    save_for_hf(model, str(folder), model_args=PE, safe_serialization=True)
    affine = "norm_affine" in reading
    return Family(
        reading={"kind": "timm", "name": name, "weights": str(folder), **reading},
        tokens=lambda pixels: model.forward_features(pixels) if affine else before_norm(model, pixels),
        blocks=model.blocks,
        norm=model.norm if affine else nn.Identity(),
        prefix=1,
        pixels=(HALF, HALF),
    )


def before_norm(model: Any, pixels: Tensor) -> Tensor:
    given: list[Tensor] = []
    with model.norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])):
        model.forward_features(pixels)
    return given[0]


def mocov3(folder: Path) -> Family:
    name, arguments = "vit_base_patch16_224", TIMM | {"num_classes": 4}
    model = of_timm(name, arguments)
    other = {key: tensor + 1 for key, tensor in model.state_dict().items()}
    state = {f"module.base_encoder.{key}": tensor for key, tensor in model.state_dict().items()}
    state |= {f"module.momentum_encoder.{key}": tensor for key, tensor in other.items()}
    state |= {"module.predictor.0.weight": torch.zeros(2, 2)}
    file = folder / "vit-b-300ep.pth.tar"
    torch.save({"epoch": 300, "arch": "vit_base", "state_dict": state, "optimizer": {"state": {}}}, file)
    node = compose(["experiment=rae_dino", "model/encoder=mocov3_b"])["model"]["encoder"]
    node["architecture"] |= TIMM
    return Family(
        reading=node | {"weights": str(file)},
        tokens=model.forward_features,
        blocks=model.blocks,
        norm=model.norm,
        prefix=1,
        pixels=IMAGENET,
    )


FAMILIES: dict[str, Callable[[Path], Family]] = {
    "webssl": webssl,
    "clip": clip,
    "ijepa": ijepa,
    "tips": tips,
    "pe": lambda folder: pe(folder, final_norm=False),
    "pe_norm": lambda folder: pe(folder, norm_affine=True),
    "pe_spatial": lambda folder: pe(folder, "vit_pe_spatial_tiny_patch16_512", final_norm=False),
    "mocov3": mocov3,
}


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request, tmp_path_factory) -> Family:
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


def read(family: Family, **options: Any) -> Encoder:
    return build_encoder(**{"name": "tiny"} | family.reading | options)


def patches(encoder: Encoder, images: Tensor) -> Tensor:
    return encoder(images).flatten(2).transpose(1, 2)


def normalised(images: Tensor, family: Family) -> Tensor:
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in family.pixels)
    return (images - mean) / std


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_tokens_are_the_librarys_own_by_the_recipe(family, size):
    encoder, images = read(family), torch.rand(2, 3, *size)
    expected = family.tokens(normalised(images, family))
    assert expected.shape[1] == family.prefix + size[0] * size[1] // 64
    assert encoder.num_prefix_tokens == family.prefix
    torch.testing.assert_close(patches(encoder, images), expected[:, family.prefix :], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_blocks_are_combined_after_the_familys_norm(family, combine):
    encoder = read(family, layers=[0, 2], combine=combine, add_token_mean=combine == "mean")
    images, outputs = torch.rand(2, 3, 32, 32), []
    hooks = [
        family.blocks[layer].register_forward_hook(lambda *call: outputs.append(call[-1])) for layer in (0, 2)
    ]
    family.tokens(normalised(images, family))
    for hook in hooks:
        hook.remove()
    first, last = (
        family.norm(output[0] if isinstance(output, tuple) else output)[:, family.prefix :]
        for output in outputs
    )
    mean = (first + last) / 2 + last.mean(dim=1, keepdim=True)
    expected = first + last if combine == "sum" else mean
    torch.testing.assert_close(patches(encoder, images), expected, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_finds_it_again(family):
    encoder = read(family)
    assert encoder_from_identity(encoder.identity).identity == encoder.identity


# ---------------------------------------------------------------- mistakes


def test_a_norm_cannot_be_left_out_and_kept(tmp_path):
    with pytest.raises(
        ConfigError, match=r"norm_affine=True keeps a part of the norm that .*final_norm=False"
    ):
        read(clip(tmp_path), norm_affine=True)


def test_the_norm_of_a_pooled_token_is_none_of_the_patches(tmp_path):
    with pytest.raises(ConfigError, match=r"norm_affine=True: tiny ends without a norm; set it to null"):
        read(clip(tmp_path), norm_affine=True, final_norm=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"final_norm": False},
            r"final_norm=False: encoders of kind timm have no final norm that could be left",
        ),
        (
            {"norm_affine": True},
            r"norm_affine=True: encoders of kind timm have no final norm whose affine part",
        ),
    ],
)
def test_a_kind_without_a_known_norm_neither_keeps_nor_leaves_it(change, message):
    class Unknowing(TimmEncoder):
        keeps_affine = False

    tiny = tiny_encoder("timm")
    with pytest.raises(ConfigError, match=message):
        Unknowing(backbone=tiny.backbone, identity=replace(tiny.identity, **change))


def test_a_momentum_copy_alone_is_refused(tmp_path):
    state = {"module.momentum_encoder.cls_token": torch.zeros(1, 1, 16)}
    torch.save({"state_dict": state}, tmp_path / "x.pth.tar")
    with pytest.raises(WeightsError, match=r"x\.pth\.tar"):
        build_encoder(kind="timm", name="vit_base_patch16_224", weights=str(tmp_path / "x.pth.tar"))


def test_a_network_of_timms_does_not_lend_its_own_weights():
    node = compose(["experiment=rae_dino", "model/encoder=mocov3_b", "model.encoder.weights=hub"])["model"][
        "encoder"
    ]
    with pytest.raises(
        WeightsError, match=r"no mocov3_vit_base, and vit_base_patch16_224 there has other weights"
    ):
        build_encoder(**node)
