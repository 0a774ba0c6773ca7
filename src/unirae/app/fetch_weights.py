"""``python src/fetch_weights.py --experiment NAME --to DIR``: everything that an experiment loads, in one folder.

``weights_dir=DIR`` (for other commands: ``UNIRAE_WEIGHTS_DIR=DIR``) then makes the run work without a network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.config.schema.kinds import OutputFolder
from unirae.app.shell import cli
from unirae.app.shell.options import Flag, command
from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from unirae.app.weights.catalogue import Catalogue
    from unirae.app.weights.hub import HuggingFaceHub
    from unirae.app.weights.store import Store


@dataclass(frozen=True, kw_only=True)
class Options:
    """List and fetch the weights that an experiment loads, to carry them to a machine without a network.

    There, train with weights_dir=DIR, and set UNIRAE_WEIGHTS_DIR=DIR for the other commands. Without --to, or with
    --list, nothing is fetched. What is there and whole stays; what was interrupted continues.
    """

    experiment: str
    """Name of the experiment, as in python src/train.py experiment=NAME."""
    to: OutputFolder | None = None
    """The folder to fetch into."""
    list: Flag = False
    """Only show what would be fetched."""
    overrides: tuple[str, ...] = ()
    """Changes of the configuration, as on the command line of training: model/encoder=mae callbacks.x.y=z."""
    evaluation: Flag = False
    """Also fetch what the evaluation commands load: Inception, VGG-16 and the DINOv2-L of FD-DINOv2."""


def run(options: Options, *, hub: "HuggingFaceHub | None" = None) -> None:
    """Show the table of weights; fetch what is missing and show the table again.

    Raises:
        WeightsError: If something is missing and the network may not be asked, or if a download fails.
    """
    cli.configure_logging()
    from unirae.app.config.composition import compose
    from unirae.app.weights.catalogue import catalogue_of
    from unirae.app.weights.hub import HuggingFaceHub
    from unirae.app.weights.store import Store, fetch_all
    from unirae.app.weights.table import bytes_in_log, show
    from unirae.core.log import get_logger
    from unirae.core.weights import may_ask_network, weights_dir

    cli.quiet_libraries()
    config = compose([f"experiment={options.experiment}", *options.overrides])
    catalogue = catalogue_of(config, evaluation=options.evaluation)
    folder = options.to or (Path(config["weights_dir"]) if config["weights_dir"] else weights_dir())
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--to {folder} is a file; name a folder")
    hub = hub or HuggingFaceHub()
    store = None if folder is None else Store(folder.expanduser(), hub)
    if store is not None and options.to is not None and not options.list:
        if not may_ask_network():
            _check_offline(options, catalogue, store)
        fetch_all(store, catalogue.needs, progress=bytes_in_log, say=get_logger(__name__).info)
    show(options.experiment, catalogue, store, hub)


main = command(Options, run)


def _check_offline(options: Options, catalogue: "Catalogue", store: "Store") -> None:
    from unirae.core.weights import command

    missing = [need for need in catalogue.needs if not store.is_whole(need)]
    if missing:
        listed = "; ".join(f"{need.what}: {store.folder / need.place} from {need.source}" for need in missing)
        overrides = f" --overrides {' '.join(options.overrides)}" if options.overrides else ""
        raise WeightsError(
            f"HF_HUB_OFFLINE is set, so the network may not be asked. Missing or damaged: {listed}. Where there is a "
            f"network: {command(store.folder, experiment=options.experiment)}{overrides}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
