"""The features of FDr6 on a GPU: the ViTs under bfloat16 autocast, ConvNeXt in float32."""

from pathlib import Path

import pytest
import torch

from tiny_fdr import SPACES, TIMM_SPACES, write_space
from toy_extractors import ToyInception
from unirae.evaluation.scores.fdr import build_fdr_metrics

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


def test_only_vits_are_rounded_and_the_identity_says_so(tmp_path: Path, device: torch.device) -> None:
    for space in TIMM_SPACES:
        write_space(tmp_path / space.name)
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    sides = [
        build_fdr_metrics(ToyInception(), weights=tmp_path, published=None, device=place)
        for place in ("cpu", device)
    ]
    for space, here, there in zip(SPACES, *sides, strict=True):
        if space.model is None:
            continue
        rounded = space.pooling != "spatial" and device.type == "cuda"
        assert there.settings["precision"] == ("bfloat16 autocast" if rounded else "float32")
        exact, found = here.extractor(images), there.extractor(images.to(device)).cpu()
        error = float((found - exact).norm() / exact.norm())
        assert error < (5e-2 if rounded else 1e-4)
        assert error > 1e-4 or not rounded
