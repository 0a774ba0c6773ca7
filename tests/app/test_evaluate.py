"""The evaluate command: any images against any reference, everything recorded, nothing wrong accepted in silence."""

import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_checkpoint import DATA, write_checkpoint, write_stage2_checkpoint
from tiny_images import SCORE, pixels, write_extractor, write_folder, write_npz
from unirae.app import eval_fid, eval_rfid, make_reference
from unirae.app.evaluate import Options, main, run
from unirae.core.errors import ConfigError, DataError, UserError, WeightsError
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop
from unirae.evaluation.scores.record import warn_once


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "cache"))
    warn_once.cache_clear()


@pytest.fixture
def encoder(tmp_path):
    return write_extractor(tmp_path / "code")


@pytest.fixture
def score(tmp_path, encoder):
    def run_with(images, reference=None, **options):
        defaults = {"metrics": "fd", "output": tmp_path / "scores.json", "device": "cpu", "num_threads": 1}
        options = defaults | options
        if "fd" in options["metrics"].split(",") and options.pop("checkpoint", None) is None:
            options.setdefault("encoder", encoder)
        reference = None if reference is None else str(reference)
        return run(Options(images=str(images), reference=reference, **options))

    return run_with


@pytest.fixture
def made(tmp_path):
    """Twenty images."""
    return write_folder(tmp_path / "made", pixels(20, seed=1))


@pytest.fixture
def real(tmp_path):
    """Thirty others to compare with."""
    return write_folder(tmp_path / "real", pixels(30, seed=2))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_checkpoint(root / "rae")
    write_stage2_checkpoint(root / "dit", root / "rae")
    return root


def make(data, output, **options):
    defaults = {"metrics": "fd", "device": "cpu", "num_threads": 1}
    return make_reference.run(make_reference.Options(data=str(data), output=output, **defaults | options))


def test_the_file_says_everything(score, made, real, tmp_path, encoder, capsys):
    result = score(made, real)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert list(content) == ["metrics", "labels", "count", "uncertainty", "warnings", "settings"]
    assert content["metrics"] == {SCORE: result.scores[SCORE]}
    assert result.scores[SCORE] > 0.01
    assert content["labels"] == {SCORE: f"{SCORE}@20"}
    assert (content["count"], content["uncertainty"]) == (20, {})
    assert ["biased upward" in warning for warning in content["warnings"]] == [True]
    settings = content["settings"]
    images, reference = settings["images"], settings["reference"]
    assert (images["kind"], images["count"], images["size_px"]) == ("folder", 20, [16, 16])
    assert (images["duplicates"], images["crop"], images["subset_seed"]) == (0, "AsStored", None)
    assert images["fingerprint"]["path"] == str(made)
    assert (reference["purpose"], reference["count"]) == ("generation", 30)
    assert reference["fingerprint"]["path"] == str(real)
    assert len(images["content_sha256"]) == len(reference["content_sha256"]) == 64
    metric = settings["metrics"][SCORE]
    assert (metric["features"], metric["name"], metric["file"]) == (6, "Features", "toy.py")
    assert (len(metric["sha256"]), len(metric["file_sha256"])) == (64, 64)
    assert set(settings["versions"]) == {"unirae", "torch"}
    shown = capsys.readouterr()
    assert f"{SCORE}@20" in shown.out
    assert "20 images" in shown.out
    assert "scores and settings" in shown.err


def test_a_set_has_no_distance_to_itself_and_the_order_does_not_matter(score, made, tmp_path):
    images = pixels(20, seed=1)
    assert score(made, made).scores[SCORE] == pytest.approx(0, abs=1e-9)
    shuffled = write_npz(tmp_path / "shuffled.npz", images[np.random.RandomState(0).permutation(20)])
    result = score(shuffled, made)
    assert result.scores[SCORE] == pytest.approx(0, abs=1e-9)
    assert result.settings["images"]["content_sha256"] == result.settings["reference"]["content_sha256"]


def test_the_distance_is_that_of_the_features(score, made, real, encoder):
    from unirae.app.inputs.features import open_extractor
    from unirae.core.hardware import fastest_float32_matmul
    from unirae.metrics.frechet import frechet_distance
    from unirae.metrics.moments import moments_of

    torch.set_float32_matmul_precision(fastest_float32_matmul("cpu"))  # as the command does
    extractor = open_extractor(encoder, device=torch.device("cpu"))
    sides = [
        moments_of(extractor(torch.from_numpy(images).permute(0, 3, 1, 2)))
        for images in (pixels(20, seed=1), pixels(30, seed=2))
    ]
    assert score(made, real).scores[SCORE] == pytest.approx(frechet_distance(*sides), rel=1e-9)


