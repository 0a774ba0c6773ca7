"""The six published files of moments: read under either name of their arrays, or a clear refusal."""

import numpy as np
import pytest

from tiny_fdr import SPACES, WIDTH, write_moments
from unirae.core.errors import ConfigError, DataError
from unirae.evaluation.references.published_moments import published_moments


@pytest.fixture
def folder(tmp_path):
    return write_moments(tmp_path / "moments")


def test_all_six_are_read(folder):
    found = published_moments(folder)
    assert list(found) == ["inception", "convnext", "dinov2", "mae", "siglip", "clip"]
    for space in SPACES:
        with np.load(folder / f"{space.statistics[0]}.npz") as content:
            mean, covariance = (content[name] for name in sorted(content.files))
        moments = found[space.name].moments
        np.testing.assert_array_equal(moments.mean, mean)
        np.testing.assert_array_equal(moments.covariance, covariance)
    identity = found["mae"].identity
    assert identity["file"] == "vit_large_patch16_224_mae_in256_t224_stats.npz"
    assert (len(identity["sha256"]), identity["size_px"]) == (64, [256, 256])


def test_names_of_the_spaces_will_do(folder):
    before = published_moments(folder)
    (folder / "guided_diffusion_stats.npz").rename(folder / "VIRTUAL_imagenet256_labeled.npz")
    (folder / "convnext_in256_t224_stats.npz").rename(folder / "convnext.npz")
    after = published_moments(folder)
    assert after["convnext"].identity["file"] == "convnext.npz"
    assert [a.identity["sha256"] for a in after.values()] == [b.identity["sha256"] for b in before.values()]


def test_the_names_are_those_of_the_published_data_set(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "convnext_in256_t224_stats.npz",
        "guided_diffusion_stats.npz",
        "vit_large_patch14_clip_224_openai_in256_t256_stats.npz",
        "vit_large_patch14_dinov2_lvd142m_in256_t256_stats.npz",
        "vit_large_patch16_224_mae_in256_t224_stats.npz",
        "vit_so400m_patch16_siglip_256_v2_webli_in256_t224_stats.npz",
    ]


def test_what_is_missing_is_named(folder, tmp_path):
    for name in ("vit_large_patch16_224_mae_in256_t224_stats", "convnext_in256_t224_stats"):
        (folder / f"{name}.npz").unlink()
    message = r"lacks the moments of convnext \(convnext_in256_t224_stats\.npz\), mae \(vit_.*no mean of 4"
    with pytest.raises(DataError, match=message):
        published_moments(folder)
    with pytest.raises(ConfigError, match=r"no such folder.*nanovisionx/nanogen-evals-stats"):
        published_moments(tmp_path / "none")


def test_two_files_of_one_space_are_refused(folder):
    np.savez(folder / "mae.npz", mu=np.zeros(WIDTH), sigma=np.eye(WIDTH))
    with pytest.raises(
        ConfigError, match=r"mae\.npz and vit_.*mae.*\.npz are both moments of mae; leave one"
    ):
        published_moments(folder)


def test_a_file_is_no_folder(folder):
    with pytest.raises(
        ConfigError, match=r"is a file; it takes the folder.*make_reference\.py is a reference"
    ):
        published_moments(folder / "guided_diffusion_stats.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": np.zeros((2, 4, 4, 3))}, "holds arr_0, but neither mu and sigma nor ref_mu and ref_sigma"),
        ({"mu": np.zeros(4)}, "holds mu, but neither"),
        ({"mu": np.zeros(4), "ref_sigma": np.eye(4)}, "holds mu, ref_sigma, but neither"),
        ({"mu": np.zeros(4), "sigma": np.eye(3)}, "are not a mean and its covariance"),
        ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, "not finite"),
    ],
)
def test_damaged_moments(folder, arrays, message):
    np.savez(folder / "convnext_in256_t224_stats.npz", **arrays)
    with pytest.raises(DataError, match=message):
        published_moments(folder)
    (folder / "convnext_in256_t224_stats.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="is not an npz file, or was not copied completely"):
        published_moments(folder)
