"""Frozen weights in 16 bits while autocast computes: cast once instead of at every use.

Within a step autocast remembers the casts of weights that are trained, but casts a frozen weight anew each time that it
is used: an encoder's 86 million numbers at every step, a denoiser's at each of a sampler's evaluations.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unirae.core.log import get_logger
from unirae.core.mapped import MappedTensors, can_be_mapped

log = get_logger(__name__)

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers that autocast runs in 16 bits. Not what derives from them: it may use its weight in another way."""


class NarrowWeights:
    """16-bit copies of the weights of ``networks``, in the place of the weights only while :meth:`in_use`.

    The results are autocast's to the last bit. Layers that are trained are left to autocast, and so is what lies in a
    module with ``keeps_full_precision``, which turns autocast off.
    """

    def __init__(self, *networks: nn.Module | None) -> None:
        found = (layer for network in networks if network is not None for layer in _layers(network))
        self._weights = [
            (layer, name)
            for layer in dict.fromkeys(found)
            for name, _ in layer.named_parameters(recurse=False)  # slow: not at every step
        ]
        self._copies: dict[tuple[nn.Module, str], tuple[tuple[int, int], nn.Parameter]] = {}
        self._file: MappedTensors | None = None
        self.mapped: list[nn.Parameter] = []

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Compute with the copies within the block where autocast is on; outside of it nothing happens.

        Originals that lie in a file leave memory again, if someone has read them since.
        """
        if self._file is not None:
            self._file.release()
        originals: list[tuple[nn.Module, str, nn.Parameter]] = []
        try:
            for layer, name in self._weights:
                weight = layer.get_parameter(name)
                if torch.is_autocast_enabled(weight.device.type) and _is_frozen(weight):
                    originals.append((layer, name, weight))
                    layer.register_parameter(name, self._copy(layer, name, weight))
            yield
        finally:
            for layer, name, weight in originals:
                layer.register_parameter(name, weight)

    @property
    def copies(self) -> list[nn.Parameter]:
        """The narrow copies made so far."""
        return [copy for _, copy in self._copies.values()]

    def map_originals(self) -> None:
        """Make the copies, where autocast is on, and leave their originals in a file (:mod:`unirae.core.mapped`).

        During the steps of a run nobody reads it. Weights elsewhere than on the CPU stay there, and so do all where no
        file can be written.
        """
        with self.in_use():
            pass
        originals = {id(w): w for w in (getattr(*key) for key in self._copies) if can_be_mapped(w)}
        if not originals:
            return
        try:
            self._file = MappedTensors(list(originals.values()))
        except OSError as error:
            log.warning("frozen weights stay in memory beside their 16-bit copies: %s", error)
            return
        self.mapped = list(originals.values())
        for key, (_, copy) in self._copies.items():
            self._copies[key] = (_state(getattr(*key)), copy)

    def _copy(self, layer: nn.Module, name: str, weight: nn.Parameter) -> nn.Parameter:
        state = _state(weight)
        known = self._copies.get((layer, name))
        if known is None or known[0] != state:
            narrow = weight.detach().to(torch.get_autocast_dtype(weight.device.type))
            known = self._copies[layer, name] = (state, nn.Parameter(narrow, requires_grad=False))
        return known[1]


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if getattr(module, "keeps_full_precision", False):
        return
    if type(module) in _LAYERS:
        yield module
    for child in module.children():
        yield from _layers(child)


def _state(weight: Tensor) -> tuple[int, int]:
    """Changes when the weight does."""
    return weight.untyped_storage()._cdata, weight._version


def _is_frozen(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and not (weight.requires_grad and torch.is_grad_enabled())
