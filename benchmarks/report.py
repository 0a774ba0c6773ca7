"""The tables and the plot of the measured ratios, from ``results/``, into README and docs.

    python benchmarks/report.py

They stand between two comments, ``<!-- benchmarks -->`` and ``<!-- end of benchmarks -->``.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import autoencoder
import cases
import muon_step
import sampling
import sampling_v2
import training_stage1
import training_stage2
import training_v2
import where_time_goes

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- benchmarks -->", "<!-- end of benchmarks -->"
PLOT = "docs/images/benchmarks.png"
KINDS = dict(
    zip(
        cases.PAIRS,
        ("fp32 against fp32", "ours by default (bf16) against its recommended fp32", "both in bf16"),
        strict=True,
    )
)


SCRIPTS = (training_stage1, training_stage2, autoencoder, sampling)
SCRIPTS_V2 = (training_v2, sampling_v2, muon_step)


def results(scripts: tuple[Any, ...] = SCRIPTS) -> list[dict[str, Any]]:
    """Those of the cases that were measured against the reference, in the order of the scripts."""
    names = [case.name for script in scripts for case in script.CASES]
    files = [cases.RESULTS / f"{name}.json" for name in names]
    found = [json.loads(file.read_text()) for file in files if file.is_file()]
    return [result for result in found if result["ratios"]]


def gpu_results() -> list[dict[str, Any]]:
    """Those that were measured on a GPU, by any script."""
    found = [json.loads(file.read_text()) for file in sorted(cases.RESULTS.glob("*.json"))]
    return [result for result in found if result.get("ratios") and "gpu" in result.get("machine", {})]


def avx2_results() -> list[dict[str, Any]]:
    """Those that were measured without AVX-512, by any script, with whole titles: the row above may be missing."""
    found = []
    for script in (*SCRIPTS, *SCRIPTS_V2):
        begun = ""
        for case in script.CASES:
            begun = begun if case.title.startswith("… ") else case.title
            file = cases.RESULTS / f"avx2_{case.name}.json"
            if file.is_file() and (result := json.loads(file.read_text()))["ratios"]:
                found.append({**result, "what": case.title.replace("… ", f"{begun}, ")})
    return found


def without_avx512(found: list[dict[str, Any]]) -> str:
    """Ratios and sides without AVX-512; empty before they are measured."""
    if not found:
        return ""
    shown = [summary(found), details(found), f"Measured on: {where(found)}, with the code paths of AVX2."]
    shown += [profile] if (profile := profiles("avx2_where_time_goes_v2")) else []
    return "## Without AVX-512\n\n" + "".join(f"{part}\n\n" for part in shown)


def summary(found: list[dict[str, Any]]) -> str:
    """Ratios, a line for each case."""
    lines = [
        "| work | fp32, both | default against recommended | bf16, both | memory |",
        "|---|---|---|---|---|",
    ]
    for result in found:
        ratios = result["ratios"]
        cells = [f"{ratios[kind]['speed']:.2f}" if kind in ratios else "–" for kind in KINDS]
        compared = ratios.get("default against recommended") or ratios.get("equal precision") or {}
        memory = compared.get("memory")
        lines.append(f"| {result['what']} | {' | '.join(cells)} | {memory or '–'} |")
    return "\n".join(lines)


def details(found: list[dict[str, Any]]) -> str:
    """Every side of every case."""
    lines = [
        "| work | side | s | images/s | peak GB | model GFLOP | of bf16 products | of fp32 products |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in found:
        for name, side in result["sides"].items():
            lines.append(
                f"| {result['what']} | {name} | {side['median']} | {side['images_per_second']} | {side['peak_gb']} | "
                f"{result['model_gflops']} | {cases.share(side, 'bf16')} | {cases.share(side, 'fp32')} |"
            )
    return "\n".join(lines)


def beside_raev2(found: list[dict[str, Any]]) -> str:
    """Ratios and sides of the cases that RAEv2 was measured in; empty before they are."""
    if not found:
        return ""
    shown = [summary(found), details(found), f"Measured on: {where(found)}.", profiles("where_time_goes_v2")]
    return "## Beside RAEv2\n\n" + "".join(f"{part}\n\n" for part in shown if part)


def evaluations() -> str:
    """Scoring folders of images beside torch-fidelity."""
    lines = ["| work | ours, s | torch-fidelity, s | ratio |", "|---|---|---|---|"]
    for file in sorted(cases.RESULTS.glob("evaluation_*.json")):
        result = json.loads(file.read_text())
        ours, theirs = (statistics.median(result["seconds"][side]) for side in ("unirae", "torch_fidelity"))
        lines.append(
            f"| {result['what']} | {ours:.1f} | {theirs:.1f} | {result['ratios']['torch_fidelity']['speed']:.2f} |"
        )
    return "\n".join(lines)


def profiles(name: str) -> str:
    """Where the time of our steps goes, of one group."""
    file = cases.RESULTS / f"{name}.json"
    if not file.is_file():
        return ""
    result = json.loads(file.read_text())
    peak = result["products_of_2048_gflops_per_second"]
    kinds = [*where_time_goes.KINDS, where_time_goes.COMPILED, where_time_goes.REST]
    lines = [
        f"| work of ours | s | {' | '.join(kinds)} | products and convolutions, GFLOP/s |",
        "|---|---|" + "---|" * (len(kinds) + 1),
    ]
    for step in result["steps"].values():
        for precision, found in step.items():
            if precision == "what":
                continue
            shares = " | ".join(f"{found['shares'][kind]:.0%}" for kind in kinds)
            lines.append(
                f"| {step['what']}, {precision} | {found['seconds']:.2f} | {shares} | "
                f"{found['products_gflops_per_second']} |"
            )
    in_bf16 = f"{peak['bfloat16']} GFLOP/s in bf16 and " if "bfloat16" in peak else ""
    return (
        "\n".join(lines)
        + f"\n\nA product of 2048×2048 matrices reaches {in_bf16}{peak['float32']} GFLOP/s in fp32 "
        f"by MKL there ({where([result])}). What is missing to 100 % is Python, Lightning and waiting."
    )


def memory_profile() -> str:
    """Where the memory of both sides goes."""
    file = cases.RESULTS / "where_memory_goes.json"
    if not file.is_file():
        return ""
    result = json.loads(file.read_text())
    parts = ("libraries", "tensors", "unit", "peak")
    brought = ", ".join(
        f"`{name}` {one['mb']} MB and {one['seconds']} s" for name, one in result["libraries"].items()
    )
    lines = [
        "| work | side | libraries, MB | tensors that stay | a unit's own | peak |",
        "|---|---|---|---|---|---|",
    ]
    for found in result["cases"].values():
        for side, sizes in found.items():
            if side != "what":
                lines.append(
                    f"| {found['what']} | {side} | {' | '.join(str(sizes[part]) for part in parts)} |"
                )
    return (
        "## Where the memory goes\n\n"
        + "\n".join(lines)
        + "\n\nA process whose work is small is mostly its libraries. One after the other they add "
        f"{brought}; ours has Lightning and transformers in training. Weights whose files stay mapped (the "
        f"reference's encoder) count as libraries. Measured on: {where([result])}, by `where_memory_goes.py`.\n\n"
    )


def tar_reading() -> str:
    """Reading of tar shards beside webdataset; empty before it is measured."""
    file = cases.RESULTS / "tar_reading.json"
    if not file.is_file():
        return ""
    result = json.loads(file.read_text())
    lines = [
        "| pictures out of tar shards, in random order | ours, images/s | webdataset, images/s | ratio |",
        "|---|---|---|---|",
    ]
    for title, sides in result["reading"].items():
        speeds = " | ".join(str(side["images_per_second"]) for side in sides.values())
        ratio = result["ratios"][title]
        lines.append(
            f"| {title} | {speeds} | {ratio['speed']:.2f} ({ratio['lowest']} to {ratio['highest']}) |"
        )
    pictures, versions = result["pictures"], result["versions"]
    images = pictures["shards"] * pictures["of_each"]
    return (
        "## Tar shards beside webdataset\n\n"
        + "\n".join(lines)
        + f"\n\n{images} JPEG files of {pictures['mean_kb']} kB in {pictures['shards']} shards, in the page cache, "
        "through torch's loader; ours in the order of training, webdataset with shuffled shards and a buffer of 1000 "
        f"samples. Indexing all shards, once, takes ours {result['indexing_seconds']} s. The machine's load before was "
        f"{result['load_before']}. Measured on: {where([result])}, pillow {versions['pillow']}, webdataset "
        f"{versions['webdataset']}, by `tar_reading.py`.\n\n"
    )


def where(found: list[dict[str, Any]]) -> str:
    """The machines and versions; where there are several, the first says what was measured on the others."""
    seen: dict[str, list[str]] = {}
    for result in found:
        machine, versions = result["machine"], result["versions"]
        commit = f", reference {versions['reference'][:7]}" if versions["reference"] else ""
        gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
        machine = f"{gpu}{machine['processor']}, {machine['cores']} cores, torch {versions['torch']}{commit}"
        seen.setdefault(machine, []).append(result.get("what", ""))
    first, *others = seen
    return "; ".join([first, *(f"{machine} ({'; '.join(seen[machine])})" for machine in others)])


def reading(result: dict[str, Any]) -> str:
    """How many images a process reads, what a loader delivers, and what steps consume."""
    names = list(next(iter(result["reading"].values())))
    lines = [f"| images/s of one process | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for title, sides in result["reading"].items():
        lines.append(f"| {title} | {' | '.join(str(sides[name]['images_per_second']) for name in names)} |")
    by_workers = ", ".join(
        f"{count} workers {side['images_per_second']}" for count, side in result["loader"].items()
    )
    taken = [
        f"| {found['what']} | {found['sides'][cases.OURS]['images_per_second']} |"
        for found in results()
        if "step" in found["what"]
    ]
    far = [
        f"| {title} | {' | '.join(map(distance, found.values()))} |"
        for title, found in result["distance"].items()
    ]
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items() if value)
    machine = result["machine"]
    return "\n\n".join(
        [
            "\n".join(lines),
            "\n".join(
                [
                    "| distance from exact | ours, default | with `data.fast_decode=true` |",
                    "|---|---|---|",
                    *far,
                ]
            ),
            f"Images/s of a loader of stage 1, {next(iter(result['pictures']))}: {by_workers}.",
            "\n".join(
                [
                    "| images/s that a step consumes, on the machine of docs/benchmarks.md | ours |",
                    "|---|---|",
                    *taken,
                ]
            ),
            f"Measured on: {machine['processor']}, {machine['cores']} cores, {versions}.",
        ]
    )


def memory(result: dict[str, Any]) -> str:
    """What needs how much, and what fits."""
    gpus = list(result["rows"][0]["micro_batch"])
    lines = [
        f"| experiment | recomputing | GB of its own | MB an image | {' | '.join(f'{gpu} GB' for gpu in gpus)} |",
        "|---" * (len(gpus) + 4) + "|",
    ]
    for row in result["rows"]:
        cells = [str(row["micro_batch"][gpu] or "–") for gpu in gpus]
        lines.append(
            f"| {row['title']} | {'yes' if row['recomputed'] else 'no'} | {row['fixed_gb']:.1f} | "
            f"{row['mb_per_image']:.0f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + f"\n\nRehearsed with torch {result['versions']['torch']}."


def distance(found: dict[str, Any]) -> str:
    """From exact pixels."""
    if found["lowest_psnr_db"] is None:
        return "none"
    share, levels = found["share_of_values"], found["largest_levels"]
    return f"{found['lowest_psnr_db']} dB, {share:.1%} of the values, up to {levels}"


def draw(found: list[dict[str, Any]], file: Path) -> None:
    """The ratios as bars, with the spread over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.75 * len(found) + 1.2), layout="constrained")
    height = 0.8 / len(KINDS)
    for number, (kind, label) in enumerate(KINDS.items()):
        places = [row + (number - 1) * height for row in range(len(found))]
        ratios = [result["ratios"][kind] for result in found]
        speeds = [ratio["speed"] for ratio in ratios]
        spread = [
            [ratio["speed"] - ratio["lowest"] for ratio in ratios],
            [ratio["highest"] - ratio["speed"] for ratio in ratios],
        ]
        axes.barh(places, speeds, height, xerr=spread, label=label, error_kw={"lw": 0.8})
    axes.set_yticks(range(len(found)), [result["what"] for result in found], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="black", lw=0.8)
    axes.set_xlabel("time of the reference / time of ours")
    figure.legend(fontsize=8, loc="outside upper right", ncols=len(KINDS))
    figure.savefig(file, dpi=110)


