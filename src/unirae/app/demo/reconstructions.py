"""Stage 1 of the demo: both autoencoders and a baseline on held-out images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirae.data.dataset import ImageDataset
    from unirae.evaluation.scores.reconstruction import ReconstructionScores, Reconstructor

SHOWN = 16
"""Held-out images in the picture."""


def score_reconstructions(folder: Path) -> dict[str, Any]:
    """Score both autoencoders and the mean colour on the validation split; draw their reconstructions."""
    from unirae.app.run.builders import build_dataset
    from unirae.evaluation.scores.baselines import MeanColour
    from unirae.models.checkpoints.opening import rae_from_checkpoint
    from unirae.models.checkpoints.reading import open_checkpoint

    checkpoint = open_checkpoint(folder / "rae", kind="stage1")
    rae = rae_from_checkpoint(checkpoint)
    random_rae = rae_from_checkpoint(open_checkpoint(folder / "random_encoder", kind="stage1"))
    config = checkpoint.config
    data = build_dataset(config["data"], split="val", size=rae.output_size, use="eval")
    candidates: dict[str, tuple[str, Reconstructor]] = {
        "rae": ("RAE, pretrained encoder", rae),
        "random_encoder": ("RAE, random encoder", random_rae),
        "mean_colour": ("mean colour", MeanColour()),
    }
    results = {key: _score(rae.encoder, candidate, data) for key, (_, candidate) in candidates.items()}
    _draw(folder / "pictures/reconstructions.png", dict(candidates.values()), data)
    rows = [
        {"key": key, "name": name, "scores": results[key].scores} for key, (name, _) in candidates.items()
    ]
    return {
        "data": results["rae"].settings["images"]["data"],
        "count": results["rae"].count,
        "rows": rows,
        "settings": results["rae"].settings,
    }


def _score(encoder: Any, candidate: "Reconstructor", data: "ImageDataset") -> "ReconstructionScores":
    """PSNR, SSIM and the Fréchet distance in the features of the demo's own encoder, the same for all candidates."""
    from unirae.evaluation.passes.reading import describe_data
    from unirae.evaluation.scores.metric_set import (
        MetricSources,
        build_reconstruction_metrics,
        encoder_extractor,
    )
    from unirae.evaluation.scores.reconstruction import evaluate_reconstruction

    sources = MetricSources(encoder=encoder_extractor(encoder))
    metrics = build_reconstruction_metrics(["psnr", "ssim", "rfd"], sources)
    return evaluate_reconstruction(
        candidate, data, metrics=metrics, batch_size=64, about={"data": describe_data(data)}
    )


def _draw(path: Path, candidates: dict[str, "Reconstructor"], data: "ImageDataset") -> None:
    """Draw held-out images, evenly spread over the split, above each candidate's reconstructions."""
    import torch

    from unirae.app.demo.report import draw_reconstructions
    from unirae.core.images import to_float, to_uint8

    originals = torch.stack([data[i * len(data) // SHOWN]["image"] for i in range(SHOWN)])
    rows = [("original", originals)]
    with torch.no_grad():
        rows += [(name, to_uint8(c.reconstruct(to_float(originals)))) for name, c in candidates.items()]
    draw_reconstructions(path, rows)
