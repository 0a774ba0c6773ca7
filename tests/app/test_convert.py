"""The official code's files, in and out: its numbers, its keys, and errors that name what is wrong."""

import copy
import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

import unirae
from official_folder import (
    LATENT,
    dit_node,
    golden_rae,
    write_config,
    write_encoder,
    write_other_encoder,
    write_rae,
)
from unirae.app.convert import Options, run
from unirae.app.inputs.generator import open_generator
from unirae.app.inputs.sampler_options import SamplerOptions
from unirae.app.run.builders import build_rae
from unirae.app.run.rae_source import find_rae
from unirae.core.errors import ConfigError, UserError, WeightsError


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A folder of the official code, from which it would be started."""
    root = tmp_path / "official"
    node = write_rae(root)
    monkeypatch.chdir(root)
    return root, {"stage_1": node}


def with_dit(root, config, **changes):
    """The same with a stage 2, as its sampling configurations have it."""
    node, state = dit_node(LATENT, **changes)
    torch.save(state, root / "models/stage2_model.pt")
    return {
        **config,
        "stage_2": {**node, "ckpt": "models/stage2_model.pt"},
        "transport": {
            "params": {"path_type": "Linear", "prediction": "velocity", "time_dist_type": "uniform"}
        },
        "sampler": {"mode": "ODE", "params": {"sampling_method": "euler", "num_steps": 10, "atol": 1e-6}},
        "guidance": {"method": "cfg", "scale": 1.8, "t-min": 0.1, "t-max": 0.9},
        "misc": {
            "latent_size": list(LATENT),
            "num_classes": 5,
            "time_dist_shift_dim": 65536,
            "time_dist_shift_base": 4096,
        },
    }


def convert(root, config, output="converted", **options):
    path = write_config(root / "configs/official.yaml", config)
    return run(Options(from_="rae", config=path, output=root / output, **options))


def test_an_autoencoder_gives_the_official_numbers(official, tmp_path):
    root, config = official
    folder = convert(root, config)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    golden, _ = golden_rae()
    rae = unirae.load_rae(folder)
    with torch.no_grad():
        torch.testing.assert_close(rae.encode(golden["x"]), golden["latent"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            rae.decode(golden["latent"]), golden["reconstruction"], rtol=1e-4, atol=1e-4
        )
    with pytest.raises(WeightsError, match="averaged ones alone"):
        unirae.load_rae(folder, ema=False)


def test_relative_paths_are_found_from_the_configurations_folder_too(official, monkeypatch, tmp_path):
    root, config = official
    monkeypatch.chdir(tmp_path)
    assert unirae.load_rae(convert(root, config)).latent_shape == LATENT


def test_with_its_encoder_inside_a_folder_needs_nothing_else(official):
    root, config = official
    folder = convert(root, config, embed_encoder=True)
    expected = unirae.load_rae(folder).encode(golden_rae()[0]["x"])
    (root / "models/encoder").rename(root / "models/gone")
    assert torch.equal(unirae.load_rae(folder).encode(golden_rae()[0]["x"]), expected)
    with pytest.raises(WeightsError, match="models/encoder"):
        unirae.load_rae(convert(root, {**config}, "again"))


@pytest.mark.usefixtures("names_of_commands")
def test_a_moved_encoder_is_named_on_the_command_line(official):
    root, config = official
    (root / "models/encoder").rename(root / "moved")
    with pytest.raises(WeightsError, match="--encoder_weights DIR"):
        convert(root, config)
    folder = convert(root, config, encoder_weights=str(root / "moved"))
    assert unirae.load_rae(folder).latent_shape == LATENT


def test_a_generator_is_sampled_as_its_configuration_says(official, tmp_path):
    root, config = official
    folder = convert(root, with_dit(root, config))
    dit = unirae.load_dit(folder)
    assert dit.time_shift == 4.0
    assert unirae.load_rae(folder).stats.mean is not None
    generator = open_generator(SamplerOptions(checkpoint=folder), torch.device("cpu"))
    settings = generator.sampler.settings
    assert (settings.num_steps, settings.solver) == (10, "euler")
    assert (settings.cfg_scale, settings.guidance_interval) == (1.8, (0.1, 0.9))
    assert open_generator(
        SamplerOptions(checkpoint=folder, cfg_scale=1.0, num_steps=3), torch.device("cpu")
    ).sampler.settings.num_steps == 3  # fmt: skip
    folder.rename(tmp_path / "elsewhere")  # the folder is a whole
    assert unirae.load_rae(tmp_path / "elsewhere").latent_shape == LATENT


def test_autoguidance_takes_its_guide_along(official):
    root, config = official
    config = with_dit(root, config)
    guide, state = dit_node(LATENT, seed=5, hidden_size=[16, 32], depth=[1, 1], num_heads=[2, 2])
    torch.save(state, root / "models/weak.pt")
    config["guidance"] = {
        "method": "autoguidance",
        "scale": 1.42,
        "t_min": 0.0,
        "guidance_model": {**guide, "ckpt": "models/weak.pt"},
    }
    folder = convert(root, config)
    device = torch.device("cpu")
    sampler = open_generator(SamplerOptions(checkpoint=folder), device).sampler
    assert sampler.guide is not None
    assert sampler.guide.architecture["hidden_size"] == [16, 32]
    alone = open_generator(SamplerOptions(checkpoint=folder, guide_checkpoint="none"), device).sampler
    assert alone.guide is None
    back = run(Options(to="rae", checkpoint=folder, output=root / "back"))
    assert same(torch.load(back / "guide.pt"), state)
    written = yaml.safe_load((back / "config.yaml").read_text())["guidance"]
    assert (written["method"], written["scale"]) == ("autoguidance", 1.42)


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_changes_no_bit(official, dtype):
    root, config = official
    config = with_dit(root, config)
    for name in ("model.pt", "stage2_model.pt"):
        file = root / "models" / name
        torch.save({k: t.to(dtype) for k, t in torch.load(file).items()}, file)
    back = run(Options(to="rae", checkpoint=convert(root, config), output=root / "back"))
    assert same(torch.load(back / "decoder.pt"), torch.load(root / "models/model.pt"))
    assert same(torch.load(back / "stat.pt"), torch.load(root / "models/stat.pt"))
    rotary = {k for k in torch.load(back / "stage2_model.pt") if "rope" in k}
    there, again = torch.load(root / "models/stage2_model.pt"), torch.load(back / "stage2_model.pt")
    assert rotary
    assert same(again, there)
    said = yaml.safe_load((back / "config.yaml").read_text())
    assert said["misc"]["time_dist_shift_dim"] == 65536
    assert (said["guidance"]["scale"], said["guidance"]["t_min"]) == (1.8, 0.1)
    once_more = convert(root, said, "once_more")
    first, second = (load_file(f / "model.safetensors") for f in (root / "converted", once_more))
    assert same(first, second)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_qknorm": True},
        {"use_qknorm": True, "use_rmsnorm": False},
        {"use_swiglu": False, "mlp_ratio": 3.0},
        {"use_rmsnorm": False},
        {"hidden_size": [32, 32], "num_heads": 2},
        {"use_pos_embed": False},
        {"class_dropout_prob": 0.0},
        {"hidden_size": 32, "depth": 2, "num_heads": 2, "patch_size": 2},
        {"hidden_size": 32, "depth": 2, "num_heads": 2, "use_rope": False},
    ],
    ids=str,
)
def test_every_switch_there_and_back(official, changes):
    root, config = official
    config = with_dit(root, config, **changes)
    config["guidance"]["scale"] = 1.0
    back = run(Options(to="rae", checkpoint=convert(root, config), output=root / "back"))
    assert same(torch.load(back / "stage2_model.pt"), torch.load(root / "models/stage2_model.pt"))
    params = yaml.safe_load((back / "config.yaml").read_text())["stage_2"]["params"]
    assert all(params[k] == v for k, v in changes.items() if k not in ("num_heads", "class_dropout_prob"))


def test_training_checkpoints_and_their_wrappers(official):
    root, config = official
    trained = copy.deepcopy(config)
    del trained["stage_1"]["params"]["pretrained_decoder_path"]
    golden, _ = golden_rae()
    whole = {k: t for k, t in golden.items() if k.startswith(("decoder.", "encoder."))}
    raw = {f"module._orig_mod.{k}": t + 1 if k.startswith("decoder.") else t for k, t in whole.items()}
    content = {"step": 3, "epoch": 1, "model": raw, "ema": whole, "optimizer": {"state": {}}, "disc": {}}
    torch.save(content, root / "ep-last.pt")
    averaged = convert(root, trained, "a", checkpoint=root / "ep-last.pt")
    released = convert(root, config, "r")
    assert same(load_file(averaged / "model.safetensors"), load_file(released / "model.safetensors"))
    raw_one = load_file(
        convert(root, trained, "b", checkpoint=root / "ep-last.pt", weights="model") / "model.safetensors"
    )
    assert torch.equal(raw_one["decoder.norm.bias"], golden["decoder.decoder_norm.bias"] + 1)
    content["ema"]["encoder.encoder.embeddings.cls_token"] = torch.ones(1, 1, 32)
    torch.save(content, root / "ep-last.pt")
    with pytest.raises(
        WeightsError, match=r"encoder inside .*ep-last\.pt is not the one .*1 of its .*cls_token"
    ):
        convert(root, trained, "c", checkpoint=root / "ep-last.pt")


@pytest.mark.parametrize("kind", ["MAEwNorm", "SigLIP2wNorm"])
def test_the_other_encoders(official, kind):
    """Whole checkpoints of theirs name the encoder's tensors as their transformers did."""
    root, config = official
    write_other_encoder(kind, root / "models/other")
    params = config["stage_1"]["params"]
    params |= {"encoder_cls": kind, "encoder_params": {"model_name": "models/other"}}
    params["encoder_config_path"] = "models/other"
    folder = convert(root, config)
    rae = unirae.load_rae(folder)
    assert rae.encoder.mean.flatten().tolist() == [0.5] * 3
    whole = {f"decoder.{k}": t for k, t in torch.load(root / "models/model.pt").items()}
    prefix = {"MAEwNorm": "encoder.model.", "SigLIP2wNorm": "encoder.model."}[kind]
    whole |= {prefix + k: t for k, t in rae.encoder.backbone.state_dict().items()}
    if kind == "SigLIP2wNorm":
        whole |= {"encoder.model.head.probe": torch.zeros(1, 1, 32)}  # of the pooling that nothing asks
    torch.save(whole, root / "ep-last.pt")
    del params["pretrained_decoder_path"]
    again = convert(root, config, "again", checkpoint=root / "ep-last.pt")
    assert same(load_file(folder / "model.safetensors"), load_file(again / "model.safetensors"))
    back = run(Options(to="rae", checkpoint=folder, output=root / "back"))
    said = yaml.safe_load((back / "config.yaml").read_text())["stage_1"]["params"]
    assert said["encoder_cls"] == kind
    assert said["encoder_params"] == {"model_name": str((root / "models/other").resolve())}


