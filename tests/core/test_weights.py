import os

import pytest
import torch

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.weights import (
    VARIABLE,
    carried_folder,
    find_weights,
    may_ask_network,
    weights_dir,
    weights_of_run,
)


@pytest.fixture(autouse=True)
def cache(tmp_path):
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def find(weights, url="https://nowhere.invalid/net.pth"):
    return find_weights(weights, url=url, file_name="net.pth", what="The net", option="net.weights")


def test_a_path_is_taken_as_it_is(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"x")
    assert find(tmp_path / "mine.pth") == tmp_path / "mine.pth"
    assert find(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"


def test_a_missing_path_names_file_source_and_option(tmp_path):
    with pytest.raises(WeightsError) as error:
        find(tmp_path / "mine.pth")
    message = str(error.value)
    for part in (str(tmp_path / "mine.pth"), "https://nowhere.invalid/net.pth", "set weights to its path"):
        assert part in message
    assert "\n" not in message


def test_hub_downloads_once(tmp_path, cache):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights")
    assert find("hub", url=source.as_uri()) == cache / "net.pth"
    source.unlink()
    assert find("hub", url=source.as_uri()).read_bytes() == b"weights"


def test_a_failed_download_leaves_nothing_and_says_what_to_do(tmp_path, cache):
    with pytest.raises(WeightsError) as error:
        find("hub", url=(tmp_path / "absent.pth").as_uri())
    message = str(error.value)
    for part in ("absent.pth", str(cache / "net.pth"), "set weights to its path (weights=random "):
        assert part in message
    assert "\n" not in message
    assert not cache.exists() or not list(cache.iterdir())


# ---------------------------------------------------------------- a folder of weights


def test_a_weights_folder_is_the_only_place(tmp_path, monkeypatch):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights")
    carried = tmp_path / "carried"
    carried.mkdir()
    monkeypatch.setenv(VARIABLE, str(carried))
    with pytest.raises(WeightsError) as error:
        find("hub", url=source.as_uri())
    message = str(error.value)
    command = f"python src/fetch_weights.py --experiment NAME --to {carried} --evaluation true"
    for part in (str(carried / "net.pth"), source.as_uri(), command):
        assert part in message
    assert "\n" not in message
    (carried / "net.pth").write_bytes(b"mine")
    assert find("hub") == carried / "net.pth"
    assert find(source) == source  # a path stays a path


def test_models_of_a_hub_lie_in_plain_folders(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert carried_folder("owner/model") is None
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match=r"owner--model.*owner/model on the Hugging Face hub"):
        carried_folder("owner/model")
    (tmp_path / "owner--model").mkdir()
    (tmp_path / "owner--model" / "config.json").write_text("{}")
    assert carried_folder("owner/model") == tmp_path / "owner--model"


def test_a_runs_folder_holds_for_the_run_and_names_its_experiment(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with weights_of_run(tmp_path, experiment="rae_dino"):
        assert weights_dir() == tmp_path.resolve()
        with pytest.raises(WeightsError, match="--experiment rae_dino --to"):
            find("hub")
        with weights_of_run(None, experiment="rae_mae"):
            assert weights_dir() == tmp_path.resolve()
    assert weights_dir() is None
    with (
        pytest.raises(ConfigError, match=r"weights_dir=.*absent.*fetch_weights\.py --experiment rae_dino"),
        weights_of_run(tmp_path / "absent", experiment="rae_dino"),
    ):
        pass
    assert VARIABLE not in os.environ


def test_offline_nothing_is_asked(cache, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not may_ask_network()
    with pytest.raises(WeightsError) as error:
        find("hub")
    message = str(error.value)
    for part in (
        str(cache / "net.pth"),
        "https://nowhere.invalid/net.pth",
        "src/fetch_weights.py --experiment",
    ):
        assert part in message
