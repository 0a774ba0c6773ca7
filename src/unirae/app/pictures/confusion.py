"""A confusion matrix as a picture, for a handful of classes or a thousand."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.pictures.plot_names import drawable
from unirae.core.io import write_atomically

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

_NUMBERED = 20
"""Most classes for which cells carry their percentage."""
_NAMED = 60
"""Most classes for which rows and columns carry their names."""
_LONGEST_NAME = 22


def save_confusion(path: str | Path, confusion: "Int64[Tensor, 'k k']", class_names: Sequence[str]) -> Path:
    """Write a confusion matrix as PNG: rows are true classes and add up to 100 %, columns are assigned classes."""
    figure = draw_confusion(confusion, class_names)
    return write_atomically(path, lambda file: figure.savefig(file, format="png"))


def draw_confusion(confusion: "Int64[Tensor, 'k k']", class_names: Sequence[str]) -> Any:
    """The figure of a confusion matrix; a row without images is white."""
    from matplotlib.figure import Figure

    classes, count = len(confusion), int(confusion.sum())
    shares = 100 * confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    side = min(12.0, 4.5 + 0.35 * classes)
    figure = Figure(figsize=(side + 0.8, side), dpi=150, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares.numpy(), vmin=0, vmax=100, cmap="Blues", interpolation="nearest")
    figure.colorbar(picture, ax=axes, label="% of the true class", fraction=0.046, pad=0.02)
    right = 100 * float(confusion.diagonal().sum()) / max(count, 1)
    axes.set(
        xlabel="assigned class", ylabel="true class", title=f"{count} images, {right:.1f} % on the diagonal"
    )
    if classes <= _NAMED:
        _name_classes(axes, class_names, size=9 if classes <= _NUMBERED else 6)
    if classes <= _NUMBERED:
        _number_cells(axes, shares)
    return figure


def _name_classes(axes: Any, class_names: Sequence[str], *, size: int) -> None:
    names, families = drawable(class_names)
    names = [n if len(n) <= _LONGEST_NAME else f"{n[: _LONGEST_NAME - 1]}…" for n in names]
    # parse_math: a dollar sign in a folder's name is no formula
    text: dict[str, Any] = {"fontsize": size, "parse_math": False, "fontfamily": families}
    axes.set_xticks(range(len(names)), names, rotation=90, **text)
    axes.set_yticks(range(len(names)), names, **text)


def _number_cells(axes: Any, shares: "Tensor") -> None:
    for row, column in (shares >= 0.5).nonzero().tolist():
        share = float(shares[row, column])
        colour = "white" if share > 55 else "black"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=8)
