"""What the studies of docs/results.md share: runs of equal operations, judges of samples, tables and plots of docs/."""

import os
import platform
import re
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.io import read_json, short_code, write_atomically, write_json

if TYPE_CHECKING:
    import torch

    from unirae.evaluation.judges.classifier import PixelClassifier
    from unirae.evaluation.passes.image_set import LabelledImages
    from unirae.metrics.extractors import FeatureExtractor
    from unirae.metrics.moments import Moments
    from unirae.models.rae import RAE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results.md"
MACHINE = f"{platform.machine()}, {platform.system()}, {os.cpu_count()} CPU cores"


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


def flop_of_a_step(experiment: str, words: Sequence[str], folder: Path) -> int:
    """Operations of one training step, the optimizer's and an encoder's with it; counted once for the same settings."""
    import unirae
    from unirae.app.config.composition import compose

    key = short_code(compose([f"experiment={experiment}", *words]))
    record, scratch = folder / f"flop/{key}.json", folder / f"flop/{key}"
    if record.is_file():
        return int(read_json(record)["flop"])

    def of_steps(count: int) -> int:
        shutil.rmtree(scratch, ignore_errors=True)
        own = [f"trainer.max_steps={count}", f"paths.output_dir={scratch}", "trainer.precision=32-true"]
        with counting() as total:
            unirae.train([f"experiment={experiment}", *words, *own, "trainer.compile=false"])
        return total()

    of_steps(1)  # what is made once, such as a cache of latents
    flop = -of_steps(2) + of_steps(3)
    shutil.rmtree(scratch)
    write_json(record, {"experiment": experiment, "overrides": list(words), "flop": flop})
    return flop


@dataclass(frozen=True, kw_only=True)
class Judges:
    """In whose features samples are compared with the training images, and who names their classes.

    Attributes:
        extractors: of ``encoder``, the autoencoder's, and of ``classifier``, a network that has seen neither encoder
            nor decoder.
        real: the training images' moments in the features of each.
    """

    extractors: "dict[str, FeatureExtractor]"
    real: "dict[str, Moments]"
    classifier: "PixelClassifier"
    held_out: "LabelledImages"

    def distances(self, images: "torch.Tensor") -> dict[str, float]:
        """The Fréchet distance of 8-bit images to the training images, by judge."""
        from unirae.metrics.frechet import frechet_distance
        from unirae.metrics.moments import moments_of

        return {
            name: frechet_distance(moments_of(extractor(images)), self.real[name])
            for name, extractor in self.extractors.items()
        }

    def share(self, images: "torch.Tensor", labels: "torch.Tensor") -> float:
        """The share of the images in which the classifier sees the wanted class."""
        from unirae.evaluation.judges.classifier import judge
        from unirae.evaluation.passes.image_set import LabelledImages

        return judge(self.classifier, LabelledImages(images=images, labels=labels)).share


def judges_of(rae_folder: Path, folder: Path) -> Judges:
    """The judges of samples on the data of an autoencoder's run; the classifier is trained once into ``folder``."""
    from unirae.app.run.builders import build_dataset
    from unirae.evaluation.judges.classifier import (
        ClassifierSettings,
        load_classifier,
        save_classifier,
        train_classifier,
    )
    from unirae.evaluation.passes.image_set import read_all
    from unirae.evaluation.passes.reading import describe_data
    from unirae.evaluation.scores.metric_set import encoder_extractor
    from unirae.metrics.extractors import ModuleExtractor
    from unirae.metrics.moments import moments_of
    from unirae.models.checkpoints.opening import load_rae
    from unirae.models.checkpoints.reading import open_checkpoint

    rae = load_rae(rae_folder)
    data = open_checkpoint(rae_folder, kind="stage1").config["data"]
    sets = {
        split: build_dataset(data, split=split, size=rae.output_size, use="eval")
        for split in ("train", "val")
    }
    train, held_out = (read_all(images) for images in sets.values())
    file, wanted = (
        folder / "classifier.pt",
        {
            "settings": asdict(ClassifierSettings()),
            "about": describe_data(sets["train"]),
        },
    )
    if not file.is_file() or load_classifier(file)[1] != wanted:
        network = train_classifier(
            train, num_classes=sets["train"].source.num_classes, settings=ClassifierSettings()
        )
        save_classifier(file, network, settings=ClassifierSettings(), about=wanted["about"])
    classifier, _ = load_classifier(file)
    extractors = {
        "encoder": encoder_extractor(rae.encoder, rae.encoder_input_size),
        "classifier": ModuleExtractor(
            module=_Pooled(classifier), name="classifier", width=classifier.head[1].in_features, identity={}
        ),
    }
    return Judges(
        extractors=extractors,
        real={name: moments_of(extractor(train.images)) for name, extractor in extractors.items()},
        classifier=classifier,
        held_out=held_out,
    )


class _Pooled:
    """A classifier's last features, the mean over positions."""

    def __init__(self, classifier: "PixelClassifier") -> None:
        self._classifier = classifier

    def __call__(self, images: "torch.Tensor") -> "torch.Tensor":
        import torch.nn.functional as F

        from unirae.core.images import to_float

        pixels = F.avg_pool2d(to_float(images), self._classifier.pool) * 2 - 1
        return self._classifier.features(pixels).mean((-2, -1))


def equal_labels(count: int, num_classes: int) -> "torch.Tensor":
    """Labels that go round the classes."""
    import torch

    return torch.arange(count) % num_classes


def sample_images(dit: Any, rae: "RAE", *, count: int, num_steps: int, **settings: Any) -> "torch.Tensor":
    """8-bit samples with the labels of :func:`equal_labels`."""
    import unirae
    from unirae.core.images import to_uint8

    labels = equal_labels(count, dit.num_classes)
    return to_uint8(unirae.sample(dit, rae, labels=labels, num_steps=num_steps, precision="bf16", **settings))


def spread(values: Sequence[float], form: str) -> str:
    """The mean, with the smallest and the largest where there are several."""
    mean, low, high = (form.format(v) for v in (statistics.mean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


@cache
def unguided_tokens(demo: Path, *, count: int, num_steps: int) -> "torch.Tensor":
    """Tokens that the demo's generator makes up, unguided."""
    import torch

    import unirae
    from unirae.models.checkpoints.opening import load_dit

    dit = load_dit(demo / "dit")
    drawn = torch.randn(count, *dit.latent_shape, generator=torch.Generator().manual_seed(0))
    labels = equal_labels(count, dit.num_classes)
    made = unirae.sample_latents(dit, noise=drawn, labels=labels, num_steps=num_steps, precision="bf16")
    return dit.latent_stats.denormalise(made)


def publish(name: str, text: str, page: Path = PAGE) -> None:
    """Put ``text`` between the page's markers ``<!-- name: … -->`` and ``<!-- name end -->``.

    Raises:
        SystemExit: If the page does not hold the markers once.
    """
    marked = re.compile(rf"(<!-- {name}: .*?-->\n).*?(<!-- {name} end -->)", re.DOTALL)
    shown, count = marked.subn(lambda found: found[1] + text + found[2], page.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{page} must hold the markers of {name} once, not {count} times")
    write_atomically(page, lambda file: file.write(shown.encode()))