def put(file: Path, text: str) -> None:
    """Between the two comments of a page."""
    page = file.read_text()
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> None:
    """Write all."""
    found = results()
    note = f"Measured on: {where(found)}."
    picture = f"![Time of the official code over ours]({PLOT.removeprefix('docs/')})"
    by_gpu = gpu_results()
    on_gpu = f"{summary(by_gpu)}\n\nMeasured on: {where(by_gpu)}."
    put(
        ROOT / "docs/benchmarks.md",
        f"{summary(found)}\n\n{picture}\n\n{details(found)}\n\n{note}\n\n{profiles('where_time_goes')}\n\n"
        f"{beside_raev2(results(SCRIPTS_V2))}{without_avx512(avx2_results())}"
        f"{memory_profile()}{tar_reading()}"
        f"## On a GPU\n\n{on_gpu}\n\n{details(by_gpu)}".rstrip(),
    )
    put(ROOT / "docs/evaluation.md", evaluations())
    put(ROOT / "README.md", f"{summary(found)}\n\n{note}\n\n{on_gpu}")
    draw(found, ROOT / PLOT)
    if (file := cases.RESULTS / "data.json").is_file():
        put(ROOT / "docs/data.md", reading(json.loads(file.read_text())))
    if (file := cases.RESULTS / "memory.json").is_file():
        put(ROOT / "docs/memory.md", memory(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
