"""``python src/train.py experiment=NAME [key=value …]``: train one experiment, from the first step or a later one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app import cli
from unirae.app.config import config_dir, experiments
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from unirae.app.from_python import PerceptualLoss

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
    """Compose the configuration with Hydra and train."""
    if {"-h", "--help"} & set(sys.argv[1:]):  # Hydra's own would need an experiment first
        sys.stdout.write(_HELP.format(experiments=", ".join(experiments())))
        return 0
    if not any(word.startswith("-") for word in sys.argv[1:]):  # a plain run: its mistakes are one line each
        from unirae.app.composition import compose

        if status := cli.run(lambda: compose(sys.argv[1:])):
            return status
    import hydra
    from omegaconf import DictConfig

    status = 0

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
    def compose_and_train(cfg: DictConfig) -> float | None:
        nonlocal status
        score: dict[str, float | None] = {}
        status = max(status, cli.run(lambda: score.update(value=train_composed(cfg))))
        return score.get("value")

    compose_and_train()
    return status


def train_composed(cfg: Any) -> float | None:
    """Train a configuration that Hydra composed; returns the score named by ``optimized_metric``."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from unirae.app.composition import finish

    hydra_cfg = HydraConfig.get()
    choices, overrides = dict(hydra_cfg.runtime.choices), list(hydra_cfg.overrides.task)
    config = finish(cfg, choices=choices, overrides=overrides)
    made_by_hydra = Path(hydra_cfg.runtime.output_dir)
    multirun = hydra_cfg.mode == RunMode.MULTIRUN
    scores = train_resolved(
        config,
        experiment=choices["experiment"],
        overrides=overrides,
        output_dir=made_by_hydra if multirun else None,
        made_by_hydra=made_by_hydra,
    )
    metric = config["optimized_metric"]
    if metric and metric not in scores:
        raise ConfigError(f"optimized_metric={metric}: this run has the scores {', '.join(sorted(scores))}")
    return scores[metric] if metric else None


def train_resolved(
    config: dict[str, Any],
    *,
    experiment: str,
    overrides: list[str],
    output_dir: Path | None = None,
    made_by_hydra: Path | None = None,
    perceptual: "PerceptualLoss | None" = None,
) -> dict[str, float]:
    """Find out where to begin and where to write, then :func:`train`; the folder is then in ``config``.

    Args:
        overrides: what the user set, to tell a wished folder from a default one.
        output_dir: where to write, if not where ``config`` says.
        made_by_hydra: a folder to remove where it is not the run's and empty.
    """
    from unirae.app.run_dir import resolve_resume

    checkpoint, folder = resolve_resume(
        config["ckpt_path"],
        output_dir=output_dir or Path(config["paths"]["output_dir"]),
        output_dir_given=_names_output_dir(config, overrides),
        experiment=experiment,
    )
    if made_by_hydra and made_by_hydra.resolve() != folder.resolve() and not any(made_by_hydra.iterdir()):
        made_by_hydra.rmdir()
    config["paths"]["output_dir"] = str(folder)
    return train(config, experiment=experiment, checkpoint=checkpoint, perceptual=perceptual)


def train(
    config: dict[str, Any],
    *,
    experiment: str,
    checkpoint: Path | None = None,
    perceptual: "PerceptualLoss | None" = None,
) -> dict[str, float]:
    """Train a resolved configuration; returns the newest scores by name.

    Args:
        config: as composed, without interpolations.
        experiment: its name, for the log and for ``ckpt_path=last``.
        checkpoint: to continue from; None starts afresh.
        perceptual: stage 1's perceptual loss in place of the configured one.
    """
    output_dir = Path(config["paths"]["output_dir"])
    cli.configure_logging(output_dir / "train.log", rank=_launch_rank())

    from unirae.app.assembly import assemble
    from unirae.core.hardware import map_large_blocks
    from unirae.core.weights import weights_of_run

    cli.quiet_libraries()
    with weights_of_run(config["weights_dir"], experiment=experiment):
        run = assemble(config, experiment=experiment, checkpoint=checkpoint, perceptual=perceptual)
        map_large_blocks()
        run.fit()
    return run.scores


def _names_output_dir(config: dict[str, Any], overrides: list[str]) -> bool:
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
