"""The works of the benchmarks as the official RAE code does them; it is imported from a checkout of the user's.

    git clone https://github.com/bytetriper/RAE DIR; pip install einops

Its scripts cannot be run as they are here (they load weights from the network, and need CUDA with several processes),
so the steps are written out below in its order, from its networks, losses, EMA and optimizer. ``precision`` is fp32, as
its README recommends for stage 1, or bf16, its ``--precision bf16``. All weights are random. On CUDA 32-bit products
are TF32 where its script says so (stage 2, sampling, encoding) and are not where it does not (stage 1).
"""

import contextlib
import functools
import importlib.machinery
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from ours import device
from paced import Lap

MARK = "src/stage1/rae.py"
"""A file by which a checkout is known."""


def enter(root: str) -> None:
    """Make its modules importable, and random weights stand in for downloads."""
    sys.path.insert(0, str(Path(root) / "src"))
    import torchvision

    plain = torchvision.models.vgg16
    torchvision.models.vgg16 = lambda pretrained=False: plain(weights=None)
    if "wandb" not in sys.modules:
        stub = sys.modules["wandb"] = types.ModuleType("wandb")  # which its logging imports
        stub.__spec__ = importlib.machinery.ModuleSpec("wandb", None)  # accelerate asks for it


def precision_context(precision: str) -> Any:
    """What its ``get_autocast_scaler`` gives, on whichever device there is."""
    import torch

    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device().type, dtype=torch.bfloat16)


def allow_tf32() -> None:
    """As the heads of ``train.py`` and ``sample.py`` do, and by default its other scripts but stage 1's."""
    import torch

    if device().type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True


def build_rae(root: str, decoder: str = "ViTB") -> Any:
    """DINOv2-B with registers and a decoder, 224 → 256 px, on the device."""
    enter(root)
    from stage1 import RAE  # pyright: ignore[reportMissingImports]
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder) / "encoder"
        config = Dinov2WithRegistersConfig(image_size=518, patch_size=14, num_register_tokens=4)
        Dinov2WithRegistersModel(config).save_pretrained(encoder)
        BitImageProcessor(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]).save_pretrained(
            encoder
        )
        sizes = json.loads((Path(root) / f"configs/decoder/{decoder}/config.json").read_text())
        own = Path(folder) / "decoder"
        own.mkdir()
        # place holders that transformers 5 does not accept
        sizes.update(patch_size=16, image_size=256)
        (own / "config.json").write_text(json.dumps(sizes))
        rae = RAE(
            encoder_config_path=str(encoder),
            encoder_params={"dinov2_path": str(encoder), "normalize": True},
            decoder_config_path=str(own),
        )
    return rae.to(device())


def build_discriminator(root: str) -> Any:
    """DINO-S/8 with its heads, and DiffAug, as its YAML of stage 1 sets them."""
    import torch
    from disc import build_discriminator as build  # pyright: ignore[reportMissingImports]
    from disc.dinodisc import FrozenDINONoDrop, recipes  # pyright: ignore[reportMissingImports]
    from omegaconf import OmegaConf

    whole: Any = OmegaConf.load(Path(root) / "configs/stage1/training/DINOv2-B_decXL.yaml")
    settings: Any = OmegaConf.to_container(whole.gan.disc)
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        size = settings["arch"].get("recipe", "S_8")
        torch.save(FrozenDINONoDrop(**recipes[size]).state_dict(), file.name)
        settings["arch"]["dino_ckpt_path"] = file.name
        return build(settings, device())


def build_lpips() -> Any:
    """VGG-16's, random."""
    import disc.lpips  # pyright: ignore[reportMissingImports]
    import torch

    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({}, file.name)
        disc.lpips.get_ckpt_path = lambda name: file.name
        return disc.lpips.LPIPS().eval().to(device())


