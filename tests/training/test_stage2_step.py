"""The step of stage 2 against its plain formulation, split and spread in every way that must not matter."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from processes import run_in_processes
from tiny_training import RAEV2, copied, fit, tiny_config
from unirae.app.run.stages.stage2 import _check_continued, denoiser_for
from unirae.core.errors import ConfigError
from unirae.core.images import to_float
from unirae.core.keyed_random import Stream, normal, sample_keys, uniform
from unirae.flow.times import logit_normal_times
from unirae.models.denoisers.condition import Condition
from unirae.training.manual import MeanTerms
from unirae.training.stage2 import LatentBatch

STEPS = 4


class History(pl.Callback):
    """The weights before training and after each step, and the batches between."""

    def __init__(self):
        self.states: list[dict[str, Tensor]] = []
        self.batches: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer, module):
        self.states.append(copied(module.state_dict()))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.states.append(copied(module.state_dict()))
        self.batches.append(batch)


def trained(tmp_path, *overrides, double=True):
    history = History()
    config = tiny_config(
        f"trainer.max_steps={STEPS}", "flow.time_shift=3.0", *overrides, output_dir=tmp_path, stage="stage2"
    )
    history.module, history.config = fit(config, double=double, callbacks=[history]), config
    return history


def assert_same(found, wanted, atol):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=atol, msg=lambda t, n=name: f"{n}: {t}")


def plain_training(history):
    """The steps as the recipe writes them, in float64, with torch's own clipping and AdamW."""
    config, module = history.config, history.module
    rae = module.rae
    dit = denoiser_for(config, rae, num_classes=2).double()
    dit.load_state_dict(
        {k.removeprefix("dit."): v for k, v in history.states[0].items() if k.startswith("dit.")}
    )
    average = {name: tensor.clone() for name, tensor in dit.state_dict().items()}
    settings = config["model"]["optimizer"]
    trained_parameters = [p for p in dit.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained_parameters, betas=settings["betas"], weight_decay=0.0)
    shift = 3.0
    for step, batch in enumerate(history.batches):
        keys = sample_keys(config["seed"], step, batch["index"])
        data = rae.encode(to_float(batch["image"]).double()).double()
        flow = config["flow"]
        drawn = uniform(keys, (), Stream.TIME)
        t = logit_normal_times(
            drawn, mean=flow["time_mean"], std=flow["time_std"], high=flow["time_max"]
        ).double()
        t = shift * t / (1 + (shift - 1) * t)
        noise = normal(keys, tuple(data.shape[1:]), Stream.PATH_NOISE).double()
        dropped = uniform(keys, (), Stream.LABEL_DROPOUT) < config["model"]["label_dropout"]
        labels = torch.where(dropped, 2, batch["label"])
        time = t[:, None, None, None]
        at = (1 - time) * data + time * noise, t, labels
        optimizer.zero_grad()
        if flow["prediction"] == "velocity":
            loss = (dit(*at) - (noise - data)).square().mean()
        else:
            full, base = (
                ((output - data) / time.clamp(min=0.05)).square().mean()
                for output in dit.predict_with_base(*at)
            )
            loss = full + config["model"]["base_loss_weight"] * base
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained_parameters, config["model"]["clip_grad"])
        optimizer.param_groups[0]["lr"] = history.module.schedule.lr(step)
        optimizer.step()
        decay = min(config["model"]["ema_decay"], (1 + step) / (10 + step))
        for name, tensor in dit.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * tensor
    return dit.state_dict(), average


@pytest.mark.parametrize("recipe", [(), RAEV2], ids=["rae", "raev2"])
def test_steps_equal_the_plain_formulation(tmp_path, recipe):
    history = trained(tmp_path, *recipe)
    dit, average = plain_training(history)
    last = history.states[-1]
    assert not torch.equal(last["dit.output.linear.weight"], history.states[0]["dit.output.linear.weight"])
    assert_same({k.removeprefix("dit."): v for k, v in last.items() if k.startswith("dit.")}, dit, 1e-8)
    assert_same({k.removeprefix("ema."): v for k, v in last.items() if k.startswith("ema.")}, average, 1e-8)


@pytest.mark.parametrize("extra", ["trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches=4"])
def test_micro_batches_equal_one_batch(tmp_path, extra):
    assert_same(trained(tmp_path / "b", extra).states[-1], trained(tmp_path / "a").states[-1], 1e-10)


def _two_process_run(folder):
    return trained(folder, "trainer.devices=2", "trainer.accelerator=cpu").states[-1]


