"""What a run writes for TensorBoard."""

import os

import pytest

from unirae.core.errors import ConfigError
from unirae.training.tensorboard import TensorBoard


def test_settings_with_a_path_that_is_not_utf_8(tmp_path):
    logger = TensorBoard(tmp_path)
    logger.log_hyperparams({"data": {"data_dir": os.fsdecode(b"/caf\xe9"), "splits": [os.fsdecode(b"\xe9")]}})
    logger.finalize("success")
    (events,) = (tmp_path / "tensorboard").glob("events.*")
    assert rb"/caf\xe9" in events.read_bytes()
    assert r"data_dir: /caf\xe9" in (tmp_path / "tensorboard/hparams.yaml").read_text()


def test_a_folder_that_its_writer_cannot_name_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"output_dir=.*/caf\\xe9: .*tensorboard=False"):
        TensorBoard(tmp_path / os.fsdecode(b"caf\xe9"))
    assert os.listdir(tmp_path) == []
