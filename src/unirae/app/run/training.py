"""A training run from its composed configuration: its start, its folder, and the run itself."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.run.run_dir import (
    RUNS,
    check_place,
    is_named_by_time,
    names_beside,
    prepare_folder,
    resolve_resume,
    without_trace,
)
from unirae.app.shell import cli
from unirae.core import stopping
from unirae.core.errors import RunFinished, RunInterrupted
from unirae.core.file_lock import BusyError
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from unirae.app.config.composition import Composition
    from unirae.app.run.assembly import Run
    from unirae.app.run.own_parts import OwnParts


def scored(composition: "Composition", *, folder: Path | None = None) -> float | None:
    """Train the composition of a command line; returns the score named by ``optimized_metric``."""
    scores = train_composed(composition, folder=folder)
    metric = composition.config["optimized_metric"]
    return scores.get(metric) if metric else None  # none where the run was finished before


def train_composed(
    composition: "Composition", *, folder: Path | None = None, own: "OwnParts | None" = None
) -> dict[str, float]:
    """Find out where to begin and where to write, then :func:`train`; the folder is then in the configuration.

    Args:
        folder: the folder of a sweep's run, in place of ``paths.output_dir``.
        own: the caller's parts in place of configured ones.

    Raises:
        BusyError: If another process trains in that folder, unless a run of one process can take a name beside it.
    """
    config = composition.config
    if folder is None:
        check_place(Path(config["paths"]["output_dir"]))
    checkpoint, output_dir = resolve_resume(
        config["ckpt_path"],
        output_dir=folder or Path(config["paths"]["output_dir"]),
        # by the command line or by the experiment; else it is a new default folder
        output_dir_given=_given(composition.overrides) or Path(config["paths"]["output_dir"]).parent != RUNS,
        experiment=composition.experiment,
    )
    chosen = checkpoint is not None or (folder is None and _given(composition.overrides))
    for free in names_beside(output_dir) if is_named_by_time(output_dir) and not chosen else [output_dir]:
        config["paths"]["output_dir"] = str(free)
        try:
            return train(config, experiment=composition.experiment, checkpoint=checkpoint, own=own)
        except BusyError as busy:  # by a run that started in the same second
            if cli.launch_size() > 1:  # the other processes would not know of another name
                raise BusyError(
                    f"{busy} with paths.output_dir=DIR, one for all processes of the run"
                ) from None
            if free == output_dir and (chosen or not is_named_by_time(output_dir)):
                raise
    raise AssertionError("names do not end")


def train(
    config: dict[str, Any],
    *,
    experiment: str,
    checkpoint: Path | None = None,
    own: "OwnParts | None" = None,
) -> dict[str, float]:
    """Train a resolved configuration; returns the newest scores by name.

    Args:
        config: the composed configuration, without interpolations.
        experiment: the experiment's name, for the log and for ``ckpt_path=last``.
        checkpoint: the checkpoint to continue from; None starts afresh.
        own: the caller's parts in place of configured ones.

    Raises:
        BusyError: If another process trains in the same folder.
        RunInterrupted: If the process was asked to stop.
    """
    output_dir, rank = Path(config["paths"]["output_dir"]), cli.launch_rank()
    runs: list[Run] = []
    trace = without_trace(output_dir, begun=lambda: any(run.has_begun for run in runs))
    with trace if rank == 0 else nullcontext():
        if rank == 0:
            prepare_folder(output_dir, is_new=checkpoint is None)
        cli.configure_logging(output_dir / "train.log", rank=rank)
        try:
            return _train(config, experiment=experiment, checkpoint=checkpoint, own=own, runs=runs)
        except RunFinished as end:
            get_logger(__name__).info("%s", end)
            return {}
        except KeyboardInterrupt:
            raise RunInterrupted(stopping.before_first_step(checkpoint)) from None


def _train(
    config: dict[str, Any],
    *,
    experiment: str,
    checkpoint: Path | None,
    own: "OwnParts | None",
    runs: "list[Run]",
) -> dict[str, float]:
    """Build a run, add it to ``runs``, and fit it."""
    from unirae.app.run.assembly import assemble
    from unirae.core.hardware import map_large_blocks
    from unirae.core.weights import weights_of_run

    cli.quiet_libraries()
    with weights_of_run(config["weights_dir"], experiment=experiment):
        run = assemble(config, experiment=experiment, checkpoint=checkpoint, own=own)
        runs.append(run)
        map_large_blocks()
        run.fit()
    get_logger(__name__).info(
        "finished after step %d: %s", run.trainer.global_step, config["paths"]["output_dir"]
    )
    return run.scores


def _given(overrides: Sequence[str]) -> bool:
    """True where the command line names the run's folder."""
    return any(override.lstrip("+").startswith("paths.output_dir=") for override in overrides)
