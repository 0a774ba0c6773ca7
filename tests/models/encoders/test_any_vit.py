"""Models of transformers and timm that the package has no file for: their tokens, their numbers, their refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.hub import hub_problem
from unirae.core.weights import VARIABLE
from unirae.models.encoders.build import build_encoder, encoder_from_identity
from unirae.models.encoders.discover import find_kind
from unirae.models.encoders.hf import quiet_transformers
from unirae.models.encoders.shape import shape_from_files, shape_of

MEAN, STD = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZES |= {"image_size": 32, "patch_size": 8}
PREFIX = {"dinov3": 5, "dinov3_gated_mlp": 3, "vit": 1, "clip": 1, "vit_timm": 1, "vit_reg_timm": 5, "eva": 1}
TIMM = {
    "vit_timm": ("vit_tiny_patch16_224", {}),
    "vit_reg_timm": ("vit_small_patch14_reg4_dinov2", {}),
    "eva": ("eva02_tiny_patch14_224", {}),
}


def _randomise(model: nn.Module) -> nn.Module:
    """No norm is the identity and no scale is 1, so that leaving one out or in is seen."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def _of_transformers(name: str) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel, DINOv3ViTConfig, DINOv3ViTModel, ViTConfig, ViTModel

    if name == "vit":
        return ViTModel(ViTConfig(**SIZES))
    if name == "clip":
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        return CLIPModel(CLIPConfig(vision_config=SIZES, text_config=text, projection_dim=8))
    gated = name == "dinov3_gated_mlp"
    registers = 2 if gated else 4
    return DINOv3ViTModel(DINOv3ViTConfig(**SIZES, num_register_tokens=registers, use_gated_mlp=gated))


def _of_timm(name: str, folder: Path) -> nn.Module:
    import timm
    from timm.models._hub import save_for_hf

    architecture, _ = TIMM[name]
    arguments: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = _randomise(timm.create_model(architecture, num_classes=3, **arguments))
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": tuple(MEAN), "std": tuple(STD)}
    save_for_hf(model, str(folder), model_args=arguments, safe_serialization=True)
    return model


@pytest.fixture(scope="module", params=list(PREFIX))
def published(request, tmp_path_factory) -> tuple[str, Path, nn.Module]:
    """(name, folder as a hub has it, the library's own model)."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param in TIMM:
        return request.param, folder, _of_timm(request.param, folder)
    with quiet_transformers():
        model = _randomise(_of_transformers(request.param))
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return request.param, folder, model


def _kind(name: str) -> str:
    return "timm" if name in TIMM else "generic_hf"


def _own_tokens(name: str, model: Any, pixels: Tensor) -> Tensor:
    """The library's last hidden state, with the affine part of its final norm taken back where there is one."""
    if name == "clip":  # ends without a norm: its own follows the pooling
        return model.vision_model(pixels, interpolate_pos_encoding=True).last_hidden_state
    if name in TIMM:
        tokens = model.forward_features(pixels)
        norm = model.norm
    else:
        options = {"interpolate_pos_encoding": True} if name == "vit" else {}
        tokens = model(pixels, **options).last_hidden_state
        norm = model.layernorm if name == "vit" else model.norm
    return (tokens - norm.bias) / norm.weight if isinstance(norm, nn.LayerNorm) else tokens


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (16, 40)])
def test_tokens_are_the_librarys_own_without_prefix_and_affine_part(published, size):
    name, folder, model = published
    encoder = build_encoder(kind=_kind(name), name=str(folder))
    images = torch.rand(2, 3, *size)
    pixels = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    if name in TIMM:
        import timm

        model = timm.create_model(f"local-dir:{folder}", pretrained=True, dynamic_img_size=True).eval()
    own = _own_tokens(name, model, pixels)
    rows, columns = size[0] // 8, size[1] // 8
    assert own.shape[1] == PREFIX[name] + rows * columns
    expected = F.layer_norm(own, (16,), eps=1e-6)[:, PREFIX[name] :]
    tokens = encoder(images)
    assert tokens.shape == (2, 16, rows, columns)
    torch.testing.assert_close(tokens.flatten(2).transpose(1, 2), expected, atol=2e-4, rtol=2e-4)


