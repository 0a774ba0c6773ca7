"""What experiments need from hubs, and its copy in a folder: with a hub that is a folder, and files by file://."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tiny_checkpoint import write_checkpoint
from tiny_qwen import write_qwen
from unirae.app.config.composition import compose
from unirae.app.config.targets import config_dir, experiments
from unirae.app.fetch_weights import Options, run
from unirae.app.shell import cli
from unirae.app.weights import catalogue
from unirae.app.weights.catalogue import Need, catalogue_of
from unirae.app.weights.hub import File, HuggingFaceHub, Listing, choose
from unirae.app.weights.store import MANIFEST, Store
from unirae.core.errors import WeightsError
from unirae.core.weights import VARIABLE, find_weights
from unirae.models.text.build import load_text_encoder

VGG, DINO = "vgg16-397923af.pth", "dino_vit_small_patch8_224.pth"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
REGISTERS = "facebook--dinov2-with-registers-base"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(cli, "configure_logging", lambda: None)
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def online(monkeypatch):
    """As far as we ask; nothing is asked in fact."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)


def places(*overrides: str, **options) -> set[str]:
    return {need.place for need in catalogue_of(compose(list(overrides)), **options).needs}


# ---------------------------------------------------------------- the catalogue


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["experiment=rae_dino"], {REGISTERS, VGG, DINO, INCEPTION}),
        (["experiment=rae_siglip"], {"google--siglip2-base-patch16-256", VGG, DINO, INCEPTION}),
        (["experiment=rae_dino", "model/encoder=dinov3", "model.disc_weight=0"],
         {"facebook--dinov3-vitb16-pretrain-lvd1689m", VGG, INCEPTION}),
        (["experiment=rae_dino", "model/encoder=timm"],
         {"timm--vit_base_patch16_clip_224.openai", VGG, DINO, INCEPTION}),
        (["experiment=rae_dino", "model.encoder.weights=random", "model/perceptual=encoder_features",
          "model/discriminator=patchgan", "callbacks.reconstruction_metrics.metrics=[psnr,lpips]"], {VGG}),
        (["experiment=rae_dino", "model.perceptual.weights=/mine.pth", "model.perceptual_weight=1"],
         {REGISTERS, VGG, DINO, INCEPTION}),  # of the score lpips
        (["experiment=dit_base"], {REGISTERS, INCEPTION}),
        (["experiment=dit_base", "callbacks.generation_metrics.metrics=[]"], {REGISTERS}),
        (["experiment=linear_probe", "model/encoder=dinov2"], {"facebook--dinov2-base"}),
        (["experiment=t2i_xl"],
         {"facebook--dinov3-vitl16-pretrain-lvd1689m", "Qwen--Qwen3-0.6B", INCEPTION}),
        (["experiment=t2i_xl", "model.text_encoder.name=minilm", "callbacks.generation_metrics.metrics=[]"],
         {"facebook--dinov3-vitl16-pretrain-lvd1689m"}),
    ],
)  # fmt: skip
def test_needs_are_read_off_the_configuration(overrides, expected):
    assert places(*overrides) == expected


@pytest.mark.parametrize(
    "name", ["mae_tiny", "rae_tiny", "dit_tiny", "rae_dummy", "dit_dummy", "linear_probe"]
)
def test_experiments_that_need_no_download_need_none(name):
    assert places(f"experiment={name}") == set()


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_has_a_catalogue_whose_files_are_known(name):
    for need in catalogue_of(compose([f"experiment={name}"]), evaluation=True).needs:
        assert need.licence
        assert "/" not in need.place


def test_every_part_with_published_weights_is_known():
    groups = [config_dir() / "model" / group for group in ("perceptual", "discriminator")]
    nodes = [yaml.safe_load(file.read_text()) for group in groups for file in group.glob("*.yaml")]
    assert {node["_target_"] for node in nodes if node.get("weights") == "hub"} == set(catalogue._OF_TARGET)


def test_evaluation_adds_what_its_commands_load():
    assert places("experiment=rae_tiny", evaluation=True) == {INCEPTION, VGG, "facebook--dinov2-large"}


