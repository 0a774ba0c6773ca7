"""Diffusion transformers of the reference implementation, from ``tests/golden``."""

import json
from pathlib import Path

from safetensors import safe_open

from unirae.core.strict import load_strictly
from unirae.models.denoisers.dit import DiT
from unirae.models.denoisers.dit_dh import DiTDH
from unirae.models.interop.official.dit import dit_from_official

GOLDEN = Path(__file__).parents[1] / "golden"


def read(name, prefix="state."):
    with safe_open(GOLDEN / name, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    return tensors, state, config


def golden_model(state, config):
    arguments = {k: v for k, v in config.items() if k not in ("wo_shift", "class_dropout_prob")}
    head = isinstance(config["hidden_size"], list)
    model = (DiTDH if head else DiT)(**arguments)
    ours = dit_from_official(state, trunk_depth=config["depth"][0] if head else None)
    load_strictly(model, ours, what="DiT")
    return model
