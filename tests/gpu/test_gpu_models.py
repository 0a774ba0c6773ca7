"""Networks on a GPU: the reference's numbers, a CPU's samples, and the commands."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from golden_dit import golden_model, read
from models.conftest import Golden, golden  # noqa: F401 - a fixture
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from tiny_models import relative_l2
from unirae import load_dit, load_rae
from unirae.app import compute_stats, eval_fid, eval_rfid, sample_dit
from unirae.evaluation.sampling.sampler import sample
from unirae.models.rae import RAE
from unirae.nn.feed_forward import SwiGlu

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
TOLERANCE = 1e-4


@pytest.mark.parametrize("name", ["ddt", "ddt_equal_width", "lightning_dit"])
def test_velocity_equals_the_references(name: str, device: torch.device) -> None:
    tensors, state, config = read(f"{name}.safetensors")
    model = golden_model(state, config).to(device)
    x, t, y = (tensors[key].to(device) for key in ("x", "t", "y"))
    velocity = model(x, t, y)
    assert relative_l2(velocity.detach().cpu(), tensors["velocity"]) < TOLERANCE
    if "grad_norm_of_mean_square" in tensors:
        velocity.square().mean().backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        assert float(norm) == pytest.approx(float(tensors["grad_norm_of_mean_square"]), rel=1e-3)


def test_a_gated_network_of_odd_width_is_that_of_a_cpu(device: torch.device) -> None:
    network = SwiGlu(width=64, hidden_width=171)  # as 5461, not a multiple of 8
    x = torch.randn(2, 32, 64)
    seen = []
    for where in ("cpu", device):
        copied = copy.deepcopy(network).to(where)
        out = copied(x.to(where))
        out.square().mean().backward()
        seen.append([out.detach().cpu(), *(p.grad.cpu() for p in copied.parameters() if p.grad is not None)])
    for found, wanted in zip(*seen, strict=True):
        assert relative_l2(found, wanted) < TOLERANCE


@torch.no_grad()
def test_encoding_and_decoding_equal_the_references(golden: Golden, device: torch.device) -> None:  # noqa: F811
    rae = RAE(
        encoder=golden.rae.encoder, decoder=golden.rae.decoder, encoder_input_size=56, stats=golden.stats
    )
    try:
        rae.to(device)
        x, latent = (golden.tensors[key].to(device) for key in ("x", "latent"))
        assert relative_l2(rae.encode(x).cpu(), golden.tensors["latent"]) < TOLERANCE
        assert relative_l2(rae.decode(latent).cpu(), golden.tensors["reconstruction"]) < TOLERANCE
        with torch.autocast(device.type, torch.bfloat16):
            assert relative_l2(rae.decode(latent).cpu(), golden.tensors["reconstruction"]) < 0.05
    finally:
        rae.cpu()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_checkpoint(root / "rae")
    write_stage2_checkpoint(root / "dit", root / "rae")
    return root


@pytest.mark.parametrize(
    "settings",
    [{"solver": "euler"}, {"solver": "heun", "cfg_scale": 2.0}, {"solver": "sde"}, {"trunk_every": 2}],
    ids=str,
)
def test_samples_are_those_of_a_cpu(runs: Path, device: torch.device, settings: dict) -> None:
    def images(where: str | torch.device, precision: str = "fp32") -> torch.Tensor:
        dit, rae = load_dit(runs / "dit").to(where), load_rae(runs / "rae").to(where)
        made = sample(
            dit,
            rae,
            labels=[0, 1, 0, 1, 1],
            num_steps=10,
            seed=3,
            batch_size=4,
            precision=precision,
            **settings,
        )
        return made.cpu()

    wanted = images("cpu")
    torch.testing.assert_close(images(device), wanted, rtol=0, atol=2e-3)
    assert (images(device, "bf16") - wanted).abs().mean() < 0.05


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.array(Image.open(file)).astype(int) for file in sorted(folder.glob("[0-9]*.png"))])


def test_sample_dit_writes_the_pictures_of_a_cpu(runs: Path, tmp_path: Path, device: torch.device) -> None:
    def pictures(where: str) -> np.ndarray:
        options = {"num_samples": 9, "num_steps": 6, "batch_size": 4, "cfg_scale": 2.0, "device": where}
        return pixels(
            sample_dit.run(
                sample_dit.Options(checkpoint=runs / "dit", output_dir=tmp_path / where, **options)
            )
        )

    assert np.abs(pictures(device.type) - pictures("cpu" if device.type == "cuda" else "auto")).max() <= 1
    about = json.loads((tmp_path / device.type / "settings.json").read_text())
    assert about["label_counts"] == {"0": 5, "1": 4}


def test_scores_are_those_of_a_cpu(runs: Path, tmp_path: Path, device: torch.device) -> None:
    def rfid(where: str) -> dict[str, float]:
        options = {"metrics": "rfd,psnr,ssim", "device": where, "output": tmp_path / f"r_{where}.json"}
        return eval_rfid.run(
            eval_rfid.Options(checkpoint=runs / "rae/checkpoints/last.ckpt", **options)
        ).scores

    def fid(where: str) -> dict[str, float]:
        options = {"num_samples": 11, "num_steps": 3, "batch_size": 4, "metrics": "fd", "device": where}
        output = tmp_path / f"f_{where}.json"
        return eval_fid.run(eval_fid.Options(checkpoint=runs / "dit", output=output, **options)).scores

    for score in (rfid, fid):
        assert score(device.type) == pytest.approx(score("cpu"), rel=2e-3)


def test_statistics_are_those_of_a_cpu(runs: Path, tmp_path: Path, device: torch.device) -> None:
    def stats(where: str) -> dict[str, torch.Tensor]:
        options = compute_stats.Options(
            checkpoint=runs / "rae",
            output=tmp_path / f"{where}.ckpt",
            data="synthetic",
            device=where,
            num_samples=40,
        )
        return compute_stats.run(options).state_dict()

    on_device = {name: tensor.cpu() for name, tensor in stats(device.type).items()}
    torch.testing.assert_close(
        on_device, stats("cpu" if device.type == "cuda" else "auto"), rtol=1e-3, atol=1e-5
    )
