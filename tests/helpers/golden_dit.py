"""Diffusion transformers of the reference implementation, from ``tests/golden``."""

import json
from pathlib import Path

from safetensors import safe_open

from unirae.core.strict import load_strictly
from unirae.models.denoisers.dit import DiT
from unirae.models.denoisers.dit_dh import DiTDH
from unirae.models.interop.official.dit import dit_from_official
from unirae.models.interop.official.dit_v2 import dit_v2_from_official

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


def golden_model_v2(state, config, **options):
    """A network of RAEv2's golden files; their projector for REPA is left out."""
    params, tokens = config["params"], config["params"]["cond_arch"]
    head = isinstance(params["hidden_size"], list)
    patch = params["patch_size"]
    sizes = ("input_size", "in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio")
    text = params.get("context_dim") if params.get("condition_type") == "text" else None
    model = (DiTDH if head else DiT)(
        **{name: params[name] for name in sizes},
        **({"use_pos_embed": False} if head else {}),
        num_classes=params["num_classes"] if text is None else 0,
        text_width=text,
        patch_size=patch[0] if isinstance(patch, list) else patch,
        use_qknorm=True,
        conditioning="tokens",
        num_time_tokens=tokens["num_t_tokens"],
        num_condition_tokens=tokens["num_c_tokens"],
        base_head_depth=params.get("base_model_depth"),
        prediction="data",
        **options,
    )
    kept = {key: tensor for key, tensor in state.items() if not key.startswith("repa_projector.")}
    load_strictly(model, dit_v2_from_official(kept, model), what="DiT")
    return model
