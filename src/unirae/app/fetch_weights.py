"""``python src/fetch_weights.py --experiment NAME --to DIR``: everything that an experiment loads, in one folder.

``weights_dir=DIR`` (for other commands: ``UNIRAE_WEIGHTS_DIR=DIR``) then makes the run work without a network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.config.schema.kinds import OutputFolder
from unirae.app.shell import cli
from unirae.app.shell.options import Flag, parse
from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from unirae.app.weights.catalogue import Catalogue, Need
    from unirae.app.weights.hub import Hub
    from unirae.app.weights.store import Store
    from unirae.core.download import Progress

_READABLE_WIDTH = 150


@dataclass(frozen=True, kw_only=True)
class Options:
    """List and fetch the weights that an experiment loads, to carry them to a machine without a network.

    There, train with weights_dir=DIR, and set UNIRAE_WEIGHTS_DIR=DIR for the other commands. Without --to, or with
    --list, nothing is fetched. What is there and whole stays; what was interrupted continues.
    """

    experiment: str
    """As in python src/train.py experiment=NAME."""
    to: OutputFolder | None = None
    """The folder to fetch into."""
    list: Flag = False
    """Only show what would be fetched."""
    overrides: tuple[str, ...] = ()
    """Of the configuration, as on the command line of training: model/encoder=mae callbacks.x.y=z."""
    evaluation: Flag = False
    """Also what the evaluation commands load: Inception, VGG-16 and the DINOv2-L of FD-DINOv2."""


def main() -> int:
    """Parse, list and fetch, and turn mistakes into one line."""
    options = parse(Options)
    return cli.run(lambda: run(options))


def run(options: Options, *, hub: "Hub | None" = None) -> None:
    """Show the table; fetch what is missing and show it again."""
    cli.configure_logging()
    from unirae.app.config.composition import compose
    from unirae.app.weights.catalogue import catalogue_of
    from unirae.app.weights.hub import HuggingFaceHub
    from unirae.app.weights.store import Store
    from unirae.core.weights import weights_dir

    cli.quiet_libraries()
    config = compose([f"experiment={options.experiment}", *options.overrides])
    catalogue = catalogue_of(config, evaluation=options.evaluation)
    folder = options.to or (Path(config["weights_dir"]) if config["weights_dir"] else weights_dir())
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--to {folder} is a file; name a folder")
    hub = hub or HuggingFaceHub()
    store = None if folder is None else Store(folder.expanduser(), hub)
    if options.list or options.to is None or store is None:
        show(options.experiment, catalogue, store, hub)
        return
    fetch(options, catalogue, store)
    show(options.experiment, catalogue, store, hub)


def fetch(options: Options, catalogue: "Catalogue", store: "Store") -> None:
    """Fetch, if the network may be asked; whether everything is there is checked in any case.

    Raises:
        WeightsError: the network may not be asked and something is missing, or something cannot be had.
    """
    from unirae.app.weights.store import fetch_all
    from unirae.core.log import get_logger
    from unirae.core.weights import may_ask_network

    if not may_ask_network():
        missing = [need for need in catalogue.needs if not store.is_whole(need)]
        if missing:
            listed = "; ".join(
                f"{need.what}: {store.folder / need.place} from {need.source}" for need in missing
            )
            overrides = f" --overrides {' '.join(options.overrides)}" if options.overrides else ""
            command = f"python src/fetch_weights.py --experiment {options.experiment} --to {store.folder}{overrides}"
            raise WeightsError(
                f"HF_HUB_OFFLINE is set, so the network may not be asked. Missing or damaged: {listed}. Where there is "
                f"a network: {command}"
            )
    fetch_all(store, catalogue.needs, progress=_bytes_in_log, say=get_logger(__name__).info)


def show(experiment: str, catalogue: "Catalogue", store: "Store | None", hub: "Hub") -> None:
    """The table, and what the user must bring besides."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_READABLE_WIDTH)
    if not catalogue.needs:
        console.print(f"experiment={experiment} loads no published weights.")
    else:
        headers = ("what", "source", "size", "licence", "SHA-256", "in DIR", "there")
        table = Table(title=f"experiment={experiment}")
        for header in headers:
            table.add_column(header, overflow="fold")
        for need in catalogue.needs:
            table.add_row(*_row(need, store, hub))
        console.print(table)
    for note in catalogue.notes:
        console.print(f"Besides: {note}")
    if catalogue.needs and store is not None:
        console.print(
            f"Use: python src/train.py experiment={experiment} weights_dir={store.folder}", soft_wrap=True
        )


def _row(need: "Need", store: "Store | None", hub: "Hub") -> list[str]:
    from unirae.core.download import hash_in_name

    stored = [] if store is None else store.files(need)
    if stored:
        size, licence = sum(file.size for file in stored), store.licence(need) if store else None
    else:
        size, licence = _asked(need, hub)
    largest = max(stored, key=lambda file: file.size).sha256 if stored else hash_in_name(need.place)
    return [
        need.what,
        need.source,
        "unknown" if size is None else _readable(size),
        licence or "unknown; see its page",
        f"{largest[:12]}…" if largest else "unknown until fetched",
        need.place + ("" if need.is_file else "/"),
        "–" if store is None else store.state(need),
    ]


def _asked(need: "Need", hub: "Hub") -> tuple[int | None, str | None]:
    """Size and licence of what is not here: as published, else as the server says, else unknown."""
    from unirae.core.download import remote_size
    from unirae.core.weights import may_ask_network

    if not may_ask_network() or (need.size is not None and need.licence is not None):
        return need.size, need.licence
    if need.is_file:
        return need.size or remote_size(need.source), need.licence
    try:
        listing = hub.listing(need.source)
    except WeightsError as error:
        from unirae.core.log import get_logger

        get_logger(__name__).warning("%s", error)
        return None, need.licence
    return listing.size, need.licence or listing.licence


def _bytes_in_log(need: "Need") -> "Progress":
    """A line in the log at every tenth of a file: readable on a terminal and in the log of a job."""
    from unirae.core.log import get_logger

    said = 0

    def note(here: int, whole: int | None) -> None:
        nonlocal said
        tenth = 10 * here // whole if whole else 0
        if tenth > said and whole:
            said = tenth
            get_logger(__name__).info("%s: %s of %s", need.place, _readable(here), _readable(whole))

    return note


def _readable(size: int) -> str:
    """Bytes with a decimal unit, as hubs show them: ``553 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


if __name__ == "__main__":
    raise SystemExit(main())
