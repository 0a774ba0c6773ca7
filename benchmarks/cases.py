"""What a case of a benchmark is, and how its sides are compared, recorded and shown."""

import argparse
import importlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import official
import official_v2
import ours
from paced import Measured, Side, interleave, one_by_one

RESULTS = Path(__file__).parent / "results"
OURS, OURS_FP32, THEIRS_FP32, THEIRS_BF16 = "ours", "ours fp32", "reference fp32", "reference bf16"
PRODUCTS = {"fp32": "fp32 products", "bf16": "bf16 products"}
PRODUCT_SIZE = {"cpu": 2048, "cuda": 8192}
_LOST = 0.85
"""A ratio below this share of the committed one is a regression; rounds of a shared machine differ by less."""


@dataclass(frozen=True)
class Reference:
    """Code that ours is measured beside.

    Attributes:
        module: of this folder, whose functions do the works.
        option: of the command, that names a checkout.
        repository: on GitHub.
        mark: a file by which a checkout is known.
    """

    module: str
    option: str
    repository: str
    mark: str

    def check(self, parser: argparse.ArgumentParser, folder: Path | None) -> None:
        """End the command if that is no checkout."""
        if folder is not None and not (folder / self.mark).is_file():
            parser.error(f"{self.option} {folder} has no {self.mark}: it is no checkout of {self.repository}")


RAE = Reference("official", "--against", "bytetriper/RAE", official.MARK)
RAEV2 = Reference("official_v2", "--against_v2", "nanovisionx/RAEv2", official_v2.MARK)
GRAM = Reference("official_v2", "--gram", "Dao-AILab/gram-newton-schulz", official_v2.GRAM_MARK)
"""RAEv2's Muon, in a checkout of its own."""


@dataclass(frozen=True)
class Case:
    """A piece of work that both implementations do.

    Attributes:
        name: of its file of results.
        title: for the tables, with sizes.
        images: of one unit.
        work: function of that name in ``ours`` and in the reference's module.
        ours, theirs: options of it beside ``precision``.
        training: whether precisions are named as trainers do.
        rounds: how often each side takes its turn.
        warmup: units before the first round.
        by_pairs: not all sides at once, for which the memory would not do, but the two of a ratio after another.
        only: the sides that take part, in this order; empty means all.
        units: of a round on CUDA.
        tf32: the reference lets 32-bit products on CUDA be TF32, and so do ours then.
        compile_together: on CUDA sides make their first unit at the same time, for those that compile long.
        reference: whose code theirs is.
        agreement: ``module:function`` of this folder that computes, in a process of its own, how far both are apart
            for equal weights and inputs, by name, before anything is timed; it raises if they are not the same.
    """

    name: str
    title: str
    images: int
    work: str
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)
    training: bool = False
    rounds: int = 7
    warmup: int = 2
    by_pairs: bool = False
    only: tuple[str, ...] = ()
    units: int = 5
    tf32: bool = False
    compile_together: bool = False
    reference: Reference = RAE
    agreement: str = ""

    def of_batch(self, batch: int | None) -> "Case":
        """The same work on as many images."""
        if batch is None or batch == self.images:
            return self
        return replace(
            self,
            name=f"{self.name}_batch{batch}",
            title=re.sub(r"batch \d+", f"batch {batch}", self.title),
            images=batch,
            ours={**self.ours, "batch": batch},
            theirs={**self.theirs, "batch": batch},
        )


PAIRS = {
    "equal precision": (THEIRS_FP32, OURS_FP32),
    "default against recommended": (THEIRS_FP32, OURS),
    "both bf16": (THEIRS_BF16, OURS),
}
"""Ratios: time of the first over time of the second."""


