"""Make the width study of docs/results.md from finished runs of experiment=overfit_one_image.

    python tools/width_study.py --runs logs/train/multiruns/NAME [DIR …]     # figures, plot and table of docs/
    python tools/width_study.py --runs DIR --output OTHER_DIR                # figures and plot elsewhere

``--runs`` takes folders of runs (a multirun's, whose jobs are its subfolders). What a run is, its last checkpoint says;
what it reached, its csv/metrics.csv. The JSON is the source of the plot and of the table; a test compares the table.
"""

import argparse
import io
import math
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import studies
from unirae.app.pictures.plots import LIGHT
from unirae.core.io import load_tensors, read_json, write_atomically, write_json
from unirae.training.csv_logger import read_metrics

FIGURES = studies.ROOT / "docs/results/width_study.json"
PLOT = studies.ROOT / "docs/images/width_study.png"

PAPER = {"dimension": 768, "losses": {384: 0.52, 512: 0.35, 640: 0.185, 768: 0.02, 896: 0.0}}
"""RAE paper (arXiv 2510.11690), section 4.1: DINOv2-B, one image; the losses are read off as two or three digits."""

TAIL = 0.2
"""The share of a run's steps, at its end, whose mean loss is its result: noise and times are new in each."""


def read_run(folder: Path) -> dict[str, Any]:
    """What a run was and what it reached."""
    about = load_tensors(folder / "checkpoints/last.ckpt")["unirae"]
    shape, config = about["dit"]["architecture"], about["config"]
    rows = [row for row in read_metrics(folder / "csv/metrics.csv") if row["train/loss"]]
    last = int(rows[-1]["step"])
    if last < config["trainer"]["max_steps"]:
        raise SystemExit(
            f"{folder} stopped at step {last} of {config['trainer']['max_steps']}; finish or remove it"
        )
    losses = [float(row["train/loss"]) for row in rows if int(row["step"]) > (1 - TAIL) * last]
    width, dimension = shape["hidden_size"], shape["in_channels"] * shape["patch_size"] ** 2
    return {
        "width": width,
        "depth": shape["depth"],
        "dimension": dimension,
        "bound": round(max(0.0, 1 - width / dimension), 4),
        "loss": round(statistics.mean(losses), 4),
        "standard_error": round(statistics.stdev(losses) / math.sqrt(len(losses)), 4),
        "steps": last,
        "batch": config["data"]["global_batch_size"],
        "lr": config["model"]["optimizer"]["lr"],
        "seed": config["seed"],
        "commit": about["commit"],
    }


def study(folders: list[Path]) -> dict[str, Any]:
    """All runs below the folders, by depth and width, beside the paper's."""
    found = [file.parents[1] for folder in folders for file in sorted(folder.rglob("checkpoints/last.ckpt"))]
    if not found:
        raise SystemExit(f"no checkpoints/last.ckpt below {', '.join(map(str, folders))}")
    runs = sorted(map(read_run, found), key=lambda run: (run["depth"], run["width"]))
    return {
        "measured": f"mean train/loss of the logged steps among the last {TAIL:.0%} of a run",
        "machine": f"{platform.machine()}, {platform.system()}, CPU",
        "runs": runs,
        "paper": [
            {"width": width, "dimension": PAPER["dimension"], "loss": loss}
            for width, loss in PAPER["losses"].items()
        ],
    }


def table(figures: dict[str, Any]) -> str:
    """Markdown: a row for each ratio of width to dimension, a column for each depth."""
    runs, paper = figures["runs"], figures["paper"]
    depths = sorted({run["depth"] for run in runs})
    ours = {(run["width"] / run["dimension"], run["depth"]): run for run in runs}
    theirs = {row["width"] / row["dimension"]: row for row in paper}
    heads = ["width ÷ dimension", "bound", *(f"loss, depth {depth}" for depth in depths)]
    lines = [
        f"| {' | '.join([*heads, 'paper: width', 'paper: loss'])} |",
        f"|{'---|' * (len(heads) + 2)}",
    ]
    for ratio in sorted({ratio for ratio, _ in ours}):
        any_run = next(run for (r, _), run in ours.items() if r == ratio)
        cells = [f"{any_run['width']} ÷ {any_run['dimension']} = {ratio:.2f}", f"{any_run['bound']:.3f}"]
        cells += [f"{ours[ratio, depth]['loss']:.3f}" if (ratio, depth) in ours else "–" for depth in depths]
        match = theirs.get(ratio)
        cells += [f"{match['width']}", f"{match['loss']:g}"] if match else ["–", "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(figures: dict[str, Any]) -> bytes:
    """The losses over width ÷ dimension, with the bound, as PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 13, "text.color": LIGHT.ink, "axes.labelcolor": LIGHT.ink}):
        figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained", facecolor=LIGHT.paper)
        axes = figure.add_subplot(facecolor=LIGHT.paper)
        axes.plot(
            [0.4, 1, 1.25],
            [0.6, 0, 0],
            color=LIGHT.ink,
            lw=1.4,
            ls="--",
            label="bound: 1 − width ÷ dimension",
        )
        series = {
            f"ours, depth {d}": [r for r in figures["runs"] if r["depth"] == d] for d in _depths(figures)
        }
        series["paper (DINOv2-B, 768)"] = figures["paper"]
        for (label, rows), colour, marker in zip(series.items(), LIGHT.curves, "os^D", strict=False):
            points = [(row["width"] / row["dimension"], row["loss"]) for row in rows]
            axes.plot(*zip(*points, strict=True), marker, ms=9, mfc="none", mew=2, color=colour, label=label)
        axes.set(
            xlabel="width of the DiT ÷ numbers in a token", ylabel="loss after training", xlim=(0.4, 1.25)
        )
        axes.grid(color=LIGHT.grid, lw=0.8)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(LIGHT.grid)
        axes.legend(frameon=False, fontsize=12)
        png = io.BytesIO()
        figure.savefig(png, format="png")
    return png.getvalue()


def _depths(figures: dict[str, Any]) -> list[int]:
    return sorted({run["depth"] for run in figures["runs"]})


def main() -> int:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=Path, nargs="+", help="folders of runs; without it the JSON is read again"
    )
    parser.add_argument("--output", type=Path, help="write figures and plot here, and leave docs/ alone")
    options = parser.parse_args()
    figures_file = options.output / FIGURES.name if options.output else FIGURES
    plot_file = options.output / PLOT.name if options.output else PLOT
    if options.runs:
        write_json(figures_file, study(options.runs))
    figures = read_json(figures_file)
    png = plot(figures)
    write_atomically(plot_file, lambda file: file.write(png))
    if options.output is None:
        studies.publish("width_study", table(figures))
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
