"""``convert.py`` with diffusers' folders: the command around the functions that tests/models checks."""

import json

import pytest
import torch

import unirae
from official_folder import LATENT, dit_node, golden_rae, write_config, write_rae
from unirae.app.convert import Options, run
from unirae.core.errors import ConfigError, UserError, WeightsError

diffusers = pytest.importorskip("diffusers")


@pytest.fixture
def autoencoder(tmp_path):
    """A tiny AutoencoderRAE of diffusers on disk."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = diffusers.AutoencoderRAE(
            encoder_type="mae",
            encoder_hidden_size=64,
            encoder_patch_size=16,
            encoder_num_hidden_layers=1,
            decoder_hidden_size=32,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=48,
            patch_size=8,
            encoder_input_size=64,
            latents_mean=torch.randn(64, 4, 4),
            latents_std=torch.rand(64, 4, 4) + 0.2,
        )
    model.eval().save_pretrained(tmp_path / "theirs")
    return model, tmp_path / "theirs"


def test_an_autoencoder_there_and_back(autoencoder, tmp_path):
    model, folder = autoencoder
    ours = run(Options(from_="diffusers", input=folder, output=tmp_path / "ours"))
    images = torch.rand(2, 3, 64, 64)
    rae = unirae.load_rae(ours)
    with torch.no_grad():
        latents = model.encode(images).latent
        torch.testing.assert_close(rae.encode(images), latents, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(rae.decode(latents), model.decode(latents).sample, rtol=1e-4, atol=1e-5)
    back = run(Options(to="diffusers", checkpoint=ours, output=tmp_path / "back"))
    again = diffusers.AutoencoderRAE.from_pretrained(back)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_generator_becomes_a_pipeline_and_a_folder_again(autoencoder, tmp_path):
    from unirae.core.strict import load_strictly
    from unirae.models.checkpoints.making import dit_content
    from unirae.models.checkpoints.model_folder import write_model_folder
    from unirae.models.checkpoints.pairing import rae_reference
    from unirae.models.denoisers.build import build_denoiser
    from unirae.models.interop.official.dit import dit_from_official

    _, theirs = autoencoder
    inner = run(Options(from_="diffusers", input=theirs, output=tmp_path / "dit/rae"))
    rae = unirae.load_rae(inner)
    node, state = dit_node(rae.latent_shape)
    dit = build_denoiser("dit_dh", **node["params"], latent_stats=rae.stats)
    stats = {f"latent_stats.{k}": t for k, t in rae.stats.state_dict().items()}
    load_strictly(dit, dit_from_official(state, trunk_depth=2) | stats, what="DiT")
    content = dit_content(
        dit,
        rae_reference=rae_reference(rae, path="rae"),
        class_names=[f"class {k}" for k in range(5)],
        config={"data": {}},
        origin={"version": "0"},
        sampling={"cfg_scale": 1.5, "guidance_interval": [0.1, 0.9], "num_steps": 7, "time_grid": "to_zero"},
    )
    write_model_folder(tmp_path / "dit", content)
    pipeline = run(Options(to="diffusers", checkpoint=tmp_path / "dit", output=tmp_path / "pipeline"))
    back = run(Options(from_="diffusers", input=pipeline, output=tmp_path / "back"))
    again = unirae.load_dit(back)
    assert all(
        torch.equal(a, b) for a, b in zip(dit.state_dict().values(), again.state_dict().values(), strict=True)
    )
    said = unirae.models.checkpoints.reading.open_checkpoint(back, kind="stage2").about
    assert said["class_names"] == [f"class {k}" for k in range(5)]
    assert (said["sampling"]["cfg_scale"], said["sampling"]["num_steps"]) == (1.5, 7)
    assert said["sampling"]["time_grid"] == "to_zero"
    _what_is_wrong_in_a_pipeline_is_named(pipeline, tmp_path)


def _what_is_wrong_in_a_pipeline_is_named(pipeline, tmp_path):
    for file, key, value, message in (
        (
            "model_index.json",
            "_class_name",
            "StableDiffusionPipeline",
            "is of StableDiffusionPipeline; only a RAEDiT",
        ),
        (
            "model_index.json",
            "id2label",
            {"0": "cat"},
            "id2label must give a name to each of the labels 0 to 4",
        ),
        ("model_index.json", "id2label", ["cat"], "id2label must give"),
        ("model_index.json", "defaults", "x", "defaults must be keys and values"),
        ("model_index.json", "defaults", {"guidance": 2}, "model_index.json: defaults: unknown guidance"),
        ("model_index.json", "defaults", {"num_inference_steps": "x"}, "num_inference_steps='x'"),
        ("model_index.json", "defaults", {"guidance_interval": 1}, "guidance_interval=1 must be two numbers"),
        ("model_index.json", "defaults", {"guidance_scale": "2"}, "guidance_scale='2' must be a number"),
        ("transformer/config.json", "time_shift", -1, "time_shift=-1 must be a number above 0"),
        ("transformer/config.json", "time_shift", "x", "time_shift='x' must be"),
        ("transformer/config.json", "architecture", [], r"architecture=\[\] must be keys and values"),
        ("transformer/config.json", "kind", "unet", "describes no network of ours"),
        ("vae/config.json", "encoder_type", ["mae"], r"encoder_type=\['mae'\] is unknown"),
        ("vae/config.json", "patch_size", True, "patch_size=True must be a whole number"),
        (
            "vae/config.json",
            "scaling_factor",
            2.0,
            "transformer's statistics of latents are not the autoencoder's",
        ),
    ):
        whole = (pipeline / file).read_text()
        (pipeline / file).write_text(json.dumps({**json.loads(whole), key: value}))
        with pytest.raises(UserError, match=message):
            run(Options(from_="diffusers", input=pipeline, output=tmp_path / "wrong"))
        assert not (tmp_path / "wrong").exists()
        (pipeline / file).write_text(whole)


def test_trained_positions_go_to_a_pipeline_alone(tmp_path, monkeypatch):
    root = tmp_path / "official"
    node = write_rae(root)
    monkeypatch.chdir(root)
    tensors, _ = golden_rae()
    assert tensors["latent"].shape[1:] == LATENT
    folder = run(
        Options(from_="rae", config=write_config(root / "c.yaml", {"stage_1": node}), output=root / "ours")
    )
    with pytest.raises(
        (ConfigError, WeightsError)
    ):  # heads of 16, or the positions: diffusers cannot have either
        run(Options(to="diffusers", checkpoint=folder, output=root / "theirs"))
    assert not (root / "theirs").exists()


def test_options_of_the_other_program_are_refused(autoencoder, tmp_path):
    with pytest.raises(ConfigError, match="--from diffusers needs --input"):
        run(Options(from_="diffusers", output=tmp_path / "x"))
    with pytest.raises(ConfigError, match="--weights does not belong"):
        run(Options(from_="diffusers", input=autoencoder[1], weights="model", output=tmp_path / "x"))
    (autoencoder[1] / "config.json").write_text("{}")
    with pytest.raises(WeightsError):
        run(Options(from_="diffusers", input=autoencoder[1], output=tmp_path / "x"))
    assert not (tmp_path / "x").exists()