def main(cases: Sequence[Case], *, description: str) -> None:
    """The command of one script: measure its cases, and write or check their results."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reference = cases[0].reference
    parser.add_argument(
        reference.option,
        dest="against",
        type=Path,
        metavar="DIR",
        help=f"a checkout of the official code ({reference.repository})",
    )
    if reference is RAEV2:
        parser.add_argument(
            GRAM.option, type=Path, metavar="DIR", help=f"one of {GRAM.repository}, if it is not installed"
        )
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=[case.name for case in cases])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--batch", type=int, help="images, in place of the cases' own number")
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], help="by default CUDA where there is a card of it, else the CPU"
    )
    parser.add_argument(
        "--precision", choices=["fp32"], help="leave out all that is in bf16, for processors without it"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed results; write nothing"
    )
    options = parser.parse_args()
    reference.check(parser, options.against)
    gram = getattr(options, "gram", None)
    GRAM.check(parser, gram)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch asks; the sides inherit it
    elif options.device == "cuda" and ours.device().type == "cpu":
        parser.error("--device cuda: torch finds no CUDA device")
    worse = []
    for case in cases:
        if options.only and case.name not in options.only:
            continue
        case = case.of_batch(options.batch)
        if gram is not None:
            case = replace(case, theirs={**case.theirs, "gram": str(gram.resolve())})
        if options.precision == "fp32":
            case = replace(case, only=(OURS_FP32, THEIRS_FP32))
        result = measure(case, options.against, rounds=options.rounds or case.rounds)
        show(result)
        if options.check:
            worse += regressions(file_name(case.name), result)
        else:
            write(file_name(case.name), result)
    if worse:
        sys.exit("\n".join(worse))


def sides(case: Case, against: Path | None) -> list[Side]:
    """Ours at its default and in fp32, theirs as recommended and in bf16, and the machine's own products."""
    names = {"fp32": "32-true", "bf16": "bf16-mixed"} if case.training else {"fp32": "fp32", "bf16": "bf16"}
    device = ours.device().type
    tf32 = case.tf32 and device == "cuda"
    in_fp32 = {**case.ours, "precision": names["fp32"]}
    if tf32 and case.training:
        in_fp32["overrides"] = (*case.ours.get("overrides", ()), "trainer.float32_matmul=high")
    found = [
        Side(OURS, f"ours:{case.work}", {**case.ours, "precision": names["bf16"]}),
        Side(OURS_FP32, f"ours:{case.work}", in_fp32),
    ]
    if against is not None:
        options = {**case.theirs, "root": str(against.resolve())}
        found += [
            Side(THEIRS_FP32, f"{case.reference.module}:{case.work}", {**options, "precision": "fp32"}),
            Side(THEIRS_BF16, f"{case.reference.module}:{case.work}", {**options, "precision": "bf16"}),
        ]
    if case.only:
        found = [side for name in case.only for side in found if side.name == name]
    size, fp32 = {"size": PRODUCT_SIZE[device]}, {"backend": "high" if tf32 else "highest"}
    products = [Side(PRODUCTS["fp32"], "ours:products", {"dtype": "float32", **size, **fp32})]
    if {side.name for side in found} - {OURS_FP32, THEIRS_FP32}:  # without it bf16 may be very slow
        products.append(Side(PRODUCTS["bf16"], "ours:products", {"dtype": "bfloat16", **size}))
    return [*found, *products]


def measure(case: Case, against: Path | None, *, rounds: int) -> dict[str, Any]:
    """One case's record, ready for JSON."""
    apart = _agreement(case, against)
    every = sides(case, against)
    found = _measured(case, every, rounds)
    measured = {name: one for group in reversed(found) for name, one in group.items()}  # of two, the first
    work = {name: one for name, one in measured.items() if name not in PRODUCTS.values()}
    flops = _flops(work)
    # a peak is what the machine can do: the fastest round
    peak = {
        kind: product_flops() / min(measured[name].seconds)
        for kind, name in PRODUCTS.items()
        if name in measured
    }
    return {
        "what": case.title,
        "images": case.images,
        "model_gflops": round(flops / 1e9, 1),
        "products_gflops_per_second": {kind: round(value / 1e9) for kind, value in peak.items()},
        "sides": {
            side.name: _described(work[side.name], case, flops, peak) for side in every if side.name in work
        },
        "ratios": {name: ratio for group in found for name, ratio in _ratios(group).items()},
        **({"apart": apart} if apart else {}),
        "machine": machine(),
        "versions": versions(against, case.theirs.get("gram")),
    }


def _agreement(case: Case, against: Path | None) -> dict[str, float]:
    """How far both sides are apart, by name; nothing where that is not computed."""
    if against is None or not case.agreement:
        return {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_call, case.agreement, str(against.resolve()), case.theirs).result()


def _call(function: str, root: str, options: dict[str, Any]) -> dict[str, float]:
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)(root, options)


def product_flops() -> int:
    """Operations of a unit of ``ours:products`` at the size for this device."""
    return ours.PRODUCTS_AT_ONCE * 2 * PRODUCT_SIZE[ours.device().type] ** 3


def _measured(case: Case, every: list[Side], rounds: int) -> list[dict[str, Measured]]:
    """By groups of sides that were measured beside each other."""
    if ours.device().type == "cuda":
        settings: dict[str, Any] = {"counted": (OURS,), "warm_together": case.compile_together}
        return [one_by_one(every, rounds=rounds, warmup=case.warmup, units=case.units, **settings)]
    groups = _groups(every) if case.by_pairs else [every]
    return [interleave(group, rounds=rounds, warmup=case.warmup) for group in groups]


def _flops(work: dict[str, Measured]) -> int:
    """Of a unit of ours, whatever its precision; 0 where they were not counted."""
    counted = [work[name].flops for name in (OURS, OURS_FP32) if name in work]
    return next((flops for flops in counted if flops), 0)


