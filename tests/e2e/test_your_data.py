"""docs/your-data.md step by step, in small: a folder of pictures of any size to samples with a score."""

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny_training import TINY
from unirae import load_dit, load_rae
from unirae.app import (
    compute_stats,
    eval_fid,
    eval_rfid,
    evaluate,
    make_reference,
    prepare_data,
    sample_dit,
)
from unirae.app.config.composition import compose
from unirae.app.run.assembly import assemble
from unirae.core.io import load_tensors, read_json
from unirae.data.split import held_out
from unirae.training.csv_logger import read_metrics

COUNT, HELD_OUT, SAMPLES = 36, 7, 7
SCORE = "fd_random_mae"
"""A Fréchet distance in the features of the autoencoder's encoder, which is a random one here."""


@dataclass(frozen=True)
class Case:
    """A kind of folder."""

    classes: tuple[str, ...]
    size: tuple[int, int] = (32, 32)
    """Of the images that the model makes: height, width."""

    @property
    def null_label(self) -> int:
        """The last of c + 1 embeddings, of which the last means "no label"."""
        return len(self.classes)


CASES = {
    "flat": Case(()),
    "one class": Case(("cats",)),
    "three classes": Case(("apples", "cats", "dogs")),
    "three classes, 3:2": Case(("apples", "cats", "dogs"), (32, 48)),
}


