"""``make demo``: the whole of UniRAE in small, on this machine, without a network.

Stage 0 pretrains an encoder on the bundled emoji, stage 1 trains a decoder on it, and the same decoder is trained on a
random encoder as a baseline; stage 2 trains a diffusion transformer on the latents. Then held-out emoji are
reconstructed, new ones are sampled, both are scored and shown. Each part is a run of its own: finished ones are reused,
an interrupted one goes on where it stopped.

| module | |
|---|---|
| ``options`` | its options |
| ``parts`` | training one part, from where it stands, with its overrides |
| ``generator`` | stage 2: the trained networks, the classifier, the samples |
| ``scores`` | scores of the reconstructions and of the samples |
| ``pictures`` | their pictures |
| ``report`` | the page |
"""

import platform
import time
from pathlib import Path
from typing import Any

from unirae.app.demo.options import Options
from unirae.app.shell import cli
from unirae.core.errors import RunInterrupted
from unirae.core.log import get_logger

log = get_logger(__name__)


def main() -> int:
    """Parse, run the demo, and turn mistakes into one line."""
    from unirae.app.shell.options import parse

    options = parse(Options)
    return cli.run(lambda: run(options))


def run(options: Options) -> None:
    """Train what is not trained yet, evaluate, write the report."""
    import torch

    from unirae.app.shell.devices import fast_products

    started = time.perf_counter()
    train_all(options)
    cli.configure_logging(options.output_dir / "demo.log")
    try:
        with fast_products(torch.device("cpu")):
            report = evaluate(options)
    except KeyboardInterrupt:
        raise RunInterrupted("interrupted; nothing is lost: the same command goes on from here") from None
    log.info("done in %.0f s. Open %s", time.perf_counter() - started, report)


def train_all(options: Options) -> None:
    """The training parts in order; each needs those before it."""
    from unirae.app.config.composition import compose
    from unirae.app.demo.parts import PARTS, check_dit_fits, check_rae_fits, distribute, train_part

    folder, given = options.output_dir, distribute(options.override)
    needs = {
        "encoder": [],
        "rae": [f"model.encoder.weights={folder / 'encoder'}"],
        "random_encoder": ["model.encoder.weights=random"],
        "dit": [f"model.rae.pretrained_decoder_path={folder / 'rae'}"],
    }
    words = {part: [*needs[part], *given[part]] for part in PARTS}
    # a mistake in the last part's is found before the first is trained
    configs = {part: compose([f"experiment={of}", *words[part]]) for part, of in PARTS.items()}
    for number, (part, experiment) in enumerate(PARTS.items(), start=1):
        cli.configure_logging()
        log.info("part %d of %d, %s: %s in %s", number, len(PARTS), part, experiment, folder / part)
        if part == "rae":
            check_rae_fits(folder, configs[part]["model"]["encoder"])
        if part == "dit":
            check_dit_fits(folder)
        train_part(experiment, folder / part, words[part])


def evaluate(options: Options) -> Path:
    """Score, sample, draw, and write the report after training; returns the report's path."""
    from unirae.app.demo.generator import open_trained
    from unirae.app.demo.parts import count_parameters, read_seconds
    from unirae.app.demo.pictures import draw_generation
    from unirae.app.demo.report import write_report
    from unirae.app.demo.scores import score_generation, score_reconstructions
    from unirae.core.io import write_json

    folder = options.output_dir
    scores = score_reconstructions(folder)
    trained = open_trained(options)
    generation = score_generation(trained)
    draw_generation(trained)
    content = {
        **scores,
        "generation": generation,
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