def test_a_model_without_a_label_for_none_is_not_guided_by_it(official):
    root, config = official
    config = with_dit(root, config, class_dropout_prob=0.0)
    with pytest.raises(ConfigError, match="needs a label for none"):
        convert(root, config)
    config["guidance"]["scale"] = 1.0
    folder = convert(root, config)
    device = torch.device("cpu")
    open_generator(SamplerOptions(checkpoint=folder), device)
    with pytest.raises(ConfigError, match="trained without label dropout"):
        open_generator(SamplerOptions(checkpoint=folder, cfg_scale=2.0), device)


def test_raw_weights_are_called_raw(official):
    root, config = official
    config = with_dit(root, config)
    state = torch.load(root / "models/stage2_model.pt")
    torch.save({"model": state, "ema": state, "step": 1}, root / "ep-last.pt")
    del config["stage_2"]["ckpt"]
    for weights, name in (("model", "raw"), ("ema", "EMA")):
        folder = convert(root, config, weights, checkpoint=root / "ep-last.pt", weights=weights)
        generator = open_generator(SamplerOptions(checkpoint=folder), torch.device("cpu"))
        assert generator.settings["weights"] == name


def test_pixel_statistics_must_be_known(official):
    root, config = official
    config["stage_1"]["params"]["encoder_config_path"] = "models/elsewhere"
    (root / "models/elsewhere").mkdir()
    with pytest.raises(WeightsError, match=r"has no preprocessor_config\.json"):
        convert(root, config)
    said = {"image_mean": [0.1] * 3, "image_std": [0.2] * 3}
    (root / "models/elsewhere/preprocessor_config.json").write_text(json.dumps(said))
    assert unirae.load_rae(convert(root, config)).encoder.std.flatten().tolist() == pytest.approx([0.2] * 3)


