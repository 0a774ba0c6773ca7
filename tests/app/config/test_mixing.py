"""The configuration of a mix: entries are choices with keys, and what does not go together is one line."""

import shutil

import pytest
from PIL import Image

from unirae.app.config.composition import compose
from unirae.app.config.file_data import check_file_keys
from unirae.app.config.mixing import check_mix, data_folders, scored_config, source_config
from unirae.app.config.schema.data import OfRun
from unirae.app.config.targets import config_dir
from unirae.app.run import builders
from unirae.app.run.deciding import deciding_settings
from unirae.app.run.mixing import check_sources
from unirae.app.shell.argument_names import NAMES
from unirae.app.shell.devices import choose_data
from unirae.core.arguments import called
from unirae.core.errors import ConfigError, DataError

MIX = ("experiment=rae_tiny", "data=mix")


def data_of(*words: str) -> dict:
    return compose([*MIX, *words])["data"]


def test_an_entry_has_the_keys_of_its_choice_and_its_own_over_them():
    data = data_of(
        "data.sources=[{data: emoji, weight: 1}, {data: image_folder, data_dir: '/x (1)', weight: 3, "
        "source: {val_fraction: 0.5}, train_transform._target_: unirae.data.transforms.AdmCropFlip}]",
        "data.verify_contents=true",
    )
    emoji, folder = data["sources"]
    assert (emoji["name"], folder["name"]) == ("emoji", "image_folder")
    assert (emoji["weight"], folder["weight"]) == (1, 3)
    assert emoji["train_transform"] == {"_target_": "unirae.data.transforms.ScaleShift"}
    assert folder["train_transform"] == {"_target_": "unirae.data.transforms.AdmCropFlip"}
    assert folder["source"]["val_fraction"] == 0.5
    assert folder["data_dir"] == folder["source"]["data_dir"] == "/x (1)"
    assert folder["source"]["verify_contents"] is folder["verify_contents"] is True
    assert data["global_batch_size"] == 32, "the experiment's"


def test_a_source_is_configured_as_a_run_on_it_alone():
    data = data_of(
        "data.sources=[{data: emoji}, {data: image_folder, data_dir: /x}]", "data.global_batch_size=8"
    )
    for number, choice in enumerate(("emoji", "image_folder")):
        folder = [] if choice == "emoji" else ["data.data_dir=/x"]
        alone = compose(["experiment=rae_tiny", f"data={choice}", "data.global_batch_size=8", *folder])[
            "data"
        ]
        assert source_config(data, number) == alone
    assert set(OfRun.__annotations__) <= set(data)


@pytest.mark.parametrize(
    "folder", ["/x (1)", "/x,y", "/x: [y]", "/{x}", "/#x", "/x\udce9", "/x=y", "/ü", "2024_01"]
)
def test_paths_in_quotes_are_taken_as_they_stand(folder):
    data = data_of(f'data.sources=[{{data: emoji}}, {{data: image_folder, data_dir: "{folder}"}}]')
    assert data["sources"][1]["source"]["data_dir"] == folder


def test_keys_beside_the_entries_are_of_those_that_do_not_set_them():
    entries = "data.sources=[{data: emoji}, {data: photos, fast_decode: false}]"
    data = data_of(entries, "data.fast_decode=true", "data.on_bad_image=error")
    assert [entry["fast_decode"] for entry in data["sources"]] == [True, False]
    assert [entry["on_bad_image"] for entry in data["sources"]] == ["error", "error"]
    assert "fast_decode" not in data
    recipe = compose(["experiment=rae_dinov3_k7", "data=mix", entries])["data"]["sources"]
    crop = {"_target_": "unirae.data.transforms.AdmCenterCrop"}
    assert [entry["train_transform"] for entry in recipe] == [crop, crop], (
        "the experiment's, as of one data set"
    )


@pytest.mark.parametrize("column", ["prompt", {"long": 3, "short": 1}])
def test_a_column_of_captions_beside_the_entries_is_of_those_that_are_read_from_files(column):
    given = column if isinstance(column, str) else "{long: 3, short: 1}"
    entries = (
        "{data: emoji}, {data: image_folder, data_dir: /x}, {data: tar_shards, data_dir: /y, caption_column: txt}, "
        "{data: hf, data_dir: /z, caption_column: {alt: 1, text: 2}}"
    )
    data = data_of(f"data.sources=[{entries}]", f"data.caption_column={given}")
    expected = [None, column, "txt", {"alt": 1, "text": 2}]
    assert [entry["caption_column"] for entry in data["sources"]] == expected
    assert [entry["source"].get("caption_column") for entry in data["sources"]] == expected
    for number in range(4):
        check_file_keys(source_config(data, number))
    with pytest.raises(ConfigError) as error:
        data_of("data.sources=[{data: emoji}, {data: photos}]", f"data.caption_column={given}")
    assert str(error.value) == (
        f"data.caption_column={given}: none of the sources (emoji, photos) is read from a folder; choose "
        "data: image_folder, data: hf or data: tar_shards"
    )


