"""CLIP from a folder: torchmetrics' score of the same network, and every part that may be missing or foreign."""

import json
import shutil

import pytest
import torch

from tiny_clip import LENGTH, TensorFeatures, tiny_tokenizer, write_clip
from unirae.core.errors import WeightsError
from unirae.core.weights import VARIABLE
from unirae.evaluation.judges.clip_features import MODEL, ClipExtractor
from unirae.metrics.clip_score import clip_metric, cosine_scores
from unirae.metrics.statistics import SetStatistics

PROMPTS = ["a cat", "A  DOG!", "日本の猫", "cat " * 5, "été", "dog, cat & dog", "a" * (LENGTH - 3)]
LONG = "a cat that sits beside a dog that sits beside a cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def pictures(count, height=40, width=52):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def cosines(extractor, images, prompts):
    return cosine_scores(extractor(images), extractor.text_features(extractor.tokenise(prompts)))


# ---------------------------------------------------------------- torchmetrics


@pytest.mark.parametrize("size", [(40, 52), (32, 32), (9, 100)])
@pytest.mark.parametrize("old_end", [False, True])
def test_each_score_is_torchmetrics(tmp_path, size, old_end):
    from torchmetrics.functional.multimodal import clip_score

    folder = write_clip(tmp_path, old_end=old_end)
    images, theirs = pictures(len(PROMPTS), *size), TensorFeatures(folder)
    found = cosines(ClipExtractor(weights=str(folder)), images, PROMPTS)
    for k, prompt in enumerate(PROMPTS):
        expected = clip_score(images[k], prompt, theirs)  # pyright: ignore[reportArgumentType]
        assert float(found[k].clamp_min(0)) == pytest.approx(float(expected), abs=1e-4)
    assert found.std() > 0.1  # the prompts matter


def test_the_mean_is_that_of_torchmetrics_module(folder):
    from torchmetrics.multimodal import CLIPScore

    images, theirs = pictures(len(PROMPTS)), CLIPScore(TensorFeatures(folder))  # pyright: ignore[reportArgumentType]
    for part in (slice(0, 3), slice(3, None)):
        theirs.update(images[part], PROMPTS[part])
    extractor = ClipExtractor(weights=str(folder))
    assert (cosines(extractor, images, PROMPTS) > 0).all()  # else theirs is another mean
    statistics = SetStatistics(count=len(images), features=extractor(images))
    found = clip_metric(extractor, PROMPTS).compute(statistics, None)["clip_score"]
    assert found.value == pytest.approx(float(theirs.compute()), abs=1e-4)


def test_a_prompt_that_is_too_long_keeps_its_end(folder):
    """torchmetrics cuts the token off at which CLIP reads a text: all long prompts have one score there."""
    extractor, tokenizer = ClipExtractor(weights=str(folder)), tiny_tokenizer()
    other = LONG.replace("cat", "dog")
    tokens = extractor.tokenise([LONG, other, "a cat"])
    assert tokens.cut == 2
    expected = tokenizer([LONG, other, "a cat"], truncation=True, max_length=LENGTH, padding="max_length")
    assert tokens.ids.tolist() == expected["input_ids"]
    assert tokens.mask.tolist() == expected["attention_mask"]
    rows = extractor.text_features(tokens)
    assert (rows[0] - rows[1]).abs().max() > 1e-3
    theirs = TensorFeatures(folder)
    inputs = theirs.processor(text=[LONG, other], return_tensors="pt", padding=True)
    short = (inputs["input_ids"][:, :LENGTH], inputs["attention_mask"][:, :LENGTH])
    first, second = theirs.get_text_features(*short)
    assert torch.equal(first, second)


# ---------------------------------------------------------------- exactness and identity


def test_features_depend_on_nothing_beside_them(folder):
    extractor, images = ClipExtractor(weights=str(folder)), pictures(19)
    rows = extractor(images)
    assert torch.equal(rows[7:9], extractor(images[7:9]))
    texts = extractor.text_features(extractor.tokenise(PROMPTS))
    assert torch.equal(texts[2:3], extractor.text_features(extractor.tokenise(PROMPTS[2:3])))


