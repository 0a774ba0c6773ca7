"""The folder of a sweep: what its points share, a result for each, tables and a plot; it can be continued."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from unirae.evaluation.results.guidance_grid import Point, Scored
    from unirae.evaluation.scores.record import Scores
    from unirae.metrics.resampling import Confidence

_SWEPT = (
    *("cfg_scale", "guidance_interval", "ig_scale", "ig_interval", "num_steps", "solver", "weights"),
    *("times", "guidance"),
)
"""The sampler's settings that a sweep varies: its axes, and what follows from them."""


def common_settings(sampler: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The settings that every point of a sweep shares: those of its sampler that are no axis, and the yardstick."""
    return {"sampler": {key: value for key, value in sampler.items() if key not in _SWEPT}, **others}


class SweepFolder:
    """The folder of a sweep: ``sweep.json``, ``points/….json``, ``table.csv``, ``table.md`` and ``plot.png``.

    Of several processes only the first may look into it and write (:func:`unirae.core.distributed.on_main`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, common: dict[str, Any]) -> None:
        """Refuse a folder whose points have other settings in common; nothing is written.

        Args:
            common: all settings that points share, or some of them.

        Raises:
            ConfigError: If the folder's points have other settings in common, or if it holds points without a record of
                what they share.
        """
        from unirae.core.io import read_json

        record = self.folder / "sweep.json"
        if record.is_file():
            found = read_json(record)
            self._refuse({key: found.get(key) for key in common}, common, record)
        elif any(self._points.glob("*.json")):
            raise ConfigError(
                f"--output_dir {self.folder} holds points but no sweep.json; choose another folder"
            )

    def write_common(self, common: dict[str, Any]) -> None:
        """Write ``sweep.json``: the settings that every point shares."""
        from unirae.core.io import write_json

        write_json(self.folder / "sweep.json", common)

    def file(self, point: "Point", sampler: dict[str, Any]) -> Path:
        """The file of a point, named by its axes and a hash of all its sampler's settings."""
        from unirae.core.io import short_code

        code = short_code(sampler)
        weights = point.weights.lower().replace(" ", "")
        interval = "" if point.cfg_scale == 1.0 else f"-int{point.interval_text}"
        internal = "" if point.ig_scale == 1.0 else f"-ig{point.ig_scale:g}-int{point.ig_interval_text}"
        guidance = f"cfg{point.cfg_scale:g}{interval}{internal}"
        return self._points / f"{guidance}-{point.solver}{point.num_steps}-{weights}-{code}.json"

    def holds(self, file: Path, sampler: dict[str, Any], confidence: "Confidence | None") -> bool:
        """True where a point is there, with the uncertainty that is asked for where its scores can have one.

        Raises:
            ConfigError: If the point's file records other settings of the sampler.
            DataError: If the point's file is no result.
        """
        from unirae.evaluation.results.result_file import read_result
        from unirae.evaluation.results.score_families import family

        if not file.is_file():
            return False
        result = read_result(file)
        self._refuse(result.sampler, sampler, file)
        if confidence is None:
            return True
        frechet = [name for name in result.metrics if family(name).frechet]
        return all(confidence.is_in(result.uncertainty.get(name, {})) for name in frechet)

    def write(self, file: Path, result: "Scores") -> None:
        """Write a point's result, as ``eval_fid.py`` writes it."""
        from unirae.evaluation.scores.record import write_scores

        write_scores(file, result)

    def scored(self) -> "list[Scored]":
        """Every point that is there, in the order of the axes."""
        from unirae.evaluation.results.guidance_grid import Scored, point_of
        from unirae.evaluation.results.result_file import read_result

        results = map(read_result, self._points.glob("*.json"))
        found = [Scored(point=point_of(result.sampler), result=result) for result in results]
        return sorted(found, key=lambda scored: scored.point)

    def summarise(self) -> "list[Scored]":
        """Write tables and plot of every point that is there."""
        from unirae.app.sweep.plot import draw
        from unirae.app.sweep.table import as_csv, as_markdown

        scored = self.scored()
        self._write("table.csv", lambda: as_csv(scored).encode())
        self._write("table.md", lambda: as_markdown(scored).encode())
        self._write("plot.png", lambda: draw(scored))
        return scored

    @property
    def _points(self) -> Path:
        return self.folder / "points"

    def _write(self, name: str, make: Callable[[], bytes]) -> None:
        from unirae.core.io import write_atomically

        content = make()
        write_atomically(self.folder / name, lambda file: file.write(content))

    def _refuse(self, there: dict[str, Any], now: dict[str, Any], file: Path) -> None:
        from unirae.app.pictures.sample_folder import differences

        changed = differences(there, as_stored(now))
        if changed:
            shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
            raise ConfigError(
                f"--output_dir {self.folder} belongs to another sweep ({file.name}): {shown}. Choose another folder, "
                "or repeat the settings to continue it"
            )


def as_stored(content: Any) -> Any:
    """Plain values as they come back from JSON: lists for tuples."""
    import json

    return json.loads(json.dumps(content))
