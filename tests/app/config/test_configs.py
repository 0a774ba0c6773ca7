"""The configuration: every experiment composes and builds, holds the documented values, and refuses what is wrong."""

import re
import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from tiny_shards import sample_members, write_tar
from unirae.app.config.composition import compose
from unirae.app.config.targets import build, config_dir, data_names, experiments, locate
from unirae.app.run import builders
from unirae.app.run.rae_source import find_rae
from unirae.app.run.stages.linear_probe import build_linear_probe
from unirae.app.run.stages.mae import build_mae
from unirae.app.run.stages.stage1 import build_adversary, build_stage1
from unirae.app.run.stages.stage2 import build_stage2, denoiser_for
from unirae.app.run.texts import Texts, reads_text
from unirae.app.shell.devices import choose_data
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.denoisers.condition import Condition
from unirae.models.rae import RAE
from unirae.models.text.identity import TextEncoderIdentity
from unirae.training.mae import MaePretraining
from unirae.training.schedule import Schedule

CONFIGS = config_dir()
STAGE1 = ["rae_dino", "rae_dummy", "rae_mae", "rae_siglip", "rae_tiny"]  # rae_ddp has the models of rae_dino
STAGE2 = [name for name in experiments() if name.startswith(("dit_", "t2i_"))]
STAGE2_IMAGENET = ["dit_s", "dit_base", "dit_large", "dit_xl", "dit_xl_512", "dit_ddp", "dit_plain_xl"]
IMAGENET = ["rae_ddp", "rae_dino", "rae_mae", "rae_siglip"]
STEPS_PER_EPOCH = 2502
TEXT_WIDTHS = {"minilm": 384, "Qwen/Qwen3-0.6B": 1024}
"""Widths of the text encoders' hidden states."""


@cache
def _composed_once(*overrides: str) -> dict[str, Any]:
    return compose(list(overrides))


def composed(*overrides: str) -> dict[str, Any]:
    """A copy of what these overrides compose to."""
    return deepcopy(_composed_once(*overrides))


def value(config: dict[str, Any], dotted: str) -> Any:
    for key in dotted.split("."):
        config = config[key]
    return config


def random_weights(*overrides: str) -> dict[str, Any]:
    """A stage-1 configuration that needs no files."""
    config = composed(*overrides)
    config["model"]["encoder"]["weights"] = "random"
    for part in ("perceptual", "discriminator"):
        if "weights" in config["model"][part]:
            config["model"][part]["weights"] = "random"
    return config


