"""A diffusion transformer of ours inside diffusers: it samples what our sampler samples, and comes back unchanged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
from diffusers import AutoencoderRAE, DiffusionPipeline
from omegaconf import OmegaConf

from tiny_diffusers import SHAPE, mend_siglip, pictures, saved, theirs
from tiny_models import tiny_decoder, tiny_rae
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.core.keyed_random import Stream, normal, sample_keys
from unirae.evaluation.sampling.sampler import sample, sample_numbered
from unirae.evaluation.sampling.settings import SamplerSettings
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.build import build_denoiser
from unirae.models.encoders.build import build_encoder
from unirae.models.interop.diffusers.dit import dit_from_diffusers_pipeline, save_dit_pipeline
from unirae.models.interop.diffusers.rae import rae_from_diffusers
from unirae.models.interop.diffusers.rae_export import save_rae_as_diffusers
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

SIZES = {
    "dit": {"hidden_size": 32, "depth": 2, "num_heads": 2, "patch_size": 2},
    "dit_dh": {"hidden_size": [16, 64], "depth": [2, 1], "num_heads": [2, 4], "use_qknorm": True},
}
LABELS = [2, 0, 3, 1]
NAMES = ["tench", "crane", "hen", "crane"]


def dit(kind: str = "dit_dh", *, classes: int = 4, **options: Any) -> Denoiser:
    options = {"latent_stats": stats(eps=1e-3), "time_shift": 2.5, **SIZES[kind], **options}
    options = {"input_size": 4, "in_channels": 64, **options}
    denoiser = build_denoiser(kind, num_classes=classes, **options)
    generator = torch.Generator().manual_seed(0)
    for parameter in denoiser.parameters():
        parameter.data.normal_(std=0.15, generator=generator)
    denoiser.label_embed.weight.data.mul_(10)  # so that guidance matters
    return denoiser.eval().requires_grad_(False)


def stats(**options: Any) -> LatentStats:
    generator = torch.Generator().manual_seed(4)
    mean = torch.randn(SHAPE, generator=generator)
    return LatentStats(
        mean=mean, var=torch.rand(SHAPE, generator=generator) + 0.1, info={"count": 7}, **options
    )


@pytest.fixture(scope="module")
def rae(tmp_path_factory: pytest.TempPathFactory) -> RAE:
    found = rae_from_diffusers(saved(tmp_path_factory.mktemp("rae") / "theirs", theirs("mae")))
    return found.with_stats(LatentStats())


@pytest.fixture
def trained(rae: RAE) -> RAE:
    """With positions that diffusers does not have, as every trained decoder's."""
    decoder = tiny_decoder(token_dim=64, width=32)
    generator = torch.Generator().manual_seed(5)
    for parameter in decoder.parameters():
        parameter.data.normal_(std=0.2, generator=generator)
    return rae.with_decoder(decoder.requires_grad_(False))


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Open a pipeline; the code that diffusers copies goes to a temporary folder."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])

    def open_pipeline(folder: Path) -> Any:
        pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return open_pipeline


