"""DINOv2 (Oquab et al. 2023) and DINOv2 with registers (Darcet et al. 2024), the RAE paper's default."""

from typing import Any, ClassVar

from unirae.core.errors import WeightsError
from unirae.models.encoders.hf import HFEncoder

_USUAL_SIZE = 224
"""Usual side in pixels. The configuration names 518, where training ended; scores and autoencoders use 224."""


class Dinov2Encoder(HFEncoder):
    """DINOv2 with or without registers, as the configuration says; both interpolate their positions themselves."""

    default_model_type: ClassVar[str | None] = "dinov2_with_registers"

    @classmethod
    def prepare_config(cls, config: Any) -> Any:
        """Refuse anything that is not a DINOv2."""
        if config.model_type not in ("dinov2", "dinov2_with_registers"):
            raise WeightsError(
                f"kind=dinov2 got a {config.model_type} checkpoint; use kind=generic_hf for it"
            )
        return config

    @property
    def usual_size(self) -> tuple[int, int]:
        """The usual (height, width) of scores and autoencoders."""
        return _USUAL_SIZE, _USUAL_SIZE
