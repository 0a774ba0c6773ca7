"""Measure what each part of RAEv2's recipe is worth for the demo's generator, at equal FLOPs: docs/results.md.

    python tools/recipe_study.py --demo outputs/demo                  # 300 TFLOP of training; tables and plot of docs/
    python tools/recipe_study.py --demo DIR --output DIR --only v1 v2

From dit_tiny (``v1``) to RAEv2's recipe, each switch alone and one after another, 12 TFLOP each; then ``v1`` against
``v2``, 27 TFLOP each, with three seeds, scored at a quarter, a half and the whole of their steps. Results stand in
docs/results/recipe_study.json as soon as a run ends, and are not computed again; an interrupted run goes on.
"""

import argparse
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.io import read_json, write_atomically, write_json

if TYPE_CHECKING:
    import torch

    from unirae.evaluation.judges.classifier import PixelClassifier
    from unirae.metrics.extractors import FeatureExtractor
    from unirae.metrics.moments import Moments

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results.md"
FIGURES = ROOT / "docs/results/recipe_study.json"
PLOT = ROOT / "docs/images/recipe_study.png"
MARKED = re.compile(r"(<!-- recipe_study: .*?-->\n).*?(<!-- recipe_study end -->)", re.DOTALL)

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


@contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Operations of the block by torch's formulas, a multiplication and an addition being two."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            formula = flop_registry.get(function._overloadpacket)
            if formula is not None:
                self.total += formula(*args, **(kwargs or {}), out_val=found)
            return found

    with Counter() as counter:
        yield lambda: counter.total


def flop_of_a_step(parts: list[str], demo: Path, scratch: Path) -> int:
    """Operations of one training step, the encoder's and the optimizer's with it: what the third step adds to two."""
    import shutil

    import unirae

    def of_steps(count: int) -> int:
        shutil.rmtree(scratch, ignore_errors=True)
        quiet = ["callbacks.samples.count=1", "callbacks.generation_metrics.metrics=[]"]
        own = [f"trainer.max_steps={count}", f"paths.output_dir={scratch}", "trainer.precision=32-true"]
        with counting() as total:
            unirae.train(["experiment=dit_tiny", *overrides_of(parts, demo), *quiet, *own])
        return total()

    return of_steps(3) - of_steps(2)


def train(parts: list[str], *, seed: int, tflop: float, demo: Path, folder: Path) -> tuple[Path, int, int]:
    """Train for so many operations unless that was done; the run's folder, operations of a step, steps of a quarter."""
    from unirae.app.demo.parts import train_part

    place = folder / f"{name_of(parts)}-{tflop:g}-{seed}"
    counted = folder / f"flop-{name_of(parts)}.json"
    if not counted.is_file():
        write_json(counted, flop_of_a_step(parts, demo, folder / "scratch"))
    a_step = int(read_json(counted))
    quarter = round(tflop * 1e12 / a_step / 4)
    own = [f"seed={seed}", f"trainer.max_steps={4 * quarter}"]
    own += [f"callbacks.model_checkpoint.keep_every_n_steps={quarter}", "callbacks.samples.count=1"]
    own += [f"callbacks.model_checkpoint.every_n_train_steps={quarter}"]
    own += ["callbacks.generation_metrics.metrics=[]"]
    train_part("dit_tiny", place, [*overrides_of(parts, demo), *own])
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
    """Fréchet distance and classifier's share of samples, unguided and guided: internally where there is a head."""
    from unirae.evaluation.judges.classifier import judge
    from unirae.evaluation.passes.image_set import LabelledImages
    from unirae.metrics.frechet import frechet_distance
    from unirae.metrics.moments import moments_of
    from unirae.models.checkpoints.opening import load_dit, load_rae

    dit, rae = load_dit(checkpoint), load_rae(demo / ("raev2" if "fused" in parts else "rae"))
    extractor, real, classifier = judges(demo, folder)
    guided = {"ig_scale": IG_SCALE} if "head" in parts else {"cfg_scale": CFG_SCALE}
    found: dict[str, float] = {}
    for name, settings in {"unguided": {}, "guided": guided}.items():
        images, labels = sample(dit, rae, **settings)
        found[f"fd_{name}"] = round(frechet_distance(moments_of(extractor(images)), real), 3)
        found[f"share_{name}"] = round(
            judge(classifier, LabelledImages(images=images, labels=labels)).share, 4
        )
    return found


def sample(dit: Any, rae: Any, **settings: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    """8-bit samples and their labels, which go round the classes."""
    import torch

    import unirae
    from unirae.core.images import to_uint8

    labels = torch.arange(SAMPLES) % dit.num_classes
    images = unirae.sample(dit, rae, labels=labels, num_steps=POINTS, precision="bf16", **settings)
    return to_uint8(images), labels


@cache
def judges(demo: Path, folder: Path) -> "tuple[FeatureExtractor, Moments, PixelClassifier]":
    """The features of all rows, the training images' moments in them, and a classifier of pixels, trained once.

    The features are of the last block of rae_tiny's encoder, also for what was made on fused blocks.
    """
    from unirae.app.run.builders import build_dataset
    from unirae.evaluation.judges.classifier import (
        ClassifierSettings,
        load_classifier,
        save_classifier,
        train_classifier,
    )
    from unirae.evaluation.passes.image_set import read_all
    from unirae.evaluation.scores.metric_set import encoder_extractor
    from unirae.metrics.moments import moments_of
    from unirae.models.checkpoints.opening import load_rae
    from unirae.models.checkpoints.reading import open_checkpoint

    rae = load_rae(demo / "rae")
    extractor = encoder_extractor(rae.encoder, rae.encoder_input_size)
    data = open_checkpoint(demo / "rae", kind="stage1").config["data"]
    dataset = build_dataset(data, split="train", size=rae.output_size, use="eval")
    images, file, settings = read_all(dataset), folder / "classifier.pt", ClassifierSettings()
    if not file.is_file():
        network = train_classifier(images, num_classes=dataset.source.num_classes, settings=settings)
        save_classifier(file, network, settings=settings, about={})
    return extractor, moments_of(extractor(images.images)), load_classifier(file)[0]


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
    return [f"{scores[key]:.0%}" if "share" in key else f"{scores[key]:.2f}" for key in _COLUMNS]


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
            cells = [_range([one[key] for one in scores], share="share" in key) for key in _COLUMNS]
            head = [words, f"{PAIR_TFLOP * moment:.3g}", str(scores[0]["step"])]
            lines.append("| " + " | ".join([*head, *cells]) + " |")
    return lines


def _range(values: list[float], *, share: bool) -> str:
    form = "{:.0%}" if share else "{:.2f}"
    mean, low, high = (form.format(v) for v in (sum(values) / len(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


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
    shown = MARKED.sub(lambda part: part[1] + tables(runs) + part[2], PAGE.read_text())
    write_atomically(PAGE, lambda file: file.write(shown.encode()))
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
    parser.add_argument("--output", type=Path, default=ROOT / "outputs/recipe_study")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the JSON file of results")
    parser.add_argument("--only", nargs="+", help="names of runs, such as v1 data data+head v2")
    options = parser.parse_args()
    content = read_json(options.figures) if options.figures.is_file() else {"runs": []}
    content["machine"] = f"{platform.machine()}, {platform.system()}, {os.cpu_count()} CPU cores"
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