def test_one_folder_by_other_columns_is_the_same_data():
    entries = "{data: tar_shards, data_dir: /x}, {data: tar_shards, data_dir: /x, caption_column: txt}"
    with pytest.raises(ConfigError, match=r"^data\.sources\[1\] is the same data as data\.sources\[0\]"):
        data_of(f"data.sources=[{entries}]")


def test_errors_of_captions_name_the_entry(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    folder = (
        f"{{data: image_folder, data_dir: {tmp_path}, source: {{val_fraction: 0}}, caption_column: nope}}"
    )
    config = compose([*MIX, f"data.sources=[{{data: emoji}}, {folder}]", "data.labels=false"])
    with called(NAMES), pytest.raises(DataError, match=r"choose another data\.sources\[1\]\.caption_column$"):
        builders.training_images(config, size=8, captions=True)


def test_labels_are_switched_off_where_folders_have_them():
    data = data_of("data.sources=[{data: emoji}, {data: image_folder, data_dir: /x}]", "data.labels=false")
    assert [entry["labels"] for entry in data["sources"]] == [True, False]
    assert data["sources"][1]["source"]["labels"] is False


def test_commands_open_the_source_that_is_scored():
    data = data_of("data.sources=[{data: emoji}, {data: synthetic, name: shapes}]", "data.scored=shapes")
    assert choose_data(None, None, data) == scored_config(data) == source_config(data, 1)
    assert scored_config(source_config(data, 0)) == source_config(data, 0)
    assert data_of("data.sources=[{data: emoji}, {data: synthetic}]", "data.scored=1")["scored"] == 1
    with pytest.raises(ConfigError, match="--data mix: neither a folder, a tar nor one of"):
        choose_data("mix", None, data)


def test_sources_of_one_choice_are_told_apart():
    data = data_of("data.sources=[{data: image_folder, data_dir: /x}, {data: image_folder, data_dir: /y}]")
    assert [entry["name"] for entry in data["sources"]] == ["image_folder", "image_folder_2"]
    assert data_folders(data) == {"data.sources[0].data_dir": "/x", "data.sources[1].data_dir": "/y"}


def test_one_folder_under_two_names_is_the_same_data(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    entries = ", ".join(
        f"{{data: image_folder, data_dir: {tmp_path / name}}}" for name in ("images", "link/")
    )
    with pytest.raises(ConfigError, match=r"^data\.sources\[1\] is the same data as data\.sources\[0\]"):
        data_of(f"data.sources=[{entries}]")


def test_folders_do_not_decide_a_runs_curves_and_weights_do():
    def settings(folder: str, weight: int) -> dict:
        words = (
            f"data.sources=[{{data: emoji}}, {{data: image_folder, data_dir: {folder}, weight: {weight}}}]"
        )
        return deciding_settings(compose([*MIX, words]))

    different = {key for key, value in settings("/x", 2).items() if settings("/y", 3)[key] != value}
    assert different == {"data.sources.image_folder.data_dir", "data.sources.image_folder.weight"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["[{data: emoij}]"],
            r"data\.sources\[0\]\.data=emoij: there is no such choice; did you mean emoji\?",
        ),
        (["[{data: default}]"], r"there is no such choice"),
        (["[{data: [emoji]}]"], r"data\.sources\[0\]\.data=\[emoji\]: there is no such choice"),
        (["[{data: emoji}, {data: mix}]"], r"data\.sources\[1\]\.data=mix: a mix holds no other mix"),
        (["[{weight: 2}]"], r"does not say which data it means: add data: NAME"),
        (["[emoji, photos]"], r"data\.sources\[0\]=emoji: give an entry with keys"),
        (["emoji"], r"data\.sources=emoji: give a list of entries, such as \[\{data: emoji, weight: 1\}"),
        (["{data: emoji}"], r"data\.sources=\{data: emoji\}: cannot be read\. Give all"),
        (["null"], r"data\.sources=null: give a list"),
        (["[{data: emoji, wieght: 2}]"], r"there is no such key; did you mean data\.sources\[0\]\.weight\?"),
        (["[{data: emoji, weight: 0}]"], r"data\.sources\[0\]\.weight=0: give a number above 0"),
        (["[{data: emoji, weight: -.inf}]"], "a number above 0"),
        (["[{data: emoji, weight: null}]"], "a number above 0"),
        (["[{data: synthetic, source.clases: 3}]"], r"did you mean data\.sources\[0\]\.source\.classes\?"),
        (
            ["[{data: synthetic, source: {classes: x}}]"],
            r"sources\[0\]\.source\.classes=x: give a whole number",
        ),
        (["[{data: emoji, global_batch_size: 3}]"], r"did you mean data\.global_batch_size\?"),
        (
            ["[{data: emoji}, {data: emoji, weight: 2}]"],
            r"same data as .* give the other the weight of both, 3$",
        ),
        (["[{data: emoji, name: a}, {data: photos, name: A}]"], r"is the name of data\.sources\[0\], too"),
        (["[{data: emoji, name: ../a}]"], "give letters, digits"),
        (['[{data: emoji, name: "12"}]'], "not digits alone"),
        (
            ["[{data: emoji, data_dir: /x}]"],
            r"\]\.data_dir=/x: emoji is not read from a folder; choose data: image_folder, .* or data: tar_shards$",
        ),
        (
            ["[{data: photos}, {data: emoji, caption_column: x}]"],
            r"sources\[1\]\.caption_column=x: emoji is not read from a folder; choose .* data: tar_shards$",
        ),
        (
            ["[{data: emoji, labels: false}]"],
            r"\[0\]\.labels=false: emoji is not read from a folder; .* data: tar_shards; data\.labels=false takes",
        ),
        (
            ["[{data: emoji}, {data: photos}]", "data.scored=2"],
            r"scored=2 is none .* 0 \(emoji\), 1 \(photos\)",
        ),
        (["[{data: emoji}, {data: photos}]", "data.scored=photo"], r"did you mean photos\?"),
        (
            ["[{data: emoji}]", "data.data_dir=/x"],
            r"data\.data_dir=/x: .* did you mean data\.sources\[0\]\.data_dir\?",
        ),
        (["[{data: emoji}]", "data.fast_decode=x"], r"data\.sources\[0\]\.fast_decode=x: give true or false"),
        (["[{data: image_folder, data_dir: /x\udce9}]"], r"cannot be read\. .*a path with brackets"),
        (["[{data: image_folder, data_dir: /x (1)}]"], r"cannot be read\. .*a path with brackets"),
    ],
)
def test_what_does_not_go_together_is_one_line(words, said):
    with pytest.raises(ConfigError, match=said) as error:
        data_of(f"data.sources={words[0]}", *words[1:])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_several_data_sets_need_the_mix():
    with pytest.raises(ConfigError, match=r"several data sets are chosen by data=mix"):
        compose(["experiment=rae_tiny", "data.sources=[{data: emoji}]"])


