"""The Inception-v3 of FID: torch-fidelity's port of TensorFlow's network of 2015-12-05.

Its own constructor downloads, or unpickles any file it is given. Here the weights are found, read as plain
tensors and hashed by us; nothing is downloaded or executed behind the caller's back.

Three outputs of one pass:

- ``pooled``: 2048 numbers, TensorFlow's ``pool_3:0``; of FID, KID, precision and recall.
- ``spatial``: the first 7 channels of ``mixed_6/conv:0`` (after its ReLU) at 17×17 places, row by row with
  channels last as TensorFlow lays them out, 2023 numbers; of sFID (Nash et al. 2021, as ADM's evaluator has it).
- ``logits``: 1008 numbers without the last layer's bias, as both ADM's evaluator and torch-fidelity take them;
  of the Inception Score.
"""

import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unirae.core.errors import WeightsError
from unirae.core.exact import NETWORK_CHUNK
from unirae.core.io import file_sha256, load_tensors, state_sha256
from unirae.core.log import get_logger
from unirae.metrics.extractors import POOLED, FeatureExtractor

log = get_logger(__name__)

FILE_NAME = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE_NAME}"
PUBLISHED_SHA256 = "6726825d"
"""First digits of the published file's hash; they are part of the file's name."""

SPATIAL = "spatial"
LOGITS = "logits"
_SPATIAL_CHANNELS, _SPATIAL_SIDE = 7, 17


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
    return Network(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=empty_file
    )


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


def _fold_normalisation(network: nn.Module) -> nn.Module:
    """Each batch normalisation folded into the convolution before it, channels last: half the time on a CPU.

    The features change in the seventh digit.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

    for module in network.modules():
        if isinstance(module, BasicConv2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class InceptionExtractor(FeatureExtractor):
    """FID's Inception network: 8-bit RGB of any size (resized to 299 px as TensorFlow 1 does) to features and logits.

    Args:
        weights: "hub" (torch's cache, filled from torch-fidelity's URL), a path to that file, or "random"
            (seeded; the extractor is then called ``random_inception`` and its scores say so).
        device: where the network runs; images must be there too.
    """

    widths = {POOLED: 2048, SPATIAL: _SPATIAL_CHANNELS * _SPATIAL_SIDE**2, LOGITS: 1008}  # noqa: RUF012

    def __init__(
        self,
        *,
        weights: str | Path = "hub",
        seed: int = 0,
        device: torch.device | str = "cpu",
        chunk: int = NETWORK_CHUNK,
    ) -> None:
        published = False
        if weights == "random":
            source, state = f"random (seed {seed})", random_inception_state(seed)
        else:
            from unirae.core.weights import find_weights

            path = find_weights(
                weights,
                url=URL,
                file_name=FILE_NAME,
                what="FID's Inception-v3",
                option="metrics.inception_weights",
            )
            source, state = str(weights), load_tensors(path)
            published = file_sha256(path).startswith(PUBLISHED_SHA256)
        self.name = "random_inception" if weights == "random" else "inception"
        self.chunk = chunk
        self.identity = {
            "network": "Inception-v3 2015-12-05 (torch-fidelity)",
            "weights": source,
            "sha256": state_sha256(state),
            "published_weights": published,
            "torch_fidelity": version("torch-fidelity"),
        }
        if not published and weights != "random":
            log.warning(
                "%s is not the published file (its SHA-256 does not begin with %s): scores in its features are not "
                "comparable with published ones",
                source,
                PUBLISHED_SHA256,
            )
        network: Any = _fold_normalisation(_network(state, source)).to(device)
        network.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)
        self._network = network
        self._spatial = torch.empty(0)

    def _keep_spatial(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._spatial = output[:, :_SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)

    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """The three outputs of a chunk."""
        pooled, logits = self._network(images)
        return {POOLED: pooled, SPATIAL: self._spatial, LOGITS: logits}
