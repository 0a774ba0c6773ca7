"""Choosing a file of a group is enough: every choice with every experiment composes, and its networks can be built."""

import gc
import json
from collections.abc import Iterator
from copy import copy, deepcopy
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unirae.app.config.composition import compose
from unirae.app.config.overrides import choices
from unirae.app.config.targets import build, experiments
from unirae.app.run import builders
from unirae.app.run.stages.mae import build_mae
from unirae.app.run.stages.stage2 import denoiser_for
from unirae.core.errors import ConfigError
from unirae.evaluation.probe.features import PooledEncoder
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import token_grid

OF_STAGE = {
    "stage1": ("model/encoder", "model/decoder", "model/perceptual", "model/discriminator"),
    "stage2": ("model/encoder@model.rae.encoder", "model/decoder@model.rae.decoder", "model/dit"),
    "linear_probe": ("model/encoder",),
    "mae": (),
}
MODELS = {"stage1": ("rae", "rae_tiny"), "stage2": ("dit", "dit_tiny")}


KEPT: dict[str, Any] = {}
"""What Hydra has read, by the file's path below ``configs``."""


@pytest.fixture
def frugal_hydra():
    """Hydra reads each file once, not once for each of 200 compositions, of which it is half the time.

    It also makes a map for interpolations in lists of defaults, which ours have none of, at each file anew.
    """
    from hydra._internal import defaults_list
    from hydra._internal.config_repository import ConfigRepository

    load = ConfigRepository.load_config

    def load_once(self: ConfigRepository, config_path: str) -> Any:
        if config_path not in KEPT:
            KEPT[config_path] = load(self, config_path)
        found = copy(KEPT[config_path])  # its list of defaults is copied by Hydra
        if found is not None:
            found.config = deepcopy(found.config)
        return found

    gc.disable()  # which would look through the networks of all tests before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", load_once)
        patch.setattr(defaults_list, "_create_interpolation_map", lambda *_: {})
        yield
    gc.enable()


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
        yield [f"model={model}", "trainer.max_steps=100"]  # the small ones' schedules end with the run


@cache
def encoder_of(node: str) -> Encoder:
    """An encoder, once: experiments share most of them."""
    return build_encoder(**json.loads(node))


@cache
def part_of(node: str, **parts: Any) -> Any:
    """A decoder or a loss, once."""
    return build(json.loads(node), **parts)


def build_networks(config: dict[str, Any]) -> None:
    """The networks of a configuration, with random weights."""
    model, stage = config["model"], config["model"]["stage"]
    if stage == "mae":
        build_mae(config, steps_per_epoch=100)
        return
    part = model["rae"] if stage == "stage2" else model
    encoder = encoder_of(json.dumps({**part["encoder"], "weights": "random"}))
    with builders.keys_for(encoder_input_size="model.image_size"):
        grid = token_grid(part["image_size"], encoder.patch_size)
    if stage == "linear_probe":
        PooledEncoder(encoder, model["pooling"])
        return
    part_of(json.dumps(part["decoder"]), token_dim=encoder.width, grid=grid)
    if stage == "stage2":
        rae: Any = SimpleNamespace(latent_shape=(encoder.width, *grid), stats=LatentStats())
        denoiser_for(config, rae, num_classes=10)
        return
    for loss in ("perceptual", "discriminator"):
        node = {name: "random" if name == "weights" else value for name, value in model[loss].items()}
        part_of(json.dumps(node), **({"encoder": encoder} if loss == "perceptual" else {}))
    builders.build_schedule(model, "scheduler", "optimizer", steps_per_epoch=100)
    builders.build_schedule(model, "disc_scheduler", "disc_optimizer", steps_per_epoch=100)


def refusal(config: dict[str, Any]) -> str:
    try:
        with torch.device("meta"):
            build_networks(config)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", experiments())
@pytest.mark.usefixtures("frugal_hydra")
def test_every_choice_of_every_group(name, monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/anywhere")
    for row in rows(name):
        config = compose([f"experiment={name}", *row])
        if problem := refusal(config):  # 64 px and a patch of 14
            hints = ("image_size", "use pooling=avg", "layers=")  # the last: an encoder of fewer blocks
            assert any(hint in problem for hint in hints), row
            assert "\n" not in problem, row
            part = config["model"]["rae"] if stage_of(name) == "stage2" else config["model"]
            part["image_size"], config["model"]["pooling"] = 224, "avg"
            if "layers=" in problem:
                part["encoder"]["layers"] = [0, 1]
            assert not refusal(config), row


def test_a_frugal_hydra_composes_the_same(monkeypatch, request):
    monkeypatch.setenv("DATA_DIR", "/anywhere")
    words = [
        [f"experiment={name}", "paths.output_dir=x", list(rows(name))[1]] for name in ("rae_tiny", "dit_s")
    ]
    plain = [compose([*of, *row]) for *of, row in words]
    request.getfixturevalue("frugal_hydra")
    for _ in range(2):  # what is kept stays as it was read
        assert [compose([*of, *row]) for *of, row in words] == plain


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