def count(module: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def test_the_issues_experiments_are_there():
    assert {"rae_dino", "rae_siglip", "rae_mae", "rae_ddp", "rae_dummy", "mae_tiny", "rae_tiny"} <= set(
        experiments()
    )
    assert {*STAGE2_IMAGENET, "dit_dummy", "dit_tiny"} <= set(experiments())


@pytest.mark.parametrize("name", experiments())
def test_experiment_files_are_short_and_start_with_their_command(name):
    lines = (CONFIGS / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 25
    comments = [line for line in lines if line.startswith("# ") and "@package" not in line]
    assert comments[0].startswith(f"# python src/train.py experiment={name}")
    assert len(comments) >= 2, "say what it costs and what to expect"


@pytest.mark.parametrize("name", STAGE1)
def test_stage_1_is_built_on_the_meta_device(name):
    config = random_weights(f"experiment={name}")
    with torch.device("meta"):
        rae = builders.build_rae(config["model"], seed=0)
        module = build_stage1(config, rae, steps_per_epoch=STEPS_PER_EPOCH)
    parts = [rae.decoder, module.ema.average, module.adversary.discriminator]
    assert all(p.is_meta for part in parts for p in part.parameters())
    assert count(rae.encoder, trainable=True) == 0
    assert count(rae.decoder, trainable=True) == count(rae.decoder) == count(module.ema)
    assert count(module.adversary.discriminator.trained, trainable=True) > 0
    assert module.perceptual is not None
    assert count(module.perceptual, trainable=True) == 0
    size = config["model"]["image_size"]
    images = torch.empty(1, 3, size, size, device="meta")
    height, width = rae.output_size
    assert rae.reconstruct(images).shape == (1, 3, height, width)
    assert builders.total_steps(config["trainer"], steps_per_epoch=STEPS_PER_EPOCH) > 0


def test_stage_0_is_built_on_the_meta_device():
    config = composed("experiment=mae_tiny")
    with torch.device("meta"):
        module = build_mae(config, steps_per_epoch=STEPS_PER_EPOCH)
    assert isinstance(module, MaePretraining)
    assert count(module.mae, trainable=True) > 1e6


def test_the_linear_probe_is_built_on_the_meta_device():
    config = composed("experiment=linear_probe", "model/encoder=dinov2_registers", "model.image_size=224")
    config["model"]["encoder"]["weights"] = "random"
    images = {
        f"{use}_dataset": builders.build_dataset(config["data"], split=split, size=224, use=use)
        for use, split in (("train", "train"), ("eval", "val"))
    }
    data: Any = SimpleNamespace(**images, steps_per_epoch=STEPS_PER_EPOCH)
    with torch.device("meta"):
        module = build_linear_probe(config, data)
    assert count(module.encoder, trainable=True) == 0
    assert count(module.head, trainable=True) == 9 * (2 * 768 + 1)  # pooling both


def test_the_probe_reads_the_encoder_that_stage_0_trains():
    read, pretrained = composed("experiment=linear_probe"), composed("experiment=mae_tiny")
    assert read["model"]["encoder"]["weights"] == pretrained["paths"]["output_dir"]
    assert read["model"]["image_size"] == pretrained["model"]["architecture"]["image_size"]


def test_the_tiny_encoder_is_the_one_that_stage_0_trains():
    pretrained = composed("experiment=mae_tiny")["model"]["architecture"]
    read = composed("experiment=rae_tiny")
    for key, number in read["model"]["encoder"]["architecture"].items():
        if key in pretrained:
            assert pretrained[key] == number, key
    assert read["model"]["image_size"] == pretrained["image_size"]
    assert read["model"]["encoder"]["weights"] == composed("experiment=mae_tiny")["paths"]["output_dir"]


def test_rae_dummy_has_the_documented_size():
    config = random_weights("experiment=rae_dummy")
    with torch.device("meta"):
        rae = builders.build_rae(config["model"], seed=0)
    assert round(count(rae) / 1e6, 2) == 172.88
    assert round(count(rae, trainable=True) / 1e6, 2) == 86.30
    assert rae.output_size == (224, 224)


def test_rae_dummy_needs_no_files_and_runs_every_branch():
    config = composed("experiment=rae_dummy")
    model = config["model"]
    weights = [model[part]["weights"] for part in ("encoder", "perceptual", "discriminator")]
    assert [*weights, config["callbacks"]["reconstruction_metrics"]["inception_weights"]] == ["random"] * 4
    assert (model["disc_upd_start_epoch"], model["disc_start_epoch"], config["trainer"]["max_epochs"]) == (
        0,
        1,
        2,
    )
    assert config["data"]["source"]["train_count"] // config["data"]["global_batch_size"] == 8


def random_stage2(*overrides: str) -> tuple[dict[str, Any], RAE]:
    """A stage-2 configuration that needs no files, and its autoencoder on the meta device."""
    no_files = ["pretrained_decoder_path=null", "decoder_weights=random", "encoder.weights=random"]
    config = composed(*overrides, *(f"model.rae.{setting}" for setting in no_files))
    with torch.device("meta"):
        rae = find_rae(config).load()
    return config, rae


def stand_in_texts(config: dict[str, Any]) -> Texts | None:
    """The text encoder of a configuration in name and sizes, and its tokens of "" alone; None where it has none."""
    if not reads_text(config):
        return None
    node = config["model"]["text_encoder"]
    width = TEXT_WIDTHS[node["name"]]
    identity = TextEncoderIdentity(
        name=node["name"],
        source=node["name"],
        model_type="stand-in",
        sha256="0" * 64,
        tokenizer_sha256="0" * 64,
        max_length=node["max_length"],
        layer=node["layer"],
        width=width,
    )
    null = Condition(
        tokens=torch.zeros(1, 1, width, device="cpu"), mask=torch.zeros(1, 1, dtype=torch.bool, device="cpu")
    )
    return Texts(identity=identity, cached=lambda texts: null)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", STAGE2)
def test_stage_2_is_built_on_the_meta_device(name):
    config, rae = random_stage2(f"experiment={name}")
    texts = stand_in_texts(config)
    names = ("a",) * 1000 if texts is None else ()
    with torch.device("meta"):
        module = build_stage2(config, find_rae(config), rae, names, steps_per_epoch=1251, texts=texts)
    assert all(p.is_meta for network in (rae, module.denoiser, module.average) for p in network.parameters())
    assert module.denoiser.latent_shape == rae.latent_shape
    assert module.denoiser.null_label == len(names)
    assert module.denoiser.reads_text == name.startswith("t2i_")
    assert count(rae, trainable=True) == 0
    assert count(module.denoiser, trainable=True) > 0
    assert count(module.average) == count(module.denoiser)
    assert not any(key.startswith("rae") for key in module.state_dict())
    assert [label for label, _, _ in builders.parameter_summary(module)] == ["RAE", "DiT", "EMA"]
    assert builders.total_steps(config["trainer"], steps_per_epoch=1251) > 0


def test_dit_dummy_has_the_documented_size():
    config, rae = random_stage2("experiment=dit_dummy")
    with torch.device("meta"):
        dit = denoiser_for(config, rae, num_classes=config["data"]["source"]["classes"])
    assert round(count(rae) / 1e6, 2) == 173.02
    assert round(count(dit) / 1e6, 3) == 23.300
    assert round(count(dit, trainable=True) / 1e6, 3) == 23.202
    assert int((count(rae) + 2 * count(dit)) / 1e6) == 219


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("dit_s", 196),
        ("dit_base", 294),
        ("dit_large", 622),
        ("dit_xl", 839),
        ("dit_plain_xl", 677),
        ("dit_v2_xl", 875),
    ],
)
def test_sizes_of_the_full_networks(name, millions):
    config, rae = random_stage2(f"experiment={name}")
    with torch.device("meta"):
        dit = denoiser_for(config, rae, num_classes=1000)
    assert round(count(dit) / 1e6) == millions