def test_a_reference_is_computed_once(score, made, real, tmp_path, capsys):
    first = score(made, real)
    assert "reference kept in the cache" in capsys.readouterr().err
    again = score(made, real)
    assert "reference from the cache" in capsys.readouterr().err
    assert again.scores == first.scores
    assert again.settings == first.settings
    score(made, real, num_samples=10, reference_samples=10, seed=1)
    assert "reference kept" in capsys.readouterr().err
    Image.fromarray(pixels(1, seed=9)[0]).save(real / "0003.png")
    assert score(made, real).scores != first.scores
    assert len(list((tmp_path / "cache/references").iterdir())) == 3
    score(made, real, cache=False, reference_samples=11)
    assert len(list((tmp_path / "cache/references").iterdir())) == 3


def test_files_of_statistics(score, made, real, tmp_path, encoder):
    """A file of ours gives what the images themselves give."""
    file = make(real, tmp_path / "reference.npz", encoder=encoder)
    from_images, from_file = score(made, real), score(made, file)
    assert from_file.scores[SCORE] == pytest.approx(from_images.scores[SCORE], rel=1e-9)
    identity = from_file.settings["reference"]
    assert (identity["file"], len(identity["sha256"]), identity["count"]) == ("reference.npz", 64, 30)
    assert identity["fingerprint"] == from_images.settings["reference"]["fingerprint"]
    with pytest.raises(ConfigError, match=r"reference\.npz is a file of statistics, which has"):
        score(made, file, reference_samples=5)


def test_images_in_an_npz_as_reference(score, made, real, tmp_path):
    file = write_npz(tmp_path / "real.npz", pixels(30, seed=2))
    assert score(made, file).scores == score(made, real).scores


def test_a_reference_of_another_extractor_is_refused(score, made, real, tmp_path, encoder):
    other = make(real, tmp_path / "weights.npz", encoder=write_extractor(tmp_path / "other", seed=1))
    with pytest.raises(ConfigError, match=r"weights\.npz was made by another toy_features: .*sha256 .* here"):
        score(made, other)
    named = write_extractor(tmp_path / "named").replace("toy.py", "own.py")
    (tmp_path / "named/toy.py").rename(tmp_path / "named/own.py")
    other = make(real, tmp_path / "name.npz", encoder=named)
    with pytest.raises(ConfigError, match=r"holds statistics of own_features/pooled, .* another extractor"):
        score(made, other)


