"""A hub that does not answer is asked once: seconds, one line that names what is missing, no warnings of its client."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import unirae
from unirae.app.weights.hub import HuggingFaceHub
from unirae.core import download, hub
from unirae.core.errors import UserError
from unirae.core.weights import find_weights
from unirae.data.hf import HFSource
from unirae.models.encoders.build import build_encoder
from unirae.models.encoders.discover import find_kind

ASKING = {
    "owner/model of transformers": lambda: build_encoder(kind="dinov2", name="owner/model"),
    "timm/vit_base_patch16_clip_224.openai": lambda: build_encoder(
        kind="timm", name="vit_base_patch16_clip_224.openai"
    ),
    "owner/model to fetch": lambda: unirae.from_hub("owner/model"),
    "owner/model of a kind": lambda: find_kind("owner/model"),
    "owner/model to list": lambda: HuggingFaceHub().listing("owner/model"),
    "owner/data": lambda: HFSource(split="train", data_dir="owner/data"),
}


@pytest.fixture(params=["refused", "black hole"])
def endpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A port that nobody listens at, or where somebody listens and never says a word."""
    import datasets.config

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if request.param == "black hole":
            listening.listen(50)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        for module in (constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
        for module in (hub, download):
            monkeypatch.setattr(module, "_PATIENCE_S", 0.5)
        yield address


@pytest.mark.parametrize("name", ASKING)
def test_a_silent_hub_is_asked_once(endpoint: str, name: str, caplog: pytest.LogCaptureFixture):
    started = time.perf_counter()
    with pytest.raises(UserError) as error:
        ASKING[name]()
    assert time.perf_counter() - started < 10  # its client alone tries for more than 20 s
    message = str(error.value)
    assert name.split()[0] in message
    assert f"{endpoint} does not answer" in message
    assert "\n" not in message
    assert "Retry" not in caplog.text
    assert not constants.HF_HUB_OFFLINE  # as before


def test_a_silent_server_of_a_file_is_not_waited_for(endpoint: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url, started = f"{endpoint}/vgg16.pth", time.perf_counter()
    with pytest.raises(UserError, match=r"VGG16: there is no .*vgg16\.pth, and .*does not answer") as error:
        find_weights("hub", url=url, file_name="vgg16.pth", what="VGG16", option="--lpips_weights")
    assert time.perf_counter() - started < 5
    assert url in str(error.value)
    assert not list(tmp_path.rglob("*.part*"))
