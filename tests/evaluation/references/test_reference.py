"""References: of data, the same for every batch size; of files, as they are or with a clear refusal."""

import os

import numpy as np
import pytest
import torch

from processes import run_in_processes
from tiny_latents import pictures
from toy_extractors import Brightness, MeanColour, ToyInception, colour_metric
from unirae.core.distributed import rank
from unirae.core.errors import ConfigError, DataError
from unirae.evaluation.passes.reading import choose_indices
from unirae.evaluation.references.reference import check_fits, check_purpose, reference_from_data
from unirae.evaluation.references.reference_cache import cache_key, cached_reference
from unirae.evaluation.references.reference_file import read_reference, write_reference
from unirae.metrics.set_metrics import encoder_metric, inception_metrics, needs
from unirae.metrics.statistics import Keep

COLOUR = [(MeanColour(), {"pooled": Keep(moments=True, features=True)})]
BOTH = [*COLOUR, (Brightness(), {"pooled": Keep(moments=True)})]


def of(data, wanted=COLOUR, **options):
    return reference_from_data(data, wanted, purpose="generation", **options)


def test_moments_of_data_equal_numpys():
    data = pictures(21)
    reference = of(data, BOTH, batch_size=4)
    colour, brightness = (reference.statistics[f"{name}/pooled"].moments for name in ("colour", "brightness"))
    features = np.stack([data[i]["image"].double().mean((1, 2)).numpy() for i in range(21)])
    np.testing.assert_allclose(colour.mean, features.mean(0), rtol=1e-6)
    np.testing.assert_allclose(colour.covariance, np.cov(features.T), rtol=1e-5)
    np.testing.assert_allclose(brightness.mean, features.mean(), rtol=1e-6)
    np.testing.assert_allclose(reference.statistics["colour/pooled"].features, features, rtol=1e-6)
    assert reference.identity["count"] == colour.count == 21
    assert reference.identity["fingerprint"]["split"] == "train"
    assert reference.identity["size_px"] == [32, 32]


def test_the_batch_size_does_not_matter():
    data, done = pictures(21), []
    by_4, by_21 = (of(data, batch_size=size).statistics["colour/pooled"] for size in (4, 21))
    assert torch.equal(by_4.moments.covariance, by_21.moments.covariance)
    assert torch.equal(by_4.features, by_21.features)
    of(data, progress=lambda *now: done.append(now))
    assert done[-1] == (21, 21)


def test_a_subset_and_replaced_images_are_recorded():
    assert of(pictures(21, bad=(3, 4))).identity["unreadable_images_replaced"] == 2
    identity = of(pictures(21), num_samples=6, seed=2).identity
    assert (identity["count"], identity["count_available"], identity["subset_seed"]) == (6, 21, 2)
    with pytest.raises(DataError, match="at least 2 images"):
        of(pictures(21), num_samples=1)


def test_a_file_of_ours_comes_back_whole(tmp_path):
    reference = of(pictures(21), BOTH)
    found = read_reference(write_reference(tmp_path / "ours.npz", reference))
    assert set(found.statistics) == set(reference.statistics)
    for key, kept in reference.statistics.items():
        assert torch.equal(found.statistics[key].moments.covariance, kept.moments.covariance)
        assert (found.statistics[key].features is None) == (kept.features is None)
    assert torch.equal(found.hashes, reference.hashes)
    assert {**found.identity, "file": None, "sha256": None} == {
        **reference.identity,
        "file": None,
        "sha256": None,
    }
    check_fits(found, [colour_metric()])


def test_other_tools_read_our_moments_of_inception(tmp_path):
    metrics = inception_metrics(["fid", "sfid"], ToyInception())
    reference = of(pictures(21), needs(metrics, of_reference=True))
    with np.load(write_reference(tmp_path / "ours.npz", reference)) as content:
        moments = reference.statistics["inception/spatial"].moments
        np.testing.assert_array_equal(content["mu_s"], moments.mean)
        np.testing.assert_array_equal(content["sigma_s"], moments.covariance)
        assert content["sigma"].shape == (12, 12)


