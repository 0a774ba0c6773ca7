"""The tool that the benchmarks are made with: sides take turns, each in a process of its own."""

import importlib
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(tmp_path, monkeypatch):
    """Its modules, and sides that note when they work."""
    (tmp_path / "sides.py").write_text(
        "import time\n"
        "def work(lap, *, log, name, seconds):\n"
        "    import torch\n"
        "    while True:\n"
        "        lap()\n"
        "        open(log, 'a').write(name)\n"
        "        torch.mm(torch.ones(4, 8), torch.ones(8, 16))\n"
        "        time.sleep(seconds)\n"
        "def broken(lap):\n"
        "    raise RuntimeError('broken')\n"
    )
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(tmp_path), *sys.path])
    import cases
    import paced

    yield paced, cases, tmp_path
    for name in (
        "agreement_v2",
        "autoencoder",
        "averaging",
        "cases",
        "data",
        "flows",
        "muon_step",
        "one_gpu",
        "one_gpu_v2",
        "official",
        "official_v2",
        "ours",
        "paced",
        "report",
        "sampling",
        "sampling_v2",
        "sides",
        "solvers",
        "tar_reading",
        "training_stage1",
        "training_stage2",
        "training_v2",
        "where_time_goes",
    ):
        sys.modules.pop(name, None)


def test_sides_take_turns_and_are_timed(benchmarks):
    paced, _, folder = benchmarks
    log = folder / "log"
    sides = [
        paced.Side(name, "sides:work", {"log": str(log), "name": name, "seconds": seconds})
        for name, seconds in (("a", 0.01), ("b", 0.2))
    ]
    found = paced.interleave(sides, rounds=4, warmup=1)
    assert log.read_text() == "ab" + "ab" + "ba" + "ab" + "ba" + "ab"
    assert 0.01 <= found["a"].median < found["b"].median >= 0.2
    assert found["a"].flops == 2 * 4 * 8 * 16
    assert found["a"].peak_bytes is None or found["a"].peak_bytes > 1e7
    with pytest.raises(RuntimeError, match=r"c \(sides:broken\) ended"):
        paced.interleave([paced.Side("c", "sides:broken")], rounds=1, warmup=1)


def test_on_a_gpu_one_side_does_its_rounds_after_the_other(benchmarks, capsys):
    paced, _, folder = benchmarks
    log = folder / "log"
    sides = [
        paced.Side(name, "sides:work", {"log": str(log), "name": name, "seconds": 0.05}) for name in "ab"
    ]
    settings = {"rounds": 2, "warmup": 1, "units": 3, "counted": ("a",)}
    found = paced.one_by_one([paced.Side("c", "sides:broken"), *sides], **settings)
    assert log.read_text() == "a" * (1 + 2 * 3 + 1) + "b" * (1 + 2 * 3)
    assert [len(found[name].seconds) for name in "ab"] == [2, 2]
    assert all(0.05 <= second < 0.15 for second in found["a"].seconds)
    assert (found["a"].flops, found["b"].flops) == (2 * 4 * 8 * 16, None)
    assert "c" not in found
    assert "c (sides:broken) ended" in capsys.readouterr().err


def test_a_gpus_results_lie_beside_those_of_a_cpu(benchmarks, monkeypatch):
    _, cases, folder = benchmarks
    import one_gpu
    import torch

    assert cases.file_name("x") == "x"
    case = next(case for case in one_gpu.CASES if case.name == "stage2_xl_eager")
    assert case.of_batch(None) is case
    assert (case.of_batch(8).title[-7:], case.of_batch(8).ours["batch"]) == ("batch 8", 8)
    assert case.of_batch(8).name == "stage2_xl_eager_batch8"
    monkeypatch.setattr(cases, "_gpu", lambda: "NVIDIA H100 80GB HBM3")
    assert cases.file_name("x") == "h100_x"
    monkeypatch.setattr(cases.ours, "device", lambda: torch.device("cuda"))
    products = cases.PRODUCTS
    names = [side.name for side in cases.sides(case, folder)]
    assert names == [*one_gpu.BF16_FIRST, *products.values()]
    options = {side.name: side.options for side in cases.sides(case, folder)}
    assert options["ours fp32"]["overrides"] == ("trainer.compile=false", "trainer.float32_matmul=high")
    assert options[products["fp32"]] == {"dtype": "float32", "size": 8192, "backend": "high"}


def test_a_table_leaves_open_what_was_not_compared(benchmarks):
    import report

    ratio = {"speed": 2.0, "memory": 0.5}
    found = [
        {"what": "a", "ratios": {"both bf16": ratio}},
        {"what": "b", "ratios": {"default against recommended": ratio}},
    ]
    assert report.summary(found).splitlines()[2:] == [
        "| a | – | – | 2.00 | – |",
        "| b | – | 2.00 | – | 0.5 |",
    ]


