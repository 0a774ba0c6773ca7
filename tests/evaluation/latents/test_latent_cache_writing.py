"""Writing a latent cache: what the encoder gives, once, resumable, in several processes, never stale."""

import json
import shutil
from collections import namedtuple

import pytest
import torch
from PIL import Image

from processes import run_in_processes
from tiny_latents import SHAPE, pictures, some_stats, tiny_rae
from unirae.core.errors import ConfigError, DataError, NonFiniteError, WeightsError
from unirae.core.images import to_float
from unirae.data.dataset import ImageDataset
from unirae.data.folder import FolderSource
from unirae.data.latent_cache import CachedLatents, LatentCache
from unirae.data.sample_key import SampleKey
from unirae.data.transforms import AdmCenterCrop, AdmCropFlip, ScaleShift
from unirae.evaluation.latents.writing import cache_key, ensure_latent_cache, write_latent_cache
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

SHARD = 20


@pytest.fixture(scope="module")
def rae():
    return tiny_rae(stats=some_stats())


def without_encoder(rae: RAE) -> RAE:
    return RAE.from_spec(rae.spec(), rae.decoder.state_dict(), stats=rae.stats, with_encoder=False)


def never():
    raise AssertionError("the encoder was opened")


def make(folder, rae, data=None, *, dtype="float32", **options) -> CachedLatents:
    data = pictures() if data is None else data
    write_latent_cache(folder, rae=rae, dataset=data, dtype=dtype, shard_images=SHARD, **options)
    cache = LatentCache(folder, cache_key(rae, data, dtype=dtype))
    return CachedLatents(cache=cache, transform=data.transform, seed=data.seed)


def keys(epochs=3, count=45):
    return [SampleKey(i, epoch) for epoch in range(epochs) for i in range(count)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3)])
def test_it_holds_what_encoding_on_the_fly_gives(tmp_path, rae, dtype, tolerance):
    data = pictures(seed=4, bad=(7, 44))
    cached = make(tmp_path, rae, data, dtype=dtype)
    for key in keys():
        image, latent = data[key], cached[key]
        expected = rae.encode(to_float(image["image"])[None])[0]
        difference = (latent["latent"] - expected).norm() / expected.norm()
        assert float(difference) <= tolerance
        assert (latent["label"], latent["index"]) == (image["label"], image["index"])
    assert cached.cache.shown[7] == 8
    assert cached.cache.shown[44] == 0
    assert cached.class_names == data.source.class_names


def test_one_view_where_there_is_one(tmp_path, rae):
    data = pictures(transform=AdmCenterCrop(size=32))
    cached = make(tmp_path, rae, data)
    assert cached.cache.plan.shape == (1, *SHAPE)
    expected = rae.encode(to_float(data[3]["image"])[None])[0]
    torch.testing.assert_close(cached[SampleKey(3, 9)]["latent"], expected)


def files(folder):
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_finished_shards_are_not_made_again(tmp_path, rae):
    make(tmp_path, rae)
    before = files(tmp_path)
    assert {"00000.npy", "00001.npy", "00002.npy", "plan.json", "index.json"} <= before.keys()
    for name in ("index.json", "samples.npy", "00001.json"):  # killed after the latents of shard 1
        (tmp_path / name).unlink()
    (tmp_path / "00002.npy").write_bytes(before["00002.npy"][0][:-100])
    (tmp_path / ".00002.npy.123.tmp").write_bytes(b"half")
    seen = []
    # an unfinished cache keeps its cut
    write_latent_cache(
        tmp_path,
        rae=rae,
        dataset=pictures(),
        dtype="float32",
        shard_images=7,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(16, 25), (20, 25), (25, 25)]
    after = files(tmp_path)
    assert {name: after[name][0] for name in before} == {
        name: content for name, (content, _) in before.items()
    }
    assert after["00000.npy"] == before["00000.npy"]
    assert after["00001.npy"][1] != before["00001.npy"][1]


def test_an_error_half_way_leaves_whole_shards_alone(tmp_path, rae):
    class Disk(Exception):
        pass

    data = pictures()
    source, read = data.source, []

    def failing(index):
        if index >= 2 * SHARD:
            raise Disk
        read.append(index)
        return type(source).__getitem__(source, index)

    failing_source = type("Failing", (), {"__len__": lambda _: 45, "__getitem__": lambda _, i: failing(i)})()
    failing_source.name, failing_source.fingerprint = source.name, source.fingerprint
    failing_source.class_names, failing_source.content = source.class_names, source.content
    data.source = failing_source
    with pytest.raises(Disk):
        make(tmp_path, rae, data)
    assert {file.name for file in tmp_path.iterdir()} == {
        "plan.json",
        *(f"0000{shard}.{kind}" for shard in (0, 1) for kind in ("npy", "json")),
    }
    with pytest.raises(DataError, match="no finished latent cache"):
        LatentCache(tmp_path, cache_key(rae, data, dtype="float32"))
    assert len(make(tmp_path, rae)) == 45


