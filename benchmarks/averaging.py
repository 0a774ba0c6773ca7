"""Gradients averaged over two processes by our updater and by torch's DDP: time of a step and memory.

    python benchmarks/averaging.py

For steps with one network, one forward and one backward pass: stage 2, stage 0, the linear probe. Two processes of one
thread each form a gloo group; the ways take turns in rounds (``paced``). What DDP wraps has the loss as its forward,
and its gradients are views of its buckets; all else of the step is the same code. First both ways make a few steps on
the same data and must end at the same weights. What was decided by it: docs/adr/0012-averaging-beside-ddp.md.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cases
from paced import Lap, Measured, Side, interleave

WAYS = ("ours", "DDP", "DDP, static graph")
WORK = {
    "stage2": {"what": "stage-2 step, DiT^DH of the demo (256/256, 6+2), latents 128×4×4", "batch": 16},
    "stage2_wide": {"what": "stage-2 step, DiT^DH (512/1024, 8+2), latents 768×4×4", "batch": 4},
    "mae": {"what": "stage-0 step, MAE of the demo (128, 6+2), 64 px", "batch": 16},
    "linear_probe": {"what": "linear-probe step on the encoder of the demo, 64 px, 100 classes", "batch": 16},
}
STEPS = {"stage2": 5, "stage2_wide": 2, "mae": 15, "linear_probe": 40}
"""Steps of a unit."""
_ENCODER = {
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}
_MAE = _ENCODER | {
    "decoder_hidden_size": 128,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 512,
    "mask_ratio": 0.4,
    "norm_pix_loss": False,
}
_DITS = {
    "stage2": {"hidden_size": [256, 256], "depth": [6, 2], "num_heads": [4, 4], "in_channels": 128},
    "stage2_wide": {"hidden_size": [512, 1024], "depth": [8, 2], "num_heads": [8, 16], "in_channels": 768},
}


def module_of(work: str) -> Any:
    """The training module, on random weights, the same in every process."""
    import torch

    from unirae.training.manual import StepSettings
    from unirae.training.optimizers import AdamWSettings
    from unirae.training.schedule import Schedule

    torch.manual_seed(0)
    settings = StepSettings(
        optimizer=AdamWSettings(lr=2e-4, betas=(0.9, 0.95), weight_decay=0.0),
        schedule=Schedule(kind="constant", base_lr=2e-4, final_lr=2e-4, warmup_steps=0, decay_end_steps=1),
        clip_grad=1.0,
        ema_decay=0.999,
        ema_warmup=True,
        seed=0,
        micro_batches=1,
    )
    build = {"mae": _mae, "linear_probe": _linear_probe}.get(work, _stage2)
    module = build(work, settings)
    module._trainer = SimpleNamespace(global_step=0, precision_plugin=None)
    return module.train()


def _mae(work: str, settings: Any) -> Any:
    from unirae.training.mae import MaePretraining

    colours = {"pixel_mean": (0.485, 0.456, 0.406), "pixel_std": (0.229, 0.224, 0.225)}
    return MaePretraining(architecture=_MAE, visible_weight=2.0, **colours, settings=settings)


def _linear_probe(work: str, settings: Any) -> Any:
    from unirae.evaluation.probe.features import PooledEncoder
    from unirae.training.linear_probe import LinearProbe

    names = [str(number) for number in range(100)]
    network = PooledEncoder(_encoder(), "avg")
    return LinearProbe(network=network, input_size=(64, 64), class_names=names, settings=settings)


def _stage2(work: str, settings: Any) -> Any:
    from unirae.flow.times import TimeDistribution
    from unirae.models.decoder import ViTDecoder
    from unirae.models.denoisers.build import build_denoiser
    from unirae.models.rae import RAE
    from unirae.training.stage2 import Stage2

    decoder = ViTDecoder(
        token_dim=128, grid=(4, 4), width=32, depth=1, num_heads=2, mlp_width=64, patch_size=16
    )
    return Stage2(
        rae=RAE(encoder=_encoder(), decoder=decoder, encoder_input_size=64),  # latents are given
        rae_reference={},
        denoiser=build_denoiser("dit_dh", **_DITS[work], input_size=4, num_classes=100),
        class_names=(),
        time_distribution=TimeDistribution(),
        label_dropout=0.1,
        ema_extra_decays=(),
        settings=settings,
    )


def _encoder() -> Any:
    from unirae.models.encoders.build import build_encoder

    return build_encoder(kind="mae", name="demo", weights="random", architecture=_ENCODER)


def batch_of(work: str, rank: int) -> dict[str, Any]:
    """What a process is given; every step the same."""
    import torch

    count = WORK[work]["batch"]
    draw = torch.Generator().manual_seed(rank)
    batch = {
        "index": torch.arange(count) + rank * count,
        "label": torch.randint(100, (count,), generator=draw),
    }
    if work in _DITS:
        return batch | {"latent": torch.randn(count, _DITS[work]["in_channels"], 4, 4, generator=draw)}
    return batch | {"image": torch.randint(256, (count, 3, 64, 64), generator=draw, dtype=torch.uint8)}


def step_of(work: str, way: str, rank: int) -> tuple[Callable[[], None], Any]:
    """A training step as ``SingleNetwork`` makes it, and the network that it trains."""
    from torch import nn

    from unirae.core.distributed import alone
    from unirae.training.manual import MeanTerms

    module, batch = module_of(work), batch_of(work, rank)
    with contextlib.nullcontext() if way == "ours" else alone():  # in which the updater averages nothing
        module.configure_optimizers()

    class Loss(nn.Module):
        """The trained network, with the loss as its forward."""

        def __init__(self) -> None:
            super().__init__()
            self.network = module.trained

        def forward(self, part: Any) -> Any:
            return module.loss(part, MeanTerms())

    loss: nn.Module = Loss()
    if way != "ours":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of a name that older versions do not have
            loss = nn.parallel.DistributedDataParallel(
                loss, gradient_as_bucket_view=True, broadcast_buffers=False, static_graph="static" in way
            )

    def step() -> None:
        module.updater.zero_grad()
        for part in module.split(batch):
            module.updater.backward(loss(part))
        module.updater.step(module.global_step)
        for average in module.averages:
            average.update(module.trained, module.global_step)
        module._trainer.global_step += 1

    return step, module.trained


def steps(lap: Lap, *, work: str, way: str, folder: str) -> None:
    """A side: the first process, which starts the second; a unit is :data:`STEPS` steps of both."""
    process = multiprocessing.get_context("spawn").Process(target=_second, args=(work, way, folder))
    process.start()
    _in_step(lap, work, way, folder, rank=0)


def _second(work: str, way: str, folder: str) -> None:
    with contextlib.suppress(RuntimeError):  # the first one is ended where it waits
        _in_step(lambda: None, work, way, folder, rank=1)


def _in_step(lap: Lap, work: str, way: str, folder: str, *, rank: int) -> None:
    import torch.distributed as dist

    from unirae.core.hardware import keep_freed_memory, map_large_blocks

    map_large_blocks()
    _join(Path(folder) / f"{work}-{WAYS.index(way)}", rank)
    step, _ = step_of(work, way, rank)
    step()
    keep_freed_memory()  # after the first step, as in training
    while True:
        lap()
        dist.barrier()
        for _ in range(STEPS[work]):
            step()
        dist.barrier()


def _join(rendezvous: Path, rank: int) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)


def check_same(work: str, folder: str) -> int:
    """Make three steps in each way, compare the weights, and count them.

    Raises:
        RuntimeError: If a way ends elsewhere than ours.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_three_steps, args=(work, folder, rank, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = queue.get()
    for process in processes:
        process.join()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def _three_steps(work: str, folder: str, rank: int, queue: Any) -> None:
    import torch.distributed as dist
    from torch.nn.utils import parameters_to_vector

    _join(Path(folder) / f"{work}-check", rank)
    ends = {}
    for way in WAYS:
        step, network = step_of(work, way, rank)
        start = parameters_to_vector(network.parameters()).detach()
        for _ in range(3):
            step()
        ends[way] = parameters_to_vector(network.parameters()).detach() - start
    far = {way: float((end - ends["ours"]).norm() / ends["ours"].norm()) for way, end in ends.items()}
    wrong = [way for way, distance in far.items() if not distance < 1e-3]
    if rank == 0:
        queue.put(f"{work}: {wrong[0]} is {far[wrong[0]]:.1e} away" if wrong else len(ends["ours"]))
    dist.destroy_process_group()


def measure(work: str, *, rounds: int) -> dict[str, Any]:
    """One case's record, ready for JSON."""
    folder = tempfile.mkdtemp()
    try:
        parameters = check_same(work, folder)
        sides = [Side(way, "averaging:steps", {"work": work, "way": way, "folder": folder}) for way in WAYS]
        load = os.getloadavg()[0]
        measured = interleave(sides, rounds=rounds, warmup=2, count_flops=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "what": f"{WORK[work]['what']}, batch 2 × {WORK[work]['batch']}, fp32",
        "parameters": parameters,
        "load_before": round(load, 1),
        "ways": {way: _described(one, STEPS[work]) for way, one in measured.items()},
        "ratios": {way: _ratio(measured[way], measured["ours"]) for way in WAYS[1:]},
    }


def _described(one: Measured, count: int) -> dict[str, Any]:
    return {
        "seconds": [round(value / count, 5) for value in one.seconds],
        "median": round(one.median / count, 5),
        "peak_gb": None if one.peak_bytes is None else round(one.peak_bytes / 1e9, 3),
    }


def _ratio(theirs: Measured, own: Measured) -> dict[str, Any]:
    """DDP over ours: above 1, ours is faster or smaller."""
    rounds = [a / b for a, b in zip(theirs.seconds, own.seconds, strict=True)]
    low, middle, high = statistics.quantiles(rounds, n=4)
    peaks = theirs.peak_bytes, own.peak_bytes
    return {
        "time": round(middle, 3),
        "quarter": round(low, 3),
        "three_quarters": round(high, 3),
        "memory": round(peaks[0] / peaks[1], 3) if peaks[0] and peaks[1] else None,
    }


def main() -> None:
    """Measure, show, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=WORK, help="and keep the other results")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # gloo; the processes inherit it
    file = cases.RESULTS / "averaging.json"
    found = json.loads(file.read_text())["cases"] if options.only and file.is_file() else {}
    for work in options.only or WORK:
        found[work] = result = measure(work, rounds=options.rounds)
        show(result)
    cases.write("averaging", {"cases": found, "machine": cases.machine(), "versions": cases.versions(None)})


def show(result: dict[str, Any]) -> None:
    """A few lines on the terminal."""
    print(f"{result['what']}: {result['parameters'] / 1e6:.2f} M trained")
    for way, one in result["ways"].items():
        print(f"  {way:20s} {one['median'] * 1e3:8.1f} ms  {one['peak_gb']} GB")
    for way, one in result["ratios"].items():
        spread = f"{one['quarter']} to {one['three_quarters']}"
        print(f"  {way} / ours: time {one['time']} ({spread}), memory {one['memory']}", flush=True)


if __name__ == "__main__":
    main()