def test_a_stage_1_checkpoint_says_which_encoder(tmp_path):
    write_checkpoint(tmp_path / "rae")
    override = f"model.rae.pretrained_decoder_path={tmp_path / 'rae'}"
    found = catalogue_of(compose(["experiment=dit_base", override]))
    assert {need.place for need in found.needs} == {INCEPTION}  # the tiny one's encoder travels inside
    assert not any("stage-1 checkpoint" in note for note in found.notes)
    absent = catalogue_of(compose(["experiment=dit_base"]))
    assert any("model.rae.pretrained_decoder_path=PATH" in note for note in absent.notes)


def test_a_generator_that_reads_text_is_scored_by_clip():
    needs = {need.place: need for need in catalogue_of(compose(["experiment=t2i_xl"]), evaluation=True).needs}
    assert {place for place, need in needs.items() if need.tokenizer} == {
        "Qwen--Qwen3-0.6B",
        "openai--clip-vit-large-patch14",
    }
    assert needs["Qwen--Qwen3-0.6B"].licence == "Apache-2.0"


def test_a_network_that_is_an_encoder_and_a_score_is_fetched_once_with_its_tokenizer():
    clip = ["model/encoder@model.rae.encoder=clip_l", "model.rae.encoder.layers=null"]
    needs = catalogue_of(compose(["experiment=t2i_xl", *clip]), evaluation=True).needs
    found = [need for need in needs if need.place == "openai--clip-vit-large-patch14"]
    assert [(need.what, need.tokenizer) for need in found] == [("encoder", True)]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("minilm", "the text encoder minilm: it lies in a package"),
        ("./nowhere", r"model\.text_encoder\.name=\./nowhere, which is not here"),
    ],
)
def test_a_text_encoder_that_no_hub_has_is_named_below_the_table(name, note):
    found = catalogue_of(compose(["experiment=t2i_xl", f"model.text_encoder.name={name}"]))
    assert any(re.search(note, line) for line in found.notes)
    assert not any(need.tokenizer for need in found.needs)


def test_a_text_encoder_in_a_folder_is_no_need(tmp_path):
    found = catalogue_of(compose(["experiment=t2i_xl", f"model.text_encoder.name={tmp_path}"]))
    assert not any(need.tokenizer for need in found.needs)
    assert not any("text encoder" in note for note in found.notes)


# ---------------------------------------------------------------- the files of a model


def test_the_files_of_a_model():
    page = [
        "config.json",
        "preprocessor_config.json",
        "README.md",
        "pytorch_model.bin",
        "tf_model.h5",
        "onnx/model.onnx",
    ]
    needed = ["README.md", "config.json", "preprocessor_config.json"]
    assert choose([*page, "model.safetensors"], "a/b") == sorted([*needed, "model.safetensors"])
    assert choose(page, "a/b") == sorted([*needed, "pytorch_model.bin"])
    shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert choose([*page, *shards], "a/b") == sorted([*needed, *shards])
    with pytest.raises(WeightsError, match=r"a/b has no weights that transformers or timm read"):
        choose(["config.json", "flax_model.msgpack"], "a/b")


def test_the_files_of_a_tokenizer():
    page = ["config.json", "model.safetensors", "generation_config.json", "LICENSE"]
    words = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"]
    assert choose([*page, *words], "a/b") == ["LICENSE", "config.json", "model.safetensors"]
    assert choose([*page, *words], "a/b", tokenizer=True) == sorted(
        {*page, *words} - {"generation_config.json"}
    )
    for vocabulary in ("vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"):
        assert vocabulary in choose([*page, vocabulary], "a/b", tokenizer=True)
    with pytest.raises(WeightsError, match=r"a/b has no tokenizer \(tokenizer\.json, or the files of its"):
        choose([*page, "tokenizer_config.json"], "a/b", tokenizer=True)


# ---------------------------------------------------------------- fetching