def test_dit_dummy_needs_no_files():
    config = composed("experiment=dit_dummy")
    rae = config["model"]["rae"]
    weights = [rae["decoder_weights"], rae["encoder"]["weights"]]
    assert [*weights, config["callbacks"]["generation_metrics"]["inception_weights"]] == ["random"] * 3


@pytest.mark.parametrize(
    ("overrides", "latents", "output", "shift"),
    [
        (["experiment=dit_xl"], (768, 16, 16), (256, 256), 6.93),
        (["experiment=dit_xl_512"], (768, 32, 32), (512, 512), 13.86),
        (["experiment=dit_dummy", "flow.time_shift=3.0"], (768, 16, 16), (256, 256), 3.0),
    ],
)
def test_shapes_and_shift_follow_from_the_autoencoder(overrides, latents, output, shift):
    config, rae = random_stage2(*overrides)
    with torch.device("meta"):
        dit = denoiser_for(config, rae, num_classes=10)
    assert (rae.latent_shape, rae.output_size) == (latents, output)
    assert dit.latent_shape == latents
    assert round(dit.time_shift, 2) == shift


@pytest.mark.parametrize(("name", "first"), [("dit_tiny", "rae_tiny"), ("dit_v2_tiny", "raev2_tiny")])
def test_the_tiny_generator_reads_the_latents_of_its_autoencoder(name, first):
    tiny, stage1 = composed(f"experiment={name}")["model"]["rae"], composed(f"experiment={first}")
    assert tiny["pretrained_decoder_path"] == stage1["paths"]["output_dir"]
    for key in ("encoder", "decoder", "image_size"):
        assert tiny[key] == stage1["model"][key]


STAGE2_RECIPE = {
    "model.dit.patch_size": 1,
    "model.dit.mlp_ratio": 4.0,
    "model.dit.use_qknorm": False,
    "model.dit.use_swiglu": True,
    "model.dit.use_rope": True,
    "model.dit.use_rmsnorm": True,
    "model.label_dropout": 0.1,
    "model.ema_decay": 0.9995,
    "model.clip_grad": 1.0,
    "model.sample_every": 2500,
    "model.optimizer": {"lr": 2e-4, "betas": [0.9, 0.95], "weight_decay": 0.0},
    "model.scheduler.type": "linear",
    "model.scheduler.warmup_epochs": 40,
    "model.scheduler.warmup_from_zero": False,
    "model.scheduler.decay_end_epoch": 800,
    "model.scheduler.final_lr": 2e-5,
    "flow.time_distribution": "logit_normal",
    "flow.time_shift": None,
    "trainer.max_epochs": 1400,
    "trainer.precision": "32-true",
    "data.global_batch_size": 1024,
    "data.stage2_transform._target_": "unirae.data.transforms.AdmCropFlip",
}
V2_RECIPE = {
    **STAGE2_RECIPE,
    "model.dit.use_qknorm": True,
    "model.dit.conditioning": "tokens",
    "model.ema_warmup": False,
    "model.optimizer": {
        "kind": "muon",
        "lr": 2e-4,
        "betas": [0.9, 0.95],
        "weight_decay": 0.0,
        "chunks": "projections",
    },
    "model.scheduler.warmup_epochs": 25,
    "model.scheduler.decay_end_epoch": 50,
    "model.rae.encoder.layers": [11, 13, 15, 17, 19, 21, 23],
    "model.rae.encoder.add_token_mean": True,
    "model.rae.decoder.output": "unit",
    "model.rae.image_size": 256,
    "flow.prediction": "data",
    "flow.time_mean": 0.0,
    "flow.time_std": 1.0,
    "flow.time_max": 1.0,
    "flow.time_grid": "linear",
    "trainer.max_epochs": 80,
    "trainer.precision": "bf16-mixed",
    "data.stage2_transform._target_": "unirae.data.transforms.AdmCenterCrop",
}
DITS = {
    "dit_v2_s": ([384, 2048], [12, 2], [6, 16]),
    "dit_v2_xl": ([1440, 2048], [28, 2], [20, 16]),
    "dit_s": ([384, 2048], [12, 2], [6, 16]),
    "dit_base": ([768, 2048], [12, 2], [12, 16]),
    "dit_large": ([1024, 2048], [24, 2], [16, 16]),
    "dit_xl": ([1152, 2048], [28, 2], [16, 16]),
    "dit_xl_512": ([1152, 2048], [28, 2], [16, 16]),
    "dit_ddp": ([1152, 2048], [28, 2], [16, 16]),
    "dit_plain_xl": (1152, 28, 16),
    "dit_dummy": ([384, 384], [6, 2], [6, 6]),
}


@pytest.mark.parametrize("name", STAGE2_IMAGENET)
def test_stage_2_recipe_values_under_their_documented_names(name):
    config = composed(f"experiment={name}")
    assert {dotted: value(config, dotted) for dotted in STAGE2_RECIPE} == STAGE2_RECIPE


