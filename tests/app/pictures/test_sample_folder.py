"""A folder of the images of prompts: what it says of them, and which lists it goes on with."""

import json

import pytest
import torch

from unirae.app.inputs.images import open_images
from unirae.app.inputs.prompt_list import PromptList
from unirae.app.inputs.prompts import Prompt, read_prompts
from unirae.app.pictures.sample_folder import SampleFolder
from unirae.core.errors import ConfigError
from unirae.data.folder import FolderSource
from unirae.models.denoisers.condition import Condition

PROMPTS = [
    Prompt(text="a cat", name="1"),
    Prompt(text="", name="2", seed=3),
    Prompt(text="красный\u2028 куб", name="3"),
]


def of(folder, prompts=PROMPTS, *, each=2, layout="plain", settings=None):
    listed = PromptList(prompts=prompts, images_per_prompt=each)
    return SampleFolder.of_prompts(
        folder, settings=settings or {"seed": 0}, prompts=listed, layout=layout, size=(8, 8)
    )


@pytest.fixture
def made(tmp_path):
    """A folder of three prompts with two images each."""
    samples = of(tmp_path)
    samples.check()
    samples.save(range(6), torch.arange(6 * 3 * 64).remainder(256).byte().view(6, 3, 8, 8))
    samples.write_record({"checkpoint": "x"}, [], [4])
    samples.write_captions()
    samples.write_grid()
    return tmp_path


