"""Reproduce findings of the RAE papers on a laptop: docs/results.md.

    python tools/findings.py --demo outputs/demo                  # after `make demo`; 125 TFLOP of training
    python tools/findings.py --demo DIR --output DIR --only shift # one of them
    python tools/findings.py --demo DIR --docs                    # results, tables and plots into docs/, too

Each run has its share of operations, by torch's counter, whatever a step of it costs. Results stand in findings.json of
the output folder as soon as a run ends, and are not computed again; an interrupted run goes on.
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import studies
from findings_page import Shown, table, write_page
from unirae.app.shell import cli
from unirae.core.file_lock import locked
from unirae.core.io import file_sha256, read_json, short_code, write_json

FIGURES = studies.ROOT / "docs/results/findings.json"
SAMPLES, POINTS, CFG_SCALE = 185, 26, 2.0
DECODED, WIDE = 500, 192
"""Samples of the demo's generator that each decoder decodes; side of the images whose latents need a shift of 2.1."""


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes: the demo, the folder of all findings, the run's own, and its seed."""

    demo: Path
    folder: Path
    own: Path
    seed: int

    def train(self, experiment: str, words: list[str], *, tflop: float, into: str) -> dict[str, Any]:
        """Train for so many operations, unless that was done; what it took."""
        from unirae.app.demo.parts import train_part

        a_step = studies.flop_of_a_step(experiment, words, self.folder)
        steps = round(tflop * 1e12 / a_step)
        train_part(experiment, self.own / into, [*words, f"seed={self.seed}", f"trainer.max_steps={steps}"])
        return {"steps": steps, "gflop_a_step": round(a_step / 1e9, 2)}


@dataclass(frozen=True, kw_only=True)
class Finding(Shown):
    """A claim of a paper, and the runs that try it.

    Attributes:
        run: trains and scores one arm with one seed.
        tflop: of one arm with one seed, training alone.
    """

    seeds: tuple[int, ...]
    run: "Callable[[Place, list[str], float], dict[str, Any]]"
    tflop: float


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


def shift(place: Place, words: list[str], tflop: float) -> dict[str, Any]:
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
    took = place.train("dit_demo", [*own, *words], tflop=tflop, into="dit")
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


def noise(place: Place, words: list[str], tflop: float) -> dict[str, Any]:
    """A decoder of noised latents, and what it makes of the samples of the demo's generator, unguided."""
    import torch

    from unirae.core.images import to_uint8
    from unirae.models.checkpoints.opening import load_rae

    took = train_decoder(place, words, tflop=tflop)
    found = dict(zip(("psnr", "rfd"), reconstructed(place), strict=True))
    rae = load_rae(place.own / "rae")
    tokens = studies.unguided_tokens(place.demo, count=DECODED, num_steps=POINTS)
    with torch.no_grad():
        images = torch.cat([to_uint8(rae.decode_tokens(part)) for part in tokens.split(100)])
    distances = judges(place.demo, place.folder).distances(images)
    return {**took, **found, "fd": distances["encoder"], "fd_classifier": distances["classifier"]}


def head(place: Place, words: list[str], tflop: float) -> dict[str, Any]:
    """A generator that predicts the velocity without an early head, as RAE's, on the demo's latents."""
    from unirae.models.checkpoints.opening import load_dit, load_rae

    rae = place.demo / "rae"
    own = [f"model.rae.pretrained_decoder_path={rae}", f"data.latent_cache={place.demo / 'latents'}"]
    own += ["flow.prediction=velocity", *_quiet(dit=True)]
    took = place.train("dit_demo", [*own, *words], tflop=tflop, into="dit")
    return {**took, **guided_and_not(place, load_dit(place.own / "dit"), load_rae(rae))}


def blocks(place: Place, words: list[str], tflop: float) -> dict[str, Any]:
    """An autoencoder on some of the encoder's blocks, and a generator on its latents."""
    from unirae.models.checkpoints.opening import load_dit, load_rae

    decoder = train_decoder(place, words, tflop=tflop / 2)
    own = [f"model.rae.pretrained_decoder_path={place.own / 'rae'}", *_quiet(dit=True)]
    own += [f"data.latent_cache={place.own / 'latents'}"]
    took = place.train("dit_demo", own, tflop=tflop / 2, into="dit")
    took["decoder_steps"] = decoder["steps"]
    found = dict(zip(("psnr", "rfd"), reconstructed(place), strict=True))
    return {
        **took,
        **found,
        **guided_and_not(place, load_dit(place.own / "dit"), load_rae(place.own / "rae")),
    }


