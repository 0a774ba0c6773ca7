"""LPIPS, the learned perceptual distance (Zhang et al., arXiv 1801.03924): a loss and a metric.

VGG16 features at five depths, unit-normalised along channels; their squared differences are weighted by learned
heads, averaged over positions and summed over depths (:mod:`unirae.nn.kernels.lpips_distance`). The heads are those of
the ``lpips`` package (version 0.1), read from the installed package; the VGG weights are torchvision's.
"""

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import WeightsError
from unirae.core.images import to_signed
from unirae.core.io import load_tensors
from unirae.core.weights import find_weights
from unirae.nn.kernels.lpips_distance import unit_distance

VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"

_WIDTHS = (64, 128, 256, 512, 512)
"""Channels of VGG16's five stages."""
_SHIFT = (-0.030, -0.088, -0.188)  # the package's scaling layer: ImageNet's mean and std for [-1, 1]
_SCALE = (0.458, 0.448, 0.450)
_MIN_SIZE_PX = 16


class Lpips(nn.Module):
    """The frozen network; :func:`build_lpips` fills it with weights."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.vgg, self._taps = _vgg16_features()
        self.heads = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in _WIDTHS)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(3, 1, 1), persistent=False)
        # Channels last: convolutions need no reordering of their input and output, pixels are compared in place.
        self.vgg.to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Lpips":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, a: Float[Tensor, "b 3 H W"], b: Float[Tensor, "b 3 H W"]) -> Float[Tensor, " b"]:
        """Distance of each pair of RGB images in [0, 1]; gradients reach the first."""
        return self.distance(self.features(a), self.features(b))

    def features(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b c h w"]]:
        """Features of RGB images in [0, 1] at five depths, as VGG gives them."""
        if min(images.shape[-2:]) < _MIN_SIZE_PX:
            raise ValueError(
                f"LPIPS needs images of at least {_MIN_SIZE_PX} px, got {tuple(images.shape[-2:])}"
            )
        x = ((to_signed(images) - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        maps = []
        for index, layer in enumerate(self.vgg):
            x = layer(x)
            if index in self._taps:
                maps.append(x)
        return maps

    def distance(
        self, a: list[Float[Tensor, "b c h w"]], b: list[Float[Tensor, "b c h w"]]
    ) -> Float[Tensor, " b"]:
        """Distance of each pair of images from their :meth:`features`, in full precision; ``b`` is the target."""
        layers = [unit_distance(fa, fb, head) for fa, fb, head in zip(a, b, self.heads, strict=True)]
        return torch.stack(layers).sum(dim=0)


def _vgg16_features() -> tuple[nn.Sequential, frozenset[int]]:
    """The convolutions of torchvision's VGG16, its ``features``, and the last ReLU of every stage."""
    from torchvision.models.vgg import cfgs, make_layers

    layers = make_layers(cfgs["D"])
    pools = [index for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return layers[: pools[-1]], frozenset(index - 1 for index in pools)


def build_lpips(weights: str | Path = "hub", *, seed: int = 0, option: str = "perceptual.weights") -> Lpips:
    """LPIPS with torchvision's VGG16 weights.

    Args:
        weights: ``"hub"`` (cache or download), a local file with torchvision's keys, or ``"random"``: a
            seeded random VGG16 under the learned heads, for smoke tests; its distances mean little.
        seed: of the random weights.
        option: the argument that errors about a missing file name.
    """
    if str(weights) == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Lpips()
            for parameter in network.vgg.parameters():
                if parameter.ndim > 1:
                    nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.zeros_(parameter)
    else:
        network = Lpips()
        path = find_weights(
            weights,
            url=VGG16_URL,
            file_name=VGG16_URL.rsplit("/", 1)[-1],
            what="VGG16 of LPIPS",
            option=option,
        )
        _load_vgg(network, path)
    _load_heads(network)
    return network


def _load_vgg(network: Lpips, path: Path) -> None:
    """Load ``features.*`` strictly; the classifier of the full VGG16 is not needed."""
    prefix = "features."
    state = {k.removeprefix(prefix): v for k, v in load_tensors(path).items() if k.startswith(prefix)}
    try:
        network.vgg.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise WeightsError(f"{path} is not torchvision's VGG16 ({VGG16_URL}): {reason}") from None


def _load_heads(network: Lpips) -> None:
    """Copy the heads from the installed ``lpips`` package, without importing it."""
    if network.heads[0].is_meta:
        return
    package = importlib.util.find_spec("lpips")
    if package is None or package.origin is None:
        raise WeightsError("LPIPS needs the learned heads of the lpips package: pip install lpips")
    state = load_tensors(Path(package.origin).parent / "weights" / "v0.1" / "vgg.pth")
    heads = {str(i): state[f"lin{i}.model.1.weight"] for i in range(len(_WIDTHS))}
    network.heads.load_state_dict(heads)