def test_the_folder_is_a_data_set_with_captions(made):
    rows = [json.loads(line) for line in (made / "metadata.jsonl").read_text().split("\n")[:-1]]
    assert rows == [{"file_name": f"{n:06d}.png", "text": PROMPTS[n // 2].text} for n in range(6)]
    assert not (made / "labels.csv").exists()


def test_hugging_face_reads_the_folder_without_its_overview(made, tmp_path_factory):
    import datasets

    found = datasets.load_dataset(str(made), cache_dir=str(tmp_path_factory.mktemp("cache")), split="train")
    assert [row["text"] for row in found] == [PROMPTS[n // 2].text for n in range(6)]
    assert all(row["image"].size == (8, 8) for row in found)


def test_our_reader_takes_the_folder_without_its_overview(made):
    found = FolderSource(split="train", data_dir=made, val_fraction=0.0, labels=False)
    captions = {found.name_of(i): found.captions_of(i) for i in range(len(found))}
    assert captions == {f"{n:06d}.png": (PROMPTS[n // 2].text,) for n in range(6)}


@pytest.mark.parametrize(("layout", "where"), [("plain", "."), ("geneval", "."), ("dpg", "parts")])
def test_scores_take_the_images_alone(tmp_path, caplog, layout, where):
    prompts = [Prompt(text=p.text, name=p.name, line='{"prompt": "", "tag": ""}') for p in PROMPTS]
    samples = of(tmp_path, prompts, layout=layout)
    samples.save(range(6), torch.zeros(6, 3, 8, 8, dtype=torch.uint8))
    samples.write_record({}, [], [])
    samples.write_captions()
    samples.write_grid()
    with caplog.at_level("INFO"):
        found = open_images(str(tmp_path / where))
    assert len(found.images) == 6
    assert found.about == {"sampler": samples.settings}
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    lines = ["3 other files"] if layout == "geneval" else []  # the metadata of each prompt
    assert [line.rpartition("left out ")[2] for line in said] == lines


def test_what_says_something_of_the_whole_list_is_no_setting_of_the_folder(tmp_path):
    described = PromptList(prompts=[Prompt(text="a", seed=1, negative="x", cfg_scale=2.0)]).rule(
        lambda texts: Condition(tokens=torch.ones(len(texts), 1, 1), mask=torch.ones(len(texts), 1).bool()),
        seed=0,
    )
    samples = of(tmp_path, settings={"cfg_scale": 1.0, "guidance": "none", **described.describe()}, each=1)
    assert samples.settings == {
        "cfg_scale": 1.0,
        "label_sampling": "prompts",
        "labels": None,
        "images_per_prompt": 1,
        "layout": "plain",
    }


def test_the_record_has_the_hash_of_the_prompts_and_the_file_the_prompts(made):
    import hashlib

    record = json.loads((made / "settings.json").read_text())
    content = (made / "prompts.jsonl").read_bytes()
    assert record["prompts"] == {"number": 3, "sha256": hashlib.sha256(content).hexdigest()}
    assert record["settings"] == {"seed": 0, "layout": "plain", "images_per_prompt": 2}
    assert record["num_samples"] == 6
    assert "label_counts" not in record
    assert read_prompts(made / "prompts.jsonl") == PROMPTS


def test_the_list_may_grow(made):
    longer = of(made, [*PROMPTS, Prompt(text="new")])
    longer.check()
    assert longer.evaluations_before == [4]
    assert longer.is_complete(range(6))
    assert not longer.is_complete(range(6, 8))
    longer.write_record({}, [], [])  # and then it was interrupted, before any image
    longer.check()
    of(made, [*PROMPTS, Prompt(text="new"), Prompt(text="newer")]).check()


def test_a_crash_between_the_two_files_leaves_the_old_list_good(made):
    longer = of(made, [*PROMPTS, Prompt(text="new")])
    (made / "prompts.jsonl").write_text("".join(f"{line}\n" for line in longer.prompts.lines()))
    of(made).check()
    longer.check()


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (PROMPTS[:2], "made with 3 prompts; it can grow but not shrink to 2"),
        (
            [PROMPTS[0], Prompt(text="b", name="2", seed=3), PROMPTS[2]],
            "prompt of prompt 2 is '' there, 'b' now",
        ),
        ([PROMPTS[0], Prompt(text="", name="2"), PROMPTS[2]], "seed of prompt 2 is 3 there, None now"),
        (
            [*PROMPTS[:2], Prompt(text=PROMPTS[2].text, name="3", cfg_scale=2.0)],
            "cfg_scale of prompt 3 is None there",
        ),
        ([PROMPTS[1], PROMPTS[0], PROMPTS[2]], "prompt of prompt 1 is 'a cat' there, '' now"),
        ([Prompt(text="new"), *PROMPTS], "prompt of prompt 1 is 'a cat' there, 'new' now"),
    ],
)
def test_the_list_may_not_change(made, prompts, said):
    with pytest.raises(ConfigError, match=said):
        of(made, prompts).check()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b'{"prompt": "a cat", "name": "1"}\n'])
def test_another_list_is_refused_also_without_the_file_of_the_old_one(made, content):
    file = made / "prompts.jsonl"
    file.unlink() if content is None else file.write_bytes(content)
    of(made).check()
    with pytest.raises(ConfigError, match="was made with other prompts"):
        of(made, [*PROMPTS[:2], Prompt(text="x")]).check()


def test_other_settings_layouts_and_kinds_of_folders_are_refused(made):
    for other in (
        of(made, each=3),
        of(made, layout="dpg"),
        of(made, settings={"seed": 1}),
        SampleFolder(made, settings={"seed": 0}, count=6),
    ):
        with pytest.raises(ConfigError, match="was made with other settings"):
            other.check()


@pytest.mark.parametrize("before", ["plain", "dpg"])
def test_the_record_is_found_wherever_the_layout_keeps_it(tmp_path, before):
    of(tmp_path, layout=before).write_record({}, [], [])
    after = "dpg" if before == "plain" else "plain"
    with pytest.raises(ConfigError, match=f"layout: {before} there, {after} now"):
        of(tmp_path, layout=after).check()


def test_a_folder_of_samples_called_parts_is_not_its_parent(tmp_path):
    SampleFolder(tmp_path / "parts", settings={"seed": 0}, count=2).write_record({}, [0, 1], [])
    of(tmp_path).check()


def test_prompts_do_not_go_on_in_a_folder_of_labels(tmp_path):
    SampleFolder(tmp_path, settings={"seed": 0}, count=2).write_record({}, [0, 1], [])
    with pytest.raises(ConfigError, match="layout: None there, plain now"):
        of(tmp_path).check()


@pytest.mark.parametrize("layout", ["plain", "dpg"])
def test_images_without_a_record_are_refused(tmp_path, layout):
    (tmp_path / "000000.png").touch()
    with pytest.raises(ConfigError, match=r"holds images but no settings\.json"):
        of(tmp_path, layout=layout).check()


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"settings": 1, "num_samples": 1, "network_evaluations": []}']
)
def test_a_record_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ConfigError, match=r"was not written by sample_dit\.py"):
        of(tmp_path).check()


def test_the_overview_carries_the_words(made):
    from PIL import Image

    with Image.open(made / "grid.png") as grid:
        width, height = grid.size
    assert width == 3 * (192 + 10) + 10
    assert height > 2 * (192 + 20) + 10, "lines of words make rows taller than their pictures"
