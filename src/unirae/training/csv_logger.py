"""``csv/metrics.csv``: one row per logged step, appended to by a resumed run."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unirae.core.arguments import argument
from unirae.core.errors import UserError
from unirae.core.io import write_atomically


class MetricsCsv(Logger):
    """Rows keyed by ``step``; scores that arrive for a step that has a row join it.

    A resumed run drops the rows after the step it resumes from (they will be made again) and appends. A new
    column rewrites the file atomically, and so does a value for the step that was written last (a resumed run catches
    up on scores); otherwise rows are appended, so a killed run keeps what it logged.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.columns: list[str] = ["step"]
        self._row: dict[str, Any] = {}
        self._written: dict[str, Any] = {}  # the last row of the file

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Version of the logger: empty, for a run has one file."""
        return ""

    @rank_zero_only
    def start_from(self, step: int) -> None:
        """Keep the rows of an earlier part of this run up to ``step``; 0 starts afresh."""
        found = read_metrics(self.path) if step > 0 and self.path.exists() else []
        kept = {
            int(row["step"]): row for row in found if int(row["step"]) <= step
        }  # of each step the last row
        rows = list(kept.values())
        for row in rows:
            self.columns += [name for name in row if name not in self.columns]
        self._rewrite(rows)
        self._written = {**rows[-1], "step": int(rows[-1]["step"])} if rows else {}

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of ``step``."""
        values = {name: float(value) for name, value in metrics.items() if name not in ("epoch", "step")}
        if not values:
            return
        if self._row and self._row["step"] != step:
            self.save()
        self._row = {**self._row, "step": step, **values} if self._row else {"step": step, **values}

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore hyperparameters: the resolved configuration has its own file."""

    @rank_zero_only
    def save(self) -> None:
        """Write the pending row."""
        row, self._row = self._row, {}
        if not row:
            return
        new = [name for name in row if name not in self.columns]
        again = self._written.get("step") == row["step"]
        if again:
            row = {**self._written, **row}
        if new or again or not self.path.exists():
            self.columns += sorted(new)
            before: list[dict[str, Any]] = list(read_metrics(self.path)) if self.path.exists() else []
            self._rewrite([*(before[:-1] if again else before), row])
        else:
            try:
                with open(self.path, "a", newline="") as file:
                    csv.DictWriter(file, self.columns, restval="").writerow(row)
            except OSError as error:
                raise UserError(
                    f"cannot write {self.path}: {error.strerror}. Free some space; "
                    f"{argument('ckpt_path', 'last')} then continues"
                ) from error
        self._written = row

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is pending at the end of a run."""
        self.save()

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, lambda file: file.write(text.getvalue().encode()))


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """The rows of a metrics file, oldest first; a half-written last line is left out."""
    with open(path, newline="") as file:
        whole_lines = [line for line in file if line.endswith("\n")]
    rows = csv.DictReader(whole_lines)
    return [row for row in rows if row.get("step") and None not in row.values() and None not in row]
