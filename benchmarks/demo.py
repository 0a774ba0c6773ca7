"""What ``unirae demo`` computes, part by part: operations as torch counts them, seconds, and their speed.

    python benchmarks/demo.py                  # runs, times and counts, writes results/demo.json
    python benchmarks/demo.py --folder DIR     # counts alone, beside the seconds of a demo that ran into DIR

Counting slows small operations down, so times are of a run without it.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import paced

from unirae.app.demo import evaluate, train_all
from unirae.app.demo import parts as demo_parts
from unirae.app.demo.options import QUICK, USUAL, Options
from unirae.app.demo.outlook import measured_flops
from unirae.core.io import read_json


@contextmanager
def counted(found: dict[str, float], part: str) -> Iterator[None]:
    """Add the operations of the block to a part's."""
    counter = paced.flop_counter()
    with counter:
        yield
    found[part] = found.get(part, 0.0) + counter.total


def count(folder: Path) -> dict[str, float]:
    """Operations of the parts: of a tenth of the steps, times as much; scores and pictures whole.

    Scores while training, a hundredth of a part, are left out: a tenth of the steps has as many of them.
    """
    found: dict[str, float] = {}
    train = demo_parts.train_part

    def train_counted(experiment: str, output_dir: Path, overrides: list[str]) -> None:
        with counted(found, output_dir.name):
            train(experiment, output_dir, overrides)

    unscored = (
        "rae:callbacks.reconstruction_metrics.every_n_steps=1000000",
        "dit:model.sample_every=1000000",
    )
    options = Options(quick=True, output_dir=folder, override=unscored, num_steps=USUAL.num_steps)
    demo_parts.train_part = train_counted
    try:
        train_all(options)
    finally:
        demo_parts.train_part = train
    found = {part: flops / QUICK.steps[part] for part, flops in found.items()}
    with counted(found, "scores and pictures"):
        evaluate(replace(options, classifier_epochs=USUAL.classifier_epochs))
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
