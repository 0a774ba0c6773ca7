"""The options of ``evaluate.py``."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unirae.app.config.schema.kinds import Count, OutputFile, Range, Size, Workers
from unirae.app.inputs.features import EncoderOptions
from unirae.app.inputs.sampler_options import SamplingOptions
from unirae.app.shell.options import Flag, Switch

DEFAULT_METRICS = "fid,is,precision,recall"


@dataclass(frozen=True, kw_only=True)
class Options(EncoderOptions, SamplingOptions):
    """FID and its relatives of a set of images against another one.

    Writes scores, their uncertainty and every setting as JSON. Run it under torchrun to use several devices; the
    scores stay the same. Which score to report, and against what: docs/evaluation.md. The options of sampling
    (--cfg_scale, --num_steps, --seed and their like) count only where --images is a stage-2 checkpoint.
    """

    images: str
    """A folder of images, an npz (arr_0), a Hugging Face dataset, a name in configs/data; or a checkpoint of
    stage 1 (its reconstructions) or of stage 2 (its samples), or the folder of a run."""
    reference: str | None = None
    """What to compare with: images as above; or an npz or pt with mu and sigma (ADM, pytorch-fid, torch-fidelity),
    or a file of make_reference.py."""
    metrics: str | None = None
    """Of fid, sfid, is, kid, precision, recall, density, coverage, fd (see --encoder), psnr, ssim, lpips. Default:
    fid,is,precision,recall; of a stage-1 checkpoint rfid,psnr,ssim,lpips."""
    output: OutputFile | None = None
    """The JSON file with scores and settings. Default: outputs/evaluation/….json, of a checkpoint eval/….json in its
    run's folder; named by what decides the scores, so that only the same evaluation writes the same file."""
    inception_weights: str = "hub"
    """hub (torch's cache or a download), random (says so in the scores' names), or torch-fidelity's file."""
    lpips_weights: str = "hub"
    """hub, random, or torchvision's VGG-16 file."""
    images_split: str | None = None
    """Which split of a data set, or which folder below the folder."""
    reference_split: str | None = None
    """The same of the reference."""
    size: Size | None = None
    """Crop the images of both to so many pixels as ADM does: one number for a square, or height and width. Default: as
    they are, all of one size."""
    num_samples: Count | None = None
    """A seeded random subset of the images; of a stage-2 checkpoint how many to sample (default 50,000)."""
    reference_samples: Count | None = None
    """A seeded random subset of the reference's images."""
    is_order: Literal["shuffled", "file"] = "shuffled"
    """Of the images in the Inception Score's ten parts: as torch-fidelity, or as ADM's evaluator takes them."""
    confidence: Literal["none", "bootstrap", "extrapolate"] = "none"
    """Of Fréchet distances: their spread over resamples, or their limit at infinitely many images."""
    resamples: Annotated[int, Range(2, 100_000)] = 20
    """Of a bootstrap."""
    cache: Switch = True
    """Keep references that were computed in the user's cache folder, and look for them there."""
    verify_contents: Flag = False
    """Find kept references by every byte of the images' files, also where there are many (docs/data.md)."""
    num_workers: Workers | None = None
    """Processes that read images. Default: one for each core, at most four, from 1,000 images on."""
