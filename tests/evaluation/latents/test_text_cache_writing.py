"""The cache of texts: what the text encoder gives, once, growing by what is missing, in several processes."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from processes import run_in_processes
from tiny_text import edit_json, text_encoder_folder, write_text_encoder
from unirae.core.arguments import called
from unirae.core.errors import ConfigError, DataError, NonFiniteError, UserError, WeightsError
from unirae.data.text_cache import TextCache, TokensOfCaptions, hash_of
from unirae.evaluation.latents import text_writing
from unirae.evaluation.latents.text_writing import ensure_texts, known_identity, open_text_cache
from unirae.models.text.build import load_text_encoder

TEXTS = ["", "a cat", "two dogs", "日本 😀", "half \ud83d", "x" * 60, *(f"number {k}" for k in range(20))]
LENGTH = 12


def load(folder):
    return load_text_encoder(folder, max_length=LENGTH)


@pytest.fixture(scope="module", params=["bert", "qwen3"])
def encoder(request):
    """One with tokens for "", and one without."""
    return load(text_encoder_folder(request.param))


def never():
    raise AssertionError("the text encoder was opened")


def fill(folder, encoder, texts=TEXTS, *, dtype="float32", open_encoder=None, **options):
    cache = open_text_cache(folder, encoder.identity, dtype=dtype)
    opened = (lambda: encoder) if open_encoder is None else open_encoder
    ensure_texts(cache, texts, identity=encoder.identity, open_encoder=opened, dtype=dtype, **options)
    return cache


def assert_holds(cache, encoder, texts=TEXTS, tolerance=1e-6):
    tokens, mask = cache.padded(texts)
    assert tokens.shape[1] % 16 == 0
    assert tokens.dtype == torch.float32
    for own, there, text in zip(tokens, mask, texts, strict=True):
        wanted, kept = encoder.encode([text]).text
        assert int(there.sum()) == int(kept.sum())
        assert torch.equal(own[~there], torch.zeros_like(own[~there]))
        found, right = own[there], wanted[0][kept[0]]
        if len(right):
            assert float((found - right).norm() / right.norm()) <= tolerance, text


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3)])
def test_it_holds_what_the_encoder_gives(tmp_path, encoder, dtype, tolerance):
    seen = []
    cache = fill(tmp_path, encoder, dtype=dtype, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    assert_holds(cache, encoder, tolerance=tolerance)
    assert_holds(open_text_cache(tmp_path, encoder.identity, dtype=dtype), encoder, tolerance=tolerance)
    assert_holds(pickle.loads(pickle.dumps(cache)), encoder, tolerance=tolerance)
    assert cache.tokens_of("a cat").dtype == torch.float32


def test_a_complete_cache_opens_no_encoder(tmp_path, encoder):
    fill(tmp_path, encoder)
    assert_holds(fill(tmp_path, encoder, open_encoder=never), encoder)
    fill(tmp_path, encoder, [], open_encoder=never)


def test_it_grows_by_what_is_missing_alone(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(text_writing, "_TEXTS_IN_PART", 7)
    before = fill(tmp_path, encoder, TEXTS[:11])
    files = {file: file.stat().st_mtime_ns for file in before.folder.glob("*.npy")}
    assert len(files) == 4
    seen = []
    encode = type(encoder).encode
    monkeypatch.setattr(
        type(encoder), "encode", lambda self, texts: (seen.extend(texts), encode(self, texts))[1]
    )
    after = fill(tmp_path, encoder, TEXTS * 2)
    assert sorted(seen, key=hash_of) == sorted(TEXTS[11:], key=hash_of)
    assert {file: file.stat().st_mtime_ns for file in files} == files
    monkeypatch.undo()
    assert_holds(after, encoder)


def test_an_interrupted_writing_goes_on(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(text_writing, "_TEXTS_IN_PART", 5)
    calls, original = [], type(encoder).encode

    def interrupted(self, texts):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(type(encoder), "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path, encoder)
    half = open_text_cache(tmp_path, encoder.identity, dtype="float32")
    assert len(half.missing(TEXTS)) == len(TEXTS) - 10
    # tokens that were written without their index, as by a kill between the two
    (orphan := half.folder / "0123456789abcdef.npy").write_bytes(b"half")
    assert_holds(fill(tmp_path, encoder), encoder)
    assert orphan.exists()
    assert not [file for file in half.folder.iterdir() if file.name.endswith(".tmp")]


def _damage(cache, what):
    (index,) = cache.folder.glob("*.index.npy")
    tokens = cache.folder / index.name.replace(".index", "")
    if what == "tokens cut":
        tokens.write_bytes(tokens.read_bytes()[:-40])
    elif what == "tokens shorter":
        np.save(tokens, np.load(tokens)[:-3])
    elif what == "tokens of another width":
        np.save(tokens, np.load(tokens)[:, 1:])
    elif what == "tokens gone":
        tokens.unlink()
    elif what == "index cut":
        index.write_bytes(index.read_bytes()[:-9])
    elif what == "index empty":
        index.write_bytes(b"")
    elif what == "index of something else":
        np.save(index, np.zeros(4))
    elif what == "index an archive":
        with open(index, "wb") as file:
            np.savez(file, a=np.zeros(3))
    return index


@pytest.mark.parametrize(
    "what",
    ["tokens cut", "tokens shorter", "tokens of another width", "tokens gone", "index cut", "index empty",
     "index of something else", "index an archive"],
)  # fmt: skip
def test_a_damaged_part_is_named_and_made_again(tmp_path, encoder, what):
    index = _damage(fill(tmp_path, encoder), what)
    with pytest.raises(DataError, match="remove both, and they are made again") as found:
        open_text_cache(tmp_path, encoder.identity, dtype="float32")
    assert str(index) in str(found.value)
    assert "\n" not in str(found.value)
    index.unlink()
    index.with_name(index.name.replace(".index", "")).unlink(missing_ok=True)
    assert_holds(fill(tmp_path, encoder), encoder)


def test_a_text_that_is_not_there_is_named(tmp_path, encoder):
    cache = fill(tmp_path, encoder, TEXTS[:3])
    assert ("a cat" in cache, "a bat" in cache) == (True, False)
    with pytest.raises(DataError, match="lacks the text 'a bat'"):
        cache.padded(["a cat", "a bat"])


def test_values_too_large_for_16_bits_are_refused(tmp_path, encoder):
    large = load(text_encoder_folder(encoder.identity.model_type))
    model = large.model
    last = model.norm if encoder.identity.model_type == "qwen3" else model.encoder.layer[-1].output.LayerNorm
    last.weight.mul_(1e6)
    with (
        pytest.raises(NonFiniteError, match="too large for 16 bits") as found,
        called({"latent_cache.": "CACHE."}),
    ):
        fill(tmp_path / "half", large, ["a cat"], dtype="float16")
    assert "'a cat'" in str(found.value)
    assert not list((tmp_path / "half").rglob("*.npy"))
    assert_holds(fill(tmp_path / "whole", large, ["a cat"]), large, ["a cat"])


def test_texts_without_any_token_are_kept_too(tmp_path, encoder):
    assert_holds(fill(tmp_path, encoder, [""]), encoder, [""])
    assert_holds(fill(tmp_path, encoder, ["", "a"]), encoder, ["", "a"])


def test_a_full_disk_is_said_before_it_is_full(tmp_path, encoder, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(text_writing.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"needs .* GB more, and 1e-06 GB are free"):
        fill(tmp_path, encoder)
    monkeypatch.undo()
    assert_holds(fill(tmp_path, encoder), encoder)


def fill_together(folder, encoder_folder, small):
    text_writing._TEXTS_IN_PART = 4
    encoder = load(encoder_folder)
    opened = []
    texts = TEXTS[:3] if small else TEXTS
    cache = fill(folder, encoder, texts, open_encoder=lambda: opened.append(1) or encoder)
    return len(opened), [tensor.numpy() for tensor in cache.padded(texts)]


@pytest.mark.parametrize("small", [False, True], ids=["many parts", "one part"])
def test_two_processes_share_the_texts(tmp_path, small):
    folder = text_encoder_folder("bert")
    (first, one), (second, two) = run_in_processes(fill_together, tmp_path / "two", folder, small)
    assert (first, second) == ((1, 0) if small else (1, 1))
    for mine, theirs in zip(one, two, strict=True):
        assert np.array_equal(mine, theirs)
    encoder = load(folder)
    texts = TEXTS[:3] if small else TEXTS
    assert_holds(fill(tmp_path / "two", encoder, texts, open_encoder=never), encoder, texts)
    parts = [len(np.load(file)) for file in tmp_path.rglob("*.index.npy")]
    assert sum(parts) == len(texts)
    assert len(parts) == (1 if small else 7)


# ---------------------------------------------------------------- whose cache it is


def known(folder, name, **options):
    asked = {"name": str(name), "max_length": LENGTH, "layer": None, "dtype": "float32"}
    return known_identity(folder, **asked | options)


def copied(tmp_path, family="bert", name="encoder"):
    return shutil.copytree(text_encoder_folder(family), tmp_path / name)


def test_the_identity_is_known_without_the_encoder(tmp_path):
    own = copied(tmp_path)
    encoder = load(own)
    assert known(tmp_path / "cache", own) is None
    fill(tmp_path / "cache", encoder)
    assert known(tmp_path / "cache", own) == encoder.identity
    for other in ({"max_length": 13}, {"layer": -1}, {"dtype": "float16"}):
        assert known(tmp_path / "cache", own, **other) is None
    assert known(tmp_path / "cache", text_encoder_folder("qwen3")) is None
    shutil.rmtree(own)
    assert known(tmp_path / "cache", own) == encoder.identity


def test_other_files_of_the_encoder_are_looked_at(tmp_path):
    """A file that is written anew, or weights of another seed, are no reason to believe what was known before."""
    own = copied(tmp_path)
    encoder = load(own)
    fill(tmp_path / "cache", encoder)
    shutil.rmtree(own)
    write_text_encoder(own, "bert", seed=7)
    assert known(tmp_path / "cache", own) is None
    other = load(own)
    assert open_text_cache(tmp_path / "cache", other.identity, dtype="float32").missing(["a cat"]) == [
        "a cat"
    ]
    fill(tmp_path / "cache", other)
    assert known(tmp_path / "cache", own) == other.identity
    assert_holds(open_text_cache(tmp_path / "cache", encoder.identity, dtype="float32"), encoder)
    shutil.rmtree(own)
    with pytest.raises(WeightsError, match=r"is not here, and .* holds the texts of 2 of that name"):
        known(tmp_path / "cache", own)


def test_a_copy_of_the_encoder_uses_the_same_cache_and_is_known_from_then_on(tmp_path):
    """Its files have another time: it is opened once, to see that it is the same."""
    encoder = load(copied(tmp_path))
    fill(tmp_path / "cache", encoder)
    for file in (tmp_path / "encoder").iterdir():
        file.touch()
    assert known(tmp_path / "cache", tmp_path / "encoder") is None
    again = load(tmp_path / "encoder")
    assert_holds(fill(tmp_path / "cache", again, open_encoder=never), encoder)
    assert known(tmp_path / "cache", tmp_path / "encoder") == encoder.identity


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"identity": {}, "dtype": "float32", "files": null}', "null"]
)
def test_a_damaged_record_is_one_line(tmp_path, encoder, content):
    cache = fill(tmp_path, encoder)
    (cache.folder / "about.json").write_text(content)
    for look in (
        lambda: known(tmp_path, encoder.identity.name),
        lambda: open_text_cache(tmp_path, encoder.identity, dtype="float32"),
    ):
        with pytest.raises(UserError, match=r"about.json|holds texts of another") as found:
            look()
        assert "\n" not in str(found.value)


def test_a_cache_of_another_encoder_under_its_name_is_refused(tmp_path, encoder):
    cache = fill(tmp_path, encoder)
    about = json.loads((cache.folder / "about.json").read_text())
    edit_json(cache.folder / "about.json", text_encoder=about["text_encoder"] | {"sha256": "0"})
    with pytest.raises(ConfigError, match=r"holds texts of another text encoder .*sha256"):
        open_text_cache(tmp_path, encoder.identity, dtype="float32")


# ---------------------------------------------------------------- batches


def test_batches_have_tokens_in_place_of_captions(tmp_path, encoder):
    cache = fill(tmp_path, encoder)
    samples = [{"index": k, "latent": torch.full((2,), float(k)), "caption": TEXTS[k]} for k in range(4)]
    batch = TokensOfCaptions(cache)(samples)
    assert batch.keys() == {"index", "latent", "text", "text_mask"}
    assert batch["index"].tolist() == [0, 1, 2, 3]
    tokens, mask = cache.padded(TEXTS[:4])
    assert torch.equal(batch["text"], tokens)
    assert torch.equal(batch["text_mask"], mask)
    assert tokens.shape[1] == 16


def test_no_texts_are_a_batch_too(tmp_path, encoder):
    tokens, mask = fill(tmp_path, encoder).padded([])
    assert (tokens.shape, mask.shape) == ((0, 16, 32), (0, 16))


def test_an_empty_folder_is_an_empty_cache(tmp_path):
    cache = TextCache(tmp_path / "none", width=4)
    assert cache.missing(["b", "a", "b"]) == sorted(["a", "b"], key=hash_of)
