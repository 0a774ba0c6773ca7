"""Files that the state before issue 18 wrote (tests/golden/before_18) are opened and give the same numbers."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

import unirae
from unirae.app.run.latents import statistics_of_data, statistics_of_run
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.core.io import load_safetensors, read_json
from unirae.data.dataset import ImageDataset
from unirae.data.latent_cache import CachedLatents
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop, AdmCropFlip
from unirae.evaluation.latents import earlier
from unirae.evaluation.latents.writing import ensure_latent_cache
from unirae.evaluation.references.reference import check_fits, reference_from_data
from unirae.evaluation.references.reference_file import read_reference
from unirae.evaluation.scores.metric_set import encoder_extractor
from unirae.metrics.set_metrics import encoder_metric, needs
from unirae.models.checkpoints.opening import rae_of_dit
from unirae.models.checkpoints.reading import open_checkpoint
from unirae.models.encoders.build import build_encoder, encoder_from_identity
from unirae.models.rae import RAE

BEFORE = Path(__file__).parents[1] / "golden/before_18"
EXPECTED = load_safetensors(BEFORE / "expected.safetensors")


def images(transform: Any = None) -> ImageDataset:
    source = SyntheticSource(split="train", image_size=16, train_count=6, classes=2)
    return ImageDataset(source=source, transform=transform or AdmCropFlip(size=16), seed=0)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return shutil.copytree(BEFORE / "latent_cache", tmp_path / "cache")


@pytest.fixture
def rae() -> RAE:
    return unirae.load_rae(BEFORE / "stage2.ckpt")


def other(rae: RAE, **changes: Any) -> RAE:
    """The same weights, read otherwise."""
    identity = rae.encoder.identity
    if "heads" in changes:
        changes["config"] = identity.config | {"num_attention_heads": changes.pop("heads")}
    encoder = encoder_from_identity(replace(identity, **changes), rae.encoder.state_dict())
    changed = RAE(encoder=encoder, decoder=rae.decoder, encoder_input_size=16, stats=rae.stats)
    return changed.eval().requires_grad_(False)


def opened(folder: Path, rae: RAE, *, full: RAE | None = None) -> CachedLatents:
    return ensure_latent_cache(
        folder, rae=rae, open_encoder=lambda: full or rae, dataset=images(), dtype="float16"
    )


@torch.no_grad()
@pytest.mark.parametrize("name", ["stage2.ckpt", "exported"])
def test_checkpoints_and_exports_give_the_same_numbers(name: str):
    rae, dit = unirae.load_rae(BEFORE / name), unirae.load_dit(BEFORE / name)
    latents = rae.encode(EXPECTED["images"])
    found = {
        "latents": latents,
        "velocity": dit(latents, torch.tensor([0.3, 0.7]), torch.tensor([0, 1])),
        "decoded": rae.decode(latents),
    }
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, EXPECTED[key], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["stage1.ckpt", "exported/rae"])
def test_autoencoders_give_the_same_numbers(name: str):
    rae, stats = unirae.load_rae(BEFORE / name), unirae.load_dit(BEFORE / "stage2.ckpt").latent_stats
    latents = rae.with_stats(stats).encode(EXPECTED["images"])
    torch.testing.assert_close(latents, EXPECTED["latents"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"heads": 4}, "encoder.architecture.num_attention_heads 2 recorded, 4 found"),
        ({"pixel_mean": (0.5, 0.5, 0.5)}, "encoder.pixel_mean"),
    ],
)
def test_a_checkpoint_refuses_an_autoencoder_that_reads_its_weights_otherwise(
    rae: RAE, monkeypatch, changes, difference
):
    """By the configuration in it: its fingerprint is of the weights alone."""
    changed, before = other(rae, **changes), open_checkpoint(BEFORE / "stage2.ckpt", kind="stage2")
    assert changed.weights_fingerprint == before.about["rae"]["fingerprint"]
    monkeypatch.setattr("unirae.models.checkpoints.opening.rae_from_checkpoint", lambda *_, **__: changed)
    with pytest.raises(WeightsError, match=f"not the one that .* was trained on: {difference}"):
        rae_of_dit(before)
    with pytest.raises(WeightsError, match=difference):
        statistics_of_run(before, changed)
    assert statistics_of_run(before, rae).sha256 == rae.stats.sha256


def test_a_latent_cache_is_looked_at_once_and_taken(cache: Path, rae: RAE, caplog):
    caplog.set_level(logging.INFO)
    absent = unirae.load_rae(BEFORE / "stage2.ckpt", with_encoder=False)
    latents = opened(cache, absent, full=rae)
    assert "some of its latents were encoded again and are the same" in caplog.text
    there = np.load(BEFORE / "latent_cache/00000.npy").astype(np.float32)
    assert all(np.array_equal(latents.cache.latent(i, v), there[i, v]) for i in range(6) for v in range(2))
    for name in ("index.json", "plan.json"):
        assert read_json(cache / name)["key"]["encoder"]["architecture"]["num_attention_heads"] == 2
    opened(cache, absent)  # which cannot encode
    assert caplog.text.count("encoded again") == 1


def test_a_latent_cache_that_cannot_be_written_to_is_taken_too(cache: Path, rae: RAE, caplog, monkeypatch):
    def refuse(*_: Any) -> NoReturn:
        raise UserError("read-only.")

    monkeypatch.setattr(earlier, "write_json", refuse)
    assert len(opened(cache, rae)) == 6
    assert "read-only" in caplog.text
    assert read_json(cache / "index.json")["key"]["format"] == 1


def test_an_unfinished_latent_cache_goes_on_where_a_shard_shows_what_it_holds(cache: Path, rae: RAE):
    (cache / "index.json").unlink()
    assert len(opened(cache, rae)) == 6
    shutil.copy(BEFORE / "latent_cache/plan.json", cache)
    (cache / "index.json").unlink()
    (cache / "00000.json").unlink()
    with pytest.raises(ConfigError, match=r"no whole shard that could show .*remove this one"):
        opened(cache, rae)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"heads": 4}, r"differ from those of this encoder by 0\.\d+ of.*remove this one"),
        ({"pixel_mean": (0.5, 0.5, 0.5)}, "encoder.pixel_mean is .* there and .* here"),
    ],
)
def test_a_latent_cache_refuses_an_encoder_that_reads_its_weights_otherwise(
    cache: Path, rae: RAE, changes, difference
):
    with pytest.raises(ConfigError, match=difference):
        opened(cache, other(rae, **changes))
    assert read_json(cache / "index.json") == read_json(BEFORE / "latent_cache/index.json")


def test_a_latent_cache_without_the_encoder_that_could_show_what_it_holds_is_refused(cache: Path, rae: RAE):
    def missing() -> NoReturn:
        raise WeightsError("no weights at /nowhere")

    with pytest.raises(ConfigError, match=r"did not record all .* \(no weights at /nowhere\)"):
        ensure_latent_cache(cache, rae=rae, open_encoder=missing, dataset=images(), dtype="float16")


def statistics(rae: RAE, cache: Path) -> str:
    cfg: Any = {
        "data": {"latent_cache": str(cache), "latent_cache_trust": False, "num_workers": 0},
        "model": {"latent_stats": {"per": "element", "num_samples": None}},
        "paths": {"output_dir": str(cache)},
        "seed": 0,
    }
    strategy = SimpleNamespace(root_device=torch.device("cpu"), cluster_environment=None)
    trainer: Any = SimpleNamespace(strategy=strategy, world_size=1, num_devices=1)
    source: Any = SimpleNamespace()
    return statistics_of_data(rae, images(), source=source, cfg=cfg, trainer=trainer).sha256


def test_statistics_are_taken_where_their_cache_shows_what_they_are_of(cache: Path, rae: RAE, caplog):
    caplog.set_level(logging.INFO)
    bare = unirae.load_rae(BEFORE / "stage1.ckpt")
    assert statistics(bare, cache) == read_json(cache / "index.json")["key"]["statistics"]
    opened(cache, rae)  # which gives the cache a new key
    assert statistics(bare, cache) == rae.stats.sha256
    assert "are not taken" not in caplog.text


def test_statistics_of_other_encoders_or_without_their_cache_are_computed_anew(cache: Path, rae: RAE, caplog):
    caplog.set_level(logging.INFO)
    kept = (cache / ".latent_stats.pt").read_bytes()
    changed = other(rae, pixel_mean=(0.5, 0.5, 0.5))
    assert statistics(changed, cache) != rae.stats.sha256
    assert caplog.text.count("are not taken; they differ in: rae; encoder") == 1
    (cache / ".latent_stats.pt").write_bytes(kept)
    for name in ("index.json", "plan.json"):
        (cache / name).unlink()
    statistics(rae, cache)
    assert caplog.text.count("are not taken; they differ in: rae; encoder") == 2


def test_a_reference_is_taken_for_the_weights_that_made_it(tmp_path: Path, rae: RAE, caplog):
    caplog.set_level(logging.INFO)
    rae.encoder.backbone.save_pretrained(tmp_path / "encoder")  # pyright: ignore[reportCallIssue]
    encoder = build_encoder(kind="mae", name="tiny", weights=str(tmp_path / "encoder"), mean=(0.4, 0.5, 0.6))
    metric = encoder_metric(encoder_extractor(encoder, (16, 16)))
    reference = read_reference(BEFORE / "reference.npz")
    check_fits(reference, [metric])
    assert "did not record the encoder's architecture" in caplog.text
    wanted = needs([metric], of_reference=True)
    made = reference_from_data(images(AdmCenterCrop(size=16)), wanted, purpose="generation")
    here, there = (one.statistics[metric.key].need_moments() for one in (made, reference))
    torch.testing.assert_close(here.mean, there.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(here.covariance, there.covariance, rtol=1e-4, atol=1e-6)
    mean = build_encoder(kind="mae", name="tiny", weights=str(tmp_path / "encoder"))
    with pytest.raises(ConfigError, match=r"another mae: pixel_mean \[0.4, 0.5, 0.6\] there, .* here"):
        check_fits(reference, [encoder_metric(encoder_extractor(mean, (16, 16)))])
