"""Checks of a user's inputs to an autoencoder or a diffusion transformer: one line, not odd numbers.

Shapes and types are known to the host, so looking at them costs nothing. Values are not: looking at those of a GPU
waits for it. So only the public entry points do (``RAE.encode``, ``RAE.reconstruct``), and of a network's times and
labels only where they lie on the CPU.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from unirae.core.errors import InputError

LOWEST, HIGHEST = -0.5, 1.5
"""Decoded images overshoot [0, 1] a little and are right; other conventions lie outside of these."""
_SLACK = 1e-3
"""Tolerance of times, for rounding by a solver or in 16 bits."""


def check_images(images: Any) -> None:
    """Refuse anything but a batch of RGB images in floating point; does not look at values.

    Raises:
        InputError: If ``images`` is no tensor, 8-bit, or of another shape than [b, 3, height, width].
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images must be a torch tensor of shape [b, 3, height, width], not {_type(images)}")
    shape = list(images.shape)
    if images.ndim != 4 or shape[1] != 3:
        raise InputError(
            f"images must have shape [b, 3, height, width], got {shape}{_shape_advice(images, shape)}"
        )
    if not images.is_floating_point():
        raise InputError(
            f"images must be floating point, RGB in [0, 1], got {images.dtype}; convert 8-bit values with images / 255"
        )


def looks_like_rgb(images: Tensor) -> bool:
    """Say whether values are near [0, 1]; on a GPU this waits for them."""
    if images.is_meta or torch.compiler.is_compiling() or not images.numel():
        return True
    lowest, highest = images.detach().aminmax()
    return bool((lowest >= LOWEST) & (highest <= HIGHEST))  # NaN is neither


def warn_of_range(images: Tensor, caller: str) -> None:
    """Say that values are of another convention, and how to convert them; to be called two calls below the user."""
    lowest, highest = (float(value) for value in images.detach().aminmax())
    warnings.warn(
        f"{caller}: the images have values from {lowest:.4g} to {highest:.4g}, where RGB in [0, 1] is expected; what "
        "comes out has no meaning. Convert 8-bit values with images / 255, [-1, 1] with (images + 1) / 2, and leave "
        "mean and std to the encoder",
        stacklevel=4,
    )


def check_latents(latents: Any, latent_shape: tuple[int, int, int]) -> None:
    """Refuse anything but a batch of this autoencoder's latents.

    Raises:
        InputError: If ``latents`` is no tensor, or of another shape than [b, c, h, w].
    """
    wanted = f"[b, {', '.join(map(str, latent_shape))}]"
    if not isinstance(latents, Tensor):
        raise InputError(f"latents must be a torch tensor of shape {wanted}, not {_type(latents)}")
    if latents.ndim != 4 or tuple(latents.shape[1:]) != tuple(latent_shape):
        single = "; add the batch with latents[None]" if tuple(latents.shape) == tuple(latent_shape) else ""
        raise InputError(f"this autoencoder's latents have shape {wanted}, got {list(latents.shape)}{single}")
    if not latents.is_floating_point():
        raise InputError(f"latents must be floating point, got {latents.dtype}")


def check_step(x: Any, t: Any, *, latent_shape: tuple[int, int, int]) -> None:
    """Refuse anything but noised latents and times of one batch, as a diffusion transformer reads them.

    Raises:
        InputError: If ``x`` or ``t`` is of another type or shape; the message says which, and what it should be.
    """
    if not isinstance(x, Tensor) or x.ndim != 4 or tuple(x.shape[1:]) != tuple(latent_shape):
        found = tuple(x.shape[1:]) if isinstance(x, Tensor) and x.ndim == 4 else _type_or_shape(x)
        raise InputError(f"this DiT reads latents {tuple(latent_shape)}, not {found}; x is a batch of them")
    count = len(x)
    if not isinstance(t, Tensor) or t.shape != (count,) or not t.is_floating_point():
        raise InputError(
            f"t must be a floating-point tensor of shape [{count}], a time in [0, 1] for each image, got "
            f"{_type_or_shape(t)}; for one time for all: torch.full(({count},), 0.5)"
        )


def check_labels(y: Any, *, count: int) -> None:
    """Refuse anything but ``count`` labels.

    Raises:
        InputError: If ``y`` is of another type or shape; the message says what it should be.
    """
    if not isinstance(y, Tensor) or y.shape != (count,) or y.dtype not in (torch.int64, torch.int32):
        raise InputError(
            f"y must be an int64 tensor of shape [{count}], a label for each image, got {_type_or_shape(y)}; without "
            f"labels: torch.full(({count},), dit.null_label)"
        )


def check_text(tokens: Tensor, mask: Tensor, *, count: int, width: int) -> None:
    """Refuse tokens of another number of texts, or of another text encoder's width, and masks that are no truth values.

    Raises:
        InputError: If the tokens have another shape, or tokens or mask another type; the message says which.
    """
    if mask.dtype != torch.bool:
        raise InputError(f"a text's mask must be boolean, got {mask.dtype}; take attention_mask.bool()")
    if not tokens.is_floating_point():
        raise InputError(
            f"a text's tokens must be floating point, a text encoder's hidden states, got {tokens.dtype}"
        )
    if tokens.ndim != 3 or len(tokens) != count:
        raise InputError(
            f"y must hold the tokens of {count} texts, [{count}, length, {width}], got {list(tokens.shape)}"
        )
    if tokens.shape[2] != width:
        raise InputError(
            f"this DiT reads a text encoder's hidden states of width {width}, and was given ones of {tokens.shape[2]}: "
            "take the text encoder that it was trained with"
        )


def check_times(t: Tensor) -> None:
    """Refuse times out of range, where they lie on the CPU.

    Raises:
        InputError: If a time is out of range.
    """
    if _known_here(t) and not bool(((t >= -_SLACK) & (t <= 1 + _SLACK)).all()):
        raise InputError(f"t must lie in [0, 1] (0 is data, 1 is noise), got {t.min():.4g} to {t.max():.4g}")


def check_known(y: Tensor, *, num_classes: int) -> None:
    """Refuse labels that a network does not know, where they lie on the CPU.

    Raises:
        InputError: If a label is out of range.
    """
    if _known_here(y) and bool(((y < 0) | (y > num_classes)).any()):
        known = f"classes 0 to {num_classes - 1}, and" if num_classes else "no classes;"
        raise InputError(
            f"labels {sorted(set(y.tolist()))} are not all known: this model has {known} {num_classes} for no label"
        )


def _known_here(tensor: Tensor) -> bool:
    """Say whether values can be looked at without waiting: not on a GPU, nor of tensors that have none."""
    return type(tensor) is Tensor and tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _shape_advice(images: Tensor, shape: list[int]) -> str:
    if images.ndim == 3 and shape[0] == 3:
        return "; add the batch with images[None]"
    if images.ndim == 3 and shape[2] == 3:
        return "; height, width, channels become a batch of one by images.permute(2, 0, 1)[None]"
    if images.ndim == 4 and shape[3] == 3:
        return "; channels come first: images.permute(0, 3, 1, 2)"
    if images.ndim == 4 and shape[1] == 1:
        return "; grey becomes RGB by images.expand(-1, 3, -1, -1)"
    if images.ndim == 4 and shape[1] == 4:
        return "; leave transparency out with images[:, :3]"
    return ""


def _type(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _type_or_shape(value: Any) -> str:
    return f"{value.dtype} of shape {list(value.shape)}" if isinstance(value, Tensor) else _type(value)
