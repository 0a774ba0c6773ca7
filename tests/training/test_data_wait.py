"""Waiting for data is measured, and said once where it costs more than a tenth of the time."""

import logging
import time
import warnings

import pytest
import torch

from tiny_training import tiny_config
from unirae.app.run.assembly import assemble
from unirae.data.synthetic import SyntheticSource
from unirae.training.data_wait import TimedLoader, WaitClock
from unirae.training.datamodule import default_workers


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        time.sleep(0.02)
        return index


@pytest.mark.parametrize("workers", [0, 1])
def test_the_clock_runs_while_a_batch_is_not_there_and_the_loader_gives_what_a_loader_gives(workers):
    clock = WaitClock(torch.device("cpu"))
    loader = TimedLoader(Numbers(), clock=clock, batch_size=2, num_workers=workers)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]
    assert clock.seconds() >= 0.12
    before = clock.seconds()
    time.sleep(0.05)
    assert clock.seconds() == before


class Event:
    """What CUDA's events do, on a clock of the test's."""

    now, reached = 0.0, 0.0

    def record(self):
        self.at = Event.now

    def query(self):
        return Event.reached >= self.at

    def elapsed_time(self, other):
        return (other.at - self.at) * 1000


def test_on_cuda_the_devices_own_clock_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event())
    clock = WaitClock(torch.device("cuda"))

    def batches():
        for number in range(2):
            Event.now += 3.0
            yield number

    source = batches()
    assert [clock.fetch(source), clock.fetch(source)] == [0, 1]
    assert clock.seconds() == 0.0, "the device has not come so far"
    Event.reached = 3.0
    assert clock.seconds() == 3.0
    Event.reached = 9.0
    assert clock.seconds() == 6.0


def warnings_of(caplog, folder, *overrides):
    config = tiny_config("trainer.max_steps=61", *overrides, output_dir=folder, stage="mae")
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, logger="unirae"):
        warnings.simplefilter("ignore")
        assemble(config, experiment="tiny", checkpoint=None).fit()
    return [
        record.getMessage() for record in caplog.records if record.getMessage().startswith("waiting for data")
    ]


def test_slow_data_are_said_once(tmp_path, caplog, monkeypatch):
    read = SyntheticSource.__getitem__

    def slowly(source, index):
        time.sleep(0.01)
        return read(source, index)

    monkeypatch.setattr(SyntheticSource, "__getitem__", slowly)
    (said,) = warnings_of(caplog, tmp_path)
    assert "of the time of the last 20 steps. num_workers is 0:" in said


def test_fast_data_are_not_spoken_of(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(WaitClock, "fetch", lambda clock, batches: next(batches))  # no time passes
    assert warnings_of(caplog, tmp_path) == []


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(2, 1, 1), (1, 1, 0), (64, 1, 12), (64, 8, 7), (8, 16, 0)]
)
def test_workers_follow_from_the_cores_that_a_process_may_use(monkeypatch, cores, processes, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert default_workers(processes) == workers