def test_pairs_take_turns_where_all_sides_at_once_would_not_fit(benchmarks, monkeypatch):
    paced, cases, folder = benchmarks
    groups = []

    def interleave(sides, *, rounds, warmup):
        groups.append([side.name for side in sides])
        turns = {side.name: [len(groups) * (4.0 if "reference" in side.name else 2.0)] for side in sides}
        return {name: paced.Measured(seconds, 10**9, 8 * 10**9) for name, seconds in turns.items()}

    monkeypatch.setattr(cases, "interleave", interleave)
    case = cases.Case("x", "x", 1, "work", by_pairs=True)
    found = cases.measure(case, folder, rounds=1)
    products = list(cases.PRODUCTS.values())
    assert groups == [
        ["ours fp32", "reference fp32", *products],
        ["ours", "reference fp32", *products],
        ["ours", "reference bf16", *products],
    ]
    assert {name: ratio["speed"] for name, ratio in found["ratios"].items()} == dict.fromkeys(
        cases.PAIRS, 2.0
    )
    assert {name: side["median"] for name, side in found["sides"].items()} == {
        "ours": 4.0,
        "ours fp32": 2.0,
        "reference fp32": 4.0,
        "reference bf16": 12.0,
    }
    groups.clear()
    assert cases.measure(case, None, rounds=1)["ratios"] == {}
    assert groups == [["ours", *products], ["ours fp32", *products]]


def test_a_lower_ratio_is_a_regression(benchmarks, monkeypatch):
    _, cases, folder = benchmarks
    monkeypatch.setattr(cases, "RESULTS", folder)
    assert cases.regressions("x", {"ratios": {}}) == ["x: no committed results to compare with"]
    cases.write("x", {"ratios": {"equal precision": {"speed": 2.0}}})
    assert (
        cases.regressions("x", {"ratios": {"equal precision": {"speed": 1.8}, "new": {"speed": 0.1}}}) == []
    )
    assert cases.regressions("x", {"ratios": {"equal precision": {"speed": 1.6}}}) == [
        "x, equal precision: 1.6 now, 2.0 committed"
    ]


def test_a_larger_distance_or_more_evaluations_are_a_regression(benchmarks, monkeypatch):
    _, cases, folder = benchmarks
    import solvers

    def result(distance, evaluations):
        rows = [
            {"way": "euler, reference", "points": 10, "evaluations": 9, "distance": distance},
            {"way": "dopri5", "tolerance": 0.1, "evaluations": evaluations, "distance": 0.0},
        ]
        return {"problems": {"mixture": {"rows": rows}}}

    monkeypatch.setattr(cases, "RESULTS", folder)
    assert solvers.regressions("solvers", result(0.1, 14)) == [
        "solvers: no committed results to compare with"
    ]
    cases.write("solvers", result(0.1, 14))
    assert solvers.regressions("solvers", result(0.104, 13)) == []
    assert solvers.regressions("solvers", result(0.106, 20)) == [
        "solvers, mixture, euler, reference at 10 points: 0.106 after 9 now, 0.1 after 9 committed",
        "solvers, mixture, dopri5 at 0.1: 0 after 20 now, 0 after 14 committed",
    ]


def test_solvers_are_measured_beside_a_fine_solution(benchmarks, monkeypatch):
    import flows
    import solvers

    monkeypatch.setattr(solvers, "POINTS", (6, 50))
    problem = flows.mixtures()["mixture"]
    rows = solvers.measure(problem)
    found = {solvers._key(row): row for row in rows}
    euler = [found[f"euler, reference at {points} points"] for points in (6, 50)]
    assert [row["evaluations"] for row in euler] == [5, 49]
    assert euler[0]["distance"] > 4 * euler[1]["distance"] > 0.1
    assert "| euler, reference | 49 | 0.056 |" in solvers.table(
        {"problems": {"mixture": {"what": problem.title, "rows": rows}}}
    )


def test_time_is_told_apart_by_kind_of_operation(benchmarks):
    import where_time_goes

    class Event:
        def __init__(self, key, microseconds):
            self.key, self.self_cpu_time_total = key, microseconds

    events = [Event("aten::mm", 4e5), Event("aten::bmm", 1e5), Event("aten::convolution_backward", 1e5)]
    events += [Event("## Call CompiledFxGraph fabc ##", 5e4)]
    events += [Event("aten::copy_", 2e5), Event("aten::mul", 1e5), Event("enumerate(DataLoader)", 9e5)]
    found = where_time_goes.by_kind(events, seconds=1.0, flops=int(3e11))
    assert found["products_gflops_per_second"] == 500
    assert {kind: share for kind, share in found["shares"].items() if share} == {
        "products of matrices": 0.5,
        "convolutions": 0.1,
        "casts and copies": 0.2,
        where_time_goes.COMPILED: 0.05,
        where_time_goes.REST: 0.1,
    }


