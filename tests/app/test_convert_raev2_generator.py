"""``convert.py`` with generators of RAEv2: its YAML and training checkpoints in and out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import unirae
from raev2_folder import changed, convert, same, write_stage_1
from tiny_dit import randomise
from tiny_models import relative_l2
from unirae.app.convert import Options, run
from unirae.app.sample_dit import Options as Sampling
from unirae.app.sample_dit import run as sample
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.checkpoints.reading import open_checkpoint
from unirae.models.denoisers.build import build_denoiser
from unirae.models.interop.official.dit_v2 import dit_v2_to_official

GOLDEN = Path(__file__).parents[1] / "golden"
CHECKPOINT = GOLDEN / "raev2_ep-0000001.pt"


def outputs() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    file = CHECKPOINT.with_suffix(".outputs.safetensors")
    with safe_open(file, "pt") as opened:
        return load_file(file), json.loads(opened.metadata()["config"])


def document(stage_1: dict[str, Any], config: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A configuration as RAEv2 has it, for the network of a golden file."""
    params = dict(config["params"])
    arch, classes, _ = params.pop("cond_arch"), params.pop("num_classes"), params.pop("condition_type")
    module = "lightningDiT" if config["class"].startswith("Lightning") else "DDT"
    return {
        "stage_1": stage_1,
        "stage_2": {"target": f"stage2.models.{module}.{config['class']}", "params": params},
        "conditioning": {"type": "label", "cfg_dropout_prob": 0.1, "arch": arch},
        "transport": {"prediction": "x", "time_dist_type": "logit-normal_0_1", "t_eps": 0.05},
        "sampler": {"num_steps": 50},
        "guidance": {"cfg": {"scale": 1.0, "t_min": 0.0, "t_max": 1.0}, "ig": None},
        "misc": {"num_classes": classes, "time_dist_shift_dim": 36864, "time_dist_shift_base": 4096},
        "training": {"ema_decay": 0.9995},
        **sections,
    }


@pytest.fixture
def released(tmp_path, monkeypatch):
    """(folder, configuration) of the golden training checkpoint."""
    monkeypatch.chdir(tmp_path)
    config = document(write_stage_1(tmp_path, channels=4, side=4), outputs()[1])
    return tmp_path, config


@pytest.mark.parametrize("weights", ["ema", "model"])
@torch.no_grad()
def test_a_training_checkpoint_answers_as_in_raev2_and_comes_back_bit_for_bit(released, weights):
    root, config = released
    golden, _ = outputs()
    folder = convert(root, config, checkpoint=CHECKPOINT, weights=weights)
    dit = unirae.load_dit(folder)
    assert (dit.prediction.value, dit.time_shift, dit.null_label) == ("data", 3.0, 5)
    for output, name in zip(
        dit.predict_with_base(golden["x"], golden["t"], golden["y"]), ("full", "base"), strict=True
    ):
        assert relative_l2(output, golden[f"{weights}_{name}"]) < 1e-5
    rae = unirae.load_rae(folder)
    assert unirae.sample(dit, rae, labels=[0, 1], num_steps=4).shape == (2, 3, 64, 64)

    run(Options(to="rae", checkpoint=folder, output=root / "theirs"))
    same(torch.load(root / "theirs/stage2_model.pt"), torch.load(CHECKPOINT, weights_only=True)[weights])
    written = yaml.safe_load((root / "theirs/config.yaml").read_text())
    assert written["stage_2"]["target"] == config["stage_2"]["target"]
    assert written["stage_2"]["params"] == config["stage_2"]["params"]
    assert written["transport"] == config["transport"]
    assert written["sampler"] == config["sampler"]
    assert written["misc"] == config["misc"] | {"latent_size": [4, 4, 4]}
    again = convert(root, written, output=root / "again")
    same(unirae.load_dit(again).state_dict(), dit.state_dict())