@pytest.mark.parametrize("name", ["dit_v2_s", "dit_v2_xl"])
def test_values_of_raev2_under_their_documented_names(name):
    """Sections 1, 5 and 7 of its recipe; shift 8 follows from latents of 1024 × 16 × 16."""
    config = composed(f"experiment={name}")
    assert {dotted: value(config, dotted) for dotted in V2_RECIPE} == V2_RECIPE
    config, rae = random_stage2(f"experiment={name}")
    with torch.device("meta"):
        dit = denoiser_for(config, rae, num_classes=1000)
    assert (dit.time_shift, dit.prediction.value, dit.prediction.t_min) == (8.0, "data", 0.05)
    assert dit.config.base_head_depth == {"dit_v2_s": 4, "dit_v2_xl": 8}[name]


T2I_RECIPE = {
    **V2_RECIPE,
    "model.text_encoder": {"name": "Qwen/Qwen3-0.6B", "max_length": 256, "layer": None},
    "model.scheduler.warmup_epochs": None,
    "model.scheduler.decay_end_epoch": None,
    "model.scheduler.warmup_steps": 5 * 10_000,
    "model.scheduler.decay_end_steps": 15 * 10_000,
    "trainer.max_epochs": None,
    "trainer.max_steps": 20 * 10_000,
    "callbacks.samples.num_steps": 51,
    "callbacks.samples.cfg_scale": 6.0,
    "callbacks.samples.ig_scale": 1.0,
    "callbacks.generation_metrics.cfg_scale": 1.0,
}


def test_values_of_raev2s_text_to_image_under_their_documented_names():
    """Sections 4, 6, 7 and 8 of its recipe; what is not mentioned is as on ImageNet."""
    config = composed("experiment=t2i_xl")
    assert {dotted: value(config, dotted) for dotted in T2I_RECIPE} == T2I_RECIPE
    imagenet = composed("experiment=dit_v2_xl")
    assert config["model"]["dit"] == imagenet["model"]["dit"]
    assert config["model"]["rae"] == imagenet["model"]["rae"]


def test_the_network_for_text_has_the_published_number_of_parameters():
    config, rae = random_stage2("experiment=t2i_xl")
    with torch.device("meta"):
        dit = denoiser_for(config, rae, num_classes=0, texts=stand_in_texts(config))
    assert sum(p.numel() for p in dit.parameters()) == 875_240_564
    assert (dit.config.tokens_behind, dit.config.base_head_depth) == (4, 8)  # time's; a text has its own
    labels, text = 8 * 1440 + 1001 * 1440, 1024 + (1024 + 1) * 1440
    assert sum(p.numel() for p in dit.parameters()) - text == 875_216_500 - labels


@pytest.mark.parametrize("name", DITS)
def test_table_of_diffusion_transformers(name):
    node = composed(f"experiment={name}")["model"]["dit"]
    assert (node["hidden_size"], node["depth"], node["num_heads"]) == DITS[name]
    assert node["kind"] == ("dit" if name == "dit_plain_xl" else "dit_dh")


RECIPE = {
    "model.sample_every": 100,
    "model.disc_weight": 0.75,
    "model.perceptual_weight": 1.0,
    "model.noise_tau": 0.8,
    "model.noise_kind": "uniform",
    "model.ema_decay": 0.9978,
    "model.disc_start_epoch": 8,
    "model.disc_upd_start_epoch": 6,
    "model.disc_loss": "hinge",
    "model.clip_grad": 0.0,
    "model.max_adaptive_weight": 1e4,
    "model.fixed_adaptive_weight": None,
    "model.augment": {"translation": 0.125, "color": True, "cutout": 0.0, "probability": 1.0},
    "model.optimizer": {"lr": 2e-4, "betas": [0.9, 0.95], "weight_decay": 0.0},
    "model.disc_optimizer": {"lr": 2e-4, "betas": [0.9, 0.95], "weight_decay": 0.0},
    "model.scheduler.type": "cosine",
    "model.scheduler.warmup_epochs": 1,
    "model.scheduler.warmup_from_zero": True,
    "model.scheduler.decay_end_epoch": 16,
    "model.scheduler.final_lr": 2e-5,
    "model.disc_scheduler.warmup_epochs": 1,
    "model.disc_scheduler.decay_end_epoch": 16,
    "model.disc_scheduler.final_lr": 2e-5,
    "model.discriminator._target_": "unirae.models.discriminators.dino.DinoDiscriminator",
    "model.perceptual._target_": "unirae.models.perceptual.lpips_loss",
    "trainer.max_epochs": 16,
    "data.global_batch_size": 512,
    "data.train_transform._target_": "unirae.data.transforms.Stage1Transform",
    "data.eval_transform._target_": "unirae.data.transforms.AdmCenterCrop",
}
DECODERS = {"vit_b": (768, 12, 12, 3072), "vit_l": (1024, 24, 16, 4096), "vit_xl": (1152, 28, 16, 4096)}


