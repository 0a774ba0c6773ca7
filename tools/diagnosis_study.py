"""Measure which figure of diagnose_rae.py foretells how well a decoder generates: docs/results.md, "Diagnosis".

    python tools/diagnosis_study.py --encoder outputs/demo/encoder      # at most 181 TFLOP; tables and JSON of docs/
    python tools/diagnosis_study.py --encoder DIR --output DIR --no-docs    # elsewhere

Decoders on one fused encoder, which differ in noise, layer dropout and length, and one generator on its latents. Each
decodes the same 500 samples. A figure is good if it orders pairs of decoders as the Fréchet distance of those samples
does, in the encoder's features and in those of a classifier that has seen neither encoder nor decoder. What was chosen
on the first seed of the decoders is checked on another. Finished parts are kept; what was interrupted goes on.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import studies
from unirae.core.io import read_json, write_json

if TYPE_CHECKING:
    import torch

FIGURES = studies.ROOT / "docs/results/diagnosis_study.json"

STEPS = 350
DECODERS: dict[str, tuple[int, dict[str, float]]] = {
    "tau_0": (STEPS, {"noise_tau": 0}),
    "tau_0.4": (STEPS, {"noise_tau": 0.4}),
    "tau_0.8": (STEPS, {"noise_tau": 0.8}),
    "tau_1.2": (STEPS, {"noise_tau": 1.2}),
    "dropout": (STEPS, {"noise_tau": 0, "layer_dropout": 0.5}),
    "dropout_tau_0.8": (STEPS, {"noise_tau": 0.8, "layer_dropout": 0.5}),
    "short": (STEPS // 3, {"noise_tau": 0.8}),
}
CHECKED = ("tau_0", "tau_0.8", "dropout_tau_0.8")
"""The decoders with a second seed."""
SAMPLES, RESAMPLES = 500, 100

Figure = Callable[[dict[str, Any]], float]


def _at(kind: str, amount: float, name: str) -> Figure:
    return lambda found: next(
        o[name] for o in found["outcomes"] if o["kind"] == kind and o["amount"] == amount
    )


def _mean_left_out(name: str) -> Figure:
    def mean(found: dict[str, Any]) -> float:
        values = [o[name] for o in found["outcomes"] if o["kind"] == "left_out"]
        return sum(values) / len(values)

    return mean


def _minus(figure: Figure) -> Figure:
    return lambda found: -figure(found)


CANDIDATES: dict[str, Figure] = {
    "rfd": _at("noise", 0.0, "frechet"),
    "PSNR": _minus(_at("noise", 0.0, "psnr")),
    "seams": _at("noise", 0.0, "seams"),
    **{f"Fréchet distance at σ = {s:g}": _at("noise", s, "frechet") for s in (0.2, 0.4, 0.8, 1.2)},
    **{f"PSNR at σ = {s:g}": _minus(_at("noise", s, "psnr")) for s in (0.4, 0.8, 1.2)},
    "seams at σ = 0.8": _at("noise", 0.8, "seams"),
    "Fréchet distance, α = 0.25": _at("interpolation", 0.25, "frechet"),
    "Fréchet distance, α = 0.5": _at("interpolation", 0.5, "frechet"),
    "seams, α = 0.5": _at("interpolation", 0.5, "seams"),
    "Fréchet distance without a block, mean": _mean_left_out("frechet"),
    "PSNR without a block, mean": _minus(_mean_left_out("psnr")),
}
"""Figures of a diagnosis, each so that less should be better."""


def train(encoder: Path, folder: Path) -> None:
    """Train what is missing: decoders, and the generator on the latents that they share."""
    from unirae.app.demo.parts import train_part

    def decoder(name: str, seed: int) -> None:
        steps, changes = DECODERS[name]
        own = {"encoder.weights": encoder, **changes}
        own |= {"disc_start_step": round(steps * 480 / 700), "disc_upd_start_step": round(steps * 400 / 700)}
        overrides = [f"model.{key}={value}" for key, value in own.items()]
        overrides += [f"seed={seed}", f"trainer.max_steps={steps}"]
        overrides += [f"callbacks.reconstruction_metrics.every_n_steps={steps}"]
        train_part("raev2_tiny", folder / f"{name}-{seed}", overrides)

    decoder("tau_0.8", 0)
    rae = folder / "tau_0.8-0"
    train_part("dit_tiny", folder / "generator", [f"model.rae.pretrained_decoder_path={rae}", "seed=0"])
    for name in DECODERS:
        decoder(name, 0)
    for name in CHECKED:
        decoder(name, 1)


def diagnosis(folder: Path) -> dict[str, Any]:
    """The diagnosis of a decoder, made unless it is there."""
    from unirae.app.diagnose_rae import Options, run
    from unirae.core.io import file_sha256

    file = folder / "diagnosis/diagnosis.json"
    if file.is_file():
        (found,) = read_json(file).values()
        if found["settings"]["checkpoint_sha256"] == file_sha256(folder / "checkpoints/last.ckpt"):
            return found
    run(Options(checkpoint=folder))
    return next(iter(read_json(file).values()))


def sample(folder: Path) -> "torch.Tensor":
    """The 500 latents, which are a function of the generator alone."""
    import torch

    from unirae.core.exact import exact_float32
    from unirae.evaluation.sampling.requests import choose_labels
    from unirae.evaluation.sampling.sampler import SamplerSettings, sample_numbered
    from unirae.models.checkpoints.opening import load_dit

    dit = load_dit(folder / "generator")
    numbers = torch.arange(SAMPLES)
    labels = choose_labels(numbers, num_classes=dit.num_classes, sampling="equal", seed=0)
    with exact_float32(numbers.device):
        parts = [
            sample_numbered(dit, request=labels[n], indices=n, seed=0, settings=SamplerSettings()).latents
            for n in numbers.split(50)
        ]
    return dit.latent_stats.denormalise(torch.cat(parts))


def distances(folder: Path, names: list[str]) -> dict[str, dict[str, list[float]]]:
    """By judge and decoder: the distance of its samples to the training images, then that of each resample."""
    import torch

    from unirae.core.exact import exact_float32, in_chunks
    from unirae.core.images import to_uint8
    from unirae.metrics.frechet import frechet_distance
    from unirae.metrics.moments import moments_of
    from unirae.models.checkpoints.opening import load_rae

    judges, tokens = studies.judges_of(folder / names[0], folder), sample(folder)
    draws = torch.Generator().manual_seed(0)
    resamples = [torch.randint(SAMPLES, (SAMPLES,), generator=draws) for _ in range(RESAMPLES)]
    decoded = {}
    for name in names:
        with exact_float32(tokens.device), torch.no_grad():
            decoded[name] = to_uint8(in_chunks(load_rae(folder / name).decode_tokens, tokens, 50))
    found: dict[str, dict[str, list[float]]] = {}
    for judge, extractor in judges.extractors.items():
        found[judge] = {}
        for name in names:
            features = extractor(decoded[name])
            found[judge][name] = [
                frechet_distance(moments_of(features[chosen]), judges.real[judge])
                for chosen in (torch.arange(SAMPLES), *resamples)
            ]
    return found


def agreement(figures: dict[str, float], quality: dict[str, float]) -> float:
    """The share of the pairs of decoders that the figure orders as the samples' distance does."""
    pairs = list(itertools.combinations(quality, 2))
    alike = [(figures[a] - figures[b]) * (quality[a] - quality[b]) > 0 for a, b in pairs]
    return sum(alike) / len(pairs)


