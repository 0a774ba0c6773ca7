"""TensorBoard's files of a run: curves, pictures, and the configuration where its HPARAMS page looks for it."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.names import printable

_METRIC = "train/loss"
"""Score that the page shows beside the settings; it lists no run without one."""


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, with hyperparameters by the dotted names that the command line has.

    Lightning itself would log a curve ``hp_metric`` of −1 with them.

    Args:
        run_folder: the files go to ``tensorboard/`` in it.

    Raises:
        ConfigError: If the folder's path is not UTF-8, which TensorBoard's writer needs.
    """

    def __init__(self, run_folder: Path) -> None:
        if (shown := printable(str(run_folder))) != str(run_folder):
            raise ConfigError(
                f"{argument('run.output_dir', shown)}: TensorBoard needs a path in UTF-8; choose another folder, or "
                f"do without it by {argument('loggers.tensorboard', False)}"
            )
        super().__init__(run_folder, name="tensorboard", version="", default_hp_metric=False)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Write the settings into the event file and, anew, into ``hparams.yaml``.

        Args:
            params: a resolved configuration; a path's bytes that are not UTF-8 are written as escapes.
            metrics: none; the curves are logged as they come.
            step: of no meaning for settings.
        """
        from torch.utils.tensorboard.summary import hparams

        (Path(self.log_dir) / self.NAME_HPARAMS_FILE).unlink(missing_ok=True)  # of the run's earlier part
        params = _printable(params)
        super().log_hyperparams(params)
        summaries = hparams(dict(_dotted(params)), {_METRIC: None})
        for summary in summaries:
            self.experiment._get_file_writer().add_summary(summary)
        self.save()


def _printable(node: Any) -> Any:
    """Replace text that protobuf does not take: paths need not be UTF-8."""
    if isinstance(node, dict):
        return {key: _printable(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_printable(item) for item in node]
    return printable(node) if isinstance(node, str) else node


def _dotted(node: Any, above: str = "") -> list[tuple[str, float | str]]:
    """Leaves by their dotted names, as the page takes them: numbers, and of the rest the text that YAML has."""
    if isinstance(node, dict):
        return [pair for key, value in node.items() for pair in _dotted(value, f"{above}{key}.")]
    if node is None or isinstance(node, bool):
        node = {None: "null", True: "true", False: "false"}[node]
    return [(above.removesuffix("."), node if isinstance(node, int | float | str) else str(node))]
