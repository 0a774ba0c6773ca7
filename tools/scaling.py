"""Write the tables of docs/scaling.md: what a step costs on many GPUs, by arithmetic alone. Nothing of it was run.

    python tools/scaling.py            # write
    python tools/scaling.py --check    # exit 1 where the page is stale

The floating-point operations are counted, not estimated: the networks of the composed experiments are built on the meta
device and torch's counter sees the passes of a step, with their backward passes, for one image. Everything else is an
assumption, and stands in the page.
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

PAGE = Path(__file__).parents[1] / "docs/scaling.md"
MARKED = re.compile(r"(<!-- scaling: .*?-->\n).*?(<!-- scaling end -->)", re.DOTALL)
GPUS = (8, 16, 64, 256, 512)
PER_NODE = 8
UTILISATION = 0.4
NETWORK = 50e9 * 0.8  # bytes/s of a node: 400 Gb/s, of which 80 % are reached
NVLINK_REACHED = 0.8
BEHIND = 2 / 3  # of the time of a trained network: its backward pass, behind which messages hide
JPEG_BYTES = 110e3
DECODED_PER_CORE = 100.0
CORES_PER_GPU = 12


@dataclass(frozen=True)
class Device:
    """Peak operations per second (dense) and one direction of NVLink in bytes per second."""

    name: str
    bf16: float
    tf32: float
    nvlink: float


DEVICES = (
    Device("H100", bf16=989e12, tf32=494e12, nvlink=450e9),
    Device("A100", bf16=312e12, tf32=156e12, nvlink=300e9),
)


@dataclass(frozen=True)
class Stage:
    """What a step computes and sends."""

    title: str
    flops: dict[str, int]
    """Per image, by part."""
    trained: str
    """The part whose backward pass hides messages."""
    gradient_bytes: int
    batch: int
    precision: str


def counted(run: Callable[[], Any]) -> int:
    """Operations of ``run``, a multiplication and an addition being two.

    Attention by its formula: the counter does not know a CPU's fused kernel.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def gradient_bytes(*networks: nn.Module) -> int:
    """In 32 bits."""
    return sum(4 * p.numel() for network in networks for p in network.parameters() if p.requires_grad)


def stage1() -> Stage:
    """``rae_dino``: DINOv2-B, the ViT-XL decoder, LPIPS and the discriminator, all of them at work."""
    from unirae.app.config.composition import compose
    from unirae.app.run import builders
    from unirae.app.run.stages.stage1 import build_stage1

    random = [f"model.{part}.weights=random" for part in ("encoder", "perceptual", "discriminator")]
    config = compose(["experiment=rae_dino", *random])
    with torch.device("meta"):
        rae = builders.build_rae(config["model"], seed=0)
        module = build_stage1(config, rae, steps_per_epoch=2502)
        image = torch.empty(1, 3, *rae.output_size)
        leaf = torch.empty_like(image).requires_grad_()
        judge = module.adversary.discriminator  # pyright: ignore[reportOptionalMemberAccess]
        with torch.no_grad():
            tokens = rae.tokens(image)
        gradients = gradient_bytes(rae.decoder, judge)
        parts = {
            "encoder": lambda: rae.tokens(image),
            "decoder": lambda: rae.decode_tokens(tokens).sum().backward(),
            "perceptual net": lambda: module.perceptual(leaf, image).sum().backward(),  # pyright: ignore[reportOptionalCall]
            "fakes for the discriminator": lambda: without_gradient(rae.decode_tokens, tokens),
            "discriminator": lambda: judge.train()(torch.cat([image, image])).sum().backward(),
            # in the decoder's turn only the image gets a gradient
            "discriminator for the decoder": lambda: (
                judge.eval().requires_grad_(False)(leaf).sum().backward()
            ),
        }
        flops = {name: counted(run) for name, run in parts.items()}
    return Stage(
        "Stage 1: DINOv2-B and the ViT-XL decoder (`rae_dino`)",
        flops,
        "decoder",
        gradients,
        config["data"]["global_batch_size"],
        "bf16",
    )


