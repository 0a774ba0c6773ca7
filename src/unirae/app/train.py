"""``python src/train.py experiment=NAME [key=value …]``: train one experiment, from the first step or a later one."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app import cli
from unirae.app.config import experiments
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from unirae.app.composition import Composition
    from unirae.app.own_parts import OwnParts

_HELP = """\
usage: python src/train.py experiment=NAME [key=value …]

experiments:  {experiments}
often set:    paths.output_dir=DIR  ckpt_path=last|FILE  seed=N  data.data_dir=DIR  data.global_batch_size=N
              trainer.max_steps=N  trainer.devices=N  model.encoder.weights=hub|random|DIR  weights_dir=DIR
looking only: --cfg job prints the configuration of a command, --hydra-help tells of Hydra's own options
debugging:    debug=default|overfit|profiler|limit|fdr
sweeps:       -m key=a,b,c runs every combination

The files of configs/experiment start with what they do and cost.
"""


def main() -> int:
    """Compose the configuration with Hydra and train; 2 after a mistake in the command."""
    if {"-h", "--help"} & set(sys.argv[1:]):  # Hydra's own would need an experiment first
        sys.stdout.write(_HELP.format(experiments=", ".join(experiments())))
        return 0
    status: list[int] = []
    return max(cli.run(lambda: _start(sys.argv[1:], status)), *status, 0)


def _start(arguments: list[str], status: list[int]) -> None:
    """Train what the command line says; the mistakes of a sweep's runs go to ``status``."""
    from unirae.app.composition import compose_run
    from unirae.app.hydra_shell import check_sweep, read_arguments, run_hydra

    request = read_arguments(arguments)
    if request.asks_hydra:
        return run_hydra(arguments, None)
    if request.multirun:
        check_sweep(request.overrides)
    else:
        composition = compose_run(request.overrides)
        if not request.shows and not composition.multirun:
            scored(composition)
            return None

    def one_of_many(composition: "Composition", folder: Path) -> float | None:
        score: dict[str, float | None] = {}
        status.append(cli.run(lambda: score.update(value=scored(composition, folder=folder))))
        return score.get("value")

    return run_hydra(request.for_hydra, one_of_many)


def scored(composition: "Composition", *, folder: Path | None = None) -> float | None:
    """Train what a command line composes to; returns the score named by ``optimized_metric``."""
    scores = train_composed(composition, folder=folder)
    metric = composition.config["optimized_metric"]
    if metric and metric not in scores:
        raise ConfigError(f"optimized_metric={metric}: this run has the scores {', '.join(sorted(scores))}")
    return scores[metric] if metric else None


def train_composed(
    composition: "Composition", *, folder: Path | None = None, own: "OwnParts | None" = None
) -> dict[str, float]:
    """Find out where to begin and where to write, then :func:`train`; the folder is then in the configuration.

    Args:
        folder: of a sweep's run, in place of ``paths.output_dir``.
        perceptual: as for :func:`train`.
    """
    from unirae.app.run_dir import resolve_resume

    config = composition.config
    checkpoint, output_dir = resolve_resume(
        config["ckpt_path"],
        output_dir=folder or Path(config["paths"]["output_dir"]),
        output_dir_given=_names_output_dir(config, composition.overrides),
        experiment=composition.experiment,
    )
    config["paths"]["output_dir"] = str(output_dir)
    return train(config, experiment=composition.experiment, checkpoint=checkpoint, own=own)


def train(
    config: dict[str, Any],
    *,
    experiment: str,
    checkpoint: Path | None = None,
    own: "OwnParts | None" = None,
) -> dict[str, float]:
    """Train a resolved configuration; returns the newest scores by name.

    Args:
        config: as composed, without interpolations.
        experiment: its name, for the log and for ``ckpt_path=last``.
        checkpoint: to continue from; None starts afresh.
        own: parts in place of configured ones.
    """
    output_dir = Path(config["paths"]["output_dir"])
    cli.configure_logging(output_dir / "train.log", rank=_launch_rank())

    from unirae.app.assembly import assemble
    from unirae.core.hardware import map_large_blocks
    from unirae.core.weights import weights_of_run

    cli.quiet_libraries()
    with weights_of_run(config["weights_dir"], experiment=experiment):
        run = assemble(config, experiment=experiment, checkpoint=checkpoint, own=own)
        map_large_blocks()
        run.fit()
    return run.scores


def _names_output_dir(config: dict[str, Any], overrides: Sequence[str]) -> bool:
    """Whether the command line or the experiment says where the run goes; else it is a new default folder."""
    from unirae.app.run_dir import RUNS

    given = any(override.lstrip("+").startswith("paths.output_dir=") for override in overrides)
    return given or Path(config["paths"]["output_dir"]).parent != RUNS


def _launch_rank() -> int:
    """This process's number before any process group exists (torchrun, Lightning or srun set it)."""
    import os

    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return int(next((os.environ[name] for name in names if name in os.environ), "0"))


if __name__ == "__main__":
    sys.exit(main())
