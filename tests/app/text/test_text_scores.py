"""Scores of a checkpoint that was trained on captions: of its data's captions, or of prompts in a file."""

import json
import shutil
from pathlib import Path

import pytest

from processes import command_in_processes
from text_runs import PROMPTS
from unirae.app import eval_fid, evaluate, sweep_guidance
from unirae.app.sweep.options import Options as SweepOptions
from unirae.core.errors import ConfigError, WeightsError
from unirae.data.synthetic import SyntheticSource
from unirae.evaluation.sampling.image_sampler import ImageSampler

FD = "fd_random_mae"


@pytest.fixture
def score(runs, tmp_path):
    def run_with(**options):
        defaults = {"num_samples": 6, "num_steps": 3, "batch_size": 4, "metrics": "fd", "num_threads": 1}
        defaults |= {"device": "cpu", "output": tmp_path / "scores.json", "checkpoint": runs / "text"}
        return eval_fid.run(eval_fid.Options(**{**defaults, **options}))

    return run_with


def captions_of(split, count):
    source = SyntheticSource(split=split, image_size=48, train_count=4, val_count=12, classes=2)
    return [source.captions_of(number * len(source) // count)[0] for number in range(count)]


def asked(monkeypatch):
    """The prompts that samples were made of."""
    seen, original = [], ImageSampler.__call__

    def noted(self, indices):
        seen.extend(self.rule.prompts_of(indices))
        return original(self, indices)

    monkeypatch.setattr(ImageSampler, "__call__", noted)
    return seen


def test_samples_to_score_are_of_the_splits_captions(score, monkeypatch, capsys):
    seen = asked(monkeypatch)
    result = score(split="val", cfg_scale=1.5)
    assert seen == captions_of("val", 6)
    assert result.scores[FD] > 0
    assert result.settings["prompts_sampled"] == len(set(seen))
    sampler = result.settings["images"]["sampler"]
    assert (sampler["label_sampling"], sampler["prompts"]["count"]) == ("prompts", 6)
    assert "6 samples, of prompts" in capsys.readouterr().out
    seen.clear()
    score(num_samples=10)  # more than the training split has captions: they go round
    assert seen == (captions_of("train", 4) * 3)[:10]


def test_scores_of_prompts_in_a_file(score, runs, monkeypatch):
    seen = asked(monkeypatch)
    result = score(prompts=runs / "prompts.txt")
    assert seen == [*PROMPTS, *PROMPTS[:2]]
    assert result.settings["images"]["sampler"]["prompts"]["count"] == 4


def test_clip_score_is_that_of_the_stored_samples(score, sample, runs, tmp_path):
    both = score(
        metrics="clip_score,fd", clip=str(runs / "clip"), prompts=runs / "prompts.txt", num_samples=4
    )
    folder = sample(num_steps=3, batch_size=4)
    of_files = evaluate.run(
        evaluate.Options(
            images=str(folder), metrics="clip_score", clip=str(runs / "clip"), device="cpu", num_threads=1,
            output=tmp_path / "stored.json",
        )
    )  # fmt: skip
    (name,) = [name for name in both.scores if name.startswith("clip_score")]
    assert both.scores[name] == pytest.approx(of_files.scores[name], rel=1e-4)
    others = score(metrics="clip_score", clip=str(runs / "clip"), split="val")
    assert others.scores[name] != both.scores[name]
    assert others.settings["reference"] is None


def test_two_processes_give_the_same_score(score, runs, tmp_path):
    wanted = score(split="val", num_samples=11)
    words = [
        "--checkpoint",
        runs / "text",
        "--device",
        "cpu",
        "--num_threads",
        1,
        "--metrics",
        "fd",
        "--split",
        "val",
    ]
    words += ["--num_samples", 11, "--num_steps", 3, "--batch_size", 4, "--output", tmp_path / "two.json"]
    command_in_processes("eval_fid", *words)
    found = json.loads((tmp_path / "two.json").read_text())
    assert found["metrics"][FD] == pytest.approx(wanted.scores[FD], rel=1e-6)


def test_different_prompts_go_to_different_files(score, runs, tmp_path):
    own = Path(shutil.copytree(runs / "text/checkpoints", tmp_path / "run/checkpoints")).parent
    (tmp_path / "others.txt").write_text("one\ntwo\n")
    for options in (
        {}, {}, {"split": "val"}, {"prompts": runs / "prompts.txt"}, {"prompts": tmp_path / "others.txt"},
    ):  # fmt: skip
        score(checkpoint=own, rae=runs / "rae", output=None, num_samples=3, **options)
    assert len(list((own / "eval").iterdir())) == 4


def test_scores_that_cannot_be(score, runs, tmp_path):
    with pytest.raises(
        ConfigError, match=r"clip_score compares samples with their prompts, and .* trained on labels"
    ):
        score(checkpoint=runs / "labels", metrics="clip_score", clip=str(runs / "clip"))
    with pytest.raises(ConfigError, match=r"--prompts: .* was trained on labels"):
        score(checkpoint=runs / "labels", prompts=runs / "prompts.txt")
    with pytest.raises(ConfigError, match=r"--clip: only --metrics clip_score reads it"):
        score(clip=str(runs / "clip"))
    with pytest.raises(WeightsError, match=r"CLIP|clip"):
        score(metrics="clip_score", clip=str(tmp_path / "none"))


def test_evaluate_scores_such_a_checkpoint(runs, tmp_path, monkeypatch):
    seen = asked(monkeypatch)
    result = evaluate.run(
        evaluate.Options(
            images=str(runs / "text"), metrics="fd", num_samples=5, batch_size=4, device="cpu", num_threads=1,
            output=tmp_path / "scores.json",
        )
    )  # fmt: skip
    assert result.count == 5
    assert seen == (captions_of("train", 4) * 2)[:5]


def test_a_sweep_of_guidance(runs, tmp_path):
    def sweep(**options):
        defaults = {
            "num_samples": 6,
            "num_steps": (3,),
            "batch_size": 3,
            "metrics": "fd,clip_score",
            "num_threads": 1,
        }
        defaults |= {"device": "cpu", "output_dir": tmp_path / "sweep", "checkpoint": runs / "text"}
        defaults |= {
            "cfg_scale": (1.0, 2.0),
            "ig_scale": (1.0, 1.5),
            "clip": str(runs / "clip"),
            "split": "val",
        }
        return sweep_guidance.run(SweepOptions(**{**defaults, **options}))

    scored = sweep()
    assert len(scored) == 4
    assert len({json.dumps(point.result.metrics, sort_keys=True, default=str) for point in scored}) == 4
    again = sweep()
    assert [point.result.metrics for point in again] == [point.result.metrics for point in scored]
    with pytest.raises(ConfigError, match="prompts"):
        sweep(prompts=runs / "prompts.txt")
