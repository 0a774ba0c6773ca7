"""Folders for inference: whole, the same networks, a card that says what they are; and the hub, with a stand-in."""

import json
import warnings
from pathlib import Path

import pytest
import torch

import unirae
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from tiny_training import tiny_config
from unirae.app import sample_dit
from unirae.app.export import Options, run
from unirae.app.inputs.generator import open_generator
from unirae.app.inputs.sampler_options import SamplerOptions
from unirae.app.run.assembly import assemble
from unirae.app.weights.model_card import _images_in_words, data_in_words, generator_in_words
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.core.io import file_sha256
from unirae.models.checkpoints.hub import from_hub, push_to_hub


@pytest.fixture
def stage1(tmp_path):
    write_checkpoint(tmp_path / "rae")
    return tmp_path / "rae"


@pytest.fixture
def stage2(tmp_path, stage1):
    write_stage2_checkpoint(tmp_path / "dit", stage1)
    return tmp_path / "dit"


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_an_autoencoder_is_the_same_from_its_folder(stage1, tmp_path):
    folder = run(Options(checkpoint=stage1, output=tmp_path / "out"))
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert equal(unirae.load_rae(folder), unirae.load_rae(stage1))
    raw = run(Options(checkpoint=stage1, output=tmp_path / "raw", weights="model"))
    assert equal(unirae.load_rae(raw), unirae.load_rae(stage1, ema=False))
    assert not equal(unirae.load_rae(raw), unirae.load_rae(stage1))


def test_a_generator_takes_its_autoencoder_along(stage2, tmp_path):
    folder = run(Options(checkpoint=stage2, output=tmp_path / "out"))
    expected = unirae.load_dit(stage2), unirae.load_rae(stage2)
    for run_folder in ("rae", "dit"):
        (tmp_path / run_folder).rename(tmp_path / f"gone_{run_folder}")
    moved = folder.rename(tmp_path / "moved")
    assert equal(unirae.load_dit(moved), expected[0])
    assert equal(unirae.load_rae(moved), expected[1])
    once_more = run(Options(checkpoint=moved, output=tmp_path / "again"))
    assert equal(unirae.load_dit(once_more), expected[0])


def test_its_samples_are_those_of_the_checkpoint(stage2, tmp_path):
    folder = run(Options(checkpoint=stage2, output=tmp_path / "out"))
    images = []
    for source in (stage2, folder):
        output = tmp_path / f"samples-{source.name}"
        options = {"num_samples": 4, "num_steps": 4, "batch_size": 4, "device": "cpu"}
        sample_dit.run(sample_dit.Options(checkpoint=source, output_dir=output, **options))
        images.append((output / "000003.png").read_bytes())
    assert images[0] == images[1]


def test_the_card_has_scores_and_picture(stage2, tmp_path):
    from PIL import Image

    (stage2 / "eval").mkdir()
    result = {"metrics": {"fid": 3.25}, "labels": {"fid": "fid@64"}, "count": 64}
    result |= {"uncertainty": {}, "warnings": []}
    sha256 = file_sha256(stage2 / "checkpoints/last.ckpt")
    sampler = {"checkpoint_sha256": sha256, "weights": "EMA 0.999", "solver": "euler"}
    for name, of in (
        ("fid", sampler),
        ("raw", sampler | {"weights": "raw"}),
        ("other", {"checkpoint_sha256": "x"}),
    ):
        number = {"fid": 3.25, "raw": 4.5, "other": 5.5}[name]
        content = {**result, "metrics": {"fid": number}, "settings": {"images": {"sampler": of}}}
        (stage2 / f"eval/{name}.json").write_text(json.dumps(content))
    (stage2 / "eval/old.json").write_text("{}")  # of another program or version
    (stage2 / "samples").mkdir()
    Image.new("RGB", (8, 8)).save(stage2 / "samples/step-0000009.png")
    folder = run(Options(checkpoint=stage2, output=tmp_path / "out", license="mit"))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "| fid@64 | 3.25 | 64 |" in card
    assert "4.5" not in card  # of the raw weights
    assert "5.5" not in card  # of another checkpoint
    raw = run(Options(checkpoint=stage2, output=tmp_path / "raw", weights="model"))
    again = run(Options(checkpoint=raw, output=tmp_path / "raw_again"))
    assert "| fid@64 | 4.5 | 64 |" in (raw / "README.md").read_text()
    assert "| weights | raw |" in (again / "README.md").read_text()
    generator = open_generator(SamplerOptions(checkpoint=again), torch.device("cpu"))
    assert generator.settings["weights"] == "raw"
    assert "![What the model makes](samples.png)" in card
    assert (folder / "samples.png").is_file()
    assert "| fid@64 | 3.25 | 64 | samples: euler, unguided | images |" in card


