import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from processes import run_in_processes
from unirae.losses.adaptive_weight import adaptive_weight, balance, detached_leaf, image_gradient

DISC_WEIGHT = 0.75


class Decoder(nn.Module):
    """Tokens to images, with a linear layer and an unpatchify at the end, like the real one."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 10), nn.GELU())
        self.last = nn.Linear(10, 3 * 4)

    def forward(self, tokens):
        patches = self.last(self.body(tokens))  # b (2 2) (p p c)
        return patches.view(-1, 2, 2, 2, 2, 3).permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, 4, 4)


@dataclass
class Game:
    decoder: Decoder
    critic: nn.Module
    tokens: Tensor
    target: Tensor

    def reconstruction(self, images):
        return (images - self.target).abs().mean() + (images.mean((2, 3)) ** 2).mean()

    def adversarial(self, images):
        return -self.critic(images).mean()


@pytest.fixture
def game() -> Game:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 5, 3), nn.GELU(), nn.Flatten(), nn.Linear(20, 1))
    return Game(
        decoder=Decoder().double(),
        critic=critic.double(),
        tokens=torch.randn(4, 4, 6).double(),
        target=torch.rand(4, 3, 4, 4).double(),
    )


def fast(game: Game, loss_scale: float = 1.0, **options):
    recon = game.decoder(game.tokens)
    leaf = detached_leaf(recon)
    g_rec = image_gradient(game.reconstruction(leaf), leaf, loss_scale)
    g_gan = image_gradient(game.adversarial(leaf), leaf, loss_scale)
    result = balance(
        recon,
        g_rec,
        g_gan,
        game.decoder.last.weight,
        disc_weight=DISC_WEIGHT,
        loss_scale=loss_scale,
        **options,
    )
    recon.backward(result.image_gradient)
    return result.weight, {k: p.grad for k, p in game.decoder.named_parameters()}


def plain(game: Game):
    """As the equation is written: both losses through the whole graph, then the sum once more."""
    recon = game.decoder(game.tokens)
    last = game.decoder.last.weight
    rec, gan = game.reconstruction(recon), game.adversarial(recon)
    rec_norm = torch.autograd.grad(rec, last, retain_graph=True)[0].norm()
    gan_norm = torch.autograd.grad(gan, last, retain_graph=True)[0].norm()
    weight = (rec_norm / (gan_norm + 1e-6)).clamp(0, 1e4)
    gradients = torch.autograd.grad(rec + DISC_WEIGHT * weight * gan, list(game.decoder.parameters()))
    return weight, dict(zip(dict(game.decoder.named_parameters()), gradients, strict=True))


def test_one_pass_equals_the_plain_computation(game):
    wanted_weight, wanted = plain(game)
    weight, found = fast(game)
    torch.testing.assert_close(weight, wanted_weight, rtol=1e-8, atol=0)
    assert 0.1 < weight < 1e3
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("critic_scale", [1.0, 1e-6])  # the second makes ε matter
def test_weight_does_not_depend_on_the_loss_scale(game, critic_scale):
    with torch.no_grad():
        game.critic[-1].weight.mul_(critic_scale)
    weight, gradients = fast(game)
    game.decoder.zero_grad()
    scaled_weight, scaled = fast(game, loss_scale=2.0**16)
    torch.testing.assert_close(scaled_weight, weight, rtol=1e-12, atol=0)
    for name in gradients:
        torch.testing.assert_close(scaled[name] / 2.0**16, gradients[name], rtol=1e-10, atol=1e-15)


def test_fixed_weight_is_held(game):
    weight, found = fast(game, fixed_weight=0.3)
    assert weight == 0.3
    recon = game.decoder(game.tokens)
    total = game.reconstruction(recon) + DISC_WEIGHT * 0.3 * game.adversarial(recon)
    (wanted,) = torch.autograd.grad(total, game.decoder.last.weight)
    torch.testing.assert_close(found["last.weight"], wanted)


def test_weight_is_clamped():
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    assert adaptive_weight(one, zero) == 1e4
    assert adaptive_weight(one, zero, max_weight=5.0) == 5.0
    assert adaptive_weight(zero, one) == 0.0


@pytest.mark.parametrize("norms", [(math.inf, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_an_overflow_is_not_hidden_by_the_clamp(norms):
    assert adaptive_weight(torch.tensor(norms[0]), torch.tensor(norms[1])).isnan()


def test_half_precision_decoder_gives_a_float32_weight(game):
    game.decoder.float()
    game.critic.float()
    game.tokens, game.target = game.tokens.float(), game.target.float()
    exact, _ = fast(game)
    game.decoder.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recon = game.decoder(game.tokens)
    leaf = detached_leaf(recon)
    assert leaf.dtype == torch.float32
    result = balance(
        recon,
        image_gradient(game.reconstruction(leaf), leaf),
        image_gradient(game.adversarial(leaf), leaf),
        game.decoder.last.weight,
        disc_weight=DISC_WEIGHT,
    )
    recon.backward(result.image_gradient)
    assert result.weight.dtype == torch.float32
    torch.testing.assert_close(result.weight, exact, rtol=0.05, atol=0)


def _weight_of_a_half(game: Game):
    rank = torch.distributed.get_rank()
    game.tokens, game.target = game.tokens.chunk(2)[rank], game.target.chunk(2)[rank]
    return fast(game)[0].detach()


def test_two_processes_share_the_weight_of_the_joint_batch(game):
    wanted, _ = plain(game)
    results = torch.stack(run_in_processes(_weight_of_a_half, game))
    torch.testing.assert_close(results, wanted.expand(2), rtol=1e-8, atol=0)
