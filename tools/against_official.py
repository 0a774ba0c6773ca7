"""Conversions beside the official code itself: small random models, both ways, latents, pictures and samples.

    git clone https://github.com/bytetriper/RAE /path/to/RAE; pip install einops regex
    python tools/against_official.py /path/to/RAE

Prints the relative L2 distance of ours from theirs, for their files and for what ``--to rae`` wrote of them.
"""

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/helpers"))
import official_folder as small  # pyright: ignore[reportMissingImports]
import unirae
from unirae.app.convert import Options, run
from unirae.app.inputs.generator import open_generator
from unirae.app.inputs.sampler_options import SamplerOptions
from unirae.evaluation.sampling.settings import guided_velocity
from unirae.flow.solvers import counting, solve


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of ``a`` from ``b``."""
    return float((a - b).norm() / b.norm())


def write(root: Path, encoder: str) -> dict[str, Any]:
    """Their files in miniature; returns the configuration."""
    node = small.write_rae(root)
    decoder = root / "configs/decoder/tiny/config.json"  # which transformers 5 does not read as it is
    decoder.write_text(decoder.read_text().replace('"SHOULD BE RELOADED"', "16"))
    if encoder != "Dinov2withNorm":
        small.write_other_encoder(encoder, root / "models/other")
        changes = {"encoder_cls": encoder, "encoder_params": {"model_name": "models/other"}}
        node["params"] |= {**changes, "encoder_config_path": "models/other"}
    config: dict[str, Any] = {"stage_1": node}
    weak = {"hidden_size": [16, 32], "depth": [1, 1], "num_heads": [2, 2]}
    for name, options in (("strong", {}), ("weak", weak)):
        network, state = small.dit_node(seed=len(name), **options)
        torch.save(state, root / f"models/{name}.pt")
        config[name] = {**network, "ckpt": f"models/{name}.pt"}
    return {
        "stage_1": node,
        "stage_2": config["strong"],
        "transport": {
            "params": {"path_type": "Linear", "prediction": "velocity", "time_dist_type": "uniform"}
        },
        "sampler": {"mode": "ODE", "params": {"sampling_method": "euler", "num_steps": 50}},
        "guidance": {"method": "autoguidance", "scale": 1.42, "t_min": 0.0, "t_max": 1.0}
        | {"guidance_model": config["weak"]},
        "misc": {"latent_size": list(small.LATENT), "num_classes": 5, "time_dist_shift_dim": 196608}
        | {"time_dist_shift_base": 4096},
    }


@torch.no_grad()
def theirs(file: Path, noise: torch.Tensor, labels: torch.Tensor, images: torch.Tensor) -> list[torch.Tensor]:
    """Latents, reconstructions, sampled latents and their pictures of the official code."""
    from omegaconf import OmegaConf
    from stage2.transport import Sampler, create_transport  # pyright: ignore[reportMissingImports]
    from utils.model_utils import instantiate_from_config  # pyright: ignore[reportMissingImports]

    config: Any = OmegaConf.load(file)
    nodes = (config.stage_1, config.stage_2, config.guidance.guidance_model)
    rae, strong, weak = (instantiate_from_config(node).eval() for node in nodes)
    shift = math.sqrt(config.misc.time_dist_shift_dim / config.misc.time_dist_shift_base)
    transport = create_transport(**config.transport.params, time_dist_shift=shift)
    guidance = {
        "cfg_scale": config.guidance.scale,
        "cfg_interval": (config.guidance.t_min, config.guidance.t_max),
        "additional_model_forward": weak.forward,
    }
    sample = Sampler(transport).sample_ode(**config.sampler.params)
    latents = sample(noise, strong.forward_with_autoguidance, y=labels, **guidance)[-1]
    return [rae.encode(images), rae(images), latents, rae.decode(latents)]


@torch.no_grad()
def ours(folder: Path, noise: torch.Tensor, labels: torch.Tensor, images: torch.Tensor) -> list[torch.Tensor]:
    """The same of the converted folder, sampled as its configuration says."""
    sampler = open_generator(SamplerOptions(checkpoint=folder), torch.device("cpu")).sampler
    rae = unirae.load_rae(folder)
    velocity = counting(guided_velocity(sampler.dit, labels, sampler.settings, sampler.guide))
    latents = solve(sampler.settings.solver, velocity, noise, sampler.settings.times(sampler.dit))
    return [rae.encode(images), rae.reconstruct(images), latents, rae.decode(latents)]


def main() -> None:
    """Convert there and back, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("official", type=Path, help="a checkout of the official code")
    sys.path.insert(0, str(parser.parse_args().official.resolve() / "src"))
    torch.manual_seed(0)
    given = (torch.randn(4, *small.LATENT), torch.tensor([0, 1, 4, 5]), torch.rand(2, 3, 64, 64))
    for encoder in ("Dinov2withNorm", "MAEwNorm", "SigLIP2wNorm"):
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            os.chdir(root)
            config = small.write_config(root / "official.yaml", write(root, encoder))
            folder = run(Options(from_="rae", config=config, output=root / "ours"))
            back = run(Options(to="rae", checkpoint=folder, output=root / "back"))
            mine = ours(folder, *given)
            for file in (config, back / "config.yaml"):
                pairs = zip(mine, theirs(file, *given), strict=True)
                found = [f"{distance(a, b):.1e}" for a, b in pairs]
                what = ("latents", "reconstructions", "samples", "decoded samples")
                print(
                    encoder, file.relative_to(root), *(f"{w} {f}" for w, f in zip(what, found, strict=True))
                )


if __name__ == "__main__":
    main()
