"""The score fdr6 through the commands: six ratios and their mean, every mistake before the images are read."""

import json

import pytest

from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from tiny_fdr import SPACES, write_moments, write_space, write_weights
from tiny_images import pixels, write_folder, write_npz
from unirae.app import compare, eval_fid, evaluate, make_reference
from unirae.core.errors import ConfigError, DataError, WeightsError
from unirae.evaluation.references.reference_file import read_reference
from unirae.evaluation.scores.record import warn_once

NAMES = [f"fdr_{'random_' if space.model is None else ''}{space.name}" for space in SPACES]
COUNT = 6


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "cache"))
    warn_once.cache_clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("fdr")
    return {
        "weights": write_weights(root / "weights"),
        "moments": write_moments(root / "moments"),
        "made": write_folder(root / "made", pixels(COUNT, seed=1)),
        "real": write_folder(root / "real", pixels(COUNT + 1, seed=2)),
    }


@pytest.fixture
def score(tmp_path, folders):
    def run_with(**options):
        defaults = {
            "images": str(folders["made"]),
            "metrics": "fdr6",
            "fdr_weights": str(folders["weights"]),
            "inception_weights": "random",
            "output": tmp_path / "scores.json",
            "device": "cpu",
            "num_threads": 1,
        }
        return evaluate.run(evaluate.Options(**defaults | options))

    return run_with


def test_against_the_published_moments(score, folders, tmp_path, capsys):
    result = score(fdr_references=folders["moments"])
    assert list(result.scores) == [*NAMES, "fdr6_random"]  # Inception's weights are
    terms = [result.scores[name] for name in NAMES]
    assert result.scores["fdr6_random"] == pytest.approx(sum(terms) / 6)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["labels"]["fdr6_random"] == f"fdr6_random@{COUNT}"
    assert content["settings"]["reference"] is None
    own = content["settings"]["metrics"]["fdr_mae"]
    assert own["compared_with"]["file"] == "vit_large_patch16_224_mae_in256_t224_stats.npz"
    assert (own["validation_distance"], own["pooling"], own["input_size"]) == (
        0.04,
        "class token",
        [224, 224],
    )
    assert content["settings"]["metrics"]["fdr6_random"]["mean_of"]["fdr_mae"] == own
    distance = content["uncertainty"]["fdr_mae"]["frechet_distance"]
    assert distance == pytest.approx(0.04 * result.scores["fdr_mae"])
    assert any("images of 16×16 px are compared with published moments" in said for said in result.warnings)
    assert any("fewer than the 2048 features" in said for said in result.warnings)
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(content))
    compare.run(compare.Options(a=tmp_path / "scores.json", b=copy))
    assert "fdr6_random" in capsys.readouterr().out


def test_a_file_of_all_six_moments(score, folders, tmp_path):
    file = make_reference.run(
        make_reference.Options(
            data=str(folders["real"]),
            output=tmp_path / "reference.npz",
            metrics="fdr6",
            fdr_weights=str(folders["weights"]),
            inception_weights="random",
            device="cpu",
            num_threads=1,
        )
    )
    keys = ["random_inception/pooled", *(f"{name}/pooled" for name in NAMES[1:])]
    assert sorted(read_reference(file).statistics) == sorted(keys)
    result = score(reference=str(file))
    assert list(result.scores) == [*NAMES, "fdr6_random"]
    assert min(result.scores.values()) > 0
    assert result.settings["reference"]["file"] == "reference.npz"
    other = write_weights(tmp_path / "other")
    write_space(other / "mae", seed=7)
    with pytest.raises(ConfigError, match=r"reference\.npz was made by another fdr_mae: sha256"):
        score(reference=str(file), fdr_weights=str(other))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "--metrics fdr6 compares with reference moments; give .* --fdr_references, or a"),
        ({"fdr_references": "none"}, ConfigError, "--fdr_references none: no such folder"),
        ({"fdr_references": "empty"}, DataError, "--fdr_references empty lacks the moments of inception"),
        ({"fdr_references": "moments.npz"}, ConfigError, r"make_reference\.py is a --reference"),
        ({"reference": "moments.npz"}, ConfigError, "holds no moments for fdr_convnext, fdr_dinov2, fdr_mae"),
        ({"fdr_weights": "none", "reference": "."}, WeightsError, "--fdr_weights none: no such folder"),
        (
            {"fdr_weights": "empty", "reference": "."},
            WeightsError,
            "--fdr_weights empty has no weights of conv",
        ),
        ({"metrics": "psnr", "reference": "."}, ConfigError, "--fdr_weights: only --metrics fdr6 reads it"),
        (
            {"metrics": "psnr", "fdr_weights": "hub", "fdr_references": "empty"},
            ConfigError,
            "--fdr_references: only --metrics fdr6 reads it; ask for fdr6, too",
        ),
    ],
)
@pytest.mark.usefixtures("names_of_commands")
def test_mistakes(score, tmp_path, monkeypatch, options, error, message):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_npz(tmp_path / "moments.npz", pixels(3), mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(error, match=message):
        score(**options)
    assert not (tmp_path / "scores.json").exists()


def test_samples_of_a_checkpoint(folders, tmp_path):
    write_checkpoint(tmp_path / "rae")
    write_stage2_checkpoint(tmp_path / "dit", tmp_path / "rae")
    options = {
        "checkpoint": tmp_path / "dit",
        "metrics": "fdr6",
        "fdr_weights": str(folders["weights"]),
        "inception_weights": "random",
        "num_samples": 3,
        "num_steps": 2,
        "device": "cpu",
        "num_threads": 1,
    }
    result = eval_fid.run(eval_fid.Options(**options, fdr_references=folders["moments"]))
    assert list(result.scores) == [*NAMES, "fdr6_random"]
    with pytest.raises(DataError, match="lacks the moments of inception"):
        eval_fid.run(eval_fid.Options(**options, fdr_references=tmp_path))
    with pytest.raises(ConfigError, match="--fdr_weights: a stage-1 checkpoint reconstructs"):
        evaluate.run(
            evaluate.Options(images=str(tmp_path / "rae"), fdr_weights="random", metrics="fdr6", device="cpu")
        )
