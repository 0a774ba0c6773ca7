"""The keys below ``model``: one class for each stage, and for each kind of encoder, decoder, loss and network."""

from typing import Annotated, ClassVar, Literal

from unirae.app.config.schema.kinds import (
    LEFT_OUT,
    Count,
    CountOrZero,
    Decay,
    Distinct,
    Keys,
    NotNegative,
    PathText,
    Pixels,
    Positive,
    Seed,
    Share,
    Size,
)

Rgb = tuple[float, float, float]
Deviation = tuple[Positive, Positive, Positive]


class Architecture(Keys):
    """The arguments of another library's model. Some names are listed; the library knows the rest."""

    FREE_FORM: ClassVar[bool] = True

    hidden_size: Count = LEFT_OUT
    num_hidden_layers: Count = LEFT_OUT
    num_attention_heads: Count = LEFT_OUT
    intermediate_size: Count = LEFT_OUT
    image_size: Size = LEFT_OUT
    patch_size: Size = LEFT_OUT
    num_register_tokens: CountOrZero = LEFT_OUT
    mlp_ratio: Positive = LEFT_OUT
    layer_norm_eps: Positive = LEFT_OUT
    layerscale_value: float = LEFT_OUT
    model_type: str = LEFT_OUT
    model_name: str = LEFT_OUT
    hidden_act: str = LEFT_OUT
    decoder_hidden_size: Count = LEFT_OUT
    decoder_num_hidden_layers: Count = LEFT_OUT
    decoder_num_attention_heads: Count = LEFT_OUT
    decoder_intermediate_size: Count = LEFT_OUT
    mask_ratio: Decay = LEFT_OUT
    norm_pix_loss: bool = LEFT_OUT


class Encoder(Keys):
    """A frozen encoder (configs/model/encoder)."""

    kind: Literal["dinov2", "dinov3", "siglip2", "mae", "generic_hf", "timm"]
    name: str
    weights: PathText
    architecture: Architecture
    mean: Rgb | None
    std: Deviation | None
    layers: Annotated[tuple[CountOrZero, ...], Distinct()] | None
    combine: Literal["mean", "sum"]
    add_token_mean: bool
    norm_affine: bool | None
    final_norm: bool
    rope_periods: Literal["exact", "bf16"]
    remedy: str | None


class ViTDecoder(Keys):
    """The decoder of the autoencoder (configs/model/decoder)."""

    _target_: Literal["unirae.models.decoder.ViTDecoder"]
    width: Count
    depth: Count
    num_heads: Count
    mlp_width: Count
    patch_size: Pixels
    output: Literal["encoder_pixels", "unit"]
    deblocking: CountOrZero
    gradient_checkpointing: bool


class Lpips(Keys):
    """Keys of configs/model/perceptual/lpips.yaml."""

    _target_: Literal["unirae.models.perceptual.lpips_loss"]
    weights: PathText


class EncoderFeatures(Keys):
    """Keys of configs/model/perceptual/encoder_features.yaml."""

    _target_: Literal["unirae.models.perceptual.encoder_feature_loss"]
    layers: list[int] | None


class NoPerceptual(Keys):
    """Keys of configs/model/perceptual/none.yaml."""

    _target_: Literal["unirae.models.perceptual.no_perceptual_loss"]


class DinoDiscriminator(Keys):
    """Keys of configs/model/discriminator/dino.yaml."""

    _target_: Literal["unirae.models.discriminators.dino.DinoDiscriminator"]
    weights: PathText
    width: Count
    depth: Count
    num_heads: Count
    patch_size: Pixels
    input_size_px: Pixels
    key_depths: list[CountOrZero]
    kernel_size: Count
    gradient_checkpointing: bool
    seed: Seed = LEFT_OUT


class PatchGan(Keys):
    """Keys of configs/model/discriminator/patchgan.yaml."""

    _target_: Literal["unirae.models.discriminators.patchgan.PatchGan"]
    channels: Count
    num_layers: Count


class Optimizer(Keys):
    """AdamW's numbers. Another kind of optimizer is a class beside this one, told apart by ``kind``."""

    lr: NotNegative
    betas: tuple[Decay, Decay]
    weight_decay: NotNegative
    kind: Literal["adamw"] = LEFT_OUT


class MuonOptimizer(Keys):
    """Muon's numbers, and AdamW's for what is no matrix."""

    kind: Literal["muon"]
    lr: NotNegative
    betas: tuple[Decay, Decay]
    weight_decay: NotNegative
    momentum: Decay = LEFT_OUT
    chunks: Literal["all", "projections", "none"] = LEFT_OUT