def test_every_script_has_cases_of_functions_that_both_sides_have(benchmarks):
    import one_gpu
    import one_gpu_v2
    import ours
    import report

    found = [case for script in (*report.SCRIPTS, *report.SCRIPTS_V2) for case in script.CASES]
    assert len({case.name for case in found}) == len(found) == 22
    on_gpus = [*one_gpu.CASES, *one_gpu_v2.CASES]
    assert not {case.name for case in on_gpus} & {case.name for case in found}
    for case in [*found, *on_gpus]:
        assert callable(getattr(ours, case.work))
        assert callable(getattr(importlib.import_module(case.reference.module), case.work))
        if case.agreement:
            module, function = case.agreement.split(":")
            assert callable(getattr(importlib.import_module(module), function))


def test_the_docs_show_the_committed_results(benchmarks):
    import report

    page = (FOLDER.parent / "docs/benchmarks.md").read_text()
    for scripts in (report.SCRIPTS, report.SCRIPTS_V2):
        found = report.results(scripts)
        for line in f"{report.summary(found)}\n{report.details(found)}".splitlines() if found else ():
            assert line in page, "run benchmarks/report.py"
    assert report.tar_reading().strip() in page, "run benchmarks/report.py"
    assert report.beside_raev2([]) == ""
    assert "## Beside RAEv2" in report.beside_raev2(report.results())


def test_without_bf16_only_fp32_is_measured(benchmarks):
    from dataclasses import replace

    _, cases, folder = benchmarks
    case = replace(cases.Case("x", "x", 1, "work"), only=(cases.OURS_FP32, cases.THEIRS_FP32))
    names = [side.name for side in cases.sides(case, folder)]
    assert names == [cases.OURS_FP32, cases.THEIRS_FP32, cases.PRODUCTS["fp32"]]
    assert cases.share({"share_of_fp32_products": 0.5}, "fp32") == "50%"
    assert cases.share({}, "bf16") == "–"


def test_a_folder_that_is_no_checkout_is_refused(benchmarks, monkeypatch, capsys):
    _, cases, folder = benchmarks
    import muon_step

    for option in ("--against_v2", "--gram"):
        monkeypatch.setattr(sys, "argv", ["muon_step.py", option, str(folder)])
        with pytest.raises(SystemExit):
            cases.main(muon_step.CASES, description="x")
        assert "it is no checkout of" in capsys.readouterr().err


def test_what_ours_computes_beside_raev2_runs(benchmarks):
    import ours
    import torch

    network = ours.build_dit("dh_v2_s", "dit_v2_dummy")
    assert (len(network.trunk), network.config.base_head_depth) == (12, 4)
    network = ours.build_dit("dh_dummy", "dit_v2_dummy")
    assert (network.config.base_head_depth, network.prediction.value) == (1, "data")
    x = torch.randn(1, 768, 16, 16)
    with torch.no_grad():
        pair = network.predict_with_base(x, torch.ones(1), torch.zeros(1, dtype=torch.long))
    assert all(output.abs().mean() > 0.01 for output in pair)  # new ones would answer zeros
    groups = ours.build_muon(network, "bf16").param_groups
    assert groups[0]["params"]
    assert not groups[1]["params"]


def in_this_process(sides, *, rounds, warmup, count_flops):
    """As ``interleave`` (of which there are tests above), without a process for each side."""
    from paced import Measured

    class Done(Exception):
        pass

    found = {}
    for side in sides:
        laps = []

        def lap(laps=laps):
            laps.append(time.perf_counter())
            if len(laps) > warmup + rounds:
                raise Done

        module, _, work = side.work.partition(":")
        with pytest.raises(Done):
            getattr(importlib.import_module(module), work)(lap, **side.options)
        seconds = [end - start for start, end in pairwise(laps)][warmup:]
        found[side.name] = Measured(seconds, peak_bytes=None, flops=None)
    return found