def test_code_without_weights_is_told_apart_by_its_text(score, made, real, tmp_path):
    code = "import torch\n\n\nclass Features(torch.nn.Module):\n    def forward(self, images):\n"
    specs = []
    for name, line in (("one", "images.float().mean((2, 3))"), ("two", "images.float().amax((2, 3))")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plain.py").write_text(f"{code}        return {line}\n")
        specs.append(f"{tmp_path / name / 'plain.py'}:Features")
    file = make(real, tmp_path / "reference.npz", encoder=specs[0])
    assert score(made, file, encoder=specs[0]).scores == score(made, real, encoder=specs[0]).scores
    with pytest.raises(ConfigError, match="made by another plain_features: file_sha256"):
        score(made, file, encoder=specs[1])


def test_a_reference_of_reconstructions_is_refused(score, made, real, tmp_path, encoder):
    file = make(real, tmp_path / "reference.npz", encoder=encoder, purpose="reconstruction")
    with pytest.raises(ConfigError, match="is a reference of reconstruction scores; generated images are"):
        score(made, file)


def test_both_sides_are_cropped(score, tmp_path):
    """As if the cropped images had been stored."""
    images, others = pixels(12, seed=1, size=(20, 24)), pixels(12, seed=2, size=40)
    score_of_crops = score(
        *(
            write_folder(tmp_path / f"{name} cropped", crops(side))
            for name, side in (("images", images), ("others", others))
        )
    )
    folders = write_folder(tmp_path / "images", images), write_folder(tmp_path / "others", others)
    result = score(*folders, size=16)
    assert result.scores[SCORE] == pytest.approx(score_of_crops.scores[SCORE], rel=1e-9)
    for side in ("images", "reference"):
        assert result.settings[side]["size_px"] == [16, 16]
        assert result.settings[side]["crop"] == "AdmCenterCrop"
    with pytest.raises(ConfigError, match=r"20×24 px, the reference was made of 40×40 px; .*--size"):
        score(*folders)


def test_a_crop_need_not_be_square(score, tmp_path):
    images, others = pixels(12, seed=1, size=(20, 24)), pixels(12, seed=2, size=40)
    folders = write_folder(tmp_path / "images", images), write_folder(tmp_path / "others", others)
    settings = score(*folders, size=(12, 18)).settings
    assert settings["images"]["size_px"] == settings["reference"]["size_px"] == [12, 18]


def crops(images):
    crop = AdmCenterCrop(size=16).crop
    return np.stack([np.asarray(crop(Image.fromarray(image))) for image in images])


def test_a_subset(score, made, real):
    result = score(made, real, num_samples=10, reference_samples=12, seed=3)
    assert result.count == 10
    images, reference = result.settings["images"], result.settings["reference"]
    assert (images["count"], images["count_available"], images["subset_seed"]) == (10, 20, 3)
    assert (reference["count"], reference["count_available"], reference["subset_seed"]) == (12, 30, 3)
    assert score(made, real, num_samples=10, seed=4).scores != score(made, real, num_samples=10).scores
    with pytest.raises(DataError, match="num_samples=21, but the data set has 20 images"):
        score(made, real, num_samples=21)


def test_pairs_go_by_the_names_of_the_files(score, tmp_path):
    images, originals = pixels(5, seed=1), pixels(5, seed=2)
    folders = write_folder(tmp_path / "a", images), write_folder(tmp_path / "b", originals, suffix="bmp")
    result = score(*folders, metrics="psnr,ssim,fd", batch_size=2)
    assert set(result.scores) == {"psnr", "ssim", SCORE}
    error = np.square(images.astype(float) - originals).mean((1, 2, 3))
    assert result.scores["psnr"] == pytest.approx(10 * np.log10(255**2 / error).mean(), rel=1e-9)
    assert result.scores[SCORE] == pytest.approx(score(*folders).scores[SCORE], rel=1e-9)
    assert result.estimates["psnr"].standard_error is not None
    assert set(result.settings["metrics"]) == set(result.scores)
    numbered = write_npz(tmp_path / "a.npz", images)
    assert score(numbered, folders[1], metrics="psnr").scores["psnr"] == result.scores["psnr"]
    (folders[1] / "0003.bmp").rename(folders[1] / "000x.bmp")
    with pytest.raises(DataError, match="no original is called 0003 as an image is"):
        score(*folders, metrics="psnr")
    (folders[1] / "000x.bmp").unlink()
    with pytest.raises(DataError, match="5 images and 4 originals make no pairs"):
        score(*folders, metrics="psnr")


def test_pairs_need_originals_of_the_same_size(score, made, real, tmp_path, encoder):
    file = make(real, tmp_path / "reference.npz", encoder=encoder)
    with pytest.raises(ConfigError, match=r"compare image by image; .*reference\.npz is a file of stat"):
        score(made, file, metrics="psnr")
    with pytest.raises(ConfigError, match="--reference_samples: psnr, ssim and lpips need every original"):
        score(made, real, metrics="psnr", reference_samples=3)
    larger = write_folder(tmp_path / "larger", pixels(20, size=18))
    with pytest.raises(ConfigError, match="16×16 px cannot be compared one by one with originals of 18×18"):
        score(made, larger, metrics="ssim")
    tiny = write_folder(tmp_path / "tiny", pixels(3, size=8))
    with pytest.raises(DataError, match="SSIM's window is 11×11 px; images of 8×8 px are too small"):
        score(tiny, tiny, metrics="ssim")


@pytest.mark.parametrize(
    ("metrics", "remedy"),
    [
        (
            "fid",
            r"Or compare features of an encoder that is here: --metrics fd --encoder CHECKPOINT_OR_FOLDER$",
        ),
        ("lpips,psnr", r"Or leave lpips out of --metrics: psnr and ssim need no network$"),
        ("fid,psnr", r"--metrics fd --encoder CHECKPOINT_OR_FOLDER; of pairs psnr and ssim need no network$"),
    ],
)
def test_what_is_proposed_without_weights_can_be_done(score, made, real, tmp_path, metrics, remedy):
    """Samples have no originals, so psnr and ssim are no way out for them."""
    missing = {"inception_weights": str(tmp_path / "none.pth"), "lpips_weights": str(tmp_path / "none.pth")}
    with pytest.raises(WeightsError, match=remedy):
        score(made, real, metrics=metrics, **missing)


def test_few_images_are_warned_about(score, tmp_path, real, capsys):
    result = score(write_folder(tmp_path / "few", pixels(5, seed=1)), real)
    (warning,) = [line for line in result.warnings if "fewer than" in line]
    assert warning.startswith("the images: 5 images are fewer than the 6 features")
    assert warning in json.loads((tmp_path / "scores.json").read_text())["warnings"]
    assert warning in capsys.readouterr().err
    assert not [line for line in score(real, real).warnings if "fewer than" in line]


def test_duplicates_and_copies_are_warned_about(score, made, real, tmp_path, capsys):
    write_folder(made, pixels(2, seed=1), first=20)
    write_folder(made, pixels(3, seed=2), first=30)
    write_folder(real, pixels(1, seed=2), first=30)
    result = score(made, real)
    assert result.settings["images"]["duplicates"] == 2
    assert result.settings["reference"]["duplicates"] == 1
    said = capsys.readouterr().err
    for warning in (
        "the images: 2 images of 25 equal another one, pixel by pixel",
        "the reference: 1 image of ",
        "3 of the 25 images stand in the reference, too",
    ):
        assert [line for line in result.warnings if line.startswith(warning)], warning
        assert warning in said


def test_grey_images_are_converted_and_it_is_said(score, tmp_path, real, capsys):
    grey = pixels(10)[..., 0]
    result = score(write_npz(tmp_path / "grey.npz", grey), real)
    (said,) = result.settings["images"]["fingerprint"]["conversions"]
    assert said.startswith("grey images to RGB")
    assert said in capsys.readouterr().err
    colour = write_npz(tmp_path / "colour.npz", grey[..., None].repeat(3, -1))
    assert score(colour, real).scores == result.scores


def test_floats_are_scored_as_the_8_bits_that_they_become(score, tmp_path, real):
    images = pixels(10, seed=1)
    floats = write_npz(tmp_path / "floats.npz", (images / 255).astype(np.float32))
    assert score(floats, real).scores == score(write_npz(tmp_path / "bytes.npz", images), real).scores


def with_value(value):
    images = (pixels(10) / 255).astype(np.float32)
    images[7, 0, 0, 0] = value
    return images


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "0007.png").write_bytes(b""), r"0007\.png cannot be read: .*not an image"),
        (
            lambda folder: write_folder(folder, pixels(1, size=18), first=30),
            r"0030\.png: it has 18×18 px \(height, width\), the first has 16×16; .*--size",
        ),
        (
            lambda folder: Image.fromarray(with_value(np.nan)[7, ..., 0]).save(folder / "nan.tiff"),
            r"nan\.tiff cannot be read: .*NaN or inf",
        ),
    ],
)
@pytest.mark.usefixtures("names_of_commands")
def test_a_bad_image_is_one_line_with_its_name(score, made, real, spoil, message, num_workers):
    spoil(made)
    with pytest.raises(DataError, match=message) as error:
        score(made, real, num_workers=num_workers)
    assert "\n" not in str(error.value)