class Scheduler(Keys):
    """A learning rate over time; each length in epochs or in steps."""

    type: Literal["cosine", "linear", "constant"]
    warmup_epochs: NotNegative | None
    warmup_steps: CountOrZero | None
    decay_end_epoch: NotNegative | None
    decay_end_steps: CountOrZero | None
    final_lr: NotNegative
    warmup_from_zero: bool


class Augment(Keys):
    """Augmentations of the discriminator's images."""

    translation: Share
    color: bool
    cutout: Share
    probability: Share


class _Trained(Keys):
    ema_decay: Decay
    ema_warmup: bool
    clip_grad: NotNegative
    optimizer: Optimizer | MuonOptimizer
    scheduler: Scheduler


class Stage1(_Trained):
    """The autoencoder (configs/model/rae.yaml)."""

    stage: Literal["stage1"]
    encoder: Encoder
    decoder: ViTDecoder
    perceptual: Lpips | EncoderFeatures | NoPerceptual
    discriminator: DinoDiscriminator | PatchGan
    pretrained_decoder_path: PathText | None
    image_size: Size
    noise_tau: NotNegative
    noise_kind: Literal["uniform", "half_normal"]
    layer_dropout: Decay
    perceptual_weight: NotNegative
    disc_weight: NotNegative
    disc_start_epoch: NotNegative | None
    disc_start_step: CountOrZero | None
    disc_upd_start_epoch: NotNegative | None
    disc_upd_start_step: CountOrZero | None
    disc_loss: Literal["hinge", "vanilla"]
    max_adaptive_weight: NotNegative
    fixed_adaptive_weight: NotNegative | None
    augment: Augment
    disc_clip_grad: NotNegative
    sample_every: CountOrZero | None
    disc_optimizer: Optimizer
    disc_scheduler: Scheduler


class Autoencoder(Keys):
    """The frozen autoencoder of stage 2."""

    encoder: Encoder
    decoder: ViTDecoder
    pretrained_decoder_path: PathText | None
    decoder_weights: Literal["random"] | None
    image_size: Size
    remedy: str | None


class _DiT(Keys):
    input_size: Size | None
    in_channels: Count | None
    patch_size: Count
    mlp_ratio: Positive
    use_qknorm: bool
    use_swiglu: bool
    use_rope: bool
    use_rmsnorm: bool
    conditioning: Literal["adaln", "tokens"]
    num_time_tokens: Count
    num_condition_tokens: Count
    base_head_depth: Count | None
    train_time_frequencies: bool
    label_init_std: NotNegative
    gradient_checkpointing: bool


class PlainDiT(_DiT):
    """Keys of configs/model/dit/plain_*.yaml."""

    kind: Literal["dit"]
    hidden_size: Count
    depth: Count
    num_heads: Count


class DiTDH(_DiT):
    """Keys of configs/model/dit/dh_*.yaml: each size is a pair, one of the trunk and one of the head."""

    kind: Literal["dit_dh"]
    hidden_size: tuple[Count, Count]
    depth: tuple[Count, Count]
    num_heads: tuple[Count, Count]
    use_pos_embed: bool


class TextEncoder(Keys):
    """The text encoder of a generator that is conditioned on text; without a name it is conditioned on labels."""

    name: PathText | None
    max_length: Count
    layer: int | None


class LatentStats(Keys):
    """The settings of latent statistics."""

    per: Literal["element", "channel"]
    num_samples: Count | None


class Stage2(_Trained):
    """The diffusion transformer (configs/model/dit.yaml)."""

    stage: Literal["stage2"]
    dit: PlainDiT | DiTDH
    rae: Autoencoder
    text_encoder: TextEncoder
    latent_stats: LatentStats
    label_dropout: Share
    base_loss_weight: NotNegative
    ema_extra_decays: list[Decay]
    sample_every: CountOrZero | None


class Mae(_Trained):
    """Pretraining an encoder (configs/model/mae_tiny.yaml)."""

    stage: Literal["mae"]
    architecture: Architecture
    visible_weight: NotNegative
    pixel_mean: Rgb
    pixel_std: Deviation


class LinearProbe(_Trained):
    """A classifier on a frozen encoder (configs/model/linear_probe.yaml)."""

    stage: Literal["linear_probe"]
    encoder: Encoder
    image_size: Size
    pooling: Literal["avg", "cls", "both"]
