"""The step of stage 1 against its plain formulation: which weights move when, and by how much."""

import math
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from processes import run_in_processes
from tiny_training import copied, fit, tiny_config
from unirae.app.run import builders
from unirae.app.run.stages.stage1 import build_adversary, build_stage1
from unirae.core.distributed import rank
from unirae.core.images import quantise, to_float, to_signed
from unirae.core.keyed_random import Stream, sample_keys
from unirae.losses.diffaug import diff_augment
from unirae.training.manual import MicroBatch

LEARNS_FROM, SEEN_FROM, STEPS = 1, 2, 5
CONSTANT_WEIGHT = "model.fixed_adaptive_weight=0.3"


class States(pl.Callback):
    """The weights before training and after each step, and the batches between."""

    def __init__(self):
        self.states: list[dict[str, Tensor]] = []
        self.batches: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer, module):
        self.states.append(copied(module.state_dict()))
        self.frozen = copied(dict(module.rae.encoder.named_parameters()))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.states.append(copied(module.state_dict()))
        self.batches.append(batch)


def changed(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> set[str]:
    return {n for n in after if n.startswith(f"{part}.") and not torch.equal(before[n], after[n])}


def assert_same_weights(found: dict[str, Tensor], wanted: dict[str, Tensor], atol: float) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> States:
    states = States()
    config = tiny_config(
        f"trainer.max_steps={STEPS}",
        "model.disc_loss=vanilla",  # the hinge gives the last bias no gradient inside its margins
        output_dir=tmp_path_factory.mktemp("run"),
    )
    states.module = fit(config, callbacks=[states])
    return states


def test_each_step_moves_the_whole_decoder_and_its_average(history):
    for before, after in zip(history.states, history.states[1:], strict=False):
        for part in ("decoder", "ema"):
            everything = {n for n in before if n.startswith(f"{part}.")}
            assert changed(before, after, part) == everything


def test_frozen_networks_stay(history):
    for name, parameter in history.module.rae.encoder.named_parameters():
        assert torch.equal(parameter, history.frozen[name])
        assert parameter.grad is None


def test_the_discriminator_rests_until_its_start_and_then_moves_every_step(history):
    moved = [changed(a, b, "discriminator") for a, b in zip(history.states, history.states[1:], strict=False)]
    assert all(not names for names in moved[:LEARNS_FROM])
    everything = {n for n in history.states[0] if n.startswith("discriminator.")}
    weights = {n for n in everything if not n.endswith(("weight_u", "weight_v"))}
    assert weights
    for names in moved[LEARNS_FROM:]:
        assert names >= weights


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_power_iteration_advances_once_per_update(tmp_path, micro_batches):
    history = States()
    config = tiny_config(
        "trainer.max_steps=4", f"trainer.accumulate_grad_batches={micro_batches}", output_dir=tmp_path
    )
    fit(config, callbacks=[history])
    u, v, w = (f"discriminator.layers.2.weight_{end}" for end in ("u", "v", "orig"))
    for before, after in zip(history.states[LEARNS_FROM:], history.states[LEARNS_FROM + 1 :], strict=False):
        matrix = before[w].flatten(1)  # the iteration precedes the update
        wanted_v = F.normalize(matrix.T @ before[u], dim=0)
        torch.testing.assert_close(after[v], wanted_v)
        torch.testing.assert_close(after[u], F.normalize(matrix @ wanted_v, dim=0))


# --------------------------------------------------------------- the plain formulation


@dataclass
class Plain:
    state: dict[str, Tensor]
    gradients: dict[str, Tensor]
    """Of the decoder in the last step, clipped."""
    gradient_norm: float
    """Before clipping."""


def plain_training(config, batches, *, lrs, disc_lrs) -> Plain:
    """The steps as the recipe writes them: each loss backwards through the whole graph, torch's own AdamW."""
    torch.manual_seed(config["seed"])
    rae = builders.build_rae(config["model"], seed=config["seed"])
    module = build_stage1(config, rae, steps_per_epoch=4).double()
    decoder, disc, average = rae.decoder, module.adversary.discriminator, module.ema.average
    settings, augment = config["model"]["optimizer"], config["model"]["augment"]
    optimizer = torch.optim.AdamW(decoder.parameters(), betas=settings["betas"], weight_decay=0.0)
    disc_optimizer = torch.optim.AdamW(disc.parameters(), betas=settings["betas"], weight_decay=0.0)
    for step, batch in enumerate(batches):
        images = to_float(batch["image"])
        keys = sample_keys(config["seed"], step, batch["index"])
        tokens = rae.encoder(images)
        recon = rae.decode_tokens(rae.add_noise(tokens, keys))
        loss = (recon - images).abs().mean() + config["model"]["perceptual_weight"] * module.perceptual(
            recon, images
        )
        if step >= SEEN_FROM:
            gan = -disc(diff_augment(to_signed(recon), keys, Stream.AUGMENT_GENERATOR_FAKE, **augment)).mean()
            last = decoder.to_pixels.weight
            norms = [torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (loss, gan)]
            weight = (norms[0] / (norms[1] + 1e-6)).clamp(0, 1e4)
            loss = loss + config["model"]["disc_weight"] * weight * gan
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(decoder.parameters(), config["model"]["clip_grad"])
        optimizer.param_groups[0]["lr"] = lrs[step]
        optimizer.step()
        decay = min(config["model"]["ema_decay"], (1 + step) / (10 + step))
        for mine, theirs in zip(average.parameters(), decoder.parameters(), strict=True):
            mine.data = decay * mine.data + (1 - decay) * theirs.data
        if step >= LEARNS_FROM:
            disc.power_iteration()
            fake = quantise(rae.decode_tokens(tokens).detach())
            real = diff_augment(to_signed(images), keys, Stream.AUGMENT_REAL, **augment)
            real_logits = disc(real.double())
            fake_logits = disc(diff_augment(to_signed(fake), keys, Stream.AUGMENT_FAKE, **augment))
            disc_loss = 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())
            disc_optimizer.zero_grad()
            disc_loss.backward()
            disc_optimizer.param_groups[0]["lr"] = disc_lrs[step - LEARNS_FROM]
            disc_optimizer.step()
    gradients = {name: parameter.grad for name, parameter in decoder.named_parameters()}
    return Plain(module.state_dict(), gradients, norm.item())


