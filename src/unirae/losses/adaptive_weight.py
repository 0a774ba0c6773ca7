"""The adaptive weight of the GAN loss, and the one gradient that the decoder is trained with.

VQGAN (arXiv 2012.09841, eq. 7), as RAE's stage 1 uses it:

    λ = ‖∇ₗ(L1 + LPIPS)‖ / (‖∇ₗ GAN‖ + 1e-6), clamped to [0, 1e4],  l = the decoder's last linear weight.

Computed plainly, this runs the perceptual net and the discriminator backwards twice: for λ and again for the
update. But a loss reaches the decoder only through the image, so the chain rule gives all of it from the two
image gradients, each computed once::

    leaf = detached_leaf(recon)
    g_rec = image_gradient(reconstruction_loss(leaf), leaf)
    g_gan = image_gradient(generator_loss(discriminator(leaf)), leaf)
    balanced = balance(recon, g_rec, g_gan, decoder.last_layer, disc_weight=0.75)
    recon.backward(balanced.image_gradient)  # one pass through the decoder

From the image to the last weight there is only the unpatchify and one linear layer, so ∇ₗ is nearly free.
Over processes the last layer's gradients are averaged before their norms are taken: λ is the one of the
joint micro-batch, the same everywhere (the reference takes each rank's own).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unirae.core.distributed import all_mean_
from unirae.core.precision import full_precision

_EPS = 1e-6


@dataclass(frozen=True)
class Balanced:
    """Result of :func:`balance`.

    Attributes:
        image_gradient: d(reconstruction + disc_weight·λ·GAN)/d image, times ``loss_scale``.
        weight: λ, without gradient, free of ``loss_scale``.
    """

    image_gradient: Float[Tensor, "b 3 H W"]
    weight: Float[Tensor, ""]


def detached_leaf(images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
    """The same images cut off from the decoder, in full precision, ready to receive a gradient."""
    return full_precision(images.detach()).requires_grad_()


def image_gradient(
    loss: Float[Tensor, ""], images: Float[Tensor, "b 3 H W"], loss_scale: float | Tensor = 1.0
) -> Float[Tensor, "b 3 H W"]:
    """Gradient of the loss with respect to the images, times ``loss_scale``; frees the loss's graph."""
    (gradient,) = torch.autograd.grad(loss * loss_scale, images)
    return gradient


def adaptive_weight(
    reconstruction_norm: Float[Tensor, ""],
    adversarial_norm: Float[Tensor, ""],
    *,
    max_weight: float = 1e4,
    loss_scale: float | Tensor = 1.0,
) -> Float[Tensor, ""]:
    """Adaptive weight λ, from the two norms.

    A norm that is not finite (fp16 overflow) gives NaN instead of a clamped λ, so that the gradient scaler
    or the non-finite guard sees it.
    """
    ratio = reconstruction_norm / (adversarial_norm + _EPS * loss_scale)
    finite = torch.isfinite(reconstruction_norm) & torch.isfinite(adversarial_norm)
    return torch.where(finite, ratio.clamp(0.0, max_weight), torch.nan)


def last_layer_gradient_norms(
    recon: Float[Tensor, "b 3 H W"],
    image_gradients: tuple[Float[Tensor, "b 3 H W"], ...],
    last_layer: Float[Tensor, "out ..."],
) -> list[Float[Tensor, ""]]:
    """Norm of the last layer's gradient, averaged over processes, that each image gradient causes.

    The decoder's graph is kept.
    """
    gradients = [
        full_precision(
            torch.autograd.grad(recon, last_layer, grad_outputs=g.to(recon.dtype), retain_graph=True)[0]
        )
        for g in image_gradients
    ]
    all_mean_(gradients)
    return [torch.linalg.vector_norm(g) for g in gradients]


def balance(
    recon: Float[Tensor, "b 3 H W"],
    reconstruction_gradient: Float[Tensor, "b 3 H W"],
    adversarial_gradient: Float[Tensor, "b 3 H W"],
    last_layer: Float[Tensor, "out ..."],
    *,
    disc_weight: float,
    max_weight: float = 1e4,
    loss_scale: float | Tensor = 1.0,
    fixed_weight: float | None = None,
) -> Balanced:
    """Join both image gradients with the adaptive weight.

    Args:
        recon: the decoder's output, with its graph, which is kept for the backward pass.
        reconstruction_gradient: d(L1 + perceptual)/d recon, times ``loss_scale``.
        adversarial_gradient: d(generator loss)/d recon, times ``loss_scale``.
        last_layer: the decoder's last weight, of a linear layer or a convolution.
        disc_weight: constant factor of the GAN loss (0.75 in the recipe).
        max_weight: upper limit of λ.
        loss_scale: fp16's loss scale that the gradients carry.
        fixed_weight: hold λ at this value; unlike the adaptive λ, which is a statistic of the micro-batch, it
            makes N micro-batches of B equal one batch of N·B.
    """
    if fixed_weight is None:
        norms = last_layer_gradient_norms(recon, (reconstruction_gradient, adversarial_gradient), last_layer)
        weight = adaptive_weight(norms[0], norms[1], max_weight=max_weight, loss_scale=loss_scale)
    else:
        weight = reconstruction_gradient.new_full((), fixed_weight)
    combined = full_precision(reconstruction_gradient) + disc_weight * weight * full_precision(
        adversarial_gradient
    )
    return Balanced(image_gradient=combined.to(recon.dtype), weight=weight)
