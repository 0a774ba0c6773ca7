"""Stage 2 of the demo, opened: the trained generator, the classifier that judges it, its samples, the real images."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.demo.parts import timed
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from torch import Tensor

    from unirae.app.demo.options import Options
    from unirae.app.inputs.generator import Generator
    from unirae.app.pictures.sample_folder import SampleFolder
    from unirae.data.dataset import ImageDataset
    from unirae.evaluation.judges.classifier import PixelClassifier
    from unirae.evaluation.passes.image_set import LabelledImages
    from unirae.models.rae import RAE

log = get_logger(__name__)

_BATCH = 40
"""Most images in a batch: a few megabytes of activations, and all images in equal batches."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The trained networks and the images that scores and pictures are made from.

    Attributes:
        train, held_out: the real images.
        samples: one for each held-out image, with its label; in the order of their numbers, which goes round the
            classes.
        training_data: the identity of the training images.
    """

    folder: Path
    generator: "Generator"
    classifier: "PixelClassifier"
    classifier_about: dict[str, Any]
    train: "LabelledImages"
    held_out: "LabelledImages"
    samples: "LabelledImages"
    training_data: dict[str, Any]

    @property
    def rae(self) -> "RAE":
        """The autoencoder, with its encoder and the statistics of the latents."""
        return self.generator.sampler.rae

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, by label."""
        return list(self.generator.about["class_names"])


def open_trained(options: "Options") -> Trained:
    """Open what was trained; train the classifier and make the samples, unless that was done before."""
    from unirae.app.run.builders import build_dataset
    from unirae.evaluation.passes.image_set import read_all
    from unirae.evaluation.passes.reading import describe_data
    from unirae.models.checkpoints.opening import load_rae
    from unirae.models.checkpoints.reading import open_checkpoint

    folder = options.folder
    data = open_checkpoint(folder / "rae", kind="stage1").config["data"]
    size = load_rae(folder / "rae").output_size
    train_set, val_set = (build_dataset(data, split=s, size=size, use="eval") for s in ("train", "val"))
    train, held_out = read_all(train_set), read_all(val_set)
    classifier, about = _classifier(options, train_set, train)
    generator = _open(options, held_out.labels[order_round(held_out.labels)].tolist())
    samples = _samples(folder / "samples", generator, len(held_out))
    return Trained(
        folder=folder,
        generator=generator,
        classifier=classifier,
        classifier_about=about,
        train=train,
        held_out=held_out,
        samples=samples,
        training_data=describe_data(train_set),
    )


def order_round(labels: "Tensor") -> "Tensor":
    """Numbers of pictures in another order: first one of each class, then the second of each, and so on."""
    import torch

    seen: dict[int, int] = {}
    keys = []
    for number, label in enumerate(labels.tolist()):
        keys.append((seen.setdefault(label, 0), label, number))
        seen[label] += 1
    return torch.tensor([number for _, _, number in sorted(keys)])


def _classifier(
    options: "Options", dataset: "ImageDataset", images: "LabelledImages"
) -> "tuple[PixelClassifier, dict[str, Any]]":
    """The classifier of an earlier run if it saw the same images in the same way, else a new one."""
    from dataclasses import asdict

    from unirae.app.shell.devices import progress_bar
    from unirae.evaluation.judges.classifier import (
        ClassifierSettings,
        load_classifier,
        save_classifier,
        train_classifier,
    )
    from unirae.evaluation.passes.reading import describe_data

    path = options.folder / "classifier.pt"
    settings = ClassifierSettings(epochs=options.classifier_epochs or options.length.classifier_epochs)
    wanted = {"settings": asdict(settings), "about": describe_data(dataset)}
    if path.is_file():
        classifier, about = load_classifier(path)
        if about == wanted:
            log.info("classifier: already trained, %s; delete the file to train it again", path)
            return classifier, about
    log.info("classifier: training on %d images, to judge the samples", len(images))
    with timed(options.folder, "classifier"), progress_bar("classifier") as progress:
        classifier = train_classifier(
            images, num_classes=dataset.source.num_classes, settings=settings, progress=progress
        )
    save_classifier(path, classifier, settings=settings, about=wanted["about"])
    return classifier, wanted


def _open(options: "Options", labels: list[int]) -> "Generator":
    """The generator, set up for one sample of each of ``labels``."""
    import torch

    from unirae.app.inputs.generator import open_generator
    from unirae.app.inputs.sampler_options import SamplerOptions

    batches = -(-len(labels) // _BATCH)
    sampler = SamplerOptions(
        checkpoint=options.folder / "dit",
        rae=options.folder / "rae",
        cfg_scale=options.cfg_scale,
        num_steps=options.num_steps or options.length.num_steps,
        seed=options.seed,
        batch_size=-(-len(labels) // batches),
        precision=precision_of(options.folder / "samples"),
        device="cpu",
    )
    return open_generator(sampler, torch.device("cpu"), labels=",".join(map(str, labels)), with_encoder=True)


def precision_of(samples: Path) -> Any:
    """The precision of samples begun before; else bf16 where it is faster, which the eye cannot tell from fp32."""
    from unirae.core.hardware import fastest_precision
    from unirae.core.io import read_json

    record = samples / "settings.json"
    if record.is_file():
        return read_json(record)["settings"]["precision"]
    return "bf16" if fastest_precision("cpu") == "bf16-mixed" else "fp32"


def threads(samples: Path) -> int:
    """The CPU threads of samples begun before; else all, or one fewer beside a program that holds a core."""
    import torch

    from unirae.core.hardware import fastest_num_threads
    from unirae.core.io import read_json

    record = samples / "settings.json"
    kept = read_json(record)["made_with"]["cpu_threads"] if record.is_file() else None
    return kept or fastest_num_threads(torch.get_num_threads())


def _samples(folder: Path, generator: "Generator", count: int) -> "LabelledImages":
    """The folder's images, one for each label."""
    import torch

    from unirae.app.inputs.generator import labels_of
    from unirae.app.pictures.sample_folder import SampleFolder
    from unirae.evaluation.passes.image_set import LabelledImages

    samples = SampleFolder(folder, settings=generator.settings, count=count)
    begun = (folder / "settings.json").is_file()
    if samples.is_complete(range(count)):
        images = samples_in(samples, generator)
    else:
        with timed(folder.parent, "samples", add=begun):
            images = samples_in(samples, generator)
    return LabelledImages(images=images, labels=torch.tensor(labels_of(generator, count)))


def samples_in(samples: "SampleFolder", generator: "Generator") -> "Tensor":
    """The folder's images, made by the code of sample_dit.py; those of another checkpoint or settings are redone."""
    import torch

    from unirae.app.pictures.sample_folder import differences
    from unirae.app.sample_dit import fill
    from unirae.core.errors import ConfigError
    from unirae.core.io import read_json

    record = samples.folder / "settings.json"
    if record.is_file():
        changed = differences(read_json(record)["settings"], samples.settings)
        try:
            samples.check()
        except ConfigError:
            changed = changed or ["other images"]
        if changed or read_json(record)["num_samples"] != samples.count:
            log.info(
                "%s: made anew (%s)", samples.folder, "; ".join(changed[:3]) or "another number of images"
            )
            shutil.rmtree(samples.folder)
    if not samples.is_complete(range(samples.count)):
        fill(samples, generator, torch.device("cpu"), npz=False)
    return torch.stack([samples.read(number) for number in range(samples.count)])