def noise(denoiser: Denoiser, count: int, seed: int = 3) -> torch.Tensor:
    return normal(sample_keys(seed, 0, torch.arange(count)), denoiser.latent_shape, Stream.SAMPLE_NOISE)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(
    "call",
    [
        {},
        {"guidance_scale": 2.5},
        {"guidance_scale": 2.5, "guidance_interval": (0.3, 0.9)},
        {"guidance_scale": 1.7, "time_grid": "to_zero"},
    ],
    ids=str,
)
def test_it_samples_what_our_sampler_samples(
    kind: str, call: dict[str, Any], rae: RAE, tmp_path: Path, opened: Callable[[Path], Any]
):
    denoiser = dit(kind)
    pipe = opened(save_dit_pipeline(denoiser, rae, tmp_path / "pipe"))
    assert type(pipe.vae) is AutoencoderRAE

    def made(output_type: str, **call: Any) -> torch.Tensor:
        start = noise(denoiser, 4)
        return pipe(LABELS, num_inference_steps=9, latents=start, output_type=output_type, **call).images

    settings = {"cfg_scale" if name == "guidance_scale" else name: value for name, value in call.items()}
    latents = sample_numbered(
        denoiser,
        request=torch.tensor(LABELS),
        indices=torch.arange(4),
        seed=3,
        settings=SamplerSettings(num_steps=9, **settings),
    ).latents
    torch.testing.assert_close(made("latent", **call), latents, atol=1e-4, rtol=0)
    images = sample(denoiser, rae, labels=LABELS, num_steps=9, seed=3, **settings)
    torch.testing.assert_close(made("pt", **call), images, atol=1e-4, rtol=0)
    # the test can fail: what a call says matters
    assert not call or float((made("latent") - latents).abs().max()) > 0.1


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(
    ("call", "settings"),
    [
        ({"internal_guidance_scale": 1.8}, {"ig_scale": 1.8}),
        (
            {
                "internal_guidance_scale": 1.5,
                "internal_guidance_interval": (0.1, 0.8),
                "internal_guidance_unconditional_scale": 0.6,
                "guidance_scale": 1.3,
            },
            {"ig_scale": 1.5, "ig_interval": (0.1, 0.8), "ig_unconditional_scale": 0.6, "cfg_scale": 1.3},
        ),
    ],
    ids=["alone", "then by label"],
)
def test_networks_of_raev2_are_guided_internally_alike_and_come_back(
    kind: str,
    call: dict[str, Any],
    settings: dict[str, Any],
    rae: RAE,
    tmp_path: Path,
    opened: Callable[[Path], Any],
):
    denoiser = dit(kind, prediction="data", conditioning="tokens", use_qknorm=True, base_head_depth=1)
    folder = save_dit_pipeline(denoiser, rae, tmp_path / "pipe", defaults={**call, "time_grid": "linear"})
    pipe = opened(folder)

    def made(**call: Any) -> torch.Tensor:
        start = noise(denoiser, 4)
        return pipe(LABELS, num_inference_steps=6, latents=start, output_type="latent", **call).images

    latents = sample_numbered(
        denoiser,
        request=torch.tensor(LABELS),
        indices=torch.arange(4),
        seed=3,
        settings=SamplerSettings(num_steps=6, time_grid="linear", **settings),
    ).latents
    torch.testing.assert_close(made(), latents, atol=1e-4, rtol=1e-4)
    assert float((made(internal_guidance_scale=1.0) - latents).abs().max()) > 0.01
    again = dit_from_diffusers_pipeline(folder)
    assert (again.architecture, again.prediction) == (denoiser.architecture, denoiser.prediction)
    state = denoiser.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def test_internal_guidance_needs_an_early_head(rae: RAE, tmp_path: Path, opened: Callable[[Path], Any]):
    pipe = opened(save_dit_pipeline(dit(), rae, tmp_path / "pipe"))
    with pytest.raises(Exception, match=r"internal_guidance_scale=1\.5 needs a model with an early head"):
        pipe(LABELS, num_inference_steps=3, internal_guidance_scale=1.5)


def test_a_network_that_predicts_data_samples_alike_and_comes_back(
    rae: RAE, tmp_path: Path, opened: Callable[[Path], Any]
):
    denoiser = dit(prediction="data")
    pipe = opened(save_dit_pipeline(denoiser, rae, tmp_path / "pipe"))
    made = pipe(LABELS, num_inference_steps=5, latents=noise(denoiser, 4), output_type="pt").images
    wanted = sample(denoiser, rae, labels=LABELS, num_steps=5, seed=3)
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0)
    assert dit_from_diffusers_pipeline(tmp_path / "pipe").prediction is denoiser.prediction


def test_trained_positions_are_kept(trained: RAE, tmp_path: Path, opened: Callable[[Path], Any]):
    denoiser = dit()
    pipe = opened(save_dit_pipeline(denoiser, trained, tmp_path / "pipe"))
    assert isinstance(pipe.vae, AutoencoderRAE)
    made = pipe(LABELS, num_inference_steps=5, latents=noise(denoiser, 4), output_type="pt").images
    torch.testing.assert_close(
        made, sample(denoiser, trained, labels=LABELS, num_steps=5, seed=3), atol=1e-4, rtol=0
    )
    back = rae_from_diffusers(tmp_path / "pipe/vae")
    assert torch.equal(back.decoder.positions, trained.decoder.positions)
    assert back.fingerprint == trained.fingerprint
    again = saved(tmp_path / "again", pipe.vae)
    assert torch.equal(rae_from_diffusers(again).decoder.positions, trained.decoder.positions)


def own_encoder(kind: str, **architecture: Any) -> RAE:
    """An autoencoder whose encoder diffusers would build of other sizes."""
    generator = torch.Generator().manual_seed(6)
    encoder = build_encoder(kind=kind, name="own", weights="random", architecture=architecture)
    for parameter in encoder.parameters():
        parameter.data.normal_(std=0.1, generator=generator)
    patch, side = encoder.patch_size, 4 * encoder.patch_size
    decoder = tiny_decoder(token_dim=encoder.width, width=32, patch_size=patch)
    return RAE(encoder=encoder, decoder=decoder, encoder_input_size=side).eval().requires_grad_(False)