def test_steps_equal_the_plain_formulation(tmp_path):
    states = States()
    config = tiny_config("trainer.max_steps=4", "model.clip_grad=0.05", output_dir=tmp_path)
    module = fit(config, double=True, callbacks=[states])
    peak, final = config["model"]["optimizer"]["lr"], config["model"]["scheduler"]["final_lr"]
    fourth = final + (peak - final) * 0.5 * (
        1 + math.cos(math.pi / 6)
    )  # the second of 8 − 2 decaying updates
    disc_peak = config["model"]["disc_optimizer"]["lr"]
    plain = plain_training(
        config,
        states.batches,
        lrs=[peak / 2, peak, peak, fourth],
        disc_lrs=[disc_peak / 2, disc_peak, disc_peak],
    )
    assert plain.gradient_norm > 0.05  # clipping took part
    for name, parameter in module.rae.decoder.named_parameters():
        torch.testing.assert_close(parameter.grad, plain.gradients[name], rtol=1e-8, atol=1e-10)
    assert_same_weights(states.states[-1], plain.state, atol=1e-8)


# --------------------------------------------------------------- batches in parts


def trained(folder: Path, *overrides: str, world_size: int = 1) -> dict[str, Tensor]:
    """Weights, and the gradients of the last step."""
    config = tiny_config(
        f"trainer.max_steps={STEPS}",
        f"trainer.devices={world_size}",
        *overrides,
        output_dir=folder / str(rank()),
    )
    module = fit(config, double=True)
    networks = {"decoder": module.rae.decoder, "discriminator": module.adversary.discriminator}
    gradients = {
        f"gradient of {part}.{name}": parameter.grad  # Adam hides a factor of its gradient
        for part, network in networks.items()
        for name, parameter in network.named_parameters()
    }
    return copied({**module.state_dict(), **gradients})


