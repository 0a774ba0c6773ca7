"""``make demo``: the whole of UniRAE in small, on this machine, without a network.

Stage 0 pretrains an encoder on the bundled emoji, stage 1 trains a decoder on it, and stage 2 a diffusion transformer
on the latents. Then held-out emoji are reconstructed, new ones are sampled, both are scored and shown. Each part is a
run of its own: finished ones are reused, an interrupted one goes on where it stopped.

| module | |
|---|---|
| ``options`` | its options |
| ``outlook`` | how long it will take |
| ``parts`` | training one part, from where it stands, with its overrides |
| ``generator`` | stage 2: the trained networks, the classifier, the samples |
| ``words`` | with ``--words``: a generator of the emoji's names, its samples and scores |
| ``scores`` | scores of the reconstructions and of the samples |
| ``pictures`` | their pictures |
| ``report`` | the page |
"""

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.demo.options import USUAL, Options
from unirae.app.shell import cli
from unirae.core.errors import RunInterrupted
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from unirae.app.demo.outlook import Outlook

log = get_logger(__name__)


def main() -> int:
    """Parse, run the demo, and turn mistakes into one line."""
    from unirae.app.shell.options import parse

    options = parse(Options)
    return cli.run(lambda: run(options))


def run(options: Options) -> None:
    """Train what is not trained yet, evaluate, write the report."""
    import torch

    from unirae.app.demo.generator import threads
    from unirae.app.shell.devices import fast_products, fixed_threads

    started, cpu = time.perf_counter(), torch.device("cpu")
    train_all(options)
    cli.configure_logging(options.folder / "demo.log")
    try:
        with fast_products(cpu), fixed_threads(cpu, threads(options.folder / "samples")):
            report = evaluate(options)
    except KeyboardInterrupt:
        raise RunInterrupted("interrupted; nothing is lost: the same command goes on from here") from None
    log.info("done in %.0f s. Open %s", time.perf_counter() - started, report)


def train_all(options: Options) -> None:
    """The training parts in order; each needs those before it."""
    from unirae.app.config.composition import compose
    from unirae.app.demo.parts import (
        check_dit_fits,
        check_rae_fits,
        distribute,
        lengthened,
        train_part,
    )
    from unirae.training.callbacks.progress import readable_time

    folder, parts = options.folder, experiments(options)
    given = distribute(options.override, parts)
    usual = {part: compose([f"experiment={of}"]) for part, of in parts.items()}
    on_latents = [
        f"model.rae.pretrained_decoder_path={folder / 'rae'}",
        f"data.latent_cache={folder / 'latents'}",
    ]
    needs = {
        "encoder": [],
        "rae": [f"model.encoder.weights={folder / 'encoder'}"],
        "dit": on_latents,
        "words": on_latents,
    }
    overrides = {
        part: [*needs[part], *lengthened(usual[part], options.length.steps[part]), *given[part]]
        for part in parts
    }
    # a mistake in the last part's is found before the first is trained
    configs = {part: compose([f"experiment={of}", *overrides[part]]) for part, of in parts.items()}
    if options.words:
        check_text_encoder(configs["words"])
    cli.configure_logging()
    outlook = _outlook(options, configs, usual)
    log.info("%s on this machine, at %.0f GFLOP/s of small steps: %s", folder, outlook.speed / 1e9, outlook)
    for number, (part, experiment) in enumerate(parts.items(), start=1):
        cli.configure_logging()
        log.info(
            "part %d of %d, %s: %s in %s; %s left in all",
            number,
            len(parts),
            part,
            experiment,
            folder / part,
            readable_time(outlook.left()),
        )
        if part == "rae":
            check_rae_fits(folder, configs[part]["model"]["encoder"])
        if part in ("dit", "words"):
            check_dit_fits(folder, part)
        started = time.perf_counter()
        train_part(experiment, folder / part, overrides[part])
        outlook.finished(part, time.perf_counter() - started)
    cli.configure_logging()
    log.info("samples, scores, pictures: %s left", readable_time(outlook.left()))


def experiments(options: Options) -> dict[str, str]:
    """The experiment of each part that the options ask for, in order."""
    from unirae.app.demo.parts import ALL_PARTS, PARTS

    return ALL_PARTS if options.words else PARTS


def check_text_encoder(config: dict[str, Any]) -> None:
    """Look for the text encoder before anything is trained.

    Raises:
        WeightsError: If it is missing.
    """
    from unirae.models.text.build import find_text_encoder

    find_text_encoder(config["model"]["text_encoder"]["name"])


def _outlook(options: Options, configs: dict[str, Any], usual: dict[str, Any]) -> "Outlook":
    """What is left to do, and how fast this machine is at it."""
    from unirae.app.demo.outlook import TFLOP, Outlook, measured_flops, work_left
    from unirae.app.demo.parts import steps_done

    left = work_left(configs, usual, {part: steps_done(options.folder / part) for part in configs})
    rest = (options.num_steps or options.length.num_steps) / USUAL.num_steps
    return Outlook(
        measured_flops(), {**left, "scores and pictures": TFLOP["scores and pictures"] * 1e12 * rest}
    )


def evaluate(options: Options) -> Path:
    """Score, sample, draw, and write the report after training; returns the report's path."""
    from unirae.app.demo.generator import open_trained
    from unirae.app.demo.parts import count_parameters, read_seconds
    from unirae.app.demo.pictures import draw_generation
    from unirae.app.demo.report import write_report
    from unirae.app.demo.scores import score_generation, score_reconstructions
    from unirae.app.demo.words import score_words
    from unirae.core.io import write_json

    folder = options.folder
    scores = score_reconstructions(folder)
    trained = open_trained(options)
    generation = score_generation(trained)
    draw_generation(trained)
    content = {
        **scores,
        "generation": generation,
        **({"words": score_words(options, trained)} if options.words else {}),
        "seconds": read_seconds(folder),
        "parameters": count_parameters(folder),
        "machine": describe_machine(),
    }
    write_json(folder / "scores.json", content)
    return write_report(folder)


def describe_machine() -> dict[str, Any]:
    """The machine that the demo ran on."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
