"""Two encoders of equal weights that read them otherwise: nothing that was kept of one is taken for the other's."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tiny_latents import pictures
from tiny_models import tiny_decoder
from unirae.app.run.latents import statistics_of_data
from unirae.core.errors import ConfigError
from unirae.evaluation.latents.writing import ensure_latent_cache
from unirae.evaluation.probe.features import PooledEncoder, cache_key
from unirae.evaluation.references.reference import Reference, check_fits
from unirae.evaluation.scores.metric_set import encoder_extractor
from unirae.metrics.moments import moments_of
from unirae.metrics.set_metrics import SetMetric, encoder_metric
from unirae.metrics.statistics import SetStatistics
from unirae.models.checkpoints.pairing import autoencoder_differences, rae_reference
from unirae.models.encoders import build
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder, register_encoder
from unirae.models.rae import RAE


class Blocks(nn.Module):
    """Three blocks; ``read`` says whose tokens are given, which no weight shows."""

    def __init__(self, *, read: int):
        super().__init__()
        self.read = read
        self.embed = nn.Conv2d(3, 16, 8, stride=8)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def norm(self, tokens):
        return nn.functional.layer_norm(tokens, (16,))

    def each(self, pixels):
        tokens = self.embed(pixels).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = tokens + block(tokens).tanh()
            yield tokens

    def forward(self, pixels):
        return self.norm(list(self.each(pixels))[self.read - 1])


class BlocksEncoder(Encoder):
    def __init__(self, *, backbone, identity):
        super().__init__(backbone=backbone, width=16, patch_size=8, identity=identity)

    @classmethod
    def skeleton(cls, architecture):
        return Blocks(**architecture)

    def last_tokens(self, pixels):
        return self.backbone(pixels)

    def block_tokens(self, pixels):
        return list(self.backbone.each(pixels))

    def final_norm(self, tokens):
        return self.backbone.norm(tokens)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "KINDS", dict(build.KINDS))
    register_encoder("blocks", BlocksEncoder)


def rae_reading(*, read: int = 3, size: tuple[int, int] = (32, 32), **pixels: Any) -> RAE:
    encoder = build_encoder(
        kind="blocks", name="mine", weights="random", architecture={"read": read}, **pixels
    )
    torch.manual_seed(0)
    rae = RAE(encoder=encoder, decoder=tiny_decoder(), encoder_input_size=size)
    return rae.eval().requires_grad_(False)


OTHERWISE = [
    ({"mean": (0.5, 0.5, 0.5)}, "encoder.pixel_mean"),
    ({"std": (0.5, 0.5, 0.5)}, "encoder.pixel_std"),
    ({"read": 2}, "encoder.architecture.read"),
    ({"size": (16, 64)}, "encoder.input_size"),
    ({"layers": [0, 2]}, "encoder.layers"),
]


@pytest.mark.parametrize(("other", "name"), OTHERWISE)
def test_the_latent_cache_refuses_it(tmp_path: Path, other, name):
    def cached(rae: RAE):
        options: dict[str, Any] = {"dataset": pictures(6), "dtype": "float32"}
        return ensure_latent_cache(tmp_path / "c", rae=rae, open_encoder=lambda: rae, **options)

    first, second = rae_reading(), rae_reading(**other)
    assert first.encoder.weights_sha256 == second.encoder.weights_sha256
    latents = cached(first)
    assert torch.equal(cached(rae_reading())[3]["latent"], latents[3]["latent"])
    with pytest.raises(ConfigError, match=rf"holds other latents: {name} is .* there and .* here"):
        cached(second)


@pytest.mark.parametrize(("other", "name"), OTHERWISE)
def test_statistics_are_computed_anew_with_a_line(tmp_path: Path, caplog, other, name):
    cfg: Any = {
        "data": {"latent_cache": None, "num_workers": 0},
        "model": {"latent_stats": {"per": "channel", "num_samples": None}},
        "paths": {"output_dir": str(tmp_path)},
        "seed": 0,
    }
    strategy = SimpleNamespace(root_device=torch.device("cpu"), cluster_environment=None)
    trainer: Any = SimpleNamespace(strategy=strategy, world_size=1, num_devices=1)

    def statistics(rae: RAE):
        return statistics_of_data(rae, pictures(6), source=SimpleNamespace(), cfg=cfg, trainer=trainer)  # pyright: ignore[reportArgumentType]

    caplog.set_level(logging.INFO)
    first = statistics(rae_reading())
    assert statistics(rae_reading()).sha256 == first.sha256
    assert "are not taken" not in caplog.text
    second = statistics(rae_reading(**other))
    assert f"are not taken; they differ in: {name}" in caplog.text
    assert second.sha256 != first.sha256
    assert second.info["encoder"]["sha256"] == first.info["encoder"]["sha256"]


@pytest.mark.parametrize(("other", "name"), OTHERWISE)
def test_a_stage_2_checkpoint_refuses_it(other, name):
    first, second = rae_reading(), rae_reading(**other)
    about = {"rae": rae_reference(first, path="rae")}
    assert second.fingerprint != first.fingerprint
    assert autoencoder_differences(about, rae_reading()) == []
    (said,) = autoencoder_differences(about, second)
    assert said.startswith(f"{name}")
    assert said.endswith(" found")


SHOWN = [*OTHERWISE[:2], OTHERWISE[3], ({"read": 2}, "encoder.architecture.read")]


@pytest.mark.parametrize(("other", "name"), SHOWN)
def test_a_checkpoint_that_names_weights_alone_is_believed_as_far_as_the_rest_of_it_agrees(other, name):
    rae = rae_reading(mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
    encoder = {"kind": "blocks", "weights": "random", "architecture": {"read": 3}}
    encoder |= {"mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3]}
    model = {"rae": {"encoder": encoder, "image_size": 32}}
    about = {"rae": {"fingerprint": rae.weights_fingerprint}, "config": {"model": model}}
    assert autoencoder_differences(about, rae) == []
    second = rae_reading(**{"mean": (0.4, 0.4, 0.4), "std": (0.3, 0.3, 0.3)} | other)
    (said,) = autoencoder_differences(about, second)
    assert said.startswith(name)
    about["rae"] = {"fingerprint": "0" * 64}
    (said,) = autoencoder_differences(about, rae)
    assert said.startswith("fingerprint 000")


@pytest.mark.parametrize(("other", "name"), OTHERWISE)
def test_a_reference_refuses_it(other, name):
    def metric(rae: RAE) -> SetMetric:
        return encoder_metric(encoder_extractor(rae.encoder, rae.encoder_input_size))

    first = metric(rae_reading())
    statistics = {first.key: SetStatistics(count=4, moments=moments_of(torch.rand(4, 16)))}
    made_by = {first.extractor.name: first.extractor.identity}
    reference = Reference(statistics=statistics, identity={"purpose": "generation"}, extractors=made_by)
    check_fits(reference, [metric(rae_reading())])
    with pytest.raises(
        ConfigError, match=rf"another random_blocks: {name.removeprefix('encoder.')} .* there, .* here"
    ):
        check_fits(reference, [metric(rae_reading(**other))])
    del made_by["random_blocks"]["architecture"]
    with pytest.raises(ConfigError, match="architecture None there"):
        check_fits(reference, [metric(rae_reading())])


@pytest.mark.parametrize("other", [other for other, _ in OTHERWISE[:3]])
def test_probe_features_are_kept_apart(other):
    keys = [
        cache_key(PooledEncoder(r.encoder, "avg"), pictures(6)) for r in (rae_reading(), rae_reading(**other))
    ]
    assert keys[0] != keys[1]
    assert keys[0] == cache_key(PooledEncoder(rae_reading().encoder, "avg"), pictures(6))