def test_an_entry_that_is_there_can_be_changed_and_another_cannot():
    entries = "data.sources=[{data: emoji}]"
    assert data_of(entries, "data.sources.0.weight=3")["sources"][0]["weight"] == 3
    with pytest.raises(
        ConfigError, match=r"^data\.sources\.1\.weight=3: cannot be read\. Give all entries together"
    ):
        data_of(entries, "data.sources.1.weight=3")


def test_an_empty_mix_composes_and_does_not_run():
    data = data_of()
    check_mix(data)
    with pytest.raises(
        ConfigError, match=r"data\.sources is empty: give the data sets to mix, such as 'data\.sources="
    ):
        check_sources(data)


def test_a_mix_can_stand_in_a_file(tmp_path, monkeypatch):
    copy = tmp_path / "configs"
    shutil.copytree(config_dir(), copy)
    for module in ("composition", "overrides"):
        monkeypatch.setattr(f"unirae.app.config.{module}.config_dir", lambda: copy)
    (copy / "experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: rae_tiny\n  - override /data: mix\n"
        "data:\n  sources:\n    - {data: emoji}\n    - {data: image_folder, data_dir: /x (1), weight: 2.5, fast: 1}\n"
    )
    with pytest.raises(
        ConfigError, match=r"^experiment=mine sets data\.sources\[1\]\.fast, which nothing reads"
    ):
        compose(["experiment=mine"])
