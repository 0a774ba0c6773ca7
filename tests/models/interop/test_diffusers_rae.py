"""diffusers' AutoencoderRAE to ours: the same numbers, or a reason."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
from diffusers import AutoencoderRAE
from safetensors.torch import load_file, save_file

from tiny_diffusers import KINDS, SHAPE, mend_siglip, pictures, saved, theirs
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.models.encoders.build import encoder_from_identity
from unirae.models.interop.diffusers.names import old_encoder_name
from unirae.models.interop.diffusers.rae import diffusers_positions, rae_from_diffusers
from unirae.models.rae import RAE

WEIGHTS = "diffusion_pytorch_model.safetensors"
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def siglip(monkeypatch: pytest.MonkeyPatch) -> None:
    mend_siglip(monkeypatch)


@torch.no_grad()
def check_equal(ours: RAE, theirs: AutoencoderRAE) -> None:
    images = pictures()
    latents = theirs.encode(images).latent
    torch.testing.assert_close(ours.encode(images), latents, **TOLERANCE)
    torch.testing.assert_close(ours.decode(latents), theirs.decode(latents).sample, **TOLERANCE)
    torch.testing.assert_close(ours.reconstruct(images), theirs(images).sample, **TOLERANCE)


def edit(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def rewrite(folder: Path, change: Any) -> Path:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers(kind: str, tmp_path: Path):
    model = theirs(kind, noise_tau=0.8, encoder_norm_mean=[0.5, 0.4, 0.3], encoder_norm_std=[0.2, 0.3, 0.4])
    rae = rae_from_diffusers(saved(tmp_path / "theirs", model))
    check_equal(rae, model)
    assert (rae.noise_tau, rae.noise_kind, rae.stats.eps) == (0.8, "uniform", 0.0)
    assert not rae.training
    assert rae.encoder.identity.embedded
    again = encoder_from_identity(rae.encoder.identity, rae.encoder.state_dict())
    assert torch.equal(
        again(pictures(56 if kind == "dinov2" else 64)), rae.encoder(pictures(56 if kind == "dinov2" else 64))
    )


@pytest.mark.parametrize(
    ("shape", "scaling"), [(None, 1.0), (None, 0.5), ((64, 1, 1), 1.0), ((1, *SHAPE), 3.7), ((1,), 1.0)]
)
def test_statistics_and_scaling_factor(shape: tuple[int, ...] | None, scaling: float, tmp_path: Path):
    model = theirs("mae", stats=shape, scaling_factor=scaling)
    rae = rae_from_diffusers(saved(tmp_path / "theirs", model))
    check_equal(rae, model)
    assert (rae.stats.mean is None) == (shape is None)


def test_the_buffers_count_not_the_configuration(tmp_path: Path):
    model = theirs("mae")
    folder = edit(
        saved(tmp_path / "theirs", model), latents_mean=None, latents_std=None, encoder_norm_mean=[9, 9, 9]
    )
    check_equal(rae_from_diffusers(folder), model)


@pytest.mark.parametrize("variant", ["fp16", "bf16"])
def test_half_precision_variants(variant: str, tmp_path: Path):
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[variant]
    folder = saved(tmp_path / "theirs", theirs("mae").to(dtype), variant=variant)
    model = AutoencoderRAE.from_pretrained(folder, variant=variant, torch_dtype=torch.float32)
    check_equal(rae_from_diffusers(folder, variant=variant), model)
    with pytest.raises(
        WeightsError, match=rf"but diffusion_pytorch_model.{variant}.safetensors: name its variant"
    ):
        rae_from_diffusers(folder)


def test_files_in_parts(tmp_path: Path):
    model = theirs("mae")
    folder = saved(tmp_path / "theirs", model, max_shard_size="200KB")
    parts = sorted(folder.glob("*-of-*.safetensors"))
    assert len(parts) > 2
    check_equal(rae_from_diffusers(folder), model)
    index = json.loads((folder / f"{WEIGHTS}.index.json").read_text())
    moved = next(key for key, file in index["weight_map"].items() if file == parts[0].name)
    index["weight_map"][moved] = parts[1].name
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="disagree about"):
        rae_from_diffusers(folder)
    index["weight_map"][moved] = "../elsewhere.safetensors"
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="not a file beside it"):
        rae_from_diffusers(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_other_transformers_versions(kind: str, tmp_path: Path):
    """Files on the hub were written with transformers 4; a SigLIP of later ones has no vision_model."""
    model = theirs(kind)
    folder = saved(tmp_path / "theirs", model)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if key.startswith("encoder.")]:
            old = "encoder." + old_encoder_name(kind, key.removeprefix("encoder."))
            tensors[old.replace("vision_model.", "")] = tensors.pop(key)

    rewrite(folder, rename)
    names = set(load_file(folder / WEIGHTS))
    assert kind == "siglip2" or "encoder.encoder.layer.0.attention.attention.query.weight" in names
    assert kind != "mae" or "encoder.encoder.layer.1.intermediate.dense.bias" in names
    check_equal(rae_from_diffusers(folder), model)


@pytest.mark.parametrize("grid", [3, 4, 16, 32])
def test_positions_are_diffusers_own(grid: int):
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    table = get_2d_sincos_pos_embed(96, grid, cls_token=True, extra_tokens=1)[None].float()
    assert torch.equal(diffusers_positions(96, grid), table)


def test_stored_positions_are_ignored_as_diffusers_does(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    model = theirs("mae")
    table = diffusers_positions(32, 4)
    folder = saved(tmp_path / "theirs", model)
    rewrite(folder, lambda tensors: tensors.update({"decoder.decoder_pos_embed": table + 0.25}))
    with caplog.at_level(logging.WARNING, "unirae"):
        rae = rae_from_diffusers(folder)
    assert "by up to 0.25" in caplog.text
    check_equal(rae, AutoencoderRAE.from_pretrained(folder))
    rewrite(folder, lambda tensors: tensors.update({"decoder.decoder_pos_embed": table}))
    caplog.clear()
    rae_from_diffusers(folder)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spectral": 1}, "AutoencoderRAE has no spectral"),
        ({"reshape_to_2d": False}, "reshape_to_2d=false makes latents a list of tokens"),
        ({"num_channels": 1}, "images here are RGB"),
        ({"encoder_type": "clip"}, "diffusers has dinov2, siglip2, mae"),
        ({"scaling_factor": 0}, "scaling_factor=0 must be positive"),
        ({"noise_tau": "much"}, "noise_tau=much must be a number"),
        ({"image_size": 100}, "patch_size times the tokens' grid, 32"),
        ({"encoder_input_size": 65}, "nearest valid: 64, 80"),
        ({"encoder_hidden_size": 32}, "without heads"),
        ({"decoder_num_hidden_layers": 0}, "decoder_num_hidden_layers=0 must be a whole number"),
    ],
)
def test_configurations_that_are_refused(change: dict[str, Any], message: str, tmp_path: Path):
    folder = edit(saved(tmp_path / "theirs", theirs("mae")), **change)
    with pytest.raises(ConfigError, match=message):
        rae_from_diffusers(folder)


KEY = "decoder.decoder_layers.0.attention.to_k.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(KEY), rf"1 missing \({KEY}\)"),
        (lambda t: t.pop("_latents_std"), r"1 missing \(_latents_std\)"),
        (lambda t: t.pop("encoder.embeddings.cls_token"), r"1 missing \(encoder.embeddings.cls_token\)"),
        (lambda t: t.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
        (lambda t: t.update({KEY: torch.ones(5)}), rf"{KEY} \(5,\) instead of \(32,\)"),
        (lambda t: t.update({KEY: torch.ones(32).int()}), "from 32- or 16-bit floats"),
        (lambda t: t.update(_latents_mean=torch.ones(3, 4, 4)), r"_latents_mean has the shape \(3, 4, 4\)"),
        (lambda t: t["_latents_std"].sub_(1), "is no standard deviation"),
        (lambda t: t["_latents_mean"].fill_(float("nan")), "not finite"),
        (lambda t: t.update(encoder_std=torch.zeros(1, 3, 1, 1)), "the latter positive"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Any, message: str, tmp_path: Path):
    folder = rewrite(saved(tmp_path / "theirs", theirs("mae")), change)
    with pytest.raises(WeightsError, match=message):
        rae_from_diffusers(folder)


def test_files_that_are_missing_or_damaged(tmp_path: Path):
    with pytest.raises(WeightsError, match="such as PIPELINE/vae"):
        rae_from_diffusers(tmp_path / "nowhere")
    folder = saved(tmp_path / "theirs", theirs("mae"))
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="truncated"):
        rae_from_diffusers(folder)
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="a pickle, which could run code"):
        rae_from_diffusers(folder)
    (folder / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(WeightsError, match="is of AutoencoderKL"):
        rae_from_diffusers(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        rae_from_diffusers(folder)
