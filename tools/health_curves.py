"""Make the curves of healthy runs from finished runs of one experiment that differ in their seeds alone.

    python tools/health_curves.py --runs DIR DIR DIR             # the package's curves and the plot of docs/images
    python tools/health_curves.py --runs DIR DIR DIR --output OTHER_DIR
    python tools/health_curves.py                                # the plots again, from the package's curves

What a run is, its last checkpoint says; what it logged, its csv/metrics.csv. Each run is held out once and compared
with the band of the others: the table shows how near it came to leaving (1 is the edge of the band).
"""

import argparse
import io
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from unirae.app.pictures.compare_plot import draw_comparison
from unirae.app.run.deciding import deciding_settings
from unirae.core.io import load_tensors, write_atomically
from unirae.evaluation.health.bands import window_of
from unirae.evaluation.health.check import Curves, Judgement, Watch, differences, read_series
from unirae.evaluation.health.curve_files import FOLDER, known_curves, read_curves, write_curves
from unirae.training.csv_logger import read_metrics

IMAGES = Path(__file__).parents[1] / "docs/images"


def read_runs(folders: list[Path], commit: str | None = None) -> tuple[Curves, list[dict[str, Any]]]:
    """The curves of the runs, and what each was: seed, version, commit (``commit`` where it names none), precision."""
    abouts = [load_tensors(folder / "checkpoints/last.ckpt")["unirae"] for folder in folders]
    for folder, about in zip(folders, abouts, strict=True):
        if about["step"] < about["config"]["trainer"]["max_steps"]:
            raise SystemExit(f"{folder} stopped at step {about['step']}; finish it, or leave it out")
    settings = [deciding_settings(about["config"]) for about in abouts]
    for folder, other in zip(folders[1:], settings[1:], strict=True):
        if found := differences(other, settings[0]):
            raise SystemExit(f"{folder} is no run of the same experiment as {folders[0]}: {', '.join(found)}")
    origins = [
        {
            "seed": about["config"]["seed"],
            "unirae": about["version"],
            "commit": about["commit"] or commit,
            "precision": about["config"]["trainer"]["precision"],
        }
        for about in abouts
    ]
    if len({origin["seed"] for origin in origins}) < len(folders):
        raise SystemExit("two of the runs have the same seed")
    runs = [read_series(read_metrics(folder / "csv/metrics.csv")) for folder in folders]
    name = (folders[0] / "experiment").read_text().strip()
    return Curves(name=name, runs=runs, window_steps=window_of(runs[0]), settings=settings[0]), origins


def held_out(curves: Curves) -> dict[str, list[float]]:
    """By column, how far each run went from the middle (0) to the edge (1) of the band of the others."""
    result: dict[str, list[float]] = {}
    for i, run in enumerate(curves.runs):
        others = replace(curves, runs=[other for j, other in enumerate(curves.runs) if j != i])
        for column, band in others.bands.items():
            watch = Watch(column, band, curves.window_steps)
            judged = [j for step, value in run[column] if (j := watch.add(step, value))]
            result.setdefault(column, []).append(max(_share(j, log=band.log) for j in judged))
    return result


def _share(judgement: Judgement, *, log: bool) -> float:
    low, value, high = (math.log(v) if log else v for v in (judgement.low, judgement.value, judgement.high))
    return abs(value - (low + high) / 2) / ((high - low) / 2)


def write_plot(path: Path, curves: Curves) -> None:
    """The band and the runs behind it."""
    with Image.open(io.BytesIO(draw_comparison(curves, dpi=100))) as picture:
        small = picture.convert("RGB").quantize(64)  # a third of the bytes, and nobody sees it
    write_atomically(path, lambda file: small.save(file, format="PNG", optimize=True))


def main() -> int:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", help="finished runs, one for each seed")
    parser.add_argument("--machine", default="not recorded", help="what they ran on")
    parser.add_argument("--commit", help="of runs that were made outside a checkout and know none")
    parser.add_argument(
        "--output", type=Path, help="write curves and plot here, and leave package and docs alone"
    )
    options = parser.parse_args()
    images = options.output or IMAGES
    if not options.runs:
        for name in known_curves():
            write_plot(images / f"healthy_{name}.png", read_curves(name))
        return 0
    curves, origins = read_runs(options.runs, options.commit)
    file = (options.output or FOLDER) / f"{curves.name}.json"
    write_curves(file, curves, origins=origins, machine=options.machine)
    write_plot(images / f"healthy_{curves.name}.png", read_curves(str(file)))
    print(f"{file}: {file.stat().st_size} bytes, {len(curves.runs)} runs, window {curves.window_steps} steps")
    if len(curves.runs) > 1:
        for column, shares in held_out(curves).items():
            print(f"{column:24} held out: {' '.join(f'{share:.2f}' for share in shares)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