@pytest.mark.parametrize("name", IMAGENET)
def test_recipe_values_under_their_documented_names(name):
    config = composed(f"experiment={name}")
    found = {dotted: value(config, dotted) for dotted in RECIPE}
    assert found == RECIPE
    decoder = config["model"]["decoder"]
    assert tuple(decoder[k] for k in ("width", "depth", "num_heads", "mlp_width")) == DECODERS["vit_xl"]


@pytest.mark.parametrize(
    ("name", "encoder", "input_size"),
    [
        ("rae_dino", "facebook/dinov2-with-registers-base", 224),
        ("rae_ddp", "facebook/dinov2-with-registers-base", 224),
        ("rae_siglip", "google/siglip2-base-patch16-256", 256),
        ("rae_mae", "facebook/vit-mae-base", 256),
    ],
)
def test_encoders_and_sizes_of_the_recipe(name, encoder, input_size):
    config = random_weights(f"experiment={name}")
    assert (config["model"]["encoder"]["name"], config["model"]["image_size"]) == (encoder, input_size)
    with torch.device("meta"):
        rae = builders.build_rae(config["model"], seed=0)
    assert rae.latent_shape == (768, 16, 16)
    assert rae.output_size == (256, 256)


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoder_table(decoder):
    node = compose(["experiment=rae_dino", f"model/decoder={decoder}"])["model"]["decoder"]
    assert tuple(node[k] for k in ("width", "depth", "num_heads", "mlp_width")) == DECODERS[decoder]


def test_epochs_become_steps():
    config = random_weights("experiment=rae_dino")
    with torch.device("meta"):
        adversary = build_adversary(config["model"], steps_per_epoch=STEPS_PER_EPOCH)
    schedule = builders.build_schedule(
        config["model"], "scheduler", "optimizer", steps_per_epoch=STEPS_PER_EPOCH
    )
    assert (adversary.update_start_step, adversary.gan_start_step) == (
        6 * STEPS_PER_EPOCH,
        8 * STEPS_PER_EPOCH,
    )
    wanted = Schedule(
        kind="cosine",
        base_lr=2e-4,
        final_lr=2e-5,
        warmup_steps=STEPS_PER_EPOCH,
        decay_end_steps=16 * STEPS_PER_EPOCH,
        warmup_from_zero=True,
    )
    assert schedule == adversary.schedule == wanted


def test_start_of_the_gan_in_steps():
    config = composed("experiment=rae_tiny")
    adversary = build_adversary(config["model"], steps_per_epoch=29)
    assert adversary.update_start_step == config["model"]["disc_upd_start_step"]
    assert adversary.gan_start_step == config["model"]["disc_start_step"] > adversary.update_start_step
    config["model"]["disc_start_epoch"] = 8
    with pytest.raises(ConfigError, match=r"model\.disc_start is given in epochs \(8\) and in steps"):
        build_adversary(config["model"], steps_per_epoch=29)


STABLE = [
    "seed",
    "ckpt_path",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.devices",
    "trainer.log_every_n_steps",
    "trainer.accumulate_grad_batches",
    "trainer.precision",
    "callbacks.model_checkpoint.every_n_train_steps",
    "paths.output_dir",
    "data.global_batch_size",
    "data.data_dir",
    "data.on_bad_image",
    "model.sample_every",
    "model.ema_decay",
    "model.clip_grad",
    "model.optimizer.lr",
    "model.scheduler.warmup_steps",
]


@pytest.mark.parametrize("name", experiments())
def test_stable_names(name):
    config = composed(f"experiment={name}")
    for dotted in STABLE:
        if not (dotted == "model.sample_every" and config["model"]["stage"] in ("mae", "linear_probe")):
            value(config, dotted)
    if config["model"]["stage"] == "stage1":
        value(config, "model.encoder.weights")
    if config["model"]["stage"] == "stage2":
        for key in (
            "dit.input_size",
            "dit.in_channels",
            "rae.pretrained_decoder_path",
            "rae.encoder.weights",
        ):
            value(config, f"model.{key}")


def test_data_dir_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/somewhere")
    assert compose(["experiment=rae_dino"])["data"]["source"]["data_dir"] == "/somewhere"
    given = compose(["experiment=rae_dino", "data.data_dir=/else"])["data"]
    assert given["data_dir"] == given["source"]["data_dir"] == "/else"


def test_hf_and_imagenet_are_the_same_data(tmp_path):
    def composed(name):
        return compose(["experiment=rae_dino", f"data={name}", f"data.data_dir={tmp_path}"])["data"]

    assert composed("hf") == composed("imagenet")
    assert composed("hf")["source"]["_target_"] == "unirae.data.hf.HFSource"
    assert choose_data("hf", tmp_path, {}) == choose_data("imagenet", tmp_path, {})


def test_every_data_set_has_the_same_keys():
    groups = data_names()
    keys = {group: set(compose(["experiment=rae_dino", f"data={group}"])["data"]) for group in groups}
    assert len(keys) >= 5
    assert all(found == keys["emoji"] for found in keys.values()), keys


