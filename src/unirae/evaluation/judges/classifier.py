"""An independent judge of class-conditional samples: a small convolutional network trained on pixels.

It shares nothing with what it judges: no encoder, no latents, other augmentation, its own seed. It sees the training
split; its accuracy on held-out real images is the yardstick for the share of samples that it assigns to the wanted
class. (The classification accuracy score of Ravuri and Vinyals 2019, the other way round.)

In float32 throughout: on CPUs without matrix instructions bf16 convolutions are many times slower (docs/log.md).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Generator, Tensor, nn

from unirae.core.errors import DataError, WeightsError
from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
from unirae.core.images import to_float
from unirae.core.io import load_tensors, save_tensors
from unirae.evaluation.passes.image_set import LabelledImages


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """Network and training; chosen for 64-px pictures by the thousand (docs/log.md).

    Attributes:
        pool: pictures are averaged over squares of so many pixels first: classes show in 32 px as well as in 64, at a
            quarter of the cost.
        width: channels of the first convolution; each further one doubles them.
        max_shift: pictures are moved by up to this part of their size along each axis, and scaled by
            U(min_scale, max_scale); what this uncovers is white. Half of them are mirrored.
    """

    pool: int = 2
    width: int = 48
    dropout: float = 0.2
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    warmup_steps: int = 50
    min_scale: float = 0.85
    max_scale: float = 1.1
    max_shift: float = 0.08
    seed: int = 0


class PixelClassifier(nn.Module):
    """Four 3×3 convolutions of stride 2 with batch normalisation, the mean over positions, a linear layer."""

    def __init__(self, *, num_classes: int, width: int, pool: int, dropout: float) -> None:
        super().__init__()
        self.arguments = {"num_classes": num_classes, "width": width, "pool": pool, "dropout": dropout}
        self.pool = pool
        widths = [3, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], num_classes))

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b k"]:
        """RGB in [0, 1] to logits."""
        pixels = (F.avg_pool2d(images, self.pool) * 2 - 1).contiguous(memory_format=torch.channels_last)
        return self.head(self.features(pixels).mean((-2, -1)))


def train_classifier(
    data: LabelledImages,
    *,
    num_classes: int,
    settings: ClassifierSettings,
    progress: Callable[[int, int], None] | None = None,
) -> PixelClassifier:
    """A classifier in eval mode; a function of data and settings alone. The global random state is left as it was.

    Raises:
        DataError: If there are fewer images than a batch.
    """
    if len(data) < settings.batch_size:
        raise DataError(
            f"{len(data)} images are fewer than one batch of {settings.batch_size}; lower batch_size, or get more"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)  # initialisation and dropout
        network = PixelClassifier(
            num_classes=num_classes, width=settings.width, pool=settings.pool, dropout=settings.dropout
        )
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        _fit(network, data, settings, progress or (lambda done, total: None))
    return network.eval().requires_grad_(False)


def _fit(
    network: PixelClassifier,
    data: LabelledImages,
    settings: ClassifierSettings,
    progress: Callable[[int, int], None],
) -> None:
    draws = Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    total = len(data) // settings.batch_size * settings.epochs
    for step, chosen in enumerate(_batches(len(data), settings, draws)):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _warmup_and_cosine(step, total, settings.warmup_steps)
        batch = data[chosen]
        logits = network(_augment(to_float(batch.images), settings, draws))
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=settings.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step + 1, total)


def _batches(images: int, settings: ClassifierSettings, draws: Generator) -> Iterator[Int64[Tensor, " b"]]:
    """Numbers of images: every epoch in a new order, without the rest that does not fill a batch."""
    whole = images - images % settings.batch_size
    for _ in range(settings.epochs):
        yield from torch.randperm(images, generator=draws)[:whole].split(settings.batch_size)


def _warmup_and_cosine(step: int, total: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * step / total))


def _augment(
    images: Float[Tensor, "b 3 H W"], settings: ClassifierSettings, draws: Generator
) -> Float[Tensor, "b 3 H W"]:
    """Each image scaled, moved and half of them mirrored: a mirrored flag is another flag, but still a flag."""
    scale = torch.empty(len(images)).uniform_(settings.min_scale, settings.max_scale, generator=draws)
    shift = torch.empty(len(images), 2).uniform_(-settings.max_shift, settings.max_shift, generator=draws)
    affine = torch.zeros(len(images), 2, 3)
    mirror = 1 - 2 * (torch.rand(len(images), generator=draws) < 0.5).float()
    affine[:, 0, 0], affine[:, 1, 1] = mirror / scale, 1 / scale
    affine[:, :, 2] = 2 * shift  # sides are 2 long in these coordinates
    where = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images - 1, where, align_corners=False) + 1  # outside lies 0, which is white


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Judgement of a classifier on images that were meant to show their labels.

    Attributes:
        confusion: ``confusion[wanted][assigned]``: numbers of images.
    """

    confusion: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """Number of images judged."""
        return sum(map(sum, self.confusion))

    @property
    def share(self) -> float:
        """Part of the images that were assigned to the wanted class: the accuracy, of real images."""
        return sum(row[k] for k, row in enumerate(self.confusion)) / self.count

    @property
    def standard_error(self) -> float:
        """Standard error of the share, if the images are independent draws."""
        return math.sqrt(self.share * (1 - self.share) / self.count)


def judge(classifier: PixelClassifier, data: LabelledImages) -> Judgement:
    """Assign each image to a class and count.

    Raises:
        DataError: If there are no images, or labels that the classifier does not know.
    """
    classes = classifier.arguments["num_classes"]
    if not len(data) or int(data.labels.max()) >= classes:
        raise DataError(f"{len(data)} images cannot be judged by a classifier of {classes} classes")
    assigned = assign(classifier, data.images)
    cells = torch.bincount(data.labels * classes + assigned, minlength=classes**2).view(classes, classes)
    return Judgement(confusion=tuple(map(tuple, cells.tolist())))


def assign(classifier: PixelClassifier, images: UInt8[Tensor, "n 3 H W"]) -> Int64[Tensor, " n"]:
    """The likeliest class of each image."""
    with exact_float32(images.device):
        return in_chunks(classifier, to_float(images), NETWORK_CHUNK).argmax(1)


def save_classifier(
    path: str | Path, classifier: PixelClassifier, *, settings: ClassifierSettings, about: dict[str, Any]
) -> Path:
    """Write the network and how it came about, atomically; ``about`` is plain values, such as the data."""
    content = {
        "kind": "pixel_classifier",
        "arguments": classifier.arguments,
        "settings": asdict(settings),
        "about": about,
        "state_dict": classifier.state_dict(),
    }
    return save_tensors(path, content)


def load_classifier(path: str | Path) -> tuple[PixelClassifier, dict[str, Any]]:
    """The network in eval mode, and the ``settings`` and ``about`` that it was saved with.

    Raises:
        WeightsError: If the file is missing, damaged, or of another kind.
    """
    content = load_tensors(path)
    if not isinstance(content, dict) or content.get("kind") != "pixel_classifier":
        raise WeightsError(f"{path} is not a classifier of unirae")
    classifier = PixelClassifier(**content["arguments"])
    classifier.load_state_dict(content["state_dict"])
    return classifier.eval().requires_grad_(False), {key: content[key] for key in ("settings", "about")}