class FolderHub(HuggingFaceHub):
    """A hub whose models lie in a folder; it can break off, damage, or refuse."""

    def __init__(self, root: Path):
        self.root, self.fetched, self.breaks, self.damages = root, [], False, False
        self.refuses: str | None = None

    def listing(self, repository: str, *, tokenizer: bool = False) -> Listing:
        if self.refuses:
            raise WeightsError(f"{repository}: {self.refuses}")
        folder = self.root / repository
        files = [
            File(
                path=name,
                size=(folder / name).stat().st_size,
                sha256=hashlib.sha256((folder / name).read_bytes()).hexdigest() if "safe" in name else None,
            )
            for name in choose([path.name for path in folder.iterdir()], repository, tokenizer=tokenizer)
        ]
        return Listing(files=tuple(files), revision="abc123", licence="mit")

    def fetch(self, repository: str, listing: Listing, folder: Path) -> None:
        for file in listing.files:
            if (folder / file.path).exists():
                continue
            self.fetched.append(file.path)
            shutil.copyfile(self.root / repository / file.path, folder / file.path)
            if self.breaks:
                raise WeightsError(f"{repository}: the line broke")
        (folder / ".cache").mkdir(exist_ok=True)
        if self.damages:
            (folder / "model.safetensors").write_bytes(b"x")


@pytest.fixture
def hub(tmp_path) -> FolderHub:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    folder = tmp_path / "hub" / "facebook" / "dinov2-with-registers-base"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    sizes["patch_size"] = 14
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    )
    (folder / "flax_model.msgpack").write_bytes(b"not wanted")
    return FolderHub(tmp_path / "hub")


@pytest.fixture
def one_file(tmp_path, monkeypatch) -> Path:
    """DINO's file, published by file://; the others are left out of the experiment."""
    published = tmp_path / "published" / DINO
    published.parent.mkdir()
    published.write_bytes(b"dino" * 1000)
    target = "unirae.models.discriminators.dino.DinoDiscriminator"
    monkeypatch.setitem(catalogue._OF_TARGET, target, published.as_uri())
    monkeypatch.setitem(catalogue._FILES, published.as_uri(), ("DINO ViT-S/8", "Apache-2.0", None))
    return published


LEAN = ("model/perceptual=encoder_features", "callbacks.reconstruction_metrics.metrics=[psnr]")


def options(**more) -> Options:
    return Options(**{"experiment": "rae_dino", "overrides": LEAN, **more})


