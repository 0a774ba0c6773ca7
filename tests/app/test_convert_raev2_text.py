"""``convert.py`` with generators of RAEv2 that read texts: YAML, checkpoints and text encoder in and out."""

import json
import shutil
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
from tiny_qwen import write_qwen
from unirae.app.convert import Options, run
from unirae.app.sample_dit import Options as Sampling
from unirae.app.sample_dit import run as sample
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.checkpoints.reading import open_checkpoint
from unirae.models.denoisers.build import build_denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.interop.official.dit_v2 import dit_v2_to_official

GOLDEN = Path(__file__).parents[1] / "golden/raev2_ddt_ig_text.safetensors"
LENGTH = 10
"""Tokens of a text in the golden file."""


def golden() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """Inputs and outputs, the network's weights, and what describes it."""
    tensors = load_file(GOLDEN)
    with safe_open(GOLDEN, "pt") as opened:
        config = json.loads(opened.metadata()["config"])
    return (
        tensors,
        {k.removeprefix("state."): t for k, t in tensors.items() if k.startswith("state.")},
        config,
    )


def text_document(stage_1: dict[str, Any], config: dict[str, Any], *, length: int = LENGTH) -> dict[str, Any]:
    """A configuration of RAEv2 for a generator that reads texts."""
    params = dict(config["params"])
    arch, width = params.pop("cond_arch"), params.pop("context_dim")
    params.pop("num_classes"), params.pop("condition_type")
    module = "lightningDiT" if config["class"].startswith("Lightning") else "DDT"
    return {
        "stage_1": stage_1,
        "stage_2": {"target": f"stage2.models.{module}.{config['class']}", "params": params},
        "conditioning": {
            "type": "text",
            "cfg_dropout_prob": 0.1,
            "context_dim": width,
            "text_encoder": {"model_name": "qwen", "max_length": length},
            "arch": {"num_t_tokens": arch["num_t_tokens"], "num_c_tokens": length},
        },
        "transport": {"prediction": "x", "time_dist_type": "logit-normal_0_1", "t_eps": 0.05},
        "sampler": {"num_steps": 3},
        "guidance": {"cfg": {"scale": 6.0, "t_min": 0.0, "t_max": 1.0}, "ig": {"scale": 0}},
        "misc": {"num_classes": 1, "time_dist_shift_dim": 25600, "time_dist_shift_base": 4096},
    }


@pytest.fixture
def released(tmp_path, monkeypatch):
    """(folder, configuration) of the golden network as a training checkpoint, beside a text encoder of its width."""
    monkeypatch.chdir(tmp_path)
    _, state, config = golden()
    write_qwen(tmp_path / "qwen")
    torch.save({"step": 3, "epoch": 1, "ema": state}, tmp_path / "ep-0000001.pt")
    return tmp_path, text_document(write_stage_1(tmp_path, channels=5, side=6), config)


def into_ours(root: Path, config: dict[str, Any], **options: Any) -> Path:
    return convert(root, config, **({"checkpoint": root / "ep-0000001.pt"} | options))


@torch.no_grad()
def test_a_golden_checkpoint_answers_as_in_raev2_and_comes_back_bit_for_bit(released):
    root, config = released
    tensors, state, _ = golden()
    folder = into_ours(root, config)
    dit = unirae.load_dit(folder)
    condition = Condition(tokens=tensors["context"], mask=tensors["attn_mask"].bool())
    found = dit.predict_with_base(tensors["x"], tensors["t"], condition)
    assert relative_l2(found.full, tensors["output_full"]) < 1e-5
    assert relative_l2(found.base, tensors["output_base"]) < 1e-5

    run(Options(to="rae", checkpoint=folder, output=root / "theirs"))
    same(torch.load(root / "theirs/stage2_model.pt"), state)
    written = yaml.safe_load((root / "theirs/config.yaml").read_text())
    for part in ("transport", "sampler"):
        assert written[part] == config[part]
    assert written["stage_2"]["params"] == config["stage_2"]["params"]
    assert written["misc"] == config["misc"] | {"latent_size": [5, 6, 6]}
    named = {"model_name": str(root / "qwen"), "max_length": LENGTH}
    assert written["conditioning"] == config["conditioning"] | {"text_encoder": named}
    again = convert(root, written, output=root / "again")
    same(unirae.load_dit(again).state_dict(), dit.state_dict())


@torch.no_grad()
def test_the_null_text_and_the_identity_are_the_text_encoders(released):
    root, config = released
    dit = unirae.load_dit(into_ours(root, config))
    encoder = unirae.load_text_encoder(root / "qwen", max_length=LENGTH)
    assert dit.text_identity == encoder.identity.to_dict() | {"name": "qwen"}
    tokens, mask = dit.null_condition(1).text
    assert (tokens.shape, mask.tolist()) == ((1, 1, 24), [[False]])  # of "" there is no token
    wanted = encoder.encode(["a cat", ""])
    assert torch.equal(dit.null_condition(1).resized(5).text[1], wanted.text[1][1:])


