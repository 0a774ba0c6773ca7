"""The representation autoencoder (Zheng et al. 2025, arXiv 2510.11690): frozen encoder, trained ViT decoder.

Two spaces: *tokens* are what the encoder gives and the decoder reads; *latents* are tokens normalised by the
statistics of the training set, the space in which a diffusion model works. Without statistics they are equal.
"""

import json
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.io import module_sha256, sha256_of_text
from unirae.core.keyed_random import Stream, normal, uniform
from unirae.core.precision import full_precision
from unirae.core.strict import load_strictly
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.absent import AbsentEncoder
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import encoder_from_identity
from unirae.models.encoders.grid import as_size, check_divisible
from unirae.models.encoders.identity import EncoderIdentity
from unirae.models.inputs import check_images, check_latents, looks_like_rgb, warn_of_range
from unirae.models.latent_stats import LatentStats

NoiseKind = Literal["uniform", "half_normal"]


class RAE(nn.Module):
    """Images to latents and back.

    Args:
        encoder_input_size: pixels, an int or (height, width); images of another size are resized to it.
        noise_tau: τ of the noise augmentation that the decoder is trained with; 0 turns it off.
        layer_dropout: probability p with which each chosen block of a fused encoder is dropped where the decoder is
            trained (FuseReg, arXiv 2609.31620); 0 turns it off.
        noise_kind: σ = τ·U(0, 1) ("uniform", the official code) or |N(0, τ²)| ("half_normal", the paper).
        stats: of the latents; None means un-normalised latents.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        decoder: ViTDecoder,
        encoder_input_size: int | tuple[int, int],
        noise_tau: float = 0.8,
        noise_kind: NoiseKind = "uniform",
        layer_dropout: float = 0.0,
        stats: LatentStats | None = None,
    ) -> None:
        super().__init__()
        if noise_kind not in ("uniform", "half_normal"):
            raise ConfigError(f"noise_kind={noise_kind!r} is unknown; choose uniform or half_normal")
        if noise_tau < 0:
            raise ConfigError(
                f"{argument('stage.noise_tau', noise_tau)} must not be negative; 0 turns the noise off"
            )
        layers = encoder.identity_without_hash.layers
        if not 0 <= layer_dropout < 1:
            raise ConfigError(
                f"{argument('stage.layer_dropout', layer_dropout)} must be at least 0 and below 1"
            )
        if layer_dropout > 0 and (layers is None or len(layers) < 2):
            raise ConfigError(
                f"{argument('stage.layer_dropout', layer_dropout)} drops blocks of a fused encoder, and this one has "
                f"{'its last block' if layers is None else 'one block'} alone: choose several with "
                f"{argument('encoder.layers')}, or set it to 0"
            )
        if decoder.token_dim != encoder.width:
            raise ConfigError(
                f"the decoder reads tokens of width {decoder.token_dim}, the encoder's have {encoder.width}: "
                f"set the decoder's token_dim={encoder.width}"
            )
        self.encoder_input_size = as_size(encoder_input_size)
        self.latent_shape = (encoder.width, *token_grid(encoder_input_size, encoder.patch_size))
        self.noise_tau, self.noise_kind, self.layer_dropout = noise_tau, noise_kind, layer_dropout
        self._has_warned = False
        self.encoder, self.decoder = encoder, decoder
        self.stats = LatentStats() if stats is None else stats
        if not self.stats.fit(self.latent_shape):
            raise ConfigError(
                f"latent statistics of shape {self.stats.shape} do not fit latents of shape "
                f"{self.latent_shape} (encoder_input_size={encoder_input_size}); compute them for this RAE"
            )

    @property
    def output_size(self) -> tuple[int, int]:
        """The (height, width) of the decoded images in pixels."""
        return self.decoder.output_size

    @torch.no_grad()
    def tokens(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """RGB in [0, 1] of any size to the encoder's tokens: no noise, not normalised, no gradient.

        Images in another floating-point type are converted to the encoder's.

        Raises:
            InputError: If ``images`` is no floating-point tensor of shape [b, 3, height, width].
        """
        return self.encoder(self.encoder_input(images))

    @torch.no_grad()
    def training_tokens(
        self, images: Float[Tensor, "b 3 H W"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """The tokens, and what the decoder is trained on: blocks dropped, then noised; ``keys`` address the draws.

        Raises:
            InputError: If ``images`` is no floating-point tensor of shape [b, 3, height, width].
        """
        if self.layer_dropout == 0:
            clean = self.tokens(images)
            return clean, self.add_noise(clean, keys)
        clean, kept = self.encoder.with_dropped_blocks(self.encoder_input(images), self.kept_blocks(keys))
        return clean, self.add_noise(kept, keys)

    def kept_blocks(self, keys: Int64[Tensor, " b"]) -> Bool[Tensor, "b k"]:
        """The blocks that each sample keeps, of which each is dropped with probability p; if none is left, one stays.

        After FuseReg (arXiv 2609.31620). A sample's draw does not depend on the batch it comes in.
        """
        layers = self.encoder.identity_without_hash.layers
        assert layers is not None
        count = len(layers)
        keep = uniform(keys, (count,), Stream.BLOCK_DROPOUT) >= self.layer_dropout
        spared = (uniform(keys, (1,), Stream.BLOCK_KEPT) * count).long().clamp_max(count - 1)
        alone = torch.arange(count, device=keys.device) == spared
        return torch.where(keep.any(dim=1, keepdim=True), keep, alone)

    def encoder_input(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """The encoder's input: RGB in [0, 1] of any size, resized without antialiasing as the official code does."""
        check_images(images)
        images = images.to(self.encoder.mean.dtype)
        if images.shape[-2:] != self.encoder_input_size:
            images = F.interpolate(images, self.encoder_input_size, mode="bicubic", align_corners=False)
        return images

    def add_noise(
        self, tokens: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Add noise, z + σ·ε with one σ per image: the augmentation of decoder training (RAE paper, section 4.3).

        ``keys`` address the draws, so a sample's noise does not depend on the batch it comes in.
        """
        if self.noise_tau == 0:
            return tokens
        draw = uniform if self.noise_kind == "uniform" else normal
        sigma = self.noise_tau * draw(keys, (1, 1, 1), Stream.LATENT_NOISE_SCALE).abs()
        return tokens + sigma * normal(keys, tuple(tokens.shape[1:]), Stream.LATENT_NOISE)

    def decode_tokens(self, tokens: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Un-normalised tokens to RGB in [0, 1], at least float32, not clamped."""
        pixels = full_precision(self.decoder(tokens))
        return pixels if self.decoder.output == "unit" else pixels * self.encoder.std + self.encoder.mean

    def encode(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """RGB in [0, 1] of any size to normalised latents, float32.

        Values outside [−0.5, 1.5] are of another convention and warned of, once; :meth:`latents` is the same without
        that look at the values.

        Raises:
            InputError: If ``images`` is no floating-point tensor of shape [b, 3, height, width].
        """
        self._look_at(images, "encode")
        return self.latents(images)

    @torch.no_grad()
    def latents(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """RGB in [0, 1] to normalised latents, float32: :meth:`encode` for loops, which must not wait for a GPU."""
        return self.stats.normalise(self.tokens(images))

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Normalised latents to RGB in [0, 1], float32, not clamped.

        Raises:
            InputError: If ``latents`` is no floating-point tensor of shape [b, *latent_shape].
        """
        check_latents(latents, self.latent_shape)
        return self.decode_tokens(self.stats.denormalise(latents))

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """RGB in [0, 1] there and back, without noise: :meth:`reconstruct` for loops, as :meth:`latents` is."""
        return self.decode_tokens(self.tokens(images))  # the statistics would cancel

    def reconstruct(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """RGB in [0, 1] of any size there and back, without noise, not clamped; warns of values as :meth:`encode` does.

        Raises:
            InputError: If ``images`` is no floating-point tensor of shape [b, 3, height, width].
        """
        self._look_at(images, "reconstruct")
        return self(images)

    def _look_at(self, images: Tensor, caller: str) -> None:
        """Warn of values that are no RGB in [0, 1], once for each autoencoder."""
        check_images(images)
        if not self._has_warned and not looks_like_rgb(images):
            self._has_warned = True
            warn_of_range(images, caller)

    def with_decoder(self, decoder: ViTDecoder) -> "RAE":
        """The same RAE with another decoder (its EMA, say); encoder and statistics are shared, not copied."""
        return self._other(decoder=decoder, stats=self.stats)

    def with_stats(self, stats: LatentStats) -> "RAE":
        """The same RAE with other latent statistics; its networks are shared, not copied."""
        return self._other(decoder=self.decoder, stats=stats)

    def without_encoder(self) -> "RAE":
        """The same RAE without the network of its encoder, which only decodes."""
        encoder = self.encoder
        stand_in = AbsentEncoder(
            width=encoder.width, patch_size=encoder.patch_size, identity=encoder.identity
        )
        return self._other(decoder=self.decoder, stats=self.stats, encoder=stand_in)

    def _other(self, *, decoder: ViTDecoder, stats: LatentStats, encoder: Encoder | None = None) -> "RAE":
        other = RAE(encoder=encoder or self.encoder, decoder=decoder, stats=stats, **self._settings())
        other.training = self.training
        return other

    @property
    def token_identity(self) -> dict[str, Any]:
        """Everything that :meth:`tokens` depend on beside the images, ready for JSON."""
        return self.encoder.identity.decisive(input_size=self.encoder_input_size)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Identity that tells the autoencoder from others, without statistics, ready for JSON.

        The weights are read once, for a frozen RAE's never change; on the meta device their hash is empty.
        """
        decoder = {"sha256": module_sha256(self.decoder)}
        if self.decoder.output != "encoder_pixels":  # what decoders before RAEv2 all have
            decoder["output"] = self.decoder.output
        return {"decoder": decoder, "encoder": self.token_identity}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of :attr:`identity`."""
        return sha256_of_text(json.dumps(self.identity, sort_keys=True))

    @property
    def weights_fingerprint(self) -> str:
        """Hash of the networks' weights alone, which records of earlier versions hold."""
        return sha256_of_text(f"{self.identity['decoder']['sha256']}/{self.encoder.weights_sha256}")

    def _settings(self) -> dict[str, Any]:
        return {
            "encoder_input_size": self.encoder_input_size,
            "noise_tau": self.noise_tau,
            "noise_kind": self.noise_kind,
            "layer_dropout": self.layer_dropout,
        }

    def spec(self) -> dict[str, Any]:
        """The description that :meth:`from_spec` needs beside tensors, ready for JSON."""
        return {
            "encoder": self.encoder.identity.to_dict(),
            "decoder": {**self.decoder.architecture, "grid": list(self.decoder.grid)},
            "rae": {**self._settings(), "encoder_input_size": list(self.encoder_input_size)},
            "latent_shape": list(self.latent_shape),
        }

    @classmethod
    def from_spec(
        cls,
        spec: dict[str, Any],
        decoder_state: dict[str, Tensor],
        *,
        encoder_state: dict[str, Tensor] | None = None,
        stats: LatentStats | None = None,
        encoder_weights: str | None = None,
        with_encoder: bool = True,
    ) -> "RAE":
        """Build an RAE from the content of a checkpoint.

        Args:
            encoder_state: the encoder's tensors, for encoders whose weights travel in the checkpoint.
            encoder_weights: a folder to take the encoder's weights from instead of their recorded source.
            with_encoder: False leaves the encoder out; the RAE can then decode, but not encode.

        Raises:
            WeightsError: If the tensors do not fit, or the encoder is missing or another one than recorded.
        """
        identity = EncoderIdentity.from_dict(spec["encoder"])
        if with_encoder:
            encoder = encoder_from_identity(identity, encoder_state, weights_override=encoder_weights)
        else:
            encoder = _absent_encoder(spec, identity)
        decoder = ViTDecoder(**spec["decoder"])
        load_strictly(decoder, decoder_state, what="decoder")
        return cls(encoder=encoder, decoder=decoder, stats=stats, **spec["rae"])


def _absent_encoder(spec: dict[str, Any], identity: EncoderIdentity) -> AbsentEncoder:
    """A stand-in of the right shapes; the first checkpoints did not say which, but their decoder fits them."""
    decoder = spec["decoder"]
    width, rows, _ = spec.get("latent_shape") or (decoder["token_dim"], *decoder["grid"])
    patch_size = as_size(spec["rae"]["encoder_input_size"])[0] // rows
    return AbsentEncoder(width=width, patch_size=patch_size, identity=identity)


def token_grid(encoder_input_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """The (rows, columns) of the tokens of an image of that size.

    Raises:
        ConfigError: If a side does not split into patches.
    """
    height, width = as_size(encoder_input_size)
    check_divisible("encoder_input_size", height, patch_size)
    check_divisible("encoder_input_size", width, patch_size)
    return height // patch_size, width // patch_size