def dangling(folder):
    """A link to nowhere, and a file that is no picture."""
    (folder / "0030.png").symlink_to("/nowhere/gone.png")
    (folder / "0031.png").write_bytes(b"")
    return folder


def test_unreadable_images_of_a_reference_are_replaced_and_counted(
    score, made, real, tmp_path, capsys, encoder
):
    alone = score(made, real)
    result = score(made, dangling(real))
    said = capsys.readouterr().err
    assert said.count("replaced unreadable image") == 2
    assert "the reference: 2 images could not be read, and others stand in their places" in said
    assert any("2 images could not be read" in warning for warning in result.warnings)
    reference = result.settings["reference"]
    assert (reference["count"], reference["unreadable_images_replaced"]) == (32, 2)
    images = pixels(30, seed=2)
    as_shown = write_npz(tmp_path / "shown.npz", np.concatenate([images, images[[0, 0]]]))
    assert result.scores == score(made, as_shown).scores != alone.scores
    again = score(made, real)  # out of the cache
    assert (again.scores, again.warnings) == (result.scores, result.warnings)
    file = make(real, tmp_path / "reference.npz", encoder=encoder)
    assert score(made, file).scores[SCORE] == pytest.approx(result.scores[SCORE], rel=1e-9)
    assert score(made, file).settings["reference"]["unreadable_images_replaced"] == 2


