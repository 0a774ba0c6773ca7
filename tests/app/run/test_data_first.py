"""A run looks whether its data are there before it looks for weights, which may be large, or far away."""

import pytest

from unirae.app.config.composition import compose
from unirae.app.config.targets import experiments
from unirae.app.run.assembly import assemble
from unirae.core.errors import ConfigError, DataError


@pytest.mark.parametrize("experiment", experiments())
@pytest.mark.parametrize("data", ["image_folder", "hf"])
def test_data_that_are_not_there_are_the_first_mistake(tmp_path, experiment, data):
    words = [f"experiment={experiment}", f"data={data}", f"data.data_dir={tmp_path}/nothing-here"]
    config = compose([*words, f"paths.output_dir={tmp_path}/run"])
    if config["model"].get("rae") and config["model"]["rae"]["decoder_weights"] is None:
        config["model"]["rae"]["pretrained_decoder_path"] = f"{tmp_path}/no-weights-either"
    with pytest.raises(DataError, match="nothing-here: cannot open the data: No such file"):
        assemble(config, experiment=experiment, checkpoint=None)
    assert not any(tmp_path.iterdir())


def test_data_that_are_not_named_are_a_mistake_before_weights_are_loaded(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    config = compose(["experiment=rae_dino", f"paths.output_dir={tmp_path}/run"])
    with pytest.raises(DataError, match="no data folder is given"):
        assemble(config, experiment="rae_dino", checkpoint=None)


def test_an_autoencoder_that_is_not_named_comes_first(tmp_path, monkeypatch):
    """It is named on the command line, where the data folder may come from the environment."""
    monkeypatch.delenv("DATA_DIR", raising=False)
    config = compose(["experiment=dit_base", f"paths.output_dir={tmp_path}/run"])
    with pytest.raises(ConfigError, match="stage 2 needs an autoencoder"):
        assemble(config, experiment="dit_base", checkpoint=None)
