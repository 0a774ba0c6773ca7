"""Scores of the report: their better direction, their print, and comparisons in words."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScoreKind:
    """The label, the print and the better direction of a score."""

    key: str
    """Key of the score's meaning on the page."""
    label: str
    digits: int
    higher_is_better: bool = False
    unit: str = ""
    factor: float = 1.0
    """Factor from the value in ``scores.json`` to the printed one."""

    def show(self, value: float, *, unit: bool = False) -> str:
        """The value as it is printed, with its unit if asked."""
        return f"{value * self.factor:.{self.digits}f}{f' {self.unit}' if unit and self.unit else ''}"

    def better(self, a: float, b: float) -> bool:
        """True where ``a`` is better than ``b`` in the digits that are printed."""
        a, b = round(a * self.factor, self.digits), round(b * self.factor, self.digits)
        return a > b if self.higher_is_better else a < b


_KINDS = (
    ScoreKind(key="psnr", label="PSNR", unit="dB", higher_is_better=True, digits=2),
    ScoreKind(key="ssim", label="SSIM", higher_is_better=True, digits=3),
    ScoreKind(key="lpips", label="LPIPS", digits=3),
    ScoreKind(key="rfid", label="rFID", digits=2),
    ScoreKind(key="rfd", label="Fréchet distance", digits=3),
    ScoreKind(key="fd_within_class", label="Fréchet distance by class", digits=3),
    ScoreKind(key="fd", label="Fréchet distance", digits=3),
    ScoreKind(key="classified", label="recognised", unit="%", higher_is_better=True, digits=0, factor=100.0),
)


def score_kind(name: str) -> ScoreKind | None:
    """The kind of a score by its name in ``scores.json``; None if this page does not know it."""
    family, _, rest = name.partition("_")
    if family in ("rfd", "fd") and rest:  # their names go on with the features, such as fd_mae
        name = "fd_within_class" if family == "fd" and rest.endswith("_within_class") else family
    return next((kind for kind in _KINDS if kind.key == name), None)


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A reconstructor, or a source of samples, and its scores."""

    name: str
    key: str
    scores: dict[str, float]


def known_scores(models: Sequence[ScoredModel]) -> dict[str, ScoreKind]:
    """The scores that at least one model has, in the order of the file."""
    names = dict.fromkeys(name for model in models for name in model.scores)
    return {name: kind for name in names if (kind := score_kind(name))}


def score_of(models: Sequence[ScoredModel], key: str, name: str) -> float | None:
    """The score of the model with this key, if it was measured."""
    return next((model.scores.get(name) for model in models if model.key == key), None)


def best(models: Sequence[ScoredModel], name: str) -> str:
    """The printed value of the best score; several models may show it."""
    kind = known_scores(models)[name]
    values = [model.scores[name] for model in models if name in model.scores]
    return kind.show(max(values) if kind.higher_is_better else min(values))


def compare(one: ScoredModel, other: ScoredModel) -> dict[str, list[str]]:
    """Compare two models: the scores in which ``one`` is better, worse or equal.

    Each is a text: ``{"better": ["PSNR (21.30 against 14.21 dB)"]}``.
    """
    verdicts: dict[str, list[str]] = {"better": [], "worse": [], "equal": []}
    for name, kind in known_scores([one, other]).items():
        if name in one.scores and name in other.scores:
            a, b = one.scores[name], other.scores[name]
            verdict = "better" if kind.better(a, b) else "worse" if kind.better(b, a) else "equal"
            against = "" if verdict == "equal" else f"{kind.show(a)} against "
            verdicts[verdict].append(f"{kind.label} ({against}{kind.show(b, unit=True)})")
    return {verdict: scores for verdict, scores in verdicts.items() if scores}
