"""Reproduce findings of the RAE papers on a laptop: tables and plots of docs/results.md.

    python tools/findings.py --demo outputs/demo                  # 132 TFLOP, after `make demo`
    python tools/findings.py --demo DIR --output DIR --only shift # one of them

Each run has its share of operations, by torch's counter, whatever a step of it costs. Results stand in
docs/results/findings.json as soon as a run ends and are not computed again; an interrupted run goes on.
"""

import argparse
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import studies
from unirae.core.io import read_json, write_atomically, write_json

if TYPE_CHECKING:
    import torch

FIGURES = studies.ROOT / "docs/results/findings.json"
PLOTS = studies.ROOT / "docs/images"
SAMPLES, POINTS, CFG_SCALE = 185, 26, 2.0
DECODED, WIDE = 500, 192
"""Samples of the demo's generator that each decoder decodes; side of the images whose latents need a shift of 2.1."""


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes: the demo, the folder of all runs, its own arm and seed."""

    demo: Path
    folder: Path
    arm: str
    seed: int

    @property
    def own(self) -> Path:
        """The folder of this arm and seed."""
        return self.folder / f"{self.arm.replace(' ', '_').replace('=', '')}-{self.seed}"

    def train(self, experiment: str, words: list[str], *, tflop: float, into: str) -> dict[str, Any]:
        """Train for so many operations, unless that was done; what it took."""
        from unirae.app.demo.parts import train_part

        a_step = studies.flop_of_a_step(experiment, words, self.folder)
        steps = round(tflop * 1e12 / a_step)
        train_part(experiment, self.own / into, [*words, f"seed={self.seed}", f"trainer.max_steps={steps}"])
        return {"steps": steps, "gflop_a_step": round(a_step / 1e9, 2)}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim of a paper, and the runs that try it.

    Attributes:
        arms: what is compared: the overrides of each.
        run: trains and scores one arm with one seed.
        tflop: of one arm with one seed, training alone.
        scores: the scores that are shown, with their headings.
        paper: the paper's own figures of these or the corresponding arms, and what they are.
    """

    arms: dict[str, list[str]]
    seeds: tuple[int, ...]
    run: Callable[[Place, list[str]], dict[str, Any]]
    tflop: float
    scores: dict[str, str]
    paper: dict[str, dict[str, float]] = field(default_factory=dict)


def _quiet(dit: bool) -> list[str]:
    """Neither pictures nor scores while training, which would count; a checkpoint from time to time."""
    if dit:
        return ["callbacks.samples.count=1", "callbacks.model_checkpoint.every_n_train_steps=100"]
    return ["callbacks.reconstruction_metrics.every_n_steps=100000"]


@cache
def judges(demo: Path, folder: Path) -> studies.Judges:
    """Of all findings: the demo's encoder, and a classifier of pixels."""
    return studies.judges_of(demo / "rae", folder)


def guided_and_not(place: Place, dit: Any, rae: Any) -> dict[str, float]:
    """Fréchet distance and right class of samples, unguided and guided by class."""
    judge, found = judges(place.demo, place.folder), {}
    labels = studies.equal_labels(SAMPLES, dit.num_classes)
    for name, scale in {"": 1.0, "_guided": CFG_SCALE}.items():
        images = studies.sample_images(dit, rae, count=SAMPLES, num_steps=POINTS, cfg_scale=scale)
        found[f"fd{name}"] = judge.distances(images)["encoder"]
        found[f"share{name}"] = judge.share(images, labels)
    return found


def shift(place: Place, words: list[str]) -> dict[str, Any]:
    """A generator of 128 × 12 × 12 latents; its samples are judged as latents, by their mean over positions."""
    import torch

    import unirae
    from unirae.metrics.frechet import frechet_distance
    from unirae.metrics.moments import moments_of
    from unirae.models.checkpoints.opening import load_dit

    own = [
        *(f"model.rae.encoder.weights={place.demo / 'encoder'}", "model.rae.pretrained_decoder_path=null"),
        "model.rae.decoder_weights=random",  # its samples are judged as latents
        *(f"model.rae.image_size={WIDE}", f"data.latent_cache={place.folder / 'latents_wide'}"),
        *("data.global_batch_size=16", "model.dit.depth=[4,1]", "model.optimizer.lr=2e-3", *_quiet(dit=True)),
    ]
    took = place.train("dit_demo", [*own, *words], tflop=SHIFT.tflop, into="dit")
    dit = load_dit(place.own / "dit")
    found = {"time_shift": dit.time_shift}
    real = real_latents(place)
    labels = studies.equal_labels(SAMPLES, dit.num_classes)
    drawn = torch.randn(SAMPLES, *dit.latent_shape, generator=torch.Generator().manual_seed(0))
    for name, scale in {"": 1.0, "_guided": CFG_SCALE}.items():
        made = unirae.sample_latents(
            dit, noise=drawn, labels=labels, num_steps=POINTS, cfg_scale=scale, precision="bf16"
        )
        found[f"fd{name}"] = frechet_distance(moments_of(made.mean((-2, -1))), real)
    return {**took, **found}


