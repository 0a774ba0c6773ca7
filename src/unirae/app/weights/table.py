"""The table of the weights that an experiment loads, and the log of a download."""

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from unirae.app.weights.catalogue import Catalogue, Need
from unirae.app.weights.hub import HuggingFaceHub
from unirae.app.weights.store import Store
from unirae.core.download import Progress, hash_in_name, remote_size
from unirae.core.errors import WeightsError
from unirae.core.log import get_logger
from unirae.core.weights import may_ask_network

log = get_logger(__name__)

_READABLE_WIDTH = 150


def show(experiment: str, catalogue: Catalogue, store: Store | None, hub: HuggingFaceHub) -> None:
    """Show the table, and what the user must bring besides."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_READABLE_WIDTH)
    if not catalogue.needs:
        console.print(f"experiment={experiment} loads no published weights.")
    else:
        table = Table(title=f"experiment={experiment}")
        for header in ("what", "source", "size", "licence", "SHA-256", "in DIR", "there"):
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


def _row(need: Need, store: Store | None, hub: HuggingFaceHub) -> list[str]:
    stored = [] if store is None else store.files(need)
    if stored:
        size, licence = sum(file.size or 0 for file in stored), store.licence(need) if store else None
    else:
        size, licence = _asked(need, hub)
    largest = max(stored, key=lambda file: file.size or 0).sha256 if stored else hash_in_name(need.place)
    return [
        need.what,
        need.source,
        "unknown" if size is None else decimal(size),
        licence or "unknown; see its page",
        f"{largest[:12]}…" if largest else "unknown until fetched",
        need.place + ("" if need.is_file else "/"),
        "–" if store is None else store.state(need),
    ]


def _asked(need: Need, hub: HuggingFaceHub) -> tuple[int | None, str | None]:
    """Size and licence of a need that is not here: as published, else as the server says, else unknown."""
    if not may_ask_network() or (need.size is not None and need.licence is not None):
        return need.size, need.licence
    if need.is_file:
        return need.size or remote_size(need.source), need.licence
    try:
        listing = hub.listing(need.source, tokenizer=need.tokenizer)
    except WeightsError as error:
        log.warning("%s", error)
        return None, need.licence
    return listing.size, need.licence or listing.licence


def bytes_in_log(need: Need) -> Progress:
    """Log a line at every tenth of a file: readable on a terminal and in the log of a job."""
    said = 0

    def note(here: int, whole: int | None) -> None:
        nonlocal said
        tenth = 10 * here // whole if whole else 0
        if tenth > said and whole:
            said = tenth
            log.info("%s: %s of %s", need.place, decimal(here), decimal(whole))

    return note
