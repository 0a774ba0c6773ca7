"""The linear probe as a stage: its norm, what it trains, resuming, two processes, scores on the way."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from PIL import Image
from torch import nn

from processes import run_in_processes
from tiny_training import copied, fit, tiny_config
from unirae.app.config.composition import compose
from unirae.app.run.assembly import assemble
from unirae.core.distributed import rank
from unirae.core.errors import ConfigError, DataError, WeightsError
from unirae.core.io import load_tensors
from unirae.evaluation.results.comparison import compare
from unirae.evaluation.results.result_file import read_result
from unirae.nn.norms import FeatureNorm
from unirae.training.csv_logger import read_metrics
from unirae.training.linear_probe import LinearProbe


def probe(tmp_path: Path, *overrides: str, double: bool = False) -> LinearProbe:
    config = tiny_config("trainer.max_steps=6", *overrides, output_dir=tmp_path, stage="linear_probe")
    module = fit(config, double=double)
    assert isinstance(module, LinearProbe)
    return module


# ---------------------------------------------------------------- the norm


def test_the_norm_is_torchs_without_affine():
    x = 3 * torch.randn(16, 5) + 2
    mine, theirs = FeatureNorm(5, eps=1e-5), nn.BatchNorm1d(5, affine=False, eps=1e-5)
    for _ in range(3):
        torch.testing.assert_close(mine(x), theirs(x))
    torch.testing.assert_close(mine.mean, theirs.running_mean)
    # torch keeps the unbiased variance, this one the population's
    torch.testing.assert_close(mine.var - 0.9**3, (theirs.running_var - 0.9**3) * 15 / 16)
    mine.eval()
    torch.testing.assert_close(mine(x), (x - mine.mean) / (mine.var + 1e-5).sqrt())


def norm_of_a_part() -> list[torch.Tensor]:
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)).double()
    norm = FeatureNorm(5).double()
    part = x[rank() * 6 : rank() * 6 + 6] if torch.distributed.is_initialized() else x
    return [norm(part), norm.mean, norm.var]


# ---------------------------------------------------------------- training


def test_only_the_head_learns_and_the_loss_falls(tmp_path):
    module = probe(tmp_path, "trainer.max_steps=30", "model.scheduler.decay_end_steps=30")
    fresh = compose_encoder(module)
    assert module.encoder.weights_sha256 == fresh
    assert {name.split(".")[0] for name in module.state_dict()} == {"head", "ema"}
    assert module.last_terms["loss"] < 0.6  # ln 2 = 0.69 is chance
    assert not torch.equal(module.ema.average.linear.weight, module.head.linear.weight)
    parameters = [p for p in module.parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == 2 * module.network.width + 2
    groups = module.parameter_groups()
    assert (len(groups.matrices), len(groups.others)) == (0, 2)  # its one layer is the last


def test_a_run_goes_on_only_with_its_own_classes(tmp_path, caplog):
    """Renamed classes are refused unless that is insisted on; more of them in any case."""

    def train(steps: int, names: Sequence[str], *overrides: str, checkpoint: Path | None = None) -> None:
        for number, name in enumerate(names):
            for split in ("train", "val"):
                file = tmp_path / f"{'-'.join(names)}/{split}/{name}/0.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(file)
        config = tiny_config(
            f"trainer.max_steps={steps}",
            "data.global_batch_size=2",
            *overrides,
            output_dir=tmp_path / "run",
            stage="linear_probe",
        )
        data = str(tmp_path / "-".join(names))
        config["data"]["source"] = {"_target_": "unirae.data.folder.FolderSource", "data_dir": data}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assemble(config, experiment="tiny", checkpoint=checkpoint).fit()

    last = tmp_path / "run/checkpoints/last.ckpt"
    train(1, ("cat", "dog"))
    with pytest.raises(
        ConfigError, match=r"cat, dog there, cat, owl here \(class 1 is dog there.*ckpt_other_labels=true$"
    ):
        train(2, ("cat", "owl"), checkpoint=last)
    train(2, ("cat", "owl"), "ckpt_other_labels=true", checkpoint=last)
    assert "goes on with other classes than it was trained with: cat, dog there, cat, owl here" in caplog.text
    with pytest.raises(ConfigError, match=r"2 classes there, 3 here.*needs another network"):
        train(3, ("cat", "owl", "yak"), "ckpt_other_labels=true", checkpoint=last)


def compose_encoder(module: LinearProbe) -> str:
    """The hash of the same random encoder, built anew."""
    from unirae.models.encoders.build import build_encoder

    identity = module.encoder.identity
    return build_encoder(
        kind=identity.kind, name=identity.name, weights="random", architecture=identity.config
    ).weights_sha256


def test_a_checkpoint_says_what_was_trained(tmp_path):
    config = tiny_config("trainer.max_steps=2", output_dir=tmp_path, stage="linear_probe")
    run(tmp_path, config=config)
    content = load_tensors(tmp_path / "checkpoints" / "last.ckpt")
    about = content["unirae"]
    assert (about["kind"], about["step"], about["pooling"]) == ("linear_probe", 2, "both")
    assert about["class_names"] == ["shape 0", "shape 1"]
    assert about["encoder_input_size"] == [32, 32]
    assert about["encoder"]["sha256"]
    assert about["encoder_state"] is not None  # random weights exist nowhere else
    assert content["state_dict"]["head.linear.weight"].shape == (2, 64)


class Crash(pl.Callback):
    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == self.step:
            raise ZeroDivisionError


def run(
    folder: Path, *overrides: str, config=None, checkpoint: Path | None = None, crash_at: int = 0
) -> None:
    config = config or tiny_config(
        "trainer.max_steps=8",
        "callbacks.model_checkpoint.every_n_train_steps=5",
        "callbacks.probe_accuracy.every_n_epochs=null",
        "callbacks.probe_accuracy.every_n_steps=3",
        *overrides,
        output_dir=folder,
        stage="linear_probe",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready = assemble(config, experiment="linear_probe", checkpoint=checkpoint)
        ready.trainer.callbacks.append(Crash(crash_at))
        ready.fit()


def scalars(folder: Path) -> list[dict[str, str]]:
    skipped = ("train/images_per_s", "train/time_left_s")
    rows = read_metrics(folder / "csv" / "metrics.csv")
    return [{name: value for name, value in row.items() if name not in skipped} for row in rows]


def test_continuing_after_a_crash_changes_nothing(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole)
    with pytest.raises(ZeroDivisionError):
        run(parts, crash_at=7)
    run(parts, checkpoint=parts / "checkpoints" / "last.ckpt")
    assert scalars(parts) == scalars(whole)
    mine, theirs = (load_tensors(folder / "checkpoints" / "last.ckpt") for folder in (parts, whole))
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(mine[key], theirs[key], rtol=0, atol=0)
    rows = scalars(whole)
    assert [bool(row["val/top1"]) for row in rows] == [step in (3, 6, 8) for step in range(1, 9)]
    assert {path.name for path in (whole / "eval").iterdir()} == {f"step-000000{n}.json" for n in (3, 6, 8)}
    content = json.loads((whole / "eval" / "step-0000008.json").read_text())
    assert content["metrics"] == {"top1": float(rows[-1]["val/top1"])}
    assert content["count"] == 8
    assert content["settings"]["features"]["pooling"] == "both"
    assert content["settings"]["crop"] == "unirae.data.transforms.AdmCenterCrop"
    same = compare(*(read_result(folder / "eval" / "step-0000008.json") for folder in (whole, parts)))
    assert [score.outcome for score in same.scores] == ["equal"]


def train_and_norm(folder: Path) -> dict[str, object]:
    torch.set_num_threads(1)
    norm = norm_of_a_part()
    devices = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    module = probe(folder / "run", f"trainer.devices={devices}", "trainer.accelerator=cpu", double=True)
    return {"norm": norm, "state": copied(module.state_dict())}


def test_two_processes_train_what_one_trains(tmp_path):
    """The norm's moments too are those of the whole batch."""
    one = train_and_norm(tmp_path)
    two = run_in_processes(train_and_norm, tmp_path)
    torch.testing.assert_close(torch.cat([process["norm"][0] for process in two]), one["norm"][0])
    for process in two:
        torch.testing.assert_close(process["norm"][1:], one["norm"][1:])
        torch.testing.assert_close(process["state"], one["state"], rtol=1e-6, atol=1e-8)


# ---------------------------------------------------------------- mistakes


def test_a_fresh_clone_names_the_ways_to_an_encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose(["experiment=linear_probe"])
    with pytest.raises(WeightsError, match=r"outputs/demo/encoder.*make demo.*experiment=mae_tiny"):
        fit(config)


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("data.source.classes=0", DataError, "synthetic has no labels"),
        ("model.pooling=max", ConfigError, "give avg, cls or both"),
        ("model.image_size=33", ConfigError, "33 must be divisible by patch_size=8"),
    ],
)
def test_mistakes(tmp_path, override, error, message):
    with pytest.raises(error, match=message):
        probe(tmp_path, override)
