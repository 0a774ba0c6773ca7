"""The options of the demo."""

from dataclasses import dataclass
from pathlib import Path

from unirae.app.config.schema.kinds import Count, NotNegative, OutputFolder, Seed, Steps


@dataclass(frozen=True)
class Options:
    """Train a tiny encoder, autoencoder and generator on the bundled emoji, sample, score, and write a report."""

    output_dir: OutputFolder = Path("outputs/demo")
    """The folder to write into: report.html, scores.json, pictures/, samples/, and a folder for each training part."""
    override: tuple[str, ...] = ()
    """Configuration for the training parts that have the key, such as trainer.max_steps=20 for a quick look, or for
    one of them: dit:trainer.max_steps=20 (encoder, rae, random_encoder, dit)."""
    cfg_scale: NotNegative = 2.0
    """Strength of the samples' guidance. 1 is no guidance."""
    num_steps: Steps = 50
    """Points of the samples' time grid."""
    seed: Seed = 0
    """Seed of the samples' noise."""
    classifier_epochs: Count = 20
    """Epochs of the classifier that judges the samples."""
