"""Commands that are asked to stop: one line with what stays, nothing half-written, and the same command goes on."""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from live import Live
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from tiny_images import pixels, write_extractor, write_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def slowly(owner: type | object, name: str) -> None:
    """From now on it says that it works, and takes a while."""
    original = getattr(owner, name)

    def slow(*args, **kwargs):
        sys.stderr.write("working\n")
        time.sleep(0.3)
        return original(*args, **kwargs)

    setattr(owner, name, slow)


def slow_rae() -> None:
    from unirae.models.rae import RAE

    for name in ("tokens", "reconstruct", "decode"):
        slowly(RAE, name)


def slow_hashes() -> None:
    from unirae.evaluation.passes.scoring import SetCollector

    slowly(SetCollector, "update")


def slow_decoding() -> None:
    from unirae.data import prepared_shards

    slowly(prepared_shards, "read_rgb")


def slow_encoder() -> None:
    from unirae.evaluation.probe.features import PooledEncoder

    slowly(PooledEncoder, "__call__")


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("there")
    write_checkpoint(root / "rae")
    write_stage2_checkpoint(root / "dit", root / "rae")
    for label in ("a", "b"):
        write_folder(root / "classes" / label, pixels(30, seed=ord(label)))
    write_folder(root / "images", pixels(300))
    write_extractor(root / "code")
    return root


CASES: dict[str, tuple[Callable[[], None], list[str], str]] = {
    "prepare_data": (
        slow_decoding,
        ["--input", "{there}/classes", "--output", "out", "--shard_images", "2", "--num_workers", "1"],
        "interrupted; the shards that were finished stay: repeat the command to go on from here",
    ),
    "sample_dit": (
        slow_rae,
        ["--checkpoint", "{there}/dit", "--num_samples", "40", "--batch_size", "4", "--num_steps", "2"],
        "interrupted; the images in outputs/samples stay: repeat the command to go on from here",
    ),
    "evaluate": (
        slow_hashes,
        [
            *("--images", "{there}/images", "--reference", "{there}/images", "--metrics", "fd"),
            *("--encoder", "{there}/code/toy.py:Features", "--batch_size", "2", "--num_workers", "1"),
        ],
        "interrupted; no scores were written; what the caches hold stays. Repeat the command",
    ),
    "eval_rfid": (
        slow_rae,
        [
            "--checkpoint",
            "{there}/rae",
            "--metrics",
            "psnr",
            "--data",
            "{there}/images",
            "--num_workers",
            "2",
        ],
        "interrupted; no scores were written. Repeat the command",
    ),
    "compute_stats": (
        slow_rae,
        ["--checkpoint", "{there}/rae", "--output", "new.ckpt", "--data", "{there}/images"],
        "interrupted; no checkpoint was written. Repeat the command",
    ),
    "eval_linear_probe": (
        slow_encoder,
        ["--encoder_checkpoint", "{there}/rae", "--data", "{there}/classes", "--num_workers", "1"],
        "interrupted; no scores were written; features that were finished stay in the cache. Repeat the command",
    ),
}
QUICK = ("prepare_data", "evaluate")


@pytest.mark.parametrize(
    "command", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_sigterm_to_the_group(command, there, tmp_path):
    before, words, line = CASES[command]
    words = [word.format(there=there) for word in words]
    live = Live(command, *words, folder=tmp_path, before=before)
    live.wait_for("working\nworking")
    live.signal(signal.SIGTERM, group=True, times=2)
    assert live.end() == 130, live.output
    assert "Traceback" not in live.output
    assert live.last_line() == line
    assert live.is_alone()
    assert not any(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.json")) or command in ("prepare_data", "sample_dit")


def test_a_conversion_goes_on_after_it(there, tmp_path):
    words = ["--input", there / "classes", "--output", "out", "--shard_images", "2", "--num_workers", "1"]
    live = Live("prepare_data", *words, folder=tmp_path, before=slow_decoding)
    live.wait_for("working\n" * 6)
    live.signal(signal.SIGINT)
    assert live.end() == 130
    assert not (tmp_path / "out").exists()
    finished = list((tmp_path / ".out.partial").rglob("*.arrow"))
    assert len(finished) >= 2
    again = Live("prepare_data", *words, folder=tmp_path)
    assert again.end() == 0, again.output
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert sum(report["images"].values()) == 60
