import resource
import zipfile
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unirae.core.errors import UserError, WeightsError
from unirae.core.io import (
    file_sha256,
    load_safetensors,
    load_tensors,
    read_json,
    save_safetensors,
    save_tensors,
    state_sha256,
    write_atomically,
    write_folder,
    write_json,
)


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new, first half")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b", second half")

    write_atomically(path, write)
    assert path.read_bytes() == b"new, first half, second half"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*taken/a\.json: "):
        write_json(tmp_path / "taken" / "a.json", {})


def test_json_round_trip_and_errors(tmp_path):
    content = {"name": "λ", "scores": [1.5, None]}
    assert read_json(write_json(tmp_path / "a" / "b.json", content)) == content
    assert "λ" in (tmp_path / "a" / "b.json").read_text()
    (tmp_path / "bad.json").write_text('{"a":\n 1,}')
    with pytest.raises(UserError, match=r"bad\.json is not valid JSON \(line 2"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(UserError, match=r"no such file: .*none\.json"):
        read_json(tmp_path / "none.json")


@given(st.binary(max_size=200))
def test_no_bytes_escape_the_one_line_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.ckpt"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        load_tensors(path)


@given(st.data())
def test_no_truncation_escapes_the_one_line_error(tmp_path_factory, data):
    path = save_tensors(tmp_path_factory.getbasetemp() / "cut.ckpt", {"w": torch.ones(30), "text": "x"})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(WeightsError, match="truncated or not a torch file"):
        load_tensors(path)


def test_one_flipped_bit_is_named_with_its_entry(tmp_path):
    path = save_tensors(tmp_path / "net.pt", {"w": torch.ones(1000), "v": torch.ones(3)})
    assert load_tensors(path)["w"].sum() == 1000
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(1000).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pt is damaged: the checksum of archive/data/0 in it"):
        load_tensors(path)


def test_files_without_checksums_load(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        save_tensors(tmp_path / "unchecked.pt", {"w": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert not any(entry.CRC for entry in zipfile.ZipFile(tmp_path / "unchecked.pt").infolist())
    torch.save({"w": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("unchecked.pt", "old.pt"):
        assert load_tensors(tmp_path / name)["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("load", [load_tensors, load_safetensors])
def test_a_folder_instead_of_a_file_is_one_line(tmp_path, load):
    with pytest.raises(WeightsError, match="is a folder; a file of weights is needed"):
        load(tmp_path)
    with pytest.raises(WeightsError, match=r"no such file: .*none\.pt"):
        load(tmp_path / "none.pt")


@contextmanager
def file_size_limit(size):
    """The operating system refuses longer files: it is to the writer what a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_refusal_in_the_middle_of_safetensors_is_one_line_and_leaves_nothing(tmp_path):
    tensors = {"w": torch.ones(10_000)}
    refused = pytest.raises(UserError, match=r"cannot write .*out: File too large\. Free some space")
    with file_size_limit(1000), refused:
        write_folder(tmp_path / "out", lambda new: save_safetensors(new / "model.safetensors", tensors))
    assert list(tmp_path.iterdir()) == []


def test_state_hash_sees_names_types_shapes_and_values_but_not_order():
    state = {"a": torch.arange(6.0), "b": torch.ones(2)}
    reference = state_sha256(state)
    assert state_sha256(dict(reversed(state.items()))) == reference
    others = [
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"].view(2, 3), "b": state["b"]},
        {"a": state["a"].view(torch.int32), "b": state["b"]},
        {"a": state["a"] + 1e-6, "b": state["b"]},
        {"a": state["a"]},
    ]
    assert reference not in [state_sha256(other) for other in others]
    assert (
        state_sha256({"a": state["a"].view(2, 3).T.contiguous().T.reshape(6), "b": state["b"]}) == reference
    )


def test_file_hash(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
