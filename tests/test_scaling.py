"""The tables of docs/scaling.md are what its tool makes, and its arithmetic holds; the job script is a script."""

import subprocess
from pathlib import Path

import pytest

import scaling
from unirae.app.shell.cli import launch_rank

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_tool_makes():
    assert scaling.page() == scaling.PAGE.read_text()


def test_operations_are_those_of_the_networks():
    """Two for each weight and token, the trunk's modulation (28 blocks) once an image; two products in attention."""
    stage, tokens = scaling.stage2(), 256
    once = 28 * 6 * 1152**2 + 1001 * 1152
    products = 2 * (stage.gradient_bytes / 4 - once) * tokens
    attention = 4 * tokens**2 * (28 * 1152 + 2 * 2048)
    forward_and_backward = 3 * (products + attention)
    assert stage.flops["denoiser"] == pytest.approx(forward_and_backward, rel=0.01)


def test_messages_within_a_node_take_no_network():
    h100 = scaling.DEVICES[0]
    one, two, many = (scaling.all_reduce_seconds(1e9, gpus, h100) for gpus in (8, 16, 512))
    assert one == pytest.approx(2 * 7 / 8 * 1e9 / (450e9 * 0.8))
    assert two - one == pytest.approx(1e9 / 40e9)
    assert many - one == pytest.approx(2 * 63 / 64 * 1e9 / 40e9)


def test_the_job_script_is_valid_shell():
    subprocess.run(["bash", "-n", ROOT / "tools/slurm/train.sbatch"], check=True)


@pytest.mark.parametrize(
    ("given", "rank"),
    [
        ({}, 0),
        ({"SLURM_PROCID": "5"}, 5),  # srun, a task for each device
        ({"SLURM_PROCID": "1", "LOCAL_RANK": "3", "RANK": "11"}, 11),  # torchrun within a task
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "3"}, 3),  # Lightning within an interactive job
    ],
)
def test_only_the_first_process_writes_the_log(monkeypatch, given, rank):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert launch_rank() == rank