def test_reading_is_measured_and_shown(benchmarks, monkeypatch):
    _, cases, folder = benchmarks
    import report

    import data

    tiny = data.Pictures("tiny", data.SMALL.size, files=3, unit=2)
    monkeypatch.setattr(data, "interleave", in_this_process)
    monkeypatch.setattr(data, "WORKERS", (0,))
    monkeypatch.setattr(data, "_LOADER_BATCHES", 1)
    result = data.measure(folder, rounds=2, pictures=(tiny,))
    assert set(result["reading"]) == {"500×375, stage 1", "500×375, stage 2"}
    assert all(len(side["seconds"]) == 2 for sides in result["reading"].values() for side in sides.values())
    assert "500×375, stage 1, ours, exact" in result["ratios"]
    monkeypatch.setattr(cases, "RESULTS", folder)
    cases.write("data", result)
    text = report.reading(result)
    assert "| 500×375, stage 2 |" in text
    assert result["distance"]["500×375, stage 1"]["ours, default"]["lowest_psnr_db"] > 65
    assert "stage 1, 500×375: 0 workers" in text


def test_reading_of_tar_shards_is_measured_and_shown(benchmarks, monkeypatch):
    _, cases, folder = benchmarks
    import report
    import tar_reading

    import data

    theirs = [tar_reading.THEIRS] if importlib.util.find_spec("webdataset") else []  # it need not be here
    monkeypatch.setattr(tar_reading, "interleave", in_this_process)
    monkeypatch.setattr(tar_reading, "SHARD_IMAGES", 20)
    monkeypatch.setattr(tar_reading, "BATCHES", dict.fromkeys(tar_reading.WORKS, 1))
    monkeypatch.setattr(tar_reading, "_WORKERS", dict.fromkeys(tar_reading.WORKS, 0))
    tiny = data.Pictures("tiny", data.SMALL.size, files=3, unit=2)
    result = tar_reading.measure(folder, rounds=2, pictures=tiny, sides=(tar_reading.OURS, *theirs))
    assert set(result["reading"]) == set(tar_reading.WORKS.values())
    assert result["indexing_seconds"] > 0
    measured = tar_reading.compared(
        {
            name: cases.Measured([seconds] * 2, None, None)
            for name, seconds in (("ours", 2.0), ("webdataset", 3.0))
        }
    )
    assert measured == {"speed": 1.5, "lowest": 1.5, "highest": 1.5}
    monkeypatch.setattr(cases, "RESULTS", folder)
    assert report.tar_reading() == ""
    for title, sides in result["reading"].items():
        sides[tar_reading.THEIRS], result["ratios"][title] = {"images_per_second": 7.0}, measured
    cases.write("tar_reading", result)
    line = f"| {result['reading'][tar_reading.WORKS['bytes']]['ours']['images_per_second']} | 7.0 | 1.50 (1.5 to 1.5) |"
    assert line in report.tar_reading()


@pytest.mark.parametrize("work", ["stage2", "mae", "linear_probe"])
def test_steps_whose_averaging_is_measured_are_steps_of_training(benchmarks, work):
    import averaging
    import torch

    step, network = averaging.step_of(work, "ours", rank=0)
    before = [parameter.detach().clone() for parameter in network.parameters() if parameter.requires_grad]
    step()
    after = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_ddp_is_compared_with_ours_within_rounds(benchmarks):
    paced, _, _ = benchmarks
    import averaging

    theirs, own = (
        paced.Measured([2.0, 4.0, 6.0], 110, None),
        paced.Measured([1.0, 4.0, 4.0], 100, None),
    )
    ratio = averaging._ratio(theirs, own)
    assert (ratio["time"], ratio["memory"]) == (1.5, 1.1)


@pytest.mark.parametrize("size", [(900, 600), (300, 500), (256, 256)])
def test_the_usual_way_crops_as_ours_does_exactly(benchmarks, size):
    import numpy as np
    from PIL import Image

    import data
    from unirae.data.transforms import AdmCenterCrop

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    assert np.array_equal(data.adm_crop(image), AdmCenterCrop(size=data.CROP_PX).crop(image))


def test_the_cases_of_raev2s_xl_network_name_it_on_both_sides(benchmarks):
    import official_v2
    import one_gpu_v2
    import ours

    from unirae.app.config.composition import compose

    assert [case.name for case in one_gpu_v2.CASES] == [
        "stage2_v2_xl",
        "sampling_v2_xl",
        "sampling_v2_ig_xl",
        "sampling_v2_ig_cfg_xl",
        "muon_xl",
    ]
    for case in one_gpu_v2.CASES:
        assert case.ours["dit"] == case.theirs["dit"] == "dh_v2_xl"
        assert len(benchmarks[1].sides(case, benchmarks[2])) == 4
    overrides = ours.network_overrides("dh_v2_xl", "dit_v2_dummy")
    network = compose(["experiment=dit_v2_dummy", *overrides])["model"]["dit"]
    theirs = official_v2.DITS["dh_v2_xl"]
    assert (network["hidden_size"], network["depth"], network["num_heads"]) == tuple(
        theirs[key] for key in ("hidden_size", "depth", "num_heads")
    )
    assert network["base_head_depth"] == theirs["base_model_depth"]
