"""What the scores mean, which way is better, and sentences that say no more than the numbers do."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A reconstructor and its scores on the held-out images."""

    name: str
    key: str
    scores: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ScoreKind:
    """How a score is called, printed and read."""

    label: str
    unit: str
    higher_is_better: bool
    digits: int
    meaning: str
    factor: float = 1.0
    """From the value in ``scores.json`` to the printed one."""

    def show(self, value: float, *, unit: bool = False) -> str:
        """The value as it is printed, with its unit if asked."""
        return f"{value * self.factor:.{self.digits}f}{f' {self.unit}' if unit and self.unit else ''}"

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b in the digits that are printed."""
        a, b = round(a * self.factor, self.digits), round(b * self.factor, self.digits)
        return a > b if self.higher_is_better else a < b


_KINDS = {
    "psnr": ScoreKind(
        label="PSNR",
        unit="dB",
        higher_is_better=True,
        digits=2,
        meaning="how close the pixels are, on a logarithmic scale: 3 dB more is half the squared error. "
        "It forgives blur and punishes a detail in the wrong place.",
    ),
    "ssim": ScoreKind(
        label="SSIM",
        unit="",
        higher_is_better=True,
        digits=3,
        meaning="how alike the local structure is: 1 is identical, about 0 is unrelated.",
    ),
    "lpips": ScoreKind(
        label="LPIPS",
        unit="",
        higher_is_better=False,
        digits=3,
        meaning="how different two pictures are to a network tuned on people's judgements: 0 is identical.",
    ),
    "rfid": ScoreKind(
        label="rFID",
        unit="",
        higher_is_better=False,
        digits=2,
        meaning="how different the reconstructions as a whole are from the originals, in Inception's "
        "features: 0 is identical. Few images bias it upward: never compare it with a published rFID.",
    ),
}

_FRECHET = ScoreKind(
    label="Fréchet distance",
    unit="",
    higher_is_better=False,
    digits=3,
    meaning="how different the reconstructions as a whole are from the originals, by the means and "
    "covariances of their features: 0 is identical. The features are those of the demo's own pretrained "
    "encoder, which favours the RAE that was trained with it, and the images are few: compare it only "
    "within this page, never with a published rFID.",
)

_FRECHET_ALL = ScoreKind(
    label="Fréchet distance",
    unit="",
    higher_is_better=False,
    digits=3,
    meaning="how different the pictures of a row as a whole are from the training pictures, by the means and "
    "covariances of their features (the demo's encoder's): 0 is identical. With so few pictures even real ones "
    "do not reach 0, so the first row is what to aim at. It does not see whether a picture shows what it should.",
)

_FRECHET_WITHIN_CLASS = ScoreKind(
    label="Fréchet distance by class",
    unit="",
    higher_is_better=False,
    digits=3,
    meaning="the same between the pictures of a class and the training pictures of that class, averaged. It rests "
    "on a dozen pictures a class and is therefore high for all rows; only their order counts.",
)

_CLASSIFIED = ScoreKind(
    label="recognised",
    unit="%",
    higher_is_better=True,
    digits=0,
    factor=100.0,
    meaning="the part of the pictures in which a classifier sees the class that they should show. It is a small "
    "network of its own, trained on the pixels of the training pictures, and errs on real pictures too: the first "
    "row is its accuracy there.",
)


def score_kind(name: str) -> ScoreKind | None:
    """The kind of a score by its name in ``scores.json``; None if this page does not know it."""
    if name.startswith("rfd_"):
        return _FRECHET
    if name.startswith("fd_"):
        return _FRECHET_WITHIN_CLASS if name.endswith("_within_class") else _FRECHET_ALL
    return _CLASSIFIED if name == "classified" else _KINDS.get(name)


def known_scores(models: Sequence[ScoredModel]) -> dict[str, ScoreKind]:
    """The scores that at least one model has, in the order of the file."""
    names = dict.fromkeys(name for model in models for name in model.scores)
    kinds = {name: score_kind(name) for name in names}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def best(models: Sequence[ScoredModel], name: str) -> str:
    """The printed value of the best score; several models may show it."""
    kind = known_scores(models)[name]
    values = [model.scores[name] for model in models if name in model.scores]
    return kind.show(max(values) if kind.higher_is_better else min(values))


def compare(one: ScoredModel, other: ScoredModel) -> str:
    """``better in PSNR (21.30 against 14.21 dB); worse in …``: where ``one`` stands beside ``other``."""
    verdicts: dict[str, list[str]] = {"better in": [], "worse in": [], "equal in": []}
    for name, kind in known_scores([one, other]).items():
        if name not in one.scores or name not in other.scores:
            continue
        a, b = one.scores[name], other.scores[name]
        verdict = "better in" if kind.better(a, b) else "worse in" if kind.better(b, a) else "equal in"
        numbers = (
            kind.show(a, unit=True)
            if verdict == "equal in"
            else f"{kind.show(a)} against {kind.show(b, unit=True)}"
        )
        verdicts[verdict].append(f"{kind.label} ({numbers})")
    return "; ".join(f"{verdict} {_listed(items)}" for verdict, items in verdicts.items() if items)


def worse_in(one: ScoredModel, other: ScoredModel) -> list[str]:
    """The scores in which ``one`` does not reach ``other``."""
    kinds = known_scores([one, other])
    shared = [name for name in kinds if name in one.scores and name in other.scores]
    return [name for name in shared if kinds[name].better(other.scores[name], one.scores[name])]


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