HEAD = {"hidden_size": [16, 24], "depth": [3, 1], "num_heads": [2, 2]}
NETWORKS = {
    "DiTwDDTHead": ("dit_dh", HEAD),
    "equal widths": ("dit_dh", HEAD | {"hidden_size": [16, 16], "base_head_depth": 3}),
    "other tokens": (
        "dit_dh",
        HEAD | {"num_time_tokens": 1, "num_condition_tokens": 3, "base_head_depth": 1},
    ),
    "patch 2": ("dit_dh", HEAD | {"patch_size": 2, "mlp_ratio": 3.0}),
    "LightningDiT": ("dit", {"hidden_size": 16, "depth": 2, "num_heads": 2}),
    "LightningDiTIG": (
        "dit",
        {"hidden_size": 16, "depth": 2, "num_heads": 2, "base_head_depth": 1, "patch_size": 2},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_networks_of_every_kind_go_out_and_come_in(tmp_path, monkeypatch, name):
    """Of the golden ones' names and numbers: tests/models/denoisers/test_golden_dit_v2.py."""
    monkeypatch.chdir(tmp_path)
    kind, options = NETWORKS[name]
    positions = {"use_pos_embed": False} if kind == "dit_dh" else {}
    model = randomise(
        build_denoiser(
            kind,
            in_channels=8,
            input_size=6,
            num_classes=3,
            conditioning="tokens",
            use_qknorm=True,
            **positions,
            **options,
        )
    )
    state = dit_v2_to_official(model)
    torch.save({"ema": state}, tmp_path / "ep.pt")
    class_name = ("DiTwDDTHead" if kind == "dit_dh" else "LightningDiT") + (
        "IG" if "base_head_depth" in options else ""
    )
    sizes = ("in_channels", "input_size", "hidden_size", "depth", "num_heads", "patch_size", "mlp_ratio")
    params = {name: getattr(model.config, name) for name in sizes} | {"input_size": 6}
    params |= {"num_classes": 3, "condition_type": "label", "base_model_depth": model.config.base_head_depth}
    arch = {"num_t_tokens": model.config.num_time_tokens, "num_c_tokens": model.config.num_condition_tokens}
    about = {"class": class_name, "params": params | {"cond_arch": arch}}
    config = document(write_stage_1(tmp_path, channels=8, side=6), about)
    folder = convert(tmp_path, config, checkpoint=tmp_path / "ep.pt")
    dit = unirae.load_dit(folder)
    x, t, y = torch.randn(2, 8, 6, 6), torch.tensor([0.2, 0.9]), torch.tensor([1, 3])
    assert torch.equal(dit.predict(x, t, y), model.predict(x, t, y))
    run(Options(to="rae", checkpoint=folder, output=tmp_path / "theirs"))
    same(torch.load(tmp_path / "theirs/stage2_model.pt"), state)
    again = convert(
        tmp_path, yaml.safe_load((tmp_path / "theirs/config.yaml").read_text()), output=tmp_path / "again"
    )
    assert unirae.load_dit(again).architecture == dit.architecture


def test_sampling_is_that_of_the_yaml(released):
    root, config = released
    said = {"scale": 1.78, "t_min": 0.1, "t_max": 1.0, "unconditional_scale": 0.6}
    config["guidance"] = {"cfg": {"scale": 1.3, "t_min": 0.3, "t_max": 1.0}, "ig": said}
    config["sampler"] = {"num_steps": 100}
    folder = convert(root, config, checkpoint=CHECKPOINT)
    assert open_checkpoint(folder, kind="stage2").about["sampling"] == {
        "solver": "euler",
        "num_steps": 101,
        "time_grid": "linear",
        "cfg_scale": 1.3,
        "guidance_interval": [0.3, 1.0],
        "ig_scale": 1.78,
        "ig_interval": [0.1, 1.0],
        "ig_unconditional_scale": 0.6,
    }
    run(Options(to="rae", checkpoint=folder, output=root / "theirs"))
    written = yaml.safe_load((root / "theirs/config.yaml").read_text())
    assert (written["guidance"], written["sampler"]) == (config["guidance"], config["sampler"])


def test_missing_sections_mean_raev2s_defaults(released):
    root, config = released
    config = {key: config[key] for key in ("stage_1", "stage_2")}
    config["misc"] = {"num_classes": 5}
    folder = convert(root, config, checkpoint=CHECKPOINT)
    dit = unirae.load_dit(folder)
    assert (dit.prediction.value, dit.time_shift) == ("velocity", pytest.approx(48**0.5))
    assert open_checkpoint(folder, kind="stage2").about["sampling"]["num_steps"] == 51
    config["misc"]["time_dist_shift_dim"] = 0
    assert (
        unirae.load_dit(convert(root, config, checkpoint=CHECKPOINT, output=root / "b")).time_shift == 0.125
    )


def test_the_depth_of_the_early_head_may_stand_in_either_section(released):
    root, config = released
    del config["stage_2"]["params"]["base_model_depth"]
    with pytest.raises(ConfigError, match=r"neither stage_2\.params\.base_model_depth nor internal_guidance"):
        convert(root, config, checkpoint=CHECKPOINT)
    config["internal_guidance"] = {"base_model_depth": 1, "base_model_coeff": 1.0}
    assert unirae.load_dit(convert(root, config, checkpoint=CHECKPOINT)).config.base_head_depth == 1
    config["stage_2"]["params"]["base_model_depth"] = 2
    with pytest.raises(
        ConfigError, match=r"base_model_depth=2 and internal_guidance\.base_model_depth=1 disagree"
    ):
        convert(root, config, checkpoint=CHECKPOINT, output=root / "b")


@torch.no_grad()
def test_the_projector_of_repa_is_left_out_with_a_line(released, capsys):
    root, config = released
    content = torch.load(CHECKPOINT, weights_only=True)
    content["ema"] |= {"repa_projector.weight": torch.ones(8, 16), "repa_projector.bias": torch.ones(8)}
    torch.save(content, root / "repa.pt")
    config["stage_2"]["params"] |= {"enable_repa": True, "repa_layer_depth": 2, "z_dim": 8}
    config["repa"] = {"use_repa": True, "z_dim": 8}
    dit = unirae.load_dit(convert(root, config, checkpoint=root / "repa.pt"))
    assert "repa_projector is left out" in capsys.readouterr().err
    golden, _ = outputs()
    assert relative_l2(dit.predict(golden["x"], golden["t"], golden["y"]), golden["ema_full"]) < 1e-5


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stage_2/target", "stage2.models.DiT", r"stage_2\.target=stage2\.models\.DiT is unknown"),
        ("stage_2/params/use_qknorm", True, "unknown use_qknorm"),
        ("stage_2/params/patch_size", [2, 1], r"patch_size=\[2, 1\]: RAEv2 runs with one patch size"),
        ("stage_2/params/depth", 3, "expected two whole numbers"),
        ("stage_2/params/use_cfg_conds", True, "tokens of the guidance's strength ω are not converted, because"),
        ("stage_2/params/num_classes", 7, r"num_classes=7 and misc\.num_classes=5 disagree"),
        ("conditioning/type", "text", r"conditioning\.context_dim is missing: the width of the text encoder's"),
        ("conditioning/type", "nwm", "it is a navigation model, whose conditions"),
        ("conditioning/type", "audio", "type='audio' is unknown; expected label, text or nwm"),
        ("conditioning/arch/num_x_tokens", 3, "unknown num_x_tokens"),
        ("transport/prediction", "noise", "prediction='noise' is unknown; expected velocity or x"),
        ("transport/time_dist_type", "uniform", "time_dist_type=uniform: expected logit-normal_MEAN_STD"),
        ("sampler/num_steps", 0, "num_steps=0: there is at least one step"),
        ("sampler/mode", "SDE", "sampler: unknown mode"),
        ("guidance/cfg", {"scale": 2.0, "t_min": 0.9, "t_max": 0.1}, "t_min=0.9 and t_max=0.1: expected"),
        ("misc/latent_size", [8, 4, 4], r"misc\.latent_size=\[8, 4, 4\], but by stage_2\.params it is \[4, 4, 4\]"),
        ("misc/null_label", 5, "unknown null_label"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(released, path, value, message):
    root, config = released
    with pytest.raises(ConfigError, match=message):
        convert(root, changed(config, path, value), checkpoint=CHECKPOINT)
    assert not (root / "ours").exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("conditioning/arch/num_c_tokens", 6, r"enc_rope.* \(28, 8\) instead of \(26, 8\)"),
        ("stage_2/target", "stage2.models.DDT.DiTwDDTHead", "unexpected .*base_final_layer"),
        ("stage_2/params/depth", [3, 1], "missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused(released, path, value, message):
    root, config = released
    with pytest.raises(WeightsError, match=message):
        convert(root, changed(config, path, value), checkpoint=CHECKPOINT)
    assert not (root / "ours").exists()


def test_internal_guidance_needs_an_early_head(released):
    root, config = released
    config["stage_2"]["target"] = "stage2.models.DDT.DiTwDDTHead"
    config["guidance"] = {"ig": {"scale": 1.5}}
    with pytest.raises(ConfigError, match=r"guidance\.ig\.scale=1\.5 needs a network with an early head"):
        convert(root, config, checkpoint=CHECKPOINT)


def test_a_converted_model_is_sampled_as_its_yaml_says(released):
    root, config = released
    config["guidance"] = {
        "cfg": {"scale": 1.3, "t_min": 0.3, "t_max": 1.0},
        "ig": {"scale": 1.5, "t_min": 0.1},
    }
    config["sampler"] = {"num_steps": 3}
    folder = convert(root, config, checkpoint=CHECKPOINT)

    def settings(name, **options):
        made = sample(
            Sampling(checkpoint=folder, num_samples=1, output_dir=root / name, device="cpu", **options)
        )
        return json.loads((made / "settings.json").read_text())["settings"]

    said = settings("yaml")
    assert (said["num_steps"], said["time_grid"], said["guidance"]) == (
        4,
        "linear",
        "internal, then classifier-free",
    )
    assert (said["ig_scale"], said["ig_interval"]) == (1.5, [0.1, 1.0])
    said = settings("own", ig_scale=1.0, cfg_scale=1.0, clamp_velocity=True)
    assert (said["guidance"], said["clamp_velocity"]) == ("none", True)
    assert "ig_scale" not in said