@pytest.mark.parametrize("preset", [path.stem for path in (CONFIGS / "debug").glob("*.yaml")])
@pytest.mark.parametrize("name", ["rae_dino", "rae_tiny", "mae_tiny", "dit_xl", "dit_tiny"])
def test_debug_presets_compose_and_are_short(preset, name):
    config = compose([f"experiment={name}", f"debug={preset}"])
    assert builders.total_steps(config["trainer"], steps_per_epoch=STEPS_PER_EPOCH) <= 200
    assert (config["data"]["overfit_batches"] == 1) == (preset == "overfit")
    assert (config["trainer"]["profiler"] is not None) == (preset == "profiler")


def test_the_documented_presets_are_there():
    assert {"default", "overfit", "profiler", "limit", "fdr"} == {
        p.stem for p in (CONFIGS / "debug").glob("*.yaml")
    }


def test_the_optuna_search_composes():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    config = compose(["experiment=rae_tiny", "hparams_search=optuna"])
    assert config["optimized_metric"] == "val/psnr"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (["experiment=rae_dynamo"], "rae_dynamo"),
        ([], "experiment"),
        (["experiment=rae_tiny", "model.disc_wieght=1"], "disc_wieght"),
        (["experiment=rae_tiny", "trainer.gpus=1"], "gpus"),
        (["experiment=dit_xl", "model.dit.hidden_sise=[1152,2048]"], "hidden_sise"),
        (["experiment=dit_xl", "flow.shift=2"], "shift"),
        (["experiment=rae_tiny", "model/encoder=dinov9"], "dinov9"),
        (["experiment=rae_tiny", "debug=nothing"], "nothing"),
    ],
)
def test_unknown_names_are_refused_by_name(overrides, cause):
    with pytest.raises(ConfigError, match=cause):
        compose(overrides)


@pytest.mark.parametrize(
    "key", ["trainer.max_step", "steps", "model.optimizer.learning_rate", "model.new.lr"]
)
def test_a_key_that_nothing_reads_cannot_be_added(key):
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)}=3: there is no such key; did you mean"):
        compose(["experiment=rae_tiny", f"+{key}=3"])


@pytest.mark.parametrize("added", [".flip_probability=0", "={flip_probability: 0}"])
def test_an_argument_that_a_yaml_leaves_out_can_be_added(added):
    data = compose(["experiment=rae_dino", f"+data.stage2_transform{added}"])["data"]
    assert data["stage2_transform"]["flip_probability"] == 0
    with pytest.raises(ConfigError, match=r"stage2_transform\.flip_probability=0: there is no such key"):
        compose(["experiment=rae_tiny", f"+data.stage2_transform{added}"])  # whose transform does not flip


def test_a_misspelt_key_in_an_experiment_file_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / "configs"
    shutil.copytree(CONFIGS, copy)
    monkeypatch.setattr("unirae.app.config.composition.config_dir", lambda: copy)
    experiment = copy / "experiment" / "rae_tiny.yaml"
    experiment.write_text(experiment.read_text().replace("max_steps:", "max_stepz:"))
    with pytest.raises(
        ConfigError, match=r"experiment=rae_tiny sets trainer\.max_stepz, which nothing reads"
    ):
        compose(["experiment=rae_tiny"])


@pytest.mark.parametrize("target", ["os.system", "torch.hub.load", "Thing", "unirae.core.io.Path"])
def test_targets_that_are_not_ours_are_never_called(target):
    with pytest.raises(ConfigError, match=f"_target_: {re.escape(target)} is refused"):
        locate(target)


def test_a_folder_for_data_that_are_not_read_from_one_is_refused():
    data = compose(["experiment=rae_tiny", "data.data_dir=/mine"])["data"]
    said = r"EmojiSource\) is not read from a folder; choose data=image_folder, data=hf or data=tar_shards$"
    with pytest.raises(ConfigError, match=said):
        builders.build_dataset(data, split="val", size=64, use="eval")


def test_tar_shards_are_configured_or_given_as_data(tmp_path):
    write_tar(tmp_path / "s-{0..1}.tar", sample_members(range(4), classes=2))
    asked = ["experiment=rae_tiny", "data=tar_shards", f"data.data_dir={tmp_path}/s-{{0..1}}.tar"]
    data = compose([*asked, "data.caption_column={txt:2,alt:1}"])["data"]
    assert data["source"]["caption_column"] == {"txt": 2, "alt": 1}
    data = compose([*asked, "data.caption_column=txt"])["data"]
    images = builders.build_dataset(data, split="train", size=8, use="eval")
    assert (len(images), images.source.num_classes) == (3, 2)
    assert images.source.captions_of(0) == (f"grey {int(images[0]['image'][0, 0, 0])}",)
    for given in (tmp_path, tmp_path / "s-{0..1}.tar"):
        elsewhere = choose_data(str(given), None, data)
        assert len(builders.build_dataset(elsewhere, split="val", size=8, use="eval")) == 4
    with pytest.raises(ConfigError, match=r"data\.caption_column=-1|data\.caption_column=\{"):
        compose([*asked, "data.caption_column={txt:-1}"])