def test_the_encoder_may_lie_elsewhere_on_the_way_back(official):
    root, config = official
    folder = convert(root, config)
    (root / "models/encoder").rename(root / "moved")
    options = {"checkpoint": folder, "encoder_weights": str(root / "moved")}
    back = run(Options(to="rae", output=root / "back", **options))
    said = yaml.safe_load((back / "config.yaml").read_text())["stage_1"]["params"]
    assert said["encoder_params"] == {"dinov2_path": str((root / "moved").resolve())}


def test_statistics_without_a_mean(official):
    root, config = official
    torch.save({"mean": None, "var": golden_rae()[0]["stat_var"]}, root / "models/stat.pt")
    folder = convert(root, config)
    assert unirae.load_rae(folder).stats.mean is None
    back = run(Options(to="rae", checkpoint=folder, output=root / "back"))
    assert torch.load(back / "stat.pt")["mean"] is None


def change(config, path, value):
    node = config
    *parents, last = path.split("/")
    for name in parents:
        node = node[name]
    node[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "stage_1/target",
            "evil.System",
            r"stage_1\.target=evil\.System is unknown; expected one of stage1\.RAE",
        ),
        ("stage_2/target", "stage2.models.DiT", r"stage_2\.target=stage2\.models\.DiT is unknown"),
        ("stage_1/params/encoder_clss", "x", "unknown encoder_clss"),
        ("stage_1/params/encoder_cls", "CLIP", "encoder_cls='CLIP' is unknown"),
        ("stage_1/params/encoder_params/normalize", False, "normalize=false"),
        ("stage_1/params/reshape_to_2d", False, "reshape_to_2d=false"),
        (
            "stage_1/params/normalization_stat_path",
            "gone.pt",
            r"normalization_stat_path: no such file gone\.pt",
        ),
        ("stage_1/params/encoder_input_size", 84, "decoder_pos_embed .* instead of"),
        ("stage_1/params/encoder_input_size", 60, "nearest valid: 56, 70"),
        ("stage_1/params/decoder_patch_size", 8, "decoder_pred"),
        ("stage_1/ckpt", "x.pt", "two sources for the decoder's weights"),
        ("stage_2/params/wo_shift", True, "wo_shift=true"),
        ("stage_2/params/use_rope", False, "use_rope=false"),
        ("stage_2/params/patch_size", [2, 2], "patch_size 1 alone"),
        (
            "stage_2/params/hidden_size",
            [32, 96],
            r"stage_2.*\(48,\) instead of \(96,\)",
        ),
        ("stage_2/params/depth", [3, 1], "missing"),
        ("stage_2/params/use_qknorm", True, "missing .*q_norm"),
        ("stage_2/params/in_channels", 64, r"misc\.latent_size=\[32, 4, 4\], .* \[64, 4, 4\]"),
        ("stage_1/params/encoder_params/num_tokens", 4, "encoder_params: unknown num_tokens"),
        ("stage_1/params/encoder_params", "x", r"encoder_params='x': expected keys and values"),
        ("stage_1/params/encoder_params", {}, "encoder_params lacks dinov2_path"),
        ("stage_1/params/encoder_input_size", None, "encoder_input_size=None: expected a whole number"),
        ("stage_1/params/noise_tau", "x", "noise_tau='x': expected a number"),
        (
            "stage_1/params/pretrained_decoder_path",
            5,
            "pretrained_decoder_path=5: expected a text, or nothing",
        ),
        ("stage_2/params/hidden_size", 32, r"hidden_size=32: expected two whole numbers, \[trunk, head\]"),
        ("stage_2/params/in_channels", 32.0, r"in_channels=32\.0: expected a whole number"),
        ("stage_2/params/use_qknorm", 1, "use_qknorm=1: expected true or false"),
        ("stage_2/ckpt", 5, r"stage_2\.ckpt=5: expected a text"),
        ("stage_2/params", 5, r"stage_2\.params=5: expected keys and values"),
        ("misc", 5, "misc=5: expected keys and values"),
        ("training", 5, "training=5: expected keys and values"),
        ("training", {"ema_decay": "x"}, r"training\.ema_decay='x': expected a number"),
        ("guidance/scale", "x", r"guidance\.scale='x': expected a number"),
        ("guidance/t-max", 0.05, r"t_min=0\.1 and t_max=0\.05: expected 0 <= t_min < t_max <= 1"),
        ("sampler/params/num_steps", 1, "num_steps=1: a path has at least its 2 ends"),
        ("stage_2/ckpt", None, "stage_2 has no ckpt"),
        ("transport/params/prediction", "score", "only velocity"),
        ("sampler/mode", "SDE", "only ODE"),
        ("guidance/t_min", 0.0, "both t_min and t-min"),
        ("guidance/method", "autoguidance", "needs guidance.guidance_model"),
        ("misc/time_dist_shift_dim", 100, "refuses a shift below 1"),
        ("misc/num_classes", 1000, r"misc\.num_classes=1000"),
        ("extra", {}, "unknown extra"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(official, path, value, message):
    root, config = official
    config = with_dit(root, config)
    change(config, path, value)
    with pytest.raises(UserError, match=message):
        convert(root, config)
    assert not list(root.glob("*converted*"))


def test_latents_of_another_width_are_named(official):
    root, config = official
    config = with_dit(root, config)
    del config["misc"]
    change(config, "stage_2/params/in_channels", 64)
    with pytest.raises(ConfigError, match="stage_2 reads latents"):
        convert(root, config)


def test_without_a_word_about_times_small_latents_are_not_shifted(official):
    root, config = official
    config = with_dit(root, config)
    del config["misc"]
    assert unirae.load_dit(convert(root, config)).time_shift == 1.0


def test_the_configuration_that_their_trainer_saves(official):
    root, config = official
    path = write_config(root / "configs/official.yaml", config)
    said = (
        "cmd_args:\n  data_path: !!python/object/apply:pathlib.PosixPath\n  - /\n  - data\n  wandb: false\n"
    )
    path.write_text(
        path.read_text() + said + "experiment_dir: ckpts/x\ncheckpoint_dir: ckpts/x/checkpoints\n"
    )
    folder = run(Options(from_="rae", config=path, output=root / "converted"))
    assert unirae.load_rae(folder).latent_shape == LATENT


def average_like_the_official_code(weights, *, updates, decay=0.9978):
    """Theirs covers the frozen encoder too: x·d + x·(1 − d) is not x in float32."""
    average = {key: tensor.clone() for key, tensor in weights.items()}
    for _ in range(updates):
        for key, tensor in average.items():
            if tensor.is_floating_point():
                tensor.mul_(decay).add_(weights[key], alpha=1 - decay)
    return average


def test_an_average_whose_frozen_encoder_has_drifted(official):
    root, config = official
    params = config["stage_1"]["params"]
    del params["pretrained_decoder_path"]
    golden, _ = golden_rae()
    whole = {k: t for k, t in golden.items() if k.startswith(("decoder.", "encoder."))}
    drifted = average_like_the_official_code(whole, updates=300)
    assert not same(drifted, whole)
    torch.save({"step": 300, "model": whole, "ema": drifted}, root / "ep-last.pt")
    folder = convert(root, config, checkpoint=root / "ep-last.pt")
    assert torch.equal(
        load_file(folder / "model.safetensors")["decoder.norm.bias"], drifted["decoder.decoder_norm.bias"]
    )


def test_the_full_circle_with_the_encoder_inside(official):
    root, config = official
    first = convert(root, config, embed_encoder=True)
    back = run(Options(to="rae", checkpoint=first, output=root / "back"))
    again = run(Options(from_="rae", config=back / "config.yaml", output=root / "again", embed_encoder=True))
    assert same(load_file(first / "model.safetensors"), load_file(again / "model.safetensors"))


def test_the_option_of_raw_weights_means_what_is_trained(official):
    """Not the autoencoder of a generator, whose average everything was trained on."""
    root, config = official
    config = with_dit(root, config)
    state, network = torch.load(root / "models/model.pt"), torch.load(root / "models/stage2_model.pt")
    other = {key: tensor + 1 for key, tensor in state.items()}
    torch.save({"ema": state, "model": other}, root / "models/model.pt")
    torch.save({"ema": {}, "model": network}, root / "models/stage2_model.pt")
    folder = convert(root, config, weights="model")
    decoder = load_file(folder / "rae/model.safetensors")["decoder.norm.bias"]
    assert torch.equal(decoder, state["decoder_norm.bias"])
    torch.save({"ema": None, "model": network}, root / "models/stage2_model.pt")
    with pytest.raises(WeightsError, match=r"without 'ema'; of weights it has 'model'"):
        convert(root, config, "other")


def test_a_plain_dit_with_guidance_cannot_be_what_the_official_code_ran(official):
    root, config = official
    config = with_dit(root, config, hidden_size=32, depth=2, num_heads=2)
    with pytest.raises(ConfigError, match="LightningDiT cannot be guided"):
        convert(root, config)


def test_damaged_and_dangerous_files(official):
    root, config = official
    file = root / "models/model.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"model\.pt is truncated"):
        convert(root, config)
    torch.save({"decoder_embed.weight": torch.nn.Linear(2, 2)}, file)
    with pytest.raises(WeightsError, match="could run code"):
        convert(root, config)
    torch.save({"state": "text"}, file)
    with pytest.raises(WeightsError, match="'state' is a str; a model's weights are named tensors"):
        convert(root, config)
    torch.save({1: torch.ones(1)}, file)
    with pytest.raises(WeightsError, match="1 is a Tensor; a model's weights are named tensors"):
        convert(root, config)
    file.write_bytes(whole)
    stats = root / "models/stat.pt"
    torch.save({"mean": torch.zeros(3), "var": None}, stats)
    with pytest.raises(WeightsError, match=r"stat\.pt: mean is \(3,\)"):
        convert(root, config)
    torch.save({"std": torch.zeros(3, 1, 1)}, stats)
    with pytest.raises(WeightsError, match="holds std"):
        convert(root, config)


def test_an_encoder_that_is_a_program_is_not_run(official):
    root, config = official
    (root / "models/encoder/model.safetensors").unlink()
    torch.save({"x": torch.nn.Linear(2, 2)}, root / "models/encoder/pytorch_model.bin")
    with pytest.raises(
        WeightsError, match=r"models/encoder: the weight file is truncated, damaged, or holds more"
    ):
        convert(root, config)


@pytest.mark.usefixtures("names_of_commands")
def test_two_sources_and_none(official):
    root, config = official
    with pytest.raises(ConfigError, match="two sources for the autoencoder's weights: --checkpoint"):
        convert(root, config, checkpoint=root / "models/model.pt")
    trained = copy.deepcopy(config)
    del trained["stage_1"]["params"]["pretrained_decoder_path"]
    with pytest.raises(WeightsError, match=r"no such file .*typo\.pt"):
        convert(root, trained, checkpoint=root / "typo.pt")
    with pytest.raises(ConfigError, match=r"two sources for the weights of stage_2: --checkpoint"):
        convert(root, with_dit(root, config), checkpoint=root / "models/stage2_model.pt")
    del config["stage_1"]["params"]["pretrained_decoder_path"]
    with pytest.raises(ConfigError, match="names no weights of the decoder"):
        convert(root, config)


def test_a_rotary_table_of_another_grid_is_refused(official):
    root, config = official
    config = with_dit(root, config)
    state = torch.load(root / "models/stage2_model.pt")
    state["enc_feat_rope.freqs_cos"] = state["enc_feat_rope.freqs_cos"] * 0.5
    torch.save(state, root / "models/stage2_model.pt")
    with pytest.raises(WeightsError, match=r"enc_feat_rope\.freqs_cos is not the table"):
        convert(root, config)


def test_an_encoder_without_the_four_registers_is_refused(official):
    root, config = official
    write_encoder(root / "models/encoder")
    file = root / "models/encoder/config.json"
    said = json.loads(file.read_text())
    said["num_register_tokens"] = 0
    file.write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"register"):
        convert(root, config)


