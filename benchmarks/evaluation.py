"""How long scoring a folder of images takes: ours against torch-fidelity's, the same images, weights and scores.

    python benchmarks/evaluation.py                                # 5,000 images, Inception: an hour on 2 CPU cores
    python benchmarks/evaluation.py --extractor projection         # a network that costs nothing: all the rest

Both sides are run in turn in one process, files to figures, nothing cached; what counts is the ratio of the medians.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

import unirae
from unirae.app.evaluate import Options, run

RESULTS = Path(__file__).parent / "results"
SIZE_PX = 64
WIDTH = 2048


class Projection(nn.Module):
    """2048 numbers from 16×16 pixels by one matrix product."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("matrix", torch.randn(768, WIDTH, generator=generator) / 28)

    def forward(self, images: Tensor) -> Tensor:
        pixels = nn.functional.adaptive_avg_pool2d(images.float() / 128 - 1, 16).flatten(1)
        return torch.relu(pixels @ self.matrix)


def write_images(folder: Path, count: int, seed: int) -> None:
    """PNGs of smooth colours with noise."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        coarse = torch.rand(1, 3, 6, 6, generator=generator)
        smooth = nn.functional.interpolate(coarse, (SIZE_PX, SIZE_PX), mode="bicubic")[0].clamp(0, 1)
        mixed = 0.9 * smooth + 0.1 * torch.rand(3, SIZE_PX, SIZE_PX, generator=generator)
        pixels = (mixed * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i:05d}.png")


def ours(root: Path, extractor: str) -> Callable[[], float]:
    options: dict[str, Any] = {"images": str(root / "a"), "reference": str(root / "b"), "batch_size": 64}
    if extractor == "projection":
        options |= {"metrics": "fd", "encoder": f"{Path(__file__)}:Projection"}
    else:
        options |= {"metrics": "fid", "inception_weights": str(root / "weights.pth")}
    options |= {"device": "cpu", "cache": False, "output": root / "result.json"}

    def score() -> float:
        (value,) = run(Options(**options)).scores.values()
        return value

    return score


def theirs(root: Path, extractor: str) -> Callable[[], float]:
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import register_feature_extractor

    class Wrapped(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
            super().__init__(name, features_list)
            self.network = Projection()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("2048",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "2048"

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return (self.network(images),)

    options: dict[str, Any] = {"input1": str(root / "a"), "input2": str(root / "b"), "batch_size": 64}
    options |= {"cuda": False, "cache": False, "verbose": False, "fid": True}
    if extractor == "projection":
        register_feature_extractor("projection", Wrapped)
        options |= {"feature_extractor": "projection"}
    else:
        weights = str(root / "weights.pth")
        options |= {"feature_extractor": "inception-v3-compat", "feature_extractor_weights_path": weights}
    return lambda: torch_fidelity.calculate_metrics(**options)["frechet_inception_distance"]


def measure(root: Path, extractor: str, rounds: int) -> dict[str, Any]:
    sides = {"unirae": ours(root, extractor), "torch_fidelity": theirs(root, extractor)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for name, score in sides.items():
            start = time.perf_counter()
            values[name] = score()
            seconds[name].append(round(time.perf_counter() - start, 2))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "seconds": seconds,
        "ratio_theirs_to_ours": round(medians["torch_fidelity"] / medians["unirae"], 3),
        "scores": values,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000, help="on each side")
    parser.add_argument("--extractor", choices=("inception", "projection"), default="inception")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for seed, name in enumerate("ab"):
            write_images(root / name, options.images, seed)
        if options.extractor == "inception":
            from unirae.metrics.inception import random_inception_state

            torch.save(random_inception_state(), root / "weights.pth")
        found = measure(root, options.extractor, options.rounds)
    import torch_fidelity

    result = {
        "what": f"FID of {options.images} and {options.images} images of {SIZE_PX} px, {options.extractor}",
        **found,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "unirae": unirae.__version__,
            "torch": str(torch.__version__),
            "torch_fidelity": torch_fidelity.__version__,
        },
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2)
    (RESULTS / f"evaluation_{options.extractor}_{options.images}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