def test_numbers_are_derived_with_and_without_weights(published, tmp_path):
    name, folder, _ = published
    loaded = shape_of(build_encoder(kind=_kind(name), name=str(folder)))
    assert (loaded.patch_size, loaded.width, loaded.num_prefix_tokens) == (8, 16, PREFIX[name])
    assert (loaded.mean, loaded.std, loaded.usual_size) == (tuple(MEAN), tuple(STD), (32, 32))
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    described = shape_from_files(_kind(name), str(tmp_path))
    assert described.name == str(tmp_path)
    assert (described.patch_size, described.num_prefix_tokens) == (8, PREFIX[name])
    assert (described.mean, described.usual_size) == (tuple(MEAN), (32, 32))


def test_a_checkpoint_finds_it_again(published):
    name, folder, _ = published
    encoder = build_encoder(kind=_kind(name), name=str(folder))
    again = encoder_from_identity(encoder.identity)
    assert again.identity == encoder.identity
    assert encoder.identity.weights == "path"


def test_gradients_reach_the_images_through_every_block(published):
    name, folder, _ = published
    encoder = build_encoder(kind=_kind(name), name=str(folder))
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    maps = encoder.feature_maps(images)
    assert [tuple(tokens.shape) for tokens in maps] == [(1, 16, 4, 4)] * 2
    sum(tokens.square().mean() for tokens in maps).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


# ---------------------------------------------------------------- a folder of weights


REPOSITORY = {
    "vit_timm": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "eva": "timm/eva02_tiny_patch14_224.mim_in22k",
}


def test_the_weights_folder_serves_a_hubs_names(published, tmp_path, monkeypatch):
    """A checkpoint then still says ``hub``: it is not tied to the machine that the folder lay on."""
    name, folder, _ = published
    if name == "vit_reg_timm":
        pytest.skip("as vit_timm")
    repository = REPOSITORY.get(name, f"owner/{name}")
    model_name = repository.removeprefix("timm/") if name in TIMM else repository
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError) as error:
        build_encoder(kind=_kind(name), name=model_name)
    place = tmp_path / repository.replace("/", "--")
    for part in (str(place), repository, f"python src/fetch_weights.py --experiment NAME --to {tmp_path}"):
        assert part in str(error.value)
    place.symlink_to(folder)
    encoder = build_encoder(kind=_kind(name), name=model_name)
    assert (encoder.identity.weights, encoder.identity.source) == ("hub", model_name)
    assert encoder_from_identity(encoder.identity).identity == encoder.identity
    if name in TIMM:
        assert encoder.identity.config["model_name"] == model_name
    else:
        assert find_kind(repository) == ("dinov3" if name.startswith("dinov3") else "generic_hf")


def test_a_folder_of_another_timm_model_is_refused(published):
    name, folder, _ = published
    if name != "eva":
        pytest.skip("once is enough")
    with pytest.raises(WeightsError, match=r"holds a eva02_tiny_patch14_224, not a vit_base_patch16_224"):
        build_encoder(kind="timm", name="vit_base_patch16_224.dino", weights=str(folder))


def test_a_folder_that_lacks_tensors_is_refused(published, tmp_path):
    from safetensors.torch import load_file, save_file

    name, folder, _ = published
    if name not in TIMM:
        pytest.skip("test_encoder_weights.py has it for transformers")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["blocks.1.attn.proj.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing \(blocks\.1\.attn\.proj\.weight\)"):
        build_encoder(kind="timm", name=str(tmp_path))


def test_a_timm_folder_with_a_tensor_too_many_is_refused(published, tmp_path):
    from safetensors.torch import load_file, save_file

    name, folder, _ = published
    if name not in TIMM:
        pytest.skip("test_encoder_weights.py has it for transformers")
    shutil.copytree(folder, tmp_path / "of_timm")
    weights = tmp_path / "of_timm/model.safetensors"
    state = load_file(weights)
    save_file(state | {"head.extra": torch.ones(1)}, weights)  # of a classifier: no part of an encoder
    build_encoder(kind="timm", name=str(tmp_path / "of_timm"))
    save_file(state | {"blocks.0.attn.extra": torch.ones(1)}, weights)
    with pytest.raises(WeightsError, match=r"of_timm\): 1 unexpected \(blocks\.0\.attn\.extra\)"):
        build_encoder(kind="timm", name=str(tmp_path / "of_timm"))


