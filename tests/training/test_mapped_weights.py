"""A 16-bit run whose frozen weights lie in a file is the run whose weights lie in memory; its checkpoint holds them."""

from pathlib import Path

import pytest
import torch

from tiny_training import fit, tiny_config
from unirae.nn.kernels.narrow_weights import NarrowWeights
from unirae.training.precision import ManualMixedPrecision
from unirae.training.stage1 import Stage1


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_the_run_and_its_checkpoint_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    def run(folder: str) -> Stage1:
        config = tiny_config(
            f"trainer.precision={precision}",
            "trainer.max_steps=4",
            "model.disc_upd_start_step=0",
            "model.disc_start_step=0",
            output_dir=tmp_path / folder,
        )
        module = fit(config)
        assert isinstance(module, Stage1)
        return module

    mapped = run("mapped")
    plugin = mapped.trainer.precision_plugin
    in_file = plugin.narrow.mapped if isinstance(plugin, ManualMixedPrecision) else []
    assert bool(in_file) == (precision == "bf16-mixed")
    assert {id(w) for w in in_file} <= {id(w) for w in mapped.rae.encoder.parameters()}
    monkeypatch.setattr(NarrowWeights, "map_originals", lambda self: None)
    plain = run("plain")
    assert mapped.last_terms == plain.last_terms
    for name, tensor in plain.state_dict().items():
        assert torch.equal(mapped.state_dict()[name], tensor)
    kept, expected = mapped.describe()["encoder_state"], plain.describe()["encoder_state"]
    assert kept.keys() == expected.keys()
    for name, tensor in expected.items():
        assert kept[name].dtype == torch.float32
        assert torch.equal(kept[name], tensor)
    torch.save(kept, tmp_path / "kept.pt")
    torch.save(expected, tmp_path / "expected.pt")
    assert (tmp_path / "kept.pt").stat().st_size < 1.1 * (tmp_path / "expected.pt").stat().st_size
