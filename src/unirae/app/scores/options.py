"""The options of ``evaluate.py``."""

from dataclasses import dataclass

from unirae.app.config.schema.kinds import Count, OutputFile, Size
from unirae.app.inputs.clip import StoredPromptOptions
from unirae.app.inputs.fdr import FdrReferenceOptions
from unirae.app.inputs.features import EncoderOptions
from unirae.app.inputs.options import ReferenceOptions
from unirae.app.inputs.sampler_options import SamplingOptions

DEFAULT_METRICS = "fid,is,precision,recall"


@dataclass(frozen=True, kw_only=True)
class Options(StoredPromptOptions, EncoderOptions, FdrReferenceOptions, ReferenceOptions, SamplingOptions):
    """Score a set of images against another one: FID and its relatives.

    Writes scores, their uncertainty and every setting as JSON. Run it under torchrun to use several devices; the
    scores stay the same. Which score to report, and against what: docs/evaluation.md. The options of sampling
    (--cfg_scale, --num_steps, --seed and their like) count only where --images is a stage-2 checkpoint.
    """

    images: str
    """A folder of images, an npz (arr_0), a Hugging Face dataset (a folder, a parquet file or a hub name), a name in
    configs/data; or a checkpoint of stage 1 (its reconstructions) or of stage 2 (its samples), a run's folder or an
    exported one."""
    reference: str | None = None
    """Reference to compare with: images as above; or an npz or pt with mu and sigma (ADM, pytorch-fid, torch-fidelity),
    or a file of make_reference.py."""
    metrics: str | None = None
    """The scores, comma-separated: fid, sfid, is, kid, mind, precision, recall, density, coverage, fdr6 (see
    --fdr_references), fd and mind_fd (see --encoder), clip_score (see --clip), psnr, ssim, lpips. Default:
    fid,is,precision,recall; of a stage-1 checkpoint rfid,psnr,ssim,lpips."""
    output: OutputFile | None = None
    """The JSON file with scores and settings. Default: outputs/evaluation/….json; of a checkpoint eval/….json in its
    run's folder. The default name depends on all that decides the scores, so only the same evaluation overwrites it."""
    lpips_weights: str = "hub"
    """Weights of LPIPS's VGG-16: hub, random, or the path of torchvision's file."""
    images_split: str | None = None
    """Split of the data set that --images names, or a folder below the folder that it names."""
    size: Size | None = None
    """Size in pixels to which both sets of images are cropped as ADM does: one number for a square, or height and
    width. Default: images as they are, all of one size."""
    num_samples: Count | None = None
    """Images in a seeded random subset of --images; of a stage-2 checkpoint the number to sample (default 50,000)."""
    reference_samples: Count | None = None
    """Images in a seeded random subset of the reference."""
