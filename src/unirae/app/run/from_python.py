"""``unirae.train``: a training run called from Python, on the way of ``src/train.py``.

A command may arrange its process as it likes, a library may not: what a run sets for the whole process (log handlers,
random numbers, precision, signal handlers, Hydra's state) is put back when it ends, whichever way.
"""

import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from unirae.app.run.own_parts import OwnParts, PerceptualLoss
from unirae.app.shell.argument_names import NAMES
from unirae.core.arguments import called
from unirae.core.errors import InputError
from unirae.models.encoders.base import Encoder


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """The result of a training run: its folder and its scores.

    Attributes:
        folder: the run's folder; ``unirae.load_rae`` and ``unirae.load_dit`` take it.
        scores: the newest ones by name, such as ``val/psnr``; empty where the run was not scored.
    """

    folder: Path
    scores: dict[str, float]


def train(
    overrides: Sequence[str], *, encoder: Encoder | None = None, perceptual: PerceptualLoss | None = None
) -> TrainedRun:
    """Train an experiment, as ``src/train.py`` with the same words does; in this process, on one device.

    Args:
        overrides: ``["experiment=rae_tiny", "model.optimizer.lr=5e-4", …]``, one ``key=value`` each, without the quotes
            that a shell takes away.
        encoder: an encoder of your own in place of the configured one, for stage 1 and the linear probe. Make its class
            known with ``unirae.register_encoder`` before you open the checkpoint.
        perceptual: a loss of your own in place of the configured one, for stage 1: a function or module from
            (reconstruction, target), both [b, 3, H, W] and RGB in [0, 1], to a scalar that gradients flow through. It
            is weighted by ``model.perceptual_weight``; a module is frozen and put into eval mode. A checkpoint holds
            its name, not the loss itself: give it again to continue.

    Raises:
        InputError: If ``overrides`` is no list of texts, if a given part is no encoder or loss, or if the experiment
            has no place for the part.
        ConfigError: If an experiment or a key is unknown, or a value cannot work.
        UserError: If the run ends for another reason that the command reports in one line: data, weights, numbers that
            are not finite.
        RunInterrupted: If ctrl-C stopped the run; the message says where everything is saved.
    """
    if isinstance(overrides, str) or not all(isinstance(word, str) for word in overrides):
        raise InputError(
            f"overrides={overrides!r} must be a list of key=value texts, such as ['experiment=rae_tiny']"
        )
    from unirae.app.config.composition import compose_run
    from unirae.app.run.training import train_composed

    with process_left_as_it_was(), called(NAMES):
        composition = compose_run(overrides)
        scores = train_composed(composition, own=OwnParts(encoder=encoder, perceptual=perceptual))
        return TrainedRun(folder=Path(composition.config["paths"]["output_dir"]), scores=scores)


@contextmanager
def process_left_as_it_was() -> Iterator[None]:
    """Put back after the block whatever a run has set for the whole process."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.callback(_restore_environment, dict(os.environ))
        for keep in (_keep_hydra, _keep_logging, _keep_signals, _keep_random_numbers, _keep_torch_settings):
            keep(stack)
        try:
            yield
        except SystemExit as stop:  # what Lightning makes of a second ctrl-C; a notebook's kernel outlives it
            raise KeyboardInterrupt from stop


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def _keep_hydra(stack: ExitStack) -> None:
    """Lend Hydra's two singletons to the run and give them back, since the caller may use Hydra, too."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    of_caller, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg

    def give_back() -> None:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = of_caller, config

    stack.callback(give_back)
    GlobalHydra.instance().clear()


def _keep_logging(stack: ExitStack) -> None:
    """Set the caller's log handlers aside for the run, which writes to standard error and its own ``train.log``."""
    root = logging.getLogger()
    stack.callback(setattr, root, "handlers", root.handlers)
    stack.callback(lambda: [handler.close() for handler in root.handlers])
    for logger in (root, *logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            stack.callback(logger.setLevel, logger.level)
    root.handlers = []


def _keep_signals(stack: ExitStack) -> None:
    """Put signal handlers back. Only the main thread can set them; Lightning leaves ctrl-C ignored after a run."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if (handler := signal.getsignal(number)) is not None:  # None: not set from Python
            stack.callback(signal.signal, number, handler)


def _keep_random_numbers(stack: ExitStack) -> None:
    import numpy as np
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    stack.enter_context(torch.random.fork_rng(devices=gpus))
    stack.callback(random.setstate, random.getstate())
    stack.callback(np.random.set_state, np.random.get_state())


def _keep_torch_settings(stack: ExitStack) -> None:
    import torch

    stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    stack.callback(
        torch.use_deterministic_algorithms,
        torch.are_deterministic_algorithms_enabled(),
        warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(False)
