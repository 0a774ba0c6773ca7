import pytest
import torch

from unirae.core.errors import WeightsError
from unirae.core.weights import find_weights


@pytest.fixture(autouse=True)
def cache(tmp_path):
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def find(weights, url="https://nowhere.invalid/net.pth"):
    return find_weights(weights, url=url, file_name="net.pth", what="The net", option="model.net.weights")


def test_a_path_is_taken_as_it_is(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"x")
    assert find(tmp_path / "mine.pth") == tmp_path / "mine.pth"
    assert find(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"


def test_a_missing_path_names_file_source_and_option(tmp_path):
    with pytest.raises(WeightsError) as error:
        find(tmp_path / "mine.pth")
    message = str(error.value)
    for part in (str(tmp_path / "mine.pth"), "https://nowhere.invalid/net.pth", "model.net.weights"):
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
    for part in ("absent.pth", str(cache / "net.pth"), "model.net.weights"):
        assert part in message
    assert "\n" not in message
    assert not list(cache.iterdir())