def write_pictures(folder: Path, case: Case) -> Path:
    """Of many sizes around the wanted shape, a colour for each class, as JPEG and PNG."""
    random = np.random.RandomState(0)
    height, width = case.size
    for number in range(COUNT):
        kind = number % max(1, len(case.classes))
        shape = (height + random.randint(40), width + random.randint(40))
        base = np.roll([200, 90, 30], kind) + random.uniform(-25, 25, 3)
        pixels = np.clip(base + random.uniform(-30, 30, (*shape, 3)), 0, 255).astype(np.uint8)
        path = folder.joinpath(
            *case.classes[kind : kind + 1], f"{number:03d}.{'jpg' if number % 2 else 'png'}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def train(stage: str, folder: Path, *overrides: str, steps: int = 2) -> dict[str, Any]:
    """``python src/train.py`` with networks of width 32 and a random encoder; returns what the checkpoint says."""
    own = [o for o in TINY[stage] if not o.startswith(("data=", "data.source.", "model.rae."))]
    command = [*own, f"trainer.max_steps={steps}", f"paths.output_dir={folder}", *overrides]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and loggers
        assemble(compose(command), experiment=stage, checkpoint=None).fit()
    rows = read_metrics(folder / "csv/metrics.csv")
    assert [int(row["step"]) for row in rows] == [*range(1, steps + 1)]
    assert all(np.isfinite(float(row["train/loss"])) for row in rows)
    return load_tensors(folder / "checkpoints/last.ckpt")["unirae"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A decoder that somebody trained on other, square pictures."""
    folder = tmp_path_factory.mktemp("trained")
    pictures = write_pictures(folder / "pictures", Case(()))
    train("stage1", folder / "rae", "data=image_folder", f"data.data_dir={pictures}")
    return folder / "rae"


@dataclass(frozen=True)
class Walk:
    """A finished walk through the page: what it was given, and where things lie."""

    case: Case
    report: dict[str, Any]
    stage1: dict[str, Any]
    stage2: dict[str, Any]
    root: Path


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def walk(request, trained, tmp_path_factory) -> Walk:
    case, root = request.param, tmp_path_factory.mktemp("walk")
    pictures = write_pictures(root / "pictures", case)
    options = prepare_data.Options(input=pictures, output=root / "dataset", val_fraction=HELD_OUT / COUNT)
    report = prepare_data.convert(options)
    data = ("data=hf", f"data.data_dir={root / 'dataset'}")

    size = "model.image_size=[{},{}]".format(*case.size)
    stage1 = train("stage1", root / "rae", *data, size, f"model.pretrained_decoder_path={trained}")
    stats = root / "rae-stats.ckpt"
    compute_stats.run(compute_stats.Options(checkpoint=root / "rae", output=stats, device="cpu"))

    scored = ["callbacks.generation_metrics.metrics=[fd]"]
    if not case.classes:
        scored.append("callbacks.samples.cfg_scale=1.0")  # guidance of the pictures needs labels
    rae = f"model.rae.pretrained_decoder_path={stats}"
    stage2 = train("stage2", root / "dit", *data, rae, *scored, steps=3)
    return Walk(case, report, stage1, stage2, root)


COMPUTE: dict[str, Any] = {"device": "cpu", "num_threads": 1, "batch_size": 4}


def sampler(walk: Walk) -> dict[str, Any]:
    guidance = 2.0 if walk.case.classes else 1.0
    return {**COMPUTE, "checkpoint": walk.root / "dit", "num_steps": 3, "cfg_scale": guidance}


def test_the_data_set_holds_every_picture_with_its_class(walk):
    assert walk.report["images"] == {"train": COUNT - HELD_OUT, "validation": HELD_OUT}
    assert walk.report["classes"] == list(walk.case.classes)
    assert walk.report["unreadable"] == []


def test_the_decoder_is_fine_tuned_and_scored_at_the_size(walk, trained):
    height, width = walk.case.size
    rae = load_rae(walk.root / "rae")
    assert rae.output_size == walk.case.size
    assert rae.latent_shape == (32, height // 8, width // 8)
    start, now = (
        load_rae(folder).decoder.state_dict()["to_pixels.weight"] for folder in (trained, walk.root / "rae")
    )
    assert 0 < (now - start).abs().max() < 0.01  # two small steps from there
    output = walk.root / "rfid.json"
    result = eval_rfid.run(
        eval_rfid.Options(checkpoint=walk.root / "rae", metrics="rfd,psnr", output=output, **COMPUTE)
    )
    assert result.count == HELD_OUT
    assert np.isfinite([*result.scores.values()]).all()


def test_statistics_are_of_the_training_images_and_reach_the_generator(walk):
    stats = load_rae(walk.root / "rae-stats.ckpt").stats
    assert (stats.info["count"], stats.info["transform"]["size"]) == (COUNT - HELD_OUT, list(walk.case.size))
    dit = load_dit(walk.root / "dit")
    assert dit.latent_stats.sha256 == stats.sha256
    assert dit.latent_shape == tuple(stats.shape)


def test_the_generator_knows_the_classes(walk):
    dit = load_dit(walk.root / "dit")
    assert (dit.num_classes, dit.null_label) == (len(walk.case.classes), walk.case.null_label)
    assert list(walk.stage2["class_names"]) == list(walk.case.classes)


def test_samples_have_the_size_and_the_classes_in_turn(walk):
    folder = sample_dit.run(
        sample_dit.Options(**sampler(walk), num_samples=SAMPLES, output_dir=walk.root / "samples", npz=True)
    )
    files = [f"{number:06d}.png" for number in range(SAMPLES)]
    assert sorted(file.name for file in folder.glob("0*.png")) == files
    assert np.load(folder / "samples.npz")["arr_0"].shape == (SAMPLES, *walk.case.size, 3)
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    wanted = [number % max(1, len(walk.case.classes)) for number in range(SAMPLES)]
    assert [(row["file"], int(row["label"])) for row in rows] == list(zip(files, wanted, strict=True))
    assert [row["name"] for row in rows] == [
        walk.case.classes[k] if walk.case.classes else "" for k in wanted
    ]


def test_scores_against_an_own_reference_agree_however_they_are_made(walk):
    """From a stored reference or the data themselves, from stored samples or the checkpoint."""
    rae, features = str(walk.root / "rae"), {"metrics": "fd"}
    reference = make_reference.run(
        make_reference.Options(
            data=str(walk.root / "dataset"),
            split="train",
            size=walk.case.size,
            encoder=rae,
            output=walk.root / "train.npz",
            **features,
            **COMPUTE,
        )
    )
    fresh = {**sampler(walk), **features, "num_samples": SAMPLES}
    by_file = eval_fid.run(
        eval_fid.Options(**fresh, reference=str(reference), output=walk.root / "file.json")
    )
    by_data = eval_fid.run(eval_fid.Options(**fresh, output=walk.root / "data.json"))
    folder = walk.root / "again"
    sample_dit.run(sample_dit.Options(**sampler(walk), num_samples=SAMPLES, output_dir=folder))
    stored = evaluate.run(
        evaluate.Options(
            images=str(folder),
            reference=str(reference),
            encoder=rae,
            output=walk.root / "stored.json",
            **features,
            **COMPUTE,
        )
    )
    assert np.isfinite(by_file.scores[SCORE])
    assert by_file.scores[SCORE] > 0
    for other in (by_data, stored):
        assert other.scores[SCORE] == pytest.approx(by_file.scores[SCORE], rel=1e-6)
    for name in ("file", "stored"):
        said = read_json(walk.root / f"{name}.json")["settings"]["reference"]
        assert (said["file"], said["count"]) == ("train.npz", COUNT - HELD_OUT)
        assert said["size_px"] == list(walk.case.size)


@pytest.mark.parametrize(("experiment", "enough"), [("rae_tiny", 36), ("dit_tiny", 71)])
def test_the_guide_knows_how_many_pictures_a_batch_needs(experiment, enough):
    batch = compose([f"experiment={experiment}", "data=hf"])["data"]["global_batch_size"]

    def trained_on(count: int) -> int:
        names = [f"{number:06d}.jpg" for number in range(count)]
        return count - len(held_out(names, 0.1))

    assert trained_on(enough) >= batch > trained_on(enough - 1)
    assert str(enough) in (Path(__file__).parents[2] / "docs/your-data.md").read_text()
