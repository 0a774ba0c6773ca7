"""The linear probe with augmentation: a linear layer on the features of a frozen encoder, trained by gradient steps.

After MAE's linear probing (He et al. 2022, appendix A): batch normalisation without affine, then a linear layer, images
augmented, no weight decay. It departs in the optimizer, AdamW instead of LARS, which is made for batches of 16,384, and
in showing the averaged head's accuracy, as every stage here does. ``src/eval_linear_probe.py`` is the probe without
augmentation, whose features are computed once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from unirae.core.images import to_float
from unirae.evaluation.probe.features import PooledEncoder
from unirae.nn.norms import FeatureNorm
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.training.ema import Ema
from unirae.training.manual import MeanTerms, StepSettings
from unirae.training.single import SingleNetwork


@dataclass(frozen=True)
class LabelledBatch:
    """A micro-batch of features and labels."""

    features: Float[Tensor, "b d"]
    labels: Int64[Tensor, " b"]


class ProbeHead(nn.Module):
    """Features, normalised over the batch, to logits."""

    def __init__(self, *, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = FeatureNorm(width)
        self.linear = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Compute the logits."""
        return self.linear(self.norm(features))


class LinearProbe(SingleNetwork):
    """Cross-entropy of a linear head on a frozen encoder.

    Args:
        network: the encoder and how its tokens become one vector.
        input_size: pixels, (height, width); for the description in checkpoints.
        class_names: of the data, in the order of labels.
    """

    kind = "linear_probe"

    def __init__(
        self,
        *,
        network: PooledEncoder,
        input_size: tuple[int, int],
        class_names: Sequence[str],
        settings: StepSettings,
    ) -> None:
        super().__init__(settings)
        self.network, self.input_size, self.class_names = network, input_size, tuple(class_names)
        self.encoder = network.encoder  # a submodule, so that Lightning moves it to the device
        self.head = ProbeHead(width=network.width, num_classes=len(self.class_names))
        self.ema = Ema(self.head, decay=settings.ema_decay, warmup=settings.ema_warmup)

    def split(self, batch: dict[str, Tensor]) -> Iterator[LabelledBatch]:
        """Split a batch into micro-batches of tokens from the encoder."""
        for part, _ in self.parts(batch):
            with torch.no_grad():
                features = self.network(to_float(part["image"]))
            yield LabelledBatch(features.to(self.head.linear.weight), part["label"])

    def loss(self, part: LabelledBatch, terms: MeanTerms) -> Float[Tensor, ""]:
        """Mean cross-entropy of a micro-batch; accuracy is logged beside it."""
        logits = self.head(part.features).float()
        loss = F.cross_entropy(logits, part.labels)
        terms.add(loss=loss, top1=(logits.argmax(1) == part.labels).float().mean())
        return loss

    @property
    def trained(self) -> nn.Module:
        """The head: only it is trained."""
        return self.head

    def parameter_groups(self) -> ParameterGroups:
        """Trained parameters of the head, in groups: the one layer is the last, so there are no matrices."""
        return group_parameters(self.head, edges=("linear",))

    @property
    def computing(self) -> list[nn.Module]:
        """The encoder and the head."""
        return [self.encoder, self.head]

    def state_parts(self) -> dict[str, nn.Module]:
        """The head and its average, for a checkpoint; nothing of the encoder."""
        return {"head": self.head, "ema": self.ema.average}

    def describe(self) -> dict[str, Any]:
        """Description of the encoder, the pooling of its tokens, and the classes."""
        identity = self.encoder.identity
        return {
            "encoder": identity.to_dict(),
            "encoder_state": self.encoder.state_dict() if identity.embedded else None,
            "encoder_input_size": list(self.input_size),
            "pooling": self.network.pooling,
            "class_names": list(self.class_names),
        }

    def networks(self) -> dict[str, nn.Module | None]:
        """The networks of the summary."""
        return {"encoder": self.encoder, "head": self.head, "EMA": self.ema}

    def plan(self) -> list[str]:
        """Plan of the run: what is trained on, and when the learning rate changes."""
        of = f"{len(self.class_names)} classes from {self.network.width} features"
        return [f"{of} (pooling {self.network.pooling})", self.schedule.describe()]
