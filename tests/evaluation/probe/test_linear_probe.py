"""The linear probe: heads against scikit-learn and torch's optimizer, the choice of settings, features, the cache."""

import json
import os

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from processes import run_in_processes
from unirae.core.errors import ConfigError, DataError, NonFiniteError, WeightsError
from unirae.data.dataset import ImageDataset
from unirae.data.folder import FolderSource
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop, ScaleShift
from unirae.evaluation.probe.features import (
    Features,
    PooledEncoder,
    RawPixels,
    cached_features,
    check_classes,
    extract_features,
)
from unirae.evaluation.probe.head_search import ProbeSettings, search, stratified_split
from unirae.evaluation.probe.knn import KnnSettings
from unirae.evaluation.probe.linear_heads import SgdSettings, Standardisation, fit_lbfgs, fit_sgd
from unirae.evaluation.probe.linear_probe import compare, evaluate_probe, write_probe
from unirae.models.encoders.build import build_encoder

ARCHITECTURE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


def clusters(count: int, *, classes: int = 7, seed: int = 0, spread: float = 1.5) -> Features:
    """Overlapping normal clouds whose axes differ in scale."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % classes
    noise = spread * torch.randn(count, 12, generator=generator)
    return Features(values=(centres[labels] + noise) * torch.logspace(-2, 2, 12) + 5, labels=labels)


def encoder(seed: int = 0, kind: str = "mae"):
    extra = {"mae": {}, "siglip2": {"model_type": "siglip_vision_model"}}[kind]
    return build_encoder(
        kind=kind, name="tiny", weights="random", architecture=ARCHITECTURE | extra, seed=seed
    )


def synthetic(count: int = 37, *, split: str = "train", classes: int = 3, transform=None) -> ImageDataset:
    source = SyntheticSource(split=split, image_size=40, train_count=count, val_count=count, classes=classes)
    return ImageDataset(source=source, transform=transform or AdmCenterCrop(size=32))


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("weight_decay", [1e-3, 1e-1])
def test_lbfgs_finds_scikit_learns_minimum(weight_decay):
    data = clusters(210)
    x = Standardisation.of(data.values)(data.values)
    head = fit_lbfgs(x, data.labels, num_classes=7, weight_decay=weight_decay, tolerance=1e-8)
    scaled = StandardScaler().fit_transform(data.values.double().numpy())
    other = LogisticRegression(C=1 / (weight_decay * len(data)), tol=1e-8, max_iter=5000)
    other.fit(scaled, data.labels.numpy())
    torch.testing.assert_close(head.weight, torch.from_numpy(other.coef_), rtol=0, atol=2e-4)
    wanted = torch.from_numpy(other.predict_proba(scaled))
    torch.testing.assert_close(head(x).softmax(1), wanted, rtol=0, atol=2e-4)


def test_sgd_is_torchs_sgd_for_each_of_the_choices():
    data, settings = clusters(70), SgdSettings(epochs=3, batch_size=32)
    x = Standardisation.of(data.values)(data.values).float()
    choices = [(0.1, 1e-3), (0.01, 0.1)]
    heads = fit_sgd(x, data.labels, num_classes=7, choices=choices, settings=settings, seed=4)
    for (rate, decay), head in zip(choices, heads, strict=True):
        weight, bias = torch.zeros(7, 12, requires_grad=True), torch.zeros(7, requires_grad=True)
        groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
        order = torch.Generator().manual_seed(4)
        for _ in range(3):
            for batch in torch.randperm(70, generator=order).split(32):
                optimizer.zero_grad()
                F.cross_entropy(F.linear(x[batch], weight, bias), data.labels[batch]).backward()
                optimizer.step()
                schedule.step()
        torch.testing.assert_close(head.weight, weight.detach(), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(head.bias, bias.detach(), rtol=1e-3, atol=1e-5)


def test_a_constant_feature_counts_nothing():
    values = torch.cat([clusters(30).values, torch.full((30, 1), 3.0)], 1)
    standardised = Standardisation.of(values)(torch.cat([values[:, :-1], torch.rand(30, 1)], 1))
    assert torch.equal(standardised[:, -1], torch.zeros(30).double())
    torch.testing.assert_close(standardised[:, :-1].std(0, correction=0), torch.ones(12).double())


def test_features_that_are_not_finite_are_refused():
    data = clusters(20)
    with pytest.raises(NonFiniteError, match="linear head"):
        fit_sgd(data.values * torch.nan, data.labels, num_classes=7, choices=[(0.1, 0.0)],
                settings=SgdSettings(epochs=1), seed=0)  # fmt: skip


# ---------------------------------------------------------------- the choice, the scores


def test_the_held_out_part_is_stratified_and_seeded():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [3])
    kept, held = stratified_split(labels, 0.2, seed=0)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(63))
    assert torch.bincount(labels[held], minlength=4).tolist() == [10, 2, 1, 0]
    assert torch.equal(stratified_split(labels, 0.2, seed=0)[1], held)
    assert not torch.equal(stratified_split(labels, 0.2, seed=1)[1], held)
    with pytest.raises(DataError, match="no class has two training images"):
        stratified_split(torch.arange(5), 0.2, seed=0)


def test_settings_are_chosen_without_the_validation_split():
    training = clusters(210)
    settings = ProbeSettings(weight_decays=(1e-6, 1e-2, 100.0))
    results = [
        evaluate_probe(training, clusters(70, seed=seed), num_classes=7, settings=settings) for seed in (1, 2)
    ]
    assert results[0].settings == results[1].settings
    tried = {t["weight_decay"]: t["held_out_top1"] for t in results[0].settings["tried"]}
    assert list(tried) == [1e-6, 1e-2, 100.0]
    assert results[0].settings["chosen"]["held_out_top1"] == max(tried.values())


def test_scores_are_those_of_the_refitted_head():
    training, validation = clusters(210), clusters(84, seed=1)
    result = evaluate_probe(
        training, validation, num_classes=7, settings=ProbeSettings(weight_decays=(1e-2,))
    )
    scaler = StandardScaler().fit(training.values.double().numpy())
    other = LogisticRegression(C=1 / (1e-2 * 210), tol=1e-8, max_iter=5000)
    other.fit(scaler.transform(training.values.double().numpy()), training.labels.numpy())
    scores = other.decision_function(scaler.transform(validation.values.double().numpy()))
    assigned = torch.from_numpy(scores).argmax(1)
    top1 = float((assigned == validation.labels).double().mean())
    in_top5 = (torch.from_numpy(scores).argsort(1, descending=True)[:, :5] == validation.labels[:, None]).any(
        1
    )
    assert result.metrics["top1"] == pytest.approx(top1)
    assert result.metrics["top5"] == pytest.approx(float(in_top5.double().mean()))
    assert 1 / 7 < top1 < 1  # neither chance nor trivial
    assert result.uncertainty["top1"] == pytest.approx((top1 * (1 - top1) / 84) ** 0.5)
    assert set(result.metrics) == set(result.uncertainty) == {"top1", "top5", "knn"}
    assert result.confusion.sum(1).tolist() == [12] * 7
    assert int(result.confusion.diagonal().sum()) == int(result.correct.sum())
    assert int(result.confusion[3, 5]) == int(((validation.labels == 3) & (assigned == 5)).sum())


def test_sgd_searches_rates_and_decays():
    settings = ProbeSettings(
        optimizer="sgd",
        learning_rates=(1e-4, 0.1),
        weight_decays=(0.0, 1e-2),
        sgd=SgdSettings(epochs=20, batch_size=32),
    )
    data = clusters(140)
    tried = search(data.values, data.labels, num_classes=7, settings=settings)
    assert [(t["learning_rate"], t["weight_decay"]) for t in tried] == [
        (rate, decay) for rate in (1e-4, 0.1) for decay in (0.0, 1e-2)
    ]
    result = evaluate_probe(data, clusters(140, seed=1), num_classes=7, settings=settings)
    exact = evaluate_probe(data, clusters(140, seed=1), num_classes=7, settings=ProbeSettings())
    assert result.settings["chosen"]["learning_rate"] == 0.1
    assert result.metrics["top1"] == pytest.approx(exact.metrics["top1"], abs=0.08)


def test_readers_are_warned():
    few = Features(values=torch.randn(6, 4), labels=torch.tensor([0, 0, 0, 1, 1, 1]), replaced=2)
    validation = Features(values=torch.randn(3, 4), labels=torch.tensor([0, 1, 2]))
    result = evaluate_probe(few, validation, num_classes=3, settings=ProbeSettings(weight_decays=(0.1, 1.0)))
    text = "\n".join(result.warnings)
    assert "k-NN asks 6 neighbours, not 20" in text
    assert "no top5: with 3 classes" in text
    assert "no training image is of 1 class of the validation images" in text
    assert "2 unreadable images" in text
    assert "is at the end of the search" in text
    assert "top5" not in result.metrics
    assert result.settings["knn"]["k"] == 6


def test_a_comparison_pairs_the_images():
    training, validation = clusters(210), clusters(84, seed=1)
    settings = ProbeSettings(weight_decays=(1e-2,))
    good = evaluate_probe(training, validation, num_classes=7, settings=settings)
    worse = evaluate_probe(
        Features(values=training.values[:, :3], labels=training.labels),
        Features(values=validation.values[:, :3], labels=validation.labels),
        num_classes=7,
        settings=settings,
    )
    gain = compare(good, worse)
    wins, losses = int((good.correct & ~worse.correct).sum()), int((worse.correct & ~good.correct).sum())
    assert gain["top1"] == pytest.approx((wins - losses) / 84) == good.metrics["top1"] - worse.metrics["top1"]
    variance = (wins + losses) / 84 - gain["top1"] ** 2
    assert gain["standard_error"] == pytest.approx((variance / 84) ** 0.5)


def test_a_candidate_that_diverged_is_null_in_the_json(tmp_path):
    settings = ProbeSettings(optimizer="sgd", learning_rates=(0.1, 1e30), weight_decays=(1.0,))
    result = evaluate_probe(clusters(70), clusters(35, seed=1), num_classes=7, settings=settings)
    text = write_probe(tmp_path / "scores.json", result, baselines={}).read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [tried["held_out_loss"] is None for tried in content["settings"]["tried"]] == [False, True]
    assert content["settings"]["chosen"]["learning_rate"] == 0.1


def test_the_record_tells_nothing_of_an_optimizer_that_was_not_used():
    exact, stochastic = (ProbeSettings(optimizer=name).describe() for name in ("lbfgs", "sgd"))
    assert set(stochastic) - set(exact) == {"learning_rates", "sgd"}


def test_the_json_holds_everything(tmp_path):
    result = evaluate_probe(
        clusters(70), clusters(35, seed=1), num_classes=7, settings=ProbeSettings(), about={"crop": "adm"}
    )
    file = write_probe(tmp_path / "a" / "scores.json", result, baselines={"pixels": result})
    content = json.loads(file.read_text())
    assert list(content) == ["metrics", "uncertainty", "count", "settings", "warnings", "baselines"]
    assert content["settings"]["crop"] == "adm"
    assert len(content["settings"]["tried"]) == 6
    assert content["baselines"]["pixels"]["gain_over_it"] == {"top1": 0.0, "standard_error": 0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "choose lbfgs or sgd"),
        ({"held_out": 1.0}, "held_out=1.0"),
        ({"weight_decays": ()}, "weight_decays= must be 0 or more, at least one"),
        ({"weight_decays": (0.1, -1.0)}, "weight_decays=0.1,-1 must be 0 or more"),
        ({"weight_decays": (float("nan"),)}, "weight_decays=nan"),
        ({"learning_rates": (0.1, 0.0)}, "learning_rates=0.1,0 must be positive"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ProbeSettings(**options)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (SgdSettings, {"epochs": 0}, "epochs=0 must be at least 1"),
        (SgdSettings, {"batch_size": 0}, "batch_size=0 must be at least 1"),
        (SgdSettings, {"momentum": 1.0}, "momentum=1.0"),
        (KnnSettings, {"k": 0}, "k=0 must be at least 1"),
        (KnnSettings, {"temperature": 0.0}, "temperature=0.0 must be positive"),
        (KnnSettings, {"temperature": float("nan")}, "temperature=nan"),
    ],
)
def test_heads_and_neighbours_that_cannot_be(settings, options, message):
    with pytest.raises(ConfigError, match=message):
        settings(**options)


# ---------------------------------------------------------------- features


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["avg", "cls", "both"])
def test_pooling(pooling):
    network, data = encoder(), synthetic(5)
    images = torch.stack([data[i]["image"] for i in range(5)]).float() / 255
    pixels = (images - network.mean) / network.std
    tokens = network.backbone(
        pixels, noise=torch.arange(16.0).expand(5, -1), interpolate_pos_encoding=True
    ).last_hidden_state
    wanted = {"avg": tokens[:, 1:].mean(1), "cls": tokens[:, 0]}
    wanted["both"] = torch.cat([wanted["avg"], wanted["cls"]], 1)
    found = extract_features(PooledEncoder(network, pooling), data)
    torch.testing.assert_close(found.values, wanted[pooling], rtol=1e-4, atol=1e-5)
    assert found.labels.tolist() == [data[i]["label"] for i in range(5)]
    assert PooledEncoder(network, pooling).width == found.values.shape[1]


def test_an_encoder_without_a_class_token_says_so():
    with pytest.raises(ConfigError, match=r"pooling=cls needs a class token.*siglip2.*use pooling=avg"):
        PooledEncoder(encoder(kind="siglip2"), "cls")
    with pytest.raises(ConfigError, match="has no class token"):
        encoder(kind="siglip2").class_and_patch_tokens(torch.rand(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="choose avg, cls, both"):
        PooledEncoder(encoder(), "max")  # type: ignore[arg-type]


def test_pixels_are_averaged_down():
    images = torch.rand(2, 3, 32, 32)
    wanted = images.unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5)).flatten(1)
    torch.testing.assert_close(RawPixels(side_px=16)(images), wanted)
    assert torch.equal(RawPixels(side_px=64)(images), images.flatten(1))


@pytest.mark.parametrize("batch_size", [1, 16, 40])
def test_features_do_not_depend_on_the_batch_size(batch_size):
    network, data = PooledEncoder(encoder(), "both"), synthetic()
    found = extract_features(network, data, batch_size=batch_size)
    assert torch.equal(found.values, extract_features(network, data).values)


def probe_in_a_process() -> list[dict[str, object]]:
    """Of 37 images, and of ten, which are one chunk: a second process has none."""
    torch.set_num_threads(1)
    found = []
    for count in (37, 10):
        splits = [synthetic(count, split=split) for split in ("train", "val")]
        training, validation = (extract_features(PooledEncoder(encoder(), "both"), data) for data in splits)
        settings = ProbeSettings(weight_decays=(1e-2,))
        result = evaluate_probe(training, validation, num_classes=3, settings=settings)
        found.append({"values": training.values, "labels": validation.labels, "metrics": result.metrics})
    return found


def test_two_processes_give_what_one_gives():
    one = probe_in_a_process()
    for two in run_in_processes(probe_in_a_process):
        for mine, theirs in zip(two, one, strict=True):
            assert torch.equal(mine["values"], theirs["values"])
            assert torch.equal(mine["labels"], theirs["labels"])
            assert mine["metrics"] == theirs["metrics"]


# ---------------------------------------------------------------- the cache


def test_the_cache_answers_instead_of_the_network(tmp_path, monkeypatch):
    data, network = synthetic(), PooledEncoder(encoder(), "avg")
    first = cached_features(network, data, cache_dir=tmp_path)
    monkeypatch.setattr(PooledEncoder, "__call__", lambda self, images: pytest.fail("computed again"))
    again = cached_features(network, data, cache_dir=tmp_path)
    assert torch.equal(again.values, first.values)
    assert torch.equal(again.labels, first.labels)


def test_whatever_features_depend_on_has_a_file_of_its_own(tmp_path):
    variants = [
        (PooledEncoder(encoder(), "avg"), synthetic()),
        (PooledEncoder(encoder(seed=1), "avg"), synthetic()),
        (PooledEncoder(encoder(), "cls"), synthetic()),
        (PooledEncoder(encoder(), "avg"), synthetic(split="val")),
        (PooledEncoder(encoder(), "avg"), synthetic(transform=AdmCenterCrop(size=24))),
        (PooledEncoder(encoder(), "avg"), synthetic(transform=ScaleShift(size=32))),
        (RawPixels(side_px=8), synthetic()),
        (RawPixels(side_px=16), synthetic()),
    ]
    for number, (network, data) in enumerate(variants, start=1):
        cached_features(network, data, cache_dir=tmp_path)
        assert len(list((tmp_path / "probe_features").iterdir())) == number


@pytest.fixture
def photos(tmp_path) -> ImageDataset:
    for number in range(4):
        file = tmp_path / f"photos/{'ab'[number % 2]}/{number}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(file)
    return open_photos(tmp_path)


def open_photos(folder) -> ImageDataset:
    source = FolderSource(split="train", data_dir=folder / "photos", val_fraction=0)
    return ImageDataset(source=source, transform=AdmCenterCrop(size=8))


def brighten(folder):
    """The same name, size and times, and other pixels."""
    file = folder / "photos/a/2.bmp"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    Image.new("RGB", (8, 8), (255, 0, 0)).save(file)
    os.utime(file, ns=times)


def test_features_of_images_that_were_changed_in_place_are_made_anew(tmp_path, photos):
    network, cache = RawPixels(side_px=8), tmp_path / "cache"
    before = cached_features(network, photos, cache_dir=cache)
    brighten(tmp_path)
    after = cached_features(network, open_photos(tmp_path), cache_dir=cache)
    assert (after.values != before.values).any(1).tolist() == [
        False,
        True,
        False,
        False,
    ]  # a/0, a/2, b/1, b/3
    assert float(after.values[1].max()) == 1.0
    assert len(list((cache / "probe_features").iterdir())) == 2


def test_features_of_images_that_change_meanwhile_are_not_kept(tmp_path, photos, caplog):
    cached_features(
        RawPixels(side_px=8), photos, cache_dir=tmp_path / "cache", progress=lambda *_: brighten(tmp_path)
    )
    assert "the features are not kept: the images changed while they were computed" in caplog.text
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cache_file_is_named(tmp_path):
    network, data = RawPixels(side_px=8), synthetic(5)
    cached_features(network, data, cache_dir=tmp_path)
    (file,) = (tmp_path / "probe_features").iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(WeightsError, match=file.name):
        cached_features(network, data, cache_dir=tmp_path)


def features_kept_nowhere(folder) -> int:
    """The cache's place is a file, as a full or read-only disk refuses to write."""
    (folder / "blocked").touch()
    return len(cached_features(RawPixels(side_px=8), synthetic(20), cache_dir=folder / "blocked"))


def test_features_that_cannot_be_kept_are_used_all_the_same(tmp_path, caplog):
    assert features_kept_nowhere(tmp_path) == 20
    assert "the table of features of synthetic is not kept" in caplog.text
    assert "UNIRAE_CACHE_DIR" in caplog.text
    assert run_in_processes(features_kept_nowhere, tmp_path) == [20, 20]


@pytest.mark.parametrize(("classes", "message"), [(0, "no labels"), (1, "one class")])
def test_data_without_classes_are_refused(classes, message):
    with pytest.raises(DataError, match=f"synthetic has {message}; a probe needs"):
        check_classes(synthetic(classes=classes))