def test_an_unreadable_image_is_never_scored_as_another(score, made, real):
    with pytest.raises(DataError, match=r"^0030\.png cannot be read: .* a score needs every image$"):
        score(dangling(real), made)
    for sides in ((real, write_folder(made, pixels(32))), (made, real)):
        with pytest.raises(DataError, match=r"^0030\.png cannot be read"):
            score(*sides, metrics="psnr")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (with_value(np.nan), r"bad\.npz, image 7 holds NaN or inf"),
        (with_value(1.01), r"bad\.npz, image 7 holds floats from 0.* to 1\.01; expected \[0, 1\]"),
        (pixels(10).astype(np.int16), "type int16; expected uint8"),
        (pixels(10)[:1], "at least 2"),
        (pixels(10)[:0], "npz has no images"),
    ],
)
def test_bad_arrays(score, tmp_path, real, images, message):
    file = write_npz(tmp_path / "bad.npz", images)
    for sides in ((file, real), (real, file)):
        with pytest.raises(DataError, match=message):
            score(*sides)
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metrics": "fid,fid"}, ConfigError, "metrics=fid,fid: give some of fid, sfid, .* each once"),
        ({"metrics": "rfid"}, ConfigError, "metrics=rfid: give some of"),
        ({"metrics": "psnr", "reference": None}, ConfigError, "psnr compare with a reference; give --ref"),
        ({"reference": None}, ConfigError, "--metrics fd compare with a reference; give --reference"),
        ({"encoder": None}, ConfigError, "--metrics fd and --encoder go together"),
        ({"metrics": "psnr", "encoder": "dinov2"}, ConfigError, "--metrics fd and --encoder go together"),
        (
            {"metrics": "psnr", "encoder_kind": "timm"},
            ConfigError,
            "--encoder_kind belongs to --encoder; give --encoder, too",
        ),
        ({"encoder_kind": "timm"}, ConfigError, r"toy\.py:Features needs neither --encoder_kind nor"),
        ({"encoder_pooling": "class"}, ConfigError, "--encoder_pooling class is for --encoder_kind timm"),
        (
            {"metrics": "psnr", "encoder_pooling": "class"},
            ConfigError,
            "--encoder_pooling belongs to --encoder; give --encoder, too",
        ),
        ({"encoder": "weights.bin"}, WeightsError, "weights.bin is neither .* with --encoder_kind timm"),
        ({"encoder": "none.py:Features"}, ConfigError, r"no such file none\.py"),
        (
            {"metrics": "fid", "inception_weights": "no.pth"},
            WeightsError,
            "--inception_weights.*--metrics fd",
        ),
        ({"images": "nothing"}, DataError, "nothing: there is nothing of that name"),
        ({"images_split": "val"}, ConfigError, "there is no folder"),
        ({"reference": "none.npz"}, DataError, r"no such file: none\.npz"),
        ({"confidence": "bootstrap", "resamples": 1}, ConfigError, "resamples=1: .*at least 2"),
        ({"confidence": "extrapolate"}, DataError, "20 images are too few for .*, which needs at least 100"),
        ({"cfg_scale": 2.0, "num_steps": 9}, ConfigError, "--cfg_scale, --num_steps: nothing is sampled"),
        ({"precision": "bf16"}, ConfigError, "--precision: nothing is sampled"),
    ],
)
@pytest.mark.usefixtures("names_of_commands")
def test_mistakes(score, made, real, tmp_path, options, error, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").touch()
    with pytest.raises(error, match=message):
        score(**{"images": made, "reference": real, **options})
    assert not (tmp_path / "scores.json").exists()


def test_a_model_of_timm(score, made, real, tmp_path):
    """A file of its weights, without a hub; and a reference by the same network."""
    from safetensors.torch import save_file

    from unirae.models.encoders.timm import TimmEncoder

    torch.manual_seed(0)
    file, name = tmp_path / "timm.safetensors", "vit_tiny_patch16_224"
    save_file(TimmEncoder.skeleton({"model_name": name}).state_dict(), file)
    with pytest.raises(ConfigError, match="name its timm model with --encoder_name"):
        score(made, real, encoder=str(file), encoder_kind="timm")
    how = {"encoder": str(file), "encoder_kind": "timm", "encoder_name": name}
    reference = make(real, tmp_path / "reference.npz", **how)
    result = score(made, reference, **how)
    assert list(result.scores) == [f"fd_{name}"]
    assert result.settings["metrics"][f"fd_{name}"]["features"] == 192


@pytest.mark.parametrize("pooling", ["class", "attention", "mean"])
def test_the_pooling_of_a_timm_model(score, made, real, tmp_path, pooling):
    """Its own class token and attention pool, after its own norm; the default is the mean of before."""
    from tiny_fdr import write_space

    name = {"class": "mae", "attention": "siglip", "mean": "mae"}[pooling]
    write_space(tmp_path / name)
    how = {"encoder": str(tmp_path / name), "encoder_kind": "timm"}
    result = score(made, real, **how, encoder_pooling=pooling)
    label = f"fd_{name}" if pooling == "mean" else f"fd_{name}_{pooling}"
    own = result.settings["metrics"][label]
    words = {"class": "class token", "attention": "attention pool", "mean": "mean over tokens"}
    side = {"mae": 224, "siglip": 256}[name]
    assert (own["pooling"], own["input_size"]) == (words[pooling], [side, side])
    if pooling == "mean":
        before = score(made, real, **how)
        assert (before.scores, before.settings["metrics"]) == (result.scores, result.settings["metrics"])
        return
    file = tmp_path / name / "model.safetensors"
    with pytest.raises(ConfigError, match="name its timm model with --encoder_name"):
        score(made, real, encoder=str(file), encoder_kind="timm", encoder_pooling=pooling)
    with pytest.raises(WeightsError, match="do not fit the encoder"):  # those of a smaller model
        score(
            made,
            real,
            encoder=str(file),
            encoder_kind="timm",
            encoder_name="test_vit",
            encoder_pooling=pooling,
        )
    other = make(real, tmp_path / "reference.npz", **how)
    with pytest.raises(ConfigError, match="a reference of another extractor"):
        score(made, other, **how, encoder_pooling=pooling)


@pytest.mark.parametrize(
    ("space", "pooling", "message"),
    [
        ("siglip", "class", "--encoder_pooling class: .*siglip has no class token; choose attention or mean"),
        (
            "mae",
            "attention",
            "--encoder_pooling attention: .*mae has no attention pool; choose class or mean",
        ),
        ("convnext", "class", "timm cannot build convnextv2_base as a ViT for images of any"),
    ],
)
@pytest.mark.usefixtures("names_of_commands")
def test_a_pooling_that_a_model_does_not_have(score, made, real, tmp_path, space, pooling, message):
    from tiny_fdr import write_space

    write_space(tmp_path / space)
    with pytest.raises(ConfigError, match=message):
        score(made, real, encoder=str(tmp_path / space), encoder_kind="timm", encoder_pooling=pooling)


def test_an_empty_folder(score, made, tmp_path):
    (tmp_path / "empty").mkdir()
    for sides in ((tmp_path / "empty", made), (made, tmp_path / "empty")):
        with pytest.raises(DataError, match="empty holds no images"):
            score(*sides)


def test_a_bootstrap_is_the_uncertainty(score, made, real, tmp_path):
    result = score(made, real, confidence="bootstrap", resamples=5)
    known = json.loads((tmp_path / "scores.json").read_text())["uncertainty"][SCORE]
    assert known["standard_error"] > 0
    assert known["low"] < result.scores[SCORE] < known["high"]
    assert known["method"] == "bootstrap over images, 5 resamples, the reference given"
    assert result.scores[SCORE] == pytest.approx(score(made, real).scores[SCORE], rel=1e-9)


def test_main_turns_a_mistake_into_a_line_and_a_status(monkeypatch, capsys, made, tmp_path):
    arguments = ["--images", str(made), "--metrics", "psnr", "--output", str(tmp_path / "scores.json")]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    assert main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "error: --metrics psnr compare with a reference; give --reference"
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments, "--reference", str(made), "--device", "cpu"])
    assert main() == 0
    assert json.loads((tmp_path / "scores.json").read_text())["metrics"] == {"psnr": 100.0}


