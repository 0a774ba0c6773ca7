"""Choosing a file of a group is enough: every choice with every experiment composes, and its networks can be built."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from unirae.app import builders
from unirae.app.composition import compose
from unirae.app.config import experiments
from unirae.app.overrides import choices
from unirae.app.stage2 import denoiser_for
from unirae.core.errors import ConfigError
from unirae.models.latent_stats import LatentStats

OF_STAGE = {
    "stage1": ("model/encoder", "model/decoder", "model/perceptual", "model/discriminator"),
    "stage2": ("model/encoder@model.rae.encoder", "model/decoder@model.rae.decoder", "model/dit"),
    "linear_probe": ("model/encoder",),
    "mae": (),
}
MODELS = {"stage1": ("rae", "rae_tiny"), "stage2": ("dit", "dit_tiny")}


def stage_of(name: str) -> str:
    if name in ("mae_tiny", "linear_probe"):
        return name.removesuffix("_tiny")
    return "stage1" if name.startswith("rae") else "stage2"


def rows(name: str) -> Iterator[list[str]]:
    """Overrides in which together every choice of every group of the stage occurs, one of each group at a time."""
    stage = stage_of(name)
    groups = [*OF_STAGE[stage], "data", "debug"]
    known = {group: choices(group.split("@")[0]) for group in groups}
    for i in range(max(map(len, known.values()))):
        yield [f"{group}={known[group][i % len(known[group])]}" for group in groups]
    for model in MODELS.get(stage, ()):
        yield [f"model={model}"]


def build(config: dict[str, Any]) -> None:
    """The networks of a configuration, on the meta device, with random weights."""
    model, stage = config["model"], config["model"]["stage"]
    with torch.device("meta"):
        if stage == "mae":
            builders.build_mae(config, steps_per_epoch=100)
            return
        part = model["rae"] if stage == "stage2" else model
        part["encoder"]["weights"] = "random"
        if stage == "linear_probe":
            builders.build_encoder(**part["encoder"])
            return
        noise = {"noise_tau": 0.0, "noise_kind": "uniform"} if stage == "stage2" else {}
        rae = builders.build_rae({**part, **noise, "pretrained_decoder_path": None}, seed=0)
        if stage == "stage2":
            rae = rae.with_stats(
                LatentStats(mean=torch.zeros(rae.latent_shape), var=torch.ones(rae.latent_shape))
            )
            denoiser_for(config, rae, num_classes=10)
            return
        for loss in ("perceptual", "discriminator"):
            if "weights" in model[loss]:
                model[loss]["weights"] = "random"
        builders.build_stage1(config, rae, steps_per_epoch=100)


def refusal(config: dict[str, Any]) -> str:
    try:
        build(config)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", experiments())
def test_every_choice_of_every_group(name, monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/anywhere")
    for row in rows(name):
        config = compose([f"experiment={name}", *row])
        if problem := refusal(config):  # 64 px and a patch of 14
            assert "image_size" in problem, row
            assert "\n" not in problem, row
            part = config["model"]["rae"] if stage_of(name) == "stage2" else config["model"]
            part["image_size"] = 224
            assert not refusal(config), row


def test_a_file_that_is_chosen_brings_its_own_keys():
    for choice in ("none", "lpips", "encoder_features"):
        node = compose(["experiment=rae_tiny", f"model/perceptual={choice}"])["model"]["perceptual"]
        assert node["_target_"].split(".")[-1].startswith(("no_", "lpips", "encoder"))
        assert node.get("layers") is None
    assert compose(["experiment=rae_tiny"])["model"]["perceptual"]["layers"] == [1, 3, 5]
    assert compose(["experiment=rae_tiny", "model/encoder=mae"])["model"]["encoder"]["weights"] == "hub"
    emoji = compose(["experiment=rae_dummy", "data=emoji"])["data"]
    assert emoji["source"] == {"_target_": "unirae.data.emoji.EmojiSource"}
    assert emoji["global_batch_size"] == 2, "what the chosen file has too stays as the experiment says"
    plain = compose(["experiment=overfit_one_image", "model/dit=dh_s"])["model"]["dit"]
    assert plain["hidden_size"] == [384, 2048]
    random = compose(["experiment=rae_dummy", "model/encoder=mae"])["model"]
    assert random["encoder"]["weights"] == "random"


def test_what_the_command_line_sets_never_gives_way():
    with pytest.raises(ConfigError, match=r"^model\.perceptual\.layers=\[1\]: there is no such key"):
        compose(["experiment=rae_tiny", "model/perceptual=none", "model.perceptual.layers=[1]"])
    with pytest.raises(ConfigError, match=r"^model\.dit\.depth=3: give a list \[a, b\]"):
        compose(["experiment=overfit_one_image", "model/dit=dh_s", "model.dit.depth=3"])
