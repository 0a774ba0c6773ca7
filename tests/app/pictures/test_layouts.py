"""Layouts of folders of samples: what their evaluators find there, and what these could not read."""

import json
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from unirae.app.inputs.prompt_list import PromptList
from unirae.app.inputs.prompts import Prompt, read_prompts
from unirae.app.pictures.layouts import layout_of
from unirae.app.pictures.sample_folder import SampleFolder
from unirae.core.errors import ConfigError, DataError

SIZE = (8, 8)


def image(number):
    """A picture that is told from all others by its colour."""
    return torch.full((3, *SIZE), number * 10 + 5, dtype=torch.uint8)


def filled(folder, prompts, layout, *, each=4, settings=None, stop=None):
    """The folder of these prompts, filled by batches of three, up to an image."""
    listed = PromptList(prompts=prompts, images_per_prompt=each)
    samples = SampleFolder.of_prompts(
        folder, settings=settings or {"seed": 0}, prompts=listed, layout=layout, size=SIZE
    )
    samples.check()
    samples.write_record({}, [], [])
    for start in range(0, len(listed), 3):
        batch = range(start, min(start + 3, len(listed)))
        if stop is not None and start >= stop:
            return samples
        if not samples.is_complete(batch):
            samples.save(batch, torch.stack([image(n) for n in batch]))
    samples.write_record({}, [], [7])
    samples.write_captions()
    samples.write_grid()
    return samples


@pytest.fixture
def geneval(tmp_path):
    """Prompts as in GenEval's file."""
    rows = [
        {"tag": "colors", "include": [{"class": "cat", "count": 1}], "prompt": "a photo of a café"},
        {"tag": "counting", "prompt": "two dogs", "seed": 3},
        {"tag": "position", "prompt": "a cow left of a dog"},
    ]
    (tmp_path / "evaluation_metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return rows, read_prompts(tmp_path / "evaluation_metadata.jsonl")


def named(*names):
    return [Prompt(text=f"prompt of {name}", name=name) for name in names]


def tree(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def read_as_geneval(folder):
    """What GenEval's evaluator would look at: the metadata of each image, by its file."""
    found = {}
    for name in os.listdir(folder):
        if not (folder / name).is_dir() or not name.isdigit():
            continue
        metadata = json.loads((folder / name / "metadata.jsonl").read_text(encoding="ascii"))
        for picture in os.listdir(folder / name / "samples"):
            if re.match(r"\d+\.png", picture):
                found[f"{name}/{picture}"] = metadata
    return found


def read_as_dpg(folder, *, resolution):
    """The colours of the four squares that DPG-Bench's evaluator would cut out, by the prompt's name."""
    found, r = {}, resolution
    for name in os.listdir(folder):
        try:
            with Image.open(folder / name) as picture:
                corners = [(0, 0, r, r), (r, 0, 2 * r, r), (0, r, r, 2 * r), (r, r, 2 * r, 2 * r)]
                cut = [np.array(picture.crop(corner)) for corner in corners]
        except OSError:
            found[name] = None
            continue
        assert picture.size == (2 * r, 2 * r)
        assert all(np.unique(part).size == 1 for part in cut), "one image alone, without a border"
        found[name.split(".")[0]] = [int(part[0, 0, 0]) for part in cut]
    return found


def test_geneval_finds_the_images_of_each_line(tmp_path, geneval):
    rows, prompts = geneval
    filled(tmp_path / "out", prompts, "geneval")
    assert read_as_geneval(tmp_path / "out") == {
        f"{p:05d}/{i:04d}.png": row for p, row in enumerate(rows) for i in range(4)
    }
    with Image.open(tmp_path / "out/00001/samples/0002.png") as picture:
        assert np.array(picture)[0, 0, 0] == image(6)[0, 0, 0]
    assert (tmp_path / "out/00002/grid.png").is_file()
    assert not (tmp_path / "out/metadata.jsonl").exists()


@pytest.mark.parametrize(
    ("prompt", "lacking"),
    [
        (Prompt(text="a", line='{"text": "a", "tag": "x"}'), "no prompt,"),
        (Prompt(text="a", line='{"prompt": "a"}'), "no tag,"),
        (Prompt(text="a"), "no prompt and no tag,"),
    ],
)
def test_geneval_asks_for_its_own_fields(tmp_path, geneval, prompt, lacking):
    with pytest.raises(ConfigError, match=f"--layout geneval: prompt 4 has {lacking}"):
        filled(tmp_path / "out", [*geneval[1], prompt], "geneval")
    assert not (tmp_path / "out").exists()


def test_dpg_finds_four_images_in_the_picture_of_each_prompt(tmp_path):
    filled(tmp_path / "out", named("10", "x y", "ü"), "dpg")
    assert read_as_dpg(tmp_path / "out", resolution=8) == {
        "10": [5, 15, 25, 35],
        "x y": [45, 55, 65, 75],
        "ü": [85, 95, 105, 115],
        "parts": None,
    }


@pytest.mark.parametrize(("each", "size"), [(1, (8, 8)), (2, (16, 8)), (3, (16, 16))])
def test_dpg_of_fewer_images(tmp_path, each, size):
    filled(tmp_path / "out", named("a"), "dpg", each=each)
    with Image.open(tmp_path / "out/a.png") as picture:
        assert picture.size == size
        assert [picture.getpixel(at)[0] for at in ((0, 0), (8, 0), (0, 8))[:each]] == [5, 15, 25][:each]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([Prompt(text="a")], "prompt 1 has no name"),
        (named("a", "b", "A"), "prompts 1 and 3 are both called 'A'"),
        (named("v1.5"), "'v1.5', the name of prompt 1, cannot be"),
        *[
            (named(name), "cannot be that of a picture")
            for name in ("", "../x", "a\0", "x" * 300, "\ud83d", " a")
        ],
    ],
)
def test_dpg_asks_for_names_that_can_be_files(tmp_path, prompts, said):
    with pytest.raises(ConfigError, match=said):
        filled(tmp_path / "out", prompts, "dpg")