def real_latents(place: Place) -> Any:
    """Moments of the training images' wide latents, means over positions."""
    import torch

    from unirae.app.run.builders import build_dataset
    from unirae.evaluation.passes.image_set import read_all
    from unirae.metrics.moments import moments_of
    from unirae.models.checkpoints.opening import rae_of_dit
    from unirae.models.checkpoints.reading import open_checkpoint

    checkpoint = open_checkpoint(place.own / "dit", kind="stage2")
    rae = rae_of_dit(checkpoint)
    images = read_all(
        build_dataset(checkpoint.config["data"], split="train", size=(WIDE, WIDE), use="eval")
    ).images
    parts = [rae.encode(part / 255).mean((-2, -1)) for part in images.split(64)]
    return moments_of(torch.cat(parts))


def train_decoder(place: Place, words: list[str], *, tflop: float) -> dict[str, Any]:
    """A decoder of the demo's kind, of a third of its length."""
    own = [f"model.encoder.weights={place.demo / 'encoder'}", *_quiet(dit=False)]
    return place.train("rae_demo", [*own, *words], tflop=tflop, into="rae")


def reconstructed(place: Place) -> "tuple[float, float]":
    """PSNR of held-out images, and their Fréchet distance to the training images."""
    import torch

    from unirae.core.images import to_uint8
    from unirae.metrics.pixel import psnr
    from unirae.models.checkpoints.opening import load_rae

    judge, rae = judges(place.demo, place.folder), load_rae(place.own / "rae")
    originals = judge.held_out.images
    with torch.no_grad():
        images = torch.cat([to_uint8(rae(part / 255)) for part in originals.split(64)])
    return psnr(images, originals).mean().item(), judge.distances(images)["encoder"]


def noise(place: Place, words: list[str]) -> dict[str, Any]:
    """A decoder of noised latents, and what it makes of the samples of the demo's generator, unguided."""
    import torch

    from unirae.core.images import to_uint8
    from unirae.models.checkpoints.opening import load_rae

    took = train_decoder(place, words, tflop=NOISE.tflop)
    found = dict(zip(("psnr", "rfd"), reconstructed(place), strict=True))
    rae, tokens = load_rae(place.own / "rae"), demo_samples(place.demo)
    with torch.no_grad():
        images = torch.cat([to_uint8(rae.decode_tokens(part)) for part in tokens.split(100)])
    distances = judges(place.demo, place.folder).distances(images)
    return {**took, **found, "fd": distances["encoder"], "fd_classifier": distances["classifier"]}


@cache
def demo_samples(demo: Path) -> "torch.Tensor":
    """Tokens that the demo's generator makes up, unguided."""
    import torch

    import unirae
    from unirae.models.checkpoints.opening import load_dit

    dit = load_dit(demo / "dit")
    drawn = torch.randn(DECODED, *dit.latent_shape, generator=torch.Generator().manual_seed(0))
    labels = studies.equal_labels(DECODED, dit.num_classes)
    made = unirae.sample_latents(dit, noise=drawn, labels=labels, num_steps=POINTS, precision="bf16")
    return dit.latent_stats.denormalise(made)


def head(place: Place, words: list[str]) -> dict[str, Any]:
    """A generator that predicts the velocity without an early head, as RAE's, on the demo's latents."""
    from unirae.models.checkpoints.opening import load_dit, load_rae

    rae = place.demo / "rae"
    own = [f"model.rae.pretrained_decoder_path={rae}", f"data.latent_cache={place.demo / 'latents'}"]
    own += ["flow.prediction=velocity", *_quiet(dit=True)]
    took = place.train("dit_demo", [*own, *words], tflop=HEAD_TFLOP, into="dit")
    return {**took, **guided_and_not(place, load_dit(place.own / "dit"), load_rae(rae))}


