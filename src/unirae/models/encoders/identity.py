"""What an encoder is, in a form that a checkpoint can carry."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from unirae.core.errors import WeightsError

Rgb = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class EncoderIdentity:
    """Enough to build the same encoder again, and to notice when it is another one.

    Attributes:
        kind: which adapter ("dinov2", "siglip2", "mae", "generic_hf", "timm").
        name: the model's name on its hub.
        source: what the weights came from: the hub name, or an absolute path.
        weights: where they came from: "hub", "random" or "path".
        config: the backbone's own configuration; builds its skeleton without a hub.
        pixel_mean, pixel_std: of RGB in [0, 1].
        sha256: of the backbone's tensors; empty on the meta device.
        embedded: the weights are nowhere else (random, or trained here), so they travel inside checkpoints.
    """

    kind: str
    name: str
    source: str
    weights: Literal["hub", "random", "path"]
    config: dict[str, Any]
    pixel_mean: Rgb
    pixel_std: Rgb
    embedded: bool
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "pixel_mean": list(self.pixel_mean), "pixel_std": list(self.pixel_std)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "EncoderIdentity":
        """The inverse of :meth:`to_dict`."""
        try:
            mean, std = tuple(content["pixel_mean"]), tuple(content["pixel_std"])
            return cls(**{**content, "pixel_mean": mean, "pixel_std": std})
        except (TypeError, KeyError) as error:
            raise WeightsError(f"this is no encoder identity of unirae: {error}") from None
