"""The Inception-v3 of FID: torch-fidelity's port of TensorFlow's network of 2015-12-05, 2048 pooled features.

Its own constructor downloads, or unpickles any file it is given. Here the weights are found, read as plain
tensors and hashed by us; nothing is downloaded or executed behind the caller's back.
"""

import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unirae.core.errors import WeightsError
from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
from unirae.core.io import load_tensors, state_sha256

FILE_NAME = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE_NAME}"


def _blank_network() -> nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Network(FeatureExtractorInceptionV3):
        """The network as constructed, before any weights."""

        def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
            """Skip the empty file that the constructor insists on loading."""
            return super().load_state_dict(state_dict, strict, assign) if state_dict != {} else None

    empty_file = io.BytesIO()
    torch.save({}, empty_file)
    empty_file.seek(0)
    return Network("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty_file)


def _network(state: dict[str, Tensor], source: str) -> nn.Module:
    network = _blank_network()
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        raise WeightsError(
            f"the Inception weights {source!r} do not fit torch-fidelity's network; "
            f"the file to use is {FILE_NAME} from {URL}"
        ) from None
    return network.eval().requires_grad_(False)


def random_inception_state(seed: int = 0) -> dict[str, Tensor]:
    """A seeded random state dict (He initialisation, so that the features neither vanish nor explode)."""
    generator = torch.Generator().manual_seed(seed)
    network = _blank_network()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.state_dict()


class InceptionExtractor:
    """8-bit RGB of any size to the 2048 pooled features of FID (resized to 299 px as TensorFlow 1 does).

    Args:
        weights: "hub" (torch's cache, filled from torch-fidelity's URL), a path to that file, or "random"
            (seeded; the extractor is then called ``random_inception`` and its scores say so).
        device: where the network runs; images must be there too.
        option: the name of the user's option, for the message about a missing file.
    """

    width = 2048

    def __init__(
        self,
        *,
        weights: str | Path = "hub",
        seed: int = 0,
        device: torch.device | str = "cpu",
        chunk: int = NETWORK_CHUNK,
        option: str = "callbacks.reconstruction_metrics.inception_weights",
    ) -> None:
        if weights == "random":
            source, state = f"random (seed {seed})", random_inception_state(seed)
        else:
            from unirae.core.weights import find_weights

            path = find_weights(
                weights, url=URL, file_name=FILE_NAME, what="FID's Inception-v3", option=option
            )
            source, state = str(weights), load_tensors(path)
        self.name = "random_inception" if weights == "random" else "inception"
        self._network = _network(state, source).to(device)
        self._chunk = chunk
        self.identity = {
            "network": "Inception-v3 2015-12-05 (torch-fidelity), 2048 pooled features",
            "weights": source,
            "sha256": state_sha256(state),
            "torch_fidelity": version("torch-fidelity"),
        }

    def __call__(self, images: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b 2048"]:
        """8-bit images to FID features, float32."""
        with exact_float32(images.device):
            return in_chunks(lambda chunk: self._network(chunk)[0], images, self._chunk)
