"""Measure what each part of RAEv2's recipe is worth for the demo's generator, at equal FLOPs: docs/results.md.

    python tools/recipe_study.py --demo outputs/demo                  # 300 TFLOP of training; tables and plot of docs/
    python tools/recipe_study.py --demo DIR --output DIR --only v1 v2

From dit_tiny (``v1``) to RAEv2's recipe, each switch alone and one after another, 12 TFLOP each; then ``v1`` against
``v2``, 27 TFLOP each, with three seeds, scored at a quarter, a half and the whole of their steps. Results stand in
docs/results/recipe_study.json as soon as a run ends, and are not computed again; an interrupted run goes on.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import studies
from unirae.core.io import read_json, write_atomically, write_json

FIGURES = studies.ROOT / "docs/results/recipe_study.json"
PLOT = studies.ROOT / "docs/images/recipe_study.png"

SWITCHES = {
    "data": ["flow.prediction=data"],
    "head": ["model.dit.base_head_depth=2"],
    "tokens": [
        "model.dit.conditioning=tokens",
        "model.dit.use_qknorm=true",
        "model.dit.use_pos_embed=false",
    ],
    "muon_whole": ["model.optimizer.kind=muon", "model.optimizer.chunks=none"],
    "muon": ["model.optimizer.kind=muon"],
    "fused": [],
}
"""The overrides of each part of the recipe; ``fused`` takes the other autoencoder."""
WORDS = {
    "data": "x-prediction",
    "head": "early head",
    "tokens": "condition tokens",
    "muon_whole": "Muon, whole matrices",
    "muon": "Muon, chunked",
    "fused": "fused latents",
}
ALONE = [[name] for name in SWITCHES]
AFTER = [
    ["data", "head"],
    ["data", "head", "tokens"],
    ["data", "head", "tokens", "muon_whole"],
    ["data", "head", "tokens", "muon"],
    ["data", "head", "tokens", "muon", "fused"],
]
FULL = AFTER[-1]
TABLE_TFLOP, PAIR_TFLOP, PAIR_SEEDS = 11.5, 27.0, (0, 1, 2)
MOMENTS = (0.25, 0.5, 1.0)
SAMPLES, POINTS, IG_SCALE, CFG_SCALE = 185, 25, 1.8, 2.0


def name_of(parts: list[str]) -> str:
    """``v1``, ``v2``, or the names of the parts."""
    return "v1" if not parts else "v2" if parts == FULL else "+".join(parts)


def overrides_of(parts: list[str], demo: Path) -> list[str]:
    """What a run with these parts changes in dit_tiny."""
    rae = demo / ("raev2" if "fused" in parts else "rae")
    found = [f"model.rae.pretrained_decoder_path={rae}"]
    return [*found, *(override for part in parts for override in SWITCHES[part])]


def words_of_run(parts: list[str], demo: Path) -> list[str]:
    """The overrides of a run whose scores and pictures come afterwards."""
    quiet = ["callbacks.samples.count=1", "callbacks.generation_metrics.metrics=[]"]
    return [*overrides_of(parts, demo), *quiet]


def train(parts: list[str], *, seed: int, tflop: float, demo: Path, folder: Path) -> tuple[Path, int, int]:
    """Train for so many operations unless that was done; the run's folder, operations of a step, steps of a quarter."""
    from unirae.app.demo.parts import train_part

    place = folder / f"{name_of(parts)}-{tflop:g}-{seed}"
    words = words_of_run(parts, demo)
    a_step = studies.flop_of_a_step("dit_tiny", words, folder)
    quarter = round(tflop * 1e12 / a_step / 4)
    own = [f"seed={seed}", f"trainer.max_steps={4 * quarter}"]
    own += [
        f"callbacks.model_checkpoint.{key}={quarter}" for key in ("keep_every_n_steps", "every_n_train_steps")
    ]
    train_part("dit_tiny", place, [*words, *own])
    return place, a_step, quarter


