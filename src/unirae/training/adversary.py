"""The adversarial half of stage 1: who judges, how strongly, from which step on, and how the judge learns."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.images import to_signed
from unirae.core.keyed_random import Stream
from unirae.losses.adversarial import DiscriminatorLoss, generator_loss
from unirae.losses.diffaug import diff_augment
from unirae.models.discriminators.base import Discriminator
from unirae.training.manual import MeanTerms, MicroBatch
from unirae.training.optimisation import Updater
from unirae.training.optimizers import OptimizerSettings
from unirae.training.schedule import Schedule


class Adversary(nn.Module):
    """A discriminator with its timetable and its own optimizer.

    Args:
        optimizer, schedule: of the discriminator; the schedule counts its own updates.
        disc_weight: constant factor of the GAN loss.
        update_start_step: the discriminator learns from this step on.
        gan_start_step: the generator sees it from this step on.
        clip_grad: largest norm of the discriminator's gradients; 0 is off.
        loss: the discriminator's.
        max_adaptive_weight: upper limit of λ.
        fixed_adaptive_weight: holds λ constant; None computes it.
        augment: arguments of :func:`~unirae.losses.diffaug.diff_augment`.
    """

    def __init__(
        self,
        *,
        discriminator: Discriminator,
        optimizer: OptimizerSettings,
        schedule: Schedule,
        disc_weight: float,
        update_start_step: int,
        gan_start_step: int,
        clip_grad: float,
        loss: DiscriminatorLoss,
        max_adaptive_weight: float,
        fixed_adaptive_weight: float | None,
        augment: dict[str, Any],
    ) -> None:
        super().__init__()
        self.discriminator, self.loss = discriminator, loss
        self.optimizer, self.schedule = optimizer, schedule
        self.disc_weight, self.clip_grad = disc_weight, clip_grad
        self.update_start_step, self.gan_start_step = update_start_step, gan_start_step
        self.max_adaptive_weight, self.fixed_adaptive_weight = max_adaptive_weight, fixed_adaptive_weight
        self._augment = augment

    def generator_loss(self, image: Float[Tensor, "b 3 H W"], part: MicroBatch) -> Float[Tensor, ""]:
        """−mean of the logits of augmented reconstructions, by a discriminator that is constant and in eval mode."""
        self.discriminator.eval()
        with constant(self.discriminator.trained):
            fakes = self.augment(image, part, Stream.AUGMENT_GENERATOR_FAKE)
            return generator_loss(self.discriminator(fakes))

    def learn(
        self,
        pairs: Iterable[tuple[MicroBatch, Float[Tensor, "b 3 H W"]]],
        *,
        updater: Updater,
        update: int,
        terms: MeanTerms,
    ) -> None:
        """One update from micro-batches of originals and fakes, both in [0, 1] and on the 8-bit grid."""
        updater.zero_grad()
        self.discriminator.train()
        self.discriminator.power_iteration()
        for part, fake in pairs:
            both = [
                self.augment(part.images, part, Stream.AUGMENT_REAL),
                self.augment(fake, part, Stream.AUGMENT_FAKE),
            ]
            real_logits, fake_logits = self.discriminator(torch.cat(both)).chunk(2)
            loss = self.loss(real_logits, fake_logits)
            updater.backward(loss * updater.loss_scale)
            terms.add(
                disc_loss=loss,
                disc_accuracy=(real_logits > fake_logits).float().mean(),
                logits_real=real_logits.mean(),
                logits_fake=fake_logits.mean(),
            )
        terms.add(disc_grad_norm=updater.step(update))

    def augment(
        self, images: Float[Tensor, "b 3 H W"], part: MicroBatch, stream: Stream
    ) -> Float[Tensor, "b 3 H W"]:
        """DiffAug of images in [0, 1], to the discriminator's [−1, 1]."""
        return diff_augment(to_signed(images), part.keys, stream, **self._augment)

    def describe(self) -> str:
        """One line for the log."""
        return (
            f"discriminator: learns from step {self.update_start_step}, the generator sees it from step "
            f"{self.gan_start_step}; {self.schedule.describe()}, counted from its first update"
        )


@contextmanager
def constant(module: nn.Module) -> Iterator[None]:
    """Keep the module's parameters constant: the block's results give them no gradient.

    Asking for the image's gradient alone is not enough: the backward pass of a block under torch.compile makes the
    gradients of all its inputs that want one.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