def test_the_identity_tells_networks_and_processing_apart(folder, copy, tmp_path):
    def identity(place):
        return {k: v for k, v in ClipExtractor(weights=str(place)).identity.items() if k != "weights"}

    known = identity(folder)
    assert json.loads(json.dumps(known)) == known
    assert identity(copy) == known
    assert identity(write_clip(tmp_path / "seed", seed=1))["sha256"] != known["sha256"]
    bright = identity(write_clip(tmp_path / "bright", processing={"image_mean": [0.1, 0.1, 0.1]}))
    assert bright["sha256"] == known["sha256"]
    assert bright["processing"] != known["processing"]
    _change(copy / "config.json", lambda content: content["vision_config"].update(num_attention_heads=4))
    assert identity(copy)["architecture_sha256"] != known["architecture_sha256"]


def test_the_weights_folder_serves_a_name(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    place = tmp_path / MODEL.replace("/", "--")
    with pytest.raises(WeightsError, match=rf"no {place}.*hf download {MODEL} --local-dir {place}"):
        ClipExtractor()
    shutil.copytree(folder, place)
    assert ClipExtractor().identity["weights"] == MODEL


# ---------------------------------------------------------------- what is missing, damaged or foreign


def _change(file, edit):
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def _truncate(file):
    file.write_bytes(file.read_bytes()[:5000])


def _without_weight(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["text_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _foreign_tokens(folder):
    _change(folder / "config.json", lambda content: content["text_config"].update(eos_token_id=7))


def _small_crop(folder):
    _change(
        folder / "processor_config.json",
        lambda content: content["image_processor"].update(crop_size={"height": 30, "width": 32}),
    )


def _bad_mean(folder):
    _change(
        folder / "processor_config.json",
        lambda content: content["image_processor"].update(image_mean=[0.5, 0.5]),
    )


def _no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: (d / "config.json").unlink(), "cannot load a CLIP"),
        (lambda d: (d / "config.json").write_text("{"), "cannot load a CLIP"),
        (lambda d: (d / "processor_config.json").unlink(), "image processor"),
        (lambda d: (d / "model.safetensors").unlink(), "cannot load a CLIP"),
        (lambda d: _truncate(d / "model.safetensors"), "damaged"),
        (lambda d: _truncate(d / "tokenizer.json"), "cannot load a CLIP"),
        (_no_tokenizer, "its tokenizer knows no words"),
        (_without_weight, r"1 missing \(text_projection.weight\)"),
        (_foreign_tokens, r"tokenizer \(518 tokens, 517 ends a text\) is not that of its network"),
        (_small_crop, r"processor makes \[3, 30, 32\], its network reads \[3, 32, 32\]"),
        (_bad_mean, "cannot load a CLIP"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_in_one_line(copy, damage, said):
    damage(copy)
    with pytest.raises(WeightsError, match=said) as error:
        ClipExtractor(weights=str(copy))
    assert "\n" not in str(error.value)
    assert str(copy) in str(error.value)


def test_other_models_and_places_are_refused(tmp_path, monkeypatch):
    from transformers import ViTConfig, ViTModel

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(tmp_path / "vit")
    with pytest.raises(WeightsError, match="it is a vit, not a CLIP"):
        ClipExtractor(weights=str(tmp_path / "vit"))
    file = tmp_path / "file.pt"
    file.touch()
    for place in (file, tmp_path / "none", "./none", "~/none", "~nobody-here/clip", "a/b/c", ""):
        with pytest.raises(WeightsError, match=r"it is no folder.*hf download"):
            ClipExtractor(weights=str(place))
    with pytest.raises(WeightsError, match=r"somebody/their-clip.*hf download") as error:
        ClipExtractor(weights="somebody/their-clip")
    assert "\n" not in str(error.value)