def trained_both_ways(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {
        "adaptive": trained(folder, world_size=2),
        "constant": trained(folder, CONSTANT_WEIGHT, "trainer.accumulate_grad_batches=2", world_size=2),
    }


@pytest.fixture(scope="module")
def whole_batch(tmp_path_factory) -> dict[str, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("whole")
    return {"adaptive": trained(folder), "constant": trained(folder, CONSTANT_WEIGHT)}


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches_equal_one_batch(whole_batch, tmp_path, micro_batches):
    found = trained(tmp_path, CONSTANT_WEIGHT, f"trainer.accumulate_grad_batches={micro_batches}")
    assert_same_weights(found, whole_batch["constant"], atol=1e-9)


def test_two_processes_equal_one(whole_batch, tmp_path):
    for result in run_in_processes(trained_both_ways, tmp_path):
        assert_same_weights(result["adaptive"], whole_batch["adaptive"], atol=1e-9)
        assert_same_weights(result["constant"], whole_batch["constant"], atol=1e-9)


# --------------------------------------------------------------- what the discriminator sees, and half precision


class Recorder(pl.Callback):
    """Keeps what the discriminator is shown in its own turn."""

    def __init__(self):
        self.shown: list[Tensor] = []

    def on_train_start(self, trainer, module):
        module.adversary.discriminator.register_forward_pre_hook(self.keep)

    def keep(self, discriminator, inputs):
        if discriminator.training:
            self.shown.append(inputs[0].detach().clone())


def test_fakes_are_clean_fresh_and_on_the_8_bit_grid(tmp_path):
    config = tiny_config("trainer.max_steps=3", "model.augment.translation=0", output_dir=tmp_path)
    config["model"]["augment"]["color"] = False
    states, recorder = States(), Recorder()
    module = fit(config, callbacks=[states, recorder])
    real, fake = ((recorder.shown[-1] + 1) / 2 * 255).chunk(2)
    torch.testing.assert_close(fake, fake.round(), rtol=0, atol=1e-3)
    assert fake.min() >= 0
    assert fake.max() <= 255
    images = to_float(states.batches[-1]["image"])
    torch.testing.assert_close(real / 255, images, rtol=0, atol=1e-6)
    with torch.no_grad():
        fresh = (
            quantise(module.rae.reconstruct(images)) * 255
        )  # without noise, by the decoder after its update
    torch.testing.assert_close(fake, fresh, rtol=0, atol=1e-3)


def leaves_of(result: Tensor) -> list[Tensor]:
    """The tensors that a backward pass from ``result`` would give a gradient."""
    seen, ahead, leaves = set(), [result.grad_fn], []
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        ahead += [before for before, _ in node.next_functions]
        leaves += [node.variable] if hasattr(node, "variable") else []
    return leaves


def test_the_generators_loss_leads_back_to_the_image_alone(tmp_path):
    config = tiny_config(output_dir=tmp_path)
    adversary = build_adversary(config["model"], steps_per_epoch=4)
    weights = list(adversary.discriminator.trained.parameters())
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    loss = adversary.generator_loss(image, MicroBatch(image.detach(), sample_keys(0, 0, torch.arange(2))))
    assert [id(leaf) for leaf in leaves_of(loss)] == [id(image)]
    assert weights
    assert all(weight.requires_grad for weight in weights)


def test_bf16_autocast_runs_and_stays_finite_and_close(tmp_path, history):
    config = tiny_config(f"trainer.max_steps={STEPS}", "trainer.precision=bf16-mixed", output_dir=tmp_path)
    state = fit(config).state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    assert all(tensor.isfinite().all() for tensor in state.values())
    moved = state["decoder.to_pixels.weight"] - history.states[0]["decoder.to_pixels.weight"]
    exactly = history.states[-1]["decoder.to_pixels.weight"] - history.states[0]["decoder.to_pixels.weight"]
    assert F.cosine_similarity(moved.flatten(), exactly.flatten(), dim=0) > 0.9
