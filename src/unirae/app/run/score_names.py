"""The names of a run's scores, and the keys of the configuration that choose one of them."""

from fnmatch import fnmatchcase
from typing import Any

from unirae.core.errors import ConfigError
from unirae.evaluation.results.score_families import family


def recorded_names(settings: dict[str, Any], *, encoder: str = "*") -> list[str]:
    """The names under which a run logs its scores: ``val/psnr``, ``val/fid``, …

    Args:
        settings: the metrics, and where their networks come from.
        encoder: the encoder's name in scores of its features; ``*`` while that is not known.
    """
    return [f"val/{_recorded(name, settings, encoder)}" for name in settings["metrics"]]


def _recorded(name: str, settings: dict[str, Any], encoder: str) -> str:
    """The name of a metric's score: with the encoder's name, and a word for random weights."""
    if name in ("fd", "rfd", "mind_fd"):
        return f"{name.removesuffix('_fd')}_{encoder}"
    if name == "lpips":
        return "lpips_random" if settings["lpips_weights"] == "random" else name
    random = family(name).of != "pairs" and settings["inception_weights"] == "random"
    return f"{name}_random_inception" if random else name


def resolve_monitor(config: dict[str, Any], scores: list[str], *, default: str | None) -> dict[str, Any]:
    """``monitor`` and ``mode`` of ``callbacks.model_checkpoint`` as the callback takes them.

    ``auto`` is the stage's default where the run has that score, and none elsewhere. The mode follows from the score.

    Raises:
        ConfigError: If the run will have no such score, or if the mode would keep the worst checkpoint.
    """
    settings = config["callbacks"]["model_checkpoint"]
    monitor, mode = settings["monitor"], settings["mode"]
    if monitor == "auto":
        monitor = default if default in scores else None
    elif monitor is not None:
        check_score("callbacks.model_checkpoint.monitor", monitor, scores)
    lower = monitor is not None and family(monitor.removeprefix("val/")).better == "lower"
    better = "min" if lower else "max"
    if monitor is not None and mode not in ("auto", better):
        raise ConfigError(
            f"callbacks.model_checkpoint.mode={mode} would keep the worst state: of {monitor} the "
            f"{'lower' if lower else 'higher'} is the better; leave it out, or set {better}"
        )
    return {"monitor": monitor, "mode": better}


def check_score(key: str, name: str, scores: list[str]) -> None:
    """Refuse a score that a run will not have.

    Raises:
        ConfigError: If the run will not have the score; the message names its scores.
    """
    if any(fnmatchcase(name, score) for score in scores):
        return
    known = (
        f"its scores are {', '.join(s.replace('*', '<encoder>') for s in scores)}"
        if scores
        else "it has none"
    )
    raise ConfigError(f"{key}={name}: this run will have no such score; {known}")


def check_scores(config: dict[str, Any], scores: list[str], *, default: str | None) -> None:
    """Check every key that names a score, before anything long begins.

    Raises:
        ConfigError: If a key names a score that the run will not have.
    """
    resolve_monitor(config, scores, default=default)
    if (wanted := config["optimized_metric"]) is not None:
        check_score("optimized_metric", wanted, scores)