def stage2() -> Stage:
    """``dit_xl``: DiT^DH-XL on latents of DINOv2-B that the step encodes."""
    from unirae.app.config.composition import compose
    from unirae.app.run.rae_source import find_rae
    from unirae.app.run.stages.stage2 import denoiser_for

    files = ["pretrained_decoder_path=null", "decoder_weights=random", "encoder.weights=random"]
    config = compose(["experiment=dit_xl", *(f"model.rae.{setting}" for setting in files)])
    with torch.device("meta"):
        rae = find_rae(config).load()
        dit = denoiser_for(config, rae, num_classes=1000)
        encoder = counted(lambda: without_gradient(rae.tokens, torch.empty(1, 3, *rae.output_size)))
    with FakeTensorMode(
        allow_non_fake_inputs=True
    ):  # as the meta device, but it looks like a CPU: autocast does not know meta
        dit = dit.to_empty(device="cpu")
        x, t, y = torch.empty(1, *dit.latent_shape), torch.empty(1), torch.zeros(1, dtype=torch.int64)
        denoiser = counted(lambda: dit(x, t, y).sum().backward())
    return Stage(
        "Stage 2: DiT^DH-XL (`dit_xl`)",
        {"encoder": encoder, "denoiser": denoiser},
        "denoiser",
        gradient_bytes(dit),
        config["data"]["global_batch_size"],
        "tf32",
    )


@torch.no_grad()
def without_gradient(run: Callable[..., Any], *inputs: Any) -> None:
    """Forward alone."""
    run(*inputs)


def all_reduce_seconds(size: float, gpus: int, device: Device) -> float:
    """Reduce-scatter and all-gather in rings: within each node, and between nodes each GPU its eighth."""
    nodes = gpus // PER_NODE
    within = 2 * (PER_NODE - 1) / PER_NODE * size / (device.nvlink * NVLINK_REACHED)
    return within + 2 * (nodes - 1) / nodes * size / NETWORK


def row(stage: Stage, device: Device, gpus: int) -> str:
    """One line of a table."""
    peak = getattr(device, stage.precision)
    speed = peak * UTILISATION * gpus
    compute = sum(stage.flops.values()) * stage.batch / speed
    hidden = BEHIND * stage.flops[stage.trained] * stage.batch / speed
    sending = all_reduce_seconds(stage.gradient_bytes, gpus, device)
    waiting = max(0.0, sending - hidden)
    rate = stage.batch / (compute + waiting)
    cores = rate / DECODED_PER_CORE
    limit = "network" if waiting > 0.1 * compute else "computing"
    if cores > CORES_PER_GPU * gpus:
        limit = "decoding"
    cells = [
        f"{gpus} {device.name}",
        f"{stage.batch / gpus:g}",
        f"{1e3 * compute:.0f}",
        f"{1e3 * sending:.0f}",
        f"{1e3 * waiting:.0f}",
        f"{rate:,.0f}",
        f"{rate * JPEG_BYTES / 1e6:,.0f}",
        f"{cores / gpus:.1f}",
        limit,
    ]
    return f"| {' | '.join(cells)} |"


def table(stage: Stage) -> str:
    """A heading, the operations and the lines."""
    parts = ", ".join(f"{name} {flops / 1e9:,.0f}" for name, flops in stage.flops.items())
    total = sum(stage.flops.values())
    head = ["GPUs", "images per GPU", "compute, ms", "all-reduce, ms", "waited for, ms", "images/s", "MB/s"]
    head += ["cores per GPU", "limit"]
    lines = [
        f"### {stage.title}",
        "",
        f"GFLOP per image: {parts}; together {total / 1e9:,.0f}. A step of {stage.batch} images is "
        f"{total * stage.batch / 1e12:,.0f} TFLOP, its gradients are {stage.gradient_bytes / 1e9:.2f} GB.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(row(stage, device, gpus) for device in DEVICES for gpus in GPUS),
    ]
    return "\n".join(lines)


def page() -> str:
    """The page with new tables."""
    text = "\n\n".join(table(stage) for stage in (stage1(), stage2()))
    return MARKED.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text())


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is stale")
    check, new = parser.parse_args().check, page()
    if check:
        return int(new != PAGE.read_text())
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
