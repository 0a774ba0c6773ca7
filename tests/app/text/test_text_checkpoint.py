"""A checkpoint that was trained on captions, through sample_dit.py."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import unirae
from processes import command_in_processes
from text_runs import PROMPTS
from tiny_text import text_encoder_folder
from unirae.app import sample_dit
from unirae.core.errors import ConfigError, RunInterrupted
from unirae.core.io import load_tensors, save_tensors
from unirae.evaluation.sampling.image_sampler import ImageSampler


def pixels(folder):
    files = sorted(file for file in folder.rglob("*.png") if re.fullmatch(r"\d+\.png", file.name))
    return {str(file.relative_to(folder)): np.array(Image.open(file)) for file in files}


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def refused(capsys, monkeypatch, command, *words, status=2):
    monkeypatch.setattr(sys, "argv", [f"{command.__name__}.py", *map(str, words)])
    assert command.main() == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


# ---------------------------------------------------------------- samples


def test_a_folder_of_prompts(sample, runs):
    folder = sample(cfg_scale=2.0, negative_prompt="ugly", ig_scale=1.5)
    found = pixels(folder)
    assert list(found) == [f"00000{k}.png" for k in range(4)]
    assert all(picture.shape == (32, 32, 3) and picture.std() > 5 for picture in found.values())
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == PROMPTS
    kept = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["negative_prompt"]) for row in kept] == [(text, "ugly") for text in PROMPTS]
    assert not (folder / "labels.csv").exists()
    settings = json.loads((folder / "settings.json").read_text())["settings"]
    assert (settings["cfg_scale"], settings["ig_scale"], settings["label_sampling"]) == (2.0, 1.5, "prompts")
    assert same(pixels(sample("again", prompts=folder / "prompts.jsonl", cfg_scale=2.0, ig_scale=1.5)), found)
    dit, rae = unirae.load_dit(runs / "text"), unirae.load_rae(runs / "text")
    made = unirae.sample(
        dit,
        rae,
        prompts=PROMPTS,
        negative_prompt="ugly",
        cfg_scale=2.0,
        ig_scale=1.5,
        num_steps=4,
        batch_size=3,
    )
    levels = (made.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.abs(levels.astype(int) - np.stack(list(found.values())).astype(int)).max() <= 1


def test_prompts_in_the_command_and_in_a_file_are_the_same(sample):
    wanted = pixels(sample("file"))
    assert same(pixels(sample("words", prompt=tuple(PROMPTS))), wanted)
    assert not same(pixels(sample("seed", seed=1)), wanted)
    assert same(pixels(sample("moved", text_encoder=str(text_encoder_folder("bert")))), wanted)


def test_what_a_line_says_itself(sample, tmp_path):
    lines = [
        {"prompt": "a", "seed": 7, "cfg_scale": 3.0},
        {"prompt": "b", "negative_prompt": "c"},
        {"prompt": "d"},
    ]
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    found = pixels(sample("lines", prompts=file, cfg_scale=1.5))
    alone = pixels(sample("alone", prompt=("a",), seed=7, cfg_scale=3.0))
    difference = np.abs(found["000000.png"].astype(int) - alone["000000.png"].astype(int))
    assert difference.max() <= 1
    three = pixels(sample("plain", prompt=("a", "b", "d"), cfg_scale=1.5))
    assert np.abs(found["000002.png"].astype(int) - three["000002.png"].astype(int)).max() <= 1
    for name in ("000000.png", "000001.png"):
        assert not np.array_equal(found[name], three[name])


@pytest.mark.parametrize("layout", ["plain", "geneval", "dpg"])
def test_an_interrupted_folder_goes_on(sample, tmp_path, monkeypatch, layout):
    own = {"layout": layout, "images_per_prompt": 4, "cfg_scale": 2.0}
    lines = [{"prompt": text, "name": f"p{k}", "tag": "t"} for k, text in enumerate(PROMPTS)]
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    whole = sample("whole", prompts=file, **own)
    calls, original = [], ImageSampler.__call__

    def interrupted(self, indices):
        calls.append(indices)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(ImageSampler, "__call__", interrupted)
        with pytest.raises((KeyboardInterrupt, RunInterrupted)):
            sample("parts", prompts=file, **own)
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "parts").rglob("*.png")}
    assert made
    parts = sample("parts", prompts=file, **own)
    assert {
        file: file.stat().st_mtime_ns for file in made if re.fullmatch(r"\d+\.png", file.name)
    }.items() <= {file: file.stat().st_mtime_ns for file in parts.rglob("*.png")}.items()
    assert {f.relative_to(parts) for f in parts.rglob("*")} == {
        f.relative_to(whole) for f in whole.rglob("*")
    }
    for made_file in whole.rglob("*.png"):
        assert np.array_equal(
            np.array(Image.open(made_file)), np.array(Image.open(parts / made_file.relative_to(whole)))
        )
    with pytest.raises(ConfigError, match="seed"):
        sample("parts", prompts=file, **own, seed=3)


def test_two_processes_write_the_same_pictures(sample, runs, tmp_path):
    one = sample("one", images_per_prompt=2)
    words = [
        "--checkpoint",
        runs / "text",
        "--device",
        "cpu",
        "--num_threads",
        1,
        "--prompts",
        runs / "prompts.txt",
    ]
    words += ["--images_per_prompt", 2, "--num_steps", 4, "--batch_size", 3, "--output_dir", tmp_path / "two"]
    command_in_processes("sample_dit", *words)
    assert same(pixels(tmp_path / "two"), pixels(one))


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("text", [], "was trained on captions: give --prompt TEXT or --prompts FILE"),
        ("text", ["--labels", "0,1"], "was trained on captions; give --prompt or --prompts"),
        ("text", ["--prompt", "a", "--labels", "0"], "--labels are for models of classes, --prompt for models of"),
        ("labels", ["--prompt", "a"], "--prompt: .* was trained on labels, not on captions; see --labels"),
        ("labels", ["--text_encoder", "minilm"], "--text_encoder: .* was trained on labels"),
        ("text", ["--prompt", "a", "--text_encoder", "/no/such"], "the text encoder /no/such does not exist"),
        ("text", ["--prompt", "a", "--text_encoder", "QWEN"], "is not the one that the network was trained with"),
        ("text", ["--prompt", "a", "--guide_checkpoint", "LABELS", "--cfg_scale", "2"], "guid"),
        ("text", ["--prompt", "a", "--prompts", "b"], "leave one out"),
        ("text", ["--prompts", "/no/such.txt"], "no such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(runs, tmp_path, capsys, monkeypatch, model, words, message):
    places = {"QWEN": str(text_encoder_folder("qwen3")), "LABELS": str(runs / "labels")}
    words = [places.get(word, word) for word in words]
    where = ["--checkpoint", runs / model, "--device", "cpu", "--output_dir", tmp_path / "out"]
    said = refused(capsys, monkeypatch, sample_dit, *where, *words)
    assert re.search(message, said), said
    assert not list(tmp_path.glob("out/*.png"))


def test_a_checkpoint_whose_text_encoder_is_gone_names_the_option(runs, tmp_path, capsys, monkeypatch):
    content = load_tensors(runs / "text/checkpoints/last.ckpt")
    identity = content["unirae"]["dit"]["text_encoder"]
    identity |= {"name": "/gone/encoder", "source": "/gone/encoder"}
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    save_tensors(tmp_path / "run/checkpoints/last.ckpt", content)
    where = ["--checkpoint", tmp_path / "run", "--rae", runs / "rae", "--device", "cpu", "--prompt", "a"]
    where += ["--output_dir", tmp_path / "out", "--num_steps", 2]
    said = refused(capsys, monkeypatch, sample_dit, *where)
    assert "/gone/encoder does not exist" in said
    assert "Say where it is with --text_encoder PATH" in said
    monkeypatch.setattr(
        sys, "argv", ["sample_dit.py", *map(str, where), "--text_encoder", str(text_encoder_folder("bert"))]
    )
    assert not sample_dit.main()
    assert (tmp_path / "out/000000.png").exists()