def of_the_demo() -> dict[str, Any]:
    file = Path(__file__).parents[3] / "configs/model/encoder/mae_tiny.yaml"
    return OmegaConf.to_container(OmegaConf.load(file).architecture)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("mae", of_the_demo()),
        (
            "dinov2",
            {"model_type": "dinov2_with_registers", "hidden_size": 64, "num_attention_heads": 4}
            | {"num_hidden_layers": 2, "mlp_ratio": 2, "image_size": 56, "patch_size": 14},
        ),
        ("siglip2", dict.fromkeys(["hidden_size", "intermediate_size", "image_size"], 64) | {"num_hidden_layers": 2}
            | {"num_attention_heads": 4, "patch_size": 16}),
    ],
)  # fmt: skip
def test_an_encoder_of_other_sizes_is_carried(
    kind: str,
    architecture: dict[str, Any],
    tmp_path: Path,
    opened: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
):
    mend_siglip(monkeypatch)
    own = own_encoder(kind, **architecture)
    denoiser = dit(latent_stats=None, in_channels=own.encoder.width)
    pipe = opened(save_dit_pipeline(denoiser, own, tmp_path / "pipe"))
    assert isinstance(pipe.vae, AutoencoderRAE)
    assert pipe.vae.config.encoder_config["num_attention_heads"] == 4
    made = pipe(LABELS, num_inference_steps=5, latents=noise(denoiser, 4), output_type="pt").images
    torch.testing.assert_close(
        made, sample(denoiser, own, labels=LABELS, num_steps=5, seed=3), atol=1e-4, rtol=0
    )
    images = pictures(own.encoder_input_size[0])
    tokens = pipe.vae.encode(
        images
    ).latent  # which diffusers divides by 1 + 1e-5 where there are no statistics
    torch.testing.assert_close(tokens * (1 + 1e-5), own.encode(images), atol=1e-4, rtol=0)
    back = rae_from_diffusers(tmp_path / "pipe/vae")
    state = own.encoder.backbone.state_dict()
    assert all(
        torch.equal(tensor, state[name]) for name, tensor in back.encoder.backbone.state_dict().items()
    )
    torch.testing.assert_close(back.encode(images), tokens, atol=1e-5, rtol=0)
    with pytest.raises((ConfigError, WeightsError)):  # diffusers' own class cannot have it
        save_rae_as_diffusers(own, tmp_path / "vae")


def test_an_encoder_config_that_contradicts_the_rest_is_refused(tmp_path: Path):
    own = own_encoder("mae", **of_the_demo())
    folder = save_dit_pipeline(dit(latent_stats=None, in_channels=128), own, tmp_path / "pipe") / "vae"
    config = json.loads((folder / "config.json").read_text())
    wrong = config["encoder_config"] | {"hidden_size": 192}
    for change, message in (
        ({"encoder_config": wrong}, r"encoder_config\.hidden_size=192 must be 128"),
        ({"encoder_config": [1]}, r"encoder_config=\[1\] must be keys and values"),
        ({"_class_name": "AutoencoderRAE"}, "AutoencoderRAE has no encoder_config"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ConfigError, match=message):
            rae_from_diffusers(folder)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(
    "given", [{}, {"latent_stats": None}, {"latent_stats": LatentStats(var=torch.rand(64, 1, 1))}]
)
def test_back_no_bit_differs(kind: str, given: dict[str, Any], rae: RAE, tmp_path: Path):
    denoiser = dit(kind, **given)
    folder = save_dit_pipeline(denoiser, rae, tmp_path / "pipe")
    back = dit_from_diffusers_pipeline(folder)
    state = denoiser.state_dict()
    assert back.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in back.state_dict().items())
    assert (back.architecture, back.time_shift) == (denoiser.architecture, denoiser.time_shift)
    assert (back.latent_stats.eps, back.latent_stats.info) == (
        denoiser.latent_stats.eps,
        denoiser.latent_stats.info,
    )
    assert not back.training