INCEPTION = {"inception_weights": "random"}


def test_inception_against_adms_layout(score, tmp_path):
    """Moments of the training set and some of its images in one file: each score takes what it needs."""
    moments = {"mu": np.zeros(2048), "mu_s": np.zeros(2023)}
    moments |= {"sigma": np.diag(np.arange(2048) < 9.0), "sigma_s": np.diag(np.arange(2023) < 9.0)}
    file = write_npz(tmp_path / "adm.npz", pixels(7, seed=2), **moments)
    names = ["fid", "sfid", "is", "kid", "precision", "recall", "density", "coverage"]
    result = score(write_npz(tmp_path / "i.npz", pixels(10)), file, metrics=",".join(names), **INCEPTION)
    assert set(result.scores) == {f"{name}_random_inception" for name in names}
    identity = result.settings["reference"]
    assert (identity["file"], identity["images_in_file"], identity["purpose"]) == ("adm.npz", 7, "unknown")
    assert {name.split("_")[0] for name in result.estimates if result.label(name) != name} == {"fid", "sfid"}
    only_moments = tmp_path / "moments.npz"
    np.savez(only_moments, **moments)
    again = score(
        write_npz(tmp_path / "i.npz", pixels(10)), only_moments, metrics="fid", is_order="file", **INCEPTION
    )
    fid = "fid_random_inception"
    assert again.scores[fid] == result.scores[fid]
    assert again.settings["reference"]["count"] is None


