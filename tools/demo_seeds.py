"""Run the demo with several seeds, and put its scores into README.md.

    python tools/demo_seeds.py                           # four demos under outputs/demo_seeds, then the table
    python tools/demo_seeds.py --folder DIR --seeds 0    # elsewhere, fewer

A demo that is finished is reused, one that was interrupted goes on. Encoder, autoencoder and generator follow the seed;
the noise of the samples is that of seed 0.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import studies
from unirae.app import demo
from unirae.app.demo.options import Options
from unirae.core.io import read_json, write_json

PAGE = studies.ROOT / "README.md"
FIGURES = studies.ROOT / "docs/results/demo_seeds.json"
ROWS = {
    "real": "real, held out",
    "reconstructed": "the same, through the autoencoder",
    "samples": "**samples of the demo**",
    "noise": "noise, decoded",
    "mislabelled": "real, of a wrong class",
}


def scores_of(folder: Path, seed: int) -> dict[str, Any]:
    """The scores of a seed's demo, which is run if it is not finished."""
    if not (folder / "scores.json").is_file():
        demo.run(Options(output_dir=folder, override=(f"seed={seed}",)))
    scores = read_json(folder / "scores.json")
    generation = scores["generation"]
    return {
        "seed": seed,
        "psnr": next(row["scores"]["psnr"] for row in scores["rows"] if row["key"] == "rae"),
        "generation": {row["key"]: row["scores"] for row in generation["rows"]},
        "copies": generation["copies"]["samples_as_near_as_copies"],
        "cfg_scale": generation["sampler"]["cfg_scale"],
        "seconds": scores["seconds"],
        "machine": scores["machine"],
    }


def spread(values: list[float | None], digits: int, unit: str = "") -> str:
    """The mean, with the smallest and the largest; a dash where nothing is known."""
    known = [value for value in values if value is not None]
    return studies.spread(known, f"{{:.{digits}f}}") + unit if known else "–"


def ratios(found: list[dict[str, Any]], name: str) -> list[float]:
    """Of a score of the samples to that of real pictures, by seed."""
    return [one["generation"]["samples"][name] / one["generation"]["real"][name] for one in found]


def table(found: list[dict[str, Any]]) -> str:
    """The scores, and in a sentence how they stand to those of real pictures."""
    lines = [
        "| | Fréchet distance@185 ↓ | within classes ↓ | assigned to the wanted class by a classifier ↑ |",
        "|---|---|---|---|",
    ]
    for key, title in ROWS.items():
        of = [one["generation"][key] for one in found]
        distances = [spread([o.get(name) for o in of], 2) for name in ("fd_mae", "fd_mae_within_class")]
        share = spread([100 * o["classified"] for o in of], 1, " %")
        lines.append(f"| {title} | {' | '.join(distances)} | {share} |")
    against = {
        "Fréchet distance": "fd_mae",
        "that within classes": "fd_mae_within_class",
        "recognised share": "classified",
    }
    said = [f"{title} {spread(ratios(found, name), 2)}" for title, name in against.items()]
    return (
        "\n".join(lines)
        + f"\n\nSamples over real pictures: {', '.join(said)}. Held-out reconstructions: "
        + f"{spread([one['psnr'] for one in found], 2, ' dB')}.\n"
    )


def main() -> int:
    """Run, record, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("outputs/demo_seeds"), metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    options = parser.parse_args()
    found = []
    for seed in options.seeds:
        found.append(scores_of(options.folder / f"seed-{seed}", seed))
        write_json(FIGURES, {"runs": found})
    studies.publish("demo_seeds", table(found), PAGE)
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