def test_labels_are_switched_off_where_a_source_can(tmp_path):
    for i in range(4):
        (tmp_path / f"0000{i % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / f"0000{i % 2}/{i}.png")
    asked = ["experiment=dit_tiny", "data=image_folder", f"data.data_dir={tmp_path}"]
    for labels, classes in (("true", 2), ("false", 0)):
        data = compose([*asked, f"data.labels={labels}"])["data"]
        images = builders.build_dataset(data, split="train", size=8, use="eval")
        assert images.source.num_classes == classes
        elsewhere = choose_data(str(tmp_path), None, data, split="train")  # as it was trained
        assert (
            builders.build_dataset(elsewhere, split="train", size=8, use="eval").source.num_classes == classes
        )
    data = compose(["experiment=rae_tiny", "data.labels=false"])["data"]
    with pytest.raises(
        ConfigError, match=r"data\.labels=false: this data .*EmojiSource.* choose data=image_folder"
    ):
        builders.build_dataset(data, split="val", size=64, use="eval")


@pytest.mark.parametrize("group", ["image_folder", "hf"])
@pytest.mark.parametrize(
    ("given", "column"),
    [
        ("null", None),
        ("text", "text"),
        ("'long text'", "long text"),
        ("{text:1,prompt:3.5}", {"text": 1, "prompt": 3.5}),
    ],
)
def test_the_column_of_captions_reaches_the_source(group, given, column):
    data = compose(
        ["experiment=dit_tiny", f"data={group}", "data.data_dir=/x", f"data.caption_column={given}"]
    )["data"]
    assert data["source"]["caption_column"] == data["caption_column"] == column
    assert data["missing_captions"] == "null_prompt"


@pytest.mark.parametrize("given", ["{text:0}", "{text:-1,prompt:1}", "{text:many}", "[text]", "true"])
def test_columns_of_captions_that_cannot_be(given):
    with pytest.raises(
        ConfigError, match=r"^data\.caption_column={?.* give text, several as {NAME: a number above 0"
    ):
        compose(["experiment=dit_tiny", "data=hf", "data.data_dir=/x", f"data.caption_column={given}"])


def test_a_column_of_captions_is_refused_for_other_data(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"long": "a black square", "short": "black"}')
    asked = ["experiment=dit_tiny", "data.caption_column={long:3,short:1}"]
    data = compose([*asked, "data=image_folder", f"data.data_dir={tmp_path}", "data.source.val_fraction=0"])[
        "data"
    ]
    source = builders.build_dataset(data, split="train", size=8, use="eval").source
    assert source.captions_of(0) == ("a black square", "black")
    assert source.caption_weights == (0.75, 0.25)
    with pytest.raises(
        ConfigError,
        match=r"data\.caption_column={long: 3, short: 1}: .*EmojiSource.* choose data=image_folder",
    ):
        builders.build_dataset(compose(asked)["data"], split="val", size=64, use="eval")


@pytest.mark.parametrize("target", ["unirae.models.decoder.VitDecoder", "unirae.nothing.Thing"])
def test_unknown_targets_are_refused_by_name(target):
    with pytest.raises(ConfigError, match=f"_target_: {re.escape(target)} cannot be found"):
        locate(target)


def test_arguments_of_a_target_are_checked():
    node = {"_target_": "unirae.models.discriminators.patchgan.PatchGan", "channels": 8}
    assert count(build(node, num_layers=1)) > 0
    with pytest.raises(ConfigError, match=r"PatchGan: .*unexpected keyword argument 'chanels'"):
        build({**node, "chanels": 8})
    with pytest.raises(ConfigError, match="PatchGan: channels is derived and cannot be set"):
        build(node, channels=9)


def test_a_type_error_inside_a_target_is_not_blamed_on_its_arguments():
    with pytest.raises(TypeError, match="multiply"):
        build(
            {"_target_": "unirae.training.schedule.resolve_steps"},
            epochs="a",
            steps=None,
            steps_per_epoch=1.5,
            name="",
        )


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        ([], r"outputs/demo/encoder.*make demo.*experiment=mae_tiny"),
        (["model.encoder.weights=/nowhere/at/all"], r"/nowhere/at/all"),
    ],
)
def test_missing_encoder_weights_say_how_to_get_them(tmp_path, monkeypatch, overrides, cause):
    monkeypatch.chdir(tmp_path)
    config = compose(["experiment=rae_tiny", *overrides])
    with pytest.raises(WeightsError, match=cause) as error:
        builders.build_rae(config["model"], seed=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        ([], r"needs an autoencoder.*model\.rae\.pretrained_decoder_path=PATH.*decoder_weights=random"),
        (["model.rae.decoder_weights=hub"], r"model\.rae\.decoder_weights=hub: give random or null"),
        (
            ["model.rae.decoder_weights=random", "model.rae.pretrained_decoder_path=a.ckpt"],
            "exclude each other",
        ),
    ],
)
def test_stage_2_without_an_autoencoder_says_how_to_give_one(overrides, cause):
    with pytest.raises(ConfigError, match=cause) as error:
        find_rae(compose(["experiment=dit_base", *overrides]))
    assert "\n" not in str(error.value)


