"""For every test of this folder: a CUDA device, or none of it.

``UNIRAE_TEST_DEVICE=cpu`` runs what they do on a CPU instead, against itself: to try the tests where there is no GPU.
"""

import gc
import os
from collections.abc import Iterator

import pytest
import torch

WANTED = os.environ.get("UNIRAE_TEST_DEVICE", "cuda")


@pytest.fixture(autouse=True)
def device() -> Iterator[torch.device]:
    """Convolutions in TF32, torch's default, would hide in what is compared with the CPU."""
    if WANTED == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield torch.device(WANTED)
    torch.backends.cudnn.allow_tf32 = before
    gc.collect()


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    """Nothing else will do."""
    if device.type != "cuda":
        pytest.skip("needs a CUDA device")
    return device
