"""What ``unirae demo`` computes, part by part: operations as torch counts them, seconds, and their speed.

    python benchmarks/demo.py                  # runs, times and counts, writes results/demo.json
    python benchmarks/demo.py --folder DIR     # counts alone, beside the seconds of a demo that ran into DIR

Counting slows small operations down, so times are of a run without it.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cases
import paced

from unirae.app.config.composition import compose
from unirae.app.demo import evaluate, train_all
from unirae.app.demo import parts as demo_parts
from unirae.app.demo.options import Options
from unirae.app.demo.outlook import measured_flops
from unirae.core.io import read_json

_STEPS = (20, 60)


@contextmanager
def counted(found: dict[str, float], part: str) -> Iterator[None]:
    """Add the operations of the block to a part's."""
    counter = paced.flop_counter()
    with counter:
        yield
    found[part] = found.get(part, 0.0) + counter.total


def count(folder: Path) -> dict[str, float]:
    """Operations of the parts: of two short lengths, from which the whole follows; scores and pictures as they are.

    What a part does once (latents, its last scores) counts once. Samples and scores while training, a hundredth of a
    part, are left out.
    """
    short, long = (_trained(folder / f"{steps}", steps) for steps in _STEPS)
    found = {}
    for part, experiment in demo_parts.PARTS.items():
        a_step = (long[part] - short[part]) / (_STEPS[1] - _STEPS[0])
        steps = compose([f"experiment={experiment}"])["trainer"]["max_steps"]
        found[part] = long[part] + a_step * (steps - _STEPS[1])
    with counted(found, "scores and pictures"):
        evaluate(Options(output_dir=folder / f"{_STEPS[1]}"))
    return found


def _trained(folder: Path, steps: int) -> dict[str, float]:
    """Operations of all training parts, of so many steps each."""
    found: dict[str, float] = {}
    train = demo_parts.train_part

    def train_counted(experiment: str, output_dir: Path, overrides: list[str]) -> None:
        with counted(found, output_dir.name):
            train(experiment, output_dir, overrides)

    demo_parts.train_part = train_counted
    try:
        length = (f"trainer.max_steps={steps}", "model.scheduler.warmup_steps=1")
        train_all(Options(output_dir=folder, override=length))
    finally:
        demo_parts.train_part = train
    return found


def seconds(folder: Path) -> dict[str, float]:
    """Of the parts of a finished demo."""
    taken = read_json(folder / "scores.json")["seconds"]
    rest = sum(taken[name] for name in taken if name not in demo_parts.PARTS)
    return {**{part: taken[part] for part in demo_parts.PARTS}, "scores and pictures": rest}


def main() -> None:
    """Write ``results/demo.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="a finished demo, whose seconds are taken")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder
        if folder is None:
            folder = Path(temporary) / "timed"
            timed = Options(output_dir=folder)
            train_all(timed)
            evaluate(timed)
        flops, taken, speed = count(Path(temporary) / "counted"), seconds(folder), measured_flops()
    scores = read_json(folder / "scores.json")
    rates = {part: flops[part] / taken[part] for part in flops}
    content: dict[str, Any] = {
        "parts": {
            part: {
                "tflop": round(flops[part] / 1e12, 2),
                "seconds": round(taken[part], 1),
                "gflops_per_second": round(rates[part] / 1e9),
                "of_small_steps": round(rates[part] / speed, 2),
            }
            for part in flops
        },
        "tflop": round(sum(flops.values()) / 1e12, 1),
        "seconds": round(sum(taken.values())),
        "small_steps_gflops_per_second": round(speed / 1e9),
        "machine": {**cases.machine(), **scores["machine"]},
        "versions": cases.versions(None),
    }
    cases.write("demo", content)
    for part, one in content["parts"].items():
        print(part, *one.items())


if __name__ == "__main__":
    main()
