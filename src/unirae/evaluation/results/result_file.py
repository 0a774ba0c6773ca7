"""Results as the evaluation commands wrote them, read back from their JSON files."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unirae.core.errors import DataError
from unirae.core.io import read_json
from unirae.evaluation.scores.record import name_of_reconstructions


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of an evaluation.

    Attributes:
        file: where it was read.
        metrics: scores by name.
        labels: by name how a score should be quoted, where that differs.
        count: images behind the scores; None if that was not recorded.
        uncertainty: by name what is known of a score's noise.
        settings: everything that decides the scores.
    """

    file: Path
    metrics: dict[str, float]
    labels: dict[str, str]
    count: int | None
    uncertainty: dict[str, dict[str, Any]]
    warnings: list[str]
    settings: dict[str, Any]

    @property
    def images(self) -> dict[str, Any]:
        """Record of the images."""
        if "fingerprints" in self.settings:
            return {"kind": "linear probe", "crop": self.settings.get("crop")}
        return self.settings.get("images") or {}

    @property
    def reference(self) -> dict[str, Any]:
        """Record of the images or statistics that the images were compared with."""
        if "fingerprints" in self.settings:  # of the linear probe
            pixels = {key: self.settings[key] for key in ("content_sha256",) if key in self.settings}
            return {
                "data": self.settings.get("data"),
                "fingerprint": self.settings["fingerprints"],
                "size_px": self.settings.get("input_size_px"),
                **pixels,
            }
        reference = self.settings.get("reference") or {}
        if self.images.get("kind") != "reconstruction":
            return reference
        originals = ("data", "fingerprint", "crop", "subset_seed")
        return {key: self.images[key] for key in originals if key in self.images} | reference

    @property
    def sampler(self) -> dict[str, Any]:
        """Record of how generated images were sampled; empty for others."""
        return self.images.get("sampler") or {}

    def standard_error(self, name: str) -> float | None:
        """Standard error of a score, if known."""
        return self.uncertainty.get(name, {}).get("standard_error")


def read_result(path: str | Path) -> Result:
    """A file of ``evaluate.py``, ``eval_fid.py``, ``eval_rfid.py`` or ``eval_linear_probe.py``.

    Raises:
        UserError: If there is no such file, or the file is not JSON.
        DataError: If the file holds no result, or one of an older version.
    """
    path = Path(path)
    content = read_json(path)
    _check(path, content)
    result = Result(
        file=path,
        metrics={name: _number(path, name, value) for name, value in content["metrics"].items()},
        labels=content.get("labels", {}),
        count=content.get("count"),
        uncertainty={name: _uncertainty(known) for name, known in content.get("uncertainty", {}).items()},
        warnings=content.get("warnings", []),
        settings=content["settings"],
    )
    return _by_one_name(result) if result.images.get("kind") == "reconstruction" else result


def _by_one_name(result: Result) -> Result:
    """Scores of reconstructions by today's names: older versions kept ``rfd`` as ``fd`` where it was asked for so."""

    def renamed(by_name: Any) -> dict[str, Any]:
        return {name_of_reconstructions(name): value for name, value in (by_name or {}).items()}

    return replace(
        result,
        metrics=renamed(result.metrics),
        labels=renamed(result.labels),
        uncertainty=renamed(result.uncertainty),
        settings={**result.settings, "metrics": renamed(result.settings.get("metrics"))},
    )


def _check(path: Path, content: Any) -> None:
    found = content if isinstance(content, dict) else {}
    if isinstance(found.get("metrics"), dict) and isinstance(found.get("settings"), dict):
        return
    if "scores" in found:
        raise DataError(
            f"{path} was written by an older version, which recorded too little to compare by; repeat the evaluation"
        )
    raise DataError(
        f"{path} is no result of an evaluation (no 'metrics' and 'settings'); give a JSON file that evaluate.py, "
        "eval_fid.py, eval_rfid.py or eval_linear_probe.py wrote"
    )


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{path}: the score {name} is {value!r}, not a finite number; repeat the evaluation")
    return float(value)


def _uncertainty(known: Any) -> dict[str, Any]:
    """The linear probe records a standard error alone."""
    return known if isinstance(known, dict) else {"standard_error": known}