def test_an_existing_folder_is_left_alone(official):
    root, config = official
    (root / "converted").mkdir()
    (root / "converted/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        convert(root, config)
    assert [p.name for p in (root / "converted").iterdir()] == ["mine.txt"]


def test_options_that_do_not_belong_together(tmp_path):
    with pytest.raises(ConfigError, match="either --from or --to"):
        run(Options(output=tmp_path / "x"))
    with pytest.raises(ConfigError, match="--from rae needs --config"):
        run(Options(from_="rae", output=tmp_path / "x"))
    with pytest.raises(ConfigError, match="--embed_encoder does not belong"):
        run(Options(to="rae", checkpoint=tmp_path, embed_encoder=True, output=tmp_path / "x"))
    with pytest.raises(ConfigError, match="--input does not belong"):
        run(Options(to="rae", checkpoint=tmp_path, input=tmp_path, output=tmp_path / "x"))


def stage2_node(root, path):
    """``model.rae`` for the golden autoencoder."""
    _, config = golden_rae()
    sizes = config["decoder"]
    return {
        "pretrained_decoder_path": str(path),
        "decoder_weights": None,
        "remedy": None,
        "encoder": {"kind": "dinov2", "name": "tiny", "weights": str(root / "models/encoder")},
        "decoder": {
            "_target_": "unirae.models.decoder.ViTDecoder",
            "width": sizes["hidden_size"],
            "depth": sizes["num_layers"],
            "num_heads": sizes["num_heads"],
            "mlp_width": sizes["intermediate_size"],
            "patch_size": 16,
        },
        "image_size": 56,
    }


def find(root, node, run="run"):
    paths = {"output_dir": str(root / run)}
    return find_rae({"model": {"rae": node}, "changed_keys": [], "seed": 0, "paths": paths, "data": {}})


def test_a_converted_folder_starts_stage_2(official):
    root, config = official
    node = {**stage2_node(root, convert(root, config)), "encoder": {"weights": "hub"}, "decoder": {}}
    assert find(root, node).load().latent_shape == LATENT
    assert node["image_size"] == 56
    assert node["encoder"]["kind"] == "dinov2"


def test_an_official_decoder_file_starts_stage_2(official):
    root, config = official
    node = stage2_node(root, root / "models/model.pt")
    source = find(root, node)
    rae = source.load()
    expected = unirae.load_rae(convert(root, config))
    assert rae.fingerprint == expected.fingerprint
    assert source.reference(rae, checkpoints=root / "run/checkpoints")["path"] == "../rae/model.safetensors"
    assert find(root, node).load().fingerprint == rae.fingerprint  # a second process, or the run going on
    other = root / "models/other.pt"
    torch.save({k: t + 1 for k, t in torch.load(root / "models/model.pt").items()}, other)
    with pytest.raises(ConfigError, match="made from another file"):
        find(root, stage2_node(root, other))
    node["decoder"]["depth"] = 3
    with pytest.raises(WeightsError, match=r"the weights do not fit the decoder .*missing"):
        find(root, node, "another_run")
    assert not (root / "another_run/rae").exists()


def test_a_refused_reading_of_a_bare_decoder_leaves_nothing_behind(official, monkeypatch):
    from unirae.app.run.stages.stage2 import _check_decoder

    root, _ = official
    node = stage2_node(root, root / "models/model.pt")
    rae = find(root, node).load()
    cfg = {"model": {"rae": node}, "paths": {"output_dir": str(root / "run")}}
    height, width = rae.output_size
    data = [{"image": torch.full((3, height, width), 200, dtype=torch.uint8)}]
    images = data[0]["image"][None] / 255
    monkeypatch.setattr(rae.decoder, "forward", lambda tokens: images)  # RGB, as a decoder of RAEv2 gives
    assert (root / "run/rae").is_dir()
    with pytest.raises(WeightsError, match=r"with model\.rae\.decoder\.output=unit; set that"):
        _check_decoder(cfg, rae, data)
    assert not (root / "run/rae").exists()


def test_stage_1_starts_from_a_decoder_of_another_grid(official):
    root, config = official
    node = stage2_node(root, "unused") | {"noise_tau": 0.0, "noise_kind": "uniform", "layer_dropout": 0.0}
    same_grid = build_rae({**node, "pretrained_decoder_path": str(root / "models/model.pt")}, seed=0)
    released = unirae.load_rae(convert(root, config))
    assert torch.equal(same_grid.decoder.positions, released.decoder.positions)
    for source in (root / "models/model.pt", root / "converted"):
        with pytest.raises(
            WeightsError, match=r"decoder of width 24, depth 9, for tokens of 32; give the sizes"
        ):
            build_rae(
                {**node, "decoder": {**node["decoder"], "depth": 9}, "pretrained_decoder_path": str(source)},
                seed=0,
            )
        wide = build_rae({**node, "image_size": [56, 84], "pretrained_decoder_path": str(source)}, seed=0)
        assert wide.decoder.positions.shape == (1, 1 + 4 * 6, 24)
        assert torch.equal(wide.decoder.positions[:, 0], released.decoder.positions[:, 0])
        assert torch.equal(wide.decoder.norm.weight, released.decoder.norm.weight)
