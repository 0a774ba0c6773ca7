"""Ours to diffusers' AutoencoderRAE: it loads without a word, the same numbers; or a reason and no files."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
from diffusers import AutoencoderRAE
from safetensors.torch import load_file

from tiny_diffusers import KINDS, SHAPE, mend_siglip, pictures, saved, theirs
from tiny_models import tiny_decoder, tiny_rae
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.absent import AbsentEncoder
from unirae.models.encoders.build import build_encoder
from unirae.models.interop.diffusers.rae import diffusers_positions, rae_from_diffusers
from unirae.models.interop.diffusers.rae_export import save_rae_as_diffusers
from unirae.models.interop.diffusers.stats import stats_to_diffusers
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

WEIGHTS = "diffusion_pytorch_model.safetensors"
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def siglip(monkeypatch: pytest.MonkeyPatch) -> None:
    mend_siglip(monkeypatch)


def ours(kind: str = "mae", *, stats: LatentStats | None = None, **architecture: Any) -> RAE:
    """As one of ours comes from training, but with positions that diffusers has, too."""
    patch = 14 if kind == "dinov2" else 16
    known = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "patch_size": patch}
    known |= {"image_size": {"dinov2": 518, "siglip2": 256, "mae": 224}[kind]} | architecture
    encoder = build_encoder(kind=kind, name="tiny", weights="random", architecture=known)
    decoder = tiny_decoder(token_dim=64, width=32)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
        decoder.positions.copy_(diffusers_positions(32, 4))
    return RAE(encoder=encoder, decoder=decoder, encoder_input_size=4 * patch, stats=stats).eval()


def some_stats(*present: str, **other: Any) -> LatentStats:
    generator = torch.Generator().manual_seed(0)
    all_of_them = {
        "mean": torch.randn(SHAPE, generator=generator),
        "var": torch.rand(SHAPE, generator=generator),
    }
    return LatentStats(**{name: all_of_them[name] for name in present}, **other)


STATS = {
    "both": some_stats("mean", "var"),
    "another eps": some_stats("mean", "var", eps=1e-3),
    "no mean": some_stats("var"),
    "no variance": some_stats("mean"),
    "none": some_stats(),
    "per channel": LatentStats(var=torch.rand(64, 1, 1), eps=0.5),
}


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "stats"), [*((kind, "both") for kind in KINDS), *(("mae", name) for name in STATS)]
)
def test_diffusers_loads_it_and_computes_the_same(
    kind: str, stats: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rae = ours(kind, stats=STATS[stats])
    folder = save_rae_as_diffusers(rae, tmp_path / "theirs")
    with caplog.at_level(logging.WARNING):
        model, report = AutoencoderRAE.from_pretrained(
            folder, output_loading_info=True, low_cpu_mem_usage=False
        )
    assert not any(report.values())
    assert caplog.text == ""
    images = pictures()
    latents = rae.encode(images)
    torch.testing.assert_close(model.encode(images).latent, latents, **TOLERANCE)
    torch.testing.assert_close(model.decode(latents).sample, rae.decode(latents), **TOLERANCE)
    torch.testing.assert_close(model(images).sample, rae.reconstruct(images), **TOLERANCE)
    assert model.config.noise_tau == rae.noise_tau


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_no_bit_differs(kind: str, tmp_path: Path):
    first = saved(tmp_path / "theirs", theirs(kind, noise_tau=0.5))
    rae = rae_from_diffusers(first)
    second = save_rae_as_diffusers(rae, tmp_path / "again")
    before, after = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    assert before.keys() == after.keys()
    unused = "encoder.vision_model.head."  # zeros now
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith(unused))
    again = rae_from_diffusers(second)
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in rae.state_dict().items())
    assert again.stats.sha256 == rae.stats.sha256
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (first, second))
    assert old["noise_tau"] == new["noise_tau"]
    torch.testing.assert_close(
        torch.tensor(old["latents_std"]), torch.tensor(new["latents_std"]), rtol=0, atol=0
    )


def test_statistics_survive_bit_by_bit():
    generator = torch.Generator().manual_seed(3)
    std = 10 ** (torch.rand(64, 64, 64, generator=generator) * 6 - 3)
    stats = LatentStats(var=(std.double() + 1e-5).square(), eps=0)
    assert torch.equal(stats_to_diffusers(stats)[1], std)


def test_large_statistics_take_seconds_not_minutes(tmp_path: Path):
    shape = (768, 16, 16)
    generator = torch.Generator().manual_seed(0)
    stats = LatentStats(
        mean=torch.randn(shape, generator=generator), var=torch.rand(shape, generator=generator)
    )
    encoder = build_encoder(
        kind="mae", name="wide", weights="random",
        architecture={"hidden_size": 768, "num_hidden_layers": 1, "image_size": 224, "patch_size": 16},
    )  # fmt: skip
    decoder = ViTDecoder(
        token_dim=768, width=16, depth=1, num_heads=1, mlp_width=16, patch_size=4, grid=(16, 16)
    )
    rae = RAE(encoder=encoder, decoder=decoder, encoder_input_size=256, stats=stats)
    start = time.perf_counter()
    folder = save_rae_as_diffusers(rae, tmp_path / "theirs")
    model = AutoencoderRAE.from_pretrained(folder)
    assert torch.equal(model._latents_std, stats_to_diffusers(stats)[1])
    assert (folder / "config.json").stat().st_size < 12e6
    print(f"{time.perf_counter() - start:.1f} s")


def test_names_for_transformers_4(tmp_path: Path):
    rae = ours("dinov2")
    folder = save_rae_as_diffusers(rae, tmp_path / "theirs", encoder_names="transformers4")
    assert "encoder.encoder.layer.1.attention.output.dense.bias" in load_file(folder / WEIGHTS)
    images = pictures()
    assert torch.equal(rae_from_diffusers(folder).encode(images), rae.encode(images))


def refused(rae: RAE, tmp_path: Path, error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=message):
        save_rae_as_diffusers(rae, tmp_path / "theirs")
    assert list(tmp_path.iterdir()) == []


def test_trained_positions_are_refused(tmp_path: Path):
    rae = ours()
    with torch.no_grad():
        rae.decoder.positions[0, 5, 3] += 0.125
    refused(rae, tmp_path, WeightsError, r"up to 0.125 \(they are trained with the decoder\)")


def test_untrained_positions_of_another_grid_are_refused(tmp_path: Path):
    plain = ours()
    fresh = tiny_decoder(token_dim=64, width=32)
    refused(plain.with_decoder(fresh), tmp_path, WeightsError, "diffusers stretches the coordinates of every")


def test_untrained_positions_of_a_16_grid_are_diffusers_own(tmp_path: Path):
    encoder = ours().encoder
    decoder = tiny_decoder(token_dim=64, width=32, grid=(16, 16))
    save_rae_as_diffusers(RAE(encoder=encoder, decoder=decoder, encoder_input_size=256), tmp_path / "theirs")


@pytest.mark.parametrize(
    ("kind", "architecture", "message"),
    [
        ("mae", {"num_attention_heads": 2}, r"num_attention_heads=2 \(diffusers: 1\)"),
        ("mae", {"intermediate_size": 128}, r"intermediate_size=128 \(diffusers: 3072\)"),
        ("mae", {"image_size": 64}, r"image_size=64 \(diffusers: 224\)"),
        ("dinov2", {"model_type": "dinov2"}, "is a dinov2_with_registers; this encoder is a dinov2"),
        ("dinov2", {"num_register_tokens": 2}, r"num_register_tokens=2 \(diffusers: 4\)"),
        ("siglip2", {"hidden_act": "gelu"}, r"hidden_act=gelu \(diffusers: gelu_pytorch_tanh\)"),
    ],
)
def test_encoders_that_diffusers_cannot_build(
    kind: str, architecture: dict[str, Any], message: str, tmp_path: Path
):
    refused(ours(kind, **architecture), tmp_path, ConfigError, message)


@pytest.mark.parametrize("kind", ["timm", "generic_hf"])
def test_other_kinds_of_encoders(kind: str, tmp_path: Path):
    rae = tiny_rae(kind)
    with torch.no_grad():
        rae.decoder.positions.copy_(diffusers_positions(24, 4))
    refused(rae, tmp_path, ConfigError, f"this one is of kind {kind}")


def test_shapes_that_diffusers_does_not_have(tmp_path: Path):
    refused(tiny_rae(size=(32, 48)), tmp_path, ConfigError, "square images only; this encoder reads 32×48 px")
    decoder = tiny_decoder(token_dim=64, width=32, grid=(8, 8))
    refused(
        ours().with_decoder(decoder),
        tmp_path,
        ConfigError,
        r"the encoder's grid of tokens, 4×4; this one decodes 8×8",
    )


def test_an_absent_encoder_is_refused(tmp_path: Path):
    rae = ours()
    absent = AbsentEncoder(width=64, patch_size=16, identity=rae.encoder.identity)
    other = RAE(encoder=absent, decoder=rae.decoder, encoder_input_size=64)
    refused(other, tmp_path, WeightsError, "the encoder was not loaded")


def test_nothing_is_overwritten_or_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(UserError, match="exists already"):
        save_rae_as_diffusers(ours(), folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unirae.models.interop.diffusers.rae_export.write_weights", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_rae_as_diffusers(ours(), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
