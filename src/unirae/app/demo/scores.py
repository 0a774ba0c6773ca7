"""Scores of the demo's autoencoder on held-out images, and of its samples.

Beside the autoencoder stands a baseline; beside the samples images that they should resemble, and others that they
should beat.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirae.app.demo.generator import Trained
    from unirae.data.dataset import ImageDataset
    from unirae.evaluation.judges.class_frechet import LabelledFeatures
    from unirae.evaluation.passes.image_set import LabelledImages
    from unirae.evaluation.scores.reconstruction import ReconstructionScores, Reconstructor

SHOWN = 16
"""Held-out images in the picture of reconstructions."""
_DRAWS = 5
"""Random held-out sets, to see how far a score of so few images moves by chance."""

_NAMES = {
    "real": "real pictures, held out",
    "reconstructed": "the same, through the autoencoder",
    "samples": "samples of the DiT",
    "noise": "noise, decoded",
    "mislabelled": "real pictures, wrong class",
}


def score_reconstructions(folder: Path) -> dict[str, Any]:
    """Score the autoencoder and the mean colour on the validation split; draw their reconstructions."""
    from unirae.app.run.builders import build_dataset
    from unirae.evaluation.scores.baselines import MeanColour
    from unirae.models.checkpoints.opening import rae_from_checkpoint
    from unirae.models.checkpoints.reading import open_checkpoint

    checkpoint = open_checkpoint(folder / "rae", kind="stage1")
    rae = rae_from_checkpoint(checkpoint)
    config = checkpoint.config
    data = build_dataset(config["data"], split="val", size=rae.output_size, use="eval")
    candidates: dict[str, tuple[str, Reconstructor]] = {
        "rae": ("RAE", rae),
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


def score_generation(trained: "Trained") -> dict[str, Any]:
    """The content of ``scores.json`` under ``generation``.

    The reference of the Fréchet distances is the training split, complete. Every candidate has as many images of each
    class as the held-out split, so that the bias of few images is the same for all.
    """
    from unirae.app.inputs.generator import identity
    from unirae.evaluation.judges.class_frechet import extract
    from unirae.evaluation.judges.classifier import judge
    from unirae.evaluation.scores.metric_set import encoder_extractor
    from unirae.metrics.frechet import frechet_name

    extractor = encoder_extractor(trained.rae.encoder, trained.rae.encoder_input_size)
    name = frechet_name(extractor)
    candidates = _candidates(trained)
    reference = extract(extractor, trained.train)
    found = {key: _distances(extract(extractor, images), reference) for key, images in candidates.items()}
    judged = {key: judge(trained.classifier, images) for key, images in candidates.items()}
    rows = [
        {
            "key": key,
            "name": _NAMES[key],
            "scores": {
                # together, images under wrong labels are the real ones
                **({name: found[key][0]} if key != "mislabelled" else {}),
                f"{name}_within_class": found[key][1],
                "classified": judged[key].share,
            },
        }
        for key in candidates
    ]
    return {
        "count": len(trained.held_out),
        "class_names": trained.class_names,
        "class_counts": trained.held_out.counts(len(trained.class_names)),
        "rows": rows,
        "by_chance": _by_chance(trained, reference, name),
        "classifier": {
            **trained.classifier_about,
            "standard_errors": {key: j.standard_error for key, j in judged.items()},
            "confusion": {key: j.confusion for key, j in judged.items() if key in ("real", "samples")},
        },
        "copies": asdict(_copies(trained, candidates)),
        "reference": {**trained.training_data, "count": len(trained.train)},
        "extractor": {"name": extractor.name, "features": extractor.width, **extractor.identity},
        "sampler": trained.generator.settings,
        "generator": identity(trained.generator.checkpoint, trained.generator.about),
    }


def _candidates(trained: "Trained") -> "dict[str, LabelledImages]":
    from unirae.evaluation.passes.image_set import mislabelled

    return {
        "real": trained.held_out,
        "reconstructed": through_autoencoder(trained, trained.held_out),
        "samples": trained.samples,
        "noise": _decoded_noise(trained),
        "mislabelled": mislabelled(trained.held_out),
    }


def through_autoencoder(trained: "Trained", data: "LabelledImages") -> "LabelledImages":
    """Images encoded and decoded, in 8 bits: as good as samples of this decoder can look."""
    from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
    from unirae.core.images import to_float, to_uint8
    from unirae.evaluation.passes.image_set import LabelledImages

    with exact_float32(data.images.device):
        images = to_uint8(in_chunks(trained.rae.reconstruct, to_float(data.images), NETWORK_CHUNK))
    return LabelledImages(images=images, labels=data.labels)


def _decoded_noise(trained: "Trained") -> "LabelledImages":
    """The samples' noise straight through the decoder: each latent element has the right distribution, all
    independent."""
    import torch

    from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
    from unirae.core.images import to_uint8
    from unirae.core.keyed_random import Stream, normal, sample_keys
    from unirae.evaluation.passes.image_set import LabelledImages
    from unirae.evaluation.sampling.sampler import decoder_for

    sampler = trained.generator.sampler
    keys = sample_keys(sampler.seed, 0, torch.arange(len(trained.samples)))
    noise = normal(keys, sampler.dit.latent_shape, Stream.SAMPLE_NOISE)
    with exact_float32(noise.device):
        images = to_uint8(in_chunks(decoder_for(sampler.dit, sampler.rae).decode, noise, NETWORK_CHUNK))
    return LabelledImages(images=images, labels=trained.samples.labels)


def _distances(candidate: "LabelledFeatures", reference: "LabelledFeatures") -> tuple[float, float]:
    """The Fréchet distances of all images together, and within classes."""
    from unirae.evaluation.judges.class_frechet import distance, distance_within_classes

    return distance(candidate, reference), distance_within_classes(candidate, reference)


def _by_chance(trained: "Trained", train: "LabelledFeatures", name: str) -> dict[str, list[float]]:
    """The scores of real pictures in other random splits: drawn from the training images, against the rest of them."""
    import torch

    from unirae.evaluation.judges.class_frechet import redraw

    draws = torch.Generator().manual_seed(0)
    counts = trained.held_out.counts(len(trained.class_names))
    found = [_distances(*redraw(counts, train, draws)) for _ in range(_DRAWS)]
    return {name: [f[0] for f in found], f"{name}_within_class": [f[1] for f in found]}


def _copies(trained: "Trained", candidates: "dict[str, LabelledImages]") -> Any:
    """Distances of samples to training images, beside those of true copies and of new images of the same decoder."""
    from unirae.evaluation.judges.nearest import find_nearest, score_copies, token_vectors

    every = max(1, len(trained.train) // len(trained.held_out))
    copied = through_autoencoder(trained, trained.train[slice(0, None, every)])
    bank = token_vectors(trained.rae, trained.train.images)

    def distances(data: "LabelledImages") -> Any:
        return find_nearest(token_vectors(trained.rae, data.images), bank).distances[:, 0]

    return score_copies(
        copies=distances(copied),
        new=distances(candidates["reconstructed"]),
        samples=distances(candidates["samples"]),
    )
