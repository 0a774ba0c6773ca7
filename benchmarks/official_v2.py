"""The works of the benchmarks as RAEv2 does them; it is imported from a checkout of the user's.

    git clone https://github.com/nanovisionx/RAEv2 DIR; pip install einops
    git clone https://github.com/Dao-AILab/gram-newton-schulz GRAM

Its scripts need CUDA and downloads, so the steps are written out below in its order, from its networks, transport,
guidance, average and optimizer. Its Muon is a fork of ``gram-newton-schulz`` that is not public; the original takes its
place, from a checkout or installed with ``pip install --no-deps``. All weights are random. Latents are 768×16×16.
"""

import importlib
import math
import sys
from pathlib import Path
from typing import Any

from official import allow_tf32, precision_context
from ours import device
from paced import Lap

MARK = "src/configs/stage2.py"
"""A file by which a checkout is known."""
GRAM_MARK = "gram_newton_schulz/gram_newton_schulz.py"
"""The same of ``gram-newton-schulz``."""
SHIFT = math.sqrt(196608 / 4096)
"""Of times, as its trainer computes it from the size of the latents."""


def enter(root: str, gram: str | None = None) -> None:
    """Make its modules importable."""
    sys.path[:0] = [str(Path(root) / "src"), *([gram] if gram else [])]


DITS = {
    "dh_dummy": {
        "hidden_size": [384, 384],
        "depth": [6, 2],
        "num_heads": [6, 6],
        "base_model_depth": 1,
    },
    "dh_v2_s": {
        "hidden_size": [384, 2048],
        "depth": [12, 2],
        "num_heads": [6, 16],
        "base_model_depth": 4,
    },
    "dh_v2_xl": {
        "hidden_size": [1440, 2048],
        "depth": [28, 2],
        "num_heads": [20, 16],
        "base_model_depth": 8,
    },
}


def build_dit(name: str) -> Any:
    """Its DiT^DH with an early head, on the device; both outputs are random, for new ones give zeros."""
    import torch
    from configs.stage2 import ConditioningArchConfig  # pyright: ignore[reportMissingImports]
    from stage2.models.DDT import DiTwDDTHeadIG  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    network = DiTwDDTHeadIG(
        input_size=16,
        in_channels=768,
        patch_size=[1, 1],
        mlp_ratio=4.0,
        num_classes=1000,
        cond_arch=ConditioningArchConfig(),
        **DITS[name],
    )
    for layer in (network.final_layer, network.base_final_layer):
        torch.nn.init.normal_(layer.linear.weight, std=0.02)
    return network.requires_grad_(True).to(device())


def transport() -> Any:
    """Flow matching that predicts the data."""
    from configs.stage2 import TransportConfig  # pyright: ignore[reportMissingImports]
    from stage2.transport import create_transport  # pyright: ignore[reportMissingImports]

    return create_transport(TransportConfig(prediction="x"), SHIFT)


def build_optimizer(kind: str, parameters: Any, products: str | None = None) -> Any:
    """By its own function and defaults; ``gmuon`` or ``adamw``.

    Args:
        products: the type in which Newton–Schulz multiplies in place of float16, in which a CPU without instructions
            for it multiplies a hundred times slower than in float32.
    """
    from configs.shared import OptimizerConfig  # pyright: ignore[reportMissingImports]
    from utils.optim_utils import build_optimizer as build  # pyright: ignore[reportMissingImports]

    if kind == "gmuon":
        import torch

        torch._dynamo.config.recompile_limit = 64  # it compiles for every shape, and ends beyond eight
    if kind == "gmuon" and products is not None:
        module: Any = importlib.import_module("gram_newton_schulz.gram_newton_schulz")
        module.torch = _Torch(products)
    return build(parameters, OptimizerConfig(type=kind))[0]


class _Torch:
    """The torch that a module sees, with another type under the name float16."""

    def __init__(self, products: str) -> None:
        import torch

        self.float16 = getattr(torch, products)

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)


def stage2(
    lap: Lap,
    *,
    root: str,
    precision: str,
    batch: int,
    dit: str,
    optimizer: str,
    gram: str | None = None,
    compiled: bool = False,
) -> None:
    """Steps of ``train.py`` from given latents; ``compiled`` is its ``--compile``."""
    import copy

    import torch

    allow_tf32()
    enter(root, gram)
    from utils.train_utils import update_ema  # pyright: ignore[reportMissingImports]

    network = build_dit(dit)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    network.train()
    products = None if device().type == "cuda" else "float32"
    steps = build_optimizer(optimizer, list(network.parameters()), products)
    flow = transport()
    losses = torch.compile(flow.training_losses) if compiled else flow.training_losses
    latents = torch.randn(batch, 768, 16, 16, device=device())
    labels = torch.randint(0, 1000, (batch,), device=device())
    null = {"context": torch.full((batch,), 1000, device=device()), "attn_mask": None}
    total = torch.zeros(1, device=device())
    while True:
        lap()
        with precision_context(precision):
            loss = losses(network, latents, {"context": labels, "attn_mask": None}, null)["loss"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        steps.step()
        steps.zero_grad(set_to_none=True)
        update_ema(average, network, 0.9995)
        total += loss.detach()


def sampler(network: Any, *, evaluations: int, ig: float, cfg: float) -> Any:
    """The function from noise and labels to latents, as its evaluation calls it; scales of 1 are without guidance."""
    import torch
    from configs.stage2 import CFGConfig, GuidanceConfig, IGConfig  # pyright: ignore[reportMissingImports]
    from stage2.transport import create_sampler  # pyright: ignore[reportMissingImports]
    from utils.guidance_utils import get_model_forward_fn  # pyright: ignore[reportMissingImports]

    guidance = GuidanceConfig(cfg=CFGConfig(scale=cfg), ig=IGConfig(scale=ig))
    function, options = get_model_forward_fn(network, guidance)
    solve = create_sampler(transport(), guidance).sample_ode(num_steps=evaluations)

    def sample(noise: Any, labels: Any) -> Any:
        if guidance.any_guidance_active:
            noise, labels = torch.cat([noise, noise]), torch.cat([labels, torch.full_like(labels, 1000)])
        made = solve(noise, function, context=labels, attn_mask=None, **options)[-1]
        return made.chunk(2)[0] if guidance.any_guidance_active else made

    return sample


def sampling(
    lap: Lap,
    *,
    root: str,
    precision: str,
    batch: int,
    dit: str,
    evaluations: int,
    ig: float,
    cfg: float,
    gram: str | None = None,
) -> None:
    """Latents from labels by its Euler sampler."""
    import torch

    allow_tf32()
    enter(root, gram)
    sample = sampler(build_dit(dit).eval(), evaluations=evaluations, ig=ig, cfg=cfg)
    noise = torch.randn(batch, 768, 16, 16, device=device())
    labels = torch.arange(batch, device=device())
    while True:
        lap()
        with torch.no_grad(), precision_context(precision):
            sample(noise, labels)


def muon(lap: Lap, *, root: str, precision: str, dit: str, gram: str | None = None) -> None:
    """Muon's part of a step: of all matrices, from gradients that lie there; products in ``precision``."""
    import torch

    allow_tf32()
    enter(root, gram)
    matrices = [parameter for parameter in build_dit(dit).parameters() if parameter.ndim == 2]
    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": None}
    optimizer = build_optimizer("gmuon", matrices, names[precision])
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    while True:
        lap()
        optimizer.step()