def test_dpg_refuses_what_its_evaluator_would_cut_wrongly():
    with pytest.raises(ConfigError, match=r"--images_per_prompt 5: .* at most 4"):
        layout_of("dpg", 5)
    with pytest.raises(ConfigError, match="cuts squares, and this model's images are 8×16"):
        layout_of("dpg", 4).check(named("a"), size=(8, 16))


@pytest.mark.parametrize("layout", ["plain", "geneval", "dpg"])
@pytest.mark.parametrize("stop", [0, 3, 6, 12])
def test_an_interrupted_folder_goes_on_to_the_same_files(tmp_path, geneval, layout, stop):
    prompts = named("a", "b", "c") if layout == "dpg" else geneval[1]
    filled(tmp_path / "whole", prompts, layout)
    filled(tmp_path / "parts", prompts, layout, stop=stop)
    filled(tmp_path / "parts", prompts, layout)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


@pytest.mark.parametrize("layout", ["plain", "geneval", "dpg"])
def test_a_folder_grows_by_prompts_to_the_same_files(tmp_path, geneval, layout):
    prompts = named("a", "b", "c") if layout == "dpg" else geneval[1]
    filled(tmp_path / "whole", prompts, layout)
    for count in (1, 2, 3):
        filled(tmp_path / "grown", prompts[:count], layout)
    assert tree(tmp_path / "grown") == tree(tmp_path / "whole")


def test_a_lost_image_and_a_damaged_one(tmp_path):
    samples = filled(tmp_path, named("a", "b"), "dpg")
    before = tree(tmp_path)
    samples.file(5).unlink()
    (tmp_path / "b.png").unlink()
    filled(tmp_path, named("a", "b"), "dpg")
    assert tree(tmp_path) == before
    samples.file(5).write_bytes(before["b.png"][:60])
    with pytest.raises(DataError, match=r"000005\.png cannot be read .*delete it and repeat"):
        filled(tmp_path, named("a", "b"), "dpg")
