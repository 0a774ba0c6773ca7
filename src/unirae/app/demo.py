"""``make demo``: the whole of UniRAE in small, on this machine, without a network.

Stage 0 pretrains an encoder on the bundled emoji, stage 1 trains a decoder on it, and the same decoder is trained on
a random encoder as a baseline; then held-out emoji are reconstructed, scored and shown. Each part is a run of its
own: finished ones are reused, an interrupted one goes on where it stopped.
"""

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app import cli
from unirae.core.errors import RunInterrupted
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from unirae.data.dataset import ImageDataset
    from unirae.evaluation.reconstruction import ReconstructionScores, Reconstructor

log = get_logger(__name__)

SHOWN = 16
"""Held-out images in the picture."""


@dataclass(frozen=True)
class Options:
    """Train a tiny encoder and autoencoder on the bundled emoji, score them, and write a report."""

    output_dir: Path = Path("outputs/demo")
    """Where everything goes: report.html, scores.json, pictures/, encoder/, rae/."""
    override: tuple[str, ...] = ()
    """Configuration for every training part, such as trainer.max_steps=20 for a quick look."""


def main() -> int:
    """Command line."""
    from unirae.app.options import parse

    options = parse(Options)
    return cli.run(lambda: run(options))


def run(options: Options) -> None:
    """Train what is not trained yet, evaluate, write the report."""
    folder = options.output_dir
    started = time.perf_counter()
    train_part("mae_tiny", folder / "encoder", list(options.override))
    on_encoder = [f"model.encoder.weights={folder / 'encoder'}", *options.override]
    train_part("rae_tiny", folder / "rae", on_encoder)
    train_part("rae_tiny", folder / "random_encoder", ["model.encoder.weights=random", *options.override])
    cli.configure_logging(folder / "demo.log")
    evaluate(folder)
    from unirae.app.report import write_report

    report = write_report(folder)
    log.info("done in %.0f s. Open %s", time.perf_counter() - started, report)


def train_part(experiment: str, output_dir: Path, overrides: list[str]) -> None:
    """Run one experiment to its end, from its last checkpoint if it has one; at once if it is finished."""
    from unirae.app.composition import compose
    from unirae.app.train import train
    from unirae.core.io import load_tensors, read_json, write_json

    config = compose([f"experiment={experiment}", f"paths.output_dir={output_dir}", *overrides])
    finished = output_dir / "finished.json"
    if finished.is_file() and read_json(finished)["max_steps"] == config["trainer"]["max_steps"]:
        cli.configure_logging()
        log.info("%s: already trained in %s; delete the folder to train it again", experiment, output_dir)
        return
    checkpoint = output_dir / "checkpoints/last.ckpt"
    resume = checkpoint if checkpoint.is_file() else None
    if resume:
        log.info("%s: continuing after step %d", experiment, load_tensors(resume)["global_step"])
    clock = output_dir / "seconds.json"
    earlier = read_json(clock)["seconds"] if resume and clock.is_file() else 0.0
    started = time.perf_counter()
    try:
        train(config, experiment=experiment, checkpoint=resume)
    except RunInterrupted as stop:
        raise RunInterrupted("interrupted; nothing is lost: the same command goes on from here") from stop
    finally:
        seconds = earlier + time.perf_counter() - started
        write_json(clock, {"seconds": round(seconds, 1)})
    write_json(finished, {"max_steps": config["trainer"]["max_steps"], "seconds": round(seconds, 1)})


def evaluate(folder: Path) -> None:
    """Score both autoencoders and the mean colour on the validation split; write scores.json and the picture."""
    from unirae.app.builders import build_dataset
    from unirae.core.io import read_json, write_json
    from unirae.evaluation.baselines import MeanColour
    from unirae.models.loading import rae_from_checkpoint, read_checkpoint

    checkpoint = read_checkpoint(folder / "rae", kind="stage1")
    rae = rae_from_checkpoint(checkpoint)
    random_rae = rae_from_checkpoint(read_checkpoint(folder / "random_encoder", kind="stage1"))
    config = checkpoint["unirae"]["config"]
    data = build_dataset(config["data"], split="val", size=rae.output_size, train=False)
    candidates: dict[str, tuple[str, Reconstructor]] = {
        "rae": ("RAE, pretrained encoder", rae),
        "random_encoder": ("RAE, random encoder", random_rae),
        "mean_colour": ("mean colour", MeanColour()),
    }
    results = {key: score(rae.encoder, candidate, data) for key, (_, candidate) in candidates.items()}
    write_json(
        folder / "scores.json",
        {
            "data": results["rae"].settings["data"],
            "count": results["rae"].count,
            "rows": [
                {"key": key, "name": name, "scores": results[key].scores}
                for key, (name, _) in candidates.items()
            ],
            "settings": results["rae"].settings,
            "seconds": {
                part: read_json(folder / part / "finished.json")["seconds"]
                for part in ("encoder", "rae", "random_encoder")
            },
            "machine": describe_machine(),
        },
    )
    draw(folder / "pictures/reconstructions.png", dict(candidates.values()), data)


def score(encoder: Any, candidate: "Reconstructor", data: "ImageDataset") -> "ReconstructionScores":
    """PSNR, SSIM and the Fréchet distance in the features of the demo's own encoder, the same for all candidates."""
    from unirae.evaluation.metric_set import build_reconstruction_metrics, encoder_extractor
    from unirae.evaluation.reconstruction import describe_data, evaluate_reconstruction

    metrics = build_reconstruction_metrics(["psnr", "ssim", "rfd"], encoder=encoder_extractor(encoder))
    return evaluate_reconstruction(
        candidate, data, metrics=metrics, batch_size=64, settings={"data": describe_data(data)}
    )


def draw(path: Path, candidates: dict[str, "Reconstructor"], data: "ImageDataset") -> None:
    """Held-out images, evenly spread over the split, above what each candidate makes of them."""
    import torch

    from unirae.app.report import draw_reconstructions
    from unirae.core.images import to_float, to_uint8

    originals = torch.stack([data[i * len(data) // SHOWN]["image"] for i in range(SHOWN)])
    rows = [("original", originals)]
    with torch.no_grad():
        rows += [(name, to_uint8(c.reconstruct(to_float(originals)))) for name, c in candidates.items()]
    draw_reconstructions(path, rows)


def describe_machine() -> dict[str, Any]:
    """Where the demo ran."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