def blocks(place: Place, words: list[str]) -> dict[str, Any]:
    """An autoencoder on some of the encoder's blocks, and a generator on its latents."""
    from unirae.models.checkpoints.opening import load_dit, load_rae

    half = BLOCKS.tflop / 2
    train_decoder(place, words, tflop=half)
    own = [f"model.rae.pretrained_decoder_path={place.own / 'rae'}", *_quiet(dit=True)]
    own += [f"data.latent_cache={place.own / 'latents'}"]
    took = place.train("dit_demo", own, tflop=half, into="dit")
    found = dict(zip(("psnr", "rfd"), reconstructed(place), strict=True))
    return {
        **took,
        **found,
        **guided_and_not(place, load_dit(place.own / "dit"), load_rae(place.own / "rae")),
    }


_FD = {"fd": "Fréchet distance", "fd_guided": "guided: Fréchet distance"}
_WITH_SHARES = {
    **{"fd": "Fréchet distance", "share": "right class"},
    **{"fd_guided": "guided: Fréchet distance", "share_guided": "right class "},
}

HEAD_TFLOP = 4.5


def _plain(width: int) -> list[str]:
    """The overrides of a plain transformer of 8 blocks."""
    own = {"hidden_size": width, "depth": 8, "num_heads": 4, "label_init_std": 0.5}
    return ["model/dit=plain_s", *(f"model.dit.{key}={value}" for key, value in own.items())]


def _wide_head(width: int, head: int) -> list[str]:
    """The overrides of a trunk of 6 blocks with a head of 2."""
    return [f"model.dit.hidden_size=[{width},{head}]", "model.dit.base_head_depth=null"]


SHIFT = Finding(
    arms={"without shift": ["flow.time_shift=1.0"], "with shift": []},
    seeds=(0, 1),
    run=shift,
    tflop=6.0,
    scores=_FD,
    paper={"gFID, DiT-XL": {"without shift": 23.08, "with shift": 4.81}},
)
NOISE = Finding(
    arms={f"τ = {tau:g}": [f"model.noise_tau={tau}"] for tau in (0.0, 0.4, 0.8)},
    seeds=(0, 1),
    run=noise,
    tflop=4.8,
    scores={
        **{"psnr": "PSNR, dB", "rfd": "reconstructions: Fréchet distance", "fd": "samples: Fréchet distance"},
        "fd_classifier": "the same, in the classifier's features",
    },
    paper={"gFID, DiT-XL": {"τ = 0": 4.81, "τ = 0.8": 4.28}, "rFID": {"τ = 0": 0.49, "τ = 0.8": 0.57}},
)
HEAD = Finding(
    arms={"plain": _plain(128), "wide head": _wide_head(128, 256)},
    seeds=(0, 1, 2),
    run=head,
    tflop=HEAD_TFLOP,
    scores=_WITH_SHARES,
    paper={"gFID, XL, 80 epochs": {"plain": 4.28, "wide head": 2.16}},
)
NARROW = Finding(
    arms={"plain, 64": _plain(64), "64, head of 128": _wide_head(64, 128)},
    seeds=(0, 1),
    run=head,
    tflop=HEAD_TFLOP,
    scores=_WITH_SHARES,
)
BLOCKS = Finding(
    arms={
        "1 block": [],
        "3 blocks": ["model.encoder.layers=[1,3,5]", "model.encoder.add_token_mean=true"],
        "6 blocks": ["model.encoder.layers=[0,1,2,3,4,5]", "model.encoder.add_token_mean=true"],
    },
    seeds=(0,),
    run=blocks,
    tflop=9.0,
    scores={"psnr": "PSNR, dB", "rfd": "reconstructions: Fréchet distance", **_WITH_SHARES},
    paper={
        "PSNR, dB": {"1 block": 18.93, "7 blocks": 22.57, "23 blocks": 27.03},
        "gFID, 80 epochs": {"7 blocks": 1.65, "23 blocks": 3.01},
    },
)
FINDINGS = {"shift": SHIFT, "noise": NOISE, "head": HEAD, "narrow": NARROW, "blocks": BLOCKS}


