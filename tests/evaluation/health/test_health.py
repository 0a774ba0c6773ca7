"""The band around healthy runs: other seeds stay inside, broken runs leave it, and a lone spike does neither."""

from dataclasses import replace
from pathlib import Path

import pytest

from synthetic_curves import healthy_curves, rows_of
from unirae.core.errors import UserError
from unirae.core.io import read_json
from unirae.evaluation.health.bands import FLOOR, make_band, smoothed, window_of
from unirae.evaluation.health.causes import usual_causes
from unirae.evaluation.health.check import Watch, differences, judge, read_series
from unirae.evaluation.health.curve_files import FOLDER, known_curves, read_curves, write_curves
from unirae.training.csv_logger import read_metrics

HERE = Path(__file__).parent
curves_of_the_package = pytest.mark.parametrize("name", known_curves())


def check(rows, curves):
    """The first value outside of the band, of each column that left it."""
    return [health.left for health in judge(rows, curves) if health.left]


@pytest.mark.parametrize("seed", range(10, 16))
def test_another_seed_stays_inside(seed):
    health = judge(rows_of(seed), healthy_curves())
    assert [column.column for column in health] == ["train/loss", "train/gan", "val/psnr"]
    assert [column.left for column in health] == [None] * 3
    assert all(column.last.inside and column.last.step == 1000 for column in health)


@pytest.mark.parametrize("every", [5, 20, 50])
def test_how_often_a_run_was_logged_does_not_matter(every):
    assert check(rows_of(10, steps=range(every, 1001, every)), healthy_curves()) == []


@pytest.mark.parametrize(("factor", "above"), [(1.5, True), (0.6, False)])
def test_a_loss_that_is_off_leaves_at_once(factor, above):
    (departure,) = check(rows_of(10, factor=factor), healthy_curves())
    assert (departure.column, departure.step) == ("train/loss", 100)
    assert (departure.value > departure.high) == above
    assert f"{departure.value:.4g} at step 100" in str(departure)


def test_a_loss_that_is_stuck_leaves():
    rows = rows_of(10)
    for row in rows[20:]:
        row["train/loss"] = rows[20]["train/loss"]
    (departure,) = check(rows, healthy_curves())
    assert 210 < departure.step < 500


def test_nothing_is_judged_while_a_run_settles():
    rows = rows_of(10)
    for row in rows[:5]:
        row["train/loss"] = "1000"
    assert check(rows, healthy_curves()) == []


def test_a_spike_does_not_count_and_a_change_does():
    rows = rows_of(10)
    rows[40]["train/loss"] = "1000"
    assert check(rows, healthy_curves()) == []
    rows[41]["train/loss"] = rows[42]["train/loss"] = "1000"
    assert [departure.step for departure in check(rows, healthy_curves())] == [430]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_value_that_is_not_finite_leaves_wherever_it_comes(value):
    for place in (0, 50):
        rows = rows_of(10)
        rows[place]["train/loss"] = value
        (departure,) = check(rows, healthy_curves())
        assert (departure.column, departure.step) == ("train/loss", 10 * place + 10)


def test_what_was_not_logged_is_not_judged():
    rows = [{**row, "train/gan": ""} for row in rows_of(10)]
    assert [column.column for column in judge(rows, healthy_curves())] == ["train/loss", "val/psnr"]
    assert judge([], healthy_curves()) == []


def test_a_run_that_goes_on_is_judged_after_a_window_of_its_own():
    curves = healthy_curves()
    watch = Watch("train/loss", curves.bands["train/loss"], curves.window_steps)
    assert [watch.add(step, 1000.0) is None for step in (500, 510, 520, 530, 540)] == [True] * 4 + [False]


def test_one_run_is_a_reference_too():
    alone = healthy_curves(range(1))
    assert "val/psnr" not in alone.bands, "how much two values of one run may vary is unknown"
    assert check(rows_of(10), alone) == []
    assert [departure.column for departure in check(rows_of(10, factor=2), alone)] == ["train/loss"]


def test_a_band_is_a_factor_or_a_distance_and_never_narrower_than_the_floor():
    points = [(step, 2.0) for step in range(10, 210, 10)]
    band = make_band("train/loss", [points, points], 50)
    assert band.at(150) == pytest.approx((2 / (1 + FLOOR), 2.0, 2 * (1 + FLOOR)))
    band = make_band("train/gan", [points, points], 50)
    assert band.at(150) == pytest.approx((2 - 2 * FLOOR, 2.0, 2 + 2 * FLOOR))
    assert band.at(90) is band.at(201) is None


