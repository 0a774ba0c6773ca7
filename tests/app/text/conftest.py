"""Checkpoints of networks that read text, for the commands that sample from them."""

import pytest

from text_runs import PROMPTS
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from tiny_clip import write_clip
from tiny_text import text_encoder_folder
from unirae.app import sample_dit
from unirae.models.text.build import load_text_encoder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    encoder = load_text_encoder(text_encoder_folder("bert"), max_length=48)
    write_checkpoint(root / "rae")
    write_stage2_checkpoint(root / "text", root / "rae", text_encoder=encoder, base_head_depth=1)
    write_stage2_checkpoint(root / "labels", root / "rae")
    (root / "prompts.txt").write_text("\n".join(PROMPTS))
    write_clip(root / "clip")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def sample(runs, tmp_path):
    def run_into(name="samples", *, model="text", **options):
        defaults = {"num_steps": 4, "batch_size": 3, "device": "cpu", "num_threads": 1}
        if not ({"prompt", "prompts"} & options.keys()):
            options["prompts"] = runs / "prompts.txt"
        return sample_dit.run(
            sample_dit.Options(checkpoint=runs / model, output_dir=tmp_path / name, **{**defaults, **options})
        )

    return run_into
