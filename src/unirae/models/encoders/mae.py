"""MAE (He et al. 2021), unmasked: every patch in, in its own order."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.models.encoders.hf import HFEncoder
from unirae.nn.positions import sincos_positions


class MaeEncoder(HFEncoder):
    """The encoder half of a ViTMAE checkpoint; reads ForPreTraining checkpoints and leaves their decoder."""

    default_model_type: ClassVar[str | None] = "vit_mae"
    ignored_prefixes: ClassVar[tuple[str, ...]] = ("decoder.",)

    @classmethod
    def skeleton(cls, architecture: dict[str, Any]) -> Any:
        """The backbone with fresh weights and MAE's positions."""
        backbone = super().skeleton(architecture)
        fill_sincos_positions(backbone)
        return backbone

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


@torch.no_grad()
def fill_sincos_positions(model: Any) -> None:
    """Give a new ViTMAE model (encoder alone, or with its decoder) the fixed sin-cos positions of the paper.

    Built from a configuration, transformers 5 leaves them at zero, and nothing can be learnt from masked patches
    whose place is unknown; built from a checkpoint they come with it.
    """
    encoder = getattr(model, "vit", model)
    places = [encoder.embeddings.position_embeddings]
    if hasattr(model, "decoder"):
        places.append(model.decoder.decoder_pos_embed)
    side = encoder.config.image_size // encoder.config.patch_size
    for positions in places:
        positions[0, 0].zero_()  # the class token's
        positions[0, 1:] = sincos_positions(positions.shape[-1], (side, side)).to(positions.device)