def test_names_defaults_generator_and_output_types(rae: RAE, tmp_path: Path, opened: Callable[[Path], Any]):
    denoiser = dit()
    folder = save_dit_pipeline(
        denoiser,
        rae,
        tmp_path / "pipe",
        class_names=NAMES,
        defaults={"num_inference_steps": 4, "guidance_scale": 3.0, "guidance_interval": (0.1, 1.0)},
    )
    pipe = opened(folder)
    whole = {"num_inference_steps": 4, "guidance_scale": 3.0, "guidance_interval": (0.1, 1.0)}

    def made(labels: Any, **options: Any) -> Any:
        return pipe(
            labels, generator=torch.Generator().manual_seed(1), **{"output_type": "latent", **options}
        ).images

    assert torch.equal(made(["hen", "tench"]), made([2, 0], **whole))
    assert torch.equal(made("hen"), made(torch.tensor([2])))
    assert not torch.equal(made("hen"), made(0))
    assert made("hen", output_type="pil")[0].size == (32, 32)
    assert made("hen", output_type="np").shape == (1, 32, 32, 3)
    for labels, message in (
        ("crane", r"\[1, 3\]"),
        ("ibis", "none"),
        ([5], "classes 0 to 3"),
        ([], "classes 0 to 3"),
    ):
        with pytest.raises(Exception, match=message):
            pipe(labels)
    for options in ({"output_type": "gif"}, {"latents": torch.zeros(1, 2, 3, 4)}, {"time_grid": "cosine"}):
        with pytest.raises(Exception, match=r"gif|shape|linear"):
            pipe([0], **options)
    pipe.transformer.to(torch.bfloat16)
    with pytest.raises(Exception, match=r"inside torch\.autocast"):
        pipe([0])


def test_without_labels(rae: RAE, tmp_path: Path, opened: Callable[[Path], Any]):
    pipe = opened(save_dit_pipeline(dit(classes=0), rae, tmp_path / "pipe"))
    assert pipe([0, 0], num_inference_steps=2, output_type="pt").images.shape == (2, 3, 32, 32)
    with pytest.raises(Exception, match="needs a model with labels"):
        pipe([0], guidance_scale=2.0)


def test_it_runs_where_this_package_is_not_installed(trained: RAE, tmp_path: Path):
    denoiser = dit()
    folder = save_dit_pipeline(denoiser, trained, tmp_path / "pipe")
    torch.save(noise(denoiser, 2), tmp_path / "noise.pt")
    script = f"""
import sys, torch
sys.modules["unirae"] = sys.modules["jaxtyping"] = None  # an import of them fails now
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({str(folder)!r}, custom_pipeline={str(folder)!r}, trust_remote_code=True)
noise = torch.load({str(tmp_path / "noise.pt")!r})
images = pipe([1, 2], num_inference_steps=3, latents=noise, output_type="pt").images
torch.save(images, {str(tmp_path / "images.pt")!r})
"""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, capture_output=True)
    expected = sample(denoiser, trained, labels=[1, 2], num_steps=3, seed=3)
    torch.testing.assert_close(torch.load(tmp_path / "images.pt"), expected, atol=1e-4, rtol=0)


def refused(error: type[UserError], message: str, tmp_path: Path, *parts: Any, **options: Any) -> None:
    with pytest.raises(error, match=message):
        save_dit_pipeline(*parts, tmp_path / "pipe", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused_and_nothing_written(rae: RAE, tmp_path: Path):
    refused(WeightsError, r"the DiT makes latents \(64, 4, 4\)", tmp_path, dit(), tiny_rae())
    refused(WeightsError, "other latent statistics", tmp_path, dit(), rae.with_stats(stats(eps=1e-4)))
    refused(
        ConfigError, "3 class_names for a network of 4 classes", tmp_path, dit(), rae, class_names=NAMES[:3]
    )
    for defaults, message in (
        ({"steps": 3}, "unknown steps"),
        ({"guidance_interval": (0.5, 0.1)}, "within"),
        ({"internal_guidance_interval": (0.5, 0.1)}, "internal_guidance_interval=.* within"),
        ({"internal_guidance_scale": "much"}, "internal_guidance_scale='much' must be a number"),
        ({"time_grid": "cosine"}, "known: reference, to_zero"),
        ({"num_inference_steps": 1}, "at least 2"),
    ):
        refused(ConfigError, message, tmp_path, dit(), rae, defaults=defaults)


def test_folders_that_are_not_ours(rae: RAE, tmp_path: Path):
    folder = save_dit_pipeline(dit(), rae, tmp_path / "pipe")
    with pytest.raises(WeightsError, match="is of AutoencoderRAE; only a RAETransformer"):
        dit_from_diffusers_pipeline(folder / "vae")
    with pytest.raises(WeightsError, match="a pipeline that save_dit_pipeline wrote"):
        dit_from_diffusers_pipeline(tmp_path / "nowhere")
    file = folder / "transformer/config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "sample_size": 4}))
    with pytest.raises(ConfigError, match="missing or unknown sample_size"):
        dit_from_diffusers_pipeline(folder)
    file.write_text(json.dumps({**config, "latent_stats": None}))
    with pytest.raises(WeightsError, match=r"2 unexpected \(latents_mean, latents_var\)"):
        dit_from_diffusers_pipeline(folder)
