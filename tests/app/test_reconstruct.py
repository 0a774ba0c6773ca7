"""The reconstruct command: any picture in, pairs and an overview out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_checkpoint import tiny_rae, write_checkpoint
from unirae.app.reconstruct import Options, list_images, run
from unirae.core.errors import DataError, WeightsError
from unirae.core.images import to_float, to_uint8
from unirae.data.transforms import AdmCenterCrop


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "run")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 4), dtype=np.uint8)
    Image.fromarray(noise[..., :3]).save(folder / "rgb.png")
    Image.fromarray(noise[..., 0]).save(folder / "grey.png")
    Image.fromarray(noise).save(folder / "alpha.png")
    Image.fromarray(noise, mode="CMYK").save(folder / "deep" / "cmyk.jpg")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


def test_pairs_and_grid(checkpoint, pictures, tmp_path, capsys):
    output = tmp_path / "out"
    written = run(
        Options(checkpoint=checkpoint, images=(pictures,), output_dir=output, batch_size=3, device="cpu")
    )
    pairs = output / "pairs"
    assert sorted(written) == [pairs / name for name in ("alpha.png", "deep/cmyk.png", "grey.png", "rgb.png")]
    assert (output / "grid.png").is_file()
    log = capsys.readouterr().err
    assert "broken.jpg" in log
    assert "4 of 5 images" in log

    pair = torch.from_numpy(np.array(Image.open(pairs / "rgb.png"))).permute(2, 0, 1)
    assert pair.shape == (3, 32 + 2 * 2, 2 * 32 + 3 * 2)
    original = AdmCenterCrop(size=32)(Image.open(pictures / "rgb.png"))
    assert torch.equal(pair[:, 2:34, 2:34], original)
    with torch.no_grad():
        expected = to_uint8(tiny_rae(seed=1).eval().reconstruct(to_float(original[None])))[0]  # the EMA
    assert (pair[:, 2:34, 36:68].int() - expected.int()).abs().max() <= 1


def test_only_broken_files_are_an_error(checkpoint, pictures, tmp_path):
    options = {"checkpoint": checkpoint, "output_dir": tmp_path / "out", "device": "cpu"}
    with pytest.raises(DataError, match=r"broken\.jpg could not be read"):
        run(Options(images=(pictures / "broken.jpg",), **options))
    assert not (tmp_path / "out").exists()


def test_names_never_collide(tmp_path):
    for name in ("a/x.png", "b/x.png", "b/x.jpg", "b/deep/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = list_images([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "x.png"])
    assert len(files) == 5
    assert files["x"] == tmp_path / "a/x.png"
    assert files[str(Path("deep") / "x")] == tmp_path / "b/deep/x.jpg"


def test_nothing_to_read(tmp_path, checkpoint):
    with pytest.raises(DataError, match="no such file or folder"):
        list_images([tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        list_images([tmp_path / "empty"])
    with pytest.raises(DataError, match="no images"):
        list_images([])


def test_another_kind_of_file_as_checkpoint(tmp_path, pictures):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match="not a checkpoint of unirae"):
        run(Options(checkpoint=tmp_path / "other.ckpt", images=(pictures,), device="cpu"))