def test_everything_is_fetched_listed_and_then_stays(tmp_path, hub, one_file, online, capsys):
    to = tmp_path / "DIR"
    run(options(to=to, list=True), hub=hub)
    assert not to.exists()
    assert "missing" in capsys.readouterr().out
    run(options(to=to), hub=hub)
    assert {path.name for path in to.iterdir()} == {REGISTERS, DINO, MANIFEST}
    folder = to / REGISTERS
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    written = json.loads((to / MANIFEST).read_text())["weights"]
    entry = written[REGISTERS]
    assert (entry["source"], entry["revision"]) == ("facebook/dinov2-with-registers-base", "abc123")
    assert entry["licence"] == "Apache-2.0"
    for file in (file for entry in written.values() for file in entry["files"]):
        content = (to / file["path"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    out = capsys.readouterr().out
    assert "missing" not in out
    assert f"weights_dir={to}" in out

    hub.fetched.clear()
    one_file.unlink()  # a second time nothing is asked for
    run(options(to=to), hub=hub)
    assert hub.fetched == []


def test_what_is_damaged_is_fetched_again_and_what_broke_continues(tmp_path, hub, one_file, online):
    to = tmp_path / "DIR"
    hub.breaks = True
    with pytest.raises(WeightsError, match=r"^encoder: facebook/dinov2-with-registers-base: the line broke$"):
        run(options(to=to), hub=hub)
    assert (to / DINO).is_file()  # one that fails does not keep the others
    assert not (to / REGISTERS).exists()
    hub.breaks = False
    run(options(to=to), hub=hub)
    assert sorted(hub.fetched) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    weights = to / REGISTERS / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"?")
    (to / DINO).write_bytes(b"short")
    run(options(to=to), hub=hub)
    assert weights.read_bytes() == good
    assert (to / DINO).read_bytes() == one_file.read_bytes()
    assert not [path for path in to.iterdir() if path.name.startswith(".")]


def test_what_arrives_damaged_never_takes_its_place(tmp_path, hub, online):
    hub.damages = True
    store = Store(tmp_path / "DIR", hub)
    need = catalogue.model_need("facebook/dinov2-with-registers-base", "encoder")
    with pytest.raises(WeightsError, match=r"model\.safetensors arrived damaged .*run it again"):
        store.fetch(need, progress=lambda *_: None)
    assert store.state(need) == "missing"


def test_what_somebody_put_there_is_recognised(tmp_path, hub, one_file, online):
    to = tmp_path / "DIR"
    shutil.copytree(hub.root / "facebook/dinov2-with-registers-base", to / REGISTERS)
    shutil.copyfile(one_file, to / DINO)
    run(options(to=to), hub=hub)
    assert hub.fetched == []
    assert set(json.loads((to / MANIFEST).read_text())["weights"]) == {REGISTERS, DINO}
    store = Store(to, hub)
    listed = Need(what="", source="https://x/net-0123456789.pth", licence=None)
    (to / listed.place).write_bytes(b"another")
    assert not store.is_whole(listed)


def test_offline_a_model_needs_its_weights_and_what_nobody_verified_is_not_listed(
    tmp_path, hub, one_file, monkeypatch, capsys
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    to = tmp_path / "DIR"
    published = hub.root / "facebook/dinov2-with-registers-base"
    (to / REGISTERS).mkdir(parents=True)
    shutil.copyfile(one_file, to / DINO)
    shutil.copyfile(published / "config.json", to / REGISTERS / "config.json")
    with pytest.raises(WeightsError, match=rf"Missing or damaged: encoder: .*{REGISTERS}"):
        run(options(to=to), hub=hub)
    run(options(to=to, list=True), hub=hub)
    assert "incomplete" in capsys.readouterr().out
    shutil.copyfile(published / "model.safetensors", to / REGISTERS / "model.safetensors")
    run(options(to=to), hub=hub)
    assert not (to / MANIFEST).exists()
    assert "there, not listed" in capsys.readouterr().out
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # where its publisher can be asked, it is listed
    run(options(to=to), hub=hub)
    assert set(json.loads((to / MANIFEST).read_text())["weights"]) == {REGISTERS, DINO}


def test_a_model_in_parts_needs_every_part(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    store, need = Store(tmp_path, hub), catalogue.model_need("owner/model", "encoder")
    folder = tmp_path / need.place
    folder.mkdir()
    first, second = (f"model-0000{part}-of-00002.safetensors" for part in (1, 2))
    (folder / "config.json").write_text("{}")
    (folder / first).write_bytes(b"x")
    assert not store.is_whole(need)  # no index
    index = {"weight_map": {"a": first, "b": second}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not store.is_whole(need)
    (folder / second).write_bytes(b"x")
    assert store.check(need) == "unverified"
    (folder / "model.safetensors.index.json").write_text("[]")
    assert not store.is_whole(need)


@pytest.fixture
def text_hub(tmp_path) -> FolderHub:
    write_qwen(tmp_path / "hub/Qwen/Qwen3-0.6B")
    return FolderHub(tmp_path / "hub")


TEXT = {"experiment": "t2i_xl"}
ONLY_TEXT = ("model.rae.encoder.weights=random", "callbacks.generation_metrics.metrics=[]")


def test_a_text_encoder_is_fetched_with_its_tokenizer_and_loads_without_a_network(
    tmp_path, text_hub, online, monkeypatch
):
    to = tmp_path / "DIR"
    run(options(to=to, overrides=ONLY_TEXT, **TEXT), hub=text_hub)
    place = to / "Qwen--Qwen3-0.6B"
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {
        path.name for path in place.iterdir()
    }
    monkeypatch.setenv(VARIABLE, str(to))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = load_text_encoder("Qwen/Qwen3-0.6B", max_length=8)
    assert encoder.identity.hub_name == "Qwen/Qwen3-0.6B"
    assert encoder.identity.source == str(place)

    (place / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"Missing or damaged: text encoder: .*Qwen--Qwen3-0\.6B"):
        run(options(to=to, overrides=ONLY_TEXT, **TEXT), hub=text_hub)


def test_a_model_that_was_fetched_without_its_tokenizer_is_fetched_again(tmp_path, text_hub, online, capsys):
    store = Store(tmp_path / "DIR", text_hub)
    without = Need(what="encoder", source="Qwen/Qwen3-0.6B", licence=None)
    store.fetch(without, progress=lambda *_: None)
    assert not (store.folder / without.place / "tokenizer.json").exists()
    assert store.state(without) == "there"
    run(options(to=store.folder, list=True, overrides=ONLY_TEXT, **TEXT), hub=text_hub)
    assert "incomplete" in capsys.readouterr().out
    run(options(to=store.folder, overrides=ONLY_TEXT, **TEXT), hub=text_hub)
    assert (store.folder / without.place / "tokenizer.json").exists()
    assert Store(store.folder, text_hub).check(without) == "whole"


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"weights": []},
        {"weights": {"a": None}},
        {"weights": {"a": {"files": [1], "licence": ""}}},
    ],
)
def test_a_list_that_is_none_is_one_line(tmp_path, hub, content):
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"weights\.json is not the list that fetch_weights\.py writes"):
        Store(tmp_path, hub)


