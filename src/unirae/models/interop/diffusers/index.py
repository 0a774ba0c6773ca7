"""Index of a pipeline of ours in diffusers' form, ``model_index.json``: names of classes, and defaults of a call."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import read_json
from unirae.flow.guidance import ALWAYS
from unirae.flow.times import TIME_GRIDS

PIPELINE = "RAEDiTPipeline"
SETTINGS = {
    "num_inference_steps": "num_steps",
    "guidance_scale": "cfg_scale",
    "guidance_interval": "guidance_interval",
    "time_grid": "time_grid",
}
"""Arguments of a call of the pipeline, and our names for them."""


@dataclass(frozen=True, kw_only=True)
class PipelineIndex:
    """Content of a pipeline's index beside its parts.

    Attributes:
        class_names: in the order of labels; empty where they have none.
        defaults: of a call of the pipeline.
    """

    class_names: list[str]
    defaults: dict[str, Any]


def read_index(folder: Path, *, num_classes: int) -> PipelineIndex:
    """The checked index of a pipeline for a network of ``num_classes``.

    Raises:
        WeightsError: If the index is of another pipeline.
        ConfigError: If names or defaults do not fit.
    """
    file = folder / "model_index.json"
    content = read_json(file)
    found = content.get("_class_name") if isinstance(content, dict) else None
    if found not in (PIPELINE, ["pipeline", PIPELINE]):
        raise WeightsError(
            f"{file} is of {found}; only a {PIPELINE}, as the conversion to diffusers writes it, is ours"
        )
    names, defaults = content.get("id2label"), content.get("defaults")
    if names is not None and (
        not isinstance(names, dict) or names.keys() != {str(number) for number in range(num_classes)}
    ):
        raise ConfigError(f"{file}: id2label must give a name to each of the labels 0 to {num_classes - 1}")
    if defaults is not None and not isinstance(defaults, dict):
        raise ConfigError(f"{file}: defaults must be keys and values, not {defaults!r}")
    return PipelineIndex(
        class_names=[str(names[str(number)]) for number in range(num_classes)] if names else [],
        defaults=checked_defaults(defaults or {}, where=f"{file}: "),
    )


def checked_defaults(defaults: Mapping[str, Any], *, where: str = "") -> dict[str, Any]:
    """The defaults of a call, as JSON has them.

    Args:
        where: the file that they are from, for the message.

    Raises:
        ConfigError: If a default is unknown, or has a value that cannot be.
    """
    if unknown := defaults.keys() - SETTINGS.keys():
        raise ConfigError(
            f"{where}defaults: unknown {', '.join(sorted(unknown))}; known: {', '.join(SETTINGS)}"
        )
    interval = defaults.get("guidance_interval", ALWAYS)
    if len(_numbers(interval)) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise ConfigError(f"{where}defaults: guidance_interval={interval} must be two numbers within [0, 1]")
    if defaults.get("time_grid", "reference") not in TIME_GRIDS:
        raise ConfigError(
            f"{where}defaults: time_grid={defaults['time_grid']!r}; known: {', '.join(TIME_GRIDS)}"
        )
    steps = defaults.get("num_inference_steps", 2)
    if not isinstance(steps, int) or steps < 2:
        raise ConfigError(
            f"{where}defaults: num_inference_steps={steps!r} counts the time grid's points; at least 2"
        )
    if not _numbers([scale := defaults.get("guidance_scale", 1.0)]):
        raise ConfigError(f"{where}defaults: guidance_scale={scale!r} must be a number")
    return {**defaults, **({"guidance_interval": list(interval)} if "guidance_interval" in defaults else {})}


def _numbers(values: Any) -> list[float]:
    """The numbers among the values of a list."""
    given = values if isinstance(values, list | tuple) else []
    return [value for value in given if isinstance(value, int | float) and not isinstance(value, bool)]
