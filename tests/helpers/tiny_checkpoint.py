"""Checkpoints in miniature, as training writes them: 32 px, untrained, with everything inside."""

import os
from pathlib import Path
from typing import Any

import torch

from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.build import build_encoder
from unirae.models.rae import RAE

DATA = {
    "source": {
        "_target_": "unirae.data.synthetic.SyntheticSource",
        "image_size": 48,
        "train_count": 4,
        "val_count": 12,
        "classes": 2,
    },
    "train_transform": {"_target_": "unirae.data.transforms.Stage1Transform"},
    "stage2_transform": {"_target_": "unirae.data.transforms.AdmCenterCrop"},
    "eval_transform": {"_target_": "unirae.data.transforms.AdmCenterCrop"},
    "data_dir": None,
    "on_bad_image": "replace",
}


def tiny_rae(seed: int = 0) -> RAE:
    architecture = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    }
    encoder = build_encoder(kind="mae", name="tiny", weights="random", architecture=architecture)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = ViTDecoder(
            token_dim=16, width=16, depth=1, num_heads=2, mlp_width=32, patch_size=8, grid=(4, 4)
        )
    return RAE(encoder=encoder, decoder=decoder, encoder_input_size=32)


def write_checkpoint(run: Path) -> Path:
    rae, average = tiny_rae(), tiny_rae(seed=1)
    decoder, ema = rae.decoder.state_dict(), average.decoder.state_dict()
    about = {
        "kind": "stage1",
        "version": "0",
        "commit": None,
        "step": 7,
        "config": {"data": DATA},
        "rae": rae.spec(),
        "encoder_state": rae.encoder.state_dict(),
        "latent_stats": None,
    }
    state = {f"decoder.{k}": v for k, v in decoder.items()} | {f"ema.{k}": v for k, v in ema.items()}
    path = run / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"unirae": about, "state_dict": state}, path)
    return path


def write_stage2_checkpoint(
    run: Path,
    rae_run: Path,
    *,
    classes: int = 2,
    seed: int = 0,
    step: int = 9,
    base_head_depth: int | None = None,
    text_encoder: Any = None,
    **network: Any,
) -> Path:
    """Of a DiT with random weights everywhere (a fresh one predicts zero), on the autoencoder of ``rae_run``.

    Args:
        network: further arguments of the DiT.
        text_encoder: makes it one that is conditioned on this encoder's texts.
    """
    from unirae.flow.times import TimeDistribution
    from unirae.models.checkpoints.opening import load_rae
    from unirae.models.checkpoints.pairing import rae_reference
    from unirae.models.checkpoints.reading import find_checkpoint
    from unirae.models.denoisers.dit_dh import DiTDH
    from unirae.models.latent_stats import LatentStats
    from unirae.training.manual import StepSettings
    from unirae.training.optimizers import AdamWSettings
    from unirae.training.schedule import Schedule
    from unirae.training.stage2 import Stage2

    rae = load_rae(rae_run)
    noise = torch.Generator().manual_seed(100)
    stats = LatentStats(
        mean=torch.randn(16, 4, 4, generator=noise), var=torch.rand(16, 4, 4, generator=noise) + 0.2
    )
    sizes: dict[str, Any] = {"hidden_size": [16, 32], "depth": [1, 1], "num_heads": [2, 2]}
    sizes["base_head_depth"] = base_head_depth
    if text_encoder is not None:
        classes, sizes["conditioning"] = 0, "tokens"
        sizes |= {
            "text_width": text_encoder.identity.width,
            "null_text": text_encoder.encode([""]),
            "text_identity": text_encoder.identity.to_dict(),
        }
    dit = DiTDH(input_size=4, in_channels=16, num_classes=classes, latent_stats=stats, **sizes, **network)
    _shake(dit, seed)
    path = run / "checkpoints" / "last.ckpt"
    reference = os.path.relpath(find_checkpoint(rae_run), path.parent)
    module = Stage2(
        rae=rae.with_stats(stats),
        rae_reference=rae_reference(rae, path=reference),
        denoiser=dit,
        class_names=[f"shape {k}" for k in range(classes)],
        time_distribution=TimeDistribution(),
        label_dropout=0.1,
        base_loss_weight=0.0 if base_head_depth is None else 0.5,
        ema_extra_decays=[0.9],
        settings=StepSettings(
            optimizer=AdamWSettings(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0),
            schedule=Schedule(
                kind="constant",
                base_lr=1e-3,
                final_lr=1e-3,
                warmup_steps=0,
                decay_end_steps=1,
                warmup_from_zero=False,
            ),
            clip_grad=1.0,
            ema_decay=0.999,
            ema_warmup=True,
            seed=0,
            micro_batches=1,
        ),
    )
    for offset, average in enumerate(module.averages, start=1):
        _shake(average.average, seed + 10 * offset)
    about = {"kind": "stage2", "version": "0", "commit": None, "step": step, "config": {"data": DATA}}
    if text_encoder is not None:
        about["config"] = {"data": {**DATA, "missing_captions": "null_prompt"}}
    path.parent.mkdir(parents=True)
    torch.save({"unirae": about | module.describe(), "state_dict": module.state_dict()}, path)
    return path


def _shake(network: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or "positions" not in name:
            parameter.data.normal_(std=0.3, generator=generator)