_FD = {"fd": "Fréchet distance", "fd_guided": "guided: Fréchet distance"}
_WITH_SHARES = {
    **{"fd": "Fréchet distance", "share": "right class"},
    **{"fd_guided": "guided: Fréchet distance", "share_guided": "right class"},
}


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
    tflop=4.5,
    scores=_WITH_SHARES,
    paper={"gFID, XL, 80 epochs": {"plain": 4.28, "wide head": 2.16}},
)
NARROW = Finding(
    arms={"plain, 64": _plain(64), "64, head of 128": _wide_head(64, 128)},
    seeds=(0, 1),
    run=head,
    tflop=4.5,
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


def key_of(name: str, demo: Path, words: list[str]) -> str:
    """What a result depends on beside its arm's name and seed: overrides, operations, and the demo's networks."""
    networks = [file_sha256(demo / part / "checkpoints/last.ckpt") for part in ("encoder", "rae", "dit")]
    return short_code([name, words, FINDINGS[name].tflop, networks])


def run_one(name: str, arm: str, seed: int, *, demo: Path, output: Path) -> None:
    """One run, unless its result is there."""
    finding, figures = FINDINGS[name], output / FIGURES.name
    key = key_of(name, demo, finding.arms[arm])
    about = {"finding": name, "arm": arm, "seed": seed, "key": key}
    if any(about.items() <= run.items() for run in results(figures)):
        return
    own = output / name / f"{re.sub('[^0-9A-Za-z.]+', '_', arm)}-{seed}-{key}"
    found = finding.run(Place(demo, output, own, seed), finding.arms[arm], finding.tflop)
    found = {score: round(value, 4) if isinstance(value, float) else value for score, value in found.items()}
    others = [
        run for run in results(figures) if (run["finding"], run["arm"], run["seed"]) != (name, arm, seed)
    ]
    write_json(figures, {"machine": studies.MACHINE, "runs": [*others, {**about, **found}]})
    sys.stdout.write(f"{name}, {arm}, seed {seed}: {found}\n")
    sys.stdout.flush()


def results(figures: Path) -> list[dict[str, Any]]:
    """The runs of a file of results, which may be missing."""
    return read_json(figures)["runs"] if figures.is_file() else []


def publish(figures: Path) -> None:
    """Copy the results into docs/, and write tables and plots of the findings that have all arms."""
    write_json(FIGURES, read_json(figures))
    for name, finding in FINDINGS.items():
        runs = [run for run in results(FIGURES) if run["finding"] == name]
        if {run["arm"] for run in runs} == set(finding.arms):
            write_page(name, finding, runs)


def main() -> int:
    """Parse the command line, and run what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, required=True, help="the folder of a finished demo")
    parser.add_argument("--output", type=Path, default=studies.ROOT / "outputs/findings")
    parser.add_argument("--only", nargs="+", choices=list(FINDINGS), default=list(FINDINGS))
    parser.add_argument("--docs", action="store_true", help="results, tables and plots into docs/")
    options = parser.parse_args()
    return cli.run(
        lambda: run_all(
            options.only, demo=options.demo.resolve(), output=options.output.resolve(), docs=options.docs
        ),
        kept="finished runs are kept. Repeat the command",
    )


def run_all(names: list[str], *, demo: Path, output: Path, docs: bool) -> None:
    """Run what is missing, alone in the folder: two processes would write over each other's results."""
    busy = f"HOLDER runs findings into {output}; wait for it, or choose another --output"
    with locked(output / "findings.lock", busy=busy):
        for name in names:
            for seed in FINDINGS[name].seeds:
                for arm in FINDINGS[name].arms:
                    run_one(name, arm, seed, demo=demo, output=output)
            runs = [run for run in results(output / FIGURES.name) if run["finding"] == name]
            sys.stdout.write(table(FINDINGS[name], runs))
        if docs:
            publish(output / FIGURES.name)


if __name__ == "__main__":
    raise SystemExit(main())
