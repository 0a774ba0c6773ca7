"""Checkpoint files: written whole or not at all, read without running code."""

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from unirae.core.io import load_tensors, save_tensors
from unirae.models.checkpoints.reading import Checkpoint


class SafeCheckpointIO(CheckpointIO):
    """Checkpoints of Lightning through :mod:`unirae.core.io`.

    Args:
        opened: the checkpoint that a run continues, which is handed over instead of being read again.
    """

    def __init__(self, opened: Checkpoint | None = None) -> None:
        self._opened = opened

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint atomically."""
        save_tensors(path, checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> Any:
        """Read onto the CPU, tensors and plain values only, whatever ``weights_only`` says."""
        opened, self._opened = self._opened, None
        if opened is not None and opened.file == Path(path):
            return opened.content
        return load_tensors(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint if there is one."""
        Path(path).unlink(missing_ok=True)