def _groups(every: list[Side]) -> list[list[Side]]:
    """The two sides of each ratio with the machine's products; without a reference each side of ours."""
    names = {side.name for side in every}
    pairs = [pair for pair in PAIRS.values() if set(pair) <= names] or [(OURS,), (OURS_FP32,)]
    return [[side for side in every if side.name in (*pair, *PRODUCTS.values())] for pair in pairs]


def _described(one: Measured, case: Case, flops: int, peak: dict[str, float]) -> dict[str, Any]:
    return {
        "seconds": [round(value, 4) for value in one.seconds],
        "median": round(one.median, 4),
        "images_per_second": round(case.images / one.median, 2),
        "peak_gb": None if one.peak_bytes is None else round(one.peak_bytes / 1e9, 2),
        # model FLOPs are those of ours, which computes nothing twice
        **{f"share_of_{kind}_products": round(flops / one.median / rate, 3) for kind, rate in peak.items()},
    }


def _ratios(measured: dict[str, Measured]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (theirs, own) in PAIRS.items():
        if theirs in measured and own in measured:
            rounds = [a / b for a, b in zip(measured[theirs].seconds, measured[own].seconds, strict=True)]
            found[name] = {
                "speed": round(statistics.median(rounds), 2),
                "lowest": round(min(rounds), 2),
                "highest": round(max(rounds), 2),
                "memory": _memory_ratio(measured[own], measured[theirs]),
            }
    return found


def _memory_ratio(own: Measured, theirs: Measured) -> float | None:
    if own.peak_bytes is None or theirs.peak_bytes is None:
        return None
    return round(own.peak_bytes / theirs.peak_bytes, 2)


def machine() -> dict[str, Any]:
    """Where it ran."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = dict(
            line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
        )
        given = {key.strip(): value.strip() for key, value in lines.items()}
        name = given.get("model name", name)
        if "cpu family" in given:  # virtual machines call every processor alike
            name += f" (family {given['cpu family']}, model {given['model']})"
    found = {
        "processor": name,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "instructions": _instructions(),
    }
    return found | ({"gpu": gpu} if (gpu := _gpu()) else {})


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if ours.device().type == "cuda" else None


def _instructions() -> str:
    """``avx512``, ``avx2`` …, that torch's kernels use: the processor's, or what ATEN_CPU_CAPABILITY forces."""
    import torch

    return torch.backends.cpu.get_cpu_capability().lower()


def file_name(name: str) -> str:
    """Of a case's results: of a GPU they begin with its name, such as ``h100``, without AVX-512 with ``avx2``."""
    if not _gpu() and _instructions() == "avx2":
        return f"avx2_{name}"
    words = re.findall(r"[a-z]+\d+[a-z]*", (_gpu() or "").lower())
    return f"{words[0] if words else 'gpu'}_{name}" if _gpu() else name


def versions(against: Path | None, gram: str | None = None) -> dict[str, Any]:
    """Of what ran."""
    from importlib.metadata import version

    found = {"unirae": version("unirae"), "torch": version("torch"), "reference": _commit(against)}
    return found | ({"gram_newton_schulz": _commit(Path(gram))} if gram else {})


def _commit(folder: Path | None) -> str | None:
    if folder is None or not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def show(result: dict[str, Any]) -> None:
    """A few lines on the terminal."""
    print(result["what"])
    for name, side in result["sides"].items():
        print(
            f"  {name:15s} {side['median']:8.3f} s {side['images_per_second']:8.2f} images/s {side['peak_gb']} GB, "
            f"{share(side, 'bf16')} of bf16 products, {share(side, 'fp32')} of fp32"
        )
    for name, ratio in result["ratios"].items():
        print(
            f"  {name}: {ratio['speed']} ({ratio['lowest']} to {ratio['highest']}), memory {ratio['memory']}"
        )
    for name, distance in result.get("apart", {}).items():
        print(f"  {name}: {distance:.1e} apart")
    sys.stdout.flush()


def share(side: dict[str, Any], kind: str) -> str:
    """Of the speed of products that a side reached."""
    found = side.get(f"share_of_{kind}_products")
    return "–" if found is None else f"{found:.0%}"


def write(name: str, result: dict[str, Any]) -> None:
    """Into ``results/``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def regressions(name: str, result: dict[str, Any]) -> list[str]:
    """What became slower than the committed results say, by the ratios; a line each."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return [f"{name}: no committed results to compare with"]
    before = json.loads(file.read_text())["ratios"]
    return [
        f"{name}, {what}: {ratio['speed']} now, {before[what]['speed']} committed"
        for what, ratio in result["ratios"].items()
        if what in before and ratio["speed"] < _LOST * before[what]["speed"]
    ]
