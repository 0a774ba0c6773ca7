"""Stage 1: train the decoder of a representation autoencoder (RAE paper, section 3.1; recipe, stage 1).

A step is what the paper writes: reconstruct from noised tokens, L1 + LPIPS + 0.75·λ·GAN, update the decoder and
its EMA, then show the fresh decoder's clean reconstructions to the discriminator and update that.

Departures from the reference, all exact: gradients with respect to the image are taken once and serve both the
adaptive weight λ and the update; the discriminator's fakes reuse the step's clean tokens; the EMA covers the
decoder only; λ is the same on every process (last-layer gradients are averaged first).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.images import quantise, to_signed
from unirae.core.keyed_random import Stream
from unirae.losses.adaptive_weight import balance, detached_leaf, image_gradient
from unirae.losses.adversarial import DiscriminatorLoss, generator_loss
from unirae.losses.diffaug import diff_augment
from unirae.models.discriminators.base import Discriminator
from unirae.models.rae import RAE
from unirae.training.ema import Ema
from unirae.training.manual import ManualModule, MeanTerms, MicroBatch
from unirae.training.optimisation import OptimizerSettings, Updater, build_adamw
from unirae.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """The adversarial part: who, how strongly, and from which step on."""

    discriminator: Discriminator
    optimizer: OptimizerSettings
    schedule: Schedule
    disc_weight: float
    update_start_step: int
    """The discriminator trains from this step on; its schedule counts its own updates from here."""
    gan_start_step: int
    """The generator sees the discriminator from this step on."""
    loss: DiscriminatorLoss
    max_adaptive_weight: float
    fixed_adaptive_weight: float | None
    augment: dict[str, Any]
    """Arguments of :func:`~unirae.losses.diffaug.diff_augment`."""


class Stage1(ManualModule):
    """Trains ``rae.decoder``; the encoder and the perceptual net are frozen, the discriminator is optional."""

    kind = "stage1"

    def __init__(
        self,
        *,
        rae: RAE,
        perceptual: nn.Module | None,
        perceptual_weight: float,
        adversary: Adversary | None,
        optimizer: OptimizerSettings,
        schedule: Schedule,
        ema_decay: float,
        ema_warmup: bool,
        clip_grad: float,
        seed: int,
        micro_batches: int,
    ) -> None:
        super().__init__(seed=seed, micro_batches=micro_batches)
        self.rae, self.perceptual, self.perceptual_weight = rae, perceptual, perceptual_weight
        self.ema = Ema(rae.decoder, decay=ema_decay, warmup=ema_warmup)
        self.adversary = adversary
        self.discriminator = adversary.discriminator if adversary else None
        self.optimizer_settings, self.schedule, self.clip_grad = optimizer, schedule, clip_grad

    # ------------------------------------------------------------------ the step

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Reconstruct, generator loss, step, discriminator loss, step, log."""
        step = self.global_step
        terms, seen = MeanTerms(), []
        self.decoder_updater.zero_grad()
        for part in self.split(batch):
            clean = self.rae.tokens(part.images)
            reconstruction = self.rae.decode_tokens(self.rae.add_noise(clean, part.keys))
            self.backward_generator(reconstruction, part, step, terms)
            seen.append((part, clean))
        terms.add(grad_norm=self.decoder_updater.step(step, self.step_optimizer()))
        self.ema.update(self.rae.decoder, step)

        if self.adversary and step >= self.adversary.update_start_step:
            self.update_discriminator(seen, step, terms)
        if self.scaler:
            self.scaler.update()
        self.log_terms({**terms.means(), "lr": self.schedule.lr(step)})

    def backward_generator(
        self, reconstruction: Float[Tensor, "b 3 H W"], part: MicroBatch, step: int, terms: MeanTerms
    ) -> None:
        """Add one micro-batch's gradients of L1 + w·perceptual + disc_weight·λ·GAN to the decoder.

        Each loss is differentiated with respect to the image once; the decoder is walked back once.
        """
        scale = self.decoder_updater.loss_scale
        image = detached_leaf(reconstruction)
        loss = self.reconstruction_loss(image, part.images, terms)
        gradient = image_gradient(loss, image, scale)
        if self.adversary and step >= self.adversary.gan_start_step:
            gan = self.adversarial_loss(image, part, terms)
            balanced = balance(
                reconstruction,
                gradient,
                image_gradient(gan, image, scale),
                self.rae.decoder.last_layer,
                disc_weight=self.adversary.disc_weight,
                max_weight=self.adversary.max_adaptive_weight,
                fixed_weight=self.adversary.fixed_adaptive_weight,
                loss_scale=scale,
            )
            gradient = balanced.image_gradient
            loss = loss + self.adversary.disc_weight * balanced.weight * gan
            terms.add(adaptive_weight=balanced.weight)
        terms.add(loss=loss)
        reconstruction.backward(gradient / self.micro_batches)

    def reconstruction_loss(
        self, image: Float[Tensor, "b 3 H W"], target: Float[Tensor, "b 3 H W"], terms: MeanTerms
    ) -> Float[Tensor, ""]:
        """L1 + w·perceptual, both means over the micro-batch."""
        l1 = (image - target).abs().mean()
        terms.add(l1=l1)
        if self.perceptual is None or self.perceptual_weight == 0:
            return l1
        perceptual = self.perceptual(image, target)
        terms.add(perceptual=perceptual)
        return l1 + self.perceptual_weight * perceptual

    def adversarial_loss(
        self, image: Float[Tensor, "b 3 H W"], part: MicroBatch, terms: MeanTerms
    ) -> Float[Tensor, ""]:
        """−mean of the discriminator's logits on augmented reconstructions; its weights take no gradient."""
        self.discriminator.eval()
        gan = generator_loss(self.discriminator(self.augment(image, part, Stream.AUGMENT_GENERATOR_FAKE)))
        terms.add(gan=gan)
        return gan

    def update_discriminator(
        self, seen: list[tuple[MicroBatch, Tensor]], step: int, terms: MeanTerms
    ) -> None:
        """Show it the originals and the fresh decoder's noise-free, 8-bit reconstructions of the same batch."""
        updater = self.discriminator_updater
        updater.zero_grad()
        self.discriminator.train()
        self.discriminator.power_iteration()
        for part, clean in seen:
            with torch.no_grad():
                fake = quantise(self.rae.decode_tokens(clean))
            both = [self.augment(part.images, part, Stream.AUGMENT_REAL), self.augment(fake, part, Stream.AUGMENT_FAKE)]
            real_logits, fake_logits = self.discriminator(torch.cat(both)).chunk(2)
            loss = self.adversary.loss(real_logits, fake_logits)
            (loss * updater.loss_scale / self.micro_batches).backward()
            terms.add(
                disc_loss=loss,
                disc_accuracy=(real_logits > fake_logits).float().mean(),
                logits_real=real_logits.mean(),
                logits_fake=fake_logits.mean(),
            )
        terms.add(disc_grad_norm=updater.step(step - self.adversary.update_start_step))

    def augment(self, images: Float[Tensor, "b 3 H W"], part: MicroBatch, stream: Stream) -> Float[Tensor, "b 3 H W"]:
        """DiffAug of images in [0, 1], to the discriminator's [−1, 1]."""
        return diff_augment(to_signed(images), part.keys, stream, **self.adversary.augment)

    # ------------------------------------------------------------------ Lightning's hooks

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One AdamW for the decoder and one for the discriminator's heads."""
        decoder = build_adamw(self.rae.decoder.parameters(), self.optimizer_settings)
        self.decoder_updater = Updater(decoder, schedule=self.schedule, clip_grad=self.clip_grad, scaler=self.scaler)
        if not self.adversary:
            return [decoder]
        discriminator = build_adamw(self.discriminator.parameters(), self.adversary.optimizer)
        self.discriminator_updater = Updater(
            discriminator, schedule=self.adversary.schedule, clip_grad=0.0, scaler=self.scaler
        )
        return [decoder, discriminator]

    def state_parts(self) -> dict[str, nn.Module]:
        """The decoder, its average, and the discriminator's heads."""
        parts = {"decoder": self.rae.decoder, "ema": self.ema.average}
        return {**parts, "discriminator": self.discriminator.trained} if self.discriminator else parts

    def describe(self) -> dict[str, Any]:
        """The architecture, the encoder's identity (and its weights where nothing else can give them)."""
        encoder = self.rae.encoder
        return {
            "rae": self.rae.spec(),
            "encoder_state": encoder.state_dict() if encoder.identity.embedded else None,
            "latent_stats": self.rae.stats.state_dict() or None,
        }

    def plan(self) -> list[str]:
        """What will happen when, in steps."""
        lines = [f"decoder: {self.schedule.describe()}"]
        if self.adversary:
            lines += [
                f"discriminator: learns from step {self.adversary.update_start_step}; the generator sees it from step "
                f"{self.adversary.gan_start_step}; {self.adversary.schedule.describe()}"
            ]
        return lines

    def ema_rae(self) -> RAE:
        """The autoencoder with the averaged decoder: what is evaluated and shown."""
        return self.rae.with_decoder(self.ema.average)
