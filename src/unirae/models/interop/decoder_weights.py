"""Weights of a decoder alone, from wherever one was trained: ours or the official code's."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.errors import WeightsError
from unirae.core.io import map_tensors
from unirae.core.log import get_logger
from unirae.core.strict import load_strictly
from unirae.models.checkpoints.model_folder import WEIGHTS, is_model_folder
from unirae.models.checkpoints.reading import find_checkpoint, open_checkpoint
from unirae.models.decoder import ViTDecoder
from unirae.models.interop.official.files import read_weights
from unirae.models.interop.official.names import decoder_from_official, split_rae
from unirae.models.rae import RAE

log = get_logger(__name__)

_PLAINLY = 1.5
"""Errors of reconstructions that differ by this factor differ plainly; a trained decoder's by two and more."""


def initialise_decoder(decoder: ViTDecoder, path: str | Path) -> None:
    """Start ``decoder`` from the averaged weights of a checkpoint of ours, or from an official decoder's.

    Where it decodes another grid of tokens, the trained positions are interpolated to it, as everything else fits.

    Raises:
        WeightsError: If the file is missing, damaged or of another kind, or if its decoder has other sizes.
    """
    if not is_official(path):
        _check_output(decoder, path)
    state = read_decoder(path)
    expected = decoder.positions.shape
    if "positions" in state and state["positions"].shape[1] != expected[1]:
        grid = _grid(path, state["positions"])
        state = {**state, "positions": interpolate_positions(state["positions"], grid, decoder.grid)}
        log.info("%s: its positions are of %d×%d tokens; interpolated to %d×%d", path, *grid, *decoder.grid)
    try:
        load_strictly(decoder, state, what=f"decoder ({path})")
    except WeightsError as error:
        sizes = decoder.architecture
        raise WeightsError(
            f"{error}. The model has a decoder of width {sizes['width']}, depth {sizes['depth']}, for tokens of "
            f"{sizes['token_dim']}; give the sizes that the file was trained with ({argument('decoder', '…')}) and its "
            "encoder"
        ) from None
    log.info("the decoder starts from %s", path)


def _check_output(decoder: ViTDecoder, path: str | Path) -> None:
    """Refuse a decoder that was trained to give pixels of another space: its colours would be wrong.

    Raises:
        WeightsError: If the checkpoint's decoder has another ``output``.
    """
    trained = open_checkpoint(path, kind="stage1").about["rae"]["decoder"].get("output", "encoder_pixels")
    if trained != decoder.output:
        raise WeightsError(
            f"{path}: its decoder was trained with {argument('decoder.output', trained)}, this one has "
            f"{argument('decoder.output', decoder.output)}; give it the same"
        )


@torch.no_grad()
def check_colours(rae: RAE, images: Float[Tensor, "b 3 H W"], path: str | Path) -> None:
    """Refuse an autoencoder whose decoder plainly gives pixels of the other space than its ``output`` says.

    A bare file of the official code does not say whether it is RAE's or RAEv2's; their keys are equal. So pictures are
    reconstructed once, and the result is read both ways.

    Args:
        images: pictures in [0, 1] of the decoder's size.
        path: the file that the decoder comes from.

    Raises:
        WeightsError: If the mean absolute error is plainly smaller the other way.
    """
    pixels, target = rae.decoder(rae.tokens(images)).float(), images.float()
    errors = {
        "encoder_pixels": float((pixels * rae.encoder.std + rae.encoder.mean - target).abs().mean()),
        "unit": float((pixels - target).abs().mean()),
    }
    other = "unit" if rae.decoder.output == "encoder_pixels" else "encoder_pixels"
    if errors[rae.decoder.output] > _PLAINLY * errors[other]:
        raise WeightsError(
            f"{path}: read with {argument('decoder.output', rae.decoder.output)}, its reconstructions of {len(images)} "
            f"training pictures are off by {errors[rae.decoder.output]:.3f} on average, by {errors[other]:.3f} with "
            f"{argument('decoder.output', other)}; set that"
        )


def read_decoder(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a trained decoder under our names.

    Raises:
        WeightsError: As of :func:`initialise_decoder`, but for the sizes.
    """
    if is_official(path):
        decoder, _ = split_rae(read_weights(Path(path).expanduser()), what=str(path))
        return decoder_from_official(decoder)
    return open_checkpoint(path, kind="stage1").weights("ema")


def is_official(path: str | Path) -> bool:
    """Say whether a file holds weights of the official code, rather than a checkpoint of ours.

    Raises:
        WeightsError: If there is no file, or it is damaged.
    """
    file = find_checkpoint(path)
    if file.name == WEIGHTS and is_model_folder(file.parent):
        return False
    if file.suffix == ".safetensors":
        return True
    content = map_tensors(file)
    return not (isinstance(content, dict) and "unirae" in content)


def interpolate_positions(positions: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Learned positions [1, 1 + rows·columns, d] of another grid, bicubically; the class token's stays."""
    token, patches = positions[:, :1], positions[:, 1:]
    maps = patches.transpose(1, 2).unflatten(2, grid)
    maps = F.interpolate(maps, size=target, mode="bicubic", align_corners=False)
    return torch.cat([token, maps.flatten(2).transpose(1, 2)], dim=1)


def _grid(path: str | Path, positions: Tensor) -> tuple[int, int]:
    if not is_official(path):
        rows, columns = open_checkpoint(path, kind="stage1").about["rae"]["decoder"]["grid"]
        return int(rows), int(columns)
    side = math.isqrt(positions.shape[1] - 1)
    if side * side != positions.shape[1] - 1:
        raise WeightsError(f"{path}: {positions.shape[1]} positions are no square grid and a class token")
    return side, side