def test_images_that_change_while_they_are_encoded_are_refused(tmp_path, rae):
    for number in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (50 * number, 0, 0)).save(tmp_path / f"photos/{number}.bmp")
    source = FolderSource(split="train", data_dir=tmp_path / "photos", val_fraction=0)
    data = ImageDataset(source=source, transform=AdmCenterCrop(size=32))

    def change(done, total):
        Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / "photos/1.bmp")

    with pytest.raises(
        DataError,
        match=r"^the images changed while they were encoded \(the contents of the images\): remove .*cache and start",
    ):
        make(tmp_path / "cache", rae, data, progress=change)
    with pytest.raises(DataError, match="no finished latent cache"):
        LatentCache(tmp_path / "cache", cache_key(rae, data, dtype="float32"))


def in_process(folder):
    make(folder, tiny_rae(stats=some_stats()))


def test_two_processes_write_what_one_does(tmp_path, rae):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    make(alone, rae)
    run_in_processes(in_process, shared)
    assert {n: content for n, (content, _) in files(shared).items()} == {
        n: content for n, (content, _) in files(alone).items()
    }


def changed(name, rae):
    """An autoencoder and data that differ in one thing."""
    data = pictures()
    match name:
        case "encoder":
            return tiny_rae(seed=1, stats=rae.stats), data
        case "statistics":
            return rae.with_stats(some_stats(seed=1)), data
        case "no statistics":
            return rae.with_stats(LatentStats()), data
        case "resolution":
            return tiny_rae(input_size=24), data
        case "crop":
            return rae, pictures(transform=AdmCropFlip(size=24))
        case "transform":
            return rae, pictures(transform=AdmCenterCrop(size=32))
    return rae, pictures(44)


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("encoder", r"encoder\.sha256"),
        ("statistics", "statistics"),
        ("no statistics", "statistics"),
        ("resolution", r"encoder\.input_size"),
        ("crop", r"transform\.size"),
        ("transform", r"transform\.name"),
        ("data", r"the number of images \(45 there, 44 here\)"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_stale_cache_is_refused(tmp_path_factory, rae, name, difference, finished):
    folder = tmp_path_factory.getbasetemp() / "stale"
    if not folder.exists():
        make(folder, rae)
    if not finished:
        folder = shutil.copytree(folder, tmp_path_factory.mktemp("unfinished"), dirs_exist_ok=True)
        (folder / "index.json").unlink()
    other, data = changed(name, rae)
    options = {"rae": other, "dataset": data, "dtype": "float32"}
    with pytest.raises(
        ConfigError, match=f"(holds other latents|is of other images).*{difference}.*remove this one"
    ):
        ensure_latent_cache(folder, open_encoder=never if finished else lambda: other, **options)


def test_the_chance_of_a_mirror_image_does_not_matter(tmp_path, rae):
    make(tmp_path, rae)
    often = pictures(transform=AdmCropFlip(size=32, flip_probability=0.9))
    options = {"rae": rae, "dtype": "float32", "open_encoder": never}
    assert len(ensure_latent_cache(tmp_path, dataset=often, **options)) == 45


def test_the_key_needs_no_encoder_and_is_plain(rae):
    key = cache_key(rae, pictures(), dtype="float16")
    assert cache_key(without_encoder(rae), pictures(), dtype="float16") == key
    assert json.loads(json.dumps(key)) == key
    with pytest.raises(ConfigError, match="float32 or float16"):
        cache_key(rae, pictures(), dtype="bfloat16")
    with pytest.raises(ConfigError, match="ScaleShift"):
        cache_key(rae, pictures(transform=ScaleShift(size=32)), dtype="float16")


def test_it_is_made_once_and_read_without_the_encoder(tmp_path, rae):
    opened = []

    def open_encoder():
        opened.append(True)
        return tiny_rae()  # as the checkpoint has it: without the statistics of the run

    data, absent = pictures(seed=2), without_encoder(rae)
    options = {"rae": absent, "dataset": data, "dtype": "float32"}
    first = ensure_latent_cache(tmp_path / "a/b", open_encoder=open_encoder, **options)
    again = ensure_latent_cache(tmp_path / "a/b", open_encoder=never, **options)
    assert opened == [True]
    for key in keys(1):
        expected = rae.encode(to_float(data[key]["image"])[None])[0]
        torch.testing.assert_close(first[key]["latent"], expected, rtol=0, atol=1e-5)
        assert torch.equal(first[key]["latent"], again[key]["latent"])
    picture = absent.decode(first[0]["latent"][None])
    torch.testing.assert_close(picture, rae.decode(first[0]["latent"][None]))
    with pytest.raises(WeightsError, match=r"encoder \(tiny\) was not loaded"):
        absent.encode(torch.rand(1, 3, 32, 32))


def test_other_files_and_a_small_disk_are_refused(tmp_path, rae, monkeypatch):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="holds other files"):
        make(tmp_path, rae)
    with pytest.raises(ConfigError, match="holds other files"):
        make(tmp_path / "thesis.txt", rae)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free=1000))
    with pytest.raises(
        DataError,
        match=r"needs 9\.22e-05 GB more.*latent_cache, dtype=float16, or latent_cache=None",
    ):
        make(tmp_path / "c", rae)


def test_latents_that_16_bits_cannot_hold_are_refused(tmp_path, rae):
    huge = rae.with_stats(LatentStats(mean=torch.full(SHAPE, 1e5)))
    with pytest.raises(NonFiniteError, match=r"images 0 to 15 is 1e\+05, too large.*dtype=float32"):
        make(tmp_path, huge, dtype="float16")
    shutil.rmtree(tmp_path)
    broken = tiny_rae()
    next(broken.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        make(tmp_path, broken)
