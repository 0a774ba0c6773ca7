"""FD-DINOv2's network from a weights folder, as the evaluation commands find it."""

import pytest
import torch

from unirae.core.errors import WeightsError
from unirae.core.weights import VARIABLE
from unirae.evaluation.judges.dinov2_features import MODEL, Dinov2Extractor
from unirae.models.encoders.hf import quiet_transformers


def test_the_weights_folder_serves_it(tmp_path, monkeypatch):
    from transformers import Dinov2Config, Dinov2Model

    monkeypatch.setenv(VARIABLE, str(tmp_path))
    place = tmp_path / MODEL.replace("/", "--")
    with pytest.raises(WeightsError, match=rf"{place}.*fetch_weights\.py --experiment NAME --to {tmp_path}"):
        Dinov2Extractor()
    with quiet_transformers():
        Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
            place
        )
    extractor = Dinov2Extractor()
    assert extractor.identity["weights"] == MODEL
    (rows,) = extractor.forward(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).values()
    assert rows.shape == (2, 16)
