"""Scores on the console, by every command alike."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unirae.evaluation.scores.record import Scores


def show_and_write(result: "Scores", *, title: str, output: Path) -> None:
    """Show the table, then write the file: scores that took hours are seen, whatever becomes of the file.

    Raises:
        UserError: If the file cannot be written.
    """
    from unirae.core.log import get_logger
    from unirae.evaluation.scores.record import write_scores

    show(result, title=title)
    write_scores(output, result)
    get_logger(__name__).info("scores and settings: %s", output)


def show(result: "Scores", *, title: str) -> None:
    """Show the scores as a table, each as it should be quoted, with its uncertainty."""
    from rich.console import Console
    from rich.table import Table

    table = Table("score", "value", "±", title=title)
    for name, estimate in result.estimates.items():
        error = "" if estimate.standard_error is None else f"{estimate.standard_error:.2g}"
        table.add_row(result.label(name), f"{estimate.value:.4f}", error)
        limit = estimate.details.get("at_infinite_count")
        if limit is not None:
            own_error = estimate.details["of_the_limit"]["standard_error"]
            table.add_row(f"{name}, infinitely many images", f"{limit:.4f}", f"{own_error:.2g}")
    Console().print(table)
