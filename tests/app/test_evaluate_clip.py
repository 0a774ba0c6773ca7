"""The score clip_score through the commands: one number whatever the batches and processes, and its comparison."""

import json
import sys

import pytest
import torch

from processes import command_in_processes
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from tiny_clip import TensorFeatures, write_clip
from tiny_images import pixels, write_extractor, write_folder
from toy_extractors import MeanColour
from unirae.app import compare, eval_fid, evaluate, make_reference
from unirae.core.errors import ConfigError, DataError, UserError, WeightsError
from unirae.evaluation.results.comparison import compare as compare_results
from unirae.evaluation.results.result_file import read_result
from unirae.evaluation.scores.metric_set import MetricSources, build_set_metrics
from unirae.evaluation.scores.record import warn_once
from unirae.metrics.set_metrics import needs

COUNT = 21
PROMPTS = [f"a {'cat' if k % 2 else 'dog'} {k * k}" for k in range(COUNT)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "cache"))
    warn_once.cache_clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("clip")
    (root / "prompts.txt").write_text("\n".join(PROMPTS))
    return {
        "clip": write_clip(root / "clip"),
        "made": write_folder(root / "made", pixels(COUNT, seed=1)),
        "prompts": root / "prompts.txt",
    }


@pytest.fixture
def score(tmp_path, folders):
    def run_with(**options):
        defaults = {
            "images": str(folders["made"]),
            "metrics": "clip_score",
            "clip": str(folders["clip"]),
            "prompts": folders["prompts"],
            "output": tmp_path / "scores.json",
            "device": "cpu",
            "num_threads": 1,
        }
        return evaluate.run(evaluate.Options(**defaults | options))

    return run_with


def expected(folder, numbers=range(COUNT)):
    """torchmetrics' score of each image; none of them is negative."""
    from torchmetrics.functional.multimodal import clip_score

    images, theirs = torch.from_numpy(pixels(COUNT, seed=1)).permute(0, 3, 1, 2), TensorFeatures(folder)
    scores = [float(clip_score(images[k], PROMPTS[k], theirs)) for k in numbers]  # pyright: ignore[reportArgumentType]
    assert min(scores) > 0
    return torch.tensor(scores, dtype=torch.float64)


def test_the_number_is_torchmetrics_and_everything_is_recorded(score, folders, tmp_path, capsys):
    result = score()
    own = expected(folders["clip"])
    estimate = result.estimates["clip_score"]
    assert estimate.value == pytest.approx(float(own.mean()), abs=1e-4)
    assert estimate.standard_error == pytest.approx(float(own.std() / COUNT**0.5), rel=1e-3)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["metrics"] == {"clip_score": estimate.value}
    assert content["uncertainty"]["clip_score"]["images_with_prompt"] == COUNT
    assert content["labels"] == {}
    assert content["warnings"] == []
    assert content["settings"]["reference"] is None
    assert content["settings"]["metrics"]["clip_score"]["weights"] == str(folders["clip"])
    assert f"{estimate.value:.4f}" in capsys.readouterr().out


def test_neither_batches_nor_beside_which_scores_it_stands_matter(score, tmp_path):
    value = score().scores["clip_score"]
    assert score(batch_size=3).scores["clip_score"] == value
    encoder = write_extractor(tmp_path / "code")
    both = score(
        metrics="fd,clip_score", encoder=encoder, reference=str(write_folder(tmp_path / "r", pixels(9)))
    )
    assert both.scores["clip_score"] == value
    assert len(both.scores) == 2


def test_an_encoder_that_is_called_clip_is_another_network(folders):
    class Clip(MeanColour):
        name = "clip"

    sources = MetricSources(encoder=Clip(), clip_weights=str(folders["clip"]), prompts=PROMPTS)
    metrics = build_set_metrics(["fd", "clip_score"], sources)
    assert [metric.labels for metric in metrics] == [{"fd": "fd_clip"}, {"clip_score": "clip_score"}]
    assert len({extractor for extractor, _ in needs(metrics, of_reference=False)}) == 2


def test_two_processes_equal_one(score, folders, tmp_path):
    value = score().scores["clip_score"]
    words = {"images": folders["made"], "metrics": "clip_score", "clip": folders["clip"]}
    words |= {
        "prompts": folders["prompts"],
        "output": tmp_path / "two.json",
        "device": "cpu",
        "num_threads": 1,
    }
    command_in_processes(
        "evaluate", *(word for name, given in words.items() for word in (f"--{name}", given))
    )
    assert json.loads((tmp_path / "two.json").read_text())["metrics"]["clip_score"] == value


def test_a_subset_keeps_its_prompts(score, folders):
    result = score(num_samples=5, seed=3)
    own = [k for k in range(COUNT) if k in _chosen(5, 3)]
    value = expected(folders["clip"], own).mean()
    assert result.scores["clip_score"] == pytest.approx(float(value), abs=1e-4)


