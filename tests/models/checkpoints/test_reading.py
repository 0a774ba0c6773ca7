"""A checkpoint is opened once and handed on: what it says is there at once, its tensors are read when they are used."""

import io
import re
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

import unirae
from tiny_checkpoint import write_checkpoint
from tiny_training import tiny_config
from unirae.app.run.assembly import assemble
from unirae.core.errors import WeightsError
from unirae.core.io import load_tensors, map_tensors
from unirae.models.checkpoints.opening import rae_from_checkpoint
from unirae.models.checkpoints.reading import Checkpoint, open_checkpoint
from unirae.training.checkpoint_io import SafeCheckpointIO


def damage(path: Path) -> None:
    """Another byte in the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + len(entry.filename) + 200] ^= 1
    path.write_bytes(content)


def test_what_it_says_needs_none_of_its_tensors(tmp_path):
    file = write_checkpoint(tmp_path)
    whole = open_checkpoint(file, kind="stage1")
    damage(file)
    opened = open_checkpoint(file, kind="stage1")
    assert (opened.kind, opened.step, opened.config) == (whole.kind, whole.step, whole.config)
    with pytest.raises(
        WeightsError, match=rf"^{re.escape(str(file))} is damaged: the checksum of .* Copy it again"
    ):
        rae_from_checkpoint(opened)
    with pytest.raises(WeightsError, match="is damaged"):
        open_checkpoint(file, kind="stage1", in_memory=True)


def test_a_network_holds_nothing_of_the_file(tmp_path):
    file = write_checkpoint(tmp_path)
    rae = unirae.load_rae(file)
    before = {name: tensor.clone() for name, tensor in rae.state_dict().items()}
    with open(file, "r+b") as written:  # in place, which reaches whoever has mapped the file
        written.write(bytes(file.stat().st_size))
    assert all(torch.equal(tensor, before[name]) for name, tensor in rae.state_dict().items())


def test_its_checksums_are_compared_once(tmp_path, monkeypatch):
    opened = open_checkpoint(write_checkpoint(tmp_path), kind="stage1")
    looked = []
    monkeypatch.setattr("unirae.models.checkpoints.reading.check_tensors", lambda path: looked.append(path))
    for _ in range(3):
        opened.weights("ema")
    assert looked == [opened.file]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_resume_reads_its_checkpoint_once(tmp_path, monkeypatch, stage):
    def run(steps: int, checkpoint: Path | None) -> None:
        config = tiny_config(f"trainer.max_steps={steps}", output_dir=tmp_path, stage=stage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assemble(config, experiment="tiny", checkpoint=checkpoint).fit()

    run(1, None)
    last, read = tmp_path / "checkpoints/last.ckpt", []
    original, mapped = torch.load, []

    def counted(file, **options):
        name = getattr(file, "name", file)
        if Path(name).name == last.name:
            (mapped if options.get("mmap") else read).append(name)
        return original(file, **options)

    monkeypatch.setattr(torch, "load", counted)
    run(2, last)
    assert (len(read), len(mapped)) == (1, 0)
    assert open_checkpoint(last, kind=stage).step == 2


def test_what_was_handed_over_is_given_once(tmp_path):
    file = tmp_path / "a.ckpt"
    SafeCheckpointIO().save_checkpoint({"unirae": {"kind": "mae", "step": 1}, "w": torch.ones(2)}, file)
    opened = Checkpoint(file, {**load_tensors(file), "mark": True})
    plugin = SafeCheckpointIO(opened)
    assert "mark" in plugin.load_checkpoint(file)
    assert "mark" not in plugin.load_checkpoint(file)
    other = tmp_path / "b.ckpt"
    other.write_bytes(file.read_bytes())
    assert "mark" not in SafeCheckpointIO(opened).load_checkpoint(other)


def test_files_of_the_older_format_are_read(tmp_path):
    torch.save({"w": torch.arange(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert map_tensors(tmp_path / "old.pt")["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_one_line(tmp_path, kept):
    file = write_checkpoint(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(WeightsError, match=r"is truncated or not a torch file") as error:
        map_tensors(file)
    assert "\n" not in str(error.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save({"w": io.StringIO}, tmp_path / "evil.ckpt")
    with pytest.raises(WeightsError, match="could run code"):
        map_tensors(tmp_path / "evil.ckpt")