def test_between_logged_steps_a_band_is_interpolated():
    points = [(step, float(step)) for step in range(100, 1001, 100)]
    band = make_band("val/psnr", [points, points], 100)
    low, middle, high = band.at(650) or (0, 0, 0)
    assert (low + high) / 2 == pytest.approx(middle) == pytest.approx(650)


def test_distances_in_ones_own_features_are_drawn_but_not_judged():
    runs = [
        {**run, "val/fd_mae": run["val/psnr"], "train/lr": run["train/loss"]} for run in healthy_curves().runs
    ]
    curves = replace(healthy_curves(), runs=runs)
    assert curves.columns == ["train/loss", "train/gan", "val/psnr", "val/fd_mae"]
    assert list(curves.bands) == curves.columns[:-1]


def test_smoothing_looks_back_only_and_skips_what_is_not_finite():
    points = [(10, 1.0), (20, 9.0), (30, 2.0), (40, float("nan")), (50, 3.0)]
    assert smoothed(points, 30) == [(10, 1.0), (20, 5.0), (30, 2.0), (50, 2.5)]
    assert window_of({"train/loss": points, "val/psnr": points[:1]}) == 50


def test_settings_that_both_have_are_compared():
    mine, theirs = {"a": 1, "b": [2], "mine": 0}, {"a": 1, "b": [3], "theirs": 0}
    assert differences(mine, theirs) == ["b=[2] (reference: [3])"]


def test_what_is_no_number_is_refused():
    with pytest.raises(UserError, match=r"'fast' in the column train/loss, which is not a number"):
        read_series([{"step": "10", "train/loss": "fast"}])


def test_causes_depend_on_the_column_and_the_side():
    assert "clip_grad" in usual_causes("train/grad_norm", above=True)
    assert "learning rate" in usual_causes("train/anything", above=True)
    assert usual_causes("val/psnr", above=False) == usual_causes("val/ssim", above=False)
    assert usual_causes("val/psnr", above=False) != usual_causes("val/psnr", above=True)


# ---------------------------------------------------------------- files


def test_curves_are_written_and_read_again(tmp_path):
    curves = healthy_curves()
    file = write_curves(tmp_path / "a.json", curves, origins=[{"seed": s} for s in range(3)], machine="here")
    read = read_curves(str(file))
    assert (read.name, read.window_steps, read.settings) == ("synthetic", 50, curves.settings)
    assert list(read.runs[0]) == ["train/loss", "train/gan", "val/psnr"], "not how fast the machine was"
    for column, band in curves.bands.items():
        assert read.bands[column].high == pytest.approx(band.high, rel=2e-3)
    assert [run["seed"] for run in read_json(file)["runs"]] == [0, 1, 2]


def test_unknown_curves_name_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"no curves mae_tony: known are .*mae_tiny.*or give a file"):
        read_curves("mae_tony")
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"a\.json is not a file of curves"):
        read_curves(str(tmp_path / "a.json"))


# ---------------------------------------------------------------- the curves of the package


def test_the_tiny_experiments_have_curves_of_four_seeds():
    assert known_curves() == ["dit_demo", "dit_tiny", "mae_tiny", "rae_demo", "rae_tiny"]
    for name in known_curves():
        content = read_json(FOLDER / f"{name}.json")
        assert (content["name"], len({run["seed"] for run in content["runs"]})) == (name, 4)
        assert (FOLDER / f"{name}.json").stat().st_size < 40_000


@curves_of_the_package
def test_each_seed_is_inside_the_band_of_the_others(name):
    curves = read_curves(name)
    for i, run in enumerate(curves.runs):
        others = replace(curves, runs=[other for j, other in enumerate(curves.runs) if j != i])
        rows = [{"step": step, column: value} for column, points in run.items() for step, value in points]
        assert check(rows, others) == []


@curves_of_the_package
def test_a_loss_stuck_where_the_curves_begin_leaves(name):
    curves = read_curves(name)
    (_, first), *rest = curves.runs[0]["train/loss"]
    rows = [{"step": step, "train/loss": first} for step, _ in rest]
    assert [departure.column for departure in check(rows, curves)] == ["train/loss"]


def test_a_run_of_mae_tiny_elsewhere_stays_inside():
    """Seed 0 on two threads beside other work: none of the runs of the curves."""
    assert check(read_metrics(HERE / "mae_tiny_healthy.csv"), read_curves("mae_tiny")) == []


def test_a_run_of_mae_tiny_with_thirty_times_the_learning_rate_leaves():
    """``model.optimizer.lr=0.06``, stopped after step 388."""
    departures = check(read_metrics(HERE / "mae_tiny_lr_x30.csv"), read_curves("mae_tiny"))
    assert {d.column: d.step for d in departures} == {
        "train/loss": 200,
        "train/masked": 200,
        "train/visible": 200,
    }