def _chosen(count, seed):
    from unirae.evaluation.passes.reading import choose_indices

    return choose_indices(COUNT, count, seed)


def test_images_without_prompt_are_counted(score, folders, tmp_path, capsys):
    (tmp_path / "some.txt").write_text(
        "\n".join("" if k in (2, 7) else p for k, p in enumerate(PROMPTS)) + "\n"
    )
    result = score(prompts=tmp_path / "some.txt")
    value = expected(folders["clip"], [k for k in range(COUNT) if k not in (2, 7)]).mean()
    assert result.scores["clip_score"] == pytest.approx(float(value), abs=1e-4)
    (warning,) = result.warnings
    assert f"2 of the {COUNT} images have no prompt and are left out" in warning
    assert warning in capsys.readouterr().err


# ---------------------------------------------------------------- comparison


def outcome(first, second):
    (found,) = compare_results(read_result(first), read_result(second)).scores
    return found


def test_equal_yardsticks_compare_and_others_do_not(score, folders, tmp_path):
    def write(name, **options):
        score(output=tmp_path / name, **options)
        return tmp_path / name

    other = str(write_folder(tmp_path / "other", pixels(COUNT, seed=5)))
    twice = write_folder(tmp_path / "twice", pixels(COUNT, seed=5))
    write_folder(twice, pixels(COUNT, seed=6), first=COUNT)
    (tmp_path / "twice.txt").write_text("\n".join(PROMPTS * 2))
    (tmp_path / "others.txt").write_text("\n".join([*PROMPTS[1:], "another"]))
    first, second = write("a.json"), write("b.json", images=other)
    assert outcome(first, second).outcome in ("within noise", "A better", "B better")
    assert outcome(first, write("c.json")).outcome == "equal"
    more = outcome(first, write("d.json", images=str(twice), prompts=tmp_path / "twice.txt"))
    assert more.outcome in ("within noise", "A better", "B better")
    assert any("this score has no bias" in said for said in more.remarks)
    foreign = outcome(first, write("e.json", prompts=tmp_path / "others.txt"))
    assert foreign.outcome == "not comparable"
    assert any(said.startswith("hash of the prompts: ") for said in foreign.why)
    clip = str(write_clip(tmp_path / "clip", seed=4))
    assert outcome(first, write("f.json", clip=clip)).outcome == "not comparable"
    compare.run(compare.Options(a=first, b=second))


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_one_line(score, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cases = [
        ({"prompts": None}, DataError, f"none of the {COUNT} images of image_folder has a caption"),
        ({"clip": str(tmp_path / "none")}, WeightsError, "cannot load a CLIP.*hf download"),
        ({"clip": None}, WeightsError, "openai/clip-vit-large-patch14.*hf download"),
        ({"metrics": "fid"}, ConfigError, "--clip, --prompts: only --metrics clip_score reads it"),
        ({"metrics": "psnr,clip_score"}, ConfigError, "ask for them in two commands"),
    ]
    for options, kind, said in cases:
        with pytest.raises(kind, match=said) as error:
            score(**options)
        assert "\n" not in str(error.value)


def test_the_command_names_its_own_options(folders, tmp_path, monkeypatch, capsys):
    words = ["--images", folders["made"], "--metrics", "clip_score", "--prompts", folders["prompts"]]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words), "--clip", str(tmp_path / "none")])
    assert evaluate.main() == 2
    assert f"--clip {tmp_path / 'none'}: cannot load a CLIP" in capsys.readouterr().err


def test_what_has_no_prompts_is_refused(score, folders, tmp_path):
    write_checkpoint(tmp_path / "rae")
    write_stage2_checkpoint(tmp_path / "dit", tmp_path / "rae")
    for name, said in (
        ("rae", "--(clip|prompts), --(clip|prompts): "),
        ("dit", "--prompts: .* was trained on labels, not on captions"),
    ):
        with pytest.raises(ConfigError, match=said):
            score(images=str(tmp_path / name))
    with pytest.raises(UserError, match="clip_score"):
        score(images=str(tmp_path / "rae"), clip=None, prompts=None)
    fid = {"num_samples": 4, "num_steps": 2, "device": "cpu", "num_threads": 1}
    with pytest.raises(
        ConfigError, match=r"clip_score compares samples with their prompts, and .* trained on labels"
    ):
        eval_fid.run(eval_fid.Options(checkpoint=tmp_path / "dit", metrics="clip_score", **fid))
    with pytest.raises(ConfigError, match="--metrics clip_score: it compares each image with its prompt"):
        make_reference.run(
            make_reference.Options(data=str(folders["made"]), output=tmp_path / "r.npz", metrics="clip_score")
        )
