import errno
import gc
import os
import subprocess
import sys
import weakref

import pytest
import torch

from unirae.core.errors import UserError, WeightsError
from unirae.models.checkpoints.reading import open_checkpoint
from unirae.training.checkpoint_io import SafeCheckpointIO

CHECKPOINT = {
    "state_dict": {"w": torch.arange(5.0)},
    "global_step": 3,
    "unirae": {"kind": "mae", "note": None},
}


class Command:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "a.ckpt"
    SafeCheckpointIO().save_checkpoint(CHECKPOINT, path)
    loaded = SafeCheckpointIO().load_checkpoint(path)
    assert torch.equal(loaded["state_dict"]["w"], CHECKPOINT["state_dict"]["w"])
    assert loaded["unirae"] == CHECKPOINT["unirae"]
    SafeCheckpointIO().remove_checkpoint(path)
    SafeCheckpointIO().remove_checkpoint(path)
    assert list(path.parent.iterdir()) == []


def test_an_opened_checkpoint_is_handed_over_and_forgotten(tmp_path):
    """A large model's is 13 GB: who has handed it over must not hold it for the rest of the run."""
    SafeCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "a.ckpt")
    opened = open_checkpoint(tmp_path / "a.ckpt", kind="mae", in_memory=True)
    plugin, content, held = SafeCheckpointIO(opened), opened.content, weakref.ref(opened)
    assert plugin.load_checkpoint(tmp_path / "a.ckpt") is content
    del opened
    gc.collect()
    assert held() is None


def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path):
    torch.save({"w": Command(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    with pytest.raises(WeightsError, match=r"evil\.ckpt holds more than tensors .*system.* could run code"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, 0.9, -100, -10, -1])
def test_a_truncated_file_is_one_line(tmp_path, kept):
    path = tmp_path / "a.ckpt"
    SafeCheckpointIO().save_checkpoint(CHECKPOINT, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(WeightsError, match=r"a\.ckpt is truncated or not a torch file") as error:
        SafeCheckpointIO().load_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"hello world", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\x80\x02}q\x00(X\x01"]
)
def test_another_kind_of_file_is_not_called_dangerous(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(WeightsError, match="truncated or not a torch file"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"no such file: .*nothing\.ckpt"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "nothing.ckpt")


@pytest.mark.parametrize("before", [None, b"the last good one"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, before):
    path = tmp_path / "a.ckpt"
    if before:
        path.write_bytes(before)

    def full_disk(content, file):
        file.write(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*a\.ckpt: No space left on device"):
        SafeCheckpointIO().save_checkpoint(CHECKPOINT, path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"a.ckpt": before} if before else {})


def test_torchs_own_writer_failing_is_a_full_disk_too(tmp_path):
    script = (
        "import resource, sys, torch\n"
        "from unirae.core.errors import UserError\n"
        "from unirae.core.io import save_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: save_tensors('a.ckpt', {'w': torch.zeros(100_000)})\n"
        "except UserError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert done.stderr.startswith("cannot write a.ckpt: File too large")


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    SafeCheckpointIO().save_checkpoint(CHECKPOINT, path)

    def interrupted(content, file):
        file.write(b"some of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SafeCheckpointIO().save_checkpoint({}, path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
    assert SafeCheckpointIO().load_checkpoint(path)["global_step"] == 3


def test_a_bug_is_not_called_a_full_disk(tmp_path, monkeypatch):
    def bug(content, file):
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch, "save", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        SafeCheckpointIO().save_checkpoint(CHECKPOINT, tmp_path / "a.ckpt")
