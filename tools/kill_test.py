"""Kill tiny runs at random moments, half of them while a checkpoint is written, and continue them.

    python tools/kill_test.py --folder outputs/kill_test            # minutes on two cores; trains its own encoder
    python tools/kill_test.py --folder outputs/kill_test --write    # the result into docs/results/kill_test.json

Of each experiment one run is left alone and another one is killed (SIGKILL) again and again and continued by
``ckpt_path=last``. In the end both must agree to the bit: weights, averages, optimizer states, scores and metrics.csv
apart from what measures the machine's speed. A kill counts as one while a checkpoint was written if it left the
temporary file of the checkpoint behind.
"""

import argparse
import datetime
import os
import platform
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from unirae.core.io import load_tensors, read_json, write_json
from unirae.core.log import get_logger
from unirae.training.csv_logger import read_metrics

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "docs/results/kill_test.json"
SPEED = ("train/images_per_s", "train/time_left_s", "train/data_wait")
"""Columns that measure the machine."""

log = get_logger(__name__)


def train(experiment: str, folder: Path, *overrides: str) -> "subprocess.Popen[bytes]":
    """``src/train.py`` in a process and a group of its own; what it says goes into a file."""
    command = [
        *(sys.executable, str(ROOT / "src/train.py"), f"experiment={experiment}"),
        *(f"paths.output_dir={folder}", "trainer.float32_matmul=highest", "logger.tensorboard=false"),
        *overrides,
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "console.txt", "ab") as console:
        return subprocess.Popen(command, stdout=console, stderr=console, start_new_session=True)


