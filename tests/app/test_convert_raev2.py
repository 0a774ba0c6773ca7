"""``convert.py`` with autoencoders of RAEv2: its YAML and files in and out, and the names of its encoders."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from tiny_models import relative_l2
from unirae.app.convert import Options, run
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.checkpoints.opening import load_rae
from unirae.models.encoders.build import build_encoder
from unirae.models.interop.official.raev2 import name_of, named_encoder

GOLDEN = Path(__file__).parents[1] / "golden/raev2_rae_dinov3_mls.safetensors"
NAME = "dinov3mls-vit-l16[layers=1.2.3]"


def golden() -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118


def part(prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in golden()[0].items() if k.startswith(prefix)}


@pytest.fixture
def released(tmp_path, monkeypatch) -> Path:
    """The files of a released autoencoder in a folder, with its YAML."""
    monkeypatch.chdir(tmp_path)
    tensors, config = golden()
    (tmp_path / "decoder").mkdir()
    sizes = config["decoder"] | {"model_type": "vit_mae", "patch_size": "SHOULD BE RELOADED"}
    (tmp_path / "decoder/config.json").write_text(json.dumps(sizes))
    torch.save(part("decoder."), tmp_path / "decoder.pt")
    torch.save({"mean": tensors["stat_mean"], "var": tensors["stat_var"]}, tmp_path / "stats.pt")
    torch.save(part("encoder_hub."), tmp_path / "dinov3_vitl16.pth")
    write(tmp_path / "rae.yaml")
    return tmp_path


def write(
    file: Path, *, without: tuple[str, ...] = (), sections: dict[str, Any] | None = None, **changes: Any
) -> None:
    params = {
        "encoder_name": NAME,
        "resolution": 64,
        "decoder_config_path": "decoder",
        "decoder_patch_size": 16,
        "pretrained_decoder_path": "decoder.pt",
        "noise_tau": 0.8,
        "normalization_stat_path": "stats.pt",
        "eps": 1e-5,
        **changes,
    }
    params = {key: value for key, value in params.items() if key not in without}
    file.write_text(
        yaml.safe_dump({"stage_1": {"target": "stage1.RAE", "params": params}, **(sections or {})})
    )


def convert(folder: Path, **options: Any) -> Path:
    options = {
        "from_": "rae",
        "config": folder / "rae.yaml",
        "output": folder / "ours",
        "encoder_weights": str(folder / "dinov3_vitl16.pth"),
        "embed_encoder": True,
        "data": "emoji",
    } | options
    return run(Options(**options))


@torch.no_grad()
def test_a_released_autoencoder_has_raev2s_outputs(released, capsys):
    rae = load_rae(convert(released))
    said = capsys.readouterr().err
    assert "rae.yaml is a configuration of RAEv2" in said
    assert "stats.pt does not say of which encoder and blocks it is" in said
    tensors, _ = golden()
    images = tensors["image_uint8"] / 255
    assert rae.decoder.output == "unit"
    assert relative_l2(rae.encode(images), tensors["latent"]) < 1e-5
    assert relative_l2(rae.decode(tensors["latent"]), tensors["reconstruction"]) < 1e-5


def test_there_and_back_changes_no_bit(released):
    run(Options(to="rae", checkpoint=convert(released), output=released / "theirs"))
    written = yaml.safe_load((released / "theirs/config.yaml").read_text())["stage_1"]["params"]
    assert (written["encoder_name"], written["resolution"]) == (NAME, 64)
    for name in ("decoder.pt", "stats.pt"):
        before, after = torch.load(released / name), torch.load(released / "theirs" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    sizes = json.loads((released / "theirs/decoder/config.json").read_text())
    assert sizes["decoder_hidden_size"] == golden()[1]["decoder"]["decoder_hidden_size"]


def test_a_training_checkpoint_gives_its_average_and_knows_its_encoder(released):
    decoder = part("decoder.")
    whole = {f"decoder.{key}": tensor for key, tensor in decoder.items()}
    whole |= {f"encoder.model.{key}": tensor for key, tensor in part("encoder_hub.").items()}
    raw = {key: tensor + 1 if key.startswith("decoder.") else tensor for key, tensor in whole.items()}
    torch.save({"step": 3, "epoch": 1, "model": raw, "ema": whole}, released / "ep-0000001.pt")
    write(released / "rae.yaml", without=("pretrained_decoder_path",))
    averaged = load_rae(convert(released, checkpoint=released / "ep-0000001.pt"))
    unaveraged = load_rae(
        convert(released, checkpoint=released / "ep-0000001.pt", weights="model", output=released / "raw")
    )
    plain = decoder["decoder_pred.bias"]
    torch.testing.assert_close(averaged.decoder.to_pixels.bias, plain)
    torch.testing.assert_close(unaveraged.decoder.to_pixels.bias, plain + 1)

    other = {k: t + 0.5 if k.endswith("attn.proj.weight") else t for k, t in part("encoder_hub.").items()}
    torch.save(other, released / "other.pth")
    with pytest.raises(WeightsError, match=r"the encoder inside .* is not the one at"):
        convert(
            released,
            checkpoint=released / "ep-0000001.pt",
            encoder_weights=str(released / "other.pth"),
            output=released / "wrong",
        )
    assert not (released / "wrong").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_name": "dinov3ml-vit-l16"}, r"there is no encoder dinov3ml-vit; did you mean dinov3mls"),
        ({"encoder_name": "dinov3-vit-l14"}, r"dinov3 has no size l14; did you mean l16"),
        ({"encoder_name": "dinov3-l16"}, r"expected FAMILY-vit-SIZE\[flags\]"),
        ({"encoder_name": "dinov3mls-vit-l16[layers=1,2]"}, "unknown flag 2; expected norm or layers"),
        ({"encoder_name": "dinov3mls-vit-l16[layers=a]"}, "name blocks with dots between"),
        (
            {"encoder_name": "pe-vit-l"},
            "encoders of the family pe are not converted: timm resizes PE's positions",
        ),
        ({"encoder_name": "mocov3-vit-b"}, "mocov3 are not converted: its weights lie on no hub"),
        (
            {"encoder_name": "dinov3mls-vit-l16[layers=1.9]"},
            r"encoder_name: layers=\[1, 9\]: there is no block 9; the encoder's blocks are 0 to 3",
        ),
        ({"encoder_name": "dinov3-vit-l16[norm=off]"}, "unknown flag norm=off"),
        ({"encoder_name": "dinov3mls-vit-l16[layers=1,layers=2]"}, "layers stands twice"),
        ({"encoder_name": "dinov2-vit-b[woreg]"}, "DINOv2 without registers is not converted"),
        ({"encoder_name": "dinov2-vit-b"}, "resolution=64; give a multiple of 256"),
        ({"resolution": 0}, "resolution=0; give a multiple of 16"),
        ({"resolution": 65}, "resolution=65 does not split into patches of 16"),
        ({"encoder_cls": "Dinov2withNorm"}, "unknown encoder_cls"),
    ],
)
def test_what_is_not_understood_is_refused(released, changes, message):
    write(released / "rae.yaml", **changes)
    with pytest.raises(ConfigError, match=message):
        convert(released)
    assert not (released / "ours").exists()


def test_a_yaml_of_neither_version_is_refused(released):
    write(released / "rae.yaml", without=("encoder_name",))
    with pytest.raises(ConfigError, match="unknown resolution"):
        convert(released)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    [
        "dinov3-vit-l16",
        "dinov3-vit-b16[norm]",
        "dinov3mls-vit-l16[layers=11.13.15.17.19.21.23]",
        "dinov3mls-vit-s16[norm,layers=2.5.8.11]",
        "dinov2-vit-b",
        "dinov2mls-vit-b[layers=5.11]",
        "siglip2-vit-b",
        "siglip2mls-vit-b[layers=2.5.8.11]",
        "mae-vit-b",
        "eupe-vit-t16",
        "eupemls-vit-b16[layers=3.7.11]",
        "webssl-vit-dino300m_full2b_224",
        "tipsv2-vit-so14",
        "clip-vit-L",
        "jepa-vit-h",
    ],
)
def test_an_encoder_keeps_its_name(name):
    named = named_encoder(name, 256, where="encoder_name")
    shapes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 24, "intermediate_size": 32}
    shapes |= {"patch_size": 14 if named.kind in ("dinov2", "generic_hf") else 16, "image_size": 224}
    kinds = {"dinov2": "dinov2_with_registers", "dinov3": "dinov3_vit", "siglip2": "siglip_vision_model"}
    kinds |= {"generic_hf": "ijepa"}
    architecture = shapes | {"model_type": kinds.get(named.kind, "vit_mae")}
    if named.kind == "dinov2":
        del architecture["intermediate_size"]
    encoder = build_encoder(
        kind=named.kind, name=named.source, weights="random", architecture=architecture, **named.reading
    )
    published = replace(encoder.identity, weights="hub", embedded=False)
    assert name_of(published, None, named.input_size) == name
    with pytest.raises(ConfigError, match="are random or were trained here"):
        name_of(encoder.identity, None, named.input_size)
    for other in ({"pixel_std": (0.9, 0.9, 0.9)}, {"pixel_mean": (0.1, 0.1, 0.1)}):
        with pytest.raises(ConfigError, match="RAEv2 has no encoder that reads"):
            name_of(replace(published, **other), None, named.input_size)
    assert named.input_size == (224 if shapes["patch_size"] == 14 else 256)


def test_defaults_of_a_family_choose_its_blocks():
    assert named_encoder("dinov3mls-vit-l16", 256, where="x").reading["layers"] == (5, 11, 17, 23)
    assert named_encoder("eupemls-vit-b16", 256, where="x").reading["layers"] == (2, 5, 8, 11)
    with pytest.raises(ConfigError, match="name the blocks"):
        named_encoder("dinov2mls-vit-b", 256, where="x")


def test_siglip_is_refused_where_raev2_means_another_block():
    with pytest.raises(ConfigError, match="the block that is named last"):
        named_encoder("siglip2mls-vit-b[layers=11.2]", 256, where="x")
    for name in ("siglip2-vit-b", "clip-vit-L", "jepa-vit-h"):
        with pytest.raises(ConfigError, match="256 px alone"):
            named_encoder(name, 512, where="x")
    assert named_encoder("webssl-vit-dino1b_full2b_224", 512, where="x").input_size == 448


def test_what_raev2_has_no_name_for_is_refused(released):
    encoder = build_encoder(
        kind="dinov3", name="mine", weights=str(released / "dinov3_vitl16.pth"), layers=[1, 2], combine="sum"
    )
    with pytest.raises(ConfigError, match=r"RAEv2 has no encoder that reads mine .* its blocks \[1, 2\]"):
        name_of(encoder.identity, NAME, 64)
