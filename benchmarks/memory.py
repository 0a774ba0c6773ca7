"""The largest micro-batch that fits a GPU's memory, by rehearsing steps of the full-size experiments without numbers.

    python benchmarks/memory.py            # rehearses, writes results/memory.json
    python benchmarks/memory.py --check    # compares with the committed results, writes nothing

No weights are made and no GPU is needed: the networks are built on the meta device, and a step of two micro-batches
runs on tensors without storage. Attention keeps what a fused kernel keeps. Memory is linear in the micro-batch
(tests/training/test_rehearsal.py), so two sizes tell all.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cases
import torch
from torch import Tensor

from unirae.app.config.composition import compose
from unirae.app.run import builders
from unirae.app.run.rae_source import find_rae
from unirae.app.run.stages.stage1 import build_stage1
from unirae.app.run.stages.stage2 import build_stage2
from unirae.nn import attention
from unirae.nn.kernels import lpips_distance
from unirae.training.manual import ManualModule
from unirae.training.precision import ManualMixedPrecision
from unirae.training.rehearsal import rehearse

GPUS_GB = (16, 24, 40, 80)
RESERVE_GB = 2
"""For the CUDA context, work space of kernels and what the allocator cannot use."""
_SIZES = (32, 256)
_MICRO_BATCHES = 2
"""From the second on, gradients are there while activations are kept."""
_SAME = 0.01
_DIT = ("dit_s", "dit_base", "dit_large", "dit_xl", "dit_plain_xl")
_DECODERS = {"vit_b": "ViT-B", "vit_l": "ViT-L", "vit_xl": "ViT-XL"}


@dataclass(frozen=True)
class Case:
    """An experiment with overrides; ``recompute`` are those of its activation checkpointing."""

    title: str
    overrides: tuple[str, ...]
    recompute: tuple[str, ...]


CASES = [
    *(
        Case(f"`{name}`", (f"experiment={name}",), ("model.dit.gradient_checkpointing=true",))
        for name in _DIT
    ),
    *(
        Case(
            f"`rae_dino`, {title} decoder",
            ("experiment=rae_dino", f"model/decoder={decoder}"),
            (
                "model.decoder.gradient_checkpointing=true",
                "model.discriminator.gradient_checkpointing=true",
            ),
        )
        for decoder, title in _DECODERS.items()
    ),
]


def main() -> None:
    """Rehearse, then write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed results; write nothing"
    )
    options = parser.parse_args()
    as_on_a_gpu()
    rows = []
    for case in CASES:
        for recomputed in (False, True):
            rows.append(row(case, recomputed=recomputed))
            print(rows[-1], flush=True)
    result = {
        "what": "largest micro-batch, bf16-mixed",
        "reserve_gb": RESERVE_GB,
        "rows": rows,
        "versions": cases.versions(None),
    }
    if not options.check:
        cases.write("memory", result)
    elif differing := differences(rows):
        sys.exit("\n".join(differing))


def as_on_a_gpu() -> None:
    """Let the paths of a CPU keep what those of a GPU do: fused attention for any length, LPIPS in one piece."""
    attention._CHUNKED_UP_TO.clear()
    lpips_distance._SLAB = 2**62


def row(case: Case, *, recomputed: bool) -> dict[str, Any]:
    """What a case needs by itself and for each image, and what fits."""
    module, images = on_meta(case.overrides + (case.recompute if recomputed else ()))
    small, large = (peak_gb(module, images, size) for size in _SIZES)
    per_image = (large - small) / (_SIZES[1] - _SIZES[0])
    fixed = small - _SIZES[0] * per_image
    return {
        "title": case.title,
        "recomputed": recomputed,
        "fixed_gb": round(fixed, 2),
        "mb_per_image": round(1e3 * per_image, 1),
        "micro_batch": {str(gpu): max(0, int((gpu - RESERVE_GB - fixed) / per_image)) for gpu in GPUS_GB},
    }


def peak_gb(module: ManualModule, images: dict[str, Tensor], size: int) -> float:
    """Of a step of micro-batches of ``size``."""
    module.micro_batches = _MICRO_BATCHES
    plugin = ManualMixedPrecision("bf16-mixed", "cpu")
    return rehearse(module, plugin, images, _MICRO_BATCHES * size).peak / 1e9


def on_meta(overrides: tuple[str, ...]) -> tuple[ManualModule, dict[str, Tensor]]:
    """The training module of an experiment without weights, and a sample of its data."""
    stage1 = overrides[0].startswith("experiment=rae")
    parts = ("encoder", "perceptual", "discriminator") if stage1 else ("rae.encoder",)
    random = [f"model.{part}.weights=random" for part in parts]
    if not stage1:
        random += ["model.rae.pretrained_decoder_path=null", "model.rae.decoder_weights=random"]
    config = compose([*overrides, *random])
    with torch.device("meta"):
        if stage1:
            rae = builders.build_rae(config["model"], seed=0)
            module = build_stage1(config, rae, steps_per_epoch=1251)
        else:
            source = find_rae(config)
            rae = source.load()
            data: Any = SimpleNamespace(
                source=SimpleNamespace(num_classes=1000, class_names=("a class",) * 1000)
            )
            module = build_stage2(config, source, rae, data, steps_per_epoch=1251)
    number = torch.zeros((), dtype=torch.int64)
    image = torch.zeros((3, *rae.output_size), dtype=torch.uint8)
    return module, {"image": image, "label": number, "index": number}


def differences(rows: list[dict[str, Any]]) -> list[str]:
    """What needs more memory than the committed results say; a line each."""
    file = cases.RESULTS / "memory.json"
    if not file.is_file():
        return ["memory: no committed results to compare with"]
    before = {(old["title"], old["recomputed"]): old for old in json.loads(file.read_text())["rows"]}
    return [
        f"memory, {new['title']}, recomputed {new['recomputed']}: {name} {new[name]} now, {old[name]} committed"
        for new in rows
        if (old := before.get((new["title"], new["recomputed"])))
        for name in ("fixed_gb", "mb_per_image")
        if new[name] > (1 + _SAME) * old[name]
    ]


if __name__ == "__main__":
    main()
