"""The works of the benchmarks as UniRAE does them: the same code paths as its commands."""

import tempfile
from functools import partial
from typing import Any

from paced import Lap

FAR = 10**9


def device() -> Any:
    """CUDA where there is a card of it, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def stage1(lap: Lap, *, precision: str, batch: int, gan: bool, overrides: tuple[str, ...] = ()) -> None:
    """Steps of stage 1: DINOv2-B, ViT-B decoder, LPIPS, DINO-S/8 discriminator, 224 → 256 px."""
    epochs = 0 if gan else FAR
    train(
        lap,
        "experiment=rae_dummy",
        f"trainer.precision={precision}",
        f"data.global_batch_size={batch}",
        f"data.source.train_count={_enough(batch)}",
        "model.decoder.patch_size=16",
        f"model.disc_start_epoch={epochs}",
        f"model.disc_upd_start_epoch={epochs}",
        "callbacks.reconstruction_metrics.every_n_epochs=null",
        *overrides,
    )


def stage2(
    lap: Lap,
    *,
    precision: str,
    batch: int,
    dit: str,
    cached: bool,
    experiment: str = "dit_dummy",
    overrides: tuple[str, ...] = (),
) -> None:
    """Steps of stage 2 from images, or from a cache of their latents."""
    cache = (
        (f"data.latent_cache={tempfile.mkdtemp()}", "callbacks.generation_metrics.metrics=[]")
        if cached
        else ()
    )
    train(
        lap,
        f"experiment={experiment}",
        *network_overrides(dit, experiment),
        f"trainer.precision={precision}",
        f"data.global_batch_size={batch}",
        f"data.source.train_count={_enough(batch)}",
        "model.rae.decoder.patch_size=16",
        "callbacks.generation_metrics.every_n_epochs=null",
        *cache,
        *overrides,
    )


def _enough(batch: int) -> int:
    """Images for a few steps an epoch."""
    return max(16, 2 * batch)


def train(lap: Lap, *overrides: str) -> None:
    """A run as ``src/train.py`` makes it, one step for each lap."""
    import lightning.pytorch as pl
    import torch

    from unirae.app.config.composition import compose
    from unirae.app.run.assembly import assemble
    from unirae.core.hardware import map_large_blocks
    from unirae.training.events import callbacks_of

    class Pacer(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            lap()

    config = compose(
        [
            *overrides,
            f"paths.output_dir={tempfile.mkdtemp()}",
            f"model.sample_every={FAR}",
            f"trainer.max_steps={FAR}",
            "trainer.max_epochs=null",
            "trainer.log_every_n_steps=50",
            f"trainer.num_threads={torch.get_num_threads()}",  # other sides hold a core while this one is built
        ]
    )
    run = assemble(config, experiment="benchmark", checkpoint=None)
    callbacks_of(run.trainer).append(Pacer())
    map_large_blocks()
    run.fit()


def sampling(
    lap: Lap,
    *,
    precision: str,
    batch: int,
    dit: str,
    num_steps: int,
    settings: dict[str, Any],
    experiment: str = "dit_dummy",
) -> None:
    """Latents from labels: ``sample_dit.py`` without the decoder, for so many that it compiles."""
    import torch

    from unirae.core.hardware import compiler_problem, fastest_float32_matmul, keep_freed_memory
    from unirae.evaluation.passes.encoding import inference_context
    from unirae.evaluation.sampling.sampler import sample_numbered
    from unirae.evaluation.sampling.settings import SamplerSettings
    from unirae.nn.kernels.block_compiler import BlockCompiler
    from unirae.nn.kernels.narrow_weights import NarrowWeights

    where = device()
    torch.set_float32_matmul_precision(fastest_float32_matmul(where.type))
    model = build_dit(dit, experiment).eval().to(where)
    autoguided = settings.pop("guide", False)
    guide = build_dit("dh_dummy").eval().to(where) if autoguided else None
    how = SamplerSettings(num_steps=num_steps, **settings)
    numbers = torch.arange(batch, device=where)
    compiler = BlockCompiler(*(() if compiler_problem(where) else (model, guide)))
    context, narrow = partial(inference_context, where, precision), NarrowWeights(model, guide)  # pyright: ignore[reportArgumentType]
    with context():
        narrow.map_originals()
    keep_freed_memory()
    while True:
        lap()
        with context(), narrow.in_use(), compiler.in_use():
            sample_numbered(model, request=numbers, indices=numbers, seed=0, settings=how, guide=guide)


def network_overrides(dit: str, experiment: str) -> tuple[str, ...]:
    """What makes the network of an experiment that preset; RAEv2's names its early head for the dummy."""
    depths = {"dh_v2_s": 4, "dh_v2_xl": 8}
    early = (
        (f"model.dit.base_head_depth={depths[dit]}",)
        if experiment == "dit_v2_dummy" and dit in depths
        else ()
    )
    return (f"model/dit={dit}", *early)