def test_two_processes_equal_one(tmp_path):
    results = run_in_processes(_two_process_run, tmp_path)
    one = trained(tmp_path / "one").states[-1]
    for result in results:
        assert_same(result, one, 1e-10)


def test_gradient_checkpointing_changes_nothing(tmp_path):
    off = trained(tmp_path / "a").states[-1]
    on = trained(tmp_path / "b", "model.dit.gradient_checkpointing=true").states[-1]
    assert_same(on, off, 1e-12)


def test_the_autoencoder_is_frozen_and_not_in_the_checkpoint(tmp_path):
    history = trained(tmp_path, double=False)
    assert {name.split(".")[0] for name in history.states[-1]} == {"dit", "ema"}
    assert all(p.grad is None and not p.requires_grad for p in history.module.rae.parameters())
    assert not any(m.training for m in history.module.rae.modules())


def test_statistics_travel_with_the_denoiser_and_its_average(tmp_path):
    history = trained(tmp_path, double=False)
    stats = history.module.rae.stats
    assert stats.info["count"] == 32
    for part in ("dit", "ema"):
        assert torch.equal(history.states[-1][f"{part}.latent_stats.mean"], stats.mean)


def test_several_averages(tmp_path):
    history = trained(tmp_path, "model.ema_extra_decays=[0.5,0.9999]", "model.ema_warmup=false")
    assert {name.split(".")[0] for name in history.states[-1]} == {"dit", "ema", "ema_5", "ema_9999"}
    for part, decay in {"ema": 0.998, "ema_5": 0.5, "ema_9999": 0.9999}.items():
        average = history.states[0]["dit.output.linear.weight"]
        for state in history.states[1:]:
            average = decay * average + (1 - decay) * state["dit.output.linear.weight"]
        torch.testing.assert_close(history.states[-1][f"{part}.output.linear.weight"], average)


def test_unlabelled_data_train_with_the_null_label_alone(tmp_path):
    history = trained(tmp_path, "data.source.classes=0", "callbacks.samples.cfg_scale=1.0", double=False)
    assert history.module.denoiser.null_label == 0
    assert history.states[-1]["dit.label_embed.weight"].shape[0] == 1


def test_labels_are_dropped_at_the_stated_rate(tmp_path):
    module = trained(tmp_path, "model.label_dropout=0.25", double=False).module
    keys = sample_keys(0, 3, torch.arange(20_000))
    labels = torch.ones(20_000, dtype=torch.int64)
    dropped = (
        (module.drop_conditions(Condition.of(labels), keys).labels == module.denoiser.null_label)
        .float()
        .mean()
    )
    assert float(dropped) == pytest.approx(0.25, abs=0.01)


def test_both_heads_losses_are_logged_beside_their_sum(tmp_path):
    module = trained(tmp_path, *RAEV2, double=False).module
    terms, part = (
        MeanTerms(),
        LatentBatch(
            torch.randn(4, *module.denoiser.latent_shape),
            Condition.of(torch.tensor([0, 1, 0, 1])),
            torch.arange(4),
        ),
    )
    loss = module.loss(part, terms)
    said = terms.means()
    assert said.keys() == {"loss", "loss_full", "loss_base"}
    torch.testing.assert_close(said["loss"], said["loss_full"] + 0.5 * said["loss_base"])
    assert torch.equal(said["loss"], loss.detach())
    assert module.t_min == 0.05


def test_the_frequencies_of_the_time_move_where_they_are_trained(tmp_path):
    for recipe, moved in (((), False), (RAEV2, True)):
        states = trained(tmp_path / str(moved), *recipe).states
        first, last = (state["dit.time_embed.frequencies"] for state in (states[0], states[-1]))
        assert torch.equal(first, last) is not moved


def test_a_run_does_not_continue_as_one_that_predicts_something_else(tmp_path):
    about = {"dit": {"prediction": "data"}}
    _check_continued(SimpleNamespace(about=about), "data", worded=False)
    with pytest.raises(ConfigError, match=r"predicts data; set flow\.prediction=data"):
        _check_continued(SimpleNamespace(about=about, file="last.ckpt"), "velocity", worded=False)
    _check_continued(SimpleNamespace(about={"dit": {}}), "velocity", worded=False)


def test_the_grid_of_samples_travels_with_the_checkpoint(tmp_path):
    module = trained(tmp_path / "linear", "flow.time_grid=linear", double=False).module
    assert module.describe()["sampling"] == {"time_grid": "linear"}
    assert "sampling" not in trained(tmp_path / "plain", double=False).module.describe()