def run_one(parts: list[str], *, seed: int, tflop: float, demo: Path, folder: Path) -> dict[str, Any]:
    """Train, and score what was kept."""
    from unirae.training.csv_logger import read_metrics

    place, a_step, quarter = train(parts, seed=seed, tflop=tflop, demo=demo, folder=folder)
    rows = [row for row in read_metrics(place / "csv/metrics.csv") if row["train/loss"]]
    tail = [float(row.get("train/loss_full") or row["train/loss"]) for row in rows][-len(rows) // 10 :]
    return {
        "parts": parts,
        "seed": seed,
        "tflop": tflop,
        "gflop_a_step": round(a_step / 1e9, 2),
        "loss": round(sum(tail) / len(tail), 4),
        "scores": [
            {"step": step, **score(place / f"checkpoints/step-{step:07d}.ckpt", parts, demo, folder)}
            for step in (
                round(4 * quarter * moment) for moment in MOMENTS[0 if tflop == PAIR_TFLOP else -1 :]
            )
        ],
    }


def score(checkpoint: Path, parts: list[str], demo: Path, folder: Path) -> dict[str, float]:
    """Fréchet distance and classifier's share of samples, unguided and guided: internally where there is a head.

    The features are of the last block of rae_tiny's encoder, also for what was made on fused blocks.
    """
    from unirae.models.checkpoints.opening import load_dit, load_rae

    dit, rae = load_dit(checkpoint), load_rae(demo / ("raev2" if "fused" in parts else "rae"))
    judges, labels = judges_of(demo / "rae", folder), studies.equal_labels(SAMPLES, dit.num_classes)
    guided = {"ig_scale": IG_SCALE} if "head" in parts else {"cfg_scale": CFG_SCALE}
    found: dict[str, float] = {}
    for name, settings in {"unguided": {}, "guided": guided}.items():
        images = studies.sample_images(dit, rae, count=SAMPLES, num_steps=POINTS, **settings)
        found[f"fd_{name}"] = round(judges.distances(images)["encoder"], 3)
        found[f"share_{name}"] = round(judges.share(images, labels), 4)
    return found


judges_of = cache(studies.judges_of)


def planned() -> Iterator[tuple[list[str], int, float]]:
    """Parts, seed and TFLOP of every run, the table's before the pair's."""
    for parts in ([], *ALONE, *AFTER):
        yield parts, 0, TABLE_TFLOP
    for seed in PAIR_SEEDS:
        for parts in ([], FULL):
            yield parts, seed, PAIR_TFLOP


def words_of(parts: list[str]) -> str:
    """A run's parts for a reader."""
    if not parts:
        return "`dit_tiny`, RAE's recipe"
    if len(parts) <= 2:
        return " + ".join(WORDS[part] for part in parts)
    return f"… + {WORDS[parts[-1]]}{' (in its place)' if parts[-1] == 'muon' else ''}"


def tables(runs: list[dict[str, Any]]) -> str:
    """The parts alone and one after another, then the pair."""
    pair = ["", *_pair_table(runs)] if any(run["tflop"] == PAIR_TFLOP for run in runs) else []
    return "\n".join([*_parts_table(runs), *pair]) + "\n"


_COLUMNS = {
    "fd_unguided": "Fréchet distance",
    "share_unguided": "right class",
    "fd_guided": "guided: Fréchet distance",
    "share_guided": "right class",
}


def _cells(scores: dict[str, float]) -> list[str]:
    return [_form(key).format(scores[key]) for key in _COLUMNS]


def _form(key: str) -> str:
    return "{:.0%}" if "share" in key else "{:.2f}"


def _parts_table(runs: list[dict[str, Any]]) -> list[str]:
    lines = ["| run | steps | GFLOP a step | loss | " + " | ".join(_COLUMNS.values()) + " |"]
    lines.append("|---" * (4 + len(_COLUMNS)) + "|")
    of_table = {name_of(run["parts"]): run for run in runs if run["tflop"] == TABLE_TFLOP}
    for parts in ([], *ALONE, *AFTER):
        if (run := of_table.get(name_of(parts))) is None:
            continue
        last = run["scores"][-1]
        cells = [words_of(parts), str(last["step"]), f"{run['gflop_a_step']:.0f}", f"{run['loss']:.3f}"]
        lines.append("| " + " | ".join([*cells, *_cells(last)]) + " |")
    return lines


def _pair_table(runs: list[dict[str, Any]]) -> list[str]:
    lines = ["| recipe | TFLOP | steps | " + " | ".join(_COLUMNS.values()) + " |"]
    lines.append("|---" * (3 + len(_COLUMNS)) + "|")
    for name, words in (("v1", "RAE"), ("v2", "RAEv2")):
        found = [run for run in runs if run["tflop"] == PAIR_TFLOP and name_of(run["parts"]) == name]
        for number, moment in enumerate(MOMENTS if found else ()):
            scores = [run["scores"][number] for run in found]
            cells = [studies.spread([one[key] for one in scores], _form(key)) for key in _COLUMNS]
            head = [words, f"{PAIR_TFLOP * moment:.3g}", str(scores[0]["step"])]
            lines.append("| " + " | ".join([*head, *cells]) + " |")
    return lines


def draw(runs: list[dict[str, Any]]) -> bytes:
    """Scores of the pair's seeds over operations, as a PNG."""
    import io

    from matplotlib.figure import Figure

    from unirae.app.pictures.plots import LIGHT

    figure = Figure(figsize=(8.8, 3.6), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (what, title) in zip(
        panels, (("fd", "Fréchet distance"), ("share", "right class")), strict=True
    ):
        for name, colour in (("v1", LIGHT.curves[0]), ("v2", LIGHT.curves[1])):
            found = [run for run in runs if run["tflop"] == PAIR_TFLOP and name_of(run["parts"]) == name]
            for how, style in (("unguided", "-"), ("guided", "--")):
                for number, run in enumerate(found):
                    label = f"{'RAE' if name == 'v1' else 'RAEv2'}, {how}" if number == 0 else None
                    x, y = zip(
                        *(
                            (m * PAIR_TFLOP, s[f"{what}_{how}"])
                            for m, s in zip(MOMENTS, run["scores"], strict=True)
                        ),
                        strict=True,
                    )
                    axes.plot(x, y, style, color=colour, marker="o", ms=4, label=label)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("TFLOP of training")
        axes.set_ylim(bottom=0)
        axes.grid(color=LIGHT.grid, lw=0.7)
    panels[0].legend(frameon=False, fontsize=9)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def publish(runs: list[dict[str, Any]]) -> None:
    """Write the tables and the plot of docs/."""
    studies.publish("recipe_study", tables(runs))
    if any(run["tflop"] == PAIR_TFLOP for run in runs):
        png = draw(runs)
        write_atomically(PLOT, lambda file: file.write(png))


def main() -> int:
    """Run what is missing; write figures, tables and plot after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--demo", type=Path, required=True, help="folder with rae (rae_tiny) and raev2 (raev2_tiny)"
    )
    parser.add_argument("--output", type=Path, default=studies.ROOT / "outputs/recipe_study")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the JSON file of results")
    parser.add_argument("--only", nargs="+", help="names of runs, such as v1 data data+head v2")
    options = parser.parse_args()
    content = read_json(options.figures) if options.figures.is_file() else {"runs": []}
    content["machine"] = studies.MACHINE
    done = {(name_of(run["parts"]), run["seed"], run["tflop"]) for run in content["runs"]}
    for parts, seed, tflop in planned():
        if (name_of(parts), seed, tflop) in done or (options.only and name_of(parts) not in options.only):
            continue
        run = run_one(parts, seed=seed, tflop=tflop, demo=options.demo.resolve(), folder=options.output)
        content["runs"].append(run)
        write_json(options.figures, content)
        if options.figures == FIGURES:
            publish(content["runs"])
        sys.stdout.write(f"{name_of(parts)}, seed {seed}: {run['scores'][-1]}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
