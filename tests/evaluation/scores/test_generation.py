"""Scores of generated images: a known distance, independent of batches and processes."""

import json
import logging

import pytest
import torch

from processes import run_in_processes
from tiny_latents import pictures
from toy_extractors import ToyClip, colour_metric, gaussian
from unirae.core.errors import ConfigError, DataError
from unirae.evaluation.references.reference import Reference, reference_from_data
from unirae.evaluation.scores.generation import evaluate_generation
from unirae.evaluation.scores.record import write_scores
from unirae.metrics.clip_score import clip_metric, cosine_scores
from unirae.metrics.set_metrics import needs


def made(indices):
    """Number i is a colour that depends on i alone."""
    channels = torch.stack([indices * 37 % 101, indices * 53 % 97, indices * 11 % 89], dim=1)
    return channels[:, :, None, None].expand(-1, 3, 4, 4).to(torch.uint8)


def reference(purpose="generation", width=3, **identity):
    about = {"file": "f.npz", "purpose": purpose, **identity}
    return Reference(statistics=gaussian(width=width), identity=about)


def score(count=45, batch_size=7, **options):
    options = {"metrics": [colour_metric()], "reference": reference(), **options}
    return evaluate_generation(made, count, batch_size=batch_size, **options)


def test_the_distance_is_the_formulas():
    features = made(torch.arange(45)).double().mean((2, 3))
    values = torch.linalg.eigvalsh(torch.cov(features.T))
    expected = float(features.mean(0).square().sum() + (values.sqrt() - 1).square().sum())
    assert score().scores == pytest.approx({"fd_colour": expected}, rel=1e-9)


def test_the_data_themselves_are_at_no_distance():
    data = pictures(20)
    metrics = [colour_metric()]
    result = evaluate_generation(
        lambda indices: torch.stack([data[int(i)]["image"] for i in indices]),
        20,
        metrics=metrics,
        reference=reference_from_data(data, needs(metrics, of_reference=True), purpose="generation"),
        batch_size=6,
    )
    assert result.scores["fd_colour"] == pytest.approx(0, abs=1e-6)


def test_scores_do_not_depend_on_the_batch_size():
    for size in (1, 16, 45, 100):
        assert score(batch_size=size).scores == pytest.approx(score().scores, rel=1e-12)


def _scores(count):
    seen = []
    result = evaluate_generation(
        lambda indices: seen.extend(indices.tolist()) or made(indices),
        count,
        metrics=[colour_metric()],
        reference=reference(),
        batch_size=7,
    )
    return {"scores": result.scores, "seen": seen}


@pytest.mark.parametrize("count", [45])
def test_two_processes_equal_one_and_share_whole_batches(count):
    results = run_in_processes(_scores, count)
    for result in results:
        assert result["scores"] == pytest.approx(score(count).scores, rel=1e-9)
    first, second = (result["seen"] for result in results)
    assert sorted(first + second) == list(range(count))
    assert first[:14] == [*range(7), *range(14, 21)]


def _clip_score(batch_size):
    metrics = [clip_metric(ToyClip(), [f"{k % 5} words" for k in range(45)])]
    return score(metrics=metrics, reference=None, batch_size=batch_size)


def test_prompts_belong_to_numbers_whatever_the_batches_and_processes():
    texts, extractor = [f"{k % 5} words" for k in range(45)], ToyClip()
    rows = extractor.text_features(extractor.tokenise(texts))
    expected = cosine_scores(extractor(made(torch.arange(45))), rows).clamp_min(0)
    assert expected.std() > 1
    assert (expected > 0).sum() > 10
    one = _clip_score(7)
    assert one.scores == {"clip_score": pytest.approx(float(expected.mean()), rel=1e-12)}
    assert one.label("clip_score") == "clip_score"
    for other in (_clip_score(1), _clip_score(100), *run_in_processes(_clip_score, 7)):
        assert other.estimates == one.estimates
    with pytest.raises(DataError, match="the samples: 44 images, but clip_score was given 45 prompts"):
        score(44, metrics=[clip_metric(extractor, texts)], reference=None)


def test_the_settings_tell_everything(tmp_path):
    seen = []
    result = score(about={"step": 3}, progress=lambda *now: seen.append(now))
    content = json.loads(write_scores(tmp_path / "scores.json", result).read_text())
    assert (content["count"], content["metrics"]) == (45, result.scores)
    assert list(result.labelled()) == ["fd_colour@45"]
    settings = content["settings"]
    images = settings["images"]
    assert (images["step"], images["size_px"], images["batch_size"]) == (3, [4, 4], 7)
    assert (images["kind"], images["count"], images["duplicates"]) == ("generation", 45, 0)
    assert settings["reference"] == {"file": "f.npz", "purpose": "generation"}
    assert content["labels"] == {"fd_colour": "fd_colour@45"}
    assert "biased upward" in content["warnings"][0]
    assert settings["metrics"]["fd_colour"]["sha256"] == "0"
    assert seen[0] == (7, 45)
    assert seen[-1] == (45, 45)


def test_few_samples_are_warned_about_once(caplog):
    with caplog.at_level(logging.WARNING, logger="unirae"):
        score(count=43)
        score(count=43)
    (warning,) = [r.getMessage() for r in caplog.records if "biased" in r.getMessage()]
    assert "@43" in warning


def test_mistakes():
    with pytest.raises(DataError, match="at least 2 images"):
        score(count=1)
    with pytest.raises(ConfigError, match="features of 2 numbers, colour gives 3"):
        score(reference=reference(width=2))
    with pytest.raises(ConfigError, match="reference of reconstruction scores"):
        score(reference=reference("reconstruction"))
    with pytest.raises(ConfigError, match="4×4 px, the reference was made of 8×8 px"):
        score(reference=reference(size_px=[8, 8]))
    with pytest.raises(ConfigError, match="holds statistics of other/pooled, but fd_colour needs"):
        score(reference=Reference(statistics=gaussian(extractor="other"), identity={"purpose": "generation"}))


def test_duplicates_are_counted_and_warned_about():
    twice = evaluate_generation(
        lambda indices: made(indices % 40),
        45,
        metrics=[colour_metric()],
        reference=reference(),
        batch_size=7,
    )
    assert twice.settings["images"]["duplicates"] == 5
    assert any("5 images of 45 equal another one, pixel by pixel" in warning for warning in twice.warnings)