def finish(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait for a run that nobody kills."""
    if process.wait() != 0:
        raise SystemExit(f"a run failed; see {folder / 'console.txt'}")


class Killer:
    """One run that is killed, and what became of it."""

    def __init__(self, experiment: str, folder: Path, overrides: list[str], *, seed: int) -> None:
        self.experiment, self.folder, self.overrides = experiment, folder, overrides
        self.random = random.Random(seed)
        self.at_steps: list[int] = []
        self.while_writing = 0
        self.checkpoints = folder / "checkpoints"

    def kill(self, *, writing: bool) -> None:
        """Start or continue, wait for the next whole checkpoint, then kill at a moment of the wished kind."""
        process = self._start()
        before = self._changed()
        self._wait(process, lambda: self._changed() != before)
        if writing:
            self._wait(process, self._is_writing)
            time.sleep(self.random.uniform(0, 0.003))
        else:
            time.sleep(self.random.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.while_writing += self._is_writing()
        self.at_steps.append(load_tensors(self.checkpoints / "last.ckpt")["global_step"])

    def end(self) -> None:
        """Continue to the last step."""
        finish(self._start(), self.folder)

    def _start(self) -> "subprocess.Popen[bytes]":
        resume = ["ckpt_path=last"] if (self.checkpoints / "last.ckpt").exists() else []
        return train(self.experiment, self.folder, *self.overrides, *resume)

    def _changed(self) -> int:
        last = self.checkpoints / "last.ckpt"
        return last.stat().st_mtime_ns if last.exists() else 0

    def _is_writing(self) -> bool:
        return any(self.checkpoints.glob(".last.ckpt.*.tmp"))

    def _wait(self, process: "subprocess.Popen[bytes]", condition: Any) -> None:
        while not condition():
            if process.poll() is not None:
                raise SystemExit(f"a run ended before its kill; see {self.folder / 'console.txt'}")
            time.sleep(0.0005)


def differences(killed: Path, whole: Path) -> list[str]:
    """What is not the same in two runs; empty where they agree to the bit."""
    found = []
    mine, theirs = (load_tensors(run / "checkpoints/last.ckpt") for run in (killed, whole))
    for key in ("global_step", "state_dict", "optimizer_states"):
        if not same(mine[key], theirs[key]):
            found.append(key)
    if rows(killed) != rows(whole):
        found.append("metrics.csv")
    for kind in ("eval", "samples"):
        names = [sorted(path.name for path in (run / kind).glob("*")) for run in (killed, whole)]
        if names[0] != names[1]:
            found.append(f"the files of {kind}/")
    for file in (whole / "eval").glob("*.json"):
        if read_json(killed / "eval" / file.name)["metrics"] != read_json(file)["metrics"]:
            found.append(f"eval/{file.name}")
    return found


def same(first: Any, second: Any) -> bool:
    """Whether two nests of tensors and plain values are equal to the bit."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of ``metrics.csv`` without what measures the machine."""
    return [
        {name: value for name, value in row.items() if name not in SPEED}
        for row in read_metrics(folder / "csv/metrics.csv")
    ]


def measure(experiment: str, folder: Path, own: list[str], *, kills: int, seed: int) -> dict[str, Any]:
    """A run alone, one that is killed, and how they differ."""
    whole, killed = folder / f"{experiment}_whole", folder / f"{experiment}_killed"
    finish(train(experiment, whole, *own), whole)
    killer = Killer(experiment, killed, own, seed=seed)
    kinds = [True] * (kills // 2) + [False] * (kills - kills // 2)
    killer.random.shuffle(kinds)
    for writing in kinds:
        killer.kill(writing=writing)
        log.warning("%s: killed after the checkpoint of step %d", experiment, killer.at_steps[-1])
    killer.end()
    return {
        "kills": kills,
        "while_a_checkpoint_was_written": killer.while_writing,
        "continued_from_steps": killer.at_steps,
        "differences": differences(killed, whole),
    }


def settings(steps: int) -> list[str]:
    """A run of this many steps with a checkpoint every ten; scores and pictures every 40."""
    return [
        *(f"trainer.max_steps={steps}", "trainer.log_every_n_steps=1", "trainer.precision=32-true"),
        *("callbacks.model_checkpoint.every_n_train_steps=10", "model.sample_every=40", "data.num_workers=1"),
    ]


def main() -> int:
    """Command line; the exit status is 1 where a continued run differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the runs")
    parser.add_argument("--experiments", nargs="+", default=["rae_tiny", "dit_tiny"], metavar="NAME")
    parser.add_argument("--kills", type=int, default=10, help="of each experiment")
    parser.add_argument("--steps", type=int, default=120, help="of a run; more than ten for each kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--write", action="store_true", help=f"the result into {RESULT.relative_to(ROOT)}")
    options = parser.parse_args()
    if options.steps < 10 * (options.kills + 1):
        parser.error("each kill needs ten steps of its own, and the end ten more")
    if options.folder.exists():
        parser.error(f"{options.folder} exists already; name a new folder")
    started, folder = time.monotonic(), options.folder.resolve()
    encoder, rae = folder / "encoder", folder / "rae"
    finish(train("mae_tiny", encoder, "trainer.max_steps=20"), encoder)
    of_rae = [f"model.encoder.weights={encoder}", "callbacks.reconstruction_metrics.every_n_steps=40"]
    finish(train("rae_tiny", rae, *of_rae, "trainer.max_steps=20"), rae)
    of_dit = [
        *(f"model.rae.pretrained_decoder_path={rae}", "callbacks.generation_metrics.every_n_steps=40"),
        "callbacks.generation_metrics.num_samples=64",
    ]
    with_gan = ["model.disc_upd_start_step=30", "model.disc_start_step=50"]
    runs: dict[str, Any] = {}
    for name, own in (("rae_tiny", [*of_rae, *with_gan]), ("dit_tiny", of_dit)):
        if name in options.experiments:
            words = [*settings(options.steps), *own]
            runs[name] = measure(name, folder, words, kills=options.kills, seed=options.seed)
    about = {
        "steps": options.steps,
        "checkpoint_every": 10,
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "torch": str(torch.__version__),
        "date": datetime.date.today().isoformat(),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    file = RESULT if options.write else folder / "kill_test.json"
    before = read_json(file) if file.is_file() else {}
    write_json(file, before | {name: about | run for name, run in runs.items()})
    for name, run in runs.items():
        log.warning("%s: %s", name, ", ".join(run["differences"]) or "equal to the bit")
    return int(any(run["differences"] for run in runs.values()))


if __name__ == "__main__":
    sys.exit(main())
