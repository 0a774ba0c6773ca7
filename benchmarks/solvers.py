"""How far solvers end from a fine solution, against the evaluations of the network that they take.

    python benchmarks/solvers.py                                      # mixtures and a small network, minutes
    python benchmarks/solvers.py --checkpoint outputs/demo/dit --samples 1000    # a trained model, with its score

The distance is ‖x − x*‖/‖x*‖ over all samples, x* by Heun with 400 points of ``log_odds``. The sde solver is left out:
it follows other paths to the same distribution. Without --checkpoint it writes results/solvers.json, a plot and the
table of docs/sampling.md; with it results/solvers_<name>.json only, where --name says how. --check compares with these
files and writes nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cases
import torch
from flows import Problem, default_problems, network

from unirae.evaluation.sampling.settings import SamplerSettings
from unirae.flow.solvers import counting, dopri5, solve

ROOT = Path(__file__).parents[1]
PAGE, PLOT = ROOT / "docs/sampling.md", ROOT / "docs/images/solvers.png"
BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"
POINTS = (6, 8, 10, 17, 25, 50)
FINE = SamplerSettings(solver="heun", num_steps=400, time_grid="log_odds")
TOLERANCES = (1e-1, 1e-2, 1e-3)
_LARGER, _ROUNDING = 1.05, 1e-5
"""A distance is a regression where it is larger by this factor and this much: last digits are the machine's."""
Row = dict[str, Any]


def ways(problem: Problem) -> list[SamplerSettings]:
    """The fixed solvers on their grids, at every number of points; where there is a trunk, it is also kept."""
    kinds: list[dict[str, Any]] = [
        {"solver": "euler"},
        {"solver": "heun"},
        {"solver": "multistep"},
        {"solver": "multistep", "time_grid": "log_odds"},
        {"solver": "multistep3"},
        {"solver": "multistep3", "time_grid": "log_odds"},
    ]
    if problem.has_trunk:
        kinds += [{"solver": "euler", "trunk_every": every} for every in (2, 3)]
        kinds += [{"solver": "multistep3", "time_grid": "log_odds", "trunk_every": 2}]
    return [SamplerSettings(num_steps=points, **kind) for kind in kinds for points in POINTS]


def name_of(how: SamplerSettings) -> str:
    """Of a line in the plot."""
    kept = f", trunk every {how.trunk_every}" if how.trunk_every > 1 else ""
    return f"{how.solver}, {how.time_grid}{kept}"


@torch.inference_mode()
def measure(problem: Problem) -> list[Row]:
    """A row for each solver and number of evaluations."""
    fine = solve("heun", problem.velocity(FINE), problem.noise, problem.times(FINE))
    rows = [_row(problem, how, fine) for how in ways(problem)]
    for tolerance in TOLERANCES:
        velocity = counting(problem.velocity(SamplerSettings()))
        found = dopri5(
            velocity, problem.noise, problem.times(SamplerSettings()), rtol=tolerance, atol=tolerance
        )
        rows.append({"way": "dopri5", "tolerance": tolerance, **_distance(found, fine, velocity.evaluations)})
    return rows


def _row(problem: Problem, how: SamplerSettings, fine: torch.Tensor) -> Row:
    velocity = counting(problem.velocity(how))
    found = solve(how.solver, velocity, problem.noise, problem.times(how))
    return {"way": name_of(how), "points": how.num_steps, **_distance(found, fine, velocity.evaluations)}


def _distance(found: torch.Tensor, fine: torch.Tensor, evaluations: int) -> Row:
    return {"evaluations": evaluations, "distance": float(f"{(found - fine).norm() / fine.norm():.3g}")}