def test_the_card_speaks_in_words(stage2, stage1, tmp_path):
    def rows(checkpoint):
        folder = run(Options(checkpoint=checkpoint, output=tmp_path / f"card-{checkpoint.name}"))
        lines = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| ")]
        return dict(line.strip("| ").split(" | ", 1) for line in lines if not line.startswith("| |"))

    generator = rows(stage2)
    assert generator["network"] == (
        "DiT^DH: a trunk of 1 blocks of width 16, 2 heads; a head of 1 blocks of width 32, 2 heads"
    )
    assert generator["latents"] == "4×4 of 16 numbers"
    assert generator["classes"].startswith("2: ")
    autoencoder = rows(stage1)
    assert autoencoder["encoder"] == "tiny (MAE)"
    assert autoencoder["it reads"] == autoencoder["it makes"] == "32×32 px"
    assert autoencoder["latents"] == "4×4 tokens of 16 numbers"
    assert generator["data"] == autoencoder["data"] == "synthetic pictures: gradients with polygons"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"_target_": "unirae.data.emoji.EmojiSource"}, "the emoji that come with UniRAE (Noto Color Emoji, 64 px)"),
        ({"_target_": "x.HFSource", "data_dir": "a/b"}, "a data set in the Hugging Face format: a/b"),
        ({"_target_": "x.FolderSource", "data_dir": "/data/cats"}, "a folder of images: cats"),
        ({"_target_": "mine.Scans"}, "Scans"),
        ({}, None),
    ],
)  # fmt: skip
def test_data_in_words(source, words):
    assert data_in_words({"source": source}) == words


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ({"data": "emoji", "fingerprint": {"source": "emoji", "split": "val"}}, "validation split of emoji"),
        ({"data": "hf", "fingerprint": {"path": "outputs/mine", "split": "train"}}, "training split of mine"),
        ({"data": "hf", "fingerprint": {"path": "a/b"}}, "a/b"),
        ({}, "images"),
    ],
)
def test_what_was_compared_with_in_words(recorded, words, monkeypatch, tmp_path):
    (tmp_path / "outputs/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert _images_in_words(recorded) == words


def test_classes_in_words():
    dit = {"kind": "dit", "time_shift": 2.0}
    dit["architecture"] = {
        "hidden_size": 8,
        "depth": 2,
        "num_heads": 1,
        "in_channels": 3,
        "input_size": [4, 6],
    }

    def classes(count, names):
        sizes = dit["architecture"] | {"num_classes": count}
        return generator_in_words({**dit, "architecture": sizes}, names)["classes"]

    assert classes(0, []) == "none: unconditional"
    assert classes(2, ["cat", "dog"]) == "2: cat, dog"
    assert classes(3, []) == "3"
    assert classes(30, [f"c{n}" for n in range(30)]).endswith("c18, c19, …")


def test_scores_of_the_run_itself_reach_the_card(tmp_path):
    """Training scores before there is a file to name: its results are known by their step."""
    trained = tmp_path / "run"
    config = tiny_config("trainer.max_steps=2", output_dir=trained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assemble(config, experiment="tiny", checkpoint=None).fit()
    result = json.loads((trained / "eval/step-0000002.json").read_text())
    earlier = json.loads(json.dumps(result))
    earlier["settings"]["images"]["step"] = 1
    earlier["metrics"]["psnr"] = 77.5
    (trained / "eval/step-0000001.json").write_text(json.dumps(earlier))
    card = (run(Options(checkpoint=trained, output=tmp_path / "out")) / "README.md").read_text()
    psnr = f"{result['metrics']['psnr']:.5g}"
    of = f"the originals, validation split of {result['settings']['images']['data']}"
    assert f"| psnr | {psnr} | {result['count']} | reconstructions | {of} |" in card
    assert "77.5" not in card
    raw = run(Options(checkpoint=trained, output=tmp_path / "raw", weights="model"))
    assert "None were recorded of these weights." in (raw / "README.md").read_text()


def test_the_card_takes_the_runs_own_samples_alone(stage2, tmp_path):
    from PIL import Image

    others = ("samples.png", "samples-of-others.png", "samples/sweep.png", "samples/step-final.png")
    (stage2 / "samples").mkdir()
    for name in others:
        Image.new("RGB", (8, 8)).save(stage2 / name)
    folder = run(Options(checkpoint=stage2, output=tmp_path / "without"))
    assert not list(folder.glob("samples*"))
    for step, shade in ((20_000_000, 200), (9, 100)):  # the newest by its number, not by its file's date
        Image.new("RGB", (8, 8), (shade,) * 3).save(stage2 / f"samples/step-{step:07d}.png")
    folder = run(Options(checkpoint=stage2, output=tmp_path / "with"))
    assert Image.open(folder / "samples.png").getpixel((0, 0)) == (200, 200, 200)
    again = run(Options(checkpoint=folder, output=tmp_path / "again"))
    assert (again / "samples.png").read_bytes() == (folder / "samples.png").read_bytes()
    given = run(Options(checkpoint=stage2, output=tmp_path / "given", picture=stage2 / "samples/sweep.png"))
    assert (given / "samples.png").read_bytes() == (stage2 / "samples/sweep.png").read_bytes()


def test_a_folder_stands_where_a_checkpoint_does(stage1, tmp_path):
    from unirae.app import evaluate
    from unirae.app.inputs.encoder import find_encoder

    folder = run(Options(checkpoint=stage1, output=tmp_path / "out"))
    scores = []
    for source in (stage1, folder):
        options = {
            "metrics": "psnr",
            "num_samples": 6,
            "device": "cpu",
            "output": tmp_path / f"{source.name}.json",
        }
        scores.append(evaluate.run(evaluate.Options(images=str(source), **options)).scores["psnr"])
    assert scores[0] == scores[1]
    found = find_encoder(str(folder), kind=None, model_name=None, weights=None)
    assert found.input_size == (32, 32)


def test_damage_is_named(stage1, tmp_path):
    folder = run(Options(checkpoint=stage1, output=tmp_path / "out"))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors is truncated"):
        unirae.load_rae(folder)
    weights.write_bytes(whole)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "format_version": 2}))
    with pytest.raises(WeightsError, match="format_version 2"):
        unirae.load_rae(folder)
    about["rae"]["decoder"]["width"] = 24
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"decoder"):
        unirae.load_rae(folder)


