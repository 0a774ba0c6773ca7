"""Place of a model of the official code: the files that its YAML means, found, read and recorded."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import file_sha256
from unirae.models.interop.official.files import Which, read_weights


@dataclass(kw_only=True)
class OfficialModel:
    """Place of a model of the official code, and the choice of its weights.

    Attributes:
        config: its YAML file. Relative paths in it count from here, or from its folder or one above it.
        checkpoint: the weights of what the file trains, where it names none.
        weights: which of a training checkpoint's.
        encoder_weights: where the encoder's weights lie, if not where the file says.
        embed_encoder: put the encoder's weights into the folder, too.
        text_encoder: the folder or name of a generator's text encoder, if not what the file says.
        files: those that were read, for the record.
    """

    config: Path
    checkpoint: Path | None = None
    weights: Which = "ema"
    encoder_weights: str | None = None
    embed_encoder: bool = False
    text_encoder: str | None = None
    files: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, path: str, key: str) -> Path:
        """Find the file or folder that a path of the configuration means.

        Raises:
            WeightsError: If there is no such file or folder.
        """
        found = self.find_local(path)
        if found is None:
            raise WeightsError(
                f"{key}: no such file {path}, neither from here nor from the folder of {self.config} or one "
                "above it. The official files are fetched with: `hf download nyu-visionx/RAE-collections "
                "--local-dir models`"
            )
        return found

    def find_local(self, path: str) -> Path | None:
        """Find a file or folder like :meth:`find`; None where it is nowhere, so that it may be the name of a hub."""
        places = [Path(), *self.config.resolve().parents]
        known = [place / Path(path).expanduser() for place in places]
        return next((found for found in known if found.exists()), None)

    def source(self, path: str | None, key: str, *, what: str, missing: str, trained: bool) -> Path:
        """The file of weights that the configuration names, or the ``checkpoint`` of what it trains.

        Raises:
            ConfigError: If there are both, or neither; ``missing`` says what to do then.
            WeightsError: If there is no such file.
        """
        checkpoint = self.checkpoint if trained else None
        if checkpoint is not None and path is not None:
            raise ConfigError(
                f"two sources for {what}: {argument('checkpoint', checkpoint)} and {key}={path}; leave one out"
            )
        if checkpoint is not None:
            return checkpoint
        if path is None:
            raise ConfigError(missing)
        return self.find(path, key)

    def read(self, path: Path, key: str, *, trained: bool = False) -> dict[str, Tensor]:
        """The tensors of a file, which is recorded.

        Args:
            trained: it is what the configuration trains, which ``weights`` means; of all else the average is taken.

        Raises:
            WeightsError: If the file is missing or damaged.
        """
        path = path.expanduser()
        if not path.is_file():
            raise WeightsError(f"{key}: no such file {path}")
        self.files[key] = {"file": path.name, "sha256": file_sha256(path)}
        return read_weights(path, which=self.weights if trained else "ema")
