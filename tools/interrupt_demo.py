"""Stop the demo with ctrl-C at random moments and go on, and compare with one that nobody stopped.

    python tools/interrupt_demo.py --folder outputs/interrupt_demo            # the quick demo, minutes on two cores
    python tools/interrupt_demo.py --folder outputs/interrupt_demo --write    # the result into docs/results/

Both run with one thread, so that a busy machine changes nothing. In the end samples, scores and pictures must agree to
the bit.
"""

import argparse
import datetime
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import studies
from unirae.core.io import read_json, write_json
from unirae.core.log import get_logger

RESULT = studies.ROOT / "docs/results/interrupt_demo.json"
INTERRUPTED = 130

log = get_logger(__name__)


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """The quick demo in a process group of its own, as a terminal has it; what it says goes into a file."""
    command = [sys.executable, "-m", "unirae", "demo", "--quick", "--output_dir", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "console.txt", "ab") as console:
        return subprocess.Popen(
            command,
            stdout=console,
            stderr=console,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def finish(folder: Path) -> float:
    """Run or continue the demo to its end; its seconds."""
    started = time.monotonic()
    if start(folder).wait() != 0:
        raise SystemExit(f"the demo failed; see {folder / 'console.txt'}")
    return time.monotonic() - started


def interrupt(folder: Path, after: float) -> str | None:
    """Run or continue, send what ctrl-C sends to the whole group, and wait.

    Args:
        after: seconds from the first line that the demo says.

    Returns:
        The last line that it had said, or None where it was finished before.
    """
    console = folder / "console.txt"
    before = console.stat().st_size if console.is_file() else 0
    demo = start(folder)
    try:
        while console.stat().st_size == before and demo.poll() is None:
            time.sleep(0.05)
        time.sleep(after)
        said = console.read_text(errors="replace").strip().splitlines()[-1]
        if demo.poll() == 0:
            return None
        os.killpg(demo.pid, signal.SIGINT)
        if (code := demo.wait()) != INTERRUPTED:
            raise SystemExit(
                f"interrupted {after:.1f} s after its first line, the demo ended with {code} instead of {INTERRUPTED}; "
                f"see {console}"
            )
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
    return said.split(" ", 1)[-1][:80]


def differences(stopped: Path, whole: Path) -> list[str]:
    """What is not the same in two finished demos; empty where they agree to the bit."""
    found = []
    for pattern in ("samples/**/*.png", "samples/*.csv", "pictures/*.png"):
        names = [{file.relative_to(folder) for file in folder.glob(pattern)} for folder in (stopped, whole)]
        if names[0] != names[1] or not names[0]:
            found.append(f"the files of {pattern}")
        found += [
            str(name)
            for name in sorted(names[0] & names[1])
            if (stopped / name).read_bytes() != (whole / name).read_bytes()
        ]
    scores = [read_json(folder / "scores.json") for folder in (stopped, whole)]
    if scores[0]["rows"] != scores[1]["rows"]:
        found.append("scores of the reconstructions")
    if scores[0]["generation"]["rows"] != scores[1]["generation"]["rows"]:
        found.append("scores of the samples")
    return found


def main() -> int:
    """Command line; the exit status is 1 where the stopped demo differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for both demos")
    parser.add_argument("--stops", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--write", action="store_true", help="the result into docs/results/interrupt_demo.json"
    )
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} exists already; name a new folder")
    whole, stopped = options.folder.resolve() / "whole", options.folder.resolve() / "stopped"
    seconds = finish(whole)
    draws = random.Random(options.seed)
    moments: list[dict[str, Any]] = []
    for _ in range(options.stops):
        after = draws.uniform(0.0, 1.5 * seconds / options.stops)  # a restart takes time, too
        said = interrupt(stopped, after)
        if said is None:
            log.warning("finished before stop %d", len(moments) + 1)
            break
        moments.append({"seconds": round(after, 1), "said": said})
        log.warning("stopped after %.1f s: %s", after, said)
    finish(stopped)
    content = {
        "stops": moments,
        "differences": differences(stopped, whole),
        "seconds_of_a_demo_left_alone": round(seconds),
        "machine": studies.MACHINE,
        "date": datetime.date.today().isoformat(),
    }
    write_json(RESULT if options.write else options.folder / "interrupt_demo.json", content)
    log.warning("%s", ", ".join(content["differences"]) or "equal to the bit")
    return int(bool(content["differences"]))


if __name__ == "__main__":
    sys.exit(main())
