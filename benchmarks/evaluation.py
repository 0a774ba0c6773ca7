"""How long scoring a folder of images takes: ours against torch-fidelity's, the same images, weights and scores.

    python benchmarks/evaluation.py                                # 5,000 images, Inception: an hour on 2 CPU cores
    python benchmarks/evaluation.py --extractor projection         # a network that costs nothing: all the rest

Both sides are run in turn, files to figures, nothing cached, each time in a process of its own, whose start counts as
it does for a user; what tells is the ratio of the medians. Ours runs as its command line does, with a short spin of
OpenMP's threads (GOMP_SPINCOUNT). That helps torch-fidelity, too; so it is run as it is and, as a third side, with it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import torch
from PIL import Image
from torch import Tensor, nn

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
    from unirae.app.evaluate import Options, run

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


_SHORT_SPIN = {"GOMP_SPINCOUNT": "20000"}  # what app.cli sets

SIDES = {
    "unirae": (ours, _SHORT_SPIN),
    "torch_fidelity": (theirs, {}),
    "torch_fidelity_short_spin": (theirs, _SHORT_SPIN),
}


def run_side(side: str, root: Path, extractor: str) -> None:
    """In a process of its own: score once, print the score."""
    warnings.filterwarnings("ignore")
    print(SIDES[side][0](root, extractor)())


def measure(root: Path, extractor: str, rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for side, (_, environment) in SIDES.items():
            command = [sys.executable, __file__, "--side", side, str(root), "--extractor", extractor]
            inherited = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", *_SHORT_SPIN)}
            start = time.perf_counter()
            done = subprocess.run(
                command, env=inherited | environment, stdout=subprocess.PIPE, check=True, text=True
            )
            seconds[side].append(round(time.perf_counter() - start, 2))
            values[side] = float(done.stdout.splitlines()[-1])
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    ratios = {
        side: {"speed": round(medians[side] / medians["unirae"], 2)} for side in SIDES if side != "unirae"
    }
    return {"seconds": seconds, "ratios": ratios, "scores": values}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000, help="on each side")
    parser.add_argument("--extractor", choices=("inception", "projection"), default="inception")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed results; write nothing"
    )
    parser.add_argument(
        "--side", nargs=2, metavar=("SIDE", "FOLDER"), help="what the program calls itself with"
    )
    options = parser.parse_args()
    if options.side:
        run_side(options.side[0], Path(options.side[1]), options.extractor)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for seed, name in enumerate("ab"):
            write_images(root / name, options.images, seed)
        if options.extractor == "inception":
            from unirae.metrics.inception import random_inception_state

            torch.save(random_inception_state(), root / "weights.pth")
        found = measure(root, options.extractor, options.rounds)
    import torch_fidelity

    import unirae

    result = {
        "what": f"FID of {options.images} and {options.images} images of {SIZE_PX} px, {options.extractor}",
        **found,
        "machine": cases.machine(),
        "versions": {
            "unirae": unirae.__version__,
            "torch": str(torch.__version__),
            "torch_fidelity": torch_fidelity.__version__,
        },
    }
    name = f"evaluation_{options.extractor}_{options.images}"
    print(json.dumps(result, indent=2))
    if options.check:
        sys.exit("\n".join(cases.regressions(name, result)) or None)
    cases.write(name, result)


if __name__ == "__main__":
    main()