def trunk_shares() -> dict[str, float]:
    """Of the operations of an evaluation, the trunk's part: DiT^DH on latents of 768×16×16, counted without memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from unirae.app.config.composition import compose
    from unirae.models.denoisers.build import build_denoiser

    shares = {}
    for size in ("s", "b", "l", "xl"):
        node = {**compose(["experiment=dit_dummy", f"model/dit=dh_{size}"])["model"]["dit"]}
        node.update(in_channels=768, input_size=16, num_classes=1000)
        with FakeTensorMode(), torch.no_grad():
            dit: Any = build_denoiser(**node)
            x, t, y = torch.zeros(1, 768, 16, 16), torch.zeros(1), torch.zeros(1, dtype=torch.long)
            with FlopCounterMode(display=False) as trunk:
                dit.run_trunk(x, dit.time_embed(t), y)
            with FlopCounterMode(display=False) as whole:
                dit(x, t, y)
        shares[f"DiT^DH-{size.upper()}"] = round(trunk.get_total_flops() / whole.get_total_flops(), 3)
    return shares


def shares_table(shares: dict[str, float]) -> str:
    """What keeping the trunk saves: evaluations of 1 − share + share/k."""
    lines = ["| network | trunk's share | operations with every 2nd | every 3rd |", "|---|---|---|---|"]
    for name, share in shares.items():
        left = [f"{1 - share + share / every:.0%}" for every in (2, 3)]
        lines.append(f"| {name} | {share:.0%} | {left[0]} | {left[1]} |")
    return "\n".join(lines)


def table(results: dict[str, Any]) -> str:
    """At 9 evaluations beside Euler's 49, a column for each problem."""
    problems = results["problems"]
    wanted = [("euler, reference", 49), *((name, 9) for name in _names(problems))]
    wanted += [("heun, reference", 14), ("multistep3, log_odds", 24), ("multistep, reference", 49)]
    wanted += [(name, 49) for name in _names(problems) if name.startswith("euler") and "trunk" in name]
    lines = [
        f"| solver, grid | evaluations | {' | '.join(problems)} |",
        "|---|---|" + "---|" * len(problems),
    ]
    for way, evaluations in dict.fromkeys(wanted):
        cells = [_at(problem["rows"], way, evaluations) for problem in problems.values()]
        if set(cells) != {"–"}:
            lines.append(f"| {way} | {evaluations} | {' | '.join(cells)} |")
    meaning = "; ".join(f"*{name}*: {problem['what']}" for name, problem in problems.items())
    return "\n".join([*lines, "", f"{meaning}."])


def _names(problems: dict[str, Any]) -> list[str]:
    rows = [row for problem in problems.values() for row in problem["rows"]]
    return list(dict.fromkeys(row["way"] for row in rows))


def _at(rows: Sequence[Row], way: str, evaluations: int) -> str:
    found = [row["distance"] for row in rows if (row["way"], row["evaluations"]) == (way, evaluations)]
    return f"{found[0]:.2g}" if found else "–"


def draw(results: dict[str, Any], file: Path) -> None:
    """Distance over evaluations, a panel for each problem."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    problems = results["problems"]
    figure, panels = plt.subplots(
        1, len(problems), figsize=(3.4 * len(problems), 3.6), layout="constrained", squeeze=False
    )
    for axes, (name, problem) in zip(panels[0], problems.items(), strict=True):
        for number, way in enumerate(_names(problems)):
            rows = sorted((r["evaluations"], r["distance"]) for r in problem["rows"] if r["way"] == way)
            if rows:
                style = ":" if "trunk" in way else "-"
                axes.plot(
                    *zip(*rows, strict=True), marker=".", lw=1.2, ls=style, color=f"C{number}", label=way
                )
        euler = [r["distance"] for r in problem["rows"] if r["way"] == "euler, reference"]
        axes.axhline(euler[-1], color="grey", lw=0.8, ls=":")
        axes.set(xscale="log", yscale="log", title=name, xlabel="evaluations")
        ticks = (5, 9, 16, 24, 49, 98)
        axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("distance to a fine solution")
    handles, labels = panels[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def put(name: str, text: str) -> None:
    """Between the two comments of that name on the page."""
    begin, end = BEGIN.format(name), END.format(name)
    page = PAGE.read_text()
    before, rest = page.split(begin, 1)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")


def scored(checkpoint: Path, folder: Path, count: int) -> list[Row]:
    """The Fréchet distance of samples in the encoder's features, by Euler at 50 points and at 9 evaluations."""
    from unirae.app.eval_fid import Options, run

    shared = {"checkpoint": checkpoint, "metrics": "fd", "num_samples": count}
    found = []
    for how in (
        {"solver": "euler", "num_steps": 50},
        {"solver": "euler", "num_steps": 10},
        {"solver": "multistep", "num_steps": 10},
        {"solver": "multistep3", "num_steps": 10, "time_grid": "log_odds"},
    ):
        result = run(Options(**shared, **how, output=folder / "_".join(map(str, how.values()))))
        found.append({**how, "samples": count, **result.scores})
    return found


