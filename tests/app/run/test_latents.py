"""The latent cache of a mix: a folder for each source."""

import pytest

from unirae.app.run.latents import check_cache
from unirae.core.errors import ConfigError
from unirae.data.dataset import ImageDataset
from unirae.data.mix import Mixed, MixedSource, MixPart
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop


def test_a_folder_of_a_source_is_no_cache_of_one_data_set_whatever_its_name(tmp_path):
    source = SyntheticSource(split="train", image_size=8, train_count=4, classes=0)
    images = ImageDataset(source=source, transform=AdmCenterCrop(size=8))
    mix = Mixed(
        [MixPart(name="plan.json", weight=1.0, data=images)],
        source=MixedSource({"plan.json": source}),
        scored=0,
    )
    cfg = {"data": {"latent_cache": str(tmp_path), "latent_cache_trust": False}}
    (tmp_path / "plan.json").mkdir()
    check_cache(cfg, mix)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(ConfigError, match="is of one data set"):
        check_cache(cfg, mix)
