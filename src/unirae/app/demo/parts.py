"""The demo's training parts: each is a run of an experiment, continued or reused where it stands."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unirae.app.shell import cli
from unirae.core.errors import RunInterrupted, WeightsError
from unirae.core.log import get_logger

log = get_logger(__name__)

PARTS = {"encoder": "mae_tiny", "rae": "rae_tiny", "random_encoder": "rae_tiny", "dit": "dit_tiny"}
"""The folder and the experiment of each part, in order."""

_KINDS = ("mae", "stage1", "stage2")
_TRAINED = {"encoder": "mae", "rae": "decoder", "random_encoder": "decoder", "dit": "dit"}
"""The names that parts' checkpoints give the trained weights."""


def train_part(experiment: str, output_dir: Path, overrides: list[str]) -> None:
    """Run one experiment to its end, from its last checkpoint if it has one; return at once if it is finished."""
    from unirae.app.config.composition import compose
    from unirae.app.run.training import train
    from unirae.core.io import read_json, write_json
    from unirae.models.checkpoints.reading import open_checkpoint

    config = compose([f"experiment={experiment}", f"paths.output_dir={output_dir}", *overrides])
    finished = output_dir / "finished.json"
    if finished.is_file() and read_json(finished)["max_steps"] == config["trainer"]["max_steps"]:
        cli.configure_logging()
        log.info("%s: already trained in %s; delete the folder to train it again", experiment, output_dir)
        return
    checkpoint = output_dir / "checkpoints/last.ckpt"
    resume = checkpoint if checkpoint.is_file() else None
    if resume:
        log.info(
            "%s: continuing after step %d",
            experiment,
            open_checkpoint(resume, kind=("mae", "stage1", "stage2")).step,
        )
    clock = output_dir / "seconds.json"
    earlier = read_json(clock)["seconds"] if resume and clock.is_file() else 0.0
    started = time.perf_counter()
    try:
        train(config, experiment=experiment, checkpoint=resume)
    except RunInterrupted as stop:
        raise RunInterrupted("interrupted; nothing is lost: the same command goes on from here") from stop
    finally:
        seconds = earlier + time.perf_counter() - started
        write_json(clock, {"seconds": round(seconds, 1)})
    write_json(finished, {"max_steps": config["trainer"]["max_steps"], "seconds": round(seconds, 1)})


def check_rae_fits(folder: Path, encoder: dict[str, Any]) -> None:
    """Refuse an autoencoder, trained or half trained, of an encoder that has since been trained again.

    Args:
        encoder: ``model.encoder`` of the autoencoder's configuration.

    Raises:
        WeightsError: If the encoder has been trained again. The message says what to delete.
    """
    from unirae.models.checkpoints.reading import open_checkpoint
    from unirae.models.encoders.build import build_encoder

    if not (folder / "rae/checkpoints/last.ckpt").is_file():
        return
    recorded = open_checkpoint(folder / "rae", kind="stage1").about["rae"]["encoder"]["sha256"]
    if build_encoder(**encoder).weights_sha256 != recorded:
        raise WeightsError(
            f"the encoder in {folder / 'encoder'} is not the one that the autoencoder in {folder / 'rae'} was trained "
            f"on; delete {folder / 'rae'} to train it on this one"
        )


def check_dit_fits(folder: Path) -> None:
    """Refuse a generator, trained or half trained, of an autoencoder that has since been trained again.

    Raises:
        WeightsError: If the autoencoder has been trained again. The message says what to delete.
    """
    from unirae.models.checkpoints.opening import load_rae
    from unirae.models.checkpoints.reading import open_checkpoint

    if not (folder / "dit/checkpoints/last.ckpt").is_file():
        return
    recorded = open_checkpoint(folder / "dit", kind="stage2").about["rae"]["fingerprint"]
    if load_rae(folder / "rae").fingerprint != recorded:
        raise WeightsError(
            f"the autoencoder in {folder / 'rae'} is not the one that the generator in {folder / 'dit'} was trained "
            f"on; delete {folder / 'dit'} to train it on this one"
        )


@contextmanager
def timed(folder: Path, what: str, *, add: bool = False) -> Iterator[None]:
    """Record the seconds of the block in ``seconds.json``; ``add`` them to those of an interrupted one."""
    from unirae.core.io import read_json, write_json

    started = time.perf_counter()
    try:
        yield
    finally:
        record = folder / "seconds.json"
        seconds = read_json(record) if record.is_file() else {}
        earlier = seconds.get(what, 0.0) if add else 0.0
        write_json(record, {**seconds, what: round(earlier + time.perf_counter() - started, 1)})


def read_seconds(folder: Path) -> dict[str, float]:
    """The seconds that each part took, also those that are not training."""
    from unirae.core.io import read_json

    trained = {part: read_json(folder / part / "finished.json")["seconds"] for part in PARTS}
    others = folder / "seconds.json"
    return {**trained, **(read_json(others) if others.is_file() else {})}


def count_parameters(folder: Path) -> dict[str, int]:
    """The count of parameters that each part trained."""
    from unirae.models.checkpoints.reading import open_checkpoint

    counts = {}
    for part, name in _TRAINED.items():
        state = open_checkpoint(folder / part, kind=_KINDS).weights(name)
        counts[part] = sum(tensor.numel() for key, tensor in state.items() if "latent_stats" not in key)
    return counts
