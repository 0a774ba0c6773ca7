"""``python src/train.py experiment=NAME [key=value …]``: train one experiment, from the first step or a later one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.config.targets import experiments
from unirae.app.shell import cli
from unirae.core import stopping

if TYPE_CHECKING:
    from unirae.app.config.composition import Composition

_HELP = """\
usage: {program} experiment=NAME [key=value …]

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
        program = sys.argv[0] if sys.argv[0].startswith("unirae ") else "python src/train.py"
        sys.stdout.write(_HELP.format(program=program, experiments=", ".join(experiments())))
        return 0
    status: list[int] = []
    return max(cli.run(lambda: _start(sys.argv[1:], status)), *status, 0)


def _start(arguments: list[str], status: list[int]) -> None:
    """Train what the command line says; the mistakes of a sweep's runs go to ``status``."""
    from unirae.app.config.composition import compose_run
    from unirae.app.config.hydra_shell import check_sweep, read_arguments, run_hydra
    from unirae.app.run import training

    request = read_arguments(arguments)
    if request.asks_hydra:
        return run_hydra(arguments, None)
    if request.multirun:
        check_sweep(request.overrides)
    else:
        composition = compose_run(request.overrides)
        if not request.shows and not composition.multirun:
            training.scored(composition)
            return None

    def one_of_many(composition: "Composition", folder: Path) -> float | None:
        score: dict[str, float | None] = {}
        status.append(cli.run(lambda: score.update(value=training.scored(composition, folder=folder))))
        if status[-1] == stopping.STATUS:
            sys.exit(stopping.STATUS)  # and the other runs of the sweep do not begin
        return score.get("value")

    return run_hydra(request.for_hydra, one_of_many)


if __name__ == "__main__":
    sys.exit(main())