def test_dit_tiny_in_a_fresh_folder_names_make_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"outputs/demo/rae.*make demo.*experiment=mae_tiny") as error:
        find_rae(compose(["experiment=dit_tiny"]))
    assert "\n" not in str(error.value)


def stage1_checkpoint(folder: Path, *overrides: str) -> Path:
    """What stage 2 reads of a stage-1 checkpoint before it opens the weights."""
    about = {"kind": "stage1", "config": composed("experiment=rae_tiny", *overrides)}
    file = folder / "rae.ckpt"
    torch.save({"unirae": about, "state_dict": {}}, file)
    return file


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.rae.image_size=480", "image_size"),
        ("model.rae.decoder.depth=99", "decoder.depth"),
        ("model.rae.encoder.name=other", "encoder.name"),
        ("model/decoder@model.rae.decoder=vit_b", "decoder.depth"),
    ],
)
def test_a_key_that_contradicts_the_checkpoint_is_refused(tmp_path, override, key):
    config = compose(
        ["experiment=dit_tiny", f"model.rae.pretrained_decoder_path={stage1_checkpoint(tmp_path)}", override]
    )
    mine, theirs = (
        value(model, key) for model in (config["model"]["rae"], composed("experiment=rae_tiny")["model"])
    )
    message = f"model.rae.{key}={mine}, but .*rae.ckpt was trained with {theirs}; leave the key out"
    with pytest.raises(ConfigError, match=message):
        find_rae(config)


def test_the_512_experiment_refuses_an_autoencoder_of_another_size(tmp_path):
    path = f"model.rae.pretrained_decoder_path={stage1_checkpoint(tmp_path)}"
    with pytest.raises(ConfigError, match=r"image_size=448, but .* was trained with"):
        find_rae(compose(["experiment=dit_xl_512", path]))


def test_the_checkpoint_fills_what_nobody_set(tmp_path):
    theirs = ["model.decoder.depth=33", "model.encoder.weights=/there", "model.image_size=96"]
    file = stage1_checkpoint(tmp_path, *theirs)
    overrides = [f"model.rae.pretrained_decoder_path={file}", "model.rae.image_size=96"]
    config = compose(["experiment=dit_xl", *overrides, "model.rae.encoder.weights=/here"])
    source = find_rae(config)
    assert (source.checkpoint.file, source.recipe, source.encoder_weights) == (file, None, "/here")
    said = composed("experiment=rae_tiny", *theirs)["model"]
    assert {key: config["model"]["rae"][key] for key in ("encoder", "decoder", "image_size")} == {
        key: said[key] for key in ("encoder", "decoder", "image_size")
    }


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("model.dit.in_channels=16", r"model\.dit\.in_channels=16, but .* latents have 768"),
        ("model.dit.input_size=8", r"model\.dit\.input_size=8, but .* latents are 16×16"),
    ],
)
def test_shapes_that_contradict_the_autoencoder_are_refused(override, cause):
    config, rae = random_stage2("experiment=dit_dummy", override)
    with pytest.raises(ConfigError, match=cause):
        denoiser_for(config, rae, num_classes=9)


@pytest.mark.parametrize("part", ["discriminator", "perceptual"])
@pytest.mark.usefixtures("names_of_commands")
def test_missing_weights_of_the_losses_name_file_source_and_option(part):
    config = compose(["experiment=rae_dino", f"model.{part}.weights=/nowhere.pth"])
    node, parts = config["model"][part], {"encoder": nn.Identity()} if part == "perceptual" else {}
    with pytest.raises(WeightsError, match=rf"/nowhere\.pth.*https?://.*model\.{part}\.weights"):
        build(node, **parts)


def test_sizes_that_do_not_divide_name_their_neighbours():
    config = random_weights("experiment=rae_dino", "model.image_size=225")
    with (
        torch.device("meta"),
        pytest.raises(ConfigError, match=r"225 must be divisible by patch_size=14.*224, 238"),
    ):
        builders.build_rae(config["model"], seed=0)


def test_a_run_without_an_end_is_refused():
    config = compose(["experiment=rae_tiny", "trainer.max_steps=null"])
    with pytest.raises(ConfigError, match=r"no end: set trainer\.max_epochs or trainer\.max_steps"):
        builders.total_steps(config["trainer"], steps_per_epoch=10)


def test_the_run_ends_at_the_earlier_limit():
    assert builders.total_steps({"max_steps": 25, "max_epochs": 2}, steps_per_epoch=10) == 20
    assert builders.total_steps({"max_steps": 15, "max_epochs": 2}, steps_per_epoch=10) == 15


def test_defaults_live_in_one_place():
    source = Path(builders.__file__).parents[1]
    assert [
        path.name for path in source.rglob("*.py") if re.search(r"\b(cfg|config)\.get\(", path.read_text())
    ] == []


@pytest.mark.parametrize(
    "words", [["experiment=rae_tiny"], ["experiment=dit_dummy", "model.optimizer.lr=1e-3"]]
)
def test_a_plain_command_is_composed_once(monkeypatch, words):
    import hydra

    composed_of, original = [], hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: composed_of.append(a) or original(*a, **k))
    compose(words)
    assert len(composed_of) == 1
