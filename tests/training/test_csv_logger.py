import csv
import resource
from pathlib import Path

import pytest

from unirae.core.errors import UserError
from unirae.training.csv_logger import MetricsCsv, read_metrics


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "csv" / "metrics.csv"


def log_run(path: Path, steps: range, *, start: int = 0, **more: float) -> MetricsCsv:
    logger = MetricsCsv(path)
    logger.start_from(start)
    for step in steps:
        logger.log_metrics({"train/loss": step / 10, **more}, step)
    logger.finalize("success")
    return logger


def columns(path: Path) -> list[str]:
    with open(path, newline="") as file:
        return next(csv.reader(file))


def test_one_row_a_step_and_scores_join_it(path):
    logger = MetricsCsv(path)
    logger.start_from(0)
    logger.log_metrics({"train/loss": 1.0}, 5)
    logger.log_metrics({"val/psnr": 20.0}, 5)
    logger.log_metrics({"train/loss": 0.5}, 6)
    logger.save()
    assert read_metrics(path) == [
        {"step": "5", "train/loss": "1.0", "val/psnr": "20.0"},
        {"step": "6", "train/loss": "0.5", "val/psnr": ""},
    ]


def test_resuming_drops_later_rows_and_appends(path):
    log_run(path, range(1, 8))
    log_run(path, range(5, 9), start=4)
    rows = read_metrics(path)
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert [float(row["train/loss"]) for row in rows] == [step / 10 for step in range(1, 9)]


def test_a_fresh_start_forgets_the_rows_of_another_run(path):
    log_run(path, range(1, 8))
    log_run(path, range(1, 3))
    assert [row["step"] for row in read_metrics(path)] == ["1", "2"]


def test_new_columns_come_behind_and_old_rows_stay(path):
    logger = log_run(path, range(1, 3))
    logger.log_metrics({"train/loss": 0.3, "train/gan": 2.0, "train/disc_loss": 1.0}, 3)
    logger.save()
    assert columns(path) == ["step", "train/loss", "train/disc_loss", "train/gan"]
    assert [row["train/gan"] for row in read_metrics(path)] == ["", "", "2.0"]
    assert [row["train/loss"] for row in read_metrics(path)] == ["0.1", "0.2", "0.3"]


def test_a_resumed_run_keeps_columns_that_it_does_not_log(path):
    log_run(path, range(1, 4), **{"val/psnr": 20.0})
    log_run(path, range(4, 5), start=3)
    assert columns(path) == ["step", "train/loss", "val/psnr"]
    assert [row["val/psnr"] for row in read_metrics(path)] == ["20.0"] * 3 + [""]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_half_written_last_line_is_left_out(path, cut):
    log_run(path, range(10, 14), **{"val/psnr": 20.25})
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["step"] for row in read_metrics(path)] == ["10", "11", "12"]
    log_run(path, range(13, 15), start=12, **{"val/psnr": 20.25})
    assert [row["step"] for row in read_metrics(path)] == ["10", "11", "12", "13", "14"]


def test_saved_rows_are_on_disk_before_the_run_ends(path):
    logger = MetricsCsv(path)
    logger.start_from(0)
    for step in range(1, 4):
        logger.log_metrics({"train/loss": 1.0}, step)
    assert [row["step"] for row in read_metrics(path)] == ["1", "2"]
    logger.save()
    assert [row["step"] for row in read_metrics(path)] == ["1", "2", "3"]


def test_a_resumed_run_catches_up_on_the_scores_of_its_step(path):
    log_run(path, range(1, 5))
    logger = MetricsCsv(path)
    logger.start_from(3)
    logger.log_metrics({"val/psnr": 20.0}, 3)
    logger.log_metrics({"train/loss": 0.4}, 4)
    logger.save()
    assert read_metrics(path) == [
        {"step": "1", "train/loss": "0.1", "val/psnr": ""},
        {"step": "2", "train/loss": "0.2", "val/psnr": ""},
        {"step": "3", "train/loss": "0.3", "val/psnr": "20.0"},
        {"step": "4", "train/loss": "0.4", "val/psnr": ""},
    ]


def test_of_a_step_that_is_there_twice_the_last_row_counts(path):
    log_run(path, range(1, 4))
    with open(path, "a") as file:
        file.write("3,7.0\n4,0.")
    log_run(path, range(4, 5), start=3)
    assert [(row["step"], row["train/loss"]) for row in read_metrics(path)] == [
        ("1", "0.1"),
        ("2", "0.2"),
        ("3", "7.0"),
        ("4", "0.4"),
    ]


def test_a_full_disk_is_one_line(path):
    logger = log_run(path, range(1, 3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 2, limits[1]))
    try:
        logger.log_metrics({"train/loss": 0.3}, 3)
        with pytest.raises(UserError, match=r"cannot write .*metrics\.csv: File too large"):
            logger.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [row["step"] for row in read_metrics(path)] == ["1", "2"]
