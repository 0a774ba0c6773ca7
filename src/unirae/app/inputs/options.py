"""Options that several commands share: dataclasses to derive from, and what their values mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from unirae.app.config.schema.kinds import Range, Workers
from unirae.app.shell import cli
from unirae.app.shell.options import Flag, Switch

if TYPE_CHECKING:
    import torch

    from unirae.metrics.resampling import Confidence


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """The device of a command."""

    device: str = "auto"
    """Device to compute on: auto, cpu, cuda, cuda:1, mps."""
    num_threads: Annotated[int, Range(1, 4096)] | None = None
    """CPU threads of each process. Default: one for each core, also with several processes, since another number
    may change the last digits."""

    @contextmanager
    def computing(self) -> Iterator["torch.device"]:
        """Compute on the device within the block, as one of torchrun's processes if there are any; the first one logs.

        Raises:
            ConfigError: If the device is unknown or not there.
        """
        from unirae.app.shell.devices import computing, pick_device
        from unirae.core.distributed import rank

        cli.quiet_libraries()
        device = pick_device(self.device)
        with computing(device, num_threads=self.num_threads):
            cli.configure_logging(rank=rank())
            yield device


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """The processes of a command that reads images."""

    num_workers: Workers | None = None
    """Processes that read images. Default: one for each core, at most four, from 1000 images on."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(ReadingOptions):
    """The images of a command on a checkpoint."""

    data: str | None = None
    """emoji, photos, hf, image_folder, tar_shards, synthetic, or a folder. Default: what the checkpoint was
    trained on."""
    data_dir: Path | None = None
    """The folder of the data. Default: the one that the configuration names."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderOptions:
    """The autoencoder of a command."""

    checkpoint: Path
    """A stage-1 checkpoint, or the folder of a run."""
    encoder_weights: str | None = None
    """The encoder's weights, a folder or file. Default: where the checkpoint says."""


@dataclass(frozen=True, kw_only=True)
class InceptionOptions:
    """The network of most scores of sets of images."""

    inception_weights: str = "hub"
    """Weights of Inception: hub (torch's cache or a download), random (the scores' names say so), or the path of
    torch-fidelity's file."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(InceptionOptions):
    """The scores of sets of images, and how sure they are."""

    confidence: Literal["none", "bootstrap", "extrapolate"] = "none"
    """Uncertainty of Fréchet distances: bootstrap gives their spread over resamples, extrapolate their limit at
    infinitely many images."""
    resamples: Annotated[int, Range(2, 100_000)] = 20
    """Number of resamples of a bootstrap."""

    def confidence_with(self, seed: int) -> "Confidence | None":
        """The uncertainty that is asked for, with the seed of its resamples."""
        from unirae.metrics.resampling import Confidence

        if self.confidence == "none":
            return None
        return Confidence(method=self.confidence, resamples=self.resamples, seed=seed)


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions(ScoreOptions, ReadingOptions):
    """The reference of scores of sets of images."""

    reference_split: str | None = None
    """Split of the data set that --reference names, or a folder below the folder that it names."""
    is_order: Literal["shuffled", "file"] = "shuffled"
    """Order of the images in the Inception Score's ten parts: shuffled as in torch-fidelity, or file as in ADM's
    evaluator."""
    cache: Switch = True
    """Keep computed references in the user's cache folder, and look for them there."""
    verify_contents: Flag = False
    """Recognise kept references by every byte of the images' files, even where there are many (docs/data.md)."""


def run_folder(checkpoint: Path) -> Path:
    """The run's folder of a checkpoint, or the folder beside a checkpoint that lies elsewhere."""
    in_run = checkpoint.parent.name == "checkpoints"
    return checkpoint.parent.parent if in_run else checkpoint.parent