def test_published_files_as_they_are(tmp_path):
    mean, covariance = np.arange(12, dtype=np.float32), np.diag(np.arange(1.0, 13.0))
    spatial = {"mu_s": np.zeros(7), "sigma_s": np.eye(7)}
    np.savez(
        tmp_path / "adm.npz", arr_0=np.zeros((2, 4, 4, 3), np.uint8), mu=mean, sigma=covariance, **spatial
    )
    reference = read_reference(tmp_path / "adm.npz")
    moments = reference.statistics["inception/pooled"].moments
    assert moments.mean.dtype == torch.float64
    assert moments.mean.tolist() == list(range(12))
    assert moments.covariance.diagonal().tolist() == list(range(1, 13))
    assert reference.identity["file"] == "adm.npz"
    assert len(reference.identity["sha256"]) == 64
    check_fits(reference, inception_metrics(["fid", "sfid"], ToyInception()))
    assert reference.identity["size_px"] == [4, 4]
    # as torch-fidelity's cache holds them: arrays of numpy
    torch.save({"mu": mean, "sigma": covariance}, tmp_path / "cache.pt")
    by_torch_fidelity = read_reference(tmp_path / "cache.pt").statistics["inception/pooled"].moments
    assert torch.equal(by_torch_fidelity.covariance, moments.covariance)
    assert torch.equal(by_torch_fidelity.mean, moments.mean)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": np.zeros((2, 4, 4, 3))}, "holds arr_0, but no mu and sigma. It seems to hold images"),
        ({"mu": np.zeros(3)}, "holds mu, but no mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.ones(3)}, "not a mean and its covariance"),
        ({"mu": np.zeros((1, 3)), "sigma": np.eye(1)}, "not a mean and its covariance"),
        ({"mu": np.array([0, 1, np.nan]), "sigma": np.eye(3)}, "not finite"),
        ({"mu": np.array(["a", "b"]), "sigma": np.eye(2)}, "cannot be read"),
        ({"mu": np.array([{}]), "sigma": np.eye(1)}, "cannot be read"),
        ({"about": np.array("no json")}, "description cannot be read"),
    ],
)
def test_wrong_files(tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_reference(tmp_path / "wrong.npz")


def test_no_file_and_no_npz(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_reference(tmp_path / "absent.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match="not an npz file"):
        read_reference(tmp_path / "cut.npz")


def test_references_of_another_kind_or_extractor_are_refused(tmp_path):
    generation = of(pictures(8))
    with pytest.raises(ConfigError, match=r"is a reference of generation scores: rFID compares"):
        check_purpose(generation, "reconstruction")
    reconstruction = reference_from_data(pictures(8), COLOUR, purpose="reconstruction")
    with pytest.raises(ConfigError, match="reference of reconstruction scores"):
        check_purpose(reconstruction, "generation")
    np.savez(tmp_path / "adm.npz", mu=np.zeros(12), sigma=np.eye(12))
    published = read_reference(tmp_path / "adm.npz")
    check_purpose(published, "generation")
    with pytest.raises(ConfigError, match="reference of unknown scores"):
        check_purpose(published, "reconstruction")
    with pytest.raises(
        ConfigError, match="needs those of brightness/pooled: a reference of another extractor"
    ):
        check_fits(generation, [encoder_metric(Brightness())])
    with pytest.raises(ConfigError, match="only their mean and covariance"):
        check_fits(published, inception_metrics(["kid"], ToyInception()))
    other = MeanColour()
    other.identity = {"sha256": "1"}
    with pytest.raises(ConfigError, match="made by another colour: sha256 0 there, 1 here"):
        check_fits(generation, [encoder_metric(other)])


def test_the_cache_computes_once_and_is_keyed_by_content(tmp_path):
    data, computed = pictures(9), []

    def reference():
        computed.append(1)
        return of(data)

    def cached():
        return cached_reference(
            tmp_path, data, COLOUR, purpose="generation", indices=list(range(9)), seed=0, compute=reference
        )

    first, second = cached(), cached()
    assert len(computed) == 1
    assert first.identity == second.identity
    assert torch.equal(
        first.statistics["colour/pooled"].features, second.statistics["colour/pooled"].features
    )

    def key(data=data, wanted=COLOUR, count=9, purpose="generation", **options):
        return cache_key(data, wanted, purpose=purpose, indices=choose_indices(9, count, 0), seed=0)

    changed = MeanColour()
    changed.identity = {"sha256": "1"}
    others = [
        key(count=8),
        key(wanted=[(changed, COLOUR[0][1])]),
        key(wanted=[(MeanColour(), {"pooled": Keep(moments=True)})]),
        key(purpose="reconstruction"),
        key(data=pictures(10)),
    ]
    assert len({key(), *others}) == 6
    assert key() == key()


def cut(file):
    file.write_bytes(file.read_bytes()[:-300])


def overwritten(file):
    content = file.read_bytes()
    file.write_bytes(content[:200] + bytes(200) + content[400:])


def in_an_old_format(file):
    with np.load(file) as content:
        arrays = dict(content)
    arrays["about"] = np.array(str(arrays["about"]).replace('"format": 1', '"format": 0'))
    np.savez(file, **arrays)


@pytest.mark.parametrize("damage", [cut, overwritten, in_an_old_format])
def test_a_damaged_file_in_the_cache_is_made_again(tmp_path, caplog, damage):
    data, computed = pictures(9), []

    def cached():
        def compute():
            computed.append(1)
            return of(data)

        return cached_reference(
            tmp_path, data, COLOUR, purpose="generation", indices=list(range(9)), seed=0, compute=compute
        )

    whole = cached()
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    damage(file)
    assert file.read_bytes() != content
    again = cached()
    assert torch.equal(again.hashes, whole.hashes)
    assert len(computed) == 2
    assert f"{file} cannot be used and is made again" in caplog.text
    assert file.read_bytes() == content
    cached()
    assert len(computed) == 2


def damaged_for_the_second(folder):
    own = folder / f"cache-{rank()}"
    data, computed = pictures(9), []

    def compute():
        computed.append(1)
        return of(data)

    for _ in range(2):
        cached_reference(
            own, data, COLOUR, purpose="generation", indices=list(range(9)), seed=0, compute=compute
        )
        if rank() == 1:
            (folder / "cache-1").mkdir(exist_ok=True)
            for file in (folder / "cache-0").iterdir():
                (folder / "cache-1" / file.name).write_bytes(b"PK")
    return len(computed)


def test_processes_compute_together_where_one_cannot_read(tmp_path):
    assert run_in_processes(damaged_for_the_second, tmp_path) == [2, 2]


def kept_nowhere(folder):
    """The cache's place is a file, as a full or read-only disk refuses to write."""
    (folder / "blocked").touch()
    options = {"purpose": "generation", "indices": list(range(9)), "seed": 0}
    data = pictures(9)
    return cached_reference(
        folder / "blocked/references", data, COLOUR, compute=lambda: of(data), **options
    ).identity["count"]


def test_a_reference_that_cannot_be_kept_is_used_all_the_same(tmp_path, caplog):
    assert kept_nowhere(tmp_path) == 9
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "the reference is not kept" in warning
    assert "cannot write" in warning
    assert "UNIRAE_CACHE_DIR" in warning
    assert "goes without one with cache=False" in warning
    assert run_in_processes(kept_nowhere, tmp_path) == [9, 9]


def test_a_cache_of_another_user_is_no_cache(tmp_path, monkeypatch, caplog):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("unirae.evaluation.references.reference_cache.read_reference", refused)
    data = pictures(9)
    for _ in range(2):
        cached_reference(
            tmp_path,
            data,
            COLOUR,
            purpose="generation",
            indices=list(range(9)),
            seed=0,
            compute=lambda: of(data),
        )
    assert "Permission denied" in caplog.text


def test_the_cache_is_keyed_by_format_and_version(monkeypatch):
    def key():
        return cache_key(pictures(9), COLOUR, purpose="generation", indices=[0, 1], seed=0)

    keys = {key()}
    for name, value in (("FORMAT", 99), ("__version__", "99")):
        with monkeypatch.context() as patch:
            patch.setattr(f"unirae.evaluation.references.reference_cache.{name}", value)
            keys.add(key())
    assert len(keys) == 3


def test_a_reference_of_a_moved_folder_says_where_it_is_now(tmp_path):
    from PIL import Image

    from unirae.data.folder import FolderSource
    from unirae.data.stored import StoredImages

    (tmp_path / "before").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"before/{i}.png")

    def cached(folder):
        data = StoredImages(FolderSource(split="train", data_dir=folder, val_fraction=0.0))
        options = {"purpose": "generation", "indices": [0, 1, 2], "seed": 0, "compute": lambda: of(data)}
        return cached_reference(tmp_path / "cache", data, COLOUR, **options)

    made = cached(tmp_path / "before")
    moved = (tmp_path / "before").rename(tmp_path / "after")
    found = cached(moved)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert found.identity["fingerprint"]["path"] == str(moved)
    assert {**found.identity, "fingerprint": None} == {**made.identity, "fingerprint": None}


def test_a_changed_image_of_a_folder_is_another_reference(tmp_path):
    from PIL import Image

    from unirae.data.folder import FolderSource
    from unirae.data.stored import StoredImages

    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")

    def key(where):
        data = StoredImages(FolderSource(split="train", data_dir=where, val_fraction=0.0))
        return cache_key(data, COLOUR, purpose="generation", indices=[0, 1, 2], seed=0)

    before = key(folder)
    moved = folder.rename(tmp_path / "moved")
    assert key(moved) == before
    Image.new("RGB", (8, 8), (200, 100, 50)).save(moved / "1.png")
    assert key(moved) != before


def test_changed_pixels_under_the_same_names_make_the_reference_anew(tmp_path, caplog):
    """Also of data that were prepared, and where sizes and times are those of before."""
    import shutil

    import numpy as np
    from PIL import Image

    from unirae.data.hf import HFSource
    from unirae.data.prepare import prepare
    from unirae.data.stored import StoredImages

    caplog.set_level("INFO")

    def cached(level):
        shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
        for i in range(4):
            file = tmp_path / f"images/{i}.bmp"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), level + i, np.uint8)).save(file)
            os.utime(file, ns=(0, 0))
        prepare(source=tmp_path / "images", output=tmp_path / "prepared", val_fraction=0)
        data = StoredImages(HFSource(split="train", data_dir=tmp_path / "prepared", val_fraction=0))
        options = {"purpose": "generation", "indices": [0, 1, 2, 3], "seed": 0, "compute": lambda: of(data)}
        return cached_reference(tmp_path / "cache", data, COLOUR, **options)

    first = cached(10)
    assert "no reference of these images, as they are now, is kept" in caplog.text
    second, again = cached(200), cached(10)
    assert first.identity["content_sha256"] == again.identity["content_sha256"]
    assert first.identity["content_sha256"] != second.identity["content_sha256"]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_reference_of_images_that_change_meanwhile_is_not_kept(tmp_path, caplog):
    from PIL import Image

    from unirae.data.folder import FolderSource
    from unirae.data.stored import StoredImages

    (tmp_path / "d").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"d/{i}.png")
    data = StoredImages(FolderSource(split="train", data_dir=tmp_path / "d", val_fraction=0.0))

    def compute():
        made = of(data)
        Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "d/2.png")
        return made

    options = {"purpose": "generation", "indices": [0, 1, 2], "seed": 0, "compute": compute}
    cached_reference(tmp_path / "cache", data, COLOUR, **options)
    assert "the images changed while it was computed" in caplog.text
    assert not (tmp_path / "cache").exists()