CHECKPOINT = {"checkpoint": True, "encoder": None}


def test_a_stage_1_checkpoint_is_scored_by_its_reconstructions(score, runs, tmp_path):
    options = {"metrics": "fd,psnr", "output": tmp_path / "own.json", "device": "cpu", "num_samples": 8}
    expected = eval_rfid.run(eval_rfid.Options(checkpoint=runs / "rae", **options))
    result = score(runs / "rae", **{**CHECKPOINT, **options, "output": tmp_path / "scores.json"})
    assert result.scores == expected.scores
    assert set(result.scores) == {"rfd_random_mae", "psnr"}
    ours, theirs = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("scores", "own"))
    assert ours == theirs
    folder = write_folder(tmp_path / "pictures", pixels(6, size=40))
    assert score(runs / "rae", folder, metrics="psnr").count == 6
    for wrong, message in (
        ({"size": 32}, "--size: a stage-1 checkpoint reconstructs"),
        ({"reference_split": "val"}, "--reference_split: a stage-1"),
        ({"cfg_scale": 2.0}, "--cfg_scale: nothing is sampled"),
        ({"cache": False}, "--cache: a stage-1"),
        ({"encoder_kind": "timm"}, "--encoder_kind: a stage-1"),
    ):
        with pytest.raises(ConfigError, match=message):
            score(runs / "rae", **{**CHECKPOINT, **options, **wrong})


def test_references_of_a_stage_1_checkpoint(score, runs, tmp_path):
    """Of exactly the images that are reconstructed, for this purpose."""
    options = {key: DATA["source"][key] for key in ("image_size", "train_count", "val_count", "classes")}
    source = SyntheticSource(split="val", **options)
    images = np.stack([np.asarray(source[i].image) for i in range(12)])
    data = write_folder(tmp_path / "validation", images)
    how = {"size": 32, "encoder": str(runs / "rae")}
    file = make(data, tmp_path / "right.npz", purpose="reconstruction", **how)
    found = score(runs / "rae", file, metrics="rfd").scores
    assert found == pytest.approx(score(runs / "rae", metrics="rfd").scores, rel=1e-9)
    generation = make(data, tmp_path / "wrong.npz", **how)
    with pytest.raises(ConfigError, match="is a reference of generation scores: rFID compares reconstruc"):
        score(runs / "rae", generation, metrics="rfd")
    with pytest.raises(ConfigError, match="was made of other images than were reconstructed here"):
        score(runs / "rae", file, metrics="rfd", num_samples=8)


@pytest.mark.parametrize("name", ["images.npz", "nobody/nothing"])
def test_what_a_stage_1_checkpoint_cannot_reconstruct(score, runs, tmp_path, name):
    write_npz(tmp_path / "images.npz", pixels(4, size=32))
    reference = tmp_path / name if name.endswith("npz") else name
    with pytest.raises(ConfigError, match=f"--reference .*{name}: a stage-1 .* emoji, .*folder") as caught:
        score(runs / "rae", reference, metrics="psnr")
    assert "--data" not in str(caught.value)


