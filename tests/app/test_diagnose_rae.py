"""The diagnose_rae command: a page, figures, one or two decoders, mistakes in one line."""

import json
import re
from pathlib import Path

import pytest

from processes import command_in_processes
from tiny_checkpoint import tiny_rae, write_checkpoint
from unirae.app.diagnose_rae import Options, run
from unirae.app.diagnosis.page import named
from unirae.core.errors import ConfigError, DataError, WeightsError
from unirae.models.decoder import ViTDecoder


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "one, $run$")


def test_a_checkpoint_is_enough(checkpoint, capsys):
    (found,) = run(Options(checkpoint=checkpoint, device="cpu"))
    folder = checkpoint.parents[1] / "diagnosis"
    figures = json.loads((folder / "diagnosis.json").read_text())["one, $run$"]
    assert figures["count"] == found.count == 12
    assert figures["settings"]["weights"] == "EMA"
    assert len(figures["settings"]["checkpoint_sha256"]) == 64
    page = (folder / "diagnosis.html").read_text()
    assert "one, $run$" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)  # nothing from outside
    assert f"{found.at('noise', 0.8).psnr:.2f}" in page
    assert "noise 0.8" in capsys.readouterr().out


def test_two_decoders_beside_each_other(checkpoint, tmp_path):
    other = write_checkpoint(tmp_path / "other")
    found = run(
        Options(checkpoint=checkpoint, against=other, device="cpu", use_ema=False, output_dir=tmp_path / "d")
    )
    assert found[0].outcomes == found[1].outcomes  # the same weights
    assert [*json.loads((tmp_path / "d/diagnosis.json").read_text())] == ["one, $run$", "other"]
    averaged = run(Options(checkpoint=checkpoint, device="cpu"))[0]
    assert averaged.outcomes != found[0].outcomes


def test_two_processes_give_the_same_figures(checkpoint, tmp_path):
    (expected,) = run(Options(checkpoint=checkpoint, device="cpu", output_dir=tmp_path / "one"))
    words = ["--checkpoint", checkpoint, "--device", "cpu", "--output_dir", tmp_path / "two"]
    command_in_processes("diagnose_rae", *words)
    (figures,) = json.loads((tmp_path / "two/diagnosis.json").read_text()).values()
    for outcome, other in zip(figures["outcomes"], expected.outcomes, strict=True):
        assert (outcome["kind"], outcome["amount"]) == (other.kind, other.amount)
        for name in ("psnr", "frechet", "seams"):
            assert (outcome[name] or 0.0) == pytest.approx(getattr(other, name) or 0.0, rel=1e-6)


def test_runs_of_one_name_are_told_apart(checkpoint, tmp_path):
    other = write_checkpoint(tmp_path / "deeper" / "one, $run$")
    found = run(Options(checkpoint=checkpoint, against=other, device="cpu", num_samples=2))
    assert [*named(found)] == [str(checkpoint), str(other)]
    again = run(Options(checkpoint=checkpoint, against=checkpoint, device="cpu", num_samples=2))
    assert len(named(again)) == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_samples": 13}, DataError, "has 12 images"),
        ({"num_samples": 1}, DataError, "at least 2 images"),
        ({"against": Path("nowhere")}, WeightsError, "nowhere"),
        ({"data": "imagnet"}, ConfigError, "neither a folder, a tar nor one of emoji"),
    ],
)
def test_mistakes_write_nothing(checkpoint, options, error, message):
    with pytest.raises(error, match=message):
        run(Options(checkpoint=checkpoint, device="cpu", **options))
    assert not (checkpoint.parents[1] / "diagnosis").exists()


def test_decoders_of_different_sizes_are_not_set_beside_each_other(checkpoint, tmp_path, monkeypatch):
    def larger(seed=0):
        rae = tiny_rae(seed)
        return rae.with_decoder(ViTDecoder(**{**rae.decoder.architecture, "patch_size": 16, "grid": (4, 4)}))

    monkeypatch.setattr("tiny_checkpoint.tiny_rae", larger)
    other = write_checkpoint(tmp_path / "larger")
    with pytest.raises(ConfigError, match="--against decodes to 64×64 px and --checkpoint to 32×32 px"):
        run(Options(checkpoint=checkpoint, against=other, device="cpu"))