@torch.no_grad()
def test_a_converted_model_makes_images_of_prompts(released):
    root, config = released
    folder = into_ours(root, config)
    dit, rae = unirae.load_dit(folder), unirae.load_rae(folder)
    images = unirae.sample(dit, rae, prompts=["a cat", "a dog"], num_steps=3)
    assert images.shape == (2, 3, 96, 96)
    options = {"checkpoint": folder, "output_dir": root / "images", "device": "cpu"}
    made = sample(Sampling(prompt=("a cat", "a dog"), **options))
    said = json.loads((made / "settings.json").read_text())["settings"]
    assert (said["num_steps"], said["time_grid"], said["cfg_scale"]) == (4, "linear", 6.0)


def test_a_text_encoder_of_another_place(released, names_of_commands):
    root, config = released
    shutil.move(root / "qwen", root / "elsewhere")
    config["conditioning"]["text_encoder"]["model_name"] = "Qwen/Qwen3-0.6B"
    with pytest.raises(
        WeightsError, match=r"the text encoder from Qwen/Qwen3-0\.6B: .* with --text_encoder DIR"
    ):
        into_ours(root, config)
    folder = into_ours(root, config, text_encoder=str(root / "elsewhere"))
    identity = open_checkpoint(folder, kind="stage2").about["dit"]["text_encoder"]
    assert (identity["name"], identity["source"]) == ("Qwen/Qwen3-0.6B", str(root / "elsewhere"))
    run(Options(to="rae", checkpoint=folder, output=root / "theirs"))
    written = yaml.safe_load((root / "theirs/config.yaml").read_text())
    assert written["conditioning"]["text_encoder"]["model_name"] == "Qwen/Qwen3-0.6B"

    write_qwen(root / "other", seed=1)
    with pytest.raises(WeightsError, match="is not the one that the network was trained with"):
        run(Options(to="rae", checkpoint=folder, output=root / "b", text_encoder=str(root / "other")))
    run(Options(to="rae", checkpoint=folder, output=root / "b", text_encoder=str(root / "elsewhere")))
    written = yaml.safe_load((root / "b/config.yaml").read_text())
    assert written["conditioning"]["text_encoder"]["model_name"] == str(root / "elsewhere")