def agreements(figures: dict[str, float], quality: dict[str, list[float]]) -> dict[str, float]:
    """The agreement, and the range of 95 % over resamples of the samples."""
    names = list(figures)
    of_each = [agreement(figures, {name: quality[name][k] for name in names}) for k in range(RESAMPLES + 1)]
    spread = sorted(of_each[1:])
    edge = math.floor(0.025 * RESAMPLES)
    return {"agreement": of_each[0], "low": spread[edge], "high": spread[-1 - edge]}


def study(folder: Path) -> dict[str, Any]:
    """Everything that is in the table."""
    first, again = [f"{name}-0" for name in DECODERS], [f"{name}-1" for name in CHECKED]
    diagnoses = {name: diagnosis(folder / name) for name in (*first, *again)}
    quality = distances(folder, [*first, *again])
    figures = {
        candidate: {name: figure(diagnoses[name]) for name in diagnoses}
        for candidate, figure in CANDIDATES.items()
    }
    return {
        "machine": studies.MACHINE,
        "samples": SAMPLES,
        "resamples": RESAMPLES,
        "decoders": {
            name: {
                "samples": {judge: round(of[name][0], 4) for judge, of in quality.items()},
                **{candidate: round(of[name], 4) for candidate, of in figures.items()},
            }
            for name in diagnoses
        },
        "candidates": {
            candidate: {
                judge: {
                    "first": agreements({name: of[name] for name in first}, of_judge),
                    "again": agreements({name: of[name] for name in again}, of_judge),
                }
                for judge, of_judge in quality.items()
            }
            for candidate, of in figures.items()
        },
    }


def table(found: dict[str, Any]) -> str:
    """The decoders, then the candidates."""
    shown = ("rfd", "PSNR", "seams", "Fréchet distance at σ = 0.8")
    lines = ["| decoder | samples, encoder | samples, classifier | " + " | ".join(shown) + " |"]
    lines.append("|---" * (3 + len(shown)) + "|")
    for name, of in found["decoders"].items():
        values = [*of["samples"].values(), *(abs(of[key]) for key in shown)]
        lines.append(f"| `{name}` | " + " | ".join(f"{value:.3g}" for value in values) + " |")
    heads = [f"{judge}, {part}" for judge in ("encoder", "classifier") for part in ("first", "again")]
    lines += ["", "| figure | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for candidate, of in found["candidates"].items():
        cells = [_cell(of[head.split(", ")[0]][head.split(", ")[1]]) for head in heads]
        lines.append(f"| {candidate} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(share: dict[str, float]) -> str:
    return f"{share['agreement']:.0%} ({share['low']:.0%} to {share['high']:.0%})"


def main() -> int:
    """Train what is missing, measure, and write figures and tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoder", type=Path, required=True, help="folder of the encoder of experiment=mae_tiny"
    )
    parser.add_argument("--output", type=Path, default=studies.ROOT / "outputs/diagnosis_study")
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    train(options.encoder.resolve(), options.output)
    found = study(options.output)
    sys.stdout.write(table(found))
    if options.docs:
        write_json(FIGURES, found)
        studies.publish("diagnosis_study", table(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