def test_a_tilde_is_the_users_folder(score, runs, made, real, tmp_path, encoder, monkeypatch):
    """A shell leaves it as it is in ``--reference=~/file.npz``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    make(real, tmp_path / "statistics.npz", encoder=encoder)
    assert score("~/made", "~/statistics.npz").scores == score(made, tmp_path / "statistics.npz").scores
    assert score("~/made", "~/real").scores == score(made, real).scores
    how = {"size": 32, "encoder": str(runs / "rae"), "purpose": "reconstruction"}
    make(write_folder(tmp_path / "own", pixels(12, size=32)), tmp_path / "own.npz", **how)
    with pytest.raises(ConfigError, match="was made of other images"):  # so it was found
        score(runs / "rae", "~/own.npz", metrics="rfd")
    assert score(runs / "rae", "~/own", metrics="psnr").count == 12


def test_readers_are_chosen_alike_for_a_checkpoint(score, runs, monkeypatch):
    """By the number of images where the option is left out, as for images in files."""
    asked = []
    monkeypatch.setattr(
        "unirae.app.shell.devices.reader_processes", lambda given, images: asked.append((given, images)) or 0
    )
    score(runs / "rae", metrics="psnr")
    score(runs / "rae", metrics="psnr", num_samples=5, num_workers=1)
    sampling = {"num_samples": 6, "num_steps": 2, "batch_size": 4}
    score(runs / "dit", **sampling, **CHECKPOINT)
    assert asked == [(None, 12), (1, 5), (None, 4)]


def test_the_checkpoints_data_by_name(score, runs):
    """``--reference data`` is what is compared with where nothing is given."""
    how = {"num_samples": 6, "num_steps": 2, "batch_size": 4, "reference_split": "val", **CHECKPOINT}
    assert score(runs / "dit", "data", **how).scores == score(runs / "dit", **how).scores


def test_a_stage_2_checkpoint_is_scored_by_its_samples(score, runs, tmp_path):
    options = {"metrics": "fd", "num_samples": 6, "num_steps": 2, "cfg_scale": 1.5, "device": "cpu"}
    own = tmp_path / "own.json"
    expected = eval_fid.run(
        eval_fid.Options(checkpoint=runs / "dit", output=own, num_threads=1, batch_size=4, **options)
    )
    result = score(runs / "dit", batch_size=4, **CHECKPOINT, **options)
    assert result.scores == expected.scores
    assert json.loads((tmp_path / "scores.json").read_text()) == json.loads(own.read_text())
    images = pixels(9, size=32)
    from_npz, from_folder = (
        score(runs / "dit", reference, **CHECKPOINT, **options)
        for reference in (
            write_npz(tmp_path / "real.npz", images),
            write_folder(tmp_path / "real", images, first=1) / "",
        )
    )
    assert from_npz.settings["reference"]["count"] == 9
    assert from_folder.settings["reference"]["fingerprint"]["source"] == "image_folder"
    with pytest.raises(ConfigError, match="--size: "):
        score(runs / "dit", size=32, **CHECKPOINT, **options)
    with pytest.raises(ConfigError, match=r"--reference_split test: .* train and val"):
        score(runs / "dit", reference_split="test", **CHECKPOINT, **options)
    subset = score(runs / "dit", tmp_path / "real.npz", reference_samples=3, **CHECKPOINT, **options)
    assert subset.settings["reference"]["count"] == 3


def test_only_the_same_evaluation_writes_the_same_file(score, made, real, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/evaluation"

    def files(*args, **options) -> set[str]:
        before = set(os.listdir(folder)) if folder.exists() else set()
        score(*args, output=None, **options)
        return set(os.listdir(folder)) - before

    (first,) = files(made, real)
    assert re.fullmatch(r"made-20-[0-9a-f]{8}\.json", first)
    assert files(made, real) == set()
    assert len(files(made, write_folder(tmp_path / "others", pixels(30, seed=3)))) == 1
    assert len(files(made, real, num_samples=10)) == 1
    write_folder(made, pixels(1, seed=9))  # another picture under a name that was there
    (changed,) = files(made, real)
    assert changed != first
    assert len(os.listdir(folder)) == 4


def test_scores_are_seen_before_a_full_disk_is(score, made, real, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot write .*file/scores\.json"):
        score(made, real, output=tmp_path / "file" / "scores.json")
    assert SCORE in capsys.readouterr().out


def test_a_checkpoints_scores_go_into_its_run(score, runs):
    found = score(runs / "rae", metrics="psnr", output=None)
    assert (
        len([file for file in (runs / "rae/eval").iterdir() if file.name.startswith("rfid-last-ema-")]) == 1
    )
    assert found.count == 12