NETWORKS = {
    "DiTwDDTHead": ("dit_dh", {"hidden_size": [16, 24], "depth": [2, 1], "num_heads": [2, 2]}),
    "DiTwDDTHeadIG": (
        "dit_dh",
        {
            "hidden_size": [16, 16],
            "depth": [2, 1],
            "num_heads": [2, 2],
            "num_time_tokens": 2,
            "base_head_depth": 1,
        },
    ),
    "LightningDiT": ("dit", {"hidden_size": 16, "depth": 2, "num_heads": 2, "patch_size": 2}),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_networks_of_every_kind_go_out_and_come_in(released, name):
    root, its = released
    kind, options = NETWORKS[name]
    encoder = unirae.load_text_encoder(root / "qwen", max_length=7)
    model = randomise(
        build_denoiser(
            kind,
            in_channels=5,
            input_size=6,
            num_classes=0,
            text_width=24,
            conditioning="tokens",
            use_qknorm=True,
            null_text=encoder.null(),
            **({"use_pos_embed": False} if kind == "dit_dh" else {}),
            **options,
        )
    )
    state = dit_v2_to_official(model, text_length=7)
    torch.save(state, root / "weights.pt")
    sizes = ("in_channels", "hidden_size", "depth", "num_heads", "patch_size", "mlp_ratio")
    params = {key: getattr(model.config, key) for key in sizes} | {"input_size": 6, "context_dim": 24}
    params |= {"cond_arch": {"num_t_tokens": model.config.num_time_tokens}}
    params |= {"base_model_depth": model.config.base_head_depth, "condition_type": "text", "num_classes": 1}
    config = text_document(its["stage_1"], {"class": name, "params": params}, length=7)
    folder = convert(root, config, checkpoint=root / "weights.pt")
    dit = unirae.load_dit(folder)
    texts = encoder.encode(["a cat", "dogs"])
    x, t = torch.randn(2, 5, 6, 6), torch.tensor([0.2, 0.9])
    assert torch.equal(dit.predict(x, t, texts), model.predict(x, t, texts))
    run(Options(to="rae", checkpoint=folder, output=root / "theirs"))
    same(torch.load(root / "theirs/stage2_model.pt"), state)
    again = convert(root, yaml.safe_load((root / "theirs/config.yaml").read_text()), output=root / "again")
    assert unirae.load_dit(again).architecture == dit.architecture


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("conditioning/context_dim", None, r"conditioning\.context_dim is missing: the width .* such as 1024"),
        ("stage_2/params/patch_size", 0, r"patch_size=0 must be at least 1"),
        ("conditioning/type", ["text"], r"type=\['text'\] is unknown; expected label, text or nwm"),
        ("conditioning/context_dim", 32, r"context_dim=32, but the text encoder .*qwen makes tokens of width 24"),
        ("stage_2/params/context_dim", 32, r"context_dim=32 and conditioning\.context_dim=24 disagree"),
        ("conditioning/text_encoder/model_name", None, r"names no text encoder: .*model_name, or give --text_encoder"),
        ("conditioning/text_encoder/name", "qwen", r"conditioning\.text_encoder: unknown name"),
        ("conditioning/text_encoder/max_length", 0, r"max_length=0: a text has at least one token"),
        ("conditioning/text_encoder/max_length", "long", r"max_length='long': expected a whole number"),
        ("conditioning/text_encoder", "qwen", r"conditioning\.text_encoder='qwen': expected keys and values"),
        ("stage_2/params/condition_type", "label", r"type=text, but stage_2\.params\.condition_type=label"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(released, names_of_commands, path, value, message):
    root, config = released
    with pytest.raises(ConfigError, match=message) as error:
        into_ours(root, changed(config, path, value))
    assert "\n" not in str(error.value)
    assert not (root / "ours").exists()


@pytest.mark.parametrize("length", [9, 11, 256])
def test_tables_of_another_length_are_refused(released, length):
    root, config = released
    changed(config, "conditioning/text_encoder/max_length", length)
    message = rf"tables for 10 tokens of text beside 40 others, but conditioning\.text_encoder\.max_length is {length}$"
    with pytest.raises(WeightsError, match=message):
        into_ours(root, config)
    assert not (root / "ours").exists()


def test_a_text_encoder_that_reads_fewer_tokens_is_named_by_its_key(released, names_of_commands):
    root, config = released
    shutil.rmtree(root / "qwen")
    write_qwen(root / "qwen", length=8)
    with pytest.raises(
        ConfigError, match=r"^conditioning\.text_encoder\.max_length=10: .*qwen reads 8 tokens"
    ):
        into_ours(root, config)


def test_a_damaged_text_encoder_is_one_line(released):
    root, config = released
    (root / "qwen/tokenizer.json").write_bytes(b"{\xff")
    with pytest.raises(WeightsError, match="has no tokenizer that can be read") as error:
        into_ours(root, config)
    assert "\n" not in str(error.value)


def test_a_text_encoder_for_what_reads_none(released, names_of_commands):
    root, config = released
    only_rae = {"stage_1": config["stage_1"]}
    with pytest.raises(ConfigError, match=r"^--text_encoder qwen: nothing in .*config\.yaml reads texts"):
        convert(root, only_rae, text_encoder="qwen")
    folder = convert(root, only_rae)
    with pytest.raises(ConfigError, match="only generators of RAEv2 read texts"):
        run(Options(to="rae", checkpoint=folder, output=root / "b", text_encoder="qwen"))
    with pytest.raises(ConfigError, match="--text_encoder does not belong to --to diffusers"):
        run(Options(to="diffusers", checkpoint=folder, output=root / "b", text_encoder="qwen"))


def test_a_generator_that_was_trained_here_goes_out(released):
    root, config = released
    _, state, _ = golden()
    folder = into_ours(root, config)
    content = json.loads((folder / "config.json").read_text()) | {"origin": None, "sampling": None}
    (folder / "config.json").write_text(json.dumps(content))
    run(Options(to="rae", checkpoint=folder, output=root / "theirs"))
    same(torch.load(root / "theirs/stage2_model.pt"), state)
    written = yaml.safe_load((root / "theirs/config.yaml").read_text())
    assert written["conditioning"]["arch"] == {"num_t_tokens": 4, "num_c_tokens": LENGTH}
    assert "num_classes" not in written["misc"]
    dit = unirae.load_dit(convert(root, written, output=root / "again"))
    same(dit.state_dict(), unirae.load_dit(folder).state_dict())


def said_otherwise(folder: Path, **changes: Any) -> Path:
    """The folder, whose text encoder's identity says something else."""
    content = json.loads((folder / "config.json").read_text())
    content["dit"]["text_encoder"] |= changes
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layer": -2},
            r"RAEv2 reads the last hidden states .* this generator reads the hidden states -2 of qwen",
        ),
        (
            {"source": "minilm", "name": "minilm"},
            r"'minilm' is a name of ours alone; give one with .*text_encoder",
        ),
    ],
)
def test_what_raev2_cannot_express_is_refused(released, changes, message):
    root, config = released
    folder = said_otherwise(into_ours(root, config), **changes)
    with pytest.raises(ConfigError, match=message) as error:
        run(Options(to="rae", checkpoint=folder, output=root / "theirs"))
    assert "\n" not in str(error.value)
    assert not (root / "theirs").exists()


def test_diffusers_has_no_place_for_texts(released):
    root, config = released
    folder = into_ours(root, config)
    with pytest.raises(ConfigError, match="take labels, and this generator is conditioned on text") as error:
        run(Options(to="diffusers", checkpoint=folder, output=root / "theirs"))
    assert "\n" not in str(error.value)
    assert not (root / "theirs").exists()