def build_dit(name: str, experiment: str = "dit_dummy") -> Any:
    """A network of random weights on latents of 768×16×16."""
    import torch

    from unirae.app.config.composition import compose
    from unirae.models.denoisers.build import build_denoiser

    config = compose([f"experiment={experiment}", *network_overrides(name, experiment)])
    node = {**config["model"]["dit"], "prediction": config["flow"]["prediction"]}
    node.update(in_channels=768, input_size=16, num_classes=1000)
    torch.manual_seed(0)
    network = build_denoiser(**node)
    for output in (network.output, network.base_output):
        if output is not None:
            torch.nn.init.normal_(output.linear.weight, std=0.02)  # a new network answers zeros
    return network


def build_muon(network: Any, precision: str) -> Any:
    """Muon of all matrices as RAEv2 divides them, its products in fp32, bf16 or fp16."""
    import torch

    from unirae.training.muon import Matrix, Muon

    groups = network.parameter_groups()
    matrices = [Matrix(matrix, groups.parts(matrix, "projections")) for matrix in groups.matrices]
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return Muon(matrices, [], lr=2e-4, dtype=dtypes[precision])


def muon(lap: Lap, *, precision: str, dit: str) -> None:
    """Muon's part of a step: of all matrices, from gradients that lie there."""
    import torch

    from unirae.core.hardware import fastest_float32_matmul, keep_freed_memory

    keep_freed_memory()
    torch.set_float32_matmul_precision(fastest_float32_matmul(device().type))
    network = build_dit(dit, "dit_v2_dummy").to(device())
    optimizer = build_muon(network, precision)
    for matrix in optimizer.param_groups[0]["params"]:
        matrix.grad = torch.randn_like(matrix)
    while True:
        lap()
        optimizer.step()


def autoencoder(lap: Lap, *, precision: str, batch: int, what: str, decoder: str = "vit_b") -> None:
    """``encode``: images to latents; ``decode``: latents to images, as for so many samples that it is compiled."""
    import torch

    from unirae.app.config.composition import compose
    from unirae.core.hardware import compiler_problem, fastest_float32_matmul, keep_freed_memory
    from unirae.evaluation.passes.encoding import inference_context
    from unirae.models.checkpoints.making import random_rae
    from unirae.nn.kernels.block_compiler import BlockCompiler
    from unirae.nn.kernels.narrow_weights import NarrowWeights

    where = device()
    torch.set_float32_matmul_precision(fastest_float32_matmul(where.type))
    overrides = ["experiment=dit_dummy", f"model/decoder@model.rae.decoder={decoder}"]
    node = compose([*overrides, "model.rae.decoder.patch_size=16"])["model"]["rae"]
    node["decoder"].pop("_target_")
    rae = random_rae(**{key: node[key] for key in ("encoder", "decoder", "image_size")}, seed=0).to(where)
    rae = rae if what == "encode" else rae.without_encoder()  # as sample_dit.py opens it
    context = partial(inference_context, where, precision)  # pyright: ignore[reportArgumentType]
    narrow = NarrowWeights(rae.encoder if what == "encode" else rae.decoder)
    with context():
        narrow.map_originals()
    keep_freed_memory()
    images = torch.rand(batch, 3, 256, 256, device=where)
    latents = torch.randn(batch, 768, 16, 16, device=where)
    compiler = BlockCompiler(rae.decoder if what == "decode" and not compiler_problem(where) else None)
    while True:
        lap()
        with context(), narrow.in_use(), compiler.in_use():
            rae.latents(images) if what == "encode" else rae.decode(latents)


PRODUCTS_AT_ONCE = 10


def products(lap: Lap, *, dtype: str, size: int = 2048, backend: str = "highest") -> None:
    """A few products of two square matrices: one alone would mostly tell how fast threads wake up."""
    import torch

    torch.set_float32_matmul_precision(backend)
    a = torch.randn(size, size, dtype=getattr(torch, dtype), device=device())
    out = torch.empty_like(a)
    while True:
        lap()
        for _ in range(PRODUCTS_AT_ONCE):
            torch.mm(a, a, out=out)
