"""Encoders from folders and files: strict, explained, and recognised again."""

import json
from pathlib import Path

import pytest
import torch

from tiny_models import TINY_ARCHITECTURES, tiny_encoder
from unirae.core.errors import WeightsError
from unirae.models.encoders.build import TRAINED_HERE, build_encoder, encoder_from_identity
from unirae.models.encoders.hf import quiet_transformers


@pytest.fixture(scope="module")
def mae_folder(tmp_path_factory) -> Path:
    """What experiment=mae_tiny leaves behind, with norms that are not the identity."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    folder = tmp_path_factory.mktemp("mae")
    config = ViTMAEConfig(
        **TINY_ARCHITECTURES["mae"],
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=8,
    )
    torch.manual_seed(0)
    with quiet_transformers():
        model = ViTMAEForPreTraining(config)
        model.vit.layernorm.weight.data.uniform_(0.5, 2.0)
        model.vit.layernorm.bias.data.normal_()
        model.save_pretrained(folder)
    statistics = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


@pytest.fixture
def copy(mae_folder: Path, tmp_path: Path) -> Path:
    for file in mae_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def _edit(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _mae(folder: Path, **options):
    return build_encoder(kind="mae", name="facebook/vit-mae-base", weights=str(folder), **options)


@torch.no_grad()
def test_mae_equals_the_reference_unmasked(mae_folder: Path):
    """An independent pass through transformers' blocks: all patches, in order, norm without affine."""
    from transformers import ViTMAEForPreTraining

    with quiet_transformers():
        reference = ViTMAEForPreTraining.from_pretrained(mae_folder).vit.eval()
    encoder = _mae(mae_folder)
    images = torch.rand(2, 3, 32, 32)
    x = (images - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    positions = reference.embeddings.position_embeddings
    x = reference.embeddings.patch_embeddings(x) + positions[:, 1:]
    x = torch.cat([(reference.embeddings.cls_token + positions[:, :1]).expand(2, -1, -1), x], dim=1)
    for layer in reference.layers:
        x = layer(x)
    expected = torch.nn.functional.layer_norm(x, (16,), eps=1e-12)[:, 1:]
    torch.testing.assert_close(encoder(images).flatten(2).transpose(1, 2), expected)
    # and twice the same: no random shuffle
    assert torch.equal(encoder(images), encoder(images))


@torch.no_grad()
def test_mae_interpolates_its_positions(mae_folder: Path):
    encoder = _mae(mae_folder)
    positions = encoder.backbone.embeddings.position_embeddings[:, 1:]
    square = positions.unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(square, (6, 3), mode="bicubic").flatten(2).transpose(1, 2)
    patches = encoder.backbone.embeddings.patch_embeddings(torch.zeros(1, 3, 48, 24))
    result = encoder.backbone.embeddings.interpolate_pos_encoding(patches, 48, 24)[:, 1:]
    torch.testing.assert_close(result, expected)


def test_pixel_statistics_come_from_the_folder_and_can_be_overridden(mae_folder: Path):
    assert _mae(mae_folder).identity.pixel_mean == (0.4, 0.5, 0.6)
    overridden = _mae(mae_folder, mean=[0.5, 0.5, 0.5])
    assert overridden.identity.pixel_mean == (0.5, 0.5, 0.5)
    assert overridden.identity.pixel_std == (0.1, 0.2, 0.3)


def test_a_folder_is_embedded_only_if_it_was_trained_here(copy: Path):
    assert not _mae(copy).identity.embedded
    (copy / TRAINED_HERE).write_text("{}")
    assert _mae(copy).identity.embedded


def test_a_checkpoint_finds_its_encoder_and_notices_another(copy: Path, mae_folder: Path, tmp_path_factory):
    identity = _mae(copy).identity
    assert identity.weights == "path"
    assert encoder_from_identity(identity).identity == identity
    elsewhere = encoder_from_identity(identity, weights_override=str(mae_folder))
    assert elsewhere.identity.sha256 == identity.sha256
    _edit(copy, lambda state: state["vit.embeddings.cls_token"].add_(1))
    with pytest.raises(WeightsError, match="is not the one that this checkpoint was trained with"):
        encoder_from_identity(identity)
    (copy / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"set weights=DIR"):
        encoder_from_identity(identity)
    with pytest.raises(WeightsError, match="no encoder weights at"):
        encoder_from_identity(identity, weights_override=str(tmp_path_factory.mktemp("empty") / "nothing"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("vit.encoder.layer.1.intermediate.dense.weight"),
            r"1 missing \(layers\.1\.mlp\.fc1\.weight\)",
        ),
        (lambda state: state.update({"vit.extra": torch.ones(1)}), "1 unexpected .*extra"),
        (
            lambda state: state.update({"vit.encoder.layer.0.output.dense.bias": torch.ones(3)}),
            "of another shape .*fc2",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(copy: Path, change, message: str):
    _edit(copy, change)
    with pytest.raises(WeightsError, match=message):
        _mae(copy)


def test_a_truncated_file_is_named(copy: Path):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="truncated, damaged"):
        _mae(copy)


def test_a_run_that_has_not_written_its_encoder_is_named(tmp_path):
    (tmp_path / "encoder/checkpoints").mkdir(parents=True)
    with pytest.raises(
        WeightsError, match=r"encoder is the folder of a run without an encoder's config\.json"
    ) as error:
        _mae(tmp_path / "encoder")
    assert "Let it finish" in str(error.value)


def test_a_checkpoint_of_another_kind_is_refused(mae_folder: Path):
    with pytest.raises(WeightsError, match="kind=dinov2 got a vit_mae checkpoint"):
        build_encoder(kind="dinov2", name="x", weights=str(mae_folder))


def test_missing_weights_say_how_to_get_them(tmp_path: Path):
    missing = tmp_path / "nowhere"
    with pytest.raises(WeightsError, match=r"no encoder weights at .*nowhere.*hf download .*weights=random"):
        _mae(missing)
    with pytest.raises(WeightsError, match=r"nowhere\. Run `make demo`"):
        _mae(missing, remedy="Run `make demo`")
    with pytest.raises(WeightsError, match=r"cannot load the encoder from .*hf download"):
        _mae(tmp_path)  # a folder without config.json


@pytest.mark.parametrize("kind", ["dinov2", "timm"])
def test_without_a_network_one_line_says_so(kind: str, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    name = {"dinov2": "facebook/dinov2-nobody-has-this", "timm": "vit_tiny_patch16_224.augreg_in21k"}[kind]
    with pytest.raises(WeightsError, match=r"set weights=DIR") as caught:
        build_encoder(kind=kind, name=name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@torch.no_grad()
def test_siglip_takes_the_vision_half_of_two_towers(tmp_path: Path):
    from transformers import SiglipConfig, SiglipModel

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    text |= {"vocab_size": 50000, "projection_size": 16}
    with quiet_transformers():
        model = SiglipModel(
            SiglipConfig(vision_config=TINY_ARCHITECTURES["siglip2"], text_config=text)
        ).eval()
        model.save_pretrained(tmp_path)
    encoder = build_encoder(kind="siglip2", name="x", weights=str(tmp_path))
    assert encoder.identity.pixel_mean == (0.5, 0.5, 0.5)
    images = torch.rand(1, 3, 32, 32)
    hidden = model.vision_model(images * 2 - 1, output_hidden_states=True).hidden_states[-1]
    expected = torch.nn.functional.layer_norm(hidden, (16,), eps=1e-6)
    torch.testing.assert_close(encoder(images).flatten(2).transpose(1, 2), expected)


def test_generic_reads_a_classifier_of_transformers(tmp_path: Path):
    from transformers import ViTConfig, ViTForImageClassification

    architecture = {k: v for k, v in TINY_ARCHITECTURES["generic_hf"].items() if k != "model_type"}
    with quiet_transformers():
        ViTForImageClassification(ViTConfig(**architecture)).save_pretrained(tmp_path)
    encoder = build_encoder(kind="generic_hf", name="x", weights=str(tmp_path))
    assert encoder(torch.rand(1, 3, 16, 32)).shape == (1, 16, 2, 4)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timm_reads_a_checkpoint_file(tmp_path: Path, suffix: str):
    from safetensors.torch import save_file

    source = tiny_encoder("timm", seed=5)
    state = source.backbone.state_dict() | {"head.weight": torch.zeros(3, 16), "norm.weight": torch.ones(16)}
    state["norm.bias"] = torch.zeros(16)
    file = tmp_path / f"vit.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    options = {"kind": "timm", "name": "vit_tiny_patch16_224", "architecture": TINY_ARCHITECTURES["timm"]}
    encoder = build_encoder(**options, weights=str(file))
    assert encoder.identity.sha256 == source.identity.sha256
    assert encoder_from_identity(encoder.identity).identity == encoder.identity