def test_a_gated_model_says_so_and_the_list_goes_on(tmp_path, hub, one_file, online, capsys):
    from unirae.core.hub import gated

    hub.refuses = gated("facebook/dinov2-with-registers-base")
    run(options(overrides=(*LEAN, "model.encoder.name=owner/model")), hub=hub)
    assert "unknown" in capsys.readouterr().out
    with pytest.raises(WeightsError, match=r"is gated.*hf auth login"):
        run(options(to=tmp_path / "DIR"), hub=hub)


def test_offline_it_may_not_ask(tmp_path, hub, one_file, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    to = tmp_path / "DIR"
    run(options(), hub=hub)  # the list needs nothing
    assert "unknown" in capsys.readouterr().out
    assert cli.run(lambda: run(options(to=to), hub=hub)) == 2
    error = capsys.readouterr().err
    for part in (
        "HF_HUB_OFFLINE is set, so the network may not be asked",
        str(to / REGISTERS),
        "facebook/dinov2-with-registers-base",
        one_file.as_uri(),
        f"python src/fetch_weights.py --experiment rae_dino --to {to} --overrides model/perceptual",
    ):
        assert part in error
    assert error.count("\n") == 1
    assert not to.exists()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    run(options(to=to), hub=hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run(options(to=to), hub=hub)  # everything is there: a check of what was carried


# ---------------------------------------------------------------- the folder in use


def test_a_run_finds_what_was_fetched(tmp_path, hub, one_file, online, monkeypatch):
    from unirae.app.run.builders import build_rae
    from unirae.core.weights import weights_of_run
    from unirae.nn.lpips import build_lpips

    to = tmp_path / "DIR"
    run(options(to=to), hub=hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = compose(
        ["experiment=rae_dino", "model/decoder=vit_tiny", f"weights_dir={to}", "model.image_size=28"]
    )
    with weights_of_run(config["weights_dir"], experiment="rae_dino"):
        rae = build_rae(config["model"], seed=0)
        identity = rae.encoder.identity
        assert (identity.weights, identity.source) == ("hub", "facebook/dinov2-with-registers-base")
        assert identity.pixel_mean == (0.5, 0.5, 0.5)
        spec, state = rae.spec(), rae.decoder.state_dict()
        again = type(rae).from_spec(spec, state)
        images = torch.rand(1, 3, 28, 28)
        assert torch.equal(again.tokens(images), rae.tokens(images))
        found = find_weights("hub", url="https://x.invalid/", file_name=DINO, what="DINO", option="o")
        assert found == to.resolve() / DINO
        with pytest.raises(WeightsError, match=rf"VGG16.*{VGG}.*download\.pytorch\.org") as error:
            build_lpips()
        assert f"python src/fetch_weights.py --experiment rae_dino --to {to.resolve()}" in str(error.value)


def test_a_training_command_stops_at_the_first_missing_file(tmp_path, monkeypatch, capsys):
    import logging
    import sys

    from unirae.app import train

    monkeypatch.undo()  # configure_logging is the real one here
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    command = ["train.py", "experiment=rae_dino", "data=emoji", "weights_dir=DIR", "paths.output_dir=out"]
    monkeypatch.setattr(sys, "argv", [*command, "trainer.accelerator=cpu", "data.global_batch_size=4"])
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    try:
        assert train.main() == 2
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers, root.level = handlers, level
    last = capsys.readouterr().err.strip().splitlines()[-1]
    place = tmp_path / "DIR"
    assert last.startswith("error: ")
    assert f"{place / REGISTERS}" in last
    assert f"python src/fetch_weights.py --experiment rae_dino --to {place}" in last
