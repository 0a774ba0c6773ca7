"""A stage-1 checkpoint in miniature, as training writes it: 32 px, untrained, with everything inside."""

from pathlib import Path

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
