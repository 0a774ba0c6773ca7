"""MAE (He et al. 2021), unmasked: every patch in, in its own order."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.models.encoders.hf import HFEncoder


class MaeEncoder(HFEncoder):
    """The encoder half of a ViTMAE checkpoint; reads ForPreTraining checkpoints and leaves their decoder."""

    default_model_type: ClassVar[str | None] = "vit_mae"
    ignored_prefixes: ClassVar[tuple[str, ...]] = ("decoder.",)

    @classmethod
    def prepare_config(cls, config: Any) -> Any:
        """Turn the masking off."""
        if config.model_type != "vit_mae":
            raise WeightsError(f"kind=mae got a {config.model_type} checkpoint; use kind=generic_hf for it")
        config.mask_ratio = 0.0
        return config

    def _call(self, pixels: Float[Tensor, "b 3 H W"], **options: Any) -> Any:
        rows, columns = self.grid(pixels)
        # transformers shuffles the patches by sorting this "noise" even at mask ratio 0: keep their order
        order = torch.arange(rows * columns, device=pixels.device, dtype=torch.float32).expand(
            len(pixels), -1
        )
        return self.backbone(pixels, noise=order, interpolate_pos_encoding=True, **options)
