"""Tables of scores: a row per candidate, a column per score that the page knows."""

import html
from collections.abc import Mapping, Sequence

from unirae.app.report.scores import ScoredModel, ScoreKind, best, known_scores


def score_table(
    models: Sequence[ScoredModel],
    *,
    heading: str,
    mark_best: bool = True,
    errors: Mapping[tuple[str, str], float] | None = None,
) -> str:
    """The table; a score that was not measured is a dash.

    Args:
        heading: of the first column.
        mark_best: highlight the best of each column.
        errors: standard errors by (candidate's key, score's name), shown as ±.
    """
    kinds = known_scores(models)
    heads = "".join(_head(kind) for kind in kinds.values())
    rows = []
    for model in models:
        cells = "".join(
            _cell(model, name, kind, best(models, name) if mark_best else None, errors or {})
            for name, kind in kinds.items()
        )
        rows.append(f'<tr><th scope="row">{html.escape(model.name)}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">{heading}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def meanings(models: Sequence[ScoredModel]) -> str:
    """What each score means, as a list."""
    items = (f"<li><b>{kind.label}</b>: {kind.meaning}</li>" for kind in known_scores(models).values())
    return f"<ul>{''.join(items)}</ul>"


def _head(kind: ScoreKind) -> str:
    arrow, direction = ("↑", "higher") if kind.higher_is_better else ("↓", "lower")
    unit = f"{kind.unit}, " if kind.unit else ""
    return f'<th scope="col">{kind.label}&nbsp;{arrow}<small>{unit}{direction} is better</small></th>'


def _cell(
    model: ScoredModel,
    name: str,
    kind: ScoreKind,
    best_shown: str | None,
    errors: Mapping[tuple[str, str], float],
) -> str:
    if name not in model.scores:
        return "<td>–</td>"
    shown = kind.show(model.scores[name])
    error = errors.get((model.key, name))
    spread = "" if error is None else f"<small>± {kind.show(error)}</small>"
    return f'<td class="best">{shown}{spread}</td>' if shown == best_shown else f"<td>{shown}{spread}</td>"