def table(finding: Finding, runs: list[dict[str, Any]]) -> str:
    """A row for each arm, with the mean and the range of its seeds, then the paper's figures."""
    heads = ["run", "steps", "GFLOP a step", *(title.strip() for title in finding.scores.values())]
    lines = [f"| {' | '.join([*heads, *(f'paper: {what}' for what in finding.paper)])} |"]
    lines.append("|---" * (len(heads) + len(finding.paper)) + "|")
    others = {arm for of in finding.paper.values() for arm in of} - set(finding.arms)
    for arm in [*finding.arms, *sorted(others, key=lambda name: int(name.split()[0]))]:
        found = [run for run in runs if run["arm"] == arm]
        cells = [arm, *(f"{found[0][name]:g}" if found else "–" for name in ("steps", "gflop_a_step"))]
        for name in finding.scores:
            form = "{:.0%}" if "share" in name else "{:.2f}"
            cells.append(studies.spread([run[name] for run in found], form) if found else "–")
        cells += [f"{of[arm]:g}" if arm in of else "–" for of in finding.paper.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(finding: Finding, runs: list[dict[str, Any]]) -> bytes:
    """A panel for each score with a point for each seed, then the paper's figures, as a PNG."""
    from matplotlib.figure import Figure

    from unirae.app.pictures.plots import LIGHT

    count = len(finding.scores) + len(finding.paper)
    figure = Figure(figsize=(2.3 * count, 3.0), dpi=110, layout="constrained", facecolor=LIGHT.paper)
    panels = list(figure.subplots(1, count))
    arms, (ours, theirs) = list(finding.arms), LIGHT.curves[:2]
    for axes, (name, title) in zip(panels, finding.scores.items(), strict=False):
        for number, arm in enumerate(arms):
            values = [run[name] for run in runs if run["arm"] == arm]
            axes.bar(number, sum(values) / len(values), color=ours, alpha=0.35, width=0.6)
            axes.plot([number] * len(values), values, "o", color=ours, ms=5)
        axes.set_title(title.strip().replace(": ", ":\n").replace(", in", ",\nin"), fontsize=9)
        axes.set_xticks(range(len(arms)), arms, fontsize=8)
        if name == "psnr":
            axes.set_ylim(bottom=10)
    for axes, (title, of) in zip(panels[len(finding.scores) :], finding.paper.items(), strict=True):
        axes.bar(range(len(of)), list(of.values()), color=theirs, alpha=0.6, width=0.6)
        axes.set_title(f"paper: {title}", fontsize=9)
        axes.set_xticks(range(len(of)), list(of), fontsize=8)
    for axes in panels:
        axes.grid(axis="y", color=LIGHT.grid, lw=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def main() -> int:
    """Run what is missing; write figures, tables and plots after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, required=True, help="the folder of a finished demo")
    parser.add_argument("--output", type=Path, default=studies.ROOT / "outputs/findings")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the JSON file of results")
    parser.add_argument("--only", nargs="+", choices=list(FINDINGS), default=list(FINDINGS))
    options = parser.parse_args()
    for name in options.only:
        finding = FINDINGS[name]
        for seed in finding.seeds:
            for arm, words in finding.arms.items():
                place = Place(options.demo.resolve(), (options.output / name).resolve(), arm, seed)
                _run(name, place, words, options.figures)
    return 0


def _run(name: str, place: Place, words: list[str], figures: Path) -> None:
    """One run, unless its result is there."""
    content = read_json(figures) if figures.is_file() else {"runs": []}
    if any(
        (run["finding"], run["arm"], run["seed"]) == (name, place.arm, place.seed) for run in content["runs"]
    ):
        return
    found = FINDINGS[name].run(place, words)
    found = {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}
    content = read_json(figures) if figures.is_file() else {"runs": []}
    content["runs"].append({"finding": name, "arm": place.arm, "seed": place.seed, **found})
    write_json(figures, {**content, "machine": studies.MACHINE})
    runs = [run for run in content["runs"] if run["finding"] == name]
    if figures == FIGURES and {run["arm"] for run in runs} == set(FINDINGS[name].arms):
        studies.publish(f"findings_{name}", table(FINDINGS[name], runs))
        png = draw(FINDINGS[name], runs)
        write_atomically(PLOTS / f"findings_{name}.png", lambda file: file.write(png))
    sys.stdout.write(f"{name}, {place.arm}, seed {place.seed}: {found}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
