"""The demo's training parts: each is a run of an experiment, continued or reused where it stands."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unirae.app.config.composition import compose, has_key
from unirae.app.shell import cli
from unirae.core.errors import ConfigError, RunInterrupted, WeightsError
from unirae.core.io import read_json, write_json
from unirae.core.log import get_logger

log = get_logger(__name__)

PARTS = {"encoder": "mae_tiny", "rae": "rae_demo", "dit": "dit_demo"}
"""The folder and the experiment of each part, in order."""
ALL_PARTS = {**PARTS, "words": "t2i_tiny"}
"""The same with the part of the option ``words``."""

_KINDS = ("mae", "stage1", "stage2")
_TRAINED = {"encoder": "mae", "rae": "decoder", "dit": "dit", "words": "dit"}
"""The names that parts' checkpoints give the trained weights."""


def distribute(overrides: Sequence[str], experiments: Mapping[str, str]) -> dict[str, list[str]]:
    """The overrides of each part: those that name it (``dit:key=value``), and those whose key it has.

    An override that adds a key (``+node.key=value``) goes to the parts that have the node.

    Raises:
        ConfigError: If an override is not of this form, or none of the parts that it is for has its key.
    """
    given: dict[str, list[str]] = {part: [] for part in experiments}
    if not overrides:
        return given
    configs = {name: compose([f"experiment={name}"]) for name in dict.fromkeys(experiments.values())}
    for override in overrides:
        part, key, text = _parse(override)
        if part and part not in experiments:
            raise ConfigError(f"--override {override}: the part {part} is trained with --{part} alone")
        parts = [part] if part else list(experiments)
        wanted = key.rpartition(".")[0] or key if text.startswith("+") else key
        chosen = [p for p in parts if has_key(configs[experiments[p]], wanted)]
        if not chosen:
            where = f"the part {part} ({experiments[part]})" if part else "no part of the demo"
            raise ConfigError(
                f"--override {override}: {where} {'lacks' if part else 'has'} the key {key}; to see the keys: "
                f"python src/train.py experiment={experiments[part] if part else 'dit_demo'} --cfg job"
            )
        for p in chosen:
            given[p].append(text)
    return given


def _parse(override: str) -> tuple[str | None, str, str]:
    """An override as (part or None, dotted key, the override as Hydra reads it)."""
    named = re.fullmatch(rf"({'|'.join(ALL_PARTS)}):(.*)", override, re.DOTALL)
    part, text = (named[1], named[2]) if named else (None, override)
    if "=" not in text and not text.startswith("~"):
        raise ConfigError(
            f"--override {override}: give key=value, or {'|'.join(ALL_PARTS)}:key=value for one part"
        )
    name = text.lstrip("+~").split("=", 1)[0]
    # a group's override names its file's folder, or after "@" where its content goes
    return part, name.split("@")[-1].replace("/", "."), text


def lengthened(config: dict[str, Any], factor: float) -> list[str]:
    """The overrides that make a part ``factor`` times as long, its warm-up no longer than in proportion.

    It is not compared with the curves of healthy runs, which are as long as its experiment.
    """
    steps, warmup = (config["trainer"]["max_steps"], config["model"]["scheduler"]["warmup_steps"])
    if factor == 1.0:
        return []
    return [
        f"trainer.max_steps={max(1, round(steps * factor))}",
        f"model.scheduler.warmup_steps={max(1, round(warmup * min(1.0, factor)))}",
        "callbacks.health_check.curves=null",
    ]


def steps_done(output_dir: Path) -> int:
    """The steps that a part has made, as far as they are kept."""
    from unirae.models.checkpoints.reading import open_checkpoint

    checkpoint = output_dir / "checkpoints/last.ckpt"
    return (open_checkpoint(checkpoint, kind=_KINDS).step or 0) if checkpoint.is_file() else 0


def train_part(experiment: str, output_dir: Path, overrides: list[str]) -> None:
    """Run one experiment to its end, from its last checkpoint if it has one; return at once if it is finished."""
    from unirae.app.run.training import train
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
        log.info("%s: continuing after step %d", experiment, open_checkpoint(resume, kind=_KINDS).step)
    try:
        with timed(output_dir, "seconds", add=resume is not None):
            train(config, experiment=experiment, checkpoint=resume)
    except RunInterrupted as stop:
        raise RunInterrupted("interrupted; nothing is lost: the same command goes on from here") from stop
    write_json(
        finished, {"max_steps": config["trainer"]["max_steps"], **read_json(output_dir / "seconds.json")}
    )


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


def check_dit_fits(folder: Path, part: str = "dit", *, rae: Path | None = None) -> None:
    """Refuse a generator, trained or half trained, of an autoencoder that has since been trained again.

    Args:
        rae: the autoencoder's folder, if it is not ``folder / "rae"``.

    Raises:
        WeightsError: If the autoencoder has been trained again. The message says what to delete.
    """
    from unirae.models.checkpoints.opening import load_rae
    from unirae.models.checkpoints.reading import open_checkpoint

    if not (folder / part / "checkpoints/last.ckpt").is_file():
        return
    recorded = open_checkpoint(folder / part, kind="stage2").about["rae"]["fingerprint"]
    rae = folder / "rae" if rae is None else rae
    if load_rae(rae).fingerprint != recorded:
        raise WeightsError(
            f"the autoencoder in {rae} is not the one that the generator in {folder / part} was trained "
            f"on; delete {folder / part} to train it on this one"
        )


@contextmanager
def timed(folder: Path, what: str, *, add: bool = False) -> Iterator[None]:
    """Record the seconds of the block in ``seconds.json``; ``add`` them to those of an interrupted one."""
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
    trained = {
        part: read_json(folder / part / "finished.json")["seconds"]
        for part in ALL_PARTS
        if part in PARTS or (folder / part / "finished.json").is_file()
    }
    others = folder / "seconds.json"
    return {**trained, **(read_json(others) if others.is_file() else {})}


def count_parameters(folder: Path) -> dict[str, int]:
    """The count of parameters that each part trained."""
    from unirae.models.checkpoints.reading import open_checkpoint

    counts = {}
    for part, name in _TRAINED.items():
        if part not in PARTS and not (folder / part / "finished.json").is_file():
            continue
        state = open_checkpoint(folder / part, kind=_KINDS).weights(name)
        counts[part] = sum(tensor.numel() for key, tensor in state.items() if "latent_stats" not in key)
    return counts