def test_a_timm_folder_that_is_cut_short_is_one_line(published, tmp_path):
    name, folder, _ = published
    if name != "vit_timm":
        pytest.skip("once is enough")
    shutil.copytree(folder, tmp_path / "cut")
    weights = tmp_path / "cut/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"cut: its weights are truncated or no safetensors file"):
        build_encoder(kind="timm", name=str(tmp_path / "cut"))


def test_a_pyramid_of_timm_is_refused_with_its_shape():
    name = "swin_tiny_patch4_window7_224"
    architecture = {"model_name": name, "embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2)}
    with pytest.raises(
        ConfigError, match=r"swin.* gave \(1, 28, 28, 24\) for 224×224 px: it is not a plain ViT"
    ):
        build_encoder(kind="timm", name=name, weights="random", architecture=architecture)


# ---------------------------------------------------------------- gated models


def refusal(kind: type[Exception], status: int) -> Exception:
    """An exception of the hub's own, as its client raises it."""
    from huggingface_hub.utils import httpx

    request = httpx.Request("GET", "https://huggingface.co/owner/model/resolve/main/config.json")
    return kind(f"{status} Client Error.\n\nCannot access", response=httpx.Response(status, request=request))


def raises(error: Exception):
    def refuse(*_, **__):
        raise error

    return refuse


@pytest.mark.parametrize(
    ("kind", "status", "cause"),
    [
        ("GatedRepoError", 401, "is gated"),
        ("GatedRepoError", 403, "is gated"),
        ("HfHubHTTPError", 403, "is gated"),
        ("RepositoryNotFoundError", 401, "the hub shows no owner/model: check the name"),
        ("HfHubHTTPError", 500, "500 Client Error"),
    ],
)
def test_what_the_hub_refuses_is_explained(kind, status, cause):
    import huggingface_hub.errors

    wrapped = OSError("transformers' words\nover lines")
    wrapped.__cause__ = refusal(getattr(huggingface_hub.errors, kind), status)
    for error in (wrapped.__cause__, wrapped) if status != 500 else (wrapped.__cause__,):
        message = hub_problem(error, "owner/model")
        assert cause in message
        assert "\n" not in message


GATED = r"facebook/dinov3-vitb16-pretrain-lvd1689m is gated.*huggingface\.co/facebook/dinov3.*hf auth login.*HF_TOKEN"


def test_a_gated_encoder_says_what_to_do(monkeypatch):
    from huggingface_hub.errors import GatedRepoError

    monkeypatch.setattr("transformers.utils.hub.hf_hub_download", raises(refusal(GatedRepoError, 401)))
    name = "facebook/dinov3-vitb16-pretrain-lvd1689m"
    with pytest.raises(WeightsError, match=f"{GATED}.*--local-dir DIR.* set weights=DIR") as error:
        build_encoder(kind="generic_hf", name=name)
    assert "\n" not in str(error.value)
    for ask in (find_kind, lambda name: shape_from_files("generic_hf", name)):
        with pytest.raises(WeightsError, match=GATED):
            ask(name)


def test_a_gated_timm_model_says_what_to_do(monkeypatch):
    from huggingface_hub.errors import GatedRepoError

    monkeypatch.setattr("timm.models._hub.hf_hub_download", raises(refusal(GatedRepoError, 403)))
    with pytest.raises(
        WeightsError, match=r"timm/vit_tiny_patch16_224\.augreg_in21k is gated.*hf auth login"
    ):
        build_encoder(kind="timm", name="vit_tiny_patch16_224.augreg_in21k")


def test_the_line_at_the_start_of_stage_1():
    from tiny_models import tiny_rae
    from unirae.models.encoders.shape import in_words

    rae = tiny_rae(size=(32, 48))
    assert in_words(rae.encoder, rae.encoder_input_size, rae.output_size) == (
        "encoder tiny-dinov2: patch 8, width 16, 5 prefix tokens; 32×48 px → tokens 16×4×6 → 16×24 px; 384 numbers, "
        "time shift 1.00"
    )
