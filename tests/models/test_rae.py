"""The RAE: its two spaces, noise, sizes, precision, and what a checkpoint needs of it."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import relative_l2, tiny_decoder, tiny_encoder, tiny_rae
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.keyed_random import sample_keys
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.build import build_encoder
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

_REGISTERS = {"model_type": "dinov2_with_registers", "hidden_size": 768, "num_hidden_layers": 12}
_REGISTERS |= {"num_attention_heads": 12, "image_size": 518, "patch_size": 14, "num_register_tokens": 4}


@pytest.fixture(scope="module")
def rae() -> RAE:
    return tiny_rae()


def random_stats(shape=(16, 4, 4)) -> LatentStats:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(shape, generator=generator)
    return LatentStats(mean=mean, var=torch.rand(shape, generator=generator) + 0.1)


@pytest.mark.parametrize(("patch_size", "total"), [(14, "172.88"), (16, "173.02")])
def test_full_size_models_have_their_published_size(patch_size: int, total: str):
    sizes = {"width": 768, "depth": 12, "num_heads": 12, "mlp_width": 3072}
    with torch.device("meta"):
        encoder = build_encoder(kind="dinov2", name="x", weights="random", architecture=_REGISTERS)
        decoder = ViTDecoder(token_dim=768, **sizes, patch_size=patch_size, grid=(16, 16))
        rae = RAE(encoder=encoder, decoder=decoder, encoder_input_size=224)
    assert f"{sum(p.numel() for p in rae.parameters()) / 1e6:.2f}" == total
    if patch_size == 14:
        assert f"{sum(p.numel() for p in rae.parameters() if p.requires_grad) / 1e6:.2f}" == "86.30"
    assert rae.latent_shape == (768, 16, 16)
    assert rae.output_size == (16 * patch_size, 16 * patch_size)


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), height=st.integers(9, 40), width=st.integers(9, 40))
def test_any_image_reaches_the_encoders_size_and_the_decoders(
    rows: int, columns: int, height: int, width: int
):
    rae = tiny_rae(size=(8 * rows, 8 * columns))
    images = torch.rand(1, 3, height, width)
    assert rae.encode(images).shape == (1, *rae.latent_shape) == (1, 16, rows, columns)
    assert rae.reconstruct(images).shape == (1, 3, *rae.output_size) == (1, 3, 4 * rows, 4 * columns)


@pytest.mark.parametrize(("size", "nearest"), [(225, "224, 238"), ((224, 5), "14")])
def test_a_size_that_does_not_divide_names_its_neighbours(size, nearest: str):
    with torch.device("meta"):
        encoder = build_encoder(kind="dinov2", name="x", weights="random", architecture=_REGISTERS)
        decoder = tiny_decoder(token_dim=768)
    bad = size if isinstance(size, int) else size[1]
    message = f"encoder_input_size={bad} must be divisible by patch_size=14; nearest valid: {nearest}"
    with pytest.raises(ConfigError) as caught:
        RAE(encoder=encoder, decoder=decoder, encoder_input_size=size)
    assert str(caught.value) == message


def test_parts_that_do_not_fit_are_refused(rae: RAE):
    with pytest.raises(ConfigError, match="token_dim=16"):
        RAE(encoder=rae.encoder, decoder=tiny_decoder(token_dim=8), encoder_input_size=32)
    with pytest.raises(ConfigError, match="compute them for this RAE"):
        tiny_rae(stats=random_stats((16, 2, 2)))
    with pytest.raises(ConfigError, match="uniform or half_normal"):
        tiny_rae(noise_kind="gaussian")
    with pytest.raises(ConfigError, match="must not be negative"):
        tiny_rae(noise_tau=-1.0)
    with pytest.raises(WeightsError, match="negative"):
        LatentStats(var=-torch.ones(16, 4, 4))


@pytest.mark.parametrize("present", [("mean", "var"), ("mean",), ("var",), ()])
def test_normalise_and_denormalise_are_inverse(present: tuple[str, ...]):
    full = random_stats()
    stats = LatentStats(**{name: getattr(full, name) for name in present})
    tokens = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(stats.denormalise(stats.normalise(tokens)), tokens)
    assert torch.equal(stats.normalise(tokens), tokens) == (present == ())
    assert stats.state_dict().keys() == set(present)


def test_statistics_whiten_what_they_were_taken_from():
    tokens = 3 * torch.randn(500, 2, 2, 2) + 1
    latents = LatentStats(mean=tokens.mean(0), var=tokens.var(0, unbiased=False)).normalise(tokens)
    torch.testing.assert_close(latents.mean(0), torch.zeros(2, 2, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(0, unbiased=False), torch.ones(2, 2, 2), atol=1e-4, rtol=0)


@torch.no_grad()
def test_statistics_change_latents_but_no_reconstruction():
    plain = tiny_rae()
    normalised = RAE(
        encoder=plain.encoder, decoder=plain.decoder, encoder_input_size=32, stats=random_stats()
    )
    images = torch.rand(2, 3, 32, 32)
    assert relative_l2(normalised.encode(images), plain.encode(images)) > 0.1
    torch.testing.assert_close(normalised.decode(normalised.encode(images)), plain.reconstruct(images))


def test_only_the_decoder_learns_and_the_encoder_stays_in_eval():
    rae = tiny_rae().train()
    assert rae.decoder.training
    assert not rae.encoder.training
    rae(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None for p in rae.decoder.parameters())
    assert all(p.grad is None for p in rae.encoder.parameters())


def test_decoding_passes_gradients_to_latents(rae: RAE):
    latents = torch.randn(1, 16, 4, 4, requires_grad=True)
    rae.decode(latents).sum().backward()
    assert latents.grad is not None


def test_tokens_can_enter_a_graph(rae: RAE):
    tokens = rae.tokens(torch.rand(1, 3, 32, 32))
    assert not tokens.requires_grad
    assert not tokens.is_inference()


@torch.no_grad()
def test_bf16_autocast_stays_close_and_gives_float32():
    rae = tiny_rae(stats=random_stats())
    images = torch.rand(2, 3, 32, 32)
    latents, pictures = rae.encode(images), rae.reconstruct(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents_16, pictures_16 = rae.encode(images), rae.reconstruct(images)
    assert latents_16.dtype == pictures_16.dtype == torch.float32
    assert 0 < relative_l2(latents_16, latents) < 0.02
    assert 0 < relative_l2(pictures_16, pictures) < 0.02


def keys(count: int, step: int = 0) -> torch.Tensor:
    return sample_keys(0, step, torch.arange(count))


def test_noise_does_not_depend_on_how_the_batch_is_split(rae: RAE):
    tokens = torch.randn(6, 16, 4, 4)
    whole = rae.add_noise(tokens, keys(6))
    parts = [rae.add_noise(tokens[i : i + 2], keys(6)[i : i + 2]) for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, rae.add_noise(tokens, keys(6, step=1)))


@pytest.mark.parametrize("kind", ["uniform", "half_normal"])
def test_noise_has_one_sigma_per_image_of_the_right_law(kind: str):
    rae = tiny_rae(noise_tau=0.8, noise_kind=kind)
    noise = rae.add_noise(torch.zeros(2000, 16, 8, 8), keys(2000))
    sigma = noise.flatten(1).std(1) / 0.8
    from scipy import stats

    law = stats.uniform() if kind == "uniform" else stats.halfnorm()
    assert stats.kstest(sigma.numpy(), law.cdf).pvalue > 1e-3
    whitened = noise / noise.flatten(1).std(1)[:, None, None, None]
    assert abs(float(whitened.mean())) < 5 / math.sqrt(whitened.numel())
    # neighbouring samples are uncorrelated
    assert abs(float((whitened[1:] * whitened[:-1]).mean())) < 5 / math.sqrt(whitened.numel())


def test_no_tau_no_noise():
    tokens = torch.randn(2, 16, 4, 4)
    assert tiny_rae(noise_tau=0.0).add_noise(tokens, keys(2)) is tokens


@torch.no_grad()
def test_with_decoder_shares_all_but_the_decoder():
    rae = tiny_rae(stats=random_stats(), noise_tau=0.3, noise_kind="half_normal")
    other = rae.with_decoder(tiny_decoder())
    assert other.encoder is rae.encoder
    assert other.stats is rae.stats
    assert (other.noise_tau, other.noise_kind) == (0.3, "half_normal")
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(other.encode(images), rae.encode(images))
    assert not torch.equal(other.reconstruct(images), rae.reconstruct(images))


@torch.no_grad()
def test_a_spec_rebuilds_the_rae():
    rae = tiny_rae("mae", size=(32, 24), noise_tau=0.3, noise_kind="half_normal")
    spec = json.loads(json.dumps(rae.spec()))
    parts = {"encoder_state": rae.encoder.state_dict(), "stats": rae.stats}
    again = RAE.from_spec(spec, rae.decoder.state_dict(), **parts)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(again(images), rae(images))
    assert again.spec() == rae.spec()
    with pytest.raises(WeightsError, match=r"do not fit the decoder: 1 missing \(embed.bias\)"):
        RAE.from_spec(spec, {k: v for k, v in rae.decoder.state_dict().items() if k != "embed.bias"}, **parts)


def test_the_encoders_pixel_statistics_frame_the_decoder():
    encoder = tiny_encoder(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    rae = RAE(encoder=encoder, decoder=tiny_decoder(), encoder_input_size=32)
    torch.nn.init.zeros_(rae.decoder.to_pixels.weight)
    torch.nn.init.ones_(rae.decoder.to_pixels.bias)
    pixel = rae.decode_tokens(torch.randn(1, 16, 4, 4))[0, :, 5, 7]
    torch.testing.assert_close(pixel, torch.tensor([1.1, 2.2, 3.3]))


def test_another_eps_travels_with_the_statistics_and_the_usual_one_leaves_no_trace():
    full = random_stats()
    tokens = torch.randn(2, 16, 4, 4)
    exact = LatentStats(mean=full.mean, var=full.var, eps=0)
    assert torch.equal(exact.normalise(tokens), (tokens - full.mean) / full.var.sqrt())
    assert "eps" not in full.state_dict()
    assert LatentStats(mean=full.mean, var=full.var, eps=1e-5).sha256 == full.sha256 != exact.sha256
    assert exact.state_dict()["eps"].dtype == torch.float64
    assert exact.half().eps == 0.0
    again = LatentStats(**random_stats().to_dict() | {"eps": 1e-3})
    assert again.eps == 1e-3
    again.load_state_dict(exact.float().state_dict())
    assert (again.eps, again.sha256) == (0.0, exact.sha256)
    with pytest.raises(RuntimeError, match=r"Missing key.*eps"):
        exact.load_state_dict(full.state_dict())
    with pytest.raises(WeightsError, match="eps=-1"):
        LatentStats(eps=-1)
