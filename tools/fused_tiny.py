"""Measure what several blocks of the encoder are worth: raev2_tiny against the same run on the last block alone.

    python tools/fused_tiny.py --encoder outputs/demo/encoder               # six runs, then table and JSON of docs/
    python tools/fused_tiny.py --encoder DIR --output DIR --seeds 0         # elsewhere, fewer

Both sides have the same steps, decoder, losses and seed; only ``model.encoder.layers`` differs. Finished runs are kept,
and one that was interrupted goes on. Scores are of the 185 held-out emoji, by the runs' own last evaluation.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import studies
from unirae.core.io import read_json, write_json

FIGURES = studies.ROOT / "docs/results/fused_tiny.json"
SIDES = {
    "last block": ["model.encoder.layers=null", "model.encoder.add_token_mean=false"],
    "blocks 1, 3, 5": [],
}
SCORES = {"psnr": "PSNR, dB", "ssim": "SSIM"}
"""Scores that do not depend on the encoder; the Fréchet distance is in its features, which differ."""


def run_one(name: str, overrides: list[str], *, seed: int, encoder: Path, folder: Path) -> dict[str, Any]:
    """Train, or take what is finished; returns the scores of the last step."""
    from unirae.app.demo.parts import train_part

    place = folder / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
    train_part("raev2_tiny", place, [f"model.encoder.weights={encoder}", f"seed={seed}", *overrides])
    content = read_json(max((place / "eval").glob("step-*.json")))
    return {
        "side": name,
        "seed": seed,
        "steps": content["settings"]["images"]["step"],
        "images": content["count"],
        **{score: round(content["metrics"][score], 4) for score in SCORES},
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Rows of the sides with the mean and the range of their seeds."""
    lines = ["| encoder's tokens | " + " | ".join(SCORES.values()) + " |", "|---|" + "---|" * len(SCORES)]
    for side in SIDES:
        of = {score: [run[score] for run in runs if run["side"] == side] for score in SCORES}
        cells = [studies.spread(of["psnr"], "{:.2f}"), studies.spread(of["ssim"], "{:.3f}")]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Train what is missing, then write figures and table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoder", type=Path, required=True, help="folder of the encoder of experiment=mae_tiny"
    )
    parser.add_argument(
        "--output", type=Path, default=studies.ROOT / "outputs/fused_tiny", help="folder of the runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    runs = [
        run_one(name, overrides, seed=seed, encoder=options.encoder.resolve(), folder=options.output)
        for seed in options.seeds
        for name, overrides in SIDES.items()
    ]
    sys.stdout.write(table(runs))
    if options.seeds == [0, 1, 2]:
        write_json(FIGURES, {"machine": studies.MACHINE, "runs": runs})
        studies.publish("fused_tiny", table(runs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