def test_options_that_do_not_apply(stage1, stage2, tmp_path):
    with pytest.raises(ConfigError, match="--rae belongs to a generator"):
        run(Options(checkpoint=stage1, output=tmp_path / "a", rae=stage1))
    with pytest.raises(ConfigError, match="--private is for a new repository"):
        run(Options(checkpoint=stage1, output=tmp_path / "a", private=True))
    with pytest.raises(ConfigError, match=r"--picture .*no such file"):
        run(Options(checkpoint=stage1, output=tmp_path / "a", picture=Path("gone.png")))
    assert not (tmp_path / "a").exists()


def test_the_hub_gets_the_folder_and_gives_it_back(stage2, tmp_path, monkeypatch):
    """Uploads and downloads themselves are the hub's library's; here it copies between folders."""
    import shutil

    import huggingface_hub

    hub = tmp_path / "hub"

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo, *, private, exist_ok):
            return f"hub/{repo}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, hub / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **_: str(hub / repo))
    folder = run(Options(checkpoint=stage2, output=tmp_path / "out", push_to_hub="me/dit"))
    fetched = from_hub("me/dit")
    assert equal(unirae.load_dit(fetched), unirae.load_dit(folder))
    assert equal(unirae.load_rae(fetched), unirae.load_rae(folder))
    (hub / "me/dit/config.json").write_text("{}")
    with pytest.raises(WeightsError, match="is no model of unirae"):
        from_hub("me/dit")
    with pytest.raises(WeightsError, match="is no model folder of unirae"):
        push_to_hub(tmp_path, "me/x")


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        WeightsError, match=r"cannot fetch me/nothing .*hf download me/nothing --local-dir DIR"
    ):
        from_hub("me/nothing")
