"""Stage 0: pretrain a small MAE encoder on the user's own images (He et al. 2022, arXiv 2111.06377).

Full-size runs start from a published encoder; this gives a machine without a model hub one of its own. The
network is transformers' ViTMAE, saved in its format, so that every tool that reads ViTMAE reads ours.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.distributed import is_main
from unirae.core.io import write_json
from unirae.core.keyed_random import Stream, uniform
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.models.encoders.hf import use_our_attention
from unirae.models.encoders.mae import fill_sincos_positions
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.training.ema import Ema
from unirae.training.manual import MeanTerms, MicroBatch, StepSettings
from unirae.training.single import SingleNetwork

log = get_logger(__name__)


class MaePretraining(SingleNetwork):
    """Reconstruct the masked patches of an image from the visible ones.

    Args:
        architecture: arguments of transformers' ViTMAEConfig.
        visible_weight: also reconstruct the visible patches, with this weight. The paper's 0 makes the best
            features for recognition after hundreds of epochs; after a few, such an encoder forgets what its own
            patch looks like, which is what an autoencoder needs of it (docs/log.md).
    """

    kind = "mae"

    def __init__(
        self,
        *,
        architecture: dict[str, Any],
        visible_weight: float,
        pixel_mean: tuple[float, float, float],
        pixel_std: tuple[float, float, float],
        settings: StepSettings,
    ) -> None:
        super().__init__(settings)
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

        self.architecture, self.visible_weight = architecture, visible_weight
        self.mae: Any = ViTMAEForPreTraining(ViTMAEConfig(**architecture))
        fill_sincos_positions(self.mae)
        use_our_attention(self.mae)
        self.ema = Ema(self.mae, decay=settings.ema_decay, warmup=settings.ema_warmup)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1))

    def loss(self, part: MicroBatch, terms: MeanTerms) -> Float[Tensor, ""]:
        """Mean squared error of the masked patches, plus ``visible_weight`` times that of the visible ones."""
        patches = self.mae.vit.embeddings.patch_embeddings.num_patches
        order = uniform(part.keys, (patches,), Stream.MASK)
        pixels = self.normalise(part.images)
        output = self.mae(pixels, noise=order)
        error = (output.logits.float() - self.targets(pixels)).square().mean(-1)
        masked = (error * output.mask).sum() / output.mask.sum()
        visible = (error * (1 - output.mask)).sum() / (1 - output.mask).sum()
        loss = masked + self.visible_weight * visible
        terms.add(loss=loss, masked=masked, visible=visible)
        return loss

    def targets(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n d"]:
        """The pixels of each patch, normalised per patch if the configuration says so (MAE, section 3)."""
        target = self.mae.patchify(pixels)
        if not self.architecture["norm_pix_loss"]:
            return target
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        return (target - mean) / (variance + 1e-6).sqrt()

    def normalise(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """RGB in [0, 1] to the encoder's own mean and std."""
        return (images - self.pixel_mean) / self.pixel_std

    @property
    def trained(self) -> nn.Module:
        """The encoder and the decoder, both trained."""
        return self.mae

    def parameter_groups(self) -> ParameterGroups:
        """Trained parameters in groups: matrices are those of both networks' blocks, and of the layer between."""
        return group_parameters(self.mae, edges=("vit.embeddings", "decoder.decoder_pred"))

    def split(self, batch: dict[str, Tensor]) -> Iterator[MicroBatch]:
        """Split a batch into micro-batches of images and keys."""
        return self.images(batch)

    def state_parts(self) -> dict[str, nn.Module]:
        """The autoencoder and its average, for a checkpoint."""
        return {"mae": self.mae, "ema": self.ema.average}

    def describe(self) -> dict[str, Any]:
        """The architecture, as transformers' ViTMAEConfig arguments."""
        return {"architecture": self.architecture}

    def networks(self) -> dict[str, nn.Module | None]:
        """The networks of the summary."""
        return {"MAE": self.mae, "EMA": self.ema}

    def plan(self) -> list[str]:
        """Plan of the run: what will happen when, in steps."""
        return [self.schedule.describe()]

    def export(self, folder: Path, provenance: dict[str, Any]) -> None:
        """Write the averaged encoder as a transformers folder, which ``model.encoder.weights=FOLDER`` reads.

        ``unirae.json`` comes last: it marks the folder as complete and as trained here.
        """
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        average: Any = self.ema.average
        average.save_pretrained(folder)
        size = self.architecture["image_size"]
        write_json(
            folder / "preprocessor_config.json",
            {
                "image_processor_type": "ViTImageProcessor",
                "image_mean": self.pixel_mean.flatten().tolist(),
                "image_std": self.pixel_std.flatten().tolist(),
                "size": {"height": size, "width": size},
            },
        )
        write_json(folder / "unirae.json", provenance)


class EncoderExport(pl.Callback):
    """Callback that exports the encoder into ``folder``, where stage 1 finds it, when training has ended."""

    def __init__(self, *, folder: str | Path, data: str, seed: int) -> None:
        self.folder, self.data, self.seed = Path(folder), data, seed

    def on_train_end(self, trainer: pl.Trainer, module: MaePretraining) -> None:
        """Export the EMA weights, with a record of where they come from."""
        if is_main():
            provenance = {
                "unirae": __version__,
                "trained_by": "MAE pretraining",
                "data": self.data,
                "steps": trainer.global_step,
                "seed": self.seed,
            }
            module.export(self.folder, provenance)
            log.info("encoder written to %s", self.folder)