def of_checkpoint(checkpoint: Path, samples: int) -> dict[str, Any]:
    """Distances of 16 samples of a trained model, guided as it says of itself, and scores of ``samples``."""
    import tempfile

    from unirae.app.inputs.generator import open_generator
    from unirae.app.inputs.sampler_options import SamplerOptions

    sampler = open_generator(SamplerOptions(checkpoint=checkpoint, device="cpu"), torch.device("cpu")).sampler
    own = sampler.settings
    problem = network(
        str(checkpoint), sampler.dit, count=16, time_shift=own.time_shift,
        cfg_scale=own.cfg_scale, guidance_interval=own.guidance_interval,
    )  # fmt: skip
    found: dict[str, Any] = {"problems": {"trained": {"what": "a trained model", "rows": measure(problem)}}}
    if samples:
        with tempfile.TemporaryDirectory() as folder:
            found["scores"] = scored(checkpoint, Path(folder), samples)
    return found


def regressions(name: str, results: dict[str, Any]) -> list[str]:
    """What takes more evaluations or ends farther from the fine solution than the committed results; a line each."""
    file = cases.RESULTS / f"{name}.json"
    if not file.is_file():
        return [f"{name}: no committed results to compare with"]
    before = json.loads(file.read_text())["problems"]
    found = []
    for problem, measured in results["problems"].items():
        known = {_key(row): row for row in before.get(problem, {"rows": []})["rows"]}
        for row in measured["rows"]:
            committed = known.get(_key(row), row)
            if (
                row["evaluations"] > committed["evaluations"]
                or row["distance"] > _LARGER * committed["distance"] + _ROUNDING
            ):
                found.append(
                    f"{name}, {problem}, {_key(row)}: {_told(row)} now, {_told(committed)} committed"
                )
    return found


def _key(row: Row) -> str:
    return f"{row['way']} at {row['points']} points" if "points" in row else f"dopri5 at {row['tolerance']:g}"


def _told(row: Row) -> str:
    return f"{row['distance']:g} after {row['evaluations']}"


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="a stage-2 checkpoint, or the folder of a run")
    parser.add_argument("--samples", type=int, default=0, help="to score, of a checkpoint; 0 scores nothing")
    parser.add_argument("--name", default="trained", help="of the results of a checkpoint: solvers_NAME.json")
    parser.add_argument(
        "--against", type=Path, help=argparse.SUPPRESS
    )  # of make bench; nothing official here
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed results; write nothing"
    )
    options = parser.parse_args()
    if options.checkpoint is not None:
        results = of_checkpoint(options.checkpoint, options.samples)
    else:
        problems = default_problems()
        rows = {name: {"what": each.title, "rows": measure(each)} for name, each in problems.items()}
        results = {"problems": rows, "trunk_share_of_operations": trunk_shares()}
    results |= {"machine": cases.machine(), "versions": cases.versions(None)}
    sys.stdout.write(f"{table(results)}\n{json.dumps(results.get('scores', []), indent=2)}\n")
    name = "solvers" if options.checkpoint is None else f"solvers_{options.name}"
    if options.check:
        if worse := regressions(name, results):
            sys.exit("\n".join(worse))
        return
    cases.write(name, results)
    if options.checkpoint is not None:
        return
    draw(results, PLOT)
    put("solvers", table(results))
    put("trunk shares", shares_table(results["trunk_share_of_operations"]))


if __name__ == "__main__":
    main()
