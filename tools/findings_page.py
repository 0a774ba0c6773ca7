"""The tables and plots of docs/results.md that show what tools/findings.py found."""

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import studies
from unirae.core.io import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS = studies.ROOT / "docs/images"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a table and a plot show.

    Attributes:
        arms: what is compared, with the overrides of each.
        scores: the scores of a run, with their headings.
        paper: the paper's own figures of these or the corresponding arms, by what they are.
    """

    arms: dict[str, list[str]]
    scores: dict[str, str]
    paper: dict[str, dict[str, float]] = field(default_factory=dict)


def table(finding: Shown, runs: list[dict[str, Any]]) -> str:
    """A row for each arm, with the mean and the range of its seeds, then the paper's figures."""
    heads = ["run", "steps", "GFLOP a step", *finding.scores.values()]
    lines = [f"| {' | '.join([*heads, *(f'paper: {what}' for what in finding.paper)])} |"]
    lines.append("|---" * (len(heads) + len(finding.paper)) + "|")
    others = {arm for of in finding.paper.values() for arm in of} - set(finding.arms)
    for arm in [*finding.arms, *sorted(others, key=lambda name: int(name.split()[0]))]:
        found = [run for run in runs if run["arm"] == arm]
        cells = [arm, *(f"{found[0][name]:g}" if found else "–" for name in ("steps", "gflop_a_step"))]
        for name in finding.scores:
            form = "{:.0%}" if "share" in name else "{:.2f}"
            cells.append(studies.spread([run[name] for run in found], form) if found else "–")
        cells += [f"{of[arm]:g}" if arm in of else "–" for of in finding.paper.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure_of(finding: Shown, runs: list[dict[str, Any]]) -> "Figure":
    """A panel for each score with a point for each seed, then the paper's figures."""
    from matplotlib.figure import Figure

    from unirae.app.pictures.plots import LIGHT

    count = len(finding.scores) + len(finding.paper)
    figure = Figure(figsize=(2.3 * count, 3.0), dpi=110, layout="constrained", facecolor=LIGHT.paper)
    panels = list(figure.subplots(1, count))
    arms, (ours, theirs) = list(finding.arms), LIGHT.curves[:2]
    for axes, (name, title) in zip(panels, finding.scores.items(), strict=False):
        for number, arm in enumerate(arms):
            values = [run[name] for run in runs if run["arm"] == arm]
            axes.bar(number, sum(values) / len(values), color=ours, alpha=0.35, width=0.6)
            axes.plot([number] * len(values), values, "o", color=ours, ms=5)
        axes.set_title(title.replace(": ", ":\n").replace(", in", ",\nin"), fontsize=9)
        axes.set_xticks(range(len(arms)), arms, fontsize=8)
        if name == "psnr":
            axes.set_ylim(bottom=min(10.0, *(run[name] for run in runs)))
    for axes, (title, of) in zip(panels[len(finding.scores) :], finding.paper.items(), strict=True):
        axes.bar(range(len(of)), list(of.values()), color=theirs, alpha=0.6, width=0.6)
        axes.set_title(f"paper: {title}", fontsize=9)
        axes.set_xticks(range(len(of)), list(of), fontsize=8)
    for axes in panels:
        axes.grid(axis="y", color=LIGHT.grid, lw=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure


def draw(finding: Shown, runs: list[dict[str, Any]]) -> bytes:
    """The panels as a PNG."""
    png = io.BytesIO()
    figure_of(finding, runs).savefig(png, format="png")
    return png.getvalue()


def write_page(name: str, finding: Shown, runs: list[dict[str, Any]]) -> None:
    """Put a finding's table into docs/results.md and its plot into docs/images."""
    studies.publish(f"findings_{name}", table(finding, runs))
    png = draw(finding, runs)
    write_atomically(PLOTS / f"findings_{name}.png", lambda file: file.write(png))
