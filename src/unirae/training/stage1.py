"""Stage 1: train the decoder of a representation autoencoder (RAE paper, section 3.1; recipe, stage 1).

A step is what the paper writes: reconstruct from noised tokens, L1 + LPIPS + 0.75·λ·GAN, update the decoder and
its EMA, then show the fresh decoder's clean reconstructions to the discriminator and update that.

Departures from the reference, all exact: gradients with respect to the image are taken once and serve both the
adaptive weight λ and the update; the discriminator's fakes reuse the step's clean tokens; the EMA covers the
decoder only; λ is the same on every process (last-layer gradients are averaged first).
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.images import quantise
from unirae.losses.adaptive_weight import balance, detached_leaf, image_gradient
from unirae.models.checkpoints.making import describe_rae
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.shape import in_words
from unirae.models.rae import RAE
from unirae.training.adversary import Adversary
from unirae.training.ema import Ema
from unirae.training.manual import ManualModule, MeanTerms, MicroBatch, StepSettings


class Stage1(ManualModule):
    """Trains ``rae.decoder``; the encoder and the perceptual net are frozen, the adversary is optional."""

    kind = "stage1"
    # the total has λ in it, a quotient of scaled norms
    scaled_terms = ("loss", "adaptive_weight", "grad_norm", "disc_grad_norm")

    def __init__(
        self,
        *,
        rae: RAE,
        perceptual: nn.Module | None,
        perceptual_weight: float,
        adversary: Adversary | None,
        settings: StepSettings,
    ) -> None:
        super().__init__(settings)
        self.rae, self.perceptual, self.perceptual_weight = rae, perceptual, perceptual_weight
        self.ema = Ema(rae.decoder, decay=settings.ema_decay, warmup=settings.ema_warmup)
        self.adversary = adversary

    # ------------------------------------------------------------------ the step

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Reconstruct, generator loss, step, discriminator loss, step, log."""
        step = self.global_step
        terms, seen = MeanTerms(), []
        self.decoder_updater.zero_grad()
        for part in self.images(batch):
            clean, tokens = self.rae.training_tokens(part.images, part.keys)
            reconstruction = self.rae.decode_tokens(tokens)
            self.backward_generator(reconstruction, part, step, terms)
            seen.append((part, clean))
        terms.add(grad_norm=self.decoder_updater.step(step, self.step_optimizer()))
        self.ema.update(self.rae.decoder, step)

        if self.adversary and step >= self.adversary.update_start_step:
            self.adversary.learn(
                self.fresh_fakes(seen),
                updater=self.discriminator_updater,
                update=step - self.adversary.update_start_step,
                terms=terms,
            )
        if self.scaler:
            self.scaler.update()
        self.log_terms({**terms.means(), **self.learning_rates(step)})

    def learning_rates(self, step: int) -> dict[str, float]:
        """Learning rates of the decoder, and of the discriminator once it learns."""
        rates = {"lr": self.schedule.lr(step)}
        if self.adversary and step >= self.adversary.update_start_step:
            rates["disc_lr"] = self.adversary.schedule.lr(step - self.adversary.update_start_step)
        return rates

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
            gan = self.adversary.generator_loss(image, part)
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
            terms.add(gan=gan, adaptive_weight=balanced.weight)
        terms.add(loss=loss)
        self.decoder_updater.backward(reconstruction, gradient)

    def reconstruction_loss(
        self, image: Float[Tensor, "b 3 H W"], target: Float[Tensor, "b 3 H W"], terms: MeanTerms
    ) -> Float[Tensor, ""]:
        """L1 + w·perceptual, both means over the micro-batch."""
        l1 = (image - target).abs().mean()
        terms.add(l1=l1)
        if self.perceptual is None:
            return l1
        perceptual = self.perceptual(image, target)
        terms.add(perceptual=perceptual)
        return l1 + self.perceptual_weight * perceptual

    @torch.no_grad()
    def fresh_fakes(
        self, seen: list[tuple[MicroBatch, Float[Tensor, "b c h w"]]]
    ) -> Iterator[tuple[MicroBatch, Float[Tensor, "b 3 H W"]]]:
        """Fakes of the updated decoder for the same batch, without latent noise, on the 8-bit grid."""
        for part, clean in seen:
            yield part, quantise(self.rae.decode_tokens(clean))

    # ------------------------------------------------------------------ Lightning's hooks and the checkpoint

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build an optimizer for the decoder, whose steps Lightning counts, and one for the discriminator's part."""
        decoder = self.settings.optimizer.build(self.rae.decoder.parameter_groups())
        self.decoder_updater = self.updater_of(decoder, self.schedule, self.settings.clip_grad)
        if not (judge := self.adversary):
            return [decoder]
        discriminator = judge.optimizer.build(judge.discriminator.parameter_groups())
        self.discriminator_updater = self.updater_of(discriminator, judge.schedule, judge.clip_grad)
        return [decoder, discriminator]

    def state_parts(self) -> dict[str, nn.Module]:
        """The decoder, its average, and the discriminator's trained part, for a checkpoint."""
        parts: dict[str, nn.Module] = {"decoder": self.rae.decoder, "ema": self.ema.average}
        return {**parts, "discriminator": self.adversary.discriminator.trained} if self.adversary else parts

    def describe(self) -> dict[str, Any]:
        """The architecture, the encoder's identity (and its weights where nothing else can give them)."""
        return describe_rae(self.rae)

    def networks(self) -> dict[str, nn.Module | None]:
        """The networks of the summary."""
        discriminator = self.adversary.discriminator if self.adversary else None
        return {
            "RAE": self.rae,
            "discriminator": discriminator,
            "perceptual net": self.perceptual,
            "EMA": self.ema,
        }

    @property
    def computing(self) -> list[nn.Module]:
        """The networks that compute: encoder, decoder and judges."""
        return [self.rae.decoder, *self.frozen]

    @property
    def frozen(self) -> list[nn.Module]:
        """Encoder, perceptual net and the discriminator's backbone."""
        judges = [self.perceptual, self.adversary.discriminator if self.adversary else None]
        return [self.rae.encoder, *(judge for judge in judges if judge is not None)]

    def plan(self) -> list[str]:
        """Plan of the run: what will happen when, in steps."""
        rae, lines = self.rae, [f"decoder: {self.schedule.describe()}"]
        lines.insert(0, in_words(rae.encoder, rae.encoder_input_size, rae.output_size))
        return [*lines, self.adversary.describe()] if self.adversary else lines

    def cautions(self, max_steps: int) -> list[str]:
        """Warning of a run that ends before its adversarial part begins."""
        if self.adversary is None or self.adversary.gan_start_step < max_steps:
            return []
        return [
            f"this run ends after {max_steps} steps, the GAN loss begins at step {self.adversary.gan_start_step}: "
            f"nothing adversarial is trained ({argument('stage.disc_start_step')} or "
            f"{argument('stage.disc_start_epoch')} says when it begins)"
        ]

    def ema_rae(self) -> RAE:
        """The autoencoder with the averaged decoder, which is evaluated and shown."""
        decoder = self.ema.average
        assert isinstance(decoder, ViTDecoder)
        return self.rae.with_decoder(decoder)