def stage1(lap: Lap, *, root: str, precision: str, batch: int, gan: bool, decoder: str = "ViTB") -> None:
    """Steps of ``train_stage1.py``."""
    import copy

    import torch

    rae = build_rae(root, decoder)
    from disc import hinge_d_loss, vanilla_g_loss  # pyright: ignore[reportMissingImports]
    from utils.optim_utils import build_optimizer  # pyright: ignore[reportMissingImports]
    from utils.train_utils import update_ema  # pyright: ignore[reportMissingImports]

    rae.encoder.eval().requires_grad_(False)
    rae.decoder.train().requires_grad_(True)
    average = copy.deepcopy(rae).eval().requires_grad_(False)
    discriminator, augment = build_discriminator(root)
    lpips = build_lpips()
    trained = [p for p in discriminator.parameters() if p.requires_grad]
    optimizer, _ = build_optimizer(rae.decoder.parameters(), {})
    disc_optimizer, _ = build_optimizer(trained, {})
    last = rae.decoder.decoder_pred.weight
    context = functools.partial(precision_context, precision)
    images = torch.rand(batch, 3, 256, 256, device=device())
    real = images * 2 - 1
    rae.train()
    while True:
        lap()
        optimizer.zero_grad(set_to_none=True)
        discriminator.eval()
        with context():
            made = rae(images)
            signed = made * 2 - 1
            reconstruction = (made - images).abs().mean() + lpips(real, signed)
            if gan:
                generator = vanilla_g_loss(discriminator(augment.aug(signed), None)[0])
        loss = reconstruction
        if gan:
            norms = [
                torch.autograd.grad(term, last, retain_graph=True)[0].norm()
                for term in (reconstruction, generator)
            ]
            weight = (norms[0] / (norms[1] + 1e-6)).clamp(0, 1e4).detach()
            loss = reconstruction + 0.75 * weight * generator
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rae.parameters(), 1.0)
        optimizer.step()
        update_ema(average, rae, 0.9978)
        if not gan:
            continue
        rae.eval()
        discriminator.train()
        disc_optimizer.zero_grad(set_to_none=True)
        with context():
            with torch.no_grad():
                fresh = rae(images) * 2 - 1
            fake = torch.round((fresh.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1
            fake_logits, real_logits = discriminator(augment.aug(fake), augment.aug(real))
            loss = hinge_d_loss(real_logits, fake_logits)
        loss.backward()
        disc_optimizer.step()
        discriminator.eval()
        rae.train()


DITS = {
    "dh_dummy": {"hidden_size": [384, 384], "depth": [6, 2], "num_heads": [6, 6]},
    "dh_s": {"hidden_size": [384, 2048], "depth": [12, 2], "num_heads": [6, 16]},
    "dh_xl": {"hidden_size": [1152, 2048], "depth": [28, 2], "num_heads": [16, 16]},
}


def build_dit(name: str) -> Any:
    """Its DiT^DH on latents of 768×16×16, on the device."""
    import torch
    from stage2.models.DDT import DiTwDDTHead  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    network = DiTwDDTHead(
        input_size=16,
        patch_size=1,
        in_channels=768,
        mlp_ratio=4.0,
        class_dropout_prob=0.1,
        num_classes=1000,
        use_qknorm=False,
        use_swiglu=True,
        use_rope=True,
        use_rmsnorm=True,
        wo_shift=False,
        use_pos_embed=True,
        **DITS[name],
    )
    torch.nn.init.normal_(network.final_layer.linear.weight, std=0.02)
    return network.to(device())


def transport() -> Any:
    """Flow matching with its shift of times."""
    from stage2.transport import create_transport  # pyright: ignore[reportMissingImports]

    return create_transport(
        "Linear", "velocity", None, None, None, "logit-normal_0_1", (196608 / 4096) ** 0.5
    )


def stage2(
    lap: Lap, *, root: str, precision: str, batch: int, dit: str, images: bool, compiled: bool = False
) -> None:
    """Steps of ``train.py``, from images or from given latents."""
    import copy

    import torch

    allow_tf32()
    if images:
        rae = build_rae(root).eval()
    else:
        enter(root)
    from utils.optim_utils import build_optimizer  # pyright: ignore[reportMissingImports]
    from utils.train_utils import update_ema  # pyright: ignore[reportMissingImports]

    network = build_dit(dit).train()
    average = copy.deepcopy(network).eval().requires_grad_(False)
    forward = torch.compile(network) if compiled else network
    optimizer, _ = build_optimizer(network.parameters(), {})
    flow = transport()
    pixels = torch.rand(batch, 3, 256, 256, device=device())
    latents = torch.randn(batch, 768, 16, 16, device=device())
    labels = torch.randint(0, 1000, (batch,), device=device())
    while True:
        lap()
        with precision_context(precision):
            with torch.no_grad():
                z = rae.encode(pixels) if images else latents
            optimizer.zero_grad(set_to_none=True)
            loss = flow.training_losses(forward, z, {"y": labels})["loss"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        update_ema(average, network, 0.9995)
        loss.item()


def sampling(
    lap: Lap,
    *,
    root: str,
    precision: str,
    batch: int,
    dit: str,
    num_steps: int,
    guidance: str,
    interval: list[float],
) -> None:
    """Latents from labels by its Euler sampler; guidance is none, cfg or autoguidance."""
    import torch

    allow_tf32()
    enter(root)
    from stage2.transport import Sampler  # pyright: ignore[reportMissingImports]

    network = build_dit(dit).eval()
    sample = Sampler(transport()).sample_ode(sampling_method="euler", num_steps=num_steps)
    noise = torch.randn(batch, 768, 16, 16, device=device())
    labels = torch.arange(batch, device=device())
    function, options = network.forward, {"y": labels}
    if guidance == "cfg":
        noise, labels = torch.cat([noise, noise]), torch.cat([labels, torch.full_like(labels, 1000)])
        function = network.forward_with_cfg
        options = {"y": labels, "cfg_scale": 2.0, "cfg_interval": tuple(interval)}
    elif guidance == "autoguidance":
        function = network.forward_with_autoguidance
        options |= {"cfg_scale": 2.0, "cfg_interval": tuple(interval)}
        options["additional_model_forward"] = build_dit("dh_dummy").eval().forward
    while True:
        lap()
        with torch.no_grad(), precision_context(precision):
            sample(noise, function, **options)


def autoencoder(lap: Lap, *, root: str, precision: str, batch: int, what: str, decoder: str = "ViTB") -> None:
    """``encode``: images to latents; ``decode``: latents to images."""
    import torch

    allow_tf32()
    rae = build_rae(root, decoder).eval()
    images = torch.rand(batch, 3, 256, 256, device=device())
    latents = torch.randn(batch, 768, 16, 16, device=device())
    while True:
        lap()
        with torch.no_grad(), precision_context(precision):
            rae.encode(images) if what == "encode" else rae.decode(latents)
