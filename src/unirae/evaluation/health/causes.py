"""Usual causes of a column that leaves its band: where to look first, not a diagnosis."""

from unirae.core.arguments import argument

_ERROR = (
    "a learning rate that is too high (then the norm of the gradient rises too) or far too low, an encoder or labels "
    "that are not the ones named, or inputs in another range",
    "easier data: fewer or repeated images, augmentation or noise switched off",
)
_QUALITY = (
    "easier images than the curves' held-out ones",
    "trained too little, or on a loss that is out of its band too",
)
_LOGITS = ("a discriminator that wins or has run away", "a discriminator that wins or has run away")


def usual_causes(column: str, *, above: bool) -> str:
    """Usual causes of a column above its band, or below it; a loss or a distance unless known as something else."""
    too_high, too_low = _causes().get(column.rpartition("/")[2], _ERROR)
    return too_high if above else too_low


def _causes() -> dict[str, tuple[str, str]]:
    """The causes of a column that is too high, and of one that is too low."""
    return {
        "grad_norm": (
            "steps that are too large: lower "
            f"{argument('stage.optimizer.lr')} or set {argument('stage.clip_grad', 1.0)}",
            "a network that has stopped learning: a dead loss term, a learning rate far too low or far too high",
        ),
        "disc_grad_norm": (
            "a discriminator that diverges: lower "
            f"{argument('stage.disc_optimizer.lr')}, or set {argument('stage.disc_clip_grad')}",
            "a discriminator that has won or sees nothing",
        ),
        "disc_loss": (
            "a discriminator that learns nothing: look at its learning rate and when it starts",
            "a discriminator that wins: reconstructions are worse than they should be, or it learns too fast",
        ),
        "disc_accuracy": (
            "a discriminator that wins: the generator gets little to learn from",
            "a discriminator that sees no difference: look at its learning rate and when it starts",
        ),
        "adaptive_weight": (
            "gradients of the GAN that vanish: the discriminator is saturated or sees nothing",
            "gradients of the GAN that are too large beside the reconstruction's",
        ),
        "gan": _LOGITS,
        "logits_real": _LOGITS,
        "logits_fake": _LOGITS,
        "psnr": _QUALITY,
        "ssim": _QUALITY,
    }
